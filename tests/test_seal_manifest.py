"""The manifest: every block counts, a file is whole or refused."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import StateError, StoreRefusedError
from appliance.model import Digest, DiskId
from appliance.seal.cut import digest, zero_digest
from appliance.seal.manifest import PAGE_ENTRIES, Manifest, State, point_of
from tests.media import Bench
from tests.support import BLOCK

DISK = DiskId("ab" * 16)


def filled(blocks: int = 5, extra: int = 100) -> Manifest:
    found = Manifest(DISK, 3, BLOCK, blocks * BLOCK - BLOCK + extra)
    for index in range(blocks):
        found.set(index, digest(bytes([index % 251])), State.DATA)
    return found


def test_a_new_manifest_knows_nothing() -> None:
    found = Manifest(DISK, 0, BLOCK, 5 * BLOCK + 1)
    assert len(found) == 6
    assert found.states() == {State.UNKNOWN: 6, State.DATA: 0, State.ZERO: 0, State.UNREADABLE: 0}
    assert found[5] == (Digest(bytes(32)), State.UNKNOWN)
    assert [found.length(0), found.length(5)] == [BLOCK, 1]


def test_a_saved_manifest_is_the_same_one(tmp_path: Path) -> None:
    made = filled(PAGE_ENTRIES + 7)
    made.set(9, digest(b"hurt"), State.UNREADABLE)
    path = tmp_path / "disk.manifest"
    made.save(path)
    found = Manifest.load(path)
    assert found.root() == made.root()
    assert (found.disk, found.point, found.block_size, found.size) == (DISK, 3, BLOCK, made.size)
    assert found[9] == (digest(b"hurt"), State.UNREADABLE)
    assert found.states() == {
        State.UNKNOWN: 0,
        State.DATA: PAGE_ENTRIES + 6,
        State.ZERO: 0,
        State.UNREADABLE: 1,
    }
    assert len(found.page_digests()) == 2
    made.save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["disk.manifest"]


@given(st.integers(0, 12000), st.integers(1, 12000))
def test_zero_runs_are_the_zero_blocks_they_stand_for(first: int, count: int) -> None:
    blocks = first + count
    run = Manifest(DISK, 0, BLOCK, blocks * BLOCK - 5)
    one_by_one = Manifest(DISK, 0, BLOCK, blocks * BLOCK - 5)
    run.set_zero(first, count)
    for index in range(first, blocks):
        one_by_one.set(index, zero_digest(one_by_one.length(index)), State.ZERO)
    assert run.root() == one_by_one.root()


def test_the_root_depends_on_everything() -> None:
    base = filled(4097)
    roots = {base.root()}
    for size, point, disk, block in (
        (base.size - 1, 3, DISK, BLOCK),
        (base.size, 4, DISK, BLOCK),
        (base.size, 3, DiskId("cd" * 16), BLOCK),
        (base.size * 2, 3, DISK, BLOCK * 2),
    ):
        other = Manifest(disk, point, block, size)
        for index in range(len(other)):
            other.set(index, *base[index])
        roots.add(other.root())
    for index in (0, 4095, 4096):
        found, state = base[index]
        base.set(index, digest(b"other"), state)
        roots.add(base.root())
        base.set(index, found, State.UNREADABLE)
        roots.add(base.root())
        base.set(index, found, state)
    assert len(roots) == 5 + 6
    assert base.root() in roots


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "short", "long", "magic", "zero block size"]
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "disk.manifest"
    filled().save(path)
    whole = path.read_bytes()
    wrong = {
        "missing": None,
        "empty": b"",
        "short": whole[:-1],
        "long": whole + b"\0",
        "magic": b"x" + whole[1:],
        "zero block size": whole[:28] + bytes(4) + whole[32:],
    }[damage]
    path.unlink() if wrong is None else path.write_bytes(wrong)
    with pytest.raises(StoreRefusedError, match="not a manifest"):
        Manifest.load(path)
    with pytest.raises(StoreRefusedError, match="not a manifest"):
        point_of(path)


def test_the_point_is_told_by_the_head_alone(tmp_path: Path) -> None:
    """Also while a round has the file mapped, and moves it on."""
    path = tmp_path / "disk.manifest"
    filled().save(path)
    assert point_of(path) == 3
    mapped = Manifest.load(path, writing=True)
    mapped.move_to(1 << 20)
    assert point_of(path) == mapped.point == Manifest.load(path).point == 1 << 20
    assert Manifest.load(path).root() == mapped.root()


def test_a_block_in_no_state_there_is_makes_a_damaged_manifest(tmp_path: Path) -> None:
    path = tmp_path / "disk.manifest"
    filled(PAGE_ENTRIES + 7).save(path)
    whole = bytearray(path.read_bytes())
    for index in (3, PAGE_ENTRIES + 6):
        whole[64 + 40 * index + 32] = 4
    path.write_bytes(whole)
    with pytest.raises(StoreRefusedError, match=r"disk\.manifest is damaged: 2 blocks are in no"):
        Manifest.load(path)


def test_a_disk_without_blocks_has_a_manifest_too(tmp_path: Path) -> None:
    Manifest(DISK, 0, BLOCK, 0).save(tmp_path / "disk.manifest")
    assert len(Manifest.load(tmp_path / "disk.manifest")) == 0


@pytest.mark.parametrize("why", ["No space left", "Read-only file system", "Not a directory"])
def test_a_manifest_that_cannot_be_kept_is_told(tmp_path: Path, bench: Bench, why: str) -> None:
    home = tmp_path / "home"
    if why == "Not a directory":
        home.write_text("a file")
    else:
        bench.tmpfs(home, "64k", *(["ro"] if why.startswith("Read") else []))
    path = home / "manifests" / "disk.manifest"
    with pytest.raises(StateError, match=rf"disk\.manifest cannot be kept \({why}") as refused:
        filled(PAGE_ENTRIES).save(path)
    assert "state directory" in refused.value.todo_now
    if why == "No space left":
        assert list(path.parent.iterdir()) == []
        filled(2).save(path)
        assert Manifest.load(path).root() == filled(2).root()


def test_a_manifest_that_names_a_size_beyond_reason_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "disk.manifest"
    filled().save(path)
    whole = bytearray(path.read_bytes())
    whole[32:40] = b"\xff" * 8
    path.write_bytes(whole)
    with pytest.raises(StoreRefusedError):
        Manifest.load(path)


def test_a_large_disk_costs_address_space_only() -> None:
    found = Manifest(DISK, 0, BLOCK, BLOCK << 20)
    found.set((1 << 20) - 1, digest(b"last"), State.DATA)
    assert found[(1 << 20) - 1] == (digest(b"last"), State.DATA)


def test_a_manifest_that_cannot_be_flushed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def flush(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    found = Manifest(DiskId("11" * 16), 0, 1 << 16, 1 << 20)
    monkeypatch.setattr(found, "_data", Failing())
    with pytest.raises(StateError, match="cannot be kept"):
        found.flush()
