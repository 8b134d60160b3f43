"""The source loop: every block exactly once, in order, whatever the source does."""

import os
import resource
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.block import opened
from appliance.errors import (
    MotionGearError,
    SourceChangedError,
    SourceGoneError,
    StoppedError,
    StoreFullError,
)
from appliance.events import Event, Progress, Unreadable
from appliance.ingest.attached import AttachedDisks
from appliance.ingest.image import ImageFiles
from appliance.ingest.loop import How, Ingest, Wanted, wanted_blocks
from appliance.ingest.witness import SampleWitness
from appliance.model import (
    Cut,
    Extent,
    PointSpec,
    Sink,
    SourceDisk,
    Stop,
    Witness,
    block_count,
    block_length,
)
from appliance.rate import Limit, Throttle
from appliance.seal.cut import Expander
from appliance.seal.recover import recover
from appliance.seal.store import Store
from appliance.seal.writer import StoreWriter
from tests.media import Bench
from tests.support import BLOCK, OPERATOR, SMALL, MemoryDisk, new_store, point

SIZE = 512  # of a block, where nothing is stored


class ListSink:
    """A Sink that keeps what it is given; fails before putting block ``full_at``."""

    def __init__(self, cursor: int = 0, full_at: int = 1 << 60) -> None:
        self.cursor, self.full_at = cursor, full_at
        self.cuts: list[Cut] = []
        self.said: list[str] = []

    def begin(self, point: PointSpec, witness: Witness) -> int:
        self.said.append(f"begin {point.machine}")
        assert witness.trusts(0, witness.guard(0))
        return self.cursor

    def put(self, cut: Cut) -> None:
        if cut.index >= self.full_at:
            raise StoreFullError("The store is full")
        kept = None if cut.payload is None else bytes(cut.payload)  # it is only borrowed
        self.cuts.append(replace(cut, payload=kept))

    def checkpoint(self) -> None:
        self.said.append("checkpoint")

    def commit(self) -> None:
        self.said.append("commit")

    def disk(self, size: int, block: int) -> bytes:
        """What was put, as a disk; blocks that never came are 0xee."""
        found, expander = bytearray(b"\xee" * size), Expander()
        for cut in self.cuts:
            start, end = cut.index * block, min((cut.index + cut.count) * block, size)
            plain = bytes(end - start)
            if cut.payload is not None:
                plain = bytes(expander.expand(cut.codec, memoryview(cut.payload), cut.length))
            found[start:end] = plain
        return bytes(found)


def never() -> bool:
    return False


def ingest(
    disk: SourceDisk,
    sink: Sink,
    *,
    block: int = SIZE,
    stop: Stop = never,
    throttle: Throttle | None = None,
    workers: int = 3,
    level: int = 1,
) -> list[Event]:
    """Run the loop to its end; returns what it told."""
    told: list[Event] = []
    spec = replace(point(b"x"), facts=disk.facts)
    witness = SampleWitness(disk, bytes(32), block)
    how = How(level, workers)
    Ingest(disk, sink, spec, witness, told.append, stop, throttle or Throttle(), how).run()
    return told


def stopping(after: int) -> Stop:
    """True from the question behind the ``after`` first ones on."""
    left = iter([False] * after)
    return lambda: next(left, True)


# --- which blocks --------------------


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[list[Extent], int, int]:
    """Extents without gaps, the size they add up to, and a block size."""
    block = draw(st.integers(1, 12))
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=12))
    found, at = [], 0
    for one in lengths:
        found.append(Extent(at, one, hole=draw(st.booleans())))
        at += one
    return found, at, block


