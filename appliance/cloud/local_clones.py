"""Clones of the local target: volumes made of snapshots, to be changed and booted.

``clones/<name>.img``, or ``<name>.qcow2`` over the read-only snapshot, with its tag beside it,
``<name>.json``. The tag is written before the file gets its name.
"""

import fcntl
import os
import re
import struct
from collections.abc import Sequence
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
from appliance.cloud.local_snapshots import Alone, LocalSnapshots
from appliance.errors import BadInputError, ExistsError, ToolMissingError, VolumeBusyError
from appliance.model import CloneInfo, SnapshotSpec
from appliance.run import run

CLONES = "clones"
_SAFE = "The recovery point is as it was; the clone was not made."
_KEPT = "The recovery point is as it was."
_OVERLAY = "overlay"
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class LocalClones:
    """Clones below ``directory``."""

    def __init__(self, directory: Path, alone: Alone) -> None:
        self._place, self._alone = directory / CLONES, alone

    def clone(self, snapshots: LocalSnapshots, spec: SnapshotSpec, name: str) -> CloneInfo:
        _refuse_unsafe(name)
        path = self._place / name
        with (
            named(path, _SAFE),
            snapshots.opened(spec) as (source, lies),
        ):
            with self._alone(name):
                self._refuse_taken(name)
                make_directory(self._place)
                sweep(self._place)
            with drafted(path) as (draft, fd):
                how = _filled(source, lies, draft, fd)
                os.fsync(fd)
                with self._alone(name):
                    snapshots.there(spec)  # an overlay on what was discarded would be lost
                    tags.write_clone(self._place / f"{name}.json", tags.CloneTag(spec, how))
                    draft.rename(self._place / f"{name}{_ending(how)}")
                    sync_directory(self._place)
        return self._info(name, tags.CloneTag(spec, how))

    def _refuse_taken(self, name: str) -> None:
        for ending in (".img", ".qcow2"):
            path = self._place / f"{name}{ending}"
            if path.exists():
                raise ExistsError(f"{path} is there already")

    def clones(self) -> Sequence[CloneInfo]:
        with named(self._place, _KEPT):
            found = ((one.stem, tags.read_clone(one)) for one in self._tags())
            listed = [self._info(name, tag) for name, tag in found if tag is not None]
            return [one for one in listed if Path(one.location).exists()]

    def _tags(self) -> list[Path]:
        return sorted(self._place.glob("*.json"))

    def refuse_needed(self, spec: SnapshotSpec) -> None:
        """Refuse to let a snapshot go that a clone reads from."""
        for one in self.clones():
            if one.depends and one.of == spec:
                raise VolumeBusyError(
                    f"Clone {one.name} reads from point {spec.point} of {spec.volume.name}",
                    safe=_KEPT,
                    todo="Remove the clone first: `motiongear points remove`.",
                )

    def remove(self, name: str) -> None:
        _refuse_unsafe(name)
        if not self._place.is_dir():
            return
        with named(self._place / name, _KEPT), self._alone(name):
            tag = tags.read_clone(self._place / f"{name}.json")
            if tag is None:
                self._refuse_taken(name)  # without a tag it is not ours
                return
            path = Path(self._info(name, tag).location)
            if path.exists():
                _refuse_running(path)
            path.unlink(missing_ok=True)
            sync_directory(self._place)
            (self._place / f"{name}.json").unlink()
            sweep(self._place)

    def _info(self, name: str, tag: tags.CloneTag) -> CloneInfo:
        return CloneInfo(
            name=name,
            of=tag.of,
            location=str(self._place / f"{name}{_ending(tag.how)}"),
            format="qcow2" if tag.how == _OVERLAY else "raw",
            how=tag.how,
            depends=tag.how == _OVERLAY,
        )


def _ending(how: str) -> str:
    return ".qcow2" if how == _OVERLAY else ".img"


def _filled(source: int, lies: str, draft: Path, fd: int) -> str:
    """Fill a clone's draft by the cheapest way there is; returns which."""
    if share(source, fd):
        return "reflink"
    try:
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", lies, str(draft))
    except ToolMissingError:
        refuse_without_room(source, draft.with_suffix(""), _SAFE)
        duplicate(source, fd)
        return "copy"
    return _OVERLAY


def _refuse_unsafe(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot be a clone's name", todo="Use letters, digits, . _ - only."
        )


def _refuse_running(path: Path) -> None:
    """A virtual machine's disk is locked by qemu with open-file-description locks."""
    with opened(path, os.O_RDWR) as fd:
        ask = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, ask))[0]
    if kind != fcntl.F_UNLCK:
        raise VolumeBusyError(
            f"Clone {path.name} is in use by a virtual machine",
            safe="The clone is as it was.",
            todo="Stop the machine that runs from it, then remove it.",
        )
