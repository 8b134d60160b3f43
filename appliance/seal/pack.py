"""PackWriter: one pack, written once, front to back, with the only keys that ever exist for it
on the device.
"""

import fcntl
import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.block import (
    NO_SPACE_ERRNOS,
    PAGE,
    aligned_buffer,
    pwrite_full,
    reserve,
    sync_directory,
)
from appliance.errors import MotionGearError, StoreFullError, StoreWriteError
from appliance.model import PackId
from appliance.seal.envelope import PackKeys
from appliance.seal.keys import Recipient
from appliance.seal.layout import (
    FRAME_HEAD,
    MAX_RECORDS,
    RECORD_HEAD,
    TAG,
    Checkpoint,
    PackHead,
    PackState,
    RecordHead,
    Trailer,
    index_bytes,
    index_cipher_size,
)

OPEN = re.compile(r"[0-9a-f]{32}\.open")
CLOSED = re.compile(r"[0-9a-f]{32}\.pack")
NAME = re.compile(rf"{OPEN.pattern}|{CLOSED.pattern}")


@dataclass(frozen=True, slots=True)
class ClosedPack:
    """A pack as the seal lists it. ``digest`` was taken of the bytes on their way to the disk."""

    pack: PackId
    size: int
    records: int
    digest: bytes


def open_name(pack: PackId) -> str:
    return f"{pack}.open"


def closed_name(pack: PackId) -> str:
    return f"{pack}.pack"


