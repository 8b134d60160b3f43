"""What a disk tells of its machine, as it travels: strictly read, and nothing depends on it."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RecordDamagedError
from appliance.events import Json
from appliance.model import (
    Answer,
    DiskId,
    Encrypted,
    FileSystem,
    LogicalVolume,
    MachineFacts,
    Nic,
)
from appliance.seal import canon, machine, opening, sealing
from appliance.seal.papers import Note, read_note, write_note
from appliance.seal.verify import Pins, inspect
from tests.support import OPERATOR, new_store, point, put_blocks, sample_bytes, seal_it

DISK = DiskId("11" * 16)
FACTS = MachineFacts(
    hostname="web01",
    family="linux",
    product="Debian GNU/Linux",
    version="12 (bookworm)",
    architecture="x86_64",
    kernels=("6.1.0-25-amd64",),
    nics=(Nic("eth0", "52:54:00:aa:bb:cc", ("192.0.2.7/24",), "192.0.2.1", (), Answer.NO),),
    firmware="uefi",
    dirty=Answer.UNKNOWN,
    hibernated=Answer.UNKNOWN,
    encrypted=(Encrypted("3", "luks"),),
    volumes=(LogicalVolume("vg0", "root", 1 << 30),),
    file_systems=(
        FileSystem("vg0/root", "xfs", "", 1 << 30, 1 << 20),
        FileSystem("1", "vfat", "", 9, None),
    ),
    warnings=("A part of the disk is encrypted: what lies in it cannot be told.",),
    method="dissect",
    reason="",
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
some = st.lists(texts, max_size=3).map(tuple)
answers = st.sampled_from(Answer)
sizes = st.integers(0, (1 << 50) - 1)
all_facts = st.builds(
    MachineFacts,
    hostname=texts,
    family=st.sampled_from(["linux", "windows", "other", "unknown"]),
    product=texts,
    version=texts,
    architecture=texts,
    kernels=some,
    nics=st.lists(st.builds(Nic, texts, texts, some, texts, some, answers), max_size=2).map(tuple),
    firmware=st.sampled_from(["uefi", "bios", "unknown"]),
    dirty=answers,
    hibernated=answers,
    encrypted=st.lists(
        st.builds(Encrypted, texts, st.sampled_from(["luks", "bitlocker"])), max_size=2
    ).map(tuple),
    volumes=st.lists(st.builds(LogicalVolume, texts, texts, sizes), max_size=2).map(tuple),
    file_systems=st.lists(
        st.builds(FileSystem, texts, texts, texts, sizes, st.none() | sizes), max_size=2
    ).map(tuple),
    warnings=some,
    method=st.sampled_from(["dissect", "blkid", "none"]),
    reason=texts,
)


@given(all_facts)
def test_facts_come_back_as_they_went(facts: MachineFacts) -> None:
    assert machine.read(canon.dump(machine.write(facts))) == facts
    note = read_note(canon.dump(write_note(machine.as_note(DISK, facts))))
    assert machine.of_notes([note]) == {DISK: facts}


def told() -> dict[str, Json]:
    found = machine.write(FACTS)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"hostname": 3},
        {"hostname": "x" * 513},
        {"family": "plan9"},
        {"firmware": ""},
        {"dirty": True},
        {"method": "guess"},
        {"kernels": ["k"] * 129},
        {"kernels": "k"},
        {"nics": [{}]},
        {"encrypted": [{"place": "1", "kind": "rot13"}]},
        {"volumes": [{"group": "g", "name": "n", "size": 1 << 50}]},
        {"file_systems": [{"place": "", "type": "", "label": "", "size": -1, "used": None}]},
        {"file_systems": [{"place": "", "type": "", "label": "", "size": 1, "used": "1"}]},
        {"more": 1},
    ],
)
def test_facts_of_another_form_are_refused(change: dict[str, Json]) -> None:
    changed = told() | change
    with pytest.raises(RecordDamagedError):
        machine.read(canon.dump(changed))
    assert machine.of_notes([Note("machine", 1, {"disk": DISK, "facts": changed})]) == {}


def test_a_field_that_is_missing_is_refused() -> None:
    for name in told():
        with pytest.raises(RecordDamagedError, match="missing"):
            machine.read(canon.dump({key: one for key, one in told().items() if key != name}))


def test_notes_of_other_types_and_versions_are_passed_over() -> None:
    body = machine.as_note(DISK, FACTS).body
    notes = [Note("machine", 2, body), Note("weather", 1, body), Note("machine", 1, {})]
    assert machine.of_notes(notes) == {}
    other = replace(FACTS, hostname="db")
    both = [machine.as_note(DISK, FACTS), machine.as_note(DISK, other)]
    assert machine.of_notes(both) == {DISK: FACTS}


def test_a_disk_that_tells_nothing_says_why() -> None:
    nothing = machine.nothing("x" * 600)
    assert (nothing.method, nothing.reason) == ("none", "x" * 512)
    assert machine.read(canon.dump(machine.write(nothing))) == nothing


def test_whoever_opens_a_store_is_told(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, sample_bytes(), point(sample_bytes()))
    notes = [machine.as_note(DISK, FACTS), Note("later", 7, {"a": [1]})]
    consent = sealing.Consent(waiver="a test")
    sealing.seal(store, device, {}, consent, notes=notes)
    sealed = inspect(store.path, Pins())
    assert opening.machines_of(sealed, OPERATOR) == {DISK: FACTS}
    assert len(opening.disks_of(sealed, OPERATOR)) == 1


def test_a_store_without_notes_and_a_damaged_one_tell_nothing(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, sample_bytes(), point(sample_bytes()))
    seal_it(store, device)
    sealed = inspect(store.path, Pins())
    assert opening.machines_of(sealed, OPERATOR) == {}
    sealed.contents_info.path.write_bytes(b"")
    assert opening.machines_of(sealed, OPERATOR) == {}
