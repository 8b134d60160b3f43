"""A job that was resumed ends on the console like one that was just started."""

from pathlib import Path

import pytest

from appliance import jobs
from appliance.model import JobId
from appliance.seal import statement, text
from appliance.seal.canon import now
from appliance.seal.store import Store
from appliance.state import JobState
from tests.support import BLOCK, sample_bytes
from tests.technician import (
    PASSPHRASE,
    Keys,
    Sent,
    Shell,
    begun,
    ingest_spec,
    noise,
    sealed_disks,
)


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return sealed_disks(tmp_path, web01=noise(6 * BLOCK))


def stopped(shell: Shell, store: Path, kind: str, spec: jobs.Spec) -> JobId:
    """A job that was stopped before it had done anything."""
    with shell.state() as opened:
        disk = spec.disk if isinstance(spec, jobs.IngestSpec) else ""
        shipment = Store(store).head.shipment
        job = opened.add_job(kind, shipment, kind, jobs.dump_spec(spec), now(), disk)
        opened.end_job(job, JobState.STOPPED, now())
    return job


def test_a_resumed_verification_of_an_unknown_signer_ends_with_code_3(
    operator: Shell, sent: Sent
) -> None:
    spec = jobs.VerifySpec(str(sent.path), "", "", (), keyed=False)
    for json in ((), ("--json",)):
        job = stopped(operator, sent.path, "verify", spec)
        said = operator.typed("jobs", "resume", job, *json).fine(3)
        assert ("signer not confirmed" in said.out) != bool(json)
    root = text.grouped(sent.seal.root())
    pinned = jobs.VerifySpec(str(sent.path), sent.seal.device_fingerprint, root, (), keyed=False)
    job = stopped(operator, sent.path, "verify", pinned)
    said = operator.typed("jobs", "resume", job).fine()
    assert "AUTHENTIC" in said.out
    assert root in said.out


def test_who_follows_a_verification_is_told_what_its_verb_tells(
    operator: Shell, sent: Sent
) -> None:
    by_verb = operator.typed("verify", "-s", sent.path).fine(3).out
    for json in ((), ("--json",)):
        said = operator.typed("jobs", "follow", 1, *json).fine(3)
        assert ("signer not confirmed" in said.out) != bool(json)
    followed = operator.typed("jobs", "follow", 1).fine(3).out
    assert followed == f"Job 1 is finished.\n{by_verb}"
    pins = ("--device", sent.seal.device_fingerprint, "--seal", text.grouped(sent.seal.root()))
    operator.typed("verify", "-s", sent.path, *pins).fine()
    assert "AUTHENTIC" in operator.typed("jobs", "follow", 2).fine().out


def test_who_follows_a_job_of_the_device_is_told_what_is_still_known(
    tmp_path: Path, device: Shell
) -> None:
    store, image = begun(device, tmp_path / "store"), tmp_path / "disk.img"
    image.write_bytes(sample_bytes())
    device.typed("ingest", image, "-s", store.path, "--machine", "web01").fine()
    assert "Ingested: " in device.typed("jobs", "follow", 1).fine().out
    label = device.typed("seal", "-s", store.path, "--waive", "a test").fine().out
    assert label in device.typed("jobs", "follow", 2).fine().out
    assert device.typed("jobs", "follow", 1).fine().out == "Job 1 is finished.\n"
    store.path.rename(tmp_path / "shipped")
    said = device.typed("jobs", "follow", 2).fine().out
    assert said == f"Job 2 is finished.\nThe store is no longer at {store.path}.\n"
    assert device.typed("jobs", "follow", 2, "--json").fine().lines


def test_resumed_jobs_of_the_device_show_what_came_of_them(tmp_path: Path, device: Shell) -> None:
    store, image = begun(device, tmp_path / "store"), tmp_path / "disk.img"
    image.write_bytes(sample_bytes())
    job = stopped(device, store.path, "ingest", ingest_spec(store.path, image))
    assert "Ingested: " in device.typed("jobs", "resume", job).fine().out
    shown = device.typed("shipment", "show", "-s", store.path).fine().out
    assert "seal root" not in shown

    job = stopped(device, store.path, "seal", jobs.SealSpec(str(store.path), (), "a test"))
    label = device.typed("jobs", "resume", job).fine().out
    seal = statement.read(store.path)
    shown = device.typed("shipment", "show", "-s", store.path).fine().out
    for said in (label, shown):
        assert f"device         {seal.device_fingerprint}" in said
        assert f"seal root      {text.grouped(seal.root())}" in said


def test_a_resumed_restore_shows_the_last_check_of_each_volume(
    tmp_path: Path, operator: Shell, keyring: Keys, sent: Sent
) -> None:
    goal = str(tmp_path / "volumes")
    spec = jobs.RestoreSpec(str(sent.path), "local", goal, (), "", "", (), ())
    job = stopped(operator, sent.path, "restore", spec)
    resume = ("jobs", "resume", job, "--key", keyring.operator)
    assert operator.typed(*resume, passphrase=PASSPHRASE).fine().out.count("Checked: ") == 1
    with operator.state() as opened:
        opened.end_job(job, JobState.STOPPED, now())
    assert operator.typed(*resume, passphrase=PASSPHRASE).fine().out.count("Checked: ") == 1
    job = stopped(
        operator, sent.path, "check", jobs.CheckSpec(str(sent.path), "local", goal, keyed=False)
    )
    assert "Checked: 6 blocks" in operator.typed("jobs", "resume", job).fine().out
