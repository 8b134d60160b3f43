"""What lies inside the file systems, read by dissect. For a cell and nowhere else: dissect is
AGPL-3, and Python over hostile bytes.
"""

import importlib
import io
import os
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

import dissect.target.filesystems
import dissect.target.plugins
import dissect.target.volumes
import ruamel.yaml
from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE
from dissect.target import Target, plugin
from dissect.target.containers.raw import RawContainer
from dissect.target.filesystem import Filesystem
from dissect.target.plugin import OperatingSystem
from dissect.target.volume import Volume, VolumeSystem
from dissect.util.stream import RangeStream
from dissect.volume.lvm.physical import LVM2Device

from appliance.block import SECTOR
from appliance.ingest.foreign import text
from appliance.ingest.inspection import linux, surface, tables, usage, windows
from appliance.ingest.inspection.files import MOST_FILE
from appliance.ingest.inspection.warned import warned
from appliance.model import Answer, Encrypted, FileSystem, LogicalVolume, MachineFacts, Part
from appliance.seal import canon, machine
from appliance.seal.papers import MAX_SIZE

_MOST_NAMES = 4096
_MOST_SYSTEMS = 32
_LINUX = frozenset({"linux", "proxmox", "vyos"})
_OTHER = frozenset(OperatingSystem) - _LINUX - {OperatingSystem.UNIX}  # that says nothing
_NTFS_DIRTY = 1  # VOLUME_IS_DIRTY
_T = TypeVar("_T")
_MOST_BITMAP = 1 << 26  # bytes: of 2 TiB in clusters of 4 KiB
_LUKS = b"LUKS\xba\xbe"


def prepare() -> None:
    """All that dissect imports by and by, as far as it is installed."""
    os.environ["HOME"] = "/"  # it looks there for a configuration, and must find none
    for package in (dissect.target.filesystems, dissect.target.volumes):
        for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            _tried(None, importlib.import_module, found.name)
    for found in plugin.os_plugins():
        _tried(None, plugin.load, found)
    ruamel.yaml.YAML(typ="safe", pure=True).load("a: [1, b]")
    for name in ("utf-16-le", "latin-1", "cp1252", "ascii"):
        b"a\0".decode(name)


def _tried(otherwise: _T, work: Callable[..., _T], *args: object) -> _T:
    """Over hostile bytes dissect raises whatever Python can raise."""
    try:
        return work(*args)
    except Exception:  # noqa: BLE001 - see above
        return otherwise


class _Tree:
    """Files of a file system, or of several that are mounted together."""

    def __init__(self, fs: Filesystem) -> None:
        self._fs = fs

    def read(self, path: str, most: int = MOST_FILE) -> bytes:
        def work() -> bytes:
            with self._fs.path(path).open("rb") as file:
                return bytes(file.read(most))

        return _tried(b"", work)

    def names(self, directory: str) -> Sequence[str]:
        def work() -> list[str]:
            found = islice(self._fs.path(directory).iterdir(), _MOST_NAMES)
            return sorted(str(one.name) for one in found)

        return _tried([], work)


class _Registry:
    def __init__(self, target: Target) -> None:
        self._target = target

    def value(self, key: str, name: str) -> object:
        return _tried(None, lambda: self._target.registry.value(key, name).value)

    def keys(self, key: str) -> Sequence[str]:
        def work() -> list[str]:
            found = islice(self._target.registry.key(key).subkeys(), machine.MAX_LIST)
            return [str(one.name) for one in found]

        return _tried([], work)


class _Table(VolumeSystem):  # type: ignore[misc]
    """The partitions as ``tables`` has them: one reading of the table, for sectors of any size."""

    __type__ = "disk"

    def __init__(self, disk: RawContainer, parts: Sequence[Part]) -> None:
        super().__init__(disk)
        self._parts = parts

    def _volumes(self) -> Iterator[Volume]:
        for one in self._parts:
            within = RangeStream(self.fh, one.start, one.size)
            yield Volume(
                within, one.number, one.start, one.size, None, one.name, disk=self.disk, vs=self
            )


def examine(fd: int, size: int, sector: int) -> bytes:
    """For a cell: MachineFacts."""
    disk = tables.read(fd, size, sector)
    found = replace(surface.read(fd, disk), method="dissect")
    target = Target()
    with io.FileIO(fd, closefd=False) as file:
        raw = RawContainer(file)
        raw.vs = _Table(raw, disk.parts)
        target.disks.add(raw)
        _tried(None, target.apply)
        groups = _groups(target)
        logical = {place: one for one in target.volumes if (place := _place(one))}
        starts = {one.start: str(one.number) for one in disk.parts}
        found = replace(
            found,
            volumes=tuple(islice(_volumes(groups), machine.MAX_LIST)),
            encrypted=(*found.encrypted, *_encrypted(logical))[: machine.MAX_LIST],
            file_systems=tuple(
                islice(
                    (*_filled(found.file_systems, target, starts), *_systems(logical)),
                    machine.MAX_LIST,
                )
            ),
        )
        found = _system(target, found)
    members = {name: len(_inner(one, "physical_volumes")) for name, one in groups.items()}
    return canon.dump(machine.write(replace(found, warnings=warned(found, disk, members))))