def write_error(exc: OSError, path: Path) -> MotionGearError:
    """A failed write to the store, as what the operator can do about it."""
    if exc.errno in NO_SPACE_ERRNOS:
        return StoreFullError(f"The store is full: no room for {path.name} ({exc.strerror})")
    return StoreWriteError(f"The store's disk failed while writing {path.name} ({exc.strerror})")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What is changed here at ``path`` ends in a store's error when the store's disk refuses."""
    try:
        yield
    except OSError as exc:
        raise write_error(exc, path) from exc


def tail_size(records: int) -> int:
    """Bytes that closing a pack of so many records takes: checkpoint, index, trailer."""
    return PAGE + FRAME_HEAD + index_cipher_size(records) + PAGE


# Records on their way to the disk while the next one is encrypted: a write that waits for the disk
# then keeps nobody from compressing.
_DEEP = 3


class PackWriter:
    """An open pack. Its space is taken when it opens, so that it can always be closed.

    Records are digested and written by a thread of its own, in order. Any OSError of theirs shows
    in one of the next calls and ends the pack: ``abandon`` then leaves what the last good
    checkpoint covers, and nothing else.
    """

    def __init__(
        self, directory: Path, head: PackHead, recipients: tuple[Recipient, ...], capacity: int
    ) -> None:
        self.head = head
        self.records = 0
        self._directory = directory
        self._path = directory / open_name(head.pack)
        self._capacity = capacity
        self._keys, data = PackKeys.create(head, recipients)
        self._hash = blake3()
        self._entries: list[tuple[bytes, int]] = []
        self._offset = 0
        self._good_end = 0
        self._plain = aligned_buffer(0)
        self._thread = ThreadPoolExecutor(1, "pack")
        self._flying: deque[tuple[Future[None], memoryview]] = deque()
        self._spare: list[memoryview] = []
        self.written = 0  # bytes, of which the file system has all
        try:
            self._fd = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
            )
        except OSError as exc:
            raise write_error(exc, self._path) from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            reserve(self._fd, capacity)
            self._write(0, data)
        except OSError as exc:
            self.abandon()
            raise write_error(exc, self._path) from exc
        self._offset = len(data)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def size(self) -> int:
        """Bytes so far, some of them still on their way."""
        return self._offset

    def has_room(self, size: int, records: int) -> bool:
        """Whether so many records of ``size`` bytes together still fit before the pack's tail."""
        after = self._offset + size + PAGE + tail_size(self.records + records)
        return after <= self._capacity and self.records + records <= MAX_RECORDS

    def append(self, head: RecordHead, payload: memoryview | bytes | None = None) -> int:
        """Write one record; returns its number. It is durable after the next checkpoint."""
        size = head.frame_size
        if len(self._plain) < size:
            self._plain = aligned_buffer(size)
        buffer = self._frame_buffer(size)
        plain, frame = self._plain[: size - FRAME_HEAD - TAG], buffer[:size]
        end = RECORD_HEAD + head.stored
        plain[:RECORD_HEAD] = head.encode()
        if payload is not None:
            plain[RECORD_HEAD:end] = payload
        plain[end:] = bytes(len(plain) - end)
        number = self.records
        self._keys.seal_record(number, plain, frame)
        self._entries.append((bytes(plain[:RECORD_HEAD]), self._offset))
        self._flying.append((self._thread.submit(self._write, self._offset, frame), buffer))
        self._offset += size
        self.records += 1
        return number

    def settle(self, left: int = 0) -> None:
        """Wait until at most ``left`` records are on their way."""
        try:
            while len(self._flying) > left:
                done, buffer = self._flying.popleft()
                done.result()
                self._spare.append(buffer)
        except OSError as exc:
            self.abandon()
            raise write_error(exc, self._path) from exc

    def checkpoint(self, cursor: int, guard: bytes) -> None:
        """Write and sync a checkpoint. When this returns, everything appended before is
        durable.
        """
        self._write_checkpoint(cursor, guard)
        try:
            os.fdatasync(self._fd)
            if not self._good_end:
                sync_directory(self._directory)
        except OSError as exc:
            self.abandon()
            raise write_error(exc, self._path) from exc
        self._good_end = self._offset

    def close(self, cursor: int, guard: bytes, state: PackState) -> ClosedPack:
        """Checkpoint, index, trailer, sync, rename: the pack is whole."""
        offset = self._offset
        self._write_checkpoint(cursor, guard)
        index_offset = self._offset
        self._guarded_write(self._keys.seal_index(index_bytes(self._entries), self.records))
        trailer = Trailer(self.records, state, offset, index_offset, self._hash.digest())
        self._guarded_write(trailer.encode())
        try:
            os.ftruncate(self._fd, self._offset)
            os.fsync(self._fd)
            self._good_end = self._offset  # it is whole; only its name may still fail
            self._path.rename(self._directory / closed_name(self.head.pack))
            sync_directory(self._directory)
        except OSError as exc:
            self.abandon()
            raise write_error(exc, self._path) from exc
        self._thread.shutdown()
        os.close(self._fd)
        self._fd = -1
        return ClosedPack(self.head.pack, self._offset, self.records, self._hash.digest())

    def abandon(self) -> None:
        """Give the pack up: cut it behind its last good checkpoint, or remove it when there is
        none.

        What a failed sync left in memory may never reach the disk, so nothing behind that point is
        kept.
        """
        if self._fd < 0:
            return
        self._thread.shutdown(cancel_futures=True)  # nothing may be written behind the cut
        with suppress(OSError):  # the disk is failing already; mending does the same again later
            if self._good_end:
                os.ftruncate(self._fd, self._good_end)
                os.fsync(self._fd)
            else:
                self._path.unlink()
        os.close(self._fd)
        self._fd = -1

    def _write_checkpoint(self, cursor: int, guard: bytes) -> None:
        self.settle()
        self._guarded_write(Checkpoint(self.records, cursor, self._hash.digest(), guard).encode())

    def _guarded_write(self, data: bytes) -> None:
        """Write what no record is, with none on its way."""
        try:
            self._write(self._offset, data)
        except OSError as exc:
            self.abandon()
            raise write_error(exc, self._path) from exc
        self._offset += len(data)

    def _write(self, offset: int, data: memoryview | bytes) -> None:
        self._hash.update(data)
        pwrite_full(self._fd, offset, data)
        self.written = offset + len(data)

    def _frame_buffer(self, size: int) -> memoryview:
        """A buffer that no record on its way stands in."""
        self.settle(_DEEP - 1)
        buffer = self._spare.pop() if self._spare else aligned_buffer(size)
        return buffer if len(buffer) >= size else aligned_buffer(size)
