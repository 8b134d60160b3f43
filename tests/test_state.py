"""The state database: shared by processes, mended after deaths, alive on a full disk, forgetful at
the seal.
"""

import errno
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from appliance.block import opened
from appliance.errors import JobRunningError, StateError, UnknownNameError
from appliance.events import Failed, Progress, Result, Step, Unreadable
from appliance.model import DiskId, JobId, PackId, ShipmentId
from appliance.state import (
    BALLAST,
    BALLAST_SIZE,
    FILE,
    JobState,
    Reached,
    SourceRow,
    State,
    alive,
    database,
    look,
    schema,
)
from tests.disks.disk import Disk
from tests.disks.faults import Call, Fault, gone
from tests.media import Bench

SHIPMENT, OTHER = ShipmentId("11" * 16), ShipmentId("22" * 16)
MIB = 1 << 20
LONG_AGO = "2026-01-01T00:00:00Z"
FAILED = Failed("store-full", 60, "The store is full", "Kept.", "Free space.", "df /media")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def state(home: Path) -> Iterator[State]:
    with State(home) as found:
        yield found


def add(state: State, kind: str = "ingest", at: str = LONG_AGO, title: str = "web01") -> JobId:
    return state.add_job(kind, SHIPMENT, title, '{"a": 1}', at, "33" * 16)


# --- what is put comes back --------------------


def test_a_job_goes_through_its_life(state: State) -> None:
    job = add(state, at="now")
    assert state.job(job).state is JobState.QUEUED
    with state.living(job):
        state.begin_job(job)
        row = state.job(job)
        assert (row.state, row.kind, row.spec, row.disk) == (
            "running",
            "ingest",
            '{"a": 1}',
            "33" * 16,
        )
        state.end_job(job, JobState.FAILED, "then", FAILED)
    row = state.job(job)
    assert (row.state, row.error, row.code, row.what) == ("failed", "store-full", 60, FAILED.what)
    assert (row.safe, row.todo, row.ended, row.resolved) == ("Kept.", "Free space.", "then", False)
    assert row.verb == "df /media"
    state.resolve_job(job)
    assert state.job(job).resolved
    with state.living(job):
        state.begin_job(job)
        row = state.job(job)
        assert (row.state, row.error, row.code, row.ended) == (JobState.RUNNING, "", 0, "")
        assert not row.verb
        state.pause_job(job, JobState.PAUSED)
        assert state.job(job).state is JobState.PAUSED
    state.end_job(job, JobState.FINISHED, "later")
    assert state.job(job).state is JobState.FINISHED


def test_a_job_that_is_asked_for_again_forgets_how_it_ended(state: State) -> None:
    job = add(state)
    state.put_progress(job, 0.0, Progress("ingest", 99, 100))
    state.end_job(job, JobState.FAILED, "then", FAILED)
    with state.claimed(job):
        state.queue_job(job, "now")
        row = state.job(job)
    assert (row.state, row.error, row.ended, row.created) == (JobState.QUEUED, "", "", "now")
    assert row.run == 1
    assert state.progress(job) is None


def test_jobs_are_listed_by_shipment(state: State) -> None:
    mine, other = add(state), state.add_job("seal", OTHER, "t", "{}", LONG_AGO)
    assert [one.id for one in state.jobs()] == [mine, other]
    assert [one.id for one in state.jobs(OTHER)] == [other]
    state.change_job(mine, '{"b": 2}')
    assert state.job(mine).spec == '{"b": 2}'
    with pytest.raises(UnknownNameError, match="There is no job 99"):
        state.job(JobId(99))


def test_events_come_in_order_and_from_where_one_was(state: State) -> None:
    job, other = add(state), add(state)
    state.put_event(job, "1", Step("open", "[red]\x1b"))
    state.put_event(other, "2", Step("else"))
    state.put_event(job, "3", Result("ingest", {"size": 5, "disks": [1, None]}))
    first, last = state.events(job)
    assert (first.kind, first.at, first.body["detail"]) == ("step", "1", "[red]\x1b")
    assert last.body == {
        "event": "result",
        "step": "ingest",
        "figures": {"size": 5, "disks": [1, None]},
    }
    assert state.events(job, after=first.id) == [last]
    assert not state.events(job, after=last.id)


