"""Inside a cell: a program of its own (``python -m appliance.ingest.inspection.confine EXAMINER
PARENT SIZE SECTOR SECONDS``), which gives up every right that it has before it looks at a disk.

Standard input is the disk, open for reading; standard output takes READY before any of the disk
is read, then the answer, or, with another exit code than 0, the reason why there is none. Nothing
else can be opened, no process started and nobody signalled. It dies with its parent. Raises what
it likes: its caller believes none of it.
"""

import ctypes
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

NOBODY = 65534
FAILED, UNPREPARED = 3, 4  # exit codes
READY = b"\x06"  # what the disk can make of the cell comes behind it
_DESCRIPTORS = 3  # input, output, and where errors go
MEMORY = 1 << 30  # bytes of address space; dissect and its libraries take 150 MiB of them
# CLONE_NEWNET, IPC, UTS. No mount namespace: its copies of all mounts would keep a disk busy that
# is unmounted meanwhile, and nobody may mount.
_NEW_SPACES = 0x40000000 | 0x08000000 | 0x04000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SCMP_ACT_ALLOW, _SCMP_ACT_EPERM = 0x7FFF0000, 0x00050000 | 1  # seccomp.h
_SCMP_CMP_EQ = 4
# What a Python program needs that reads two descriptors it has and computes: nothing is opened,
# made, sent, signalled or changed.
_ALLOWED = (
    *("read", "pread64", "readv", "preadv", "lseek", "_llseek", "write", "close"),
    *("fstat", "fstat64", "newfstatat", "statx", "poll", "ppoll"),
    *("mmap", "mmap2", "munmap", "mremap", "mprotect", "brk", "madvise", "futex"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getrandom"),
    *("clock_gettime", "clock_gettime64", "gettimeofday", "time", "getpid", "gettid"),
    *(
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "sched_yield",
        "sched_getaffinity",
        "uname",
        "getcwd",
    ),
    *("getrusage", "sysinfo", "restart_syscall"),
    *("exit", "exit_group"),
)
# What asks a block device for its size and sectors (linux/fs.h).
_ASKED = (0x80081272, 0x1260, 0x1268, 0x127B, 0x1278, 0x1279, 0x127A, 0x125E)


class Examiner(Protocol):
    """A module that examines a disk."""

    def prepare(self) -> None:
        """Import what is needed, before anything is given up and the disk is looked at."""

    def examine(self, fd: int, size: int, sector: int) -> bytes:
        """The answer, about a disk of ``size`` bytes."""


def _syscall(library: ctypes.CDLL, name: str, *args: object) -> None:
    if getattr(library, name)(*args):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class _Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp`` of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def _filter(library: ctypes.CDLL) -> None:
    """From now on the kernel refuses every call that is not allowed, with EPERM."""
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_SCMP_ACT_EPERM)))
    if rules.value is None:
        raise OSError("seccomp_init failed")
    for name in _ALLOWED:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and library.seccomp_rule_add_array(
            rules, ctypes.c_uint32(_SCMP_ACT_ALLOW), number, 0, None
        ):
            raise OSError(f"seccomp knows no {name}")
    number = library.seccomp_syscall_resolve_name(b"ioctl")
    for one in _ASKED:
        asked = _Comparison(1, _SCMP_CMP_EQ, one, 0)
        if library.seccomp_rule_add_array(
            rules, ctypes.c_uint32(_SCMP_ACT_ALLOW), number, 1, ctypes.byref(asked)
        ):
            raise OSError("seccomp cannot compare")
    if library.seccomp_load(rules):
        raise OSError("seccomp_load failed")


def _apart(libc: ctypes.CDLL) -> None:
    """Alone with itself: no network, and no other's IPC or host name."""
    try:
        _syscall(libc, "unshare", _NEW_SPACES)
    except PermissionError:  # root of a container; the filter is what then holds
        return


def walls(parent: int, seconds: int) -> dict[str, Callable[[], None]]:
    """What gives up every right but to read, to answer and to end, in this order."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    found: dict[str, Callable[[], None]] = {}
    if os.geteuid() == 0:
        found |= {
            "spaces": partial(_apart, libc),
            "groups": partial(os.setgroups, []),
            "group": partial(os.setresgid, NOBODY, NOBODY, NOBODY),
            "user": partial(os.setresuid, NOBODY, NOBODY, NOBODY),
        }
    for name, what, most in (
        ("memory", resource.RLIMIT_AS, MEMORY),
        ("time", resource.RLIMIT_CPU, seconds),
        ("file-size", resource.RLIMIT_FSIZE, 0),
        ("core-dump", resource.RLIMIT_CORE, 0),
        ("descriptors", resource.RLIMIT_NOFILE, _DESCRIPTORS),
        ("locked-memory", resource.RLIMIT_MEMLOCK, 0),
        ("queues", resource.RLIMIT_MSGQUEUE, 0),
        ("processes", resource.RLIMIT_NPROC, 0),
    ):
        found[name] = partial(resource.setrlimit, what, (most, most))
    for name, option, value in (
        ("privileges", _PR_SET_NO_NEW_PRIVS, 1),
        ("dump", _PR_SET_DUMPABLE, 0),
        ("parent", _PR_SET_PDEATHSIG, signal.SIGKILL),
    ):
        found[name] = partial(_syscall, libc, "prctl", option, value, 0, 0, 0)
    return found | {"orphan": partial(_end_if_orphan, parent), "filter": partial(_filter, seccomp)}


def _end_if_orphan(parent: int) -> None:
    """The parent may have died before its death was asked to be told."""
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    name, parent, size, sector, seconds = sys.argv[1], *map(int, sys.argv[2:])
    code = UNPREPARED
    try:
        examiner: Examiner = cast("Examiner", importlib.import_module(name))
        examiner.prepare()
        os.write(1, READY)
        code = FAILED
        for wall in walls(parent, seconds).values():
            wall()
        answer, code = examiner.examine(0, size, sector), 0
    except Exception as exc:  # noqa: BLE001 - the process ends here, and says why
        answer = f"{type(exc).__name__}: {exc}"[:300].encode(errors="replace")
    left = memoryview(answer)
    while left:
        left = left[os.write(1, left) :]
    os._exit(code)  # nothing of what a disk made of this interpreter runs on


if __name__ == "__main__":
    main()
