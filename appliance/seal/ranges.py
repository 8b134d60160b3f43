"""Ranges: bytes or blocks of a disk, such as those that could not be read, kept disjoint and
ascending. Pure.

Memory goes with the number of ranges, 16 bytes each, however many numbers they cover.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """A set of numbers as ranges; neighbours are joined."""

    def __init__(self) -> None:
        self._starts, self._ends = array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(offset, length), ascending."""
        for start, end in zip(self._starts, self._ends, strict=True):
            yield start, end - start

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """(offset, length) of what of the set lies from ``start`` to before ``end``, ascending."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        found = zip(self._starts[first:last], self._ends[first:last], strict=True)
        return [(max(a, start), min(b, end) - max(a, start)) for a, b in found]

    def add(self, start: int, end: int) -> None:
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = array("Q", [start]), array("Q", [end])

    def remove(self, start: int, end: int) -> None:
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first >= last:
            return
        before, behind = self._starts[first], self._ends[last - 1]
        left = [(before, start)] if before < start else []
        left += [(end, behind)] if end < behind else []
        self._starts[first:last] = array("Q", [one for one, _ in left])
        self._ends[first:last] = array("Q", [one for _, one in left])
