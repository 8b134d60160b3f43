"""Manifest: what a disk consists of at a point - one entry a block under a tree of digests
(store-format.md, 10).

Derived by whoever holds a key, or by reading a volume; never stored on the device. Entries lie in
a mapped file or in anonymous memory, so that a large disk costs address space only.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from blake3 import blake3

from appliance.block import make_directory, opened, write_durably
from appliance.errors import StateError, StoreRefusedError
from appliance.model import Digest, DiskId, block_count, block_length
from appliance.seal.cut import zero_digest

ENTRY = 40
PAGE_ENTRIES = 4096
_HEAD = struct.Struct("<8s16sIIQ24x")
_POINT = 24
_ROOT = struct.Struct("<16sIIQ")
_ENTRY = struct.Struct("<32sB7x")
MAGIC = b"MGMANIF1"
assert (_HEAD.size, _ENTRY.size) == (64, ENTRY)


class State(IntEnum):
    """What is known of a block."""

    UNKNOWN = 0
    DATA = 1
    ZERO = 2
    UNREADABLE = 3


def file_size(size: int, block_size: int) -> int:
    """Bytes in the manifest file of a disk of ``size`` bytes."""
    return _HEAD.size + ENTRY * block_count(size, block_size)


class Manifest:
    """A disk's blocks at a point. ``disk`` and ``point`` name it; sizes are bytes."""

    def __init__(
        self, disk: DiskId, point: int, block_size: int, size: int, data: mmap.mmap | None = None
    ) -> None:
        self.disk = disk
        self.point = point
        self.block_size = block_size
        self.size = size
        self.blocks = block_count(size, block_size)
        self._data = data or mmap.mmap(-1, file_size(size, block_size))
        if data is None:
            _HEAD.pack_into(self._data, 0, MAGIC, bytes.fromhex(disk), point, block_size, size)

    def __getitem__(self, index: int) -> tuple[Digest, State]:
        found, state = _ENTRY.unpack_from(self._data, _HEAD.size + ENTRY * index)
        return Digest(found), State(state)

    def __len__(self) -> int:
        return self.blocks

    def length(self, index: int) -> int:
        """Bytes in the block."""
        return block_length(index, self.size, self.block_size)

    def set(self, index: int, digest: Digest, state: State) -> None:
        _ENTRY.pack_into(self._data, _HEAD.size + ENTRY * index, digest, state)

    def set_zero(self, index: int, count: int) -> None:
        """A run of blocks that are all zero."""
        full = _ENTRY.pack(zero_digest(self.block_size), State.ZERO)
        at, left = _HEAD.size + ENTRY * index, count
        while left:
            step = min(left, PAGE_ENTRIES)
            self._data[at : at + ENTRY * step] = full * step
            at, left = at + ENTRY * step, left - step
        last = index + count - 1
        self.set(last, zero_digest(self.length(last)), State.ZERO)

    def set_unknown(self, index: int, count: int) -> None:
        """A run of blocks of which nothing is known."""
        at, end = (_HEAD.size + ENTRY * one for one in (index, index + count))
        for start in range(at, end, ENTRY * PAGE_ENTRIES):
            stop = min(start + ENTRY * PAGE_ENTRIES, end)
            self._data[start:stop] = bytes(stop - start)

    def states(self) -> dict[State, int]:
        """How many blocks are in each state."""
        found = dict.fromkeys(State, 0)
        for page in self._pages():
            column = page[32::ENTRY]
            for state in State:
                found[state] += column.count(state)
        return found

    def find(self, state: State, first: int) -> int | None:
        """The first block in this state, from ``first`` on."""
        for number, page in enumerate(self._pages()):
            begins = number * PAGE_ENTRIES
            if begins + PAGE_ENTRIES > first:
                at = page[32::ENTRY].find(state, max(first - begins, 0))
                if at >= 0:
                    return begins + at
        return None

    def _pages(self) -> Iterator[bytes]:
        end = _HEAD.size + ENTRY * self.blocks
        step = ENTRY * PAGE_ENTRIES
        for at in range(_HEAD.size, end, step):
            yield self._data[at : min(at + step, end)]

    def page_digests(self) -> list[bytes]:
        """The digest of each page of 4,096 entries."""
        context = "motiongear/1 manifest page"
        return [blake3(page, derive_key_context=context).digest() for page in self._pages()]

    def page(self, number: int) -> range:
        """The blocks whose entries stand on a page."""
        first = number * PAGE_ENTRIES
        return range(first, min(first + PAGE_ENTRIES, self.blocks))

    def root(self, point: int | None = None) -> bytes:
        """32 bytes that bind every block, the disk, its size, the block size and the point: the
        manifest's own, or the one that these blocks are about to become.
        """
        at = self.point if point is None else point
        top = _ROOT.pack(bytes.fromhex(self.disk), at, self.block_size, self.size)
        found = blake3(top, derive_key_context="motiongear/1 manifest root")
        for page in self.page_digests():
            found.update(page)
        return found.digest()

    def copy(self) -> "Manifest":
        """The same blocks, in memory of its own."""
        data = mmap.mmap(-1, len(self._data))
        data[:] = self._data[:]
        return Manifest(self.disk, self.point, self.block_size, self.size, data)

    def move_to(self, point: int) -> None:
        """From now on the manifest is that of another point. Of its file nothing else is written:
        whoever reads the head meanwhile finds one point or the other.
        """
        self.point = point
        self._data[_POINT : _POINT + 4] = point.to_bytes(4, "little")

    def flush(self) -> None:
        """Return when what was set in a file mapped for writing is durable."""
        try:
            self._data.flush()
        except OSError as exc:
            raise StateError(f"The manifest cannot be kept ({exc.strerror})") from exc

    def save(self, path: Path) -> None:
        """Write the manifest file, whole or not at all; its directory is made when missing."""
        try:
            make_directory(path.parent, 0o700)
            with memoryview(self._data) as whole:
                write_durably(path, whole, 0o600)
        except OSError as exc:
            raise StateError(f"The manifest {path} cannot be kept ({exc.strerror})") from exc

    @classmethod
    def load(cls, path: Path, *, writing: bool = False) -> "Manifest":
        """Map a manifest file; refuses one that is cut short, not of this form, or damaged. When
        it is mapped for ``writing``, what is set changes the file.
        """
        flags, access = (
            (os.O_RDWR, mmap.ACCESS_WRITE) if writing else (os.O_RDONLY, mmap.ACCESS_READ)
        )
        with suppress(OSError, ValueError, struct.error), opened(path, flags) as fd:
            data = mmap.mmap(fd, 0, access=access)
            found = cls(*_parse_head(data, len(data)), data)
            found._refuse_damaged(path)
            return found
        raise _no_manifest(path)

    def _refuse_damaged(self, path: Path) -> None:
        if odd := self.blocks - sum(self.states().values()):
            raise StoreRefusedError(
                f"The manifest {path} is damaged: {odd} blocks are in no state there is",
                todo="Derive it again from the store.",
            )


def point_of(path: Path) -> int:
    """The point that a manifest file is of, told by its head: refused as ``Manifest.load`` does,
    but for what stands in its entries.
    """
    with suppress(OSError, ValueError, struct.error), opened(path, os.O_RDONLY) as fd:
        _, point, _, _ = _parse_head(os.pread(fd, _HEAD.size, 0), os.fstat(fd).st_size)
        return point
    raise _no_manifest(path)


def _parse_head(data: bytes | mmap.mmap, length: int) -> tuple[DiskId, int, int, int]:
    """Disk, point, block size and size; ValueError or struct.error when a file of ``length``
    bytes that begins so is no manifest.
    """
    magic, disk, point, block_size, size = _HEAD.unpack_from(data)
    if magic != MAGIC or block_size == 0 or length != file_size(size, block_size):
        raise ValueError
    return DiskId(disk.hex()), point, block_size, size


def _no_manifest(path: Path) -> StoreRefusedError:
    return StoreRefusedError(f"{path} is not a manifest", todo="Derive it again from the store.")