def test_progress_is_one_row_a_job(state: State, home: Path) -> None:
    job = add(state)
    assert state.progress(job) is None
    for done in range(100):
        state.put_progress(job, float(done), Progress("ingest", done, 100, 7))
    assert state.progress(job) == Progress("ingest", 99, 100, 7)
    with opened_database(home) as db:
        assert db.execute("select count(*) from progress").fetchone() == (1,)


def test_text_that_is_half_a_character_is_kept_as_far_as_it_goes(state: State) -> None:
    job = add(state, title="\udcff.img")
    state.put_event(job, "1", Step("open", "/mnt/\udcff.img"))
    state.end_job(job, JobState.FAILED, "", Failed("x", 1, "\udcff.img is gone", "", ""))
    assert state.events(job)[0].body["detail"] == "/mnt/\udcff.img"
    assert state.job(job).what == "\\udcff.img is gone"


def test_shipments_and_their_canaries(state: State) -> None:
    state.note_shipment(SHIPMENT, Path("/a"), "first")
    state.note_canary(SHIPMENT, "operator", "then")
    state.note_shipment(SHIPMENT, Path("/b"), "moved")
    (row,) = state.shipments()
    assert row == state.shipment(SHIPMENT)
    assert (row.path, row.label, row.root) == (Path("/b"), "moved", "")
    assert (row.canary_by, row.canary_at) == ("operator", "then")
    assert state.shipment(OTHER) is None


def test_what_need_not_be_done_again(state: State) -> None:
    packs = [PackId("aa" * 16), PackId("bb" * 16)]
    for one in (*packs, *packs):
        state.note_verified("root", one, f"file of {one}")
        state.note_reached("volume", one, Reached("file", 7, "told"))
        assert state.reached("volume", one) == Reached("file", 7, "told")
        state.note_replayed("volume", one)
        assert state.reached("volume", one) is None
    assert state.verified("root") == {one: f"file of {one}" for one in packs}
    assert state.replayed("volume") == set(packs)
    state.note_reached("volume", "cc" * 16, Reached("file", 7))
    state.note_reached("volume", "cc" * 16, Reached("file", 8))
    assert state.reached("volume", "cc" * 16) == Reached("file", 8, "")
    assert not state.verified("other")
    state.forget_verified("root")
    state.forget_replayed("volume")
    assert state.reached("volume", "cc" * 16) is None
    assert not state.verified("root")
    assert not state.replayed("volume")


# --- living and dead jobs --------------------

CHILD = """
import sys
from pathlib import Path
from appliance.state import State
with State(Path(sys.argv[1])) as state, state.living(int(sys.argv[2])):
    state.begin_job(int(sys.argv[2]))
    print("lives", flush=True)
    sys.stdin.read()
"""


@contextmanager
def child(home: Path, job: JobId) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the job until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home), str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lives\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_job_killed_from_outside_has_died(state: State, home: Path) -> None:
    job = add(state)
    with child(home, job) as process:
        assert state.job(job).state is JobState.RUNNING
        assert state.process_of(job) == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        row = state.job(job)
    assert (row.state, row.error, row.code) == (JobState.DIED, "job-died", 77)
    assert row.what == f"Job {job} was killed by a signal from outside"
    assert state.process_of(job) == 0


def test_a_job_that_runs_is_not_run_again(state: State, home: Path) -> None:
    job = add(state)
    with child(home, job):
        with pytest.raises(JobRunningError, match=f"Job {job} runs already"), state.living(job):
            pass
        with state.living(add(state)):
            pass  # another job may
    with state.living(job):
        assert state.process_of(job) == os.getpid()


def test_who_looks_whether_a_job_lives_is_never_in_its_way(state: State) -> None:
    job = add(state)
    with state.living(job):
        for _ in range(100):
            assert state.process_of(job) == os.getpid()
        with pytest.raises(JobRunningError), state.living(job):
            pass
        assert state.process_of(job) == os.getpid()  # looking did not let go of it either
    assert not state.process_of(job)


