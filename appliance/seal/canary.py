"""The canary: proof, before the device ships, that a recipient can open what it seals
(store-format.md, section 9).
"""

import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.block import read_small, write_durably
from appliance.errors import CanaryError, StoreRefusedError
from appliance.events import Json
from appliance.seal import canon, text
from appliance.seal.envelope import SECRET_SIZE, unwrap, wrap
from appliance.seal.head import FILE as HEAD
from appliance.seal.head import Head
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import WRAP

FILE = "canary.json"
CODE_SIZE = 16
_MOST = 1 << 16


@dataclass(frozen=True, slots=True)
class Canary:
    """canary.json: for each recipient (fingerprint) a wrap, and the proof of its code in hex."""

    shipment: str
    wraps: tuple[tuple[str, bytes, str], ...]


def _write(canary: Canary) -> Json:
    return {
        "shipment": canary.shipment,
        "type": "motiongear-canary",
        "version": 1,
        "wraps": [
            {"proof": proof, "recipient": recipient, "wrap": canon.b64(one)}
            for recipient, one, proof in canary.wraps
        ],
    }


def _parse(fields: canon.Fields) -> Canary:
    fields.choice("type", "motiongear-canary")
    fields.version()
    return Canary(
        shipment=fields.hex("shipment", 16),
        wraps=tuple(
            (one.text("recipient", 39, 39), one.base64("wrap", WRAP), one.hex("proof", 32))
            for one in fields.objects("wraps", 16, 1)
        ),
    )


def _code(secret: bytes) -> bytes:
    return blake3(secret, derive_key_context="motiongear/1 canary code").digest(CODE_SIZE)


def _proof(code: bytes) -> str:
    return blake3(code, derive_key_context="motiongear/1 canary proof").hexdigest()


def _info(head: Head) -> bytes:
    return b"motiongear/1 canary" + head.digest()


def create(store: Path, head: Head) -> None:
    """Write a fresh canary; its secrets are forgotten at once."""
    wraps = []
    for one in head.recipients:
        secret = os.urandom(SECRET_SIZE)
        wraps.append((one.fingerprint, wrap(secret, one, _info(head)), _proof(_code(secret))))
    canary = Canary(head.shipment, tuple(wraps))
    write_durably(store / FILE, canon.dump(_write(canary)))


def read_bytes(store: Path) -> bytes | None:
    """The file as it is, for its digest; None when there is none."""
    try:
        return read_small(store / FILE, _MOST)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise CanaryError(f"{FILE} cannot be read ({exc.strerror})") from exc


def parse(data: bytes, head: Head) -> Canary:
    """The canary in the file's bytes, which must be that of the shipment with this head."""
    canary = canon.read(data, FILE, _parse, _write, StoreRefusedError, _MOST)
    if canary.shipment != head.shipment:
        raise CanaryError(f"{FILE} belongs to another shipment", todo="Copy it again.")
    if [one for one, _, _ in canary.wraps] != [one.fingerprint for one in head.recipients]:
        raise CanaryError(
            f"{FILE} is not for the recipients of {HEAD}, in their order",
            todo="Make a new shipment.",
        )
    return canary


def _read(store: Path, head: Head) -> Canary:
    data = read_bytes(store)
    if data is None:
        raise CanaryError(f"The shipment has no {FILE}", todo="Make a new shipment.")
    return parse(data, head)


def open_code(store: Path, head: Head, key: PrivateKey) -> str:
    """What a recipient reads out to the technician: it proves that this key opens this
    shipment.
    """
    secret = unwrap([one for _, one, _ in _read(store, head).wraps], key, _info(head))
    if secret is None:
        raise CanaryError(
            f"The key {key.recipient.fingerprint} does not open this shipment's canary",
            safe="Nothing has been shipped to a key that cannot open it.",
            todo="Use the key the shipment was made for, or make a new shipment for this one.",
        )
    return text.grouped(_code(secret))


def who_opened(store: Path, head: Head, code_text: str) -> str:
    """The fingerprint of the recipient whose code this is; refuses a code that is nobody's."""
    code = text.parse_grouped(code_text, CODE_SIZE, "The canary code")
    for recipient, _, proof in _read(store, head).wraps:
        if _proof(code) == proof:
            return recipient
    raise CanaryError(
        "The code is not that of any recipient of this shipment",
        safe="The shipment is not marked as opened.",
        todo="Have it read out again; check that it was made from this shipment's canary.",
    )
