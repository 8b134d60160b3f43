"""Power cuts: at every block, and the file cut at every page - what was reported as stored is
there, nothing half-written is taken for whole.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from blake3 import blake3

from appliance.block import PAGE, opened, pread_full
from appliance.errors import JobRunningError, MotionGearError
from appliance.events import Checkpointed, Event
from appliance.model import Cut
from appliance.seal import scan, torn
from appliance.seal.cut import Cutter
from appliance.seal.layout import CHECKPOINT, PackState, parse_checkpoint, parse_frame
from appliance.seal.pack import PackWriter
from appliance.seal.scan import examine
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import Store
from appliance.seal.torn import disk_of, mend
from appliance.seal.writer import Pace, StoreWriter
from tests.forge import GUARD, block, pack_head
from tests.readout import content, maps_of, problems, sole_content
from tests.support import (
    BLOCK,
    OPERATOR,
    FakeWitness,
    PowerCutError,
    new_store,
    point,
    put_blocks,
)

NOISE = os.urandom(4 * BLOCK)
DATA = NOISE + bytes(2 * BLOCK) + NOISE[:BLOCK] + os.urandom(4 * BLOCK + 5)
BLOCKS = -(-len(DATA) // BLOCK)
SPEC = point(DATA)
QUICK = Pace(pack_size=1 << 20, checkpoint_bytes=2 * BLOCK)


def safe_cursor(told: list[Event]) -> int:
    return max([one.cursor for one in told if isinstance(one, Checkpointed)], default=0)


def finish(store: Store) -> None:
    """Resume, end, seal: all of it is there."""
    put_blocks(store, DATA, SPEC, pace=QUICK)
    assert sole_content(store) == DATA


@pytest.mark.parametrize("cut_at", range(BLOCKS))
def test_a_power_cut_at_any_block_loses_at_most_one_interval(tmp_path: Path, cut_at: int) -> None:
    store, _ = new_store(tmp_path)
    told: list[Event] = []
    with pytest.raises(PowerCutError):
        put_blocks(store, DATA, SPEC, pace=QUICK, cut_at=cut_at, emit=told.append)
    safe = safe_cursor(told)
    assert safe >= cut_at - 2 - 3  # an interval, and what takes no space: two zeros, a repeat
    store.mend()
    for found in maps_of(store):
        assert content(found)[: safe * BLOCK] == DATA[: safe * BLOCK]
    finish(store)


def test_power_cuts_all_the_way(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    for cut_at in range(1, BLOCKS):
        with pytest.raises(PowerCutError):
            put_blocks(store, DATA, SPEC, pace=QUICK, cut_at=cut_at)
    finish(store)
    seal(store, device, {}, Consent(waiver="cut often"))
    assert problems(store.path, OPERATOR) == []


def frozen(place: Path, blocks: int = 5) -> tuple[Store, Path]:
    """A store in the state that a sudden power cut leaves: the pack still open, nothing tidied."""
    store, _ = new_store(place)
    with StoreWriter(store, pace=Pace(1 << 20, checkpoint_bytes=2 * BLOCK)) as writer:
        writer.begin(SPEC, FakeWitness())
        for index in range(blocks):
            writer.put(block_cut(index))
        (pack,) = store.open_packs()
        image = pack.read_bytes()
    for left in store.packs.iterdir():
        left.unlink()
    pack.write_bytes(image)
    return store, pack


def block_cut(index: int) -> Cut:
    return Cutter().cut(index, memoryview(DATA)[index * BLOCK :][:BLOCK])


def checkpoints(image: bytes) -> dict[int, int]:
    """Cursor by the offset behind each checkpoint."""
    return {
        at + PAGE: parse_checkpoint(image[at : at + PAGE]).cursor
        for at in range(0, len(image), PAGE)
        if parse_frame(image[at : at + PAGE])[0] == CHECKPOINT
        and image[at + 8 : at + 16] == b"MGCHECK1"
    }


def check_mended(store: Store, image: bytes, length: int) -> None:
    """What is left of ``image`` cut to ``length`` is exactly what its last checkpoint covers. Of
    a checkpoint's page only zeros may be missing.
    """
    good = [end for end in checkpoints(image) if not any(image[length:end])]
    names = list(store.names())
    assert not (store.path / torn.DAMAGED).exists()  # the disk has lost nothing
    if not good:
        assert names == []
        return
    (name,) = names
    info = examine(store.packs / name)
    assert info.torn
    assert info.size == max(good) + PAGE
    assert info.path.read_bytes()[: max(good)] == image[: max(good)]
    assert info.trailer.digest == blake3(image[: max(good)]).digest()
    (found,) = maps_of(store)
    cursor = checkpoints(image)[max(good)]
    assert content(found)[: cursor * BLOCK] == DATA[: cursor * BLOCK]
    assert not found.complete


def test_a_pack_cut_anywhere_is_mended_to_its_last_checkpoint(tmp_path: Path) -> None:
    store, pack = frozen(tmp_path)
    image = pack.read_bytes()
    used = max(checkpoints(image)) + 3 * PAGE
    cuts = {*range(0, used, PAGE), *range(1, used, 3 * PAGE + 17), used - 1}
    for length in sorted(cuts):
        for name in store.packs.iterdir():
            name.unlink()
        pack.write_bytes(image[:length])
        store.mend()
        check_mended(store, image, length)


def test_space_taken_in_advance_is_given_back(tmp_path: Path) -> None:
    store, pack = frozen(tmp_path)
    image = pack.read_bytes()
    assert len(image) == 1 << 20
    assert not any(image[-PAGE:])
    store.mend()
    check_mended(store, image, len(image))
    finish(store)


def test_a_torn_page_under_a_checkpoint_voids_it_and_all_behind_it(tmp_path: Path) -> None:
    store, pack = frozen(tmp_path)
    image = pack.read_bytes()
    ends = sorted(checkpoints(image))
    assert len(ends) >= 2
    hurt = bytearray(image)
    hurt[ends[0] + 5000] ^= 1
    pack.write_bytes(hurt)
    store.mend()
    check_mended(store, image, ends[0])


@pytest.mark.parametrize(
    ("place", "value"),
    [(4, 9), (8, 0x4E), (24, None), (200, 1)],
    ids=["count", "magic", "digest", "padding"],
)
def test_a_checkpoint_that_does_not_fit_is_none(
    tmp_path: Path, place: int, value: int | None
) -> None:
    store, pack = frozen(tmp_path)
    image = pack.read_bytes()
    first, second = sorted(checkpoints(image))[:2]
    hurt = bytearray(image)
    at = second - PAGE + place
    hurt[at] = hurt[at] ^ 1 if value is None else value
    pack.write_bytes(hurt)
    store.mend()
    check_mended(store, image, first)


def test_an_open_file_that_is_no_pack_is_removed(tmp_path: Path) -> None:
    store, pack = frozen(tmp_path)
    for data in (b"", b"x", bytes(1 << 20), pack.read_bytes()[:PAGE]):
        pack.write_bytes(data)
        assert mend(pack) is None
        assert list(store.names()) == []


def test_a_pack_of_a_later_version_is_not_removed(tmp_path: Path) -> None:
    store, pack = frozen(tmp_path)
    pack.write_bytes(pack.read_bytes().replace(b"MGPACK1", b"MGPACK9", 1))
    with pytest.raises(MotionGearError) as caught:
        mend(pack)
    assert caught.value.name == "unknown-format"
    assert list(store.open_packs()) == [pack]


def test_what_the_disk_lost_though_it_was_reported_is_put_aside_not_removed(
    tmp_path: Path,
) -> None:
    store, pack = frozen(tmp_path)
    image = bytearray(pack.read_bytes())
    image[min(checkpoints(bytes(image))) - PAGE - 100] ^= 1
    for _ in range(2):
        pack.write_bytes(image)
        store.mend()
        assert list(store.names()) == []
        assert (store.path / "damaged" / pack.name).read_bytes() == image
    finish(store)


def closed_pack(store: Store) -> bytes:
    pack = PackWriter(store.packs, pack_head(store), store.head.recipients, 1 << 20)
    pack.append(*block(0, b"x" * BLOCK))
    pack.checkpoint(1, GUARD)
    pack.append(*block(1, b"y" * BLOCK))
    closed = pack.close(2, GUARD, PackState.CLOSED)
    return store.pack(closed.pack).read_bytes()


def test_a_crash_between_the_last_sync_and_the_rename_costs_nothing(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    whole = closed_pack(store)
    (path,) = store.closed()
    path.unlink()
    for tail in (b"", bytes(PAGE), bytes(100 * PAGE)):
        path.with_suffix(".open").write_bytes(whole + tail)
        assert mend(path.with_suffix(".open")) == path
        assert path.read_bytes() == whole
        assert not examine(path).torn
        path.unlink()


@pytest.mark.parametrize("part", ["index", "trailer", "cut trailer", "no trailer"])
def test_a_tail_that_is_not_whole_is_given_up(tmp_path: Path, part: str) -> None:
    store, _ = new_store(tmp_path)
    whole = bytearray(closed_pack(store))
    (path,) = store.closed()
    info = examine(path)
    path.unlink()
    if part == "index":
        whole[info.trailer.index_offset + 100] ^= 1
    elif part == "trailer":
        whole[-PAGE + 40] ^= 1
    else:
        del whole[-PAGE if part == "no trailer" else -1 :]
    path.with_suffix(".open").write_bytes(whole)
    assert mend(path.with_suffix(".open")) == path
    if part == "cut trailer":
        assert not any(whole[-4000:])
    found = examine(path)
    assert found.torn or part == "cut trailer"
    assert found.checkpoint.cursor == 2


def test_mending_twice_is_mending_once(tmp_path: Path) -> None:
    store, pack = frozen(tmp_path)
    store.mend()
    (path,) = store.closed()
    once = path.read_bytes()
    path.rename(pack)
    store.mend()
    assert path.read_bytes() == once


def test_a_pack_that_another_job_writes_is_not_touched(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    pack = PackWriter(store.packs, pack_head(store), store.head.recipients, 1 << 20)
    pack.append(*block(0, b"x" * BLOCK))
    (path,) = store.open_packs()
    with pytest.raises(JobRunningError):
        mend(path)
    store.mend()
    with pytest.raises(JobRunningError, match="still being written"):
        seal(store, device, {}, Consent(waiver="early"))
    pack.close(1, GUARD, PackState.CLOSED)
    assert len(list(store.closed())) == 1


def test_a_writer_mends_the_packs_of_its_own_disk_only(tmp_path: Path) -> None:
    store, pack = frozen(tmp_path)
    put_blocks(store, b"other", point(b"other", "22" * 16))
    assert list(store.open_packs()) == [pack]
    assert disk_of(pack) == SPEC.disk
    fresh = store.packs / ("00" * 16 + ".open")
    assert disk_of(fresh) is None
    fresh.write_bytes(b"no head yet")
    assert disk_of(fresh) is None
    put_blocks(store, DATA, SPEC)
    assert list(store.open_packs()) == [fresh]


def test_a_lock_lets_writers_in_together_and_the_sealer_alone(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    with store.lock(alone=False), store.lock(alone=False):
        pass
    with store.lock(alone=False), pytest.raises(JobRunningError), store.lock(alone=True):
        pass
    with store.lock(alone=True), pytest.raises(JobRunningError), store.lock(alone=False):
        pass


def fails_from(broken: int) -> Callable[[int, int, memoryview], int]:
    """A pread_full of a disk that gives nothing from this offset on."""

    def pread(fd: int, offset: int, buffer: memoryview) -> int:
        if offset + len(buffer) > broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread_full(fd, offset, buffer)

    return pread


@pytest.mark.parametrize("reader", [torn, scan], ids=["frames", "head"])
def test_a_failing_disk_is_not_taken_for_an_empty_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: ModuleType
) -> None:
    store, pack = frozen(tmp_path)
    image = pack.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(reader, "pread_full", fails_from(0))
        assert mend(pack) is None
    assert (store.path / "damaged" / pack.name).read_bytes() == image
    finish(store)


def test_a_pack_ends_where_the_disk_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pack = frozen(tmp_path)
    image = pack.read_bytes()
    first, second = sorted(checkpoints(image))[:2]
    with monkeypatch.context() as patch:
        patch.setattr(torn, "pread_full", fails_from(second - PAGE))
        store.mend(SPEC.disk)
    check_mended(store, image, first)


def test_whose_an_open_pack_is_may_remain_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pack = frozen(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "pread_full", fails_from(0))
        assert disk_of(pack) is None
    pack.write_bytes(pack.read_bytes().replace(b"MGPACK1", b"MGPACK9", 1))
    assert disk_of(pack) is None


def test_the_lock_of_a_dead_writer_is_gone(tmp_path: Path) -> None:
    _, pack = frozen(tmp_path)
    with opened(pack, os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(JobRunningError):
            mend(pack)
    assert mend(pack) == pack.with_suffix(".pack")
