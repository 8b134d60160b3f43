"""The disk says no, at the console: full, read-only, damaged. Every time words and a code."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.errors import (
    BadInputError,
    NotAStoreError,
    StateError,
    StoreFullError,
    StoreRefusedError,
    StoreWriteError,
    TargetFullError,
    TargetWriteError,
)
from appliance.seal.accepted import FILE
from appliance.seal.store import RESERVE, RESERVE_SIZE, Store
from appliance.state import JobState
from tests.media import Bench, tool
from tests.support import BLOCK
from tests.technician import (
    PASSPHRASE,
    Keys,
    Said,
    Shell,
    begun,
    disk_id,
    ingest_spec,
    noise,
    sealed_disks,
)

MIB = 1 << 20


@dataclass
class Small:
    """A shipment of one disk on a file system of its own, to be sealed by ``device``."""

    device: Shell
    place: Path
    store: Store

    def seal(self) -> Said:
        return self.device.typed("seal", "-s", self.store.path, "--waive", "a test", "--no-qr")


@pytest.fixture
def small(tmp_path: Path, device: Shell, bench: Bench) -> Small:
    place = bench.tmpfs(tmp_path / "device-disk", str(RESERVE_SIZE + 4 * MIB))
    store, image = begun(device, place / "store"), tmp_path / "web01.img"
    image.write_bytes(noise(4 * BLOCK))
    spec = ingest_spec(store.path, image, disk=disk_id("web01"), machine="web01")
    assert device.ended(device.start("ingest", store.path, spec)).state is JobState.FINISHED
    return Small(device, place, store)


def test_a_shipment_is_refused_by_what_the_disk_says(
    tmp_path: Path, device: Shell, keyring: Keys, bench: Bench
) -> None:
    new = ("shipment", "new", "march", *keyring.recipients, "-s")
    full, fixed = bench.tmpfs(tmp_path / "full"), bench.tmpfs(tmp_path / "ro", "1m", "ro")
    for path, refusal, why in (
        (full / "store", StoreFullError, "No space left"),
        (fixed / "store", StoreWriteError, "Read-only file system"),
        (tmp_path / ("x" * 300), BadInputError, "File name too long"),
    ):
        assert why in device.typed(*new, path).refused(refusal).err
    assert list(full.iterdir()) == []


def test_a_seal_without_room_is_made_once_there_is_some(small: Small) -> None:
    (small.store.path / RESERVE).unlink()
    rest = Bench.fill(small.place)
    said = small.seal().refused(StoreFullError)
    assert "Nothing was signed; every pack is as it was." in said.err
    assert "Make room on the store's disk, then seal again." in said.err
    rest.unlink()
    assert "Sealed." in small.seal().fine().out


def test_a_store_on_a_disk_that_became_read_only_is_not_sealed(small: Small) -> None:
    tool("mount", "-o", "remount,ro", small.place)
    assert "Read-only file system" in small.seal().refused(StoreWriteError).err
    tool("mount", "-o", "remount,rw", small.place)
    assert "Sealed." in small.seal().fine().out


def test_a_store_whose_packs_vanished_is_named(small: Small) -> None:
    small.store.packs.rename(small.place / "away")
    show = ("shipment", "show", "-s", small.store.path)
    small.device.typed(*show).refused(NotAStoreError)
    small.seal().refused(NotAStoreError)


def test_a_recovery_without_room_says_so(
    tmp_path: Path, operator: Shell, keyring: Keys, bench: Bench
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(32 * BLOCK))
    recover = ("recover", sent.path / "packs", "--key", keyring.operator, "-o")
    full, fixed = bench.tmpfs(tmp_path / "full"), bench.tmpfs(tmp_path / "ro", "1m", "ro")
    said = operator.typed(*recover, full, passphrase=PASSPHRASE).refused(TargetFullError)
    assert "The packs are untouched" in said.err
    assert all(one.name.endswith(".partial") for one in full.iterdir())
    operator.typed(*recover, fixed / "out", passphrase=PASSPHRASE).refused(TargetWriteError)


def test_a_damaged_manifest_is_named_and_derived_again(
    tmp_path: Path, operator: Shell, keyring: Keys
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(4 * BLOCK))
    key = ("--key", keyring.operator)
    to = ("-s", sent.path, "--to", tmp_path / "to")
    operator.typed("restore", *to, *key, passphrase=PASSPHRASE).fine()
    (path,) = operator.home.rglob("*.manifest")
    whole = bytearray(path.read_bytes())
    whole[64 + 32] = 9
    path.write_bytes(whole)
    said = operator.typed("check", *to).refused(StoreRefusedError)
    assert f"{path} is damaged" in said.err
    assert "Derive it again from the store." in said.err
    operator.typed("check", *to, *key, passphrase=PASSPHRASE).fine()
    operator.typed("check", *to).fine()


def test_a_home_that_cannot_keep_what_was_accepted_says_so(
    tmp_path: Path, operator: Shell
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(BLOCK))
    pins = ("--device", sent.seal.device_fingerprint, "--seal", sent.seal.root().hex())
    (operator.home / FILE).mkdir()
    said = operator.typed("verify", "-s", sent.path, *pins).refused(StateError)
    assert "accepted.json cannot be read or written (Is a directory)" in said.err
    (operator.home / FILE).rmdir()
    operator.typed("verify", "-s", sent.path, *pins).fine()
