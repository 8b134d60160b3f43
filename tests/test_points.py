"""Recovery points: what snapshots make up together, which one is booted, which go."""

from dataclasses import replace

import pytest

from appliance.catchup import points
from appliance.catchup.points import Keeps, RecoveryPoint, points_of
from appliance.errors import (
    ExistsError,
    PointRefusedError,
    TargetFullError,
    UnknownNameError,
    VolumeBusyError,
)
from appliance.model import SnapshotSpec, VolumeSpec, VolumeState
from tests.support import PowerCutError
from tests.targets import MemoryTarget, snapshot_spec, volume_spec

ONE, TWO = volume_spec("web01-S1", disk="11" * 16), volume_spec("web01-S2", disk="22" * 16)


def spec(volume: VolumeSpec, point: int, root: str = "77") -> SnapshotSpec:
    other = TWO if volume is ONE else ONE
    return snapshot_spec(volume, point, other.disk, root=root)


@pytest.fixture
def target() -> MemoryTarget:
    """A target with the two replicas of web01."""
    made = MemoryTarget()
    for one in (ONE, TWO):
        made.ensure_volume(one)
        made.tag(one, VolumeState.REPLICA)
    return made


def reach(target: Keeps, *numbers: int) -> None:
    """Rounds bring the machine to points."""
    for number in numbers:
        for volume in (ONE, TWO):
            target.snapshot(spec(volume, number))


def there(target: Keeps) -> list[RecoveryPoint]:
    return points_of(target.snapshots(), "web01")


def numbers(target: Keeps) -> list[tuple[int, bool]]:
    return [(one.point, one.complete) for one in there(target)]


def chosen(target: Keeps) -> list[int]:
    return [one.point for one in there(target) if one.chosen]


def test_a_point_is_complete_when_every_disk_is_there(target: MemoryTarget) -> None:
    target.snapshot(spec(ONE, 3))
    assert numbers(target) == [(3, False)]
    target.snapshot(spec(TWO, 3))
    (found,) = there(target)
    assert found.complete
    assert (found.machine, found.form, found.taken) == ("web01", 1, 1_790_000_000)
    assert found.disks == (ONE.disk, TWO.disk)
    assert [one.spec.volume for one in found.snapshots] == [ONE, TWO]


def test_points_are_listed_oldest_first_by_machine(target: MemoryTarget) -> None:
    reach(target, 10, 2, 9)
    other = volume_spec("db01-S1", disk="00" * 16)
    target.ensure_volume(other)
    target.tag(other, VolumeState.REPLICA)
    target.snapshot(replace(snapshot_spec(other, 5), machine="db01"))
    listed = [(one.machine, one.point) for one in points_of(target.snapshots())]
    assert listed == [("db01", 5), ("web01", 2), ("web01", 9), ("web01", 10)]
    assert [one.point for one in there(target)] == [2, 9, 10]


def test_disks_of_two_readings_are_no_point(target: MemoryTarget) -> None:
    reach(target, 1)
    target.snapshot(spec(ONE, 1, root="88"))  # the round came again, and was cut after one disk
    assert numbers(target) == [(1, False), (1, False)]
    with pytest.raises(PointRefusedError, match="1 of 2 disks"):
        points.pick(there(target), "1")
    target.snapshot(spec(TWO, 1, root="88"))
    assert numbers(target) == [(1, True)]


def test_a_point_is_asked_for_by_number_or_as_the_latest_or_the_chosen(
    target: MemoryTarget,
) -> None:
    reach(target, 1, 2, 3)
    target.snapshot(spec(ONE, 4))
    assert points.pick(there(target), "2").point == 2
    assert points.pick(there(target), "latest").point == 3
    points.choose(target, points.pick(there(target), "1"))
    assert points.pick(there(target), "chosen").point == 1
    for unknown in ("7", "newest", ""):
        with pytest.raises(UnknownNameError, match=f"no complete point {unknown}"):
            points.pick(there(target), unknown)
    with pytest.raises(PointRefusedError, match="Point 4 of web01 is not complete"):
        points.pick(there(target), "4")
    with pytest.raises(UnknownNameError):
        points.pick([], "latest")


def test_one_point_of_a_machine_is_chosen(target: MemoryTarget) -> None:
    reach(target, 1, 2, 3)
    assert chosen(target) == []
    for number in ("2", "1", "1", "3", "2"):
        points.choose(target, points.pick(there(target), number))
        assert chosen(target) == [int(number)]
    points.choose_none(target, "db01")
    assert chosen(target) == [2]
    points.choose_none(target, "web01")
    assert chosen(target) == []


