"""What every source disk promises (model.SourceDisk). A new one joins by a line in SOURCES."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest

from appliance.block import aligned_buffer
from appliance.ingest.attached import AttachedDisks
from appliance.ingest.image import ImageFiles
from appliance.ingest.live import LiveDisks
from appliance.model import SourceDisk
from tests.media import Bench
from tests.support import BLOCK, MemoryDisk
from tests.technician import noise

Opened = Callable[[Bench, bytes], AbstractContextManager[SourceDisk]]


def attached(bench: Bench, data: bytes) -> AbstractContextManager[SourceDisk]:
    node = bench.loop(bench.image(data), "--read-only")
    return AttachedDisks([]).open(str(node))


def live(bench: Bench, data: bytes) -> AbstractContextManager[SourceDisk]:
    return LiveDisks([]).open(str(bench.loop(bench.image(data))))


def image(bench: Bench, data: bytes) -> AbstractContextManager[SourceDisk]:
    return ImageFiles([]).open(str(bench.image(data)))


@contextmanager
def memory(bench: Bench, data: bytes) -> Iterator[SourceDisk]:
    del bench
    yield MemoryDisk(data)


SOURCES: dict[str, Opened] = {
    "attached": attached,
    "image": image,
    "live": live,
    "memory": memory,
}
DATA = noise(3 * BLOCK) + bytes(4 * BLOCK) + noise(BLOCK) + noise(1536)


@pytest.fixture(params=sorted(SOURCES))
def disk(request: pytest.FixtureRequest, bench: Bench) -> Iterator[SourceDisk]:
    with SOURCES[request.param](bench, DATA) as opened:
        yield opened


def read(disk: SourceDisk, offset: int, length: int) -> bytes:
    buffer = aligned_buffer(length)
    assert not disk.readinto(offset, buffer)
    return bytes(buffer)


def test_facts_tell_the_true_size(disk: SourceDisk) -> None:
    assert disk.facts.size == len(DATA)
    assert disk.facts.logical_sector >= 512
    assert disk.facts.same_disk(disk.facts)


@pytest.mark.parametrize("start", [0, BLOCK, 5 * BLOCK, len(DATA) - 512])
def test_extents_cover_the_rest_of_the_disk_in_order_and_without_gaps(
    disk: SourceDisk, start: int
) -> None:
    at = start
    for extent in disk.extents(start):
        assert extent.offset == at
        assert extent.length > 0
        if extent.hole:
            assert not any(DATA[extent.offset : extent.end])
        at = extent.end
    assert at == len(DATA)


def test_every_byte_is_read_as_it_stands_there(disk: SourceDisk) -> None:
    found = [read(disk, at, min(BLOCK, len(DATA) - at)) for at in range(0, len(DATA), BLOCK)]
    assert b"".join(found) == DATA


def test_several_threads_may_read_at_once(disk: SourceDisk) -> None:
    together = threading.Barrier(4)

    def work(number: int) -> bool:
        together.wait()
        offsets = [at * BLOCK for at in range(number, 8, 4)]
        return all(read(disk, at, BLOCK) == DATA[at : at + BLOCK] for at in offsets)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [True] * 4


def test_a_disk_that_nobody_touched_is_confirmed(disk: SourceDisk) -> None:
    read(disk, 0, BLOCK)
    disk.confirm()
    disk.confirm()
