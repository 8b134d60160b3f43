"""The source loop: read, cut, digest, put - for every source and every sink.

Several blocks are in flight: workers read, digest and compress (all of which release the
interpreter's lock); the loop itself takes the results in order and puts them, so that a sink sees
one ascending stream.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from appliance.block import aligned_buffer
from appliance.errors import SourceGoneError, StoppedError
from appliance.events import Emit, Progress, Unreadable
from appliance.ingest.witness import SampleWitness
from appliance.model import (
    Cut,
    Extent,
    PointSpec,
    Sink,
    SourceDisk,
    Stop,
    block_count,
    block_length,
)
from appliance.rate import Throttle
from appliance.seal.cut import DEFAULT_LEVEL, Cutter, zero_run


@dataclass(frozen=True, slots=True)
class How:
    """How to read: the operator's choices, and how many blocks are in work at once."""

    level: int = DEFAULT_LEVEL
    workers: int = (os.cpu_count() or 1) + 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Blocks ``index`` to ``index + count - 1``: one block to read, or a run that is known to
    be zero.
    """

    index: int
    count: int
    hole: bool


def wanted_blocks(
    extents: Iterator[Extent], start: int, blocks: int, size: int
) -> Iterator[Wanted]:
    """Blocks from ``start`` on, in order and without gaps: a block is a hole only where all of it
    lies in one.

    ``size`` is the block size; ``extents`` are in bytes, ascending.
    """
    at = start
    for extent in extents:
        if extent.hole:
            first = max(at, -(-extent.offset // size))
            end = extent.end // size
            if end < first:
                continue
            yield from _each(at, first)
            if end > first:
                yield Wanted(first, end - first, hole=True)
            at = end
        else:
            end = min(-(-extent.end // size), blocks)
            yield from _each(at, end)
            at = max(at, end)
    yield from _each(at, blocks)


def _each(first: int, end: int) -> Iterator[Wanted]:
    return (Wanted(index, 1, hole=False) for index in range(first, end))


# Buffers a worker: with 2 the workers wait whenever the store's disk does; with 4 an ingest of
# real files took 15 % less time, with 8 no less than that.
_BUFFERS = 4


class _Line:
    """The blocks in flight: buffers, workers, and results in the order in which they were asked
    for.
    """

    def __init__(self, source: SourceDisk, block_size: int, how: How) -> None:
        self._source, self._block_size, self._level = source, block_size, how.level
        self._pool = ThreadPoolExecutor(how.workers, "cut")
        self._free = [aligned_buffer(block_size) for _ in range(_BUFFERS * how.workers)]
        self._flying: deque[tuple[Future[Cut], memoryview]] = deque()
        self._local = threading.local()

    @property
    def full(self) -> bool:
        return not self._free

    def ask(self, index: int) -> None:
        buffer = self._free.pop()
        self._flying.append((self._pool.submit(self._cut, index, buffer), buffer))

    def results(self, left: int) -> Iterator[Cut]:
        """Finished blocks in order until at most ``left`` are in flight; each is valid until
        the next is taken.
        """
        while len(self._flying) > left:
            future, buffer = self._flying.popleft()
            yield future.result()
            self._free.append(buffer)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _cut(self, index: int, buffer: memoryview) -> Cut:
        length = block_length(index, self._source.facts.size, self._block_size)
        data = buffer[:length]
        bad = self._source.readinto(index * self._block_size, data)
        if not hasattr(self._local, "cutter"):
            self._local.cutter = Cutter(self._level)
        cutter: Cutter = self._local.cutter
        return cutter.cut(index, data, tuple(bad))


def cuts(
    source: SourceDisk,
    wanted: Iterator[Wanted],
    block_size: int,
    how: How,
    stop: Stop,
    throttle: Throttle,
    pausing: Callable[[], None] = lambda: None,
) -> Generator[Cut]:
    """The wanted blocks of a disk, read and cut, in order; each is valid until the next is taken.

    ``pausing`` is called when the throttle lets nothing pass any more, perhaps for hours, and all
    that was read has been taken. Raises StoppedError when the operator wants to stop. Close it, as
    a generator, when not all is taken.
    """
    line = _Line(source, block_size, how)
    try:
        for one in wanted:
            if stop():
                raise StoppedError("The job was stopped")
            if one.hole:
                yield from line.results(0)
                yield zero_run(one.index, one.count)
                continue
            if line.full:
                yield from line.results(_BUFFERS * how.workers - 1)
            if not throttle.take(block_size, lambda: stop() or throttle.paused):
                if not stop():
                    yield from line.results(0)
                    pausing()
                if not throttle.take(block_size, stop):
                    raise StoppedError("The job was stopped")
            line.ask(one.index)
        yield from line.results(0)
    finally:
        line.close()


class Ingest:
    """One disk's point going from a source into a sink. ``run`` returns when the point is
    ended.
    """

    def __init__(
        self,
        source: SourceDisk,
        sink: Sink,
        point: PointSpec,
        witness: SampleWitness,
        emit: Emit,
        stop: Stop,
        throttle: Throttle,
        how: How,
    ) -> None:
        self._source, self._sink, self._point, self._witness = source, sink, point, witness
        self._block_size, self._emit, self._stop = witness.block_size, emit, stop
        self._throttle, self._how = throttle, how
        self._size = point.facts.size
        self._bad: Extent | None = None

    def run(self) -> None:
        """Raises StoppedError or SourceGoneError with everything put so far made durable."""
        start = self._sink.begin(self._point, self._witness)
        try:
            self._read(start)
        except (StoppedError, SourceGoneError):
            self._sink.checkpoint()
            raise
        finally:
            self._tell_bad()
        self._source.confirm()
        self._sink.commit()

    def _read(self, start: int) -> None:
        size = self._block_size
        blocks = block_count(self._size, size)
        extents = self._source.extents(start * size) if start < blocks else iter(())
        wanted = wanted_blocks(extents, start, blocks, size)
        flow = cuts(
            self._source,
            wanted,
            size,
            self._how,
            self._stop,
            self._throttle,
            self._sink.checkpoint,
        )
        with closing(flow):
            for cut in flow:
                self._put(cut)

    def _put(self, cut: Cut) -> None:
        self._witness.note(cut)
        self._sink.put(cut)
        for one in cut.bad:
            self._note_bad(one)
        done = min((cut.index + cut.count) * self._block_size, self._size)
        self._emit(Progress("ingest", done, self._size))

    def _note_bad(self, one: Extent) -> None:
        """Neighbouring ranges are told as one."""
        if self._bad is not None and self._bad.end == one.offset:
            self._bad = Extent(self._bad.offset, self._bad.length + one.length)
            return
        self._tell_bad()
        self._bad = one

    def _tell_bad(self) -> None:
        if self._bad is not None:
            self._emit(Unreadable(self._bad.offset, self._bad.length))
            self._bad = None
