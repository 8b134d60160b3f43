"""LocalTarget: raw files, their tags beside them, and what lies about in a directory."""

import errno
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Never

import pytest

from appliance.block import aligned_buffer
from appliance.cloud.local import LocalTarget
from appliance.errors import (
    MotionGearError,
    TargetFullError,
    TargetWriteError,
    VolumeForeignError,
)
from appliance.model import VolumeState
from tests.media import Bench
from tests.support import BLOCK
from tests.targets import volume_spec
from tests.technician import noise

SPEC = volume_spec()


class PowerCutError(Exception):
    """The test pulls the plug."""


def names(place: Path) -> list[str]:
    return sorted(one.name for one in place.iterdir())


def fails_with(number: int) -> Callable[..., Never]:
    def fail(*_: object) -> Never:
        raise OSError(number, os.strerror(number))

    return fail


def test_only_a_whole_volume_has_its_own_name(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    made = target.ensure_volume(SPEC)
    assert made.location == str(tmp_path / "web01-S1.img.partial")
    assert Path(made.location).stat().st_blocks == 0
    assert target.tag(SPEC, VolumeState.RESTORED).location == str(tmp_path / "web01-S1.img")
    assert names(tmp_path) == ["web01-S1.img", "web01-S1.json"]
    target.tag(SPEC, VolumeState.PARTIAL)
    assert names(tmp_path) == ["web01-S1.img.partial", "web01-S1.json"]


def test_planning_makes_no_directory(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path / "not" / "yet"))
    target.check([SPEC])
    assert names(tmp_path) == []
    assert target.volumes() == []
    target.ensure_volume(SPEC)
    assert len(target.volumes()) == 1


def test_a_place_that_is_no_directory_is_refused_before_any_write(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "below"):
        with pytest.raises(TargetWriteError, match="no directory"):
            LocalTarget(str(place)).check([SPEC])
    assert file.read_text() == "mine"


def test_a_read_only_place_is_refused_before_any_write(tmp_path: Path, bench: Bench) -> None:
    target = LocalTarget(str(bench.tmpfs(tmp_path / "ro", "1m", "ro")))
    for refused in (lambda: target.check([SPEC]), lambda: target.ensure_volume(SPEC)):
        with pytest.raises(TargetWriteError):
            refused()


def test_files_of_others_are_never_taken(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    for name in ("web01-S1.img", "web01-S1.img.partial", "web01-S1.json"):
        other = tmp_path / name
        other.write_text("[]")
        for refused in (lambda: target.check([SPEC]), lambda: target.ensure_volume(SPEC)):
            with pytest.raises(VolumeForeignError):
                refused()
        assert other.read_text() == "[]"
        other.unlink()
    target.ensure_volume(SPEC)


@pytest.mark.parametrize("tag", ["", "{}", "[1]", '{"state": "checked", "id": "1", "disk": 1}'])
def test_a_tag_that_cannot_be_understood_is_refused(tmp_path: Path, tag: str) -> None:
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(SPEC)
    (tmp_path / "web01-S1.json").write_text(tag)
    with pytest.raises(VolumeForeignError, match="not a volume's tag"):
        target.ensure_volume(SPEC)


def test_stray_json_files_are_no_volumes(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    (tmp_path / "notes.json").write_text("{}")
    made = target.ensure_volume(SPEC)
    assert list(target.volumes()) == [made]


def test_a_removed_volume_is_made_anew_with_another_id(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    first = target.ensure_volume(SPEC)
    Path(first.location).unlink()
    assert target.volumes() == []
    assert target.ensure_volume(SPEC).id != first.id


@pytest.mark.parametrize("state", [VolumeState.PARTIAL, VolumeState.CHECKED])
def test_a_volume_that_became_shorter_has_its_length_again_and_is_bad(
    tmp_path: Path, state: VolumeState
) -> None:
    target = LocalTarget(str(tmp_path))
    first = target.ensure_volume(SPEC)
    os.truncate(target.tag(SPEC, state).location, 100)
    target.check([SPEC])
    found = target.ensure_volume(SPEC)
    assert (found.id, found.state) == (first.id, VolumeState.BAD)
    assert Path(found.location).stat().st_size == SPEC.size
    assert target.ensure_volume(SPEC) == found


@pytest.mark.parametrize("step", ["write_durably", "sync_directory"])
def test_a_power_cut_while_a_volume_is_made_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = LocalTarget(str(tmp_path))

    def cut(*_: object) -> Never:
        raise PowerCutError

    with monkeypatch.context() as plug:
        plug.setattr(f"appliance.cloud.local.{step}", cut)
        with pytest.raises(PowerCutError):
            target.ensure_volume(SPEC)
    target.check([SPEC])
    made = target.ensure_volume(SPEC)
    assert Path(made.location).stat().st_size == SPEC.size
    assert names(tmp_path) == ["web01-S1.img.partial", "web01-S1.json"]


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        (VolumeState.PARTIAL, VolumeState.RESTORED, "pathlib.Path.rename"),
        (VolumeState.BAD, VolumeState.PARTIAL, "appliance.cloud.local.write_durably"),
    ],
)
def test_a_power_cut_between_name_and_tag_leaves_a_partial_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: VolumeState,
    after: VolumeState,
    step: str,
) -> None:
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(SPEC)
    target.tag(SPEC, before)

    def cut(*_: object) -> Never:
        raise PowerCutError

    with monkeypatch.context() as plug:
        plug.setattr(step, cut)
        with pytest.raises(PowerCutError):
            target.tag(SPEC, after)
    assert [one.name for one in tmp_path.glob("*.img*")] == ["web01-S1.img.partial"]
    assert target.tag(SPEC, after) == target.ensure_volume(SPEC)
    assert target.ensure_volume(SPEC).state is after


