"""The target loop: every pack read once, in physical order, each block written wherever it
belongs.

A pack counts as replayed when its bytes, as they were read, are those that were sealed and the
volumes have been flushed. The first that is not ends the replay, unless damage was accepted: then
what could be opened of it stands on the volume, and ``hurt`` tells what of that may be believed.
"""

import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import (
    MotionGearError,
    PackDamagedError,
    StoppedError,
    StoreRefusedError,
    WrongKeyError,
)
from appliance.events import Emit, Step
from appliance.model import DiskId, PackId, Stop, Volume
from appliance.rate import Throttle
from appliance.restore.hurt import Hurt
from appliance.restore.plan import ACCEPT, Plan, PlannedDisk, may_be_accepted
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import Entry
from appliance.seal.opening import NoNotes, Notes
from appliance.seal.pointmap import refuse_other_index
from appliance.seal.readback import Tally, each, readers_for, threads_for
from appliance.seal.scan import PackInfo, PackReader, Record

_BLOCK_MASK = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class _Work:
    """What one pack gives to one disk: ``number << 32 | block``, ascending. ``opened`` are the
    records that were written.
    """

    info: PackInfo
    disk: PlannedDisk
    volume: Volume
    wanted: "array[int]"
    opened: set[int] = field(default_factory=set)

    def blocks(self, number: int) -> Iterator[int]:
        """The blocks that record ``number`` is the content of."""
        at = bisect_left(self.wanted, number << 32)
        while at < len(self.wanted) and self.wanted[at] >> 32 == number:
            yield self.wanted[at] & _BLOCK_MASK
            at += 1