def test_a_job_that_never_came_up_has_died(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    job = add(state)
    assert state.job(job).state is JobState.QUEUED  # it is about to be started
    later = alive.uptime() + 61
    monkeypatch.setattr(alive, "uptime", lambda: later)
    row = state.job(job)
    assert (row.state, row.what) == (JobState.DIED, f"The process of job {job} never came up")


def test_a_console_that_was_killed_while_it_started_a_job_leaves_no_queued_one(
    state: State,
) -> None:
    """Its claim goes with it."""
    job = add(state)
    with state.claimed(job):
        state.queue_job(job, "now")
        assert state.job(job).state is JobState.QUEUED
        assert (state.lives(job), state.process_of(job)) == (True, 0)
        with pytest.raises(JobRunningError, match="somebody else is just starting"):
            state.claimed(job).__enter__()
    assert state.job(job).state is JobState.DIED


def test_no_clock_that_was_set_makes_a_job_die_or_live(state: State) -> None:
    """What counts is the machine's own count of seconds, and which start of it that is."""
    for at in ("1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", ""):
        assert state.job(add(state, at=at)).state is JobState.QUEUED


def test_a_job_of_an_earlier_start_of_the_machine_has_died_with_it(
    state: State, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, running = add(state), add(state)
    with child(home, running) as process:
        process.kill()
    monkeypatch.setattr(alive, "boot", lambda: "another start")
    for job in (fresh, running):
        row = state.job(job)
        assert row.state is JobState.DIED
        assert "it was started anew, or lost its power" in row.what


def test_who_looks_at_a_dead_job_notes_it_and_its_last_sign_of_life(
    state: State, home: Path
) -> None:
    job = add(state)
    with child(home, job) as process:
        state.put_progress(job, 1_700_000_000.7, Progress("ingest", 1, 2))
        process.kill()
    state.jobs()
    with opened_database(home) as db:
        found = db.execute("select state, error, code, ended from jobs").fetchall()
    assert found == [("died", "job-died", 77, "2023-11-14T22:13:20Z")]


def test_a_death_is_noted_of_the_start_that_was_looked_at_only(state: State, home: Path) -> None:
    """Between two looks somebody else may have started the job anew."""
    job = add(state)
    with child(home, job) as process:
        stale = state.job(job)
        process.kill()
    with state.claimed(job):
        state.queue_job(job, "now")
        state._note_death(stale)  # noqa: SLF001 - a console that was slow
        assert state.job(job).state is JobState.QUEUED


def test_a_death_that_cannot_be_noted_is_told_all_the_same(state: State, home: Path) -> None:
    job = add(state)
    with child(home, job) as process:
        process.kill()
    with opened_database(home) as db:
        db.execute("create trigger no before update on jobs begin select raise(fail, 'no'); end")
    assert state.job(job).state is JobState.DIED


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("Fatal Python error: Bus error\n\nCurrent thread", "crashed (Bus error)"),
        (
            "told\nJob 1 is failed, which could not be noted (disk is full): The store is full\n",
            "Job 1 is failed, which could not be noted (disk is full): The store is full",
        ),
        ("one\nMemoryError\n", "killed by a signal from outside; its last words were 'Memory"),
        ("", "killed by a signal from outside"),
    ],
)
def test_why_a_job_died_stands_in_its_log(state: State, home: Path, log: str, said: str) -> None:
    job = add(state)
    with child(home, job) as process:
        state.job_file(job, "log").write_text("x" * 200_000 + "\n" + log)
        if not log:
            state.job_file(job, "log").unlink()
        process.kill()
    assert said in state.job(job).what


# --- a database that is lost while jobs run --------------------


