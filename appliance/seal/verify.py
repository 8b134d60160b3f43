"""Verification: what anybody can say of a sealed store, and what a recipient can say beyond that.

``inspect`` reads the seal and every pack's head and trailer; ``verify`` reads every byte;
``open_all`` opens every record.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from appliance.errors import (
    IncompleteDiskError,
    MotionGearError,
    PackDamagedError,
    PackMissingError,
    PackUnlistedError,
    RecipientsMismatchError,
    RootMismatchError,
    SealDamagedError,
    SignerMismatchError,
    StoppedError,
)
from appliance.events import Emit, Progress, Step, silent
from appliance.model import PackId, PointSpec, Stop
from appliance.seal import canary, statement, text
from appliance.seal.accepted import Accepted
from appliance.seal.cut import digest
from appliance.seal.keys import FINGERPRINT_SIZE, PrivateKey
from appliance.seal.layout import Entry, Kind
from appliance.seal.papers import Contents, DiskContents, read_contents
from appliance.seal.pointmap import PointMap, build, refuse_other_index
from appliance.seal.readback import digest_file, each, readers_for
from appliance.seal.scan import PackInfo, PackReader, examine
from appliance.seal.statement import Seal, SealedPack
from appliance.seal.store import Store, by_point


class Trust(StrEnum):
    """Authentic: signer and root were known beforehand and match. Consistent: somebody sealed
    this, and it is whole.
    """

    AUTHENTIC = "authentic"
    CONSISTENT = "consistent"


@dataclass(frozen=True, slots=True)
class Pins:
    """What the verifier knows by another path than the device. Texts as printed; empty: not
    known.
    """

    device: str = ""
    root: str = ""
    recipients: tuple[str, ...] = ()

    def parsed(self) -> tuple[bytes, bytes, tuple[str, ...]]:
        """Refuses texts that cannot be what they are given for."""
        device = self.device and text.parse_either(
            self.device, FINGERPRINT_SIZE, "The device fingerprint"
        )
        root = self.root and text.parse_either(self.root, 32, "The seal root")
        recipients = tuple(
            text.grouped(text.parse_either(one, FINGERPRINT_SIZE, "A recipient's fingerprint"))
            for one in self.recipients
        )
        return device or b"", root or b"", recipients


@dataclass(frozen=True, slots=True)
class Sealed:
    """A store whose seal, listing, heads and trailers agree. Its packs' content was not read
    yet.
    """

    store: Store
    seal: Seal
    trust: Trust
    infos: dict[PackId, PackInfo]

    @property
    def contents_info(self) -> PackInfo:
        return self.infos[self.seal.contents]


def inspect(path: Path, pins: Pins, accepted: Accepted | None = None) -> Sealed:
    """Check everything about a sealed store but the content of its packs. Quick; refuses by
    name.
    """
    device, root, recipients = pins.parsed()
    store = Store(path)
    seal = statement.read(path)
    trust = _pinned(seal, device, root)
    _agree(store, seal)
    found = {one.fingerprint for one in store.head.recipients}
    if recipients and found != set(recipients):
        extra = sorted(found - set(recipients)) or ["one of those expected is missing"]
        raise RecipientsMismatchError(f"The store is sealed for others than expected: {extra[0]}")
    if accepted is not None:  # whoever knows the root or not: the signature is the device's
        accepted.refuse_older(seal)
    return Sealed(store, seal, trust, _listing(store, seal))


def _pinned(seal: Seal, device: bytes, root: bytes) -> Trust:
    if device and text.grouped(device) != seal.device_fingerprint:
        raise SignerMismatchError(
            f"The store was sealed by {seal.device_fingerprint}, not by the device expected"
        )
    if root and root != seal.root():
        raise RootMismatchError(
            f"The seal root is {text.grouped(seal.root())}, not the one expected"
        )
    return Trust.AUTHENTIC if device and root else Trust.CONSISTENT


def _agree(store: Store, seal: Seal) -> None:
    """Seal against head.json and canary.json."""
    head = store.head
    if seal.shipment != head.shipment or seal.device != head.device:
        raise SealDamagedError("The seal is that of another shipment")
    if seal.head != head.digest().hex():
        raise SealDamagedError("head.json is not the one that was sealed")
    if seal.recipients != tuple(one.fingerprint for one in head.recipients):
        raise SealDamagedError("The seal and head.json name different recipients")
    if seal.canary and seal.canary.opened_by not in {"", *seal.recipients}:
        raise SealDamagedError("The seal says that somebody else opened the canary")
    data = canary.read_bytes(store.path)
    expected = seal.canary.file if seal.canary else None
    if (digest(data).hex() if data is not None else None) != expected:
        raise SealDamagedError("canary.json is not the one that was sealed")


def _listing(store: Store, seal: Seal) -> dict[PackId, PackInfo]:
    listed = {store.pack(one.pack).name: one for one in seal.packs}
    present = list(store.names())
    if missing := sorted(set(listed) - set(present)):
        raise PackMissingError(f"{len(missing)} of {len(listed)} packs are missing: {missing[0]}")
    if extra := sorted(set(present) - set(listed)):
        raise PackUnlistedError(f"{extra[0]} lies in the store, but the seal does not list it")
    infos = {one.pack: _sealed_pack(store, one) for one in seal.packs}
    if seal.contents not in infos:
        raise SealDamagedError("The seal does not list its own contents pack")
    orders = [one.head.order for one in infos.values()]
    if (
        orders != sorted(orders)
        or [one.head.is_contents for one in infos.values()].count(True) != 1
    ):
        raise SealDamagedError("The seal lists the packs in another order than their heads")
    by_point(list(infos.values()))
    return infos


def _sealed_pack(store: Store, listed: SealedPack) -> PackInfo:
    """The pack as it lies there, its public parts agreeing with the store and the seal."""
    info = examine(store.pack(listed.pack))
    store.refuse_foreign(info)
    if (info.size, info.trailer.records, info.torn) != (listed.size, listed.records, listed.torn):
        raise PackDamagedError(f"{info.path.name} has not the size that was sealed")
    return info


@dataclass(slots=True)
class Findings:
    """What a verification found wrong: nothing, one refusal or many."""

    problems: list[MotionGearError] = field(default_factory=list)

    def add(self, problem: MotionGearError) -> None:
        self.problems.append(problem)

    def refuse(self) -> None:
        """Raise the first problem, telling how many more there are."""
        if not self.problems:
            return
        first, more = self.problems[0], self.problems[1:]
        tail = f" (and {len(more)} more: {more[0].what})" if more else ""
        raise type(first)(first.what + tail, safe=first.safe_now, todo=first.todo_now)


class _Tally:
    """Bytes done over several threads, told as progress."""

    def __init__(self, step: str, total: int, emit: Emit) -> None:
        self._step, self._total, self._emit = step, total, emit
        self._done = 0
        self._lock = threading.Lock()

    def moved(self, count: int) -> None:
        with self._lock:
            self._done += count
            done = self._done
        self._emit(Progress(self._step, done, self._total))


def verify(
    sealed: Sealed,
    emit: Emit = silent,
    stop: Stop = lambda: False,
    known: Sequence[PackId] = (),
    passed: Callable[[PackId], None] = lambda _: None,
) -> Findings:
    """Read every pack and compare it with the seal; no key. All damage is found, not only the
    first.

    ``known`` packs passed in an earlier, interrupted run and are left out; ``passed`` hears of
    each that passes.
    """
    left = [one for one in sealed.seal.packs if one.pack not in set(known)]
    listed = {sealed.infos[one.pack].path: one for one in left}
    emit(Step("verify", f"{len(left)} packs"))
    tally = _Tally("verify", sum(one.size for one in left), emit)
    findings = Findings()
    readers = readers_for(sealed.store.packs)
    work = lambda path: digest_file(path, listed[path].size, tally.moved, stop)  # noqa: E731
    for path, found in each(list(listed), readers, work):
        if isinstance(found, MotionGearError):
            findings.add(found)
        elif found.whole.hex() != listed[path].digest:
            findings.add(PackDamagedError(f"{path.name} is not what was sealed"))
        else:
            passed(listed[path].pack)
    return findings


def read_sealed_contents(sealed: Sealed, key: PrivateKey) -> Contents:
    """The contents pack, opened, its bytes compared with the seal."""
    info = sealed.contents_info
    with PackReader(info.path, key) as reader:
        entries = reader.entries(info)
        if [one.head.kind for one in entries] != [Kind.CONTENTS]:
            raise SealDamagedError("The contents pack holds something else")
        swept = reader.sweep(info, entries, _refuse)
        (payload,) = [bytes(one.payload) for one in swept]
        _compare_swept(reader, info, sealed)
    contents = read_contents(payload)
    if contents.shipment != sealed.seal.shipment:
        raise SealDamagedError("The contents pack speaks of another shipment")
    return contents


def _refuse(entry: Entry, problem: MotionGearError) -> None:
    del entry
    raise problem


def _compare_swept(reader: PackReader, info: PackInfo, sealed: Sealed) -> None:
    """Refuse a pack whose bytes, as they were read, are not those that were sealed."""
    (listed,) = (one for one in sealed.seal.packs if one.pack == info.head.pack)
    if reader.swept.hex() != listed.digest:
        raise PackDamagedError(f"{info.path.name} is not what was sealed")


def open_points(sealed: Sealed, key: PrivateKey) -> list[PointMap]:
    """Every disk of the store as its indexes tell, agreeing with the contents pack. Reads no
    block.

    What it says is proved only by reading the packs: ``open_all``, or a restore.
    """
    contents = {(one.disk, one.point): one for one in read_sealed_contents(sealed, key).disks}
    points = {(one.disk, one.point): one for one in by_point(list(sealed.infos.values()))}
    if contents.keys() != points.keys():
        odd = min(contents.keys() ^ points.keys())
        raise IncompleteDiskError(
            f"Disk {odd[0]} is listed in the contents and not there, or the reverse"
        )
    maps = []
    for place, listed in contents.items():
        packs = points[place]
        if listed.packs != packs.ids or listed.complete != packs.complete:
            raise PackMissingError(f"Disk {packs.disk}: its packs are not those the contents list")
        found = build(packs, key)
        if not _agrees(listed, found):
            raise SealDamagedError(
                f"Disk {packs.disk}: contents and disk head tell different facts"
            )
        maps.append(found)
    return maps


def _agrees(listed: DiskContents, found: PointMap) -> bool:
    """Whether the contents tell what all disk heads of a point have in common; where the disk
    was found, and its partitions, may differ from session to session.
    """
    told = listed.facts
    if told is not None:
        of_contents = (told.disk, told.point, told.facts.size)
        if of_contents != (found.spec.disk, found.spec.point, found.spec.facts.size):
            return False
    return listed.blocks in {0, len(found.manifest)}


def open_all(
    sealed: Sealed, key: PrivateKey, emit: Emit = silent, stop: Stop = lambda: False
) -> tuple[list[PointMap], Findings]:
    """Open every record of every pack and recompute every digest; then derive each disk's
    manifest.

    Damaged records are named by disk, block and bytes; all of them, not only the first.
    """
    maps = open_points(sealed, key)
    specs = {one.packs.disk: one.spec for one in maps}
    indexes = {pack: told for one in maps for pack, told in one.indexes.items()}
    infos = {one.path: one for one in sealed.infos.values()}
    emit(Step("open", f"{len(infos)} packs"))
    tally = _Tally("open", sum(one.size for one in infos.values()), emit)
    findings = Findings()

    def work(path: Path) -> None:
        info = infos[path]
        hit: list[Entry] = []  # of this pack alone: several are opened side by side
        with PackReader(path, key) as reader:
            entries = reader.entries(info)
            refuse_other_index(indexes.get(info.head.pack), entries, path.name)

            def damaged(entry: Entry, problem: MotionGearError) -> None:
                hit.append(entry)
                findings.add(_placed(problem, specs.get(info.head.disk), info, entry))

            for record in reader.sweep(info, entries, damaged):
                tally.moved(record.entry.head.frame_size)
                if stop():
                    raise StoppedError("Verification was stopped")
            if not hit:
                _compare_swept(reader, info, sealed)

    for _, found in each(list(infos), readers_for(sealed.store.packs), work):
        if isinstance(found, MotionGearError):
            findings.add(found)
    return maps, findings


def _placed(
    problem: MotionGearError, spec: PointSpec | None, info: PackInfo, entry: Entry
) -> MotionGearError:
    """The problem, saying which bytes of which disk are hit."""
    head = entry.head
    if spec is None or head.kind is not Kind.BLOCK:
        return problem
    start = head.index * info.head.block_size
    where = (
        f"block {head.index} (bytes {start} to {start + head.plain - 1}) "
        f"of disk {info.head.disk}, "
        f"{spec.machine!r} {spec.facts.model!r} serial {spec.facts.serial!r}"
    )
    return type(problem)(
        f"{problem.what}; hit: {where}", safe=problem.safe_now, todo=problem.todo_now
    )
