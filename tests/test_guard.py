"""What must not be read as a source: disks in use, and what the device itself stands on."""

import os
import subprocess
from pathlib import Path

import pytest

from appliance.errors import MotionGearError, OwnDiskError, SourceBusyError
from appliance.ingest import guard
from appliance.ingest.attached import AttachedDisks
from appliance.ingest.image import ImageFiles
from appliance.model import Source
from tests.media import Bench, tool

MIB = 1 << 20


def ext4(bench: Bench, name: str = "disk.img", size: int = 16 * MIB) -> Path:
    image = bench.image(size, name)
    tool("mkfs.ext4", "-q", image)
    return image


def refused(source: Source, path: Path, error: type[MotionGearError]) -> str:
    """Why the source does not open the path."""
    with pytest.raises(error) as found, source.open(str(path)):
        pass
    return found.value.what


def refused_disk(device: Path) -> str:
    return refused(AttachedDisks([]), device, SourceBusyError)


def test_a_mounted_disk_is_refused(bench: Bench) -> None:
    device = bench.loop(ext4(bench))
    where = bench.mount(device, bench.place / "mnt")
    assert refused_disk(device) == f"{device} is in use: it is mounted at {where}"


@pytest.mark.parametrize(
    "name",
    ["two words", "back\\slash", "line\nend", "tab\t\r", "\u00fc\u00a0\u2028\x1c\x85", " - "],
)
def test_wherever_it_is_mounted(bench: Bench, name: str) -> None:
    device = bench.loop(ext4(bench))
    where = bench.mount(device, bench.place / name)
    assert refused_disk(device).endswith(f"mounted at {where}")


def test_even_where_the_name_is_no_text(bench: Bench) -> None:
    device = bench.loop(ext4(bench))
    where = bench.mount(device, bench.place / os.fsdecode(b"\xff \\"))
    assert refused_disk(device).endswith(f"mounted at {where}")


