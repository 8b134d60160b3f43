"""PointMap: for each block of a disk at a point, the record that wins, found from the indexes of
its packs.

Needs a key. Memory: 8 bytes a block for the winners and 40 for the manifest, both mapped and
untouched where unknown; while it is built, 32 a record. Refused before the first is taken where
the machine has less: a short record may claim the largest disk.
"""

import mmap
from array import array
from collections.abc import Iterator, Sequence

from appliance.block import free_memory
from appliance.errors import (
    ForeignPackError,
    IncompleteDiskError,
    MemoryShortError,
    MotionGearError,
    PackDamagedError,
    PackMissingError,
    RecordDamagedError,
    RecordOrderError,
    StoppedError,
    StoreRefusedError,
    WrongKeyError,
)
from appliance.model import PackId, PointSpec, Stop, block_count
from appliance.seal.cut import zero_digest
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import (
    CONTENT_KINDS,
    Entry,
    Kind,
    PackHead,
    PackState,
    entries_digest,
    parse_ranges,
)
from appliance.seal.manifest import ENTRY, Manifest, State
from appliance.seal.papers import PointEnd, read_disk_head, read_point_end
from appliance.seal.ranges import Ranges
from appliance.seal.scan import PackInfo, PackReader, named
from appliance.seal.store import PointPacks

MAX_UNREADABLE = 1 << 20  # apart from each other; told as text they take some 200 MiB
_NUMBER_BITS = 20
_ZERO = 1  # below the first code: pack places count from 1
_CODE = 1 << _NUMBER_BITS
_BLOCK_MEMORY = ENTRY + 8 + 32


