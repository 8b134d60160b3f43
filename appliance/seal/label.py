"""The label's text: what its QR code holds and a scanner types (store-format.md, section 8)."""

import base64
import re
import unicodedata
from dataclasses import dataclass
from struct import Struct
from typing import Self

from blake3 import blake3

from appliance.errors import BadInputError, UnknownFormatError
from appliance.language import marked
from appliance.model import ShipmentId
from appliance.seal import text
from appliance.seal.keys import FINGERPRINT_SIZE, fingerprint
from appliance.seal.statement import Seal

_FIELDS = Struct("32s20s4s4s")  # seal root, device fingerprint, shipment, check
assert _FIELDS.size == 60
assert FINGERPRINT_SIZE == 20
_CHECK_SIZE = 4
_MARK = "MG1"
SIZE = len(_MARK) + _FIELDS.size * 8 // 5  # characters
assert SIZE == 99
_SYMBOLOGY = re.compile(r"\A\s*\][Qq][0-6]")  # ISO/IEC 15424: some scanners type it in front
_BASE32 = re.compile(r"[A-Z2-7]+")
_RELEASE = re.compile(r"MG[0-9]")
_AGAIN = marked(
    "Scan it again. Where the scanner types other letters than it reads, set the keyboard of this "
    "computer and that of the scanner to the same layout, without an input method."
)


@dataclass(frozen=True, slots=True)
class Label:
    """A seal root (32 bytes), the fingerprint of the device that signed it (20 bytes), and of the
    shipment's id the first 4 bytes, in hex: enough to tell labels apart, and to prove nothing.
    """

    root: bytes
    device: bytes
    shipment: str

    @classmethod
    def of(cls, seal: Seal) -> Self:
        return cls(seal.root(), fingerprint(bytes.fromhex(seal.device)), seal.shipment[:8])

    def is_of(self, shipment: ShipmentId) -> bool:
        return shipment.startswith(self.shipment)

    def __str__(self) -> str:
        body = self.root + self.device + bytes.fromhex(self.shipment)
        return _MARK + base64.b32encode(body + _check(body)).decode()

    @classmethod
    def parse(cls, typed: str) -> Self:
        """The label in what was scanned or typed: any case, spaces, dashes and line ends, and the
        wide letters that an input method makes of what a scanner types.
        """
        narrow = unicodedata.normalize("NFKC", typed)
        plain = text.SEPARATORS.sub("", _SYMBOLOGY.sub("", narrow))
        mark, body = plain[: len(_MARK)].upper(), plain[len(_MARK) :]
        if _RELEASE.fullmatch(mark) and mark != _MARK:
            raise UnknownFormatError(
                f"The label is of format version {mark[-1]}; known here is 1",
                safe="Nothing was changed.",
            )
        if not plain:
            raise BadInputError("No label was scanned or typed", todo=_AGAIN)
        if mark != _MARK:
            raise BadInputError(
                f"This is no label of MotionGear: its text begins with {_MARK}", todo=_AGAIN
            )
        if len(plain) != SIZE:
            raise BadInputError(
                f"A label has {SIZE} letters and digits, and not {len(plain)} of them", todo=_AGAIN
            )
        body = body.upper().translate(text.CONFUSED) if body.isascii() else ""
        data = base64.b32decode(body) if _BASE32.fullmatch(body) else bytes(_FIELDS.size)
        root, device, shipment, check = _FIELDS.unpack(data)
        if check != _check(data[:-_CHECK_SIZE]):
            raise BadInputError(
                "The label was misread or mistyped: its check does not fit the rest", todo=_AGAIN
            )
        return cls(root, device, shipment.hex())


def _check(body: bytes) -> bytes:
    return blake3(body, derive_key_context="motiongear/1 label").digest(_CHECK_SIZE)
