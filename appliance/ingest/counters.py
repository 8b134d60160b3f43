"""What the kernel has counted as written to a disk: it tells whether a disk has stood still,
whoever it was that could have written.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_SYS = Path("/sys/dev/block")
# Documentation/admin-guide/abi-testing, "stat": sectors are counted before whoever wrote them is
# told, requests only after; so a flush that has returned is in the first, maybe not in the second.
_WRITTEN, _DISCARDED = 6, 13

Counted = tuple[tuple[str, int, int], ...]


def written(disks: Iterable[int]) -> dict[int, Counted]:
    """For each disk, by device number: every device on it, with the sectors that were written and
    discarded so far.
    """
    return {one: tuple(sorted(_counts(_node(one)))) for one in disks}


def _node(number: int) -> Path:
    return (_SYS / f"{os.major(number)}:{os.minor(number)}").resolve()


def _counts(disk: Path) -> Iterator[tuple[str, int, int]]:
    for node in set(_counted(disk)):
        with suppress(OSError):  # it has gone: that shows as well
            words = (node / "stat").read_text().split()
            discarded = int(words[_DISCARDED]) if len(words) > _DISCARDED else 0
            yield node.name, int(words[_WRITTEN]), discarded


def _counted(node: Path) -> list[Path]:
    """The device and all that is built on it; but not what lies below a RAID, which writes notes
    of its own there (that it is clean, its bitmap) up to seconds after all else is still.
    """
    parts = [one.parent for one in node.glob("*/partition")]
    holders = [one.resolve() for one in node.glob("holders/*")]
    above = [each for one in (*parts, *holders) for each in _counted(one)]
    return above if any((one / "md").is_dir() for one in above) else [node, *above]
