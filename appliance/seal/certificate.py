"""The certificate of an erase: what was done and what was seen, and no more, signed by the device
that did it (docs/erase-format.md). Pure.
"""

from dataclasses import dataclass
from enum import StrEnum

from blake3 import blake3

from appliance.errors import CertificateRefusedError
from appliance.events import Json
from appliance.model import ShipmentId
from appliance.seal import canon
from appliance.seal.identity import Device, device_fingerprint, signed_by

FORMAT = "motiongear-erase-certificate"
MAX_ERASED = 1024
MAX_LEFT = 256  # names that are told of what was left; all are counted
LONGEST_NAME = 1024
MOST = 1 << 26
_SIGNED = b"motiongear/1 erase certificate\0"


class KnownBy(StrEnum):
    """Whose word it is what was erased: that of the signed seal, of the public head of a shipment
    without one, or of the mark that an earlier erase has left.
    """

    SEAL = "seal"
    HEAD = "head"
    MARK = "mark"


class Method(StrEnum):
    """How the files' space was given back before their names went: as holes, or by cutting them to
    nothing where the file system knows no holes. Nothing is written over them.
    """

    PUNCHED = "punched"
    TRUNCATED = "truncated"


class Outcome(StrEnum):
    """What came of telling the disk which of its blocks are free."""

    NOT_ASKED = "not-asked"
    DONE = "done"
    NOT_SUPPORTED = "not-supported"
    NOT_PERMITTED = "not-permitted"
    FAILED = "failed"


class Delivered(StrEnum):
    """How it was known that somebody has what is erased."""

    CUSTODY = "custody"
    CHECKED = "checked"
    NOBODY = "nobody-known"


class Directory(StrEnum):
    REMOVED = "removed"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Discard:
    """``size`` is the bytes that the file system told its disk to forget, all that were free."""

    outcome: Outcome = Outcome.NOT_ASKED
    size: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """Pages of the packs, chosen at random, of which ``taken`` were read at their place on the
    ``device`` before; how many read there afterwards as they had, as zeros, or as something else.
    ``not_seen``: that could not be looked at, before or after, ``why`` in words.
    """

    taken: int = 0
    as_before: int = 0
    zeros: int = 0
    other: int = 0
    not_seen: int = 0
    device: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Copies:
    """Digests, in hex, of what is kept of the shipment where the certificate is: empty for what
    there was none of.
    """

    head: str = ""
    seal: str = ""
    custody: str = ""


