"""How many bytes of a file system are in use, by its superblock alone (struct offsets as in the
kernel's ext4.h, xfs_format.h and btrfs_tree.h). For a cell.
"""

import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]  # offset in the file system, size: fewer bytes at its end
_64BIT, _EXTENTS = 0x80, 0x40  # of ext4's incompatible features
_JOURNAL = 4  # of its compatible ones


def used(kind: str, read: Read, size: int) -> int | None:
    """Of a file system of ``size`` bytes; None where that is not known or makes no sense."""
    measure = _MEASURES.get(kind)
    try:
        found = measure(read) if measure else None
    except (struct.error, OSError, EOFError):
        return None
    return found if found is not None and 0 <= found <= size else None


def _ext(read: Read) -> int | None:
    block = read(1024, 1024)
    (blocks, _, free), (shift,) = (
        struct.unpack_from("<III", block, 4),
        struct.unpack_from("<I", block, 24),
    )
    magic, (features,) = block[56:58], struct.unpack_from("<I", block, 96)
    if magic != b"\x53\xef" or shift > 6:
        return None
    if features & _64BIT:
        high, _, free_high = struct.unpack_from("<III", block, 0x150)
        blocks, free = blocks | high << 32, free | free_high << 32
    return (int(blocks) - int(free)) << int(10 + shift)


def _xfs(read: Read) -> int | None:
    block = read(0, 512)
    size, blocks = struct.unpack_from(">IQ", block, 4)
    (log,) = struct.unpack_from(">I", block, 96)
    (free,) = struct.unpack_from(">Q", block, 144)
    return int(blocks - free) * size if block[:4] == b"XFSB" and log < blocks else None


def _btrfs(read: Read) -> int | None:
    block = read(1 << 16, 4096)
    return int(struct.unpack_from("<Q", block, 0x78)[0]) if block[64:72] == b"_BHRfS_M" else None


def kind(read: Read) -> str:
    """Of the file systems that are known here; empty for any other."""
    if read(0, 4) == b"XFSB":
        return "xfs"
    if read((1 << 16) + 64, 8) == b"_BHRfS_M":
        return "btrfs"
    block = read(1024, 1024)
    if block[56:58] != b"\x53\xef":
        return ""
    compatible, features = struct.unpack_from("<II", block, 92)
    if features & _EXTENTS:
        return "ext4"
    return "ext3" if compatible & _JOURNAL else "ext2"


_MEASURES = {"ext2": _ext, "ext3": _ext, "ext4": _ext, "xfs": _xfs, "btrfs": _btrfs}
