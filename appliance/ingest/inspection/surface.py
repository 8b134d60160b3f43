"""What partition table and superblocks say of the machine: all that is read where dissect is
missing or fails. For a cell.
"""

import os
from dataclasses import replace

from appliance.ingest.inspection import tables, usage
from appliance.model import DiskFacts, Encrypted, FileSystem, MachineFacts, Part
from appliance.seal import canon, machine

_CIPHERS = {"crypto_LUKS": "luks", "BitLocker": "bitlocker"}
_NO_FILES = frozenset({"", "swap", "swsuspend", "LVM2_member", "linux_raid_member"})


def read(fd: int, disk: DiskFacts) -> MachineFacts:
    found = [_system(fd, one) for one in disk.parts if _holds_files(one)]
    ciphers = [(one, _CIPHERS[one.fs]) for one in disk.parts if one.fs in _CIPHERS]
    return replace(
        machine.nothing(""),
        method="blkid",
        firmware=disk.firmware_hint,
        encrypted=tuple(Encrypted(str(part.number), kind) for part, kind in ciphers),
        file_systems=tuple(found),
    )


def _holds_files(part: Part) -> bool:
    return part.fs not in _NO_FILES and part.fs not in _CIPHERS


def _system(fd: int, part: Part) -> FileSystem:
    pread = lambda offset, size: os.pread(fd, size, part.start + offset)  # noqa: E731
    used = usage.used(part.fs, pread, part.size)
    return FileSystem(str(part.number), part.fs, part.fs_label, part.size, used)


def prepare() -> None:
    """Nothing more is needed."""


def examine(fd: int, size: int, sector: int) -> bytes:
    """For a cell: MachineFacts."""
    return canon.dump(machine.write(read(fd, tables.read(fd, size, sector))))
