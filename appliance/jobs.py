"""What each kind of job does: a row of stage calls in the operator's order. Nothing here starts
processes.

A job is described by a spec, kept in the state database as JSON; running it again goes on where it
stopped, because each stage derives anew what is done: from packs, tags and seals, not from the
database.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

from appliance import config
from appliance.errors import (
    BadInputError,
    CheckFailedError,
    JobRunningError,
    MotionGearError,
    OpenErrorError,
    SignerMismatchError,
    SourceChangedError,
    StoppedError,
    StoreRefusedError,
    UnknownNameError,
    VolumeMissingError,
    WrongKeyError,
)
from appliance.events import Emit, Json, Result, Step
from appliance.ingest.loop import How, Ingest
from appliance.ingest.witness import SampleWitness
from appliance.model import (
    DiskFacts,
    DiskId,
    JobId,
    PackId,
    PointSpec,
    Source,
    Stop,
    Target,
    Volume,
    VolumeInfo,
    VolumeSpec,
    VolumeState,
)
from appliance.rate import Throttle, parse_limit
from appliance.restore.check import Check, byte_ranges, refuse_wrong
from appliance.restore.plan import Plan, PlannedDisk, make
from appliance.restore.replay import Replay
from appliance.seal import canon, sealing, statement, verify
from appliance.seal.accepted import Accepted
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.manifest import Manifest
from appliance.seal.opening import open_all
from appliance.seal.papers import read_disk_head, write_disk_head
from appliance.seal.pointmap import PointMap
from appliance.seal.store import Store, by_point
from appliance.seal.torn import disk_of
from appliance.seal.writer import Pace, StoreWriter
from appliance.state import ENDED, JobRow, JobState, SourceRow, State

_DISK = re.compile(r"[0-9a-f]{8,32}")
_JOB = re.compile(r"[0-9]{1,7}")  # fewer digits than a disk is named by


@dataclass(frozen=True, slots=True)
class IngestSpec:
    """Read one disk into a store. ``limits`` as the operator wrote them; sizes are bytes."""

    store: str
    source: str
    machine: str
    disk: str
    level: int
    limits: tuple[str, ...]
    pack_size: int
    checkpoint_bytes: int
    checkpoint_seconds: float


@dataclass(frozen=True, slots=True)
class SealSpec:
    """Seal a store. ``accept`` are jobs whose disks may travel incomplete, or such disks."""

    store: str
    accept: tuple[str, ...]
    waiver: str


@dataclass(frozen=True, slots=True)
class VerifySpec:
    """Verify a sealed store; with a key when the job is given one."""

    store: str
    device: str
    root: str
    recipients: tuple[str, ...]
    keyed: bool


@dataclass(frozen=True, slots=True)
class RestoreSpec:
    """Restore disks onto volumes and check them. ``volumes`` maps disks to volume names; empty:
    all disks.
    """

    store: str
    target: str
    place: str
    volumes: tuple[tuple[str, str], ...]
    device: str
    root: str
    recipients: tuple[str, ...]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """Check restored volumes once more; ``keyed`` where the manifests are not known here yet."""

    store: str
    target: str
    place: str
    keyed: bool


Spec = IngestSpec | SealSpec | VerifySpec | RestoreSpec | CheckSpec


@dataclass(frozen=True, slots=True)
class Desk:
    """What a job works with. ``key`` only for kinds that open packs; it lives in memory alone."""

    job: JobId
    home: Path
    state: State
    emit: Emit
    stop: Stop
    key: PrivateKey | None

    def need_key(self) -> PrivateKey:
        if self.key is None:
            raise BadInputError("This needs a private key", todo="Give --key.")
        return self.key


def dump_spec(spec: Spec) -> str:
    return json.dumps(asdict(spec))


def load_spec(row: JobRow) -> Spec:
    """The spec of a job row; tuples come back as tuples."""
    kind = KINDS[row.kind][0]
    found = cast("dict[str, object]", json.loads(row.spec))
    if not found:
        raise BadInputError(f"Job {row.id} is over: its shipment was sealed")
    return kind(**{name: _tupled(one) for name, one in found.items()})


def _tupled(found: object) -> object:
    return tuple(_tupled(one) for one in found) if isinstance(found, list) else found


def run(row: JobRow, desk: Desk) -> None:
    """Carry out a job to its end; raises what it ends with."""
    KINDS[row.kind][1](load_spec(row), desk)


# --- ingest --------------------


def source_for(name: str, own: tuple[Path, ...]) -> Source:
    """The source plug-in that reads ``name``: a block device or a file."""
    kind = "attached" if Path(name).is_block_device() else "image"
    plugin = cast("Callable[[tuple[Path, ...]], Source]", config.plugin("sources", kind))
    return plugin(own)


def ingest(spec: IngestSpec, desk: Desk) -> None:
    store = Store(Path(spec.store))
    store.refuse_sealed()
    source = source_for(spec.source, (store.path, desk.home))
    throttle = Throttle([parse_limit(one) for one in spec.limits])
    pace = Pace(spec.pack_size, spec.checkpoint_bytes, spec.checkpoint_seconds)
    desk.emit(Step("open", spec.source))
    with (
        store.lock(alone=False),
        source.open(spec.source) as disk,
        StoreWriter(store, desk.emit, pace) as sink,
    ):
        point = PointSpec(DiskId(spec.disk), 0, spec.machine, disk.facts)
        witness = SampleWitness(disk, _guard_key(desk, store, point), store.head.block_size)
        desk.emit(Step("ingest", f"{disk.facts.size} bytes"))
        run = Ingest(
            source=disk,
            sink=sink,
            point=point,
            witness=witness,
            emit=desk.emit,
            stop=desk.stop,
            throttle=throttle,
            how=How(level=spec.level),
        )
        try:
            run.run()
        except SourceChangedError:
            _note_source(desk, store, point, os.urandom(32))  # what was read is trusted no more
            raise
        figures: dict[str, Json] = {"disk": spec.disk, "size": disk.facts.size}
        figures |= cast("dict[str, Json]", asdict(sink.counts)) | {"written": sink.bytes_written}
        desk.emit(Result("ingest", figures))


def _named(facts: DiskFacts) -> str:
    return f"{facts.model!r} serial {facts.serial!r} of {facts.size} bytes"


def _guard_key(desk: Desk, store: Store, point: PointSpec) -> bytes:
    """The job's salt; on resume, only if the disk is the one the job began with."""
    known = [one for one in desk.state.sources(store.head.shipment) if one.disk == point.disk]
    if not known:
        return _note_source(desk, store, point, os.urandom(32))
    before = read_disk_head(known[0].facts.encode(), store.head.block_size).facts
    if not before.same_disk(point.facts):
        raise SourceChangedError(
            f"The job began with {_named(before)}; attached is {_named(point.facts)}"
        )
    if point.disk not in {one.head.disk for one in store.infos()}:
        # The first pack is still to come, and will tell these facts.
        _note_source(desk, store, point, known[0].guard_key)
    return known[0].guard_key


