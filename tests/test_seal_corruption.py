"""Every byte flipped, every length cut: seen without a key, and never wrong content with one.

The smallest store that has everything: three blocks in a torn pack and in one that ends, the
contents pack, two recipients. Without a key every byte of every file is tried. What takes a key
takes milliseconds: only fixed fields and a sample of the rest are tried, as of the lengths to
which a pack is cut, unless the environment says EVERY_BYTE=1:

    EVERY_BYTE=1 pytest tests/test_seal_corruption.py
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from appliance.block import PAGE, pwrite_full
from appliance.errors import MotionGearError, WrongKeyError
from appliance.model import Extent, PackId
from appliance.seal import opening, pointmap, readback, verify
from appliance.seal.canary import FILE as CANARY
from appliance.seal.head import FILE as HEAD
from appliance.seal.layout import PackState
from appliance.seal.recover import Recovered, recover
from appliance.seal.scan import PackInfo, PackReader
from appliance.seal.store import SEAL, Store, by_point
from appliance.seal.verify import Pins, Sealed, inspect
from appliance.seal.writer import Pace
from tests.readout import content, problems, reopened
from tests.support import (
    BLOCK,
    OPERATOR,
    PowerCutError,
    new_store,
    point,
    put_blocks,
    seal_it,
)

DATA = (b"a short text " * BLOCK)[:BLOCK] + bytes(BLOCK) + b"the end of the disk"
FILES = [HEAD, CANARY, SEAL]
EVERY_BYTE = os.environ.get("EVERY_BYTE") == "1"


def sample(step: int) -> int:
    return 1 if EVERY_BYTE else step


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The smallest sealed store; every test leaves it as it found it."""
    made, device = new_store(tmp_path_factory.mktemp("store"))
    pace = Pace(checkpoint_bytes=1 << 30)
    with pytest.raises(PowerCutError):
        put_blocks(
            made,
            DATA,
            point(DATA),
            pace=Pace(checkpoint_bytes=1),
            bad=[Extent(BLOCK - 7, 7)],
            cut_at=2,
        )
    put_blocks(made, DATA, point(DATA), pace=pace)
    seal_it(made, device, point(DATA))
    assert problems(made.path, OPERATOR) == []
    assert sorted(one.trailer.state for one in made.infos()) == list(PackState)
    assert sum(one.size for one in made.infos()) == 19 * PAGE
    return made


class Victim:
    """A file that is damaged in place and mended again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole = path.read_bytes()
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def mend(self) -> None:
        os.ftruncate(self.fd, len(self.whole))
        pwrite_full(self.fd, 0, self.whole)
        os.close(self.fd)


@contextmanager
def victims(*paths: Path) -> Iterator[list[Victim]]:
    """The files, whole again afterwards."""
    with ExitStack() as ends:
        found = [Victim(one) for one in paths]
        for one in found:
            ends.callback(one.mend)
        yield found


@contextmanager
def flipped(at: int, *files: Victim) -> Iterator[None]:
    """One bit of the byte at this place flipped in each file that is so long."""
    hit = [one for one in files if at < len(one.whole)]
    for one in hit:
        os.pwrite(one.fd, bytes([one.whole[at] ^ 1 << at % 8]), at)
    try:
        yield
    finally:
        for one in hit:
            os.pwrite(one.fd, one.whole[at : at + 1], at)


def cuts(step: int, *files: Victim) -> Iterator[int]:
    """Each file cut to every length that is shorter than it, all of them to the same at once;
    with a step, to every such length and to those around a page's end.
    """
    longest = max(len(one.whole) for one in files)
    edges = {page + at for page in range(0, longest, PAGE) for at in (0, 1, PAGE - 1)}
    for length in sorted((edges | set(range(0, longest, step))) & set(range(longest)))[::-1]:
        for one in files:
            if length < len(one.whole):
                os.ftruncate(one.fd, length)
        yield length


def seen_whole(sealed: Sealed) -> list[PackId]:
    """The packs that a verification without a key lets pass.

    It names all packs that are damaged, so that one can try a flip in each of them at a time.
    """
    passed: list[PackId] = []
    found = verify.verify(sealed, passed=passed.append)
    assert len(found.problems) + len(passed) == len(sealed.seal.packs)
    return passed


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large buffers cost more than the digest of so few bytes."""
    monkeypatch.setattr(readback, "_PIECE", 16 * PAGE)


def structure(info: PackInfo) -> set[int]:
    """The places of all fixed fields."""
    with PackReader(info.path, OPERATOR) as reader:
        offsets = [one.offset for one in reader.entries(info)]
    trailer = info.trailer
    parts = [
        (0, 152),
        *((one, 8) for one in offsets),
        (trailer.checkpoint_offset, 88),
        (trailer.index_offset, 8),
        (info.size - PAGE, 72),
    ]
    return {at for start, length in parts for at in range(start, start + length)}


def places(info: PackInfo, step: int) -> list[int]:
    return sorted(structure(info) | set(range(0, info.size, sample(step))) | {info.size - 1})


def pack(sealed: Sealed, place: int) -> PackInfo:
    return sealed.infos[sealed.seal.packs[place].pack]


every_pack = pytest.mark.parametrize("place", [0, 1, 2], ids=["contents", "torn", "ended"])
disk_packs = pytest.mark.parametrize("place", [1, 2], ids=["torn", "ended"])


# --- without a key: everything ---


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_byte_of_a_public_file_is_refused(store: Store, name: str) -> None:
    missed = []
    with victims(store.path / name) as (one,):
        for at in range(len(one.whole)):
            with flipped(at, one):
                try:
                    inspect(store.path, Pins())
                except MotionGearError:
                    continue
                missed.append(at)
    assert missed == []