def test_a_disk_with_a_mounted_partition_is_refused(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: gpt\nstart=2048\n")
    tool("mkfs.ext4", "-q", "-E", f"offset={MIB}", image, "14000")
    device = bench.loop(image)
    (part,) = bench.partitions(device)
    where = bench.mount(part, bench.place / "mnt")
    assert f"mounted at {where}" in refused_disk(device)
    refused(ImageFiles([]), image, SourceBusyError)


def test_a_disk_that_is_mounted_through_a_loop_device_over_it_is_refused(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("mkfs.ext4", "-q", "-E", f"offset={MIB}", image, "14000")
    device = bench.loop(image)
    window = bench.loop(device, "--offset", str(MIB))
    where = bench.mount(window, bench.place / "mnt")
    assert f"mounted at {where}" in refused_disk(device)
    refused(AttachedDisks([where]), device, OwnDiskError)


def test_swap_is_refused(bench: Bench) -> None:
    device = bench.loop(bench.image(16 * MIB))
    bench.swap(device)
    assert refused_disk(device) == f"{device} is in use: {device} is in use as swap space"


def test_a_file_that_is_swap_makes_no_disk_busy(bench: Bench) -> None:
    used = bench.mount(bench.loop(ext4(bench, size=32 * MIB)), bench.place / "mnt")
    (used / "swap").write_bytes(bytes(16 * MIB))
    (used / "swap").chmod(0o600)
    bench.swap(used / "swap")
    free = bench.loop(bench.image(MIB, "other.img"))
    assert not AttachedDisks([]).refusal(free)


def test_the_disk_under_the_root_directory_is_refused() -> None:
    found = guard.backing(Path("/")).devices
    assert found or not os.major(Path("/").stat().st_dev)
    for number in found:
        with pytest.raises(OwnDiskError, match="carries /, which"):
            guard.refuse_own_device(number, "vda", [Path("/")])
        node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
        if not (node / "partition").exists():
            refused(AttachedDisks([]), Path("/dev", node.name), OwnDiskError)


def test_the_disk_under_the_store_is_refused(bench: Bench) -> None:
    image = ext4(bench)
    device = bench.loop(image)
    store = bench.mount(device, bench.place / "mnt") / "store"
    store.mkdir()
    assert str(store) in refused(AttachedDisks([store]), device, OwnDiskError)
    refused(ImageFiles([store]), image, OwnDiskError)


def test_the_disk_of_the_partition_under_the_store_is_refused(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: dos\nstart=2048\n")
    device = bench.loop(image)
    (part,) = bench.partitions(device)
    tool("mkfs.ext4", "-q", part)
    store = bench.mount(part, bench.place / "mnt")
    refused(AttachedDisks([store]), device, OwnDiskError)


def test_so_is_everything_below(bench: Bench) -> None:
    """A store on a loop device on an image on a loop device on an image."""
    outer_image = ext4(bench, "outer.img", 48 * MIB)
    outer = bench.loop(outer_image)
    inner_image = bench.mount(outer, bench.place / "outer") / "inner.img"
    os.truncate(bench.image(0, str(inner_image)), 16 * MIB)
    tool("mkfs.ext4", "-q", inner_image)
    inner = bench.loop(inner_image)
    store = bench.mount(inner, bench.place / "store")
    for device in (outer, inner):
        with pytest.raises(OwnDiskError), AttachedDisks([store]).open(str(device)):
            pass
    for image in (outer_image, inner_image):
        refused(ImageFiles([store]), image, OwnDiskError)


def btrfs(bench: Bench, *options: str, count: int) -> list[Path]:
    images = [bench.image(128 * MIB, f"btrfs{one}.img") for one in range(count)]
    tool("mkfs.btrfs", "-q", *options, *images)
    return images


def test_a_store_on_btrfs_has_a_disk_too(bench: Bench) -> None:
    images = btrfs(bench, count=1)
    device = bench.loop(images[0])
    store = bench.mount(device, bench.place / "mnt")
    assert not os.major(store.stat().st_dev)
    refused(AttachedDisks([store]), device, OwnDiskError)


def test_a_store_on_btrfs_may_have_many_disks(bench: Bench) -> None:
    images = btrfs(bench, "--data", "raid1", "--metadata", "raid1", count=2)
    devices = [bench.loop(one) for one in images]
    tool("btrfs", "device", "scan", *devices)
    where = bench.mount(devices[0], bench.place / "mnt")
    for device, image in zip(devices, images, strict=True):
        assert f"mounted at {where}" in refused_disk(device)
        with pytest.raises(OwnDiskError), AttachedDisks([where]).open(str(device)):
            pass
        refused(ImageFiles([]), image, SourceBusyError)


def test_an_image_inside_the_store_is_refused(bench: Bench) -> None:
    store = bench.place / "store"
    store.mkdir()
    bench.image(MIB, "store/packs.img")
    (bench.place / "link.img").symlink_to(store / "packs.img")
    (bench.place / "here").symlink_to(store)
    said = refused(ImageFiles([store]), store / "packs.img", OwnDiskError)
    assert said == f"{store}/packs.img lies inside {store}, which is the device's own"
    refused(ImageFiles([store]), bench.place / "link.img", OwnDiskError)
    refused(ImageFiles([bench.place / "here"]), store / "packs.img", OwnDiskError)
    with ImageFiles([store]).open(str(bench.image(MIB, "store.img"))) as disk:
        assert disk.facts.size == MIB


def test_an_image_that_is_mounted_through_a_loop_device_is_refused(bench: Bench) -> None:
    image = ext4(bench)
    device = bench.loop(image)
    with ImageFiles([]).open(str(image)):
        pass  # attached, but nothing uses it
    where = bench.mount(device, bench.place / "mnt", "-o", "ro")
    said = refused(ImageFiles([]), image, SourceBusyError)
    assert said == f"{image} is in use through a loop device: it is mounted at {where}"


@pytest.mark.parametrize("windows", [0, 1], ids=["the disk", "a part of it"])
def test_an_image_that_is_mounted_only_in_a_container_is_refused(
    bench: Bench, windows: int
) -> None:
    image = ext4(bench)
    device = bench.loop(image)
    for _ in range(windows):
        device = bench.loop(Path(device))
    place = bench.place / "mnt"
    place.mkdir()
    script = 'mount "$0" "$1" && echo mounted && read -r _'
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, device, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"mounted\n"
        said = refused(ImageFiles([]), image, SourceBusyError)
        container.communicate(b"\n")
    assert said.endswith("through a loop device: it is mounted, perhaps in a container")
    with ImageFiles([]).open(str(image)):
        pass


def test_a_path_that_is_not_there_stands_on_nothing(tmp_path: Path) -> None:
    assert guard.backing(tmp_path / "missing") == guard.Backing()


def test_a_memory_file_system_stands_on_no_disk(bench: Bench) -> None:
    where = bench.mount("/dev/null", bench.place / "mnt", "-t", "tmpfs")
    assert not guard.backing(where).devices


class Sysfs:
    """A machine with other devices than this one's: what stands on what, as sysfs shows it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def disk(self, number: int, name: str) -> Path:
        number_text = f"{os.major(number)}:{os.minor(number)}"
        node = self.root / number_text
        for one in ("holders", "slaves"):
            (node / one).mkdir(parents=True)
        (node / "dev").write_text(f"{number_text}\n")
        (node / "name").write_text(name)
        return node

    @staticmethod
    def stack(upper: Path, name: str, lower: Path) -> None:
        """``upper`` is built on ``lower``."""
        (lower / "holders" / name).symlink_to(upper)
        (upper / "slaves" / (lower / "name").read_text()).symlink_to(lower)


SDA, SDB, MD0, DM0 = (os.makedev(254, minor) for minor in range(90, 94))


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    monkeypatch.setattr(guard, "_SYS", tmp_path / "sys")
    return Sysfs(tmp_path / "sys")


def test_a_member_of_a_volume_group_is_refused(sysfs: Sysfs) -> None:
    sysfs.stack(sysfs.disk(DM0, "dm-0"), "dm-0", sysfs.disk(SDA, "sda"))
    assert guard.why_busy(SDA) == "it is part of dm-0"


def test_a_disk_under_a_mounted_volume_is_refused(
    sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, raid, volume = sysfs.disk(SDA, "sda"), sysfs.disk(MD0, "md0"), sysfs.disk(DM0, "dm-0")
    sysfs.stack(raid, "md0", disk)
    sysfs.stack(volume, "dm-0", raid)
    mount = guard.Mount(1, DM0, "/srv", "/dev/mapper/data")
    monkeypatch.setattr(guard, "mounts", lambda: iter([mount]))
    assert guard.why_busy(SDA) == "it is mounted at /srv"


def test_all_members_of_the_array_under_the_store_are_its_own(bench: Bench, sysfs: Sysfs) -> None:
    store = bench.mount(bench.loop(ext4(bench)), bench.place / "store")
    raid = sysfs.disk(store.stat().st_dev, "md0")
    for number, name in ((SDA, "sda"), (SDB, "sdb")):
        sysfs.stack(raid, "md0", sysfs.disk(number, name))
        with pytest.raises(OwnDiskError):
            guard.refuse_own_device(number, name, [store])


def test_a_holder_that_vanishes_while_one_looks_is_still_named(sysfs: Sysfs) -> None:
    disk = sysfs.disk(SDA, "sda")
    (disk / "holders" / "dm-9").symlink_to(sysfs.root / "gone")
    assert guard.why_busy(SDA) == "it is part of dm-9"


def test_a_loop_device_whose_file_was_removed_stands_on_nothing_else(bench: Bench) -> None:
    image = bench.image(16 * MIB, os.fsdecode(b"\xff.img"))
    tool("mkfs.ext4", "-q", image)
    device = bench.loop(image)
    store = bench.mount(device, bench.place / "store")
    refused(ImageFiles([store]), image, OwnDiskError)
    image.unlink()
    assert guard.backing(store) == guard.Backing({device.stat().st_rdev})
    with ImageFiles([]).open(str(bench.image(MIB, "other.img"))) as disk:
        assert disk.facts.size == MIB


def test_a_subvolume_inside_the_btrfs_has_the_same_disk(bench: Bench) -> None:
    device = bench.loop(btrfs(bench, count=1)[0])
    where = bench.mount(device, bench.place / "mnt")
    tool("btrfs", "subvolume", "create", where / "store")
    assert device.stat().st_rdev in guard.backing(where / "store").devices