# --- LVM --------------------


def _groups(target: Target) -> dict[str, dict[str, object]]:
    """What each volume group says of itself, by name."""
    found: dict[str, dict[str, object]] = {}
    for volume in islice(target.volumes, machine.MAX_LIST):
        nothing: dict[str, object] = {}
        for name, group in _tried(nothing, _metadata, volume).items():
            if isinstance(group, dict):
                found.setdefault(name, group)
    return found


def _metadata(volume: Volume) -> dict[str, object]:
    return LVM2Device(volume).metadata or {}


def _inner(found: object, key: str) -> dict[str, object]:
    inner = found.get(key) if isinstance(found, dict) else None
    return inner if isinstance(inner, dict) else {}


def _number(found: object, key: str) -> int:
    number = found.get(key) if isinstance(found, dict) else None
    return number if isinstance(number, int) and number >= 0 else 0


def _volumes(groups: dict[str, dict[str, object]]) -> Iterator[LogicalVolume]:
    for group, said in groups.items():
        for name, volume in _inner(said, "logical_volumes").items():
            if isinstance(volume, dict) and "VISIBLE" in (volume.get("status") or ()):
                segments = [one for key, one in volume.items() if key.startswith("segment")]
                extents = sum(_number(one, "extent_count") for one in segments)
                size = extents * _number(said, "extent_size") * SECTOR
                yield LogicalVolume(text(group), text(name), min(size, MAX_SIZE))


def _place(volume: Volume) -> str:
    """A logical volume's group and name; empty for any other."""
    return _tried("", lambda: text(f"{volume.raw.vg.name}/{volume.raw.name}"))


def _reading(volume: Volume) -> usage.Read:
    def read(offset: int, size: int) -> bytes:
        volume.seek(offset)
        return bytes(volume.read(size))

    return read


def _encrypted(logical: dict[str, Volume]) -> Iterator[Encrypted]:
    for place, volume in logical.items():
        if _tried(b"", _reading(volume), 0, len(_LUKS)) == _LUKS:
            yield Encrypted(place, "luks")


def _systems(logical: dict[str, Volume]) -> Iterator[FileSystem]:
    for place, volume in logical.items():
        read = _reading(volume)
        if kind := _tried("", usage.kind, read):
            size = min(int(volume.size), MAX_SIZE)
            used = _tried(None, usage.used, kind, read, size)
            yield FileSystem(place, kind, "", size, used)


# --- NTFS --------------------


def _filled(
    known: Sequence[FileSystem], target: Target, starts: dict[int, str]
) -> Iterator[FileSystem]:
    """Also with what NTFS uses, which stands in no superblock."""
    used = {
        starts[one.volume.offset]: _tried(None, _clusters, one)
        for one in target.filesystems
        if getattr(one, "ntfs", None) and getattr(one.volume, "offset", -1) in starts
    }
    for one in known:
        measured = used.get(one.place, one.used)
        yield replace(one, used=measured if (measured or 0) <= one.size else None)


def _clusters(fs: Filesystem) -> int | None:
    bitmap = fs.ntfs.mft.get("$Bitmap").open()
    if bitmap.size > _MOST_BITMAP:
        return None
    bits = int.from_bytes(bitmap.read(_MOST_BITMAP), "little").bit_count()
    return bits * int(fs.ntfs.cluster_size)


def _dirty(fs: Filesystem) -> Answer:
    def work() -> Answer:
        record = fs.ntfs.mft.get("$Volume")
        said = record.attributes[ATTRIBUTE_TYPE_CODE.VOLUME_INFORMATION][0].data()
        flags = int.from_bytes(said[10:12], "little")
        return Answer.YES if flags & _NTFS_DIRTY else Answer.NO

    return _tried(Answer.UNKNOWN, work)


# --- the operating system --------------------


def _system(target: Target, known: MachineFacts) -> MachineFacts:
    kind = str(_tried("", lambda: target.os))
    if kind == "windows":
        system = target.fs.mounts.get("sysvol")
        dirty = _dirty(system) if system is not None else Answer.UNKNOWN
        files = _Tree(system or target.fs)
        return windows.read(files, _Registry(target), known, dirty=dirty)
    if kind in _OTHER:
        return replace(
            known,
            family="other",
            hostname=text(_tried("", lambda: target.hostname)),
            product=text(kind),
            version=text(_tried("", lambda: target.version)),
            architecture=text(_tried("", lambda: target.architecture)),
        )
    # What dissect does not know, or fails over (a loop in fstab is enough), or joins from parts
    # that do not belong together (a btrfs whose root is a subvolume), may stand in one of them.
    joined = [target.fs] if kind in _LINUX else []
    best = known
    for one in (*joined, *islice(target.filesystems, _MOST_SYSTEMS)):
        found = linux.read(_Tree(one), known)
        if found.product:
            return found
        best = found if best is known else best
    return best
