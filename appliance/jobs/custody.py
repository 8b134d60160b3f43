"""What a job that has come to its end adds to the chain of custody."""

import os
import socket
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

from appliance.errors import CustodyRefusedError, StateError
from appliance.events import Json, Result
from appliance.jobs.desk import Desk
from appliance.jobs.spec import (
    CheckSpec,
    EraseSpec,
    IngestSpec,
    RestoreSpec,
    SealSpec,
    Spec,
    VerifySpec,
)
from appliance.model import ShipmentId
from appliance.seal import chain, custody, deed, erasing, statement
from appliance.seal.custody import Custody, Deed, What, Who
from appliance.seal.identity import Device

_ONCE = frozenset({Deed.CREATED, Deed.SEALED, Deed.ERASED})


def hands(home: Path, shipment: ShipmentId) -> Custody:
    """The home, as its environment says who and where that is: MOTIONGEAR_NAME, else the user;
    MOTIONGEAR_ORGANISATION; MOTIONGEAR_WHERE, else the name of the host.
    """
    who = Who(_told("MOTIONGEAR_NAME") or _user(), _told("MOTIONGEAR_ORGANISATION"))
    return Custody(home, shipment, who, _told("MOTIONGEAR_WHERE") or socket.gethostname())


def _told(name: str) -> str:
    """At most what a record holds; bytes that are no UTF-8 become question marks."""
    return os.environ.get(name, "").encode(errors="replace").decode()[: deed.NAME]


def _user() -> str:
    try:
        return getuser().encode(errors="replace").decode()[: deed.NAME]
    except (OSError, KeyError):  # a user without a name
        return str(os.getuid())


def note(spec: Spec, desk: Desk, shipment: ShipmentId) -> None:
    """Append what the finished job has done. Where no record can be kept, that is told; the job
    has come to its end all the same.
    """
    for about, store, done, root, what in _deeds(spec, desk.home, shipment):
        try:
            made = add(about, store, done, root, what)
        except (StateError, CustodyRefusedError) as exc:
            desk.emit(Result("custody", {"deed": done, "not_kept": exc.what}))
        else:
            if made is not None:
                desk.emit(Result("custody", {"deed": done, **figures(made)}))


def figures(made: custody.Appended) -> dict[str, Json]:
    """Where a record is kept, and what keeps it out of the store, or out of this home."""
    told: dict[str, Json] = {"in_store": made.in_store}
    if made.finding is not None:
        told |= {"finding": made.finding.kind, "number": made.finding.number}
    if made.own is not None:
        told |= {"own_finding": made.own.kind, "own_number": made.own.number}
    return told


_Entry = tuple[Custody, Path | None, Deed, str, What]


def _deeds(spec: Spec, home: Path, shipment: ShipmentId) -> Iterator[_Entry]:
    if isinstance(spec, EraseSpec):
        for path, about, root, *_, erasure in spec.places:
            try:
                known = erasing.record_of(home, erasure)
            except StateError:  # the job has said so of this place; the others have their records
                continue
            if known is None or known.phase is not erasing.Phase.ENDED:
                continue
            if (known.erased.place, known.erased.shipment, known.erased.root) != (
                path,
                about,
                root,
            ):
                continue
            what = What(note=f"erase {erasure}: {path}"[: deed.NOTE])
            yield hands(home, ShipmentId(about)), None, Deed.ERASED, root, what
        return
    if isinstance(spec, IngestSpec):
        what = What(disk=spec.disk, note=spec.machine[: deed.NOTE])
        yield hands(home, shipment), Path(spec.store), Deed.INGESTED, "", what
        return
    if not isinstance(spec, SealSpec | VerifySpec | RestoreSpec | CheckSpec):
        return
    store, what = Path(spec.store), What()
    root = statement.read(store).root().hex()
    if isinstance(spec, RestoreSpec | CheckSpec):
        what = What(note=f"{spec.target}: {spec.place}"[: deed.NOTE])
    for done in _of(spec):
        yield hands(home, shipment), store, done, root, what


def _of(spec: SealSpec | VerifySpec | RestoreSpec | CheckSpec) -> tuple[Deed, ...]:
    if isinstance(spec, SealSpec):
        return (Deed.SEALED,)
    if isinstance(spec, VerifySpec):
        return (Deed.VERIFIED, Deed.OPENED) if spec.keyed else (Deed.VERIFIED,)
    if isinstance(spec, RestoreSpec):
        return (Deed.RESTORED, Deed.CHECKED)
    return (Deed.CHECKED,)


def add(
    about: Custody, store: Path | None, done: Deed, root: str, what: What
) -> custody.Appended | None:
    """Append, but what is done once only once: a job may have died behind its record."""
    if done in _ONCE:
        place = custody.at_home(about.home, about.shipment)
        own = Device.of(about.home).public
        for one in chain.records(custody.read(place)).values():
            same = (one.record.deed, one.record.root, one.record.signer) == (done, root, own)
            # Copies of one shipment are erased one by one: a note tells which.
            if same and (done is not Deed.ERASED or one.record.what.note == what.note):
                return None
    return custody.append(about, store, done, root, what)


def is_received(home: Path, store: Path, shipment: ShipmentId, root: str) -> bool:
    """Whether somebody to whom this home has handed the shipment over under this seal root, naming
    their key, has signed that they have it, and has not handed it on or back.
    """
    own = Device.of(home).public
    try:
        told = custody.read(custody.in_store(store))
        mine = custody.read(custody.at_home(home, shipment))
    except CustodyRefusedError:
        return False
    if any(one.is_error for one in chain.verify(told, chain.Expected(shipment, root), mine)):
        return False
    receiver, received = "", False
    for signed in chain.records(told).values():
        one = signed.record
        if one.deed is Deed.HANDED_OVER:  # whoever has it now, nobody has signed for it yet
            receiver = one.what.receiver if one.signer == own else ""
            received = False
        if one.deed is Deed.RECEIVED:  # signed by that key: verification has found nothing else
            received = receiver not in {"", own}
    return received
