"""Target: raw sparse files in a directory, as local KVM takes them; attached to a loop device on
request.

A volume is ``<name>.img`` with its tag beside it, ``<name>.json``. While it is being restored the
file is called ``<name>.img.partial``: nothing half-written is taken for whole.
"""

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

_PUNCHED = aligned_buffer(1 << 20)


def _failed(exc: OSError, path: Path) -> MotionGearError:
    if exc.errno in NO_SPACE_ERRNOS:
        return TargetFullError(f"The target is full: no room for {path.name} ({exc.strerror})")
    return TargetWriteError(f"The target failed at {path.name} ({exc.strerror})")


class LocalVolume:
    """An attached volume file: written through one descriptor, read past the page cache through
    another.
    """

    fresh = True  # made sparse by this target, written by nothing else since: the tag says so

    def __init__(self, path: Path, writer: int, reader: int) -> None:
        self._path, self._writer, self._reader = path, writer, reader

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
        end = offset + length
        while offset < end:
            piece = _PUNCHED[: min(len(_PUNCHED), end - offset)]
            self.pwrite(offset, piece)
            offset += len(piece)

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
            found = Path(known.location).stat()
            if found.st_size < spec.size:
                raise VolumeTooSmallError(
                    f"Volume {spec.name} has {found.st_size} bytes, the disk {spec.size}"
                )
            need += max(spec.content - found.st_blocks * SECTOR, 0)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            free = free_space(self._directory)
        except OSError as exc:
            raise TargetWriteError(
                f"{self._directory} cannot be used ({exc.strerror})", safe="Nothing was written."
            ) from exc
        if need > free:
            raise TargetFullError(
                f"The volumes need {need} bytes, {self._directory} has {free} left",
                safe="Nothing was written.",
                todo="Make room at the target, or choose another.",
            )

    def volumes(self) -> Sequence[VolumeInfo]:
        found = (self._tagged(one.stem) for one in sorted(self._directory.glob("*.json")))
        return [one for one in found if one is not None]

    def ensure_volume(self, spec: VolumeSpec) -> VolumeInfo:
        known = self._known(spec)
        if known is not None:
            return known
        path = self._path(spec.name, VolumeState.PARTIAL)
        try:
            with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
                os.ftruncate(fd, spec.size)
                os.fsync(fd)
            return self._write_tag(spec, VolumeState.PARTIAL, os.urandom(16).hex())
        except OSError as exc:
            raise _failed(exc, path) from exc

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
            if old != new and state is VolumeState.PARTIAL:
                old.rename(new)
            self._write_tag(spec, state, known.id)
            if old != new and state is not VolumeState.PARTIAL:
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
        ending = ".img.partial" if state is VolumeState.PARTIAL else ".img"
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
        path, file = self._directory / f"{name}.json", self._file(name)
        if file is None or not path.exists():
            return None
        try:
            found = json.loads(path.read_bytes())
            state, ident = VolumeState(found.pop("state")), str(found.pop("id"))
            spec = VolumeSpec(**{**found, "disk": DiskId(str(found["disk"]))})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
            raise VolumeForeignError(f"{path} is not a volume's tag ({exc})") from exc
        return VolumeInfo(spec, state, str(file), ident)

    def _write_tag(self, spec: VolumeSpec, state: VolumeState, ident: str) -> VolumeInfo:
        tag = json.dumps({**asdict(spec), "state": state, "id": ident}, indent=1)
        write_durably(self._directory / f"{spec.name}.json", tag.encode())
        return VolumeInfo(spec, state, str(self._file(spec.name)), ident)
