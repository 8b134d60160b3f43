"""The watchdog of a freeze, which outlives the process that made it.

A program of its own (``python -m appliance.ingest.watchdog SECONDS DESCRIPTOR...``), started
before the first file system is frozen. It has the descriptors of all of them, its memory locked,
and writes no file. It thaws them when the process that started it is gone, after SECONDS, and when
it is asked to end, and says so.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from appliance.block import fd_ready, keep_in_memory
from appliance.errors import FreezeRefusedError

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
_READY, _GO, _DISMISSED, _THAWING = b"r", b"g", b"d", b"t"
_AGAIN_SECONDS = 1.0


class Watchdog:
    """The watchdog, seen from the process that freezes. Without ``dismiss`` it thaws at the
    end.
    """

    def __init__(self, orders: int, told: int) -> None:
        self._orders, self._told = orders, told
        self._thawed, self._alone = False, threading.Lock()

    @property
    def thawed(self) -> bool:
        """Whether it has said that it thaws. One that was killed neither says so nor does it."""
        with self._alone:
            if not self._thawed and fd_ready(self._told, 0):
                self._thawed = os.read(self._told, 1) == _THAWING
            return self._thawed

    def go(self) -> None:
        """From now on the seconds count."""
        try:
            os.write(self._orders, _GO)
        except BrokenPipeError as exc:
            raise _unwatched() from exc

    def dismiss(self) -> None:
        """Everything is thawed."""
        with suppress(BrokenPipeError):  # it was killed: then it thaws nothing either
            os.write(self._orders, _DISMISSED)


@contextmanager
def watched(fds: Sequence[int], seconds: float) -> Iterator[Watchdog]:
    """A watchdog over the file systems of these descriptors, ready; it is gone at the end."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(seconds), *map(str, fds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=fds,
        start_new_session=True,
        cwd="/",
        bufsize=0,
    )
    with child:  # closes the pipes, which the watchdog sees, and waits for it
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.read(1) != _READY:
            raise _unwatched()
        yield Watchdog(child.stdin.fileno(), child.stdout.fileno())


def _unwatched() -> FreezeRefusedError:
    return FreezeRefusedError(
        "The watchdog that thaws does not run",
        todo="See that this machine has memory to spare, then try again.",
    )


def thaw(fds: Sequence[int]) -> list[int]:
    """Thaw the file systems, last first; returns those that were not frozen any more."""
    lost = []
    for fd in reversed(fds):
        try:
            fcntl.ioctl(fd, FITHAW, 0)
        except OSError:
            lost.append(fd)
    return lost


def _leave(*_: object) -> NoReturn:
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    sys.exit(1)


def _dismissed(seconds: float, fds: Sequence[int]) -> bool:
    """Wait for the process that freezes; False when it is gone. After the time allowed, whatever
    it still freezes is thawed again.
    """
    while not fd_ready(0, seconds):
        _tell_and_thaw(fds)
        seconds = _AGAIN_SECONDS
    return os.read(0, 1) == _DISMISSED


def _tell_and_thaw(fds: Sequence[int]) -> None:
    """First the word: a thaw is itself a write, which is not to be taken for somebody else's."""
    with suppress(BrokenPipeError, BlockingIOError):  # nobody is left to hear it, or has heard it
        os.write(1, _THAWING)
    thaw(fds)


def main() -> None:
    seconds, fds = float(sys.argv[1]), [int(one) for one in sys.argv[2:]]
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, _leave)
    keep_in_memory()
    os.set_blocking(1, False)  # it is for thawing, whoever reads
    os.write(1, _READY)
    if os.read(0, 1) != _GO:
        return
    done = False
    try:
        done = _dismissed(seconds, fds)
    finally:
        if not done:
            _tell_and_thaw(fds)


if __name__ == "__main__":
    main()
