"""The demo, once for real: disks, packs, volumes, and cmp."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli import demo_sources
from appliance.cli.demo_report import Report
from appliance.cli.demo_sources import fill
from appliance.errors import ExistsError, NeedRootError, ToolFailedError
from appliance.report.document import parse
from appliance.run import run
from tests.media import tool
from tests.technician import Shell

STEPS = [
    "make two source disks",
    "make recipients' keys",
    "begin the shipment, try the canary",
    "ingest both disks at once",
    "seal",
    "ship",
    "verify without a key",
    "restore and check by read-back",
    "compare byte by byte (cmp)",
]
LINE = [
    "open the gate, enrol both servers",
    "round 1, while both servers go on writing",
    "round 2",
    "freeze, round 3: a point that can be booted",
    "servers stopped, last round",
    "compare byte by byte again (cmp)",
]
PAPERS = ["make the report"]


def attached() -> set[str]:
    loops = tool("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE")
    mounts = Path("/proc/self/mounts").read_text()
    return {one for one in (*loops.splitlines(), *mounts.splitlines()) if "demo" in one}


def read_by_a_stranger(place: Path, out: Path) -> list[Path]:
    """The demo's disks, as the reader gets them out that knows the specification alone: db01's
    image, then web01's.
    """
    reader = Path(__file__).with_name("independent_reader.py")
    text = reader.read_text()
    assert len(text.splitlines()) <= 200
    assert "appliance" not in text
    out.mkdir()
    keys = place / "operator-keys"
    done = subprocess.run(
        [sys.executable, "-I", reader, place / "arrived", keys / "operator.key", out],
        input=(keys / "passphrase").read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(one) for one in done.stdout.splitlines()[1:]]
    sizes = {one["size"]: out / f"{one['disk']}-{one['point']}.img" for one in found}
    return [sizes[one] for one in sorted(sizes)]


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount file systems.")
def test_the_demo_brings_two_servers_through_and_leaves_nothing_behind(
    tmp_path: Path, operator: Shell
) -> None:
    before = attached()
    place = tmp_path / "the demo"
    said = operator.run("demo", "--json", "--dir", place).fine()
    try:
        steps = [one for one in said.lines if one["event"] == "demo"]
        assert [one["step"] for one in steps] == STEPS + LINE + PAPERS
        sizes = {one["step"]: one["size"] for one in steps}
        assert sizes["make two source disks"] >= 560_000_000
        assert sizes["compare byte by byte (cmp)"] == 1600 << 20
        assert sizes["restore and check by read-back"] == 1600 << 20
        assert 0 < sizes["verify without a key"] < sizes["ingest both disks at once"]
        results = {one["step"]: one["result"] for one in steps}
        assert results["verify without a key"] == "authentic"
        assert results["compare byte by byte (cmp)"] == "equal"
        assert results["compare byte by byte again (cmp)"] == "equal"
        assert "2 points kept" in results["freeze, round 3: a point that can be booted"]
        rounds = said.results("round")
        assert sorted(one["point"] for one in rounds) == [1, 1, 2, 2, 3, 3, 4, 4]
        assert all(one["changed"] > 0 for one in rounds if one["point"] in {1, 3, 4})
        assert all(one["sent"] <= 1.2 * one["changed"] + 4096 for one in rounds)
        assert said.lines[-1]["event"] == "report"
        assert said.lines[-1]["equal"] is True
        assert attached() == before
        _told_in_the_report(place / "papers")
        sources = sorted(place.glob("*.img"))
        volumes = sorted((place / "volumes").glob("*.img"))
        assert len(sources) == len(volumes) == 2
        for source, volume in zip(sources, volumes, strict=True):
            assert subprocess.run(["cmp", source, volume], check=False).returncode == 0
        operator.typed("demo", "--dir", place).refused(ExistsError)
    finally:
        subprocess.run(["rm", "-rf", place], check=True)


def _told_in_the_report(papers: Path) -> None:
    """All four homes tell: device, operator, and both servers."""
    report = parse((papers / "report.json").read_bytes()).report
    assert {one.kind for one in report.jobs} == {
        *("ingest", "seal", "verify", "restore", "gate", "catch-up")
    }
    assert len({one.told_by for one in report.jobs}) == 4
    assert [one.machine for one in report.disks] == ["db01", "web01"]
    roots = {one.disk: one.content.root for one in report.disks if one.content}
    assert {one.disk: one.checked_root for one in report.volumes} == roots
    turns = {(one.machine, one.point, one.end): one.roots for one in report.rounds}
    assert len(turns) == 16
    assert all(turns[name, point, "gate"] == roots for (name, point, _), roots in turns.items())
    assert sorted(one.point for one in report.cut_overs) == [3, 3, 4, 4]
    assert {one.point for one in report.points if one.complete} == {3, 4}
    assert report.gaps == ()
    assert len(list(papers.glob("report.*.pdf"))) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount file systems.")
def test_a_stranger_who_knows_the_specification_reads_what_was_shipped(
    tmp_path: Path, operator: Shell
) -> None:
    place = tmp_path / "the demo"
    said = operator.run("demo", "--json", "--offline", "--dir", place).fine()
    try:
        assert [one["step"] for one in said.lines if one["event"] == "demo"] == STEPS + PAPERS
        sources = sorted(place.glob("*.img"))
        strangers = read_by_a_stranger(place, tmp_path / "strange")
        for source, image in zip(sources, strangers, strict=True):
            assert subprocess.run(["cmp", source, image], check=False).returncode == 0
    finally:
        subprocess.run(["rm", "-rf", place], check=True)


def test_the_demo_is_for_root(
    operator: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    operator.typed("demo", "--dir", tmp_path / "demo").refused(NeedRootError)
    assert not (tmp_path / "demo").exists()


def test_the_report_says_what_took_how_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    report = Report(as_lines=False)
    with report.step("read") as told:
        clock[0] += 2
        told(10**9, "all of it")
    with report.step("think"):
        clock[0] += 0.5
    report.show()
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["== read", "== think"]
    assert [one.split() for one in shown[4:]] == [
        ["read", "2.0", "s", "1.0", "GB", "500.0", "MB/s", "all", "of", "it"],
        ["think", "0.5", "s"],
    ]


def test_files_that_come_by_again_are_edited(tmp_path: Path) -> None:
    """So that a small machine's files still fill a disk with content that is not all the same."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 5000)
    written = fill(tmp_path / "mounted", iter([source] * 3), 15_000)
    found = sorted((tmp_path / "mounted").rglob("source*"))
    assert [one.name for one in found] == ["source", "source.1", "source.2"]
    assert written == sum(one.stat().st_size for one in found) > 15_000
    assert found[2].read_bytes().startswith(b"edited 2 times\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may attach loop devices.")
def test_a_demo_whose_file_system_cannot_be_made_leaves_no_loop_device(
    tmp_path: Path, operator: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in ("mkfs.ext4", "mount"):

        def fails(program: str, *args: str, broken: str = broken) -> str:
            if program == broken:
                raise ToolFailedError(f"{broken} failed")
            return run(program, *args)

        monkeypatch.setattr(demo_sources, "run", fails)
        before = attached()
        operator.typed("demo", "--dir", tmp_path / f"demo-{broken}").refused(ToolFailedError)
        assert attached() == before
