"""Real media for tests: image files, loop devices, file systems, mounts. All of it goes again."""

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from appliance.block import PAGE

_PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
_LOOP_CTL_ADD, _LOOP_CTL_REMOVE = 0x4C80, 0x4C81  # linux/loop.h
NOBODY = 65534


def _ran(*args: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(map(str, args)),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": _PATH},
    )


def tool(*args: str | Path, stdin: str = "") -> str:
    """What the program prints; the test fails when it fails."""
    done = _ran(*args, stdin=stdin)
    assert not done.returncode, f"{args}: {done.stderr}"
    return done.stdout


def fake_tool(place: Path, name: str, script: str) -> None:
    """A shell script in the place of a program, for a PATH that begins with ``place``."""
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """The rights of nobody, for a while."""
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


class Bench:
    """Makes media in ``place``; whatever was attached or mounted is undone by ``ends``."""

    def __init__(self, place: Path, ends: ExitStack) -> None:
        self.place, self._ends = place, ends

    def image(self, content: int | bytes, name: str = "disk.img") -> Path:
        """An image file of that size, all hole, or of these bytes."""
        path = self.place / name
        path.write_bytes(content if isinstance(content, bytes) else b"")
        if isinstance(content, int):
            os.truncate(path, content)
        return path

    def loop(self, image: Path, *options: str) -> Path:
        device = tool("losetup", "--find", "--show", *options, image).strip()
        self._ends.callback(tool, "losetup", "--detach", device)
        return Path(device)

    def empty_loop(self) -> Path:
        """A loop device with nothing in it that nobody else asks for."""
        number = 1000 + os.getpid()
        with Path("/dev/loop-control").open("rb") as control:
            fcntl.ioctl(control, _LOOP_CTL_ADD, number)
        self._ends.callback(self._remove_loop, number)
        return Path(f"/dev/loop{number}")

    @staticmethod
    def _remove_loop(number: int) -> None:
        with Path("/dev/loop-control").open("rb") as control:
            fcntl.ioctl(control, _LOOP_CTL_REMOVE, number)

    def partitions(self, device: Path) -> list[Path]:
        """The nodes of the partitions of a loop device."""
        tool("partx", "--add", device)
        self._ends.callback(self._remove_partitions, device)
        return sorted(device.parent.glob(f"{device.name}p*"))

    @staticmethod
    def _remove_partitions(device: Path) -> None:
        """As soon as nobody has them open: whoever lists disks looks into all there are."""
        deadline = time.monotonic() + 60
        while _ran("partx", "--delete", device).returncode and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not list(device.parent.glob(f"{device.name}p*"))

    def mount(self, source: Path | str, where: Path, *options: str) -> Path:
        where.mkdir(exist_ok=True)
        tool("mount", *options, source, where)
        self._ends.callback(tool, "umount", where)
        return where

    def tmpfs(self, where: Path, size: str = "1m", *options: str) -> Path:
        """A file system in memory of that size."""
        return self.mount(
            "tmpfs", where, "-t", "tmpfs", "-o", ",".join((f"size={size}", *options))
        )

    @staticmethod
    def fill(place: Path) -> Path:
        """A file that takes all the room there is left."""
        path = place / "filler"
        with path.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(PAGE)):
                pass
        return path

    def swap(self, device: Path) -> None:
        tool("mkswap", device)
        tool("swapon", device)
        self._ends.callback(tool, "swapoff", device)
