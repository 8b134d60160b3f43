"""Target: raw sparse files in a directory, as local KVM takes them; attached to a loop device on
request.

A volume is ``<name>.img`` with its tag beside it, ``<name>.json``. While it is being restored, or
when it is bad, it is called ``<name>.img.partial``: what is not whole is not taken for whole.

A volume is one job's while it is attached: the lock lies on its file and ends with the process.
Names and tags are changed under the lock of the directory, held for a moment only. Snapshots and
clones lie in directories of their own below.
"""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from appliance.block import (
    NO_SPACE_ERRNOS,
    PAGE,
    SECTOR,
    aligned_buffer,
    free_space,
    locked,
    make_directory,
    opened,
    opened_past_cache,
    pread_full,
    pwrite_full,
    read_small,
    sync_directory,
    write_durably,
)
from appliance.cloud.local_clones import LocalClones
from appliance.cloud.local_loops import loop_over, refuse_looped
from appliance.cloud.local_snapshots import LocalSnapshots
from appliance.errors import (
    MotionGearError,
    StoreRefusedError,
    TargetFullError,
    TargetWriteError,
    VolumeBusyError,
    VolumeForeignError,
    VolumeMissingError,
    VolumeTooSmallError,
)
from appliance.model import (
    CloneInfo,
    DiskId,
    SnapshotInfo,
    SnapshotSpec,
    VolumeInfo,
    VolumeSpec,
    VolumeState,
)
from appliance.seal import canon

_ZEROS = aligned_buffer(1 << 20)
LOCK = ".motiongear.lock"
_MOST_TAG = 1 << 16
_MOST_POINT = (1 << 32) - 1
_NOT_WHOLE = frozenset({VolumeState.PARTIAL, VolumeState.BAD, VolumeState.HURT})


def _failed(exc: OSError, path: Path) -> MotionGearError:
    if exc.errno in NO_SPACE_ERRNOS:
        return TargetFullError(f"The target is full: no room for {path.name} ({exc.strerror})")
    return TargetWriteError(f"The target failed at {path.name} ({exc.strerror})")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the file system refuses in here is told as the target's failure at ``path``."""
    try:
        yield
    except OSError as exc:
        raise _failed(exc, path) from exc


def _standing(path: Path) -> Path:
    """The directory itself, or the first above it that is there."""
    return next(one for one in (path, *path.parents) if os.access(one, os.F_OK))


