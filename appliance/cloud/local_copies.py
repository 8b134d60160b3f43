"""Copies of files within one directory: sharing their extents where the file system can, else data
copied and holes kept. A copy has its name when it is whole; what a killed maker left is swept.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.block import NO_SPACE_ERRNOS, SECTOR, free_space, opened
from appliance.errors import TargetFullError, TargetWriteError, VolumeBusyError

FICLONE = 0x40049409  # linux/fs.h
_SHARES_NOTHING = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL})
_STRIDE = 64 << 20
_DRAFT = ".new"
ROOM = "Make room at the target: `motiongear points discard` removes what is not needed any more."


@contextmanager
def named(path: Path, safe: str) -> Iterator[None]:
    """What the file system refuses in here is told as the target's failure at ``path``."""
    try:
        yield
    except OSError as exc:
        if exc.errno in NO_SPACE_ERRNOS:
            what = f"The target is full: no room for {path} ({exc.strerror})"
            raise TargetFullError(what, safe=safe, todo=ROOM) from exc
        what = f"The target failed at {path} ({exc.strerror})"
        raise TargetWriteError(what, safe=safe, todo="Mend the target, then try again.") from exc


@contextmanager
def drafted(path: Path) -> Iterator[tuple[Path, int]]:
    """A new file, open for writing, that its maker renames to what it becomes; locked for as long
    as the maker lives, gone when it fails. Two makers of one draft refuse each other.
    """
    draft = path.with_name(f"{path.name}{_DRAFT}")
    try:
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as exc:
        raise VolumeBusyError(f"Somebody else is making {path.name} at the moment") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield draft, fd
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def sweep(directory: Path) -> None:
    """Remove the drafts of killed makers. Under the lock under which drafts are begun."""
    for one in directory.glob(f"*{_DRAFT}"):
        with suppress(BlockingIOError), opened(one, os.O_RDONLY | os.O_NOFOLLOW) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            one.unlink()


def share(source: int, copy: int) -> bool:
    """Make the empty file ``copy`` share all extents of ``source``; False where it cannot."""
    try:
        fcntl.ioctl(copy, FICLONE, source)
    except OSError as exc:
        if exc.errno not in _SHARES_NOTHING:
            raise
        return False
    return True


def duplicate(source: int, copy: int) -> None:
    """Copy the data of ``source`` into the empty file ``copy``; its holes are holes there too."""
    os.ftruncate(copy, os.fstat(source).st_size)
    at = 0
    while (data := _data(source, at)) is not None:
        at = os.lseek(source, data, os.SEEK_HOLE)
        while data < at:
            done = os.copy_file_range(source, copy, min(_STRIDE, at - data), data, data)
            if not done:
                raise OSError(errno.EIO, "it became shorter while it was copied")
            data += done


def _data(fd: int, offset: int) -> int | None:
    """Where the next data begins, if there is any up to the end of the file."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            raise
        return None


def refuse_without_room(source: int, path: Path, safe: str) -> None:
    """Refuse, before anything is written, a copy of ``source`` that will not fit."""
    need, room = os.fstat(source).st_blocks * SECTOR, free_space(path.parent)
    if need > room:
        raise TargetFullError(
            f"{path} would be a copy of {need} bytes, since no extents can be shared here, and "
            f"{room} are left",
            safe=safe,
            todo=ROOM,
        )
