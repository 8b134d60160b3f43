"""Attached disks: read alone, past the cache, never written, and refused for a reason."""

import errno
import os
import socket
from pathlib import Path

import pytest

from appliance.block import aligned_buffer, opened
from appliance.errors import (
    NeedRootError,
    NotADiskError,
    SourceBusyError,
    SourceChangedError,
    SourceGoneError,
)
from appliance.ingest import discovery, guard
from appliance.ingest.attached import AttachedDisks
from appliance.model import Extent
from tests.media import Bench, tool, unprivileged

MIB = 1 << 20
DISKS = AttachedDisks([])


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_disk_is_read_whole_and_left_as_it_was(bench: Bench, sector: int) -> None:
    data = os.urandom(MIB)
    image = bench.image(data)
    device = bench.loop(image, "--sector-size", str(sector))
    before = image.stat().st_mtime_ns
    buffer = aligned_buffer(MIB)
    with DISKS.open(str(device)) as disk:
        facts = disk.facts
        assert list(disk.extents(0)) == [Extent(0, MIB)]
        assert list(disk.extents(4096)) == [Extent(4096, MIB - 4096)]
        assert not disk.readinto(0, buffer)
        disk.confirm()
    assert buffer == data
    assert (facts.source, facts.size, facts.logical_sector) == (str(device), MIB, sector)
    assert (facts.bus, facts.model, facts.serial, facts.table) == (
        "loop",
        "loop device",
        "",
        "none",
    )
    assert (image.read_bytes(), image.stat().st_mtime_ns) == (data, before)


def test_nobody_else_gets_the_disk_while_it_is_read(bench: Bench) -> None:
    device = bench.loop(bench.image(MIB))
    with (
        DISKS.open(str(device)),
        pytest.raises(OSError, match="busy") as refused,
        opened(device, os.O_RDONLY | os.O_EXCL),
    ):
        pass
    assert refused.value.errno == errno.EBUSY
    with opened(device, os.O_RDONLY | os.O_EXCL):
        pass  # free again


def test_a_disk_that_somebody_else_claims_is_refused(bench: Bench) -> None:
    device = bench.loop(bench.image(MIB))
    with (
        opened(device, os.O_RDONLY | os.O_EXCL),
        pytest.raises(SourceBusyError, match="in use by another program"),
        DISKS.open(str(device)),
    ):
        pass


def test_what_the_cache_remembers_is_not_read(bench: Bench) -> None:
    image = bench.image(bytes(MIB))
    device = bench.loop(image)
    with device.open("rb") as cached:
        assert not any(cached.read(MIB))
        with opened(image, os.O_WRONLY) as fd:  # behind the device's back
            os.pwrite(fd, b"new" * 1000, 0)
        buffer = aligned_buffer(4096)
        with DISKS.open(str(device)) as disk:
            disk.readinto(0, buffer)
    assert bytes(buffer[:6]) == b"newnew"


@pytest.mark.parametrize("size", [512, 512 * 3, MIB + 512])
def test_a_disk_of_an_odd_number_of_sectors(bench: Bench, size: int) -> None:
    data = os.urandom(size)
    device = bench.loop(bench.image(data))
    buffer = aligned_buffer(size)
    with DISKS.open(str(device)) as disk:
        assert disk.facts.size == size
        assert not disk.readinto(0, buffer)
    assert buffer == data


def test_half_a_sector_at_the_end_is_no_part_of_the_disk(bench: Bench) -> None:
    data = os.urandom(MIB + 1024)
    device = bench.loop(bench.image(data), "--sector-size", "4096")
    buffer = aligned_buffer(MIB)
    with DISKS.open(str(device)) as disk:
        assert disk.facts.size == MIB
        assert not disk.readinto(0, buffer)
        disk.confirm()
    assert buffer == data[:MIB]


