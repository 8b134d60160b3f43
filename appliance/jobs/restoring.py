"""Restore: plan, make the volumes, replay the packs onto them, check every block."""

from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

from appliance.catchup.replicas import Replicas
from appliance.errors import StoreRefusedError, VolumeForeignError
from appliance.events import Json, Result, Step
from appliance.jobs.checking import all_checked, check_volume
from appliance.jobs.desk import Desk
from appliance.jobs.plugins import target_for
from appliance.jobs.spec import RestoreSpec
from appliance.model import DiskId, PackId, Target, Volume, VolumeInfo, VolumeState
from appliance.rate import Throttle, parse_limit
from appliance.restore.plan import Plan, PlannedDisk, make
from appliance.restore.replay import Replay
from appliance.seal import verify
from appliance.seal.accepted import Accepted
from appliance.seal.proved import Proved
from appliance.state import State


def restore(spec: RestoreSpec, desk: Desk) -> None:
    pins = verify.Pins(spec.device, spec.root, spec.recipients)
    target = target_for(spec.target, spec.place)
    desk.emit(Step("plan"))
    accepted = Accepted(desk.home)
    sealed = verify.inspect(Path(spec.store), pins, accepted)
    plan = make(sealed, desk.need_key(), target, dict(spec.volumes))
    desk.emit(Result("plan", plan_figures(plan)))
    _refuse_replicas(Replicas(desk.home, target), plan, target)
    for one in plan.disks:
        info = target.ensure_volume(one.volume)
        whole = info.state in {VolumeState.RESTORED, VolumeState.CHECKED}
        if info.state is VolumeState.BAD or (whole and not _proved(desk.home, one)):
            desk.state.forget_replayed(info.id)
            target.tag(one.volume, VolumeState.PARTIAL)
    _replay(spec, desk, plan, target)
    for one in plan.disks:
        Proved(desk.home, one.volume.origin).keep(one.map.spec, one.map.manifest)
    all_checked(
        partial(check_volume, desk, target, one.map.manifest, one.volume) for one in plan.disks
    )
    if sealed.trust is verify.Trust.AUTHENTIC:
        accepted.accept(sealed.seal)


def _refuse_replicas(replicas: Replicas, plan: Plan, target: Target) -> None:
    """A replica that lacks blocks, or has wrong ones, is mended by a round: what is known of its
    rounds would not be true of what a restore leaves.
    """
    wanted = {one.volume.name for one in plan.disks}
    for info in target.volumes():
        lacks = info.state in {VolumeState.BAD, VolumeState.HURT}
        if info.spec.name in wanted and lacks and replicas.kept(info) is not None:
            raise VolumeForeignError(
                f"Volume {info.spec.name} follows its source: a restore would undo the rounds it "
                "has received",
                todo="Run a round: it sends the blocks that are wrong.",
            )


def _proved(home: Path, found: PlannedDisk) -> bool:
    """Whether the manifest was proved here before: an index alone proves nothing."""
    with suppress(StoreRefusedError):
        kept = Proved(home, found.volume.origin).manifest(found.volume.disk, found.volume.point)
        return kept.root() == found.map.manifest.root()
    return False


def _replayed(state: State, info: VolumeInfo, found: PlannedDisk) -> set[PackId]:
    """The packs that were replayed onto the volume for this very manifest, whose root stands among
    them. An index that was exchanged since makes another, for which nothing is done yet.
    """
    about, known = PackId(found.map.manifest.root().hex()), state.replayed(info.id)
    if about in known:
        return known
    state.forget_replayed(info.id)
    state.note_replayed(info.id, about)
    return set()


def _replay(spec: RestoreSpec, desk: Desk, plan: Plan, target: Target) -> None:
    throttle = Throttle([parse_limit(one) for one in spec.limits])
    with ExitStack() as attached:
        volumes: dict[DiskId, Volume] = {}
        idents: dict[DiskId, str] = {}
        done: set[PackId] = set()
        for one in plan.disks:
            volumes[one.volume.disk] = attached.enter_context(target.attach(one.volume))
            info = target.ensure_volume(one.volume)  # as it is now that no other job has it
            idents[one.volume.disk] = info.id
            if info.state is VolumeState.PARTIAL:
                done |= _replayed(desk.state, info, one)
            else:
                done |= set(one.map.packs.ids)

        def passed(disk: PlannedDisk, pack: PackId) -> None:
            desk.state.note_replayed(idents[disk.volume.disk], pack)

        replay = Replay(plan, desk.need_key(), volumes, desk.emit, desk.stop, throttle)
        told = replay.run(done, passed)
    for one in plan.disks:
        if target.ensure_volume(one.volume).state is VolumeState.PARTIAL:
            target.tag(one.volume, VolumeState.RESTORED)
        desk.state.forget_replayed(idents[one.volume.disk])
    desk.emit(Result("restore", cast("dict[str, Json]", asdict(told))))


def plan_figures(plan: Plan) -> dict[str, Json]:
    """The plan, to be read before anything is written."""
    return {
        "trust": plan.sealed.trust,
        "size": plan.size,
        "content": plan.content,
        "disks": [
            {
                "disk": one.volume.disk,
                "machine": one.map.spec.machine,
                "serial": one.map.spec.facts.serial,
                "volume": one.volume.name,
                "size": one.volume.size,
                "unreadable_bytes": sum(length for _, length in one.map.unreadable()),
            }
            for one in plan.disks
        ],
        "left_out": [one.disk for one in plan.left_out],
    }
