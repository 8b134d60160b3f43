"""The public head of a shipment: who it is for, in which format (store-format.md, section 3)."""

import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.block import read_small, write_durably
from appliance.errors import BadInputError, HeadDamagedError, NotAStoreError, UnknownFormatError
from appliance.events import Json
from appliance.model import MAX_BLOCK_SIZE, MIN_BLOCK_SIZE, ShipmentId
from appliance.seal import canon
from appliance.seal.keys import Recipient, parse_recipient, write_recipient
from appliance.seal.layout import MAX_RECIPIENTS

FORMAT = "motiongear-store"
VERSION = 1
KNOWN_FEATURES: frozenset[str] = frozenset()
MAX_HEAD = 1 << 16
FILE = "head.json"


@dataclass(frozen=True, slots=True)
class Head:
    """head.json. ``device`` is the device's public key in hex."""

    shipment: ShipmentId
    label: str
    created: str
    device: str
    block_size: int
    recipients: tuple[Recipient, ...]

    def encode(self) -> bytes:
        return canon.dump(_write(self))

    def digest(self) -> bytes:
        return blake3(self.encode()).digest()


def _write(head: Head) -> Json:
    return {
        "block_size": head.block_size,
        "created": head.created,
        "device": head.device,
        "features": [],
        "format": FORMAT,
        "label": head.label,
        "recipients": [write_recipient(one) for one in head.recipients],
        "shipment": head.shipment,
        "version": VERSION,
    }


def _parse(fields: canon.Fields) -> Head:
    if fields.text("format", 64) != FORMAT:
        raise UnknownFormatError("head.json is of another program's format")
    version = fields.number("version")
    if version != VERSION:
        raise UnknownFormatError(
            f"The store has format version {version}; known here is {VERSION}"
        )
    if unknown := set(fields.strings("features", 64, 1024)) - KNOWN_FEATURES:
        raise UnknownFormatError(f"The store uses the feature {min(unknown)[:64]!r}, unknown here")
    head = Head(
        shipment=ShipmentId(fields.hex("shipment", 16)),
        label=fields.text("label", 128, 1),
        created=fields.time("created"),
        device=fields.hex("device", 32),
        block_size=fields.number("block_size", MIN_BLOCK_SIZE, MAX_BLOCK_SIZE),
        recipients=tuple(
            parse_recipient(one) for one in fields.objects("recipients", MAX_RECIPIENTS, 1)
        ),
    )
    if head.block_size & (head.block_size - 1):
        raise fields.bad("block_size", "is not a power of two")
    if len({one.key for one in head.recipients}) != len(head.recipients):
        raise fields.bad("recipients", "names one key twice")
    return head


def parse(data: bytes) -> Head:
    """The head from the bytes of head.json; raises HeadDamagedError or UnknownFormatError."""
    return canon.read(data, FILE, _parse, _write, HeadDamagedError, MAX_HEAD)


def read(store: Path) -> Head:
    try:
        data = read_small(store / FILE, MAX_HEAD + 1)
    except OSError as exc:
        raise NotAStoreError(f"{store} holds no {FILE} ({exc.strerror})") from exc
    return parse(data)


def make(label: str, device: str, recipients: tuple[Recipient, ...], block_size: int) -> Head:
    """The head of a new shipment; refuses what no reader would take."""
    head = Head(
        shipment=ShipmentId(os.urandom(16).hex()),
        label=label,
        created=canon.now(),
        device=device,
        block_size=block_size,
        recipients=recipients,
    )
    try:
        return parse(head.encode())  # what we write, we would read
    except HeadDamagedError as exc:
        raise BadInputError(f"The shipment cannot be made: {exc.what}") from exc


def write(store: Path, head: Head) -> None:
    """Write the head; it never changes afterwards."""
    write_durably(store / FILE, head.encode())
