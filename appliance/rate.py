"""Speed limits with time windows, as the operator writes them, and the throttle that keeps to
them.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.errors import BadInputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_LIMIT = re.compile(
    r"(?P<number>\d+(\.\d+)?) ?(?P<unit>[KMG]?)B?(/s)?"
    r"(@(?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d))?",
    re.IGNORECASE,
)
_DAY = 24 * 60
_NAP = 0.1  # seconds at most between two looks at the stop flag


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``rate`` bytes a second from minute ``start`` of the day up to minute ``end``; 0:
    nothing at all.
    """

    rate: float
    start: int = 0
    end: int = _DAY

    def holds(self, minute: int) -> bool:
        if self.start <= self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def parse_limit(text: str) -> Limit:
    """``80MB/s``, ``20MB/s@08:00-18:00`` or ``0@22:00-06:00``; decimal units, local time."""
    found = _LIMIT.fullmatch(text.strip())
    if not found:
        raise BadInputError(
            f"{text!r} is no speed limit", todo="Write it like 80MB/s or 20MB/s@08:00-18:00."
        )
    rate = float(found["number"]) * _UNITS[found["unit"].upper()]
    start, end = _minute(found["from"] or "00:00"), _minute(found["to"] or "24:00")
    if start == end:
        raise BadInputError(f"{text!r} ends when it begins")
    if not rate and (start, end) == (0, _DAY):
        raise BadInputError("A limit of 0 all day long would never end")
    return Limit(rate, start, end)


def _minute(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if hours > 24 or minutes > 59 or hours * 60 + minutes > _DAY:
        raise BadInputError(f"{text!r} is no time of day")
    return hours * 60 + minutes


@dataclass(frozen=True, slots=True)
class Interval:
    """How much may be lost when a job dies: so many bytes, or what it does in so many seconds."""

    most_bytes: int = 256 << 20
    seconds: float = 10.0

    def begin(self) -> "Due":
        return Due(self)


class Due:
    """When to make safe what was done. One thread at a time."""

    def __init__(self, interval: Interval, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._clock = interval, clock
        self._bytes, self._at = 0, clock()

    def after(self, count: int) -> bool:
        """Whether it is time, now that ``count`` more bytes were done; if so, it begins anew."""
        self._bytes += count
        now = self._clock()
        late = now - self._at >= self._interval.seconds
        if late or self._bytes >= self._interval.most_bytes:
            self._bytes, self._at = 0, now
            return True
        return False


class Throttle:
    """Keeps streams of bytes, of several threads together, within limits; the first limit whose
    window holds now counts.
    """

    def __init__(
        self,
        limits: Sequence[Limit] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        local: Callable[[], datetime] = datetime.now,
    ) -> None:
        # Windows first: a limit without one is what holds else.
        self._limits = sorted(limits, key=lambda one: (one.start, one.end) == (0, _DAY))
        self._clock, self._sleep, self._local = clock, sleep, local
        self._lock = threading.Lock()
        self._free_at, self._free_of = clock(), self.rate()

    def rate(self) -> float | None:
        """Bytes a second allowed now; None: no limit."""
        now = self._local()
        minute = now.hour * 60 + now.minute
        return next((one.rate for one in self._limits if one.holds(minute)), None)

    @property
    def paused(self) -> bool:
        """Whether nothing at all may pass now."""
        return self.rate() == 0

    def take(self, size: int, stop: Callable[[], bool]) -> bool:
        """Wait until ``size`` more bytes may pass; False when ``stop`` has said so before."""
        while not stop():
            nap = self._judge(size)
            if not nap:
                return True
            self._sleep(nap)
        return False

    def _judge(self, size: int) -> float:
        """Let the bytes pass and return 0, or the seconds to wait before asking again."""
        with self._lock:
            rate, now = self.rate(), self._clock()
            if rate != self._free_of:  # what is owed under one limit is not owed under the next
                self._free_at, self._free_of = now, rate
            if rate == 0:
                return _NAP
            if now < self._free_at:
                return min(_NAP, max(self._free_at - now, 0.001))
            self._free_at = now + (size / rate if rate else 0)
            return 0
