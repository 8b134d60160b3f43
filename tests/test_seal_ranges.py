"""Unreadable bytes as ranges, against a plain set of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.seal.ranges import Ranges

STEP = st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 20))


@given(st.lists(STEP, min_size=1, max_size=30))
def test_ranges_are_the_set_of_bytes_they_stand_for(steps: list[tuple[bool, int, int]]) -> None:
    ranges, model = Ranges(), set[int]()
    for add, start, length in steps:
        if add:
            ranges.add(start, start + length)
            model |= set(range(start, start + length))
        else:
            ranges.remove(start, start + length)
            model -= set(range(start, start + length))
    found = list(ranges)
    assert [at for offset, length in found for at in range(offset, offset + length)] == sorted(
        model
    )
    _, start, length = steps[-1]
    cut = [
        at
        for first, count in ranges.within(start, start + length)
        for at in range(first, first + count)
    ]
    assert cut == sorted(model & set(range(start, start + length)))
    ends = [offset + length for offset, length in found]
    assert all(end < start for end, (start, _) in zip(ends, found[1:], strict=False))


def test_a_range_as_large_as_any_disk_takes_no_more_than_a_small_one() -> None:
    ranges = Ranges()
    ranges.add(0, 1 << 50)
    ranges.remove(1 << 20, 1 << 21)
    assert list(ranges) == [(0, 1 << 20), (1 << 21, (1 << 50) - (1 << 21))]
