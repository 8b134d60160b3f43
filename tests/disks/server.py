"""The process that serves a volatile disk: the file system, and the commands of its owner, a line
of JSON each on the standard input.

The kernel hides no sync: there is no write-back cache, pages changed through a mapping come before
the FSYNC that asks for them, and O_DIRECT is passed on. Locks are the kernel's own.
"""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mfusepy

from tests.disks.faults import Call, Fault, Faults
from tests.disks.medium import HIDDEN, Medium, Node

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h
_ATTRIBUTES = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_blksize",
               "st_ino", "st_rdev")  # fmt: skip
_TIMES = ("st_atime", "st_mtime", "st_ctime")


class VolatileFiles(mfusepy.Operations):  # type: ignore[misc]
    """The mounted file system over ``tree``."""

    use_ns = True

    def __init__(self, tree: Path, scratch: Path) -> None:
        self._tree = tree
        self.medium, self.faults = Medium(tree, scratch), Faults()
        self.mutex = threading.RLock()
        self.dead = False
        self.operations = 0
        self.most: int | None = None
        self.last = ""
        self._handles: dict[int, tuple[Node, int]] = {}
        self._next = 0

    # --- all calls come through here ---

    def _real(self, path: str) -> Path:
        return self._tree / path.lstrip("/")

    @contextmanager
    def _changing(self, name: str, path: str) -> Iterator[None]:
        """One of the operations that a cut can be placed after."""
        with self.mutex:
            self._alive()
            if self.operations == self.most:
                self.dead = True
            self._alive()
            hidden = path.rpartition("/")[2].startswith(HIDDEN)
            if not hidden:
                self.operations += 1
                self.last = f"{name} {path}"
            yield

    def _alive(self) -> None:
        if self.dead:
            raise OSError(errno.EIO, "the power is off")

    def _handle(self, node: Node, flags: int) -> int:
        with self.mutex:
            self._next += 1
            self._handles[self._next] = (node, flags)
            return self._next

    # --- names ---

    def create(self, path: str, mode: int, flags: int) -> int:
        self.faults.check(Call.NAME, path)
        with self._changing("create", path):
            real = self._real(path)
            os.close(os.open(real, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
            return self._handle(self.medium.added(real), flags)

    def mkdir(self, path: str, mode: int) -> None:
        self.faults.check(Call.NAME, path)
        with self._changing("mkdir", path):
            self._real(path).mkdir(mode)
            self.medium.added(self._real(path))

    def symlink(self, target: str, source: str) -> None:
        self.faults.check(Call.NAME, target)
        with self._changing("symlink", target):
            self._real(target).symlink_to(source)
            self.medium.added(self._real(target))

    def link(self, target: str, source: str) -> None:
        self.faults.check(Call.NAME, target)
        with self._changing("link", target):
            self._real(target).hardlink_to(self._real(source))
            self.medium.added(self._real(target))

    def unlink(self, path: str) -> None:
        self.faults.check(Call.NAME, path)
        with self._changing("unlink", path):
            self.medium.removing(self._real(path))
            self._real(path).unlink()
            self.medium.forget()

    def rmdir(self, path: str) -> None:
        self.faults.check(Call.NAME, path)
        with self._changing("rmdir", path):
            real = self._real(path)
            if any(real.iterdir()):
                raise OSError(errno.ENOTEMPTY, path)
            self.medium.removing(real)
            real.rmdir()

    def rename(self, old: str, new: str) -> None:
        self.faults.check(Call.NAME, old)
        with self._changing("rename", new):
            self.medium.renaming(self._real(old), self._real(new))
            self._real(old).rename(self._real(new))
            self.medium.forget()

    # --- files ---

    def open(self, path: str, flags: int) -> int:
        self.faults.check(Call.OPEN, path)
        with self.mutex:
            self._alive()
            node = self.medium.node(self._real(path))
        if flags & os.O_TRUNC:
            self.truncate(path, 0)
        return self._handle(node, flags)

    def release(self, path: str, fh: int) -> None:
        del path
        with self.mutex:
            self._handles.pop(fh)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._alive()
        self.faults.check(Call.READ, path, offset, size)
        node, flags = self._handles[fh]
        return self.medium.read(node, size, offset, past_cache=bool(flags & os.O_DIRECT))

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        data = data[: self.faults.check(Call.WRITE, path, offset, len(data))]
        with self._changing("write", path):
            node, _ = self._handles[fh]
            self.medium.wrote(node, offset, data)
            return os.pwrite(node.live, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        del fh
        self.faults.check(Call.WRITE, path, length, 0)
        with self._changing("truncate", path):
            node = self.medium.node(self._real(path))
            self.medium.resizing(node, length)
            os.ftruncate(node.live, length)

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> None:
        self.faults.check(Call.WRITE, path, offset, size)
        with self._changing("fallocate", path):
            node, _ = self._handles[fh]
            if mode & (_PUNCH_HOLE | _ZERO_RANGE):
                self.medium.punching(node, offset, min(size, max(node.size - offset, 0)))
                os.pwrite(node.live, bytes(min(size, max(node.size - offset, 0))), offset)
            elif not mode & _KEEP_SIZE:
                if offset + size > node.size:
                    self.medium.resizing(node, offset + size)
                os.posix_fallocate(node.live, offset, size)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        del datasync
        with self._changing("fsync", path):
            node, _ = self._handles[fh]
            try:
                self.faults.check(Call.SYNC, path)
            except OSError:
                self.medium.drop(node)
                raise
            self.medium.sync(node)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        del datasync, fh
        self.faults.check(Call.SYNC, path)
        with self._changing("fsyncdir", path):
            self.medium.sync(self.medium.node(self._real(path)))
            self.medium.forget()

    def lseek(self, path: str, offset: int, whence: int, fh: int) -> int:
        del path
        self._alive()
        with self.mutex:
            return os.lseek(self._handles[fh][0].live, offset, whence)

    # --- what is looked up only ---

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        del fh
        self._alive()
        self.faults.check(Call.OPEN, path)
        found = self._real(path).lstat()
        times = {one: getattr(found, f"{one}_ns") for one in _TIMES}
        return {one: getattr(found, one) for one in _ATTRIBUTES} | times

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        del fh
        self._alive()
        self.faults.check(Call.OPEN, path)
        real = self._real(path)
        shown = [one for one in sorted(real.iterdir()) if not one.name.startswith(HIDDEN)]
        for name, one in ((".", real), ("..", real.parent), *((one.name, one) for one in shown)):
            found = one.lstat()
            yield name, {"st_mode": found.st_mode, "st_ino": found.st_ino}, 0

    def readlink(self, path: str) -> str:
        self._alive()
        return str(self._real(path).readlink())

    def statfs(self, path: str) -> dict[str, int]:
        self._alive()
        found = os.statvfs(self._real(path))
        return {one: getattr(found, one) for one in dir(found) if one.startswith("f_")}

    def chmod(self, path: str, mode: int) -> None:
        with self._changing("chmod", path):
            self._real(path).chmod(mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        with self._changing("chown", path):
            os.chown(self._real(path), uid, gid, follow_symlinks=False)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        self._alive()
        os.utime(self._real(path), ns=times or (time.time_ns(),) * 2, follow_symlinks=False)


class _Mounted(mfusepy.FUSE):  # type: ignore[misc]
    """Adds what mfusepy does not pass on."""

    def lseek(self, path: bytes, offset: int, whence: int, fip: "mfusepy.fuse_fi_p") -> int:
        return int(self.operations.lseek(path.decode(), offset, whence, fip.contents.fh))


def _obey(files: VolatileFiles, place: Path, asked: dict[str, Any]) -> dict[str, Any]:
    with files.mutex:
        match asked.pop("do"):
            case "cut after":
                files.most = files.operations + int(asked["operations"])
            case "inject":
                files.faults.inject(Fault(**{**asked, "call": Call(asked["call"])}))
            case "heal":
                files.faults.heal()
            case "settle":
                files.medium.settle()
            case "cut":
                files.dead = True
                return asdict(files.medium.cut(int(asked["seed"]), place / "left"))
            case _:
                pass
        return {
            "operations": files.operations,
            "dead": files.dead,
            "last": files.last,
            "met": files.faults.met,
        }


def _commands(files: VolatileFiles, place: Path, mountpoint: Path) -> None:
    for line in sys.stdin:
        try:
            said = _obey(files, place, json.loads(line))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the owner waits for it
            said = {"failed": repr(exc)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
    # The owner has gone, or wants no more: the file system goes with it.
    subprocess.run(["umount", "--lazy", mountpoint], check=False)
    os._exit(0)  # the mount may be held open: whoever does is told that nobody serves it any more


def main(place: Path) -> None:
    """Serve ``place``/tree at ``place``/disk."""
    files = VolatileFiles(place / "tree", place)
    where = place / "disk"
    commands = threading.Thread(target=_commands, args=(files, place, where), daemon=True)
    commands.start()
    # What the kernel knows stays true: all changes come through this mount.
    _Mounted(
        files, str(where), foreground=True, use_ino=True, allow_other=True, entry_timeout=3600,
        attr_timeout=0, fsname="volatile", subtype="motiongear",
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
