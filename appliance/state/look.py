"""The state database for whoever may change nothing, however damaged or new it is.

Read from a copy: SQLite makes files beside a database with a write-ahead log, mends them and
changes them, whoever opens it; told that the file is immutable it does not, but then it passes
over the log, where what was written last stands. The copy lies in memory where there is room.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlite_utils import Database

from appliance.block import free_space, opened, peek, pwrite_full
from appliance.errors import StateError
from appliance.state import schema
from appliance.state.database import BALLAST, FILE
from appliance.state.state import State

# Only a directory of our own below it is used.
_MEMORY = Path("/dev/shm")  # noqa: S108 # nosec B108
_LOG = f"{FILE}-wal"
_LOG_HEAD = 32  # bytes: another as soon as the log begins anew
_TRIES, _PAUSE_SECONDS = 20, 0.05
_PIECE = 1 << 24


class Standing(StrEnum):
    MISSING = "missing"
    READ = "read"
    DAMAGED = "damaged"
    NEWER = "newer"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Seen:
    """``why`` says what refuses; ``applied`` are the steps of the schema that it has, ``rows`` how
    many rows its tables have. ``state`` is there when it was read: what is written to it is lost.
    """

    standing: Standing
    why: str = ""
    applied: tuple[str, ...] = ()
    rows: tuple[tuple[str, int], ...] = ()
    state: State | None = None


@contextmanager
def seen(home: Path, mine: State | None = None) -> Iterator[Seen]:
    """The database of a state directory; it is not touched, nor is anything made beside it.

    ``mine``: the same, where this process has it opened. Its file must not be read then: to close
    it would end the locks of the whole process.
    """
    if not os.path.lexists(home / FILE):
        yield Seen(Standing.MISSING)
        return
    found = Seen(Standing.UNREADABLE)
    with ExitStack() as stack:
        try:
            place = Path(stack.enter_context(TemporaryDirectory(dir=_room(home))))
            found = _looked(home, place) if mine is None else _copied(mine, place)
            if found.standing is Standing.READ:
                found = replace(found, state=stack.enter_context(_state(home, place)))
        except OSError as exc:
            found = Seen(Standing.UNREADABLE, exc.strerror or str(exc))
        except StateError as exc:
            found = Seen(Standing.DAMAGED, str(exc.__cause__ or exc), found.applied)
        except ValueError as exc:
            found = Seen(Standing.DAMAGED, str(exc), found.applied)
        yield found


def _state(home: Path, place: Path) -> State:
    """The copy, opened; its rows are what this release writes, else ValueError."""
    (place / BALLAST).touch()  # a copy keeps no space for itself
    state = State(home, place)
    try:
        state.jobs()
        state.shipments()
    except BaseException:
        state.close()
        raise
    return state


def _room(home: Path) -> Path | None:
    """Where a copy may lie; None: where the system keeps such things."""
    with suppress(OSError):
        size = sum((home / one).stat().st_size for one in (FILE, _LOG) if (home / one).exists())
        if os.access(_MEMORY, os.W_OK) and free_space(_MEMORY) > 2 * size + (1 << 20):
            return _MEMORY
    return None


def _looked(home: Path, place: Path) -> Seen:
    """A copy that fits together: whoever writes meanwhile makes it necessary to copy again."""
    for _ in range(_TRIES):
        before = _mark(home)
        for one in (FILE, _LOG):
            _copy(home / one, place / one)
        if _mark(home) == before:
            return _judged(place)
        time.sleep(_PAUSE_SECONDS)
    return Seen(Standing.UNREADABLE, "it is written to all the time")


def _copied(mine: State, place: Path) -> Seen:
    mine.copy(place / FILE)
    return _judged(place)


def _mark(home: Path) -> tuple[object, ...]:
    """What is another as soon as pages were moved from the log into the database, or the log
    began anew; what is only appended to the log does not matter.
    """
    found = (home / FILE).stat()
    head = b""
    with suppress(FileNotFoundError), opened(home / _LOG, os.O_RDONLY) as fd:
        head = peek(fd, _LOG_HEAD, 0)
    return found.st_ino, found.st_size, found.st_mtime_ns, head


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with (
        suppress(FileNotFoundError),
        opened(source, os.O_RDONLY | os.O_NONBLOCK) as fd,
        opened(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as out,
    ):
        at = 0
        while got := os.pread(fd, _PIECE, at):
            pwrite_full(out, at, got)
            at += len(got)


def _judged(place: Path) -> Seen:
    try:
        with closing(sqlite3.connect(place / FILE)) as connection:
            ((said,),) = connection.execute("pragma quick_check(1)").fetchall()
            db = Database(connection)
            applied = schema.applied(db)
            rows = tuple(sorted((one.name, one.count) for one in db.tables))
    except sqlite3.Error as exc:
        return Seen(Standing.DAMAGED, str(exc))
    if said != "ok":
        return Seen(Standing.DAMAGED, str(said))
    if not rows:  # somebody has emptied it
        return Seen(Standing.MISSING)
    if unknown := schema.strange(applied):
        return Seen(Standing.NEWER, f"step {unknown[0]!r} of its schema", applied, rows)
    return Seen(Standing.READ, applied=applied, rows=rows)
