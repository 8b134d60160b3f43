"""Defects that the fuzzer must find: each stands behind a parser that refuses what is no frame."""

from appliance.catchup import wire
from tests.fuzz.line_targets import GOOD, framed
from tests.fuzz.target import Run, Target, steady

_HUGE = 1 << 30


def _indexes(data: bytes) -> tuple[int, ...]:
    length, kind = wire.limit(data[:8].ljust(8, b"\0"), (wire.Ask,))
    found = wire.parse(kind, memoryview(data[8 : 8 + length]))
    assert isinstance(found, wire.Ask)
    return found.indexes


def _error(data: bytes) -> None:
    """Of exactly two blocks it looks for a third."""
    indexes = list(_indexes(data))
    if len(indexes) == 2:
        indexes[2] = 0


def _memory(data: bytes) -> None:
    """It takes what it is told to take."""
    if len(_indexes(data)) == 2:
        bytearray(_HUGE)


def _hang(data: bytes) -> None:
    while len(_indexes(data)) == 2:
        pass


def _target(name: str, run: Run) -> Target:
    seeds = [wire.encode(one) for one in GOOD if isinstance(one, wire.Ask)]
    return Target(name, (), steady(run), lambda: seeds, framed)


TARGETS = {
    name: _target(name, run)
    for name, run in (("error", _error), ("memory", _memory), ("hang", _hang))
}
