"""Jobs as processes: started, followed and stopped through the state database, alive without their
console.

A job holds a lock on ``<home>/jobs/<id>.lock`` for as long as it lives: who can take that lock
knows that it is dead. A private key reaches it through its standard input, never through argv,
environment or a file. The state database may be lost under a running job: the job goes on.
"""

import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from appliance import jobs
from appliance.block import keep_in_memory, opened
from appliance.errors import (
    BadInputError,
    MotionGearError,
    StateError,
    StoppedError,
    ToolFailedError,
    UnknownNameError,
    all_errors,
)
from appliance.events import Event, Failed, Json, Progress, Step, failed
from appliance.jobs.asked import Asked
from appliance.model import DiskId, JobId, ShipmentId
from appliance.seal.canon import now
from appliance.seal.keys import SEED_SIZE, PrivateKey
from appliance.state import ENDED, LIVING, EventRow, JobRow, JobState, State
from appliance.state.death import OVER
from appliance.state.words import last_words, safe

_PROGRESS_SECONDS = 0.25
_LOOK_SECONDS = 0.1
_MOST_UNTOLD = 10_000
log = logging.getLogger("motiongear")


def start(
    state: State, job: JobId, key: PrivateKey | None = None, spec: jobs.Spec | None = None
) -> None:
    """Start the job's process, with ``key`` going through its standard input and perhaps another
    ``spec`` than before. Of several who start it at once exactly one does.
    """
    with state.claimed(job) as claim:
        _refuse_ended(state.job(job))
        if spec is not None:
            state.change_job(job, jobs.dump_spec(spec))
        state.queue_job(job, now())
        try:
            child = _spawned(state, job, claim)
        except OSError as exc:
            error = ToolFailedError(
                f"The process of job {job} cannot be started ({exc.strerror})",
                safe="Nothing was changed.",
                todo="Make room in memory and on the disk of the state directory; then resume the "
                "job.",
            )
            state.end_job(job, JobState.FAILED, now(), failed(error))
            raise error from exc
    with suppress(BrokenPipeError), child.stdin as pipe:  # type: ignore[union-attr]
        if key is not None:
            pipe.write(_secret(key))
    threading.Thread(target=child.wait, daemon=True).start()


def begin(
    state: State,
    kind: str,
    shipment: ShipmentId,
    title: str,
    spec: jobs.Spec,
    key: PrivateKey | None = None,
    disk: DiskId | None = None,
) -> JobId:
    """Write a job down and start its process."""
    job = state.add_job(kind, shipment, title, jobs.dump_spec(spec), now(), disk or "")
    start(state, job, key)
    return job


def _refuse_ended(row: JobRow) -> None:
    if row.state is JobState.FINISHED:
        raise BadInputError(
            f"Job {row.id} is finished", safe="Its result stands.", todo="Nothing."
        )
    if row.resolved:
        raise BadInputError(f"Job {row.id} was dropped", todo="Start a new job.")


def _spawned(state: State, job: JobId, claim: int) -> "subprocess.Popen[bytes]":
    """A session of its own; -P and a directory of our own, since a store may hold an
    ``appliance/`` that somebody put there.
    """
    log_file = state.job_file(job, "log")
    with opened(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as out:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "appliance", "job", str(job), "--claim", str(claim)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            pass_fds=(claim,),
            start_new_session=True,
            cwd=state.home,
            env={**os.environ, "MOTIONGEAR_HOME": str(state.home)},
        )


def _secret(key: PrivateKey) -> bytes:
    named = json.dumps([key.recipient.name, key.recipient.role]).encode()
    return key.seed() + named


def _key_from(pipe: int) -> PrivateKey | None:
    data = b""
    while got := os.read(pipe, 4096):
        data += got
    if not data:
        return None
    try:
        name, role = json.loads(data[SEED_SIZE:])
        return PrivateKey(str(name), str(role), data[:SEED_SIZE])
    except (ValueError, TypeError, RecursionError) as exc:
        raise BadInputError("The private key did not come whole from the console") from exc


