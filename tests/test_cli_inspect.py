"""What a technician is shown of a disk before it is copied, and an operator of a shipment."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import jobs
from appliance.cli import inspecting
from appliance.errors import NotADiskError, StateError
from appliance.events import Event, Result, Step
from appliance.jobs.ingesting import ingest
from appliance.language import Language, translator
from appliance.model import Answer, DiskId, JobId, LogicalVolume
from appliance.seal import canon, machine
from appliance.state import State
from tests import machines
from tests.media import Bench, tool
from tests.technician import PASSPHRASE, Keys, Shell, begun
from tests.test_seal_machine_facts import FACTS

MIB = 1 << 20


def test_a_disk_is_told_in_words(device: Shell, bench: Bench) -> None:
    image = machines.debian(bench)
    out = device.typed("inspect", image).fine().out
    told = {line[2:16].strip(): line[17:] for line in out.splitlines() if line.startswith("  ")}
    assert out.startswith(f"{image}: image file disk.img, 50.3 MB\n")
    assert told["table"] == "gpt, 2 partitions"
    assert told["host name"] == "web01"
    assert told["system"].startswith("Debian GNU/Linux ")
    assert told["kernels"] == "6.1.0-18-amd64, 6.1.0-25-amd64"
    assert told["firmware"] == "UEFI"
    assert "eth0, 52:54:00:aa:bb:cc, 192.0.2.7/24" in out
    assert "gateway 192.0.2.1, DNS 192.0.2.53" in out
    assert "eth1, DHCP" in out
    assert "2: ext4, root, 41.9 MB, " in told["file system"]
    assert told["file system"].endswith(" in use")


def test_it_is_told_in_chinese(bench: Bench, tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", more={"MOTIONGEAR_LANG": "zh"})
    image = machines.windows(bench, hibernated=True)
    out = shell.run("inspect", image).fine().out
    assert out.startswith(f"{image}: 镜像文件 {image.name}, ")
    assert "1 个分区" in out
    assert "主机名" in out
    assert "WINSRV03" in out
    assert "休眠" in out
    assert "Windows 处于休眠状态" in out


def test_each_disk_is_an_object_for_programs(device: Shell, bench: Bench) -> None:
    image, other = machines.centos(bench), bench.image(MIB, "other.img")
    said = device.typed("inspect", image, other, "--json").fine()
    first, second = map(json.loads, said.out.splitlines())
    assert first["source"] == str(image)
    assert first["disk"]["table"] == "gpt"
    found = machine.read(canon.dump(first["machine"]))
    assert found.volumes[0] == LogicalVolume("vg-0", "root", 48 * MIB)
    assert second["disk"]["table"] == "none"
    assert second["machine"]["method"] == "blkid"


def test_one_that_is_refused_keeps_nobody_from_the_others(device: Shell, bench: Bench) -> None:
    image = bench.image(MIB)
    gone, directory = bench.place / "gone", bench.place
    said = device.typed("inspect", gone, image, directory)
    said.refused(NotADiskError)
    assert f"{image}: image file" in said.out
    assert str(gone) in said.err
    assert str(directory) in said.err


def test_what_a_disk_says_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = replace(
        FACTS,
        hostname="\x1b[2J",
        warnings=("\x1b]0;x\x07",),
        family="windows",
        dirty=Answer.YES,
        method="blkid",
        reason="\x9b31m",
    )
    inspecting.show_machine(hostile, translator(Language.EN))
    inspecting.show_machine(machine.nothing("\x1bnone"), translator(Language.EN))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert r"\x1b[2J" in out
    assert "clean          no" in out
    assert "encrypted      3: LUKS" in out
    assert "vg0/root, 1.1 GB" in out
    assert r"Only tables and superblocks were read (\x9b31m)." in out
    assert r"Nothing could be read (\x1bnone)." in out


# --- on its way --------------------


def test_what_a_disk_tells_travels_sealed_and_is_forgotten(
    device: Shell, operator: Shell, keyring: Keys, bench: Bench, tmp_path: Path
) -> None:
    store = begun(device, tmp_path / "store")
    image = machines.debian(bench)
    device.typed("ingest", image, "-s", store.path, "-m", "web01").fine()
    with device.state() as state:
        (told,) = state.machines(store.head.shipment).values()
    assert machine.read(told.encode()).hostname == "web01"
    device.typed("seal", "-s", store.path, "--waive", "x").fine()
    with device.state() as state:
        assert not state.machines(store.head.shipment)
    key = ("--key", keyring.operator)
    said = operator.typed("manifest", "-s", store.path, *key, passphrase=PASSPHRASE).fine()
    assert "192.0.2.7/24" in said.out
    listed = operator.typed("manifest", "-s", store.path, *key, "--json", passphrase=PASSPHRASE)
    assert json.loads(listed.fine().out)["told"]["hostname"] == "web01"


def test_an_ingest_does_not_depend_on_it(
    device: Shell, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(device, tmp_path / "store")
    image = bench.image(4 * MIB)
    tool("mkfs.ext4", "-q", image)

    def full(*_: object) -> None:
        raise StateError("no space")

    monkeypatch.setattr(State, "note_machine", full)
    spec = jobs.IngestSpec(
        store=str(store.path),
        source=str(image),
        machine="web01",
        disk="11" * 16,
        level=1,
        limits=(),
        pack_size=64 * MIB,
        checkpoint_bytes=MIB,
        checkpoint_seconds=10.0,
    )
    told: list[Event] = []
    with device.state() as state:
        desk = jobs.Desk(JobId(1), device.home, state, told.append, lambda: False, None)
        ingest(spec, desk)
        assert not state.machines(store.head.shipment)
    assert [one.step for one in told if isinstance(one, Step)] == ["open", "inspect", "ingest"]
    assert [one for one in told if isinstance(one, Result)]


def test_what_no_ingest_wrote_is_not_sealed(
    device: Shell, operator: Shell, keyring: Keys, tmp_path: Path
) -> None:
    store, image = begun(device, tmp_path / "store"), tmp_path / "disk.img"
    image.write_bytes(bytes(MIB))
    device.typed("ingest", image, "-s", store.path, "-m", "web01").fine()
    with device.state() as state:
        large = machine.write(replace(FACTS, kernels=("k" * 500,) * 120))
        facts = canon.dump(large).decode()
        state.note_machine(store.head.shipment, DiskId("00" * 16), '{"hostname":1}')
        for number in range(1, 40):
            state.note_machine(store.head.shipment, DiskId(f"{number:032x}"), facts)
    device.typed("seal", "-s", store.path, "--waive", "x").fine()
    key = ("--key", keyring.operator)
    operator.typed("manifest", "-s", store.path, *key, passphrase=PASSPHRASE).fine()
