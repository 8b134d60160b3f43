"""An enrolled sender that says what it must not: every lie is refused by name, writes nothing, and
disturbs nobody else.
"""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from appliance.catchup import rounds, wire
from appliance.catchup.enrol import Registry
from appliance.catchup.link import Address, Channel, dial
from appliance.catchup.replica import MANIFEST
from appliance.catchup.replicas import Held
from appliance.catchup.wire import HEAD, Form
from appliance.errors import (
    MotionGearError,
    NotEnrolledError,
    PointRefusedError,
    ReplicaUnknownError,
    WireViolationError,
)
from appliance.model import Codec, DiskId
from appliance.seal.cut import digest
from appliance.seal.manifest import Manifest
from tests.line import Machine, TwoEnds, noise, part, two_ends
from tests.support import BLOCK, MemoryDisk

SIZE = 8 * BLOCK
MINE = DiskId("11" * 16)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


@pytest.fixture
def data() -> bytes:
    return noise(SIZE)


@pytest.fixture
def about(ends: TwoEnds, data: bytes) -> wire.Replica:
    return ends.restored(data)


@pytest.fixture
def machine(ends: TwoEnds, about: wire.Replica) -> Machine:
    assert about.disk == MINE
    return ends.invite()


def begin(channel: Channel, *disks: DiskId, round_: bytes = b"r" * 16) -> int:
    channel.send(wire.Point(round_, Form.FUZZY, 0, disks or (MINE,)))
    return channel.receive(wire.PointIs).point


def opened(channel: Channel, about: wire.Replica) -> wire.DiskIs:
    channel.send(wire.Disk(about))
    return channel.receive(wire.DiskIs)


def whole(index: int, block: bytes) -> wire.Patch:
    return wire.Patch(index, Codec.RAW, len(block), digest(block), b"\1", (), block)


class Odd:
    """A frame of any bytes."""

    kind: ClassVar[int] = 8
    most: ClassVar[int] = 1 << 30

    def __init__(self, kind: int, payload: bytes) -> None:
        self.kind, self._payload = kind, payload  # type: ignore[misc]

    def payload(self) -> bytes:
        return self._payload

    @classmethod
    def read(cls, fields: object) -> "Odd":
        raise AssertionError(f"nobody reads what only a liar sends: {fields}")


