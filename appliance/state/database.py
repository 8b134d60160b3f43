"""The database file and its ballast: opened once at a time, changed whole or not at all, with room
even on a full disk.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database

from appliance.block import free_space, opened, reserve
from appliance.errors import StateError
from appliance.language import marked
from appliance.state import schema

FILE = "state.db"
BALLAST = "state.ballast"
BALLAST_SIZE = 8 << 20
_File = tuple[int, int]
_WAIT_SECONDS = 30.0
_TAKEN_SECONDS = 0.5  # whoever takes the database away takes its log too, one after the other
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})

_LEAST_SPACE = 1 << 20  # where less is left, SQLite's refusals are for want of it
_DAMAGED = marked(
    "It is damaged: move state.db away. History is lost, no data; jobs that run go on and write "
    "themselves down anew."
)
_IF_DAMAGED = marked(
    "If it is damaged, move state.db away: history is lost, no data; jobs that run go on and "
    "write themselves down anew."
)
_NO_ROOM = marked("The disk of the state directory is full: free space on it, 20 MB are ample.")

T = TypeVar("T")


class Tables:
    """The database under ``home``, opened. May be used by several threads."""

    def __init__(self, home: Path, renewed: Callable[[], None] = lambda: None) -> None:
        """``renewed`` is called when the file was taken away meanwhile and a new one made."""
        self._home, self._renewed = home, renewed
        self._lock = threading.RLock()
        self._file: _File | None = None  # once closed
        self._open()

    def _open(self) -> None:
        path = self._home / FILE
        try:
            with self._excluded():
                self._db, self._file = self._given_room(lambda: _not_taken(path))
                self._keep_ballast()
            self.empty_log()
        except (OSError, sqlite3.Error) as exc:
            raise StateError(
                f"The state database {path} cannot be used ({exc})",
                todo=_todo(exc, self._home) or _IF_DAMAGED,
            ) from exc

    def close(self) -> None:
        self.empty_log()
        self._file = None
        self._db.close()

    def _look(self) -> None:
        """Somebody may have moved a damaged database away: what is told must reach the new one."""
        if self._file in {None, _file(self._home / FILE)}:
            return
        with suppress(sqlite3.Error):
            self._db.close()
        time.sleep(_TAKEN_SECONDS)
        self._open()
        self._renewed()

    def empty_log(self) -> None:
        """What was deleted goes from the write-ahead log as well.

        Not while somebody is reading, nor on a full disk: so opening and closing try it again.
        """
        with self._lock, suppress(sqlite3.Error):
            self._db.execute("pragma busy_timeout = 0")
            self._db.execute("pragma wal_checkpoint(truncate)")
            self._db.execute(f"pragma busy_timeout = {_WAIT_SECONDS * 1000:.0f}")

    def copy(self, path: Path) -> None:
        """All of it as it stands now, as a new database."""
        with self._said(), self._lock, closing(sqlite3.connect(path)) as target:
            self._look()
            self._db.conn.backup(target)

    def read(self, sql: str, args: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._said(), self._lock:
            self._look()
            return self._db.execute(sql, args).fetchall()

    def write(self, sql: str, args: tuple[object, ...]) -> int:
        return self.write_all((sql, args))

    def write_all(self, *changes: tuple[str, tuple[object, ...]]) -> int:
        """All changes or none; returns the row id of the last."""

        def change() -> int:
            last = 0
            with self._db.atomic():
                for sql, args in changes:
                    last = self._db.execute(sql, tuple(map(_storable, args))).lastrowid or 0
            return last

        with self._said(), self._lock:
            self._look()
            return self._given_room(change)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise StateError(
                f"The state database {self._home / FILE} refuses ({exc})",
                todo=_todo(exc, self._home),
            ) from exc
        except OSError as exc:
            raise StateError(f"The state database cannot be reached ({exc.strerror})") from exc

    def _given_room(self, action: Callable[[], T]) -> T:
        """Where the disk is full, the ballast is given up and the action done once more."""
        try:
            return action()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode not in _FULL or not self._drop_ballast():
                raise
        return action()

    @contextmanager
    def _excluded(self) -> Iterator[None]:
        """One process at a time opens the database: it may have to make or change the tables."""
        with opened(self._home / "state.lock", os.O_RDWR | os.O_CREAT) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield

    def _keep_ballast(self) -> None:
        """Taken while there is ample room, and not again as soon as it was given up."""
        path = self._home / BALLAST
        if not path.exists() and free_space(self._home) > 2 * BALLAST_SIZE:
            try:
                with opened(path, os.O_RDWR | os.O_CREAT) as fd:
                    reserve(fd, BALLAST_SIZE)
            except OSError:
                path.unlink(missing_ok=True)

    def _drop_ballast(self) -> bool:
        path = self._home / BALLAST
        if not path.exists():
            return False
        path.unlink()
        return True


def _todo(exc: OSError | sqlite3.Error, home: Path) -> str | None:
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _DAMAGED
    if code == sqlite3.SQLITE_FULL or free_space(home) < _LEAST_SPACE:
        return _NO_ROOM
    return None


def _file(path: Path) -> _File | None:
    """What tells the file from another under its name."""
    with suppress(FileNotFoundError):
        return _told_apart(path.stat())
    return None


def _told_apart(found: os.stat_result) -> _File:
    return found.st_dev, found.st_ino


def _not_taken(path: Path) -> tuple[Database, _File]:
    """The database, opened, and its file; once more where it was taken away just now."""
    try:
        return _connected(path)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_IOERR or exc.sqlite_errorcode in _FULL:
            raise
    time.sleep(_TAKEN_SECONDS)
    return _connected(path)


def _connected(path: Path) -> tuple[Database, _File]:
    if not path.exists():  # its log would be taken for that of the new one
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    # Made with the rights that SQLite gives its other files too, and known from before SQLite
    # opens it: where another has its name by then, or none, that is seen on the first use. One
    # that stands is not opened: to close it again would end the locks of this whole process, and
    # whoever comes last then takes the log away from under it.
    with suppress(FileExistsError), opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL):
        pass
    file = _told_apart(path.stat())
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False)
    try:
        db = Database(connection)
        _refuse_newer(path, db)
        db.enable_wal()
        connection.execute("pragma secure_delete = on")
        connection.execute("pragma synchronous = full")
        schema.migrations.apply(db)
    except BaseException:
        connection.close()
        raise
    return db, file


def _refuse_newer(path: Path, db: Database) -> None:
    if unknown := schema.strange(schema.applied(db)):
        raise StateError(
            f"The state database {path} was used by a later release (step {unknown[0]!r} of its "
            "schema)",
            todo="Use that release again, or a later one.",
        )


def _storable(found: object) -> object:
    """Foreign text may hold half a character, which SQLite refuses."""
    return found.encode(errors="backslashreplace").decode() if isinstance(found, str) else found
