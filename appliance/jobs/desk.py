"""The desk a job works at: its number, its home, whom it tells, and when to stop."""

from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import BadInputError
from appliance.events import Emit
from appliance.jobs.asked import Asked
from appliance.model import JobId, Stop
from appliance.rate import Interval
from appliance.seal.keys import PrivateKey
from appliance.state import State


@dataclass(frozen=True, slots=True)
class Desk:
    """What a job works with. ``key`` only for kinds that open packs; it lives in memory alone.
    ``asked`` is what ``stop`` looks at, where it can be asked to pause too; ``interval``
    is how often it notes how far it has come.
    """

    job: JobId
    home: Path
    state: State
    emit: Emit
    stop: Stop
    key: PrivateKey | None
    asked: Asked = field(default_factory=Asked)
    interval: Interval = field(default_factory=Interval)

    def need_key(self) -> PrivateKey:
        if self.key is None:
            raise BadInputError("This needs a private key", todo="Give --key.")
        return self.key
