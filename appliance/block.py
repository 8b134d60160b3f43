"""Bytes on media: aligned buffers, reads past the page cache, durable writes, where a file lies on
its disk.

Linux only. No policy here: callers decide what an error means.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import re
import select
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

SECTOR = 512
PAGE = 4096

BLKGETSIZE64 = 0x80081272  # linux/fs.h
BLKSSZGET = 0x1268
BLKPBSZGET = 0x127B
FITRIM = 0xC0185879
FS_IOC_FIEMAP = 0xC020660B  # linux/fiemap.h
_FIEMAP = struct.Struct("=QQLLLL")
_FIEMAP_EXTENT = struct.Struct("=QQQQQLLLL")
_FIEMAP_FLAG_SYNC = 1
# Of bytes without a place of their own: not known yet, encoded, not aligned, inline, not written.
_FIEMAP_ELSEWHERE = 0x0E | 0x80 | 0x0F00
_FITRIM = struct.Struct("=QQQ")
_FALLOC_PUNCH_HOLE = 1 | 2  # and the size stays; linux/falloc.h
MEMINFO = Path("/proc/meminfo")
_MCL_CURRENT_FUTURE_ONFAULT = 1 | 2 | 4
_PR_SET_DUMPABLE = 4
_TIMEX_SIZE = 208  # struct timex with 64-bit words: sys/timex.h
_TIME_ERROR = 5

# The medium could not deliver, but the device answers. Everything else means that it does not.
MEDIA_ERRNOS = frozenset({errno.EIO, errno.EILSEQ, errno.ENODATA, errno.EREMOTEIO, errno.EBADMSG})
NO_SPACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def aligned_buffer(size: int) -> memoryview:
    """A writable zeroed buffer of ``size`` bytes at a page boundary, as O_DIRECT wants it."""
    return memoryview(mmap.mmap(-1, max(size, 1)))[:size]


def device_size(fd: int) -> int:
    """Bytes in the block device ``fd``."""
    return int(struct.unpack("=Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0])


def sector_sizes(fd: int) -> tuple[int, int]:
    """Logical and physical sector size of the block device ``fd``."""
    logical = struct.unpack("=i", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))[0]
    physical = struct.unpack("=I", fcntl.ioctl(fd, BLKPBSZGET, bytes(4)))[0]
    return int(logical), int(physical)


def free_memory() -> int:
    """Bytes that processes can still take without swapping (/proc/meminfo, MemAvailable)."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", MEMINFO.read_text(), re.MULTILINE)
    assert found is not None  # every Linux since 3.14 tells it
    return int(found[1]) << 10


