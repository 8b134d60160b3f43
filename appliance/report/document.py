"""The report as a document: what is known of a shipment's migration, signed by who gathered it
(report-format.md).

Canonical JSON, ``{"report": ..., "signature": ..., "signer": ...}``; the dataclasses below are its
schema, field by field. An empty text and a null are what is not known; nothing is guessed.
"""

from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, TypeVar, cast, get_args, get_origin, get_type_hints

from blake3 import blake3

from appliance.errors import ReportRefusedError, SignerMismatchError
from appliance.events import Json
from appliance.model import DiskFacts, DiskId, MachineFacts, ShipmentId
from appliance.seal import canon, machine, text
from appliance.seal.canon import Fields
from appliance.seal.certificate import Erased, parse_erased
from appliance.seal.identity import Device, device_fingerprint, signed_by
from appliance.seal.keys import FINGERPRINT_SIZE
from appliance.seal.papers import parse_facts
from appliance.seal.verify import Trust

FORMAT = "motiongear-report"
MAX_REPORT = 1 << 26
MOST = 1 << 14  # entries of a list
MOST_RANGES = 1024  # of a disk that are told one by one
LONGEST = 4096  # characters of a text
_SIGNED = b"motiongear/1 report\0"
_FINGERPRINT = 39

T = TypeVar("T")
_Read = Callable[[Fields, str], object]


def _texts(found: Fields, key: str) -> tuple[str, ...]:
    return found.strings(key, MOST, LONGEST)


def _number_or_null(found: Fields, key: str) -> int | None:
    return found.number_or_none(key)


# What stands in a field, and how it is read. Times are UTC; sizes are bytes.
Text = Annotated[str, lambda found, key: found.text(key, LONGEST)]
Texts = Annotated[tuple[str, ...], _texts]
Time = Annotated[str, lambda found, key: found.time(key, empty=True)]
Id = Annotated[DiskId, lambda found, key: DiskId(found.hex(key, 16, empty=True))]
Ship = Annotated[ShipmentId, lambda found, key: ShipmentId(found.hex(key, 16))]
Root = Annotated[str, lambda found, key: found.hex(key, 32, empty=True)]
Print = Annotated[str, lambda found, key: found.text(key, _FINGERPRINT)]
Count = Annotated[int, lambda found, key: found.number(key)]
Maybe = Annotated[int | None, _number_or_null]
Flag = Annotated[bool, lambda found, key: found.flag(key)]


@dataclass(frozen=True, slots=True)
class Reader:
    """A recipient: whoever has its private key may open the shipment."""

    name: Text
    role: Text
    fingerprint: Print


@dataclass(frozen=True, slots=True)
class Sealing:
    """What the seal says. ``accepted_here``: this home had the signer and the root from elsewhere
    when it verified or restored the shipment.
    """

    root: Root
    created: Time
    sequence: Count
    previous: Root
    packs: Count
    torn: Count
    size: Count
    waiver: Text
    incomplete: Texts
    canary_by: Text
    canary_at: Time
    accepted_here: Flag


@dataclass(frozen=True, slots=True)
class Shipment:
    """``device`` is the fingerprint of the device that began it."""

    id: Ship
    label: Text
    created: Time
    device: Text
    block_size: Maybe
    readers: tuple[Reader, ...]
    seal: Sealing | None


@dataclass(frozen=True, slots=True)
class Range:
    offset: Count
    length: Count


@dataclass(frozen=True, slots=True)
class Splice:
    """A session that went on at ``block`` where an earlier one had stopped."""

    session: Count
    block: Count