def test_a_choice_that_is_taken_back_brings_no_older_one_up(
    target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(target, 1, 2)
    for number in ("2", "1"):
        points.choose(target, points.pick(there(target), number))
    honest, left = target.mark, [1]

    def cut(spec: SnapshotSpec, mark: int) -> object:
        if not left:
            raise PowerCutError
        left.pop()
        return honest(spec, mark)

    monkeypatch.setattr(target, "mark", cut)
    with pytest.raises(PowerCutError):
        points.choose_none(target, "web01")
    assert chosen(target) == [1]
    monkeypatch.undo()
    points.choose_none(target, "web01")
    assert chosen(target) == []


@pytest.mark.parametrize(
    ("keep", "left"),
    [(1, [2, 5, 6]), (2, [2, 4, 5, 6]), (3, [2, 3, 4, 5, 6]), (9, [1, 2, 3, 4, 5, 6])],
)
def test_retention_keeps_the_newest_and_the_chosen(
    target: MemoryTarget, keep: int, left: list[int]
) -> None:
    reach(target, 1, 2, 3, 4, 5)
    target.snapshot(spec(ONE, 6))  # on its way
    points.choose(target, points.pick(there(target), "2"))
    gone = points.retain(target, "web01", keep, min_age_seconds=0)
    assert [number for number, _ in numbers(target)] == left
    assert sorted([one.point for one in gone] + left) == [1, 2, 3, 4, 5, 6]
    assert points.retain(target, "web01", keep, min_age_seconds=0) == []


def test_young_points_push_no_older_one_out(target: MemoryTarget) -> None:
    reach(target, 1, 2, 3)
    for key, (info, data) in target.kept.items():  # made two days ago; the sender says when else
        target.kept[key] = replace(info, made=info.made - 48 * 3600), data
    reach(target, *range(4, 40))
    assert [one.point for one in points.retain(target, "web01", 2)] == [1]
    assert [number for number, _ in numbers(target)][:2] == [2, 3]
    assert points.retain(target, "web01", 2) == []
    assert [one.point for one in points.retain(target, "web01", 1, 47 * 3600)] == [2]
    assert points.retain(target, "web01", 1, 49 * 3600) == []


def test_a_point_is_as_old_as_the_last_of_it(target: MemoryTarget) -> None:
    reach(target, 1, 2)
    info, data = target.kept[ONE.name, 1]
    target.kept[ONE.name, 1] = replace(info, made=0), data
    assert points.superfluous(there(target), 0, made_before=1) == []


def test_retention_removes_what_was_never_completed(target: MemoryTarget) -> None:
    target.snapshot(spec(ONE, 1))
    assert points.retain(target, "web01", 5, 0) == []
    reach(target, 2)
    assert [one.point for one in points.retain(target, "web01", 5, 0)] == [1]
    assert numbers(target) == [(2, True)]


def test_retention_leaves_what_a_clone_reads_from(target: MemoryTarget) -> None:
    target.lean = True
    reach(target, 1, 2, 3)
    points.clone(target, points.pick(there(target), "1"), "test")
    assert [one.point for one in points.retain(target, "web01", 1, 0)] == [2]
    assert numbers(target) == [(1, True), (3, True)]


def test_a_clone_of_a_point_is_one_of_every_disk_and_goes_as_one(target: MemoryTarget) -> None:
    reach(target, 1, 2)
    made = points.clone(target, points.pick(there(target), "1"), "test")
    assert [one.name for one in made] == ["test-web01-S1", "test-web01-S2"]
    assert {points.name_of(one) for one in made} == {"test"}
    with pytest.raises(ExistsError):
        points.clone(target, points.pick(there(target), "1"), "test")
    with pytest.raises(ExistsError, match="of point 1 of web01"):
        points.clone(target, points.pick(there(target), "2"), "test")
    other = points.clone(target, points.pick(there(target), "2"), "test2")
    with pytest.raises(UnknownNameError):
        points.remove(target, "test", "db01")
    assert points.remove(target, "test") == made
    assert target.clones() == other
    with pytest.raises(UnknownNameError, match="No clones are called test"):
        points.remove(target, "test")


def test_a_cut_clone_goes_on(target: MemoryTarget) -> None:
    reach(target, 1)
    point = points.pick(there(target), "1")
    target.clone(point.snapshots[0].spec, "test-web01-S1")
    target.room = 0
    with pytest.raises(TargetFullError):
        points.clone(target, point, "test")
    target.room = 1 << 30
    assert [one.name for one in points.clone(target, point, "test")] == [
        "test-web01-S1",
        "test-web01-S2",
    ]


def test_a_point_that_is_needed_is_refused_whole(target: MemoryTarget) -> None:
    target.lean = True
    reach(target, 1, 2)
    points.choose(target, points.pick(there(target), "2"))
    with pytest.raises(PointRefusedError, match="is the one chosen"):
        points.discard(target, points.pick(there(target), "2"))
    one = points.pick(there(target), "1")
    target.clone(one.snapshots[1].spec, "test-web01-S2")
    with pytest.raises(VolumeBusyError, match="read by the clones test") as told:
        points.discard(target, one)
    assert told.value.verb.startswith("motiongear points remove test")
    assert numbers(target) == [(1, True), (2, True)]
    points.remove(target, "test")
    points.discard(target, one)
    assert numbers(target) == [(2, True)]


def test_what_a_cut_discard_left_is_discarded_by_its_number(target: MemoryTarget) -> None:
    reach(target, 1, 2)
    target.discard(spec(ONE, 1))
    (rest,) = points.numbered(there(target), "1")
    points.discard(target, rest)
    assert numbers(target) == [(2, True)]
    assert points.numbered(there(target), "latest") == there(target)
    with pytest.raises(UnknownNameError):
        points.numbered(there(target), "1")


def test_the_machine_is_named_where_there_are_several(target: MemoryTarget) -> None:
    with pytest.raises(UnknownNameError, match="no recovery point of any machine"):
        points.machine_of([], None)
    reach(target, 1)
    assert points.machine_of(there(target), None) == "web01"
    with pytest.raises(UnknownNameError, match="no recovery point of db01"):
        points.machine_of(there(target), "db01")
    both = [*there(target), replace(there(target)[0], machine="db01")]
    with pytest.raises(UnknownNameError, match="2 machines: db01, web01"):
        points.machine_of(both, None)
    assert points.machine_of(both, "db01") == "db01"
