"""What a disk's partition table and file systems say of it, by libfdisk and libblkid.

Everything they say is foreign text, parsed here into typed facts. For a cell.
"""

import json
import re

from appliance.ingest.foreign import text
from appliance.ingest.inspection import native
from appliance.model import DiskFacts, Part
from appliance.seal import canon
from appliance.seal.canon import MAX_INT
from appliance.seal.papers import MAX_PARTS, write_facts

_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_LAST_DIGITS = re.compile(r"[0-9]{1,5}$")


def _bytes(sectors: object, sector: int) -> int:
    """0 for what no disk can have."""
    if type(sectors) is int and 0 <= sectors <= MAX_INT // sector:
        return sectors * sector
    return 0


def _table(fd: int, sector: int) -> dict[str, object]:
    """The partition table; empty where there is none."""
    try:
        found = json.loads(native.table(fd, sector).decode(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    table = found.get("partitiontable") if isinstance(found, dict) else None
    return table if isinstance(table, dict) else {}


def _probe(fd: int, offset: int, size: int) -> dict[str, str]:
    found = native.probe(fd, offset, size)
    return {name: text(value.decode(errors="replace")) for name, value in found.items()}


def _numbered(node: object, place: int) -> int:
    """The number at the end of a partition's node: a table may have gaps."""
    found = _LAST_DIGITS.search(node) if isinstance(node, str) else None
    return int(found[0]) if found else place


def _part(fd: int, sector: int, place: int, found: object) -> Part:
    entry = found if isinstance(found, dict) else {}
    start, size = _bytes(entry.get("start"), sector), _bytes(entry.get("size"), sector)
    fs = _probe(fd, start, size) if size else {}
    return Part(
        number=_numbered(entry.get("node"), place),
        start=start,
        size=size,
        type=text(entry.get("type")),
        name=text(entry.get("name")),
        uuid=text(entry.get("uuid")),
        fs=fs.get("TYPE", ""),
        fs_label=fs.get("LABEL", ""),
        fs_uuid=fs.get("UUID", ""),
    )


def _firmware(table: dict[str, object], parts: tuple[Part, ...]) -> str:
    if any(one.type.upper() == _ESP for one in parts):
        return "uefi"
    listed = table.get("partitions")
    active = isinstance(listed, list) and any(
        isinstance(one, dict) and one.get("bootable") for one in listed
    )
    return "bios" if active else "unknown"


def read(fd: int, size: int, sector: int) -> DiskFacts:
    """What the disk itself says; who it is, the caller knows."""
    table = _table(fd, sector)
    listed = table.get("partitions")
    found = listed[:MAX_PARTS] if isinstance(listed, list) else []
    parts = tuple(_part(fd, sector, place, one) for place, one in enumerate(found, 1))
    if not parts and text(table.get("label")) in {"", "dos"}:
        # The boot sector of a bare FAT passes for an empty dos table.
        fs = _probe(fd, 0, size)
        if fs.get("TYPE"):
            label, uuid = fs.get("LABEL", ""), fs.get("UUID", "")
            table, parts = {}, (Part(0, 0, size, "", "", "", fs["TYPE"], label, uuid),)
    return DiskFacts(
        source="",
        serial="",
        model="",
        bus="",
        size=size,
        logical_sector=sector,
        physical_sector=sector,
        table=text(table.get("label")) or "none",
        table_id=text(table.get("id")),
        firmware_hint=_firmware(table, parts),
        parts=parts,
    )


def prepare() -> None:
    """Nothing more is needed."""


def examine(fd: int, size: int, sector: int) -> bytes:
    """For a cell: DiskFacts, as a disk head has them."""
    return canon.dump(write_facts(read(fd, size, sector)))
