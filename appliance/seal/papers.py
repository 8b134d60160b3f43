"""The JSON documents inside packs: disk head, point end, contents (store-format.md, sections 6
and 7).
"""

import re
from dataclasses import dataclass

from appliance.errors import RecordDamagedError
from appliance.events import Json
from appliance.model import (
    DiskFacts,
    DiskId,
    PackId,
    Part,
    PointSpec,
    ShipmentId,
    block_count,
)
from appliance.seal import canon
from appliance.seal.layout import MAX_BLOCKS, MAX_JSON

MAX_TEXT = 512
MAX_PARTS = 128
MAX_PACKS = 1 << 17
MAX_DISKS = 1 << 14
MAX_SIZE = (1 << 50) - 1
_PACK_ID = re.compile(r"[0-9a-f]{32}")


def _parse_part(fields: canon.Fields) -> Part:
    return Part(
        number=fields.number("number"),
        start=fields.number("start"),
        size=fields.number("size"),
        type=fields.text("type", MAX_TEXT),
        name=fields.text("name", MAX_TEXT),
        uuid=fields.text("uuid", MAX_TEXT),
        fs=fields.text("fs", MAX_TEXT),
        fs_label=fields.text("fs_label", MAX_TEXT),
        fs_uuid=fields.text("fs_uuid", MAX_TEXT),
    )


def _write_part(part: Part) -> Json:
    return {
        "fs": part.fs,
        "fs_label": part.fs_label,
        "fs_uuid": part.fs_uuid,
        "name": part.name,
        "number": part.number,
        "size": part.size,
        "start": part.start,
        "type": part.type,
        "uuid": part.uuid,
    }


def parse_facts(fields: canon.Fields) -> DiskFacts:
    return DiskFacts(
        source=fields.text("source", MAX_TEXT),
        serial=fields.text("serial", MAX_TEXT),
        model=fields.text("model", MAX_TEXT),
        bus=fields.text("bus", MAX_TEXT),
        size=fields.number("size", 1, MAX_SIZE),
        logical_sector=fields.number("logical_sector", 1, 1 << 20),
        physical_sector=fields.number("physical_sector", 1, 1 << 24),
        table=fields.text("table", MAX_TEXT),
        table_id=fields.text("table_id", MAX_TEXT),
        firmware_hint=fields.choice("firmware_hint", "uefi", "bios", "unknown"),
        parts=tuple(_parse_part(one) for one in fields.objects("parts", MAX_PARTS)),
    )


def write_facts(facts: DiskFacts) -> dict[str, Json]:
    return {
        "bus": facts.bus,
        "firmware_hint": facts.firmware_hint,
        "logical_sector": facts.logical_sector,
        "model": facts.model,
        "parts": [_write_part(one) for one in facts.parts],
        "physical_sector": facts.physical_sector,
        "serial": facts.serial,
        "size": facts.size,
        "source": facts.source,
        "table": facts.table,
        "table_id": facts.table_id,
    }


def parse_disk_head(fields: canon.Fields) -> PointSpec:
    """A disk head as it stands in other documents too."""
    return PointSpec(
        disk=DiskId(fields.hex("disk", 16)),
        point=fields.number("point", 0, (1 << 32) - 1),
        machine=fields.text("machine", MAX_TEXT),
        facts=parse_facts(fields),
    )


def write_disk_head(spec: PointSpec) -> dict[str, Json]:
    return {
        "disk": spec.disk,
        "machine": spec.machine,
        "point": spec.point,
        **write_facts(spec.facts),
    }


def read_disk_head(payload: bytes, block_size: int) -> PointSpec:
    spec = canon.read(
        payload, "disk head", parse_disk_head, write_disk_head, RecordDamagedError, MAX_JSON
    )
    if block_count(spec.facts.size, block_size) > MAX_BLOCKS:
        raise RecordDamagedError("The disk head tells of an impossibly large disk")
    return spec


