"""Target: raw sparse files in a directory, as local KVM takes them; attached to a loop device on
request.

A volume is ``<name>.img`` with its tag beside it, ``<name>.json``. While it is being restored, or
when it is bad, it is called ``<name>.img.partial``: what is not whole is not taken for whole.
"""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from appliance.block import (
    NO_SPACE_ERRNOS,
    PAGE,
    SECTOR,
    aligned_buffer,
    free_space,
    opened,
    opened_past_cache,
    pread_full,
    pwrite_full,
    sync_directory,
    write_durably,
)
from appliance.errors import (
    MotionGearError,
    TargetFullError,
    TargetWriteError,
    VolumeForeignError,
    VolumeMissingError,
    VolumeTooSmallError,
)
from appliance.model import DiskId, VolumeInfo, VolumeSpec, VolumeState
from appliance.run import run

_ZEROS = aligned_buffer(1 << 20)
_NOT_WHOLE = frozenset({VolumeState.PARTIAL, VolumeState.BAD})


def _failed(exc: OSError, path: Path) -> MotionGearError:
    if exc.errno in NO_SPACE_ERRNOS:
        return TargetFullError(f"The target is full: no room for {path.name} ({exc.strerror})")
    return TargetWriteError(f"The target failed at {path.name} ({exc.strerror})")


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
        try:
            pwrite_full(self._writer, offset, data)
        except OSError as exc:
            raise _failed(exc, self._path) from exc

    def zero(self, offset: int, length: int) -> None:
        """Write where the file has data; its holes read as zeros already."""
        end = offset + length
        while (data := self._data(offset)) is not None and data < end:
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
        try:
            os.fsync(self._writer)
        except OSError as exc:
            raise _failed(exc, self._path) from exc


class LocalTarget:
    """Volumes in ``directory``."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory).absolute()

    @property
    def name(self) -> str:
        """Names the target in the state database."""
        return f"local:{self._directory}"

    def check(self, wanted: Sequence[VolumeSpec]) -> None:
        need = 0
        for spec in wanted:
            known = self._known(spec)
            if known is None:
                need += spec.content
                continue
            if known.spec.size < spec.size:
                raise VolumeTooSmallError(
                    f"Volume {spec.name} has {known.spec.size} bytes, the disk {spec.size}"
                )
            held = Path(known.location).stat().st_blocks * SECTOR
            need += max(spec.content - held, 0)
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

    def volumes(self) -> Sequence[VolumeInfo]:
        found = (self._tagged(one.stem) for one in sorted(self._directory.glob("*.json")))
        return [one for one in found if one is not None]

    def ensure_volume(self, spec: VolumeSpec) -> VolumeInfo:
        known = self._known(spec)
        if known is not None:
            return self._in_full_length(known)
        path = self._path(spec.name, VolumeState.PARTIAL)
        fresh = path.with_name(f"{path.name}.new")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with opened(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as fd:
                os.ftruncate(fd, spec.size)
                os.fsync(fd)
            # The tag comes first: a volume without one would be taken for somebody else's.
            ident = os.urandom(16).hex()
            self._write_tag(spec, VolumeState.PARTIAL, ident)
            fresh.rename(path)
            sync_directory(self._directory)
        except OSError as exc:
            raise _failed(exc, path) from exc
        return VolumeInfo(spec, VolumeState.PARTIAL, str(path), ident)

    def _in_full_length(self, known: VolumeInfo) -> VolumeInfo:
        """A file of ours that became shorter gets its length back, but is no longer whole."""
        path = Path(known.location)
        try:
            if path.stat().st_size >= known.spec.size:
                return known
            bad = self.tag(known.spec, VolumeState.BAD)  # first: its end is lost
            path = Path(bad.location)
            with opened(path, os.O_RDWR) as fd:
                os.ftruncate(fd, known.spec.size)
                os.fsync(fd)
        except OSError as exc:
            raise _failed(exc, path) from exc
        return bad

    @contextmanager
    def attach(self, spec: VolumeSpec) -> Iterator[LocalVolume]:
        known = self._known(spec)
        if known is None:
            raise VolumeMissingError(f"There is no volume {spec.name} of this disk and store")
        path = Path(known.location)
        try:
            writer = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            raise _failed(exc, path) from exc
        try:
            with opened_past_cache(path) as reader:
                yield LocalVolume(path, writer, reader)
        finally:
            os.close(writer)

    def tag(self, spec: VolumeSpec, state: VolumeState) -> VolumeInfo:
        known = self._known(spec)
        if known is None:
            raise VolumeMissingError(f"There is no volume {spec.name} of this disk and store")
        try:
            old, new = Path(known.location), self._path(spec.name, state)
            if old != new and state in _NOT_WHOLE:
                old.rename(new)
            self._write_tag(spec, state, known.id)
            if old != new and state not in _NOT_WHOLE:
                old.rename(new)
            sync_directory(self._directory)
        except OSError as exc:
            raise _failed(exc, self._path(spec.name, state)) from exc
        return VolumeInfo(spec, state, str(new), known.id)

    def loop(self, info: VolumeInfo, sector: int) -> str:
        """Attach a restored volume to a loop device with that sector size; returns the device."""
        args = ("--find", "--show", "--sector-size", str(sector), info.location)
        return run("losetup", *args).strip()

    def _path(self, name: str, state: VolumeState) -> Path:
        ending = ".img.partial" if state in _NOT_WHOLE else ".img"
        return self._directory / f"{name}{ending}"

    def _file(self, name: str) -> Path | None:
        paths = (self._path(name, one) for one in (VolumeState.PARTIAL, VolumeState.RESTORED))
        return next((one for one in paths if one.exists()), None)

    def _known(self, spec: VolumeSpec) -> VolumeInfo | None:
        """The volume of that name when it is this disk's, None when the name is free; else a
        refusal.
        """
        known = self._tagged(spec.name)
        if known is None:
            self._tag(spec.name)  # what is no tag of ours is not overwritten
            if self._file(spec.name) is not None:
                raise VolumeForeignError(
                    f"{spec.name} exists in {self._directory} and is not ours"
                )
            return None
        theirs, ours = known.spec, spec
        if (theirs.disk, theirs.point, theirs.origin) != (ours.disk, ours.point, ours.origin):
            raise VolumeForeignError(
                f"Volume {spec.name} belongs to disk {theirs.disk} of another store or point"
            )
        return known

    def _tagged(self, name: str) -> VolumeInfo | None:
        """The volume that a tag speaks of; None when tag or file is missing."""
        file = self._file(name)
        found = self._tag(name) if file is not None else None
        return VolumeInfo(found[0], found[1], str(file), found[2]) if found else None

    def _tag(self, name: str) -> tuple[VolumeSpec, VolumeState, str] | None:
        path = self._directory / f"{name}.json"
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_bytes())
            state, ident = VolumeState(found.pop("state")), str(found.pop("id"))
            return VolumeSpec(**{**found, "disk": DiskId(str(found["disk"]))}), state, ident
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
            raise VolumeForeignError(f"{path} is not a volume's tag ({exc})") from exc

    def _write_tag(self, spec: VolumeSpec, state: VolumeState, ident: str) -> None:
        tag = json.dumps({**asdict(spec), "state": state, "id": ident}, indent=1)
        write_durably(self._directory / f"{spec.name}.json", tag.encode())