@dataclass(slots=True)
class Replayed:
    """What a replay did. ``hurt`` are the packs that are not whole."""

    hurt: dict[PackId, Hurt] = field(default_factory=dict)
    packs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Replay:
    """A plan being carried out. ``done`` packs were replayed by an earlier run; ``passed``
    hears of each new one; ``notes`` tell how far others had come. Damaged packs end it unless that
    was accepted.
    """

    def __init__(
        self,
        plan: Plan,
        key: PrivateKey,
        volumes: Mapping[DiskId, Volume],
        emit: Emit,
        stop: Stop,
        throttle: Throttle,
        *,
        accept_damage: bool = False,
        notes: Notes | None = None,
    ) -> None:
        self._notes = notes or NoNotes()
        self._at: dict[Path, tuple[_Work, int]] = {}
        self._plan, self._key, self._volumes = plan, key, volumes
        self._emit, self._stop, self._throttle = emit, stop, throttle
        self._accept_damage = accept_damage
        self._lock = threading.Lock()
        self._listed = {one.pack: one for one in plan.sealed.seal.packs}
        self.told = Replayed()

    def run(self, done: set[PackId], passed: Callable[[PlannedDisk, PackId], None]) -> Replayed:
        work = {one.info.path: one for one in self._work() if one.info.head.pack not in done}
        self._emit(Step.said("restore", "{count} packs", count=len(work)))
        self._tally = Tally("restore", sum(one.info.size for one in work.values()), self._emit)
        for disk in {one.disk.volume.disk: one.disk for one in work.values()}.values():
            self._zero(disk)
        readers = readers_for(self._plan.sealed.store.packs)
        self._openers = threads_for(len(work), readers)
        for path, found in each(list(work), readers, lambda path: self._replay(work[path])):
            one = work[path]
            if isinstance(found, MotionGearError):
                self._hurt(one, found)
                continue
            one.volume.flush()
            passed(one.disk, one.info.head.pack)
            self.told.packs += 1
        for volume in self._volumes.values():
            volume.flush()
        return self.told

    def settle(self) -> None:
        """Make safe what is on the volumes so far; may be called while others write on."""
        with self._lock:
            now = list(self._at.values())
        for volume in self._volumes.values():
            volume.flush()
        for work, number in now:
            self._notes.note(work.info, number)

    def _hurt(self, work: _Work, why: MotionGearError) -> None:
        """Go on without the pack where that was accepted, else raise why it is refused."""
        if not self._accept_damage:
            if may_be_accepted(why):
                todo = f"{why.todo_now} {ACCEPT}"
                raise type(why)(why.what, safe=why.safe_now, todo=todo) from why
            raise why
        if not isinstance(why, StoreRefusedError | WrongKeyError):
            raise why
        self._emit(Step("damage", why.what))
        self.told.hurt[work.info.head.pack] = Hurt(why, work.opened)

    def _work(self) -> Iterator[_Work]:
        """Every pack, also one that gives no block: only its digest shows that it really has
        none to give. But those whose index cannot be had.
        """
        for disk in self._plan.disks:
            volume = self._volumes[disk.volume.disk]
            winners = disk.map.winners()
            for info, wanted in zip(disk.map.packs.packs, winners, strict=True):
                if info.head.pack not in disk.map.lost:
                    yield _Work(info, disk, volume, wanted)

    def _zero(self, disk: PlannedDisk) -> None:
        """Zero runs need no write where the volume is known to read as zeros."""
        volume, size = self._volumes[disk.volume.disk], disk.map.manifest.block_size
        if volume.fresh:
            return
        for first, count in disk.map.zero_runs():
            start = first * size
            volume.zero(start, min(count * size, disk.volume.size - start))

    def _replay(self, work: _Work) -> None:
        info = work.info
        name = info.path.name
        with PackReader(info.path, self._key) as reader:
            entries = reader.entries(info)
            refuse_other_index(work.disk.map.indexes[info.head.pack], entries, name)
            needed = {one >> 32 for one in work.wanted}
            first = min(self._notes.reached(info), len(entries)) if info.index else 0
            work.opened.update(range(first))
            left = info.size
            if first:
                left -= entries[first - 1].offset
                self._tally.moved(info.size - left)
            size = left
            due = self._notes.due()
            damaged: list[MotionGearError] = []
            hear = self._damaged(work, damaged)
            with closing(reader.sweep(info, entries, hear, self._openers, first)) as records:
                for record in records:
                    if self._stop():
                        self.settle()
                        raise StoppedError(
                            "The restore was stopped", safe="What is on the volumes stays."
                        )
                    if record.entry.number in needed:
                        self._write(work, record)
                    frame = record.entry.head.frame_size
                    self._tally.moved(frame, self.told.bytes_written)
                    left -= frame
                    self._come_to(work, record.entry.number + 1, damaged)
                    if due.after(frame):
                        self.settle()
            with self._lock:
                self._at.pop(info.path, None)
            if damaged:
                raise damaged[0]
            if not first and reader.swept.hex() != self._listed[info.head.pack].digest:
                raise PackDamagedError(f"{name} is not what was sealed")
            self._tally.moved(left, self.told.bytes_written)
            with self._lock:
                self.told.bytes_read += size

    def _come_to(self, work: _Work, number: int, damaged: Sequence[MotionGearError]) -> None:
        """Of a pack with damage nothing is noted: whoever goes on is to meet it again."""
        with self._lock:
            if work.info.index and not damaged:
                self._at[work.info.path] = work, number
            else:
                self._at.pop(work.info.path, None)

    def _write(self, work: _Work, record: Record) -> None:
        head, size = record.entry.head, work.disk.map.manifest.block_size
        for index in work.blocks(record.entry.number):
            self._throttle.take(head.plain, self._stop)
            work.volume.pwrite(index * size, memoryview(record.payload))
            with self._lock:
                self.told.bytes_written += head.plain
        work.opened.add(record.entry.number)

    def _damaged(
        self, work: _Work, met: list[MotionGearError]
    ) -> Callable[[Entry, MotionGearError], None]:
        """The first damaged record ends the pack; where damage was accepted, it is noted."""

        def note(entry: Entry, problem: MotionGearError) -> None:
            hit = sorted(work.blocks(entry.number)) or [entry.head.index]
            where = f"block {hit[0]} of disk {work.disk.volume.disk} ({work.disk.volume.name})"
            said = type(problem)(f"{problem.what}; hit: {where}", todo=problem.todo_now)
            if not self._accept_damage:
                raise said
            met.append(said)

        return note
