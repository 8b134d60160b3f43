"""Which jobs live: a job's process holds a lock for as long as it does, whatever the database
says. Whoever starts the process takes the lock and hands it on, so that of two who start one job
at once exactly one does.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from appliance.block import opened
from appliance.errors import StateError

_LOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, process
assert _LOCK.size == 32
_STARTING = 1  # the length of a lock whose job has no process yet; no job is process 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _lock(length: int = 0) -> bytes:
    """A job's lock is as long as its process id is high, so that both are there at once; 0: a
    lock on everything.
    """
    return _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, length, 0)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """The lock's file; raises FileNotFoundError, and StateError where the disk fails."""
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(opened(path, flags))
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise StateError(f"The lock {path} cannot be opened ({exc.strerror})") from exc
        yield fd


@contextmanager
def claimed(path: Path) -> Iterator[int]:
    """Hold the lock for a process that is still to be started, which inherits the descriptor and
    holds it on; raises BlockingIOError when somebody else does.
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as fd:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(_STARTING))
        yield fd


@contextmanager
def held(path: Path, inherited: int | None = None) -> Iterator[None]:
    """Hold the lock, which may have been taken for this process: then by the descriptor it has
    ``inherited``. Raises BlockingIOError when another process does.
    """
    if inherited is None:
        with _opened(path, os.O_RDWR | os.O_CREAT) as fd:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(os.getpid()))
            yield
        return
    fcntl.fcntl(inherited, fcntl.F_SETFD, fcntl.FD_CLOEXEC)  # no child of a job is the job
    try:
        fcntl.fcntl(inherited, fcntl.F_OFD_SETLK, _lock(os.getpid()))
        yield
    finally:
        os.close(inherited)


def holder(path: Path) -> int | None:
    """The id of the process that holds the lock, 0 while it is being started, None where nobody
    does. Only looks: takes no lock itself.
    """
    with suppress(FileNotFoundError), _opened(path, os.O_RDONLY) as fd:
        kind, _, _, length, _ = _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock()))
        if kind != fcntl.F_UNLCK:
            return 0 if length == _STARTING else int(length)
    return None


def boot() -> str:
    """What is never the same again once the machine was started anew."""
    return _BOOT_ID.read_text().strip()


def uptime() -> float:
    """Seconds since the machine was started, also those it slept; no clock change touches them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def awake() -> float:
    """As ``uptime``, without the seconds the machine slept: the clock of the kernel's log."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
