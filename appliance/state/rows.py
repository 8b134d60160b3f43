"""What the tables' rows are outside the database."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from appliance.events import Json
from appliance.model import DiskId, JobId, ShipmentId


class JobState(StrEnum):
    """Where a job stands. ``died`` is derived: it should run, and no process holds its lock."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DIED = "died"


LIVING = frozenset({JobState.QUEUED, JobState.RUNNING})
ENDED = frozenset({JobState.FINISHED, JobState.STOPPED, JobState.FAILED, JobState.DIED})


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the database knows it. ``spec`` is the JSON text its kind understands."""

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