class _Bus:
    """The Emit of a job process: events become rows, progress one row, at most four times a
    second. What the database refuses is told again later: it may be full, or about to be replaced.
    """

    def __init__(self, state: State, job: JobId) -> None:
        self._state, self._job = state, job
        self._lock = threading.Lock()
        self._told_at = 0.0
        self._held: Progress | None = None
        self._untold: deque[tuple[str, Event]] = deque(maxlen=_MOST_UNTOLD)

    def emit(self, event: Event) -> None:
        if not isinstance(event, Progress):
            self.flush()
            with self._lock:
                self._untold.append((now(), event))
                self._tell_all()
            return
        with self._lock:
            late = time.monotonic() - self._told_at >= _PROGRESS_SECONDS
            self._held = None if late else event
            if late:
                self._told_at = time.monotonic()
        if late:
            self._tell(event)

    def flush(self) -> None:
        """Tell the last progress that was held back."""
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            self._tell(held)

    def _tell_all(self) -> None:
        while self._untold:
            at, event = self._untold[0]
            try:
                self._state.put_event(self._job, at, event)
            except StateError as exc:
                log.warning("job %d cannot tell %s: %s", self._job, event.kind, exc)
                return
            self._untold.popleft()

    def _tell(self, told: Progress) -> None:
        with suppress(StateError):  # progress may be dropped; it never ends the job it is about
            self._state.put_progress(self._job, time.time(), told)
            with self._lock:
                self._tell_all()


