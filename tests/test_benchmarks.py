"""Benchmarks: that what they tell is what was run. How long anything takes is asserted nowhere."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which

import pytest

from benchmarks import images
from benchmarks.__main__ import CASES, main, measured, report
from benchmarks.cases.catchup import Changes
from benchmarks.images import GIB, MIB
from benchmarks.measure import Command, FailedRunError, run, shell
from benchmarks.pairs import Contender, contest, trial
from benchmarks.report import Bar, Section, whole
from benchmarks.rivals import Rivals
from benchmarks.room import Room, Sizes
from benchmarks.stages import stage_of
from tests.technician import until

TINY = Sizes(
    disk=16 * MIB,
    template=16 * MIB,
    clones=2,
    sparse=GIB,
    sparse_data=8 * MIB,
    several=8 * MIB,
    linear=8 * MIB,
)
NEEDED = ("bash", "cp", "findmnt", "mke2fs", "sync")


def python(code: str) -> Command:
    return Command((sys.executable, "-c", code))


def program(name: str) -> str:
    found = which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def no_rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing is installed that we could be compared with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for one in NEEDED:
        (folder / one).symlink_to(program(one))
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    place = tmp_path / "room"
    place.mkdir()
    return Room(place, TINY, 1)


def reported(room: Room, *cases: str) -> str:
    """The report of cases of which none has failed."""
    found = measured(room, cases)
    assert not [one.body for one in found if one.failed]
    return report(room, found, 3)


@pytest.mark.usefixtures("no_rivals")
def test_the_report_of_the_whole_path_where_no_rival_is_installed(room: Room) -> None:
    told = reported(room, "ingest", "restore", "verify", "clones", "catchup")
    assert told.partition("\n## Where bars are missed")[0].count("\n## ") == 2 + 5
    assert told.count("not installed: left out") == 6
    assert "| motiongear restore, with read-back |" in told
    assert "| verify without a key, time against blake3, all cores, mapped | ≤ 1.3 x |" in told
    assert "| catch-up, bytes over the line against the changed pieces | ≤ 1.2 x | 1." in told
    assert "speed against" not in told


@pytest.mark.usefixtures("no_rivals")
def test_the_report_of_what_grows_with_the_disks(room: Room) -> None:
    told = reported(room, "sparse", "several", "linear")
    assert "| memory for the sparse image | ≤ 300 MB |" in told
    assert "| two fast disks together, of one's rate | ≥ 0.95 x |" in told
    assert "| two sources of 80 MB/s together, of one's rate | ≥ 1.9 x |" in told
    assert "| 0.125 GiB |" in told
    assert set(room.place.iterdir()) == {room.place / "motiongear"}


def test_a_case_that_fails_says_why_and_leaves_the_report_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "performance.md"
    kept.write_text("as it was")

    def fails(room: Room) -> Section:
        room.place.joinpath("left").touch()
        raise FailedRunError("the disk is full")

    monkeypatch.setitem(CASES, "ingest", fails)
    monkeypatch.setitem(CASES, "verify", lambda _: Section("Verify", ["Done."]))
    monkeypatch.setenv("BENCH_DIR", str(tmp_path))
    assert main(["--only", "ingest,verify", "--report", str(kept)]) == 1
    told = capsys.readouterr().out
    assert "Could not be measured: the disk is full" in told
    assert "## Verify\n\nDone." in told
    assert kept.read_text() == "as it was"
    assert main(["--only", "verify", "--report", str(kept)]) == 0
    assert "Done." in kept.read_text()
    assert list(tmp_path.iterdir()) == [kept]


def test_every_bar_that_is_missed_is_said_to_be() -> None:
    bars = [Bar("speed", 2, 1), Bar("memory", 300, 299, at_least=False, unit="MB")]
    told = whole([], [Section("Ingest", ["Text."], bars)], "Preface.\n", "Notes.\n")
    assert "| speed | ≥ 2 x | 1.00 x | **missed** |" in told
    assert "| memory | ≤ 300 MB | 299 MB | met |" in told
    assert told.startswith("# Performance\n\nPreface.\n\n## The bars\n")
    assert told.endswith("## Ingest\n\nText.\n\nNotes.\n")


def test_rivals_give_back_what_they_stored(tmp_path: Path) -> None:
    for one in ("zstd", "age", "borg", "restic"):
        program(one)
    image = tmp_path / "disk.img"
    images.disk_half_noise(image, 8 * MIB)
    rivals = Rivals(tmp_path / "rivals")
    stored = {one.name: trial(one, lambda: None).left for one in rivals.storing(image)}
    assert len(stored) == 4
    assert all(4 * MIB <= left < 5 * MIB for left in stored.values())
    for sparse in (False, True):
        done = trial(rivals.age_zstd(image, sparse=sparse), lambda: None)
        assert done.left == 8 * MIB
        assert (tmp_path / "rivals" / "out").read_bytes() == image.read_bytes()


def test_a_case_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "ingest,luck"])
    assert "no such case: luck" in capsys.readouterr().err


def test_contenders_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def one(name: str) -> Contender:
        def ready() -> Sequence[Command]:
            return [shell('echo "$2" >>"$1"', log, name)]

        return Contender(name, ready, lambda: len(name))

    found = contest(one("ours"), [one("a"), one("b")], 2)
    assert log.read_text().split() == ["ours", "a", "ours", "b"] * 2
    assert [found.trials(name)[-1].left for name in found.names] == [4, 1, 1]
    assert found.ratios("a", lambda each: each.left) == [1 / 4, 1 / 4]
    assert contest(one("ours"), [], 3).trials("ours")[2].left == 4


def test_a_run_that_fails_gives_no_figure() -> None:
    with pytest.raises(FailedRunError, match="no such disk"):
        run([python("import sys; sys.exit('no such disk')")])
    with pytest.raises(FailedRunError):
        run([shell("false | true")])


def test_what_outlives_its_parent_is_counted_too() -> None:
    """A console may end before the last of its job's processes does."""
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    told = run([shell('"$1" -c "$2" &', sys.executable, burn)])
    assert told.cpu_seconds >= 0.4