@given(laid_out(), st.data())
def test_every_block_is_wanted_once_and_in_order(
    layout: tuple[list[Extent], int, int], data: st.DataObject
) -> None:
    extents, size, block = layout
    blocks = block_count(size, block)
    start = data.draw(st.integers(0, blocks))
    asked = [
        replace(
            one,
            offset=max(one.offset, start * block),
            length=one.end - max(one.offset, start * block),
        )
        for one in extents
        if one.end > start * block
    ]
    found = list(wanted_blocks(iter(asked), start, blocks, block))
    assert [index for one in found for index in range(one.index, one.index + one.count)] == list(
        range(start, blocks)
    )
    data_bytes = {at for one in extents if not one.hole for at in range(one.offset, one.end)}
    for one in found:
        covered = range(one.index * block, min((one.index + one.count) * block, size))
        if one.hole:
            assert not data_bytes & set(covered)
        else:
            assert one.count == 1


def test_a_block_that_is_hole_whole_is_not_read() -> None:
    extents = [Extent(0, 5), Extent(5, 30, hole=True), Extent(35, 5)]
    found = list(wanted_blocks(iter(extents), 0, 4, 10))
    assert found == [
        Wanted(0, 1, hole=False),
        Wanted(1, 2, hole=True),
        Wanted(3, 1, hole=False),
    ]


# --- reading and putting --------------------


