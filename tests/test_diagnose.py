"""The diagnosis of a device and its jobs: what it says is wrong was made wrong for real, and it
changes nothing.
"""

import os
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import block, jobs, process, run
from appliance.block import locked
from appliance.diagnose import device as of_device
from appliance.diagnose import jobs as of_jobs
from appliance.diagnose import locks, machine, needs
from appliance.diagnose.kinds import Kind
from appliance.errors import (
    JobDiedError,
    RootMismatchError,
    StateError,
    StoreFullError,
    UnknownNameError,
)
from appliance.events import Step, failed
from appliance.model import JobId, ShipmentId
from appliance.seal.canon import now
from appliance.state import BALLAST, FILE, JobState, State, look
from tests.diagnosis import found, listed, snapshot
from tests.media import Bench, unprivileged
from tests.support import BLOCK
from tests.technician import Shell, begun, ingest_spec, noise, until


@pytest.fixture
def used(device: Shell) -> Shell:
    """A device on which something was done."""
    with device.state():
        pass
    return device


# --- the state directory --------------------


def test_a_device_with_which_nothing_is_wrong(used: Shell) -> None:
    before = snapshot(used.home)
    told = found(used)
    assert told["database"]["figures"] == {"count": "5"}
    assert told["database"]["code"] == 0
    assert "home-none" not in told
    assert snapshot(used.home) == before


def test_a_device_on_which_nothing_was_done_yet(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    shell.home.rmdir()
    assert found(shell)["home-none"]["severity"] == "ok"
    assert not shell.home.exists()


def test_a_database_that_is_being_written_to_is_read_and_left_alone(used: Shell) -> None:
    """What stands in its log alone is seen, and no file beside it is touched."""
    with closing(sqlite3.connect(used.home / FILE)) as other:
        other.execute("pragma wal_autocheckpoint = 0")
        other.execute("insert into shipments(id, path, label) values('x', '/nowhere', 'l')")
        other.commit()
        before = snapshot(used.home)
        assert found(used)["database"]["severity"] == "ok"
        assert snapshot(used.home) == before


def test_a_damaged_database(used: Shell) -> None:
    path = used.home / FILE
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 3] = os.urandom(4096 * 2)
    path.write_bytes(data)
    told = found(used)["database-damaged"]
    assert (told["severity"], told["error"], told["code"]) == ("error", "state", 83)
    assert str(path) in told["what"]
    path.write_bytes(b"no database at all" * 100)
    assert "file is not a database" in found(used)["database-damaged"]["what"]
    path.unlink()


def test_a_database_of_a_later_release(used: Shell) -> None:
    with closing(sqlite3.connect(used.home / FILE)) as other, other:
        other.execute(
            "insert into _sqlite_migrations(migration_set, name, applied_at) "
            "values('motiongear', 'ninety-ninth', 'then')"
        )
    before, data = snapshot(used.home), (used.home / FILE).read_bytes()
    assert "ninety-ninth" in found(used)["database-newer"]["what"]
    assert snapshot(used.home) == before
    refused = used.typed("jobs").refused(StateError)
    assert "later release (step 'ninety-ninth'" in refused.err
    assert (used.home / FILE).read_bytes() == data
    with closing(sqlite3.connect(used.home / FILE)) as other, other:
        other.execute("delete from _sqlite_migrations where name = 'ninety-ninth'")
    used.typed("jobs").fine()


def test_of_a_job_that_nobody_can_look_up_it_is_said_why(used: Shell) -> None:
    told = used.home / FILE
    data = told.read_bytes()
    told.write_bytes(b"no database at all" * 100)
    (used.home / "jobs" / "1.log").touch()
    assert {"database-damaged", "job-log-none"} <= found(used, "--job", 1).keys()
    told.write_bytes(b"")
    (used.home / "jobs" / "1.lock").touch()
    assert found(used)["database-missing"]["severity"] == "warning"
    told.write_bytes(data)
    with closing(sqlite3.connect(told)) as other, other:
        other.execute(
            "insert into jobs(kind, shipment, title, spec, state, created) "
            "values('seal', '', '', '{}', 'exploded', '')"
        )
    refused = used.typed("jobs").refused(StateError)
    assert "exploded" in refused.err
    assert "Move it away" in refused.err
    told.write_bytes(data)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_of_a_job_in_a_closed_directory_it_is_said_that_it_is_closed(
    used: Shell,
) -> None:
    with unprivileged(), look.seen(used.home) as seen:
        told = [*of_device.state_of(used.home, seen), *of_jobs.one(used.home, seen, JobId(1))]
    assert [one.kind for one in told] == [Kind.HOME_CLOSED, Kind.JOB_LOG_NONE]


