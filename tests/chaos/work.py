"""Verbs at work: real commands and the processes of their jobs, which can be killed at any moment
of their lives.
"""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.errors import JobDiedError, all_errors
from appliance.model import JobId
from appliance.state import ENDED, LIVING, JobRow, JobState, State
from tests.chaos.world import LostError, need
from tests.technician import PASSPHRASE, Said, Shell, until

_LOOK_SECONDS = 0.002
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Death:
    """Where a job was when it was killed: the step it was at, how far, and seconds since it
    ran.
    """

    job: JobId
    kind: str
    step: str
    done: int
    total: int
    at: float


@dataclass
class Work:
    """A verb that was typed at a shell. ``job`` is known once it was written down; ``after`` is
    the last event of any job before it.
    """

    shell: Shell
    args: tuple[object, ...]
    child: "subprocess.Popen[str]"
    after: int
    job: JobId
    said: Said | None = None
    codes: tuple[int, ...] = (0,)  # by which it may end
    deaths: list[Death] = field(default_factory=list)

    def wait(self) -> Said:
        """Until the command has ended: its words are clean."""
        if self.said is None:
            try:
                out, err = self.child.communicate(timeout=_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired as exc:
                self.child.kill()
                out, err = self.child.communicate()
                told = f"{self.args} never ended: {out[-2000:]}{err[-2000:]}"
                raise LostError(told) from exc
            self.said = Said(self.child.returncode, out, err)
            refuse_raw(self.said)
        return self.said

    def fine(self) -> Said:
        said = self.wait()
        need(said.code in self.codes, f"{self.args} ended with {said}")
        return said

    def events(self, kind: str, after: int | None = None) -> list[dict[str, Any]]:
        since = self.after if after is None else after
        with self.shell.state() as opened:
            return [one.body for one in opened.events(self.job, since) if one.kind == kind]

    def results(self, step: str) -> list[dict[str, Any]]:
        return [one["figures"] for one in self.events("result") if one["step"] == step]

    def row(self) -> JobRow:
        return self.shell.job(self.job)

    # --- killed ---

    def kill(self, seconds: float, *, of_start: bool = False) -> Death | None:
        """SIGKILL so many seconds after the job began to run (``of_start``: after its process came
        up); None when it had ended by then.
        """
        began = self.reach(seconds, of_start=of_start)
        return None if began is None else self.strike(began)

    def reach(self, seconds: float, *, of_start: bool = False) -> float | None:
        """Wait until then. When the job began, by the monotonic clock; None when it has ended."""
        with self.shell.state() as opened:
            began = _came_up(opened, self.job, started=not of_start)
            if began is not None:
                time.sleep(max(0.0, began + seconds - time.monotonic()))
            return began if opened.process_of(self.job) else None

    def strike(self, began: float) -> Death | None:
        """Kill the job now."""
        with self.shell.state() as opened:
            pid = opened.process_of(self.job)
            if not pid:
                return None
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            at = time.monotonic() - began
            until(lambda: not opened.lives(self.job))
            death = _death(opened, self.job, at)
        if death is not None:
            self.deaths.append(death)
        return death

    def length(self) -> float:
        """Seconds from when the job began to run until it has ended."""
        with self.shell.state() as opened:
            began = _came_up(opened, self.job, started=True)
            if began is None:
                return 0.0
            _look_until(lambda: not opened.lives(self.job))
            return time.monotonic() - began


def _look_until(true: Any) -> None:  # noqa: ANN401 - any condition
    end = time.monotonic() + _PATIENCE_SECONDS
    while not true():
        need(time.monotonic() < end, "it never came to be")
        time.sleep(_LOOK_SECONDS)


def _came_up(opened: State, job: JobId, *, started: bool) -> float | None:
    """When the job's process is seen to have come up, or to run; None where it is over
    already.
    """
    _look_until(lambda: opened.job(job).state in ENDED or opened.process_of(job))
    if started:
        _look_until(lambda: opened.job(job).state is not JobState.QUEUED)
    return None if opened.job(job).state in ENDED else time.monotonic()


def _death(opened: State, job: JobId, at: float) -> Death | None:
    row = opened.job(job)
    if row.state is not JobState.DIED:
        need(row.state in ENDED, f"job {job} was killed and is {row.state}")
        return None
    steps = [one.body["step"] for one in opened.events(job) if one.kind == "step"]
    told = opened.progress(job)
    step = str(steps[-1]) if steps else told.step if told is not None else "start"
    done, total = (told.done, told.total) if told is not None else (0, 0)
    return Death(job, row.kind, step, done, total, at)


def begin(shell: Shell, *args: object, secret: bool = False, job: JobId | None = None) -> Work:
    """Type a verb that starts a job, or starts ``job`` anew."""
    with shell.state() as opened:
        after = opened.last_event()
        known = {one.id: one.run for one in opened.jobs()}
        child = shell.popen(*args, "--json", passphrase=PASSPHRASE if secret else None)

        def found() -> list[JobId]:
            rows = opened.jobs()
            if job is not None:
                return [one.id for one in rows if one.id == job and one.run > known[job]]
            return [one.id for one in rows if one.id not in known]

        with suppress(LostError):
            _look_until(lambda: found() or child.poll() is not None)
        if not found():
            out, err = child.communicate(timeout=_PATIENCE_SECONDS)
            said = Said(child.returncode, out, err)
            refuse_raw(said)
            return Work(shell, args, child, after, job or JobId(0), said)
        return Work(shell, args, child, after, found()[-1])


def listed(shell: Shell) -> list[dict[str, Any]]:
    """What `jobs list` shows."""
    said = shell.typed("jobs", "list", "--json").fine()
    return [json.loads(one) for one in said.out.splitlines()]


def none_is_stale(shell: Shell) -> None:
    """No job is called living that has no process."""
    with shell.state() as opened:
        for one in listed(shell):
            if JobState(one["state"]) in LIVING:
                need(opened.lives(JobId(one["job"])), f"job {one['job']} is called {one['state']}")


def looks_dead(work: Work) -> dict[str, Any]:
    """A job that was killed is seen as dead by who lists and by who stayed with it, and both say
    why, what is safe, and what to do.
    """
    (shown,) = [one for one in listed(work.shell) if one["job"] == work.job]
    need(shown["state"] == "died", f"a killed job is {shown['state']}")
    why = ("killed by a signal", "never came up")  # where it was killed before it could say a word
    need(any(one in shown["what"] for one in why), f"why it died: {shown}")
    need(shown["safe"] and shown["todo"] and shown["verb"], f"last words: {shown}")
    said = work.wait()
    need(said.code == JobDiedError.code, f"who stayed with it ended with {said}")
    failed = [one for one in said.lines if one["event"] == "failed"]
    need(failed and failed[-1]["verb"] == shown["verb"], f"who stayed with it was told {said}")
    none_is_stale(work.shell)
    return shown


def refused_well(work: Work) -> str:
    """The name of the error that ended a verb: one of the documented ones, in words."""
    said = work.wait()
    failed = [one for one in said.lines if one["event"] == "failed"]
    need(said.code and failed, f"{work.args} ended with {said}")
    codes = {one.name: one.code for one in all_errors()}
    last = failed[-1]
    need(codes.get(last["error"]) == said.code, f"an unknown error: {said}")
    need(last["what"] and last["safe"] and last["todo"], f"no words: {said}")
    none_is_stale(work.shell)
    return str(last["error"])


def resume(work: Work, key: Path) -> Work:
    """Type what the job's last words say is to be typed."""
    (shown,) = [one for one in listed(work.shell) if one["job"] == work.job]
    words = shlex.split(shown["verb"])
    need(words[:3] == ["motiongear", "jobs", "resume"], f"to be typed: {shown}")
    named = {"FILE": str(key), "DISK": json.loads(work.row().spec).get("source", "")}
    args = [named.get(one, one) for one in words[1:]]
    return begin(work.shell, *args, secret="--key" in args, job=work.job)


def refuse_raw(said: Said) -> None:
    for one in ("Traceback (most recent", "An unexpected error"):
        need(one not in said.out + said.err, f"raw words: {said.out[-1500:]}{said.err[-3000:]}")


def logs_are_clean(shells: Sequence[Shell]) -> None:
    """Nothing was ended by an error that nobody has thought of."""
    for shell in shells:
        for one in (shell.home / "jobs").glob("*.log"):
            said = one.read_text(errors="replace")
            need("Traceback" not in said, f"{one}: {said}")
