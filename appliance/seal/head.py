"""The public head of a shipment: who it is for, in which format (store-format.md, section 3)."""

import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.block import read_small, write_durably
from appliance.errors import BadInputError, HeadDamagedError, NotAStoreError, UnknownFormatError
from appliance.events import Json
from appliance.model import MAX_BLOCK_SIZE, MIN_BLOCK_SIZE, ShipmentId
from appliance.seal import canon, intent
from appliance.seal.keys import Recipient, parse_recipient, write_recipient
from appliance.seal.layout import MAX_RECIPIENTS

FORMAT = "motiongear-store"
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
    features_inside: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return canon.dump(_write(self))

    def digest(self) -> bytes:
        return blake3(self.encode()).digest()

    @property
    def unknown_inside(self) -> list[str]:
        """Features of the packs that only those must know who write or open them."""
        return sorted(set(self.features_inside) - KNOWN_FEATURES)

    def refuse_unknown_inside(self) -> None:
        _refuse_unknown("The packs use", self.unknown_inside)


def _refuse_unknown(who: str, unknown: list[str]) -> None:
    if unknown:
        raise UnknownFormatError(f"{who} the feature {unknown[0][:64]!r}, unknown here")


def features(fields: canon.Fields, key: str = "features") -> tuple[str, ...]:
    return fields.strings(key, 64, 1024)


def refuse_unknown_features(fields: canon.Fields) -> None:
    """Of what every reader must know; in head.json and in the seal."""
    _refuse_unknown("The store uses", sorted(set(features(fields)) - KNOWN_FEATURES))


def _write(head: Head) -> Json:
    return {
        "block_size": head.block_size,
        "created": head.created,
        "device": head.device,
        "features": [],
        "features_inside": list(head.features_inside),
        "format": FORMAT,
        "label": head.label,
        "recipients": [write_recipient(one) for one in head.recipients],
        "shipment": head.shipment,
        "version": 1,
    }


def _parse(fields: canon.Fields) -> Head:
    fields.form(FORMAT)
    refuse_unknown_features(fields)
    head = Head(
        shipment=ShipmentId(fields.hex("shipment", 16)),
        label=fields.text("label", 128, 1),
        created=fields.time("created"),
        device=fields.hex("device", 32),
        block_size=fields.number("block_size", MIN_BLOCK_SIZE, MAX_BLOCK_SIZE),
        recipients=tuple(
            parse_recipient(one) for one in fields.objects("recipients", MAX_RECIPIENTS, 1)
        ),
        features_inside=features(fields, "features_inside"),
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
    """The head of a store; ErasedInPartError where an erase has begun."""
    intent.refuse(store)
    return read_marked(store)


def read_marked(store: Path) -> Head:
    """The head also where an erase has begun."""
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
