"""The state database: the bus between jobs and consoles, and a cache of what the stores say.

Losing it loses history, not data. Several processes use it at once (WAL). It has space of its own:
a ballast file is given up when the disk is full, so that a full device can still be told and
sealed. Holds no secret: the guard keys of unfinished points are salts, and go with the disks'
facts when the shipment is sealed.
"""

from appliance.state.database import BALLAST, BALLAST_SIZE, FILE
from appliance.state.rows import (
    ENDED,
    LIVING,
    EventRow,
    JobRow,
    JobState,
    Reached,
    ShipmentRow,
    SourceRow,
)
from appliance.state.state import State

__all__ = [
    "BALLAST",
    "BALLAST_SIZE",
    "ENDED",
    "FILE",
    "LIVING",
    "EventRow",
    "JobRow",
    "JobState",
    "Reached",
    "ShipmentRow",
    "SourceRow",
    "State",
]
