"""What every target with Snapshots and Clones promises (model.Snapshots, model.Clones). A new one
joins by one line in FACTORIES.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Never, Protocol

import pytest

from appliance.block import aligned_buffer
from appliance.cloud.local import LocalTarget
from appliance.errors import (
    ExistsError,
    ToolMissingError,
    VolumeBusyError,
    VolumeForeignError,
    VolumeMissingError,
)
from appliance.model import (
    CloneInfo,
    Clones,
    DiskId,
    SnapshotInfo,
    Snapshots,
    Target,
    VolumeState,
)
from tests.media import Bench, tool
from tests.support import BLOCK
from tests.targets import MemoryTarget, snapshot_spec, volume_spec
from tests.technician import noise

MIB = 1 << 20
SPEC = volume_spec()
FIRST, SECOND = snapshot_spec(SPEC, 1), snapshot_spec(SPEC, 2, root="88")


class Whole(Target, Snapshots, Clones, Protocol):
    """A target with both capabilities."""


@dataclass(frozen=True)
class Place:
    """Where a target lies: opened as often as one likes, and looked at from outside."""

    reopen: Callable[[], Whole]
    how: tuple[str, str]
    clone_bytes: Callable[[CloneInfo], bytes]
    fill: Callable[[CloneInfo, int, int, int], object]


def _raw(clone: CloneInfo) -> bytes:
    if clone.format == "raw":
        return Path(clone.location).read_bytes()
    flat = Path(clone.location).with_suffix(".flat")
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", clone.location, flat)
    return flat.read_bytes()


def _fill(clone: CloneInfo, offset: int, length: int, byte: int) -> None:
    """As a virtual machine writes."""
    write = f"write -P {byte} {offset} {length}"
    tool("qemu-io", "-f", clone.format, "-c", write, "-c", "flush", clone.location)


def _local(place: Path, *how: str) -> Place:
    first, second = how
    return Place(lambda: LocalTarget(str(place / "volumes")), (first, second), _raw, _fill)


def _no_qemu(plug: pytest.MonkeyPatch, bench: Bench) -> Place:
    def missing(*_: object) -> Never:
        raise ToolMissingError("The program qemu-img is missing")

    plug.setattr("appliance.cloud.local_clones.run", missing)
    return _local(bench.place, "copy", "copy")


def _mounted(maker: tuple[str, ...], bench: Bench) -> Place:
    image = bench.image(320 * MIB, "fs.img")
    tool(*maker, image)
    return _local(bench.mount(image, bench.place / "mnt", "-o", "loop"), "reflink", "reflink")


def _memory(_: object, __: object) -> Place:
    target = MemoryTarget()

    def fill(clone: CloneInfo, offset: int, length: int, byte: int) -> None:
        target.cloned[clone.name][1][offset : offset + length] = bytes([byte]) * length

    return Place(
        partial(lambda one: one, target),
        ("copy", "copy"),
        lambda clone: bytes(target.cloned[clone.name][1]),
        fill,
    )


FACTORIES: dict[str, Callable[[pytest.MonkeyPatch, Bench], Place]] = {
    "local-ext4": lambda _, bench: _local(bench.place, "copy", "overlay"),
    "local-ext4-without-qemu": _no_qemu,
    "local-xfs": lambda _, bench: _mounted(("mkfs.xfs", "-q", "-m", "reflink=1"), bench),
    "local-btrfs": lambda _, bench: _mounted(("mkfs.btrfs", "-q"), bench),
    "memory": _memory,
}


@pytest.fixture(params=sorted(FACTORIES))
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Place:
    return FACTORIES[request.param](monkeypatch, bench)


@pytest.fixture
def target(place: Place) -> Whole:
    """A target with one replica."""
    made = place.reopen()
    made.ensure_volume(SPEC)
    made.tag(SPEC, VolumeState.REPLICA)
    return made


def arrive(target: Target, data: bytes, offset: int = 0) -> None:
    """A round changes the replica."""
    with target.attach(SPEC) as volume:
        volume.pwrite(offset, memoryview(data))
        volume.flush()


def held(target: Target) -> bytes:
    """What the replica holds."""
    buffer = aligned_buffer(SPEC.size)
    with target.attach(SPEC) as volume:
        volume.pread(0, buffer)
    return bytes(buffer)


def content(place: Place, target: Whole, info: SnapshotInfo) -> bytes:
    """What a snapshot holds: a clone of it tells."""
    clone = target.clone(info.spec, "looked-at")
    try:
        return place.clone_bytes(clone)[: SPEC.size]
    finally:
        target.remove(clone.name)


def test_a_target_has_at_first_neither_snapshots_nor_clones(place: Place) -> None:
    fresh = place.reopen()
    assert isinstance(fresh, Snapshots)
    assert isinstance(fresh, Clones)
    assert not list(fresh.snapshots())
    assert not list(fresh.clones())
    fresh.discard(FIRST)
    fresh.remove("nothing")
    assert list(fresh.volumes()) == []


def test_a_snapshot_keeps_what_the_replica_held_then(place: Place, target: Whole) -> None:
    arrive(target, noise(2 * BLOCK), BLOCK)
    then = held(target)
    first = target.snapshot(FIRST)
    assert (first.spec, first.how, first.chosen) == (FIRST, place.how[0], 0)
    arrive(target, noise(SPEC.size))
    second = target.snapshot(SECOND)
    now = held(target)
    arrive(target, bytes(SPEC.size))
    assert content(place, target, first) == then
    assert content(place, target, second) == now
    assert held(target) == bytes(SPEC.size)
    assert [one.state for one in target.volumes()] == [VolumeState.REPLICA]


def test_a_snapshot_is_made_once_and_found_again(place: Place, target: Whole) -> None:
    arrive(target, b"then")
    made = target.snapshot(FIRST)
    arrive(target, b"now!")
    for one in (target, place.reopen()):
        assert one.snapshot(FIRST) == made
        assert list(one.snapshots()) == [made]
    assert content(place, target, made).startswith(b"then")


def test_another_reading_of_a_point_takes_the_place_of_the_first(
    place: Place, target: Whole
) -> None:
    arrive(target, b"then")
    target.mark(target.snapshot(FIRST).spec, 7)
    arrive(target, b"now!")
    again = target.snapshot(replace(FIRST, roots=("99" * 32,)))
    assert list(place.reopen().snapshots()) == [again]
    assert again.chosen == 0
    assert content(place, target, again).startswith(b"now!")
    target.discard(FIRST)
    assert list(target.snapshots()) == [again]
    with pytest.raises(VolumeMissingError):
        target.clone(FIRST, "gone")


def test_snapshots_of_several_disks_stand_side_by_side(place: Place, target: Whole) -> None:
    other = volume_spec("web01-S2", disk="22" * 16)
    target.ensure_volume(other)
    target.tag(other, VolumeState.REPLICA)
    made = [
        target.snapshot(snapshot_spec(SPEC, 1, other.disk)),
        target.snapshot(snapshot_spec(other, 1, SPEC.disk)),
    ]
    found = place.reopen().snapshots()
    assert sorted(found, key=lambda one: one.location) == made
    assert {one.spec.disks for one in found} == {(other.disk, SPEC.disk)}


def test_a_volume_that_is_attached_is_not_kept(place: Place, target: Whole) -> None:
    second = place.reopen()
    with target.attach(SPEC), pytest.raises(VolumeBusyError):
        second.snapshot(FIRST)
    assert list(target.snapshots()) == []
    assert second.snapshot(FIRST).spec == FIRST


@pytest.mark.parametrize("state", sorted(set(VolumeState) - {VolumeState.REPLICA}))
def test_only_replicas_are_kept(target: Whole, state: VolumeState) -> None:
    target.tag(SPEC, state)
    with pytest.raises(VolumeForeignError):
        target.snapshot(FIRST)
    assert list(target.snapshots()) == []


def test_what_is_not_there_is_missing(target: Whole) -> None:
    for refused in (
        lambda: target.mark(FIRST, 1),
        lambda: target.clone(FIRST, "gone"),
        lambda: target.snapshot(snapshot_spec(volume_spec("other"), 1)),
    ):
        with pytest.raises(VolumeMissingError):
            refused()


def test_the_mark_of_the_chosen_stands_on_the_snapshot(place: Place, target: Whole) -> None:
    target.snapshot(FIRST)
    second = target.snapshot(SECOND)
    marked = target.mark(SECOND, 3)
    assert marked == replace(second, chosen=3)
    found = {one.spec.point: one.chosen for one in place.reopen().snapshots()}
    assert found == {1: 0, 2: 3}
    target.mark(SECOND, 0)
    assert target.snapshot(SECOND) == second


def test_a_clone_is_changed_and_neither_snapshot_nor_replica(place: Place, target: Whole) -> None:
    arrive(target, noise(2 * BLOCK), BLOCK)
    then = held(target)
    kept = target.snapshot(FIRST)
    clone = target.clone(FIRST, "test-boot")
    assert (clone.name, clone.of, clone.how) == ("test-boot", FIRST, place.how[1])
    assert place.clone_bytes(clone)[: SPEC.size] == then
    place.fill(clone, BLOCK, BLOCK, 0xA5)
    assert place.clone_bytes(clone)[BLOCK : 2 * BLOCK] == b"\xa5" * BLOCK
    assert place.clone_bytes(clone)[2 * BLOCK : SPEC.size] == then[2 * BLOCK :]
    assert content(place, target, kept) == held(target) == then
    assert list(place.reopen().clones()) == [clone]
    assert [one.spec for one in target.volumes()] == [SPEC]


def test_two_clones_of_a_point_know_nothing_of_each_other(place: Place, target: Whole) -> None:
    target.snapshot(FIRST)
    one, other = target.clone(FIRST, "one"), target.clone(FIRST, "other")
    place.fill(one, 0, BLOCK, 1)
    place.fill(other, 0, BLOCK, 2)
    assert place.clone_bytes(one)[:BLOCK] == b"\1" * BLOCK
    target.remove("one")
    assert list(target.clones()) == [other]
    assert place.clone_bytes(other)[:BLOCK] == b"\2" * BLOCK


def test_a_name_is_one_clones(place: Place, target: Whole) -> None:
    target.snapshot(FIRST)
    target.snapshot(SECOND)
    made = target.clone(FIRST, "mine")
    place.fill(made, 0, BLOCK, 7)
    for spec in (FIRST, SECOND):
        with pytest.raises(ExistsError):
            target.clone(spec, "mine")
    assert place.clone_bytes(made)[:BLOCK] == b"\7" * BLOCK
    target.remove("mine")
    target.remove("mine")
    assert target.clone(SECOND, "mine").of == SECOND


def test_a_snapshot_goes_and_its_clones_stay_or_hold_it(place: Place, target: Whole) -> None:
    arrive(target, noise(BLOCK))
    then = held(target)
    target.snapshot(FIRST)
    second = target.snapshot(SECOND)
    clone = target.clone(FIRST, "mine")
    if clone.depends:
        with pytest.raises(VolumeBusyError, match="mine"):
            target.discard(FIRST)
        with pytest.raises(VolumeBusyError, match="mine"):
            target.snapshot(replace(FIRST, roots=("99" * 32,)))
        assert len(target.snapshots()) == 2
        assert place.clone_bytes(clone)[: SPEC.size] == then
        target.remove("mine")
    target.discard(FIRST)
    target.discard(FIRST)
    assert list(place.reopen().snapshots()) == [second]
    if not clone.depends:
        assert place.clone_bytes(clone)[: SPEC.size] == then
    target.discard(SECOND)
    assert list(target.snapshots()) == []
    assert held(target) == then


def test_a_snapshot_of_anothers_disk_is_never_replaced(target: Whole) -> None:
    made = target.snapshot(FIRST)
    foreign = replace(FIRST, volume=replace(SPEC, disk=DiskId("99" * 16)))
    with pytest.raises(VolumeForeignError):
        target.snapshot(foreign)
    assert list(target.snapshots()) == [made]
