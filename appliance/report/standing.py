"""What stands at the targets: volumes, what damage they had and have, recovery points. Tags first;
of the last check only the state database tells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance.catchup.points import RecoveryPoint, points_of
from appliance.catchup.replica import MANIFEST
from appliance.catchup.replicas import Replicas
from appliance.catchup.wire import Form
from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.model import DiskId, PointSpec, Snapshots, Target, VolumeInfo, VolumeState
from appliance.report.document import DiskRoot, Point, Repair, Volume
from appliance.report.told import Job, number, object_in
from appliance.seal.canon import written
from appliance.seal.manifest import Manifest
from appliance.seal.manifest import State as Block
from appliance.seal.proved import Proved

Targets = Mapping[tuple[str, str], Target]
_FOLLOWS = frozenset({VolumeState.REPLICA, VolumeState.HURT, VolumeState.BAD})


@dataclass(slots=True)
class Standing:
    """``origin`` is the seal root in hex, or empty; ``disks`` are the shipment's."""

    home: Path
    targets: Targets
    origin: str
    disks: frozenset[DiskId]
    jobs: Sequence[Job]
    volumes: list[Volume] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    specs: dict[tuple[DiskId, int], PointSpec] = field(default_factory=dict)  # of those repaired

    def look(self) -> Iterator[str]:
        """Look at every target; what refuses is told."""
        for place, target in self.targets.items():
            try:
                for info in target.volumes():
                    if self._ours(info):
                        self._volume(place, target, info)
                if isinstance(target, Snapshots):
                    self._points(target.name, target)
            except MotionGearError as exc:
                yield exc.what

    def _ours(self, info: VolumeInfo) -> bool:
        spec = info.spec
        return spec.origin == self.origin if spec.origin else spec.disk in self.disks

    def _volume(self, place: tuple[str, str], target: Target, info: VolumeInfo) -> None:
        spec = info.spec
        at, check = self._last_check(place, spec.name)
        wrong = check.get("wrong")
        root = check.get("root")
        self.volumes.append(
            Volume(
                target=target.name,
                name=spec.name,
                location=info.location,
                disk=spec.disk,
                point=spec.point,
                origin=spec.origin,
                size=spec.size,
                state=info.state,
                checked_at=at,
                checked_root=root if isinstance(root, str) else "",
                checked_blocks=number(check, "blocks"),
                wrong=len(wrong) if isinstance(wrong, list) else None,
                unknown=number(check, "unknown"),
            )
        )
        self._repair(target, info)

    def _last_check(self, place: tuple[str, str], volume: str) -> tuple[str, Mapping[str, Json]]:
        found: tuple[str, Mapping[str, Json]] = ("", {})
        for job in self.jobs:
            if (job.spec("target"), job.spec("place")) == place:
                for row, check in job.told("check"):
                    if check.get("volume") == volume and row.at >= found[0]:
                        found = (row.at, check)
        return found

    def _repair(self, target: Target, info: VolumeInfo) -> None:
        """What the volume lacked when it was restored, and what it lacks still."""
        spec = info.spec
        proved = Proved(self.home, spec.origin, info.id)
        if not proved.has(spec.disk, spec.point):
            return
        self.specs[spec.disk, spec.point] = proved.spec(spec.disk, spec.point)
        lost = proved.manifest(spec.disk, spec.point).states()[Block.UNKNOWN]
        held = Replicas(self.home, target).kept(info)
        left: int | None = lost if info.state is VolumeState.HURT else None
        if held is not None and held.surveyed:
            left = Manifest.load(held.place / MANIFEST).states()[Block.UNKNOWN]
        elif info.state not in _FOLLOWS:  # it was restored again, from a copy that is whole
            left = 0
        self.repairs.append(Repair(spec.name, spec.disk, self._why(spec.name), lost, left))

    def _why(self, volume: str) -> tuple[str, ...]:
        """The packs that were not whole, in the words of the restore."""
        found: dict[str, None] = {}
        for job in self.jobs:
            for plan in job.results("plan"):
                disks = plan.get("disks")
                for disk in disks if isinstance(disks, list) else []:
                    if isinstance(disk, dict) and disk.get("volume") == volume:
                        found |= dict.fromkeys(map(str, object_in(disk, "lost").values()))
            for restored in job.results("restore"):
                found |= dict.fromkeys(map(str, object_in(restored, "hurt").values()))
        return tuple(found)

    def _points(self, name: str, target: Snapshots) -> None:
        for one in points_of(target.snapshots()):
            if not self.disks.isdisjoint(one.disks):
                self.points.append(_point(name, one))


def _point(target: str, found: RecoveryPoint) -> Point:
    return Point(
        target=target,
        machine=found.machine,
        point=found.point,
        form=Form(found.form).name.lower(),
        complete=found.complete,
        chosen=found.chosen,
        taken=_time(found.taken),
        made=_time(found.made),
        roots=tuple(DiskRoot(*one) for one in zip(found.disks, found.roots, strict=True)),
    )


def _time(seconds: int) -> str:
    """Empty for a second that no calendar has: a sender may say anything."""
    try:
        return written(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return ""
