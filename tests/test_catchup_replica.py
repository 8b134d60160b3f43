"""A replica is patched block by block, and survives the plug being pulled at any moment."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.catchup.replica import (
    JOURNAL,
    MANIFEST,
    About,
    Journal,
    Replica,
    adopt,
    pieces_of,
    read_about,
)
from appliance.catchup.wire import PIECE, Patch, Piece
from appliance.errors import StateError, TargetWriteError, WireViolationError
from appliance.model import Codec, Digest, DiskId, Extent, PointSpec
from appliance.seal.cut import digest, zero_digest
from appliance.seal.manifest import Manifest, State
from tests.support import PowerCutError, facts
from tests.targets import MemoryVolume, volume_spec

BLOCK = 4 * PIECE
SIZE = 5 * BLOCK + PIECE + 512
DISK = DiskId("33" * 16)


def manifest_of(data: bytes) -> Manifest:
    found = Manifest(DISK, 0, BLOCK, len(data))
    for index in range(found.blocks):
        block = data[index * BLOCK : (index + 1) * BLOCK]
        told = digest(block)
        found.set(index, told, State.ZERO if told == zero_digest(len(block)) else State.DATA)
    return found


def begun(place: Path, data: bytes) -> MemoryVolume:
    spec = PointSpec(DISK, 0, "web01", facts(len(data)))
    adopt(place, About(spec, volume_spec(size=len(data)), BLOCK), manifest_of(data))
    return MemoryVolume(bytearray(data))


def patch(index: int, block: bytes, codes: bytes, bad: tuple[Extent, ...] = ()) -> Patch:
    pieces = zip(pieces_of(len(block)), codes, strict=False)
    data = b"".join(block[a:b] for (a, b), code in pieces if code == Piece.SENT)
    found = Digest(bytes(32)) if bad else digest(block)
    return Patch(index, Codec.RAW, len(data), found, codes, bad, data)


@pytest.fixture
def data() -> bytes:
    return os.urandom(3 * BLOCK) + bytes(BLOCK) + os.urandom(SIZE - 4 * BLOCK)


def block_of(data: bytes, index: int) -> bytes:
    return data[index * BLOCK : (index + 1) * BLOCK]


def test_what_is_known_of_a_disk_is_kept_with_its_replica(tmp_path: Path, data: bytes) -> None:
    begun(tmp_path, data)
    about = read_about(tmp_path)
    assert about.spec.facts.size == SIZE
    assert about.volume == volume_spec(size=SIZE)
    (tmp_path / "replica.json").write_bytes(b"{}")
    with pytest.raises(StateError, match=r"replica\.json is damaged"):
        read_about(tmp_path)


def test_a_patch_changes_its_pieces_and_nothing_else(tmp_path: Path, data: bytes) -> None:
    volume = begun(tmp_path, data)
    replica = Replica(tmp_path, volume)
    fresh = os.urandom(PIECE) + block_of(data, 1)[PIECE : 2 * PIECE] + bytes(PIECE)
    fresh += os.urandom(PIECE)
    staged = replica.stage(patch(1, fresh, bytes([1, 0, 2, 1])))
    assert staged is not None
    assert volume.writes == volume.zeroed == []
    (ack,) = replica.write([staged])
    assert (ack.index, ack.state, ack.digest) == (1, State.DATA, digest(fresh))
    assert volume.data == data[:BLOCK] + fresh + data[2 * BLOCK :]
    assert volume.writes == [(BLOCK, PIECE), (BLOCK + 3 * PIECE, PIECE)]
    assert volume.zeroed == [(BLOCK + 2 * PIECE, PIECE)]
    assert volume.flushes == 1
    assert Manifest.load(tmp_path / MANIFEST)[1] == (digest(fresh), State.DATA)


def test_neighbouring_pieces_are_one_write(tmp_path: Path, data: bytes) -> None:
    volume = begun(tmp_path, data)
    replica = Replica(tmp_path, volume)
    fresh = block_of(data, 0)[:PIECE] + os.urandom(3 * PIECE)
    staged = replica.stage(patch(0, fresh, bytes([0, 1, 1, 1])))
    assert staged is not None
    replica.write([staged])
    assert volume.writes == [(PIECE, 3 * PIECE)]


def test_a_volume_that_holds_something_else_wants_all_of_the_block(
    tmp_path: Path, data: bytes
) -> None:
    volume = begun(tmp_path, data)
    replica = Replica(tmp_path, volume)
    volume.data[BLOCK + 3 * PIECE + 5] ^= 1
    fresh = os.urandom(PIECE) + block_of(data, 1)[PIECE:]
    assert replica.stage(patch(1, fresh, bytes([1, 0, 0, 0]))) is None
    assert volume.writes == []
    staged = replica.stage(patch(1, fresh, bytes([1, 1, 1, 1])))
    assert staged is not None
    replica.write([staged])
    assert block_of(bytes(volume.data), 1) == fresh


def test_unreadable_bytes_stay_as_they_are_on_the_volume(tmp_path: Path, data: bytes) -> None:
    volume = begun(tmp_path, data)
    replica = Replica(tmp_path, volume)
    fresh = bytearray(os.urandom(BLOCK))
    fresh[100:612] = bytes(512)
    fresh[3 * PIECE :] = bytes(PIECE)
    bad = (Extent(100, 512), Extent(3 * PIECE + 512, 512))
    staged = replica.stage(patch(2, bytes(fresh), bytes([1, 1, 1, 2]), bad))
    assert staged is not None
    (ack,) = replica.write([staged])
    before = block_of(data, 2)
    for one in bad:
        fresh[one.offset : one.end] = before[one.offset : one.end]
    assert block_of(bytes(volume.data), 2) == fresh
    assert (ack.state, ack.digest) == (State.UNREADABLE, digest(bytes(fresh)))


WRONG: dict[str, dict[str, Any]] = {
    "no such block": {"index": 6},
    "too few pieces": {"codes": b"\1\1\1"},
    "too short": {"plain": BLOCK - 1},
    "another length": {"data": bytes(3 * PIECE)},
    "another digest": {"digest": bytes(32)},
    "not zstd": {"codec": Codec.ZSTD},
}


@pytest.mark.parametrize("lie", WRONG)
def test_a_patch_that_lies_is_refused_and_changes_nothing(
    tmp_path: Path, data: bytes, lie: str
) -> None:
    volume = begun(tmp_path, data)
    replica = Replica(tmp_path, volume)
    with pytest.raises(WireViolationError):
        replica.stage(replace(patch(1, os.urandom(BLOCK), b"\1\1\1\1"), **WRONG[lie]))
    last = os.urandom(PIECE + 512)
    with pytest.raises(WireViolationError, match="behind its end"):
        replica.stage(patch(5, last, b"\1\1", (Extent(PIECE, 1024),)))
    assert volume.data == data
    assert volume.writes == []


def test_what_the_volume_has_is_told_piece_by_piece(tmp_path: Path, data: bytes) -> None:
    volume = begun(tmp_path, data)
    volume.data[5 * BLOCK] ^= 1  # as the volume is, not as the manifest says
    told = Replica(tmp_path, volume).have(5)
    block = bytes(volume.data[5 * BLOCK :])
    assert told == (digest(block[:PIECE])[:16], digest(block[PIECE:])[:16])


class Plug(MemoryVolume):
    """The power is cut at the n-th write, which then reaches the medium in half."""

    def __init__(self, data: bytes, left: int) -> None:
        super().__init__(bytearray(data))
        self.left = left

    def pwrite(self, offset: int, data: memoryview) -> None:
        self.left -= 1
        if self.left < 0:
            super().pwrite(offset, data[: len(data) // 2])
            raise PowerCutError
        super().pwrite(offset, data)

    def flush(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise PowerCutError
        super().flush()


@pytest.mark.parametrize("left", range(5))
def test_after_a_power_cut_the_manifest_tells_what_the_volume_holds(
    tmp_path: Path, data: bytes, left: int
) -> None:
    begun(tmp_path, data)
    plug = Plug(data, left)
    replica = Replica(tmp_path, plug)
    fresh = os.urandom(BLOCK)
    staged = [replica.stage(patch(index, fresh, b"\1\1\1\1")) for index in (0, 2, 4)]
    batch = [one for one in staged if one is not None]
    assert len(batch) == 3
    if left == 4:
        replica.write(batch)
    else:
        with pytest.raises(PowerCutError):
            replica.write(batch)
    after = MemoryVolume(plug.data)
    healed = Replica(tmp_path, after)
    assert healed.manifest.root() == manifest_of(bytes(after.data)).root()
    assert (tmp_path / JOURNAL).read_bytes() == b""


def test_a_journal_that_is_not_whole_was_never_acted_upon(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.noted() == ()
    journal.note([7, 9, 1 << 25])
    assert journal.noted() == (7, 9, 1 << 25)
    whole = (tmp_path / "journal").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "journal").write_bytes(whole[:length])
        assert journal.noted() == ()
    for at in range(len(whole)):
        hurt = bytearray(whole)
        hurt[at] ^= 1
        (tmp_path / "journal").write_bytes(hurt)
        assert journal.noted() == ()
    journal.clear()
    assert journal.noted() == ()


def test_a_journalled_block_behind_the_end_is_no_block(tmp_path: Path, data: bytes) -> None:
    volume = begun(tmp_path, data)
    Journal(tmp_path / JOURNAL).note([5, 6, 4000])
    assert Replica(tmp_path, volume).manifest.root() == manifest_of(data).root()


def test_a_volume_that_fails_is_told_and_nothing_is_acknowledged(
    tmp_path: Path, data: bytes
) -> None:
    class Failing(MemoryVolume):
        def flush(self) -> None:
            raise TargetWriteError("The target failed")

    begun(tmp_path, data)
    replica = Replica(tmp_path, Failing(bytearray(data)))
    staged = replica.stage(patch(0, os.urandom(BLOCK), b"\1\1\1\1"))
    assert staged is not None
    with pytest.raises(TargetWriteError):
        replica.write([staged])
    assert Manifest.load(tmp_path / MANIFEST).root() == manifest_of(data).root()
    assert Journal(tmp_path / JOURNAL).noted() == (0,)


CODES = st.lists(st.sampled_from([0, 1, 2]), min_size=4, max_size=4).map(bytes)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), CODES, st.integers(0, 255)), max_size=6))
def test_any_patches_leave_volume_and_manifest_agreeing(
    tmp_path_factory: pytest.TempPathFactory, patches: list[tuple[int, bytes, int]]
) -> None:
    place = tmp_path_factory.mktemp("replica")
    data = bytes(SIZE)
    volume = begun(place, data)
    replica = Replica(place, volume)
    model = bytearray(data)
    for index, codes, fill in patches:
        block = bytearray(model[index * BLOCK : (index + 1) * BLOCK])
        for (start, end), code in zip(pieces_of(BLOCK), codes, strict=True):
            if code:
                block[start:end] = bytes([fill if code == Piece.SENT else 0]) * (end - start)
        staged = replica.stage(patch(index, bytes(block), codes))
        assert staged is not None
        replica.write([staged])
        model[index * BLOCK : (index + 1) * BLOCK] = block
    assert volume.data == model
    assert replica.manifest.root() == manifest_of(bytes(model)).root()


def test_a_replica_that_came_to_a_point_says_so_after_a_restart(
    tmp_path: Path, data: bytes
) -> None:
    volume = begun(tmp_path, data)
    Replica(tmp_path, volume).move_to(7)
    assert Manifest.load(tmp_path / MANIFEST).point == 7
