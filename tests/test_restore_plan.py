"""Plan: which disk becomes which volume. Machine names and serial numbers are foreign text."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import (
    IncompleteDiskError,
    PackDamagedError,
    TargetFullError,
    UnknownNameError,
    VolumeForeignError,
)
from appliance.model import DiskId, PointSpec
from appliance.restore.plan import Plan, make, safe_name
from appliance.seal import sealing, verify
from tests.support import (
    BLOCK,
    OPERATOR,
    PowerCutError,
    facts,
    new_store,
    point,
    put_blocks,
    seal_it,
)
from tests.targets import MemoryTarget
from tests.technician import Sent, disk_id, noise, sealed_disks


def plan(
    sent: Sent, chosen: Mapping[str, str] | None = None, target: MemoryTarget | None = None
) -> Plan:
    sealed = verify.inspect(sent.path, verify.Pins())
    return make(sealed, OPERATOR, target or MemoryTarget(), chosen or {})


def named(machine: str, serial: str) -> PointSpec:
    found = point(bytes(BLOCK), disk_id("x"), machine)
    return replace(found, facts=facts(BLOCK, serial))


def sent_with(place: Path, *specs: PointSpec) -> Sent:
    store, device = new_store(place)
    for spec in specs:
        put_blocks(store, bytes(spec.facts.size), spec)
    return Sent(store, seal_it(store, device, *specs), {})


@pytest.mark.parametrize(
    ("machine", "serial", "name"),
    [
        ("web01", "S-1", "web01-S-1"),
        ("web 01", "WD/../x", "web_01-WD_.._x"),
        ("../../etc/passwd", "S", "etc_passwd-S"),
        ("..", "..", disk_id("x")),
        (".hidden", "", f"hidden-{disk_id('x')[:8]}"),
        ("straße\x1b[2J", "\n", "stra_e_2J"),
        ("日本", "", disk_id("x")[:8]),
        ("m" * 300, "S", "m" * 100),
    ],
)
def test_hostile_names_become_plain_file_names(machine: str, serial: str, name: str) -> None:
    assert safe_name(named(machine, serial)) == name


@given(st.text(), st.text())
def test_no_name_leaves_its_directory(machine: str, serial: str) -> None:
    name = safe_name(named(machine, serial))
    assert Path(f"/volumes/{name}.img").resolve().parent == Path("/volumes")
    assert name.isascii()
    assert 0 < len(name) <= 100
    assert not name.startswith((".", "-"))


def test_every_complete_disk_is_planned_with_its_size_and_content(tmp_path: Path) -> None:
    data = noise(2 * BLOCK) + bytes(3 * BLOCK) + b"!"
    made = plan(sealed_disks(tmp_path, web01=data, db01=bytes(BLOCK)))
    volumes = {one.volume.name: one.volume for one in made.disks}
    assert list(volumes) == ["db01-S-6462", "web01-S-7765"]
    assert volumes["web01-S-7765"].size == len(data)
    assert volumes["web01-S-7765"].content == 3 * BLOCK
    assert made.size == len(data) + BLOCK
    assert made.content == 3 * BLOCK
    assert made.left_out == ()


def test_two_disks_of_one_name_are_refused_until_they_are_named(tmp_path: Path) -> None:
    specs = [replace(named("web", "S"), disk=DiskId(disk_id(one))) for one in ("a", "b")]
    sent = sent_with(tmp_path, *specs)
    with pytest.raises(VolumeForeignError, match="Two disks would both become volume web-S"):
        plan(sent)
    made = plan(sent, {disk_id("a"): "one", disk_id("b"): "two"})
    assert [one.volume.name for one in made.disks] == ["one", "two"]


def test_a_chosen_disk_is_found_by_id_beginning_or_serial(tmp_path: Path) -> None:
    sent = sealed_disks(tmp_path, web01=noise(BLOCK), db01=noise(BLOCK))
    for asked in (disk_id("web01"), disk_id("web01")[:6].upper(), "S-7765"):
        made = plan(sent, {asked: "my.volume_1"})
        assert [(one.volume.name, one.volume.disk) for one in made.disks] == [
            ("my.volume_1", disk_id("web01"))
        ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [("7", "0 disks"), ("S-none", "0 disks"), ("", "2 disks"), ("S-7", "0 disks")],
)
def test_a_choice_that_names_no_single_disk_is_refused(
    tmp_path: Path, asked: str, said: str
) -> None:
    sent = sealed_disks(tmp_path, db01=noise(BLOCK), da01=noise(BLOCK))
    with pytest.raises(UnknownNameError, match=said):
        plan(sent, {asked: "volume"})


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "...", "", "a b", "a\n"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    sent = sealed_disks(tmp_path, web01=noise(BLOCK))
    with pytest.raises(UnknownNameError, match="cannot be a volume's name"):
        plan(sent, {disk_id("web01"): name})


def test_a_disk_whose_index_is_damaged_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    whole, hurt = named("web01", "S-1"), replace(named("db01", "S-2"), disk=DiskId(disk_id("y")))
    sent = sent_with(tmp_path, whole, hurt)
    sealed = verify.inspect(sent.path, verify.Pins())
    (info,) = (one for one in sealed.infos.values() if one.head.disk == hurt.disk)
    with info.path.open("r+b") as pack:
        pack.seek(info.trailer.index_offset + 50)
        pack.write(b"????")
    with pytest.raises(PackDamagedError, match=info.path.name) as caught:
        plan(sent)
    assert "--map" in caught.value.todo_now
    with pytest.raises(PackDamagedError, match=info.path.name) as caught:
        plan(sent, {"S-2": "db"})
    assert "--map" not in caught.value.todo_now
    assert [one.volume.name for one in plan(sent, {"S-1": "web"}).disks] == ["web"]


def test_an_incomplete_disk_is_left_out_and_refused_by_name(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    data = noise(12 * BLOCK)
    whole, cut = point(data, disk_id("web01"), "web01"), point(data, disk_id("db01"), "db01")
    put_blocks(store, data, whole)
    with pytest.raises(PowerCutError):
        put_blocks(store, data, cut, cut_at=7)
    consent = sealing.Consent(incomplete=frozenset({cut.disk}), waiver="a test")
    sent = Sent(store, sealing.seal(store, device, {}, consent), {})
    made = plan(sent)
    assert [one.volume.disk for one in made.disks] == [whole.disk]
    assert [one.disk for one in made.left_out] == [cut.disk]
    with pytest.raises(IncompleteDiskError, match="not ingested to its end"):
        plan(sent, {cut.disk: "volume"})


def test_a_store_without_any_complete_disk_gives_no_plan(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    data = noise(12 * BLOCK)
    spec = point(data)
    with pytest.raises(PowerCutError):
        put_blocks(store, data, spec, cut_at=7)
    consent = sealing.Consent(incomplete=frozenset({spec.disk}), waiver="a test")
    with pytest.raises(IncompleteDiskError, match="No disk"):
        plan(Sent(store, sealing.seal(store, device, {}, consent), {}))


def test_what_the_target_refuses_is_refused_in_the_plan(tmp_path: Path) -> None:
    target = MemoryTarget(room=BLOCK)
    with pytest.raises(TargetFullError):
        plan(sealed_disks(tmp_path, web01=noise(2 * BLOCK)), target=target)
    assert target.held == {}
