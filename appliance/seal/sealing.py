"""Sealing: every pack read back and compared, then one signed statement over all of them.

Refuses what is not ready to ship. Can be run again after any interruption until seal.json stands.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from appliance.block import sync_directory, write_durably
from appliance.errors import (
    BadInputError,
    JobRunningError,
    MotionGearError,
    NotReadyToShipError,
    OpenErrorError,
    PackDamagedError,
    RecordDamagedError,
    SealDamagedError,
    StoreFullError,
)
from appliance.events import Emit, Json, Result, Step, silent
from appliance.model import DiskId, PackId, PointSpec, Stop, block_count
from appliance.seal import canary, canon, files, statement
from appliance.seal.cut import digest
from appliance.seal.files import SealedFile
from appliance.seal.identity import Counter, Device
from appliance.seal.layout import MAX_JSON, ZERO_DISK, Kind, PackHead, PackState, RecordHead
from appliance.seal.pack import PackWriter, tail_size, writing
from appliance.seal.papers import (
    Contents,
    DiskContents,
    Note,
    read_note,
    write_contents,
    write_note,
)
from appliance.seal.pointmap import check_sequence
from appliance.seal.readback import Digests, Tally, digest_pack, each, readers_for
from appliance.seal.scan import PackInfo, examine
from appliance.seal.statement import Seal, SealedCanary, SealedPack
from appliance.seal.store import SEAL, PointPacks, Store, by_point
from appliance.seal.writer import document

NO_GUARD = bytes(32)


@dataclass(frozen=True, slots=True)
class Consent:
    """What the operator has said: incomplete disks that may travel, who opened the canary, or
    why not.
    """

    incomplete: frozenset[DiskId] = frozenset()
    canary_by: str = ""
    canary_at: str = ""
    waiver: str = ""


def seal(
    store: Store,
    device: Device,
    facts: Mapping[tuple[DiskId, int], PointSpec],
    consent: Consent,
    emit: Emit = silent,
    stop: Stop = lambda: False,
    notes: Sequence[Note] = (),
    signing: Callable[[Seal], None] = lambda _: None,
) -> Seal:
    """Seal the shipment; returns what was signed. ``facts`` is what the device knows of the
    disks, where it does; ``notes`` go into the contents pack; ``signing`` hears of the seal
    before it is put in place.
    """
    store.refuse_sealed()
    store.head.refuse_unknown_inside()
    with store.lock(alone=True):
        store.mend()
        if still := list(store.open_packs()):
            raise JobRunningError(f"{still[0].name} is still being written")
        infos = _without_contents(store)
        points = by_point(infos)
        _ready_to_ship(store, points, consent)
        listed = _files(store, stop)
        emit(Step.said("read-back", "{count} packs", count=len(infos)))
        digests = _read_back(store, infos, emit, stop)
        emit(Step("sign"))
        with _all_or_nothing(store):
            contents = _write_contents_pack(store, points, facts, notes)
            digests |= _read_back(store, [contents], silent, stop)
            with device.alone():
                made = _made(store, device, [contents, *infos], digests, listed, points, consent)
                signing(made)
                _sign(store, device, made)
    emit(Result("seal", _told(made)))
    return made


def finish(store: Store, made: Seal, emit: Emit = silent) -> None:
    """End a sealing that died behind its signature: the seal in place is durable, and told."""
    with writing(store.path / SEAL):
        sync_directory(store.path)
    emit(Result("seal", _told(made)))


@contextmanager
def _all_or_nothing(store: Store) -> Iterator[None]:
    """The space kept for the seal is spent; or, when no seal comes of it, is kept again and
    nothing else has changed.
    """
    before = set(store.names())
    store.give_up_reserve()
    try:
        yield
    except MotionGearError as exc:
        with suppress(OSError, MotionGearError):  # else the next sealing does the same
            if not store.sealed:
                for one in set(store.names()) - before:
                    (store.packs / one).unlink()
                store.take_reserve()
        if isinstance(exc, StoreFullError):
            raise StoreFullError(
                exc.what,
                safe="Nothing was signed; every pack is as it was.",
                todo="Make room on the store's disk, then seal again.",
            ) from exc
        raise


def _without_contents(store: Store) -> list[PackInfo]:
    """The packs of disks, in order; a contents pack that an interrupted sealing left behind is
    removed. Refuses a pack that belongs elsewhere: signed in, it would never verify.
    """
    infos = store.infos()
    for one in infos:
        store.refuse_foreign(one)
    for one in infos:
        if one.head.is_contents:
            with writing(one.path):
                one.path.unlink()
    return sorted(
        (one for one in infos if not one.head.is_contents), key=lambda one: one.head.order
    )


def _ready_to_ship(store: Store, points: tuple[PointPacks, ...], consent: Consent) -> None:
    if not points:
        raise NotReadyToShipError("The shipment is empty", todo="Ingest a disk first.")
    for one in points:
        check_sequence(one)
        if not one.complete and one.disk not in consent.incomplete:
            raise OpenErrorError(f"Disk {one.disk} is not ingested to its end")
    if (found := canary.read_bytes(store.path)) is not None:
        canary.parse(found, store.head)  # a seal over what no reader takes would never verify
    if consent.waiver:
        return
    if len(store.head.recipients) < 2:
        raise NotReadyToShipError(
            "Only one recipient could open this shipment: if that key is lost, all is lost"
        )
    if not consent.canary_by or found is None:
        raise NotReadyToShipError(
            "No recipient has shown yet that its key opens this shipment",
            todo="Let the operator run `motiongear canary open` and enter the code with "
            "`motiongear canary confirm`, or give a reason with --waive.",
        )


def _read_back(
    store: Store, infos: list[PackInfo], emit: Emit, stop: Stop
) -> dict[PackId, Digests]:
    """The digests of every pack as it stands on the disk now; refuses one that is not what was
    written.
    """
    by_path = {one.path: one for one in infos}
    tally = Tally("read-back", sum(one.size for one in infos), emit)
    found: dict[PackId, Digests] = {}
    work = lambda path: digest_pack(by_path[path], tally.moved, stop)  # noqa: E731
    for path, digests in each(list(by_path), readers_for(store.packs), work):
        info = by_path[path]
        if isinstance(digests, MotionGearError):
            raise digests
        if digests.size != info.size or digests.body != info.trailer.digest:
            raise PackDamagedError(
                f"{path.name} (disk {info.head.disk}) reads back other than it was written",
                safe="Nothing was signed.",
                todo="The device's disk is failing: discard the job and ingest elsewhere.",
            )
        found[info.head.pack] = digests
    return found


def _write_contents_pack(
    store: Store,
    points: tuple[PointPacks, ...],
    facts: Mapping[tuple[DiskId, int], PointSpec],
    notes: Sequence[Note],
) -> PackInfo:
    disks = []
    for one in points:
        spec = facts.get((one.disk, one.point))
        blocks = block_count(spec.facts.size, store.head.block_size) if spec else 0
        disks.append(DiskContents(one.disk, one.point, one.complete, blocks, one.ids, spec))
    payload = canon.dump(write_contents(Contents(store.head.shipment, tuple(disks))))
    if len(payload) > MAX_JSON:  # the packs tell the facts too
        bare = tuple(replace(one, facts=None) for one in disks)
        payload = canon.dump(write_contents(Contents(store.head.shipment, bare)))
    records = [(document(Kind.CONTENTS, payload), payload), *map(_note, notes)]
    head = PackHead(
        shipment=store.head.shipment,
        head_digest=store.head.digest(),
        pack=PackId(os.urandom(16).hex()),
        disk=ZERO_DISK,
        point=0,
        session=0,
        sequence=0,
        block_size=store.head.block_size,
        start=0,
        recipients=len(store.head.recipients),
    )
    size = sum(record.frame_size for record, _ in records)
    capacity = head.size + size + tail_size(len(records))
    pack = PackWriter(store.packs, head, store.head.recipients, capacity)
    for record, payload in records:
        pack.append(record, payload)
    pack.close(0, NO_GUARD, PackState.CLOSED)
    return examine(store.pack(head.pack))


def _note(note: Note) -> tuple[RecordHead, bytes]:
    payload = canon.dump(write_note(note))
    try:
        read_note(payload)  # what we write, we would read
    except RecordDamagedError as exc:
        raise BadInputError(f"The note cannot be sealed: {exc.what}") from exc
    return document(Kind.NOTE, payload), payload


def _files(store: Store, stop: Stop) -> tuple[SealedFile, ...]:
    try:
        return files.take(store.path, stop)
    except OSError as exc:
        raise BadInputError(f"What lies in files/ cannot be sealed ({exc.strerror})") from exc


def _canary(store: Store, consent: Consent) -> SealedCanary | None:
    data = canary.read_bytes(store.path)
    if data is None:
        return None
    return SealedCanary(digest(data).hex(), consent.canary_by, consent.canary_at)


def _sealed_pack(info: PackInfo, found: Digests) -> SealedPack:
    return SealedPack(
        pack=info.head.pack,
        size=info.size,
        records=info.trailer.records,
        digest=found.whole.hex(),
        index="" if info.torn else found.index.hex(),
    )


def _made(
    store: Store,
    device: Device,
    infos: list[PackInfo],
    digests: Mapping[PackId, Digests],
    listed: tuple[SealedFile, ...],
    points: tuple[PointPacks, ...],
    consent: Consent,
) -> Seal:
    counter = device.counter()
    accepted = tuple(f"Disk {one.disk} travels incomplete" for one in points if not one.complete)
    return Seal(
        shipment=store.head.shipment,
        device=device.public,
        created=canon.now(),
        sequence=counter.sequence + 1,
        previous=counter.previous,
        head=store.head.digest().hex(),
        recipients=tuple(one.fingerprint for one in store.head.recipients),
        contents=infos[0].head.pack,
        packs=tuple(_sealed_pack(one, digests[one.head.pack]) for one in infos),
        canary=_canary(store, consent),
        waiver=consent.waiver,
        accepted=accepted,
        files=listed,
    )


def _sign(store: Store, device: Device, made: Seal) -> None:
    """Count the seal, then put it in place."""
    signed = statement.sign(made, device)
    try:
        statement.parse(signed.encode())  # what we write, we would read
    except SealDamagedError as exc:
        raise BadInputError(f"The shipment cannot be sealed: {exc.what}") from exc
    device.count(Counter(made.sequence, made.root().hex()))
    with writing(store.path / SEAL):
        write_durably(store.path / SEAL, signed.encode())


def _told(made: Seal) -> dict[str, Json]:
    return {
        "root": made.root().hex(),
        "sequence": made.sequence,
        "packs": len(made.packs),
        "bytes": sum(one.size for one in made.packs),
        "accepted": list(made.accepted),
    }
