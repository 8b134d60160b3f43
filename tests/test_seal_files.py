"""Files beside the packs: what the seal lists is there, whole, and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import BadInputError, SealDamagedError, StoppedError
from appliance.events import Event, Progress
from appliance.seal import files, statement
from appliance.seal.cut import digest
from appliance.seal.files import SealedFile
from appliance.seal.identity import Device
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import Store
from appliance.seal.verify import verify
from tests.readout import problems, reopened
from tests.support import OPERATOR, new_store, point, put_blocks, sample_bytes

DATA = sample_bytes(2)
LONG = b"0123456789" * (1 << 18)
WAIVED = Consent(waiver="a test")


def shipment(place: Path, **beside: bytes) -> tuple[Store, Device]:
    store, device = new_store(place)
    put_blocks(store, DATA, point(DATA))
    (store.path / "files").mkdir()
    for name, data in beside.items():
        (store.path / "files" / name).write_bytes(data)
    return store, device


def sealed(place: Path) -> Store:
    store, device = shipment(place, a=LONG, b=b"")
    seal(store, device, {}, WAIVED)
    return store


def test_what_lies_beside_the_packs_is_sealed_and_verified(tmp_path: Path) -> None:
    store = sealed(tmp_path)
    assert statement.read(store.path).files == (
        SealedFile("a", len(LONG), digest(LONG).hex()),
        SealedFile("b", 0, digest(b"").hex()),
    )
    told: list[Event] = []
    assert verify(reopened(store), told.append).problems == []
    ends = [one for one in told if isinstance(one, Progress)]
    assert ends[-1].done == ends[-1].total
    assert problems(store.path, OPERATOR) == []


@pytest.mark.parametrize("data", [LONG[:-1], LONG + b"x"], ids=len)
def test_another_size_is_seen_before_anything_is_read(tmp_path: Path, data: bytes) -> None:
    store = sealed(tmp_path)
    (store.path / "files" / "a").write_bytes(data)
    with pytest.raises(SealDamagedError, match="files/a has not the size that was sealed"):
        reopened(store)


def test_an_empty_directory_is_no_file(tmp_path: Path) -> None:
    store, device = shipment(tmp_path)
    assert seal(store, device, {}, WAIVED).files == ()
    (store.path / "files").rmdir()
    assert problems(store.path) == []


def other_bytes(place: Path) -> None:
    place.write_bytes(LONG[::-1])


def longer(place: Path) -> None:
    place.write_bytes(LONG + b"x")


def linked(place: Path) -> None:
    place.rename(place.parent.parent / "aside")
    place.symlink_to("../aside")


def pipe(place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def directory(place: Path) -> None:
    place.unlink()
    place.mkdir()


@pytest.mark.parametrize("change", [other_bytes, longer, linked, pipe, directory, Path.unlink])
def test_a_file_that_is_not_what_was_sealed_is_refused(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    store = sealed(tmp_path)
    change(store.path / "files" / "a")
    assert problems(store.path) == ["seal-damaged"]


@pytest.mark.parametrize("name", ["c", "A", "\x1b[2J", ".hidden", "a b"])
def test_a_file_that_the_seal_does_not_list_is_refused(tmp_path: Path, name: str) -> None:
    store = sealed(tmp_path)
    (store.path / "files" / name).write_bytes(b"")
    assert problems(store.path) == ["pack-unlisted"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    store, device = shipment(tmp_path)
    (store.path / "files").rmdir()
    (store.path / "files").write_bytes(b"")
    with pytest.raises(BadInputError, match="cannot be sealed"):
        seal(store, device, {}, WAIVED)
    (store.path / "files").unlink()
    seal(store, device, {}, WAIVED)
    (store.path / "files").write_bytes(b"")
    assert problems(store.path) == ["seal-damaged"]


def test_a_file_that_vanishes_before_it_is_read_is_named(tmp_path: Path) -> None:
    store = sealed(tmp_path)
    found = reopened(store)
    (store.path / "files" / "a").unlink()
    (told,) = verify(found).problems
    assert isinstance(told, SealDamagedError)
    assert "files/a cannot be read" in told.what


@pytest.mark.parametrize("name", ["A", "a b", "-a", "a" * 65, "\u00e9", "a\n"])
def test_a_name_that_no_reader_takes_is_not_sealed(tmp_path: Path, name: str) -> None:
    store, device = shipment(tmp_path, **{name: b""})
    with pytest.raises(BadInputError, match="cannot be sealed"):
        seal(store, device, {}, WAIVED)
    assert not store.sealed
    (store.path / "files" / name).rename(store.path / "files" / ("a" * 64))
    assert seal(store, device, {}, WAIVED).sequence == 1


@pytest.mark.parametrize("change", [linked, pipe, directory])
def test_what_is_no_file_is_not_sealed(tmp_path: Path, change: Callable[[Path], object]) -> None:
    store, device = shipment(tmp_path, a=b"1")
    change(store.path / "files" / "a")
    with pytest.raises(BadInputError, match="not a regular file"):
        seal(store, device, {}, WAIVED)


def test_more_files_than_a_seal_lists_are_not_sealed(tmp_path: Path) -> None:
    many = {f"f{one}": b"" for one in range(files.MAX_FILES + 1)}
    store, device = shipment(tmp_path, **many)
    with pytest.raises(BadInputError, match="cannot be sealed"):
        seal(store, device, {}, WAIVED)
    (store.path / "files" / "f0").unlink()
    assert len(seal(store, device, {}, WAIVED).files) == files.MAX_FILES
    assert problems(store.path) == []


def test_reading_them_can_be_stopped(tmp_path: Path) -> None:
    store, device = shipment(tmp_path, a=LONG)
    with pytest.raises(StoppedError):
        seal(store, device, {}, WAIVED, stop=lambda: True)
    seal(store, device, {}, WAIVED)
    with pytest.raises(StoppedError):
        verify(reopened(store), stop=lambda: True)


def test_they_are_durable_before_the_seal_speaks_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = shipment(tmp_path, a=LONG)
    real, synced = os.fsync, set[str]()

    def fsync(fd: int) -> None:
        if not store.sealed:
            synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    seal(store, device, {}, WAIVED)
    assert {str(store.path / one) for one in ("files/a", "files", ".")} <= synced


def test_a_wrong_file_keeps_nobody_from_the_packs(tmp_path: Path) -> None:
    store = sealed(tmp_path)
    other_bytes(store.path / "files" / "a")
    with store.pack(statement.read(store.path).packs[1].pack).open("r+b") as out:
        out.seek(8192)
        out.write(b"damaged")
    assert problems(store.path) == ["seal-damaged", "pack-damaged"]
