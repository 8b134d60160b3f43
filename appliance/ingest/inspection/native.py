"""libfdisk and libblkid, which sfdisk and blkid are made of, reading from a descriptor: whoever
may not open a disk can still be handed one.

Used inside a cell only: they are written in C, and what they read is hostile. They never write.
Importing this raises OSError where one of them is missing.
"""

import ctypes
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_void_p

from appliance.block import SECTOR

_LABEL, _UUID, _TYPE = 1 << 1, 1 << 3, 1 << 5  # blkid.h: BLKID_SUBLKS_...
_ENTRY_DETAILS = 1 << 2  # BLKID_PARTS_ENTRY_DETAILS
_FLOPPY = 1440 << 10  # bytes: up to there blkid takes a partition table before a file system
_MOST = 1 << 22  # bytes of a table as JSON

_libc = ctypes.CDLL(None)
_blkid = ctypes.CDLL("libblkid.so.1")
_fdisk = ctypes.CDLL("libfdisk.so.1")


def _bound(
    library: ctypes.CDLL, name: str, result: type | None, *takes: "type[ctypes._CDataType]"
) -> Callable[..., int]:
    found = library[name]
    found.restype, found.argtypes = result, takes
    return found


_new_probe = _bound(_blkid, "blkid_new_probe", c_void_p)
_free_probe = _bound(_blkid, "blkid_free_probe", None, c_void_p)
_set_device = _bound(_blkid, "blkid_probe_set_device", c_int, c_void_p, c_int, c_int64, c_int64)
_superblocks = _bound(_blkid, "blkid_probe_enable_superblocks", c_int, c_void_p, c_int)
_superblock_flags = _bound(_blkid, "blkid_probe_set_superblocks_flags", c_int, c_void_p, c_int)
_partitions = _bound(_blkid, "blkid_probe_enable_partitions", c_int, c_void_p, c_int)
_partition_flags = _bound(_blkid, "blkid_probe_set_partitions_flags", c_int, c_void_p, c_int)
_safeprobe = _bound(_blkid, "blkid_do_safeprobe", c_int, c_void_p)
_fullprobe = _bound(_blkid, "blkid_do_fullprobe", c_int, c_void_p)
_has_value = _bound(_blkid, "blkid_probe_has_value", c_int, c_void_p, c_char_p)
_lookup = _bound(
    _blkid,
    "blkid_probe_lookup_value",
    c_int,
    c_void_p,
    c_char_p,
    POINTER(c_char_p),
    POINTER(c_size_t),
)
_new_context = _bound(_fdisk, "fdisk_new_context", c_void_p)
_unref_context = _bound(_fdisk, "fdisk_unref_context", None, c_void_p)
_sector_size = _bound(_fdisk, "fdisk_save_user_sector_size", c_int, c_void_p, c_uint, c_uint)
_assign = _bound(_fdisk, "fdisk_assign_device_by_fd", c_int, c_void_p, c_int, c_char_p, c_int)
_has_label = _bound(_fdisk, "fdisk_has_label", c_int, c_void_p)
_new_script = _bound(_fdisk, "fdisk_new_script", c_void_p, c_void_p)
_unref_script = _bound(_fdisk, "fdisk_unref_script", None, c_void_p)
_read_context = _bound(_fdisk, "fdisk_script_read_context", c_int, c_void_p, c_void_p)
_enable_json = _bound(_fdisk, "fdisk_script_enable_json", c_int, c_void_p, c_int)
_write_file = _bound(_fdisk, "fdisk_script_write_file", c_int, c_void_p, c_void_p)
_memstream = _bound(_libc, "open_memstream", c_void_p, POINTER(c_void_p), POINTER(c_size_t))
_fclose = _bound(_libc, "fclose", c_int, c_void_p)
_free = _bound(_libc, "free", None, c_void_p)


def probe(fd: int, offset: int, size: int) -> dict[str, bytes]:
    """TYPE, LABEL and UUID of what lies in a byte range, by blkid's low-level probe; empty where
    it finds nothing or cannot decide.
    """
    one = _new_probe()
    try:
        if not one or _set_device(one, fd, offset, size):
            return {}
        _partitions(one, 1)
        if size <= _FLOPPY:
            _superblocks(one, 0)
            if _fullprobe(one) < 0 or _has_value(one, b"PTTYPE"):
                return {}
        _partition_flags(one, _ENTRY_DETAILS)
        _superblocks(one, 1)
        _superblock_flags(one, _LABEL | _UUID | _TYPE)
        if _safeprobe(one):
            return {}
        return {name: _value(one, name) for name in ("TYPE", "LABEL", "UUID")}
    finally:
        _free_probe(one)


def _value(one: int, name: str) -> bytes:
    found, size = c_char_p(), c_size_t()
    if _lookup(one, name.encode(), byref(found), byref(size)):
        return b""
    return found.value or b""


def table(fd: int, sector: int) -> bytes:
    """The partition table of a disk with sectors of that size, as sfdisk would print it: JSON;
    empty where there is none. ``sector`` is not looked at where the kernel knows it.
    """
    with ExitStack() as ends:
        context = _new_context()
        ends.callback(_unref_context, context)
        if sector != SECTOR and stat.S_ISREG(os.fstat(fd).st_mode):
            _sector_size(context, sector, sector)
        if _assign(context, fd, b"disk", 1) or not _has_label(context):
            return b""
        script = _new_script(context)
        ends.callback(_unref_script, script)
        if _read_context(script, None):
            return b""
        _enable_json(script, 1)
        return _written(script)


def _written(script: int) -> bytes:
    text, size = c_void_p(), c_size_t()
    stream = _memstream(byref(text), byref(size))
    failed = _write_file(script, stream)
    _fclose(stream)
    try:
        if failed or not text.value:
            return b""
        return ctypes.string_at(text.value, min(size.value, _MOST))
    finally:
        _free(text)