def is_block_device(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISBLK(path.stat().st_mode)
    return False


def pread_full(fd: int, offset: int, buffer: memoryview) -> int:
    """Fill ``buffer`` from ``offset``; returns the bytes read, fewer only at the end of the
    file.
    """
    done = 0
    while done < len(buffer):
        got = os.preadv(fd, [buffer[done:]], offset + done)
        done += got
        if got == 0 or got % SECTOR:  # the end; O_DIRECT must not be asked again at an odd offset
            break
    return done


def peek(fd: int, size: int, offset: int) -> bytes:
    """Up to ``size`` bytes; none where they cannot be read."""
    with suppress(OSError):
        return os.pread(fd, size, offset)
    return b""


def pwrite_full(fd: int, offset: int, data: memoryview | bytes) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def fd_ready(fd: int, seconds: float, *, reading: bool = True, writing: bool = False) -> bool:
    """Whether ``fd``, whatever its number, can be read or written, or is at its end, within so
    many seconds, of which at most 24 days are waited.
    """
    wanted = select.poll()
    wanted.register(fd, select.POLLIN * reading | select.POLLOUT * writing)
    return bool(wanted.poll(min(1000 * seconds, (1 << 31) - 1)))


@contextmanager
def opened(path: Path | str, flags: int, mode: int = 0o600) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def read_small(path: Path, most: int, flags: int = os.O_NOFOLLOW) -> bytes:
    """The bytes of a regular file, at most ``most`` of them; never waits on a pipe or device
    put in its place, nor follows a link unless ``flags`` are 0.
    """
    with opened(path, os.O_RDONLY | os.O_NONBLOCK | flags) as fd:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = bytearray()
        while got := os.read(fd, min(most - len(data), 1 << 20)):
            data += got
        return bytes(data)


@contextmanager
def opened_past_cache(path: Path | str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor whose reads come from the medium, not from memory.

    O_DIRECT where the file system knows it; elsewhere what is clean in the page cache is dropped
    first.
    """
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        with opened(path, flags) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            yield fd
        return
    try:
        yield fd
    finally:
        os.close(fd)


def stream_past_cache(path: Path, buffer: memoryview, take: Callable[[memoryview], object]) -> int:
    """Read the file front to back past the page cache, handing each piece to ``take``; returns its
    size. Neither follows a link nor waits on a pipe.

    ``buffer`` is aligned and a multiple of PAGE long; a piece is valid only during the call.
    """
    offset = 0
    with opened_past_cache(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
        while got := os.preadv(fd, [buffer], offset):
            take(buffer[:got])
            offset += got
            if got < len(buffer):  # the end: O_DIRECT must not be asked again at an odd offset
                break
    return offset


def sync_directory(path: Path) -> None:
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Make a directory, and those above it that are missing, so that a power cut does not take
    away what is made durable in it. Nothing when it is there.
    """
    if path.is_dir():
        return
    missing = takewhile(lambda one: not one.exists(), path.parents)
    for one in (*reversed(list(missing)), path):
        try:
            one.mkdir(mode if one == path else 0o777)
        except FileExistsError:
            if not stat.S_ISDIR(one.stat().st_mode):
                raise
        sync_directory(one.parent)


def sync_file_system(fd: int) -> None:
    """Write out what the file system that ``fd`` lies in has in memory. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def write_durably(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Write a file so that after a power cut it is there whole or not at all. Two writers do not
    disturb each other: one of the files stays. What a killed writer left behind is removed.
    """
    _sweep(path)
    fresh, fd = _draft(path, mode)
    try:
        pwrite_full(fd, 0, data)
        os.fsync(fd)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    sync_directory(path.parent)


def write_once(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Write a new file, whole or not at all; FileExistsError where there was one."""
    _sweep(path)
    fresh, fd = _draft(path, mode)
    try:
        pwrite_full(fd, 0, data)
        os.fsync(fd)
        os.link(fresh, path)
    finally:
        os.close(fd)
        fresh.unlink(missing_ok=True)
    sync_directory(path.parent)


def _draft(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside ``path``, and its descriptor; locked for as long as its writer lives."""
    while True:
        fresh = path.with_name(f"{path.name}.{os.urandom(8).hex()}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with suppress(OSError):  # a file system without locks: then nobody sweeps there either
            fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fresh, fd
        os.close(fd)  # another writer swept it away before it was locked


def _sweep(path: Path) -> None:
    """Remove drafts of ``path`` that no living writer holds."""
    draft = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.new")
    with suppress(OSError):
        for one in [one for one in path.parent.iterdir() if draft.fullmatch(one.name)]:
            with suppress(OSError), opened(one, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                one.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, made when it is missing; waits for whoever holds it."""
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def reserve(fd: int, size: int) -> None:
    """Take ``size`` bytes of space for the file now; raises OSError (ENOSPC) when it is not
    there.
    """
    os.posix_fallocate(fd, 0, size)


def free_space(path: Path) -> int:
    """Bytes that an unprivileged writer may still take at ``path``."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def file_identity(path: Path) -> str:
    """What is another as soon as the file is another one or was written to: where it lies, its
    size, and when content and inode last changed. Empty for what is no regular file: what a disk
    holds changes without a sign.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        return ""
    when = (found.st_mtime_ns, found.st_ctime_ns)
    return ":".join(str(one) for one in (found.st_dev, found.st_ino, found.st_size, *when))


def physical_order(path: Path) -> tuple[int, int]:
    """A sort key by which files are read with the least seeking: first byte on the disk, else
    the inode.
    """
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
        inode = os.fstat(fd).st_ino
        try:
            found = _extent(fd, 0, (1 << 64) - 1, 0)
        except OSError:
            return (0, inode)
        return (found[1], inode) if found else (0, inode)


def physical_place(fd: int, offset: int) -> int | None:
    """Where on its disk the page at ``offset`` of the file lies, in bytes; None where it has no
    place of its own there. OSError where the file system does not tell.
    """
    found = _extent(fd, offset, PAGE, _FIEMAP_FLAG_SYNC)
    if found is None:
        return None
    logical, physical, length, _, _, flags, *_ = found
    inside = logical <= offset and offset + PAGE <= logical + length
    return physical + offset - logical if inside and not flags & _FIEMAP_ELSEWHERE else None


def _extent(fd: int, offset: int, size: int, flags: int) -> tuple[int, ...] | None:
    """The first extent of the file in that range (FIEMAP), if there is any."""
    ask = _FIEMAP.pack(offset, size, flags, 0, 1, 0) + bytes(_FIEMAP_EXTENT.size)
    answer = fcntl.ioctl(fd, FS_IOC_FIEMAP, ask)
    mapped = _FIEMAP.unpack_from(answer)[3]
    return _FIEMAP_EXTENT.unpack_from(answer, _FIEMAP.size) if mapped else None


def device_node(number: int) -> Path | None:
    """The node of the block device that has this number (st_dev, st_rdev), if there is one."""
    about = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/uevent")
    with suppress(OSError):
        if found := re.search(r"^DEVNAME=(.+)$", about.read_text(), re.MULTILINE):
            node = Path("/dev", found[1])
            at = node.stat()
            return node if stat.S_ISBLK(at.st_mode) and at.st_rdev == number else None
    return None


def mount_of(fd: int) -> str:
    """By which mount ``fd`` was opened: a bind mount is another one too."""
    about = Path(f"/proc/self/fdinfo/{fd}").read_text()
    return about.partition("mnt_id:")[2].split()[0]


def punch(fd: int, size: int) -> None:
    """Give the first ``size`` bytes of the file back to its file system; they read as zeros from
    now on. OSError where it cannot do that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    at, length = ctypes.c_int64(0), ctypes.c_int64(size)
    if libc.fallocate64(fd, _FALLOC_PUNCH_HOLE, at, length):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def trim(fd: int) -> int:
    """Tell the disk below the file system that ``fd`` lies in which of its blocks are free; the
    bytes that it was told. OSError where either does not know how, or this user may not.
    """
    answer = fcntl.ioctl(fd, FITRIM, _FITRIM.pack(0, (1 << 64) - 1, 0))
    return int(_FITRIM.unpack(answer)[1])


def is_rotational(path: Path) -> bool:
    """Whether ``path`` lies on a disk that says it has to seek. Unknown counts as no."""
    with suppress(OSError):
        number = path.stat().st_dev
        node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        for queue in (node / "queue", node / ".." / "queue"):
            with suppress(OSError):
                return (queue / "rotational").read_text().strip() == "1"
    return False


def clock_is_kept() -> bool:
    """Whether the kernel says that its clock is kept right by another (adjtimex(2))."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
    return int(state) in range(_TIME_ERROR)


def keep_in_memory() -> bool:
    """Keep this process out of swap and core dumps, since it will hold secrets; False where the
    system refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    undumpable = libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    locked = libc.mlockall(_MCL_CURRENT_FUTURE_ONFAULT) == 0
    return bool(undumpable and locked)
