"""The seal: a signed statement over every byte of a store (store-format.md, section 8). Pure
but for ``read``.
"""

from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.block import read_small
from appliance.errors import SealDamagedError, SealMissingError
from appliance.events import Json
from appliance.model import PackId, ShipmentId
from appliance.seal import canon
from appliance.seal.files import MAX_FILES, NAME, SealedFile
from appliance.seal.head import refuse_unknown_features
from appliance.seal.identity import Device, device_fingerprint, signed_by
from appliance.seal.papers import MAX_DISKS, MAX_PACKS
from appliance.seal.store import SEAL

MAX_SEAL = 1 << 26
MAX_VALUES = 1 << 20  # 131,072 packs have 786,432, all else fewer than 24,000
LONGEST = 6 * 1024 + 2  # bytes: the waiver, all escaped
MAX_ACCEPTED = 256
FORMAT = "motiongear-seal"
_SIGNED = b"motiongear/1 seal\0"


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A pack as the seal vouches for it. ``index`` is the digest of its index frame, empty for a
    torn pack, which has none.
    """

    pack: PackId
    size: int
    records: int
    digest: str
    index: str

    @property
    def torn(self) -> bool:
        return not self.index


@dataclass(frozen=True, slots=True)
class SealedCanary:
    """The canary's digest, and which recipient has shown to be able to open it (empty: none)."""

    file: str
    opened_by: str
    at: str


@dataclass(frozen=True, slots=True)
class Seal:
    """What the device says of a store. Digests and keys are hex."""

    shipment: ShipmentId
    device: str
    created: str
    sequence: int
    previous: str
    head: str
    recipients: tuple[str, ...]
    contents: PackId
    packs: tuple[SealedPack, ...]
    canary: SealedCanary | None
    waiver: str
    accepted: tuple[str, ...]
    files: tuple[SealedFile, ...] = ()

    def body(self) -> bytes:
        return canon.dump(_write_body(self))

    def root(self) -> bytes:
        """32 bytes that stand for the whole sealed store."""
        return blake3(self.body(), derive_key_context="motiongear/1 seal root").digest()

    @property
    def device_fingerprint(self) -> str:
        return device_fingerprint(self.device)


@dataclass(frozen=True, slots=True)
class Signed:
    """A seal with the device's signature."""

    seal: Seal
    signature: str

    def encode(self) -> bytes:
        return canon.dump(_write_signed(self))


def _write_canary(canary: SealedCanary) -> Json:
    return {"at": canary.at, "file": canary.file, "opened_by": canary.opened_by}


def _write_body(seal: Seal) -> dict[str, Json]:
    canary = seal.canary
    return {
        "accepted": list(seal.accepted),
        "canary": None if canary is None else _write_canary(canary),
        "contents": seal.contents,
        "created": seal.created,
        "device": seal.device,
        "features": [],
        "files": [
            {"blake3": one.digest, "name": one.name, "size": one.size} for one in seal.files
        ],
        "format": FORMAT,
        "head": seal.head,
        "packs": [
            {
                "blake3": one.digest,
                "id": one.pack,
                "index": one.index,
                "records": one.records,
                "size": one.size,
            }
            for one in seal.packs
        ],
        "previous": seal.previous,
        "recipients": list(seal.recipients),
        "sequence": seal.sequence,
        "shipment": seal.shipment,
        "version": 1,
        "waiver": seal.waiver,
    }


def _write_signed(signed: Signed) -> Json:
    return {"seal": _write_body(signed.seal), "signature": signed.signature}


def _parse_canary(fields: canon.Fields | None) -> SealedCanary | None:
    if fields is None:
        return None
    return SealedCanary(
        fields.hex("file", 32), fields.text("opened_by", 39), fields.time("at", empty=True)
    )


def _parse_pack(fields: canon.Fields) -> SealedPack:
    return SealedPack(
        pack=PackId(fields.hex("id", 16)),
        size=fields.number("size"),
        records=fields.number("records"),
        digest=fields.hex("blake3", 32),
        index=fields.hex("index", 32, empty=True),
    )


def _parse_files(fields: canon.Fields) -> tuple[SealedFile, ...]:
    found = tuple(
        SealedFile(one.name("name", NAME), one.number("size"), one.hex("blake3", 32))
        for one in fields.objects("files", MAX_FILES)
    )
    names = [one.name for one in found]
    if names != sorted(set(names)):
        raise fields.bad("files", "is out of order")
    return found


def _parse_body(fields: canon.Fields) -> Seal:
    fields.form(FORMAT)
    refuse_unknown_features(fields)
    return Seal(
        shipment=ShipmentId(fields.hex("shipment", 16)),
        device=fields.hex("device", 32),
        created=fields.time("created"),
        sequence=fields.number("sequence", 1),
        previous=fields.hex("previous", 32, empty=True),
        head=fields.hex("head", 32),
        recipients=fields.strings("recipients", 16, 39),
        contents=PackId(fields.hex("contents", 16)),
        packs=tuple(_parse_pack(one) for one in fields.objects("packs", MAX_PACKS, 1)),
        canary=_parse_canary(fields.object_or_none("canary")),
        waiver=fields.text("waiver"),
        accepted=fields.strings("accepted", MAX_DISKS, MAX_ACCEPTED),
        files=_parse_files(fields),
    )


def _parse_signed(fields: canon.Fields) -> Signed:
    return Signed(_parse_body(fields.object("seal")), fields.hex("signature", 64))


def sign(seal: Seal, device: Device) -> Signed:
    return Signed(seal, device.sign(_SIGNED + seal.body()).hex())


def parse(data: bytes) -> Seal:
    """The seal in seal.json's bytes, its signature checked against the device key that it
    names.
    """
    signed = canon.read(
        data,
        SEAL,
        _parse_signed,
        _write_signed,
        SealDamagedError,
        MAX_SEAL,
        values=MAX_VALUES,
        longest=LONGEST,
    )
    message = _SIGNED + signed.seal.body()
    if not signed_by(signed.seal.device, bytes.fromhex(signed.signature), message):
        raise SealDamagedError("The signature of the seal is not that of the device it names")
    ids = [one.pack for one in signed.seal.packs]
    if len(set(ids)) != len(ids):
        raise SealDamagedError("The seal lists a pack twice")
    return signed.seal


def read(store: Path) -> Seal:
    """The seal of a store, also where an erase has begun."""
    try:
        data = read_small(store / SEAL, MAX_SEAL + 1)
    except OSError as exc:
        raise SealMissingError(f"{store} holds no {SEAL} ({exc.strerror})") from exc
    return parse(data)
