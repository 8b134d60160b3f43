"""Hives of a Windows registry, made of nested mappings (format: winreg-kb, "Windows NT Registry
File"). A value is a text, a number or a list of texts.
"""

import struct
from collections.abc import Mapping

Value = str | int | list[str]
Key = Mapping[str, "Value | Key"]
_NONE = 0xFFFFFFFF
_SZ, _DWORD, _MULTI_SZ = 1, 4, 7


class _Bin:
    """Cells, one behind the other; offsets count from the bin's beginning."""

    def __init__(self) -> None:
        self.data = bytearray(32)

    def cell(self, content: bytes) -> int:
        at, size = len(self.data), (4 + len(content) + 7) // 8 * 8
        self.data += struct.pack("<i", -size) + content.ljust(size - 4, b"\0")
        return at

    def offsets(self, found: list[int], head: bytes = b"") -> int:
        return self.cell(head + struct.pack(f"<{len(found)}I", *found)) if found else _NONE


def _encoded(value: Value) -> tuple[int, bytes]:
    if isinstance(value, int):
        return _DWORD, struct.pack("<I", value)
    if isinstance(value, str):
        return _SZ, (value + "\0").encode("utf-16-le")
    return _MULTI_SZ, "".join(one + "\0" for one in [*value, ""]).encode("utf-16-le")


def _value(bin_: _Bin, name: str, value: Value) -> int:
    kind, data = _encoded(value)
    inline = len(data) <= 4
    at = struct.unpack("<I", data.ljust(4, b"\0"))[0] if inline else bin_.cell(data)
    size = len(data) | (1 << 31 if inline else 0)
    head = struct.pack("<2sHIIIHH", b"vk", len(name), size, at, kind, 1, 0)
    return bin_.cell(head + name.encode())


def _key(bin_: _Bin, name: str, content: Key, *, root: bool = False) -> int:
    below = sorted((one for one in content.items() if isinstance(one[1], Mapping)), key=_folded)
    keys = [_key(bin_, key, inner) for key, inner in below if isinstance(inner, Mapping)]
    values = [
        _value(bin_, key, one) for key, one in content.items() if not isinstance(one, Mapping)
    ]
    listed = bin_.offsets(keys, struct.pack("<2sH", b"li", len(keys)))
    head = struct.pack(
        "<2sHQIIIIIIIIIIIIIIIHH",
        *(b"nk", 0x2C if root else 0x20, 0, 0, 0, len(keys), 0, listed, _NONE),
        *(len(values), bin_.offsets(values), _NONE, _NONE, 0, 0, 0, 0, 0, len(name), 0),
    )
    return bin_.cell(head + name.encode())


def _folded(one: tuple[str, object]) -> str:
    return one[0].upper()


def hive(content: Key) -> bytes:
    """The file."""
    bin_ = _Bin()
    root = _key(bin_, "ROOT", content, root=True)
    free = -len(bin_.data) % 4096
    if free:
        bin_.data += struct.pack("<i", free).ljust(free, b"\0")
    struct.pack_into("<4sIIQQI", bin_.data, 0, b"hbin", 0, len(bin_.data), 0, 0, 0)
    head = bytearray(4096)
    struct.pack_into(
        "<4sIIQIIIIIII", head, 0, b"regf", 1, 1, 0, 1, 3, 0, 1, root, len(bin_.data), 1
    )
    checksum = 0
    for (word,) in struct.iter_unpack("<I", head[:508]):
        checksum ^= word
    struct.pack_into("<I", head, 508, checksum)
    return bytes(head + bin_.data)