@pytest.mark.parametrize("lost", ["state.db", "state.db*"])
def test_a_job_that_runs_writes_itself_down_in_a_new_database(home: Path, lost: str) -> None:
    """Somebody moved the database away, with its log or without."""
    with State(home) as state, State(home) as console:
        for _ in range(7):
            add(state)
        job = add(state, title="it lives")
        with state.living(job):
            state.begin_job(job)
            for one in home.glob(lost):
                one.unlink()
            with State(home) as other:
                assert not other.jobs()
                mine = add(other)
                assert mine > job  # its number is that of no job that lives
            state.put_progress(job, 0.0, Progress("ingest", 1, 2))
            for looking in (console, state):
                row = looking.job(job)
                assert (row.state, row.title, row.pid) == ("running", "it lives", os.getpid())
                assert [one.id for one in looking.jobs()] == [job, mine]
            state.end_job(job, JobState.FINISHED, "then")
        assert console.job(job).state is JobState.FINISHED


def test_an_ended_job_stays_as_it_ended(state: State) -> None:
    job = add(state)
    for ended in (JobState.FINISHED, JobState.STOPPED, JobState.FAILED):
        state.end_job(job, ended, "then")
        assert state.job(job).state is ended


# --- several at once --------------------

CROWD = """
import sys
from pathlib import Path
from appliance.events import Step
from appliance.state import State
with State(Path(sys.argv[1])) as state:
    for number in range(20):
        job = state.add_job("ingest", "11" * 16, sys.argv[2], "{}", "2026-01-01T00:00:00Z")
        state.put_event(job, "", Step(str(number)))
"""


def test_many_processes_open_a_fresh_database_at_once(home: Path) -> None:
    command = [sys.executable, "-c", CROWD, str(home)]
    crowd = [subprocess.Popen([*command, str(one)]) for one in range(4)]
    assert [one.wait() for one in crowd] == [0] * 4
    with State(home) as state:
        assert len(state.jobs()) == 80
        for number in range(4):
            mine = [one for one in state.jobs() if one.title == str(number)]
            steps = [state.events(one.id)[0].body["step"] for one in mine]
            assert steps == list(map(str, range(20)))


def test_threads_share_one_state(state: State) -> None:
    job = add(state)

    def tell(number: int) -> None:
        state.put_event(job, "", Unreadable(number, 1))
        state.put_progress(job, 0, Progress("ingest", number, 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(100)))
    assert sorted(int(str(one.body["offset"])) for one in state.events(job)) == list(range(100))


@contextmanager
def opened_database(home: Path) -> Iterator[sqlite3.Connection]:
    """The database as another program sees it."""
    connection = sqlite3.connect(home / FILE)
    try:
        yield connection
    finally:
        connection.close()


def test_readers_do_not_wait_for_writers(state: State, home: Path) -> None:
    add(state)
    with opened_database(home) as db:
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
        db.execute("begin immediate")
        assert len(state.jobs()) == 1


# --- the database itself --------------------


