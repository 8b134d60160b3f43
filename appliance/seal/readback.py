"""Reading packs past the page cache: one behind its writer, or many, in physical order, several at
once, which sealing and verifying share.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from appliance.block import (
    PAGE,
    aligned_buffer,
    is_rotational,
    opened_past_cache,
    physical_order,
    stream_past_cache,
)
from appliance.errors import MotionGearError, PackDamagedError, StoppedError, StoreWriteError
from appliance.events import Emit, Progress
from appliance.model import Stop
from appliance.seal.pack import ClosedPack
from appliance.seal.scan import PackInfo

T = TypeVar("T")
_PIECE = 4 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """A pack's size, and the digests of all of it, of all but the trailer, of the index frame."""

    size: int
    whole: bytes
    body: bytes
    index: bytes


class ReadBack:
    """A pack read back while it is written, some megabytes behind the writer, so that little is
    left to write out and to read when it closes. All but ``late`` belongs to one thread.

    Only from the medium: where the file system cannot read past the page cache (no O_DIRECT), the
    reading waits for the pack to be closed and synced.
    """

    _STRIDE, _BEHIND = 16 << 20, 32 << 20  # bytes

    def __init__(self, path: Path) -> None:
        self._path, self._hash = path, blake3(max_threads=1)
        self._asked = self._pushed = self._at = 0
        self._failed: OSError | None = None
        self._open = ExitStack()
        try:
            self._fd = self._open.enter_context(opened_past_cache(path))
        except OSError as exc:
            raise _cannot_be_read_back(path, exc) from exc
        self._direct = bool(fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_DIRECT)

    def late(self, size: int) -> bool:
        """Whether the writer, at ``size`` bytes, is far enough ahead to ``follow`` it."""
        if size - self._asked < self._STRIDE:
            return False
        self._asked = size
        return True

    def follow(self, size: int) -> None:
        """Have the ``size`` bytes written so far on their way to the disk, and read what should
        be there by now.
        """
        try:
            os.posix_fadvise(self._fd, self._pushed, size - self._pushed, os.POSIX_FADV_DONTNEED)
            self._pushed = size
            if self._direct:
                self._read(size - self._BEHIND)
        except OSError as exc:
            self._failed = exc

    def finish(self, closed: ClosedPack) -> None:
        """Read the rest of the closed pack; raises StoreWriteError when it is not what was
        written.
        """
        try:
            if self._failed is not None:
                raise self._failed
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
            self._read(closed.size)
            size = os.fstat(self._fd).st_size
        except OSError as exc:
            raise _cannot_be_read_back(self._path, exc) from exc
        finally:
            self.close()
        if size != closed.size or self._hash.digest() != closed.digest:
            raise reads_otherwise(self._path)

    def close(self) -> None:
        self._open.close()

    def _read(self, end: int) -> None:
        buffer = _buffer()
        while self._at < end:
            piece = buffer[: min(len(buffer), end - self._at)]
            got = os.preadv(self._fd, [piece], self._at)
            if not got:
                return
            self._hash.update(piece[:got])
            self._at += got


def _cannot_be_read_back(path: Path, exc: OSError) -> StoreWriteError:
    return StoreWriteError(f"{path.stem} cannot be read back ({exc.strerror})")


def reads_otherwise(path: Path) -> StoreWriteError:
    return StoreWriteError(
        f"{path.stem} reads back other than it was written: the device's disk is failing",
        todo="Change the device's disk; discard this job and ingest the disk again.",
    )


class Tally:
    """Bytes done by several threads together, told as the progress of one step."""

    def __init__(self, step: str, total: int, emit: Emit) -> None:
        self._step, self._total, self._emit = step, total, emit
        self._done = 0
        self._lock = threading.Lock()

    def moved(self, count: int, stored: int = 0) -> None:
        with self._lock:
            self._done += count
            done = self._done
        self._emit(Progress(self._step, done, self._total, stored))


def readers_for(path: Path) -> int:
    """How many packs to read at once: one where the disk has to seek, else one a core."""
    return 1 if is_rotational(path) else os.cpu_count() or 1


def threads_for(packs: int, readers: int) -> int:
    """How many threads each of so many packs may have, so that no core is idle."""
    return max((os.cpu_count() or 1) // max(min(packs, readers), 1), 1)


def digest_pack(info: PackInfo, moved: Callable[[int], None], stop: Stop) -> Digests:
    """Read a pack past the page cache; ``moved`` hears of each piece's length."""
    path, size = info.path, info.size
    index_offset = info.trailer.index_offset or size  # a torn pack has none
    found, index = blake3(max_threads=1), blake3(max_threads=1)
    seen = 0
    body = b""

    def take(piece: memoryview) -> None:
        nonlocal seen, body
        if stop():
            raise StoppedError("Reading was stopped")
        moved(len(piece))
        before = size - PAGE - seen
        if before > 0 and seen + len(piece) > index_offset:
            index.update(piece[max(index_offset - seen, 0) : before])
        if 0 <= before <= len(piece):
            found.update(piece[:before])
            body = found.digest()
            piece = piece[before:]
            seen += before
        found.update(piece)
        seen += len(piece)

    try:
        stream_past_cache(path, _buffer(), take)
    except OSError as exc:
        raise PackDamagedError(f"{path.name} cannot be read ({exc.strerror})") from exc
    return Digests(seen, found.digest(), body, index.digest())


_local = threading.local()


def _buffer() -> memoryview:
    """The buffer of this thread: made once, since fresh memory costs as much as the digest."""
    if not hasattr(_local, "buffer"):
        _local.buffer = aligned_buffer(_PIECE)
    found: memoryview = _local.buffer
    return found


def in_physical_order(paths: Sequence[Path]) -> list[Path]:
    """What nobody can find any more comes first: whoever opens it tells what is wrong."""

    def place(path: Path) -> tuple[int, int]:
        with suppress(OSError):
            return physical_order(path)
        return (0, 0)

    return sorted(paths, key=place)


def each(
    paths: Sequence[Path], readers: int, work: Callable[[Path], T]
) -> Iterator[tuple[Path, T | MotionGearError]]:
    """``work`` done on every path, in physical order, ``readers`` at a time; refusals are results,
    not ends.

    StoppedError ends it.
    """
    with ThreadPoolExecutor(readers, "reader") as pool:
        left = iter(in_physical_order(paths))
        running: dict[Future[T], Path] = {}
        try:
            while True:
                for path in islice(left, readers - len(running)):
                    running[pool.submit(work, path)] = path
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for one in done:
                    path = running.pop(one)
                    try:
                        yield path, one.result()
                    except StoppedError:
                        raise
                    except MotionGearError as exc:
                        yield path, exc
        finally:
            for one in running:
                one.cancel()
