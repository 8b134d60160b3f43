"""Replica: a volume that follows its disk, and the manifest of what it holds.

The order is that of wire-format.md, section 6: journal, volume, manifest, and only then an
acknowledgement. What a killed gate leaves behind is digested anew from the volume. What the volume
cannot deliver is unknown, and written over by the next round: disks remap what is written.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from blake3 import blake3

from appliance.block import (
    PAGE,
    aligned_buffer,
    make_directory,
    opened,
    pwrite_full,
    sync_directory,
)
from appliance.catchup.wire import PIECE, Ack, Patch, Piece
from appliance.errors import StoppedError, TargetWriteError, WireViolationError
from appliance.events import Emit, Json, Progress, silent
from appliance.model import Digest, Extent, PointSpec, Stop, Volume, VolumeSpec
from appliance.seal import canon
from appliance.seal.cut import Expander, digest, zero_digest
from appliance.seal.kept import kept, load, save
from appliance.seal.manifest import Manifest, State
from appliance.seal.papers import parse_disk_head, write_disk_head

MANIFEST = "manifest"
JOURNAL = "journal"
ABOUT = "replica.json"
BATCH_BYTES = 32 << 20
BATCH_BLOCKS = 64
_MAGIC = b"MGJOURN1"
_JOURNAL = struct.Struct("<8sI")


def pieces_of(length: int) -> list[tuple[int, int]]:
    """(start, end) of each piece of a block of ``length`` bytes."""
    return [(at, min(at + PIECE, length)) for at in range(0, length, PIECE)]


class Journal:
    """The blocks that a batch is about to write, durable before the first of them is touched."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named = False

    def note(self, indexes: Sequence[int]) -> None:
        body = _JOURNAL.pack(_MAGIC, len(indexes)) + struct.pack(f"<{len(indexes)}I", *indexes)
        with kept(self._path), opened(self._path, os.O_WRONLY | os.O_CREAT) as fd:
            pwrite_full(fd, 0, body + blake3(body).digest())
            os.fdatasync(fd)
            if not self._named:  # whoever made the file: its name may not be durable yet
                sync_directory(self._path.parent)
                self._named = True

    def clear(self) -> None:
        """Need not be durable: a journal that is found again costs a few reads."""
        with kept(self._path), opened(self._path, os.O_WRONLY | os.O_CREAT) as fd:
            os.ftruncate(fd, 0)

    def noted(self) -> tuple[int, ...]:
        """The blocks that may be half written. A journal that is not whole is that of a batch
        that had not begun to write.
        """
        with kept(self._path):
            data = self._path.read_bytes() if self._path.exists() else b""
        if len(data) < _JOURNAL.size:
            return ()
        magic, count = _JOURNAL.unpack_from(data)
        end = _JOURNAL.size + 4 * count
        if magic != _MAGIC or data[end : end + 32] != blake3(data[:end]).digest():
            return ()
        return struct.unpack_from(f"<{count}I", data, _JOURNAL.size)


@dataclass(frozen=True, slots=True)
class About:
    """What the gate knows of a replica besides its manifest. ``spec`` tells of the disk at its
    base; ``volume`` is where it lies.
    """

    spec: PointSpec
    volume: VolumeSpec
    block_size: int


def _write_about(about: About) -> Json:
    volume = about.volume
    return {
        "block_size": about.block_size,
        "disk": write_disk_head(about.spec),
        "volume": {
            "content": volume.content,
            "name": volume.name,
            "origin": volume.origin,
            "point": volume.point,
            "size": volume.size,
        },
    }


def _parse_about(fields: canon.Fields) -> About:
    spec, volume = parse_disk_head(fields.object("disk")), fields.object("volume")
    return About(
        spec=spec,
        volume=VolumeSpec(
            name=volume.text("name", 255),
            size=volume.number("size", 1),
            content=volume.number("content"),
            disk=spec.disk,
            point=volume.number("point"),
            origin=volume.hex("origin", 32, empty=True),
        ),
        block_size=fields.number("block_size", 1),
    )


def read_about(place: Path) -> About:
    return load(place / ABOUT, _parse_about, _write_about)


