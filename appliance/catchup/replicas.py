"""The replicas a gate keeps: found by the tags on the target, adopted from what was restored, or
made empty.

``<home>/replicas/<volume id>/`` holds what belongs to a volume: its manifest, journal, and what is
known of its disk. Where that was lost, the manifest is derived anew from the volume.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.block import aligned_buffer
from appliance.catchup import wire
from appliance.catchup.replica import ABOUT, MANIFEST, About, Replica, adopt, read_about
from appliance.errors import ReplicaUnknownError
from appliance.model import (
    DiskFacts,
    DiskId,
    PointSpec,
    Target,
    VolumeInfo,
    VolumeSpec,
    VolumeState,
)
from appliance.restore.plan import safe_name
from appliance.seal.cut import digest, zero_digest
from appliance.seal.manifest import Manifest, State
from appliance.seal.pointmap import refuse_larger_than_memory
from appliance.seal.proved import Proved

_WHOLE = frozenset({VolumeState.RESTORED, VolumeState.CHECKED, VolumeState.REPLICA})
_ADOPTED = _WHOLE | {VolumeState.HURT}


@dataclass(frozen=True, slots=True)
class Held:
    """A replica that the gate keeps, not attached. ``place`` is its directory."""

    about: About
    info: VolumeInfo
    place: Path

    @property
    def disk(self) -> DiskId:
        return self.about.spec.disk

    def point(self) -> int:
        return Manifest.load(self.place / MANIFEST).point

    def root(self) -> bytes:
        """The root of what the volume holds, for the point it is at."""
        return Manifest.load(self.place / MANIFEST).root()

    def told(self) -> wire.Replica:
        """The disk as it is told to a sender."""
        facts = self.about.spec.facts
        return wire.Replica(
            disk=self.disk,
            origin=bytes.fromhex(self.about.volume.origin) or bytes(32),
            size=facts.size,
            block_size=self.about.block_size,
            sector=facts.logical_sector,
            serial=facts.serial,
            model=facts.model,
            table_id=facts.table_id,
        )


class Replicas:
    """All replicas on one target."""

    def __init__(self, home: Path, target: Target) -> None:
        self._home, self._target = home, target

    def of(self, machine: str) -> list[Held]:
        """The machine's replicas; a volume that can become one does so now."""
        found = [self._held(one) for one in self._target.volumes()]
        mine = [one for one in found if one is not None and one.about.spec.machine == machine]
        for one in mine:
            if sum(other.disk == one.disk for other in mine) > 1:
                raise ReplicaUnknownError(
                    f"Disk {one.disk} was restored onto several volumes of {self._target.name}",
                    todo="Remove all but one of them.",
                )
        return mine

    def kept(self, info: VolumeInfo) -> Held | None:
        """The volume as a replica, if it has become one."""
        place = self._home / "replicas" / info.id
        return Held(read_about(place), info, place) if (place / ABOUT).exists() else None

    def _held(self, info: VolumeInfo) -> Held | None:
        place = self._home / "replicas" / info.id
        if not (place / ABOUT).exists():
            spec, proved = info.spec, self._proved(info)
            if info.state not in _ADOPTED or not proved.has(spec.disk, spec.point):
                return None
            base = proved.manifest(spec.disk, spec.point)
            if info.state is VolumeState.REPLICA:  # what was known of its rounds is lost
                base = self._surveyed(info.spec, base)
            about = About(proved.spec(spec.disk, spec.point), spec, base.block_size)
            adopt(place, about, base)
        return Held(read_about(place), info, place)

    def _proved(self, info: VolumeInfo) -> Proved:
        """What was proved of the volume's disk here; of one that lacks blocks, or did, it is true
        of that volume only.
        """
        all_of_it = Proved(self._home, info.spec.origin)
        own = Proved(self._home, info.spec.origin, info.id)
        known = all_of_it.has(info.spec.disk, info.spec.point)
        lacks = info.state is VolumeState.HURT
        return own if lacks or (info.state is VolumeState.REPLICA and not known) else all_of_it

    def _surveyed(self, spec: VolumeSpec, like: Manifest) -> Manifest:
        """The manifest of what the volume holds now."""
        found = Manifest(like.disk, like.point, like.block_size, like.size)
        buffer = aligned_buffer(like.block_size)
        with self._target.attach(spec) as volume:
            if volume.fresh:
                found.set_zero(0, found.blocks)
                return found
            for index in range(found.blocks):
                block = buffer[: found.length(index)]
                volume.pread(index * found.block_size, block)
                told = digest(block)
                zero = told == zero_digest(len(block))
                found.set(index, told, State.ZERO if zero else State.DATA)
        return found

    def create(self, machine: str, new: wire.Replica) -> Held:
        """An empty replica for a disk that comes by the line alone."""
        facts = DiskFacts(
            source="",
            serial=new.serial,
            model=new.model,
            bus="",
            size=new.size,
            logical_sector=new.sector,
            physical_sector=new.sector,
            table="",
            table_id=new.table_id,
            firmware_hint="unknown",
            parts=(),
        )
        spec = PointSpec(new.disk, 0, machine, facts)
        refuse_larger_than_memory(spec, new.block_size)
        info = self._ensured(VolumeSpec(safe_name(spec), new.size, 0, new.disk, 0, ""))
        place = self._home / "replicas" / info.id
        if not (place / ABOUT).exists():
            like = Manifest(new.disk, 0, new.block_size, new.size)
            adopt(place, About(spec, info.spec, new.block_size), self._surveyed(info.spec, like))
        found = Held(read_about(place), info, place)
        if found.about.spec.machine != machine:
            raise ReplicaUnknownError(f"Disk {new.disk} is not one of {machine}'s")
        return found

    def _ensured(self, wanted: VolumeSpec) -> VolumeInfo:
        """The volume for a disk that comes by the line alone: made now, or found again by its tag,
        also by a gate that has lost what it knew of it.
        """
        for one in self._target.volumes():
            if (one.spec.disk, one.spec.size, one.spec.origin) == (wanted.disk, wanted.size, ""):
                return one
        self._target.check([wanted])
        return self._target.ensure_volume(wanted)

    @contextmanager
    def open(self, held: Held) -> Iterator[Replica]:
        """The replica, attached; from now on only rounds change its volume."""
        if held.info.state in _WHOLE - {VolumeState.REPLICA}:
            self._follow(held)
        with self._target.attach(held.about.volume) as volume:
            yield Replica(held.place, volume)

    def whole(self, held: Held) -> None:
        """The volume has come to a point: what it lacked is there."""
        if held.info.state not in _WHOLE:
            self._follow(held)

    def _follow(self, held: Held) -> None:
        self._target.tag(held.about.volume, VolumeState.REPLICA)
