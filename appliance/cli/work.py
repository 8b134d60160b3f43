"""Starting a job from the command line and staying with it until it ends, or leaving it alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from appliance import config, process
from appliance.cli import show
from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.language import chosen, translator
from appliance.model import JobId
from appliance.state import EventRow, JobState, State


@contextmanager
def state() -> Iterator[State]:
    """The state database of this user or device."""
    with State(config.ensure_home()) as opened:
        yield opened


def watch(opened: State, job: JobId, *, as_lines: bool, after: int = 0, name: str = "") -> None:
    """Show the job, by a name where there are several, until it ends; raises the error it ended
    with.
    """
    follower = show.Follower(as_lines=as_lines, name=name)
    try:
        for told in process.follow(opened, job, after):
            follower.take(told)
    finally:
        follower.clear()
    row = opened.job(job)
    error = process.error_of(row)
    if error is not None and row.state is not JobState.FINISHED:
        raise error


def stay(opened: State, job: JobId, *, as_lines: bool, after: int = 0) -> None:
    """Watch the job; Ctrl-C leaves it running."""
    try:
        watch(opened, job, as_lines=as_lines, after=after)
    except KeyboardInterrupt:
        _ = translator(chosen())
        see, stop = (f"motiongear jobs {verb} {job}" for verb in ("follow", "stop"))
        show.line(_("Job {job} goes on without this console.").format(job=job), err=True)
        show.line(_("See it: {see}; stop it: {stop}").format(see=see, stop=stop), err=True)
        sys.exit(130)


def figures(opened: State, job: JobId, step: str) -> dict[str, Json]:
    """The last result of a step; raises when the job ended without one."""
    found = process.results(opened, job).get(step)
    if not found:
        raise MotionGearError(f"Job {job} ended without saying what came of it")
    return found[-1]


def results_of(opened: State, job: JobId, step: str) -> list[dict[str, Json]]:
    return process.results(opened, job).get(step, [])


def last_event(events: list[EventRow]) -> int:
    return events[-1].id if events else 0
