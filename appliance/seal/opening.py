"""Opening a sealed store with a recipient's key: its contents, its disks, every record of it.

One disk after the other, so that memory is that of one disk, and a disk that cannot be opened
keeps nobody from the others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.errors import (
    IncompleteDiskError,
    MotionGearError,
    PackDamagedError,
    PackMissingError,
    RecordDamagedError,
    SealDamagedError,
    StoppedError,
    StoreRefusedError,
    WrongKeyError,
)
from appliance.events import Emit, Step, silent
from appliance.model import DiskId, MachineFacts, PointSpec, Stop
from appliance.rate import Due, Interval
from appliance.seal import machine
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import Entry, Kind
from appliance.seal.papers import Contents, DiskContents, Note, read_contents, read_note
from appliance.seal.placed import placed
from appliance.seal.pointmap import (
    PointMap,
    build,
    build_despite_damage,
    refuse_other_index,
)
from appliance.seal.readback import Tally, each, readers_for, threads_for
from appliance.seal.scan import PackInfo, PackReader
from appliance.seal.store import PointPacks, by_point
from appliance.seal.verify import Findings, Sealed

_RECOVER = (
    "Copy the pack again from the device; else let `motiongear recover` write what the other "
    "packs hold as images: it needs the key and no contents."
)


class Notes(Protocol):
    """How far packs were read by a job that died, so that it need not begin each anew. Of a pack
    whose index the seal does not vouch for nothing is noted: it is believed whole or not at all.
    """

    def reached(self, info: PackInfo) -> int:
        """The first record that was not read yet."""

    def due(self) -> Due:
        """When to note; one for each pack."""

    def note(self, info: PackInfo, number: int) -> None:
        """All records below ``number`` are as they were sealed, and what they were read for is
        done.
        """


class NoNotes:
    """Every pack is read from its first record on."""

    def reached(self, info: PackInfo) -> int:
        del info
        return 0

    def due(self) -> Due:
        return Interval().begin()

    def note(self, info: PackInfo, number: int) -> None:
        """Nobody asks for it."""


@dataclass(frozen=True, slots=True)
class StoredDisk:
    """A disk of a sealed store at a point: its packs, and what the contents pack lists of it
    (None where the contents cannot be read).
    """

    packs: PointPacks
    listed: DiskContents | None

    @property
    def disk(self) -> DiskId:
        return self.packs.disk

    @property
    def spec(self) -> PointSpec | None:
        """What the contents tell of the disk, if they do; proved by ``open`` alone."""
        return self.listed.facts if self.listed else None

    def open(self, key: PrivateKey, stop: Stop = lambda: False) -> PointMap:
        """The disk as its indexes tell, agreeing with the contents. Reads no block.

        What it says is proved only by reading the packs: ``open_all``, or a restore.
        """
        self._refuse_other_packs()
        return self._agreed(build(self.packs, key, stop))

    def open_despite_damage(self, key: PrivateKey, stop: Stop = lambda: False) -> PointMap:
        """As ``open``, but what packs tell whose index cannot be had is unknown."""
        self._refuse_other_packs()
        return self._agreed(build_despite_damage(self.packs, key, self.spec, stop))

    def _refuse_other_packs(self) -> None:
        listed, packs = self.listed, self.packs
        if listed and (listed.packs != packs.ids or listed.complete != packs.complete):
            raise PackMissingError(f"Disk {packs.disk}: its packs are not those the contents list")

    def _agreed(self, found: PointMap) -> PointMap:
        if self.listed and not _agrees(self.listed, found):
            raise SealDamagedError(
                f"Disk {self.disk}: contents and disk head tell different facts"
            )
        return found


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


def read_sealed_contents(sealed: Sealed, key: PrivateKey) -> Contents:
    """The contents pack, opened, its bytes compared with the seal; of a damaged store its first
    record alone, whose digest stands in the index that the seal vouches for.
    """
    sealed.store.head.refuse_unknown_inside()
    info = sealed.contents_info
    with PackReader(info.path, key) as reader:
        entries = reader.entries(info)
        kinds = [one.head.kind for one in entries]
        if kinds[:1] != [Kind.CONTENTS] or set(kinds[1:]) - {Kind.NOTE}:
            raise SealDamagedError("The contents pack holds something else")
        if sealed.despite_damage and info.index:
            payload = bytes(reader.record(entries[0]).payload)
        else:
            payload = _swept_contents(reader, info, entries)
            _compare_swept(reader, info, sealed)
    contents = read_contents(payload)
    if contents.shipment != sealed.seal.shipment:
        raise SealDamagedError("The contents pack speaks of another shipment")
    return contents


def _swept_contents(reader: PackReader, info: PackInfo, entries: Sequence[Entry]) -> bytes:
    with closing(reader.sweep(info, entries, _refuse)) as swept:
        payload = bytes(next(swept).payload)
        for one in swept:
            read_note(bytes(one.payload))  # of no type that is known here
    return payload


def machines_of(sealed: Sealed, key: PrivateKey) -> dict[DiskId, MachineFacts]:
    """What the disks tell of their machines, as far as it was sealed and can be read: nothing
    depends on it.
    """
    info = sealed.contents_info
    notes: list[Note] = []
    with suppress(MotionGearError), PackReader(info.path, key) as reader:
        told = [one for one in reader.entries(info) if one.head.kind is Kind.NOTE]
        notes.extend(read_note(bytes(reader.record(one).payload)) for one in told)
    return machine.of_notes(notes)


def _refuse(entry: Entry, problem: MotionGearError) -> None:
    del entry
    raise problem


def _compare_swept(reader: PackReader, info: PackInfo, sealed: Sealed) -> None:
    """Refuse a pack whose bytes, as they were read, are not those that were sealed."""
    (listed,) = (one for one in sealed.seal.packs if one.pack == info.head.pack)
    if reader.swept.hex() != listed.digest:
        raise PackDamagedError(f"{info.path.name} is not what was sealed")


def disks_of(sealed: Sealed, key: PrivateKey) -> list[StoredDisk]:
    """Every disk of the store, as the contents pack lists it; refuses contents that list others
    than are there. Of a damaged store the contents alone say what is there.
    """
    if sealed.despite_damage:
        return _disks_despite_damage(sealed, key)
    contents = {(one.disk, one.point): one for one in read_sealed_contents(sealed, key).disks}
    points = {(one.disk, one.point): one for one in _points(sealed)}
    if contents.keys() != points.keys():
        odd = min(contents.keys() ^ points.keys())
        raise IncompleteDiskError(
            f"Disk {odd[0]} is listed in the contents and not there, or the reverse"
        )
    return [StoredDisk(points[place], listed) for place, listed in contents.items()]


def _disks_despite_damage(sealed: Sealed, key: PrivateKey) -> list[StoredDisk]:
    try:
        contents = read_sealed_contents(sealed, key)
    except MotionGearError as exc:
        if isinstance(exc, PackMissingError | PackDamagedError | RecordDamagedError):
            raise type(exc)(f"{exc.what}: it is the contents pack", todo=_RECOVER) from exc
        raise
    named = [pack for one in contents.disks for pack in one.packs]
    if sorted([*named, sealed.seal.contents]) != sorted(one.pack for one in sealed.seal.packs):
        raise IncompleteDiskError("The contents list other packs than the seal")
    infos, lost = {}, dict(sealed.lost)
    for pack in named:
        if pack not in lost:
            try:
                with PackReader(sealed.infos[pack].path, key):  # its keys depend on its head
                    infos[pack] = sealed.infos[pack]
            except (StoreRefusedError, WrongKeyError) as exc:
                lost[pack] = exc
    return [StoredDisk(placed(one, infos, lost, sealed.store), one) for one in contents.disks]


def _points(sealed: Sealed) -> tuple[PointPacks, ...]:
    return by_point(list(sealed.infos.values()))


def open_each(
    disks: Iterable[StoredDisk],
    key: PrivateKey,
    opened: Callable[[PointMap], object],
    *,
    despite_damage: bool = False,
) -> Findings:
    """Open the disks one by one, ``opened`` hearing of each; those that refuse are told."""
    findings = Findings()
    how = StoredDisk.open_despite_damage if despite_damage else StoredDisk.open
    for one in disks:
        if (found := _opened(one, key, findings, how)) is not None:
            opened(found)
    return findings


def _opened(
    disk: StoredDisk,
    key: PrivateKey,
    findings: Findings,
    how: Callable[[StoredDisk, PrivateKey, Stop], PointMap],
    stop: Stop = lambda: False,
) -> PointMap | None:
    try:
        return how(disk, key, stop)
    except StoppedError:
        raise
    except MotionGearError as exc:
        findings.add(exc)
        return None


def open_all(
    sealed: Sealed,
    key: PrivateKey,
    emit: Emit = silent,
    stop: Stop = lambda: False,
    proved: Callable[[PointMap], object] = lambda _: None,
    notes: Notes | None = None,
) -> Findings:
    """Open every record of every disk and recompute every digest; ``proved`` hears of each disk
    that is wholly as it was sealed, with its manifest. ``notes`` of an earlier run leave out what
    it has read.

    Damaged records are named by disk, block and bytes; all of them, not only the first.
    """
    sealed.store.head.refuse_unknown_inside()
    findings = Findings()
    try:
        disks = disks_of(sealed, key)
    except WrongKeyError:
        raise
    except MotionGearError as exc:  # the disks can be opened without it
        findings.add(exc)
        disks = [StoredDisk(one, None) for one in _points(sealed)]
    tally = Tally("open", sum(one.size for one in sealed.infos.values()), emit)
    tally.moved(sealed.contents_info.size)
    for disk in disks:
        told = "disk {disk}, {count} packs"
        count = len(disk.packs.packs)
        emit(Step.said("open", told, disk=disk.disk, count=count))
        hurt = Findings()
        found = _opened(disk, key, hurt, StoredDisk.open, stop)
        _Sweep(sealed, key, disk, found, hurt, tally, stop, notes or NoNotes()).run()
        findings.problems += hurt.problems
        if found is not None and not hurt.problems:
            proved(found)
    return findings


@dataclass(frozen=True, slots=True)
class _Sweep:
    """All packs of one disk being read; ``found`` is None where its indexes do not tell it."""

    sealed: Sealed
    key: PrivateKey
    disk: StoredDisk
    found: PointMap | None
    hurt: Findings
    tally: Tally
    stop: Stop
    notes: Notes

    def run(self) -> None:
        infos: Mapping[Path, PackInfo] = {one.path: one for one in self.disk.packs.packs}
        readers = readers_for(self.sealed.store.packs)
        openers = threads_for(len(infos), readers)
        work = lambda path: self._pack(infos[path], openers)  # noqa: E731
        for _, problem in each(list(infos), readers, work):
            if isinstance(problem, MotionGearError):
                self.hurt.add(problem)

    def _pack(self, info: PackInfo, openers: int) -> None:
        hit: list[Entry] = []  # of this pack alone: several are opened side by side

        def damaged(entry: Entry, problem: MotionGearError) -> None:
            hit.append(entry)
            self.hurt.add(self._placed(problem, info, entry))

        with PackReader(info.path, self.key) as reader:
            entries = reader.entries(info)
            if self.found is not None:
                told = self.found.indexes[info.head.pack]
                refuse_other_index(told, entries, info.path.name)
            first, due = self.notes.reached(info) if info.index else 0, self.notes.due()
            left = info.size
            with closing(reader.sweep(info, entries, damaged, openers, first)) as records:
                for record in records:
                    size, number = record.entry.head.frame_size, record.entry.number
                    self.tally.moved(size)
                    left -= size
                    if info.index and not hit and due.after(size):
                        self.notes.note(info, number + 1)
                    if self.stop():
                        raise StoppedError("Verification was stopped")
            self.tally.moved(left)
            if not hit and not first:  # else the seal vouches for every record by the index
                _compare_swept(reader, info, self.sealed)
            if info.index and not hit:
                self.notes.note(info, len(entries))

    def _placed(self, problem: MotionGearError, info: PackInfo, entry: Entry) -> MotionGearError:
        """The problem, saying which bytes of which disk are hit."""
        head, spec = entry.head, self.found.spec if self.found is not None else self.disk.spec
        if head.kind is not Kind.BLOCK:
            return problem
        start = head.index * info.head.block_size
        where = (
            f"block {head.index} (bytes {start} to {start + head.plain - 1}) "
            f"of disk {info.head.disk}"
        )
        if spec is not None:
            where += f", {spec.machine!r} {spec.facts.model!r} serial {spec.facts.serial!r}"
        return type(problem)(
            f"{problem.what}; hit: {where}", safe=problem.safe_now, todo=problem.todo_now
        )
