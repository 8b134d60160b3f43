"""Every byte flipped, every length cut: seen without a key, and never wrong content with one.

Every byte of the JSON files, of pack heads' fields, record headers, checkpoints' and trailers'
fields; of wraps, ciphertext and padding every seventh without a key and fewer with one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from appliance.block import PAGE
from appliance.errors import MotionGearError
from appliance.seal import opening, pointmap, readback, verify
from appliance.seal.canary import FILE as CANARY
from appliance.seal.head import FILE as HEAD
from appliance.seal.recover import recover
from appliance.seal.scan import PackInfo, PackReader
from appliance.seal.store import SEAL, Store, by_point
from appliance.seal.verify import Pins, Sealed, inspect
from tests.readout import content, problems, reopened
from tests.support import BLOCK, OPERATOR, new_store, point, put_blocks, seal_it

DATA = (b"a short text " * BLOCK)[:BLOCK] + bytes(2 * BLOCK) + b"the end of the disk"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A small sealed store; every test leaves it as it found it."""
    made, device = new_store(tmp_path_factory.mktemp("store"))
    put_blocks(made, DATA, point(DATA))
    seal_it(made, device, point(DATA))
    assert problems(made.path, OPERATOR) == []
    return made


class Flipper:
    """Flips bits of one file in place, one byte at a time."""

    def __init__(self, path: Path) -> None:
        self.whole = path.read_bytes()
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    @contextmanager
    def flipped(self, place: int) -> Iterator[None]:
        os.pwrite(self._fd, bytes([self.whole[place] ^ 1 << place % 8]), place)
        try:
            yield
        finally:
            os.pwrite(self._fd, self.whole[place : place + 1], place)


@contextmanager
def flipper(path: Path) -> Iterator[Flipper]:
    made = Flipper(path)
    try:
        yield made
    finally:
        made.close()


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
    return sorted(structure(info) | set(range(0, info.size, step)) | {info.size - 1})


@pytest.mark.parametrize("name", [HEAD, CANARY, SEAL])
def test_every_flipped_byte_of_a_public_file_is_refused(store: Store, name: str) -> None:
    missed = []
    with flipper(store.path / name) as one:
        for place in range(len(one.whole)):
            with one.flipped(place):
                try:
                    inspect(store.path, Pins())
                except MotionGearError:
                    continue
                missed.append(place)
    assert missed == []


@pytest.mark.parametrize("name", [HEAD, CANARY, SEAL])
def test_every_cut_of_a_public_file_is_refused(store: Store, name: str) -> None:
    path = store.path / name
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 23), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert problems(store.path) != []
    path.write_bytes(whole + b"\n")
    assert problems(store.path) != []
    path.write_bytes(whole)


@pytest.mark.parametrize("place", [0, 1], ids=["contents", "disk"])
def test_every_flipped_byte_of_a_pack_is_seen_without_a_key(
    store: Store, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readback, "_PIECE", 1 << 16)  # large buffers cost more than the digest
    sealed = reopened(store)
    info = sealed.infos[sealed.seal.packs[place].pack]
    others = [one for one in sealed.infos if one != info.head.pack]
    assert verify.verify(sealed, known=others).problems == []
    missed = []
    with flipper(info.path) as one:
        for at in places(info, 7):
            with one.flipped(at):
                if not verify.verify(sealed, known=others).problems:
                    missed.append(at)
    assert missed == []


@pytest.mark.parametrize("place", [0, 1], ids=["contents", "disk"])
def test_a_flipped_field_is_refused_by_name_or_left_to_the_digest(
    store: Store, place: int
) -> None:
    """The quick check sees heads, trailers and checkpoints; what it lets pass, reading sees."""
    sealed = reopened(store)
    info = sealed.infos[sealed.seal.packs[place].pack]
    names = set()
    with flipper(info.path) as one:
        for at in sorted(structure(info)):
            with one.flipped(at):
                names.update(problems(store.path) or ["missed"])
    assert names <= {
        "foreign-pack",
        "pack-damaged",
        "unknown-format",
        "seal-damaged",
        "pack-repeated",
    }


def disk(sealed: Sealed) -> PackInfo:
    return sealed.infos[sealed.seal.packs[1].pack]


def read_by_index(store: Store) -> bytes:
    (found,) = [pointmap.build(one, OPERATOR) for one in by_point(store.infos())]
    return content(found)


def test_a_flip_never_gives_wrong_content_to_a_keyholder(store: Store) -> None:
    sealed = reopened(store)
    info = disk(sealed)
    quiet = []
    with flipper(info.path) as one:
        for at in places(info, 97):
            with one.flipped(at):
                with suppress(MotionGearError):
                    assert read_by_index(store) == DATA
                with suppress(MotionGearError):
                    if not opening.open_all(sealed, OPERATOR).problems:
                        quiet.append(at)
    assert quiet == []


def test_a_flip_never_gives_wrong_content_to_the_recovery(store: Store, tmp_path: Path) -> None:
    info = disk(reopened(store))
    with flipper(info.path) as one:
        for at in places(info, 211):
            out = tmp_path / f"{at}"
            out.mkdir()
            with one.flipped(at):
                disks, lost = recover([info.path], OPERATOR, out)
            for found in disks:
                data = found.path.read_bytes()
                assert data == DATA or found.missing or found.problems
                blocks = range(0, len(DATA), BLOCK)
                pairs = {(data[i : i + BLOCK], DATA[i : i + BLOCK]) for i in blocks}
                assert all(got == wanted or not any(got) for got, wanted in pairs)
            assert disks or lost


@pytest.mark.parametrize("place", [0, 1], ids=["contents", "disk"])
def test_every_cut_of_a_pack_is_refused(store: Store, place: int, tmp_path: Path) -> None:
    sealed = reopened(store)
    info = sealed.infos[sealed.seal.packs[place].pack]
    whole = info.path.read_bytes()
    for length in {*range(0, len(whole), PAGE), *range(1, len(whole), 1777), len(whole) - 1}:
        info.path.write_bytes(whole[:length])
        assert problems(store.path) == ["pack-damaged"]
        assert {one.name for one in verify.verify(sealed).problems} == {"pack-damaged"}
        with suppress(MotionGearError):
            assert opening.open_all(sealed, OPERATOR).problems
        out = tmp_path / f"{length}"
        out.mkdir()
        disks, lost = recover([info.path], OPERATOR, out)
        assert all(one.problems for one in disks)
        assert place == 0 or disks or lost
    info.path.write_bytes(whole + bytes(PAGE))
    assert problems(store.path) == ["pack-damaged"]
    info.path.write_bytes(whole)
    assert problems(store.path, OPERATOR) == []
