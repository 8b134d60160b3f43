"""The state database: the bus between jobs and consoles, and a cache of what the stores say.

Losing it loses history, not data. Several processes use it at once (WAL). It has space of its own:
a ballast file is given up when the disk is full, so that a full device can still be told and
sealed. Holds no secret: the guard keys of unfinished points are salts, and go with the disks'
facts when the shipment is sealed.
"""

import fcntl
import json
import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlite_utils import Database, Migrations

from appliance.block import free_space, opened, reserve
from appliance.errors import JobDiedError, JobRunningError, StateError, UnknownNameError
from appliance.events import Event, Json, Progress, as_json
from appliance.model import DiskId, JobId, PackId, ShipmentId

FILE = "state.db"
BALLAST = "state.ballast"
BALLAST_SIZE = 8 << 20
_WAIT_SECONDS = 30.0
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_LOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, process
assert _LOCK.size == 32

T = TypeVar("T")
migrations = Migrations("motiongear")


@migrations()
def first(db: Database) -> None:
    """Jobs, what they said, and what is known of shipments and disks."""
    db.executescript(
        """create table shipments(id text primary key, path text, label text, root text not null
        default '', canary_by text not null default '', canary_at text not null default '');
        create table jobs(id integer primary key autoincrement, kind text not null, shipment
        text not null, disk text not null default '', title text not null, spec text not null,
        state text not null, created text not null, ended text not null default '', error text
        not null default '', code integer not null default 0, what text not null default '',
        safe text not null default '', todo text not null default '', resolved integer not null
        default 0); create table progress(job integer primary key, step text, done integer,
        total integer, stored integer, at real); create table events(id integer primary key
        autoincrement, job integer not null, at text not null, kind text not null, body text not
        null); create index events_job on events(job, id); create table sources(disk text, point
        integer, shipment text, facts text not null, guard_key blob not null, primary key(disk,
        point)); create table verified(root text, pack text, primary key(root, pack)); create
        table replayed(volume text, pack text, primary key(volume, pack));
        """
    )


# What is known of a shipment's disks, wherever it stands.
_FORGET = (
    "delete from sources where shipment = ?",
    """delete from events where job in
    (select id from jobs where shipment = ? and kind = 'ingest')""",
    """delete from events where kind = 'failed'
    and job in (select id from jobs where shipment = ?)""",
    """update jobs set spec = '{}', title = kind where shipment = ? and kind = 'ingest'""",
    "update jobs set what = '' where shipment = ?",
)


class JobState(StrEnum):
    """Where a job stands. ``died`` is derived: it should run, and no process holds its lock."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DIED = "died"


_LIVING = frozenset({JobState.QUEUED, JobState.RUNNING})
_START_SECONDS = 60.0  # a job that has no process by then never came up
ENDED = frozenset({JobState.FINISHED, JobState.STOPPED, JobState.FAILED, JobState.DIED})


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the database knows it. ``spec`` is the JSON text its kind understands."""

    id: JobId
    kind: str
    shipment: ShipmentId
    disk: DiskId
    title: str
    spec: str
    state: JobState
    created: str
    ended: str
    error: str
    code: int
    what: str
    safe: str
    todo: str
    resolved: bool


@dataclass(frozen=True, slots=True)
class ShipmentRow:
    id: ShipmentId
    path: Path
    label: str
    root: str
    canary_by: str
    canary_at: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """The device's note on a disk, kept until its shipment is sealed. ``facts`` is JSON text."""

    disk: DiskId
    point: int
    facts: str
    guard_key: bytes


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    job: JobId
    at: str
    kind: str
    body: dict[str, Json]


def _connected(path: Path) -> Database:
    with opened(path, os.O_RDWR | os.O_CREAT):
        pass  # made with the rights that SQLite gives its other files too
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False)
    try:
        db = Database(connection)
        db.enable_wal()
        connection.execute("pragma secure_delete = on")
        connection.execute("pragma synchronous = full")
        migrations.apply(db)
    except BaseException:
        connection.close()
        raise
    return db


def _storable(found: object) -> object:
    """Foreign text may hold half a character, which SQLite refuses."""
    return found.encode(errors="backslashreplace").decode() if isinstance(found, str) else found


def _died(row: JobRow) -> JobRow:
    if row.state not in _LIVING or (row.state is JobState.QUEUED and _age(row) < _START_SECONDS):
        return row
    died = JobDiedError(f"Job {row.id} was ended from outside: killed, or the power was cut")
    return replace(
        row,
        state=JobState.DIED,
        error=died.name,
        code=died.code,
        what=died.what,
        safe=died.safe_now,
        todo=died.todo_now,
    )


def _age(row: JobRow) -> float:
    """Seconds since the job was asked for; a clock that was set back counts as none."""
    created = datetime.fromisoformat(row.created)
    return max((datetime.now(UTC) - created).total_seconds(), 0)


def _lock(length: int = 0) -> bytes:
    """A job's lock is as long as its process id is high, so that both are there at once; 0: a
    lock on everything.
    """
    return _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, length, 0)


