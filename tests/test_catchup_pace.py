"""Pace: who converges is never told that he does not, who does not is told soon."""

import math
from dataclasses import astuple
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catchup.pace import Lap, outlook

SECONDS = st.floats(0, 1e7, allow_nan=False)
BYTES = st.integers(0, 1 << 60)
LAPS = st.lists(st.builds(Lap, SECONDS, BYTES, BYTES), min_size=1, max_size=20)
MB = 10**6


def rounds(first: float, line: float, written: float, reading: float, count: int) -> list[Lap]:
    """Rounds of a disk that is read in ``reading`` seconds, over a line of ``line`` bytes a
    second, while ``written`` bytes a second change at the source.
    """
    laps = [Lap(max(first / line, reading), int(first), int(first))]
    while len(laps) < count:
        changed = written * laps[-1].seconds
        laps.append(Lap(max(changed / line, reading), int(changed), int(changed)))
    return laps


@given(LAPS)
def test_whatever_the_rounds_were_there_is_an_outlook(laps: list[Lap]) -> None:
    found = outlook(laps)
    for figure in astuple(found)[:3]:
        assert math.isfinite(figure)
        assert figure >= 0


@given(st.lists(st.floats(0.1, 0.9), max_size=12), st.floats(1, 1e6), BYTES)
def test_rounds_that_shrink_by_a_tenth_converge(
    shares: list[float], first: float, changed: int
) -> None:
    laps = [Lap(first, changed, changed)]
    for one in shares:
        laps.append(Lap(laps[-1].seconds * one, changed, changed))
        assert outlook(laps).converging


@given(st.floats(1 * MB, 1000 * MB), st.floats(0, 0.85), st.floats(1e9, 1e13), st.integers(1, 12))
def test_a_source_that_writes_less_than_the_line_carries_converges(
    line: float, share: float, first: float, count: int
) -> None:
    assert outlook(rounds(first, line, line * share, 0, count)).converging


@given(st.floats(1 * MB, 1000 * MB), st.floats(1, 10), st.floats(1e9, 1e12))
def test_a_source_that_writes_faster_than_the_line_is_told_after_four_rounds(
    line: float, share: float, first: float
) -> None:
    laps = rounds(first, line, line * share, 0, 4)
    told = [outlook(laps[:count]).converging for count in (1, 2, 3, 4)]
    assert told == [True, True, True, False]


@given(LAPS)
def test_nobody_is_judged_by_fewer_than_four_rounds(laps: list[Lap]) -> None:
    assert outlook(laps[:3]).converging


@given(LAPS, st.lists(st.builds(Lap, SECONDS, BYTES, BYTES), min_size=4, max_size=4))
def test_only_the_last_four_rounds_are_judged(laps: list[Lap], last: list[Lap]) -> None:
    assert outlook([*laps, *last]).converging == outlook(last).converging
    shrunk = any(b.seconds <= a.seconds * 0.9 for a, b in pairwise(last))
    assert outlook(last).converging == shrunk


def test_the_next_round_takes_what_is_written_during_this_one() -> None:
    laps = [Lap(1000, 10_000 * MB, 10_000 * MB), Lap(100, 1000 * MB, 1000 * MB)]
    found = outlook(laps)
    assert found.written_per_second == MB
    assert found.sent_per_second == 10 * MB
    assert found.next_seconds == 100  # reading: no round was shorter
    laps.append(Lap(20, 100 * MB, 100 * MB))
    assert outlook(laps).next_seconds == 20


def test_a_slow_line_counts_before_fast_reading() -> None:
    laps = [Lap(10, 10 * MB, 10 * MB), Lap(100, 100 * MB, 100 * MB)]
    assert outlook(laps).next_seconds == 1000


def test_bytes_that_compress_take_less_of_the_line() -> None:
    plain = outlook([Lap(1, MB, MB), Lap(100, 100 * MB, 100 * MB)])
    packed = outlook([Lap(1, MB, MB), Lap(100, 100 * MB, 50 * MB)])
    assert packed.sent_per_second == plain.sent_per_second / 2
    assert packed.next_seconds == plain.next_seconds


def test_a_disk_that_does_not_change_takes_its_reading() -> None:
    assert outlook([Lap(500, 0, 0), Lap(300, 0, 0)]).next_seconds == 300


def test_the_first_round_tells_of_itself_alone() -> None:
    found = outlook([Lap(0, 0, 0)])
    assert astuple(found) == (0, 0, 0, True)


def test_no_rounds_give_no_outlook() -> None:
    with pytest.raises(IndexError):
        outlook([])
