"""An examiner that a disk has taken over: it tries to get out of its cell in the way that the
environment names, and answers what became of it.
"""

import ctypes
import errno
import mmap
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HERE = __name__
_SYSCALLS = {  # x86_64
    "ptrace": 101,
    "process_vm_writev": 311,
    "mount": 165,
    "unshare": 272,
    "bpf": 321,
    "io_uring_setup": 425,
    "keyctl": 250,
    "perf_event_open": 298,
    "userfaultfd": 323,
    "pidfd_open": 434,
    "memfd_create": 319,
    "prctl": 157,
    "execveat": 322,
    "clone": 56,
    "clone3": 435,
}


def prepare() -> None:
    """As an honest examiner, but where a wall is to be left out."""
    if os.environ.get("WITHOUT"):
        confine, out = sys.modules["__main__"], os.environ["WITHOUT"].split(",")
        walls = vars(confine)["walls"]

        def left(parent: int, seconds: int) -> dict[str, Callable[[], None]]:
            found: dict[str, Callable[[], None]] = walls(parent, seconds)
            for one in out:
                del found[one]
            return found

        vars(confine)["walls"] = left


def tried(work: Callable[..., object], *args: object) -> str:
    try:
        work(*args)
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, str(exc))
    except (MemoryError, RuntimeError) as exc:
        return type(exc).__name__
    return "did"


def _made(path: str) -> None:
    os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _files(at: str) -> list[str]:
    secret = Path(at, "secret")
    return [
        *(tried(_made, one) for one in (f"{at}/new", "new", f"{at}/disk", "/proc/self/fd/0")),
        tried(secret.unlink),
        tried(secret.chmod, 0o777),
        tried(secret.rename, f"{at}/taken"),
        tried(Path(at, "directory").mkdir),
        tried(os.ftruncate, 0, 0),
        tried(os.write, 0, b"x"),
    ]


def _common(_: str) -> list[str]:
    """Where anybody may make a file."""
    return [tried(_made, one) for one in ("/tmp/motiongear-new", "/dev/shm/motiongear-new")]


def _secrets(at: str) -> list[str]:
    paths = (f"{at}/secret", "/etc/shadow", f"/proc/{os.getppid()}/environ")
    return [tried(os.open, one, os.O_RDONLY) for one in paths]


def _open(_: str) -> list[str]:
    """What anybody may read."""
    return [tried(os.open, one, os.O_RDONLY) for one in ("/etc/passwd", "/", "/proc/self/maps")]


def _connected(family: int, address: Any) -> None:  # noqa: ANN401 - each family has its own
    with socket.socket(family) as one:
        one.connect(address)


def _network(at: str) -> list[str]:
    return [
        tried(_connected, socket.AF_INET, ("127.0.0.1", int(os.environ["PORT"]))),
        tried(_connected, socket.AF_UNIX, f"\0{at}"),
    ]


def _sockets(_: str) -> list[str]:
    return [tried(_connected, socket.AF_NETLINK, (0, 0)), tried(socket.socketpair)]


def _children(_: str) -> list[str]:
    return [tried(os.fork), tried(os.forkpty), tried(os.posix_spawn, "/bin/true", ["true"], {})]


def _programs(_: str) -> list[str]:
    return [
        tried(os.execv, "/bin/true", ["true"]),
        tried(threading.Thread(target=unlimited).start),
    ]


def _memory(_: str) -> list[str]:
    return [tried(bytearray, 8 << 30)]


def unlimited() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    except ValueError as exc:  # that is how Python tells of EPERM here
        raise PermissionError(errno.EPERM, "") from exc


def _powers(_: str) -> list[str]:
    parent = os.getppid()
    return [
        tried(os.kill, parent, signal.SIGKILL),
        tried(os.setuid, 0),
        tried(os.setresuid, 0, 0, 0),
        tried(os.setgroups, [0]),
        tried(os.chroot, "/tmp"),
        tried(unlimited),
        tried(os.setpriority, os.PRIO_PROCESS, parent, 19),
    ]


def _equals(_: str) -> list[str]:
    """What anybody may do to himself and his own."""
    own = os.getpid()
    return [
        tried(os.kill, own, signal.SIGUSR1),
        tried(os.killpg, 0, signal.SIGKILL),
        tried(os.setsid),
        tried(resource.prlimit, own, resource.RLIMIT_NOFILE, (0, 0)),
        tried(os.sched_setaffinity, 0, {0}),
    ]


