"""Source: disks attached to this machine. Read-only, alone, past the page cache, never written."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.block import device_size, sector_sizes
from appliance.errors import (
    MotionGearError,
    NeedRootError,
    NotADiskError,
    SourceBusyError,
    SourceChangedError,
    SourceGoneError,
)
from appliance.ingest import discovery, guard, inspection
from appliance.ingest.reading import SectorReader
from appliance.model import DiskFacts, Extent


class DeviceDisk:
    """An opened block device."""

    def __init__(self, fd: int, facts: DiskFacts) -> None:
        self._facts = facts
        self._reader = SectorReader(fd, facts.logical_sector, facts.source, self._there)
        self._fd = fd

    @property
    def facts(self) -> DiskFacts:
        return self._facts

    @property
    def version(self) -> bytes:
        """Empty: a block device counts no writes."""
        return b""

    def extents(self, offset: int) -> Iterator[Extent]:
        """One extent: a block device does not say where it is empty."""
        yield Extent(offset, self._facts.size - offset)

    def readinto(self, offset: int, buffer: memoryview) -> Sequence[Extent]:
        return self._reader.readinto(offset, buffer)

    def confirm(self) -> None:
        if not self._there():
            raise SourceChangedError(f"{self._facts.source} is not the disk it was at the start")

    def _there(self) -> bool:
        """Whether the kernel still knows the device with its size: a pulled disk has size 0 or
        no node in sysfs.
        """
        number = os.fstat(self._fd).st_rdev
        node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        with suppress(OSError):
            return node.exists() and _addressable(self._fd) == self._facts.size
        return False


class AttachedDisks:
    """The disks of this machine. ``own`` are paths whose disks are the device's own: store,
    state, root.
    """

    def __init__(self, own: Sequence[Path]) -> None:
        self._own = [Path("/"), *own]

    def disks(self) -> Sequence[DiskFacts]:
        return listed()

    def refusal(self, path: Path) -> str:
        """Why the disk may not be read; empty when it may."""
        try:
            one = discovery.disk_at(path)
            guard.refuse_own_device(one.number, str(path), self._own)
            guard.refuse_busy_device(one.number, str(path))
        except MotionGearError as exc:
            return exc.what
        return ""

    @contextmanager
    def open(self, name: str) -> Iterator[DeviceDisk]:
        one = discovery.disk_at(Path(name))
        guard.refuse_own_device(one.number, name, self._own)
        guard.refuse_busy_device(one.number, name)
        # O_EXCL: the kernel refuses while anything has the disk mounted or claimed, and refuses
        # others while we read.
        with opened_disk(one, name, os.O_EXCL) as disk:
            yield disk


@contextmanager
def opened_disk(one: discovery.Attached, name: str, flags: int) -> Iterator[DeviceDisk]:
    """The disk that was found at ``name``, read-only and past the page cache."""
    with _opened(name, flags) as fd:
        if os.fstat(fd).st_rdev != one.number:
            raise SourceChangedError(f"{name} became another disk while it was opened")
        size = _addressable(fd)
        if not size:
            raise NotADiskError(f"{name} has no medium in it")
        facts = inspection.facts(
            source=name,
            serial=one.serial,
            model=one.model,
            bus=one.bus,
            size=size,
            sectors=sector_sizes(fd),
        )
        yield DeviceDisk(fd, facts)


@contextmanager
def _opened(name: str, flags: int) -> Iterator[int]:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC | flags)
    except PermissionError as exc:
        raise NeedRootError(f"{name} cannot be opened ({exc.strerror})") from exc
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            raise SourceBusyError(f"{name} is in use by another program") from exc
        if exc.errno == errno.EINVAL:
            raise NotADiskError(f"{name} cannot be read past the page cache") from exc
        raise SourceGoneError(f"{name} cannot be opened ({exc.strerror})") from exc
    try:
        yield fd
    finally:
        os.close(fd)


def _addressable(fd: int) -> int:
    """Bytes in whole sectors: a remainder, as a loop device may have one, cannot be read."""
    size = device_size(fd)
    return size - size % sector_sizes(fd)[0]


def listed() -> Sequence[DiskFacts]:
    """The disks of this machine, without opening them."""
    return [_outside(one) for one in discovery.disks()]


def _outside(one: discovery.Attached) -> DiskFacts:
    """What is known of a disk without opening it."""
    return DiskFacts(
        source=str(one.path),
        serial=one.serial,
        model=one.model,
        bus=one.bus,
        size=one.size,
        logical_sector=512,
        physical_sector=512,
        table="",
        table_id="",
        firmware_hint="unknown",
        parts=(),
    )
