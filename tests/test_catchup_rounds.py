"""Rounds over a real line: what is sent, what it makes of the replica, and what cuts do to it."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.catchup.wire import PIECE, Form
from appliance.errors import (
    LinkCutError,
    OtherShipmentError,
    PointRefusedError,
    ReplicaUnknownError,
    SourceChangedError,
    StoppedError,
    TargetWriteError,
)
from appliance.events import Step
from appliance.model import Extent, VolumeState
from appliance.seal.manifest import Manifest, State
from tests.line import TwoEnds, new_part, noise, part, relay_to, two_ends
from tests.support import BLOCK, MemoryDisk
from tests.technician import until

SIZE = 40 * BLOCK + 777
LARGE = 1 << 20  # a block of several pieces


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


def scattered(disk: MemoryDisk, pieces: int, seed: int = 1) -> None:
    """Write over so many whole pieces of a disk, far from each other."""
    choose = random.Random(seed)
    for one in choose.sample(range(len(disk.data) // PIECE), pieces):
        disk.data[one * PIECE : (one + 1) * PIECE] = noise(PIECE)


def test_a_restored_disk_follows_its_source(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine, disk = ends.invite(), MemoryDisk(data)
    scattered(disk, 7)
    told = machine.round(part(disk, about))
    assert ends.content() == disk.data
    assert (told.point, told.blocks, told.changed, told.kept) == (1, 7, 7 * PIECE, False)
    assert ends.held().info.state is VolumeState.REPLICA
    assert told.roots[about.disk] == ends.held().root().hex()


def test_an_unchanged_disk_costs_a_digest_however_large(ends: TwoEnds) -> None:
    """Once compared from the root, once with what the last round ended with; the size of the disk
    does not show.
    """
    machine = ends.invite()
    costs = []
    for ident, size in (("11" * 16, 3 * BLOCK), ("12" * 16, 5000 * BLOCK)):
        data = noise(BLOCK) + bytes(size - BLOCK)
        about = ends.restored(data, ident)
        costs += [machine.round(part(MemoryDisk(data), about)) for _ in range(2)]
    assert all(one.blocks == 0 for one in costs)
    sent, received = {one.sent for one in costs}, {one.received for one in costs}
    assert len(sent) == 1
    assert max(sent) < 700
    assert max(received) < 900  # the welcome lists both replicas


@pytest.mark.parametrize("how", ["as read", "compared from the root"])
def test_a_hundredth_changed_costs_little_more_than_its_pieces(ends: TwoEnds, how: str) -> None:
    machine = ends.invite(new_disks=True)
    disk = MemoryDisk(noise(400 * PIECE * 4))
    one = new_part(disk)
    one = replace(one, about=replace(one.about, block_size=LARGE))
    machine.round(one)
    if how != "as read":
        (machine.home / "known" / f"{one.about.disk}.manifest").unlink()
    scattered(disk, 16)
    told = machine.round(one)
    assert told.changed == 16 * PIECE
    assert told.sent + told.received <= 1.2 * told.changed
    assert ends.content(one.about.disk) == disk.data


def test_from_an_empty_volume_the_line_is_the_transport(ends: TwoEnds) -> None:
    machine = ends.invite(new_disks=True)
    disk = MemoryDisk(noise(3 * BLOCK) + bytes(30 * BLOCK) + noise(2 * BLOCK + 77))
    told = machine.round(new_part(disk))
    assert told.blocks == 6
    held = ends.held("22" * 16)
    assert held.info.state is VolumeState.REPLICA
    assert Path(held.info.location).read_bytes() == disk.data
    assert machine.round(new_part(disk)).blocks == 0


def test_what_becomes_zero_is_zero_at_the_replica_and_sends_no_payload(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine, disk = ends.invite(), MemoryDisk(data)
    disk.data[4 * BLOCK : 20 * BLOCK] = bytes(16 * BLOCK)
    told = machine.round(part(disk, about))
    assert ends.content() == disk.data
    assert told.blocks == 16
    assert told.sent < 4096
    assert Path(ends.held().info.location).stat().st_blocks * 512 <= SIZE + BLOCK


def test_a_hole_in_the_source_makes_a_hole_of_what_was_data(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine = ends.invite()
    disk = MemoryDisk(data, holes=[Extent(8 * BLOCK, 8 * BLOCK)])
    disk.data[8 * BLOCK : 16 * BLOCK] = bytes(8 * BLOCK)
    assert machine.round(part(disk, about)).blocks == 8
    assert ends.content() == disk.data


def test_unknown_blocks_are_asked_for_and_nothing_else(ends: TwoEnds) -> None:
    """A damaged pack is healed by the first round."""
    data = noise(SIZE)
    about = ends.restored(data, unknown=[3, 4, 40])
    assert ends.held().info.state is VolumeState.HURT
    told = ends.invite().round(part(MemoryDisk(data), about))
    assert told.blocks == 3
    assert ends.content() == data
    assert ends.held().info.state is VolumeState.REPLICA


def test_bytes_that_cannot_be_read_stay_what_they_were(ends: TwoEnds) -> None:
    """Older bytes are worth more than zeros, and the rest of the block is brought up to date."""
    data = noise(SIZE)
    about = ends.restored(data)
    machine, disk = ends.invite(), MemoryDisk(data)
    disk.bad = [Extent(5 * BLOCK + 512, 1024), Extent(9 * BLOCK, BLOCK)]
    disk.data[5 * BLOCK : 6 * BLOCK] = noise(BLOCK)
    machine.round(part(disk, about))
    expected = bytearray(disk.data)
    expected[5 * BLOCK + 512 : 5 * BLOCK + 1536] = data[5 * BLOCK + 512 : 5 * BLOCK + 1536]
    assert ends.content() == expected
    held = Manifest.load(ends.held().place / "manifest")
    assert [held[index][1] for index in (5, 9)] == [State.UNREADABLE, State.UNREADABLE]
    assert machine.round(part(disk, about)).point == 2  # and the roots agree again
    disk.bad = []
    machine.round(part(disk, about))
    assert ends.content() == disk.data


@pytest.mark.parametrize("changed", [0, 1])
def test_of_two_disks_either_may_change_and_both_come_to_the_point(
    ends: TwoEnds, changed: int
) -> None:
    machine = ends.invite()
    disks = [MemoryDisk(noise(9 * BLOCK)), MemoryDisk(noise(5 * BLOCK))]
    idents = ["11" * 16, "22" * 16]
    abouts = [
        ends.restored(bytes(disk.data), ident) for disk, ident in zip(disks, idents, strict=True)
    ]
    scattered(disks[changed], 2)
    parts = [part(disk, about) for disk, about in zip(disks, abouts, strict=True)]
    told = machine.round(*parts)
    assert told.blocks == 2
    for disk, ident in zip(disks, idents, strict=True):
        assert ends.content(ident) == disk.data
        assert ends.held(ident).point() == 1


def test_a_frozen_round_is_kept_and_a_fuzzy_one_is_not(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine, disk = ends.invite(), MemoryDisk(data)
    assert not machine.round(part(disk, about)).kept
    scattered(disk, 3)
    assert machine.round(part(disk, about), form=Form.QUIESCED).kept
    frozen = bytes(disk.data)
    scattered(disk, 3, seed=2)
    machine.round(part(disk, about))
    (kept,) = ends.target.snapshots()
    assert Path(kept.location).read_bytes() == frozen
    assert (kept.spec.point, kept.spec.disks) == (2, (about.disk,))
    assert ends.content() == disk.data != frozen


def test_old_points_go_and_the_newest_stay(tmp_path: Path) -> None:
    with two_ends(tmp_path, keep=2, keep_seconds=0) as ends:
        machine = ends.invite(new_disks=True)
        disk = MemoryDisk(noise(SIZE))
        for _ in range(4):
            machine.round(new_part(disk), form=Form.CRASH_CONSISTENT)
    assert sorted(one.spec.point for one in ends.target.snapshots()) == [3, 4]


def test_a_sender_that_makes_points_in_haste_pushes_no_good_one_out(tmp_path: Path) -> None:
    with two_ends(tmp_path, keep=2) as ends:
        machine = ends.invite(new_disks=True)
        disk = MemoryDisk(noise(SIZE))
        for _ in range(4):
            machine.round(new_part(disk), form=Form.QUIESCED)
    assert sorted(one.spec.point for one in ends.target.snapshots()) == [1, 2, 3, 4]


def test_two_machines_do_not_disturb_each_other(ends: TwoEnds) -> None:
    data, other = noise(SIZE), noise(SIZE)
    mine = ends.restored(data, "11" * 16, "web01")
    theirs = ends.restored(other, "33" * 16, "db01")
    web, db = ends.invite("web01"), ends.invite("db01")
    with pytest.raises(ReplicaUnknownError):
        db.round(part(MemoryDisk(data), mine))
    disk = MemoryDisk(other)
    scattered(disk, 2)
    assert db.round(part(disk, theirs)).point == 1
    assert web.round(part(MemoryDisk(data), mine)).blocks == 0
    assert ends.content("33" * 16, "db01") == disk.data


def test_a_gate_that_forgot_its_replicas_looks_at_what_the_volume_holds(ends: TwoEnds) -> None:
    """Half of a disk had come by the line alone: what is there is not taken for zeros."""
    machine = ends.invite(new_disks=True)
    disk = MemoryDisk(noise(SIZE))

    def half_has_come() -> bool:
        """What had come as the line was cut, the gate may not have read."""
        with relay_to(ends) as relay:
            relay.cut_after = SIZE // 2
            with pytest.raises(LinkCutError):
                machine.round(new_part(disk), port=relay.port, patience=0)
        return any(any(one.read_bytes()) for one in ends.place.rglob("*.img*"))

    until(half_has_come)
    shutil.rmtree(ends.gate_home / "replicas")
    disk.data[:] = bytes(SIZE)
    told = machine.round(new_part(disk))
    assert told.blocks > 0
    assert ends.content("22" * 16) == disk.data
    shutil.rmtree(ends.gate_home / "replicas")
    assert machine.round(new_part(disk)).blocks == 0


def test_no_machine_takes_over_what_came_from_another(ends: TwoEnds) -> None:
    disk = MemoryDisk(noise(SIZE))
    ends.invite(new_disks=True).round(new_part(disk))
    thief = ends.invite("db01", new_disks=True)
    with pytest.raises(ReplicaUnknownError, match="not one of db01's"):
        thief.round(new_part(disk))


# --- what is refused ---


def test_a_disk_that_has_grown_or_was_swapped_is_refused(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine = ends.invite()
    whole = part(MemoryDisk(data), about)
    for odd in (
        replace(about, size=SIZE + 512),
        replace(about, serial="another"),
        replace(about, block_size=2 * BLOCK),
    ):
        with pytest.raises(SourceChangedError):
            machine.round(replace(whole, about=odd))
    with pytest.raises(OtherShipmentError):
        machine.round(replace(whole, about=replace(about, origin=bytes(32))))
    assert ends.content() == data
    assert machine.round(whole).blocks == 0


def test_a_new_disk_needs_an_invitation_that_allows_it(ends: TwoEnds) -> None:
    with pytest.raises(ReplicaUnknownError):
        ends.invite().round(new_part(MemoryDisk(noise(BLOCK))))
    assert list(ends.target.volumes()) == []


# --- cuts ---


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_line_that_is_cut_costs_no_block_that_was_acknowledged(
    ends: TwoEnds, share: float
) -> None:
    """Cut in the middle of a block, the round goes on as the same point."""
    machine = ends.invite(new_disks=True)
    disk = MemoryDisk(noise(SIZE))
    with relay_to(ends) as relay:
        relay.cut_after = int(share * SIZE)
        told = machine.round(new_part(disk), port=relay.port)
        assert relay.cuts == 1
    assert told.point == 1
    assert ends.content("22" * 16) == disk.data
    assert told.sent < SIZE + 66 * BLOCK  # at most a window is sent twice
    assert any(isinstance(one, Step) and one.step == "wait" for one in machine.told)


def test_a_gate_that_stays_away_ends_the_round_and_the_next_goes_on(ends: TwoEnds) -> None:
    machine = ends.invite(new_disks=True)
    disk = MemoryDisk(noise(SIZE))
    with relay_to(ends) as relay:
        relay.cut_after, relay.delay = SIZE // 2, 0.002  # the gate has time to acknowledge
        with pytest.raises(LinkCutError):
            machine.round(new_part(disk), port=relay.port, patience=0)
    told = machine.round(new_part(disk))
    assert told.point == 2
    assert 0 < told.blocks < 41
    assert ends.content("22" * 16) == disk.data


def test_a_round_can_be_stopped(ends: TwoEnds) -> None:
    machine = ends.invite(new_disks=True)
    machine.stop.set()
    with pytest.raises(StoppedError):
        machine.round(new_part(MemoryDisk(noise(SIZE))))


def test_a_volume_that_is_not_what_its_manifest_says_is_sent_whole(ends: TwoEnds) -> None:
    """Somebody wrote to the replica: the pieces around a change are wanted too."""
    machine = ends.invite(new_disks=True)
    disk = MemoryDisk(noise(8 * LARGE))
    one = new_part(disk)
    one = replace(one, about=replace(one.about, block_size=LARGE))
    machine.round(one)
    with Path(ends.held("22" * 16).info.location).open("r+b") as volume:
        volume.seek(3 * LARGE + 5 * PIECE)
        volume.write(noise(100))
    disk.data[3 * LARGE : 3 * LARGE + 10] = noise(10)
    told = machine.round(one)
    assert told.blocks == 1
    assert ends.content("22" * 16) == disk.data


def test_a_volume_that_vanished_is_told(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine = ends.invite()
    machine.round(part(MemoryDisk(data), about))
    Path(ends.held().info.location).unlink()
    with pytest.raises((TargetWriteError, ReplicaUnknownError, PointRefusedError)):
        machine.round(part(MemoryDisk(data), about))
