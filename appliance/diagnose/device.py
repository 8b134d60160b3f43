"""What is wrong with this device: its state directory, its space, its clock, its machine."""

import stat
from collections.abc import Iterator
from pathlib import Path

from appliance.block import clock_is_kept, free_space
from appliance.diagnose.findings import Finding, Kind
from appliance.seal.canon import now
from appliance.state import FILE
from appliance.state.look import Seen, Standing

_NONE, _SHORT = 64 << 20, 1 << 30  # bytes: less stops jobs, less stops them soon


def findings(home: Path, seen: Seen) -> Iterator[Finding]:
    """``seen`` is the state database of ``home``."""
    yield from _home(home, seen)
    yield Finding(Kind.CLOCK) if clock_is_kept() else Finding(Kind.CLOCK_FREE, {"now": now()})


def _home(home: Path, seen: Seen) -> Iterator[Finding]:
    about = {"path": str(home)}
    try:
        found = home.stat()
        next(home.iterdir(), None)
    except FileNotFoundError:
        yield Finding(Kind.HOME_NONE, about)
        return
    except OSError as exc:
        yield Finding(Kind.HOME_CLOSED, {**about, "why": exc.strerror or ""})
        return
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield Finding(Kind.HOME_OPEN, about)
    yield space(home)
    yield from _database(home, seen)


def space(path: Path) -> Finding:
    """How much room there is at ``path``; raises OSError."""
    left = free_space(path)
    kind = Kind.SPACE_NONE if left < _NONE else Kind.SPACE_SHORT if left < _SHORT else Kind.SPACE
    return Finding(kind, {"path": str(path), "size": written(left)})


def written(size: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


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