@st.composite
def disks(draw: st.DrawFn) -> MemoryDisk:
    """A small disk with holes and bad ranges."""
    size = draw(st.integers(1, 20 * SIZE))
    data = bytearray(draw(st.binary(min_size=1, max_size=64)) * (size // 1 + 1))[:size]
    holes: list[Extent] = []
    for start in sorted(draw(st.sets(st.integers(0, size - 1), max_size=3))):
        if not holes or holes[-1].end < start:
            holes.append(
                Extent(start, min(draw(st.integers(1, 4 * SIZE)), size - start), hole=True)
            )
    for one in holes:
        data[one.offset : one.end] = bytes(one.length)
    bad = [
        Extent(start, min(draw(st.integers(1, SIZE)), size - start))
        for start in draw(st.lists(st.integers(0, size - 1), max_size=2))
    ]
    return MemoryDisk(bytes(data), [one for one in bad if not overlaps(one, bad)], holes)


def overlaps(one: Extent, others: Sequence[Extent]) -> bool:
    return any(
        one is not other and one.offset < other.end and other.offset < one.end for other in others
    )


def readable(disk: MemoryDisk) -> bytes:
    """The disk as the loop is to hand it on: what is bad stands as zeros."""
    found = bytearray(disk.data)
    for one in disk.bad:
        found[one.offset : one.end] = bytes(one.length)
    return bytes(found)


@given(disks(), st.integers(1, 5), st.integers(0, 2))
def test_what_is_put_is_what_the_disk_holds(disk: MemoryDisk, workers: int, level: int) -> None:
    sink = ListSink()
    told = ingest(disk, sink, workers=workers, level=level)
    size = disk.facts.size
    assert sink.disk(size, SIZE) == readable(disk)
    places = [index for one in sink.cuts for index in range(one.index, one.index + one.count)]
    assert places == list(range(block_count(size, SIZE)))
    assert sink.said == ["begin web01", "commit"]
    done = [one.done for one in told if isinstance(one, Progress)]
    assert done == sorted(done)
    assert done[-1] == size
    lost = {at for one in told if isinstance(one, Unreadable) for at in extent(one)}
    holes = {one.index for one in sink.cuts if not one.length}
    skipped = {at for one in disk.bad for at in range(one.offset, one.end)} - lost
    assert all(any(cut_covers(sink, index, at) for index in holes) for at in skipped)


def extent(one: Unreadable) -> range:
    return range(one.offset, one.offset + one.length)


def cut_covers(sink: ListSink, index: int, at: int) -> bool:
    (cut,) = [one for one in sink.cuts if one.index == index]
    return cut.index * SIZE <= at < (cut.index + cut.count) * SIZE


def test_neighbouring_bad_ranges_are_told_as_one() -> None:
    bad = [Extent(100, 3 * SIZE), Extent(6 * SIZE, 10), Extent(8 * SIZE - 5, 5)]
    told = ingest(MemoryDisk(os.urandom(8 * SIZE), bad), ListSink())
    found = [one for one in told if isinstance(one, Unreadable)]
    assert found == [Unreadable(one.offset, one.length) for one in bad]


def test_holes_are_not_read() -> None:
    disk = MemoryDisk(bytes(100 * SIZE), holes=[Extent(SIZE, 98 * SIZE, hole=True)])
    sink = ListSink()
    witness_reads = len({0, 99})
    ingest(disk, sink)
    assert len(disk.reads) == 2 + witness_reads
    assert [(one.index, one.count) for one in sink.cuts] == [(0, 1), (1, 98), (99, 1)]


def test_a_resumed_job_reads_what_is_missing() -> None:
    disk = MemoryDisk(os.urandom(10 * SIZE))
    sink = ListSink(cursor=7)
    ingest(disk, sink)
    assert [one.index for one in sink.cuts] == [7, 8, 9]
    assert sink.disk(10 * SIZE, SIZE)[7 * SIZE :] == disk.data[7 * SIZE :]


def test_when_nothing_is_missing_the_point_is_only_ended() -> None:
    sink = ListSink(cursor=3)
    told = ingest(MemoryDisk(os.urandom(3 * SIZE)), sink)
    assert not sink.cuts
    assert not told
    assert sink.said == ["begin web01", "commit"]


# --- the end before the end --------------------


def test_a_stopped_job_checkpoints_what_was_put() -> None:
    sink = ListSink()
    with pytest.raises(StoppedError):
        ingest(MemoryDisk(os.urandom(50 * SIZE)), sink, stop=stopping(20), workers=2)
    assert sink.said == ["begin web01", "checkpoint"]
    assert [one.index for one in sink.cuts] == list(range(len(sink.cuts)))
    assert 0 < len(sink.cuts) <= 20


class FailingDisk(MemoryDisk):
    """Gone from block ``at`` on, and told so by every read behind it."""

    def __init__(self, data: bytes, at: int, error: MotionGearError) -> None:
        super().__init__(data)
        self.at, self.error, self.attached = at, error, False

    def readinto(self, offset: int, buffer: memoryview) -> Sequence[Extent]:
        if self.attached and offset >= self.at * SIZE:
            raise self.error
        return super().readinto(offset, buffer)

    def extents(self, offset: int) -> Iterator[Extent]:
        self.attached = True  # the witness has had its look
        return super().extents(offset)


@pytest.mark.parametrize("at", [0, 1, 13, 49])
def test_a_disk_that_vanishes_leaves_all_before_it_durable(at: int) -> None:
    disk = FailingDisk(os.urandom(50 * SIZE), at, SourceGoneError("sdb no longer answers"))
    sink = ListSink()
    with pytest.raises(SourceGoneError):
        ingest(disk, sink, workers=4)
    assert sink.said == ["begin web01", "checkpoint"]
    assert [one.index for one in sink.cuts] == list(range(at))


def test_bad_ranges_are_told_before_the_job_fails() -> None:
    disk = FailingDisk(os.urandom(8 * SIZE), 5, SourceGoneError("sdb no longer answers"))
    disk.bad = [Extent(4 * SIZE, 512)]
    told: list[Event] = []
    loop = Ingest(
        disk,
        ListSink(),
        replace(point(b"x"), facts=disk.facts),
        SampleWitness(disk, bytes(32), SIZE),
        told.append,
        never,
        Throttle(),
        How(1, 2),
    )
    with pytest.raises(SourceGoneError):
        loop.run()
    assert told[-1] == Unreadable(4 * SIZE, 512)


def test_a_full_store_is_not_checkpointed_again() -> None:
    sink = ListSink(full_at=5)
    with pytest.raises(StoreFullError):
        ingest(MemoryDisk(os.urandom(20 * SIZE)), sink)
    assert sink.said == ["begin web01"]
    assert len(sink.cuts) == 5


def test_a_disk_that_was_exchanged_never_gets_a_point_end() -> None:
    class Exchanged(MemoryDisk):
        def confirm(self) -> None:
            raise SourceChangedError("sdb is not the disk it was at the start")

    sink = ListSink()
    with pytest.raises(SourceChangedError):
        ingest(Exchanged(os.urandom(5 * SIZE)), sink)
    assert len(sink.cuts) == 5
    assert "commit" not in sink.said


@pytest.mark.parametrize("change", ["longer", "shorter", "written"])
def test_an_image_written_to_meanwhile_never_gets_a_point_end(tmp_path: Path, change: str) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(64 * SIZE))

    def meddle() -> bool:
        with opened(path, os.O_RDWR) as fd:
            if change == "written":
                os.pwrite(fd, b"new", 0)
            else:
                os.truncate(fd, (128 if change == "longer" else 8) * SIZE)
        return False

    sink = ListSink()
    with (
        ImageFiles([]).open(str(path)) as disk,
        pytest.raises((SourceChangedError, SourceGoneError)),
    ):
        ingest(disk, sink, stop=meddle)
    assert "commit" not in sink.said


# --- speed --------------------


class Clock:
    """Time that passes only while the throttle sleeps; it begins at midnight."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def throttle(self, *limits: Limit) -> Throttle:
        return Throttle(limits, lambda: self.now, self.sleep, self.local)

    def local(self) -> datetime:
        return datetime(2026, 11, 22) + timedelta(seconds=self.now)  # noqa: DTZ001 - local by design


def test_the_speed_limit_is_kept() -> None:
    clock = Clock()
    ingest(MemoryDisk(os.urandom(21 * SIZE)), ListSink(), throttle=clock.throttle(Limit(2 * SIZE)))
    assert 10 <= clock.now < 10.1


def test_holes_cost_no_time() -> None:
    clock, hole = Clock(), Extent(0, 999 * SIZE, hole=True)
    disk = MemoryDisk(bytes(1000 * SIZE), holes=[hole])
    ingest(disk, ListSink(), throttle=clock.throttle(Limit(1)))
    assert not clock.now


def test_a_job_that_waits_for_its_window_can_be_stopped() -> None:
    clock, sink = Clock(), ListSink()
    with pytest.raises(StoppedError):
        ingest(
            MemoryDisk(os.urandom(4 * SIZE)),
            sink,
            stop=stopping(1000),
            throttle=clock.throttle(Limit(0)),
        )
    assert clock.now > 60
    assert sink.said == ["begin web01", "checkpoint", "checkpoint"]


class SafeSink(ListSink):
    """Notes what each checkpoint covers, and when it came."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.safe: list[tuple[int, int]] = []

    def checkpoint(self) -> None:
        self.safe.append((int(self.clock.now), len(self.cuts)))


PAUSE = Limit(0, 1, 60)


@pytest.mark.parametrize(
    ("rate", "read"),
    [(SIZE / 10, 6), (SIZE / 45, 2), (SIZE / 1000, 1)],
    ids=["on the minute", "while a block waits", "while a block waits for long"],
)
def test_what_was_read_before_a_pause_is_safe_when_it_begins(rate: float, read: int) -> None:
    clock = Clock()
    sink, throttle = SafeSink(clock), clock.throttle(Limit(rate), PAUSE)
    data = os.urandom(9 * SIZE)
    ingest(MemoryDisk(data), sink, throttle=throttle)
    assert sink.safe == [(60, read)]
    assert clock.now >= 3600
    assert sink.disk(len(data), SIZE) == data
    assert sink.said[-1] == "commit"


def test_who_stops_the_job_in_a_pause_loses_nothing() -> None:
    clock = Clock()
    sink, throttle = SafeSink(clock), clock.throttle(Limit(SIZE / 10), PAUSE)
    with pytest.raises(StoppedError):
        ingest(
            MemoryDisk(os.urandom(9 * SIZE)),
            sink,
            stop=lambda: clock.now > 1000,
            throttle=throttle,
        )
    assert sink.safe == [(60, 6), (1000, 6)]
    assert len(sink.cuts) == 6


# --- into a store and back --------------------


def stored(store: Store, disk: SourceDisk, stop: Stop = never) -> None:
    with StoreWriter(store, pace=SMALL) as sink:
        ingest(disk, sink, block=BLOCK, stop=stop)


def read_back(store: Store, place: Path) -> tuple[bytes, list[tuple[int, int]], bool]:
    """The disk in the store, its bad ranges, and whether it came to its end."""
    place.mkdir()
    (found,), problems = recover(list(store.closed()), OPERATOR, place)
    assert not problems
    assert not found.problems
    assert not found.missing
    return found.path.read_bytes(), found.unreadable, found.ended


def test_a_disk_with_holes_and_bad_sectors_comes_back(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = bytearray(os.urandom(30 * BLOCK + 777))
    hole = Extent(5 * BLOCK + 100, 9 * BLOCK, hole=True)
    data[hole.offset : hole.end] = bytes(hole.length)
    data[20 * BLOCK : 21 * BLOCK] = data[:BLOCK]
    bad = [Extent(2 * BLOCK, 512), Extent(22 * BLOCK - 512, 1024), Extent(30 * BLOCK + 512, 265)]
    disk = MemoryDisk(bytes(data), bad, [hole])
    stored(store, disk)
    found, lost, ended = read_back(store, tmp_path / "out")
    assert found == readable(disk)
    assert lost == [(one.offset, one.length) for one in bad]
    assert ended


@pytest.mark.parametrize("after", [1, 9, 17])
def test_a_job_stopped_again_and_again_comes_to_the_same_disk(tmp_path: Path, after: int) -> None:
    store, _ = new_store(tmp_path)
    disk = MemoryDisk(os.urandom(24 * BLOCK + 1))
    rounds = 0
    while rounds < 40:
        rounds += 1
        try:
            stored(store, disk, stopping(after + 6 * rounds))
        except StoppedError:
            continue
        break
    assert 1 < rounds < 40
    found, lost, ended = read_back(store, tmp_path / "out")
    assert (found, lost, ended) == (bytes(disk.data), [], True)


def test_a_real_disk_that_fails_in_its_middle(bench: Bench) -> None:
    store, _ = new_store(bench.place)
    data = os.urandom(16 * BLOCK + 4096)
    image = bench.image(data)
    device = bench.loop(image, "--sector-size", "4096")
    with AttachedDisks([store.path]).open(str(device)) as disk:
        os.truncate(image, 8 * BLOCK + 8192)
        stored(store, disk)
    found, lost, ended = read_back(store, bench.place / "out")
    assert found[: 8 * BLOCK + 8192] == data[: 8 * BLOCK + 8192]
    assert not any(found[8 * BLOCK + 8192 :])
    assert lost == [(8 * BLOCK + 8192, 8 * BLOCK - 4096)]
    assert ended


def test_a_tebibyte_of_nothing_goes_through_in_no_time(tmp_path: Path) -> None:
    path, size = tmp_path / "disk.img", 1 << 40
    pieces = {0: os.urandom(1 << 20), 1 << 39: os.urandom(3 << 20), size - 5000: os.urandom(5000)}
    with opened(path, os.O_WRONLY | os.O_CREAT) as fd:
        os.truncate(fd, size)
        for offset, piece in pieces.items():
            os.pwrite(fd, piece, offset)
    store, _ = new_store(tmp_path, block_size=1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ImageFiles([]).open(str(path)) as disk, StoreWriter(store, pace=SMALL) as sink:
        told = ingest(disk, sink, block=1 << 20)
        assert sink.counts.zero == (1 << 20) - sink.counts.stored
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 << 10  # KiB: the table of repeats and the buffers, not the disk
    assert len(told) < 20
    assert block_length((1 << 20) - 1, size, 1 << 20) == 1 << 20
