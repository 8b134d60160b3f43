"""What is wrong with this device: its state directory, its jobs and stores, and its machine."""

import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from appliance.diagnose import jobs, locks, machine, space
from appliance.diagnose.findings import Finding
from appliance.diagnose.kinds import Kind
from appliance.state import BALLAST, FILE, LIVING, JobState, State
from appliance.state.look import Seen, Standing

_LOOPS = Path("/sys/block")
_GONE = " (deleted)"


def findings(home: Path, seen: Seen) -> Iterator[Finding]:
    """``seen`` is the state database of ``home``."""
    yield from state_of(home, seen)
    if seen.state is not None:
        yield from jobs.findings(seen.state)
        yield from _stores(seen.state)
        yield from _loops(seen.state)
    yield from machine.findings()


def state_of(home: Path, seen: Seen) -> Iterator[Finding]:
    """Of the state directory itself, and its database."""
    about = {"path": str(home)}
    try:
        found = home.stat()
        inside = sorted(home.iterdir())
    except FileNotFoundError:
        yield Finding(Kind.HOME_NONE, about)
        return
    except OSError as exc:
        yield Finding(Kind.HOME_CLOSED, {**about, "why": exc.strerror or ""})
        return
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield Finding(Kind.HOME_OPEN, about)
    yield space.left(home)
    yield from _database(home, seen)
    for one in locks.holders([*inside, *home.glob("*/lock"), *home.glob("custody/*/lock")]):
        yield Finding(Kind.LOCK, {"path": str(one.path), "pid": str(one.pid), "name": one.name})


_DATABASE = {
    Standing.DAMAGED: Kind.DATABASE_DAMAGED,
    Standing.NEWER: Kind.DATABASE_NEWER,
    Standing.UNREADABLE: Kind.DATABASE_UNREAD,
}


def _database(home: Path, seen: Seen) -> Iterator[Finding]:
    about = {"path": str(home / FILE), "why": seen.why}
    if seen.standing is Standing.READ:
        yield Finding(Kind.DATABASE, {"count": str(len(seen.applied))})
    elif seen.standing is not Standing.MISSING:
        yield Finding(_DATABASE[seen.standing], about)
    elif any((home / "jobs").glob("*.lock")):
        yield Finding(Kind.DATABASE_MISSING, about)
    if seen.standing is not Standing.MISSING and not (home / BALLAST).exists():
        yield Finding(Kind.BALLAST_GONE, {"path": str(home)})


def _stores(state: State) -> Iterator[Finding]:
    """Room in those that are still being filled."""
    for row in state.shipments():
        if row.root:
            continue
        try:
            yield space.left(row.path)
        except OSError:
            yield Finding(Kind.STORE_GONE, {"label": row.label, "path": str(row.path)})


def _loops(state: State) -> Iterator[Finding]:
    """Loop devices over volumes of jobs that have broken off, and over files that are gone."""
    over = list(_attached())
    rows = state.jobs() if over else []
    for place in {jobs.asked(row, "place") for row in rows} - {""}:
        here = [row for row in rows if jobs.asked(row, "place") == place]
        used = any(row.state in LIVING for row in here)
        broken = here[-1].state in {JobState.DIED, JobState.FAILED}
        for node, path in over:
            left = not used and (broken or path.endswith(_GONE))
            if left and Path(place) in Path(path).parents:
                yield Finding(Kind.LOOP_LEFT, {"node": node, "path": path})


def _attached() -> Iterator[tuple[str, str]]:
    """Loop devices and the files they are attached to."""
    for one in sorted(_LOOPS.glob("loop*/loop/backing_file")):
        with suppress(OSError):
            yield f"/dev/{one.parents[1].name}", one.read_text().removesuffix("\n")
