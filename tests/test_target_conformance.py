"""What every target promises (model.Target, model.Volume). A new target joins by one line in
FACTORIES.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from appliance.block import aligned_buffer
from appliance.cloud.local import LocalTarget
from appliance.errors import (
    TargetFullError,
    VolumeBusyError,
    VolumeForeignError,
    VolumeMissingError,
    VolumeTooSmallError,
)
from appliance.model import DiskId, Target, VolumeState
from tests.support import BLOCK
from tests.targets import MemoryTarget, volume_spec

# A factory makes one empty target and opens it as often as it is called: nothing may be kept in
# the object that a second process would not find.
FACTORIES: dict[str, Callable[[Path], Callable[[], Target]]] = {
    "local": lambda place: lambda: LocalTarget(str(place / "volumes")),
    "memory": lambda _: partial(lambda one: one, MemoryTarget()),
}
SPEC = volume_spec()
GIANT = replace(SPEC, content=1 << 60)


@pytest.fixture(params=sorted(FACTORIES))
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Target]:
    return FACTORIES[request.param](tmp_path)


@pytest.fixture
def target(reopen: Callable[[], Target]) -> Target:
    return reopen()


def read(target: Target, offset: int, length: int) -> bytes:
    """What the medium holds, through an attachment of its own."""
    buffer = aligned_buffer(length)
    with target.attach(SPEC) as volume:
        volume.pread(offset, buffer)
    return bytes(buffer)


def test_a_target_has_a_name_and_at_first_no_volumes(target: Target) -> None:
    assert target.name
    assert list(target.volumes()) == []
    target.check([SPEC])
    assert list(target.volumes()) == []


def test_a_volume_is_made_once_and_found_again(
    target: Target, reopen: Callable[[], Target]
) -> None:
    made = target.ensure_volume(SPEC)
    assert (made.spec, made.state) == (SPEC, VolumeState.PARTIAL)
    assert made.location
    for one in (target, reopen()):
        assert one.ensure_volume(SPEC) == made
        assert list(one.volumes()) == [made]
        one.check([SPEC])


def test_no_two_volumes_share_an_id(target: Target) -> None:
    names = [volume_spec(f"volume-{number}") for number in range(3)]
    assert len({target.ensure_volume(one).id for one in names}) == 3
    assert len(target.volumes()) == 3


def test_a_new_volume_reads_as_zeros_and_says_so(target: Target) -> None:
    target.ensure_volume(SPEC)
    with target.attach(SPEC) as volume:
        assert volume.fresh
    assert read(target, 0, SPEC.size) == bytes(SPEC.size)


def test_what_was_written_is_read_back_by_the_next(
    target: Target, reopen: Callable[[], Target]
) -> None:
    target.ensure_volume(SPEC)
    tail = SPEC.size - 5 * BLOCK
    with target.attach(SPEC) as volume:
        volume.pwrite(BLOCK, memoryview(b"a" * BLOCK))
        volume.pwrite(5 * BLOCK, memoryview(b"z" * tail))
        volume.flush()
    assert read(reopen(), 0, 2 * BLOCK) == bytes(BLOCK) + b"a" * BLOCK
    assert read(reopen(), 5 * BLOCK, tail) == b"z" * tail


def test_a_volume_that_was_written_to_is_not_taken_for_fresh(target: Target) -> None:
    target.ensure_volume(SPEC)
    with target.attach(SPEC) as volume:
        volume.pwrite(SPEC.size - 1, memoryview(b"!"))
        volume.flush()
    with target.attach(SPEC) as volume:
        assert not volume.fresh


def test_zeroing_leaves_the_neighbours_alone(target: Target) -> None:
    target.ensure_volume(SPEC)
    with target.attach(SPEC) as volume:
        volume.pwrite(0, memoryview(b"x" * 3 * BLOCK))
        volume.zero(100, 2 * BLOCK)
        volume.zero(4 * BLOCK, SPEC.size - 4 * BLOCK)
        volume.flush()
    left = b"x" * 100 + bytes(2 * BLOCK) + b"x" * (BLOCK - 100)
    assert read(target, 0, SPEC.size) == left.ljust(SPEC.size, b"\0")


def test_reading_behind_the_end_is_refused(target: Target) -> None:
    target.ensure_volume(SPEC)
    with target.attach(SPEC) as volume, pytest.raises(VolumeTooSmallError):
        volume.pread(5 * BLOCK, aligned_buffer(BLOCK))


def test_several_threads_may_write_at_once(target: Target) -> None:
    target.ensure_volume(SPEC)
    with target.attach(SPEC) as volume, ThreadPoolExecutor(5) as pool:
        pieces = [memoryview(bytes([65 + index]) * BLOCK) for index in range(5)]
        list(pool.map(volume.pwrite, range(0, 5 * BLOCK, BLOCK), pieces))
        volume.flush()
    assert read(target, 0, 5 * BLOCK) == b"".join(bytes(one) for one in pieces)


def test_a_volume_is_one_jobs_while_it_is_attached(
    target: Target, reopen: Callable[[], Target]
) -> None:
    other = volume_spec("other", disk="55" * 16)
    target.ensure_volume(other)
    made, second = target.ensure_volume(SPEC), reopen()
    with target.attach(SPEC) as volume:
        volume.pwrite(0, memoryview(b"mine"))
        with pytest.raises(VolumeBusyError), second.attach(SPEC):
            pytest.fail("Two jobs have it")
        with pytest.raises(VolumeBusyError):
            second.tag(SPEC, VolumeState.BAD)
        assert second.ensure_volume(SPEC) == made
        with second.attach(other):
            second.check([SPEC, other])
        volume.flush()
    with second.attach(SPEC), pytest.raises(VolumeBusyError), target.attach(SPEC):
        pytest.fail("Two jobs have it")
    with suppress(ZeroDivisionError), target.attach(SPEC):
        raise ZeroDivisionError
    assert second.tag(SPEC, VolumeState.RESTORED).id == made.id
    assert read(target, 0, 4) == b"mine"


@pytest.mark.parametrize("state", list(VolumeState))
def test_a_tag_stays_on_the_volume(
    target: Target, reopen: Callable[[], Target], state: VolumeState
) -> None:
    made = target.ensure_volume(SPEC)
    tagged = target.tag(SPEC, state)
    assert (tagged.id, tagged.spec, tagged.state) == (made.id, SPEC, state)
    assert reopen().ensure_volume(SPEC) == tagged
    assert list(reopen().volumes()) == [tagged]


def test_tags_come_and_go_and_the_content_stays(target: Target) -> None:
    target.ensure_volume(SPEC)
    with target.attach(SPEC) as volume:
        volume.pwrite(0, memoryview(b"content"))
        volume.flush()
    for state in (VolumeState.RESTORED, VolumeState.BAD, VolumeState.PARTIAL, VolumeState.CHECKED):
        target.tag(SPEC, state)
        assert read(target, 0, 7) == b"content"


@pytest.mark.parametrize(
    "other",
    [
        volume_spec(disk="99" * 16),
        volume_spec(origin="99" * 32),
        replace(SPEC, point=1),
    ],
    ids=["disk", "store", "point"],
)
def test_a_name_that_another_disk_has_is_refused(target: Target, other: object) -> None:
    assert isinstance(other, type(SPEC))
    made = target.ensure_volume(SPEC)
    for refused in (
        lambda: target.check([other]),
        lambda: target.ensure_volume(other),
        lambda: target.tag(other, VolumeState.CHECKED),
    ):
        with pytest.raises(VolumeForeignError):
            refused()
    with pytest.raises(VolumeForeignError), target.attach(other):
        pass
    assert list(target.volumes()) == [made]


def test_what_is_not_there_is_missing(target: Target) -> None:
    with pytest.raises(VolumeMissingError):
        target.tag(SPEC, VolumeState.CHECKED)
    with pytest.raises(VolumeMissingError), target.attach(SPEC):
        pass


def test_a_volume_smaller_than_its_disk_is_refused_before_any_write(target: Target) -> None:
    target.ensure_volume(SPEC)
    with pytest.raises(VolumeTooSmallError):
        target.check([replace(SPEC, size=SPEC.size + 1)])


def test_a_replica_is_not_restored_to(target: Target) -> None:
    target.ensure_volume(SPEC)
    target.tag(SPEC, VolumeState.REPLICA)
    with pytest.raises(VolumeForeignError, match="follows its source") as refused:
        target.check([SPEC])
    assert refused.value.safe_now == "Nothing was written."
    assert [one.state for one in target.volumes()] == [VolumeState.REPLICA]
    with target.attach(SPEC) as volume:  # but a round may write to it
        volume.pwrite(0, memoryview(b"round"))
        volume.flush()
    assert read(target, 0, 5) == b"round"


def test_a_target_without_room_says_so_before_any_write(target: Target) -> None:
    with pytest.raises(TargetFullError) as refused:
        target.check([GIANT, volume_spec("other", disk="55" * 16)])
    assert refused.value.safe_now == "Nothing was written."
    assert list(target.volumes()) == []


def test_ids_belong_to_disks(target: Target) -> None:
    one, other = volume_spec("one"), volume_spec("other", disk=DiskId("66" * 16))
    target.ensure_volume(one)
    target.ensure_volume(other)
    target.tag(one, VolumeState.RESTORED)
    states = {info.spec.name: info.state for info in target.volumes()}
    assert states == {"one": VolumeState.RESTORED, "other": VolumeState.PARTIAL}
