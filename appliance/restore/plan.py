"""Plan: which disk becomes which volume, decided and checked before anything is written. Pure
but for the contents and the indexes of the disks that are wanted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import (
    IncompleteDiskError,
    MotionGearError,
    PackDamagedError,
    PackMissingError,
    RecordDamagedError,
    RecordOrderError,
    StoreRefusedError,
    UnknownNameError,
    VolumeForeignError,
)
from appliance.model import DiskId, PointSpec, Target, VolumeSpec
from appliance.seal import verify
from appliance.seal.accepted import Accepted
from appliance.seal.keys import PrivateKey
from appliance.seal.manifest import State
from appliance.seal.opening import StoredDisk, disks_of, open_each
from appliance.seal.pointmap import PointMap
from appliance.seal.verify import Findings, Pins, Sealed

ACCEPT = (
    "Or restore all but what is damaged, with --accept-damage: catch-up then sends it from the "
    "source."
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class PlannedDisk:
    """A disk of the store and the volume it goes to."""

    map: PointMap
    volume: VolumeSpec


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore will do. ``left_out`` are disks that are incomplete, which nobody asked
    for by name.
    """

    sealed: Sealed
    disks: tuple[PlannedDisk, ...]
    left_out: tuple[StoredDisk, ...]

    @property
    def size(self) -> int:
        return sum(one.volume.size for one in self.disks)

    @property
    def content(self) -> int:
        return sum(one.volume.content for one in self.disks)


def safe_name(spec: PointSpec) -> str:
    """A volume's default name: machine and serial (else the disk id), as far as they are safe
    in a file name.
    """
    text = f"{spec.machine}-{spec.facts.serial or spec.disk[:8]}"
    return _UNSAFE.sub("_", text).strip("._-")[:100] or spec.disk


def _content(found: PointMap) -> int:
    states = found.manifest.states()
    return (found.manifest.blocks - states[State.ZERO]) * found.manifest.block_size


def _chosen(disks: Sequence[StoredDisk], chosen: Mapping[str, str]) -> dict[DiskId, str]:
    """Volume names by disk; ``chosen`` maps a disk id (or its beginning) or serial to a name."""
    names: dict[DiskId, str] = {}
    for asked, name in chosen.items():
        hits = [
            one.disk
            for one in disks
            if one.disk.startswith(asked.lower())
            or (one.spec is not None and one.spec.facts.serial == asked)
        ]
        if len(hits) != 1:
            raise UnknownNameError(
                f"{len(hits)} disks of the store go by {asked!r}; exactly one must"
            )
        if _UNSAFE.search(name) or not name.strip("."):
            raise UnknownNameError(
                f"{name!r} cannot be a volume's name: letters, digits, . _ - only"
            )
        names[hits[0]] = name
    return names


def _refuse_double(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise VolumeForeignError(
                f"Two disks would both become volume {name}", todo="Name them with --map."
            )


def may_be_accepted(problem: MotionGearError) -> bool:
    """Whether it is damage of a pack, which costs only what that pack tells."""
    accepted = PackDamagedError | PackMissingError | RecordDamagedError | RecordOrderError
    return isinstance(problem, accepted)


def inspect(path: Path, pins: Pins, accepted: Accepted, *, accept_damage: bool) -> Sealed:
    """``verify.inspect``; where accepting the damage would help, the refusal says so."""
    try:
        return verify.inspect(path, pins, accepted, despite_damage=accept_damage)
    except StoreRefusedError as exc:
        if accept_damage or not may_be_accepted(exc):
            raise
        todo = f"{exc.todo_now} {ACCEPT}"
        raise type(exc)(exc.what, safe=exc.safe_now, todo=todo) from exc


def _advice(findings: Findings, *, others: bool) -> str:
    """What to do when a disk cannot be opened."""
    if not findings.problems:
        return ""
    first = findings.problems[0]
    todo = "Restore the other disks by name, with --map." if others else first.todo_now
    return f"{todo} {ACCEPT}" if may_be_accepted(first) else todo


def _planned(found: PointMap, names: Mapping[DiskId, str], origin: str) -> PlannedDisk:
    spec = found.spec
    volume = VolumeSpec(
        name=names.get(spec.disk) or safe_name(spec),
        size=spec.facts.size,
        content=_content(found),
        disk=spec.disk,
        point=spec.point,
        origin=origin,
    )
    return PlannedDisk(found, volume)


def make(
    sealed: Sealed,
    key: PrivateKey,
    target: Target,
    chosen: Mapping[str, str],
    *,
    accept_damage: bool = False,
) -> Plan:
    """Plan a restore of the chosen disks, or of all complete ones. Every refusal comes before
    any write; a disk that was not chosen refuses nothing.
    """
    disks = disks_of(sealed, key)
    names = _chosen(disks, chosen)
    wanted = [one for one in disks if one.disk in names or not chosen]
    left_out = tuple(one for one in wanted if not one.packs.complete)
    if chosen and left_out:
        raise IncompleteDiskError(f"Disk {left_out[0].disk} was not ingested to its end")
    maps: list[PointMap] = []
    whole = [one for one in wanted if one.packs.complete]
    findings = open_each(whole, key, maps.append, despite_damage=accept_damage)
    findings.refuse(todo=_advice(findings, others=bool(maps) and not chosen))
    planned = tuple(_planned(one, names, sealed.seal.root().hex()) for one in maps)
    if not planned:
        raise IncompleteDiskError("No disk of this store was ingested to its end")
    _refuse_double([one.volume.name for one in planned])
    target.check([one.volume for one in planned])
    return Plan(sealed, planned, left_out)
