"""The chain of custody of a shipment, beside its store and in the homes of those who had it
(docs/custody-format.md): records are appended, never changed.

Where the store cannot be written the chain goes on at home; whoever appends or exports brings
both together.
"""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.block import clock_is_kept, locked, make_directory, read_small, write_once
from appliance.errors import CustodyRefusedError
from appliance.model import ShipmentId
from appliance.seal import canon, deed
from appliance.seal.chain import Finding, Kind, verify
from appliance.seal.deed import Clock, Deed, Record, What, Who
from appliance.seal.identity import Device
from appliance.seal.kept import kept

__all__ = [
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
NAME = re.compile(r"([0-9]{6})\.json")
MAX_RECORDS = 4096
LOCK = "lock"
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


def append(
    about: Custody, store: Path | None, done: Deed, root: str = "", what: What | None = None
) -> str:
    """Append a record to the chain in the store, else to that at home; the digest of the record.

    Both have it in the end where both can be written. StateError where neither can,
    CustodyRefusedError for a record that no reader would take.
    """
    device, home = Device.of(about.home), at_home(about.home, about.shipment)
    signing = partial(_next, about=about, device=device, done=done, root=root, what=what or What())
    if store is not None and store.is_dir():
        with suppress(OSError):
            data = _appended(in_store(store), home, signing)
            with suppress(OSError), _writing(home):
                _bring(in_store(store), home)
            return deed.digest(data)
    with kept(home):
        data = _appended(home, None if store is None else in_store(store), signing)
    return deed.digest(data)


def _appended(place: Path, other: Path | None, signing: Callable[[Path], bytes]) -> bytes:
    with _writing(place):
        if other is not None:
            _bring(other, place)
        return signing(place)


def _next(place: Path, about: Custody, device: Device, done: Deed, root: str, what: What) -> bytes:
    """Write the record that follows the last one in ``place``, which is locked."""
    last = max(_numbers(place), default=0)
    record = Record(
        number=last + 1,
        deed=done,
        shipment=about.shipment,
        root=root,
        who=about.who,
        where=about.where,
        at=canon.now(),
        clock=Clock.SYNCHRONISED if clock_is_kept() else Clock.FREE,
        what=what,
        previous=deed.digest(_bytes(place / _name(last))) if last else "",
        signer=device.public,
    )
    data = deed.sign(record, device)
    write_once(place / _name(record.number), data)
    return data


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


def _bring(source: Path, place: Path) -> None:
    """Copy what follows the last record of ``place``, which is locked, as far as it follows."""
    try:
        theirs = read(source)
    except CustodyRefusedError:
        return  # verification says so
    last = max(_numbers(place), default=0)
    previous = deed.digest(_bytes(place / _name(last))) if last else ""
    while (data := theirs.get(last + 1)) is not None:
        try:
            follows = deed.parse(data).record.previous == previous
        except CustodyRefusedError:
            return
        if not follows:
            return
        last += 1
        write_once(place / _name(last), data)
        previous = deed.digest(data)


def last_digest(chain: Chain) -> str:
    """The digest of a chain's last record, empty where there is none."""
    return deed.digest(chain[max(chain)]) if chain else ""


def bring(source: Path, place: Path) -> None:
    """Bring a chain, where there is one, to ``place``, where an earlier state of it may be.
    StateError where that cannot be written.
    """
    if read(source):
        with kept(place), _writing(place):
            _bring(source, place)