def test_what_fails_is_told_as_a_range(bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    device = bench.loop(image)
    os.truncate(image, MIB // 2)
    with DISKS.open(str(device)) as disk:
        assert disk.readinto(0, aligned_buffer(MIB)) == [Extent(MIB // 2, MIB // 2)]
        disk.confirm()


def test_a_disk_that_lost_its_end_is_gone(bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    device = bench.loop(image)
    with DISKS.open(str(device)) as disk:
        os.truncate(image, MIB // 2)
        tool("losetup", "--set-capacity", device)
        with pytest.raises(SourceChangedError, match="not the disk it was"):
            disk.confirm()
        with pytest.raises(SourceGoneError):
            disk.readinto(MIB // 2, aligned_buffer(4096))


def test_a_failing_disk_that_also_shrank_is_gone(bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    device = bench.loop(image)
    with DISKS.open(str(device)) as disk:
        os.truncate(image, MIB // 2)
        tool("losetup", "--set-capacity", device)
        os.truncate(image, MIB // 4)
        with pytest.raises(SourceGoneError, match="no longer answers"):
            disk.readinto(MIB // 4, aligned_buffer(4096))


def test_a_partition_is_refused_and_the_whole_disk_named(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: dos\nsize=4MiB,type=83\n")
    device = bench.loop(image)
    (part,) = bench.partitions(device)
    with (
        pytest.raises(NotADiskError, match=f"is a partition; the whole disk is {device}$"),
        DISKS.open(str(part)),
    ):
        pass
    assert "is a partition" in DISKS.refusal(part)
    assert not DISKS.refusal(device)


def test_what_is_no_disk_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "file").touch()
        names = ("socket", "pipe", "file", "missing", ".", "a\0b")
        for one in (*(tmp_path / name for name in names), Path("/dev/null"), Path("/dev/tty")):
            with pytest.raises(NotADiskError), DISKS.open(str(one)):
                pass


def test_a_drive_without_a_medium_is_refused(bench: Bench) -> None:
    device = bench.empty_loop()
    with pytest.raises(NotADiskError, match="has no medium in it"), DISKS.open(str(device)):
        pass
    assert str(device) not in {one.source for one in DISKS.disks()}


def test_a_disk_pulled_at_the_last_moment_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = bench.place / "by-id"
    node.symlink_to(bench.loop(bench.image(MIB)))
    monkeypatch.setattr(guard, "refuse_busy_device", lambda *_: node.unlink())
    with pytest.raises(SourceGoneError, match="cannot be opened"), DISKS.open(str(node)):
        pass


def test_who_is_not_root_is_told_so(bench: Bench) -> None:
    device = bench.loop(bench.image(MIB))
    with (
        unprivileged(),
        pytest.raises(NeedRootError, match="Permission denied"),
        DISKS.open(str(device)),
    ):
        pass


def test_disks_are_listed_without_opening_them(bench: Bench) -> None:
    device = bench.loop(bench.image(3 * MIB))
    with opened(device, os.O_RDONLY | os.O_EXCL):
        (found,) = [one for one in DISKS.disks() if one.source == str(device)]
    assert (found.size, found.bus, found.table, found.parts) == (3 * MIB, "loop", "", ())


def test_the_list_of_disks_gives_the_reason_that_opening_gives(bench: Bench) -> None:
    device = bench.loop(bench.image(MIB))
    assert not DISKS.refusal(device)
    for one in (Path("/dev/null"), bench.place):
        with pytest.raises(NotADiskError) as refused, DISKS.open(str(one)):
            pass
        assert DISKS.refusal(one) == refused.value.what


def test_a_name_that_became_another_disk_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plugged in between the look and the opening: the guard has looked at the other one."""
    first, second = bench.loop(bench.image(MIB)), bench.loop(bench.image(MIB))
    looked_at = discovery.disk_at(first)
    monkeypatch.setattr(discovery, "disk_at", lambda _: looked_at)
    with pytest.raises(SourceChangedError, match="another disk"), DISKS.open(str(second)):
        pass
