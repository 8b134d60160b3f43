"""The demo's source disks, made of this machine's own files."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.block import PAGE
from appliance.errors import ToolFailedError
from appliance.model import DiskId
from appliance.run import run

MB = 10**6
MIB = 1 << 20
_TRIES, _TRY_SECONDS = 600, 0.1
_LARGEST = 32 * MB  # one file; many small ones are more like a server
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


@dataclass(slots=True)
class Made:
    """A source disk that the demo made. ``source`` is what is ingested: a loop device or the
    image file. ``window`` are losetup's options for its last partition, ``place`` where that is
    mounted.
    """

    machine: str
    image: Path
    source: str
    content: int
    disk: DiskId
    window: tuple[str, ...]
    place: Path


def make_disks(base: Path) -> tuple[Made, Made]:
    """web01: an ESP and an ext4 root. db01: XFS."""
    files = real_files()
    parts = [(_ESP, 64), (_LINUX, 0)]
    return (
        _disk(base, "web01", 900, parts, files, 360 * MB),
        _disk(base, "db01", 700, parts[1:], files, 200 * MB),
    )


def _disk(
    base: Path,
    machine: str,
    mib: int,
    parts: list[tuple[str, int]],
    files: Iterator[Path],
    content: int,
) -> Made:
    """A GPT disk whose last partition is filled with real files; a first one of 64 MiB is
    an ESP.
    """
    image = base / f"{machine}.img"
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    script = base / f"{machine}.sfdisk"
    lines = [f"size={size}MiB, type={kind}" if size else f"type={kind}" for kind, size in parts]
    script.write_text("label: gpt\n" + "\n".join(lines) + "\n")
    run("sh", "-c", 'sfdisk --quiet "$1" < "$2"', "sh", str(image), str(script))
    listed = json.loads(run("sfdisk", "--json", str(image)))["partitiontable"]["partitions"]
    start, size = listed[-1]["start"] * 512, listed[-1]["size"] * 512
    if len(parts) > 1:
        _fill_esp(image, listed[0]["start"] * 512)
    place = base / f"{machine}.mnt"
    place.mkdir()
    window = ("--offset", str(start), "--sizelimit", str(size))
    with attached(image, *window) as node:
        run("mkfs.ext4" if len(parts) > 1 else "mkfs.xfs", "-q", node)
        with mounted(node, place):
            _name(place, machine)
            written = fill(place, files, content)
    ident = DiskId(os.urandom(16).hex())
    return Made(machine, image, str(image), written, ident, window, place)


@contextmanager
def living(made: Made) -> Iterator[str]:
    """The disk in use: attached as a whole, its last partition mounted from it; gives the node
    of the whole.
    """
    with ExitStack() as held:
        node = held.enter_context(attached(made.image))
        part = held.enter_context(attached(Path(node), *made.window))
        held.enter_context(mounted(part, made.place))
        yield node


@contextmanager
def attached(image: Path, *how: str) -> Iterator[str]:
    """A loop device over the image; detached at the end, whatever came between."""
    node = run("losetup", "--find", "--show", *how, str(image)).strip()
    try:
        yield node
    finally:
        _detach(node)


def _detach(node: str) -> None:
    """Losetup only asks for it: whoever made a mount namespace meanwhile has the file system
    mounted, too, and until he is done it is written to.
    """
    told = Path("/sys/block", Path(node).name, "loop", "backing_file")
    image = told.read_bytes()
    run("losetup", "--detach", node)
    for _ in range(_TRIES):
        try:
            if told.read_bytes() != image:
                return
        except OSError:  # nothing lies behind it any more
            return
        time.sleep(_TRY_SECONDS)
    raise ToolFailedError(f"{node} is still in use, though it was unmounted: by a container?")


@contextmanager
def mounted(node: str, place: Path) -> Iterator[None]:
    run("mount", node, str(place))
    try:
        yield
    finally:
        run("umount", str(place))


def real_files() -> Iterator[Path]:
    """The regular files of /usr and of the running environment, without end: the second time
    round they are edited.
    """
    places = [Path("/usr"), Path(sys.prefix)]
    while True:
        for place in places:
            for folder, _, names in os.walk(place):
                for name in names:
                    path = Path(folder, name)
                    if (
                        not path.is_symlink()
                        and path.is_file()
                        and PAGE <= path.stat().st_size <= _LARGEST
                    ):
                        yield path


def fill(mounted: Path, files: Iterator[Path], content: int) -> int:
    """Copy files until ``content`` bytes are there; a file that came by before gets edited.
    Returns the bytes written.
    """
    written = 0
    while written < content:
        source = next(files)
        target = mounted / str(source).lstrip("/")
        edits = 0
        while target.exists():
            edits += 1
            target = target.with_name(f"{source.name}.{edits}")
        data = source.read_bytes()
        if edits:
            data = f"edited {edits} times\n".encode() + data
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        written += len(data)
    return written


def _name(mounted: Path, machine: str) -> None:
    """What an installed system says of itself: this one's release, under another name."""
    settings = mounted / "etc"
    settings.mkdir()
    (settings / "hostname").write_text(f"{machine}\n")
    (settings / "os-release").write_bytes(Path("/etc/os-release").read_bytes())


def _fill_esp(image: Path, start: int) -> None:
    """A FAT file system made without the kernel: it may not know FAT."""
    drive = f"{image}@@{start}"
    run(
        "mformat",
        "-i",
        drive,
        "-T",
        str(64 * MIB // 512),
        "-h",
        "255",
        "-s",
        "63",
        "-v",
        "ESP",
        "::",
    )
    run("mmd", "-i", drive, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", drive, "/bin/sh", "::/EFI/BOOT/BOOTX64.EFI")