def test_a_database_that_was_lost(used: Shell) -> None:
    (used.home / FILE).unlink()
    assert "database-missing" not in found(used)
    (used.home / "jobs" / "1.lock").touch()
    assert found(used)["database-missing"]["severity"] == "warning"


def test_a_state_directory_that_others_may_look_into(used: Shell) -> None:
    used.home.chmod(0o755)
    assert found(used)["home-open"]["severity"] == "warning"


def test_a_state_directory_of_somebody_else(bench: Bench, used: Shell) -> None:
    del bench
    with unprivileged():
        told = found(used)
    assert told["home-closed"]["error"] == "state"


def test_a_full_state_directory(bench: Bench, tmp_path: Path) -> None:
    shell = Shell(bench.tmpfs(tmp_path / "small", "32m"))
    with State(shell.home):
        pass
    bench.fill(shell.home)
    told = found(shell)
    assert (told["space-none"]["severity"], told["space-none"]["error"]) == ("error", "store-full")
    assert told["database"]["severity"] == "ok"


def test_the_space_kept_for_the_database_was_given_up(used: Shell) -> None:
    (used.home / BALLAST).unlink()
    assert found(used)["ballast-gone"]["severity"] == "warning"


def test_who_holds_a_lock(used: Shell) -> None:
    with locked(used.home / "state.lock"):
        told = found(used)["lock"]["figures"]
    assert told["path"] == str(used.home / "state.lock")
    assert told["pid"] == str(os.getpid())
    assert "lock" not in found(used)


OTHER = ShipmentId("22" * 16)

# --- stores and volumes that the device knows of --------------------


def test_the_store_of_an_open_shipment_is_not_there(tmp_path: Path, device: Shell) -> None:
    store = begun(device, tmp_path / "store")
    assert "store-gone" not in found(device)
    with device.state() as opened:
        opened.note_shipment(OTHER, tmp_path / "away", "sealed")
        opened.note_sealed(OTHER, "33" * 32)
    shutil.rmtree(store.path)
    assert str(store.path) in found(device)["store-gone"]["what"]


def test_a_loop_device_that_a_dead_job_has_left(bench: Bench, device: Shell) -> None:
    place = bench.place / "volumes"
    place.mkdir()
    volume = bench.image(1 << 20, "volumes/a.img")
    node = bench.loop(volume)
    spec = jobs.GateSpec("local", str(place), "127.0.0.1:1", 8)
    with device.state() as opened:
        job = opened.add_job("gate", jobs.spec.NOBODYS, "gate", jobs.dump_spec(spec), now())
        with opened.living(job):
            opened.begin_job(job)
            assert "loop-left" not in found(device)
    told = found(device)
    assert told["loop-left"]["figures"] == {"node": str(node), "path": str(volume)}
    assert told["job-died"]["code"] == JobDiedError.code


# --- the machine --------------------


def test_nobody_is_told_what_only_root_can_do(bench: Bench, tmp_path: Path) -> None:
    del bench
    shell = Shell(tmp_path / "home")
    assert "root" in found(shell)
    with unprivileged():
        told = found(shell)["root-not"]
    assert (told["severity"], told["error"]) == ("warning", "need-root")


def test_programs_and_libraries_that_are_missing(
    used: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "needed" in found(used)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run, "_SBIN", str(tmp_path))
    told = found(used)
    assert "losetup" in told["needed-missing"]["what"]
    assert told["needed-missing"]["figures"]["package"] == "mount"
    assert told["wanted-missing"]["severity"] == "warning"
    gone = needs.Need("none", needs.Form.LIBRARY, "libnone.so.1", "nothing")
    file, module = needs.Form.FILE, needs.Form.MODULE
    assert not gone.is_met()
    assert not replace(gone, form=file).is_met()
    assert not replace(gone, form=module, name="none").is_met()