def _note_source(desk: Desk, store: Store, point: PointSpec, salt: bytes) -> bytes:
    """Keep the facts that the seal will tell, and the salt by which a resumed job knows its
    source.
    """
    facts = canon.dump(write_disk_head(point)).decode()
    row = SourceRow(point.disk, point.point, facts, salt)
    desk.state.note_source(store.head.shipment, row)
    return salt


# --- seal --------------------


def seal(spec: SealSpec, desk: Desk) -> None:
    store = Store(Path(spec.store))
    if store.sealed:  # an earlier run may have died between its signature and its forgetting
        root = statement.read(store.path).root().hex()
        desk.state.note_sealed(store.head.shipment, root)
    store.refuse_sealed()
    device = Device.of(desk.home)
    if device.public != store.head.device:
        raise SignerMismatchError(
            f"The shipment {store.head.label!r} was begun by another device than this one",
            safe="Nothing was signed.",
            todo="Seal it where it was begun, or bring back that device's identity.",
        )
    accepted = _open_jobs(spec, desk, store)
    row = desk.state.shipment(store.head.shipment)
    consent = sealing.Consent(
        incomplete=frozenset(accepted),
        canary_by=row.canary_by if row else "",
        canary_at=row.canary_at if row else "",
        waiver=spec.waiver,
    )
    facts = {}
    for one in desk.state.sources(store.head.shipment):
        facts[(one.disk, one.point)] = read_disk_head(one.facts.encode(), store.head.block_size)
    made = sealing.seal(store, device, facts, consent, desk.emit, desk.stop)
    desk.state.note_sealed(store.head.shipment, made.root().hex())


