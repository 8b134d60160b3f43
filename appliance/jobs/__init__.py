"""What each kind of job does: a row of stage calls in the operator's order, a module a kind.
Nothing here starts processes.

A job is described by a spec, kept in the state database as JSON; running it again goes on where it
stopped, because each stage derives anew what is done: from packs, tags and seals, not from the
database.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import RootMismatchError
from appliance.jobs import custody
from appliance.jobs.desk import Desk
from appliance.jobs.plugins import source_for, target_for
from appliance.jobs.spec import (
    NOBODYS,
    CatchUpSpec,
    CheckSpec,
    EraseSpec,
    GateSpec,
    IngestSpec,
    ReplicaCheckSpec,
    RestoreSpec,
    SealSpec,
    Spec,
    VerifySpec,
    dump_spec,
    parse_spec,
)
from appliance.rate import Interval
from appliance.seal.store import Store
from appliance.state import JobRow

if TYPE_CHECKING:
    from appliance.jobs.checking import check
    from appliance.jobs.restoring import plan_figures, restore
    from appliance.jobs.sealing import names_disk, seal, unfinished_disk
    from appliance.jobs.verifying import disk_figures, verify_store

__all__ = [
    "NOBODYS",
    "CatchUpSpec",
    "CheckSpec",
    "Desk",
    "EraseSpec",
    "GateSpec",
    "IngestSpec",
    "ReplicaCheckSpec",
    "RestoreSpec",
    "SealSpec",
    "Spec",
    "VerifySpec",
    "check",
    "disk_figures",
    "dump_spec",
    "load_spec",
    "names_disk",
    "plan_figures",
    "restore",
    "run",
    "seal",
    "source_for",
    "target_for",
    "unfinished_disk",
    "verify_store",
]

# Each kind's spec and stage. Modules of stages are imported when they are used: a job that reads a
# disk does not wait for all of catch-up.
KINDS: Mapping[str, tuple[Callable[..., Spec], str]] = {
    "ingest": (IngestSpec, "ingest"),
    "seal": (SealSpec, "seal"),
    "verify": (VerifySpec, "verify_store"),
    "restore": (RestoreSpec, "restore"),
    "check": (CheckSpec, "check"),
    "gate": (GateSpec, "gate"),
    "gate-check": (ReplicaCheckSpec, "check_replicas"),
    "catch-up": (CatchUpSpec, "catch_up"),
    "erase": (EraseSpec, "erase"),
}
_MODULES = {
    "catch_up": "catching_up",
    "check": "checking",
    "check_replicas": "checking",
    "disk_figures": "verifying",
    "erase": "erasing",
    "gate": "catching_up",
    "ingest": "ingesting",
    "names_disk": "sealing",
    "plan_figures": "restoring",
    "restore": "restoring",
    "seal": "sealing",
    "unfinished_disk": "sealing",
    "verify_store": "verifying",
}


def __getattr__(name: str) -> object:
    if (module := _MODULES.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def run(row: JobRow, desk: Desk) -> None:
    """Carry out a job to its end; raises what it ends with."""
    spec = load_spec(row)
    if isinstance(spec, IngestSpec | SealSpec | VerifySpec | RestoreSpec | CheckSpec):
        _refuse_another_shipment(row, spec.store)
    if isinstance(spec, VerifySpec | RestoreSpec | CheckSpec | ReplicaCheckSpec):
        desk = replace(desk, interval=Interval(spec.checkpoint_bytes, spec.checkpoint_seconds))
    stage = __getattr__(KINDS[row.kind][1])
    assert callable(stage)
    with ExitStack() as held:
        if isinstance(spec, VerifySpec | RestoreSpec | CheckSpec):  # so that nobody erases it
            held.enter_context(Store(Path(spec.store)).lock(alone=False))
        stage(spec, desk)
        custody.note(spec, desk, row.shipment)


def _refuse_another_shipment(row: JobRow, store: str) -> None:
    """Another device may have come to where the job began."""
    if Store(Path(store)).head.shipment != row.shipment:
        raise RootMismatchError(
            f"{store} holds another shipment than job {row.id} began with",
            safe="Nothing of it was read or written.",
            todo="Attach the device with the shipment that the job began with; then resume it.",
        )


def load_spec(row: JobRow) -> Spec:
    return parse_spec(KINDS[row.kind][0], row)
