"""Recovery points that rounds have made, and what becomes of them afterwards."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catchup import points, wire
from appliance.catchup.wire import Form
from appliance.errors import PointRefusedError, VolumeBusyError
from appliance.model import VolumeState
from tests.line import TwoEnds, noise, part, two_ends
from tests.media import tool
from tests.support import BLOCK, MemoryDisk

SIZE = 8 * BLOCK


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


def test_the_point_chosen_is_cloned_whole_while_rounds_go_on(ends: TwoEnds) -> None:
    first, second = MemoryDisk(noise(SIZE)), MemoryDisk(noise(SIZE))
    about = [ends.restored(bytes(first.data)), ends.restored(bytes(second.data), "12" * 16)]
    machine = ends.invite()

    def frozen() -> None:
        parts = (part(first, about[0]), part(second, about[1]))
        assert machine.round(*parts, form=Form.QUIESCED).kept

    frozen()
    then = [bytes(first.data), bytes(second.data)]
    for disk in (first, second):
        disk.data[BLOCK : 3 * BLOCK] = noise(2 * BLOCK)
    frozen()
    listed = points.points_of(ends.target.snapshots(), "web01")
    assert [(one.point, one.complete) for one in listed] == [(1, True), (2, True)]
    points.choose(ends.target, points.pick(listed, "1"))
    chosen = points.pick(points.points_of(ends.target.snapshots()), "chosen")
    clones = points.clone(ends.target, chosen, "test")
    for one, data in zip(clones, then, strict=True):
        flat = Path(one.location).with_suffix(".flat")
        tool("qemu-img", "convert", "-f", one.format, "-O", "raw", one.location, flat)
        assert flat.read_bytes() == data
    assert ends.content("11" * 16) == first.data
    assert points.retain(ends.target, "web01", 1, 0) == []


def test_a_sender_cannot_push_its_points_out_whatever_time_it_says(ends: TwoEnds) -> None:
    disk = MemoryDisk(noise(SIZE))
    about = ends.restored(bytes(disk.data))
    machine = ends.invite()
    for _ in range(3):
        machine.round(part(disk, about), form=Form.QUIESCED)
    listed = points.points_of(ends.target.snapshots())
    assert all(abs(one.made - time.time()) < 600 for one in listed)  # not what `taken` says
    assert points.retain(ends.target, "web01", 1) == []
    first = Path(listed[0].snapshots[0].location)
    second = Path(listed[1].snapshots[0].location)
    for one in (first, second):
        os.utime(one, (0, 0))
    assert [one.point for one in points.retain(ends.target, "web01", 1)] == [1]
    assert not first.exists()
    assert second.exists()


def test_a_gate_made_anew_writes_over_no_point(ends: TwoEnds) -> None:
    disk = MemoryDisk(noise(SIZE))
    about = ends.restored(bytes(disk.data))
    machine = ends.invite()
    for _ in range(2):
        machine.round(part(disk, about), form=Form.QUIESCED)
    before = list(ends.target.snapshots())
    shutil.rmtree(ends.gate_home / "replicas")
    shutil.rmtree(ends.gate_home / "gate" / "courses")
    disk.data[:BLOCK] = noise(BLOCK)
    assert machine.round(part(disk, about), form=Form.QUIESCED).point == 3
    assert list(ends.target.snapshots())[:2] == before
    assert ends.content() == disk.data


def test_what_somebody_could_write_to_follows_no_source(ends: TwoEnds) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    held = ends.held()
    node = ends.target.loop(held.info, 512)
    try:
        with pytest.raises(VolumeBusyError, match=f"attached as {node}"):
            ends.invite().round(part(MemoryDisk(data), about))
        assert ends.held().info.state is VolumeState.CHECKED
    finally:
        tool("losetup", "--detach", node)
    assert ends.invite().round(part(MemoryDisk(data), about)).blocks == 0
    assert ends.held().info.state is VolumeState.REPLICA


def test_no_point_is_kept_of_disks_that_another_round_has_begun_to_change(ends: TwoEnds) -> None:
    disk = MemoryDisk(noise(SIZE))
    about = ends.restored(bytes(disk.data))
    machine = ends.invite()
    machine.round(part(disk, about))
    with machine.channel() as channel, machine.channel() as other:
        for line, name in ((channel, b"1"), (other, b"2")):
            line.send(wire.Point(name * 16, Form.QUIESCED, 0, (about.disk,)))
            line.receive(wire.PointIs)
        channel.send(wire.EndPoint())
        with pytest.raises(PointRefusedError, match="Another round was begun since"):
            channel.receive(wire.PointDone)
    assert list(ends.target.snapshots()) == []
