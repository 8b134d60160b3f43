"""Reading packs. Foreign bytes: every length is checked against the file and the format before
memory is taken.

``examine`` needs no key: head, trailer, sizes. ``PackReader`` needs one. ``walk`` goes through the
frames in order, for packs without an index and for whoever wants every record.
"""

import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blake3 import blake3

from appliance.block import PAGE, aligned_buffer, opened, pread_full
from appliance.errors import (
    MotionGearError,
    PackDamagedError,
    PackMissingError,
    RecordDamagedError,
    RecordOrderError,
)
from appliance.seal.cut import Expander, digest
from appliance.seal.envelope import PackKeys
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import (
    CHECKPOINT,
    CONTENT_KINDS,
    CONTEXT_SIZE,
    FRAME_HEAD,
    INDEX,
    JSON_KINDS,
    MAX_CIPHER,
    MAX_RECIPIENTS,
    RECORD_HEAD,
    TAG,
    TRAILER,
    WRAP,
    Checkpoint,
    Entry,
    Kind,
    PackHead,
    PackState,
    Trailer,
    align,
    head_bytes,
    index_cipher_size,
    is_zero,
    parse_checkpoint,
    parse_frame,
    parse_index,
    parse_pack_head,
    parse_record_head,
    parse_trailer,
)

_MOST_HEAD = align(CONTEXT_SIZE + 32 + MAX_RECIPIENTS * WRAP)


@dataclass(frozen=True, slots=True)
class PackInfo:
    """A closed pack as anybody can see it. ``index`` is the digest of its index frame where a seal
    vouches for it, else empty. ``by_seal``: trailer and checkpoint cannot be read, and say what
    follows from the seal, which is nothing of the block they end at. ``lost``: why no record of
    it can be had.
    """

    path: Path
    size: int
    head: PackHead
    trailer: Trailer
    checkpoint: Checkpoint
    index: bytes = b""
    by_seal: bool = False
    lost: MotionGearError | None = None

    @property
    def torn(self) -> bool:
        return self.trailer.state is PackState.TORN


@dataclass(frozen=True, slots=True)
class Record:
    """An opened record. ``payload`` is valid until the next record is opened by the same
    reader.
    """

    entry: Entry
    payload: memoryview | bytes


def named(exc: MotionGearError, path: Path) -> MotionGearError:
    """The same refusal, saying which pack it is about."""
    if exc.what.startswith(path.name):
        return exc
    return type(exc)(f"{path.name}: {exc.what}", safe=exc.safe_now, todo=exc.todo_now)


def _regular_size(fd: int) -> int:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise PackDamagedError("it is not a regular file")
    return found.st_size


def read_head(fd: int) -> tuple[PackHead, bytes, list[bytes]]:
    """Head, commitment and wraps of the pack open as ``fd``."""
    buffer = aligned_buffer(_MOST_HEAD)
    return parse_pack_head(bytes(buffer[: pread_full(fd, 0, buffer)]))


def examine(path: Path) -> PackInfo:
    """Head, trailer and last checkpoint of a closed pack; no key, no content."""
    with _examining(path) as fd:
        size = _regular_size(fd)
        head, _, _ = read_head(fd)
        if size % PAGE or size < head.size + 2 * PAGE:
            raise PackDamagedError("it is cut short")
        page = aligned_buffer(PAGE)
        pread_full(fd, size - PAGE, page)
        trailer = parse_trailer(page, head, size)
        pread_full(fd, trailer.checkpoint_offset, page)
        if parse_frame(page)[0] != CHECKPOINT:
            raise PackDamagedError("its trailer names a checkpoint that is none")
        checkpoint = parse_checkpoint(page)
        if checkpoint.records != trailer.records:
            raise PackDamagedError("its trailer and checkpoint disagree")
        return PackInfo(path, size, head, trailer, checkpoint)


