"""What must not be read as a source: disks in use, and everything the device itself stands on.

Follows partitions, device-mapper and RAID members, and loop devices into the files behind them.
"""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from appliance.block import opened
from appliance.errors import OwnDiskError, SourceBusyError

_SYS = Path("/sys/dev/block")
_BTRFS = Path("/sys/fs/btrfs")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo: its number, that of the device, where, and from what; the type of the
    file system, and whether all of it is read-only.
    """

    id: int
    number: int
    where: str
    source: str
    type: str = ""
    read_only: bool = False


@dataclass(slots=True)
class Backing:
    """Everything that one path stands on: device numbers, and files behind loop devices as
    (device, inode).
    """

    devices: set[int] = field(default_factory=set)
    files: set[tuple[int, int]] = field(default_factory=set)


def _path(escaped: bytes) -> str:
    """A path as the kernel lists it: blanks, line ends and backslashes stand as octal numbers."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), escaped))


def mounts(listed: Path = Path("/proc/self/mountinfo")) -> Iterator[Mount]:
    for line in listed.read_bytes().split(b"\n")[:-1]:
        before, _, after = line.partition(b" - ")
        words = before.split(b" ")
        major, _, minor = words[2].partition(b":")
        number = os.makedev(int(major), int(minor))
        kind, source, options = after.split(b" ")[:3]
        yield Mount(
            id=int(words[0]),
            number=number,
            where=_path(words[4]),
            source=_path(source),
            type=os.fsdecode(kind),
            read_only=b"ro" in options.split(b","),
        )


def _node(number: int) -> Path:
    return _SYS / f"{os.major(number)}:{os.minor(number)}"


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        major, _, minor = (path / "dev").read_text().strip().partition(":")
        return os.makedev(int(major), int(minor))
    return None


def _device_of(path: str) -> int | None:
    """The device number behind a node such as /dev/sda1, if it is one."""
    with suppress(OSError):
        found = Path(path).stat()
        return found.st_rdev if stat.S_ISBLK(found.st_mode) else None
    return None


def _numbers(paths: Iterable[Path]) -> Iterator[int]:
    for path in paths:
        number = _number(path)
        if number is not None:
            yield number


def _companions(number: int) -> Iterator[int]:
    """All devices of the mounted btrfs that this one is part of; a mount names but one of them."""
    for one in _BTRFS.glob("*/devices"):
        with suppress(OSError):
            members = set(_numbers(one.iterdir()))
            if number in members:
                yield from members


def _below(number: int) -> Iterator[int]:
    """What a device directly stands on or with: its whole disk, its members."""
    node = _node(number)
    if (node / "partition").exists():
        yield from _numbers([(node / "..").resolve()])
    with suppress(OSError):
        yield from _numbers((node / "slaves").iterdir())
    yield from _companions(number)


def _above(number: int) -> Iterator[int]:
    """What directly stands on or with a device: its partitions, what holds it."""
    node = _node(number)
    with suppress(OSError):
        yield from _numbers(one for one in node.iterdir() if (one / "partition").exists())
    with suppress(OSError):
        yield from _numbers((node / "holders").iterdir())
    yield from _companions(number)


def _loop_file(number: int) -> Path | None:
    with suppress(OSError):
        name = (_node(number) / "loop" / "backing_file").read_bytes()
        return Path(os.fsdecode(name.removesuffix(b"\n")))
    return None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def mount_of(fd: int) -> int:
    """The number of the mount that a descriptor was opened in."""
    words = Path(f"/proc/self/fdinfo/{fd}").read_text().split()
    return int(words[words.index("mnt_id:") + 1])


def _carriers(path: Path) -> list[int]:
    """The devices of the file system that ``path`` lies in."""
    number = path.stat().st_dev
    if os.major(number):
        return [number]
    # btrfs and overlay have numbers of their own: ask what was mounted
    with opened(path, os.O_PATH) as fd:
        mount = mount_of(fd)
    found = [_device_of(one.source) for one in mounts() if one.id == mount]
    return [one for one in found if one is not None]


def backing(path: Path) -> Backing:
    """Everything ``path`` stands on, down to the disks."""
    found = Backing()
    _add_path(found, path)
    return found


