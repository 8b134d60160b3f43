"""What is wrong with jobs: those that broke off, those that wait, and one by its number."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from appliance.block import opened, peek
from appliance.diagnose.findings import Finding
from appliance.diagnose.kinds import Kind
from appliance.errors import UnknownNameError, all_errors
from appliance.model import JobId
from appliance.state import JobRow, JobState, State
from appliance.state.look import Seen
from appliance.state.words import Words, last_words

_LINES, _TAIL = 20, 16 << 10
_KINDS = {
    JobState.QUEUED: Kind.JOB_LIVES,
    JobState.RUNNING: Kind.JOB_LIVES,
    JobState.PAUSED: Kind.JOB_PAUSED,
    JobState.FINISHED: Kind.JOB_FINISHED,
    JobState.STOPPED: Kind.JOB_STOPPED,
    JobState.FAILED: Kind.JOB_FAILED,
    JobState.DIED: Kind.JOB_DIED,
}

_HAPPENED = {each.name: each.happened for each in all_errors()}


def findings(state: State) -> Iterator[Finding]:
    """Of all jobs but those that are done with: finished, dropped by the operator, past with the
    seal, or asked for anew.
    """
    latest = {_errand(row): row for row in state.jobs()}
    for row in latest.values():
        past = row.resolved or row.forgotten or row.state is JobState.FINISHED
        if not past:
            yield _standing(state, row)


def _errand(row: JobRow) -> tuple[object, ...]:
    """What two jobs have in common that are to do the same."""
    return row.kind, row.shipment, row.disk, asked(row, "place"), asked(row, "gate")


def asked(row: JobRow, name: str) -> str:
    """What a job was told by that name; empty where it was told nothing of it."""
    with suppress(ValueError, AttributeError):
        return str(json.loads(row.spec).get(name, ""))
    return ""


def one(home: Path, seen: Seen, job: JobId) -> Iterator[Finding]:
    """All that can be said of a job; UnknownNameError where nothing can."""
    log = home / "jobs" / f"{job}.log"
    if seen.state is not None:
        yield _standing(seen.state, seen.state.job(job))
    elif os.access(home / "jobs", os.X_OK, effective_ids=True) and not log.exists():
        raise UnknownNameError(f"There is no job {job}")
    if said := tail(log, _TAIL).splitlines()[-_LINES:]:
        yield Finding(Kind.JOB_LOG, {"path": str(log)}, lines=tuple(said))
    else:
        yield Finding(Kind.JOB_LOG_NONE, {"job": str(job)})


def _standing(state: State, row: JobRow) -> Finding:
    kind = Kind.JOB_DROPPED if row.resolved else _KINDS[row.state]
    if row.kind == "gate" and kind is Kind.JOB_STOPPED:
        kind = Kind.GATE_ENDED
    if kind in {Kind.JOB_FAILED, Kind.JOB_DIED} and not row.what:
        kind = Kind.JOB_SPEECHLESS
    words = _words(row)
    figures = {
        "job": str(row.id),
        "kind": row.kind,
        "state": row.state,
        "what": row.what,
        "happened": _HAPPENED.get(row.error, ""),
        "pid": str(state.process_of(row.id)),
        "created": row.created,
        "ended": row.ended,
    }
    if (told := state.progress(row.id)) is not None:
        figures |= {"step": told.step, "done": str(told.done), "total": str(told.total)}
    return Finding(
        kind,
        figures,
        safe=words.safe,
        todo=words.todo,
        verb=words.verb,
        error=row.error,
        code=row.code,
    )


def _words(row: JobRow) -> Words:
    """Also of a job that is told something which no job can do."""
    try:
        return last_words(row)
    except (ValueError, LookupError, TypeError, AttributeError):
        return Words(row.safe, row.todo, "")


def tail(path: Path, most: int) -> str:
    """The end of a file, at most so many bytes; empty where there is none to read."""
    with suppress(OSError), opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
        size = os.fstat(fd).st_size
        return peek(fd, most, max(size - most, 0)).decode(errors="replace")
    return ""
