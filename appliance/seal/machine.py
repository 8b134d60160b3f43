"""What a disk tells of its machine, as a document (store-format.md, section 7): what a cell
answers, and what a note of the contents pack says. Foreign until it is parsed here.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import cast

from appliance.errors import RecordDamagedError
from appliance.events import Json
from appliance.model import (
    Answer,
    DiskId,
    Encrypted,
    FileSystem,
    LogicalVolume,
    MachineFacts,
    Nic,
)
from appliance.seal import canon
from appliance.seal.papers import MAX_SIZE, MAX_TEXT, Note

TYPE, VERSION = "machine", 1
MAX_LIST = 128  # entries of any list
MAX_FACTS = 1 << 20  # bytes of a document
_FAMILIES = ("linux", "windows", "other", "unknown")
_FIRMWARE = ("uefi", "bios", "unknown")
_METHODS = ("dissect", "blkid", "none")
_CIPHERS = ("luks", "bitlocker")


def nothing(reason: str) -> MachineFacts:
    """Of a disk that tells nothing."""
    return MachineFacts(
        hostname="",
        family="unknown",
        product="",
        version="",
        architecture="",
        kernels=(),
        nics=(),
        firmware="unknown",
        dirty=Answer.UNKNOWN,
        hibernated=Answer.UNKNOWN,
        encrypted=(),
        volumes=(),
        file_systems=(),
        warnings=(),
        method="none",
        reason=reason[:MAX_TEXT],
    )


def write(facts: MachineFacts) -> Json:
    return cast("Json", _plain(asdict(facts)))


def _plain(found: object) -> object:
    """Tuples as lists."""
    if isinstance(found, dict):
        return {key: _plain(one) for key, one in found.items()}
    return [_plain(one) for one in found] if isinstance(found, tuple) else found


def read(data: bytes) -> MachineFacts:
    """Raises RecordDamagedError."""
    return canon.read(data, "machine facts", parse, write, RecordDamagedError, MAX_FACTS)


def parse(fields: canon.Fields) -> MachineFacts:
    return MachineFacts(
        hostname=_text(fields, "hostname"),
        family=fields.choice("family", *_FAMILIES),
        product=_text(fields, "product"),
        version=_text(fields, "version"),
        architecture=_text(fields, "architecture"),
        kernels=_texts(fields, "kernels"),
        nics=tuple(_nic(one) for one in fields.objects("nics", MAX_LIST)),
        firmware=fields.choice("firmware", *_FIRMWARE),
        dirty=_answer(fields, "dirty"),
        hibernated=_answer(fields, "hibernated"),
        encrypted=tuple(_encrypted(one) for one in fields.objects("encrypted", MAX_LIST)),
        volumes=tuple(_volume(one) for one in fields.objects("volumes", MAX_LIST)),
        file_systems=tuple(_system(one) for one in fields.objects("file_systems", MAX_LIST)),
        warnings=_texts(fields, "warnings"),
        method=fields.choice("method", *_METHODS),
        reason=_text(fields, "reason"),
    )


def _text(fields: canon.Fields, key: str) -> str:
    return fields.text(key, MAX_TEXT)


def _texts(fields: canon.Fields, key: str) -> tuple[str, ...]:
    return fields.strings(key, MAX_LIST, MAX_TEXT)


def _answer(fields: canon.Fields, key: str) -> Answer:
    return Answer(fields.choice(key, *Answer))


def _nic(fields: canon.Fields) -> Nic:
    return Nic(
        name=_text(fields, "name"),
        mac=_text(fields, "mac"),
        addresses=_texts(fields, "addresses"),
        gateway=_text(fields, "gateway"),
        dns=_texts(fields, "dns"),
        dhcp=_answer(fields, "dhcp"),
    )


def _encrypted(fields: canon.Fields) -> Encrypted:
    return Encrypted(_text(fields, "place"), fields.choice("kind", *_CIPHERS))


def _volume(fields: canon.Fields) -> LogicalVolume:
    return LogicalVolume(
        _text(fields, "group"), _text(fields, "name"), fields.number("size", 0, MAX_SIZE)
    )


def _system(fields: canon.Fields) -> FileSystem:
    return FileSystem(
        place=_text(fields, "place"),
        type=_text(fields, "type"),
        label=_text(fields, "label"),
        size=fields.number("size", 0, MAX_SIZE),
        used=fields.number_or_none("used"),
    )


def as_note(disk: DiskId, facts: MachineFacts) -> Note:
    """What the contents pack says of the machine that a disk belongs to."""
    return Note(TYPE, VERSION, {"disk": disk, "facts": write(facts)})


def of_notes(notes: Sequence[Note]) -> dict[DiskId, MachineFacts]:
    """What notes say of machines, by disk; passes over what is of another type or version, or is
    not what it says it is: nothing depends on it. Of two about one disk the first counts.
    """
    found: dict[DiskId, MachineFacts] = {}
    for one in notes:
        if (one.type, one.version) == (TYPE, VERSION):
            with suppress(RecordDamagedError):
                disk, facts = canon.read(
                    canon.dump(one.body),
                    "machine note",
                    _parse_note,
                    _write_note,
                    RecordDamagedError,
                    MAX_FACTS,
                )
                found.setdefault(disk, facts)
    return found


def _parse_note(fields: canon.Fields) -> tuple[DiskId, MachineFacts]:
    return DiskId(fields.hex("disk", 16)), parse(fields.object("facts"))


def _write_note(note: tuple[DiskId, MachineFacts]) -> Json:
    disk, facts = note
    return {"disk": disk, "facts": write(facts)}