class PointMap:
    """What a disk consists of, and where each block lies. Built by ``build``.

    ``spec`` is what the first pack's disk head tells; later sessions may tell other facts.
    """

    def __init__(self, packs: PointPacks, spec: PointSpec, block_size: int) -> None:
        self.packs = packs
        self.spec = spec
        self.manifest = Manifest(packs.disk, packs.point, block_size, spec.facts.size)
        self.end: PointEnd | None = None
        self.indexes: dict[PackId, bytes] = {}  # what each pack's index said, as a digest
        self.lost: dict[PackId, MotionGearError] = {}  # packs that tell nothing, and why
        self.cursors: dict[PackId, int] = {}  # the block behind each pack's records
        self._bad = Ranges()
        self._place = 0
        self._start = self._next = (
            0  # where the pack takes over; the block that the next content record must begin with
        )
        self._gap: int | None = None  # what lost packs may have told of begins here
        # _next and _gap as they were before the pack that is being taken
        self._before: tuple[int, int | None] = (0, None)
        self._taking = False
        self._told = Ranges()  # of blocks to which packs have given content
        self._seen = bytearray()  # digests of the pack's block records, by number
        self._stored: dict[PackId, tuple[int, bytearray]] = {}  # what references may name
        self._blocks = self.manifest.blocks
        self._winners = memoryview(mmap.mmap(-1, 8 * self._blocks)).cast("Q")

    @property
    def complete(self) -> bool:
        return self.end is not None

    def zero_runs(self) -> Iterator[tuple[int, int]]:
        """(first block, count) of each run of zero blocks."""
        first = count = 0
        for index, code in enumerate(self._winners):
            if code == _ZERO:
                first, count = (first, count + 1) if count else (index, 1)
            elif count:
                yield first, count
                count = 0
        if count:
            yield first, count

    def winners(self) -> "list[array[int]]":
        """For each pack of the point, ``number << 32 | block`` of every block it gives,
        ascending.
        """
        found = [array("Q") for _ in self.packs.packs]
        for index, code in enumerate(self._winners):
            if code > _ZERO:
                place, number = divmod(code, _CODE)
                found[place - 1].append(number << 32 | index)
        return [array("Q", sorted(one)) for one in found]

    def unreadable(self) -> list[tuple[int, int]]:
        """(offset, length) of all bytes that could not be read, ascending, neighbours joined."""
        return list(self._bad)

    # --- building ---

    def begin_pack(self) -> None:
        """The records taken from now on are those of the point's next pack, which takes over where
        the one before it ended; only a new session may begin at block 0 instead.
        """
        head = self.packs.packs[self._place].head
        self._before = self._next, self._gap
        if self._gap is not None:
            self._close_gap(self._gap, head)
        elif head.start != self._next and (head.start or head.sequence):
            raise RecordOrderError(f"it takes over at block {head.start}, not {self._next}")
        self._start = self._next = head.start
        self._forget_torn()
        self._seen = bytearray()
        self._stored[head.pack] = (self._place + 1, self._seen)
        self._place += 1
        self._taking = True
        self.end = None

    def lose_pack(self, why: MotionGearError) -> None:
        """The point's next pack, or the one being taken, tells nothing: what it may have told of
        is unknown, up to where the next pack takes over. A session may have begun anew at block 0;
        that this one did not, only its lost pack says.
        """
        if self._taking:
            self._take_back()
        head = self.packs.packs[self._place].head
        first = self._next if head.sequence else 0
        self._gap = first if self._gap is None else min(first, self._gap)
        self._forget_torn()
        self.lost[head.pack] = why
        self._place += 1
        self.end = None

    def _take_back(self) -> None:
        """The pack being taken was believed half way: nobody knows what it has spoken of."""
        self._taking = False
        self._tell()
        self._forget(self._start, self._next)
        self._next, self._gap = self._before
        self._place -= 1
        pack = self.packs.packs[self._place].head.pack
        del self._stored[pack]
        self.indexes.pop(pack, None)

    def _tell(self) -> None:
        if self._start < self._next:
            self._told.add(self._start, self._next)

    def _close_gap(self, first: int, head: PackHead) -> None:
        if head.sequence and head.start < first:
            raise RecordOrderError(f"it takes over at block {head.start}, before {first}")
        if head.start > self._blocks:
            raise RecordOrderError(f"it takes over at block {head.start}, behind the disk's end")
        self._forget(first, head.start)
        self._gap = None

    def _forget(self, first: int, end: int) -> None:
        """Nothing is known of these blocks any more. What an earlier pack gave them still is
        written: where it is right after all, catch-up sees that by digests and sends nothing.

        The work goes with the blocks that packs have given since they were last forgotten.
        """
        size = self.manifest.block_size
        self._bad.remove(first * size, end * size)
        for start, count in self._told.within(first, end):
            self.manifest.set_unknown(start, count)
        self._told.remove(first, end)

    def _forget_torn(self) -> None:
        """Nothing refers to a block of a torn pack."""
        if self._place and (before := self.packs.packs[self._place - 1]).torn:
            self._stored.pop(before.head.pack, None)

    def end_pack(self, cursor: int | None) -> None:
        """The pack's last checkpoint, where there is one, must say how far its records came."""
        if cursor not in {None, self._next}:
            raise RecordOrderError(f"its records end at block {self._next}, not {cursor}")
        self.cursors[self.packs.packs[self._place - 1].head.pack] = self._next
        self._taking = False
        self._tell()

    def take(self, entry: Entry) -> None:
        """Let one content record of the pack speak; later ones win."""
        head, size = entry.head, self.manifest.block_size
        if head.index != self._next:
            raise RecordOrderError(
                f"record {entry.number} speaks of block {head.index}, next is {self._next}"
            )
        if head.index + head.count > self._blocks:
            raise RecordDamagedError(
                f"Record {entry.number} speaks of blocks behind the disk's end"
            )
        self._next += head.count
        self._bad.remove(head.index * size, (head.index + head.count) * size)
        if head.kind is Kind.ZERO_RUN:
            run = array("Q", [_ZERO]) * min(head.count, 1 << 16)
            for at in range(head.index, head.index + head.count, len(run)):
                step = min(len(run), head.index + head.count - at)
                self._winners[at : at + step] = memoryview(run)[:step]
            self.manifest.set_zero(head.index, head.count)
            return
        if head.plain != self.manifest.length(head.index):
            raise RecordDamagedError(f"Record {entry.number} has the wrong length for its block")
        if head.kind is Kind.REFERENCE:
            if head.target in self.lost:
                self.manifest.set_unknown(head.index, 1)
                return
            self._winners[head.index] = self._target(entry)
        else:
            self._winners[head.index] = self._place * _CODE + entry.number
            self._seen.extend(bytes(32 * entry.number - len(self._seen)) + head.digest)
        state = State.ZERO if head.digest == zero_digest(head.plain) else State.DATA
        self.manifest.set(head.index, head.digest, state)

    def _target(self, entry: Entry) -> int:
        """The code of the record that a reference names: a block record with the digest it
        gives, earlier in its pack or in an earlier closed one.
        """
        head, at = entry.head, 32 * entry.head.target_number
        place, seen = self._stored.get(head.target, (0, bytearray()))
        if bytes(seen[at : at + 32]) != head.digest:
            raise RecordDamagedError(
                f"Record {entry.number} refers to something else than a block stored before it"
            )
        return place * _CODE + head.target_number

    def take_unreadable(self, entry: Entry, ranges: list[tuple[int, int]]) -> None:
        """What could not be read of blocks to which the pack has given content before."""
        head = entry.head
        if not self._start <= head.index <= head.index + head.count <= self._next:
            raise RecordOrderError(
                f"record {entry.number} tells of unreadable bytes in blocks not stored before it"
            )
        for offset, length in ranges:
            self._bad.add(offset, offset + length)
        if len(self._bad) > MAX_UNREADABLE:
            raise MemoryShortError(
                f"disk {self.packs.disk} has more than {MAX_UNREADABLE} unreadable places",
                todo="`motiongear recover` writes what could be read as an image.",
            )

    def finish(self) -> None:
        """Mark blocks with unreadable bytes, and refuse a point that says it is complete and is
        not.
        """
        size = self.manifest.block_size
        if self._gap is not None:
            self._forget(self._gap, self._blocks)
        for offset, length in self._bad:
            for index in range(offset // size, block_count(offset + length, size)):
                digest, state = self.manifest[index]
                if state is not State.UNKNOWN:
                    self.manifest.set(index, digest, State.UNREADABLE)
        self._stored.clear()
        end = self.end
        if end is None:
            return
        if self._next != self._blocks:
            raise IncompleteDiskError(
                f"Disk {self.packs.disk}: it ends at block {self._next} of {self._blocks}"
            )
        if end.packs != self.packs.ids or end.blocks != self._blocks:
            raise PackMissingError(
                f"Disk {self.packs.disk}: its end lists {len(end.packs)} packs, "
                f"{len(self.packs.ids)} are there, or others"
            )


def check_sequence(packs: PointPacks) -> None:
    """Sessions and sequences without gaps, else PackMissingError; closed packs before the last of
    a session, and nothing behind the point's end.
    """
    session = sequence = 0
    torn = ended = False
    for one in packs.packs:
        if ended:
            raise RecordOrderError(f"{one.path.name} stands behind the end of its point")
        if one.head.session != session:
            session, sequence = session + 1, 0
        if torn and sequence:
            raise RecordOrderError(f"{one.path.name} goes on in a session that was torn")
        if (one.head.session, one.head.sequence) != (session, sequence):
            raise PackMissingError(
                f"Disk {packs.disk}: before {one.path.name} a pack is missing "
                f"(session {session}, place {sequence})"
            )
        sequence, torn = sequence + 1, one.torn
        ended = one.trailer.state is PackState.POINT_END


def build(packs: PointPacks, key: PrivateKey, stop: Stop = lambda: False) -> PointMap:
    """Read the indexes of a point's packs, in order, and say what the disk consists of."""
    check_sequence(packs)
    found: PointMap | None = None
    for info in packs.packs:
        found = _with_pack(found, packs, info, key, stop)
    assert found is not None
    found.finish()
    return found


def build_despite_damage(
    packs: PointPacks, key: PrivateKey, told: PointSpec | None, stop: Stop = lambda: False
) -> PointMap:
    """As ``build``, but a pack whose index cannot be had, or does not fit between the others, is
    lost: what it may have told of is unknown. ``told`` is what the contents tell of the disk, if
    they do; the first disk head need not be had then.
    """
    check_sequence(packs)
    found = _begun(packs, told or _told_by_any(packs, key))
    for info in packs.packs:
        try:
            if info.lost is not None:
                raise info.lost
            _with_pack(found, packs, info, key, stop)
        except (StoreRefusedError, WrongKeyError) as exc:
            found.lose_pack(exc)
    found.finish()
    return found


def _told_by_any(packs: PointPacks, key: PrivateKey) -> PointSpec:
    """The first disk head that can be had; raises why the first of all cannot."""
    refused: list[MotionGearError] = []
    for info in packs.packs:
        try:
            with PackReader(info.path, key) as reader:
                return _disk_head(packs, info, reader, reader.entries(info))
        except (StoreRefusedError, WrongKeyError) as exc:
            refused.append(named(exc, info.path))
    raise refused[0]


def _with_pack(
    found: PointMap | None, packs: PointPacks, info: PackInfo, key: PrivateKey, stop: Stop
) -> PointMap:
    if stop():
        raise StoppedError("Reading the indexes was stopped")
    with PackReader(info.path, key) as reader:
        try:
            return _take_pack(found, packs, info, reader)
        except MotionGearError as exc:
            raise named(exc, info.path) from exc


def _take_pack(
    found: PointMap | None, packs: PointPacks, info: PackInfo, reader: PackReader
) -> PointMap:
    entries = reader.entries(info)
    spec = _disk_head(packs, info, reader, entries)
    found = found or _begun(packs, spec)
    if spec.facts.size != found.spec.facts.size:
        raise RecordDamagedError("its disk head tells of another size than the packs before it")
    found.begin_pack()
    found.indexes[info.head.pack] = entries_digest(entries)
    for entry in entries[1:]:
        _take_entry(found, entry, reader)
    if (found.end is not None) != (info.trailer.state is PackState.POINT_END):
        raise RecordDamagedError("its trailer and its records disagree on whether the point ends")
    found.end_pack(None if info.by_seal else info.checkpoint.cursor)
    return found


def _disk_head(
    packs: PointPacks, info: PackInfo, reader: PackReader, entries: Sequence[Entry]
) -> PointSpec:
    """What the pack's first record tells of the disk that its public head names."""
    if reader.head != info.head:
        raise ForeignPackError("it was exchanged while it was read")
    if not entries or entries[0].head.kind is not Kind.DISK_HEAD:
        raise RecordDamagedError("it does not begin with a disk head")
    spec = read_disk_head(bytes(reader.record(entries[0]).payload), info.head.block_size)
    if (spec.disk, spec.point) != (packs.disk, packs.point):
        raise ForeignPackError("its disk head names another disk than its public head")
    return spec


def _begun(packs: PointPacks, spec: PointSpec) -> PointMap:
    block_size = packs.last.head.block_size
    refuse_larger_than_memory(spec, block_size)
    return PointMap(packs, spec, block_size)


def refuse_larger_than_memory(spec: PointSpec, block_size: int) -> None:
    """Refuse a disk whose map the machine has no memory for, before any of it is taken."""
    needed, free = _BLOCK_MEMORY * block_count(spec.facts.size, block_size), free_memory()
    if needed > free:
        raise MemoryShortError(
            f"disk {spec.disk} has {spec.facts.size} bytes: its map may take {needed >> 20} MiB "
            f"of memory, {free >> 20} MiB are free"
        )


def refuse_other_index(told: bytes, entries: Sequence[Entry], name: str) -> None:
    """Refuse an index that is not the one a map was made of: the pack was exchanged in between."""
    if told != entries_digest(entries):
        raise PackDamagedError(f"{name}: it was exchanged while the store was read")


def _take_entry(found: PointMap, entry: Entry, reader: PackReader) -> None:
    kind = entry.head.kind
    if found.end is not None or kind in {Kind.DISK_HEAD, Kind.CONTENTS, Kind.NOTE}:
        raise RecordDamagedError(f"record {entry.number} stands where it may not")
    if kind in CONTENT_KINDS:
        found.take(entry)
    elif kind is Kind.UNREADABLE:
        payload = reader.record(entry).payload
        size = found.spec.facts.size
        ranges = parse_ranges(payload, entry.head, reader.head.block_size, size)
        found.take_unreadable(entry, ranges)
    else:
        found.end = read_point_end(bytes(reader.record(entry).payload))
