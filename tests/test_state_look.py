"""The state database for whoever only looks: right while it is written to, told apart however it
is damaged, and never touched.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.events import Step
from appliance.model import JobId, ShipmentId
from appliance.state import FILE, State, look
from appliance.state.look import Standing, seen
from tests.diagnosis import snapshot


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    with State(path) as made:
        made.add_job("seal", ShipmentId("11" * 16), "hall 4", "{}", "then")
    return path


@pytest.fixture
def written(home: Path) -> Iterator[threading.Event]:
    """Somebody writes all the time, and moves what was written out of the log every time."""
    stop, began = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(home / FILE, timeout=30)) as known:
            known.execute("pragma wal_autocheckpoint = 1")
            number = 0
            while not stop.is_set():
                number += 1
                with known:
                    known.execute(
                        "insert into events(job, at, kind, body) values(1, 'now', 'step', ?)",
                        (f'{{"step": "{"x" * 3000}", "detail": "{number}"}}',),
                    )
                began.set()
                stop.wait(0.002)

    thread = threading.Thread(target=write)
    thread.start()
    began.wait(60)
    yield stop
    stop.set()
    thread.join()


def test_a_database_that_is_written_to_is_seen_as_it_stood_at_one_moment(
    home: Path, written: threading.Event
) -> None:
    last = 0
    for _ in range(20):
        with seen(home) as found:
            assert found.standing is Standing.READ, found.why
            assert found.state is not None
            numbers = [int(str(one.body["detail"])) for one in found.state.events(JobId(1))]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= last
        last = len(numbers)
    assert not written.is_set()


def test_what_is_written_to_the_copy_is_lost(home: Path) -> None:
    before = snapshot(home)
    with seen(home) as found:
        assert found.state is not None
        found.state.put_event(JobId(1), "now", Step("x"))
        assert dict(found.rows)["jobs"] == 1
    assert snapshot(home) == before


def test_a_database_that_never_stands_still(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = look._copy  # noqa: SLF001 - another writer comes between each two looks

    def between(source: Path, target: Path) -> None:
        copied(source, target)
        (home / FILE).touch()

    monkeypatch.setattr(look, "_copy", between)
    monkeypatch.setattr(look, "_PAUSE_SECONDS", 0.001)
    with seen(home) as found:
        assert (found.standing, found.state) == (Standing.UNREADABLE, None)
        assert "all the time" in found.why


def test_no_room_in_memory(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(look, "_MEMORY", tmp_path / "none")
    with seen(home) as found:
        assert found.standing is Standing.READ


def test_no_room_for_a_copy(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(look, "_room", lambda _: tmp_path / "none")
    with seen(home) as found:
        assert found.standing is Standing.UNREADABLE


def test_a_database_that_cannot_be_read_at_all(home: Path) -> None:
    (home / FILE).unlink()
    (home / FILE).mkdir()
    with seen(home) as found:
        assert (found.standing, found.why) == (Standing.UNREADABLE, "Is a directory")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("delete from sqlite_master where name = 'events_job'", "never used"),
        ("delete from _sqlite_migrations", "already exists"),
        ("drop table shipments", "no such table"),
        ("update jobs set state = 'dreaming'", "'dreaming' is not a valid JobState"),
    ],
)
def test_a_database_that_sqlite_opens_and_that_is_damaged(
    home: Path, damage: str, why: str
) -> None:
    with closing(sqlite3.connect(home / FILE)) as known, known:
        known.execute("pragma writable_schema = on")
        known.execute(damage)
    with seen(home) as found:
        assert found.standing is Standing.DAMAGED
        assert why in found.why