def test_a_database_that_is_taken_away_while_it_is_opened_is_left(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever opened it would see a running job for ever, or nobody what a job has told."""
    with State(home):
        pass
    real, away = schema.migrations.apply, [home / "away.db"]

    def apply(db: Database) -> None:
        real(db)
        if away:
            (home / FILE).rename(away.pop())

    monkeypatch.setattr(schema.migrations, "apply", apply)
    with State(home) as early, State(home) as late:
        job = add(late)
        assert early.job(job).title == "web01"


def _coloured(db: Database) -> None:
    db.execute("alter table jobs add column colour text not null default 'red'")


def test_an_existing_database_is_taken_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with State(home) as state:
        job = add(state)
    later = Migrations("motiongear")
    later()(schema.first)
    later()(schema.second)
    later()(schema.third)
    later()(schema.fourth)
    later()(schema.fifth)
    later()(_coloured)
    monkeypatch.setattr(schema, "migrations", later)
    for _ in range(2):
        with State(home) as state:
            assert state.job(job).title == "web01"
        with opened_database(home) as db:
            assert db.execute("select colour from jobs").fetchall() == [("red",)]


def test_tables_are_made_by_one_process_at_a_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Looking(Migrations):
        def apply(self, db: Database, *, stop_before: str | Iterable[str] | None = None) -> None:
            with opened(home / "state.lock", os.O_RDWR) as fd, pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            super().apply(db, stop_before=stop_before)

    looking = Looking("motiongear")
    looking()(schema.first)
    looking()(schema.second)
    looking()(schema.third)
    looking()(schema.fourth)
    looking()(schema.fifth)
    monkeypatch.setattr(schema, "migrations", looking)
    with State(home) as state:
        assert add(state)


def test_only_the_owner_may_read_it(home: Path) -> None:
    home.chmod(0o755)
    before = os.umask(0)
    try:
        with State(home) as state:
            with state.living(add(state)):
                pass
            modes = {
                one.name: one.stat().st_mode & 0o777 for one in home.rglob("*") if one != home
            }
    finally:
        os.umask(before)
    assert set(modes) >= {FILE, f"{FILE}-wal", f"{FILE}-shm", BALLAST, "jobs", "1.lock"}
    assert modes.pop("jobs") == 0o700
    assert set(modes.values()) == {0o600}


def everything(home: Path) -> bytes:
    return b"".join(one.read_bytes() for one in sorted(home.rglob("*")) if one.is_file())


def test_the_seal_makes_it_forget_the_disks(home: Path) -> None:
    guard, secret = os.urandom(32), b"SERIAL-4711"
    serial = secret.decode()
    with State(home) as state, State(home) as console:
        state.note_shipment(SHIPMENT, Path("/store"), "label")
        job = add(state, title=f"web01 {serial}")
        other = state.add_job("ingest", OTHER, "kept title", "{}", LONG_AGO)
        source = SourceRow(DiskId("33" * 16), 0, f'{{"serial":"{serial}"}}' * 100, guard)
        state.note_source(SHIPMENT, source)
        state.note_source(OTHER, SourceRow(DiskId("44" * 16), 0, "kept facts", b"kept guard"))
        assert state.sources(SHIPMENT) == [source]
        told = f'{{"hostname":"{serial}"}}'
        state.note_machine(SHIPMENT, source.disk, told)
        state.note_machine(OTHER, DiskId("44" * 16), "kept machine")
        assert state.machines(SHIPMENT) == {source.disk: told}
        state.change_job(job, f'{{"source": "/dev/disk/by-id/{serial}"}}')
        for _ in range(50):
            state.put_event(job, "", Step("open", serial))
        state.end_job(job, JobState.FAILED, "", Failed("x", 1, f"attached is {serial}", "", ""))
        assert len(console.jobs()) == 2
        assert secret in everything(home)
        assert guard in everything(home)
        state.note_sealed(SHIPMENT, "ab" * 32)
        assert secret not in everything(home)
        assert guard not in everything(home)
        row = console.job(job)
        assert (row.title, row.spec, row.what, row.state) == ("ingest", "{}", "", JobState.FAILED)
        assert not console.events(job)
        assert not console.sources(SHIPMENT)
        assert not console.machines(SHIPMENT)
        assert console.machines(OTHER)
        assert console.sources(OTHER)
        assert console.job(other).title == "kept title"
        assert console.shipments()[0].root == "ab" * 32


@pytest.mark.parametrize("when", ["opened", "closed"])
def test_what_a_reader_kept_in_the_log_goes_when_the_database_is_next(
    home: Path, when: str
) -> None:
    guard = os.urandom(32)
    state = State(home)
    with opened_database(home) as reader:
        state.note_source(SHIPMENT, SourceRow(DiskId("33" * 16), 0, "SECRET-SERIAL", guard))
        reader.execute("begin")
        assert reader.execute("select count(*) from sources").fetchall() == [(1,)]
        state.note_sealed(SHIPMENT, "ab" * 32)
        assert guard in everything(home)
        reader.execute("commit")
        if when == "closed":
            state.close()
        with State(home) if when == "opened" else nullcontext():
            assert guard not in everything(home)
            assert b"SECRET-SERIAL" not in everything(home)
    state.close()


def test_a_reader_who_stays_keeps_nobody_waiting(home: Path) -> None:
    with State(home) as state, opened_database(home) as reader:
        add(state)
        reader.execute("begin")
        reader.execute("select count(*) from jobs").fetchall()
        add(state)
        began = time.monotonic()
        state.note_sealed(SHIPMENT, "ab" * 32)
        with State(home) as console:
            assert len(console.jobs()) == 2
        assert time.monotonic() - began < 10


def test_a_seal_that_was_refused_before_is_forgotten_too(home: Path) -> None:
    """Its refusal named the disk."""
    with State(home) as state:
        job = state.add_job("seal", SHIPMENT, "seal rack 7", "{}", "2026-11-22T20:00:00Z")
        refused = Failed("open-error", 71, "Job 1 (web01: SECRET-SERIAL) stopped", "", "")
        state.put_event(job, "", refused)
        state.end_job(job, JobState.FAILED, "2026-11-22T20:00:01Z", refused)
        ingest = state.add_job("ingest", SHIPMENT, "t", "{}", "2026-11-22T20:00:00Z")
        log = state.job_file(ingest, "log")
        log.write_text("SECRET-SERIAL")
        state.note_sealed(SHIPMENT, "ab" * 32)
        assert "SECRET" not in everything(home).decode(errors="replace")
        assert not log.exists()


def test_forgetting_is_all_or_nothing(home: Path) -> None:
    with State(home) as state:
        state.note_shipment(SHIPMENT, Path("/store"), "label")
        state.note_source(SHIPMENT, SourceRow(DiskId("33" * 16), 0, "facts", b"guard"))
        with opened_database(home) as db:
            db.execute(
                "create trigger no before update on jobs begin select raise(fail, 'no'); end"
            )
        add(state)
        with pytest.raises(StateError, match="no"):
            state.note_sealed(SHIPMENT, "ab" * 32)
        assert state.sources(SHIPMENT)
        assert not state.shipments()[0].root


def test_a_place_that_cannot_be_used_is_told(tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(StateError, match="cannot be used"):
        State(tmp_path / "missing")
    (tmp_path / "taken" / FILE).mkdir(parents=True)
    with pytest.raises(StateError, match="cannot be used"):
        State(tmp_path / "taken")
    sealed = bench.mount("none", tmp_path / "sealed", "-t", "tmpfs", "-o", "ro")
    with pytest.raises(StateError, match="Read-only"):
        State(sealed)


def test_a_disk_that_fails_under_the_locks_is_told(tmp_path: Path) -> None:
    with Disk(tmp_path / "volatile") as disk, State(disk.path) as state:
        job = add(state)
        disk.inject(Fault("jobs/*", Call.ANY, errno.EIO))
        for asked in (state.process_of, state.lives, state.job):
            with pytest.raises(StateError, match="Input/output error"):
                asked(job)
        with pytest.raises(StateError, match="Input/output error"), state.claimed(job):
            pass
        disk.heal()
        assert state.job(job).state is JobState.QUEUED


@pytest.mark.parametrize("path", ["state.db", "jobs"])
def test_a_disk_that_fails_under_an_open_database_is_told(tmp_path: Path, path: str) -> None:
    with Disk(tmp_path / "volatile") as disk, State(disk.path) as state:
        disk.inject(gone(path))
        with pytest.raises(StateError, match="cannot be re"):
            add(state)
        disk.heal()
        assert state.job(add(state)).state is JobState.QUEUED


def test_what_is_no_database_is_told(home: Path) -> None:
    (home / FILE).write_bytes(os.urandom(1 << 16))
    with pytest.raises(StateError, match="not a database") as refused:
        State(home)
    assert str(home / FILE) in refused.value.what
    assert "move state.db away" in refused.value.todo_now
    assert refused.value.code == 83


@pytest.mark.parametrize("page", range(22))
def test_a_damaged_page_is_told_at_the_latest_when_it_is_read(home: Path, page: int) -> None:
    with State(home) as state:
        job = add(state)
        state.put_event(job, "", Step("open"))
    path = home / FILE
    assert path.stat().st_size == 22 * 4096
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, b"\xa5" * (4096 - 100), page * 4096 + 100)
    try:
        with State(home) as state:
            state.jobs()
            state.events(job)
            state.progress(job)
            state.put_event(job, "", Step("open"))
    except StateError as exc:
        assert exc.name == "state"  # noqa: PT017 - pages that hold nothing needed do no harm


# --- a full disk --------------------


@pytest.fixture
def small(bench: Bench) -> Path:
    """A home on a disk of 32 MiB."""
    return bench.mount("none", bench.place / "small", "-t", "tmpfs", "-o", "size=32m")


def fill(place: Path) -> None:
    with opened(place / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    os.write(fd, b"x" * size)
            except OSError:
                continue


def test_a_full_disk_can_still_be_told(small: Path) -> None:
    with State(small) as state:
        job = add(state)
        assert (small / BALLAST).stat().st_blocks * 512 == BALLAST_SIZE
        fill(small)
        for number in range(200):
            state.put_event(job, "", Step("store-full", "x" * 1000))
            state.put_progress(job, 0, Progress("ingest", number, 200))
        state.end_job(job, JobState.FAILED, "", FAILED)
        assert len(state.events(job)) == 200
        assert state.job(job).what == FAILED.what
        assert not (small / BALLAST).exists()


def test_a_full_disk_lets_the_next_process_begin(small: Path) -> None:
    """Opening takes space too: the last process took its write-ahead log with it."""
    with State(small) as state:
        job = add(state)
    fill(small)
    with State(small) as state:
        state.end_job(job, JobState.FAILED, "", FAILED)
        assert state.job(job).what == FAILED.what


def test_when_the_ballast_is_spent_too_the_operator_is_told(small: Path) -> None:
    with State(small) as state:
        job = add(state)
        (small / BALLAST).unlink()
        fill(small)
        with pytest.raises(StateError, match="disk is full") as refused:
            state.put_event(job, "", Step("ingest", "x" * MIB))
        assert "space" in refused.value.todo_now
        assert state.job(job).title == "web01"
    with State(small) as state:  # what was written can still be read
        assert state.job(job).title == "web01"


def test_without_ballast_a_full_disk_cannot_even_be_opened(small: Path) -> None:
    with State(small):
        (small / BALLAST).unlink()
    fill(small)
    with pytest.raises(StateError, match="cannot be used") as refused:
        State(small)
    assert refused.value.todo_now.startswith("The disk of the state directory is full")


def test_ballast_that_was_given_up_is_taken_again_when_there_is_room(small: Path) -> None:
    with State(small) as state:
        add(state)
    (small / BALLAST).unlink()
    fill(small)
    os.truncate(small / "filler", (small / "filler").stat().st_size - BALLAST_SIZE - MIB)
    with State(small):
        assert not (small / BALLAST).exists()
    (small / "filler").unlink()
    with State(small):
        assert (small / BALLAST).exists()


def test_a_disk_that_reserves_nothing_does_without(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Disk quota exceeded")

    monkeypatch.setattr(database, "reserve", refuse)
    with State(home) as state:
        assert add(state)
    assert not (home / BALLAST).exists()


def test_a_closed_state_says_so(home: Path) -> None:
    state = State(home)
    state.close()
    with pytest.raises(StateError, match="closed"):
        add(state)
    with pytest.raises(StateError, match="closed"):
        state.jobs()


# --- several in one process ---

_COMES_AND_GOES = """
import sys
from pathlib import Path
from appliance.state import State
with State(Path(sys.argv[1])) as state:
    print(len(state.shipments()))
"""


def others_see(home: Path) -> int:
    """How many shipments another process sees, which is the last to have come, and goes."""
    done = subprocess.run(
        [sys.executable, "-c", _COMES_AND_GOES, home], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def opened_once_more(state: State) -> None:
    State(state.home).close()


def looked_at(state: State) -> None:
    with look.seen(state.home, state) as found:
        assert found.state is not None
        assert len(found.state.shipments()) == len(state.shipments())


@pytest.mark.parametrize("meanwhile", [opened_once_more, looked_at])
def test_what_is_written_is_seen_whatever_else_this_process_did_with_the_database(
    home: Path, meanwhile: Callable[[State], None]
) -> None:
    """To close a second descriptor of a file ends a process's locks on it: another process then
    takes away the log that this one goes on to write into.
    """
    with State(home) as state:
        state.note_shipment(SHIPMENT, Path("/a"), "first")
        meanwhile(state)
        assert others_see(home) == 1
        state.note_shipment(ShipmentId("22" * 16), Path("/b"), "second")
        assert others_see(home) == 2
