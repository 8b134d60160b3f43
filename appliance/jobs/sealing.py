"""Seal: what may travel incomplete is decided, the shipment is signed, its facts are forgotten.

A job notes what it is about to sign. Killed behind its signature and resumed, it finds that seal
in place and ends as it would have; any other seal is a refusal.
"""

import re
from contextlib import suppress
from pathlib import Path

from appliance.errors import (
    BadInputError,
    JobRunningError,
    OpenErrorError,
    RecordDamagedError,
    SignerMismatchError,
    StateError,
    UnknownNameError,
)
from appliance.jobs.desk import Desk
from appliance.jobs.spec import SealSpec
from appliance.model import DiskId
from appliance.seal import machine, sealing, statement
from appliance.seal.identity import Device
from appliance.seal.papers import Note, read_disk_head
from appliance.seal.statement import Seal
from appliance.seal.store import Store, by_point
from appliance.seal.torn import disk_of
from appliance.state import ENDED, JobState, Reached

_MOST_NOTES = 1 << 20  # bytes, of the space that is kept for what a sealing writes
_AROUND = 512  # bytes that a note takes besides
_DISK = re.compile(r"[0-9a-f]{8,32}")
_JOB = re.compile(r"[0-9]{1,7}")  # fewer digits than a disk is named by


def seal(spec: SealSpec, desk: Desk) -> None:
    store = Store(Path(spec.store))
    if store.sealed:  # an earlier run may have died between its signature and its forgetting
        made = statement.read(store.path)
        desk.state.note_sealed(store.head.shipment, made.root().hex())
        if not _is_own(made, desk, store):
            store.refuse_sealed()
        sealing.finish(store, made, desk.emit)
        return
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

    def signing(made: Seal) -> None:
        with suppress(StateError):  # a resumed job is then told that the shipment is sealed
            reached = Reached(made.root().hex(), made.sequence)
            desk.state.note_reached(_task(desk), store.head.shipment, reached)

    notes = _notes(desk, store)
    made = sealing.seal(
        store, device, facts, consent, desk.emit, desk.stop, notes=notes, signing=signing
    )
    desk.state.note_sealed(store.head.shipment, made.root().hex())


def _notes(desk: Desk, store: Store) -> list[Note]:
    """What the disks tell of their machines, as long as there is room for it."""
    found, left = [], _MOST_NOTES
    for disk, told in desk.state.machines(store.head.shipment).items():
        left -= len(told) + _AROUND
        if left < 0:
            break
        with suppress(RecordDamagedError):  # then somebody else wrote it
            found.append(machine.as_note(disk, machine.read(told.encode())))
    return found


def _task(desk: Desk) -> str:
    return f"seal in job {desk.job}"


def _is_own(made: Seal, desk: Desk, store: Store) -> bool:
    """Whether the seal in place is the one that this very job was about to sign for this store."""
    noted = desk.state.reached(_task(desk), store.head.shipment)
    about = (made.root().hex(), made.device, made.shipment, made.head)
    head = store.head
    own = (noted.file if noted else "", head.device, head.shipment, head.digest().hex())
    return about == own


def _open_jobs(spec: SealSpec, desk: Desk, store: Store) -> set[DiskId]:
    """The disks the operator accepts as incomplete; refuses while a job runs or has an error
    nobody has dealt with.
    """
    accepted = {unfinished_disk(store, one) for one in spec.accept if names_disk(one)}
    for row in desk.state.jobs(store.head.shipment):
        if row.kind != "ingest" or row.state is JobState.FINISHED or row.resolved:
            continue
        if row.state not in ENDED:
            raise JobRunningError(
                f"Job {row.id} ({row.title}) is {row.state}",
                safe="Nothing was signed.",
                todo="Let it end, or stop it.",
                verb=f"motiongear jobs follow {row.id}",
            )
        if str(row.id) not in spec.accept and row.disk not in accepted:
            said = row.what or "it did not come to its end"
            raise OpenErrorError(
                f"Job {row.id} ({row.title}) {row.state}: {said}",
                todo="Resume it, or drop it with `motiongear jobs discard JOB`, or let it travel "
                "incomplete with --accept JOB.",
                verb=f"motiongear jobs resume {row.id}",
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
