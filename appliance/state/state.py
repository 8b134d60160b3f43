"""What jobs and consoles tell each other and look up, in words instead of SQL."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from appliance.errors import JobDiedError, JobRunningError, StateError, UnknownNameError
from appliance.events import Event, Progress, as_json
from appliance.model import DiskId, JobId, PackId, ShipmentId
from appliance.state import alive
from appliance.state.database import Tables
from appliance.state.rows import LIVING, EventRow, JobRow, JobState, ShipmentRow, SourceRow
from appliance.state.schema import FORGET

_START_SECONDS = 60.0  # a job that has no process by then never came up


class State:
    """The database under ``home``, opened. May be used by several threads."""

    def __init__(self, home: Path) -> None:
        self.home, self._jobs = home, home / "jobs"
        try:
            self._jobs.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise StateError(f"The state directory {home} cannot be used ({exc})") from exc
        self._tables = Tables(home)

    def close(self) -> None:
        self._tables.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- shipments ---

    def note_shipment(self, shipment: ShipmentId, path: Path, label: str) -> None:
        self._tables.write(
            "insert into shipments(id, path, label) values(?, ?, ?) "
            "on conflict(id) do update set path = excluded.path, label = excluded.label",
            (shipment, str(path), label),
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

    # --- jobs ---

    def add_job(
        self, kind: str, shipment: ShipmentId, title: str, spec: str, at: str, disk: str = ""
    ) -> JobId:
        return JobId(
            self._tables.write(
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
        with ExitStack() as life:
            try:
                life.enter_context(alive.held(self._lock_file(job)))
            except BlockingIOError as exc:
                raise JobRunningError(f"Job {job} runs already") from exc
            yield

    def process_of(self, job: JobId) -> int:
        """The process id of the job when it lives, else 0."""
        return alive.holder(self._lock_file(job))

    def _lock_file(self, job: JobId) -> Path:
        return self.job_file(job, "lock")

    def job_file(self, job: JobId, ending: str) -> Path:
        """Where a job keeps its lock and its log."""
        return self._jobs / f"{job}.{ending}"

    def jobs(self, shipment: ShipmentId | None = None) -> list[JobRow]:
        """Jobs as they really stand: one that is said to run and has no process has died."""
        rows = self._rows()
        suspects = {one.id for one in rows if one.state in LIVING and not self.process_of(one.id)}
        if suspects:  # it may have ended between the two looks
            rows = [_died(one) if one.id in suspects else one for one in self._rows()]
        return [one for one in rows if shipment in {None, one.shipment}]

    def _rows(self) -> list[JobRow]:
        rows = self._tables.read(
            "select id, kind, shipment, disk, title, spec, state, created, ended, "
            "error, code, what, safe, todo, resolved from jobs order by id",
            (),
        )
        return [JobRow(*[*row[:6], JobState(row[6]), *row[7:14], bool(row[14])]) for row in rows]

    def queue_job(self, job: JobId, at: str) -> None:
        """The job is asked for, perhaps again: what it ended with before is past."""
        self._tables.write("update jobs set created = ? where id = ?", (at, job))
        self._go_on(job, JobState.QUEUED)

    def begin_job(self, job: JobId) -> None:
        self._go_on(job, JobState.RUNNING)

    def _go_on(self, job: JobId, state: JobState) -> None:
        self._tables.write(
            "update jobs set state = ?, ended = '', error = '', code = 0, what = '', "
            "safe = '', todo = '' where id = ?",
            (state, job),
        )

    def end_job(self, job: JobId, state: JobState, at: str, error: Event | None = None) -> None:
        said = as_json(error) if error is not None else {}
        self._tables.write(
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
        self._tables.write("update jobs set spec = ? where id = ?", (spec, job))

    def resolve_job(self, job: JobId) -> None:
        """The operator has dealt with the job's error."""
        self._tables.write("update jobs set resolved = 1 where id = ?", (job,))

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

    def events(self, job: JobId, after: int = 0) -> list[EventRow]:
        rows = self._tables.read(
            "select id, job, at, kind, body from events where job = ? and id > ? order by id",
            (job, after),
        )
        return [EventRow(a, JobId(b), c, d, json.loads(e)) for a, b, c, d, e in rows]

    def progress(self, job: JobId) -> Progress | None:
        rows = self._tables.read(
            "select step, done, total, stored from progress where job = ?", (job,)
        )
        return Progress(*rows[0]) if rows else None

    # --- what need not be read or written again ---

    def verified(self, root: str) -> list[PackId]:
        rows = self._tables.read("select pack from verified where root = ?", (root,))
        return [PackId(one) for (one,) in rows]

    def note_verified(self, root: str, pack: PackId) -> None:
        self._tables.write("insert or ignore into verified(root, pack) values(?, ?)", (root, pack))

    def forget_verified(self, root: str) -> None:
        self._tables.write("delete from verified where root = ?", (root,))

    def replayed(self, volume: str) -> set[PackId]:
        """Packs whose every block is durable on the volume with that id."""
        rows = self._tables.read("select pack from replayed where volume = ?", (volume,))
        return {PackId(one) for (one,) in rows}

    def note_replayed(self, volume: str, pack: PackId) -> None:
        self._tables.write(
            "insert or ignore into replayed(volume, pack) values(?, ?)", (volume, pack)
        )

    def forget_replayed(self, volume: str) -> None:
        self._tables.write("delete from replayed where volume = ?", (volume,))


def _died(row: JobRow) -> JobRow:
    if row.state not in LIVING or (row.state is JobState.QUEUED and _age(row) < _START_SECONDS):
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
