"""Places of packs that nobody can read, told by those around them."""

import pytest

from appliance.seal.placed import Place, places

GONE = None


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([(0, 0), GONE, (0, 2)], [(0, 0), (0, 1), (0, 2)]),
        ([GONE, GONE, (0, 2)], [(0, 0), (0, 1), (0, 2)]),
        ([(0, 0), GONE, GONE, (1, 0)], [(0, 0), (0, 1), (0, 2), (1, 0)]),
        ([(0, 0), GONE, GONE, (1, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ([(0, 0), GONE, (2, 0)], [(0, 0), (1, 0), (2, 0)]),
        ([GONE, GONE, GONE, (2, 1)], [(0, 0), (1, 0), (2, 0), (2, 1)]),
    ],
)
def test_what_those_around_them_leave_open_is_told(
    told: list[Place | None], found: list[Place]
) -> None:
    assert places(told) == found


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([(0, 0), GONE], [(0, 0), (1, 0)]),
        ([(0, 0), GONE, GONE], [(0, 0), (1, 0), (1, 1)]),
        ([GONE, GONE], [(0, 0), (0, 1)]),
        ([(0, 0), GONE, GONE, (2, 0)], [(0, 0), (1, 0), (1, 1), (2, 0)]),
        ([GONE, GONE, GONE, (2, 0)], [(0, 0), (1, 0), (1, 1), (2, 0)]),
    ],
)
def test_where_a_session_may_have_begun_it_is_taken_to_have(
    told: list[Place | None], found: list[Place]
) -> None:
    assert places(told) == found


def test_what_cannot_be_is_left_to_whoever_checks_the_sequence() -> None:
    """Two packs in a gap of one."""
    told = places([(0, 0), GONE, GONE, (0, 2)])
    assert told[0] == (0, 0)
    assert len(set(told)) < 4
