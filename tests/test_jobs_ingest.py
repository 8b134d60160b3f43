"""Ingest jobs that are killed, stopped, resumed, and given another disk than before."""

import contextlib
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import jobs
from appliance.errors import (
    BadInputError,
    JobDiedError,
    JobRunningError,
    OpenErrorError,
    SourceChangedError,
    SourceGoneError,
    StoppedError,
)
from appliance.events import silent
from appliance.ingest.image import ImageDisk
from appliance.model import JobId
from appliance.seal.canon import now
from appliance.seal.recover import recover
from appliance.seal.store import Store, by_point
from appliance.state import JobState
from tests.support import BLOCK, OPERATOR
from tests.technician import Shell, begun, ingest_spec, noise, until

SLOW = ("1MB/s",)  # 16 blocks a second: a job that is caught in the middle


@pytest.fixture
def store(tmp_path: Path, device: Shell) -> Store:
    return begun(device, tmp_path / "store")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "web01.img"
    path.write_bytes(noise(60 * BLOCK) + b"end")
    return path


def content(store: Store, place: Path) -> bytes:
    """The only disk of the store, as its packs tell."""
    place.mkdir()
    (found,), lost = recover(sorted(store.packs.iterdir()), OPERATOR, place)
    assert not lost
    assert not found.problems
    assert found.ended
    return found.path.read_bytes()


def caught(device: Shell, store: Store, image: Path) -> JobId:
    """A slow job that has made a few checkpoints."""
    job = device.start("ingest", store.path, ingest_spec(store.path, image, limits=SLOW))
    device.wait_for(job, "checkpoint", 3)
    return job


def hurry(device: Shell, job: JobId) -> None:
    """Take the limit away, so that the rest does not take long."""
    with device.state() as opened:
        spec = jobs.load_spec(opened.job(job))
        assert isinstance(spec, jobs.IngestSpec)
        opened.change_job(job, jobs.dump_spec(replace(spec, limits=())))


