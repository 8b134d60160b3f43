"""What is wrong with the machine this runs on, as far as the kernel tells it."""

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from appliance.block import clock_is_kept, free_memory
from appliance.diagnose import needs, space
from appliance.diagnose.findings import Finding
from appliance.diagnose.kinds import Kind
from appliance.seal.canon import now

_BLOCK, _EXT4 = Path("/sys/block"), Path("/sys/fs/ext4")
_LOOPS = Path("/dev/loop-control")
_MEMORY_SHORT = 512 << 20  # bytes: less has an ingest wait for memory
_NO_DISK = ("loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd")


def findings() -> Iterator[Finding]:
    yield Finding(Kind.CLOCK) if clock_is_kept() else Finding(Kind.CLOCK_FREE, {"now": now()})
    yield Finding(Kind.ROOT_NOT if os.geteuid() else Kind.ROOT)
    about = {"release": platform.release(), "machine": platform.machine()}
    yield Finding(Kind.KERNEL, about)
    if not _LOOPS.exists():
        yield Finding(Kind.LOOPS_NONE)
    yield from needs.findings()
    free = free_memory()
    kind = Kind.MEMORY_SHORT if free < _MEMORY_SHORT else Kind.MEMORY
    yield Finding(kind, {"size": space.written(free)})
    yield from _disks()
    yield Finding(Kind.SMART_UNREAD)


def _disks() -> Iterator[Finding]:
    """What the kernel has counted of them; SCSI disks and ext4 count their errors."""
    for one in sorted(_BLOCK.glob("*")):
        about = {"disk": one.name}
        if lacking := _number(one / "md/degraded"):
            yield Finding(Kind.RAID_DEGRADED, {**about, "count": str(lacking)})
        if one.name.startswith(_NO_DISK):
            continue
        if errors := _number(one / "device/ioerr_cnt"):
            yield Finding(Kind.DISK_ERRORS, {**about, "count": str(errors)})
        if _number(one / "ro"):
            yield Finding(Kind.DISK_READ_ONLY, about)
        if _number(one / "size") == 0:
            yield Finding(Kind.DISK_EMPTY, about)
    for one in sorted(_EXT4.glob("*/errors_count")):
        if errors := _number(one):
            name = one.parent.name
            yield Finding(Kind.FILE_SYSTEM_ERRORS, {"disk": name, "count": str(errors)})


def _number(path: Path) -> int | None:
    """As the kernel writes it, perhaps in hex; None where it does not tell."""
    with suppress(OSError, ValueError):
        return int(path.read_text(), 0)
    return None
