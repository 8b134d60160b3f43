"""What jobs have told of themselves: works, rounds and cut-overs, out of the state database.

The database is a cache, and events are its JSON: a figure that is not there, or is none, is not
known.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from appliance.events import Json, Progress
from appliance.model import DiskId, ShipmentId
from appliance.report.document import CutOver, DiskRoot, Failure, Turn, Work
from appliance.state import EventRow, JobRow, State
from appliance.state.words import last_words

_Figures = Mapping[str, Json]
_NOBODYS = ShipmentId("")
_ROUNDS = frozenset({"catch-up", "gate", "gate-check"})
_ROOT_SIZE = 64


def number(found: _Figures, key: str) -> int | None:
    """A whole number of bytes, blocks or times that stands there."""
    value = found.get(key)
    return value if type(value) is int and value >= 0 else None


def _ms(found: _Figures, key: str) -> int | None:
    value = found.get(key)
    return round(1000 * value) if type(value) in {int, float} else None  # type: ignore[operator, arg-type]


def _text(found: _Figures, key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _texts(found: _Figures, key: str) -> tuple[str, ...]:
    value = found.get(key)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def object_in(found: _Figures, key: str) -> _Figures:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Job:
    """A job with all it said, in order."""

    row: JobRow
    events: Sequence[EventRow]
    progress: Progress | None

    def results(self, step: str) -> list[_Figures]:
        return [figures for _, figures in self.told(step)]

    def told(self, *steps: str) -> list[tuple[EventRow, _Figures]]:
        """Results of steps, with the event that told of each."""
        return [
            (one, object_in(one.body, "figures"))
            for one in self.events
            if one.kind == "result" and one.body.get("step") in steps
        ]

    def spec(self, key: str) -> str:
        """A text of what the job was told to do."""
        with suppress(ValueError):
            found = json.loads(self.row.spec)
            return _text(found, key) if isinstance(found, dict) else ""
        return ""


def jobs_of(state: State, shipment: ShipmentId) -> list[Job]:
    """The shipment's jobs, and those that belong to none: rounds know disks only."""
    return [
        Job(row, state.events(row.id), state.progress(row.id))
        for row in state.jobs()
        if row.shipment == shipment or (row.shipment == _NOBODYS and row.kind in _ROUNDS)
    ]


# --- works --------------------


def work(job: Job, told_by: str) -> Work:
    row = job.row
    began = min([row.created, *(one.at for one in job.events[:1])])
    read, written = _MOVED.get(row.kind, _by_progress)(job)
    seconds = _seconds(began, row.ended)
    moved = max(read or 0, written or 0)
    return Work(
        told_by=told_by,
        job=row.id,
        kind=row.kind,
        title=row.title,
        disk=row.disk,
        state=row.state,
        runs=row.run,
        began=began,
        ended=row.ended,
        seconds=seconds,
        read=read,
        written=written,
        rate=moved // seconds if seconds and moved and _steady(row) else None,
        failure=_failure(row) if row.error else None,
    )


def _failure(row: JobRow) -> Failure:
    """What it ended with; of one that the operator has dropped, what is true since."""
    now = last_words(row) if row.resolved else row
    return Failure(row.error, row.code, row.what, now.safe, now.todo)


def _steady(row: JobRow) -> bool:
    """Whether it was at work all the time: a gate waits for its sources."""
    return row.run == 1 and row.kind != "gate"


def _seconds(began: str, ended: str) -> int | None:
    if not ended:
        return None
    first, last = (datetime.fromisoformat(one) for one in (began, ended))
    return max(round((last - first).total_seconds()), 0)


def _sum(found: Iterable[int | None]) -> int | None:
    """Of what is known; nothing is known of no figures."""
    known = [one for one in found if one is not None]
    return sum(known) if known else None


_Moved = tuple[int | None, int | None]


def _by_progress(job: Job) -> _Moved:
    return (job.progress.done if job.progress else None, None)


def _figures(step: str, read: str, written: str = "") -> Callable[[Job], _Moved]:
    def moved(job: Job) -> _Moved:
        found = job.results(step)
        if not found:
            return _by_progress(job)
        return tuple(_sum(number(one, key) for one in found) for key in (read, written))  # type: ignore[return-value]

    return moved


def _gate(job: Job) -> _Moved:
    return None, _sum(number(one, "written") for one in job.results("disk"))


