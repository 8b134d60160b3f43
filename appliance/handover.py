"""Through whose hands a shipment goes, as operators write it down and read it, at a console of
whatever kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from appliance.errors import (
    BadInputError,
    CustodyRefusedError,
    HandOverError,
    NotAStoreError,
)
from appliance.jobs import custody as custodian
from appliance.language import Translator, marked
from appliance.model import ShipmentId
from appliance.seal import chain, custody, deed, statement, text
from appliance.seal.chain import FLAWS, Expected, Finding, Kind
from appliance.seal.custody import Appended, Chain, Clock, Custody, Deed, What, Who
from appliance.seal.identity import Device, device_fingerprint
from appliance.seal.keys import FINGERPRINT_SIZE, fingerprint
from appliance.seal.store import Store

APART = marked("Seal and key never travel on one path; nor does this code travel with the device.")
# Why a record is not in the store, or not at home: what is wrong stands behind the first sentence.
UNSOUND = (
    marked("The device's chain of custody cannot be gone on from:"),
    marked("What was done is written down on this machine, and not lost."),
    marked("Leave the device as it is, and ask whoever had it."),
)
OWN_UNSOUND = (
    marked("This machine's own copy of the chain of custody cannot be gone on from:"),
    marked("What was done is written down in the store, and not lost."),
    marked("Leave this machine's copy as it is, and find out who has changed it."),
)
AT_HOME_ONLY = marked("The record is kept on this machine only: the store cannot be written.")
_NOBODY = "00" * 32
CLOCKS = {
    Clock.SYNCHRONISED: marked("clock kept right by others"),
    Clock.FREE: marked("own clock"),
}
DEEDS = {
    Deed.CREATED: marked("created"),
    Deed.INGESTED: marked("ingested"),
    Deed.SEALED: marked("sealed"),
    Deed.HANDED_OVER: marked("handed over"),
    Deed.RECEIVED: marked("received"),
    Deed.VERIFIED: marked("verified"),
    Deed.OPENED: marked("opened"),
    Deed.RESTORED: marked("restored"),
    Deed.CHECKED: marked("checked"),
    Deed.ERASED: marked("erased"),
}


@dataclass(frozen=True, slots=True)
class Hands:
    """Who has, gives or takes a shipment, and where; what is empty the environment says."""

    name: str = ""
    organisation: str = ""
    where: str = ""

    def who(self) -> Who:
        return Who(_short(self.name, deed.NAME), _short(self.organisation, deed.NAME))

    def holding(self, about: Custody) -> Custody:
        who = Hands(self.name or about.who.name, self.organisation or about.who.organisation).who()
        return replace(about, who=who, where=_short(self.where or about.where, deed.WHERE))


def _short(typed: str, most: int) -> str:
    if len(typed) > most:
        raise BadInputError(
            f"{typed[:32]!r}... has {len(typed)} characters: a record of custody holds {most}",
            todo="Say it shorter.",
        )
    return typed


def sentence(finding: Finding, _: Translator) -> str:
    """What is wrong with a chain, and at which record."""
    about = (
        _("record {number}").format(number=finding.number) if finding.number else _("the chain")
    )
    return f"{about}: {_(FLAWS[finding.kind])} ({finding.kind})"


class Whose(StrEnum):
    """What is known of the device that a shipment was begun and sealed by."""

    OWN = "own"
    EXPECTED = "expected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Known:
    """A chain as the store and this home have it. ``findings`` are in that of the store, ``own``
    what is wrong with the copy at home. ``only_here`` are the numbers of records that the store
    has not: it could not be written, or they were taken from it. ``codes`` are those of the
    hand-overs that this home has signed, by their numbers.
    """

    records: tuple[deed.Signed, ...]
    findings: tuple[Finding, ...]
    own: tuple[Finding, ...]
    only_here: frozenset[int]
    codes: Mapping[int, str]
    whose: Whose

    @property
    def is_sound(self) -> bool:
        return not any(one.is_error for one in self.findings)


def known(home: Path, place: Path, device: str = "") -> Known:
    """What the chain of the store at ``place`` tells, compared with the copy at home where there
    is one. ``device`` is the fingerprint of the device that should have sealed, where it is known.
    """
    there, own = chain_of(place), Device.of(home).public
    wanted = expected(place, there, device)
    here, wrong = _at_home(home, wanted.shipment)
    more = {number: data for number, data in here.items() if number > max(there, default=0)}
    findings = chain.verify(there, wanted, here)
    if _is_own(more, own):  # which nobody can tell from a store that could not be written
        findings = [one for one in findings if one.kind is not Kind.TRUNCATED]
    told = chain.records({**more, **there})
    whose = Whose.OWN if wanted.device == own else Whose.UNKNOWN
    return Known(
        records=tuple(told.values()),
        findings=tuple(findings),
        own=tuple(wrong),
        only_here=frozenset(more),
        codes={
            number: deed.code(deed.digest({**more, **there}[number]))
            for number, one in told.items()
            if one.record.deed is Deed.HANDED_OVER and one.record.signer == own
        },
        whose=Whose.EXPECTED if device else whose,
    )


def _at_home(home: Path, shipment: ShipmentId | None) -> tuple[Chain, list[Finding]]:
    """The copy at home, and what is wrong with it."""
    if shipment is None:
        return {}, []
    try:
        found = custody.read(custody.at_home(home, shipment))
    except CustodyRefusedError:
        return {}, [Finding(Kind.DAMAGED)]
    wrong = chain.verify(found, Expected(shipment)) if found else []
    return found, [one for one in wrong if one.is_error]


def _is_own(records: Chain, own: str) -> bool:
    known = chain.records(records)
    mine = [one for one in known.values() if one.record.signer == own and one.genuine]
    return len(mine) == len(records)


def chain_of(place: Path) -> Chain:
    """The chain in a store, or one that was exported."""
    inside = custody.in_store(place)
    return custody.read(inside if inside.exists() else place)


def expected(place: Path, told: Chain, device: str) -> Expected:
    """What the store and the operator say of it."""
    try:
        store = Store(place.absolute())
        root = statement.read(store.path).root().hex() if store.sealed else ""
        known = Expected(store.head.shipment, root, store.head.device)
    except NotAStoreError:
        known = Expected()
    if not device:
        return known
    wanted = text.parse_either(device, FINGERPRINT_SIZE, "the device's fingerprint")
    signers = {known.device} | {one.record.signer for one in chain.records(told).values()}
    hits = [one for one in signers if one and fingerprint(bytes.fromhex(one)) == wanted]
    return replace(known, device=hits[0] if hits else _NOBODY)


def hand_over(
    home: Path, place: Path, taker: Hands, receiver: str, giver: Hands
) -> tuple[str, Appended]:
    """Write down that a sealed shipment leaves these hands; the code by which both know it.
    ``receiver`` is the public key, in hex, of who is to sign for it; empty: nobody is named.
    """
    found = Store(place.absolute())
    root = statement.read(found.path).root().hex()
    if receiver and (len(receiver) != 64 or set(receiver) - set("0123456789abcdef")):
        raise BadInputError(f"{receiver!r} is no public key", todo="Give its 64 hex digits.")
    what = What(to=taker.who(), receiver=receiver)
    about = giver.holding(custodian.hands(home, found.head.shipment))
    made = custody.append(about, found.path, Deed.HANDED_OVER, root, what)
    return deed.code(made.digest), made


def receive(home: Path, place: Path, code: str, taker: Hands) -> tuple[str, Appended]:
    """Sign for a shipment that was handed over, and whose code is this where one is given; the
    code of that hand-over.
    """
    found = Store(place.absolute())
    root = statement.read(found.path).root().hex()
    about = taker.holding(custodian.hands(home, found.head.shipment))
    told = _answered(found, Device.of(home), code)
    what = What(code=told if code else "")
    return told, custody.append(about, found.path, Deed.RECEIVED, root, what)


def _answered(found: Store, own: Device, code: str) -> str:
    """The code of the hand-over that is waiting for an answer by this home."""
    told = custody.read(custody.in_store(found.path))
    length = chain.sound(told, found.head.shipment)
    if length < len(told):
        raise CustodyRefusedError(
            f"The chain of custody in {found.path} is not sound behind record {length}"
        )
    waiting = None
    for number, signed in chain.records(told).items():
        if signed.record.deed in {Deed.HANDED_OVER, Deed.RECEIVED}:
            waiting = number if signed.record.deed is Deed.HANDED_OVER else None
    if waiting is None:
        raise HandOverError("No hand-over of this shipment is waiting for an answer")
    wanted = deed.code(deed.digest(told[waiting]))
    given = text.parse_grouped(code, deed.CODE_SIZE, "the code") if code else None
    if given is not None and text.grouped(given) != wanted:
        raise HandOverError(
            "The code is not that of the hand-over in the store",
            todo="Treat the records as exchanged until the giver has told you theirs.",
        )
    named = chain.records(told)[waiting].record.what.receiver
    if named not in {"", own.public}:
        raise HandOverError(f"It was handed over to another key, {device_fingerprint(named)}")
    return wanted
