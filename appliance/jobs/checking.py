"""Check: every block of a restored volume, read back and compared with its manifest."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

from appliance.catchup.replica import MANIFEST
from appliance.catchup.replicas import Held, Replicas
from appliance.errors import (
    BadInputError,
    CheckFailedError,
    MotionGearError,
    ReplicaUnknownError,
    RestoredHurtError,
    StateError,
    StoppedError,
    VolumeBusyError,
    VolumeMissingError,
)
from appliance.events import Json, Result
from appliance.jobs.desk import Desk
from appliance.jobs.notes import CheckedSoFar, check_task
from appliance.jobs.plugins import target_for
from appliance.jobs.spec import CheckSpec, ReplicaCheckSpec, VerifySpec
from appliance.jobs.verifying import verify_store
from appliance.model import Digest, Target, Volume, VolumeInfo, VolumeSpec, VolumeState
from appliance.restore.check import Check, Checked, byte_ranges, refuse_hurt, refuse_wrong
from appliance.seal import verify
from appliance.seal.manifest import Manifest, State
from appliance.seal.proved import Proved


def check(spec: CheckSpec, desk: Desk) -> None:
    """Check every volume that was restored from this store, even when one of them is wrong."""
    sealed = verify.inspect(Path(spec.store), verify.Pins())
    root = sealed.seal.root().hex()
    target = target_for(spec.target, spec.place)
    found = [one for one in target.volumes() if one.spec.origin == root]
    if not found:
        raise VolumeMissingError(f"{spec.place} holds no volume restored from this store")
    if spec.keyed:
        verify_store(VerifySpec(spec.store, "", "", (), keyed=True), desk)
    all_checked(desk, (partial(_check_known, desk, target, one) for one in found))


def check_replicas(spec: ReplicaCheckSpec, desk: Desk) -> None:
    """Check what follows a machine's disks, each against what its last round has left."""
    target = target_for(spec.target, spec.place)
    found = Replicas(desk.home, target).of(spec.machine)
    if not found:
        raise VolumeMissingError(f"{spec.place} holds no replica of {spec.machine}")
    all_checked(desk, (partial(_check_replica, desk, target, one) for one in found))


def _check_replica(desk: Desk, target: Target, held: Held) -> None:
    with target.attach(held.about.volume) as volume:
        found = _replica_compared(desk, volume, held)
    _end_replica(desk, target, held, *found)


def _replica_compared(desk: Desk, volume: Volume, held: Held) -> tuple[Checked, Manifest]:
    """Compare with what the last round has left, while no round can change either. A block that is
    wrong is unknown from now on: the next round sends it, with those that were unknown before.
    """
    if not held.surveyed:
        raise ReplicaUnknownError(
            f"What volume {held.about.volume.name} holds is not known here: there is nothing to "
            "compare it with",
            safe="The volume is as it was.",
            todo="Run a round from the source: the gate then reads the volume first.",
        )
    manifest = Manifest.load(held.place / MANIFEST, writing=True)
    notes = CheckedSoFar(desk, manifest.root().hex(), held.info.location)
    checked = Check(volume, manifest, desk.emit, desk.stop, notes).run()
    for first, count in checked.wrong:
        for index in range(first, first + count):
            manifest.set(index, Digest(bytes(32)), State.UNKNOWN)
    manifest.flush()
    return checked, manifest


def _end_replica(
    desk: Desk, target: Target, held: Held, checked: Checked, manifest: Manifest
) -> None:
    """Say what came of it, now that the volume is free. Where a round has it already, it sends
    what is unknown, and says on the volume how far it has come.
    """
    spec = held.about.volume
    if checked.wrong:
        with suppress(VolumeBusyError):
            target.tag(spec, VolumeState.BAD)
    _tell(desk, checked, manifest, spec, held.info.location)
    if checked.unknown:
        todo = "Run a round: it sends these blocks."
        refuse_hurt(checked, manifest, spec.name, todo)


