"""Raw image files: holes are known, other formats refused, writers noticed."""

import errno
import os
from pathlib import Path

import pytest

from appliance import jobs
from appliance.block import aligned_buffer, opened
from appliance.errors import NeedRootError, NotADiskError, SourceChangedError, SourceGoneError
from appliance.ingest import guard
from appliance.ingest.image import ImageDisk, ImageFiles
from appliance.model import Extent
from tests.disks.disk import Disk
from tests.disks.faults import gone
from tests.media import Bench, tool, unprivileged
from tests.support import facts

MIB = 1 << 20
VDI = b"\x7f\x10\xda\xbe"
IMAGES = ImageFiles([])


def image(place: Path, data: bytes, name: str = "disk.img") -> Path:
    path = place / name
    path.write_bytes(data)
    return path


def why_refused(path: Path) -> str:
    with pytest.raises(NotADiskError) as refused, IMAGES.open(str(path)):
        pass
    return refused.value.what


def test_an_image_is_read_whole_and_left_as_it_was(tmp_path: Path) -> None:
    data = os.urandom(MIB + 100)
    path = image(tmp_path, data)
    before = path.stat().st_mtime_ns
    buffer = aligned_buffer(len(data))
    with IMAGES.open(str(path)) as disk:
        assert not disk.readinto(0, buffer)
        disk.confirm()
    assert buffer == data
    assert (disk.facts.source, disk.facts.size) == (str(path), len(data))
    assert (disk.facts.model, disk.facts.bus) == ("image file disk.img", "file")
    assert (disk.facts.logical_sector, disk.facts.physical_sector) == (512, 4096)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (data, before)


def test_images_are_named_not_found() -> None:
    assert not IMAGES.disks()


def test_holes_need_not_be_read(tmp_path: Path) -> None:
    path = image(tmp_path, b"")
    with opened(path, os.O_WRONLY) as fd:
        os.truncate(fd, 1 << 40)
        os.pwrite(fd, b"x" * 4096, 1 << 20)
        os.pwrite(fd, b"y" * 4096, (1 << 40) - 4096)
    with IMAGES.open(str(path)) as disk:
        assert list(disk.extents(0)) == [
            Extent(0, 1 << 20, hole=True),
            Extent(1 << 20, 4096),
            Extent((1 << 20) + 4096, (1 << 40) - (1 << 20) - 8192, hole=True),
            Extent((1 << 40) - 4096, 4096),
        ]
        assert next(disk.extents(1 << 39)).hole
        assert not list(disk.extents(1 << 40))


def test_an_image_may_be_nothing_but_hole(tmp_path: Path) -> None:
    path = image(tmp_path, b"")
    os.truncate(path, 10 * MIB)
    with IMAGES.open(str(path)) as disk:
        assert list(disk.extents(MIB)) == [Extent(MIB, 9 * MIB, hole=True)]


