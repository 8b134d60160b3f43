"""Which jobs live: a job's process holds a lock for as long as it does, whatever the database
says.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.block import opened

_LOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, process
assert _LOCK.size == 32


def _lock(length: int = 0) -> bytes:
    """A job's lock is as long as its process id is high, so that both are there at once; 0: a
    lock on everything.
    """
    return _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, length, 0)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock; raises BlockingIOError when another process does."""
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(os.getpid()))
        yield


def holder(path: Path) -> int:
    """The id of the process that holds the lock, else 0. Only looks: takes no lock itself."""
    with suppress(FileNotFoundError), opened(path, os.O_RDWR) as fd:
        kind, _, _, length, _ = _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock()))
        return 0 if kind == fcntl.F_UNLCK else int(length)
    return 0
