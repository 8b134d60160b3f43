"""StoreWriter: the Sink that puts one disk's point into a store, pack after pack, checkpoint after
checkpoint.

What a checkpoint has covered survives any death. Nothing that is written can be read back here.
"""

import mmap
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from appliance.block import PAGE, free_space
from appliance.errors import StoreFullError
from appliance.events import Checkpointed, Emit, PackClosed, Spliced, Step, silent
from appliance.model import Codec, Cut, Digest, PackId, PointSpec, Stop, Witness, block_count
from appliance.seal import canon
from appliance.seal.cut import digest
from appliance.seal.layout import (
    MAX_RANGES,
    NO_DIGEST,
    Kind,
    PackHead,
    PackState,
    RecordHead,
    ranges_bytes,
    record_frame_size,
)
from appliance.seal.pack import PackWriter, tail_size, writing
from appliance.seal.papers import MAX_DISKS, MAX_PACKS, PointEnd, write_disk_head, write_point_end
from appliance.seal.readback import ReadBack, Tally, digest_pack, reads_otherwise
from appliance.seal.scan import PackInfo
from appliance.seal.store import PointPacks, Store, by_point

_SLACK = 1 << 20  # left free when a pack takes its space: directories and extents need some


@dataclass(frozen=True, slots=True)
class Pace:
    """How large packs become, and how much a power cut may cost."""

    pack_size: int = 1 << 30
    checkpoint_bytes: int = 256 << 20
    checkpoint_seconds: float = 10.0


class Repeats:
    """Where a block's content was stored before: a table of fixed size that forgets, in memory
    only.

    Direct-mapped: the digest chooses the slot, a newer block takes it. 64 MiB remember up to 1.6
    million blocks.
    """

    SLOT = 40
    SLOTS = (64 << 20) // SLOT

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._table = mmap.mmap(-1, slots * self.SLOT)

    def _at(self, found: Digest) -> int:
        return int.from_bytes(found[:8], "little") % self._slots * self.SLOT

    def find(self, found: Digest) -> tuple[int, int] | None:
        """(place of the pack, record number) of a block with this digest, or None."""
        at = self._at(found)
        slot = self._table[at : at + self.SLOT]
        if slot[:32] != found:
            return None
        return int.from_bytes(slot[32:36], "little"), int.from_bytes(slot[36:], "little")

    def remember(self, found: Digest, pack: int, number: int) -> None:
        at = self._at(found)
        place = pack.to_bytes(4, "little") + number.to_bytes(4, "little")
        self._table[at : at + self.SLOT] = found + place


@dataclass(slots=True)
class Counts:
    """What a session has put: blocks, and bytes that could not be read."""

    stored: int = 0
    referenced: int = 0
    zero: int = 0
    unreadable_bytes: int = 0


def _seal_is_full(what: str) -> StoreFullError:
    return StoreFullError(
        f"The shipment has {what}, as many as a seal can list",
        todo="Seal what is there with --accept, and take the rest in another shipment.",
    )


def document(kind: Kind, payload: bytes, index: int = 0, count: int = 0) -> RecordHead:
    """The head of a record whose payload stands as it is."""
    size = len(payload)
    return RecordHead(kind, Codec.RAW, size, size, index, count, digest(payload))


