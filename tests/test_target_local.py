"""LocalTarget: raw files, their tags beside them, and what lies about in a directory."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Never

import pytest

from appliance.block import aligned_buffer, locked
from appliance.cloud.local import LOCK, LocalTarget
from appliance.errors import (
    MotionGearError,
    TargetFullError,
    TargetWriteError,
    VolumeBusyError,
    VolumeForeignError,
)
from appliance.model import VolumeInfo, VolumeState
from tests.media import Bench, tool, unprivileged
from tests.support import BLOCK
from tests.targets import volume_spec
from tests.technician import noise, until

SPEC = volume_spec()


class PowerCutError(Exception):
    """The test pulls the plug."""


def names(place: Path) -> list[str]:
    return sorted(one.name for one in place.iterdir() if one.name != LOCK)


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


# --- two at once --------------------


@pytest.fixture
def looped(tmp_path: Path) -> Iterator[tuple[LocalTarget, VolumeInfo]]:
    """A checked volume; its loop devices are gone at the end."""
    spec = replace(SPEC, size=1 << 20)
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(spec)
    info = target.tag(spec, VolumeState.CHECKED)
    yield target, info
    for node in loops(info):
        tool("losetup", "--detach", node)


def loops(info: VolumeInfo) -> list[str]:
    listed = ("--raw", "--noheadings", "--output", "NAME", "--associated", info.location)
    return tool("losetup", *listed).split()


HOLD = """
import sys
from appliance.cloud.local import LocalTarget
target = LocalTarget(sys.argv[1])
(info,) = target.volumes()
with target.attach(info.spec):
    print("attached", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(place: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the only volume in ``place`` attached."""
    command = [sys.executable, "-c", HOLD, str(place)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "attached\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_volume_of_another_process_is_free_when_that_dies(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(SPEC)
    with holder(tmp_path) as process:
        for refused in (
            lambda: target.attach(SPEC).__enter__(),
            lambda: target.tag(SPEC, VolumeState.CHECKED),
        ):
            with pytest.raises(VolumeBusyError, match=r"at work on volume web01-S1 in /") as told:
                refused()
            assert "jobs list" in told.value.todo_now
        process.kill()
        process.wait()
        with target.attach(SPEC):
            pass
    assert target.tag(SPEC, VolumeState.CHECKED).state is VolumeState.CHECKED


def test_a_volume_that_became_shorter_is_not_touched_while_another_has_it(tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    made = target.ensure_volume(SPEC)
    with target.attach(SPEC):
        os.truncate(made.location, 100)
        with pytest.raises(VolumeBusyError):
            target.ensure_volume(SPEC)
    assert target.ensure_volume(SPEC).state is VolumeState.BAD


def test_whoever_asks_for_one_volume_at_once_gets_the_same(tmp_path: Path) -> None:
    place = str(tmp_path / "not" / "yet")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: LocalTarget(place).ensure_volume(SPEC), range(24)))
    assert len({one.id for one in made}) == 1
    assert list(LocalTarget(place).volumes()) == made[:1]
    assert names(Path(place)) == ["web01-S1.img.partial", "web01-S1.json"]


def waits(lock: Path) -> bool:
    """Whether somebody waits for the lock file, as the kernel lists it."""
    listed = Path("/proc/locks").read_text().splitlines()
    return any("->" in one and f":{lock.stat().st_ino} " in one for one in listed)


ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="Only root may attach loop devices.")


@pytest.mark.parametrize(
    "act", ["ensure_volume", "tag", "attach", pytest.param("loop", marks=ROOT_ALONE)]
)
def test_names_and_tags_change_one_after_the_other(
    tmp_path: Path, looped: tuple[LocalTarget, VolumeInfo], act: str
) -> None:
    target, info = looped
    acts: dict[str, Callable[[], object]] = {
        "ensure_volume": lambda: target.ensure_volume(info.spec),
        "tag": lambda: target.tag(info.spec, VolumeState.BAD),
        "attach": lambda: target.attach(info.spec).__enter__(),
        "loop": lambda: target.loop(info, 512),
    }
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / LOCK):
            waiting = pool.submit(acts[act])
            until(lambda: waits(tmp_path / LOCK))
        assert waiting.result()


# --- loop devices --------------------


@ROOT_ALONE
def test_a_volume_becomes_a_loop_device_of_the_sector_size_asked_for(
    looped: tuple[LocalTarget, VolumeInfo],
) -> None:
    target, info = looped
    node = target.loop(info, 4096)
    said = json.loads(tool("losetup", "--json", "--list", "-O", "LOG-SEC", node))
    assert said["loopdevices"][0]["log-sec"] == 4096


@ROOT_ALONE
def test_a_volume_has_one_loop_device_however_often_it_is_asked_for(
    looped: tuple[LocalTarget, VolumeInfo],
) -> None:
    target, info = looped
    with ThreadPoolExecutor(4) as pool:
        nodes = set(pool.map(lambda _: target.loop(info, 512), range(8)))
    assert loops(info) == list(nodes)
    assert len(nodes) == 1


@ROOT_ALONE
@pytest.mark.parametrize("how", [(), ("--read-only",), ("--offset", "4096")])
def test_a_loop_device_of_another_kind_is_named_and_left(
    looped: tuple[LocalTarget, VolumeInfo], how: tuple[str, ...]
) -> None:
    target, info = looped
    node = tool("losetup", "--find", "--show", *how, info.location).strip()
    with pytest.raises(VolumeBusyError, match=rf"attached as {node}, but not") as told:
        target.loop(info, 4096 if not how else 512)
    assert told.value.verb == f"losetup --detach {node}"
    assert loops(info) == [node]


# --- what the file system refuses --------------------


def test_a_volume_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = LocalTarget(str(tmp_path))
    for name, number, refusal in (
        ("os.ftruncate", errno.EFBIG, TargetFullError),
        ("os.fsync", errno.EIO, TargetWriteError),
        ("appliance.cloud.local.write_durably", errno.ENOSPC, TargetFullError),
    ):
        with monkeypatch.context() as plug:
            plug.setattr(name, fails_with(number))
            with pytest.raises(refusal, match=r"web01-S1\.img"):
                target.ensure_volume(SPEC)
        assert names(tmp_path) == []


def test_a_closed_directory_is_named(bench: Bench) -> None:
    place = bench.place / "closed"
    place.mkdir(mode=0o700)
    target = LocalTarget(str(place))
    info = target.ensure_volume(SPEC)
    with unprivileged():
        for refused in (
            lambda: target.check([SPEC]),
            lambda: target.ensure_volume(SPEC),
            lambda: target.tag(SPEC, VolumeState.BAD),
            lambda: target.loop(info, 512),
        ):
            with pytest.raises(TargetWriteError, match="Permission denied"):
                refused()


def test_a_name_too_long_for_the_file_system_is_told(tmp_path: Path) -> None:
    long = replace(SPEC, name="x" * 252)
    target = LocalTarget(str(tmp_path))
    for refused in (lambda: target.check([long]), lambda: target.ensure_volume(long)):
        with pytest.raises(TargetWriteError, match="File name too long"):
            refused()


def test_a_target_is_named_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert LocalTarget("here").name == LocalTarget(str(tmp_path / "here")).name
