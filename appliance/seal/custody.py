"""The chain of custody of a shipment, beside its store and in the homes of those who had it
(docs/custody-format.md): records are appended, never changed.

Where the store cannot be written the chain goes on at home; whoever appends or exports brings
both together.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.block import clock_is_kept, locked, make_directory, read_small, write_once
from appliance.errors import CustodyRefusedError, StateError
from appliance.model import ShipmentId
from appliance.seal import canon, chain, deed, intent
from appliance.seal.chain import Finding, Kind, verify
from appliance.seal.deed import Clock, Deed, Record, What, Who
from appliance.seal.identity import Device

__all__ = [
    "Appended",
    "Chain",
    "Clock",
    "Deed",
    "Finding",
    "Kind",
    "Record",
    "What",
    "Who",
    "append",
    "at_home",
    "bring",
    "in_store",
    "read",
    "verify",
]

DIRECTORY = "custody"
NAME = re.compile(r"(?!0{6})([0-9]{6})\.json")
MAX_RECORDS = 4096
LOCK = "lock"
_UNSOUND = frozenset({Kind.DAMAGED, Kind.BAD_SIGNATURE, Kind.GAP, Kind.BROKEN, Kind.FOREIGN})
Chain = dict[int, bytes]  # the records' files by their numbers, as they are kept


@dataclass(frozen=True, slots=True)
class Custody:
    """A shipment in the hands of this home. ``who`` and ``where`` are what it says of itself."""

    home: Path
    shipment: ShipmentId
    who: Who
    where: str


def in_store(store: Path) -> Path:
    return store / DIRECTORY


def at_home(home: Path, shipment: ShipmentId) -> Path:
    return home / DIRECTORY / shipment


def read(place: Path) -> Chain:
    """The files of a chain, whatever they hold; none where there is no directory.

    CustodyRefusedError where it cannot be read, or holds more than a chain may.
    """
    try:
        _refuse_link(place)
        numbers = sorted(_numbers(place))
        if len(numbers) > MAX_RECORDS:
            raise CustodyRefusedError(f"{place} holds more than {MAX_RECORDS} records")
        return {one: _bytes(place / _name(one)) for one in numbers}
    except OSError as exc:
        raise CustodyRefusedError(f"{place} cannot be read ({exc.strerror})") from exc


def _bytes(path: Path) -> bytes:
    """What is no regular file counts as damaged, and not as unreadable."""
    if not path.is_file() or path.is_symlink():
        return b""
    return read_small(path, deed.MOST + 1)


def _numbers(place: Path) -> Iterator[int]:
    with suppress(FileNotFoundError):
        for one in place.iterdir():
            if found := NAME.fullmatch(one.name):
                yield int(found[1])


def _name(number: int) -> str:
    return f"{number:06}.json"


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a record: its digest, whether the store has it, and what is wrong with the
    chain there (``finding``) or at home (``own``), where that could not be gone on from.
    """

    digest: str
    in_store: bool
    finding: Finding | None
    own: Finding | None = None


@dataclass(slots=True)
class _Copy:
    """A copy of a chain: what of it is sound, the first thing behind that, if there is any, and
    why it cannot be written, where it cannot.
    """

    place: Path
    sound: Chain
    finding: Finding | None
    trouble: str = ""

    def take(self, told: Chain) -> bool:
        """Write what is missing here of a chain that begins with what is sound; whether all of it
        is there then.
        """
        if self.finding is not None or self.trouble:
            return False
        try:
            for number in range(len(self.sound) + 1, len(told) + 1):
                write_once(self.place / _name(number), told[number])
                self.sound[number] = told[number]
        except OSError as exc:
            self.trouble = str(exc.strerror)
            return False
        return True

    def refusal(self) -> StateError:
        if self.trouble:
            return StateError(f"{self.place} cannot be read or written ({self.trouble})")
        return StateError(
            f"The chain of custody in {self.place} is damaged behind record {len(self.sound)}"
        )


