"""Source: a raw image file. Holes are taken from the file system; they need not be read."""

import errno
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.block import PAGE, SECTOR, peek
from appliance.errors import NeedRootError, NotADiskError, SourceChangedError, SourceGoneError
from appliance.ingest import guard, inspection
from appliance.ingest.reading import SectorReader
from appliance.model import DiskFacts, Extent

# What the first bytes of images say that are not raw: copied as they are, they would never boot.
_NOT_RAW = {
    b"QFI\xfb": "qcow2",
    b"KDMV": "vmdk",
    b"# Disk DescriptorFile": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vhd",
}
# VirtualBox's: a text that each maker words in his own way, and at byte 64 a number (VDICore.h).
_VDI_TEXT, _VDI_NUMBER = b"<<< ", struct.pack("<I", 0xBEDA107F)

# What is said of a file whose file system is there, and the disk or host below it is not.
_UNPLUGGED = frozenset(
    {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.EHOSTDOWN}
)


class ImageDisk:
    """An opened raw image."""

    def __init__(self, fd: int, facts: DiskFacts) -> None:
        self._fd, self._facts = fd, facts
        self._opened = os.fstat(fd)
        self._reader = SectorReader(fd, SECTOR, facts.source, self._there)

    @property
    def facts(self) -> DiskFacts:
        return self._facts

    @property
    def version(self) -> bytes:
        return self._opened.st_mtime_ns.to_bytes(8, "little", signed=True)

    def extents(self, offset: int) -> Iterator[Extent]:
        """Data and holes in turn, as the file system knows them."""
        size = self._facts.size
        while offset < size:
            data = self._seek(offset, os.SEEK_DATA)
            if data > offset:
                yield Extent(offset, data - offset, hole=True)
            if data < size:
                end = self._seek(data, os.SEEK_HOLE)
                yield Extent(data, end - data)
                data = end
            offset = data

    def _seek(self, offset: int, wanted: int) -> int:
        try:
            return min(os.lseek(self._fd, offset, wanted), self._facts.size)
        except OSError as exc:
            if exc.errno != errno.ENXIO:  # ENXIO: nothing of that kind up to the end
                raise SourceGoneError(
                    f"{self._facts.source} cannot be read ({exc.strerror})"
                ) from exc
            return self._facts.size

    def readinto(self, offset: int, buffer: memoryview) -> Sequence[Extent]:
        return self._reader.readinto(offset, buffer)

    def confirm(self) -> None:
        try:
            now, then = os.fstat(self._fd), self._opened
        except OSError as exc:
            raise SourceGoneError(
                f"{self._facts.source} no longer answers ({exc.strerror})"
            ) from exc
        if (then.st_size, then.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
            raise SourceChangedError(
                f"{self._facts.source} was written to while it was read",
                safe="The point is not ended: nothing of it can be restored by mistake.",
                todo="Stop what writes to the image, then ingest it again with a new job.",
            )

    def _there(self) -> bool:
        with suppress(OSError):
            return os.fstat(self._fd).st_size == self._facts.size
        return False


class ImageFiles:
    """Raw image files. ``own`` are the directories of the device itself."""

    def __init__(self, own: Sequence[Path]) -> None:
        self._own = [Path("/"), *own]

    def disks(self) -> Sequence[DiskFacts]:
        """None: images are named, not found."""
        return []

    @contextmanager
    def open(self, name: str) -> Iterator[ImageDisk]:
        path = Path(name)
        with _opened(path, self._own) as fd:
            yield _looked_at(fd, path)


def _looked_at(fd: int, path: Path) -> ImageDisk:
    try:
        size = os.fstat(fd).st_size
        _refuse_format(fd, str(path), size)
        facts = inspection.facts(
            source=str(path.absolute()),
            serial="",
            model=f"image file {path.name}",
            bus="file",
            size=size,
            sectors=(inspection.image_sector(fd), PAGE),
        )
        return ImageDisk(fd, facts)
    except OSError as exc:
        raise SourceGoneError(f"{path} cannot be read ({exc.strerror})") from exc


@contextmanager
def _opened(path: Path, own: Sequence[Path]) -> Iterator[int]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise NotADiskError(f"{path} is neither a disk nor an image file")
        guard.refuse_image(path, own)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as exc:
        raise NeedRootError(f"{path} cannot be opened ({exc.strerror})") from exc
    except OSError as exc:
        error = SourceGoneError if exc.errno in _UNPLUGGED else NotADiskError
        raise error(f"{path} cannot be opened ({exc.strerror})") from exc
    try:
        yield fd
    finally:
        os.close(fd)


def _refuse_format(fd: int, name: str, size: int) -> None:
    if not size:
        raise NotADiskError(f"{name} is empty")
    kind = _format(peek(fd, 68, 0), peek(fd, 8, max(size - SECTOR, 0)))
    if kind is not None:
        raise NotADiskError(
            f"{name} is a {kind} image, not a raw one",
            todo="Convert it first: qemu-img convert -O raw.",
        )


def _format(front: bytes, footer: bytes) -> str | None:
    """Which format an image that begins and ends so is of; None: raw, as far as that shows."""
    if front.startswith(_VDI_TEXT) and front[64:] == _VDI_NUMBER:
        return "vdi"
    for magic, kind in _NOT_RAW.items():
        if front.startswith(magic) or (kind == "vhd" and footer.startswith(magic)):
            return kind
    return None
