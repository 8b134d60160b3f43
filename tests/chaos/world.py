"""Where a migration happens: two real disks, the people's homes, what was told so far. All of it
can be put aside before a stage, and taken up again as often as one likes.

Jobs know absolute paths: whatever is taken up lies where it was made.
"""

import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from appliance.cli.demo_sources import fill, mounted, real_files
from tests.media import tool
from tests.technician import Keys, Shell, until

MIB = 1 << 20
BLOCK = MIB // 4
PIECE = MIB // 16
INTERVAL = MIB
PACK = 4 * MIB
MACHINE = "web01"


class LostError(AssertionError):
    """Something that was told is not so, or it could not be gone on with."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise LostError(what)


@dataclass(frozen=True)
class Made:
    """A source disk. ``later`` is the same disk after its machine has worked on."""

    name: str
    image: Path
    later: Path
    sizes: tuple[int, ...] = field(repr=False)  # bytes that each block comes to in a store

    @property
    def blocks(self) -> int:
        return len(self.sizes)

    @property
    def differing(self) -> list[int]:
        """Blocks in which the later disk is another."""
        return differing(self.image, self.later)


def differing(one: Path, other: Path) -> list[int]:
    """Blocks in which two images of one size are not the same."""
    with one.open("rb") as left, other.open("rb") as right:
        count = -(-one.stat().st_size // BLOCK)
        return [index for index in range(count) if left.read(BLOCK) != right.read(BLOCK)]


def same(one: Path, other: Path) -> None:
    """No code of ours compares them."""
    tool("cmp", one, other)


@dataclass
class World:
    """Everything below ``place``. ``known`` is what its people have been told: it is put aside
    with the rest. ``rig`` stands in the environment of what they start; ``under`` are programs by
    way of which those of a shell are started.
    """

    place: Path
    mib: int = 48
    rig: dict[str, str] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    made: tuple[Made, ...] = ()
    disks: tuple[Made, ...] = ()  # as made, or as far as they could be read
    under: dict[str, tuple[str, ...]] = field(default_factory=dict)

    # --- where things lie ---

    @property
    def run(self) -> Path:
        return self.place / "run"

    @property
    def device(self) -> Shell:
        return self._shell("device")

    @property
    def operator(self) -> Shell:
        return self._shell("operator")

    @property
    def machine(self) -> Shell:
        return self._shell("machine")

    def _shell(self, name: str) -> Shell:
        return Shell(self.run / name, under=self.under.get(name, ()), more=self.rig)

    @property
    def shells(self) -> tuple[Shell, ...]:
        return self.device, self.operator, self.machine

    @property
    def store(self) -> Path:
        """The shipment, on the device until it has arrived elsewhere."""
        arrived = self.run / "arrived" / "store"
        return arrived if arrived.exists() else self.run / "media" / "store"

    @property
    def volumes(self) -> Path:
        return self.run / "cloud" / "volumes"

    @property
    def key(self) -> Path:
        return self.place / "keys" / "operator.key"

    def volume(self, made: Made) -> Path:
        """The volume that a disk was restored to."""
        (found,) = self.volumes.glob(f"{MACHINE}-{self.known['disks'][made.name][:8]}.img*")
        return found

    # --- made once ---

    def make(self, seed: int) -> None:
        """Disks and keys."""
        chance = random.Random(seed)
        (self.place / "sources").mkdir(parents=True)
        Keys(self.place / "keys")
        self.disks = self.made = tuple(self._disk(name, chance) for name in ("ext4", "xfs"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.known["dial"] = f"127.0.0.1:{listener.getsockname()[1]}"
        self.known["listen"] = self.known["dial"]  # where the gate is

    def _disk(self, name: str, chance: random.Random) -> Made:
        """A file system over half the disk with files of this machine; then noise, repeats of it,
        text, and zeros in between.
        """
        sources = self.place / "sources"
        image, later = sources / f"{name}.img", sources / f"{name}.later.img"
        with image.open("wb") as disk:
            disk.truncate(self.mib * MIB)
        make = {"ext4": ("mkfs.ext4", "-q"), "xfs": ("mkfs.xfs", "-q", "--unsupported")}[name]
        with _attached(image, "--sizelimit", str(self.mib // 2 * MIB)) as node:
            tool(*make, node)
            (sources / "mnt").mkdir(exist_ok=True)
            with mounted(node, sources / "mnt"):
                fill(sources / "mnt", real_files(), self.mib * MIB // 4)
        eighth = self.mib * MIB // 8
        noise, text = chance.randbytes(eighth), b"a line of text\n" * 50_000
        with image.open("r+b") as disk:
            for part, data in ((4, noise), (5.5, noise[: eighth // 2]), (6.5, text)):
                disk.seek(int(part * eighth))
                disk.write(data)
            disk.seek(0, os.SEEK_END)
            disk.write(chance.randbytes(3 * 512))
        shutil.copy(image, later)
        with later.open("r+b") as disk:
            for at in chance.sample(range(self.mib * MIB // PIECE), 3 * self.mib):
                disk.seek(at * PIECE + 4096 * chance.randrange(16))
                disk.write(chance.randbytes(4096))
        return Made(name, image, later, _stored_sizes(image))

    # --- put aside, taken up ---

    def put_aside(self, name: str) -> None:
        self._write_known()
        _copy(self.run, self.place / f"before {name}")

    def take_up(self, name: str) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        _copy(self.place / f"before {name}", self.run)
        self.known = json.loads((self.run / "known.json").read_text())
        self.disks = self.made

    def has(self, name: str) -> bool:
        return (self.place / f"before {name}").exists()

    def _write_known(self) -> None:
        (self.run / "known.json").write_text(json.dumps(self.known))

    def stop_all(self) -> None:
        """Kill whatever a failed run has left at work."""
        for shell in self.shells:
            with shell.state() as opened:
                for row in opened.jobs():
                    if pid := opened.process_of(row.id):
                        os.kill(pid, signal.SIGKILL)
                        until(lambda job=row.id: not opened.lives(job))  # type: ignore[misc]

    def keep(self, name: str) -> Path:
        """What a failed run has left, to be looked at."""
        self._write_known()
        aside = self.place / f"failed {name}"
        shutil.rmtree(aside, ignore_errors=True)
        _copy(self.run, aside)
        return aside


def _copy(one: Path, other: Path) -> None:
    tool("cp", "--archive", "--sparse=always", one, other)


@contextmanager
def _attached(image: Path, *how: str) -> Iterator[str]:
    with ExitStack() as ends:
        yield attached(ends, image, *how)


def attached(ends: ExitStack, image: Path, *how: str) -> str:
    """A loop device over the image until ``ends``."""
    node = tool("losetup", "--find", "--show", *how, image).strip()
    ends.callback(tool, "losetup", "--detach", node)
    return node


def _stored_sizes(image: Path) -> tuple[int, ...]:
    """How many bytes each block comes to: none for zeros, and for what was there before."""
    seen, sizes, squeeze = {bytes(BLOCK)}, [], zstandard.ZstdCompressor(1)
    with image.open("rb") as disk:
        while block := disk.read(BLOCK):
            sizes.append(0 if block in seen else len(squeeze.compress(block)))
            seen.add(block)
    return tuple(sizes)