def test_a_killed_ingest_goes_on_from_its_last_checkpoint(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    device.kill(job)
    row = device.job(job)
    assert row.state is JobState.DIED
    assert "killed by a signal from outside" in row.what
    assert row.safe == JobDiedError.safe
    assert "died" in device.typed("jobs", "list").fine().out
    device.typed("jobs", "follow", job).refused(JobDiedError)
    safe = device.events(job, "checkpoint")[-1]["cursor"]

    hurry(device, job)
    resumed = device.typed("jobs", "resume", job).fine()
    assert "goes on at block" in resumed.err
    (spliced,) = device.events(job, "spliced")
    assert (spliced["session"], spliced["block"]) == (1, safe)
    assert device.job(job).state is JobState.FINISHED
    assert content(store, tmp_path / "out") == image.read_bytes()


def test_a_stopped_ingest_says_so_and_goes_on(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    assert "asked to stop" in device.typed("jobs", "stop", job).fine().out
    assert device.ended(job).state is JobState.STOPPED
    device.typed("jobs", "follow", job).refused(StoppedError)
    assert "does not run: it is stopped" in device.typed("jobs", "stop", job).fine().out

    hurry(device, job)
    said = device.typed("jobs", "resume", job, "--json").fine()
    assert said.results("ingest")
    assert content(store, tmp_path / "out") == image.read_bytes()
    finished = device.typed("jobs", "resume", job).refused(BadInputError)
    assert "Its result stands" in finished.err


def test_another_disk_than_the_one_begun_with_is_refused(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    device.kill(job)
    other = tmp_path / "other.img"
    other.write_bytes(noise(70 * BLOCK))
    refused = device.typed("jobs", "resume", job, "--source", other).refused(SourceChangedError)
    assert f"of {image.stat().st_size} bytes" in refused.err
    assert f"of {70 * BLOCK} bytes" in refused.err
    assert device.job(job).state is JobState.FAILED


def test_a_disk_that_was_written_to_meanwhile_is_read_anew(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    device.kill(job)
    with image.open("r+b") as file:
        file.write(noise(2 * BLOCK))
    hurry(device, job)
    resumed = device.typed("jobs", "resume", job).fine()
    assert "the whole disk is read anew" in resumed.err
    assert device.events(job, "spliced")[0]["block"] == 0
    assert content(store, tmp_path / "out") == image.read_bytes()


def test_a_disk_that_moved_is_named_anew(
    tmp_path: Path,
    device: Shell,
    store: Store,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = caught(device, store, image)
    device.kill(job)
    hurry(device, job)
    (tmp_path / "elsewhere").mkdir()
    moved = image.rename(tmp_path / "elsewhere" / image.name)
    assert device.typed("jobs", "resume", job).code
    monkeypatch.chdir(tmp_path)
    device.typed("jobs", "resume", job, "--source", f"elsewhere/{image.name}").fine()
    assert content(store, tmp_path / "out") == moved.read_bytes()


def test_a_disk_that_shrinks_while_it_is_read_ends_the_job(
    device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    with image.open("r+b") as file:
        file.truncate(20 * BLOCK)
    row = device.ended(job)
    assert (row.state, row.code) == (JobState.FAILED, SourceGoneError.code)
    assert device.events(job, "failed")[0]["error"] == SourceGoneError.name


def test_an_interrupted_console_leaves_its_job_running(
    device: Shell, store: Store, image: Path
) -> None:
    command = ("ingest", image, "-s", store.path, "-m", "web01", "--limit", "100kB/s")
    with device.popen(*command) as console:
        assert console.stdout is not None
        assert console.stderr is not None
        assert console.stdout.readline().startswith("Job 1: ")
        assert console.stderr.readline().startswith("open: ")  # so it follows
        console.send_signal(signal.SIGINT)
        _, said = console.communicate()
    assert console.returncode == 130
    assert "motiongear jobs stop 1" in said
    with device.state() as opened:
        assert opened.process_of(JobId(1))
    device.typed("jobs", "resume", 1).refused(JobRunningError)
    device.typed("jobs", "discard", 1, "--yes").refused(JobRunningError)
    device.typed("seal", "-s", store.path, "--waive", "a test").refused(JobRunningError)


def test_a_stopped_job_must_be_dealt_with_before_sealing(
    device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    device.typed("jobs", "stop", job)
    device.ended(job)
    refused = device.typed("seal", "-s", store.path, "--waive", "a test").refused(OpenErrorError)
    assert f"Job {job} (ingest) stopped" in refused.err
    assert "motiongear jobs discard JOB" in refused.err


def test_an_accepted_disk_travels_incomplete_and_is_said_to(
    device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    device.typed("jobs", "stop", job)
    device.ended(job)
    sealed = device.typed("seal", "-s", store.path, "--waive", "a test", "--accept", job)
    assert "Sealed." in sealed.fine().out
    verified = device.typed("verify", "-s", store.path).fine(3)
    assert f"Disk {'22' * 16} travels incomplete" in verified.out
    assert "waiver         a test" in verified.out
    over = device.typed("jobs", "resume", job).refused(BadInputError)
    assert "its shipment was sealed" in over.err


def test_a_dropped_job_leaves_nothing_behind(device: Shell, store: Store, image: Path) -> None:
    dropped = caught(device, store, image)
    device.typed("jobs", "stop", dropped)
    device.ended(dropped)
    assert list(store.packs.iterdir())
    assert "Removed" in device.typed("jobs", "discard", dropped, "--yes").fine().out
    assert not list(store.packs.iterdir())
    assert "was dropped" in device.typed("jobs", "resume", dropped).refused(BadInputError).err
    device.typed("ingest", image, "-s", store.path, "-m", "web01").fine()
    device.typed("seal", "-s", store.path, "--waive", "a test").fine()


def test_dropping_can_be_thought_over(device: Shell, store: Store, image: Path) -> None:
    job = caught(device, store, image)
    device.kill(job)
    before = sorted(store.packs.iterdir())
    with device.popen("jobs", "discard", job) as console:
        console.communicate()
    assert console.returncode == 130
    assert sorted(store.packs.iterdir()) == before


def test_nothing_beside_the_packs_is_ever_run(device: Shell, store: Store, image: Path) -> None:
    """A courier may put anything into a store, and a technician may stand in it."""
    decoy = store.path / "appliance"
    decoy.mkdir()
    for name in ("__init__.py", "__main__.py"):
        (decoy / name).write_text("open('run', 'w')\n")
    with contextlib.chdir(store.path):
        job = device.start("ingest", store.path, ingest_spec(store.path, image))
        until(lambda: device.job(job).state is JobState.FINISHED)
    assert not list(store.path.rglob("run"))
    assert not (device.home / "run").exists()


def test_a_change_that_was_seen_is_never_spliced(
    device: Shell, store: Store, image: Path, tmp_path: Path
) -> None:
    """The samples may all miss it: what was read before is trusted no more."""
    job = caught(device, store, image)
    with image.open("r+b") as file:
        file.seek(image.stat().st_size - 2)
        file.write(b"E")
    hurried = device.job(job)
    assert hurried.state is JobState.RUNNING
    device.kill(job)
    hurry(device, job)
    with device.state() as opened:
        desk = jobs.Desk(job, device.home, opened, silent, lambda: False, None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ImageDisk, "confirm", changed)
            with pytest.raises(SourceChangedError):
                jobs.run(opened.job(job), desk)
        jobs.run(opened.job(job), desk)
    (found,) = by_point(store.infos())
    assert found.last.head.session == 2
    assert next(one.head.start for one in found.packs if one.head.session == 2) == 0
    assert content(store, tmp_path / "out") == image.read_bytes()


def changed(disk: ImageDisk) -> None:
    raise SourceChangedError(f"{disk.facts.source} was written to")


def test_a_disk_that_moved_before_its_first_pack_can_be_opened_when_sealed(
    device: Shell, store: Store, image: Path
) -> None:
    """The facts that the seal tells are those that the packs tell."""
    spec = ingest_spec(store.path, image)
    with device.state() as opened:
        text = jobs.dump_spec(spec)
        job = opened.add_job("ingest", store.head.shipment, "t", text, now(), spec.disk)
        desk = jobs.Desk(job, device.home, opened, silent, lambda: True, None)
        with pytest.raises(StoppedError):
            jobs.run(opened.job(job), desk)
        assert not store.infos()
        elsewhere = image.parent / "elsewhere"
        elsewhere.mkdir()
        moved = image.rename(elsewhere / image.name)
        opened.change_job(job, jobs.dump_spec(replace(spec, source=str(moved))))
        jobs.run(opened.job(job), replace(desk, stop=lambda: False))
        (told,) = opened.sources(store.head.shipment)
        assert str(moved) in told.facts