def test_zeroing_holes_writes_nothing(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    made = target.ensure_volume(SPEC)
    with target.attach(SPEC) as volume:
        volume.pwrite(2 * BLOCK, memoryview(noise(BLOCK)))
        volume.flush()
        before = Path(made.location).stat().st_blocks
        volume.zero(0, SPEC.size)
        volume.flush()
        assert Path(made.location).stat().st_blocks == before
    assert Path(made.location).read_bytes() == bytes(SPEC.size)


def test_a_target_that_fills_up_while_written_says_so(tmp_path: Path, bench: Bench) -> None:
    spec = replace(SPEC, size=1 << 24)
    target = LocalTarget(str(bench.tmpfs(tmp_path / "small")))
    target.check([spec])
    target.ensure_volume(spec)
    with target.attach(spec) as volume, pytest.raises(TargetFullError, match="no room for"):
        volume.pwrite(0, memoryview(noise(2 << 20)))
    with pytest.raises(TargetFullError):
        target.check([replace(spec, content=1 << 23)])


def test_a_failing_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(SPEC)
    broken = fails_with(errno.EIO)

    def refused(name: str, action: Callable[[], object]) -> MotionGearError:
        with monkeypatch.context() as plug:
            plug.setattr(name, broken)
            with pytest.raises(TargetWriteError, match=r"web01-S1.*Input/output error") as found:
                action()
        return found.value

    with target.attach(SPEC) as volume:
        refused("appliance.cloud.local.pread_full", lambda: volume.pread(0, aligned_buffer(4096)))
        refused("appliance.cloud.local.pwrite_full", lambda: volume.pwrite(0, memoryview(b"1")))
        refused("os.fsync", volume.flush)
        refused("os.lseek", lambda: volume.zero(0, 1))
    refused("appliance.cloud.local.write_durably", lambda: target.tag(SPEC, VolumeState.BAD))
    refused("os.open", lambda: target.attach(SPEC).__enter__())


def test_a_volume_becomes_a_loop_device_of_the_sector_size_asked_for(tmp_path: Path) -> None:
    spec = replace(SPEC, size=1 << 20)
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(spec)
    node = target.loop(target.tag(spec, VolumeState.CHECKED), 4096)
    try:
        said = subprocess.check_output(["losetup", "--json", "--list", "-O", "LOG-SEC", node])
        assert json.loads(said)["loopdevices"][0]["log-sec"] == 4096
    finally:
        subprocess.run(["losetup", "--detach", node], check=True)


def test_a_target_is_named_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert LocalTarget("here").name == LocalTarget(str(tmp_path / "here")).name
