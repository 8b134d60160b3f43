"""Speed limits as operators write them, and the throttle that keeps to them."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadInputError
from appliance.rate import Limit, Throttle, parse_limit

DAY = 24 * 60


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("80MB/s", Limit(80_000_000)),
        ("80 MB/s", Limit(80_000_000)),
        (" 80mb/S ", Limit(80_000_000)),
        ("80M", Limit(80_000_000)),
        ("1.5G", Limit(1_500_000_000)),
        ("500", Limit(500)),
        ("500B/s", Limit(500)),
        ("3K/s", Limit(3000)),
        ("20MB/s@08:00-18:00", Limit(20_000_000, 480, 1080)),
        ("20MB/s@00:00-24:00", Limit(20_000_000)),
        ("0@22:00-06:30", Limit(0, 1320, 390)),
        ("0MB/s@12:00-13:00", Limit(0, 720, 780)),
        ("1M@22:00-00:00", Limit(1_000_000, 1320, 0)),
    ],
)
def test_a_limit_is_read(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "-1M",
        "1.M",
        ".5M",
        "1T",
        "80Mbit/s",
        "80 M B",
        "1M@8:00-18:00",
        "1M@08:00",
        "1M@08:00-",
        "1M@08:00-18:00 and more",
        "1M@25:00-26:00",
        "1M@24:01-25:00",
        "1M@08:60-09:00",
        "1M@08:00-08:00",
        "0",
        "0.0MB/s",
        "0@00:00-24:00",
        "@08:00-18:00",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_limit(text)


@given(st.integers(0, DAY - 1), st.integers(1, DAY), st.integers(0, DAY - 1))
def test_a_window_holds_from_its_start_up_to_its_end(start: int, end: int, minute: int) -> None:
    inside = set(range(start, end)) if start <= end else {*range(start, DAY), *range(end)}
    assert Limit(1, start, end).holds(minute) == (minute in inside)


class Clock:
    """A clock that only sleeping moves; the day begins at ``minute``."""

    def __init__(self, minute: int = 0) -> None:
        self.now, self.minute = 1000.0, minute
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.1  # the stop flag is looked at in between
        self.naps.append(seconds)
        self.now += seconds

    def local(self) -> datetime:
        minute = int(self.minute + (self.now - 1000) / 60) % DAY
        return datetime(2026, 11, 22, *divmod(minute, 60))  # noqa: DTZ001 - local by design

    def throttle(self, *limits: str) -> Throttle:
        found = [parse_limit(one) for one in limits]
        return Throttle(found, lambda: self.now, self.sleep, self.local)

    @property
    def passed(self) -> float:
        return self.now - 1000


def never() -> bool:
    return False


def test_without_a_limit_nothing_waits() -> None:
    clock = Clock()
    throttle = clock.throttle()
    for _ in range(1000):
        throttle.take(1 << 30, never)
    assert not clock.naps
    assert throttle.rate() is None


@pytest.mark.parametrize("size", [100, 1000, 5000])
def test_bytes_pass_at_the_rate(size: int) -> None:
    clock = Clock()
    throttle = clock.throttle("1K")
    for _ in range(50):
        throttle.take(size, never)
    assert clock.passed == pytest.approx(49 * size / 1000, abs=0.2)


def test_idle_time_is_not_saved_up() -> None:
    clock = Clock()
    throttle = clock.throttle("1K")
    clock.now += 1000
    throttle.take(1000, never)
    throttle.take(1000, never)
    assert clock.passed == pytest.approx(1001, abs=0.2)


def test_a_window_counts_before_what_holds_else() -> None:
    clock = Clock(minute=17 * 60 + 59)
    throttle = clock.throttle("2K", "1K@08:00-18:00")
    assert throttle.rate() == 1000
    clock.now += 60
    assert throttle.rate() == 2000


def test_the_first_of_two_windows_counts() -> None:
    throttle = Clock(minute=12 * 60).throttle("3K", "1K@11:00-13:00", "2K@08:00-18:00")
    assert throttle.rate() == 1000


def test_outside_all_windows_nothing_is_limited() -> None:
    clock = Clock(minute=7 * 60 + 59)
    throttle = clock.throttle("1K@08:00-18:00")
    throttle.take(1 << 30, never)
    throttle.take(1 << 30, never)
    assert not clock.naps


def test_inside_a_window_of_0_everything_waits_for_its_end() -> None:
    clock = Clock(minute=23 * 60 + 58)
    throttle = clock.throttle("0@22:00-00:02")
    throttle.take(1000, never)
    assert clock.passed == pytest.approx(4 * 60, abs=0.2)


@pytest.mark.parametrize("after", ["", "1M@08:00-18:00"])
def test_what_a_slow_window_is_owed_ends_with_it(after: str) -> None:
    clock = Clock(minute=7 * 60 + 58)
    throttle = clock.throttle("1K@06:00-08:00", *filter(None, [after]))
    for _ in range(2):
        throttle.take(1 << 30, never)  # 12 days at that rate
    assert clock.passed == pytest.approx(120, abs=0.2)


def test_a_slow_window_is_not_paid_for_what_passed_before_it() -> None:
    clock = Clock(minute=7 * 60 + 59)
    throttle = clock.throttle("1M", "1@08:00-18:00")
    throttle.take(60_000_000, never)
    clock.now += 59.9
    throttle.take(1, never)
    assert clock.passed == pytest.approx(60, abs=0.2)


def test_a_limit_of_0_is_a_pause() -> None:
    clock = Clock(minute=59)
    throttle = clock.throttle("1K", "0@01:00-02:00")
    paused = [throttle.paused]
    for _ in range(2):
        clock.now += 60 * 60
        paused.append(throttle.paused)
    assert paused == [False, True, False]


def test_who_waits_can_be_stopped() -> None:
    clock = Clock()
    throttle = clock.throttle("1")
    assert throttle.take(1 << 20, never)
    assert not throttle.take(1 << 20, lambda: len(clock.naps) == 7)
    assert len(clock.naps) == 7


class Watched(int):
    """A size during whose judgement other threads get their turn."""

    def __truediv__(self, rate: float) -> float:
        for _ in range(20):
            os.sched_yield()
        return int(self) / rate


def test_threads_share_one_rate() -> None:
    clock = Clock()
    turn = threading.Lock()

    def sleep(seconds: float) -> None:
        with turn:
            clock.now += seconds

    throttle = Throttle([Limit(1000)], lambda: clock.now, sleep, clock.local)
    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(throttle.take, Watched(1000), never) for _ in range(200)]:
            assert one.result()
    assert clock.passed >= 199 - 0.01


def test_the_real_clock_needs_no_help() -> None:
    throttle = Throttle([Limit(1e12)])
    throttle.take(1, never)
    assert throttle.rate() == 1e12
