"""A cell, seen from outside: the process in which a hostile disk is looked at (confine.py).

It is given one descriptor to read and one to answer through; what comes back is foreign, bounded,
and in time, or there is a CellError.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType

from appliance.block import fd_ready
from appliance.ingest.inspection import confine

MOST_ANSWER = 1 << 20
_GONE_SECONDS = 5
ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


class CellError(Exception):
    """There is no answer; the reason may be foreign text."""


class UnpreparedError(CellError):
    """What an examiner needs is missing here; the disk was not looked at."""


def ask(examiner: str, fd: int, size: int, sector: int, seconds: int) -> bytes:
    """What the module ``examiner`` says of the disk ``fd``; so many seconds, of any clock."""
    deadline = time.monotonic() + seconds
    with _started(examiner, fd, size, sector, seconds) as child:
        try:
            answer = _heard(child, deadline)
            code = child.wait(max(0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired) as exc:
            raise CellError(f"it did not answer within {seconds} s") from exc
    if code < 0:
        raise CellError(f"it was ended by signal {-code} ({signal.strsignal(-code)})")
    ready, said = answer.startswith(confine.READY), answer.removeprefix(confine.READY)
    if ready and code == 0:
        return said
    reason = said[:300].decode(errors="replace")
    # A cell that has read of the disk can say what it likes, but not that it has read nothing.
    raise (CellError if ready else UnpreparedError)(reason or f"it ended with {code}")


@contextmanager
def _started(
    examiner: str, fd: int, size: int, sector: int, seconds: int
) -> "Iterator[subprocess.Popen[bytes]]":
    """The process, ended whatever it does; one whose disk hangs is gone when that answers."""
    told = (examiner, str(os.getpid()), str(size), str(sector), str(seconds))
    child = subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", confine.__name__, *told],
        stdin=fd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=dict(ENVIRONMENT),
        bufsize=0,
    )
    assert child.stdout is not None
    try:
        yield child
    finally:
        child.kill()
        child.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GONE_SECONDS)


def _heard(child: "subprocess.Popen[bytes]", deadline: float) -> bytes:
    assert child.stdout is not None
    fd, answer = child.stdout.fileno(), bytearray()
    while True:
        if not fd_ready(fd, max(0, deadline - time.monotonic())):
            raise TimeoutError
        got = os.read(fd, 1 << 16)
        if not got:
            return bytes(answer)
        answer += got
        if len(answer) > MOST_ANSWER:
            raise CellError(f"it answers more than {MOST_ANSWER} bytes")
