"""What all connections of a gate share: who is known, what is kept, which disk is open where."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from appliance.catchup import points, wire
from appliance.catchup.course import Leg
from appliance.catchup.enrol import Registry
from appliance.catchup.identity import LinkIdentity
from appliance.catchup.replicas import Replicas
from appliance.catchup.wire import Form
from appliance.errors import MotionGearError, PointRefusedError, StoppedError
from appliance.events import Emit, Step
from appliance.model import Clones, DiskId, Snapshots, Stop, Target

TAKEN_OVER = "Another connection has taken over the disk"
_LOOK_SECONDS = 0.25


def identity_of(home: Path) -> LinkIdentity:
    """The key that this gate is known by."""
    return LinkIdentity(home / "gate" / "identity.pem")


@dataclass(slots=True)
class _Open:
    """A disk that connections want: one has it, and only the latest of them is to have it on.
    ``latest`` is the event that tells that one to let go.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    latest: threading.Event = field(default_factory=threading.Event)
    wanted: int = 0


class Desk:
    """What all connections of a gate share. Of a machine's recovery points the newest ``keep``
    stay, and all that are younger than ``keep_seconds``.
    """

    def __init__(
        self, home: Path, target: Target, emit: Emit, keep: int, keep_seconds: float
    ) -> None:
        self.home, self.target, self.emit = home, target, emit
        self._keep, self._keep_seconds = keep, keep_seconds
        self.identity = identity_of(home)
        self.registry = Registry(home)
        self.replicas = Replicas(home, target)
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._retiring = threading.Lock()
        self._open: dict[DiskId, _Open] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._riders: Counter[str] = Counter()

    @contextmanager
    def turn_of(self, machine: str, stop: Stop) -> Iterator[None]:
        """Hold what begins and ends the machine's points: a snapshot may take long."""
        with self._lock:
            turn = self._turns.setdefault(machine, threading.Lock())
        while not turn.acquire(timeout=_LOOK_SECONDS):
            if stop():
                raise StoppedError("The gate was stopped")
        try:
            yield
        finally:
            turn.release()

    @contextmanager
    def riding(self, leg: Leg) -> Iterator[None]:
        """A connection is at work on the leg."""
        with self._lock:
            self._riders[leg.round] += 1
        try:
            yield
        finally:
            with self._lock:
                self._riders[leg.round] -= 1

    def refuse_fuzzy_beside(self, leg: Leg | None, asked: wire.Point) -> None:
        """A round that can wait does not take the disks from one whose source stands still."""
        with self._lock:
            alive = leg is not None and not leg.ended and self._riders[leg.round] > 0
        if leg is None or not alive or asked.round.hex() == leg.round:
            return
        if asked.form is Form.FUZZY and leg.form is not Form.FUZZY:
            raise PointRefusedError(
                f"A last round of {leg.machine} is under way",
                todo="Wait for it, then begin a new round.",
            )

    @contextmanager
    def alone_with(self, disk: DiskId, stop: Stop) -> Iterator[threading.Event]:
        """Hold a disk; whoever held it, or waited for it, is told to let go, and is waited for.
        The event is set when this holder is the one to let go.
        """
        mine = threading.Event()
        with self._lock:
            one = self._open.setdefault(disk, _Open())
            one.latest.set()
            one.latest, one.wanted = mine, one.wanted + 1
        try:
            while not one.lock.acquire(timeout=_LOOK_SECONDS):
                if mine.is_set():
                    raise PointRefusedError(TAKEN_OVER)
                if stop():
                    raise StoppedError("The gate was stopped")
            try:
                yield mine
            finally:
                one.lock.release()
        finally:
            with self._lock:
                one.wanted -= 1
                if not one.wanted:
                    del self._open[disk]

    def retire(self, machine: str) -> None:
        """Discard the points of a machine that need not be kept; one that is in use stays."""
        if not isinstance(self.target, Snapshots) or not isinstance(self.target, Clones):
            return
        with self._retiring:
            try:
                keeps = cast("points.Keeps", self.target)
                gone = points.retain(keeps, machine, self._keep, self._keep_seconds)
            except MotionGearError as exc:  # the new point is kept; the old ones can wait
                self.emit(Step("retain", exc.what))
                return
        for one in gone:
            told = "point {point} of {machine} was discarded"
            self.emit(Step.said("retain", told, point=one.point, machine=machine))

    @contextmanager
    def making(self) -> Iterator[None]:
        """Hold what makes replicas: two connections of a machine must not make one twice."""
        with self._making:
            yield