def adopt(place: Path, about: About, manifest: Manifest) -> None:
    """Begin a replica at ``place``; what says that it is there comes last."""
    manifest.save(place / MANIFEST)
    save(place / ABOUT, _write_about(about))


def begin(place: Path, about: About) -> None:
    """Begin a replica at ``place`` of which it is not known what its volume holds: that is
    surveyed when it is attached.
    """
    with kept(place):
        make_directory(place, 0o700)
        (place / MANIFEST).unlink(missing_ok=True)
    save(place / ABOUT, _write_about(about))


def survey(
    volume: Volume, about: About, stop: Stop = lambda: False, emit: Emit = silent
) -> Manifest:
    """The manifest of what the volume holds now, for the point of its base. Raises
    StoppedError.
    """
    facts, point = about.spec.facts, about.volume.point
    found = Manifest(about.spec.disk, point, about.block_size, facts.size)
    if volume.fresh:
        found.set_zero(0, found.blocks)
        return found
    buffer = aligned_buffer(about.block_size)
    for index in range(found.blocks):
        if stop():
            raise StoppedError("The survey was stopped", safe="The volume is as it was.")
        found.set(index, *_standing(volume, found, index, buffer))
        emit(Progress("survey", min((index + 1) * found.block_size, found.size), found.size))
    return found


def _standing(
    volume: Volume, like: Manifest, index: int, buffer: memoryview
) -> tuple[Digest, State]:
    """What a block on the volume is now; unknown where it cannot be read."""
    block = buffer[: like.length(index)]
    try:
        volume.pread(index * like.block_size, block)
    except TargetWriteError:
        return Digest(bytes(32)), State.UNKNOWN
    found = digest(block)
    return found, _state(found, len(block))


def _state(found: Digest, length: int) -> State:
    return State.ZERO if found == zero_digest(length) else State.DATA


@dataclass(frozen=True, slots=True)
class Staged:
    """A block as it will stand on the volume. ``runs`` are the parts of it that change: start,
    end, and whether they are zeros.
    """

    index: int
    buffer: memoryview
    runs: tuple[tuple[int, int, bool], ...]
    digest: Digest
    state: State


