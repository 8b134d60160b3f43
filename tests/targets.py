"""A target in memory that keeps what the Target contract says, and remembers what it was told."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from appliance.errors import (
    ExistsError,
    TargetFullError,
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
from tests.support import BLOCK


def volume_spec(name: str = "web01-S1", size: int = 5 * BLOCK + 777, **other: str) -> VolumeSpec:
    return VolumeSpec(
        name=name,
        size=size,
        content=2 * BLOCK,
        disk=DiskId(other.get("disk", "33" * 16)),
        point=0,
        origin=other.get("origin", "44" * 32),
    )


def snapshot_spec(
    volume: VolumeSpec, point: int, *others: DiskId, taken: int = 1_790_000_000, root: str = "77"
) -> SnapshotSpec:
    """Of web01 at a point, together with other disks."""
    disks = tuple(sorted((volume.disk, *others)))
    return SnapshotSpec(
        volume=volume,
        machine="web01",
        point=point,
        form=1,
        taken=taken,
        disks=disks,
        roots=(root * 32,) * len(disks),
    )


@dataclass
class MemoryVolume:
    """A Volume over bytes. ``fresh`` when it was made of zeros and nobody has attached it yet."""

    data: bytearray
    fresh: bool = True
    writes: list[tuple[int, int]] = field(default_factory=list)
    zeroed: list[tuple[int, int]] = field(default_factory=list)
    flushes: int = 0

    def pread(self, offset: int, buffer: memoryview) -> None:
        if offset + len(buffer) > len(self.data):
            raise VolumeTooSmallError(f"It ends at byte {len(self.data)}")
        buffer[:] = self.data[offset : offset + len(buffer)]

    def pwrite(self, offset: int, data: memoryview) -> None:
        self.writes.append((offset, len(data)))
        self.data[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self.zeroed.append((offset, length))
        self.data[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        self.flushes += 1


@dataclass
class MemoryTarget:
    """A Target of ``room`` bytes, for as long as the test lasts."""

    room: int = 1 << 30
    name: str = "memory"
    held: dict[str, tuple[VolumeInfo, MemoryVolume]] = field(default_factory=dict)
    attached: set[str] = field(default_factory=set)
    kept: dict[tuple[str, int], tuple[SnapshotInfo, bytes]] = field(default_factory=dict)
    cloned: dict[str, tuple[CloneInfo, bytearray]] = field(default_factory=dict)
    lean: bool = False  # clones read from their snapshots

    def check(self, wanted: Sequence[VolumeSpec]) -> None:
        known = [self._known(one) for one in wanted]
        for spec, info in zip(wanted, known, strict=True):
            if info is not None and info.state is VolumeState.REPLICA:
                raise VolumeForeignError(f"Volume {spec.name} follows its source")
            if info is not None and len(self.held[spec.name][1].data) < spec.size:
                raise VolumeTooSmallError(f"Volume {spec.name} is too small")
        need = sum(one.content for one, info in zip(wanted, known, strict=True) if info is None)
        if need > self.room:
            raise TargetFullError("The target is full", safe="Nothing was written.")

    def volumes(self) -> Sequence[VolumeInfo]:
        return [info for info, _ in self.held.values()]

    def ensure_volume(self, spec: VolumeSpec) -> VolumeInfo:
        known = self._known(spec)
        if known is None:
            known = VolumeInfo(spec, VolumeState.PARTIAL, spec.name, os.urandom(16).hex())
            self.held[spec.name] = known, MemoryVolume(bytearray(spec.size))
        return known

    @contextmanager
    def attach(self, spec: VolumeSpec) -> Iterator[MemoryVolume]:
        volume = self.held[self._free(spec).spec.name][1]
        self.attached.add(spec.name)
        try:
            yield volume
        finally:
            self.attached.remove(spec.name)
        volume.fresh = not any(volume.data)

    def tag(self, spec: VolumeSpec, state: VolumeState) -> VolumeInfo:
        info = replace(self._free(spec), state=state)
        self.held[spec.name] = info, self.held[spec.name][1]
        return info

    def snapshot(self, spec: SnapshotSpec) -> SnapshotInfo:
        if self._free(spec.volume).state is not VolumeState.REPLICA:
            raise VolumeForeignError(f"Volume {spec.volume.name} is not a replica")
        key = (spec.volume.name, spec.point)
        if key in self.kept and self.kept[key][0].spec != spec:
            self.discard(self.kept[key][0].spec)
        if key not in self.kept:
            info = SnapshotInfo(spec, f"{key}", "copy", 0, int(time.time()))
            self.kept[key] = info, bytes(self.held[spec.volume.name][1].data)
        return self.kept[key][0]

    def snapshots(self) -> Sequence[SnapshotInfo]:
        return [info for info, _ in self.kept.values()]

    def mark(self, spec: SnapshotSpec, chosen: int) -> SnapshotInfo:
        info, data = self._kept(spec)
        self.kept[spec.volume.name, spec.point] = replace(info, chosen=chosen), data
        return self._kept(spec)[0]

    def discard(self, spec: SnapshotSpec) -> None:
        if any(info.depends and info.of == spec for info, _ in self.cloned.values()):
            raise VolumeBusyError(f"A clone reads from point {spec.point}")
        if any(info.spec == spec for info, _ in self.kept.values()):
            del self.kept[spec.volume.name, spec.point]

    def clone(self, spec: SnapshotSpec, name: str) -> CloneInfo:
        data = self._kept(spec)[1]
        if name in self.cloned:
            raise ExistsError(f"Clone {name} is there already")
        if self.room < len(data):
            raise TargetFullError("The target is full", safe="The clone was not made.")
        info = CloneInfo(name, spec, f"clone {name}", "raw", "copy", self.lean)
        self.cloned[name] = info, bytearray(data)
        return info

    def clones(self) -> Sequence[CloneInfo]:
        return [info for info, _ in self.cloned.values()]

    def remove(self, name: str) -> None:
        self.cloned.pop(name, None)

    def _kept(self, spec: SnapshotSpec) -> tuple[SnapshotInfo, bytes]:
        found = self.kept.get((spec.volume.name, spec.point))
        if found is None or found[0].spec != spec:
            raise VolumeMissingError(f"There is no snapshot of {spec.volume.name}")
        return found

    def _free(self, spec: VolumeSpec) -> VolumeInfo:
        if spec.name in self.attached:
            raise VolumeBusyError(f"Volume {spec.name} is attached")
        return self._there(spec)

    def _there(self, spec: VolumeSpec) -> VolumeInfo:
        known = self._known(spec)
        if known is None:
            raise VolumeMissingError(f"There is no volume {spec.name}")
        return known

    def _known(self, spec: VolumeSpec) -> VolumeInfo | None:
        if spec.name not in self.held:
            return None
        info = self.held[spec.name][0]
        if (info.spec.disk, info.spec.point, info.spec.origin) != (
            spec.disk,
            spec.point,
            spec.origin,
        ):
            raise VolumeForeignError(f"Volume {spec.name} is another disk's")
        return info
