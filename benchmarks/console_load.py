"""What the console costs while twenty jobs run: its share of one core, at both sizes.

    python -m benchmarks.console_load [SECONDS]

The jobs are rows of a state database that this process keeps alive and moves on four times a
second, as twenty real ones would; the console runs in a terminal of its own (a pty) and is
measured by the kernel's account of its process.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from contextlib import ExitStack
from pathlib import Path

from appliance.events import Progress
from appliance.model import ShipmentId
from appliance.seal.canon import now
from appliance.state import State

JOBS, LOOKS_A_SECOND = 20, 4
SIZES = ((80, 24), (132, 43))
_SETTLE_SECONDS = 4.0
_TICKS = os.sysconf("SC_CLK_TCK")


def _opened(home: Path, size: tuple[int, int]) -> tuple[int, int]:
    """The console's process and its terminal."""
    child, terminal = pty.fork()
    if child == 0:
        environ = {**os.environ, "MOTIONGEAR_HOME": str(home), "TERM": "xterm-256color"}
        command = [sys.executable, "-m", "appliance", "console", "--lang", "en"]
        os.execve(sys.executable, command, environ)  # noqa: S606 - this very program
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    os.kill(child, signal.SIGWINCH)
    return child, terminal


def _spent(child: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def share(seconds: float, size: tuple[int, int]) -> float:
    """Of one core."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        state = stack.enter_context(State(home))
        jobs = []
        for number in range(JOBS):
            title = f"web{number:02}: S4EWNX0R51{number:04}"
            job = state.add_job("ingest", ShipmentId("11" * 16), title, "{}", now())
            stack.enter_context(state.living(job))
            state.begin_job(job)
            jobs.append(job)
        child, terminal = _opened(home, size)
        begun, told, before = time.monotonic(), 0, 0.0
        since = begun
        while (spent := time.monotonic() - begun) < _SETTLE_SECONDS + seconds:
            told += 1
            for job in jobs:
                progress = Progress("ingest", told * 10_000_000 + job, 1_000_000_000_000)
                state.put_progress(job, time.time(), progress)
            if spent < _SETTLE_SECONDS:
                before, since = _spent(child), time.monotonic()
            end = begun + told / LOOKS_A_SECOND
            while (left := end - time.monotonic()) > 0:
                if select.select([terminal], [], [], left)[0]:
                    os.read(terminal, 1 << 16)
        after, until = _spent(child), time.monotonic()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    return (after - before) / (until - since)


def main(seconds: float) -> None:
    for size in SIZES:
        print(f"{size[0]}x{size[1]}: {100 * share(seconds, size):.1f} % of a core")  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 20.0)
