"""Ingest: one disk's point from its source into the store, begun or gone on with."""

import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import cast

from appliance.errors import SourceChangedError, StateError
from appliance.events import Json, Result, Step
from appliance.ingest.inspection import machine_facts, tells
from appliance.ingest.loop import How, Ingest
from appliance.ingest.witness import SampleWitness
from appliance.jobs.desk import Desk
from appliance.jobs.plugins import source_for
from appliance.jobs.spec import IngestSpec
from appliance.model import DiskFacts, DiskId, PointSpec
from appliance.rate import Throttle, parse_limit
from appliance.seal import canon, machine
from appliance.seal.papers import read_disk_head, write_disk_head
from appliance.seal.store import Store
from appliance.seal.writer import Pace, StoreWriter
from appliance.state import SourceRow


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
        StoreWriter(store, desk.emit, pace, stop=desk.stop) as sink,
    ):
        point = PointSpec(DiskId(spec.disk), 0, spec.machine, disk.facts)
        _inspect(spec, desk, store, disk.facts)
        witness = SampleWitness(disk, _guard_key(desk, store, point), store.head.block_size)
        desk.emit(Step.said("ingest", "{count} bytes", count=disk.facts.size))
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
            with desk.asked.settled_by(sink.checkpoint):
                run.run()
        except SourceChangedError:
            _note_source(desk, store, point, os.urandom(32))  # what was read is trusted no more
            raise
        figures: dict[str, Json] = {"disk": spec.disk, "size": disk.facts.size}
        figures |= cast("dict[str, Json]", asdict(sink.counts)) | {"written": sink.bytes_written}
        desk.emit(Result("ingest", figures))


def _inspect(spec: IngestSpec, desk: Desk, store: Store, facts: DiskFacts) -> None:
    """Keep what the disk tells of its machine, once, if anything. Nothing depends on it."""
    if not tells(facts):
        return
    with suppress(StateError):
        if spec.disk not in desk.state.machines(store.head.shipment):
            desk.emit(Step("inspect"))
            told = canon.dump(machine.write(machine_facts(spec.source, facts))).decode()
            desk.state.note_machine(store.head.shipment, DiskId(spec.disk), told)


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
