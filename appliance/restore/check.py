"""Check: every block of a volume read back from its medium and compared with the manifest."""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from appliance.block import aligned_buffer
from appliance.errors import (
    CheckFailedError,
    RestoredHurtError,
    StoppedError,
    TargetWriteError,
    VolumeTooSmallError,
)
from appliance.events import Emit, Progress, Step
from appliance.model import Stop, Volume
from appliance.rate import Due, Interval
from appliance.seal.cut import digest
from appliance.seal.manifest import Manifest, State

_MOST_NAMED = 20
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: how many blocks, and which are wrong, as (first block, count). What
    cannot be read is wrong too. Of ``unknown`` blocks nobody knows what they should be.
    """

    blocks: int
    wrong: tuple[tuple[int, int], ...]
    unknown: int = 0


class CheckNotes(Protocol):
    """How far a check had come that died, and what it had found wrong: (first block, count)."""

    def reached(self) -> tuple[int, list[tuple[int, int]]]: ...

    def due(self) -> Due: ...

    def note(self, block: int, wrong: Sequence[tuple[int, int]]) -> None: ...


class _NoNotes:
    def reached(self) -> tuple[int, list[tuple[int, int]]]:
        return 0, []

    def due(self) -> Due:
        return Interval().begin()

    def note(self, block: int, wrong: Sequence[tuple[int, int]]) -> None:
        """Nobody asks for it."""


class Check:
    """One volume against one manifest."""

    def __init__(
        self,
        volume: Volume,
        manifest: Manifest,
        emit: Emit,
        stop: Stop,
        notes: CheckNotes | None = None,
    ) -> None:
        self._volume, self._manifest = volume, manifest
        self._notes = notes or _NoNotes()
        self._emit, self._stop = emit, stop
        self._local = threading.local()

    def run(self) -> Checked:
        """Read every block that is known; raises StoppedError only. Whether all is well stands in
        the result.
        """
        manifest, due = self._manifest, self._notes.due()
        start, wrong = self._notes.reached()
        self._emit(Step.said("check", "{count} blocks", count=manifest.blocks - start))
        batches = range(start, manifest.blocks, _BATCH)
        with ThreadPoolExecutor(os.cpu_count(), "check") as pool:
            for first, bad in zip(batches, pool.map(self._batch, batches), strict=True):
                for index in bad:
                    _join(wrong, index)
                done = min((first + _BATCH) * manifest.block_size, manifest.size)
                self._emit(Progress("check", done, manifest.size))
                if due.after(_BATCH * manifest.block_size):
                    self._notes.note(min(first + _BATCH, manifest.blocks), wrong)
        return Checked(manifest.blocks, tuple(wrong), manifest.states()[State.UNKNOWN])

    def _batch(self, first: int) -> list[int]:
        if self._stop():
            raise StoppedError("The check was stopped", safe="The volume is as it was.")
        last = min(first + _BATCH, self._manifest.blocks)
        return [index for index in range(first, last) if not self._right(index)]

    def _right(self, index: int) -> bool:
        if not hasattr(self._local, "buffer"):
            self._local.buffer = aligned_buffer(self._manifest.block_size)
        expected, state = self._manifest[index]
        if state is State.UNKNOWN:
            return True
        piece: memoryview = self._local.buffer[: self._manifest.length(index)]
        try:
            self._volume.pread(index * self._manifest.block_size, piece)
        except (TargetWriteError, VolumeTooSmallError):
            return False
        return digest(piece) == expected


def _join(wrong: list[tuple[int, int]], index: int) -> None:
    if wrong and sum(wrong[-1]) == index:
        wrong[-1] = (wrong[-1][0], wrong[-1][1] + 1)
    else:
        wrong.append((index, 1))


def byte_ranges(checked: Checked, manifest: Manifest) -> Iterator[tuple[int, int]]:
    """(first byte, last byte) of each run of wrong blocks."""
    for first, count in checked.wrong:
        start = first * manifest.block_size
        yield start, min(start + count * manifest.block_size, manifest.size) - 1


def refuse_hurt(checked: Checked, manifest: Manifest, name: str, todo: str | None = None) -> None:
    """Refuse to call a volume whole that lacks blocks, or that a pack tells of which nobody can
    believe: it may have told that all is different.
    """
    raise RestoredHurtError(
        f"Volume {name} is not whole: of {checked.unknown} of the {checked.blocks} blocks of disk "
        f"{manifest.disk} nobody knows what they are",
        todo=todo,
    )


def refuse_wrong(checked: Checked, manifest: Manifest, name: str) -> None:
    """Name every wrong block by disk, index and byte range; at most 20 runs in words."""
    if not checked.wrong:
        return
    runs = zip(checked.wrong, byte_ranges(checked, manifest), strict=True)
    said = [
        f"block {first}{f' to {first + count - 1}' if count > 1 else ''} (bytes {start} to {end})"
        for (first, count), (start, end) in list(runs)[:_MOST_NAMED]
    ]
    more = len(checked.wrong) - len(said)
    tail = f" and {more} more runs" if more else ""
    raise CheckFailedError(
        f"Volume {name} differs from disk {manifest.disk}: {', '.join(said)}{tail}"
    )
