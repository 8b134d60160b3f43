"""Snapshots and clones of the local target: on the disk, when it is full, when the power goes."""

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Never

import pytest

from appliance.block import SECTOR, opened
from appliance.cloud.local import LOCK, LocalTarget
from appliance.cloud.local_copies import drafted, duplicate, share
from appliance.errors import (
    BadInputError,
    ExistsError,
    TargetFullError,
    TargetWriteError,
    ToolMissingError,
    VolumeBusyError,
    VolumeForeignError,
    VolumeMissingError,
)
from appliance.model import SnapshotInfo, VolumeSpec, VolumeState
from tests.media import Bench, tool
from tests.support import BLOCK
from tests.targets import snapshot_spec, volume_spec
from tests.technician import noise

MIB = 1 << 20
SPEC = replace(volume_spec(), size=8 * MIB)
FIRST = snapshot_spec(SPEC, 1)


def replica(place: Path, content: bytes = b"", spec: VolumeSpec = SPEC) -> LocalTarget:
    """A target with a replica that holds ``content`` at its middle."""
    target = LocalTarget(str(place))
    target.ensure_volume(spec)
    with target.attach(spec) as volume:
        volume.pwrite(spec.size // 2, memoryview(content))
        volume.flush()
    target.tag(spec, VolumeState.REPLICA)
    return target


def names(place: Path) -> list[str]:
    files = (one for one in place.rglob("*") if one.is_file() and one.name != LOCK)
    return sorted(str(one.relative_to(place)) for one in files)


REPLICA = ["web01-S1.img", "web01-S1.json"]
KEPT = ["points/web01-S1/1.img", "points/web01-S1/1.json"]


def used(path: str | Path) -> int:
    return Path(path).stat().st_blocks * SECTOR


def test_a_point_lies_under_its_volume_and_cannot_be_written_to(tmp_path: Path) -> None:
    target = replica(tmp_path, noise(MIB))
    kept = target.snapshot(FIRST)
    assert kept.location == str(tmp_path / "points" / "web01-S1" / "1.img")
    assert Path(kept.location).stat().st_mode & 0o777 == 0o400
    assert names(tmp_path) == KEPT + REPLICA
    target.discard(FIRST)
    assert names(tmp_path) == REPLICA
    assert not (tmp_path / "points" / "web01-S1").exists()


def test_a_copy_keeps_the_holes(tmp_path: Path) -> None:
    kept = replica(tmp_path, noise(MIB)).snapshot(FIRST)
    assert kept.how == "copy"
    assert Path(kept.location).stat().st_size == SPEC.size
    assert MIB <= used(kept.location) < 2 * MIB


def mounted(bench: Bench, *maker: str) -> Path:
    image = bench.image(320 * MIB, "fs.img")
    tool(*maker, image)
    return bench.mount(image, bench.place / "mnt", "-o", "loop")


def room(place: Path) -> int:
    tool("sync", "--file-system", place)
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("maker", [("mkfs.xfs", "-q"), ("mkfs.btrfs", "-q")], ids=" ".join)
def test_shared_extents_take_no_room(bench: Bench, maker: tuple[str, ...]) -> None:
    place = mounted(bench, *maker)
    spec = replace(SPEC, size=160 * MIB)
    target = replica(place, noise(64 * MIB), spec)
    before = room(place)
    for number in range(1, 9):  # 512 MiB in a file system of 320
        assert target.snapshot(snapshot_spec(spec, number)).how == "reflink"
        assert target.clone(snapshot_spec(spec, number), f"clone{number}").how == "reflink"
    assert before - room(place) < 16 * MIB


def test_an_overlay_names_its_snapshot_and_its_format(tmp_path: Path) -> None:
    target = replica(tmp_path, noise(MIB))
    kept = target.snapshot(FIRST)
    clone = target.clone(FIRST, "test")
    assert (clone.how, clone.format, clone.depends) == ("overlay", "qcow2", True)
    said = tool("qemu-img", "info", clone.location)
    assert f"backing file: {kept.location}\n" in said
    assert "backing file format: raw" in said
    tool("qemu-img", "compare", kept.location, clone.location)
    assert used(clone.location) < MIB
    with pytest.raises(VolumeBusyError, match="Clone test reads from point 1 of web01-S1"):
        target.discard(FIRST)
    target.remove("test")
    assert names(tmp_path) == KEPT + REPLICA


# --- no room --------------------


def test_a_copy_that_does_not_fit_is_refused_before_it_is_begun(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bench.tmpfs(tmp_path / "small", "5m")
    target = replica(place, noise(3 * MIB))
    monkeypatch.setattr(
        "appliance.cloud.local_snapshots.duplicate", lambda *_: pytest.fail("begun")
    )
    with pytest.raises(TargetFullError, match=r"would be a copy of \d+ bytes") as told:
        target.snapshot(FIRST)
    assert told.value.safe_now == "The replica is as it was; this snapshot was not made."
    assert "points discard" in told.value.todo_now
    assert names(place) == REPLICA
    assert target.snapshots() == []


def test_a_target_that_fills_up_meanwhile_keeps_nothing_half(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bench.tmpfs(tmp_path / "small", "5m")
    target = replica(place, noise(3 * MIB))
    with monkeypatch.context() as plug:
        plug.setattr("appliance.cloud.local_snapshots.refuse_without_room", lambda *_: None)
        with pytest.raises(TargetFullError, match="no room for"):
            target.snapshot(FIRST)
    assert names(place) == REPLICA


def test_a_clone_that_does_not_fit_is_refused(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> Never:
        raise ToolMissingError("The program qemu-img is missing")

    monkeypatch.setattr("appliance.cloud.local_clones.run", missing)
    place = bench.tmpfs(tmp_path / "small", "5m")
    target = replica(place, noise(2 * MIB))
    target.snapshot(FIRST)
    with pytest.raises(TargetFullError, match="would be a copy") as told:
        target.clone(FIRST, "test")
    assert told.value.safe_now == "The recovery point is as it was; the clone was not made."
    assert names(place) == KEPT + REPLICA


# --- the power goes --------------------

DIE = """
import os, signal, sys
from pathlib import Path
from appliance.cloud import local_tags
from appliance.cloud.local import LocalTarget
from tests.test_local_snapshots import FIRST

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before":
    local_tags.write_snapshot = local_tags.write_clone = die
elif sys.argv[2] == "between":
    honest = Path.rename
    Path.rename = die
elif sys.argv[2] == "tag":
    Path.unlink = lambda path, **_: os.unlink(path) if path.suffix != ".json" else die()
eval(sys.argv[3], {"target": LocalTarget(sys.argv[1]), "FIRST": FIRST})
"""


def killed(place: Path, when: str, act: str) -> None:
    """Another process that is killed in the middle of ``act``."""
    command = [sys.executable, "-c", DIE, str(place), when, act]
    done = subprocess.run(command, check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("when", ["before", "between"])
def test_a_killed_snapshot_is_nothing_and_swept_by_the_next(tmp_path: Path, when: str) -> None:
    target = replica(tmp_path, noise(MIB))
    killed(tmp_path, when, "target.snapshot(FIRST)")
    assert "points/web01-S1/1.img.new" in names(tmp_path)
    assert target.snapshots() == []
    second = target.snapshot(snapshot_spec(SPEC, 2))
    assert "points/web01-S1/1.img.new" not in names(tmp_path)
    first = target.snapshot(FIRST)
    assert target.snapshots() == [first, second]
    content = (tmp_path / "web01-S1.img").read_bytes()
    assert Path(first.location).read_bytes() == content


@pytest.mark.parametrize("when", ["before", "between"])
def test_a_killed_clone_is_nothing_and_swept_by_the_next(tmp_path: Path, when: str) -> None:
    target = replica(tmp_path, noise(MIB))
    target.snapshot(FIRST)
    killed(tmp_path, when, "target.clone(FIRST, 'test')")
    assert "clones/test.new" in names(tmp_path)
    assert target.clones() == []
    made = target.clone(FIRST, "test")
    assert target.clones() == [made]
    assert names(tmp_path) == ["clones/test.json", "clones/test.qcow2", *KEPT, *REPLICA]


def test_a_killed_discard_has_discarded(tmp_path: Path) -> None:
    target = replica(tmp_path, noise(MIB))
    target.snapshot(FIRST)
    killed(tmp_path, "tag", "target.discard(FIRST)")
    assert names(tmp_path) == [KEPT[1], *REPLICA]
    assert target.snapshots() == []
    target.discard(FIRST)
    assert names(tmp_path) == REPLICA


def test_a_killed_removal_has_removed(tmp_path: Path) -> None:
    target = replica(tmp_path, noise(MIB))
    target.snapshot(FIRST)
    target.clone(FIRST, "test")
    killed(tmp_path, "tag", "target.remove('test')")
    assert target.clones() == []
    target.discard(FIRST)
    target.remove("test")
    assert names(tmp_path) == REPLICA


def test_a_draft_of_a_living_maker_is_left_alone(tmp_path: Path) -> None:
    target = replica(tmp_path, noise(MIB))
    target.snapshot(FIRST)
    (tmp_path / "clones").mkdir()
    with drafted(tmp_path / "clones" / "test") as (draft, _):
        with pytest.raises(VolumeBusyError, match="making test at the moment"):
            target.clone(FIRST, "test")
        target.clone(FIRST, "other")
        assert draft.exists()


# --- what others do --------------------


def test_files_of_others_are_never_taken(tmp_path: Path) -> None:
    target = replica(tmp_path)
    for name in ("points/web01-S1/1.img", "clones/test.img"):
        other = tmp_path / name
        other.parent.mkdir(parents=True)
        other.write_text("mine")
    with pytest.raises(VolumeForeignError, match="has no tag"):
        target.snapshot(FIRST)
    with pytest.raises(VolumeForeignError, match="has no tag"):
        target.discard(FIRST)
    (tmp_path / KEPT[0]).unlink()
    target.snapshot(FIRST)
    for refused in (lambda: target.clone(FIRST, "test"), lambda: target.remove("test")):
        with pytest.raises(ExistsError):
            refused()
    assert (tmp_path / "clones" / "test.img").read_text() == "mine"
    assert target.clones() == []


@pytest.mark.parametrize("tag", ["", "{}", "[1]", '{"chosen":0}', '{"chosen":0,"how":"copy"}'])
def test_a_tag_that_cannot_be_understood_is_named(tmp_path: Path, tag: str) -> None:
    target = replica(tmp_path)
    target.snapshot(FIRST)
    target.clone(FIRST, "test")
    for path, look in (
        (tmp_path / KEPT[1], target.snapshots),
        (tmp_path / "clones" / "test.json", target.clones),
    ):
        honest = path.read_bytes()
        path.write_text(tag)
        with pytest.raises(VolumeForeignError, match=f"{path.name} is not what it should be"):
            look()
        path.write_bytes(honest)
        assert len(look()) == 1


def test_another_disks_point_is_not_replaced(tmp_path: Path) -> None:
    replica(tmp_path).snapshot(FIRST)
    for one in REPLICA:
        (tmp_path / one).unlink()
    other = replace(SPEC, disk=volume_spec(disk="99" * 16).disk)
    target = replica(tmp_path, spec=other)
    with pytest.raises(VolumeForeignError, match=f"is a snapshot of disk {SPEC.disk}"):
        target.snapshot(snapshot_spec(other, 1))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a b", "-rf", "caf\u00e9", "x" * 201]
)
def test_a_clones_name_is_safe_as_a_file_name(tmp_path: Path, name: str) -> None:
    target = replica(tmp_path)
    target.snapshot(FIRST)
    for refused in (lambda: target.clone(FIRST, name), lambda: target.remove(name)):
        with pytest.raises(BadInputError, match="cannot be a clone's name"):
            refused()
    assert names(tmp_path) == KEPT + REPLICA


def test_a_clone_that_a_virtual_machine_runs_from_stays(tmp_path: Path) -> None:
    target = replica(tmp_path)
    target.snapshot(FIRST)
    clone = target.clone(FIRST, "test")
    with opened(clone.location, os.O_RDWR) as fd:
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 100, 1, 0)  # as qemu does
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
        with pytest.raises(VolumeBusyError, match="in use by a virtual machine"):
            target.remove("test")
        assert target.clones() == [clone]
    target.remove("test")
    assert target.clones() == []


def test_a_replica_gets_no_loop_device(tmp_path: Path) -> None:
    target = replica(tmp_path)
    (info,) = target.volumes()
    with pytest.raises(VolumeForeignError, match="only rounds may change it"):
        target.loop(info, 512)
    assert not tool("losetup", "--associated", info.location)


def test_what_has_a_loop_device_becomes_no_replica(tmp_path: Path, bench: Bench) -> None:
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(SPEC)
    info = target.tag(SPEC, VolumeState.CHECKED)
    node = bench.loop(Path(info.location))
    with pytest.raises(VolumeBusyError, match=f"attached as {node}, but rounds alone") as told:
        target.tag(SPEC, VolumeState.REPLICA)
    assert told.value.verb == f"losetup --detach {node}"
    assert target.volumes() == [info]
    assert target.tag(SPEC, VolumeState.BAD).state is VolumeState.BAD


def test_points_go_while_a_round_is_on_its_way(tmp_path: Path) -> None:
    target = replica(tmp_path)
    target.snapshot(FIRST)
    with target.attach(SPEC):
        target.mark(FIRST, 1)
        target.clone(FIRST, "test")
        target.remove("test")
        target.discard(FIRST)
    assert names(tmp_path) == REPLICA


def test_a_clone_is_not_made_of_what_was_discarded_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = replica(tmp_path)
    target.snapshot(FIRST)

    def discarded(*_: object) -> None:
        LocalTarget(str(tmp_path)).discard(FIRST)

    monkeypatch.setattr("appliance.cloud.local_clones.run", discarded)
    with pytest.raises(VolumeMissingError, match="no snapshot of web01-S1 at point 1"):
        target.clone(FIRST, "test")
    assert names(tmp_path) == REPLICA


# --- what the file system refuses --------------------


def test_a_failing_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = replica(tmp_path)
    kept: SnapshotInfo = target.snapshot(FIRST)

    def broken(*_: object, **__: object) -> Never:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name, act in (
        ("os.fsync", lambda: target.snapshot(snapshot_spec(SPEC, 2))),
        ("os.fsync", lambda: target.clone(FIRST, "test")),
        ("appliance.cloud.local_tags.write_durably", lambda: target.mark(FIRST, 1)),
        ("pathlib.Path.unlink", lambda: target.discard(FIRST)),
        ("appliance.cloud.local_tags.read_small", target.snapshots),
    ):
        with monkeypatch.context() as plug:
            plug.setattr(name, broken)
            with pytest.raises(TargetWriteError, match="Input/output error") as told:
                act()
        assert "as it was" in told.value.safe_now
    assert target.snapshots() == [kept]
    assert target.clones() == []


def test_a_file_that_becomes_shorter_while_it_is_copied_is_no_copy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, copy = bench.image(noise(2 * BLOCK)), bench.image(b"", "copy.img")
    monkeypatch.setattr("os.copy_file_range", lambda *_: 0)
    with (
        opened(image, os.O_RDONLY) as source,
        opened(copy, os.O_RDWR) as fd,
        pytest.raises(OSError, match="became shorter"),
    ):
        duplicate(source, fd)


def test_what_cannot_be_shared_is_told_from_what_fails(bench: Bench) -> None:
    with opened(bench.image(b"1"), os.O_RDONLY) as source:
        with opened(bench.image(b"", "copy.img"), os.O_RDWR) as fd:
            assert not share(source, fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            share(source, 1 << 20)
