"""What each kind of job is told to do: a spec, kept in the state database as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast, get_args, get_origin, get_type_hints

from appliance.errors import BadInputError, StateError
from appliance.model import ShipmentId
from appliance.state import JobRow

NOBODYS = ShipmentId("")  # the shipment of a job that belongs to none
# What a job that dies repeats at most, of what it reads at once.
CHECKPOINT_BYTES, CHECKPOINT_SECONDS = 256 << 20, 10.0


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
    checkpoint_bytes: int = CHECKPOINT_BYTES
    checkpoint_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True, slots=True)
class RestoreSpec:
    """Restore disks onto volumes and check them. ``volumes`` maps disks to volume names; empty:
    all disks. With ``accept_damage``, all but what damaged packs tell.
    """

    store: str
    target: str
    place: str
    volumes: tuple[tuple[str, str], ...]
    device: str
    root: str
    recipients: tuple[str, ...]
    limits: tuple[str, ...]
    accept_damage: bool = False
    checkpoint_bytes: int = CHECKPOINT_BYTES
    checkpoint_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """Check restored volumes once more; ``keyed`` where the manifests are not known here yet."""

    store: str
    target: str
    place: str
    keyed: bool
    checkpoint_bytes: int = CHECKPOINT_BYTES
    checkpoint_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True, slots=True)
class ReplicaCheckSpec:
    """Check the replicas of a machine."""

    target: str
    place: str
    machine: str
    checkpoint_bytes: int = CHECKPOINT_BYTES
    checkpoint_seconds: float = CHECKPOINT_SECONDS


@dataclass(frozen=True, slots=True)
class GateSpec:
    """Take rounds into the replicas at ``place`` until stopped. Of the recovery points that are
    older than ``keep_hours`` the newest ``keep`` stay.
    """

    target: str
    place: str
    listen: str
    keep: int
    keep_hours: float = 24.0


@dataclass(frozen=True, slots=True)
class CatchUpSpec:
    """Send rounds. ``disks`` are pairs of a source and the disk it is; an empty disk: whichever
    the gate knows by that serial number. ``rounds`` are at most so many; ``short_seconds`` is what
    counts as a short one. ``final``: one round, frozen, or ``stopped``, as the operator says.
    """

    gate: str
    disks: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]
    rounds: int
    short_seconds: float
    final: bool
    stopped: bool
    freeze_seconds: float
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class EraseSpec:
    """Erase stores: of each its path and what was confirmed of it - the shipment, the seal root
    (empty: none), how many packs, the bytes of all files -, and the erase's number. ``told`` is
    what the operator has said twice, ``by`` who they are.
    """

    places: tuple[tuple[str, str, str, int, int, str], ...]
    by: str
    told: tuple[str, ...]


Spec = (
    IngestSpec
    | SealSpec
    | VerifySpec
    | RestoreSpec
    | CheckSpec
    | ReplicaCheckSpec
    | GateSpec
    | CatchUpSpec
    | EraseSpec
)


def dump_spec(spec: Spec) -> str:
    return json.dumps(asdict(spec))


def parse_spec(kind: Callable[..., Spec], row: JobRow) -> Spec:
    """The spec of a job row; tuples come back as tuples."""
    if row.forgotten:
        raise BadInputError(f"Job {row.id} is over: its shipment was sealed")
    try:
        hints = get_type_hints(kind)
        found = cast("dict[str, object]", json.loads(row.spec))
        return kind(**{name: _as(hints[name], one) for name, one in found.items()})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise StateError(
            f"Job {row.id} is told something that no {row.kind} job can do ({exc!r})",
            todo="Start the job anew.",
        ) from exc


def _as(hint: object, found: object) -> object:
    """What stands in a spec as the type that its field has; TypeError where it is of another."""
    if get_origin(hint) is tuple and isinstance(found, list):
        kinds = get_args(hint)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(found)
        return tuple(_as(one, each) for one, each in zip(kinds, found, strict=True))
    if hint is float and type(found) is int:
        return float(found)
    if type(found) is not hint:
        raise TypeError(f"{found!r:.80} is no {hint}")
    return found
