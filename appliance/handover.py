"""Through whose hands a shipment goes, as operators write it down and read it, at a console of
whatever kind.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from appliance.errors import (
    BadInputError,
    CustodyRefusedError,
    HandOverError,
    NotAStoreError,
)
from appliance.jobs import custody as custodian
from appliance.language import Translator, marked
from appliance.seal import chain, custody, deed, statement, text
from appliance.seal.chain import FLAWS, Expected, Finding
from appliance.seal.custody import Appended, Chain, Clock, Custody, Deed, What, Who
from appliance.seal.identity import Device, device_fingerprint
from appliance.seal.keys import FINGERPRINT_SIZE, fingerprint
from appliance.seal.store import Store

APART = marked("Seal and key never travel on one path; nor does this code travel with the device.")
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
