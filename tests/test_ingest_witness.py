"""No chimeras: a resumed job knows its source again, at any cursor."""

import os
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ingest.witness import SampleWitness, stride
from appliance.model import Cut, Extent, Part, block_count
from appliance.seal.cut import Cutter, zero_run
from tests.support import BLOCK, MemoryDisk, facts

SIZE = 512
KEY = bytes(range(32))


def witness(disk: MemoryDisk, key: bytes = KEY) -> SampleWitness:
    return SampleWitness(disk, key, SIZE)


def cut(disk: MemoryDisk, index: int) -> Cut:
    return Cutter(0).cut(index, memoryview(bytes(disk.data[index * SIZE : (index + 1) * SIZE])))


def noted(
    disk: MemoryDisk, first: int, end: int, found: SampleWitness | None = None
) -> SampleWitness:
    found = found or witness(disk)
    for index in range(first, end):
        found.note(cut(disk, index))
    return found


@given(st.integers(0, 1 << 40))
def test_few_samples_are_taken_however_far_the_job_is(cursor: int) -> None:
    step = stride(cursor)
    assert len(range(0, cursor, step)) <= 64
    assert step == 1 or len(range(0, cursor, step // 2)) > 64
    assert not step & (step - 1)


@st.composite
def half_empty_disks(draw: st.DrawFn) -> tuple[MemoryDisk, list[tuple[int, int]]]:
    """A disk of blocks that are content or zero, and how its blocks are noted: one by one or as
    runs of zeros.
    """
    filled = draw(st.lists(st.booleans(), min_size=1, max_size=300))
    end = draw(st.integers(1, SIZE))
    data = b"".join(
        (b"%04d" % at if one else b"\0\0\0\0") * (SIZE // 4) for at, one in enumerate(filled)
    )
    steps, at = [], 0
    while at < len(filled):
        run = 0
        while at + run < len(filled) and not filled[at + run] and draw(st.booleans()):
            run += 1
        steps.append((at, run))
        at += run or 1
    return MemoryDisk(data[: len(data) - SIZE + end]), steps


@given(half_empty_disks(), st.data())
def test_a_resumed_job_knows_its_disk_and_goes_on(
    drawn: tuple[MemoryDisk, list[tuple[int, int]]], data: st.DataObject
) -> None:
    """Guards given before and after a resume are the same, whenever checkpoints are made."""
    disk, steps = drawn
    before, resumed = witness(disk), None
    for index, run in steps:
        one = zero_run(index, run) if run else cut(disk, index)
        before.note(one)
        if resumed is not None:
            resumed.note(one)
        if data.draw(st.booleans()):
            cursor = index + one.count
            guard = before.guard(cursor)
            if resumed is None:
                resumed = witness(disk)
                assert resumed.trusts(cursor, guard)
            assert resumed.guard(cursor) == guard
            assert witness(disk).trusts(cursor, guard)


@pytest.mark.parametrize("blocks", [1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize("cursor", [0, 1, 63, 64, 65, 200])
def test_every_sampled_block_counts(blocks: int, cursor: int) -> None:
    cursor = min(cursor, blocks)
    disk = MemoryDisk(os.urandom(blocks * SIZE))
    guard = noted(disk, 0, cursor).guard(cursor)
    sampled = {0, blocks - 1, *range(0, cursor, stride(cursor))}
    for index in range(blocks):
        disk.data[index * SIZE] ^= 1
        assert witness(disk).trusts(cursor, guard) == (index not in sampled)
        disk.data[index * SIZE] ^= 1
    assert witness(disk).trusts(cursor, guard)


def test_a_disk_whose_partitions_begin_differently_is_another() -> None:
    disk = MemoryDisk(os.urandom(1000 * SIZE))
    part = Part(1, 777 * SIZE, 10, "", "", "", "", "", "")
    disk.facts = replace(disk.facts, parts=(part, replace(part, start=1 << 60)))
    guard = noted(disk, 0, 500).guard(500)
    assert witness(disk).trusts(500, guard)
    disk.data[777 * SIZE + 5] ^= 1
    assert not witness(disk).trusts(500, guard)
    disk.data[777 * SIZE + 5] ^= 1
    disk.facts = replace(disk.facts, parts=(replace(part, start=778 * SIZE),))
    assert not witness(disk).trusts(500, guard)


def test_the_guard_is_bound_to_cursor_and_key() -> None:
    disk = MemoryDisk(bytes(10 * SIZE))
    guard = noted(disk, 0, 5).guard(5)
    assert not witness(disk).trusts(6, guard)
    assert not witness(disk, bytes(32)).trusts(5, guard)


def test_a_disk_that_is_now_too_short_is_not_asked() -> None:
    disk = MemoryDisk(bytes(4 * SIZE))
    found = witness(disk)
    disk.reads.clear()
    assert not found.trusts(5, bytes(32))
    assert not disk.reads


def test_a_point_that_starts_anew_has_new_samples() -> None:
    """The job was far, the disk is another one: it begins at 0 and is checkpointed early."""
    old, new = MemoryDisk(os.urandom(1000 * SIZE)), MemoryDisk(os.urandom(1000 * SIZE))
    guard = noted(old, 0, 1000).guard(1000)
    found = witness(new)
    assert not found.trusts(1000, guard)
    again = noted(new, 0, 10, found).guard(10)
    assert witness(new).trusts(10, again)
    assert not witness(old).trusts(10, again)


def test_what_cannot_be_read_counts_as_zeros() -> None:
    disk = MemoryDisk(os.urandom(8 * SIZE), bad=[Extent(2 * SIZE, SIZE)])
    found = witness(disk)
    for index in range(8):
        found.note(zero_run(index, 1) if index == 2 else cut(disk, index))
    assert witness(disk).trusts(8, found.guard(8))


def test_an_endless_hole_costs_nothing() -> None:
    class Endless(MemoryDisk):
        def readinto(self, offset: int, buffer: memoryview) -> list[Extent]:
            buffer[:] = bytes(len(buffer))
            self.reads.append((offset, len(buffer)))
            return []

    disk = Endless(b"")
    disk.facts = facts(1 << 50)
    blocks = block_count(1 << 50, SIZE)
    found = witness(disk)
    tracemalloc.start()
    try:
        found.note(zero_run(0, blocks - 5))
        guard = found.guard(blocks - 5)
        assert tracemalloc.get_traced_memory()[1] < 1 << 17
    finally:
        tracemalloc.stop()
    disk.reads.clear()
    assert found.trusts(blocks - 5, guard)
    assert len(disk.reads) <= 64


def test_memory_stays_small_while_checkpoints_are_made() -> None:
    disk = MemoryDisk(bytes(SIZE << 14))
    found, zero = witness(disk), cut(disk, 1)
    tracemalloc.start()
    try:
        for index in range(1 << 14):
            found.note(replace(zero, index=index))
            if not index % 256:
                found.guard(index + 1)
        assert tracemalloc.get_traced_memory()[0] < 1 << 16
    finally:
        tracemalloc.stop()


def test_a_source_that_says_it_has_changed_is_not_trusted() -> None:
    """In a place that no sample looks at: its version tells."""
    disk = MemoryDisk(bytes(BLOCK))
    disk.version = b"monday"
    guard = SampleWitness(disk, bytes(32), BLOCK).guard(0)
    assert SampleWitness(disk, bytes(32), BLOCK).trusts(0, guard)
    disk.version = b"tuesday"
    assert not SampleWitness(disk, bytes(32), BLOCK).trusts(0, guard)