class LocalVolume:
    """An attached volume file: written through one descriptor, read past the page cache through
    another.
    """

    def __init__(self, path: Path, writer: int, reader: int) -> None:
        self._path, self._writer, self._reader = path, writer, reader
        self._fresh = self._data(0) is None

    @property
    def fresh(self) -> bool:
        """Whether the file was one hole when it was attached."""
        return self._fresh

    def pread(self, offset: int, buffer: memoryview) -> None:
        try:
            want = -(-len(buffer) // PAGE) * PAGE
            piece = buffer if want == len(buffer) else aligned_buffer(want)
            got = pread_full(self._reader, offset, piece)
        except OSError as exc:
            raise TargetWriteError(f"{self._path.name} cannot be read ({exc.strerror})") from exc
        if got < len(buffer):
            raise VolumeTooSmallError(f"{self._path.name} ends at byte {offset + got}")
        if piece is not buffer:
            buffer[:] = piece[: len(buffer)]

    def pwrite(self, offset: int, data: memoryview) -> None:
        with _named(self._path):
            pwrite_full(self._writer, offset, data)

    def zero(self, offset: int, length: int) -> None:
        """Write where the file has data; its holes read as zeros already."""
        end = offset + length
        while (data := self._data(offset)) is not None and data < end:
            with _named(self._path):
                stop = min(os.lseek(self._writer, data, os.SEEK_HOLE), end)
            for at in range(data, stop, len(_ZEROS)):
                self.pwrite(at, _ZEROS[: stop - at])
            offset = stop

    def _data(self, offset: int) -> int | None:
        """Where the next data begins, if there is any up to the end of the file."""
        try:
            return os.lseek(self._writer, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise _failed(exc, self._path) from exc
            return None

    def flush(self) -> None:
        with _named(self._path):
            os.fsync(self._writer)


class LocalTarget:
    """Volumes in ``directory``."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory).absolute()
        self._clones = LocalClones(self._directory, self._alone)
        self._snapshots = LocalSnapshots(
            self._directory, self._replica, self._alone, self._clones.refuse_needed
        )

    @property
    def name(self) -> str:
        """Names the target in the state database."""
        return f"local:{self._directory}"

    def check(self, wanted: Sequence[VolumeSpec]) -> None:
        with _named(self._directory):
            need = sum(self._need(one) for one in wanted)
            place = _standing(self._directory)
            if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
                raise TargetWriteError(
                    f"{place} is no directory that can be written to", safe="Nothing was written."
                )
            if need > free_space(place):
                raise TargetFullError(
                    f"The volumes need {need} bytes, {place} has {free_space(place)} left",
                    safe="Nothing was written.",
                    todo="Make room at the target, or choose another.",
                )

    def _need(self, spec: VolumeSpec) -> int:
        """Bytes that a volume still takes from the file system."""
        known = self._known(spec)
        if known is None:
            return spec.content
        if known.state is VolumeState.REPLICA:
            raise VolumeForeignError(
                f"Volume {spec.name} in {self._directory} follows its source: a restore would "
                "undo the rounds it has received",
                todo="Restore to another place or under another name (--map).",
            )
        if known.spec.size < spec.size:
            raise VolumeTooSmallError(
                f"Volume {spec.name} has {known.spec.size} bytes, the disk {spec.size}"
            )
        held = Path(known.location).stat().st_blocks * SECTOR
        return max(spec.content - held, 0)

    def volumes(self) -> Sequence[VolumeInfo]:
        with _named(self._directory):
            found = (self._tagged(one.stem) for one in sorted(self._directory.glob("*.json")))
            return [one for one in found if one is not None]

    def ensure_volume(self, spec: VolumeSpec) -> VolumeInfo:
        with _named(self._directory):
            make_directory(self._directory)
        with self._alone(spec.name):
            known = self._known(spec)
            return self._made(spec) if known is None else self._in_full_length(known)

    def _made(self, spec: VolumeSpec) -> VolumeInfo:
        path = self._path(spec.name, VolumeState.PARTIAL)
        fresh = path.with_name(f"{path.name}.new")
        with _named(path):
            fresh.unlink(missing_ok=True)  # a killed maker's: nobody else is at it now
            try:
                with opened(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
                    os.ftruncate(fd, spec.size)
                    os.fsync(fd)
                # The tag comes first: a volume without one would be taken for somebody else's.
                ident = os.urandom(16).hex()
                self._write_tag(spec, VolumeState.PARTIAL, ident)
                fresh.rename(path)
            except OSError:
                fresh.unlink(missing_ok=True)
                raise
            sync_directory(self._directory)
        return VolumeInfo(spec, VolumeState.PARTIAL, str(path), ident)

    def _in_full_length(self, known: VolumeInfo) -> VolumeInfo:
        """A file of ours that became shorter gets its length back, but is no longer whole."""
        path = Path(known.location)
        with _named(path):
            if path.stat().st_size >= known.spec.size:
                return known
        with self._held(known) as fd:
            bad = self._retagged(known, known.spec, VolumeState.BAD)  # first: its end is lost
            with _named(path):
                os.ftruncate(fd, known.spec.size)
                os.fsync(fd)
        return bad

    @contextmanager
    def attach(self, spec: VolumeSpec) -> Iterator[LocalVolume]:
        """The volume, for this job alone; VolumeBusyError while another has it."""
        with self._taken(spec) as (known, writer), ExitStack() as stack:
            path = Path(known.location)
            with _named(path):
                reader = stack.enter_context(opened_past_cache(path))
            yield LocalVolume(path, writer, reader)

    @contextmanager
    def _taken(self, spec: VolumeSpec) -> Iterator[tuple[VolumeInfo, int]]:
        """The volume and its file, open for writing, for this job alone."""
        self._there(spec)
        with ExitStack() as stack:
            with self._alone(spec.name):
                known = self._there(spec)
                fd = stack.enter_context(self._held(known))
            yield known, fd

    @contextmanager
    def _replica(self, spec: VolumeSpec) -> Iterator[int]:
        """The file of a volume that follows its source, for this job alone."""
        with self._taken(spec) as (known, fd):
            if known.state is not VolumeState.REPLICA:
                raise VolumeForeignError(
                    f"Volume {spec.name} is {known.state}, not a replica",
                    todo="Bring it to a point of its machine by a round first.",
                )
            yield fd

    def tag(self, spec: VolumeSpec, state: VolumeState) -> VolumeInfo:
        """Not while it is attached: who has it says at the end how far it has come. What has a
        loop device becomes no replica: whoever has the device could write.
        """
        self._there(spec)
        with self._alone(spec.name):
            known = self._there(spec)
            if state is VolumeState.REPLICA:
                refuse_looped(known.location)
            with self._held(known):
                return self._retagged(known, spec, state)

    def _retagged(self, known: VolumeInfo, spec: VolumeSpec, state: VolumeState) -> VolumeInfo:
        old, new = Path(known.location), self._path(spec.name, state)
        with _named(new):
            if old != new and state in _NOT_WHOLE:
                old.rename(new)
            self._write_tag(spec, state, known.id)
            if old != new and state not in _NOT_WHOLE:
                old.rename(new)
            sync_directory(self._directory)
        return VolumeInfo(spec, state, str(new), known.id)

    def loop(self, info: VolumeInfo, sector: int) -> str:
        """Attach a restored volume to a loop device with that sector size; returns the device:
        the one it has already, when it has. Not a replica: whoever has the device could write.
        """
        if info.state is VolumeState.REPLICA:
            raise VolumeForeignError(
                f"Volume {info.spec.name} follows its source: only rounds may change it",
                todo="Clone one of its recovery points: `motiongear points clone`.",
            )
        with self._alone(info.spec.name):
            return loop_over(info.location, sector)

    def snapshot(self, spec: SnapshotSpec) -> SnapshotInfo:
        return self._snapshots.snapshot(spec)

    def snapshots(self) -> Sequence[SnapshotInfo]:
        return self._snapshots.snapshots()

    def mark(self, spec: SnapshotSpec, chosen: int) -> SnapshotInfo:
        return self._snapshots.mark(spec, chosen)

    def discard(self, spec: SnapshotSpec) -> None:
        self._snapshots.discard(spec)

    def clone(self, spec: SnapshotSpec, name: str) -> CloneInfo:
        return self._clones.clone(self._snapshots, spec, name)

    def clones(self) -> Sequence[CloneInfo]:
        return self._clones.clones()

    def remove(self, name: str) -> None:
        self._clones.remove(name)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Nobody else changes names and tags in the directory meanwhile; waits for others."""
        with ExitStack() as stack:
            with _named(self._directory / name):
                stack.enter_context(locked(self._directory / LOCK))
            yield

    @contextmanager
    def _held(self, known: VolumeInfo) -> Iterator[int]:
        """The volume's file opened for writing, for this job alone."""
        path = Path(known.location)
        with ExitStack() as stack:
            with _named(path):
                fd = stack.enter_context(opened(path, os.O_RDWR))
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as exc:
                    raise VolumeBusyError(
                        f"Another restore or check is at work on volume {known.spec.name} "
                        f"in {self._directory}"
                    ) from exc
            yield fd

    def _path(self, name: str, state: VolumeState) -> Path:
        ending = ".img.partial" if state in _NOT_WHOLE else ".img"
        return self._directory / f"{name}{ending}"

    def _file(self, name: str) -> Path | None:
        paths = (self._path(name, one) for one in (VolumeState.PARTIAL, VolumeState.RESTORED))
        with _named(self._directory / name):
            return next((one for one in paths if one.exists()), None)

    def _there(self, spec: VolumeSpec) -> VolumeInfo:
        known = self._known(spec)
        if known is None:
            raise VolumeMissingError(f"There is no volume {spec.name} of this disk and store")
        return known

    def _known(self, spec: VolumeSpec) -> VolumeInfo | None:
        """The volume of that name when it is this disk's, None when the name is free; else a
        refusal.
        """
        file, tag = self._file(spec.name), self._tag(spec.name)
        if file is None:
            return None  # and what is no tag of ours was refused: it is not overwritten
        if tag is None:
            raise VolumeForeignError(f"{spec.name} exists in {self._directory} and is not ours")
        theirs, ours = tag[0], spec
        if (theirs.disk, theirs.point, theirs.origin) != (ours.disk, ours.point, ours.origin):
            raise VolumeForeignError(
                f"Volume {spec.name} belongs to disk {theirs.disk} of another store or point"
            )
        return VolumeInfo(theirs, tag[1], str(file), tag[2])

    def _tagged(self, name: str) -> VolumeInfo | None:
        """The volume that a tag speaks of; None when tag or file is missing."""
        file = self._file(name)
        found = self._tag(name) if file is not None else None
        return VolumeInfo(found[0], found[1], str(file), found[2]) if found else None

    def _tag(self, name: str) -> tuple[VolumeSpec, VolumeState, str] | None:
        path = self._directory / f"{name}.json"
        try:
            data = read_small(path, _MOST_TAG)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise _failed(exc, path) from exc
        try:
            return _parse_tag(canon.Fields(json.loads(data), "it", StoreRefusedError), name)
        except (ValueError, RecursionError, StoreRefusedError) as exc:
            raise VolumeForeignError(f"{path} is not a volume's tag ({exc})") from exc

    def _write_tag(self, spec: VolumeSpec, state: VolumeState, ident: str) -> None:
        tag = json.dumps({**asdict(spec), "state": state, "id": ident}, indent=1)
        write_durably(self._directory / f"{spec.name}.json", tag.encode())


def _parse_tag(fields: canon.Fields, name: str) -> tuple[VolumeSpec, VolumeState, str]:
    """The tag of the volume ``name``, as ``_write_tag`` writes it."""
    spec = VolumeSpec(
        name=fields.choice("name", name),
        size=fields.number("size", 1),
        content=fields.number("content"),
        disk=DiskId(fields.hex("disk", 16)),
        point=fields.number("point", 0, _MOST_POINT),
        origin=fields.hex("origin", 32, empty=True),
    )
    state, ident = VolumeState(fields.choice("state", *VolumeState)), fields.text("id", 64, 1)
    fields.done()
    return spec, state, ident
