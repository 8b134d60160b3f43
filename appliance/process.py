"""Jobs as processes: started, followed and stopped through the state database, alive without their
console.

A job holds a lock on ``<home>/jobs/<id>.lock`` for as long as it lives: who can take that lock
knows that it is dead. A private key reaches it through its standard input, never through argv,
environment or a file.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

from appliance import jobs
from appliance.block import keep_in_memory, opened
from appliance.errors import (
    JobRunningError,
    MotionGearError,
    StateError,
    StoppedError,
    ToolFailedError,
    all_errors,
)
from appliance.events import Event, Failed, Json, Progress
from appliance.model import JobId
from appliance.seal.canon import now
from appliance.seal.keys import SEED_SIZE, PrivateKey
from appliance.state import ENDED, EventRow, JobRow, JobState, State

_PROGRESS_SECONDS = 0.25
_LOOK_SECONDS = 0.1
log = logging.getLogger("motiongear")


def start(state: State, job: JobId, key: PrivateKey | None = None) -> None:
    """Start the job's process, with ``key`` going through its standard input."""
    if state.process_of(job):
        raise JobRunningError(f"Job {job} runs already")
    state.queue_job(job, now())
    try:
        child = _spawned(state, job)
    except OSError as exc:
        error = ToolFailedError(
            f"The process of job {job} cannot be started ({exc.strerror})",
            safe="Nothing was changed.",
            todo=f"Make room in memory and on the disk of {state.home}; then resume the job.",
        )
        state.end_job(job, JobState.FAILED, now(), failed(error))
        raise error from exc
    with suppress(BrokenPipeError), child.stdin as pipe:  # type: ignore[union-attr]
        if key is not None:
            pipe.write(_secret(key))
    threading.Thread(target=child.wait, daemon=True).start()


def _spawned(state: State, job: JobId) -> "subprocess.Popen[bytes]":
    """A session of its own; -P and a directory of our own, since a store may hold an
    ``appliance/`` that somebody put there.
    """
    log_file = state.job_file(job, "log")
    with opened(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as out:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "appliance", "job", str(job)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
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
    name, role = json.loads(data[SEED_SIZE:])
    return PrivateKey(name, role, data[:SEED_SIZE])


class _Bus:
    """The Emit of a job process: events become rows, progress one row, at most four times a
    second.
    """

    def __init__(self, state: State, job: JobId) -> None:
        self._state, self._job = state, job
        self._lock = threading.Lock()
        self._told_at = 0.0
        self._held: Progress | None = None

    def emit(self, event: Event) -> None:
        if not isinstance(event, Progress):
            self.flush()
            self._state.put_event(self._job, now(), event)
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

    def _tell(self, told: Progress) -> None:
        with suppress(StateError):  # progress may be dropped; it never ends the job it is about
            self._state.put_progress(self._job, time.time(), told)


def main(home: Path, job: JobId) -> int:
    """The whole life of a job process; returns its exit code."""
    keep_in_memory()
    key = _key_from(sys.stdin.fileno())
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with State(home) as state, state.living(job):
        bus = _Bus(state, job)
        desk = jobs.Desk(job, home, state, bus.emit, asked.is_set, key)
        state.begin_job(job)
        try:
            jobs.run(state.job(job), desk)
        except StoppedError as exc:
            return _end(state, bus, job, JobState.STOPPED, exc)
        except MotionGearError as exc:
            return _end(state, bus, job, JobState.FAILED, exc)
        except Exception as exc:
            log.exception("job %d", job)
            unexpected = MotionGearError(
                f"An unexpected error ended the job: {exc!r}",
                safe="Everything up to the last checkpoint is stored.",
                todo=f"Report it with {state.job_file(job, 'log')}; the job can be resumed.",
            )
            return _end(state, bus, job, JobState.FAILED, unexpected)
        bus.flush()
        state.end_job(job, JobState.FINISHED, now())
        return 0


def failed(exc: MotionGearError) -> Failed:
    return Failed(exc.name, exc.code, exc.what, exc.safe_now, exc.todo_now)


def _end(state: State, bus: _Bus, job: JobId, ended: JobState, exc: MotionGearError) -> int:
    event = failed(exc)
    with suppress(StateError):
        bus.emit(event)
    state.end_job(job, ended, now(), event)
    return exc.code


def stop(state: State, job: JobId) -> bool:
    """Ask a running job to stop at its next block; False when it does not run."""
    pid = state.process_of(job)
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return bool(pid)


def follow(state: State, job: JobId, after: int = 0) -> Iterator[EventRow | Progress]:
    """What the job says, from the event behind ``after`` on, until it has ended."""
    told = None
    while True:
        ended = state.job(job).state in ENDED
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


def error_of(row: JobRow) -> MotionGearError | None:
    """The error a job ended with, as it was raised in the job's process."""
    if not row.error:
        return None
    classes = {one.name: one for one in all_errors()}
    return classes.get(row.error, MotionGearError)(row.what, safe=row.safe, todo=row.todo)


def results(state: State, job: JobId) -> dict[str, list[dict[str, Json]]]:
    """The figures of each step's results, in order."""
    found: dict[str, list[dict[str, Json]]] = {}
    for event in state.events(job):
        if event.kind == "result":
            figures = cast("dict[str, Json]", event.body["figures"])
            found.setdefault(str(event.body["step"]), []).append(figures)
    return found