def standing(mount: Mount) -> set[int]:
    """The devices that a mounted file system stands on, down to the disks; none in memory or over
    a network.
    """
    found = Backing()
    number = mount.number if os.major(mount.number) else _device_of(mount.source)
    if number is not None:
        _add_device(found, number)
    return found.devices


def _add_path(found: Backing, path: Path) -> None:
    with suppress(OSError):
        for number in _carriers(path):
            _add_device(found, number)


def _add_device(found: Backing, number: int) -> None:
    if number in found.devices:
        return
    found.devices.add(number)
    for one in _below(number):
        _add_device(found, one)
    file = _loop_file(number)
    if file is not None:
        with suppress(OSError):
            found.files.add(_identity(file))
            if stat.S_ISBLK((told := file.stat()).st_mode):
                _add_device(found, told.st_rdev)
                return
        _add_path(found, file)


def _users(number: int) -> set[int]:
    """The device, its partitions, and all that is built on them."""
    found: set[int] = set()
    todo = [number]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += _above(one)
    return found


def _swaps() -> Iterator[tuple[int, str]]:
    for line in Path("/proc/swaps").read_bytes().split(b"\n")[1:-1]:
        name = _path(line.split()[0])
        number = _device_of(name)
        if number is not None:
            yield number, name


def refuse_own_device(number: int, name: str, own: Sequence[Path]) -> None:
    """Refuse a disk that the root file system, the store or the state stands on."""
    for path in own:
        if number in backing(path).devices:
            raise OwnDiskError(f"{name} carries {path}, which the device itself works on")


def why_busy(number: int) -> str | None:
    """What uses the disk right now: a mount, a swap area, something built on it; None when
    nothing does.
    """
    users = _users(number)
    for one in mounts():
        if number in standing(one) or one.number in users or _device_of(one.source) in users:
            return f"it is mounted at {one.where}"
    for swap, name in _swaps():
        if swap in users:
            return f"{name} is in use as swap space"
    for user in users:
        with suppress(OSError):
            for holder in (_node(user) / "holders").iterdir():
                return f"it is part of {holder.name}"
    return None


def refuse_busy_device(number: int, name: str) -> None:
    why = why_busy(number)
    if why is not None:
        raise SourceBusyError(f"{name} is in use: {why}")


def _loops() -> Iterator[tuple[int, Path]]:
    """The loop devices in use, each with what lies behind it."""
    for number in _numbers(Path("/sys/block").glob("loop*")):
        if (file := _loop_file(number)) is not None:
            yield number, file


def _loops_on(image: tuple[int, int]) -> Iterator[int]:
    for number, file in _loops():
        with suppress(OSError):
            if _identity(file) == image:
                yield number


def _loops_over(number: int) -> set[int]:
    """The loop device, and those that were made of it."""
    found: set[int] = set()
    todo = [number]
    while todo:
        found.add(one := todo.pop())
        todo += [other for other, file in _loops() if _device_of(str(file)) == one]
    return found


def _claimed(number: int) -> bool:
    """Whether the kernel gives the device to nobody else. A file system that is mounted in another
    mount namespace only, as a container's may be, shows here and nowhere else.
    """
    node = Path("/dev") / _node(number).resolve().name
    try:
        with opened(node, os.O_RDONLY | os.O_EXCL):
            return False
    except OSError as exc:
        return exc.errno == errno.EBUSY


def refuse_image(path: Path, own: Sequence[Path]) -> None:
    """Refuse an image file that is part of the device, or is in use through a loop device."""
    image, real = _identity(path), path.resolve()
    for one in own:
        if image in backing(one).files:
            raise OwnDiskError(f"{path} carries {one}, which the device itself works on")
        if one != Path("/") and one.resolve() in real.parents:
            raise OwnDiskError(f"{path} lies inside {one}, which is the device's own")
    for number in _loops_on(image):
        why = why_busy(number)
        if why is not None:
            raise SourceBusyError(f"{path} is in use through a loop device: {why}")
        if any(_claimed(user) for user in _loops_over(number)):
            raise SourceBusyError(
                f"{path} is in use through a loop device: it is mounted, perhaps in a container"
            )
