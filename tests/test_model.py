"""The nouns: arithmetic of blocks, disks that are the same, events and errors that speak."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import MotionGearError, SourceGoneError, StoreFullError, all_errors
from appliance.events import Event, Failed, Progress, Result, Step, as_json, silent
from appliance.model import Extent, block_count, block_length
from tests.support import facts


@given(st.integers(1, 1 << 50), st.integers(1 << 16, 1 << 24))
def test_blocks_cover_a_disk_exactly(size: int, block_size: int) -> None:
    count = block_count(size, block_size)
    last = block_length(count - 1, size, block_size)
    assert 0 < last <= block_size
    assert (count - 1) * block_size + last == size
    assert block_length(count, size, block_size) <= 0
    assert block_length(0, size, block_size) == min(size, block_size)


def test_a_disk_is_known_by_what_is_written_on_it() -> None:
    disk = facts(1 << 20)
    assert disk.same_disk(replace(disk, source="/dev/sdq", table="gpt", bus="ata"))
    assert not disk.same_disk(replace(disk, serial="S-2"))
    assert not disk.same_disk(replace(disk, model="Other"))
    assert not disk.same_disk(replace(disk, size=512))
    assert not disk.same_disk(replace(disk, logical_sector=4096))


def test_an_extent_ends_where_the_next_begins() -> None:
    assert Extent(5, 10).end == 15


def test_events_are_flat_json() -> None:
    assert as_json(Progress("ingest", 1, 2)) == {
        "event": "progress",
        "step": "ingest",
        "done": 1,
        "total": 2,
        "stored": 0,
    }
    result = as_json(Result("check", {"wrong": [[0, 5]], "root": None}))
    assert json.loads(json.dumps(result))["figures"] == {"wrong": [[0, 5]], "root": None}
    silent(Step("open"))


def test_every_event_has_a_kind_of_its_own() -> None:
    events: list[type[Event]] = [Event, *Event.__subclasses__()]
    kinds = {one.__name__: one.kind for one in events}
    assert len(kinds) == len(set(kinds.values()))
    assert as_json(Failed("x", 1, "a", "b", "c"))["event"] == "failed"


def test_every_error_has_a_name_and_an_exit_code_of_its_own() -> None:
    """Except the classes that only group others."""
    found = all_errors()
    assert MotionGearError in found
    assert [one.code for one in found] == sorted({one.code for one in found})
    assert len({one.name for one in found}) == len(found)
    assert all(0 < one.code < 126 for one in found)  # behind that exit codes mean something else


def test_an_error_speaks_in_sentences() -> None:
    for one in all_errors():
        error = one("Something happened")
        assert str(error) == error.what == "Something happened"
        for said in (error.safe_now, error.todo_now):
            assert said[0].isupper()
            assert said.endswith(".")


def test_an_error_can_know_better() -> None:
    error = StoreFullError("Full", safe="All of it.", todo="Wait.")
    assert (error.safe_now, error.todo_now) == ("All of it.", "Wait.")
    assert SourceGoneError("Gone").todo_now == SourceGoneError.todo
