"""Why a job died: what can still be told of it when its process is gone."""

import os
import re
from contextlib import suppress
from pathlib import Path

from appliance.block import opened, peek
from appliance.errors import JobDiedError
from appliance.language import marked
from appliance.state import alive
from appliance.state.rows import JobRow

_KERNEL_LOG = Path("/dev/kmsg")
_TAIL = 64 << 10
_RECORD = 8192
# A record is: priority, number, microseconds since the start, flags; words.
_OUT_OF_MEMORY = re.compile(
    rb"^\d+,\d+,(\d+),[^;]*;.*out of memory: Killed process (\d+) ", re.IGNORECASE | re.MULTILINE
)
# What a job whose end could not be noted leaves in its log: job, state, what refuses, last words.
OVER = "Job %d is %s, which could not be noted (%s): %s"
_OVER = re.compile(r"^(Job \d+ is \w+, which could not be noted \(.*)$", re.MULTILINE)
_CRASH = re.compile(r"^Fatal Python error: (.{1,80})$", re.MULTILINE)


def died(row: JobRow, log: Path) -> JobDiedError:
    """What to say of a job that should live and does not; ``log`` is what its process wrote."""
    said = _tail(log)
    if row.boot != alive.boot():
        return JobDiedError(
            f"Job {row.id} ended when the machine did: it was started anew, or lost its power"
        )
    if not row.pid:
        return JobDiedError(
            f"The process of job {row.id} never came up{_last_line(said)}",
            safe=marked("Nothing was changed by this start; what was stored before is kept."),
        )
    if over := _OVER.search(said):
        todo = marked("See to the space and the disk of the state directory; then resume the job.")
        return JobDiedError(over[1], todo=todo)
    if crash := _CRASH.search(said):
        return JobDiedError(
            f"The process of job {row.id} crashed ({crash[1]}); its log: {log}",
            todo=marked("Resume the job; report it with its log."),
        )
    if _out_of_memory(row.pid, row.up):
        return JobDiedError(
            f"Job {row.id} was killed by the system: memory ran out",
            todo=marked("Let fewer jobs run at once, or add memory; then resume the job."),
        )
    return JobDiedError(f"Job {row.id} was killed by a signal from outside{_last_line(said)}")


def _tail(log: Path) -> str:
    with suppress(FileNotFoundError), opened(log, os.O_RDONLY) as fd:
        size = os.fstat(fd).st_size
        return peek(fd, _TAIL, max(size - _TAIL, 0)).decode(errors="replace")
    return ""


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return f"; its last words were {lines[-1][:200]!r}" if lines else ""


def _out_of_memory(pid: int, since: float) -> bool:
    """Whether the kernel says that it killed this process for want of memory. Its clock stands
    still while the machine sleeps: what it tells of is younger than it says, never older.
    """
    slept = alive.uptime() - alive.awake()
    for stamp, killed in _OUT_OF_MEMORY.findall(_kernel_log()):
        if int(killed) == pid and int(stamp) / 1e6 + slept >= since:
            return True
    return False


def _kernel_log() -> bytes:
    """What the kernel has said of late; nothing where that is not for this user to read."""
    said = []
    with suppress(OSError), opened(_KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK) as fd:
        while True:
            try:
                said.append(os.read(fd, _RECORD))
            except BrokenPipeError:  # a record was overwritten before it was read: the next one is
                continue
    return b"".join(said)