def examine_damaged(
    path: Path, size: int, records: int, index: bytes, why: MotionGearError
) -> PackInfo:
    """A pack that ``examine`` refuses for ``why``, as far as its head and what the seal says of it
    go: where its index lies follows from ``size`` and ``records`` (section 5). It is lost without
    an index, or with another size. Refuses one whose head is damaged.
    """
    with _examining(path) as fd:
        there = _regular_size(fd)
        head, _, _ = read_head(fd)
    at = size - PAGE - FRAME_HEAD - index_cipher_size(records)
    whole = index and there == size and at - PAGE >= head.size and at % PAGE == 0
    state = PackState.CLOSED if index else PackState.TORN
    trailer = Trailer(records, state, at - PAGE, at, bytes(32))
    checkpoint = Checkpoint(records, head.start, bytes(32), bytes(32))
    lost = None if whole else why
    return PackInfo(path, size, head, trailer, checkpoint, index, by_seal=True, lost=lost)


@contextmanager
def _examining(path: Path) -> Iterator[int]:
    try:
        with opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW) as fd:
            yield fd
    except FileNotFoundError as exc:
        raise PackMissingError(f"{path.name} is not in the store") from exc
    except OSError as exc:
        raise PackDamagedError(f"{path.name} cannot be read ({exc.strerror})") from exc
    except MotionGearError as exc:
        raise named(exc, path) from exc


class _Swept:
    """The digest of a pack's bytes as they are read, and whether anything lies between its records
    but checkpoints that tell of them. Of a pack that is not read from its front the digest of a
    checkpoint is not checked.
    """

    def __init__(self, head: PackHead, front: bytes, before: Sequence[Entry]) -> None:
        self.whole = blake3(front)
        self.foreign = self.false = False
        self._from_front = not before
        self._cursor = head.start
        for entry in before:
            self.record(entry)

    def record(self, entry: Entry) -> None:
        head = entry.head
        if head.kind in CONTENT_KINDS:
            self._cursor = head.index + head.count

    def between(self, pages: Iterator[memoryview], number: int) -> None:
        """The pages between record ``number`` and the one before it."""
        for page in pages:
            self.foreign |= parse_frame(page)[0] != CHECKPOINT
            behind = self.whole.digest() if self._from_front else bytes(page[24:56])
            told = Checkpoint(number, self._cursor, behind, bytes(page[56:88]))
            self.false |= page != told.encode()
            self.whole.update(page)


class _Slot:
    """Where a frame is read to, and where it is opened to. Made once, since fresh memory costs as
    much as the cryptography.
    """

    def __init__(self) -> None:
        self.frame = self.plain = aligned_buffer(0)

    def fit(self, size: int) -> memoryview:
        """The first ``size`` bytes of ``frame``; both are made larger where that is needed."""
        if len(self.frame) < size:
            self.frame, self.plain = aligned_buffer(size), aligned_buffer(size)
        return self.frame[:size]