class State:
    """The database under ``home``, opened. May be used by several threads."""

    def __init__(self, home: Path) -> None:
        self.home, self._jobs = home, home / "jobs"
        self._lock = threading.RLock()
        path = home / FILE
        try:
            self._jobs.mkdir(mode=0o700, exist_ok=True)
            with self._excluded():
                self._db = self._given_room(lambda: _connected(path))
                self._keep_ballast()
        except (OSError, sqlite3.Error) as exc:
            raise StateError(
                f"The state database {path} cannot be used ({exc})",
                todo="If it is damaged, move it away: history is lost, no data.",
            ) from exc

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- shipments ---

    def note_shipment(self, shipment: ShipmentId, path: Path, label: str) -> None:
        self._write(
            "insert into shipments(id, path, label) values(?, ?, ?) "
            "on conflict(id) do update set path = excluded.path, label = excluded.label",
            (shipment, str(path), label),
        )

    def note_canary(self, shipment: ShipmentId, recipient: str, at: str) -> None:
        self._write(
            "update shipments set canary_by = ?, canary_at = ? where id = ?",
            (recipient, at, shipment),
        )

    def note_sealed(self, shipment: ShipmentId, root: str) -> None:
        """Remember the seal, and forget all facts about the shipment's disks."""
        self._write_all(
            ("update shipments set root = ? where id = ?", (root, shipment)),
            *((forget, (shipment,)) for forget in _FORGET),
        )
        for row in self.jobs(shipment):
            if row.kind == "ingest":
                self.job_file(row.id, "log").unlink(missing_ok=True)
        with self._said(), self._lock:
            self._db.execute("pragma wal_checkpoint(truncate)")

    def shipments(self) -> list[ShipmentRow]:
        rows = self._read("select id, path, label, root, canary_by, canary_at from shipments", ())
        return [ShipmentRow(ShipmentId(a), Path(b), c, d, e, f) for a, b, c, d, e, f in rows]

    def shipment(self, shipment: ShipmentId) -> ShipmentRow | None:
        return next((one for one in self.shipments() if one.id == shipment), None)

    # --- disks being ingested ---

    def note_source(self, shipment: ShipmentId, row: SourceRow) -> None:
        self._write(
            "insert or replace into sources(disk, point, shipment, facts, guard_key) "
            "values(?, ?, ?, ?, ?)",
            (row.disk, row.point, shipment, row.facts, row.guard_key),
        )

    def sources(self, shipment: ShipmentId) -> list[SourceRow]:
        rows = self._read(
            "select disk, point, facts, guard_key from sources where shipment = ?", (shipment,)
        )
        return [SourceRow(DiskId(a), b, c, d) for a, b, c, d in rows]

    # --- jobs ---

    def add_job(
        self, kind: str, shipment: ShipmentId, title: str, spec: str, at: str, disk: str = ""
    ) -> JobId:
        return JobId(
            self._write(
                "insert into jobs(kind, shipment, title, spec, state, created, disk) "
                "values(?, ?, ?, ?, ?, ?, ?)",
                (kind, shipment, title, spec, JobState.QUEUED, at, disk),
            )
        )

    def job(self, job: JobId) -> JobRow:
        found = [one for one in self.jobs() if one.id == job]
        if not found:
            raise UnknownNameError(f"There is no job {job}")
        return found[0]

    @contextmanager
    def living(self, job: JobId) -> Iterator[None]:
        """Held by the job's process for as long as it lives; refuses when another one runs the
        same job.
        """
        with opened(self._lock_file(job), os.O_RDWR | os.O_CREAT) as fd:
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(os.getpid()))
            except BlockingIOError as exc:
                raise JobRunningError(f"Job {job} runs already") from exc
            yield

    def process_of(self, job: JobId) -> int:
        """The process id of the job when it lives, else 0. Only looks: takes no lock itself."""
        with suppress(FileNotFoundError), opened(self._lock_file(job), os.O_RDWR) as fd:
            held, _, _, length, _ = _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock()))
            return 0 if held == fcntl.F_UNLCK else int(length)
        return 0

    def _lock_file(self, job: JobId) -> Path:
        return self.job_file(job, "lock")

    def job_file(self, job: JobId, ending: str) -> Path:
        """Where a job keeps its lock and its log."""
        return self._jobs / f"{job}.{ending}"

    def jobs(self, shipment: ShipmentId | None = None) -> list[JobRow]:
        """Jobs as they really stand: one that is said to run and has no process has died."""
        rows = self._rows()
        suspects = {one.id for one in rows if one.state in _LIVING and not self.process_of(one.id)}
        if suspects:  # it may have ended between the two looks
            rows = [_died(one) if one.id in suspects else one for one in self._rows()]
        return [one for one in rows if shipment in {None, one.shipment}]

    def _rows(self) -> list[JobRow]:
        rows = self._read(
            "select id, kind, shipment, disk, title, spec, state, created, ended, "
            "error, code, what, safe, todo, resolved from jobs order by id",
            (),
        )
        return [JobRow(*[*row[:6], JobState(row[6]), *row[7:14], bool(row[14])]) for row in rows]

    def queue_job(self, job: JobId, at: str) -> None:
        """The job is asked for, perhaps again: what it ended with before is past."""
        self._write("update jobs set created = ? where id = ?", (at, job))
        self._go_on(job, JobState.QUEUED)

    def begin_job(self, job: JobId) -> None:
        self._go_on(job, JobState.RUNNING)

    def _go_on(self, job: JobId, state: JobState) -> None:
        self._write(
            "update jobs set state = ?, ended = '', error = '', code = 0, what = '', "
            "safe = '', todo = '' where id = ?",
            (state, job),
        )

    def end_job(self, job: JobId, state: JobState, at: str, error: Event | None = None) -> None:
        said = as_json(error) if error is not None else {}
        self._write(
            "update jobs set state = ?, ended = ?, error = ?, code = ?, what = ?, "
            "safe = ?, todo = ? where id = ?",
            (
                state,
                at,
                said.get("error", ""),
                said.get("code", 0),
                said.get("what", ""),
                said.get("safe", ""),
                said.get("todo", ""),
                job,
            ),
        )

    def change_job(self, job: JobId, spec: str) -> None:
        self._write("update jobs set spec = ? where id = ?", (spec, job))

    def resolve_job(self, job: JobId) -> None:
        """The operator has dealt with the job's error."""
        self._write("update jobs set resolved = 1 where id = ?", (job,))

    # --- what jobs say ---

    def put_event(self, job: JobId, at: str, event: Event) -> None:
        body = json.dumps(as_json(event), ensure_ascii=False)
        self._write(
            "insert into events(job, at, kind, body) values(?, ?, ?, ?)",
            (job, at, event.kind, body),
        )

    def put_progress(self, job: JobId, at: float, told: Progress) -> None:
        self._write(
            "insert or replace into progress(job, step, done, total, stored, at) "
            "values(?, ?, ?, ?, ?, ?)",
            (job, told.step, told.done, told.total, told.stored, at),
        )

    def events(self, job: JobId, after: int = 0) -> list[EventRow]:
        rows = self._read(
            "select id, job, at, kind, body from events where job = ? and id > ? order by id",
            (job, after),
        )
        return [EventRow(a, JobId(b), c, d, json.loads(e)) for a, b, c, d, e in rows]

    def progress(self, job: JobId) -> Progress | None:
        rows = self._read("select step, done, total, stored from progress where job = ?", (job,))
        return Progress(*rows[0]) if rows else None

    # --- what need not be read or written again ---

    def verified(self, root: str) -> list[PackId]:
        rows = self._read("select pack from verified where root = ?", (root,))
        return [PackId(one) for (one,) in rows]

    def note_verified(self, root: str, pack: PackId) -> None:
        self._write("insert or ignore into verified(root, pack) values(?, ?)", (root, pack))

    def forget_verified(self, root: str) -> None:
        self._write("delete from verified where root = ?", (root,))

    def replayed(self, volume: str) -> set[PackId]:
        """Packs whose every block is durable on the volume with that id."""
        rows = self._read("select pack from replayed where volume = ?", (volume,))
        return {PackId(one) for (one,) in rows}

    def note_replayed(self, volume: str, pack: PackId) -> None:
        self._write("insert or ignore into replayed(volume, pack) values(?, ?)", (volume, pack))

    def forget_replayed(self, volume: str) -> None:
        self._write("delete from replayed where volume = ?", (volume,))

    # --- the database itself ---

    def _read(self, sql: str, args: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._said(), self._lock:
            return self._db.execute(sql, args).fetchall()

    def _write(self, sql: str, args: tuple[object, ...]) -> int:
        return self._write_all((sql, args))

    def _write_all(self, *changes: tuple[str, tuple[object, ...]]) -> int:
        """All changes or none; returns the row id of the last."""

        def write() -> int:
            last = 0
            with self._db.atomic():
                for sql, args in changes:
                    last = self._db.execute(sql, tuple(map(_storable, args))).lastrowid or 0
            return last

        with self._said(), self._lock:
            return self._given_room(write)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise StateError(f"The state database refuses ({exc})") from exc

    def _given_room(self, action: Callable[[], T]) -> T:
        """Where the disk is full, the ballast is given up and the action done once more."""
        try:
            return action()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode not in _FULL or not self._drop_ballast():
                raise
        return action()

    @contextmanager
    def _excluded(self) -> Iterator[None]:
        """One process at a time opens the database: it may have to make or change the tables."""
        with opened(self.home / "state.lock", os.O_RDWR | os.O_CREAT) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield

    def _keep_ballast(self) -> None:
        """Taken while there is ample room, and not again as soon as it was given up."""
        path = self.home / BALLAST
        if not path.exists() and free_space(self.home) > 2 * BALLAST_SIZE:
            try:
                with opened(path, os.O_RDWR | os.O_CREAT) as fd:
                    reserve(fd, BALLAST_SIZE)
            except OSError:
                path.unlink(missing_ok=True)

    def _drop_ballast(self) -> bool:
        path = self.home / BALLAST
        if not path.exists():
            return False
        path.unlink()
        return True
