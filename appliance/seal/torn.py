"""Mending what a crash left behind: a pack without a tail is cut to its last good checkpoint and
closed.

No key is needed, and none exists any more. Reads go past the page cache: what a failed sync left
there may not be on the disk.
"""

import fcntl
import os
from pathlib import Path

from blake3 import blake3

from appliance.block import (
    PAGE,
    aligned_buffer,
    make_directory,
    opened,
    opened_past_cache,
    pread_full,
    pwrite_full,
    sync_directory,
)
from appliance.errors import JobRunningError, PackDamagedError, StoreRefusedError
from appliance.model import DiskId
from appliance.seal.layout import (
    CHECKPOINT,
    FRAME_HEAD,
    INDEX,
    MAX_CIPHER,
    PackHead,
    PackState,
    Trailer,
    index_cipher_size,
    parse_checkpoint,
    parse_frame,
    parse_trailer,
)
from appliance.seal.scan import read_head

DAMAGED = "damaged"


def disk_of(path: Path) -> DiskId | None:
    """The disk an open pack belongs to; None while its head is not whole, when it cannot be read,
    or when the pack was just closed.
    """
    try:
        with opened(path, os.O_RDONLY) as fd:
            return read_head(fd)[0].disk
    except (StoreRefusedError, OSError):
        return None


def mend(path: Path) -> Path | None:
    """Close the torn pack ``<id>.open``: its final path, or None when it held nothing ever
    reported as stored.
    """
    with opened_past_cache(path) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise JobRunningError(f"The pack {path.name} is being written by another job") from exc
        end, trailer, damaged = _last_good(fd)
        if not end:
            _put_aside(path, damaged=damaged)
            return None
        _close(path, end, trailer)
    return path.with_suffix(".pack")


def _last_good(fd: int) -> tuple[int, Trailer | None, bool]:
    """Where to cut, the trailer to write there, and whether the disk has lost something."""
    try:
        head, _, _ = read_head(fd)
    except PackDamagedError:
        return 0, None, False
    except OSError:
        return 0, None, True
    walk = _Walk(fd, head)
    end, trailer = walk.last_good()
    return end, trailer, walk.met_damage


def _put_aside(path: Path, *, damaged: bool) -> None:
    """A pack without a good checkpoint: removed, unless it has a checkpoint that its bytes no
    longer fit. Then the disk has lost something that was reported as stored: kept for recovery,
    outside of packs/, and its blocks are read from the source again.
    """
    if damaged:
        aside = path.parent.parent / DAMAGED
        make_directory(aside)
        path.rename(aside / path.name)
        sync_directory(aside)
    else:
        path.unlink()
    sync_directory(path.parent)


def _close(path: Path, end: int, trailer: Trailer | None) -> None:
    with opened(path, os.O_RDWR) as fd:
        os.ftruncate(fd, end)
        if trailer is not None:
            pwrite_full(fd, end, trailer.encode())
        os.fsync(fd)
    path.rename(path.with_suffix(".pack"))
    sync_directory(path.parent)


class _Walk:
    """One pass over a torn pack's frames, with the running digest."""

    def __init__(self, fd: int, head: PackHead) -> None:
        self._fd = fd
        self._head = head
        self._hash = blake3()
        self._buffer = aligned_buffer(1 << 20)
        self._offset = 0
        self._good: tuple[int, Trailer | None] = (0, None)
        self.met_damage = False

    def last_good(self) -> tuple[int, Trailer | None]:
        """Where to cut, and the trailer to write there; no trailer when a whole one stands before
        the cut.

        (0, None) when no checkpoint is good. Where the disk cannot be read, the pack ends.
        """
        try:
            return self._through()
        except OSError:
            self.met_damage = True
            return self._good

    def _through(self) -> tuple[int, Trailer | None]:
        self._take(self._head.size)
        records = 0
        while True:
            word, second = parse_frame(self._peek(PAGE))
            if word == CHECKPOINT:
                if not self._checkpoint(records):
                    return self._good
            elif word == INDEX and self._whole(records):
                return self._offset + PAGE, None
            elif word <= MAX_CIPHER and not (FRAME_HEAD + word) % PAGE and second == records:
                self._take(FRAME_HEAD + word)
                records += 1
            else:
                return self._good

    def _checkpoint(self, records: int) -> bool:
        try:
            found = parse_checkpoint(self._peek(PAGE))
        except PackDamagedError:
            return False
        if found.records != records or found.digest != self._hash.digest():
            self.met_damage = True
            return False
        at = self._offset
        self._take(PAGE)
        trailer = Trailer(records, PackState.TORN, at, 0, self._hash.digest())
        self._good = (self._offset, trailer)
        return True

    def _whole(self, records: int) -> bool:
        """Whether an index and a trailer that fits follow: the crash came between the last sync
        and the rename.
        """
        self._take(FRAME_HEAD + index_cipher_size(records))
        try:
            trailer = parse_trailer(self._peek(PAGE), self._head, self._offset + PAGE)
        except PackDamagedError:
            return False
        return trailer.digest == self._hash.digest() and trailer.records == records

    def _peek(self, size: int) -> memoryview:
        """The next bytes; behind the file's end zeros, as closing it will fill a cut page."""
        piece = self._buffer[:size]
        got = pread_full(self._fd, self._offset, piece)
        piece[got:] = bytes(size - got)
        return piece

    def _take(self, size: int) -> None:
        end = self._offset + size
        while self._offset < end:
            piece = self._peek(min(len(self._buffer), end - self._offset))
            self._hash.update(piece)
            self._offset += len(piece)