@dataclass(frozen=True, slots=True)
class Content:
    """What the disk consists of in blocks, and the root of its manifest. ``known_by``: ``index``,
    the packs' indexes were opened for this report; ``proved``, every pack was, before.

    ``unreadable_bytes`` were stored as zeros; of the ``ranges`` they lie in the first are listed.
    Where only the blocks are known, ``unit`` is the block size and bytes are those of the blocks.
    """

    known_by: Text
    root: Root
    data: Count
    zero: Count
    unreadable: Count
    unknown: Count
    unreadable_bytes: Count
    unit: Count
    range_count: Count
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the shipment at a point. ``state``: complete, incomplete or not known. ``lost``
    are packs that tell nothing, each with the reason. ``inside`` is what its file systems tell of
    the machine.
    """

    disk: Id
    point: Count
    machine: Text
    state: Text
    packs: Maybe
    stored: Maybe
    splices: tuple[Splice, ...]
    facts: DiskFacts | None
    inside: MachineFacts | None
    content: Content | None
    lost: Texts


@dataclass(frozen=True, slots=True)
class Failure:
    """The words a job ended with, where it did not finish."""

    name: Text
    code: Count
    what: Text
    safe: Text
    todo: Text


@dataclass(frozen=True, slots=True)
class Work:
    """A job. ``told_by`` is the fingerprint of the device whose records tell of it; ``runs`` is
    how often it was started. ``seconds`` are from ``began`` to ``ended``, rests included; ``rate``
    is bytes a second over them, where it ran once: clocks tell whole seconds, so that of a short
    job is rough.
    """

    told_by: Print
    job: Count
    kind: Text
    title: Text
    disk: Id
    state: Text
    runs: Count
    began: Time
    ended: Time
    seconds: Maybe
    read: Maybe
    written: Maybe
    rate: Maybe
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Volume:
    """What a disk became at a target. ``state`` is the tag on the volume itself; what the last
    check found is known where ``checked_at`` is: the manifest compared with had ``checked_root``.
    """

    target: Text
    name: Text
    location: Text
    disk: Id
    point: Count
    origin: Root
    size: Count
    state: Text
    checked_at: Time
    checked_root: Root
    checked_blocks: Maybe
    wrong: Maybe
    unknown: Maybe


@dataclass(frozen=True, slots=True)
class Repair:
    """Blocks that damaged packs have lost: at the restore, and now, once rounds have sent them."""

    volume: Text
    disk: Id
    why: Texts
    lost: Count
    left: Maybe


@dataclass(frozen=True, slots=True)
class DiskRoot:
    disk: Id
    root: Root


@dataclass(frozen=True, slots=True)
class Turn:
    """A round, as one of its ends tells it: ``end`` is ``source`` or ``gate``. ``lag_ms`` is how
    long the next round would take: how far the replica is behind.
    """

    told_by: Print
    job: Count
    end: Text
    at: Time
    machine: Text
    point: Count
    form: Text
    kept: Flag
    ms: Maybe
    read: Maybe
    changed: Maybe
    sent: Maybe
    written: Maybe
    lag_ms: Maybe
    roots: tuple[DiskRoot, ...]


@dataclass(frozen=True, slots=True)
class CutOver:
    """A last round: every disk read from one frozen point. ``downtime_ms`` is how long the source
    stood still for it, where MotionGear froze it; ``frozen`` are the mounts.
    """

    told_by: Print
    job: Count
    at: Time
    machine: Text
    point: Count
    kept: Flag
    downtime_ms: Maybe
    ms: Maybe
    sent: Maybe
    frozen: Texts
    loose: Texts


@dataclass(frozen=True, slots=True)
class Point:
    """A recovery point, as the target has it. ``taken`` by the source's clock, ``made`` by the
    target's.
    """

    target: Text
    machine: Text
    point: Count
    form: Text
    complete: Flag
    chosen: Flag
    taken: Time
    made: Time
    roots: tuple[DiskRoot, ...]


@dataclass(frozen=True, slots=True)
class HandRecord:
    """A record of custody (custody-format.md); ``signer`` is a fingerprint, ``genuine`` whether
    the signature is its.
    """

    number: Count
    deed: Text
    at: Time
    clock: Text
    name: Text
    organisation: Text
    where: Text
    to: Text
    disk: Id
    note: Text
    signer: Print
    genuine: Flag
    digest: Root


@dataclass(frozen=True, slots=True)
class Flaw:
    """What verification found at the record of that number (0: the chain as a whole)."""

    kind: Text
    number: Count
    error: Flag


@dataclass(frozen=True, slots=True)
class Custody:
    """The chain as it was found; it was verified when the report was made."""

    records: tuple[HandRecord, ...]
    flaws: tuple[Flaw, ...]


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erase certificate says of the shipment: ``signer`` is the device that erased it,
    ``digest`` that of the certificate.
    """

    signer: Print
    by: Text
    at: Time
    clock: Text
    digest: Root
    erased: Erased


