"""The replicas a gate keeps: found by the tags on the target, adopted from what was restored, or
made empty.

``<home>/replicas/<volume id>/`` holds what belongs to a volume: its manifest, journal, and what is
known of its disk. It is begun under the lock of the directory: a manifest that a round may have
mapped is never exchanged. One that was lost is derived anew from the volume, which takes hours and
is done by whoever has attached it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.block import free_space, make_directory
from appliance.catchup import wire
from appliance.catchup.replica import (
    ABOUT,
    MANIFEST,
    About,
    Replica,
    adopt,
    begin,
    read_about,
    survey,
)
from appliance.errors import ReplicaUnknownError, StateError, TargetFullError
from appliance.events import Emit, silent
from appliance.model import (
    DiskFacts,
    DiskId,
    PointSpec,
    Stop,
    Target,
    VolumeInfo,
    VolumeSpec,
    VolumeState,
)
from appliance.restore.plan import safe_name
from appliance.seal.kept import alone, kept
from appliance.seal.manifest import Manifest, file_size, point_of
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

    @property
    def surveyed(self) -> bool:
        """Whether it is known what the volume holds; else it is told as its base, and its root
        as zeros.
        """
        return (self.place / MANIFEST).exists()

    def point(self) -> int:
        return point_of(self.place / MANIFEST) if self.surveyed else self.about.volume.point

    def root(self) -> bytes:
        """The root of what the volume holds, for the point it is at."""
        return Manifest.load(self.place / MANIFEST).root() if self.surveyed else bytes(32)

    def told(self) -> wire.Replica:
        """The disk as it is told to a sender."""
        origin = bytes.fromhex(self.about.volume.origin) or bytes(32)
        return wire.Replica.of(self.about.spec.facts, self.disk, origin, self.about.block_size)


def refuse_untold(machine: str, count: int) -> None:
    """Refuse more replicas of a machine than a sender can be told of."""
    if count > wire.MOST_REPLICAS:
        raise TargetFullError(
            f"{machine} would have {count} replicas here; a machine may have {wire.MOST_REPLICAS}",
            safe="The replicas are as they were.",
            todo="Remove the volumes of disks that are gone.",
        )


class Replicas:
    """All replicas on one target."""

    def __init__(self, home: Path, target: Target) -> None:
        self._home, self._target = home, target

    def of(self, machine: str) -> list[Held]:
        """The machine's replicas; a volume of its that can become one does so now."""
        found = [self._held(one, machine) for one in self._target.volumes()]
        mine = [one for one in found if one is not None]
        for one in mine:
            if sum(other.disk == one.disk for other in mine) > 1:
                raise ReplicaUnknownError(
                    f"Disk {one.disk} was restored onto several volumes of {self._target.name}",
                    todo="Remove all but one of them.",
                )
        return mine

    def machines(self) -> list[str]:
        """Those that a volume here is of, or can become a replica of."""
        return sorted({name for one in self._target.volumes() if (name := self._machine(one))})

    def _machine(self, info: VolumeInfo) -> str:
        """Empty where it cannot be told."""
        found = self.kept(info)
        if found is not None:
            return found.about.spec.machine
        proved, disk, point = self._proved(info), info.spec.disk, info.spec.point
        if info.state not in _ADOPTED or not proved.has(disk, point):
            return ""
        return proved.spec(disk, point).machine

    def kept(self, info: VolumeInfo) -> Held | None:
        """The volume as a replica, if it has become one."""
        place = self._place(info)
        return Held(read_about(place), info, place) if (place / ABOUT).exists() else None

    def _place(self, info: VolumeInfo) -> Path:
        return self._home / "replicas" / info.id

    def _held(self, info: VolumeInfo, machine: str) -> Held | None:
        if self._machine(info) != machine:
            return None
        return self.kept(info) or self._adopted(info, self._proved(info))

    def _adopted(self, info: VolumeInfo, proved: Proved) -> Held:
        with self._beginning(info) as place:
            if place is not None:
                base = proved.manifest(info.spec.disk, info.spec.point)
                spec = proved.spec(info.spec.disk, info.spec.point)
                about = About(spec, info.spec, base.block_size)
                if info.state is VolumeState.REPLICA:  # what was known of its rounds is lost
                    begin(place, about)
                else:
                    self._refuse_full(base.size, base.block_size)
                    adopt(place, about, base)
        return Held(read_about(self._place(info)), info, self._place(info))

    @contextmanager
    def _beginning(self, info: VolumeInfo) -> Iterator[Path | None]:
        """Where to begin a replica, while nobody else does; None when somebody has."""
        place = self._place(info)
        with kept(place):
            make_directory(place.parent, 0o700)
        with alone(place.with_name("lock")):
            yield None if (place / ABOUT).exists() else place

    def _refuse_full(self, size: int, block_size: int) -> None:
        """Refuse a manifest that would fill the state directory, which all machines share."""
        with kept(self._home):
            needed, room = 2 * file_size(size, block_size), free_space(self._home)
        if needed > room:
            raise StateError(
                f"A replica of {size} bytes in blocks of {block_size} needs {needed} bytes at "
                f"{self._home}, which has {room} left",
                safe="Nothing was begun.",
                todo="Make room in the gate's state directory.",
            )

    def _proved(self, info: VolumeInfo) -> Proved:
        """What was proved of the volume's disk here; of one that lacks blocks, or did, it is true
        of that volume only.
        """
        all_of_it = Proved(self._home, info.spec.origin)
        own = Proved(self._home, info.spec.origin, info.id)
        known = all_of_it.has(info.spec.disk, info.spec.point)
        lacks = info.state is VolumeState.HURT
        return own if lacks or (info.state is VolumeState.REPLICA and not known) else all_of_it

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
        self._refuse_full(new.size, new.block_size)
        others = sum(one.disk != new.disk for one in self.of(machine))
        refuse_untold(machine, others + 1)
        info = self._ensured(VolumeSpec(safe_name(spec), new.size, 0, new.disk, 0, ""))
        with self._beginning(info) as place:
            if place is not None:
                begin(place, About(spec, info.spec, new.block_size))
        found = Held(read_about(self._place(info)), info, self._place(info))
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
    def open(
        self, held: Held, stop: Stop = lambda: False, emit: Emit = silent
    ) -> Iterator[Replica]:
        """The replica, attached; from now on only rounds change its volume. What it holds is
        surveyed first where that is not known, which ``stop`` ends and ``emit`` is told of.
        """
        if held.info.state in _WHOLE - {VolumeState.REPLICA}:
            self._follow(held)
        with self._target.attach(held.about.volume) as volume:
            if not held.surveyed:
                self._refuse_full(held.about.spec.facts.size, held.about.block_size)
                survey(volume, held.about, stop, emit).save(held.place / MANIFEST)
            yield Replica(held.place, volume)

    def whole(self, held: Held) -> None:
        """The volume has come to a point: what it lacked is there."""
        if held.info.state not in _WHOLE:
            self._follow(held)

    def _follow(self, held: Held) -> None:
        self._target.tag(held.about.volume, VolumeState.REPLICA)
