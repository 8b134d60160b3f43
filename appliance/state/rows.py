"""What the tables' rows are outside the database."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from appliance.events import Json
from appliance.model import DiskId, JobId, ShipmentId


class JobState(StrEnum):
    """Where a job stands. ``died``: it should live, and no process holds its lock; whoever looks
    notes it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DIED = "died"


LIVING = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.PAUSED})
ENDED = frozenset({JobState.FINISHED, JobState.STOPPED, JobState.FAILED, JobState.DIED})


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the database knows it. ``spec`` is the JSON text its kind understands. Of its last
    start: ``run`` counts the starts, ``boot`` and ``up`` are the machine's start and the seconds
    since then, ``pid`` is its process, 0 until that has come up. ``verb``: what its error said to
    type, empty where it did not know.
    """

    id: JobId
    kind: str
    shipment: ShipmentId
    disk: DiskId
    title: str
    spec: str
    state: JobState
    created: str
    ended: str
    error: str
    code: int
    what: str
    safe: str
    todo: str
    resolved: bool
    run: int = 0
    boot: str = ""
    up: float = 0.0
    pid: int = 0
    verb: str = ""

    @property
    def forgotten(self) -> bool:
        """Whether what it was told to do is forgotten, since its shipment was sealed."""
        return self.spec == "{}"


@dataclass(frozen=True, slots=True)
class ShipmentRow:
    id: ShipmentId
    path: Path
    label: str
    root: str
    canary_by: str
    canary_at: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """The device's note on a disk, kept until its shipment is sealed. ``facts`` is JSON text."""

    disk: DiskId
    point: int
    facts: str
    guard_key: bytes


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    job: JobId
    at: str
    kind: str
    body: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a file was read, and what was found on the way; true of no other file than the one
    that ``file`` names (block.file_identity).
    """

    file: str
    at: int
    told: str = ""
