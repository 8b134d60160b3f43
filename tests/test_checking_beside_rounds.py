"""A check of a volume that a gate takes up meanwhile: it is compared with what the last round has
left, and what is found is known before the next round begins.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.catchup.replica import MANIFEST
from appliance.catchup.replicas import Replicas
from appliance.cloud.local import LocalTarget, LocalVolume
from appliance.errors import CheckFailedError, ReplicaUnknownError
from appliance.events import Event
from appliance.jobs import checking
from appliance.jobs.checking import check_replicas, check_volume
from appliance.jobs.desk import Desk
from appliance.jobs.spec import ReplicaCheckSpec
from appliance.model import DiskId, JobId, VolumeSpec, VolumeState
from appliance.seal.manifest import Manifest, State
from appliance.state import State as Home
from tests.line import TwoEnds, manifest_of, noise, part, two_ends
from tests.support import BLOCK, MemoryDisk

SIZE = 8 * BLOCK
DISK = DiskId("11" * 16)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


@pytest.fixture
def desk(ends: TwoEnds) -> Iterator[Desk]:
    with Home(ends.gate_home) as home:
        told: list[Event] = []
        yield Desk(JobId(1), ends.gate_home, home, told.append, lambda: False, None)


class Beside(LocalTarget):
    """Lets something happen before the volume is attached, while it is, and when it is free."""

    def __init__(self, ends: TwoEnds) -> None:
        super().__init__(str(ends.place / "volumes"))
        self.before, self.at_end = list[Callable[[], None]](), list[Callable[[], None]]()
        self.after = list[Callable[[], None]]()

    @contextmanager
    def attach(self, spec: VolumeSpec) -> Iterator[LocalVolume]:
        for one in self.before:
            one()
        with super().attach(spec) as volume:
            yield volume
            for one in self.at_end:
                one()
        for one in self.after:
            one()


def changed(ends: TwoEnds, data: bytes) -> tuple[MemoryDisk, Callable[[], None]]:
    """A restored disk of which a block has changed since, and the round that sends it."""
    about, machine = ends.restored(data), ends.invite()
    disk = MemoryDisk(data)
    disk.data[BLOCK : 2 * BLOCK] = noise(BLOCK)

    def round_of_it() -> None:
        machine.round(part(disk, about))

    return disk, round_of_it


def rot(ends: TwoEnds, block: int) -> None:
    with Path(ends.held().info.location).open("r+b") as volume:
        volume.seek(block * BLOCK)
        volume.write(b"rotten")


def unknown(ends: TwoEnds) -> int:
    return Manifest.load(ends.held().place / MANIFEST).states()[State.UNKNOWN]


def spec_of(ends: TwoEnds) -> VolumeSpec:
    return ends.held().about.volume


def test_a_round_between_restore_and_check_is_not_called_damage(ends: TwoEnds, desk: Desk) -> None:
    data = noise(SIZE)
    disk, round_of_it = changed(ends, data)
    target = Beside(ends)
    target.before.append(round_of_it)
    check_volume(desk, target, manifest_of(data, DISK), spec_of(ends))
    assert ends.held().info.state is VolumeState.REPLICA
    assert ends.content() == disk.data


def test_what_is_wrong_in_it_then_is_sent_by_the_next_round(ends: TwoEnds, desk: Desk) -> None:
    data = noise(SIZE)
    disk, round_of_it = changed(ends, data)
    target = Beside(ends)
    target.before += [round_of_it, lambda: rot(ends, 5)]
    with pytest.raises(CheckFailedError, match="block 5 "):
        check_volume(desk, target, manifest_of(data, DISK), spec_of(ends))
    assert ends.held().info.state is VolumeState.BAD
    round_of_it()
    assert ends.content() == disk.data


def test_a_round_right_after_the_comparison_keeps_its_tag(ends: TwoEnds, desk: Desk) -> None:
    data = noise(SIZE)
    _, round_of_it = changed(ends, data)
    target = Beside(ends)
    manifest, spec = manifest_of(data, DISK), spec_of(ends)
    shutil.rmtree(ends.gate_home / "replicas")  # no gate has looked at it yet
    target.after.append(round_of_it)
    check_volume(desk, target, manifest, spec)
    assert ends.held().info.state is VolumeState.REPLICA


def test_a_volume_that_a_gate_has_only_listed_is_checked_all_the_same(
    ends: TwoEnds, desk: Desk
) -> None:
    data = noise(SIZE)
    ends.restored(data)
    target, spec = Beside(ends), spec_of(ends)
    target.tag(spec, VolumeState.RESTORED)
    check_volume(desk, target, manifest_of(data, DISK), spec)
    assert ends.held().info.state is VolumeState.CHECKED


def replicas_checked(
    ends: TwoEnds, desk: Desk, target: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "target_for", lambda *_: target)
    check_replicas(ReplicaCheckSpec("local", str(ends.place / "volumes"), "web01"), desk)


def test_a_replica_is_compared_with_what_the_last_round_has_left(
    ends: TwoEnds, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, round_of_it = changed(ends, noise(SIZE))
    round_of_it()
    disk.data[:BLOCK] = noise(BLOCK)
    target = Beside(ends)
    target.before.append(round_of_it)
    replicas_checked(ends, desk, target, monkeypatch)
    assert ends.held().info.state is VolumeState.REPLICA


def test_what_is_wrong_is_known_before_another_has_the_volume(
    ends: TwoEnds, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, round_of_it = changed(ends, noise(SIZE))
    round_of_it()
    rot(ends, 3)
    target, known = Beside(ends), list[int]()
    target.at_end.append(lambda: known.append(unknown(ends)))
    target.after.append(round_of_it)
    with pytest.raises(CheckFailedError, match="block 3 "):
        replicas_checked(ends, desk, target, monkeypatch)
    assert known == [1]
    assert ends.content() == disk.data


def test_a_replica_that_was_never_surveyed_is_told_as_such(ends: TwoEnds, desk: Desk) -> None:
    """There is nothing yet to compare its volume with."""
    ends.restored(noise(SIZE))
    ends.invite()
    (held,) = Replicas(ends.gate_home, ends.target).of("web01")
    (held.place / "manifest").unlink()
    spec = ReplicaCheckSpec("local", str(ends.place / "volumes"), "web01")
    with pytest.raises(ReplicaUnknownError, match="is not known here") as refused:
        check_replicas(spec, desk)
    assert "Run a round" in refused.value.todo_now
