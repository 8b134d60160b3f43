"""What every sink promises (model.Sink): the store's writer, and later the link. A new sink joins
by one line in SHELVES.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from appliance.model import PointSpec, Sink, block_count
from appliance.seal.cut import Cutter, zero_run
from appliance.seal.recover import recover
from appliance.seal.writer import StoreWriter
from tests.sinks import MemoryShelf, MemorySink
from tests.support import (
    BLOCK,
    OPERATOR,
    SMALL,
    FakeWitness,
    new_store,
    point,
    sample_bytes,
)
from tests.technician import disk_id, noise


class Shelf(Protocol):
    """Where sinks put things, and what stays there."""

    def sink(self) -> AbstractContextManager[Sink]:
        """A new sink, as a new process would open it."""

    def content(self, spec: PointSpec) -> bytes | None:
        """The disk as whoever reads the shelf finds it; None while its point is not ended."""


class StoreShelf:
    def __init__(self, place: Path) -> None:
        self._place = place
        self._store, _ = new_store(place)
        self._tries = 0

    def sink(self) -> StoreWriter:
        return StoreWriter(self._store, pace=SMALL)

    def content(self, spec: PointSpec) -> bytes | None:
        self._tries += 1
        output = self._place / f"read-{self._tries}"
        output.mkdir()
        found, lost = recover(list(self._store.closed()), OPERATOR, output)
        assert not lost
        whole = [one for one in found if one.ended and not one.missing and one.spec == spec]
        return whole[0].path.read_bytes() if whole else None


class FakeShelf:
    def __init__(self, place: Path) -> None:
        del place
        self._shelf = MemoryShelf()

    @contextmanager
    def sink(self) -> Iterator[MemorySink]:
        yield MemorySink(self._shelf)

    def content(self, spec: PointSpec) -> bytes | None:
        held = self._shelf.disks[spec.disk]
        return bytes(held.data) if held.ended else None


SHELVES: dict[str, Callable[[Path], Shelf]] = {"store": StoreShelf, "memory": FakeShelf}
WEB = sample_bytes(1)


@pytest.fixture(params=sorted(SHELVES))
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return SHELVES[request.param](tmp_path)


def put(sink: Sink, data: bytes, first: int, end: int) -> None:
    """Put blocks from one buffer that is used again for each, as the source loop does."""
    buffer, cutter = bytearray(BLOCK), Cutter(1)
    for index in range(first, end):
        piece = data[index * BLOCK : (index + 1) * BLOCK]
        buffer[: len(piece)] = piece
        sink.put(cutter.cut(index, memoryview(buffer)[: len(piece)]))
        buffer[:] = b"?" * BLOCK


def blocks(data: bytes) -> int:
    return block_count(len(data), BLOCK)


def session(
    shelf: Shelf, data: bytes, spec: PointSpec, *, end: int | None = None, trusting: bool = True
) -> int:
    """One whole session, or one up to block ``end`` that is checkpointed and then dies. Returns
    where it began.
    """
    with shelf.sink() as sink:
        start = sink.begin(spec, FakeWitness(trusting))
        put(sink, data, start, blocks(data) if end is None else end)
        if end is None:
            sink.commit()
        else:
            sink.checkpoint()
    return start


def test_a_disk_put_and_committed_is_there(shelf: Shelf) -> None:
    assert session(shelf, WEB, point(WEB)) == 0
    assert shelf.content(point(WEB)) == WEB


def test_a_finished_point_wants_no_more_blocks(shelf: Shelf) -> None:
    session(shelf, WEB, point(WEB))
    assert session(shelf, WEB, point(WEB)) == blocks(WEB)
    assert shelf.content(point(WEB)) == WEB


def test_holes_are_put_as_runs_up_to_the_odd_end(shelf: Shelf) -> None:
    data = noise(2 * BLOCK) + bytes(4 * BLOCK + 5)
    with shelf.sink() as sink:
        assert sink.begin(point(data), FakeWitness()) == 0
        put(sink, data, 0, 2)
        sink.put(zero_run(2, 3))
        sink.put(zero_run(5, 2))
        sink.commit()
    assert shelf.content(point(data)) == data


def test_what_was_checkpointed_survives_and_the_rest_goes_on_from_there(shelf: Shelf) -> None:
    data = noise(20 * BLOCK)
    session(shelf, data, point(data), end=7)
    assert shelf.content(point(data)) is None
    assert session(shelf, data, point(data)) == 7
    assert shelf.content(point(data)) == data


def test_what_was_not_checkpointed_is_wanted_again(shelf: Shelf) -> None:
    with shelf.sink() as sink:
        sink.begin(point(WEB), FakeWitness())
        put(sink, WEB, 0, 1)
    assert session(shelf, WEB, point(WEB)) == 0
    assert shelf.content(point(WEB)) == WEB


def test_a_source_that_is_not_trusted_is_wanted_whole(shelf: Shelf) -> None:
    before, after = noise(12 * BLOCK), noise(12 * BLOCK)
    session(shelf, before, point(before), end=8)
    assert session(shelf, after, point(after), trusting=False) == 0
    assert shelf.content(point(after)) == after


def test_a_disk_may_be_interrupted_more_than_once(shelf: Shelf) -> None:
    data = noise(24 * BLOCK)
    assert [session(shelf, data, point(data), end=end) for end in (5, 11, 17)] == [0, 5, 11]
    assert session(shelf, data, point(data)) == 17
    assert shelf.content(point(data)) == data


def test_disks_do_not_meet(shelf: Shelf) -> None:
    other = sample_bytes(2)
    web, database = point(WEB, disk_id("web")), point(other, disk_id("db"))
    with shelf.sink() as one, shelf.sink() as two:
        one.begin(web, FakeWitness())
        two.begin(database, FakeWitness())
        for index in range(blocks(WEB)):
            put(one, WEB, index, index + 1)
            put(two, other, index, index + 1)
        two.commit()
        one.commit()
    assert shelf.content(web) == WEB
    assert shelf.content(database) == other
