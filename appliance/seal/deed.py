"""A record of custody: who did what with a shipment, when and by what clock, signed (docs/custody-
format.md). Pure.
"""

from dataclasses import dataclass
from enum import StrEnum

from blake3 import blake3

from appliance.errors import CustodyRefusedError
from appliance.events import Json
from appliance.model import ShipmentId
from appliance.seal import canon, text
from appliance.seal.identity import Device, signed_by

FORMAT = "motiongear-custody"
MOST = 1 << 14
MAX_NUMBER = 999_999
CODE_SIZE = 10
_SIGNED = b"motiongear/1 custody\0"
NAME, WHERE, NOTE, _CODE = 128, 256, 1024, 19  # characters at most


class Deed(StrEnum):
    """What was done with a shipment."""

    CREATED = "created"
    INGESTED = "ingested"
    SEALED = "sealed"
    HANDED_OVER = "handed-over"
    RECEIVED = "received"
    VERIFIED = "verified"
    OPENED = "opened"
    RESTORED = "restored"
    CHECKED = "checked"
    ERASED = "erased"


class Clock(StrEnum):
    """What the kernel says of the clock by which the time was told."""

    SYNCHRONISED = "synchronised"
    FREE = "free-running"


@dataclass(frozen=True, slots=True)
class Who:
    """A person or office, as they give their name; foreign text."""

    name: str = ""
    organisation: str = ""


@dataclass(frozen=True, slots=True)
class What:
    """More on a deed: the ``disk`` it was done to; of a hand-over ``to`` whom, and their public
    key in hex where it is known; the ``code`` that a receiver has compared; a ``note``.
    """

    disk: str = ""
    note: str = ""
    to: Who = Who()
    receiver: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One link of the chain. ``previous`` is the digest of the one before, empty in the first;
    ``root`` is empty before the seal; ``signer`` is a public key in hex.
    """

    number: int
    deed: Deed
    shipment: ShipmentId
    root: str
    who: Who
    where: str
    at: str
    clock: Clock
    what: What
    previous: str
    signer: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A record with its signature in hex, as it is kept."""

    record: Record
    signature: str

    @property
    def genuine(self) -> bool:
        """Whether the signature is that of the key that the record names."""
        return signed_by(self.record.signer, bytes.fromhex(self.signature), _message(self.record))


def sign(record: Record, device: Device) -> bytes:
    """The file of a record; ``device`` is the one that it names.
    CustodyRefusedError for a record that no reader would take.
    """
    data = canon.dump(_write(Signed(record, device.sign(_message(record)).hex())))
    parse(data)
    return data


def parse(data: bytes) -> Signed:
    """The record in a file's bytes, its signature not looked at; CustodyRefusedError."""
    return canon.read(data, "the custody record", _parse, _write, CustodyRefusedError, MOST)


def digest(data: bytes) -> str:
    """What the next record names this one by, in hex."""
    return blake3(data).hexdigest()


def code(digest_hex: str) -> str:
    """What both sides of a hand-over compare: 80 bits in groups, too many to find another chain
    with the same.
    """
    context = "motiongear/1 custody code"
    return text.grouped(
        blake3(bytes.fromhex(digest_hex), derive_key_context=context).digest(CODE_SIZE)
    )


def _message(record: Record) -> bytes:
    return _SIGNED + canon.dump(_write_record(record))


def _write_who(who: Who) -> Json:
    return {"name": who.name, "organisation": who.organisation}


def _write_record(one: Record) -> Json:
    return {
        "at": one.at,
        "clock": one.clock,
        "deed": one.deed,
        "format": FORMAT,
        "number": one.number,
        "previous": one.previous,
        "root": one.root,
        "shipment": one.shipment,
        "signer": one.signer,
        "version": 1,
        "what": {
            "code": one.what.code,
            "disk": one.what.disk,
            "note": one.what.note,
            "receiver": one.what.receiver,
            "to": _write_who(one.what.to),
        },
        "where": one.where,
        "who": _write_who(one.who),
    }


def _write(signed: Signed) -> Json:
    return {"record": _write_record(signed.record), "signature": signed.signature}


def _parse_who(fields: canon.Fields) -> Who:
    found = Who(fields.text("name", NAME), fields.text("organisation", NAME))
    fields.done()
    return found


def _parse_what(fields: canon.Fields) -> What:
    found = What(
        disk=fields.hex("disk", 16, empty=True),
        note=fields.text("note", NOTE),
        to=_parse_who(fields.object("to")),
        receiver=fields.hex("receiver", 32, empty=True),
        code=fields.text("code", _CODE),
    )
    fields.done()
    return found


def _parse_record(fields: canon.Fields) -> Record:
    fields.form(FORMAT)
    found = Record(
        number=fields.number("number", 1, MAX_NUMBER),
        deed=Deed(fields.choice("deed", *Deed)),
        shipment=ShipmentId(fields.hex("shipment", 16)),
        root=fields.hex("root", 32, empty=True),
        who=_parse_who(fields.object("who")),
        where=fields.text("where", WHERE),
        at=fields.time("at"),
        clock=Clock(fields.choice("clock", *Clock)),
        what=_parse_what(fields.object("what")),
        previous=fields.hex("previous", 32, empty=True),
        signer=fields.hex("signer", 32),
    )
    fields.done()
    return found


def _parse(fields: canon.Fields) -> Signed:
    return Signed(_parse_record(fields.object("record")), fields.hex("signature", 64))