def _open_jobs(spec: SealSpec, desk: Desk, store: Store) -> set[DiskId]:
    """The disks the operator accepts as incomplete; refuses while a job runs or has an error
    nobody has dealt with.
    """
    accepted = {unfinished_disk(store, one) for one in spec.accept if names_disk(one)}
    for row in desk.state.jobs(store.head.shipment):
        if row.kind != "ingest" or row.state is JobState.FINISHED or row.resolved:
            continue
        if row.state not in ENDED:
            raise JobRunningError(f"Job {row.id} ({row.title}) is {row.state}")
        if str(row.id) not in spec.accept and row.disk not in accepted:
            said = row.what or "it did not come to its end"
            raise OpenErrorError(
                f"Job {row.id} ({row.title}) {row.state}: {said}",
                todo=f"Resume it, or drop it with `motiongear jobs discard {row.id}`, "
                f"or let it travel incomplete with --accept {row.id}.",
            )
        accepted.add(row.disk)
    return accepted


def names_disk(asked: str) -> bool:
    """Whether a disk is named, by its id or its beginning, and not a job by its number."""
    if not _DISK.fullmatch(asked) and not _JOB.fullmatch(asked):
        raise BadInputError(
            f"{asked!r} is neither a job's number nor the beginning of a disk's id",
            todo="Give at least 8 digits of the id that `motiongear shipment show` lists.",
        )
    return _DISK.fullmatch(asked) is not None


def unfinished_disk(store: Store, asked: str) -> DiskId:
    """The unfinished disk whose id is or begins with ``asked``, also one no job is known of."""
    torn = {disk_of(one) for one in store.open_packs()}
    found = torn | {one.disk for one in by_point(store.infos()) if not one.complete}
    hits = [one for one in found if one is not None and one.startswith(asked)]
    if len(hits) != 1:
        raise UnknownNameError(
            f"{len(hits)} unfinished disks of this shipment go by {asked!r}; exactly one must",
            todo="Give the id of an incomplete disk that `motiongear shipment show` lists.",
        )
    return hits[0]


# --- verify --------------------


def verify_store(spec: VerifySpec, desk: Desk) -> None:
    pins = verify.Pins(spec.device, spec.root, spec.recipients)
    accepted = Accepted(desk.home)
    sealed = verify.inspect(Path(spec.store), pins, accepted)
    root = sealed.seal.root().hex()
    key = desk.need_key() if spec.keyed else None
    run = f"{root} in job {desk.job}"  # another verification reads every pack itself
    known = desk.state.verified(run)
    findings = verify.verify(
        sealed, desk.emit, desk.stop, known, lambda pack: desk.state.note_verified(run, pack)
    )
    disks: list[Json] = []
    if key is not None:

        def proved(found: PointMap) -> None:
            _save_manifest(desk.home, root, found)
            disks.append(disk_figures(found))

        try:  # told beside what the packs' bytes have shown already
            findings.problems += open_all(sealed, key, desk.emit, desk.stop, proved).problems
        except WrongKeyError as exc:
            findings.add(exc)
    findings.refuse()
    desk.state.forget_verified(run)
    if sealed.trust is verify.Trust.AUTHENTIC:
        accepted.accept(sealed.seal)
    desk.emit(Result("verify", {**seal_figures(sealed), "disks": disks, "keyed": spec.keyed}))


def seal_figures(sealed: verify.Sealed) -> dict[str, Json]:
    """What the seal says, for people and programs."""
    seal = sealed.seal
    return {
        "trust": sealed.trust,
        "root": seal.root().hex(),
        "device": seal.device_fingerprint,
        "sequence": seal.sequence,
        "shipment": seal.shipment,
        "label": sealed.store.head.label,
        "sealed": seal.created,
        "packs": len(seal.packs),
        "bytes": sum(one.size for one in seal.packs),
        "recipients": list(seal.recipients),
        "waiver": seal.waiver,
        "accepted": list(seal.accepted),
    }


def disk_figures(found: PointMap) -> Json:
    """Disk, point, blocks and unreadable ranges, as ``verify`` and ``manifest`` show them."""
    states = {state.name.lower(): count for state, count in found.manifest.states().items()}
    return {
        "disk": found.spec.disk,
        "point": found.spec.point,
        "machine": found.spec.machine,
        "serial": found.spec.facts.serial,
        "model": found.spec.facts.model,
        "size": found.spec.facts.size,
        "complete": found.complete,
        "blocks": cast("dict[str, Json]", states),
        "root": found.manifest.root().hex(),
        "unreadable": [list(one) for one in found.unreadable()],
        "splices": [list(one) for one in found.packs.splices],
    }