LIES: dict[str, tuple[Callable[[], wire.Message], str]] = {
    "a block behind the end": (lambda: whole(8, noise(BLOCK)), "has no block 8"),
    "another digest": (lambda: replace(whole(1, noise(BLOCK)), digest=bytes(32)), "its digest"),  # type: ignore[arg-type]
    "too few bytes": (lambda: whole(1, noise(512)), "wrong length"),
    "too many pieces": (
        lambda: replace(whole(1, noise(BLOCK)), codes=b"\1\0"),
        "has 1 pieces",
    ),
    "asks behind the end": (lambda: wire.Ask((3, 8)), "has no block 8"),
    "asks out of order": (lambda: wire.Ask((3, 2)), "out of order"),
    "pages there are none of": (lambda: wire.Pages(0, 2), "has 1 pages"),
    "a page there is none of": (lambda: wire.Entries(1), "no page 1"),
    "a greeting again": (lambda: wire.Hello(1, 1, "x"), "Hello came where"),
    "an end of the point": (wire.EndPoint, "EndPoint came where"),
    "a gate's word": (lambda: wire.PointDone(1, kept=True), "PointDone came where"),
    "an unknown kind": (lambda: Odd(99, b""), "does not speak this protocol"),
    "a frame cut short": (lambda: Odd(8, whole(1, noise(BLOCK)).payload()[:40]), "cut short"),
    "nothing asked": (lambda: Odd(7, b""), "asks for nothing"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_a_disk_is_refused_by_name_and_writes_nothing(
    ends: TwoEnds, machine: Machine, about: wire.Replica, data: bytes, lie: str
) -> None:
    say, why = LIES[lie]
    with machine.channel() as channel:
        begin(channel)
        opened(channel, about)
        channel.send(say())
        with pytest.raises(WireViolationError, match=why):
            channel.receive(wire.Ack)
    assert ends.content() == data
    assert machine.round(part(MemoryDisk(data), about)).blocks == 0


def test_an_absurd_length_is_refused_before_memory_is_taken(
    machine: Machine, about: wire.Replica
) -> None:
    with machine.channel() as channel:
        begin(channel)
        opened(channel, about)
        line: socket.socket = channel._line  # noqa: SLF001 - what no honest sender can send
        line.send(HEAD.pack((1 << 32) - 1, wire.Patch.kind, bytes(3)))
        with pytest.raises(WireViolationError, match="announces 4294967295 bytes"):
            channel.receive(wire.Ack)


def test_a_patch_longer_than_the_disks_blocks_allow_is_refused_before_memory_is_taken(
    machine: Machine, about: wire.Replica
) -> None:
    with machine.channel() as channel:
        channel.wait_at_most(20.0)
        begin(channel)
        opened(channel, about)
        line: socket.socket = channel._line  # noqa: SLF001 - what no honest sender can send
        line.send(HEAD.pack(BLOCK + 8193, wire.Patch.kind, bytes(3)))
        with pytest.raises(WireViolationError, match=f"announces {BLOCK + 8193} bytes"):
            channel.receive(wire.Ack)


def test_a_patch_that_is_repeated_changes_nothing_more(
    ends: TwoEnds, machine: Machine, about: wire.Replica, data: bytes
) -> None:
    fresh = noise(BLOCK)
    with machine.channel() as channel:
        begin(channel)
        opened(channel, about)
        for _ in range(3):
            channel.send(whole(2, fresh))
        acks = [channel.receive(wire.Ack) for _ in range(3)]
    assert {(one.index, one.digest) for one in acks} == {(2, digest(fresh))}
    assert ends.content() == data[: 2 * BLOCK] + fresh + data[3 * BLOCK :]


def test_roots_that_differ_do_not_make_a_point(
    ends: TwoEnds, machine: Machine, about: wire.Replica
) -> None:
    with machine.channel() as channel:
        begin(channel)
        opened(channel, about)
        channel.send(wire.EndDisk(bytes(32)))
        assert not channel.receive(wire.DiskDone).same
    assert ends.held().point() == 0


def test_a_point_ends_only_with_all_its_disks(
    ends: TwoEnds, machine: Machine, about: wire.Replica, data: bytes
) -> None:
    other = ends.restored(data, "22" * 16)
    with machine.channel() as channel:
        point = begin(channel, MINE, other.disk)
        told = opened(channel, about)
        assert (told.point, told.root) == (0, ends.held().root())
        mine = ends.held()
        channel.send(wire.EndDisk(_root(mine, point)))
        assert channel.receive(wire.DiskDone).same
        channel.send(wire.EndPoint())
        with pytest.raises(PointRefusedError, match=other.disk):
            channel.receive(wire.PointDone)


def _root(held: Held, point: int) -> bytes:
    return Manifest.load(held.place / MANIFEST).root(point)


def test_an_answer_that_was_lost_is_given_again(
    ends: TwoEnds, machine: Machine, about: wire.Replica
) -> None:
    """The point was kept, and the line cut before the sender heard of it."""
    for _ in range(2):
        with machine.channel() as channel:
            point = begin(channel)
            assert point == 1
            if not ends.held().point():
                opened(channel, about)
                channel.send(wire.EndDisk(_root(ends.held(), point)))
                channel.receive(wire.DiskDone)
            channel.send(wire.EndPoint())
            assert channel.receive(wire.PointDone) == wire.PointDone(1, kept=False)


def test_a_round_that_has_ended_changes_nothing_more(
    ends: TwoEnds, machine: Machine, about: wire.Replica, data: bytes
) -> None:
    with machine.channel() as channel:
        begin(channel)
        opened(channel, about)
        channel.send(wire.EndDisk(_root(ends.held(), 1)))
        assert channel.receive(wire.DiskDone).same
        channel.send(wire.EndPoint())
        assert channel.receive(wire.PointDone).point == 1
        assert begin(channel) == 1
        with pytest.raises(PointRefusedError, match="The round has ended"):
            opened(channel, about)
    assert machine.round(part(MemoryDisk(data), about)).point == 2


def test_a_round_that_was_overtaken_writes_nothing_more(
    ends: TwoEnds, machine: Machine, about: wire.Replica, data: bytes
) -> None:
    """A stale connection must not change what another round is about to keep."""
    with machine.channel() as stale:
        begin(stale, round_=b"a" * 16)
        with machine.channel() as channel:
            channel.send(wire.Point(b"b" * 16, Form.QUIESCED, 0, (MINE,)))
            point = channel.receive(wire.PointIs).point
            opened(channel, about)
            channel.send(wire.EndDisk(_root(ends.held(), point)))
            assert channel.receive(wire.DiskDone).same
            stale.send(wire.Disk(about))
            with pytest.raises(PointRefusedError, match="Another round was begun since"):
                stale.receive(wire.DiskIs)
            channel.send(wire.EndPoint())
            assert channel.receive(wire.PointDone).kept
    (kept,) = ends.target.snapshots()
    assert Path(kept.location).read_bytes() == data


def test_what_was_written_after_it_was_done_is_no_point(
    ends: TwoEnds, machine: Machine, about: wire.Replica
) -> None:
    with machine.channel() as channel:
        channel.send(wire.Point(b"b" * 16, Form.QUIESCED, 0, (MINE,)))
        point = channel.receive(wire.PointIs).point
        opened(channel, about)
        channel.send(wire.EndDisk(_root(ends.held(), point)))
        assert channel.receive(wire.DiskDone).same
        opened(channel, about)
        channel.send(whole(1, noise(BLOCK)))
        channel.receive(wire.Ack)
    with machine.channel() as channel:
        channel.send(wire.Point(b"b" * 16, Form.QUIESCED, 0, (MINE,)))
        channel.receive(wire.PointIs)
        channel.send(wire.EndPoint())
        with pytest.raises(PointRefusedError, match="was written to after it was done"):
            channel.receive(wire.PointDone)
    assert list(ends.target.snapshots()) == []


def test_a_round_that_can_wait_does_not_disturb_a_last_one(
    machine: Machine, about: wire.Replica
) -> None:
    with machine.channel() as last:
        last.send(wire.Point(b"b" * 16, Form.QUIESCED, 0, (MINE,)))
        last.receive(wire.PointIs)
        opened(last, about)
        with machine.channel() as channel:
            channel.send(wire.Point(b"a" * 16, Form.FUZZY, 0, (MINE,)))
            with pytest.raises(PointRefusedError, match="last round of web01 is under way"):
                channel.receive(wire.PointIs)
    assert machine.round(part(MemoryDisk(bytes(SIZE)), about)).point == 2


def test_a_point_without_one_of_the_disks_is_not_kept(
    ends: TwoEnds, machine: Machine, about: wire.Replica, data: bytes
) -> None:
    other = ends.restored(data, "22" * 16)
    with pytest.raises(PointRefusedError, match=f"Disk {other.disk} of web01 is not in"):
        machine.round(part(MemoryDisk(data), about), form=Form.QUIESCED)
    both = [part(MemoryDisk(data), one) for one in (about, other)]
    assert machine.round(*both, form=Form.QUIESCED).kept


def test_a_machine_that_is_forgotten_meanwhile_is_refused_at_its_next_word(
    ends: TwoEnds, machine: Machine, about: wire.Replica
) -> None:
    with machine.channel() as channel:
        begin(channel)
        assert Registry(ends.gate_home).forget("web01")
        channel.send(wire.Disk(about))
        with pytest.raises(NotEnrolledError):
            channel.receive(wire.DiskIs)


def test_a_round_does_not_change_its_disks_or_its_form(machine: Machine) -> None:
    for form, disks in ((Form.QUIESCED, (MINE,)), (Form.FUZZY, (MINE, DiskId("33" * 16)))):
        with machine.channel() as channel:
            begin(channel)
            channel.send(wire.Point(b"r" * 16, form, 0, disks))
            with pytest.raises((PointRefusedError, WireViolationError, ReplicaUnknownError)):
                channel.receive(wire.PointIs)


def test_a_disk_that_is_not_of_the_point_is_refused(
    ends: TwoEnds, machine: Machine, data: bytes
) -> None:
    other = ends.restored(data, "22" * 16)
    with machine.channel() as channel:
        begin(channel)
        channel.send(wire.Disk(other))
        with pytest.raises(PointRefusedError, match="not one of this point's"):
            channel.receive(wire.DiskIs)


def test_a_disk_opened_again_is_taken_from_the_connection_that_had_it(
    ends: TwoEnds, machine: Machine, about: wire.Replica
) -> None:
    """A sender whose line was cut does not wait for the gate to notice."""
    fresh = noise(BLOCK)
    with machine.channel() as first:
        begin(first)
        opened(first, about)
        with machine.channel() as second:
            begin(second)
            opened(second, about)
            second.send(whole(0, fresh))
            second.receive(wire.Ack)
            with pytest.raises(PointRefusedError, match="has taken over the disk"):
                first.receive(wire.Ack)
    assert ends.content()[:BLOCK] == fresh


def test_versions_without_one_in_common_are_refused(machine: Machine) -> None:
    address = Address("127.0.0.1", machine.ends.port)
    with dial(address, machine.gate.key, rounds.identity_of(machine.home)) as channel:
        channel.send(wire.Hello(2, 9, "of the future"))
        with pytest.raises(WireViolationError, match="versions 2 to 9"):
            channel.receive(wire.Welcome)


def test_a_machine_that_was_forgotten_is_refused(ends: TwoEnds, machine: Machine) -> None:
    assert Registry(ends.gate_home).forget("web01")
    with pytest.raises(NotEnrolledError), machine.channel():
        raise AssertionError


def test_who_has_not_enrolled_may_say_nothing_else(ends: TwoEnds, machine: Machine) -> None:
    with dial(Address("127.0.0.1", ends.port), machine.gate.key, None) as channel:
        channel.send(wire.Hello(1, 1, "a stranger"))
        assert channel.receive(wire.Welcome) == wire.Welcome(1, "", ())
        channel.send(wire.Point(b"r" * 16, Form.FUZZY, 0, (MINE,)))
        with pytest.raises(WireViolationError, match="Point came where Enrol belongs"):
            channel.receive(wire.PointIs)


def test_noise_on_the_port_disturbs_nobody(
    ends: TwoEnds, machine: Machine, about: wire.Replica, data: bytes
) -> None:
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000)):
        with socket.create_connection(("127.0.0.1", ends.port)) as stranger:
            stranger.sendall(said)
    assert machine.round(part(MemoryDisk(data), about)).blocks == 0


def test_the_refusal_goes_as_the_gate_says_it(machine: Machine) -> None:
    with machine.channel() as channel:
        begin(channel)
        channel.send(wire.EndPoint())
        with pytest.raises(MotionGearError) as caught:
            channel.receive(wire.PointDone)
    assert caught.value.name == "point-refused"
    assert caught.value.what.startswith("The gate refuses: Disk")
