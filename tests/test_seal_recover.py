"""Recovery from packs and a key alone: as much as there is, and said what is not."""

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import ExistsError, MotionGearError, TargetFullError, TargetWriteError
from appliance.events import Event, Step
from appliance.model import DiskId, Extent, PackId
from appliance.seal import recover as module
from appliance.seal.cut import digest
from appliance.seal.layout import Kind, PackState, RecordHead, ranges_bytes
from appliance.seal.recover import Recovered, make_output, recover
from appliance.seal.store import Store
from tests import forge
from tests.forge import Forge, disk_head, pack_head, reference, zeros
from tests.media import Bench
from tests.support import (
    BLOCK,
    OPERATOR,
    RECOVERY,
    STRANGER,
    FakeWitness,
    PowerCutError,
    facts,
    new_store,
    point,
    put_blocks,
    sample_bytes,
    sealed_sample,
)


def recovered(store: Store, out: Path) -> tuple[list[Recovered], list[str]]:
    out.mkdir()
    return recover(sorted(store.packs.iterdir()), OPERATOR, out)


def test_packs_alone_are_enough(tmp_path: Path) -> None:
    store, _, data = sealed_sample(tmp_path)
    aside = tmp_path / "aside"
    aside.mkdir()
    for place, one in enumerate(sorted(store.packs.iterdir(), reverse=True)):
        one.rename(aside / f"{place}.dat")
    told: list[Event] = []
    (found,), lost = recover(sorted(aside.iterdir()), RECOVERY, aside, told.append)
    assert lost == []
    assert found.path.read_bytes() == data
    assert (found.missing, found.ended, found.unreadable, found.problems) == (0, True, [], [])
    assert found.spec.machine == "web01"
    assert [one.step for one in told if isinstance(one, Step)] == ["recover"]


