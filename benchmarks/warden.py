"""Runs programs and tells what they cost, with all they started: ``python -m benchmarks.warden``.

Takes a JSON list of ``{"argv", "env", "stdin"}`` as its only argument, starts all of them at once
and writes one JSON object (``Told``) to standard output when nothing of them is left. CPU time is
the kernel's sum over all descendants (wait4); it includes those that outlive their parent, since
they become children of the warden. Memory is sampled: every 20 ms the resident pages of the whole
tree are added up, shared ones as often as they are mapped.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, cast

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_SECONDS = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Asked(TypedDict):
    """One program to start. ``stdin`` is a path; empty: nothing to read."""

    argv: list[str]
    env: dict[str, str]
    stdin: str


class Told(TypedDict):
    """``lines`` are (seconds since the start, line) of standard output, of all programs."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    codes: list[int]
    lines: list[tuple[float, str]]


def descendants(pid: int) -> Iterator[int]:
    """Every process below ``pid``; those that end meanwhile are left out."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def resident(pid: int) -> int:
    """Bytes of ``pid`` that are in memory now; 0 when it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


class _Sampler:
    """The highest sum of resident bytes over the tree, as far as samples show."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            total = sum(resident(one) for one in descendants(os.getpid()))
            self.peak = max(self.peak, total)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


class _Programs:
    """The programs, running; what they print is taken down with the time."""

    def __init__(self, asked: list[Asked]) -> None:
        self.lines: list[tuple[float, str]] = []
        self._began = time.monotonic()
        self._running = [self._started(one) for one in asked]
        self._listeners = [
            threading.Thread(target=self._listen, args=(one,)) for one in self._running
        ]
        for listener in self._listeners:
            listener.start()

    @staticmethod
    def _started(one: Asked) -> "subprocess.Popen[str]":
        with open(one["stdin"] or os.devnull, "rb") as stdin:  # noqa: PTH123 - as for a shell
            return subprocess.Popen(
                one["argv"], env=one["env"], stdin=stdin, stdout=subprocess.PIPE, text=True
            )

    def _listen(self, program: "subprocess.Popen[str]") -> None:
        assert program.stdout is not None
        self.lines.extend((time.monotonic() - self._began, line) for line in program.stdout)

    def wait(self) -> tuple[float, list[int]]:
        """Seconds until the last has ended, and all exit codes."""
        codes = [one.wait() for one in self._running]
        seconds = time.monotonic() - self._began
        for listener in self._listeners:
            listener.join()
        return seconds, codes


def _reap() -> None:
    """Wait for what outlived its parent."""
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _end_all() -> None:
    """Kill everything below this process, and wait for it."""
    with suppress(ChildProcessError):
        while True:
            for one in list(descendants(os.getpid())):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            os.wait()


def run(asked: list[Asked]) -> Told:
    """Raises KeyboardInterrupt, with all that was started killed, when it is to end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sampler = _Sampler()
    try:
        programs = _Programs(asked)
        seconds, codes = programs.wait()
        _reap()
    except KeyboardInterrupt:
        _end_all()
        raise
    finally:
        sampler.end()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Told(
        seconds=seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak_bytes=sampler.peak,
        codes=codes,
        lines=programs.lines,
    )


if __name__ == "__main__":
    print(json.dumps(run(cast("list[Asked]", json.loads(sys.argv[1])))))  # noqa: T201
