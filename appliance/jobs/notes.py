"""What a job notes of how far it has read, so that it goes on there when it has died.

A note speaks of what this job itself has read and found right, or has written and flushed. One
that is lost costs reading; one that is stale is not believed: it names the file it is true of
(block.file_identity), or the volume, whose id goes with it.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from appliance.block import file_identity
from appliance.errors import StateError
from appliance.jobs.desk import Desk
from appliance.model import PackId
from appliance.rate import Due
from appliance.seal.scan import PackInfo
from appliance.state import Reached

_MOST_RUNS = 10_000  # of wrong blocks: a volume with more is read anew


def file_at(location: Path | str) -> str:
    """What is to be the same when the job goes on; empty where that cannot be told."""
    with suppress(OSError):
        return file_identity(Path(location))
    return ""


class Verified:
    """Packs that were opened in a verification; ``files`` are what they were before it."""

    def __init__(self, desk: Desk, run: str, files: dict[PackId, str]) -> None:
        self._desk, self._run, self._files = desk, run, files

    def reached(self, info: PackInfo) -> int:
        found = self._desk.state.reached(self._run, info.head.pack)
        file = self._files[info.head.pack]
        return found.at if found is not None and file and found.file == file else 0

    def due(self) -> Due:
        return self._desk.interval.begin()

    def note(self, info: PackInfo, number: int) -> None:
        file = self._files[info.head.pack]
        if file_at(info.path) == file:
            with suppress(StateError):
                reached = Reached(file, number)
                self._desk.state.note_reached(self._run, info.head.pack, reached)


class Replayed:
    """Packs that were written to volumes: what is noted of one is flushed to its volume, whose id
    ``volume_of`` tells.
    """

    def __init__(self, desk: Desk, volume_of: Callable[[PackInfo], str]) -> None:
        self._desk, self._volume_of = desk, volume_of

    def reached(self, info: PackInfo) -> int:
        found = self._desk.state.reached(self._volume_of(info), info.head.pack)
        return found.at if found is not None else 0

    def due(self) -> Due:
        return self._desk.interval.begin()

    def note(self, info: PackInfo, number: int) -> None:
        with suppress(StateError):
            reached = Reached("", number)
            self._desk.state.note_reached(self._volume_of(info), info.head.pack, reached)


class CheckedSoFar:
    """A volume that is being compared with the manifest of that ``root``; ``location`` is where it
    lies. Only a file tells whether it was written to since: any other volume is read anew.
    """

    def __init__(self, desk: Desk, root: str, location: str) -> None:
        self._desk, self._root, self._location = desk, root, location
        self._task = check_task(desk)
        self._file = file_at(location)

    def reached(self) -> tuple[int, list[tuple[int, int]]]:
        found = self._desk.state.reached(self._task, self._part)
        if found is None or not self._file or found.file != self._file:
            return 0, []
        return found.at, [(first, count) for first, count in json.loads(found.told)]

    def due(self) -> Due:
        return self._desk.interval.begin()

    def note(self, block: int, wrong: Sequence[tuple[int, int]]) -> None:
        if self._file and file_at(self._location) == self._file and len(wrong) <= _MOST_RUNS:
            with suppress(StateError):
                reached = Reached(self._file, block, json.dumps(wrong))
                self._desk.state.note_reached(self._task, self._part, reached)

    @property
    def _part(self) -> str:
        return f"{self._root} {self._location}"


def check_task(desk: Desk) -> str:
    """Another check reads everything itself."""
    return f"check in job {desk.job}"
