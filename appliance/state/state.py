"""What jobs and consoles tell each other and look up, in words instead of SQL."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import Self

from appliance.errors import JobRunningError, StateError, UnknownNameError
from appliance.events import Event, Json, Progress, as_json
from appliance.model import DiskId, JobId, PackId, ShipmentId
from appliance.state import alive, death
from appliance.state.database import Tables
from appliance.state.rows import (
    LIVING,
    EventRow,
    JobRow,
    JobState,
    Reached,
    ShipmentRow,
    SourceRow,
)
from appliance.state.schema import FORGET

_START_SECONDS = 60.0  # a new job that nobody has begun to start by then never will be
_COLUMNS = (
    "id, kind, shipment, disk, title, spec, state, created, ended, "
    "error, code, what, safe, todo, resolved, run, boot, up, pid, verb"
)
_AFRESH = (
    "state = ?, ended = '', error = '', code = 0, what = '', safe = '', todo = '', verb = '' "
    "where id = ?"
)
_QUEUE = "update jobs set created = ?, run = run + 1, boot = ?, up = ?, pid = 0, " + _AFRESH  # noqa: S608 # nosec B608
_BEGIN = "update jobs set boot = ?, pid = ?, " + _AFRESH  # noqa: S608 # nosec B608


class State:
    """The database under ``home``, opened. May be used by several threads."""

    def __init__(self, home: Path, copy: Path | None = None) -> None:
        """``copy`` is where a copy of the database lies, for whoever may change nothing."""
        self.home, self._jobs = home, home / "jobs"
        try:
            if copy is None:
                self._jobs.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise StateError(f"The state directory {home} cannot be used ({exc})") from exc
        self._own: JobRow | None = None
        self._tables = Tables(copy or home, self._write_down_anew)

    def close(self) -> None:
        self._tables.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- shipments ---

    def copy(self, path: Path) -> None:
        """The whole database as it stands now, as a new one at ``path``."""
        self._tables.copy(path)

    def note_shipment(self, shipment: ShipmentId, path: Path, label: str) -> None:
        self._tables.write(
            "insert into shipments(id, path, label) values(?, ?, ?) "
            "on conflict(id) do update set path = excluded.path, label = excluded.label",
            (shipment, str(path), label),
        )

    def note_arrived(self, shipment: ShipmentId, path: Path, label: str, root: str) -> None:
        """Remember a sealed store that came from elsewhere, and where it is now. What is known of
        a shipment by another root stays: an id is only what a store says of itself.
        """
        self._tables.write(
            "insert into shipments(id, path, label, root) values(?, ?, ?, ?) "
            "on conflict(id) do update set path = excluded.path where root = excluded.root",
            (shipment, str(path), label, root),
        )

    def note_canary(self, shipment: ShipmentId, recipient: str, at: str) -> None:
        self._tables.write(
            "update shipments set canary_by = ?, canary_at = ? where id = ?",
            (recipient, at, shipment),
        )

    def note_sealed(self, shipment: ShipmentId, root: str) -> None:
        """Remember the seal, and forget all facts about the shipment's disks; from the database's
        log, where somebody is reading it just now, when it is opened or closed the next time.
        """
        self._tables.write_all(
            ("update shipments set root = ? where id = ?", (root, shipment)),
            *((forget, (shipment,)) for forget in FORGET),
        )
        for row in self.jobs(shipment):
            if row.kind == "ingest":
                self.job_file(row.id, "log").unlink(missing_ok=True)
        self._tables.empty_log()

    def shipments(self) -> list[ShipmentRow]:
        rows = self._tables.read(
            "select id, path, label, root, canary_by, canary_at from shipments", ()
        )
        return [ShipmentRow(ShipmentId(a), Path(b), c, d, e, f) for a, b, c, d, e, f in rows]

    def shipment(self, shipment: ShipmentId) -> ShipmentRow | None:
        return next((one for one in self.shipments() if one.id == shipment), None)

    # --- disks being ingested ---

    def note_source(self, shipment: ShipmentId, row: SourceRow) -> None:
        self._tables.write(
            "insert or replace into sources(disk, point, shipment, facts, guard_key) "
            "values(?, ?, ?, ?, ?)",
            (row.disk, row.point, shipment, row.facts, row.guard_key),
        )

    def sources(self, shipment: ShipmentId) -> list[SourceRow]:
        rows = self._tables.read(
            "select disk, point, facts, guard_key from sources where shipment = ?", (shipment,)
        )
        return [SourceRow(DiskId(a), b, c, d) for a, b, c, d in rows]

    def note_machine(self, shipment: ShipmentId, disk: DiskId, facts: str) -> None:
        """``facts`` are JSON text, as of a source."""
        self._tables.write(
            "insert or replace into machines(disk, shipment, facts) values(?, ?, ?)",
            (disk, shipment, facts),
        )

    def machines(self, shipment: ShipmentId) -> dict[DiskId, str]:
        """What the disks of a shipment tell of their machines."""
        rows = self._tables.read(
            "select disk, facts from machines where shipment = ? order by disk", (shipment,)
        )
        return {DiskId(disk): facts for disk, facts in rows}

    # --- jobs ---

    def add_job(
        self, kind: str, shipment: ShipmentId, title: str, spec: str, at: str, disk: str = ""
    ) -> JobId:
        """Its number is one that no job had before, also where the database that knew of them is
        lost.
        """
        return JobId(
            self._tables.write(
                "insert into jobs(id, kind, shipment, title, spec, state, created, disk, boot, up)"
                " select max(coalesce(max(id), 0), ?) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ? from jobs",
                (
                    self._highest_known(),
                    kind,
                    shipment,
                    title,
                    spec,
                    JobState.QUEUED,
                    at,
                    disk,
                    alive.boot(),
                    alive.uptime(),
                ),
            )
        )

    def _highest_known(self) -> int:
        """The highest number of a job that keeps files here."""
        try:
            found = [one.stem for one in self._jobs.iterdir() if one.suffix == ".lock"]
        except OSError as exc:
            raise StateError(f"{self._jobs} cannot be read ({exc.strerror})") from exc
        return max((int(one) for one in found if one.isdecimal()), default=0)

    def job(self, job: JobId) -> JobRow:
        found = [one for one in self.jobs() if one.id == job]
        if not found:
            raise UnknownNameError(f"There is no job {job}")
        return found[0]

    @contextmanager
    def claimed(self, job: JobId) -> Iterator[int]:
        """Held by whoever starts the job's process, which inherits the descriptor; refuses, with
        the process, when the job lives already, or somebody else is just starting it.
        """
        with ExitStack() as claim:
            try:
                fd = claim.enter_context(alive.claimed(self._lock_file(job)))
            except BlockingIOError as exc:
                raise self._running(job) from exc
            yield fd

    @contextmanager
    def living(self, job: JobId, claim: int | None = None) -> Iterator[None]:
        """Held by the job's process for as long as it lives, by the descriptor of a ``claim`` that
        it has inherited, if any; refuses when another one runs the same job.
        """
        with ExitStack() as life:
            try:
                life.enter_context(alive.held(self._lock_file(job), claim))
            except BlockingIOError as exc:
                raise self._running(job) from exc
            yield

    def _running(self, job: JobId) -> JobRunningError:
        pid = self.process_of(job)
        by = f"in process {pid}" if pid else "somebody else is just starting it"
        return JobRunningError(
            f"Job {job} runs already: {by}",
            safe="It goes on undisturbed.",
            todo="See it.",
            verb=f"motiongear jobs follow {job}",
        )

    def lives(self, job: JobId) -> bool:
        """Whether somebody runs the job, or is just starting it."""
        return alive.holder(self._lock_file(job)) is not None

    def process_of(self, job: JobId) -> int:
        """The process id of the job when it has one, else 0."""
        return alive.holder(self._lock_file(job)) or 0

    def _lock_file(self, job: JobId) -> Path:
        return self.job_file(job, "lock")

    def job_file(self, job: JobId, ending: str) -> Path:
        """Where a job keeps its lock and its log."""
        return self._jobs / f"{job}.{ending}"

    def jobs(self, shipment: ShipmentId | None = None) -> list[JobRow]:
        """Jobs as they really stand: of one that should live and does not it is noted that it has
        died, and why.
        """
        rows = self._rows()
        dead = [one for one in rows if one.state in LIVING and self._has_died(one)]
        if dead:
            for one in dead:
                self._note_death(one)
            found = {one.id: one for one in dead}
            rows = [self._as_dead(one, found.get(one.id)) for one in self._rows()]
        return [one for one in rows if shipment in {None, one.shipment}]

    def _has_died(self, row: JobRow) -> bool:
        if self.lives(row.id):
            return False
        if row.run or self._lock_file(row.id).exists() or row.boot != alive.boot():
            return True
        return alive.uptime() - row.up > _START_SECONDS  # nobody has begun to start it yet

    def _note_death(self, row: JobRow) -> None:
        """Unless it has ended otherwise since the row was read, or was started anew."""
        end = _died(row, self.job_file(row.id, "log"))
        with suppress(StateError):  # who looks at a full disk is told all the same
            self._tables.write(
                "update jobs set state = ?, ended = coalesce((select strftime("
                "'%Y-%m-%dT%H:%M:%SZ', at, 'unixepoch') from progress where job = id), created), "
                "error = ?, code = ?, what = ?, safe = ?, todo = ? "
                "where id = ? and state = ? and run = ?",
                (
                    end.state,
                    end.error,
                    end.code,
                    end.what,
                    end.safe,
                    end.todo,
                    row.id,
                    row.state,
                    row.run,
                ),
            )

    def _as_dead(self, row: JobRow, dead: JobRow | None) -> JobRow:
        """The row as it is to be seen where its death could not be noted."""
        if dead is None or (row.state, row.run) != (dead.state, dead.run):
            return row
        return _died(row, self.job_file(row.id, "log"))

    def _rows(self) -> list[JobRow]:
        rows = self._tables.read(f"select {_COLUMNS} from jobs order by id", ())  # noqa: S608 # nosec B608
        try:
            return [
                JobRow(*[*row[:6], JobState(row[6]), *row[7:14], bool(row[14]), *row[15:]])
                for row in rows
            ]
        except ValueError as exc:
            raise StateError(
                f"The state database has a row that no release writes ({exc})",
                todo="Move it away: history is lost, no data; jobs that run go on.",
            ) from exc

    def _write_down_anew(self) -> None:
        """The database was lost while a job runs: the job's process is what knows of it still."""
        if self._own is not None:
            self._tables.write(
                f"insert or ignore into jobs({_COLUMNS}) "
                f"values({', '.join('?' * len(_COLUMNS.split(',')))})",
                astuple(self._own),
            )

    def queue_job(self, job: JobId, at: str) -> None:
        """The job is asked for, perhaps again, by whoever has claimed it: what it ended with
        before is past.
        """
        self._tables.write_all(
            (_QUEUE, (at, alive.boot(), alive.uptime(), JobState.QUEUED, job)),
            ("delete from progress where job = ?", (job,)),
        )

    def begin_job(self, job: JobId) -> None:
        """Called by the job's own process, which lives by now."""
        self._tables.write(_BEGIN, (alive.boot(), os.getpid(), JobState.RUNNING, job))
        self._own = self.job(job)

    def pause_job(self, job: JobId, state: JobState) -> None:
        """The job's own process rests, or goes on."""
        if self._own is not None:
            self._own = replace(self._own, state=state)
        self._tables.write("update jobs set state = ? where id = ?", (state, job))

    def end_job(self, job: JobId, state: JobState, at: str, error: Event | None = None) -> None:
        said = as_json(error) if error is not None else {}
        self._tables.write(
            "update jobs set state = ?, ended = ?, error = ?, code = ?, what = ?, "
            "safe = ?, todo = ?, verb = ? where id = ?",
            (
                state,
                at,
                said.get("error", ""),
                said.get("code", 0),
                said.get("what", ""),
                said.get("safe", ""),
                said.get("todo", ""),
                said.get("verb", ""),
                job,
            ),
        )

    def change_job(self, job: JobId, spec: str) -> None:
        self._tables.write("update jobs set spec = ? where id = ?", (spec, job))

    def resolve_job(self, job: JobId) -> None:
        """The operator has dealt with the job's error."""
        self._tables.write("update jobs set resolved = 1 where id = ?", (job,))

    # --- wizards ---

    def keep_draft(self, wizard: str, answers: Mapping[str, Json]) -> None:
        """What was answered so far, by the wizard's stable name; no secrets."""
        self._tables.write(
            "insert or replace into drafts(wizard, answers) values(?, ?)",
            (wizard, json.dumps(answers, ensure_ascii=False)),
        )

    def draft(self, wizard: str) -> dict[str, Json]:
        """What was answered when it was last left; empty where that is done with, or nonsense."""
        rows = self._tables.read("select answers from drafts where wizard = ?", (wizard,))
        with suppress(ValueError, RecursionError):
            for (answers,) in rows:
                if isinstance(found := json.loads(answers), dict):
                    return found
        return {}

    def drop_draft(self, wizard: str) -> None:
        self._tables.write("delete from drafts where wizard = ?", (wizard,))

    # --- what jobs say ---

    def put_event(self, job: JobId, at: str, event: Event) -> None:
        body = json.dumps(as_json(event), ensure_ascii=False)
        self._tables.write(
            "insert into events(job, at, kind, body) values(?, ?, ?, ?)",
            (job, at, event.kind, body),
        )

    def put_progress(self, job: JobId, at: float, told: Progress) -> None:
        self._tables.write(
            "insert or replace into progress(job, step, done, total, stored, at) "
            "values(?, ?, ?, ?, ?, ?)",
            (job, told.step, told.done, told.total, told.stored, at),
        )

    def last_event(self) -> int:
        """The number of the last event of any job."""
        ((last,),) = self._tables.read("select coalesce(max(id), 0) from events", ())
        return int(last)

    def events(self, job: JobId | None, after: int = 0) -> list[EventRow]:
        """What a job has said, or all of them have, from the event behind ``after`` on."""
        rows = self._tables.read(
            "select id, job, at, kind, body from events "
            "where job = coalesce(?, job) and id > ? order by id",
            (job, after),
        )
        return [EventRow(a, JobId(b), c, d, json.loads(e)) for a, b, c, d, e in rows]

    def progress(self, job: JobId) -> Progress | None:
        rows = self._tables.read(
            "select step, done, total, stored from progress where job = ?", (job,)
        )
        return Progress(*rows[0]) if rows else None

    # --- what need not be read or written again; ``file`` as block.file_identity tells it ---

    def verified(self, run: str) -> dict[PackId, str]:
        rows = self._tables.read("select pack, file from verified where root = ?", (run,))
        return {PackId(pack): file for pack, file in rows}

    def note_verified(self, run: str, pack: PackId, file: str) -> None:
        self._tables.write(
            "insert or replace into verified(root, pack, file) values(?, ?, ?)", (run, pack, file)
        )

    def forget_verified(self, run: str) -> None:
        self._tables.write("delete from verified where root = ?", (run,))

    def replayed(self, volume: str) -> set[PackId]:
        """Packs whose every block is durable on the volume with that id."""
        rows = self._tables.read("select pack from replayed where volume = ?", (volume,))
        return {PackId(one) for (one,) in rows}

    def note_replayed(self, volume: str, pack: PackId) -> None:
        self._tables.write_all(
            ("insert or ignore into replayed(volume, pack) values(?, ?)", (volume, pack)),
            ("delete from reached where task = ? and part = ?", (volume, pack)),
        )

    def forget_replayed(self, volume: str) -> None:
        self._tables.write_all(
            ("delete from replayed where volume = ?", (volume,)),
            ("delete from reached where task = ?", (volume,)),
        )

    def reached(self, task: str, part: str) -> Reached | None:
        """How far a part of a task had come when it was last made safe."""
        rows = self._tables.read(
            "select file, at, told from reached where task = ? and part = ?", (task, part)
        )
        return Reached(*rows[0]) if rows else None

    def note_reached(self, task: str, part: str, reached: Reached) -> None:
        self._tables.write(
            "insert or replace into reached(task, part, file, at, told) values(?, ?, ?, ?, ?)",
            (task, part, reached.file, reached.at, reached.told),
        )

    def forget_reached(self, task: str) -> None:
        self._tables.write("delete from reached where task = ?", (task,))


def _died(row: JobRow, log: Path) -> JobRow:
    why = death.died(row, log)
    return replace(
        row,
        state=JobState.DIED,
        error=why.name,
        code=why.code,
        what=why.what,
        safe=why.safe_now,
        todo=why.todo_now,
    )
