"""Snapshots of the local target: what a replica held, as a read-only file.

``points/<volume>/<point>.img`` with its tag beside it, ``<point>.json``. The tag is written before
the file gets its name: a file without a tag is somebody else's, a tag without a file speaks of
nothing.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from appliance.block import make_directory, opened, sync_directory
from appliance.cloud import local_tags as tags
from appliance.cloud.local_copies import (
    drafted,
    duplicate,
    named,
    refuse_without_room,
    share,
    sweep,
)
from appliance.errors import VolumeForeignError, VolumeMissingError
from appliance.model import SnapshotInfo, SnapshotSpec, VolumeSpec

POINTS = "points"
_SAFE = "The replica is as it was; this snapshot was not made."
_KEPT = "The replica is as it was."
_READ_ONLY = 0o400

Held = Callable[[VolumeSpec], AbstractContextManager[int]]
Alone = Callable[[str], AbstractContextManager[None]]


class LocalSnapshots:
    """Snapshots below ``directory``. ``held`` opens a replica for its caller alone, ``alone``
    holds the lock under which names change, ``needed`` refuses to let a snapshot go.
    """

    def __init__(
        self, directory: Path, held: Held, alone: Alone, needed: Callable[[SnapshotSpec], None]
    ) -> None:
        self._place = directory / POINTS
        self._held, self._alone, self._needed = held, alone, needed

    def snapshot(self, spec: SnapshotSpec) -> SnapshotInfo:
        path = self._path(spec)
        with self._held(spec.volume) as source, named(path, _SAFE):
            with self._alone(spec.volume.name):
                known = self._known(spec)
                if known is not None and known.spec == spec:
                    return known
                if known is not None:
                    self._needed(known.spec)
                    self._drop(path)
                self._make_room(path)
            # The volume is held: nobody else makes a snapshot of it meanwhile.
            with drafted(path) as (draft, fd):
                how = self._filled(source, fd, path)
                with self._alone(spec.volume.name):
                    tag = tags.SnapshotTag(spec, how, 0)
                    tags.write_snapshot(path.with_suffix(".json"), tag)
                    draft.rename(path)
                    sync_directory(path.parent)
        return _info(tag, path)

    def _make_room(self, path: Path) -> None:
        make_directory(path.parent)
        sweep(path.parent)

    @staticmethod
    def _filled(source: int, fd: int, path: Path) -> str:
        how = "reflink"
        if not share(source, fd):
            how = "copy"
            refuse_without_room(source, path, _SAFE)
            duplicate(source, fd)
        os.fchmod(fd, _READ_ONLY)
        os.fsync(fd)
        return how

    def snapshots(self) -> Sequence[SnapshotInfo]:
        with named(self._place, _KEPT):
            found = (self._at(one) for one in sorted(self._place.glob("*/*.img")))
            return [one for one in found if one is not None]

    def mark(self, spec: SnapshotSpec, chosen: int) -> SnapshotInfo:
        known = self.there(spec)
        path = Path(known.location)
        with named(path, _KEPT), self._alone(spec.volume.name):
            tag = tags.SnapshotTag(spec, self.there(spec).how, chosen)
            tags.write_snapshot(path.with_suffix(".json"), tag)
        return replace(known, chosen=chosen)

    def discard(self, spec: SnapshotSpec) -> None:
        path = self._path(spec)
        if not path.parent.is_dir():
            return
        with named(path, _KEPT), self._alone(spec.volume.name):
            known = self._known(spec)
            if known is not None and known.spec != spec:
                return  # another reading stands there: what was to go is gone
            self._needed(spec)
            self._drop(path)
            sweep(path.parent)
            with suppress(OSError):  # others of the volume are there
                path.parent.rmdir()

    @staticmethod
    def _drop(path: Path) -> None:
        """The file first: without it the tag speaks of nothing."""
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
        path.with_suffix(".json").unlink(missing_ok=True)

    @contextmanager
    def opened(self, spec: SnapshotSpec) -> Iterator[tuple[int, str]]:
        """The snapshot, open for reading, and where it lies; VolumeMissingError without it."""
        path = Path(self.there(spec).location)
        with opened(path, os.O_RDONLY) as fd:
            yield fd, str(path)

    def there(self, spec: SnapshotSpec) -> SnapshotInfo:
        with named(self._path(spec), _KEPT):
            known = self._known(spec)
        if known is None or known.spec != spec:
            raise VolumeMissingError(
                f"There is no snapshot of {spec.volume.name} at point {spec.point}",
                todo="`motiongear points list` shows the points there are.",
            )
        return known

    def _path(self, spec: SnapshotSpec) -> Path:
        return self._place / spec.volume.name / f"{spec.point}.img"

    def _known(self, spec: SnapshotSpec) -> SnapshotInfo | None:
        """What stands where the snapshot would, if it is of the same disk and machine; else a
        refusal.
        """
        path = self._path(spec)
        found = self._at(path)
        if found is None:
            if path.exists():
                raise VolumeForeignError(f"{path} has no tag: it is not ours")
            return None
        theirs, ours = found.spec.volume, spec.volume
        if (theirs.disk, theirs.origin, found.spec.machine) != (
            ours.disk,
            ours.origin,
            spec.machine,
        ):
            raise VolumeForeignError(f"{path} is a snapshot of disk {theirs.disk}")
        return found

    @staticmethod
    def _at(path: Path) -> SnapshotInfo | None:
        with suppress(FileNotFoundError):  # it has just been discarded
            tag = tags.read_snapshot(path.with_suffix(".json")) if path.exists() else None
            return _info(tag, path) if tag else None
        return None


def _info(tag: tags.SnapshotTag, path: Path) -> SnapshotInfo:
    made = int(path.stat().st_mtime)  # a snapshot is never written to
    return SnapshotInfo(tag.spec, str(path), tag.how, tag.chosen, made)