@pytest.mark.parametrize("name", FILES)
def test_every_cut_of_a_public_file_is_refused(store: Store, name: str) -> None:
    with victims(store.path / name) as (one,):
        assert [length for length in cuts(1, one) if not problems(store.path)] == []
        for more in (b"\0", b"\n"):
            pwrite_full(one.fd, 0, one.whole + more)
            assert problems(store.path) != []
    assert problems(store.path) == []


def test_every_flipped_byte_of_every_pack_is_seen_without_a_key(
    store: Store, small_pieces: None
) -> None:
    del small_pieces
    sealed = reopened(store)
    sizes = {one.pack: one.size for one in sealed.seal.packs}
    missed = []
    with victims(*store.closed()) as packs:
        for at in range(max(sizes.values())):
            with flipped(at, *packs):
                missed += [(one, at) for one in seen_whole(sealed) if at < sizes[one]]
    assert missed == []
    assert len(seen_whole(sealed)) == len(sizes)


def test_a_cut_of_every_pack_is_seen_without_a_key(store: Store, small_pieces: None) -> None:
    del small_pieces
    sealed = reopened(store)
    sizes = {one.pack: one.size for one in sealed.seal.packs}
    missed = []
    with victims(*store.closed()) as packs:
        for length in cuts(sample(7), *packs):
            missed += [(one, length) for one in seen_whole(sealed) if length < sizes[one]]
    assert missed == []
    assert len(seen_whole(sealed)) == len(sizes)


@every_pack
def test_a_flipped_field_is_refused_by_name_or_left_to_the_digest(
    store: Store, place: int, small_pieces: None
) -> None:
    """The quick check sees heads, trailers and checkpoints; what it lets pass, reading sees."""
    del small_pieces
    info = pack(reopened(store), place)
    names = set()
    with victims(info.path) as (one,):
        for at in sorted(structure(info)):
            with flipped(at, one):
                names.update(problems(store.path) or ["missed"])
    assert names <= {
        "foreign-pack",
        "pack-damaged",
        "unknown-format",
        "seal-damaged",
        "pack-repeated",
    }


@every_pack
def test_the_quick_check_sees_every_cut_of_a_pack(store: Store, place: int) -> None:
    info = pack(reopened(store), place)
    with victims(info.path) as (one,):
        for _ in cuts(sample(97), one):
            with pytest.raises(MotionGearError) as refused:
                inspect(store.path, Pins())
            assert refused.value.name == "pack-damaged"
    assert problems(store.path) == []


@every_pack
def test_a_page_behind_a_pack_is_refused(store: Store, place: int) -> None:
    info = pack(reopened(store), place)
    with victims(info.path) as (one,):
        for more in (b"\0", bytes(PAGE), one.whole[-PAGE:]):
            pwrite_full(one.fd, len(one.whole), more)
            assert problems(store.path) == ["pack-damaged"]
            os.ftruncate(one.fd, len(one.whole))


# --- with a key: fields and a sample, or everything ---


def read_by_index(store: Store) -> bytes:
    (found,) = [pointmap.build(one, OPERATOR) for one in by_point(store.infos())]
    return content(found)


def refused(sealed: Sealed) -> bool:
    """Whether opening all of a store that was inspected while it was whole finds it damaged."""
    try:
        return opening.open_all(sealed, OPERATOR).problems != []
    except WrongKeyError:  # the contents pack's head: nothing was opened
        return True


@every_pack
def test_a_flip_never_gives_wrong_content_to_a_keyholder(store: Store, place: int) -> None:
    sealed = reopened(store)
    info = pack(sealed, place)
    quiet = []
    with victims(info.path) as (one,):
        for at in places(info, 97):
            with flipped(at, one):
                with suppress(MotionGearError):
                    assert read_by_index(store) == DATA
                if not refused(sealed):
                    quiet.append(at)
    assert quiet == []


@every_pack
def test_a_cut_never_gives_wrong_content_to_a_keyholder(store: Store, place: int) -> None:
    sealed = reopened(store)
    info = pack(sealed, place)
    with victims(info.path) as (one,):
        for _ in cuts(sample(397), one):
            assert refused(sealed)


def recovered(store: Store, place: Path) -> tuple[list[Recovered], list[str]]:
    """What the recovery reader finds; every block of it true, or told as missing."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    disks, lost = recover(list(store.closed()), OPERATOR, place)
    blocks = range(0, len(DATA), BLOCK)
    for found in disks:
        data = found.path.read_bytes()
        assert len(data) == len(DATA)
        wrong = [i for i in blocks if data[i : i + BLOCK] != DATA[i : i + BLOCK]]
        assert len(wrong) <= found.missing
        assert not any(any(data[i : i + BLOCK]) for i in wrong)
        assert found.problems or lost or not found.missing
    return disks, lost


@disk_packs
def test_a_flip_never_gives_wrong_content_to_the_recovery(
    store: Store, place: int, tmp_path: Path
) -> None:
    info = pack(reopened(store), place)
    with victims(info.path) as (one,):
        for at in places(info, 211):
            with flipped(at, one):
                disks, _ = recovered(store, tmp_path / "out")
            assert len(disks) == 1


@disk_packs
def test_a_cut_never_gives_wrong_content_to_the_recovery(
    store: Store, place: int, tmp_path: Path
) -> None:
    info = pack(reopened(store), place)
    with victims(info.path) as (one,):
        for _ in cuts(sample(397), one):
            (found,), lost = recovered(store, tmp_path / "out")
            assert found.problems or lost
