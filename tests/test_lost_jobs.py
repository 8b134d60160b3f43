"""Unfinished disks of which no job is known any more: the state database was lost."""

from pathlib import Path

import pytest

from appliance.errors import (
    AlreadySealedError,
    BadInputError,
    JobRunningError,
    OpenErrorError,
    UnknownNameError,
)
from appliance.model import JobId
from appliance.seal.canon import now
from appliance.seal.store import Store
from appliance.state import JobState
from tests.support import BLOCK, PowerCutError, point, put_blocks, sample_bytes
from tests.technician import Shell, begun, noise

DISK = "12345678" + "ab" * 12
TWIN = "12345678" + "cd" * 12
WAIVE = ("--waive", "a test")


@pytest.fixture
def store(tmp_path: Path, device: Shell) -> Store:
    """A shipment with one whole disk and two unfinished ones whose ids begin alike."""
    made = begun(device, tmp_path / "store")
    data = sample_bytes()
    put_blocks(made, data, point(data))
    for disk in (DISK, TWIN):
        data = noise(30 * BLOCK)
        with pytest.raises(PowerCutError):
            put_blocks(made, data, point(data, disk), cut_at=9)
    made.mend()
    return made


def test_a_disk_without_a_job_travels_when_it_is_accepted_by_its_id(
    device: Shell, store: Store
) -> None:
    seal = ("seal", "-s", store.path, *WAIVE)
    assert "not ingested to its end" in device.typed(*seal).refused(OpenErrorError).err
    both = device.typed(*seal, "--accept", DISK[:8]).refused(UnknownNameError)
    assert "2 unfinished disks" in both.err
    device.typed(*seal, "--accept", "11" * 16).refused(UnknownNameError)  # it is whole
    for wrong in ("123456x8", "abcdef1", "", "../x"):
        device.typed(*seal, "--accept", wrong).refused(BadInputError)
    assert TWIN in device.typed(*seal, "--accept", DISK[:9]).refused(OpenErrorError).err
    device.typed(*seal, "--accept", DISK[:9].upper(), "--accept", TWIN).fine()
    verified = device.typed("verify", "-s", store.path).fine(3)
    assert f"Disk {DISK} travels incomplete" in verified.out
    discard = ("jobs", "discard", DISK, "-s", store.path, "--yes")
    device.typed(*discard).refused(AlreadySealedError)


def test_a_disk_without_a_job_is_dropped_by_its_id(device: Shell, store: Store) -> None:
    discard = ("jobs", "discard", DISK[:10], "--yes")
    assert "Give --store" in device.typed(*discard).refused(BadInputError).err
    before = len(list(store.packs.iterdir()))
    device.typed("jobs", "discard", DISK[:8], "--yes", "-s", store.path).refused(UnknownNameError)
    assert len(list(store.packs.iterdir())) == before
    said = device.typed(*discard, "-s", store.path).fine().out
    assert f"Disk {DISK} is dropped" in said
    assert {one.head.disk for one in store.infos()} == {"11" * 16, TWIN}
    device.typed(*discard, "-s", store.path).refused(UnknownNameError)


def test_a_disk_whose_job_is_known_is_accepted_and_dropped_by_its_id_too(
    device: Shell, store: Store
) -> None:
    with device.state() as opened:
        one = opened.add_job("ingest", store.head.shipment, "a", "{}", now(), DISK)
        other = opened.add_job("ingest", store.head.shipment, "b", "{}", now(), TWIN)
        opened.end_job(one, JobState.STOPPED, now())
    discard = ("jobs", "discard", TWIN, "-s", store.path, "--yes")
    device.typed(*discard).refused(JobRunningError)
    with device.state() as opened:
        opened.end_job(other, JobState.STOPPED, now())
    device.typed(*discard).fine()
    assert device.job(JobId(other)).resolved
    device.typed("seal", "-s", store.path, *WAIVE).refused(OpenErrorError)
    device.typed("seal", "-s", store.path, *WAIVE, "--accept", DISK).fine()


def test_a_job_whose_shipment_is_unknown_is_not_said_to_be_dropped(
    device: Shell, store: Store
) -> None:
    with device.state() as opened:
        job = opened.add_job("ingest", "77" * 16, "a", "{}", now(), DISK)  # type: ignore[arg-type]
        opened.end_job(job, JobState.STOPPED, now())
    refused = device.typed("jobs", "discard", job, "--yes").refused(UnknownNameError)
    assert f"jobs discard {DISK} --store" in refused.err
    assert not device.job(job).resolved
    assert {one.head.disk for one in store.infos()} == {"11" * 16, DISK, TWIN}