@dataclass(frozen=True, slots=True)
class PointEnd:
    """The last record of a point: what must be there, and what the last session put."""

    blocks: int
    packs: tuple[PackId, ...]
    stored: int
    referenced: int
    zero: int
    unreadable_bytes: int


def write_point_end(end: PointEnd) -> Json:
    return {
        "blocks": end.blocks,
        "last_session": {
            "referenced": end.referenced,
            "stored": end.stored,
            "unreadable_bytes": end.unreadable_bytes,
            "zero": end.zero,
        },
        "packs": list(end.packs),
    }


def _parse_point_end(fields: canon.Fields) -> PointEnd:
    session = fields.object("last_session")
    return PointEnd(
        blocks=fields.number("blocks", 1, MAX_BLOCKS),
        packs=_packs(fields),
        stored=session.number("stored"),
        referenced=session.number("referenced"),
        zero=session.number("zero"),
        unreadable_bytes=session.number("unreadable_bytes"),
    )


def _packs(fields: canon.Fields) -> tuple[PackId, ...]:
    return tuple(PackId(one) for one in fields.texts("packs", MAX_PACKS, _PACK_ID))


def read_point_end(payload: bytes) -> PointEnd:
    return canon.read(
        payload, "point end", _parse_point_end, write_point_end, RecordDamagedError, MAX_JSON
    )


@dataclass(frozen=True, slots=True)
class DiskContents:
    """One disk at one point, as the contents pack lists it."""

    disk: DiskId
    point: int
    complete: bool
    blocks: int
    packs: tuple[PackId, ...]
    facts: PointSpec | None


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything a sealed shipment consists of."""

    shipment: ShipmentId
    disks: tuple[DiskContents, ...]


def _parse_contents_disk(fields: canon.Fields) -> DiskContents:
    facts = fields.object_or_none("facts")
    return DiskContents(
        disk=DiskId(fields.hex("disk", 16)),
        point=fields.number("point", 0, (1 << 32) - 1),
        complete=fields.choice("state", "complete", "incomplete") == "complete",
        blocks=fields.number("blocks", 0, MAX_BLOCKS),
        packs=_packs(fields),
        facts=None if facts is None else parse_disk_head(facts),
    )


def _write_contents_disk(one: DiskContents) -> Json:
    return {
        "blocks": one.blocks,
        "disk": one.disk,
        "facts": None if one.facts is None else write_disk_head(one.facts),
        "packs": list(one.packs),
        "point": one.point,
        "state": "complete" if one.complete else "incomplete",
    }


def _parse_contents(fields: canon.Fields) -> Contents:
    listed = fields.objects("disks", MAX_DISKS)
    disks = tuple(_parse_contents_disk(one) for one in listed)
    places = [(one.disk, one.point) for one in disks]
    if places != sorted(set(places)):
        raise fields.bad("disks", "is out of order")
    return Contents(ShipmentId(fields.hex("shipment", 16)), disks)


def write_contents(contents: Contents) -> Json:
    return {
        "disks": [_write_contents_disk(one) for one in contents.disks],
        "shipment": contents.shipment,
    }


def read_contents(payload: bytes) -> Contents:
    return canon.read(
        payload, "contents", _parse_contents, write_contents, RecordDamagedError, MAX_JSON
    )


@dataclass(frozen=True, slots=True)
class Note:
    """What a later writer may say beside the contents, and a reader pass over."""

    type: str
    version: int
    body: dict[str, Json]


def write_note(note: Note) -> Json:
    return {"body": note.body, "type": note.type, "version": note.version}


def _parse_note(fields: canon.Fields) -> Note:
    return Note(fields.text("type", 64, 1), fields.number("version"), fields.tree("body"))


def read_note(payload: bytes) -> Note:
    return canon.read(payload, "note", _parse_note, write_note, RecordDamagedError, MAX_JSON)
