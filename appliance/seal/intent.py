"""The mark of an erase: what a store directory holds from the moment on from which it is none any
more (docs/erase-format.md). Whoever opens a store looks for it first.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from appliance.block import read_small, write_durably
from appliance.errors import ErasedInPartError
from appliance.events import Json
from appliance.model import ShipmentId
from appliance.seal import canon

FILE = "erasing.json"
FORMAT = "motiongear-erasing"
_MOST = 1 << 16


@dataclass(frozen=True, slots=True)
class Intent:
    """What is being erased. ``erasure`` is 16 random bytes, ``signer`` a device's public key, both
    in hex; ``root`` is empty and ``sequence`` 0 where it was not sealed. ``packs`` and ``size``,
    in bytes, tell what there was.
    """

    erasure: str
    shipment: ShipmentId
    label: str
    signer: str
    root: str
    sequence: int
    packs: int
    size: int
    began: str

    def encode(self) -> bytes:
        return canon.dump(_write(self))

    def put(self, store: Path) -> None:
        """From here on the directory is no store any more. Raises OSError."""
        write_durably(store / FILE, self.encode())


def _write(intent: Intent) -> Json:
    return {
        "began": intent.began,
        "erasure": intent.erasure,
        "format": FORMAT,
        "label": intent.label,
        "packs": intent.packs,
        "root": intent.root,
        "sequence": intent.sequence,
        "shipment": intent.shipment,
        "signer": intent.signer,
        "size": intent.size,
        "version": 1,
    }


def _parse(fields: canon.Fields) -> Intent:
    fields.form(FORMAT)
    return Intent(
        erasure=fields.hex("erasure", 16),
        shipment=ShipmentId(fields.hex("shipment", 16)),
        label=fields.text("label", 128, 1),
        signer=fields.hex("signer", 32),
        root=fields.hex("root", 32, empty=True),
        sequence=fields.number("sequence"),
        packs=fields.number("packs"),
        size=fields.number("size"),
        began=fields.time("began"),
    )


def stands(store: Path) -> bool:
    """Whether an erase has begun there, whatever its mark says."""
    return os.path.lexists(store / FILE)


def refuse(store: Path) -> None:
    """Refuse a directory in which an erase has begun."""
    if stands(store):
        raise ErasedInPartError(f"{store} is erased in part: an erase has begun there")


def read(store: Path) -> Intent:
    """The mark of an erase that has begun; ErasedInPartError too where it cannot be read."""
    by_hand = f"Nobody knows any more what {store} held: remove what is left of it by hand."
    try:
        data = read_small(store / FILE, _MOST + 1)
    except OSError as exc:
        what = f"{store}: {FILE} cannot be read ({exc.strerror})"
        raise ErasedInPartError(what, todo=by_hand) from exc
    try:
        return canon.read(data, FILE, _parse, _write, ErasedInPartError, _MOST)
    except ErasedInPartError as exc:
        raise ErasedInPartError(f"{store}: {exc.what}", todo=by_hand) from exc
