"""Several consoles over the same jobs, in real processes: they agree, whoever stops, pauses,
resumes or is killed; and a job goes on without any of them.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import jobs, process
from appliance.errors import (
    BadInputError,
    JobDiedError,
    JobRunningError,
    StateError,
    StoppedError,
)
from appliance.model import JobId
from appliance.seal.canon import now
from appliance.seal.recover import recover
from appliance.seal.store import Store
from appliance.state import FILE, JobState
from tests.support import BLOCK, OPERATOR
from tests.technician import Shell, begun, ingest_spec, noise, until

FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, the same on every Linux
SLOW = ("1MB/s",)  # 16 blocks a second: a job that is caught in the middle


@pytest.fixture
def store(tmp_path: Path, device: Shell) -> Store:
    return begun(device, tmp_path / "store")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "web01.img"
    path.write_bytes(noise(60 * BLOCK) + b"end")
    return path


def caught(device: Shell, store: Store, image: Path, disk: str = "22" * 16) -> JobId:
    """A slow job that has made a few checkpoints."""
    spec = replace(ingest_spec(store.path, image, limits=SLOW), disk=disk)
    job = device.start("ingest", store.path, spec)
    device.wait_for(job, "checkpoint", 2)
    return job


def hurry(device: Shell, job: JobId) -> None:
    """Take the limit away for the next start."""
    with device.state() as opened:
        spec = jobs.load_spec(opened.job(job))
        assert isinstance(spec, jobs.IngestSpec)
        opened.change_job(job, jobs.dump_spec(replace(spec, limits=())))


def content(store: Store, place: Path) -> bytes:
    place.mkdir()
    (found,), lost = recover(sorted(store.packs.iterdir()), OPERATOR, place)
    assert not lost
    assert found.ended
    return found.path.read_bytes()


# --- pause --------------------


def test_a_paused_job_has_made_all_safe_and_waits_with_what_it_holds(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    pid = device.pid(job)
    said = device.run("jobs", "pause", job).fine()
    assert f"Job {job} is paused." in said.out
    assert f"Type:  motiongear jobs resume {job}" in said.err
    row = device.job(job)
    assert (row.state, device.pid(job)) == (JobState.PAUSED, pid)
    with device.state() as opened:
        told = [one.kind for one in opened.events(job)]
        done = opened.progress(job)
        assert told[-2:] == ["checkpoint", "step"]
        assert done is not None
        safe = device.events(job, "checkpoint")[-1]["cursor"]
        assert safe * BLOCK == done.done  # nothing that was taken is not safe
    assert "paused" in device.typed("jobs").fine().out
    again = device.typed("jobs", "pause", job).fine()
    assert "is paused" in again.out
    device.typed("jobs", "discard", job, "--yes").refused(JobRunningError)  # it holds its lock
    with device.state() as opened:
        assert opened.progress(job) == done
    resumed = device.run("jobs", "resume", job).fine()
    assert "goes on" in resumed.err
    assert "Ingested: " in resumed.out
    assert not device.events(job, "spliced")  # it was one session
    assert content(store, tmp_path / "out") == image.read_bytes()


def test_a_paused_job_can_be_stopped_and_started_anew(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    device.run("jobs", "pause", job).fine()
    device.run("jobs", "stop", job).fine()
    assert device.ended(job).state is JobState.STOPPED
    assert "does not run" in device.typed("jobs", "stop", job).out
    assert "is stopped" in device.typed("jobs", "pause", job).fine().out
    hurry(device, job)
    device.typed("jobs", "resume", job).fine()
    assert content(store, tmp_path / "out") == image.read_bytes()


def test_a_paused_job_that_is_killed_is_dead(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    device.run("jobs", "pause", job).fine()
    safe = device.events(job, "checkpoint")[-1]["cursor"]
    device.kill(job)
    assert "died" in device.typed("jobs", "list").fine().out
    hurry(device, job)
    device.typed("jobs", "resume", job).fine()
    assert device.events(job, "spliced")[0]["block"] == safe
    assert content(store, tmp_path / "out") == image.read_bytes()


def test_pausing_and_going_on_at_once_never_leaves_a_job_that_hangs(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    with device.state() as one, device.state() as other:
        for _ in range(200):
            process.pause(one, job)
            process.go_on(other, job)
    if device.job(job).state is JobState.PAUSED:
        device.run("jobs", "resume", job)
    assert device.ended(job).state is JobState.FINISHED
    assert content(store, tmp_path / "out") == image.read_bytes()


def test_a_gate_does_not_rest(tmp_path: Path, operator: Shell) -> None:
    spec = jobs.GateSpec("local", str(tmp_path / "to"), "127.0.0.1:0", 1)
    with operator.state() as opened:
        job = opened.add_job("gate", jobs.NOBODYS, "gate", jobs.dump_spec(spec), now())
        process.start(opened, job)
    until(lambda: operator.job(job).state is JobState.RUNNING)
    operator.typed("jobs", "pause", job).refused(BadInputError)
    assert operator.job(job).state is JobState.RUNNING


# --- two consoles at once --------------------


def test_all_who_follow_are_told_of_a_stop_alike(device: Shell, store: Store, image: Path) -> None:
    image.write_bytes(noise(600 * BLOCK))  # three consoles take their time to start
    job = caught(device, store, image)
    with (
        device.popen("jobs", "follow", job) as one,
        device.popen("jobs", "follow", job, "--json") as other,
        device.popen("jobs", "--follow") as all_of_them,
    ):
        until(lambda: all(follows(each.pid) for each in (one, other, all_of_them)))
        device.run("jobs", "stop", job).fine()
        said = [*one.communicate(), *other.communicate(), *all_of_them.communicate()]
    codes = (one.returncode, other.returncode, all_of_them.returncode)
    assert codes == (StoppedError.code, StoppedError.code, 0)
    assert f"Type:  motiongear jobs resume {job}" in said[1]
    last = json.loads(said[2].splitlines()[-1])
    assert (last["event"], last["error"]) == ("failed", "stopped")
    assert last["verb"] == f"motiongear jobs resume {job}"
    assert f"Type: motiongear jobs resume {job}" in " ".join(said[5].split())
    assert device.job(job).state is JobState.STOPPED


@pytest.mark.parametrize("how", ["at the command line", "in one process"])
def test_of_two_who_resume_a_dead_job_exactly_one_does(
    device: Shell, store: Store, image: Path, how: str
) -> None:
    job = caught(device, store, image)
    device.kill(job)
    if how == "in one process":
        with device.state() as one, device.state() as other:
            process.start(one, job)
            with pytest.raises(JobRunningError, match=f"Job {job} runs already: "):
                process.start(other, job)
    else:
        crowd = [device.popen("jobs", "resume", job) for _ in range(3)]
        said = [one.communicate() for one in crowd]
        codes = sorted(one.returncode for one in crowd)
        assert codes == [0, JobRunningError.code, JobRunningError.code]
        refused = [err for one, (_, err) in zip(crowd, said, strict=True) if one.returncode]
        assert all(f"Job {job} runs already: " in one for one in refused)
    assert device.ended(job).state is JobState.FINISHED
    assert len(device.events(job, "spliced")) == 1  # it was started once


def test_a_job_outlives_a_console_that_is_killed(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    limits = ("--limit", "3MB/s", "--checkpoint-bytes", "256KiB")
    with device.popen("ingest", image, "-s", store.path, "-m", "web01", *limits) as console:
        until(lambda: bool(device.events(JobId(1), "checkpoint")))
        console.kill()
        console.communicate()
    with device.popen("jobs", "follow", 1) as second:
        second.kill()
        second.communicate()
    assert device.ended(JobId(1)).state is JobState.FINISHED
    assert content(store, tmp_path / "out") == image.read_bytes()


def test_who_follows_all_sees_new_ones_too_until_none_is_left(
    device: Shell, store: Store, image: Path
) -> None:
    first = caught(device, store, image)
    with device.popen("jobs", "--follow", "--json") as console:
        second = caught(device, store, image, "33" * 16)
        out, err = console.communicate()
    assert console.returncode == 0, err
    told = [json.loads(one) for one in out.splitlines()]
    for job in (first, second):
        mine = [one for one in told if one["job"] == f"job {job} (ingest)"]
        assert {"progress", "checkpoint", "result", "end"} <= {one["event"] for one in mine}
        assert (mine[-1]["state"], mine[-1]["safe"]) == (
            "finished",
            "All of the disk is in the store, and was read back.",
        )
    assert not device.run("jobs", "--follow").fine().out


def test_who_follows_all_may_leave(device: Shell, store: Store, image: Path) -> None:
    image.write_bytes(noise(600 * BLOCK))  # a console takes its time to start
    job = caught(device, store, image)
    with device.popen("jobs", "--follow") as console:
        until(lambda: follows(console.pid) and rests(console.pid))
        console.send_signal(signal.SIGINT)
        _, said = console.communicate()
    assert console.returncode == 130
    assert "go on without this console" in said
    assert device.job(job).state is JobState.RUNNING


def follows(pid: int) -> bool:
    """Whether the process has opened the state database."""
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if one.readlink().name == FILE:
                return True
    return False


def rests(pid: int) -> bool:
    """Whether the process sleeps between two looks."""
    return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()


def test_options_of_all_jobs_are_not_those_of_one(device: Shell) -> None:
    device.typed("jobs", "--follow", "list").refused(BadInputError)
    assert "JOB" in device.typed("jobs").fine().out


# --- dead jobs --------------------


def test_a_process_that_dies_before_its_first_row_leaves_a_dead_job(
    tmp_path: Path, device: Shell, store: Store, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    spec = jobs.dump_spec(ingest_spec(store.path, image))
    with device.state() as opened:
        job = opened.add_job("ingest", store.head.shipment, "a job", spec, now())
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(killed))
            process.start(opened, job)
        row = device.ended(job)
    assert row.state is JobState.DIED
    assert row.what == f"The process of job {job} never came up"
    assert row.safe.startswith("Nothing was changed")
    refused = device.typed("jobs", "follow", job).refused(JobDiedError)
    assert f"Type:  motiongear jobs resume {job}" in refused.err
    device.typed("jobs", "resume", job).fine()


def test_a_job_whose_number_somebody_else_has_by_now_is_not_signalled(
    device: Shell, store: Store, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = caught(device, store, image)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        with device.state() as opened:
            real, told = opened.process_of, iter([bystander.pid, 0])
            monkeypatch.setattr(opened, "process_of", lambda one: next(told, None) or real(one))
            assert process.stop(opened, job)  # the number was asked for again
        assert bystander.poll() is None
        bystander.communicate(b"\n")
    assert bystander.returncode == 0
    assert device.ended(job).state is JobState.STOPPED


GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def short_of_memory(pid: int) -> Iterator[None]:
    """The process may have 1 MiB, by version 1 or 2 of control groups, whichever is there."""
    first = (GROUPS / "memory").exists()
    if not first:
        (GROUPS / "cgroup.subtree_control").write_text("+memory")
    group = (GROUPS / "memory" if first else GROUPS) / "motiongear-test"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(1 << 20))
        yield
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.skipif(
    not os.access(GROUPS, os.W_OK), reason="Only root may limit the memory of a process."
)
def test_a_job_that_was_killed_for_want_of_memory_says_so(
    device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    with short_of_memory(device.pid(job)):
        row = device.ended(job)
    assert row.state is JobState.DIED
    first = Path("/proc/self/ns/pid").stat().st_ino == FIRST_PID_NAMESPACE
    if first:
        assert row.what == f"Job {job} was killed by the system: memory ran out"
        assert "memory" in row.todo
    else:  # the kernel names processes by numbers that mean others in here
        assert row.what == f"Job {job} was killed by a signal from outside"
    hurry(device, job)
    device.typed("jobs", "resume", job).fine()


# --- the state database is lost while a job runs --------------------


def test_a_job_goes_on_where_the_database_is_deleted(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    with device.popen("jobs", "follow", job) as console:
        until(lambda: follows(console.pid))
        for one in device.home.glob(f"{FILE}*"):
            one.unlink()
        until(lambda: job in [one["job"] for one in listed(device)])
        out, err = console.communicate()
    assert console.returncode == 0, err
    assert "Ingested: " in out
    assert device.job(job).state is JobState.FINISHED
    assert content(store, tmp_path / "out") == image.read_bytes()


def listed(shell: Shell) -> list[dict[str, object]]:
    return [json.loads(one) for one in shell.typed("jobs", "--json").fine().out.splitlines()]


def test_a_job_goes_on_where_the_database_is_damaged(
    tmp_path: Path, device: Shell, store: Store, image: Path
) -> None:
    job = caught(device, store, image)
    path = device.home / FILE
    path.write_bytes(os.urandom(path.stat().st_size))
    refused = device.run("jobs").refused(StateError)
    assert f"database {path}" in refused.err
    assert "move state.db away" in refused.err
    path.rename(tmp_path / "damaged.db")
    until(lambda: [one["job"] for one in listed(device)] == [job])
    assert device.ended(job).state is JobState.FINISHED
    assert content(store, tmp_path / "out") == image.read_bytes()
