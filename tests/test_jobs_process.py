"""A job is a process of its own: what it keeps to itself, and how it ends."""

import base64
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import jobs, process
from appliance.errors import (
    JobRunningError,
    MotionGearError,
    StoreFullError,
    ToolFailedError,
    all_errors,
)
from appliance.events import failed
from appliance.model import JobId
from appliance.seal.canon import now
from appliance.state import JobState
from tests.support import BLOCK, OPERATOR
from tests.technician import (
    PASSPHRASE,
    Keys,
    Shell,
    begun,
    ingest_spec,
    noise,
    sealed_disks,
    until,
)


def slow_job(device: Shell, place: Path) -> JobId:
    """A job that lives until somebody ends it."""
    store = begun(device, place / "store")
    image = place / "disk.img"
    image.write_bytes(noise(600 * BLOCK))
    spec = ingest_spec(store.path, image, limits=("500kB/s",))
    job = device.start("ingest", store.path, spec)
    until(lambda: bool(device.events(job, "step")))
    return job


def test_the_private_key_is_nowhere_but_in_memory(
    tmp_path: Path, operator: Shell, keyring: Keys
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(40 * BLOCK))
    seed = OPERATOR.seed()
    secrets = [seed, seed.hex().encode(), base64.b64encode(seed), PASSPHRASE.encode()]
    readable = ["cmdline"] if os.geteuid() else ["cmdline", "environ"]  # closed to its own user
    command = ("restore", "-s", sent.path, "--to", tmp_path / "to", "--key", keyring.operator)
    with operator.popen(*command, "--limit", "1MB/s", passphrase=PASSPHRASE) as console:
        until(lambda: bool(operator.events(JobId(1), "step")))
        for pid in (console.pid, operator.pid(JobId(1))):
            for name in readable:
                seen = Path(f"/proc/{pid}/{name}").read_bytes()
                assert seen
                assert not [one for one in secrets if one in seen]
        out, said = console.communicate()
    assert console.returncode == 0, said
    files = [one for one in operator.home.rglob("*") if one.is_file()]
    assert {"state.db", "1.log"} <= {one.name for one in files}
    files += [one for one in (tmp_path / "to").iterdir() if one.suffix == ".json"]
    texts = [out.encode(), said.encode(), *(one.read_bytes() for one in files)]
    assert not [one for one in secrets if any(one in text for text in texts)]


def test_a_job_leaves_no_core_dump(
    tmp_path: Path, device: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds secrets; another process, killed in the same way, does leave one."""
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        crash(other.pid)
    if not list(tmp_path.glob("*core*")):
        pytest.skip("this machine keeps core dumps elsewhere")
    for one in tmp_path.glob("*core*"):
        one.unlink()
    job = slow_job(device, tmp_path)
    crash(device.pid(job))
    assert device.ended(job).state is JobState.DIED
    assert not list(tmp_path.glob("*core*"))


def crash(pid: int) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_CORE, unlimited)
    os.kill(pid, signal.SIGSEGV)


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may lock as much memory as it likes.")
def test_a_job_is_not_swapped_out(tmp_path: Path, device: Shell) -> None:
    job = slow_job(device, tmp_path)
    assert locked_memory(device.pid(job)) > 0


def locked_memory(pid: int) -> int:
    """In KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith("VmLck:"))


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may lock as much memory as it likes.")
@pytest.mark.parametrize("verb", ["keys new", "manifest"])
def test_a_console_that_is_told_a_passphrase_is_not_swapped_out(
    tmp_path: Path, operator: Shell, keyring: Keys, verb: str
) -> None:
    command = ["keys", "new", "alice", "-o", f"{tmp_path / 'alice'}"]
    if verb == "manifest":
        sent = sealed_disks(tmp_path, web01=noise(BLOCK))
        command = ["manifest", "-s", f"{sent.path}", "--key", f"{keyring.operator}"]
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "appliance", *command, "--passphrase-fd", f"{ours}"],
        env=operator.environment,
        pass_fds=(ours,),
    ) as console:
        os.close(ours)
        until(lambda: locked_memory(console.pid) > 0)
        os.write(theirs, f"{PASSPHRASE}\n".encode())
        os.close(theirs)
    assert console.returncode == 0


def test_a_job_is_a_session_of_its_own_and_deaf_to_ctrl_c(tmp_path: Path, device: Shell) -> None:
    job = slow_job(device, tmp_path)
    pid = device.pid(job)
    assert os.getsid(pid) == pid != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    cursor = len(device.events(job, "checkpoint"))
    device.wait_for(job, "checkpoint", cursor + 1)
    assert device.job(job).state is JobState.RUNNING


def test_a_job_runs_once_at_a_time(tmp_path: Path, device: Shell) -> None:
    job = slow_job(device, tmp_path)
    with device.state() as opened, pytest.raises(JobRunningError):
        process.start(opened, job)
    device.run("job", job).refused(JobRunningError)
    assert device.job(job).state is JobState.RUNNING


def test_a_job_whose_process_cannot_be_started_has_failed_and_says_so(
    tmp_path: Path, device: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(device, tmp_path / "store")
    image = tmp_path / "disk.img"
    image.write_bytes(noise(BLOCK))
    spec = jobs.dump_spec(ingest_spec(store.path, image))
    with device.state() as opened:
        job = opened.add_job("ingest", store.head.shipment, "a job", spec, now())
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(tmp_path / "gone"))
            with pytest.raises(ToolFailedError, match="No such file"):
                process.start(opened, job)
        row = opened.job(job)
        assert (row.state, row.error) == (JobState.FAILED, "tool-failed")
        assert f"job {job} cannot be started (No such file or directory)" in row.what
    device.typed("jobs", "follow", job).refused(ToolFailedError)
    device.typed("jobs", "resume", job).fine()


def test_what_nobody_expected_ends_the_job_with_a_trace_in_its_log(
    tmp_path: Path, device: Shell
) -> None:
    store = begun(device, tmp_path / "store")
    with device.state() as opened:
        spec = json.dumps({"surprise": True})
        job = opened.add_job("surprise", store.head.shipment, "a job", spec, now())
        process.start(opened, job)
        row = device.ended(job)
        log = opened.job_file(job, "log")
    assert (row.state, row.code, row.error) == (JobState.FAILED, 1, "error")
    assert "KeyError" in row.what
    assert str(log) in row.what
    assert "Traceback" in log.read_text()
    said = device.typed("jobs", "follow", job, "--json").refused(MotionGearError)
    assert said.lines[-1]["event"] == "failed"


def test_an_error_comes_back_as_it_was_raised(tmp_path: Path, device: Shell) -> None:
    store = begun(device, tmp_path / "store")
    with device.state() as opened:
        job = opened.add_job("ingest", store.head.shipment, "a job", "{}", now())
        assert process.error_of(opened.job(job)) is None
        for cls in all_errors():
            raised = cls("it happened", safe="nearly all", todo="something")
            opened.end_job(job, JobState.FAILED, now(), failed(raised))
            found = process.error_of(opened.job(job))
            assert type(found) is cls
            assert found is not None
            assert (found.what, found.safe_now, found.todo_now) == (
                "it happened",
                "nearly all",
                "something",
            )
            assert opened.job(job).code == cls.code
    assert StoreFullError in all_errors()


def test_a_job_that_is_long_gone_cannot_be_stopped(tmp_path: Path, device: Shell) -> None:
    store = begun(device, tmp_path / "store")
    with device.state() as opened:
        job = opened.add_job("ingest", store.head.shipment, "a job", "{}", now())
        assert not process.stop(opened, job)
        assert process.results(opened, job) == {}