class StoreWriter:
    """Writes one session. Use as a context: leaving it by an error keeps what the last
    checkpoint covers.
    """

    def __init__(
        self,
        store: Store,
        emit: Emit = silent,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        stop: Stop = lambda: False,
    ) -> None:
        store.refuse_sealed()
        store.head.refuse_unknown_inside()
        self.counts = Counts()
        self.bytes_written = 0
        self._store = store
        self._emit, self._stop = emit, stop
        self._pace = pace or Pace()
        self._clock = clock
        self._pack: PackWriter | None = None
        self._ids: list[PackId] = []
        self._repeats = Repeats()
        self._cursor = self._start = 0
        self._zero_from = self._zero_count = 0
        self._bad: list[tuple[int, int]] = []
        self._session = 0
        self._earlier: PointPacks | None = None
        self._safe_size, self._safe_at = 0, clock()
        self._reader = ThreadPoolExecutor(1, "read-back")
        self._read_backs: list[Future[None]] = []
        self._read_back: ReadBack | None = None  # of the open pack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pack is not None:
            self._pack.abandon()
        self._reader.shutdown(cancel_futures=True)
        if self._read_back is not None:
            self._read_back.close()

    def begin(self, point: PointSpec, witness: Witness) -> int:
        self._point, self._witness = point, witness
        self._blocks = block_count(point.facts.size, self._store.head.block_size)
        self._store.mend(point.disk)
        with suppress(OSError):  # a sealing that died had given it up
            self._store.take_reserve()
        wanted = (point.disk, point.point)
        points = {(one.disk, one.point): one for one in by_point(self._store.infos())}
        if (found := points.get(wanted)) is not None:
            self._earlier = found
            self._resume(found)
        elif len(points) >= MAX_DISKS:
            raise _seal_is_full(f"{MAX_DISKS} disks")
        self._start = self._cursor
        return self._cursor

    def _resume(self, earlier: PointPacks) -> None:
        self._session = earlier.last.head.session + 1
        if earlier.complete:
            _read_back_again(earlier.packs, self._emit, self._stop)
            self._cursor = self._blocks
            return
        last = earlier.last.checkpoint
        self._cursor = last.cursor if self._witness.trusts(last.cursor, last.guard) else 0
        self._emit(Spliced(self._session, self._cursor))

    def put(self, cut: Cut) -> None:
        block = len(cut.payload) if cut.payload is not None else 0
        self._make_room(block, len(cut.bad))
        if cut.payload is None:
            self._put_zero(cut)
        else:
            self._flush_zero()
            self._put_block(cut, cut.payload)
        self._bad += [(one.offset, one.length) for one in cut.bad]
        self.counts.unreadable_bytes += sum(one.length for one in cut.bad)
        self._cursor = cut.index + cut.count
        if len(self._bad) >= MAX_RANGES // 2:
            self._flush()
        if self._due():
            self.checkpoint()

    def checkpoint(self) -> None:
        self._flush()
        if self._pack is not None:
            self._pack.checkpoint(self._cursor, self._witness.guard(self._cursor))
            self._note_safe(self._pack.head.pack, self._pack.size)

    def commit(self) -> None:
        if self._earlier is not None and self._earlier.complete:
            return
        self._flush()
        pack = self._pack or self._open(0)
        before = self._earlier.ids if self._earlier is not None else ()
        end = PointEnd(
            blocks=self._blocks,
            packs=(*before, *self._ids),
            stored=self.counts.stored,
            referenced=self.counts.referenced,
            zero=self.counts.zero,
            unreadable_bytes=self.counts.unreadable_bytes,
        )
        payload = canon.dump(write_point_end(end))
        self._append(document(Kind.POINT_END, payload), payload)
        self._close(pack, PackState.POINT_END)
        for one in self._read_backs:
            one.result()

    # --- records ---

    def _put_zero(self, cut: Cut) -> None:
        if not self._zero_count:
            self._zero_from = cut.index
        self._zero_count += cut.count
        self.counts.zero += cut.count

    def _put_block(self, cut: Cut, payload: memoryview | bytes) -> None:
        seen = self._repeats.find(cut.digest)
        if seen is not None:
            place, number = seen
            self._append(
                RecordHead(
                    kind=Kind.REFERENCE,
                    codec=Codec.RAW,
                    plain=cut.length,
                    stored=0,
                    index=cut.index,
                    count=1,
                    digest=cut.digest,
                    target=self._ids[place],
                    target_number=number,
                )
            )
            self.counts.referenced += 1
            return
        head = RecordHead(
            Kind.BLOCK, cut.codec, cut.length, len(payload), cut.index, 1, cut.digest
        )
        number = self._append(head, payload)
        self._repeats.remember(cut.digest, len(self._ids) - 1, number)
        self.counts.stored += 1

    def _flush_zero(self) -> None:
        if self._zero_count:
            first, count = self._zero_from, self._zero_count
            self._zero_count = 0
            self._append(RecordHead(Kind.ZERO_RUN, Codec.RAW, 0, 0, first, count, NO_DIGEST))

    def _flush(self) -> None:
        """Write what is pending: the zero run, then the unreadable ranges, behind the content
        of their blocks.
        """
        self._flush_zero()
        if self._bad:
            payload, size = ranges_bytes(self._bad), self._store.head.block_size
            first, last = self._bad[0][0] // size, (sum(self._bad[-1]) - 1) // size
            self._bad = []
            self._append(document(Kind.UNREADABLE, payload, first, last - first + 1), payload)

    def _append(self, head: RecordHead, payload: memoryview | bytes | None = None) -> int:
        pack = self._pack or self._open(head.frame_size)
        number = pack.append(head, payload)
        self.bytes_written += head.frame_size
        if self._read_back is not None and self._read_back.late(pack.written):
            self._reader.submit(self._read_back.follow, pack.written)
        return number

    # --- packs ---

    def _make_room(self, payload: int, ranges: int) -> None:
        """Close the pack unless the next block and all that is pending still fit into it."""
        pending = record_frame_size(16 * (len(self._bad) + ranges)) + 2 * record_frame_size(0)
        end = record_frame_size(64 * (len(self._ids) + 16) + self._earlier_size())
        need = record_frame_size(payload) + pending + end
        if self._pack is not None and not self._pack.has_room(need, 5):
            self._flush()
            self._close(self._pack, PackState.CLOSED)

    def _earlier_size(self) -> int:
        return 64 * len(self._earlier.packs) if self._earlier is not None else 0

    def _open(self, frame_size: int) -> PackWriter:
        """The next pack: as large as wanted, or as the space that is left allows."""
        self._check_read_backs()
        if sum(1 for _ in self._store.names()) >= MAX_PACKS - 1:  # and the contents pack
            raise _seal_is_full(f"{MAX_PACKS - 1} packs")
        store = self._store.head
        head = PackHead(
            shipment=store.shipment,
            head_digest=store.digest(),
            pack=PackId(os.urandom(16).hex()),
            disk=self._point.disk,
            point=self._point.point,
            session=self._session,
            sequence=len(self._ids),
            block_size=store.block_size,
            start=self._start,
            recipients=len(store.recipients),
        )
        payload = canon.dump(write_disk_head(self._point))
        disk_head = document(Kind.DISK_HEAD, payload)
        ends = record_frame_size(64 * (len(self._ids) + 16) + self._earlier_size())
        block = record_frame_size(store.block_size)
        least = head.size + disk_head.frame_size + frame_size + 2 * block + ends + tail_size(16)
        with writing(self._store.packs):
            free = free_space(self._store.packs) // PAGE * PAGE - _SLACK
        if free < least:
            raise StoreFullError(
                f"The store is full: {max(free, 0)} bytes are left, a pack needs {least}"
            )
        capacity = min(max(self._pace.pack_size, least), free)
        self._pack = PackWriter(self._store.packs, head, store.recipients, capacity)
        self._read_back = ReadBack(self._pack.path)
        self._pack.append(disk_head, payload)
        self._ids.append(head.pack)
        self._safe_size = 0
        return self._pack

    def _close(self, pack: PackWriter, state: PackState) -> None:
        self._pack = None
        closed = pack.close(self._cursor, self._witness.guard(self._cursor), state)
        self._start = self._cursor
        self._emit(PackClosed(closed.pack, closed.size, closed.digest.hex()))
        self._note_safe(closed.pack, 0)
        back, self._read_back = self._read_back, None
        assert back is not None  # made with the pack
        self._read_backs.append(self._reader.submit(back.finish, closed))

    def _due(self) -> bool:
        late = self._clock() - self._safe_at >= self._pace.checkpoint_seconds
        if self._pack is None:  # a disk may be zeros for hours: they are safe in a record too
            return late and self._zero_count > 0
        return late or self._pack.size - self._safe_size >= self._pace.checkpoint_bytes

    def _note_safe(self, pack: PackId, size: int) -> None:
        self._safe_size, self._safe_at = size, self._clock()
        self._emit(Checkpointed(self._cursor, pack, self.bytes_written))

    def _check_read_backs(self) -> None:
        """Raise what reading back closed packs has found so far."""
        for one in [one for one in self._read_backs if one.done()]:
            one.result()
            self._read_backs.remove(one)


def _read_back_again(infos: Sequence[PackInfo], emit: Emit, stop: Stop) -> None:
    """Read packs of earlier sessions, whose own reading back may have failed or never ended."""
    emit(Step.said("read-back", "{count} packs", count=len(infos)))
    tally = Tally("read-back", sum(one.size for one in infos), emit)
    for one in infos:
        found = digest_pack(one, tally.moved, stop)
        if found.size != one.size or found.body != one.trailer.digest:
            raise reads_otherwise(one.path)
