"""The sender's side of a disk: how often it is read, what it costs, and how it ends."""

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catchup import wire
from appliance.catchup.link import Channel
from appliance.catchup.rounds import Part, Round
from appliance.catchup.sender import Blocks, DiskSender
from appliance.catchup.wire import PIECE, Message
from appliance.errors import ReplicaDiffersError, SourceGoneError
from appliance.events import Step
from appliance.model import Digest, Extent
from appliance.rate import Throttle
from appliance.seal.cut import digest
from appliance.seal.manifest import Manifest, State
from tests.line import TwoEnds, manifest_of, new_part, noise, part, relay_to, two_ends
from tests.support import BLOCK, MemoryDisk

SIZE = 40 * BLOCK + 777
M = TypeVar("M", bound=Message)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


def large(one: Part) -> Part:
    """With blocks of several pieces."""
    return replace(one, about=replace(one.about, block_size=1 << 20))


# --- how often a disk is read --------------------


def test_a_new_disk_is_read_once(ends: TwoEnds) -> None:
    disk = MemoryDisk(noise(SIZE))
    told = ends.invite(new_disks=True).round(new_part(disk))
    assert (told.read, told.blocks) == (SIZE, 41)
    assert ends.content("22" * 16) == disk.data


@pytest.mark.parametrize("before", [0, 1])
def test_after_a_cut_the_disk_is_read_once_more_and_not_compared(
    ends: TwoEnds, before: int
) -> None:
    """A new one, and one whose last round is known."""
    machine, disk = ends.invite(new_disks=True), MemoryDisk(noise(SIZE))
    for _ in range(before):
        machine.round(new_part(disk))
    disk.data[:] = noise(SIZE)
    with relay_to(ends) as relay:
        relay.cut_after = SIZE // 2
        told = machine.round(new_part(disk), port=relay.port)
        assert relay.cuts == 1
    assert not any(isinstance(one, Step) and one.step == "compare" for one in machine.told)
    assert told.read <= 2 * SIZE
    assert told.sent < SIZE + 66 * BLOCK
    assert ends.content("22" * 16) == disk.data


def test_where_what_is_known_is_older_than_the_replica_the_disk_is_read_once(
    ends: TwoEnds,
) -> None:
    """A round was given up when its blocks were sent, or its end was not heard of."""
    machine, disk = ends.invite(new_disks=True), MemoryDisk(noise(SIZE))
    machine.round(new_part(disk))
    known = machine.home / "known" / f"{'22' * 16}.manifest"
    old = known.read_bytes()
    disk.data[:] = noise(SIZE)
    machine.round(new_part(disk))
    known.write_bytes(old)
    disk.data[: 30 * BLOCK] = noise(30 * BLOCK)
    told = machine.round(new_part(disk))
    assert (told.read, told.blocks) == (SIZE, 30)
    assert ends.content("22" * 16) == disk.data


def test_what_is_known_of_a_disk_of_another_size_is_not_looked_at(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine = ends.invite()
    other = manifest_of(data[: 3 * BLOCK], about.disk)
    other.save(machine.home / "known" / f"{about.disk}.manifest")
    assert machine.round(part(MemoryDisk(data), about)).blocks == 0
    assert Manifest.load(machine.home / "known" / f"{about.disk}.manifest").size == SIZE


# --- bytes that cannot be read --------------------


def test_what_stays_unreadable_is_sent_once(ends: TwoEnds) -> None:
    machine, disk = ends.invite(new_disks=True), MemoryDisk(noise(48 * PIECE))
    disk.bad = [Extent(3 * PIECE, 2 * PIECE), Extent(32 * PIECE, 16 * PIECE)]
    one = large(new_part(disk))
    machine.round(one)
    told = machine.round(one)
    assert (told.blocks, told.changed) == (0, 0)
    disk.data[PIECE : PIECE + 9] = bytes(9)
    told = machine.round(one)
    assert (told.blocks, told.changed) == (1, PIECE)
    lost = bytes(2 * PIECE)
    expected = bytes(disk.data[: 3 * PIECE]) + lost + bytes(disk.data[5 * PIECE : 32 * PIECE])
    assert ends.content("22" * 16) == expected + bytes(16 * PIECE)


def test_of_a_block_with_unreadable_bytes_only_the_piece_around_them_is_sent_again(
    ends: TwoEnds,
) -> None:
    machine, disk = ends.invite(new_disks=True), MemoryDisk(noise(16 * PIECE))
    one = large(new_part(disk))
    machine.round(one)
    was = bytes(disk.data)
    disk.bad = [Extent(3 * PIECE + 512, 512)]
    disk.data[3 * PIECE : 4 * PIECE] = noise(PIECE)
    for _ in range(2):
        assert machine.round(one).changed == PIECE
    disk.data[3 * PIECE + 512 : 3 * PIECE + 1024] = was[3 * PIECE + 512 : 3 * PIECE + 1024]
    assert ends.content("22" * 16) == disk.data


# --- what is left to send --------------------


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)))
def test_blocks_are_a_set_in_order(added: set[int], discarded: set[int]) -> None:
    found = Blocks(100)
    for one in added:
        found.add(one)
    for one in discarded:
        found.discard(one)
    assert list(found) == sorted(added - discarded)
    assert len(found) == len(added - discarded)