class Replica:
    """One disk's replica, attached. One thread at a time."""

    def __init__(self, place: Path, volume: Volume) -> None:
        self.manifest = Manifest.load(place / MANIFEST, writing=True)
        self._journal, self._volume = Journal(place / JOURNAL), volume
        self._expander = Expander()
        self._spare: list[memoryview] = []
        self._heal()

    def _heal(self) -> None:
        """What a batch that did not come to its end may have written, as it stands there now."""
        with self._taken() as buffer:
            for index in self._journal.noted():
                if index < self.manifest.blocks:
                    found = _standing(self._volume, self.manifest, index, buffer)
                    self.manifest.set(index, *found)
        self.manifest.flush()
        self._journal.clear()

    def have(self, index: int) -> tuple[bytes, ...]:
        """The first 16 bytes of the digest of each piece, as the volume holds it; zeros, which no
        piece has, for a block that cannot be read.
        """
        pieces = pieces_of(self.manifest.length(index))
        with self._taken() as buffer:
            block = buffer[: pieces[-1][1]]
            try:
                self._volume.pread(index * self.manifest.block_size, block)
            except TargetWriteError:
                return (bytes(16),) * len(pieces)
            return tuple(digest(block[a:b])[:16] for a, b in pieces)

    @contextmanager
    def _taken(self) -> Iterator[memoryview]:
        """A buffer of one block; it comes back unless it stays in use."""
        buffer = self._buffer()
        yield buffer
        self._spare.append(buffer)

    def _buffer(self) -> memoryview:
        return self._spare.pop() if self._spare else aligned_buffer(self.manifest.block_size)

    def stage(self, patch: Patch) -> Staged | None:
        """The block with the patch applied; None when that is not what the sender has, or cannot
        be told: then the volume is not what was thought, and all of the block is wanted.
        """
        self._refuse_odd(patch)
        length = self.manifest.length(patch.index)
        buffer = self._buffer()
        block = buffer[:length]
        if not self._stays(patch, block):
            self._spare.append(buffer)
            return None
        kept_bytes = [(one, bytes(block[one.offset : one.end])) for one in patch.bad]
        self._apply(patch, block)
        for one, data in kept_bytes:
            block[one.offset : one.end] = data
        found = digest(block)
        if found != patch.digest and not patch.bad:
            if Piece.SAME not in patch.codes:
                raise WireViolationError(f"Block {patch.index} is not what its digest says")
            self._spare.append(buffer)
            return None
        state = State.UNREADABLE if patch.bad else _state(found, length)
        # Where bytes could not be read, those of the volume stand in the buffer: none is a zero.
        codes = patch.codes.replace(b"\2", b"\1") if patch.bad else patch.codes
        return Staged(patch.index, buffer, tuple(_runs(codes, length)), found, state)

    def _refuse_odd(self, patch: Patch) -> None:
        if patch.index >= self.manifest.blocks:
            raise WireViolationError(f"The disk has no block {patch.index}")
        pieces = pieces_of(self.manifest.length(patch.index))
        if len(patch.codes) != len(pieces):
            raise WireViolationError(f"Block {patch.index} has {len(pieces)} pieces")
        sent = zip(pieces, patch.codes, strict=True)
        if patch.plain != sum(b - a for (a, b), code in sent if code == Piece.SENT):
            raise WireViolationError(f"A patch of block {patch.index} has a wrong length")
        if any(one.end > pieces[-1][1] for one in patch.bad):
            raise WireViolationError(f"A patch of block {patch.index} reaches behind its end")

    def _stays(self, patch: Patch, block: memoryview) -> bool:
        """Fill in what the patch leaves as it is on the volume; False when that cannot be read.
        What neither the source nor the volume can deliver is zero.
        """
        at = patch.index * self.manifest.block_size
        if not patch.bad and Piece.SAME not in patch.codes:
            return True
        try:
            self._volume.pread(at, block)
        except TargetWriteError:
            if Piece.SAME in patch.codes:
                return False
            for start in (page for one in patch.bad for page in _pages(one)):
                page = block[start : start + PAGE]
                page[:] = bytes(len(page))
                with suppress(TargetWriteError):
                    self._volume.pread(at + start, page)
        return True

    def _apply(self, patch: Patch, block: memoryview) -> None:
        try:
            data = self._expander.expand(patch.codec, memoryview(patch.data), patch.plain)
        except ValueError as exc:
            raise WireViolationError(f"The payload of block {patch.index}: {exc}") from exc
        if len(data) != patch.plain:
            raise WireViolationError(f"A patch of block {patch.index} has a wrong length")
        at = 0
        for (start, end), code in zip(pieces_of(len(block)), patch.codes, strict=True):
            if code == Piece.SENT:
                block[start:end] = data[at : at + end - start]
                at += end - start
            elif code == Piece.ZERO:
                block[start:end] = bytes(end - start)

    def write(self, batch: Sequence[Staged]) -> list[Ack]:
        """Make a batch durable. Its blocks are different ones."""
        size = self.manifest.block_size
        self._journal.note([one.index for one in batch])
        for one in batch:
            for start, end, zeros in one.runs:
                if zeros:
                    self._volume.zero(one.index * size + start, end - start)
                else:
                    self._volume.pwrite(one.index * size + start, one.buffer[start:end])
        self._volume.flush()
        for one in batch:
            self.manifest.set(one.index, one.digest, one.state)
        self.manifest.flush()
        self._journal.clear()
        self._spare += [one.buffer for one in batch]
        return [Ack(one.index, one.state, one.digest) for one in batch]

    def move_to(self, point: int) -> None:
        """All of the point is on the volume."""
        self.manifest.move_to(point)
        self.manifest.flush()


def _pages(one: Extent) -> range:
    """Where the pages begin that a part of a block lies in."""
    return range(one.offset // PAGE * PAGE, one.end, PAGE)


def _runs(codes: bytes, length: int) -> Iterator[tuple[int, int, bool]]:
    """Neighbouring pieces of one kind, as one write each."""
    marked = zip(pieces_of(length), codes, strict=True)
    for code, group in groupby(marked, key=lambda one: one[1]):
        pieces = [piece for piece, _ in group]
        if code != Piece.SAME:
            yield pieces[0][0], pieces[-1][1], code == Piece.ZERO
