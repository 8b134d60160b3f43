"""Restore: plan, make the volumes, replay the packs onto them, check every block.

Where damage was accepted, a volume that lacks blocks is *hurt*, which says that catch-up has to
send them; it is restored again like one that was not restored to its end.
"""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from appliance.catchup.replicas import Replicas
from appliance.errors import StateError, StoreRefusedError, VolumeForeignError
from appliance.events import Json, Result, Step
from appliance.jobs.checking import all_checked, check_volume
from appliance.jobs.desk import Desk
from appliance.jobs.notes import Replayed
from appliance.jobs.plugins import target_for
from appliance.jobs.spec import RestoreSpec
from appliance.model import DiskId, PackId, Target, Volume, VolumeInfo, VolumeState
from appliance.rate import Throttle, parse_limit
from appliance.restore.hurt import Hurt, believed
from appliance.restore.plan import Plan, PlannedDisk, inspect, make
from appliance.restore.replay import Replay
from appliance.seal import verify
from appliance.seal.accepted import Accepted
from appliance.seal.manifest import Manifest
from appliance.seal.proved import Proved
from appliance.state import State

_WHOLE = frozenset({VolumeState.RESTORED, VolumeState.CHECKED})
_LACKING = frozenset({VolumeState.PARTIAL, VolumeState.BAD, VolumeState.HURT})


def restore(spec: RestoreSpec, desk: Desk) -> None:
    pins = verify.Pins(spec.device, spec.root, spec.recipients)
    target = target_for(spec.target, spec.place)
    desk.emit(Step("plan"))
    accepted = Accepted(desk.home)
    chosen, accept_damage = dict(spec.volumes), spec.accept_damage
    sealed = inspect(Path(spec.store), pins, accepted, accept_damage=accept_damage)
    plan = make(sealed, desk.need_key(), target, chosen, accept_damage=accept_damage)
    desk.emit(Result("plan", plan_figures(plan)))
    _refuse_replicas(desk, plan, target)
    for one in plan.disks:
        _make_ready(spec, desk, target, one)
    hurt = _replay(spec, desk, plan, target)
    ended = [_ended(desk, target, one, hurt) for one in plan.disks]
    checks = (
        partial(check_volume, desk, target, found, one.volume, right)
        for one, (found, right) in zip(plan.disks, ended, strict=True)
    )
    all_checked(desk, checks)
    if sealed.trust is verify.Trust.AUTHENTIC:
        accepted.accept(sealed.seal)


def _make_ready(spec: RestoreSpec, desk: Desk, target: Target, one: PlannedDisk) -> None:
    """Mark a volume that is to be written as partial. One that was proved whole stays so, whatever
    has become of the store: damage that is accepted has nothing to add to it.
    """
    info = target.ensure_volume(one.volume)
    if _whole(desk.home, info) and (spec.accept_damage or _proved(desk.home, one)):
        return
    if info.state in _WHOLE or info.state is VolumeState.BAD:
        desk.state.forget_replayed(info.id)
    if info.state is not VolumeState.PARTIAL:
        target.tag(one.volume, VolumeState.PARTIAL)


def _whole(home: Path, info: VolumeInfo) -> bool:
    """Whether the volume was restored to its end and it is known here what it should hold."""
    proved = Proved(home, info.spec.origin)
    return info.state in _WHOLE and proved.has(info.spec.disk, info.spec.point)


def _refuse_replicas(desk: Desk, plan: Plan, target: Target) -> None:
    """A replica that lacks blocks, or has wrong ones, is mended by a round: what is known of its
    rounds would not be true of what a restore leaves.
    """
    wanted, replicas = {one.volume.name for one in plan.disks}, Replicas(desk.home, target)
    for info in target.volumes():
        lacks = info.state in _LACKING
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


def _replay(spec: RestoreSpec, desk: Desk, plan: Plan, target: Target) -> Mapping[PackId, Hurt]:
    """Write what is not written yet; returns the packs that are not whole."""
    throttle = Throttle([parse_limit(one) for one in spec.limits])
    with ExitStack() as attached:
        volumes: dict[DiskId, Volume] = {}
        idents: dict[DiskId, str] = {}
        done: set[PackId] = set()
        for one in plan.disks:
            volumes[one.volume.disk] = attached.enter_context(target.attach(one.volume))
            info = target.ensure_volume(one.volume)  # as it is now that no other job has it
            idents[one.volume.disk] = info.id
            if _whole(desk.home, info):
                done |= set(one.map.packs.ids)
            else:
                done |= _replayed(desk.state, info, one)
        _refuse_replicas(desk, plan, target)  # a gate may have had one until it was attached

        def passed(disk: PlannedDisk, pack: PackId) -> None:
            with suppress(StateError):  # it is then read again
                desk.state.note_replayed(idents[disk.volume.disk], pack)

        key, accept_damage = desk.need_key(), spec.accept_damage
        replay = Replay(
            plan,
            key,
            volumes,
            desk.emit,
            desk.stop,
            throttle,
            accept_damage=accept_damage,
            notes=Replayed(desk, lambda info: idents[DiskId(info.head.disk)]),
        )
        with desk.asked.settled_by(replay.settle):
            told = replay.run(done, passed)
    figures: dict[str, Json] = {
        "packs": told.packs,
        "bytes_read": told.bytes_read,
        "bytes_written": told.bytes_written,
        "hurt": {pack: one.why.what for pack, one in told.hurt.items()},
    }
    desk.emit(Result("restore", figures))
    return told.hurt


def _ended(
    desk: Desk, target: Target, one: PlannedDisk, hurt: Mapping[PackId, Hurt]
) -> tuple[Manifest, VolumeState]:
    """Say on the volume how far it has come; returns what it should hold, and the state it is in
    when it does. What is known of it is kept first: a gate takes it up by its tag.
    """
    info, origin = target.ensure_volume(one.volume), one.volume.origin
    proved = Proved(desk.home, origin)
    if _whole(desk.home, info):
        return proved.manifest(one.volume.disk, one.volume.point), VolumeState.CHECKED
    if one.map.lost or not hurt.keys().isdisjoint(one.map.packs.ids):
        found = believed(one.map, hurt)
        Proved(desk.home, origin, info.id).keep(one.map.spec, found)
        target.tag(one.volume, VolumeState.HURT)
        return found, VolumeState.HURT
    proved.keep(one.map.spec, one.map.manifest)
    target.tag(one.volume, VolumeState.RESTORED)
    desk.state.forget_replayed(info.id)
    return one.map.manifest, VolumeState.CHECKED


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
                "lost": {pack: why.what for pack, why in one.map.lost.items()},
            }
            for one in plan.disks
        ],
        "left_out": [one.disk for one in plan.left_out],
    }