def _calls(_: str) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int) -> int:
        if libc.syscall(number, 16, os.getppid(), 0, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "")
        return 0

    return [tried(call, one) for one in _SYSCALLS.values()]


_LIMITS = {
    "memory": resource.RLIMIT_AS,
    "time": resource.RLIMIT_CPU,
    "file-size": resource.RLIMIT_FSIZE,
    "core-dump": resource.RLIMIT_CORE,
    "descriptors": resource.RLIMIT_NOFILE,
    "locked-memory": resource.RLIMIT_MEMLOCK,
    "queues": resource.RLIMIT_MSGQUEUE,
    "processes": resource.RLIMIT_NPROC,
}
SPACES = ("ipc", "net", "uts")


def spaces() -> list[str]:
    return [Path(f"/proc/self/ns/{one}").readlink().name for one in SPACES]


def _standing(at: str) -> list[str]:
    """What each wall leaves, as far as it can be asked, where the filter is left out."""
    libc, told = ctypes.CDLL(None), ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(told), 0, 0, 0)
    found: dict[str, object] = {
        "spaces": "shared" if set(spaces()) & set(at.split(",")) else "own",
        "groups": os.getgroups(),
        "group": os.getresgid(),
        "user": os.getresuid(),
        "privileges": libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
        "dump": libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0),
        "parent": told.value,
    }
    found |= {name: resource.getrlimit(what) for name, what in _LIMITS.items()}
    return [f"{name}={value}".replace(" ", "") for name, value in found.items()]


_PR_GET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_GET_NO_NEW_PRIVS = 2, 3, 39


def _exit(at: str) -> list[str]:
    """Ends with another code than its program would."""
    os.write(1, b"nothing is installed here")
    os._exit(int(at))


def _reading(_: str) -> list[str]:
    """As a file that is opened past the cache wants it."""
    return [str(os.readv(0, [mmap.mmap(-1, 4096)]))]


def _forever(_: str) -> list[str]:
    while True:
        pass


def _deaf(_: str) -> list[str]:
    """Answers, and does not end."""
    os.close(1)
    return _forever("")


def _here(_: str) -> list[str]:
    os.write(1, b"here")
    return _forever("")


def _flood(_: str) -> list[str]:
    piece = bytes(1 << 20)
    for _number in range(1024):
        os.write(1, piece)
    return []


def _crash(_: str) -> list[str]:
    ctypes.string_at(0)
    return []


def _said(_: str) -> list[str]:
    raise ValueError(os.environ["AT"])


WAYS = {
    one.__name__[1:]: one
    for one in (
        *(_files, _common, _secrets, _open, _network, _sockets, _children, _programs, _memory),
        *(_powers, _equals, _calls, _forever, _deaf, _here, _flood, _crash, _said),
        *(_standing, _exit, _reading),
    )
}


def examine(fd: int, size: int, sector: int) -> bytes:
    del fd, size, sector
    if "ANSWER" in os.environ:
        return bytes.fromhex(os.environ["ANSWER"])
    return " ".join(WAYS[os.environ["ESCAPE"]](os.environ["AT"])).encode()


def main() -> None:
    """Run cells as whoever started this, or hold one until this is killed."""
    from appliance.ingest.inspection import cell, confine  # noqa: PLC0415 - not within the cell

    way, at = sys.argv[1:3]
    cell.ENVIRONMENT = {
        "PYTHONPATH": str(Path.cwd()),
        "ESCAPE": way,
        "AT": at,
        "PORT": sys.argv[3],
        "WITHOUT": os.environ.get("WITHOUT", ""),
    }
    if way == "here":
        with cell._started(_HERE, 0, 1, 512, 60) as child:  # noqa: SLF001 - it never ends
            assert child.stdout is not None
            assert child.stdout.read(1) == confine.READY
            assert child.stdout.read(4) == b"here"
            sys.stdout.write(f"{child.pid}\n")
            sys.stdout.flush()
            child.wait()
    sys.stdout.buffer.write(cell.ask(_HERE, 0, 1, 512, 20))


if __name__ == "__main__":
    _HERE = "tests.escapes"
    main()
