"""Counters: which devices are looked at for one disk, by a /sys made of files."""

import os
from pathlib import Path

import pytest

from appliance.ingest import counters

DISK = os.makedev(8, 0)


class Sys:
    """A /sys/dev/block of one disk, 8:0."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "block").mkdir()
        self.disk = self.device("sda")
        (place / "8:0").symlink_to(self.disk)

    def device(self, name: str, below: Path | None = None, *, part: bool = False) -> Path:
        """A device that is a partition of the one below it, or holds it."""
        inside = below if below is not None and part else self.place / "block"
        made = inside / name
        (made / "holders").mkdir(parents=True)
        self.wrote(made, 0)
        if part:
            (made / "partition").touch()
        elif below is not None:
            (below / "holders" / name).symlink_to(made)
        return made

    @staticmethod
    def wrote(device: Path, sectors: int, discarded: int = 0) -> None:
        words = [1, 0, 8, 0, 7, 0, sectors, 0, 0, 0, 0, 1, 0, discarded, 0, 3, 0]
        (device / "stat").write_text(" ".join(map(str, words)) + "\n")


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sys:
    monkeypatch.setattr(counters, "_SYS", tmp_path)
    return Sys(tmp_path)


def names() -> list[str]:
    return [name for name, _, _ in counters.written([DISK])[DISK]]


def test_all_that_stands_on_a_disk_counts(sysfs: Sys) -> None:
    part = sysfs.device("sda1", sysfs.disk, part=True)
    volume = sysfs.device("dm-0", part)
    sysfs.device("dm-1", part)
    assert names() == ["dm-0", "dm-1", "sda", "sda1"]
    before = counters.written([DISK])
    sysfs.wrote(volume, 8)
    written = counters.written([DISK])
    sysfs.wrote(volume, 8, discarded=8)
    assert len({before[DISK], written[DISK], counters.written([DISK])[DISK]}) == 3


def test_a_raid_counts_and_not_its_members_on_which_it_notes_that_it_is_clean(sysfs: Sys) -> None:
    system = sysfs.device("sda1", sysfs.disk, part=True)
    member = sysfs.device("sda2", sysfs.disk, part=True)
    array = sysfs.device("md0", member)
    (array / "md").mkdir()
    sysfs.device("dm-0", array)
    assert names() == ["dm-0", "md0", "sda1"]
    before = counters.written([DISK])
    sysfs.wrote(member, 8)
    sysfs.wrote(sysfs.disk, 8)
    assert counters.written([DISK]) == before
    sysfs.wrote(system, 8)
    assert counters.written([DISK]) != before


def test_an_old_kernel_counts_no_discards(sysfs: Sys) -> None:
    (sysfs.disk / "stat").write_text("1 0 8 0 7 0 56 0 0 0 0\n")
    assert counters.written([DISK]) == {DISK: (("sda", 56, 0),)}


def test_what_comes_or_goes_meanwhile_shows(sysfs: Sys) -> None:
    part = sysfs.device("sda1", sysfs.disk, part=True)
    both = counters.written([DISK])
    (part / "stat").unlink()
    assert counters.written([DISK]) != both
