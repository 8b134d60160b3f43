"""Live disks: read while they are mounted and written to; images that change between rounds."""

import errno
import os
from pathlib import Path

import pytest

from appliance.block import aligned_buffer, opened
from appliance.errors import NotADiskError, SourceChangedError, SourceGoneError
from appliance.ingest.attached import AttachedDisks
from appliance.ingest.image import ImageFiles
from appliance.ingest.live import LiveDisks
from appliance.model import Extent, Freezes, SourceDisk
from tests.media import Bench, tool

MIB = 1 << 20
LIVE = LiveDisks([])


def whole(disk: SourceDisk) -> bytes:
    buffer = aligned_buffer(disk.facts.size)
    assert not disk.readinto(0, buffer)
    return bytes(buffer)


def ext4(bench: Bench) -> tuple[Path, Path]:
    """A mounted disk, and where."""
    image = bench.image(16 * MIB)
    tool("mkfs.ext4", "-q", image)
    device = bench.loop(image)
    return device, bench.mount(device, bench.place / "mnt")


def test_a_mounted_disk_is_read_and_goes_on_being_used(bench: Bench) -> None:
    device, where = ext4(bench)
    with LIVE.open(str(device)) as disk:
        first = os.urandom(4096)
        (where / "first").write_bytes(first)
        tool("sync", "--file-system", where)
        assert first in whole(disk)
        second = os.urandom(4096)
        (where / "second").write_bytes(second)
        tool("sync", "--file-system", where)
        assert second in whole(disk)
        disk.confirm()
        assert disk.version == b""
        assert list(disk.extents(0)) == [Extent(0, 16 * MIB)]


def test_what_the_cache_remembers_is_not_read(bench: Bench) -> None:
    image = bench.image(bytes(MIB))
    device = bench.loop(image)
    with device.open("rb") as cached, LIVE.open(str(device)) as disk:
        assert not any(cached.read(MIB))
        with opened(image, os.O_WRONLY) as fd:  # behind the device's back
            os.pwrite(fd, b"new" * 1000, 0)
        assert whole(disk).startswith(b"newnew")


def test_where_the_cache_cannot_be_passed_by_the_disk_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = bench.loop(bench.image(MIB))
    open_it = os.open

    def without_direct(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return open_it(path, flags, mode)

    monkeypatch.setattr(os, "open", without_direct)
    with pytest.raises(NotADiskError, match="past the page cache"), LIVE.open(str(device)):
        pass


def test_what_is_no_disk_is_refused(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: dos\nsize=4MiB,type=83\n")
    (part,) = bench.partitions(bench.loop(image))
    for one in (part, image, Path("/dev/null"), bench.place, bench.empty_loop()):
        with pytest.raises(NotADiskError), LIVE.open(str(one)):
            pass


def test_bad_sectors_are_told_and_a_shrunken_disk_is_gone(bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    device = bench.loop(image)
    os.truncate(image, MIB // 2)
    with LIVE.open(str(device)) as disk:
        assert disk.readinto(0, aligned_buffer(MIB)) == [Extent(MIB // 2, MIB // 2)]
        disk.confirm()
        tool("losetup", "--set-capacity", device)
        with pytest.raises(SourceChangedError, match="not the disk it was"):
            disk.confirm()
        with pytest.raises(SourceGoneError):
            disk.readinto(MIB // 2, aligned_buffer(4096))


def test_only_live_disks_freeze(bench: Bench) -> None:
    device = bench.loop(bench.image(MIB))
    assert isinstance(LIVE, Freezes)
    assert not isinstance(AttachedDisks([]), Freezes)
    assert not isinstance(ImageFiles([]), Freezes)
    assert str(device) in {one.source for one in LIVE.disks()}


def test_an_image_may_change_between_rounds_but_not_within_one(bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    for _ in range(3):
        with ImageFiles([]).open(str(image)) as disk:
            assert whole(disk) == image.read_bytes()
            disk.confirm()
        image.write_bytes(os.urandom(MIB))
    with ImageFiles([]).open(str(image)) as disk:
        image.write_bytes(os.urandom(MIB))
        os.utime(image, ns=(1, 1))
        with pytest.raises(SourceChangedError, match="written to while it was read"):
            disk.confirm()
