"""Whether a chain of custody holds together: what is wrong with it, by stable names (docs/custody-
format.md). Pure; anyone can do it, offline.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from appliance.errors import CustodyRefusedError, UnknownFormatError
from appliance.language import marked
from appliance.model import ShipmentId
from appliance.seal import deed
from appliance.seal.deed import Deed, Record


class Kind(StrEnum):
    """What may be found; stable names."""

    DAMAGED = "damaged"
    BAD_SIGNATURE = "bad-signature"
    GAP = "gap"
    BROKEN = "broken"
    FORK = "fork"
    TRUNCATED = "truncated"
    ORDER = "order"
    FOREIGN = "foreign"
    OTHER_ROOT = "other-root"
    OTHER_SIGNER = "other-signer"
    OTHER_RECEIVER = "other-receiver"
    OTHER_CODE = "other-code"
    EMPTY = "empty"
    CLOCK_BACKWARDS = "clock-backwards"
    NOT_COUNTERSIGNED = "not-countersigned"
    SAME_SIGNER = "same-signer"
    BEGINS_LATE = "begins-late"
    LACKS_SEAL = "lacks-seal"
    AFTER_ERASED = "after-erased"


_WARNINGS = frozenset(
    {
        Kind.CLOCK_BACKWARDS,
        Kind.NOT_COUNTERSIGNED,
        Kind.SAME_SIGNER,
        Kind.BEGINS_LATE,
        Kind.LACKS_SEAL,
        Kind.AFTER_ERASED,
    }
)
_UNDER_SEAL = frozenset(
    {
        Deed.SEALED,
        Deed.HANDED_OVER,
        Deed.RECEIVED,
        Deed.VERIFIED,
        Deed.OPENED,
        Deed.RESTORED,
        Deed.CHECKED,
    }
)


# What a finding says of its record, or of the chain.
FLAWS: Mapping[str, str] = {
    Kind.DAMAGED: marked("a record is damaged"),
    Kind.BAD_SIGNATURE: marked("the signature is not that of the key it names"),
    Kind.GAP: marked("a record is missing"),
    Kind.BROKEN: marked("it does not follow the record before it"),
    Kind.FORK: marked("another copy has another record here"),
    Kind.TRUNCATED: marked("another copy has more records"),
    Kind.ORDER: marked("this may not stand here"),
    Kind.FOREIGN: marked("it is of another shipment"),
    Kind.OTHER_ROOT: marked("it names another seal"),
    Kind.OTHER_SIGNER: marked("it is not signed by the shipment's device"),
    Kind.OTHER_RECEIVER: marked("another took it than it was handed to"),
    Kind.OTHER_CODE: marked("it names another code than that of the hand-over"),
    Kind.EMPTY: marked("there is no record"),
    Kind.CLOCK_BACKWARDS: marked("it is older than the record before it"),
    Kind.NOT_COUNTERSIGNED: marked("nobody has signed for taking it"),
    Kind.SAME_SIGNER: marked("who handed it over signed for taking it"),
    Kind.BEGINS_LATE: marked("the chain does not begin with the shipment"),
    Kind.LACKS_SEAL: marked("no record tells of the seal"),
    Kind.AFTER_ERASED: marked("it was done after the erase"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at the record of this number (0: the chain as a whole)."""

    kind: Kind
    number: int = 0

    @property
    def is_error(self) -> bool:
        return self.kind not in _WARNINGS


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of the shipment by another path, where anything is. ``device`` is
    the public key in hex of the device that the shipment was begun and sealed by.
    """

    shipment: ShipmentId | None = None
    root: str = ""
    device: str = ""


def records(chain: Mapping[int, bytes]) -> dict[int, deed.Signed]:
    """Those that can be read, by the numbers of their files."""
    found = {}
    for number, data in sorted(chain.items()):
        try:
            signed = deed.parse(data)
        except (CustodyRefusedError, UnknownFormatError):
            continue
        if signed.record.number == number:
            found[number] = signed
    return found


def sound(chain: Mapping[int, bytes], shipment: ShipmentId) -> int:
    """How many records, from the first on, can be gone on from: each is there, can be read, is of
    the shipment, is signed, and names the one before.
    """
    known, length, before = records(chain), 0, ""
    while (signed := known.get(length + 1)) is not None:
        one = signed.record
        if (one.shipment, one.previous) != (shipment, before) or not signed.genuine:
            break
        length += 1
        before = deed.digest(chain[length])
    return length


def verify(
    chain: Mapping[int, bytes],
    expected: Expected | None = None,
    against: Mapping[int, bytes] | None = None,
) -> list[Finding]:
    """All that is found in a chain, in the order of its records; ``against`` is another copy."""
    expected = expected or Expected()
    if not chain:
        return [Finding(Kind.EMPTY)]
    known = records(chain)
    found = [
        *_links(chain, known),
        *_signers(known, expected),
        *_order(known, expected),
        *_hand_overs(chain, known),
        *_compared(chain, against or {}),
    ]
    return sorted(dict.fromkeys(found), key=lambda one: one.number)


def _links(chain: Mapping[int, bytes], known: Mapping[int, deed.Signed]) -> Iterator[Finding]:
    """Every record is there, is one, is signed, and names the one before."""
    before = ""
    for number in range(1, max(chain) + 1):
        if number not in chain:
            if number == 1 or number - 1 in chain:  # once for all that are missing here
                yield Finding(Kind.GAP, number)
            continue
        signed = known.get(number)
        if signed is None:
            yield Finding(Kind.DAMAGED, number)
        else:
            if not signed.genuine:
                yield Finding(Kind.BAD_SIGNATURE, number)
            whole = number == 1 or number - 1 in chain
            if whole and signed.record.previous != before:
                yield Finding(Kind.BROKEN, number)
        before = deed.digest(chain[number])


def _signers(known: Mapping[int, deed.Signed], expected: Expected) -> Iterator[Finding]:
    """Records of this shipment, its device and its clock."""
    shipment, last = expected.shipment, ""
    for number, signed in known.items():
        one = signed.record
        shipment = shipment or one.shipment
        if one.shipment != shipment:
            yield Finding(Kind.FOREIGN, number)
        begun = one.deed in {Deed.CREATED, Deed.INGESTED, Deed.SEALED}
        if begun and expected.device and one.signer != expected.device:
            yield Finding(Kind.OTHER_SIGNER, number)
        if one.at < last:
            yield Finding(Kind.CLOCK_BACKWARDS, number)
        last = one.at


def _order(known: Mapping[int, deed.Signed], expected: Expected) -> Iterator[Finding]:
    """Deeds as they may follow each other, under one seal."""
    root, seen = "", set[Deed]()
    for number, signed in known.items():
        one = signed.record
        if not _may_stand(one, root, seen, first=number == 1):
            yield Finding(Kind.ORDER, number)
        if one.root and one.root != (expected.root or root or one.root):
            yield Finding(Kind.OTHER_ROOT, number)
        if Deed.ERASED in seen:
            yield Finding(Kind.AFTER_ERASED, number)
        if one.root and not root and one.deed is not Deed.SEALED:
            yield Finding(Kind.LACKS_SEAL, number)
        root = root or one.root
        seen.add(one.deed)
    if Deed.CREATED not in seen:
        yield Finding(Kind.BEGINS_LATE, 1)
    if expected.root and not root:
        yield Finding(Kind.LACKS_SEAL)


def _may_stand(one: Record, root: str, seen: set[Deed], *, first: bool) -> bool:
    if one.deed is Deed.CREATED and not first:
        return False
    if one.deed in {Deed.CREATED, Deed.INGESTED} and one.root:
        return False
    if one.deed in _UNDER_SEAL and not one.root:
        return False
    if root and not one.root:
        return False
    return not (one.deed is Deed.SEALED and (Deed.SEALED in seen or root))


def _hand_overs(chain: Mapping[int, bytes], known: Mapping[int, deed.Signed]) -> Iterator[Finding]:
    """Every hand-over is answered once, by another key, by the one it named, with its code."""
    given: Record | None = None
    for number, signed in known.items():
        one = signed.record
        if one.deed is Deed.HANDED_OVER:
            if given is not None:
                yield Finding(Kind.NOT_COUNTERSIGNED, given.number)
            given = one
        if one.deed is Deed.RECEIVED:
            if given is None:
                yield Finding(Kind.ORDER, number)
            else:
                yield from _answered(given, one, deed.code(deed.digest(chain[given.number])))
            given = None
    if given is not None:
        yield Finding(Kind.NOT_COUNTERSIGNED, given.number)


def _answered(given: Record, taken: Record, code: str) -> Iterator[Finding]:
    if given.what.receiver not in {"", taken.signer}:
        yield Finding(Kind.OTHER_RECEIVER, taken.number)
    if given.signer == taken.signer:
        yield Finding(Kind.SAME_SIGNER, taken.number)
    if taken.what.code not in {"", code}:
        yield Finding(Kind.OTHER_CODE, taken.number)


def _compared(chain: Mapping[int, bytes], other: Mapping[int, bytes]) -> Iterator[Finding]:
    """Where two copies part: only the first such record is told."""
    for number in sorted(set(chain) & set(other)):
        if chain[number] != other[number]:
            yield Finding(Kind.FORK, number)
            break
    if other and max(other) > max(chain):
        yield Finding(Kind.TRUNCATED, max(chain) + 1)