def _check_known(desk: Desk, target: Target, info: VolumeInfo) -> None:
    if info.state is VolumeState.PARTIAL:
        raise CheckFailedError(f"Volume {info.spec.name} was not restored to its end")
    held = Replicas(desk.home, target).kept(info)
    if held is not None:
        _check_replica(desk, target, held)
        return
    own = info.id if info.state is VolumeState.HURT else ""
    proved = Proved(desk.home, info.spec.origin, own)
    if not proved.has(info.spec.disk, info.spec.point):
        raise BadInputError(
            f"The manifest of disk {info.spec.disk} is not known here",
            todo="Give --key: it is then derived from the store.",
        )
    whole = VolumeState.HURT if own else VolumeState.CHECKED
    found = proved.manifest(info.spec.disk, info.spec.point)
    check_volume(desk, target, found, info.spec, whole)


def check_volume(
    desk: Desk,
    target: Target,
    manifest: Manifest,
    spec: VolumeSpec,
    right: VolumeState = VolumeState.CHECKED,
) -> None:
    """Compare, and say on the volume what came of it; ``right`` when no block is wrong. A gate may
    have made it a replica and a round changed it: then that is what it is compared with.
    """
    with target.attach(spec) as volume:
        held = _kept(desk, target, spec)
        if held is not None:
            found = _replica_compared(desk, volume, held)
        else:
            notes = CheckedSoFar(desk, manifest.root().hex(), _now(target, spec).location)
            found = Check(volume, manifest, desk.emit, desk.stop, notes).run(), manifest
    if held is not None:
        if not found[0].wrong and _now(target, spec).state is VolumeState.RESTORED:
            with suppress(VolumeBusyError):  # its first round has begun
                target.tag(spec, right)
        _end_replica(desk, target, held, *found)
        return
    checked = found[0]
    info, held = _now(target, spec), _kept(desk, target, spec)
    if held is None:  # else its tag is the gate's by now
        info = target.tag(spec, VolumeState.BAD if checked.wrong else right)
    _tell(desk, checked, manifest, spec, info.location)
    if right is VolumeState.HURT:
        refuse_hurt(checked, manifest, spec.name)


def _now(target: Target, spec: VolumeSpec) -> VolumeInfo:
    """The volume as its tag says now; it is not touched, also when it is attached."""
    for one in target.volumes():
        if one.spec.name == spec.name:
            return one
    raise VolumeMissingError(f"There is no volume {spec.name} any more")


def _kept(desk: Desk, target: Target, spec: VolumeSpec) -> Held | None:
    """The volume as a replica, if it is one by now."""
    return Replicas(desk.home, target).kept(_now(target, spec))


def _tell(
    desk: Desk, checked: Checked, manifest: Manifest, spec: VolumeSpec, location: str
) -> None:
    ranges = [list(one) for one in byte_ranges(checked, manifest)]
    figures: Mapping[str, Json] = {
        "volume": spec.name,
        "location": location,
        "disk": manifest.disk,
        "size": manifest.size,
        "blocks": checked.blocks,
        "wrong": cast("list[Json]", ranges),
        "unknown": checked.unknown,
        "root": manifest.root().hex(),
        "origin": spec.origin,
        "point": spec.point,
    }
    desk.emit(Result("check", figures))
    refuse_wrong(checked, manifest, spec.name)


def all_checked(desk: Desk, checks: Iterable[Callable[[], None]]) -> None:
    """Check every volume, also behind one that is refused, and refuse only then."""
    wrong: list[MotionGearError] = []
    for one in checks:
        try:
            one()
        except StoppedError:
            raise
        except MotionGearError as exc:
            wrong.append(exc)
    with suppress(StateError):  # what comes of it is told now: the next run looks for itself
        desk.state.forget_reached(check_task(desk))
    wrong.sort(key=lambda exc: isinstance(exc, RestoredHurtError))  # what is wrong comes first
    verify.Findings(wrong).refuse()