class PackReader:
    """A pack opened with a recipient's key. One thread at a time."""

    def __init__(self, path: Path, key: PrivateKey) -> None:
        self.path = path
        self._slot = _Slot()
        self._local = threading.local()
        self.swept = b""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as exc:
            raise PackMissingError(f"{path.name} cannot be read ({exc.strerror})") from exc
        try:
            self.size = _regular_size(self._fd)
            self.head, commitment, wraps = read_head(self._fd)
            self._head_bytes = head_bytes(self.head, commitment, wraps)
            self._keys = PackKeys.unlock(self.head, commitment, wraps, key)
        except MotionGearError as exc:
            os.close(self._fd)
            raise named(exc, path) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def entries(self, info: PackInfo) -> list[Entry]:
        """All records' places: from the index, or for a torn pack from its frames."""
        if info.torn:
            return self._walked(info)
        records = info.trailer.records
        frame = memoryview(bytearray(FRAME_HEAD + index_cipher_size(records)))
        self._read(info.trailer.index_offset, frame)
        try:
            if info.index and digest(frame) != info.index:
                raise PackDamagedError("The index of the pack is not what was sealed")
            plain = self._keys.open_index(bytes(frame), records)
            entries = parse_index(plain, self.head, records)
        except MotionGearError as exc:
            raise named(exc, self.path) from exc
        last = entries[-1] if entries else None
        if last and last.offset + last.head.frame_size > info.trailer.checkpoint_offset:
            raise PackDamagedError(f"{self.path.name}: its index points behind its records")
        return entries

    def _walked(self, info: PackInfo) -> list[Entry]:
        entries = [record.entry for record in self.walk(info.trailer.checkpoint_offset)]
        if len(entries) != info.trailer.records:
            raise PackDamagedError(
                f"{self.path.name}: its trailer counts other records than it has"
            )
        return entries

    def record(self, entry: Entry) -> Record:
        """Open the record at an entry; it must be exactly what the entry says."""
        try:
            frame = self._frame(self._slot, entry.offset, entry.number)
            return self._open_as(entry, frame, self._slot)
        except MotionGearError as exc:
            raise named(exc, self.path) from exc

    def record_at(self, offset: int, number: int) -> Record:
        """Open the record whose frame begins at ``offset``."""
        try:
            return self._open(offset, number, self._frame(self._slot, offset, number), self._slot)
        except MotionGearError as exc:
            raise named(exc, self.path) from exc

    def sweep(
        self,
        info: PackInfo,
        entries: Sequence[Entry],
        damaged: Callable[[Entry, MotionGearError], None],
        openers: int = 1,
        first: int = 0,
    ) -> Generator[Record]:
        """Read the pack once, front to back, from its record ``first`` on; yield every record
        opened, in order, hand the damaged ones over. Refuses a pack that holds records its index
        does not tell of, or checkpoints that tell of others.

        ``openers`` threads open records while the next are read. Close it, as a generator, when
        not all is taken.

        When it is through, ``swept`` is the digest of every byte of the pack, the head's as they
        were when the keys were made; empty where it was not all read. Anybody can encrypt to a
        public key: what was yielded may be believed where the seal vouches for the index
        (``info.index``), whose digests it has, or when the caller has compared ``swept`` with the
        seal.
        """
        swept = _Swept(self.head, self._head_bytes, entries[:first])
        tail = info.trailer.checkpoint_offset + PAGE
        at = self.head.size
        if first:
            at = entries[first].offset if first < len(entries) else tail
        hurt = False
        slots = [_Slot() for _ in range(2 * openers + 1)]
        flying: deque[tuple[Entry, Future[Record], _Slot]] = deque()

        def tell(entry: Entry, exc: MotionGearError) -> None:
            nonlocal hurt
            hurt = True
            damaged(entry, named(exc, self.path))

        def landed(left: int) -> Iterator[Record]:
            while len(flying) > left:
                entry, future, slot = flying.popleft()
                try:
                    yield future.result()
                except MotionGearError as exc:
                    tell(entry, exc)
                slots.append(slot)

        pool = ThreadPoolExecutor(openers, "open")
        try:
            for entry in entries[first:]:
                yield from landed(2 * openers)
                swept.between(self._pages(at, entry.offset), entry.number)
                swept.record(entry)
                size = entry.head.frame_size
                at = entry.offset + size
                slot = slots.pop()
                try:
                    frame = self._frame(slot, entry.offset, entry.number, size, swept.whole)
                    flying.append((entry, pool.submit(self._open_as, entry, frame, slot), slot))
                except MotionGearError as exc:
                    slots.append(slot)
                    yield from landed(0)
                    tell(entry, exc)
            yield from landed(0)
        finally:
            pool.shutdown(cancel_futures=True)
        swept.between(self._pages(at, tail), len(entries))
        for page in self._pages(tail, self.size):
            swept.whole.update(page)
        self.swept = b"" if first else swept.whole.digest()
        self._refuse_between(swept, hurt=hurt)

    def _refuse_between(self, swept: _Swept, *, hurt: bool) -> None:
        if swept.foreign:
            raise PackDamagedError(f"{self.path.name}: it holds what its index does not list")
        if swept.false and not hurt:  # a damaged record changes what later checkpoints digest
            raise PackDamagedError(f"{self.path.name}: a checkpoint tells of other records")

    def walk(self, end: int | None = None) -> Iterator[Record]:
        """Every record in order up to the frame at ``end``; without it, as far as frames go on
        (recovery).

        Raises RecordOrderError for a gap, repetition or reordering of numbers.
        """
        offset, number = self.head.size, 0
        while end is None or offset < end:
            word, _ = self._words(offset)
            if word == CHECKPOINT:
                offset += PAGE
                continue
            if end is None and word in {0, INDEX, TRAILER}:
                return
            try:
                frame = self._frame(self._slot, offset, number, end=end)
                found = self._open(offset, number, frame, self._slot)
            except MotionGearError as exc:
                raise named(exc, self.path) from exc
            yield found
            offset += found.entry.head.frame_size
            number += 1

    def _read(self, offset: int, buffer: memoryview) -> int:
        try:
            return pread_full(self._fd, offset, buffer)
        except OSError as exc:
            raise PackDamagedError(f"{self.path.name} cannot be read ({exc.strerror})") from exc

    def _words(self, offset: int) -> tuple[int, int]:
        header = memoryview(bytearray(FRAME_HEAD))
        if self._read(offset, header) < FRAME_HEAD:
            return (0, 0)
        return parse_frame(header)

    def _pages(self, offset: int, end: int) -> Iterator[memoryview]:
        page = memoryview(bytearray(PAGE))
        for at in range(offset, end, PAGE):
            if self._read(at, page) < PAGE:
                raise PackDamagedError(f"{self.path.name}: it is cut short")
            yield page

    def _frame(
        self,
        slot: _Slot,
        offset: int,
        number: int,
        expected: int = 0,
        whole: blake3 | None = None,
        end: int | None = None,
    ) -> memoryview:
        """The whole frame at ``offset``, which lies before ``end``, read once into ``slot``;
        ``whole`` takes its bytes, good or bad.
        """
        size = expected or FRAME_HEAD + self._words(offset)[0]
        if size > FRAME_HEAD + MAX_CIPHER or size % PAGE or offset + size > (end or self.size):
            raise RecordDamagedError(f"record {number} has an impossible length")
        frame = slot.fit(size)
        self._read(offset, frame)
        if whole is not None:
            whole.update(frame)
        cipher, found = parse_frame(frame)
        if FRAME_HEAD + cipher != size:
            raise RecordDamagedError(f"record {number} has another length than announced")
        if found != number:
            raise RecordOrderError(f"record {found} stands where record {number} belongs")
        return frame

    def _open_as(self, entry: Entry, frame: memoryview, slot: _Slot) -> Record:
        found = self._open(entry.offset, entry.number, frame, slot)
        if found.entry.head != entry.head:
            raise RecordDamagedError(f"record {entry.number} is not what the index says")
        return found

    def _open(self, offset: int, number: int, frame: memoryview, slot: _Slot) -> Record:
        plain = slot.plain[: len(frame) - FRAME_HEAD - TAG]
        self._keys.open_record(number, frame, plain)
        head = parse_record_head(plain, self.head.block_size)
        end = RECORD_HEAD + head.stored
        if head.frame_size != len(frame) or not is_zero(plain[end:]):
            raise RecordDamagedError(f"record {number} is padded with something else than zeros")
        entry = Entry(number, offset, head)
        return Record(entry, self._payload(entry, plain[RECORD_HEAD:end]))

    def _payload(self, entry: Entry, stored: memoryview) -> memoryview | bytes:
        number, head = entry.number, entry.head
        if head.kind in (Kind.REFERENCE, Kind.ZERO_RUN):
            return b""
        if not hasattr(self._local, "expander"):
            self._local.expander = Expander()
        expander: Expander = self._local.expander
        try:
            payload = expander.expand(head.codec, stored, head.plain)
        except ValueError as exc:
            raise RecordDamagedError(f"record {number} is damaged: {exc}") from exc
        if digest(payload) != head.digest:
            what = "document" if head.kind in JSON_KINDS else f"block {head.index}"
            raise RecordDamagedError(f"record {number} is damaged: {what} has another digest")
        return payload