def test_a_benchmark_that_is_ended_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    """Also one in a session of its own, as a job is."""
    told = tmp_path / "told"
    script = 'setsid "$1" -c "$2" "$3"'
    job = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(600)"
    code = f"""
from benchmarks import __main__ as bench
from benchmarks.measure import run, shell
command = shell({script!r}, {sys.executable!r}, {job!r}, {str(told)!r})
bench.CASES["ingest"] = lambda room: run([command])
bench.main(["--only", "ingest"])
"""
    place = tmp_path / "bench"
    place.mkdir()
    env = {**os.environ, "BENCH_DIR": str(place)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE) as bench:
        until(lambda: told.exists() and bool(told.read_text()))
        assert list(place.iterdir())
        bench.terminate()
        try:
            bench.communicate(timeout=60)
        finally:
            bench.kill()
    assert bench.returncode
    assert not list(place.iterdir())
    assert not Path(f"/proc/{told.read_text().strip()}").exists()


def test_memory_is_that_of_all_processes_together() -> None:
    wait = "import sys, time; held = b'x' * (80 << 20); time.sleep(0.5)"
    told = run([shell('"$1" -c "$2" & "$1" -c "$2"; wait', sys.executable, wait)])
    assert 160 * MIB <= told.peak_bytes < 400 * MIB


def test_lines_come_with_their_times() -> None:
    told = run([python("import json\nfor one in 'ab': print(json.dumps({'event': one}))")])
    assert [one["event"] for _, one in told.events()] == ["a", "b"]
    assert 0 < told.events()[0][0] <= told.events()[1][0] <= told.seconds


def test_a_replica_is_exactly_one_change_behind(tmp_path: Path) -> None:
    source, replica = tmp_path / "source", tmp_path / "replica"
    source.write_bytes(bytes(8 * MIB))
    changes = Changes(source)
    changes.copy(replica)
    for _ in range(3):
        changes.more()
    before = source.read_bytes()
    changes.more()
    changes.bring_up(replica)
    assert replica.read_bytes() == before
    assert source.read_bytes() != before
    assert changes.pieces == 1 << 16


def test_disks_hold_what_is_said_of_them(tmp_path: Path) -> None:
    sparse, linear = tmp_path / "sparse", tmp_path / "linear"
    images.sparse_disk(sparse, GIB, 8 * MIB, MIB)
    assert sparse.stat().st_size == GIB
    assert 8 * MIB <= sparse.stat().st_blocks * 512 < 9 * MIB
    images.linear_disk(linear, 4, 8 * MIB, MIB)
    starts = [linear.read_bytes()[step * 8 * MIB :][:MIB] for step in range(4)]
    assert len(set(starts)) == 4
    assert linear.stat().st_blocks * 512 < 5 * MIB


def test_samples_fall_into_stages() -> None:
    assert stage_of("backend_c.cpython-311-x86_64-linux-gnu.so", "[.] HUF_x") == "zstd"
    assert stage_of("_rust.abi3.so", "[.] fill_block") == "Argon2 (unlocking the key)"
    assert stage_of("[kernel.kallsyms]", "[k] clear_page_erms") == "kernel: memory (page faults)"
    assert stage_of("[kernel.kallsyms]", "[k] _copy_to_iter") == "kernel: reading files"
    assert stage_of("python3.11", "[.] _PyEval_EvalFrameDefault") == "Python"
    assert stage_of("[unknown]", "[.] 0000") == "other"


def test_a_bar_is_met_from_its_own_side() -> None:
    assert Bar("speed", 2.0, 2.0).met
    assert not Bar("speed", 2.0, 1.99).met
    assert Bar("memory", 300, 299, at_least=False).met
    assert not Bar("memory", 300, 301, at_least=False).met
    assert Bar("speed", 2.0, 1.994).row() == ("speed", "≥ 2 x", "1.99 x", "**missed**")
