"""Text and figures as people see them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import shown


@given(st.text())
def test_no_foreign_text_steers_what_shows_it(text: str) -> None:
    told = shown.safe(text)
    assert told.isprintable()
    told.encode()
    if text.isprintable():
        assert told == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB")),
        *((999_949_999, "999.9 MB"), (999_960_000, "1.0 GB"), (2e16, "20000.0 TB")),
    ],
)
def test_sizes_are_decimal(count: float, text: str) -> None:
    assert shown.size(count) == text


def test_durations_are_hours_minutes_and_seconds() -> None:
    assert [shown.duration(one) for one in (0, 61, 3599.9, 36_000)] == [
        "0:00",
        "1:01",
        "59:59",
        "10:00:00",
    ]
