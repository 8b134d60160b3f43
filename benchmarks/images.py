"""The disks that are measured with: made of this machine's own files, and of noise."""

import os
import random
import shutil
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path

from benchmarks.measure import Command, prepare

MIB = 1 << 20
GIB = 1 << 30
_EDIT = 128 << 10  # a copy differs from its original in 64 bytes in each so many
_LARGEST = 64 * MIB  # one file must not be most of a small image


@cache
def _usr() -> tuple[Path, ...]:
    """The regular files below /usr."""
    found: list[Path] = []
    left = ["/usr"]
    while left:
        with os.scandir(left.pop()) as entries:
            for one in entries:
                if one.is_dir(follow_symlinks=False):
                    left.append(one.path)
                elif one.is_file(follow_symlinks=False):
                    found.append(Path(one.path))
    return tuple(sorted(found))


def _edited(data: bytes, chance: random.Random) -> bytes:
    """A copy that somebody has gone on working with."""
    copy = bytearray(data)
    for at in range(0, len(copy), _EDIT):
        place = at + chance.randrange(_EDIT)
        if place + 64 <= len(copy):
            copy[place : place + 64] = chance.randbytes(64)
    return bytes(copy)


def real_files(total: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Files of /usr and edited copies of them, half and half, ``total`` bytes together."""
    chance = random.Random(seed)  # noqa: S311 - a disk that can be made again
    left, found = total, list(_usr())
    chance.shuffle(found)
    for turn in count():
        room = min(left, total // 2) if turn == 0 else left
        for path in found:
            size = path.stat().st_size
            if not 0 < size <= min(room, _LARGEST):
                continue
            data = path.read_bytes()[:size]
            yield path.name, _edited(data, chance) if turn else data
            room -= len(data)
            left -= len(data)
            if room < 64 << 10:
                break
        if left < 64 << 10 or left == total:
            return


def real_bytes(total: int, seed: int) -> Iterator[bytes]:
    """The content of real files, one behind the other, exactly ``total`` bytes."""
    left = total
    for _, data in real_files(total + MIB, seed):
        yield data[:left]
        left -= len(data[:left])
    yield bytes(left)


def noise(total: int) -> Iterator[bytes]:
    """Bytes that do not compress."""
    for at in range(0, total, MIB):
        yield os.urandom(min(MIB, total - at))


def write_zeros(path: Path, size: int) -> None:
    """A file without holes: a disk has none."""
    with path.open("wb") as out:
        for at in range(0, size, MIB):
            out.write(bytes(min(MIB, size - at)))


def disk_of_files(path: Path, size: int, share: float, seed: int = 1) -> None:
    """A raw image of ``size`` bytes with an ext4, of which ``share`` is full of real files."""
    staging = path.with_suffix(".files")
    for turn, (name, data) in enumerate(real_files(int(size * share), seed)):
        place = staging / f"{turn // 500}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{turn}-{name}").write_bytes(data)
    write_zeros(path, size)
    options = ("-q", "-F", "-t", "ext4", "-E", "nodiscard,lazy_itable_init=0", "-m", "0")
    prepare(Command(("mke2fs", *options, "-d", str(staging), str(path))))
    shutil.rmtree(staging)


def disk_half_noise(path: Path, size: int) -> None:
    """A disk of photographs and archives: every other stretch of 64 MiB does not compress, the
    rest is zeros.
    """
    write_zeros(path, size)
    stretch = min(64 * MIB, size // 8)
    with path.open("r+b") as out:
        for at in range(0, size, 2 * stretch):
            out.seek(at)
            out.writelines(noise(stretch))


def disk_of_clones(path: Path, template: Path, clones: int) -> None:
    """One disk that holds ``clones`` machines made of one template, each with a hundredth of its
    64 KiB pieces written anew.
    """
    size, chance = template.stat().st_size, random.Random(clones)  # noqa: S311 - as above
    data = template.read_bytes()
    with path.open("wb") as out:
        for one in range(clones):
            out.write(data)
            for piece in chance.sample(range(size >> 16), (size >> 16) // 100):
                out.seek(one * size + (piece << 16))
                out.write(chance.randbytes(1 << 16))
            out.seek(0, os.SEEK_END)


def sparse_disk(path: Path, size: int, data: int, stretch: int, seed: int = 1) -> None:
    """A file of ``size`` bytes with ``data`` bytes of real files in evenly scattered stretches,
    and holes between.
    """
    stretches = data // stretch
    source = pieces(real_bytes(data, seed), stretch)
    with path.open("wb") as out:
        out.truncate(size)
        for turn in range(stretches):
            out.seek(turn * (size // stretches) // MIB * MIB)
            out.write(next(source))


def linear_disk(path: Path, steps: int, step: int, data: int) -> None:
    """A disk of ``steps`` times ``step`` bytes; each step begins with ``data`` bytes of much the
    same content, none of it a repeat, and the rest of it is a hole.
    """
    base = b"".join(real_bytes(data, seed=1))
    with path.open("wb") as out:
        out.truncate(steps * step)
        for turn in range(steps):
            out.seek(turn * step)
            out.write(_edited(base, random.Random(turn)))  # noqa: S311 - as above


def pieces(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes, ``size`` at a time; a shorter rest is left out."""
    held = bytearray()
    for one in chunks:
        held += one
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]


def scatter(path: Path, share: float, seed: int) -> int:
    """Write ``share`` of the 64 KiB pieces anew; returns the bytes of these pieces."""
    chance = random.Random(seed)  # noqa: S311 - as above
    count_of = path.stat().st_size >> 16
    chosen = chance.sample(range(count_of), max(1, int(count_of * share)))
    with path.open("r+b") as disk:
        for one in chosen:
            disk.seek(one << 16)
            disk.write(chance.randbytes(1 << 16))
        disk.flush()
        os.fsync(disk.fileno())
    return len(chosen) << 16


def read_once(path: Path) -> None:
    """Bring a file into the page cache."""
    buffer = bytearray(4 * MIB)
    with path.open("rb", buffering=0) as disk:
        while disk.readinto(buffer):
            pass


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files below a directory, as long as they are."""
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    return path.stat().st_size