def test_holes_stay_holes(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = bytes(64 * BLOCK) + b"end"
    put_blocks(store, data, point(data))
    (found,), _ = recovered(store, tmp_path / "out")
    assert found.path.read_bytes() == data
    assert found.path.stat().st_blocks * 512 <= 2 * BLOCK


def test_an_open_pack_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(9 * BLOCK)
    with pytest.raises(PowerCutError):
        put_blocks(store, data, point(data), cut_at=7)
    (open_pack,) = store.open_packs()
    (found,), lost = recovered(store, tmp_path / "out")
    assert open_pack.exists()
    assert lost == []
    assert not found.ended
    have = 9 - found.missing
    assert 0 < have < 7
    assert found.path.read_bytes()[: have * BLOCK] == data[: have * BLOCK]
    (problem,) = found.problems
    assert open_pack.name in problem


def test_later_sessions_overwrite_earlier_ones_zeros_too(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    old = os.urandom(9 * BLOCK)
    new = bytes(2 * BLOCK) + os.urandom(3 * BLOCK) + bytes(3 * BLOCK) + old[:BLOCK]
    with pytest.raises(PowerCutError):
        put_blocks(store, old, point(old), cut_at=7, bad=[Extent(0, 512), Extent(2 * BLOCK, 512)])
    put_blocks(
        store,
        new,
        point(new),
        witness=FakeWitness(trusting=False),
        bad=[Extent(3 * BLOCK, 512)],
    )
    (found,), _ = recovered(store, tmp_path / "out")
    assert found.path.read_bytes() == new
    assert found.unreadable == [(3 * BLOCK, 512)]
    assert (found.missing, found.ended) == (0, True)


def test_a_missing_pack_costs_its_own_blocks_only(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(30 * BLOCK)
    put_blocks(store, data, point(data))
    gone = sorted(store.infos(), key=lambda one: one.head.sequence)[1]
    following = sorted(store.infos(), key=lambda one: one.head.sequence)[2]
    gone.path.unlink()
    (found,), _ = recovered(store, tmp_path / "out")
    first, last = gone.head.start * BLOCK, following.head.start * BLOCK
    image = found.path.read_bytes()
    assert image == data[:first] + bytes(last - first) + data[last:]
    assert found.missing == following.head.start - gone.head.start
    (problem,) = found.problems
    assert gone.path.name in problem


def test_a_missing_pack_is_told_also_where_an_earlier_session_has_its_blocks(
    tmp_path: Path,
) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(30 * BLOCK)
    with pytest.raises(PowerCutError):
        put_blocks(store, data, point(data), cut_at=29)
    put_blocks(store, data, point(data), witness=FakeWitness(trusting=False))
    gone = next(one for one in store.infos() if one.head.order[2:] == (1, 0))
    gone.path.unlink()
    (found,), _ = recovered(store, tmp_path / "out")
    assert (found.missing, found.ended) == (0, True)
    (problem,) = found.problems
    assert gone.path.name in problem


def test_a_pack_that_ends_before_its_trailer_says_so(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    made = Forge(store, pack_head(store, SPEC.disk))
    for one in FIRST:
        made.add(*one)
    made.data += bytes(BLOCK)  # a hole in the midst
    made.add(*forge.block(1, TWO))
    made.close(PackState.CLOSED)
    (found,), _ = recovered(store, tmp_path / "out")
    (problem,) = found.problems
    assert "fewer records" in problem
    assert found.path.read_bytes() == ONE + BLANK[BLOCK:]


def test_an_end_that_tells_of_other_blocks_is_named(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    forge.forged(store, SPEC, *FIRST[1:], forge.block(1, TWO), zeros(2, 1), blocks=9)
    (found,), _ = recovered(store, tmp_path / "out")
    assert found.problems == ["The disk's end tells of 9 blocks"]


def test_a_disk_is_on_the_medium_before_it_is_called_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = sealed_sample(tmp_path)
    synced: list[str] = []

    def sync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)

    monkeypatch.setattr(os, "fsync", sync)
    (found,), _ = recovered(store, tmp_path / "out")
    assert synced == [f"{found.path.name}.partial", "out"]


def test_an_image_without_room_is_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = sealed_sample(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(TargetFullError):
        recovered(store, tmp_path / "out")
    left = {f"{one.resolve()}" for one in Path("/proc/self/fd").iterdir()}
    assert not left & {f"{one}" for one in (tmp_path / "out").iterdir()}


def test_a_full_disk_leaves_no_image_that_looks_whole(tmp_path: Path, bench: Bench) -> None:
    store, _, data = sealed_sample(tmp_path)
    other = os.urandom(16 * BLOCK)
    more, _ = new_store(tmp_path, name="more")
    put_blocks(more, other, point(other, "22" * 16))
    out = bench.tmpfs(tmp_path / "out")
    make_output(out)
    with pytest.raises(TargetFullError, match="No space") as told:
        recover([*store.closed(), *more.closed()], OPERATOR, out)
    assert "The packs are untouched" in told.value.safe_now
    whole, half = sorted(out.iterdir())
    assert whole.read_bytes() == data
    assert half.name == f"{'22' * 16}-0.img.partial"


def test_the_output_is_an_empty_directory_or_a_named_refusal(tmp_path: Path, bench: Bench) -> None:
    make_output(tmp_path / "deep" / "out")
    make_output(tmp_path / "deep" / "out")
    with pytest.raises(ExistsError, match="deep is not empty"):
        make_output(tmp_path / "deep")
    (tmp_path / "file").write_text("mine")
    full, fixed = bench.tmpfs(tmp_path / "full", "1m", "nr_inodes=1"), tmp_path / "ro"
    bench.tmpfs(fixed, "1m", "ro")
    for path, refusal, why in (
        (full / "out", TargetFullError, "No space left"),
        (fixed / "out", TargetWriteError, "Read-only file system"),
        (tmp_path / "x" / ("y" * 300), TargetWriteError, "File name too long"),
        (tmp_path / "file" / "out", TargetWriteError, "Not a directory"),
        (tmp_path / "file", ExistsError, "is there already"),
    ):
        with pytest.raises(refusal, match=why):
            make_output(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_other_disks_other_keys_and_rubbish_do_not_disturb(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path, name="mine")
    foreign, _ = new_store(tmp_path, keys=(STRANGER,), name="foreign")
    disks = {"11" * 16: sample_bytes(1), "22" * 16: sample_bytes(2)}
    for disk, data in disks.items():
        put_blocks(store, data, point(data, disk))
        put_blocks(foreign, data, point(data, disk))
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(os.urandom(10_000))
    out = tmp_path / "out"
    out.mkdir()
    packs = [*store.packs.iterdir(), *foreign.packs.iterdir(), rubbish, tmp_path / "gone"]
    found, lost = recover(packs, OPERATOR, out)
    assert {one.spec.disk: one.path.read_bytes() for one in found} == disks
    assert len(lost) == 4


def test_two_copies_of_a_pack_are_one(tmp_path: Path) -> None:
    store, _, data = sealed_sample(tmp_path)
    (path,) = [one.path for one in store.infos() if not one.head.is_contents]
    (tmp_path / "copy").write_bytes(path.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    (found,), _ = recover([path, tmp_path / "copy"], OPERATOR, out)
    assert found.path.read_bytes() == data


def test_nothing_is_written_over(tmp_path: Path) -> None:
    store, _, data = sealed_sample(tmp_path)
    out = tmp_path / "out"
    (found,), _ = recovered(store, out)
    found.path.write_bytes(b"precious")
    with pytest.raises(MotionGearError) as caught:
        recover(sorted(store.packs.iterdir()), OPERATOR, out)
    assert caught.value.name == "exists"
    assert found.path.read_bytes() == b"precious"
    assert data


@pytest.mark.parametrize(
    ("code", "refusal"), [(errno.ENOSPC, TargetFullError), (errno.EIO, TargetWriteError)]
)
def test_a_target_that_fails_ends_the_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, refusal: type[MotionGearError]
) -> None:
    store, _, _ = sealed_sample(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module, "pwrite_full", fail)
    with pytest.raises(refusal, match="cannot be written"):
        recovered(store, tmp_path / "out")


ONE, TWO = os.urandom(BLOCK), os.urandom(BLOCK)
DATA = ONE + TWO + b"end"
SPEC = point(DATA)


def lies(place: Path, *records: Sequence[tuple[RecordHead, bytes]]) -> tuple[bytes, list[str]]:
    """What recovery makes of packs with these records, one pack for each list."""
    store, _ = new_store(place)
    for sequence, listed in enumerate(records):
        made = Forge(store, pack_head(store, SPEC.disk, sequence=sequence))
        for one in listed:
            made.add(*one)
        made.close(PackState.CLOSED)
    found, lost = recovered(store, place / "out")
    if not found:
        return b"", lost
    return found[0].path.read_bytes(), found[0].problems


BLANK = bytes(len(DATA))
FIRST = (disk_head(SPEC), forge.block(0, ONE))


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([forge.block(1, b"short")], "wrong length"),
        ([forge.block(2, ONE)], "wrong length"),
        ([forge.block(3, ONE)], "no block of the disk"),
        ([zeros(1, 1 << 60)], "no block of the disk"),
        ([forge.paper(Kind.CONTENTS, b"{}")], "belongs to no disk"),
        ([forge.paper(Kind.UNREADABLE, ranges_bytes([(0, 1)]), 1, 1)], "outside"),
        ([disk_head(replace(SPEC, facts=facts(5)))], "another size"),
        ([disk_head(replace(SPEC, disk=DiskId("99" * 16)))], "another disk"),
    ],
    ids=range(8),
)
def test_records_that_lie_are_left_out_and_named(
    tmp_path: Path, records: Sequence[tuple[RecordHead, bytes]], why: str
) -> None:
    image, problems = lies(tmp_path, [*FIRST, *records, forge.block(1, TWO)])
    assert image == ONE + BLANK[BLOCK:]
    (problem,) = problems
    assert why in problem
    assert ".pack: " in problem


def test_references_are_followed_to_blocks_only(tmp_path: Path) -> None:
    for place, (number, why) in enumerate(
        [(0, "another block's"), (2, "another block's"), (7, "not found"), (1, "")]
    ):
        here = tmp_path / f"{place}"
        target = PackId(digest(f"{SPEC.disk} 0 0".encode()).hex()[:32])
        image, problems = lies(here, [*FIRST, reference(1, ONE, target, number)])
        assert [why in one for one in problems] == [True] * bool(why)
        assert image[BLOCK : 2 * BLOCK] == (BLANK[:BLOCK] if why else ONE)
    image, (problem,) = lies(tmp_path / "far", [*FIRST, reference(1, ONE, PackId("77" * 16), 1)])
    assert "not found" in problem
    assert image == ONE + BLANK[BLOCK:]


def test_a_pack_without_a_disk_head_gives_nothing(tmp_path: Path) -> None:
    image, lost = lies(tmp_path, [forge.block(0, ONE)])
    assert image == b""
    assert "no block of the disk" in lost[0]


def test_a_pack_cut_inside_a_frame_says_so(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    path = forge.forged(store, SPEC, *FIRST[1:], forge.block(1, TWO), state=PackState.TORN)
    whole = path.read_bytes()
    for place, length in enumerate((len(whole) - 30_000, len(whole) - 8192 + 4)):
        path.write_bytes(whole[:length])
        (found,), _ = recovered(store, tmp_path / f"{place}")
        assert found.path.read_bytes()[:BLOCK] == ONE
        assert [".pack: " in one for one in found.problems] == [True], place


def test_a_pack_that_speaks_of_a_block_again_is_read_up_to_there(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    spec = point(bytes(4 * BLOCK))
    path = forge.forged(store, spec, forge.zeros(0, 2), forge.zeros(1, 3), state=PackState.TORN)
    (tmp_path / "out").mkdir()
    (found,), _ = recover([path], OPERATOR, tmp_path / "out")
    assert found.missing == 2
    assert "record 2 speaks of block 1 again" in found.problems[0]
