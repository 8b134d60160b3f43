"""What there is to see: jobs, shipments, disks, room, the guards; taken from the state database
and the kernel, off the screen's own thread.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from appliance.block import clock_is_kept, free_space
from appliance.errors import MotionGearError
from appliance.events import Progress
from appliance.ingest import discovery, guard
from appliance.model import JobId
from appliance.seal import intent
from appliance.state import LIVING, JobRow, ShipmentRow, State

LOOK_SECONDS = 0.25
_DISKS_SECONDS = 2.0  # mounts come and go without a word from the kernel
_SMOOTH_SECONDS = 10.0
_SAMPLES = 120  # of the rate, one a second


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that is attached; texts are foreign. ``refusal``: why it may not be read, empty where
    it may. ``blocked``: whether the kernel refuses writes; None where it does not say.
    """

    node: str
    serial: str
    model: str
    bus: str
    size: int
    refusal: str
    blocked: bool | None

    @property
    def key(self) -> str:
        """What tells it from others, also when it comes back under another name."""
        return f"{self.serial}\0{self.model}\0{self.size}" if self.serial else f"\0{self.node}"


@dataclass(frozen=True, slots=True)
class Pace:
    """Bytes a second: ``now``, and on ``average`` since this console has seen the step; seconds
    until its end. None: not known yet. ``rates`` are those of the last seconds, the newest last.
    """

    now: float | None = None
    average: float | None = None
    left: float | None = None
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    row: JobRow
    progress: Progress | None
    pace: Pace


class Standing(StrEnum):
    """How a shipment stands, as its directory tells."""

    OPEN = "open"
    SEALED = "sealed"
    AWAY = "away"
    ERASED_IN_PART = "erased-in-part"


@dataclass(frozen=True, slots=True)
class Shipment:
    row: ShipmentRow
    standing: Standing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it, as it was at one moment. ``last_event`` is the number of the last that any job
    has told; ``trouble``: why it could not all be seen.
    """

    jobs: tuple[Job, ...] = ()
    last_event: int = 0
    shipments: tuple[Shipment, ...] = ()
    disks: tuple[Disk, ...] = ()
    free: int | None = None
    clock_kept: bool | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    trouble: str = ""

    def job(self, number: JobId) -> Job | None:
        return next((one for one in self.jobs if one.row.id == number), None)

    def shipment(self, shipment: object) -> Shipment | None:
        return next((one for one in self.shipments if one.row.id == shipment), None)

    def open_shipments(self) -> dict[str, Shipment]:
        """Those into which disks can still be ingested, by id."""
        return {one.row.id: one for one in self.shipments if one.standing is Standing.OPEN}

    @property
    def write_blocked(self) -> bool | None:
        """Whether every disk that could be a source refuses writes; None: nobody can tell."""
        told = {one.blocked for one in self.disks if not one.refusal}
        return None if not told or None in told else told == {True}


class Gauge:
    """How fast one job moves. ``take`` is told how far it is; a new step begins anew."""

    def __init__(self, clock: float) -> None:
        self._step = ""
        self._first = self._last = (clock, 0)
        self._smooth: float | None = None
        self._rates: deque[float] = deque(maxlen=_SAMPLES)

    def take(self, told: Progress, clock: float) -> Pace:
        if told.step != self._step or told.done < self._last[1]:
            self._step, self._smooth = told.step, None
            self._first = self._last = (clock, told.done)
            self._rates.clear()
        spent = clock - self._last[0]
        if spent >= 1:
            rate = (told.done - self._last[1]) / spent
            weight = min(spent / _SMOOTH_SECONDS, 1.0)
            before = rate if self._smooth is None else self._smooth
            self._smooth = before + weight * (rate - before)
            self._last = (clock, told.done)
            self._rates.append(rate)
        since = clock - self._first[0]
        average = (told.done - self._first[1]) / since if since >= 1 else None
        left = (told.total - told.done) / self._smooth if self._smooth else None
        now = self._rates[-1] if self._rates else None
        return Pace(now, average, left, tuple(self._rates))


class Watch:
    """Looks, whenever it is asked. One thread at a time."""

    def __init__(
        self,
        state: State,
        own: Sequence[Path],
        place: Path,
        recorded: tuple[Disk, ...] | None = None,
    ) -> None:
        """``own`` are paths whose disks are the device's; ``place`` is where stores are. Disks
        that were ``recorded`` are shown instead of those attached.
        """
        self._recorded = recorded
        self._state, self._own, self._place = state, [Path("/"), *own], place
        self._changed = threading.Event()
        self._changed.set()
        self._disks: tuple[Disk, ...] = ()
        self._disks_at = 0.0
        self._gauges: dict[tuple[JobId, int], Gauge] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear of disks that come and go, meanwhile."""
        with discovery.watched(self._changed.set):
            yield

    def look(self) -> Snapshot:
        try:
            last_event = self._state.last_event()
            jobs = self._jobs()
            shipments = tuple(Shipment(one, _standing(one)) for one in self._state.shipments())
        except MotionGearError as exc:
            return Snapshot(disks=self._attached(), trouble=exc.what)
        return Snapshot(
            jobs=jobs,
            last_event=last_event,
            shipments=shipments,
            disks=self._attached(),
            free=self._free(),
            clock_kept=clock_is_kept(),
        )

    def _free(self) -> int | None:
        place = self._place
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            return free_space(place)
        except OSError:
            return None

    def _jobs(self) -> tuple[Job, ...]:
        clock, found = time.monotonic(), []
        for row in self._state.jobs():
            told = self._state.progress(row.id) if row.state in LIVING else None
            pace = Pace()
            if told is not None:
                gauge = self._gauges.setdefault((row.id, row.run), Gauge(clock))
                pace = gauge.take(told, clock)
            found.append(Job(row, told, pace))
        return tuple(found)

    def _attached(self) -> tuple[Disk, ...]:
        if self._recorded is not None:
            return self._recorded
        now = time.monotonic()
        if self._changed.is_set() or now - self._disks_at >= _DISKS_SECONDS:
            self._changed.clear()
            self._disks_at = now
            self._disks = tuple(map(self._disk, discovery.disks()))
        return self._disks

    def _disk(self, one: discovery.Attached) -> Disk:
        refusal = ""
        try:
            guard.refuse_own_device(one.number, str(one.path), self._own)
            guard.refuse_busy_device(one.number, str(one.path))
        except MotionGearError as exc:
            refusal = exc.what
        except OSError as exc:  # it was pulled just now
            refusal = str(exc.strerror)
        return Disk(
            node=str(one.path),
            serial=one.serial,
            model=one.model,
            bus=one.bus,
            size=one.size,
            refusal=refusal,
            blocked=discovery.is_write_blocked(one.number),
        )


def _standing(row: ShipmentRow) -> Standing:
    if intent.stands(row.path):
        return Standing.ERASED_IN_PART
    if not os.path.lexists(row.path):
        return Standing.AWAY
    return Standing.SEALED if row.root else Standing.OPEN
