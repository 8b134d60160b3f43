"""The recovery reader: disks out of nothing but pack files and a private key.

No head, no seal, no index, no order of files is needed; torn and open packs are read as far as
they go. What it cannot prove it says: without the seal nobody vouches that all packs are there,
nor who wrote them.
"""

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.block import aligned_buffer, opened, pwrite_full
from appliance.errors import MotionGearError, RecordDamagedError
from appliance.events import Emit, Step, silent
from appliance.model import DiskId, PackId, PointSpec, block_count
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import Kind, RecordHead, parse_ranges
from appliance.seal.papers import read_disk_head
from appliance.seal.scan import PackReader, Record


@dataclass(slots=True)
class Recovered:
    """A disk as far as the given packs hold it."""

    spec: PointSpec
    path: Path
    missing: int
    ended: bool
    unreadable: list[tuple[int, int]]
    problems: list[str] = field(default_factory=list)


def recover(
    packs: Sequence[Path], key: PrivateKey, output: Path, emit: Emit = silent
) -> tuple[list[Recovered], list[str]]:
    """Write every disk found in ``packs`` to ``output`` as a raw sparse image named by disk id and
    point.

    Returns the disks, and what was wrong with packs that gave nothing.
    """
    groups: dict[tuple[DiskId, int], list[tuple[int, int, Path]]] = {}
    lost: list[str] = []
    for path in packs:
        try:
            with PackReader(path, key) as reader:
                head = reader.head
        except MotionGearError as exc:
            lost.append(exc.what)
            continue
        if not head.is_contents:
            place = (head.session, head.sequence, path)
            groups.setdefault((head.disk, head.point), []).append(place)
    found = []
    for (disk, point), places in sorted(groups.items()):
        emit(Step("recover", disk))
        image = _Image(output / f"{disk}-{point}.img")
        for _, _, path in sorted(places):
            image.take(path, key)
        if (one := image.finish()) is not None:
            found.append(one)
        else:
            lost += image.problems
    return found, lost


class _Image:
    """One disk being put together; later records overwrite earlier ones."""

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path = path
        self._spec: PointSpec | None = None
        self._block_size = 0
        self._have = bytearray()
        self._unreadable: list[tuple[int, int]] = []
        self._ended = False
        self._offsets: dict[PackId, tuple[Path, array[int]]] = {}
        self._zeros = aligned_buffer(1 << 20)

    def take(self, path: Path, key: PrivateKey) -> None:
        """Everything one pack gives, up to the first damage."""
        offsets = array("Q")
        try:
            with PackReader(path, key) as reader:
                self._offsets[reader.head.pack] = (path, offsets)
                for record in reader.walk():
                    offsets.append(record.entry.offset)
                    self._take(record, reader.head.block_size, key)
        except MotionGearError as exc:
            self.problems.append(exc.what)

    def finish(self) -> Recovered | None:
        if self._spec is None:
            return None
        missing = self._have.count(0)
        return Recovered(
            self._spec, self._path, missing, self._ended, self._unreadable, self.problems
        )

    def _take(self, record: Record, block_size: int, key: PrivateKey) -> None:
        head = record.entry.head
        if head.kind is Kind.DISK_HEAD:
            if self._spec is None:
                self._begin(read_disk_head(bytes(record.payload), block_size), block_size)
        elif self._spec is None or head.index + head.count > len(self._have):
            raise RecordDamagedError(
                f"record {record.entry.number} speaks of no block of the disk"
            )
        elif head.kind is Kind.UNREADABLE:
            self._unreadable += parse_ranges(record.payload, head, block_size)
        elif head.kind is Kind.POINT_END:
            self._ended = True
        elif head.kind is Kind.ZERO_RUN:
            self._zero(head.index, head.count, self._spec.facts.size)
        elif head.kind is Kind.REFERENCE:
            self._write(head.index, self._target(head, key))
        else:
            self._write(head.index, record.payload)

    def _begin(self, spec: PointSpec, block_size: int) -> None:
        self._spec, self._block_size = spec, block_size
        self._have = bytearray(block_count(spec.facts.size, block_size))
        with opened(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            os.ftruncate(fd, spec.facts.size)

    def _target(self, head: RecordHead, key: PrivateKey) -> bytes:
        path, offsets = self._offsets.get(head.target, (None, None))
        if path is None or offsets is None or head.target_number >= len(offsets):
            raise RecordDamagedError(f"block {head.index} refers to a record that was not found")
        with PackReader(path, key) as reader:
            record = reader.record_at(offsets[head.target_number], head.target_number)
            if record.entry.head.kind is not Kind.BLOCK or record.entry.head.digest != head.digest:
                raise RecordDamagedError(f"block {head.index} refers to another block's record")
            return bytes(record.payload)

    def _write(self, index: int, data: memoryview | bytes) -> None:
        with opened(self._path, os.O_WRONLY) as fd:
            pwrite_full(fd, index * self._block_size, data)
        self._have[index] = 1

    def _zero(self, index: int, count: int, size: int) -> None:
        """Only blocks that an earlier session had filled need it: the image is made of holes."""
        with opened(self._path, os.O_WRONLY) as fd:
            for one in range(index, index + count):
                if self._have[one]:
                    start = one * self._block_size
                    _fill(fd, start, min(start + self._block_size, size), self._zeros)
        self._have[index : index + count] = b"\1" * count


def _fill(fd: int, at: int, end: int, zeros: memoryview) -> None:
    while at < end:
        piece = zeros[: min(len(zeros), end - at)]
        pwrite_full(fd, at, piece)
        at += len(piece)
