"""What an operator orders at a console, of whatever kind: checked, written down as a job, started.

What is refused is refused before anything is written down.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

from appliance import jobs, process
from appliance.catchup import points
from appliance.catchup.enrol import Code, Invitation, Registry
from appliance.catchup.gate import identity_of
from appliance.catchup.link import DEFAULT_PORT, Address
from appliance.catchup.points import Keeps, RecoveryPoint
from appliance.errors import (
    BadInputError,
    NotADiskError,
    RootMismatchError,
    SignerMismatchError,
    StoreRefusedError,
)
from appliance.jobs import custody
from appliance.jobs.spec import CHECKPOINT_BYTES, CHECKPOINT_SECONDS
from appliance.model import (
    BLOCK_SIZE,
    CloneInfo,
    Clones,
    DiskFacts,
    DiskId,
    JobId,
    Snapshots,
)
from appliance.rate import parse_limit
from appliance.restore import plan as plans
from appliance.seal import statement, text
from appliance.seal.accepted import Accepted
from appliance.seal.custody import Deed, What
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey, Recipient
from appliance.seal.label import Label
from appliance.seal.layout import MAX_BLOCKS
from appliance.seal.store import Store
from appliance.seal.verify import Pins
from appliance.state import State

LONGEST_MACHINE = 128  # characters
PACK_SIZE = 1 << 30
LISTEN = f"0.0.0.0:{DEFAULT_PORT}"
MOST_HOURS = 24.0 * 365
KEEP, KEEP_HOURS = 8, 24.0  # recovery points of each machine, and how long every one stays


@dataclass(frozen=True, slots=True)
class Ingest:
    """Copy ``source`` into ``store`` as a disk of ``machine``. Limits are as the operator writes
    them (rate.parse_limit), ``level`` is zstd's, 0 for none; sizes are bytes.
    """

    source: str
    store: Path
    machine: str
    limits: tuple[str, ...] = ()
    level: int = 1
    pack_size: int = PACK_SIZE
    checkpoint_bytes: int = CHECKPOINT_BYTES
    checkpoint_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True, slots=True)
class Restore:
    """Write disks of ``store`` onto volumes of ``target`` at ``place``. ``volumes`` maps disks, by
    id, its beginning or serial, to volume names; empty: all disks.
    """

    store: Path
    target: str
    place: str
    volumes: tuple[tuple[str, str], ...] = ()
    pins: Pins = field(default_factory=Pins)
    limits: tuple[str, ...] = ()
    accept_damage: bool = False
    checkpoint_bytes: int = CHECKPOINT_BYTES
    checkpoint_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True, slots=True)
class Begun:
    """A job that was started, and what it was told."""

    job: JobId
    spec: jobs.Spec


def begin_shipment(
    state: State,
    place: Path,
    label: str,
    recipients: tuple[Recipient, ...],
    block_size: int = BLOCK_SIZE,
) -> Store:
    """An empty store in the empty directory ``place``; its recipients can never be changed."""
    made = Store.create(place.absolute(), label, Device.of(state.home), recipients, block_size)
    state.note_shipment(made.head.shipment, made.path, label)
    about = custody.hands(state.home, made.head.shipment)
    custody.add(about, made.path, Deed.CREATED, "", What(note=label))
    return made


def refuse_machine(name: str) -> None:
    if not 0 < len(name.strip()) <= LONGEST_MACHINE:
        raise BadInputError(f"A machine's name has 1 to {LONGEST_MACHINE} characters")


def ingest(state: State, order: Ingest) -> tuple[Begun, DiskFacts]:
    """The job, and the disk as it was found."""
    for one in order.limits:
        parse_limit(one)
    refuse_machine(order.machine)
    store = Store(order.store.absolute())
    store.refuse_sealed()
    disk = DiskId(os.urandom(16).hex())
    state.note_shipment(store.head.shipment, store.path, store.head.label)
    own = (store.path, state.home)
    with jobs.source_for(order.source, own).open(order.source) as attached:
        facts = attached.facts
    if -(-facts.size // store.head.block_size) > MAX_BLOCKS:
        raise NotADiskError(f"{order.source} is larger than a store of this block size can hold")
    spec = jobs.IngestSpec(
        store=str(store.path),
        source=str(Path(order.source).absolute()),
        machine=order.machine,
        disk=disk,
        level=order.level,
        limits=order.limits,
        pack_size=order.pack_size,
        checkpoint_bytes=order.checkpoint_bytes,
        checkpoint_seconds=order.checkpoint_seconds,
    )
    title = f"{order.machine}: {facts.serial or facts.source}"
    job = process.begin(state, "ingest", store.head.shipment, title, spec, disk=disk)
    return Begun(job, spec), facts


def seal(state: State, place: Path, accept: tuple[str, ...], waiver: str) -> Begun:
    """``accept`` are numbers of jobs, and ids of disks or their beginnings."""
    store = Store(place.absolute())
    asked = tuple(one.lower() for one in accept)
    for one in asked:
        jobs.names_disk(one)
    spec = jobs.SealSpec(str(store.path), asked, waiver)
    state.note_shipment(store.head.shipment, store.path, store.head.label)
    title = store.head.label
    return Begun(process.begin(state, "seal", store.head.shipment, title, spec), spec)


def verify(
    state: State,
    store: Store,
    pins: Pins,
    key: PrivateKey | None = None,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Begun:
    """Every pack against the seal; with a key every record too."""
    _note_arrived(state, store)
    spec = jobs.VerifySpec(
        store=str(store.path),
        device=pins.device,
        root=pins.root,
        recipients=pins.recipients,
        keyed=key is not None,
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_seconds=checkpoint_seconds,
    )
    job = process.begin(state, "verify", store.head.shipment, store.head.label, spec, key)
    return Begun(job, spec)


def _note_arrived(state: State, store: Store) -> None:
    """So that consoles show it among the shipments known here."""
    with suppress(StoreRefusedError):  # which the job refuses, in its own words
        root = statement.read(store.path).root().hex()
        state.note_arrived(store.head.shipment, store.path, store.head.label, root)


def pins(
    store: Store, label: Label | None, device: str, root: str, recipients: tuple[str, ...] = ()
) -> Pins:
    """What is known by another path than the device: texts that make sense, and that agree with
    the label where there is one.
    """
    found = Pins(device, root, recipients)
    known_device, known_root, _ = found.parsed()
    if label is None:
        return found
    if known_device not in {b"", label.device}:
        raise SignerMismatchError("The label names another device than --device")
    if known_root not in {b"", label.root}:
        raise RootMismatchError("The label names another seal root than --seal")
    if not label.is_of(store.head.shipment):
        raise RootMismatchError(
            f"The label is that of shipment {label.shipment}..., the store that of "
            f"{store.head.shipment[:8]}...",
            todo="Scan the label of this shipment; if it is that, treat the store as exchanged.",
        )
    return Pins(text.grouped(label.device), text.grouped(label.root), recipients)


def plan(state: State, order: Restore, key: PrivateKey) -> plans.Plan:
    """What a restore would do; refuses what that would refuse before its first write."""
    for one in order.limits:
        parse_limit(one)
    book = Accepted(state.home)
    store = order.store.absolute()
    sealed = plans.inspect(store, order.pins, book, accept_damage=order.accept_damage)
    goal = jobs.target_for(order.target, order.place)
    return plans.make(sealed, key, goal, dict(order.volumes), accept_damage=order.accept_damage)


def restore(state: State, order: Restore, key: PrivateKey) -> Begun:
    """Restored, then every block read back and compared."""
    store = Store(order.store.absolute())
    _note_arrived(state, store)
    spec = jobs.RestoreSpec(
        store=str(store.path),
        target=order.target,
        place=str(Path(order.place).absolute()),
        volumes=order.volumes,
        device=order.pins.device,
        root=order.pins.root,
        recipients=order.pins.recipients,
        limits=order.limits,
        accept_damage=order.accept_damage,
        checkpoint_bytes=order.checkpoint_bytes,
        checkpoint_seconds=order.checkpoint_seconds,
    )
    job = process.begin(state, "restore", store.head.shipment, order.place, spec, key)
    return Begun(job, spec)


def invite(
    home: Path, machine: str, hours: float = 24.0, *, new_disks: bool = False
) -> tuple[Code, Invitation]:
    """A code by which a machine is let in, once. It travels like a password."""
    if not 0 < hours <= MOST_HOURS:
        raise BadInputError(f"{hours} hours is no time a code can last")
    lasts = timedelta(hours=hours)
    return Registry(home).invite(identity_of(home).key, machine, lasts, new_disks=new_disks)


def gate(
    state: State,
    target: str,
    place: str,
    listen: str = LISTEN,
    keep: int = KEEP,
    keep_hours: float = KEEP_HOURS,
) -> Begun:
    """Rounds are taken into the replicas at ``place`` until the job is stopped."""
    Address.parse(listen)
    if keep < 1:
        raise BadInputError("At least one recovery point is kept")
    if not 0 < keep_hours <= MOST_HOURS:
        raise BadInputError(f"{keep_hours} hours is no time for which points are kept")
    spec = jobs.GateSpec(target, str(Path(place).absolute()), listen, keep, keep_hours)
    return Begun(process.begin(state, "gate", jobs.NOBODYS, listen, spec), spec)


def keeps(target: str, place: str) -> Keeps:
    """The target, where it keeps recovery points."""
    goal = jobs.target_for(target, str(Path(place).absolute()))
    if not isinstance(goal, Snapshots) or not isinstance(goal, Clones):
        raise BadInputError(f"The target {goal.name} keeps no recovery points")
    return cast("Keeps", goal)


def cut_over(home: Path, goal: Keeps, point: RecoveryPoint, name: str) -> list[CloneInfo]:
    """The machine goes on from this point: on clones of it, which are what is booted. The point
    stays, and the machine that was is let in no more. Run again where it was cut.
    """
    points.choose(goal, point)
    made = points.clones_called(goal, name, point.machine)
    if {one.of for one in made} != {one.spec for one in point.snapshots}:
        made = points.clone(goal, point, name)
    Registry(home).forget(point.machine)
    return made
