"""What a disk's partition table and file systems say of it, by sfdisk and blkid, which only read.

Everything they print is foreign text, parsed here into typed facts.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.block import SECTOR, is_block_device, peek
from appliance.errors import ToolFailedError
from appliance.ingest.foreign import decoded, text
from appliance.model import DiskFacts, Part
from appliance.run import run
from appliance.seal.canon import MAX_INT
from appliance.seal.papers import MAX_PARTS

_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_LAST_DIGITS = re.compile(r"[0-9]{1,5}$")


def image_sector(fd: int) -> int:
    """The sector size an image was partitioned for: 4096 where only there a GPT header stands,
    else 512.
    """
    at_512, at_4096 = peek(fd, 8, 512), peek(fd, 8, 4096)
    return 4096 if at_4096 == b"EFI PART" != at_512 else SECTOR


def _bytes(sectors: object, sector: int) -> int:
    """0 for what no disk can have."""
    if type(sectors) is int and 0 <= sectors <= MAX_INT // sector:
        return sectors * sector
    return 0


@contextmanager
def _as_device(source: str, sector: int) -> Iterator[str]:
    """An image as a disk with its sectors: in a file sfdisk expects 512 bytes."""
    if sector == SECTOR or is_block_device(Path(source)):
        yield source
        return
    shape = ("--read-only", "--sector-size", str(sector))
    device = run("losetup", "--find", "--show", *shape, source).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


def _table(source: str, sector: int) -> dict[str, object]:
    """Sfdisk's partition table; empty where there is none."""
    try:
        with _as_device(source, sector) as device:
            said = run("sfdisk", "--json", device)
        found = json.loads(said)
    except (ToolFailedError, ValueError, RecursionError):
        return {}
    table = found.get("partitiontable") if isinstance(found, dict) else None
    return table if isinstance(table, dict) else {}


def _probe(source: str, offset: int, size: int) -> dict[str, str]:
    """Blkid's low-level probe of a byte range; empty where it finds nothing or cannot decide."""
    args = ("--probe", "--output", "udev", "--offset", str(offset), "--size", str(size), source)
    try:
        said = run("blkid", *args)
    except ToolFailedError:
        return {}
    pairs = (line.partition("=") for line in said.splitlines())
    return {key.removeprefix("ID_FS_"): decoded(value) for key, _, value in pairs}


def _numbered(node: object, place: int) -> int:
    """The number at the end of a partition's node: a table may have gaps."""
    found = _LAST_DIGITS.search(node) if isinstance(node, str) else None
    return int(found[0]) if found else place


def _part(source: str, sector: int, place: int, found: object) -> Part:
    entry = found if isinstance(found, dict) else {}
    start, size = _bytes(entry.get("start"), sector), _bytes(entry.get("size"), sector)
    fs = _probe(source, start, size) if size else {}
    return Part(
        number=_numbered(entry.get("node"), place),
        start=start,
        size=size,
        type=text(entry.get("type")),
        name=text(entry.get("name")),
        uuid=text(entry.get("uuid")),
        fs=fs.get("TYPE", ""),
        fs_label=fs.get("LABEL_ENC", ""),
        fs_uuid=fs.get("UUID_ENC", ""),
    )


def _firmware(table: dict[str, object], parts: tuple[Part, ...]) -> str:
    if any(one.type.upper() == _ESP for one in parts):
        return "uefi"
    listed = table.get("partitions")
    active = isinstance(listed, list) and any(
        isinstance(one, dict) and one.get("bootable") for one in listed
    )
    return "bios" if active else "unknown"


def facts(
    *, source: str, serial: str, model: str, bus: str, size: int, sectors: tuple[int, int]
) -> DiskFacts:
    """All that is known of the disk at ``source``, a device node or an image file."""
    logical, physical = sectors
    table = _table(source, logical)
    listed = table.get("partitions")
    found = listed[:MAX_PARTS] if isinstance(listed, list) else []
    parts = tuple(_part(source, logical, place, one) for place, one in enumerate(found, 1))
    if not parts and text(table.get("label")) in {"", "dos"}:
        # The boot sector of a bare FAT passes for an empty dos table.
        fs = _probe(source, 0, size)
        if fs.get("TYPE"):
            label, uuid = fs.get("LABEL_ENC", ""), fs.get("UUID_ENC", "")
            table, parts = {}, (Part(0, 0, size, "", "", "", fs["TYPE"], label, uuid),)
    return DiskFacts(
        source=text(source),
        serial=text(serial),
        model=text(model),
        bus=text(bus),
        size=size,
        logical_sector=logical,
        physical_sector=physical,
        table=text(table.get("label")) or "none",
        table_id=text(table.get("id")),
        firmware_hint=_firmware(table, parts),
        parts=parts,
    )
