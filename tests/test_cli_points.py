"""Recovery points at a technician's shell."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.catchup.replicas import Replicas
from appliance.cloud.local import LocalTarget
from appliance.errors import (
    BadInputError,
    PointRefusedError,
    UnknownNameError,
    VolumeBusyError,
    VolumeForeignError,
)
from appliance.model import SnapshotSpec, VolumeSpec, VolumeState
from tests.support import BLOCK
from tests.targets import MemoryVolume, snapshot_spec, volume_spec
from tests.technician import PASSPHRASE, Keys, Said, Shell, disk_id, noise, sealed_disks

ONE, TWO = volume_spec("web01-S1", disk="11" * 16), volume_spec("web01-S2", disk="22" * 16)


def reach(place: Path, number: int, *volumes: VolumeSpec, taken: int = 1_790_000_000) -> None:
    """Rounds have brought these disks to a point."""
    target = LocalTarget(str(place))
    for volume in volumes:
        target.ensure_volume(volume)
        target.tag(volume, VolumeState.REPLICA)
        target.snapshot(spec(volume, number, taken))


def spec(volume: VolumeSpec, number: int, taken: int) -> SnapshotSpec:
    return snapshot_spec(volume, number, (TWO if volume is ONE else ONE).disk, taken=taken)


def lines(said: Said) -> list[dict[str, Any]]:
    return [json.loads(one) for one in said.fine().out.splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the replicas of web01 are, with the points 1 to 3; the last lacks a disk."""
    volumes = tmp_path / "volumes"
    reach(volumes, 1, ONE, TWO)
    reach(volumes, 2, ONE, TWO)
    reach(volumes, 3, ONE)
    return volumes


def test_points_are_listed_chosen_cloned_and_discarded(operator: Shell, place: Path) -> None:
    to = ("--to", place)
    listed = operator.typed("points", "list", *to).fine().out.splitlines()
    assert listed[0].split() == ["MACHINE", "POINT", "STATE", "TAKEN", "DISKS", "READ", "CLONES"]
    assert [" ".join(one.split()) for one in listed[1:]] == [
        "web01 1 complete 2026-09-21T14:13:20Z crash-consistent",
        "web01 2 complete 2026-09-21T14:13:20Z crash-consistent",
        "web01 3 1 of 2 disks 2026-09-21T14:13:20Z crash-consistent",
    ]
    said = operator.typed("points", "choose", "latest", *to).fine().out
    assert said == "Chosen: point 2 of web01, 2026-09-21T14:13:20Z, crash-consistent.\n"
    said = operator.typed("points", "clone", "chosen", "--name", "test", *to).fine().out
    assert said.startswith("Cloned as test: point 2 of web01")
    assert [one.split()[0] for one in said.splitlines()[2:]] == ["web01-S1", "web01-S2"]
    assert str(place / "clones" / "test-web01-S2.") in said
    marked = operator.typed("points", "list", *to).fine().out.splitlines()[2].split()
    assert (marked[0], marked[2], marked[-1]) == ("*", "2", "test")
    operator.typed("points", "discard", "2", "--yes", *to).refused(PointRefusedError)
    operator.typed("points", "choose", "none", *to).fine()
    operator.typed("points", "discard", "2", "--yes", *to).refused(VolumeBusyError)
    said = operator.typed("points", "remove", "test", *to).fine().out
    assert len(said.splitlines()) == 2
    assert operator.typed("points", "discard", "2", "--yes", *to).fine().out == (
        "Discarded: point 2 of web01, 2026-09-21T14:13:20Z, crash-consistent.\n"
    )
    assert [one["point"] for one in lines(operator.typed("points", "list", *to, "--json"))] == [
        1,
        3,
    ]


def test_points_are_told_to_programs(operator: Shell, place: Path) -> None:
    def told(verb: str, *args: object) -> list[dict[str, Any]]:
        return lines(operator.typed("points", verb, *args, "--to", place, "--json"))

    first, _, third = told("list")
    assert (first["machine"], first["point"], first["chosen"]) == ("web01", 1, False)
    assert (first["complete"], third["complete"]) == (True, False)
    assert (first["taken"], first["form"]) == ("2026-09-21T14:13:20Z", "crash-consistent")
    assert [one["disk"] for one in first["disks"]] == [ONE.disk, TWO.disk]
    kept = [one["location"] for one in first["snapshots"]]
    assert kept == [str(place / "points" / f"web01-S{one}" / "1.img") for one in (1, 2)]
    (chosen,) = told("choose", "1")
    assert (chosen["point"], chosen["chosen"]) == (1, True)
    assert told("choose", "none") == []
    made = told("clone", "1", "--name", "test")
    assert [(one["name"], one["volume"], one["disk"]) for one in made] == [
        ("test", "test-web01-S1", ONE.disk),
        ("test", "test-web01-S2", TWO.disk),
    ]
    assert all(Path(one["location"]).exists() for one in made)
    assert told("list")[0]["clones"] == ["test"]
    assert told("remove", "test") == made
    assert [one["point"] for one in told("discard", "--keep", "1", "--yes")] == [1]