@pytest.mark.parametrize("change", ["longer", "shorter", "written", "touched"])
def test_an_image_that_is_written_to_is_noticed(tmp_path: Path, change: str) -> None:
    path = image(tmp_path, bytes(MIB))
    with IMAGES.open(str(path)) as disk:
        disk.confirm()
        match change:
            case "longer" | "shorter":
                os.truncate(path, 2 * MIB if change == "longer" else MIB // 2)
            case "written":
                with opened(path, os.O_WRONLY) as fd:
                    os.pwrite(fd, b"x", 100)
            case _:
                os.utime(path, ns=(0, 0))
        with pytest.raises(SourceChangedError, match="was written to while it was read"):
            disk.confirm()


def test_an_image_that_became_shorter_is_gone(tmp_path: Path) -> None:
    path = image(tmp_path, os.urandom(MIB))
    with IMAGES.open(str(path)) as disk:
        os.truncate(path, MIB // 2)
        with pytest.raises(SourceGoneError, match=f"ends at byte {MIB // 2}: it became shorter"):
            disk.readinto(0, aligned_buffer(MIB))
        assert all(one.hole for one in disk.extents(MIB // 2))  # confirm refuses the point


def test_an_image_on_a_failing_disk(bench: Bench) -> None:
    """The file system's own disk fails with EIO behind its middle."""
    outer = bench.image(16 * MIB, "outer.img")
    tool("mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", outer)
    device = bench.loop(outer)
    where = bench.mount(device, bench.place / "mnt", "-o", "ro,norecovery")
    tool("mount", "-o", "remount,rw", where)
    path = image(where, os.urandom(12 * MIB))
    tool("sync", "-f", path)
    tool("mount", "-o", "remount,ro", where)
    Path("/proc/sys/vm/drop_caches").write_text("1")
    os.truncate(outer, 12 * MIB)
    buffer = aligned_buffer(12 * MIB)
    with IMAGES.open(str(path)) as disk:
        bad = disk.readinto(0, buffer)
        disk.confirm()
    assert bad
    assert all(0 < one.offset < one.end <= 12 * MIB for one in bad)
    assert not any(any(buffer[one.offset : one.end]) for one in bad)
    assert any(buffer[: bad[0].offset])


def test_an_image_whose_disk_was_unplugged_is_gone(bench: Bench) -> None:
    """Whatever is asked of it."""
    with Disk(bench.place / "stick") as disk:
        path = image(disk.path, os.urandom(MIB))
        with IMAGES.open(str(path)) as opened_image:
            disk.inject(gone())
            with pytest.raises(SourceGoneError):
                opened_image.readinto(0, aligned_buffer(MIB))
            with pytest.raises(SourceGoneError):
                opened_image.confirm()
        with pytest.raises(SourceGoneError), jobs.source_for(str(path), ()).open(str(path)):
            pass


def test_an_image_that_goes_while_it_is_opened_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unplugged(*_: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    path = image(tmp_path, bytes(MIB))
    monkeypatch.setattr(ImageDisk, "__init__", unplugged)
    with pytest.raises(SourceGoneError, match="No such device"), IMAGES.open(str(path)):
        pass


def test_an_image_whose_server_is_gone_ends_with_a_sentence(tmp_path: Path) -> None:
    with opened(image(tmp_path, bytes(MIB)), os.O_RDONLY) as fd:
        disk = ImageDisk(fd, facts(MIB, source="/nfs/disk.img"))
    with pytest.raises(SourceGoneError, match=r"/nfs/disk\.img cannot be read"):
        list(disk.extents(0))


def test_an_image_cut_off_between_two_looks_is_read_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path, os.urandom(MIB))
    seek = os.lseek

    def racing(fd: int, offset: int, whence: int) -> int:
        if whence == os.SEEK_HOLE:
            os.truncate(path, 0)
        return seek(fd, offset, whence)

    with IMAGES.open(str(path)) as disk:
        monkeypatch.setattr(os, "lseek", racing)
        assert list(disk.extents(0)) == [Extent(0, MIB)]
        with pytest.raises(SourceGoneError, match="became shorter"):
            disk.readinto(0, aligned_buffer(MIB))


@pytest.mark.parametrize(
    ("front", "kind"),
    [
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"KDMV\1\0\0\0", "vmdk"),
        (b"# Disk DescriptorFile\n", "vmdk"),
        (b"conectix", "vhd"),
        (b"vhdxfile", "vhdx"),
        (b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + VDI, "vdi"),
        (b"<<< QEMU VM Virtual Disk Image >>>\n".ljust(64, b"\0") + VDI, "vdi"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, front: bytes, kind: str) -> None:
    path = image(tmp_path, front.ljust(MIB, b"\0"))
    assert why_refused(path) == f"{path} is a {kind} image, not a raw one"
    with IMAGES.open(str(image(tmp_path, b"-" + front.ljust(MIB, b"\0")))):
        pass  # elsewhere such bytes mean nothing


def test_half_a_sign_of_virtualbox_is_somebody_elses_content(tmp_path: Path) -> None:
    for front in (b"<<< a text >>>".ljust(68, b"\0"), bytes(64) + VDI):
        with IMAGES.open(str(image(tmp_path, front.ljust(MIB, b"\0")))):
            pass


def test_a_fixed_vhd_says_so_at_its_end(tmp_path: Path) -> None:
    footer = b"conectix".ljust(512, b"\0")
    assert "is a vhd image" in why_refused(image(tmp_path, bytes(MIB) + footer))
    with IMAGES.open(str(image(tmp_path, b"x" + bytes(MIB - 512) + b"vhdxfile"))):
        pass


def test_an_image_of_a_few_bytes(tmp_path: Path) -> None:
    buffer = aligned_buffer(3)
    with IMAGES.open(str(image(tmp_path, b"abc"))) as disk:
        assert list(disk.extents(0)) == [Extent(0, 3)]
        assert not disk.readinto(0, buffer)
    assert bytes(buffer) == b"abc"


def test_an_empty_image_is_refused(tmp_path: Path) -> None:
    assert why_refused(image(tmp_path, b"")).endswith("is empty")


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a disk nor an image file" in why_refused(tmp_path / "pipe")


def test_nor_for_the_writer_of_a_pipe_put_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path, b"content")

    def exchange(*_: object) -> None:
        path.unlink()
        os.mkfifo(path)

    monkeypatch.setattr(guard, "refuse_image", exchange)
    assert why_refused(path).endswith("is empty")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    for one in (tmp_path, Path("/dev/null"), tmp_path / "missing" / "disk.img"):
        why_refused(one)
    for name in ("circle", "dangling", "missing", "x" * 300):
        assert "cannot be opened" in why_refused(tmp_path / name)


def test_a_link_is_followed(tmp_path: Path) -> None:
    image(tmp_path, b"content", "real.img")
    (tmp_path / "link.img").symlink_to("real.img")
    with IMAGES.open(str(tmp_path / "link.img")) as disk:
        assert disk.facts.size == 7


def test_who_may_not_read_the_image_is_told_so(bench: Bench) -> None:
    path = bench.image(b"content")
    with unprivileged(), pytest.raises(NeedRootError), IMAGES.open(str(path)):
        pass


def test_a_name_that_is_no_text_does_not_hinder(tmp_path: Path) -> None:
    path = image(tmp_path, b"content", os.fsdecode(b"\xff.img"))
    with IMAGES.open(str(path)) as disk:
        assert disk.facts.source == str(path).replace("\udcff", "?")
        assert disk.facts.size == 7


def test_an_image_has_another_version_once_it_was_written_to(tmp_path: Path) -> None:
    path = tmp_path / "web01.img"
    path.write_bytes(b"x" * 4096)
    with ImageFiles(()).open(str(path)) as disk:
        before = disk.version
    with ImageFiles(()).open(str(path)) as disk:
        assert disk.version == before
    os.utime(path, ns=(1, 1))
    with ImageFiles(()).open(str(path)) as disk:
        assert disk.version != before