def _manifest_path(home: Path, root: str, disk: DiskId, point: int) -> Path:
    return home / "manifests" / root / f"{disk}-{point}.manifest"


def _save_manifest(home: Path, root: str, found: PointMap) -> None:
    """Keep a manifest that was proved by reading every pack it was made of."""
    path = _manifest_path(home, root, found.spec.disk, found.spec.point)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found.manifest.save(path)


# --- restore and check --------------------


def target_for(kind: str, place: str) -> Target:
    plugin = cast("Callable[[str], Target]", config.plugin("targets", kind))
    return plugin(place)


def restore(spec: RestoreSpec, desk: Desk) -> None:
    pins = verify.Pins(spec.device, spec.root, spec.recipients)
    target = target_for(spec.target, spec.place)
    desk.emit(Step("plan"))
    accepted = Accepted(desk.home)
    sealed = verify.inspect(Path(spec.store), pins, accepted)
    plan = make(sealed, desk.need_key(), target, dict(spec.volumes))
    desk.emit(Result("plan", plan_figures(plan)))
    for one in plan.disks:
        info = target.ensure_volume(one.volume)
        whole = info.state in {VolumeState.RESTORED, VolumeState.CHECKED}
        if info.state is VolumeState.BAD or (whole and not _proved(desk.home, one)):
            desk.state.forget_replayed(info.id)
            target.tag(one.volume, VolumeState.PARTIAL)
    _replay(spec, desk, plan, target)
    for one in plan.disks:
        _save_manifest(desk.home, sealed.seal.root().hex(), one.map)
    _all_checked(partial(_check, desk, target, one.map.manifest, one.volume) for one in plan.disks)
    if sealed.trust is verify.Trust.AUTHENTIC:
        accepted.accept(sealed.seal)


def _proved(home: Path, found: PlannedDisk) -> bool:
    """Whether the manifest was proved here before: an index alone proves nothing."""
    path = _manifest_path(home, found.volume.origin, found.volume.disk, found.volume.point)
    with suppress(StoreRefusedError):
        return Manifest.load(path).root() == found.map.manifest.root()
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
            info = target.ensure_volume(one.volume)
            volumes[one.volume.disk] = attached.enter_context(target.attach(one.volume))
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


def _check(desk: Desk, target: Target, manifest: Manifest, spec: VolumeSpec) -> None:
    with target.attach(spec) as volume:
        checked = Check(volume, manifest, desk.emit, desk.stop).run()
    info = target.tag(spec, VolumeState.BAD if checked.wrong else VolumeState.CHECKED)
    ranges = [list(one) for one in byte_ranges(checked, manifest)]
    figures: Mapping[str, Json] = {
        "volume": spec.name,
        "location": info.location,
        "disk": manifest.disk,
        "size": manifest.size,
        "blocks": checked.blocks,
        "wrong": cast("list[Json]", ranges),
        "root": manifest.root().hex(),
    }
    desk.emit(Result("check", figures))
    refuse_wrong(checked, manifest, spec.name)


def _all_checked(checks: Iterable[Callable[[], None]]) -> None:
    """Check every volume, also behind one that is refused, and refuse only then."""
    wrong: list[MotionGearError] = []
    for one in checks:
        try:
            one()
        except StoppedError:
            raise
        except MotionGearError as exc:
            wrong.append(exc)
    verify.Findings(wrong).refuse()


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
    _all_checked(partial(_check_known, desk, target, one) for one in found)


def _check_known(desk: Desk, target: Target, info: VolumeInfo) -> None:
    manifest = _known_manifest(desk.home, info)
    if info.state is VolumeState.PARTIAL:
        raise CheckFailedError(f"Volume {info.spec.name} was not restored to its end")
    _check(desk, target, manifest, info.spec)


def _known_manifest(home: Path, info: VolumeInfo) -> Manifest:
    path = _manifest_path(home, info.spec.origin, info.spec.disk, info.spec.point)
    if not path.exists():
        raise BadInputError(
            f"The manifest of disk {info.spec.disk} is not known here",
            todo="Give --key: it is then derived from the store.",
        )
    return Manifest.load(path)


KINDS: Mapping[str, tuple[Callable[..., Spec], Callable[..., None]]] = {
    "ingest": (IngestSpec, ingest),
    "seal": (SealSpec, seal),
    "verify": (VerifySpec, verify_store),
    "restore": (RestoreSpec, restore),
    "check": (CheckSpec, check),
}