def test_retention_is_one_verb(operator: Shell, place: Path) -> None:
    reach(place, 4, ONE, TWO)
    discard = ("points", "discard", "--keep", "1", "--yes", "--to", place)
    operator.typed("points", "choose", "1", "--to", place).fine()
    gone = operator.typed(*discard).fine().out.splitlines()
    assert [one.split(",")[0] for one in gone] == [
        "Discarded: point 2 of web01",
        "Discarded: point 3 of web01",
    ]
    assert operator.typed(*discard).fine().out == "Nothing need be discarded.\n"


def test_nothing_is_discarded_without_a_word(operator: Shell, place: Path) -> None:
    operator.run("points", "discard", "1", "--to", place).fine(130)
    assert len(lines(operator.typed("points", "list", "--to", place, "--json"))) == 3
    for wrong in ((), ("1", "--keep", "2")):
        operator.typed("points", "discard", *wrong, "--yes", "--to", place).refused(BadInputError)


def test_what_is_not_there_is_named(operator: Shell, place: Path, tmp_path: Path) -> None:
    to = ("--to", place)
    operator.typed("points", "choose", "7", *to).refused(UnknownNameError)
    operator.typed("points", "choose", "3", *to).refused(PointRefusedError)
    operator.typed("points", "clone", "chosen", "--name", "x", *to).refused(UnknownNameError)
    operator.typed("points", "clone", "1", "--name", "a/b", *to).refused(BadInputError)
    operator.typed("points", "remove", "x", *to).refused(UnknownNameError)
    said = operator.typed("points", "choose", "1", "--to", tmp_path / "not" / "there")
    assert "no recovery point of any machine" in said.refused(UnknownNameError).err
    assert operator.typed("points", "list", "--to", tmp_path / "not").fine().out.count("\n") == 1


def test_clocks_and_names_of_sources_may_say_anything(operator: Shell, tmp_path: Path) -> None:
    target = LocalTarget(str(tmp_path))
    target.ensure_volume(ONE)
    target.tag(ONE, VolumeState.REPLICA)
    odd = SnapshotSpec(ONE, "web\x1b[2J", 1, 2, 1 << 53, (ONE.disk,), ("77" * 32,))
    target.snapshot(odd)
    said = operator.typed("points", "list", "--to", tmp_path).fine().out
    assert r"web\x1b[2J" in said
    assert f" 1 complete {1 << 53} " in " ".join(said.splitlines()[1].split())


def test_a_target_without_points_says_so(
    operator: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(MemoryVolume):
        name = "plain"

    monkeypatch.setattr("appliance.jobs.target_for", lambda *_: Plain(bytearray()))
    said = operator.typed("points", "list", "--to", tmp_path).refused(BadInputError)
    assert "The target plain keeps no recovery points" in said.err


def test_a_replica_is_not_restored_to(tmp_path: Path, operator: Shell, keyring: Keys) -> None:
    sent, to = sealed_disks(tmp_path, web01=noise(6 * BLOCK)), tmp_path / "to"
    restore = ("restore", "-s", sent.path, *sent.pins, "--key", keyring.operator, "--to", to)
    operator.typed(*restore, passphrase=PASSPHRASE).fine()
    target = LocalTarget(str(to))
    (info,) = target.volumes()
    assert info.spec.disk == disk_id("web01")
    target.tag(info.spec, VolumeState.REPLICA)
    with target.attach(info.spec) as volume:
        volume.pwrite(0, memoryview(b"a round was here"))
        volume.flush()
    for how in ((), ("--loop",), ("--plan",)):
        said = operator.typed(*restore, *how, passphrase=PASSPHRASE).refused(VolumeForeignError)
        assert "a restore would undo the rounds it has received" in said.err
    assert Path(info.location).read_bytes().startswith(b"a round was here")
    assert [one.state for one in target.volumes()] == [VolumeState.REPLICA]


def test_a_replica_that_is_bad_is_mended_by_a_round_alone(
    tmp_path: Path, operator: Shell, keyring: Keys
) -> None:
    sent, to = sealed_disks(tmp_path, web01=noise(6 * BLOCK)), tmp_path / "to"
    restore = ("restore", "-s", sent.path, *sent.pins, "--key", keyring.operator, "--to", to)
    operator.typed(*restore, passphrase=PASSPHRASE).fine()
    target = LocalTarget(str(to))
    (replica,) = Replicas(operator.home, target).of("web01")
    for state in (VolumeState.HURT, VolumeState.BAD):
        there = target.tag(replica.info.spec, state)
        with target.attach(there.spec) as volume:
            volume.pwrite(0, memoryview(b"a round was here"))
            volume.flush()
        said = operator.typed(*restore, passphrase=PASSPHRASE).refused(VolumeForeignError)
        assert "Run a round: it sends the blocks that are wrong." in said.err
        assert Path(there.location).read_bytes().startswith(b"a round was here")
        assert list(target.volumes()) == [there]