def main(home: Path, job: JobId, claim: int | None = None) -> int:
    """The whole life of a job process, by the ``claim`` of whoever started it; returns its exit
    code.
    """
    keep_in_memory()
    faulthandler.enable()  # into its log: whoever looks at a dead job finds there why it crashed
    key = _key_from(sys.stdin.fileno())
    asked = Asked(lambda now_in: _rests(state, bus, job, now_in))
    signal.signal(signal.SIGTERM, lambda *_: asked.stop())
    signal.signal(signal.SIGUSR1, lambda *_: asked.pause())
    signal.signal(signal.SIGUSR2, lambda *_: asked.go_on())
    for one in (signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    with State(home) as state, state.living(job, claim):
        bus = _Bus(state, job)
        desk = jobs.Desk(job, home, state, bus.emit, asked, key, asked)
        try:
            state.begin_job(job)
            jobs.run(state.job(job), desk)
        except StoppedError as exc:
            return _end(state, bus, job, JobState.STOPPED, exc)
        except MotionGearError as exc:
            return _end(state, bus, job, JobState.FAILED, exc)
        except Exception as exc:
            log.exception("job %d", job)
            unexpected = MotionGearError(
                f"An unexpected error ended the job: {exc!r}; its log: "
                f"{state.job_file(job, 'log')}",
                safe="Everything up to the last checkpoint is stored.",
                todo="Report it with the job's log; the job can be resumed.",
            )
            return _end(state, bus, job, JobState.FAILED, unexpected)
        bus.flush()
        _note_end(state, job, JobState.FINISHED)
        return 0


def _rests(state: State, bus: _Bus, job: JobId, now_in: JobState) -> None:
    with suppress(StateError):
        state.pause_job(job, now_in)
    words = "all that was done so far is safe, and the job keeps what it holds"
    bus.emit(Step.said("paused", words) if now_in is JobState.PAUSED else Step("goes on"))


def _end(state: State, bus: _Bus, job: JobId, ended: JobState, exc: MotionGearError) -> int:
    with suppress(StateError):
        row = replace(state.job(job), state=ended, error=exc.name)
        exc.verb = exc.verb or last_words(row).verb
    event = failed(exc)
    bus.emit(event)
    _note_end(state, job, ended, event)
    return exc.code


def _note_end(state: State, job: JobId, ended: JobState, event: Failed | None = None) -> None:
    try:
        state.end_job(job, ended, now(), event)
    except StateError as exc:  # who looks finds the job dead, and this in its log
        last = event.what if event else "all is done"
        log.error(OVER, job, ended, exc, last)  # noqa: TRY400 - to be read, not to be mended


def stop(state: State, job: JobId) -> bool:
    """Ask a running job to stop at its next block; False when it does not run."""
    return _ask(state, job, signal.SIGTERM)


def pause(state: State, job: JobId) -> bool:
    """Ask a running job to rest from its next block on; False when it does not run."""
    return _ask(state, job, signal.SIGUSR1)


def go_on(state: State, job: JobId) -> bool:
    """Ask a job that rests, or is asked to, to go on; False when it does not run."""
    return _ask(state, job, signal.SIGUSR2)


def _ask(state: State, job: JobId, wish: signal.Signals) -> bool:
    """Signal the job's process and no other: its number may be somebody else's by now."""
    while state.lives(job):
        pid = state.process_of(job)
        if not pid:  # it is just being started
            time.sleep(_LOOK_SECONDS)
            continue
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                if state.process_of(job) == pid:  # so it was when the descriptor was had
                    signal.pidfd_send_signal(fd, wish)
                    return True
            finally:
                os.close(fd)
    return False


def follow(state: State, job: JobId, after: int = 0) -> Iterator[EventRow | Progress]:
    """What the job says, from the event behind ``after`` on, until it has ended."""
    told = None
    while True:
        ended = _row(state, job).state in ENDED
        for event in state.events(job, after):
            after = event.id
            yield event
        progress = state.progress(job)
        if progress is not None and progress != told:
            told = progress
            yield progress
        if ended:
            return
        time.sleep(_LOOK_SECONDS)


def _row(state: State, job: JobId) -> JobRow:
    """The job's row; where the database was lost, once the job has written itself down anew."""
    while True:
        try:
            return state.job(job)
        except UnknownNameError:
            if not state.lives(job):
                raise
            time.sleep(_LOOK_SECONDS)


def follow_living(state: State) -> Iterator[tuple[JobRow, EventRow | Progress | None]]:
    """What all living jobs say from now on, also those that are begun meanwhile, until none is
    left. None: the job has ended, as its row says.
    """
    after = state.last_event()
    told: dict[JobId, Progress | None] = {}
    while True:
        rows = {one.id: one for one in state.jobs()}
        told |= {
            one.id: None for one in rows.values() if one.state in LIVING and one.id not in told
        }
        events = state.events(None, after)
        if any(one.job not in rows for one in events):  # begun since we looked
            rows = {one.id: one for one in state.jobs()} | rows
        for event in events:
            after = event.id
            if event.job in rows:
                told.setdefault(event.job, None)
                yield rows[event.job], event
        for row in [rows[one] for one in told if one in rows]:
            progress = state.progress(row.id)
            if progress is not None and progress != told[row.id]:
                told[row.id] = progress
                yield row, progress
            if row.state in ENDED:
                del told[row.id]
                yield row, None
        if not told:
            return
        time.sleep(_LOOK_SECONDS)


def error_of(row: JobRow) -> MotionGearError | None:
    """The error a job ended with, as it was raised in the job's process, and what to type now."""
    if not row.error:
        return None
    classes = {one.name: one for one in all_errors()}
    error = classes.get(row.error, MotionGearError)(row.what, safe=safe(row), todo=row.todo)
    error.verb = last_words(row).verb
    return error


def results(state: State, job: JobId) -> dict[str, list[dict[str, Json]]]:
    """The figures of each step's results, in order."""
    found: dict[str, list[dict[str, Json]]] = {}
    for event in state.events(job):
        if event.kind == "result":
            figures = cast("dict[str, Json]", event.body["figures"])
            found.setdefault(str(event.body["step"]), []).append(figures)
    return found
