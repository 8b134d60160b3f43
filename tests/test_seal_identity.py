"""The device's signing key and seal counter: kept, and never silently replaced."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance import block
from appliance.errors import StateError
from appliance.seal import identity
from appliance.seal.identity import Counter, Device, device_fingerprint, signed_by
from tests.media import Bench


def test_a_device_is_the_same_after_a_restart(tmp_path: Path) -> None:
    first = Device.of(tmp_path)
    again = Device.of(tmp_path)
    assert again.public == first.public
    assert first.fingerprint == device_fingerprint(first.public)
    assert signed_by(first.public, again.sign(b"said"), b"said")
    assert (tmp_path / "device" / "identity.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "device").stat().st_mode & 0o777 == 0o700


def test_what_another_device_signed_is_not_this_ones(tmp_path: Path) -> None:
    mine, other = Device.of(tmp_path / "a"), Device.of(tmp_path / "b")
    said = other.sign(b"said")
    assert not signed_by(mine.public, said, b"said")
    assert not signed_by(other.public, said, b"other")
    assert not signed_by(other.public, said[:-1], b"said")
    assert not signed_by("ff" * 32, said, b"said")


def test_seals_are_counted_from_one_and_remembered(tmp_path: Path) -> None:
    assert Device.of(tmp_path).counter() == Counter(0, "")
    Device.of(tmp_path).count(Counter(7, "ab" * 32))
    assert Device.of(tmp_path).counter() == Counter(7, "ab" * 32)


def test_two_first_uses_make_one_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[Device] = []

    @contextmanager
    def overtaken(path: Path) -> Iterator[None]:
        """Somebody else had the lock before."""
        monkeypatch.setattr(identity, "locked", block.locked)
        others.append(Device.of(tmp_path))
        with block.locked(path):
            yield

    monkeypatch.setattr(identity, "locked", overtaken)
    mine = Device.of(tmp_path)
    assert [one.public for one in others] == [mine.public]


def test_a_damaged_identity_is_not_replaced(tmp_path: Path) -> None:
    Device.of(tmp_path)
    path = tmp_path / "device" / "identity.key"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StateError, match="identity"):
        Device.of(tmp_path)


def test_a_damaged_counter_is_not_taken_for_a_new_device(tmp_path: Path) -> None:
    device = Device.of(tmp_path)
    device.count(Counter(1, ""))
    (tmp_path / "device" / "seals.json").write_bytes(b"")
    with pytest.raises(StateError, match="counter"):
        device.counter()


def test_a_home_that_cannot_be_written_to_makes_no_identity(tmp_path: Path, bench: Bench) -> None:
    for name, option, why in (
        ("ro", "ro", "Read-only file system"),
        ("full", "nr_inodes=1", "No space left"),
        ("half", "nr_inodes=2", "No space left"),
    ):
        home = bench.tmpfs(tmp_path / name, "1m", option)
        with pytest.raises(StateError, match=why):
            Device.of(home)
    assert list((tmp_path / "half").rglob("identity*")) == []


def test_a_number_that_cannot_be_kept_is_not_taken(tmp_path: Path, bench: Bench) -> None:
    home = bench.tmpfs(tmp_path / "home", "64k")
    device = Device.of(home)
    device.count(Counter(1, "ab" * 32))
    rest = bench.fill(home)
    with pytest.raises(StateError, match=r"seals\.json cannot be .*No space left"):
        device.count(Counter(2, "cd" * 32))
    assert device.counter() == Counter(1, "ab" * 32)
    rest.unlink()
    device.count(Counter(2, "cd" * 32))
    assert device.counter() == Counter(2, "cd" * 32)


def test_what_cannot_be_read_is_not_taken_for_missing(tmp_path: Path) -> None:
    device = Device.of(tmp_path)
    (tmp_path / "device" / "seals.json").mkdir()
    (tmp_path / "device" / "lock").unlink()
    (tmp_path / "device" / "lock").mkdir()
    with pytest.raises(StateError, match="Is a directory"):
        device.counter()
    with pytest.raises(StateError, match="Is a directory"), device.alone():
        pytest.fail("It is held by nobody")


def test_an_error_under_the_lock_keeps_its_own_name(tmp_path: Path) -> None:
    device = Device.of(tmp_path)
    with pytest.raises(FileExistsError), device.alone():
        raise FileExistsError
    with device.alone():  # and it is released
        pass
