"""Who holds locks on files, by what the kernel tells of all of them: no lock is taken to find out,
for that would be in somebody's way.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOCKS = Path("/proc/locks")
_LOCK = re.compile(r"^\d+: FLOCK +\w+ +\w+ (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """A file that process ``pid`` has locked, called ``name``; empty where that is not told."""

    path: Path
    pid: int
    name: str


def holders(paths: Iterable[Path]) -> Iterator[Held]:
    """Of files that are there. Processes of other namespaces are not seen."""
    known: dict[tuple[int, int, int], Path] = {}
    for one in paths:
        with suppress(OSError):
            at = one.lstat()
            known[os.major(at.st_dev), os.minor(at.st_dev), at.st_ino] = one
    for pid, major, minor, inode in _LOCK.findall(_told()):
        if path := known.get((int(major, 16), int(minor, 16), int(inode))):
            yield Held(path, int(pid), _name(int(pid)))


def users(paths: Sequence[Path]) -> Iterator[Held]:
    """Who has locked a file or has it open: on some file systems what is locked is told by another
    number than the file has. Without root only processes of this user are seen.
    """
    yield from holders(paths)
    known = {str(one): one for one in paths}
    for process in Path("/proc").glob("[0-9]*") if known else ():
        with suppress(OSError):
            for one in (process / "fd").iterdir():
                with suppress(OSError):
                    if path := known.get(str(one.readlink())):
                        yield Held(path, int(process.name), _name(int(process.name)))


def _told() -> str:
    with suppress(OSError):  # not every container shows it
        return _LOCKS.read_text()
    return ""


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
