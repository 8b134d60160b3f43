"""Recovery points: all disks of a machine at one point, as the snapshots on a target tell of them.

The truth is what stands on the target. Everything here can be run again after it was cut.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from typing import Protocol

from appliance.errors import ExistsError, PointRefusedError, UnknownNameError, VolumeBusyError
from appliance.model import (
    CloneInfo,
    Clones,
    DiskId,
    SnapshotInfo,
    Snapshots,
    SnapshotSpec,
    Target,
)

MIN_AGE_SECONDS = 24 * 3600.0


class Keeps(Target, Snapshots, Clones, Protocol):
    """A target that keeps points and makes clones of them."""


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """A point of a machine, read once: ``roots`` tell it from another reading of the same point.
    Only a ``complete`` one, with a snapshot of every disk, may be chosen and cloned.
    """

    machine: str
    point: int
    form: int
    taken: int
    disks: tuple[DiskId, ...]
    roots: tuple[str, ...]
    snapshots: tuple[SnapshotInfo, ...]
    chosen: bool

    @property
    def complete(self) -> bool:
        return {one.spec.volume.disk for one in self.snapshots} == set(self.disks)

    @property
    def made(self) -> int:
        """When the last of it was made, by the target's clock: ``taken`` is what the sender says,
        and a sender may lie.
        """
        return max(one.made for one in self.snapshots)


def points_of(found: Iterable[SnapshotInfo], machine: str | None = None) -> list[RecoveryPoint]:
    """The points that snapshots make up, by machine, oldest first; of one machine where named."""
    mine = sorted((one for one in found if machine in {None, one.spec.machine}), key=_order)
    read = [list(group) for _, group in groupby(mine, key=lambda one: _reading(one.spec))]
    best: dict[str, tuple[int, int]] = {}
    for one in mine:
        rank = (one.chosen, one.spec.point)
        best[one.spec.machine] = max(best.get(one.spec.machine, (0, 0)), rank)
    return [_point(group, *best[group[0].spec.machine]) for group in read]


def _order(info: SnapshotInfo) -> tuple[object, ...]:
    return (*_reading(info.spec), info.spec.volume.disk)


def _reading(spec: SnapshotSpec) -> tuple[object, ...]:
    return (spec.machine, spec.point, spec.form, spec.taken, spec.disks, spec.roots)


def _point(group: Sequence[SnapshotInfo], chosen: int, point: int) -> RecoveryPoint:
    spec = group[0].spec
    ours = chosen > 0 and spec.point == point and any(one.chosen == chosen for one in group)
    return RecoveryPoint(
        machine=spec.machine,
        point=spec.point,
        form=spec.form,
        taken=spec.taken,
        disks=spec.disks,
        roots=spec.roots,
        snapshots=tuple(group),
        chosen=ours,
    )


def machine_of(points: Sequence[RecoveryPoint], machine: str | None) -> str:
    """The machine that is meant: the one named, or the only one that has points."""
    names = sorted({one.machine for one in points})
    if machine is None and len(names) == 1:
        return names[0]
    if machine in names:
        return machine
    if machine is None and names:
        raise UnknownNameError(
            f"There are points of {len(names)} machines: {', '.join(names)}",
            todo="Name one with --machine.",
        )
    raise UnknownNameError(
        f"There is no recovery point of {machine or 'any machine'}",
        todo="Bring the machine to a point by a round that reads it frozen.",
    )


def pick(points: Sequence[RecoveryPoint], asked: str) -> RecoveryPoint:
    """The complete point of one machine that is asked for: a number, the latest, the chosen."""
    whole = [one for one in points if one.complete]
    match asked:
        case "latest":
            found = whole[-1:]
        case "chosen":
            found = [one for one in whole if one.chosen]
        case _:
            found = [one for one in whole if str(one.point) == asked]
            _refuse_incomplete(points, asked, whole=bool(found))
    if not found:
        raise UnknownNameError(
            f"There is no complete point {asked}",
            todo="`motiongear points list` shows the points there are.",
        )
    return found[-1]


def _refuse_incomplete(points: Sequence[RecoveryPoint], asked: str, *, whole: bool) -> None:
    for one in points:
        if not whole and str(one.point) == asked:
            raise PointRefusedError(
                f"Point {asked} of {one.machine} is not complete: {len(one.snapshots)} of "
                f"{len(one.disks)} disks are there",
                todo="Take another point, or run the round again.",
            )


def numbered(points: Sequence[RecoveryPoint], asked: str) -> list[RecoveryPoint]:
    """Every reading of one machine's point, complete or not: what a discard that was cut left
    goes too.
    """
    number = asked if asked.isdecimal() else str(pick(points, asked).point)
    found = [one for one in points if str(one.point) == number]
    return found or [pick(points, asked)]


def superfluous(
    points: Sequence[RecoveryPoint], keep: int, made_before: float = inf
) -> list[RecoveryPoint]:
    """What need not be kept of one machine's points: of those made before that time all but the
    newest ``keep`` complete ones and the chosen one. Younger ones stay and count for none: however
    many there are, they push no older one out. An incomplete one goes when a complete one is
    newer; else it may be on its way.
    """
    newest = max((one.point for one in points if one.complete), default=0)
    aged = [one for one in points if one.made < made_before]
    whole = [one for one in aged if one.complete]
    kept = whole[-keep:] if keep > 0 else []
    return [
        one
        for one in aged
        if not one.chosen and one not in kept and (one.complete or one.point < newest)
    ]


def choose(target: Keeps, point: RecoveryPoint) -> None:
    """Make it the one to boot: one mark, above all others, on its first snapshot."""
    highest = max(one.chosen for one in target.snapshots())
    if not point.chosen:
        target.mark(point.snapshots[0].spec, highest + 1)


def choose_none(target: Keeps, machine: str) -> None:
    """Take all choices back, the oldest first: none of them comes up again meanwhile."""
    marked = [one for one in target.snapshots() if one.chosen and one.spec.machine == machine]
    for one in sorted(marked, key=lambda one: one.chosen):
        target.mark(one.spec, 0)


def clone(target: Keeps, point: RecoveryPoint, name: str) -> list[CloneInfo]:
    """A clone of every disk, called ``<name>-<volume>``; what a cut one made is found again.
    Refuses a name under which clones of another point stand.
    """
    there = {one.name: one for one in target.clones()}
    wanted = {_clone_name(name, one.spec): one.spec for one in point.snapshots}
    for called, one in there.items():
        if called in wanted and one.of != wanted[called]:
            raise ExistsError(f"Clone {called} is of point {one.of.point} of {one.of.machine}")
    if wanted.keys() <= there.keys():
        raise ExistsError(f"{name} has been cloned from point {point.point} already")
    return [there.get(called) or target.clone(spec, called) for called, spec in wanted.items()]


def clones_called(target: Keeps, name: str, machine: str | None = None) -> list[CloneInfo]:
    """The clones that were made under a name; of one machine where named."""
    found = [one for one in target.clones() if one.name == _clone_name(name, one.of)]
    return [one for one in found if machine in {None, one.of.machine}]


def name_of(clone: CloneInfo) -> str:
    """The name under which a clone was made, with those of the other disks."""
    return clone.name.removesuffix(f"-{clone.of.volume.name}")


def _clone_name(name: str, spec: SnapshotSpec) -> str:
    return f"{name}-{spec.volume.name}"


def remove(target: Keeps, name: str, machine: str | None = None) -> list[CloneInfo]:
    """Remove all clones made under a name; returns what there was."""
    found = clones_called(target, name, machine)
    if not found:
        raise UnknownNameError(
            f"No clones are called {name}", todo="`motiongear points list` shows them."
        )
    for one in found:
        target.remove(one.name)
    return found


def needs(target: Keeps, point: RecoveryPoint) -> list[str]:
    """Names of the clones that read from the point."""
    specs = {one.spec for one in point.snapshots}
    return sorted({name_of(one) for one in target.clones() if one.depends and one.of in specs})


def discard(target: Keeps, point: RecoveryPoint) -> None:
    """Remove all snapshots of the point, or refuse before the first of them."""
    if point.chosen:
        raise PointRefusedError(
            f"Point {point.point} of {point.machine} is the one chosen",
            todo="Choose another first: `motiongear points choose`, of which one is `none`.",
        )
    if names := needs(target, point):
        raise VolumeBusyError(
            f"Point {point.point} of {point.machine} is read by the clones {', '.join(names)}",
            safe="The point is whole.",
            todo="Remove them first.",
            verb=f"motiongear points remove {names[0]}",
        )
    for one in point.snapshots:
        target.discard(one.spec)


def retain(
    target: Keeps, machine: str, keep: int, min_age_seconds: float = MIN_AGE_SECONDS
) -> list[RecoveryPoint]:
    """Discard what need not be kept and is that old, but for points that clones read from; returns
    what went. With an age of 0 no clock is asked.
    """
    made_before = time.time() - min_age_seconds if min_age_seconds else inf
    found = superfluous(points_of(target.snapshots(), machine), keep, made_before)
    gone = [one for one in found if not needs(target, one)]
    for one in gone:
        discard(target, one)
    return gone
