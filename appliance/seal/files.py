"""Files that travel beside the packs and that the seal lists (store-format.md, section 8). What
they mean is not asked here.
"""

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.block import PAGE, aligned_buffer, opened, stream_past_cache, sync_directory
from appliance.errors import PackUnlistedError, SealDamagedError, StoppedError
from appliance.model import Stop

DIRECTORY = "files"
MAX_FILES = 1024
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PIECE = 256 * PAGE


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file as the seal vouches for it: ``digest`` in hex, ``size`` in bytes."""

    name: str
    size: int
    digest: str


def _names(store: Path) -> list[str]:
    """What lies in files/; OSError when it cannot be read."""
    try:
        return sorted(one.name for one in (store / DIRECTORY).iterdir())
    except FileNotFoundError:
        return []


def _size(path: Path) -> int:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "not a regular file")
    return found.st_size


def _digested(path: Path, moved: Callable[[int], object], stop: Stop) -> SealedFile:
    found, size = blake3(), _size(path)

    def take(piece: memoryview) -> None:
        if stop():
            raise StoppedError("Reading was stopped")
        found.update(piece)
        moved(len(piece))

    stream_past_cache(path, aligned_buffer(_PIECE), take)
    return SealedFile(path.name, size, found.hexdigest())


def take(store: Path, stop: Stop) -> tuple[SealedFile, ...]:
    """What the seal is to list: everything in files/, durable. OSError when a file cannot be read
    or is none.
    """
    found = []
    for name in _names(store):
        path = store / DIRECTORY / name
        _size(path)  # before it is opened: a pipe would wait
        with opened(path, os.O_RDONLY) as fd:
            os.fsync(fd)
        found.append(_digested(path, lambda _: None, stop))
    if found:
        sync_directory(store / DIRECTORY)
        sync_directory(store)
    return tuple(found)


def refuse_others(store: Path, listed: Sequence[SealedFile]) -> None:
    """Refuse files/ where it does not hold the files listed, regular and of that size, and nothing
    else.
    """
    try:
        names = _names(store)
    except OSError as exc:
        raise SealDamagedError(f"{DIRECTORY} cannot be read ({exc.strerror})") from exc
    if more := sorted(set(names) - {one.name for one in listed}):
        raise PackUnlistedError(
            f"{DIRECTORY}/{more[0]!r} lies in the store, but the seal does not list it"
        )
    for one in listed:
        try:
            size = _size(store / DIRECTORY / one.name)
        except OSError as exc:
            raise _unreadable(one, exc) from exc
        if size != one.size:
            raise SealDamagedError(f"{DIRECTORY}/{one.name} has not the size that was sealed")


def refuse_changed(
    store: Path, listed: SealedFile, moved: Callable[[int], object], stop: Stop
) -> None:
    """Read a file and refuse one that is not what was sealed."""
    try:
        found = _digested(store / DIRECTORY / listed.name, moved, stop)
    except OSError as exc:
        raise _unreadable(listed, exc) from exc
    if found != listed:
        raise SealDamagedError(f"{DIRECTORY}/{listed.name} is not what was sealed")


def _unreadable(listed: SealedFile, exc: OSError) -> SealDamagedError:
    return SealDamagedError(f"{DIRECTORY}/{listed.name} cannot be read ({exc.strerror})")
