"""The device's disk runs full in the middle of an ingest: nothing that was reported is lost."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.errors import IncompleteDiskError, StoreFullError
from appliance.model import JobId
from appliance.seal.recover import recover
from appliance.seal.store import RESERVE_SIZE, Store
from appliance.state import JobState
from tests.media import Bench, tool
from tests.support import BLOCK, OPERATOR
from tests.technician import (
    PASSPHRASE,
    Keys,
    Shell,
    begun,
    disk_id,
    ingest_spec,
    noise,
)

MIB = 1 << 20


@dataclass
class Full:
    """A store on a file system that is full, and the job that filled it."""

    store: Store
    place: Path
    image: Path
    job: JobId


def tmpfs(bench: Bench, place: Path) -> Path:
    return bench.tmpfs(place, str(RESERVE_SIZE + 8 * MIB))


def ext4(bench: Bench, place: Path) -> Path:
    image = bench.image(RESERVE_SIZE + 16 * MIB, "device.img")
    tool("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image)
    return bench.mount(bench.loop(image), place)


@pytest.fixture(params=[tmpfs, ext4])
def full(request: pytest.FixtureRequest, tmp_path: Path, device: Shell, bench: Bench) -> Full:
    place = request.param(bench, tmp_path / "device-disk")
    store = begun(device, place / "store")
    small, image = tmp_path / "small.img", tmp_path / "large.img"
    small.write_bytes(noise(2 * BLOCK))
    image.write_bytes(noise(20 * MIB))
    spec = ingest_spec(store.path, small, disk=disk_id("small"), machine="small")
    assert device.ended(device.start("ingest", store.path, spec)).state is JobState.FINISHED
    spec = ingest_spec(store.path, image, disk=disk_id("large"), machine="large")
    return Full(store, place, image, device.start("ingest", store.path, spec))


def test_what_is_there_can_be_sealed_verified_and_restored(
    tmp_path: Path, device: Shell, operator: Shell, keyring: Keys, full: Full
) -> None:
    device.typed("jobs", "follow", full.job).refused(StoreFullError)
    row = device.job(full.job)
    assert (row.state, row.code) == (JobState.FAILED, StoreFullError.code)
    stored = device.events(full.job, "checkpoint")[-1]["cursor"]
    assert stored > 4 * MIB // BLOCK

    sealed = device.typed("seal", "-s", full.store.path, "--accept", full.job, "--waive", "full")
    assert "Sealed." in sealed.fine().out
    key = ("--key", keyring.operator)
    said = operator.typed("verify", "-s", full.store.path, *key, passphrase=PASSPHRASE).fine(3)
    assert f"{disk_id('large')} point 0: INCOMPLETE" in said.out
    assert f"{disk_id('small')} point 0: complete" in said.out

    restore = ("restore", "-s", full.store.path, "--to", tmp_path / "to", *key)
    done = operator.typed(*restore, passphrase=PASSPHRASE).fine()
    assert f"Left out: disk {disk_id('large')} is incomplete" in done.out
    assert [one.name for one in (tmp_path / "to").glob("*.img*")] == [
        f"small-{disk_id('small')[:8]}.img"
    ]
    asked = (*restore, "--map", f"{disk_id('large')}=large")
    operator.typed(*asked, passphrase=PASSPHRASE).refused(IncompleteDiskError)

    output = tmp_path / "recovered"
    output.mkdir()
    found, _ = recover(list(full.store.closed()), OPERATOR, output)
    (large,) = (one for one in found if one.spec.disk == disk_id("large"))
    with large.path.open("rb") as got, full.image.open("rb") as wanted:
        assert got.read(stored * BLOCK) == wanted.read(stored * BLOCK)


def test_with_room_made_the_job_goes_on(
    tmp_path: Path, device: Shell, bench: Bench, full: Full
) -> None:
    del bench
    assert device.ended(full.job).code == StoreFullError.code
    stored = device.events(full.job, "checkpoint")[-1]["cursor"]
    again = device.typed("jobs", "resume", full.job).refused(StoreFullError)
    assert "full" in again.err
    with device.state() as opened:
        known = opened.job(full.job).spec
    assert known
    roomy = tmp_path / "roomy"
    subprocess.run(["cp", "-a", full.store.path, roomy], check=True)
    subprocess.run(["mount", "--bind", roomy, full.store.path], check=True)
    try:
        device.typed("jobs", "resume", full.job).fine()
        assert device.events(full.job, "spliced")[-1]["block"] >= stored
        device.typed("seal", "-s", full.store.path, "--waive", "a test").fine()
    finally:
        subprocess.run(["umount", full.store.path], check=True)
    output = tmp_path / "recovered"
    output.mkdir()
    found, lost = recover(list(Store(roomy).closed()), OPERATOR, output)
    assert not lost
    (large,) = (one for one in found if one.spec.disk == disk_id("large"))
    assert large.path.read_bytes() == full.image.read_bytes()
