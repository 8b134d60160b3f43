"""Pace: whether rounds become short, or would go on for ever. Pure.

A round takes the time of reading the disks, and of sending what was written at the source during
the round before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_CHANCES = 3  # rounds that bring nothing before it is said
_SHRINKS = 0.9  # a round of more than this share of the one before it has brought nothing


@dataclass(frozen=True, slots=True)
class Lap:
    """One round: its length, and the bytes that had changed at the source."""

    seconds: float
    changed: int
    sent: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the rounds so far let expect. ``next_seconds`` is how long the next would take."""

    next_seconds: float
    written_per_second: float
    sent_per_second: float
    converging: bool


def outlook(laps: Sequence[Lap]) -> Outlook:
    """``laps`` are the rounds so far, the last one last; at least one.

    What a round found changed was written during the round before it, so the first tells nothing
    of the rate; it is taken for the worst.
    """
    last = laps[-1]
    before = laps[-2].seconds if len(laps) > 1 else last.seconds
    written = last.changed / max(before, 0.001)
    rate = last.sent / max(last.seconds, 0.001)
    ratio = last.sent / last.changed if last.changed else 0.0
    # Reading goes on beside sending: a round takes the longer of the two.
    sending = written * last.seconds * ratio / rate if rate else 0.0
    reading = min(one.seconds for one in laps)
    tail = laps[-_CHANCES - 1 :]
    stuck = len(tail) > _CHANCES and all(
        later.seconds > earlier.seconds * _SHRINKS for earlier, later in pairwise(tail)
    )
    return Outlook(max(sending, reading if len(laps) > 1 else 0.0), written, rate, not stuck)