def test_every_package_that_is_installed_is_looked_for() -> None:
    script = (Path(__file__).parents[1] / "tools" / "prepare-debian").read_text()
    listed = re.search(r"^run='([^']+)'", script, re.MULTILINE)
    assert listed is not None
    assert set(listed[1].split()) | {"qemu-utils"} == {one.package for one in needs.NEEDS}


def test_memory_that_is_short(
    used: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 1000 kB\n")
    monkeypatch.setattr(block, "MEMINFO", tmp_path / "meminfo")
    assert found(used)["memory-short"]["figures"] == {"size": "1.0 MB"}


def test_what_the_kernel_tells_of_disks(
    used: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {
        "sda/device/ioerr_cnt": "0x1f",
        "sda/ro": "1",
        "sda/size": "1000",
        "sdb/size": "0",
        "sdb/ro": "?",
        "loop0/size": "0",
        "md0/md/degraded": "1",
        "sdc1/errors_count": "3",
        "sdd1/errors_count": "0",
    }
    for name, value in told.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(f"{value}\n")
    monkeypatch.setattr(machine, "_BLOCK", tmp_path / "sys")
    monkeypatch.setattr(machine, "_EXT4", tmp_path / "sys")
    monkeypatch.setattr(machine, "_LOOPS", tmp_path / "none")
    said = found(used)
    assert said["disk-errors"]["figures"] == {"disk": "sda", "count": "31"}
    assert said["disk-read-only"]["figures"] == {"disk": "sda"}
    assert said["disk-empty"]["figures"] == {"disk": "sdb"}
    assert said["raid-degraded"]["figures"] == {"disk": "md0", "count": "1"}
    assert said["file-system-errors"]["figures"] == {"disk": "sdc1", "count": "3"}
    assert said["loops-none"]["severity"] == "warning"


def test_a_disk_that_can_only_be_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel itself tells it."""
    device = bench.loop(bench.image(1 << 20), "--read-only")
    monkeypatch.setattr(machine, "_NO_DISK", ("ram",))
    listed = [one.figures for one in machine.findings() if one.kind == "disk-read-only"]
    assert {"disk": device.name} in listed


def test_a_clock_that_is_kept(used: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may not set the machine's clock; the kernel's answer is read elsewhere."""
    for kept, kind in ((True, "clock"), (False, "clock-free")):
        monkeypatch.setattr(machine, "clock_is_kept", lambda kept=kept: kept)
        assert kind in found(used)


# --- jobs --------------------


def broken_off(device: Shell, place: Path) -> JobId:
    """A job that was killed."""
    store = begun(device, place / "store")
    image = place / "disk.img"
    image.write_bytes(noise(600 * BLOCK))
    job = device.start("ingest", store.path, ingest_spec(store.path, image, limits=("500kB/s",)))
    with device.state() as opened:
        until(lambda: opened.progress(job) is not None)
    return job


def test_a_job_that_lives_and_then_is_killed(tmp_path: Path, device: Shell) -> None:
    job = broken_off(device, tmp_path)
    with device.state() as opened:
        pid = opened.process_of(job)
    lives = listed(device, "--job", job)
    assert lives["job-lives"]["figures"]["pid"] == str(pid)
    assert lives["job-lives"]["figures"]["total"] == str(600 * BLOCK)
    assert lives["job-lives"]["type"] == f"motiongear jobs follow {job}"
    device.kill(job)
    before = snapshot(device.home)
    told = found(device, "--job", job)
    assert snapshot(device.home) == before
    assert "killed by a signal" in told["job-died"]["what"]
    assert (told["job-died"]["code"], told["job-died"]["error"]) == (77, "job-died")
    assert told["job-died"]["safe"] == JobDiedError.safe
    assert told["job-died"]["type"] == f"motiongear jobs resume {job}"
    assert found(device)["job-died"]["figures"]["job"] == str(job)
    device.typed("jobs", "discard", job, "--yes").fine()
    assert found(device, "--job", job)["job-dropped"]["severity"] == "ok"
    assert "job-died" not in found(device)


def test_a_job_that_waits(tmp_path: Path, device: Shell) -> None:
    job = broken_off(device, tmp_path)
    device.typed("jobs", "pause", job).fine()
    assert found(device)["job-paused"]["severity"] == "warning"
    device.typed("jobs", "stop", job).fine()
    device.ended(job)
    assert found(device)["job-stopped"]["severity"] == "warning"


def test_a_gate_that_was_stopped(tmp_path: Path, device: Shell) -> None:
    spec = jobs.GateSpec("local", str(tmp_path), "127.0.0.1:0", 8)
    with device.state() as opened:
        job = opened.add_job("gate", jobs.spec.NOBODYS, "gate", jobs.dump_spec(spec), now())
        process.start(opened, job)
    device.wait_for(job, "step")
    device.typed("jobs", "stop", job).fine()
    device.ended(job)
    assert found(device)["gate-ended"]["severity"] == "warning"


def test_a_job_that_failed_and_its_log(tmp_path: Path, device: Shell) -> None:
    store = begun(device, tmp_path / "store")
    job = device.start("ingest", store.path, ingest_spec(store.path, tmp_path / "none.img"))
    device.ended(job)
    told = found(device, "--job", job)
    assert told["job-failed"]["code"] == device.job(job).code != 0
    assert told["job-log-none"]["severity"] == "ok"
    (device.home / "jobs" / f"{job}.log").write_text("\n".join(f"line {one}" for one in range(99)))
    assert found(device, "--job", job)["job-log"]["lines"][-1] == "line 98"
    assert len(found(device, "--job", job)["job-log"]["lines"]) == 20
    (device.home / FILE).unlink()
    assert "job-log" in found(device, "--job", job)
    device.typed("diagnose", "--job", 99).refused(UnknownNameError)


def test_what_was_asked_for_anew_or_is_past_with_the_seal_is_not_told(device: Shell) -> None:
    why = failed(StoreFullError("It is full"))
    with device.state() as opened:
        for spec in ('{"place": "/a"}', "{}"):
            for disk in ("44" * 16, "55" * 16):
                job = opened.add_job("ingest", OTHER, "t", spec, "now", disk)
                opened.end_job(job, JobState.FAILED, "then", why)
        assert found(device)["job-failed"]["figures"]["job"] == "2"
        job = opened.add_job("ingest", OTHER, "t", '{"place": "/a"}', "now", "55" * 16)
        opened.end_job(job, JobState.FINISHED, "then")
        assert found(device)["job-failed"]["figures"]["job"] == "1"
        opened.resolve_job(JobId(1))
    assert "job-failed" not in found(device)


def test_a_job_that_failed_without_a_word(device: Shell) -> None:
    """Its process noted the end, and could not note why."""
    with device.state() as opened:
        job = opened.add_job("verify", OTHER, "verify", '{"store": "/a"}', now())
        opened.end_job(job, JobState.FAILED, now())
    told = found(device)
    assert told["job-speechless"]["severity"] == "error"
    assert "job-failed" not in told


@pytest.mark.parametrize("spec", ["no JSON", "[]", '{"unknown": 1}'])
def test_a_job_that_was_told_nonsense(device: Shell, spec: str) -> None:
    with device.state() as opened:
        job = opened.add_job("verify", OTHER, "t", spec, "now")
        opened.end_job(job, JobState.FAILED, "then", failed(RootMismatchError("It differs")))
        opened.put_event(job, "now", Step("x"))
    with closing(sqlite3.connect(device.home / FILE)) as known, known:
        known.execute("update events set body = 'no JSON'")
    assert found(device)["job-failed"]["safe"] == RootMismatchError.safe
    device.typed("diagnose", "--package", device.home / "a.tar.zst").fine()


def test_where_the_kernel_does_not_tell_of_locks(
    used: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_LOCKS", tmp_path / "none")
    with locked(used.home / "state.lock"):
        assert "lock" not in found(used)