@dataclass(frozen=True, slots=True)
class Erased:
    """One shipment's place. ``root`` is empty and ``sequence`` 0 where it was not sealed;
    ``signer`` is the device that it was begun by. ``packs`` are how many there
    were, ``size`` the bytes of all files. ``told`` is what the operator has said
    twice; ``left`` are names of files that are no part of a store, ``left_count`` of them.
    """

    erasure: str
    shipment: ShipmentId
    label: str
    signer: str
    root: str
    sequence: int
    known_by: KnownBy
    place: str
    packs: int
    size: int
    delivered: Delivered
    told: tuple[str, ...]
    began: str
    ended: str = ""
    method: Method = Method.PUNCHED
    discard: Discard = Discard()
    seen: Seen = Seen()
    left: tuple[str, ...] = ()
    left_count: int = 0
    directory: Directory = Directory.KEPT
    copies: Copies = Copies()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the device says it has done. ``device`` is its public key in hex, ``by`` who asked for
    it, as they gave their name, ``clock`` by what the times were told.
    """

    device: str
    by: str
    at: str
    clock: str
    erased: tuple[Erased, ...]

    @property
    def device_fingerprint(self) -> str:
        return device_fingerprint(self.device)


def write_erased(one: Erased) -> dict[str, Json]:
    return {
        "began": one.began,
        "copies": {
            "custody": one.copies.custody,
            "head": one.copies.head,
            "seal": one.copies.seal,
        },
        "delivered": one.delivered,
        "directory": one.directory,
        "discard": {"outcome": one.discard.outcome, "size": one.discard.size},
        "ended": one.ended,
        "erasure": one.erasure,
        "known_by": one.known_by,
        "label": one.label,
        "left": list(one.left),
        "left_count": one.left_count,
        "method": one.method,
        "packs": one.packs,
        "place": one.place,
        "root": one.root,
        "seen": {
            "as_before": one.seen.as_before,
            "device": one.seen.device,
            "not_seen": one.seen.not_seen,
            "other": one.seen.other,
            "taken": one.seen.taken,
            "why": one.seen.why,
            "zeros": one.seen.zeros,
        },
        "sequence": one.sequence,
        "shipment": one.shipment,
        "signer": one.signer,
        "size": one.size,
        "told": list(one.told),
    }


def parse_erased(fields: canon.Fields) -> Erased:
    return Erased(
        erasure=fields.hex("erasure", 16),
        shipment=ShipmentId(fields.hex("shipment", 16)),
        label=fields.text("label", 128, 1),
        signer=fields.hex("signer", 32),
        root=fields.hex("root", 32, empty=True),
        sequence=fields.number("sequence"),
        known_by=KnownBy(fields.choice("known_by", *KnownBy)),
        place=fields.text("place", 4 * LONGEST_NAME, 1),
        packs=fields.number("packs"),
        size=fields.number("size"),
        delivered=Delivered(fields.choice("delivered", *Delivered)),
        told=fields.strings("told", 8, 64),
        began=fields.time("began"),
        ended=fields.time("ended", empty=True),
        method=Method(fields.choice("method", *Method)),
        discard=_parse_discard(fields.object("discard")),
        seen=_parse_seen(fields.object("seen")),
        left=fields.strings("left", MAX_LEFT, LONGEST_NAME),
        left_count=fields.number("left_count"),
        directory=Directory(fields.choice("directory", *Directory)),
        copies=_parse_copies(fields.object("copies")),
    )


def _parse_discard(fields: canon.Fields) -> Discard:
    return Discard(Outcome(fields.choice("outcome", *Outcome)), fields.number("size"))


def _parse_seen(fields: canon.Fields) -> Seen:
    return Seen(
        taken=fields.number("taken"),
        as_before=fields.number("as_before"),
        zeros=fields.number("zeros"),
        other=fields.number("other"),
        not_seen=fields.number("not_seen"),
        device=fields.text("device", 256),
        why=fields.text("why", 256),
    )


def _parse_copies(fields: canon.Fields) -> Copies:
    return Copies(*(fields.hex(one, 32, empty=True) for one in ("head", "seal", "custody")))


def _write_body(made: Certificate) -> Json:
    return {
        "at": made.at,
        "by": made.by,
        "clock": made.clock,
        "device": made.device,
        "erased": [write_erased(one) for one in made.erased],
        "format": FORMAT,
        "version": 1,
    }


def _parse_body(fields: canon.Fields) -> Certificate:
    fields.form(FORMAT)
    return Certificate(
        device=fields.hex("device", 32),
        by=fields.text("by", 128, 1),
        at=fields.time("at"),
        clock=fields.text("clock", 256, 1),
        erased=tuple(parse_erased(one) for one in fields.objects("erased", MAX_ERASED, 1)),
    )


@dataclass(frozen=True, slots=True)
class _Signed:
    certificate: Certificate
    signature: str


def _write_signed(signed: _Signed) -> Json:
    return {"certificate": _write_body(signed.certificate), "signature": signed.signature}


def _parse_signed(fields: canon.Fields) -> _Signed:
    return _Signed(_parse_body(fields.object("certificate")), fields.hex("signature", 64))


def _message(made: Certificate) -> bytes:
    return _SIGNED + canon.dump(_write_body(made))


def sign(made: Certificate, device: Device) -> bytes:
    """The document, as it is to be kept and handed on."""
    return canon.dump(_write_signed(_Signed(made, device.sign(_message(made)).hex())))


def digest(data: bytes) -> str:
    """Digest of a document as it is kept, in hex."""
    return blake3(data).hexdigest()


def verify(data: bytes) -> Certificate:
    """The certificate in these bytes, signed by the device that it names. Whether that is the
    device expected, whoever asks has to compare. CertificateRefusedError for all else.
    """
    signed = canon.read(
        data, "the certificate", _parse_signed, _write_signed, CertificateRefusedError, MOST
    )
    made = signed.certificate
    if not signed_by(made.device, bytes.fromhex(signed.signature), _message(made)):
        raise CertificateRefusedError(
            "The signature of the certificate is not that of the device it names"
        )
    if not all(one.ended for one in made.erased):
        raise CertificateRefusedError("The certificate speaks of an erase that has not ended")
    return made
