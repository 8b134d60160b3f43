"""The recovery reader: disks out of nothing but pack files and a private key.

No head, no seal, no index, no order of files is needed; torn and open packs are read as far as
they go. What it cannot prove it says: without the seal nobody vouches that all packs are there,
nor who wrote them.
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from appliance.block import (
    NO_SPACE_ERRNOS,
    aligned_buffer,
    make_directory,
    pwrite_full,
    sync_directory,
)
from appliance.errors import (
    ExistsError,
    ForeignPackError,
    MotionGearError,
    PackDamagedError,
    RecordDamagedError,
    RecordOrderError,
    StoreRefusedError,
    TargetFullError,
    TargetWriteError,
)
from appliance.events import Emit, Step, silent
from appliance.language import marked
from appliance.model import DiskId, PackId, PointSpec, block_count, block_length
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import CONTENT_KINDS, Kind, PackHead, RecordHead, parse_ranges
from appliance.seal.papers import PointEnd, read_disk_head, read_point_end
from appliance.seal.ranges import Ranges
from appliance.seal.scan import PackReader, Record, examine, named

_NOTHING = marked("The packs are untouched. Nothing was written.")
_PARTIAL = marked("The packs are untouched. What is not whole is called .partial.")
_DATA, _ZERO = 1, 2  # what is there of a block; 0: nothing yet


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
    point; until all of it is on the disk, ``.partial`` stands behind its name.

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
        with _Image(output / f"{disk}-{point}.img") as image:
            for _, _, path in sorted(places):
                image.take(path, key)
            if (one := image.finish()) is not None:
                found.append(one)
            else:
                lost += image.problems
    return found, lost


def make_output(path: Path) -> None:
    """An empty directory for the images, made when there is none."""
    with _writing(path, _NOTHING):
        make_directory(path)
        if any(path.iterdir()):
            raise ExistsError(f"{path} is not empty: what lies there is never overwritten")


@contextmanager
def _writing(path: Path, left: str) -> Iterator[None]:
    """The output is written; what its disk refuses ends the recovery. ``left`` is what is safe."""
    try:
        yield
    except FileExistsError as exc:
        raise ExistsError(f"{path} is there already") from exc
    except OSError as exc:
        refuse = TargetFullError if exc.errno in NO_SPACE_ERRNOS else TargetWriteError
        raise refuse(
            f"{path} cannot be written ({exc.strerror})",
            safe=left,
            todo="Give another output directory.",
        ) from exc


class _Image:
    """One disk being put together; later records overwrite earlier ones. Use as a context."""

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path, self._partial = path, path.with_name(f"{path.name}.partial")
        self._spec: PointSpec | None = None
        self._size = self._block_size = 0
        self._have = bytearray()
        self._next = 0  # the first block that the pack being read may still speak of
        self._unreadable = Ranges()
        self._end: PointEnd | None = None
        self._whole: set[PackId] = set()
        self._fd = -1
        self._offsets: dict[PackId, tuple[Path, array[int]]] = {}
        self._zeros = aligned_buffer(1 << 20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def take(self, path: Path, key: PrivateKey) -> None:
        """Everything one pack gives, up to the first damage."""
        offsets = array("Q")
        self._end, self._next = None, 0
        try:
            with PackReader(path, key) as reader:
                self._offsets[reader.head.pack] = (path, offsets)
                for record in reader.walk():
                    offsets.append(record.entry.offset)
                    self._take(record, reader.head, key)
                if not offsets:
                    raise PackDamagedError("it holds no record")
                if len(offsets) != examine(path).trailer.records:
                    raise PackDamagedError("it has fewer records than its trailer counts")
                self._whole.add(reader.head.pack)
        except StoreRefusedError as exc:
            self.problems.append(named(exc, path).what)

    def finish(self) -> Recovered | None:
        if self._spec is None:
            return None
        with self._writing():
            os.fsync(self._fd)
            self._partial.rename(self._path)
            sync_directory(self._path.parent)
        end = self._end
        if end is not None:
            self._refuse_end(end)
        missing = self._have.count(0)
        unreadable = list(self._unreadable)
        return Recovered(
            self._spec, self._path, missing, end is not None, unreadable, self.problems
        )

    def _refuse_end(self, end: PointEnd) -> None:
        """What the point's end tells of and the packs did not give."""
        if end.blocks != len(self._have):
            self.problems.append(f"The disk's end tells of {end.blocks} blocks")
        self.problems += [
            f"{one}.pack belongs to the disk and was not read to its end"
            for one in end.packs
            if one not in self._whole
        ]

    def _take(self, record: Record, pack: PackHead, key: PrivateKey) -> None:
        head, size = record.entry.head, pack.block_size
        if head.kind is Kind.DISK_HEAD:
            self._take_disk_head(read_disk_head(bytes(record.payload), size), pack)
            return
        if self._spec is None or head.index + head.count > len(self._have):
            raise RecordDamagedError(
                f"record {record.entry.number} speaks of no block of the disk"
            )
        start, end = head.index * size, (head.index + head.count) * size
        if head.kind in CONTENT_KINDS:
            self._refuse_again(record)
            self._unreadable.remove(start, end)
        match head.kind:
            case Kind.UNREADABLE:
                for offset, length in parse_ranges(record.payload, head, size, self._size):
                    self._unreadable.add(offset, offset + length)
            case Kind.POINT_END:
                self._end = read_point_end(bytes(record.payload))
            case Kind.ZERO_RUN:
                self._zero(head.index, head.count)
            case Kind.REFERENCE:
                self._write(head.index, self._target(head, key))
            case Kind.BLOCK:
                self._write(head.index, record.payload)
            case _:
                raise RecordDamagedError(f"record {record.entry.number} belongs to no disk")

    def _refuse_again(self, record: Record) -> None:
        """A pack speaks of each block once: else a small one could be days of work."""
        head = record.entry.head
        if head.index < self._next:
            raise RecordOrderError(
                f"record {record.entry.number} speaks of block {head.index} again"
            )
        self._next = head.index + head.count

    def _take_disk_head(self, spec: PointSpec, pack: PackHead) -> None:
        if (spec.disk, spec.point) != (pack.disk, pack.point):
            raise ForeignPackError("its disk head names another disk than its public head")
        if self._spec is None:
            self._begin(spec, pack.block_size)
        elif (spec.facts.size, pack.block_size) != (self._size, self._block_size):
            raise RecordDamagedError(
                "its disk head tells of another size than the packs before it"
            )

    def _begin(self, spec: PointSpec, block_size: int) -> None:
        with self._writing():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            if self._path.exists():
                raise FileExistsError
            self._fd = os.open(self._partial, flags, 0o600)
            os.ftruncate(self._fd, spec.facts.size)
        self._spec, self._size, self._block_size = spec, spec.facts.size, block_size
        self._have = bytearray(block_count(spec.facts.size, block_size))

    def _writing(self) -> AbstractContextManager[None]:
        return _writing(self._path, _PARTIAL)

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
        if len(data) != block_length(index, self._size, self._block_size):
            raise RecordDamagedError(f"block {index} is given with a wrong length")
        with self._writing():
            pwrite_full(self._fd, index * self._block_size, data)
        self._have[index] = _DATA

    def _zero(self, index: int, count: int) -> None:
        """Only blocks that an earlier session had filled need it: the image is made of holes."""
        end = index + count
        with self._writing():
            while (index := self._have.find(_DATA, index, end)) >= 0:
                start = index * self._block_size
                _fill(self._fd, start, min(start + self._block_size, self._size), self._zeros)
                index += 1
        self._have[end - count : end] = bytes([_ZERO]) * count


def _fill(fd: int, at: int, end: int, zeros: memoryview) -> None:
    while at < end:
        piece = zeros[: min(len(zeros), end - at)]
        pwrite_full(fd, at, piece)
        at += len(piece)