def test_a_block_that_is_left_costs_a_bit() -> None:
    tracemalloc.start()
    try:
        found = Blocks(1 << 20)
        for one in range(0, 1 << 20, 8):
            found.add(one)
        assert sum(1 for _ in found) == 1 << 17
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


# --- how it ends --------------------


class Forgetful:
    """A gate over a replica of one block that keeps nothing of what it acknowledges."""

    sent = 0

    def __init__(self, point: int, held: Manifest) -> None:
        self._point, self._held = point, held
        self._said: list[Message] = []
        self.heard: list[Message] = []
        self.accepts: object = ()

    def send(self, message: Message) -> None:
        self.heard.append(message)
        self._said += self._answers(message)

    def _answers(self, message: Message) -> list[Message]:
        root = self._held.root(self._point)
        match message:
            case wire.Disk():
                return [wire.DiskIs(self._held.point, self._held.root())]
            case wire.Pages():
                return [wire.PagesAre(0, tuple(self._held.page_digests()))]
            case wire.Entries():
                return [wire.EntriesAre(0, (self._held[0],))]
            case wire.Ask():
                return [wire.Have(0, (bytes(16),))]
            case wire.Patch():
                return [wire.Ack(0, State.DATA, message.digest)]
            case _:
                return [wire.DiskDone(same=False, root=root)]

    def receive(self, kind: type[M]) -> M:
        found = self._said.pop(0)
        assert isinstance(found, kind)
        return found

    def poll(self) -> Message | None:
        return self._said.pop(0) if self._said else None

    def next(self) -> Message:
        return self._said.pop(0)


def test_whatever_is_sent_the_gate_is_asked_whether_it_has_come_to_the_root() -> None:
    disk = MemoryDisk(noise(BLOCK))
    about = new_part(disk).about
    held = Manifest(about.disk, 0, BLOCK, BLOCK)
    held.set(0, Digest(digest(noise(BLOCK))), State.DATA)
    gate = Forgetful(1, held)
    sender = DiskSender(disk, about, None, lambda _: None, lambda: False)
    with pytest.raises(ReplicaDiffersError):
        sender.run(cast("Channel", gate), 1)
    kinds = [type(one) for one in gate.heard]
    assert kinds.count(wire.Patch) == kinds.count(wire.EndDisk) == 3
    assert kinds[-1] is wire.EndDisk


class Shut(Throttle):
    """Lets everything through until it is shut; then nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.shut, self.given_up = threading.Event(), threading.Event()

    def take(self, size: int, stop: Callable[[], bool]) -> bool:
        until = time.monotonic() + 30
        while self.shut.is_set():
            if stop():
                return False
            if time.monotonic() > until:
                self.given_up.set()
                raise AssertionError("nobody was stopped")
        return super().take(size, stop)


class FailingDisk(MemoryDisk):
    """Cannot be read, and shuts the line when that is found out."""

    def __init__(self, data: bytes, throttle: Shut) -> None:
        super().__init__(data)
        self.facts = replace(self.facts, serial="S-2")
        self._throttle = throttle

    def readinto(self, offset: int, buffer: memoryview) -> list[Extent]:
        del offset, buffer
        self._throttle.shut.set()
        raise SourceGoneError("The disk is gone")


class WaitingDisk(MemoryDisk):
    """Is read only when the line is shut."""

    def __init__(self, data: bytes, throttle: Shut) -> None:
        super().__init__(data)
        self._throttle = throttle

    def readinto(self, offset: int, buffer: memoryview) -> list[Extent]:
        assert self._throttle.shut.wait(30)
        return list(super().readinto(offset, buffer))


@pytest.mark.parametrize("failing", ["21" * 16, "23" * 16])
def test_a_disk_that_fails_ends_the_others_at_once(ends: TwoEnds, failing: str) -> None:
    """They may hold up a source that is frozen; what is told is why the first one failed."""
    machine, throttle = ends.invite(new_disks=True), Shut()
    parts = [
        new_part(FailingDisk(noise(SIZE), throttle), failing),
        new_part(WaitingDisk(noise(SIZE), throttle), "22" * 16),
    ]
    line = replace(machine.line(), throttle=throttle)
    one = Round(line, machine.home / "known", machine.told.append, machine.stop.is_set)
    with pytest.raises(SourceGoneError, match="The disk is gone"):
        one.run(sorted(parts, key=lambda part: part.about.disk), 1_790_000_000)
    assert not throttle.given_up.is_set()