def append(
    about: Custody, store: Path | None, done: Deed, root: str = "", what: What | None = None
) -> Appended:
    """Append a record to the chain in the store and to that at home, wherever it can be written.

    It follows what is sound. Where there is something else behind that in the store, or where the
    two part, the chain goes on at home alone. StateError where it can go on nowhere,
    CustodyRefusedError for a record that no reader would take.
    """
    device = Device.of(about.home)
    with ExitStack() as stack:
        own = _opened(at_home(about.home, about.shipment), about.shipment, stack)
        told, theirs = own.sound, None
        if store is not None and store.is_dir() and not intent.stands(store):
            theirs = _opened(in_store(store), about.shipment, stack)
            parted = _parted(theirs.sound, own.sound)
            if parted is None and len(theirs.sound) > len(own.sound):
                told = theirs.sound
            theirs.finding = parted or theirs.finding
        data = _next(told, about, device, done, root, what or What())
        whole = {**told, len(told) + 1: data}
        in_there = theirs is not None and theirs.take(whole)
        if not own.take(whole) and not in_there:
            raise own.refusal()
    there = theirs.finding if theirs is not None else None
    return Appended(deed.digest(data), in_there, there, own.finding)


def _opened(place: Path, shipment: ShipmentId, stack: ExitStack) -> _Copy:
    """The copy at ``place``, locked for as long as the stack lasts where it can be."""
    trouble = ""
    try:
        stack.enter_context(_writing(place))
    except OSError as exc:
        trouble = str(exc.strerror)
    found = _seen(place, shipment)
    found.trouble = trouble
    return found


def _seen(place: Path, shipment: ShipmentId) -> _Copy:
    try:
        found = read(place)
    except CustodyRefusedError:
        return _Copy(place, {}, Finding(Kind.DAMAGED))
    length = chain.sound(found, shipment)
    sound = {number: found[number] for number in range(1, length + 1)}
    if length == len(found):
        return _Copy(place, sound, None)
    findings = verify(found, chain.Expected(shipment))
    return _Copy(
        place, sound, next(x for x in findings if x.kind in _UNSOUND and x.number > length)
    )


def _parted(one: Chain, other: Chain) -> Finding | None:
    """Where two copies have different records of one number."""
    differ = (number for number in sorted(one.keys() & other) if one[number] != other[number])
    number = next(differ, None)
    return None if number is None else Finding(Kind.FORK, number)


def _next(told: Chain, about: Custody, device: Device, done: Deed, root: str, what: What) -> bytes:
    """The record that follows the last one that was told."""
    if len(told) >= MAX_RECORDS:
        raise StateError(f"The chain of custody is full: it has {MAX_RECORDS} records")
    record = Record(
        number=len(told) + 1,
        deed=done,
        shipment=about.shipment,
        root=root,
        who=about.who,
        where=about.where,
        at=canon.now(),
        clock=Clock.SYNCHRONISED if clock_is_kept() else Clock.FREE,
        what=what,
        previous=deed.digest(told[len(told)]) if told else "",
        signer=device.public,
    )
    return deed.sign(record, device)


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Hold the chain's lock, its directory made when it is missing."""
    _refuse_link(place)
    make_directory(place)
    with locked(place / LOCK):
        for one in place.glob("*.json.*.new"):
            one.unlink()  # of a writer that died: the living ones hold the lock
        yield


def _refuse_link(place: Path) -> None:
    """A store is foreign: what its directory points to is no part of it."""
    if place.is_symlink():
        raise OSError(errno.ELOOP, "a link is no directory", str(place))


def last_digest(found: Chain, shipment: ShipmentId) -> str:
    """The digest of the last record that is sound, empty where there is none."""
    length = chain.sound(found, shipment)
    return deed.digest(found[length]) if length else ""


def bring(source: Path, place: Path, shipment: ShipmentId) -> Finding | None:
    """Bring what is sound of a chain, where there is one, to ``place``, where an earlier state of
    it may be; what is in the way of all of it. StateError where that cannot be written.
    """
    theirs = _seen(source, shipment)
    if not theirs.sound:
        return theirs.finding
    with ExitStack() as stack:
        own = _opened(place, shipment, stack)
        found = _parted(theirs.sound, own.sound) or own.finding
        if own.trouble or (found is None and not own.take(theirs.sound)):
            raise own.refusal()
    return found or theirs.finding