@dataclass(frozen=True, slots=True)
class Source:
    """Another report that this one has taken over: who signed it, when, and its digest."""

    signer: Print
    created: Time
    digest: Root


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known of a shipment's way. ``gaps`` are what could not be learnt, and why."""

    created: Time
    gathered_by: Print
    release: Text
    shipment: Shipment
    disks: tuple[Disk, ...]
    jobs: tuple[Work, ...]
    volumes: tuple[Volume, ...]
    repairs: tuple[Repair, ...]
    rounds: tuple[Turn, ...]
    cut_overs: tuple[CutOver, ...]
    points: tuple[Point, ...]
    custody: Custody | None
    erasures: tuple[Erasure, ...]
    sources: tuple[Source, ...]
    gaps: Texts

    def body(self) -> bytes:
        return canon.dump(_write_body(self))


@dataclass(frozen=True, slots=True)
class Signed:
    """A report with the signature of the device that gathered it; both in hex."""

    report: Report
    signature: str
    signer: str

    def encode(self) -> bytes:
        return canon.dump(_write(self))

    def digest(self) -> str:
        """By which papers name it, in hex."""
        return blake3(self.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        return device_fingerprint(self.signer)


# --- writing and reading, as the dataclasses say --------------------


def _write_body(report: Report) -> dict[str, Json]:
    return {"format": FORMAT, "version": 1, **cast("dict[str, Json]", asdict(report))}


def _write(signed: Signed) -> Json:
    return {
        "report": _write_body(signed.report),
        "signature": signed.signature,
        "signer": signed.signer,
    }


def _parse(found: Fields) -> Signed:
    body = found.object("report")
    body.form(FORMAT)
    report = _parsed(Report, body)
    body.done()
    return Signed(report, found.hex("signature", 64), found.hex("signer", 32))


def _parsed(kind: type[T], found: Fields) -> T:
    """A dataclass from a JSON object with its fields. What else the object has is refused when it
    is compared with what would be written.
    """
    return kind(**{name: read(found, name) for name, read in _readers(cast("Hashable", kind))})


@cache
def _readers(kind: Hashable) -> list[tuple[str, _Read]]:
    assert isinstance(kind, type)
    assert is_dataclass(kind)
    hints = get_type_hints(kind, include_extras=True)
    return [(one.name, _reader(hints[one.name])) for one in fields(kind)]


def _reader(hint: object) -> _Read:
    if get_origin(hint) is Annotated:
        return cast("_Read", get_args(hint)[1])
    if get_origin(hint) is UnionType:
        some = _parser(get_args(hint)[0])

        def maybe(found: Fields, key: str) -> object:
            inside = found.object_or_none(key)
            return None if inside is None else some(inside)

        return maybe
    if get_origin(hint) is tuple:
        each = _parser(get_args(hint)[0])
        return lambda found, key: tuple(each(one) for one in found.objects(key, MOST))
    whole = _parser(cast("type", hint))
    return lambda found, key: whole(found.object(key))


def _parser(kind: type) -> Callable[[Fields], object]:
    if kind is DiskFacts:
        return parse_facts
    if kind is MachineFacts:
        return machine.parse
    if kind is Erased:
        return parse_erased
    return lambda found: _parsed(kind, found)


def sign(report: Report, device: Device) -> Signed:
    return Signed(report, device.sign(_message(report, device.public)).hex(), device.public)


def _message(report: Report, signer: str) -> bytes:
    return _SIGNED + bytes.fromhex(signer) + report.body()


def parse(data: bytes) -> Signed:
    """The report in a file's bytes, its signature checked against the key it names; raises
    ReportRefusedError or UnknownFormatError.
    """
    found = canon.read(data, "The report", _parse, _write, ReportRefusedError, MAX_REPORT)
    message = _message(found.report, found.signer)
    if not signed_by(found.signer, bytes.fromhex(found.signature), message):
        raise ReportRefusedError("The report's signature is not that of the device it names")
    if found.report.gathered_by != found.fingerprint:
        raise ReportRefusedError("The report says that another device gathered it than signed it")
    return found


def verified(data: bytes, device: str = "") -> tuple[Signed, Trust]:
    """The report, and whether it is *authentic*: signed by the ``device`` whose fingerprint was
    given, as text or words. Without one it is *consistent*: as somebody signed it.
    """
    found = parse(data)
    if not device:
        return found, Trust.CONSISTENT
    wanted = text.grouped(text.parse_either(device, FINGERPRINT_SIZE, "The device fingerprint"))
    if wanted != found.fingerprint:
        raise SignerMismatchError(
            f"The report was signed by {found.fingerprint}, not by the device expected",
            safe="Nothing was changed: it was only read.",
            todo="Ask for the report anew, by another path; do not go by this one.",
        )
    return found, Trust.AUTHENTIC