_MOVED: Mapping[str, Callable[[Job], _Moved]] = {
    "ingest": _figures("ingest", "size", "written"),
    "seal": _figures("seal", "bytes"),
    "verify": _figures("verify", "bytes"),
    "restore": _figures("restore", "bytes_read", "bytes_written"),
    "check": _figures("check", "size"),
    "gate-check": _figures("check", "size"),
    "catch-up": _figures("round", "read", "sent"),
    "gate": _gate,
}


# --- rounds --------------------


def disks_told(job: Job) -> set[DiskId]:
    """The disks a job of rounds has told of."""
    found = {DiskId(_text(one, "disk")) for one in job.results("disk") + job.results("check")}
    for one in job.results("round"):
        found |= {DiskId(disk) for disk in object_in(one, "roots")}
    return found - {DiskId("")}


@dataclass(slots=True)
class Rounds:
    """The rounds of jobs, as far as they are about these disks; of all disks where none are
    known. Whose they are, a gate tells, and a source does not.
    """

    told_by: str
    disks: frozenset[DiskId]
    rounds: list[Turn] = field(default_factory=list)
    cut_overs: list[CutOver] = field(default_factory=list)

    def take(self, job: Job) -> None:
        if job.row.kind == "catch-up":
            self._source(job)
        elif job.row.kind == "gate":
            self._gate(job)

    def about(self, disks: Iterable[str]) -> bool:
        return not self.disks or not self.disks.isdisjoint(DiskId(one) for one in disks)

    def _source(self, job: Job) -> None:
        mine, last = False, -1
        for row, found in job.told("round", "outlook", "final"):
            step = row.body["step"]
            if step == "round":
                mine = self.about(object_in(found, "roots"))
                last = len(self.rounds)
            if not mine:
                continue
            if step == "round":
                self.rounds.append(self._turn(job, row, found, "source"))
            elif step == "outlook":
                lag = _ms(found, "next_seconds")
                self.rounds[last] = replace(self.rounds[last], lag_ms=lag)
            else:
                self.cut_overs.append(self._cut_over(job, row, found, self.rounds[last]))

    def _gate(self, job: Job) -> None:
        written: dict[str, int] = {}
        for row, found in job.told("disk", "point"):
            if row.body["step"] == "disk":
                disk = _text(found, "disk")
                written[disk] = written.get(disk, 0) + (number(found, "written") or 0)
                continue
            disks, roots = _texts(found, "disks"), _texts(found, "roots")
            moved = sum(written.pop(one, 0) for one in disks)
            if self.about(disks):
                both: _Figures = {
                    **found,
                    "roots": dict(zip(disks, roots, strict=False)),
                    "written": moved,
                }
                self.rounds.append(self._turn(job, row, both, "gate"))

    def _turn(self, job: Job, row: EventRow, found: _Figures, end: str) -> Turn:
        roots = _roots(object_in(found, "roots"))
        return Turn(
            told_by=self.told_by,
            job=job.row.id,
            end=end,
            at=row.at,
            machine=_text(found, "machine"),
            point=number(found, "point") or 0,
            form=_text(found, "form"),
            kept=found.get("kept") is True,
            ms=_ms(found, "seconds"),
            read=number(found, "read"),
            changed=number(found, "changed"),
            sent=number(found, "sent"),
            written=number(found, "written"),
            lag_ms=None,
            roots=roots,
        )

    def _cut_over(self, job: Job, row: EventRow, found: _Figures, of: Turn) -> CutOver:
        frozen, loose = _texts(found, "frozen"), _texts(found, "loose")
        return CutOver(
            told_by=self.told_by,
            job=job.row.id,
            at=row.at,
            machine="",
            point=number(found, "point") or 0,
            kept=found.get("kept") is True,
            # Where nothing was frozen, the source had been stopped: nobody says since when.
            downtime_ms=_ms(found, "downtime") if frozen or loose else None,
            ms=of.ms,
            sent=of.sent,
            frozen=frozen,
            loose=loose,
        )


def _roots(found: _Figures) -> tuple[DiskRoot, ...]:
    return tuple(
        DiskRoot(DiskId(disk), root)
        for disk, root in sorted(found.items())
        if isinstance(root, str) and len(root) == _ROOT_SIZE
    )
