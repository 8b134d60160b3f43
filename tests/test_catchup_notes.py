"""Notes: what was told once needs not be told again, and is nobody else's."""

from pathlib import Path

import pytest

from appliance.catchup.notes import Notes
from appliance.errors import StateError
from appliance.model import DiskId

DISK, OTHER = DiskId("11" * 16), DiskId("22" * 16)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path)


def test_a_disk_is_remembered_by_gate_and_source(tmp_path: Path, notes: Notes) -> None:
    assert notes.disk("gate:1", "/dev/sda") == ""
    notes.note("gate:1", "/dev/sda", DISK)
    assert Notes(tmp_path).disk("gate:1", "/dev/sda") == DISK
    assert notes.disk("gate:2", "/dev/sda") == notes.disk("gate:1", "/dev/sdb") == ""


def test_the_last_note_counts(notes: Notes) -> None:
    for one in (DISK, OTHER, OTHER):
        notes.note("gate:1", "/dev/sda", one)
        assert notes.disk("gate:1", "/dev/sda") == one


def test_a_note_that_says_nothing_new_is_not_written(tmp_path: Path, notes: Notes) -> None:
    notes.note("gate:1", "/dev/sda", DISK)
    (path,) = (tmp_path / "line" / "disks").iterdir()
    before = path.stat().st_ino
    notes.note("gate:1", "/dev/sda", DISK)
    assert path.stat().st_ino == before


def test_a_new_disk_is_the_same_again_while_it_has_its_size(notes: Notes) -> None:
    first = notes.new_disk("gate:1", "/dev/sda", 4096)
    assert len(bytes.fromhex(first)) == 16
    assert notes.new_disk("gate:1", "/dev/sda", 4096) != first  # it was not noted
    notes.note("gate:1", "/dev/sda", first, 4096)
    assert notes.new_disk("gate:1", "/dev/sda", 4096) == first
    assert notes.new_disk("gate:1", "/dev/sda", 8192) != first


@pytest.mark.parametrize(
    "source", ["/data/caf\u00e9.img", "/data/\udce9.img", "/data/a\nb", "x" * 4096]
)
def test_a_source_may_have_any_name_a_file_can_have(notes: Notes, source: str) -> None:
    notes.note("gate:1", source, DISK)
    assert notes.disk("gate:1", source) == DISK


def test_a_damaged_note_is_told_by_name(tmp_path: Path, notes: Notes) -> None:
    notes.note("gate:1", "/dev/sda", DISK)
    (path,) = (tmp_path / "line" / "disks").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StateError, match=path.name):
        notes.disk("gate:1", "/dev/sda")


def test_a_home_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StateError):
        Notes(tmp_path / "home")
