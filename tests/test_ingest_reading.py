"""Reading around what cannot be read: the rest of the disk is still wanted."""

import errno
import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.block import aligned_buffer, opened
from appliance.errors import SourceGoneError
from appliance.ingest.reading import ReadFunction, SectorReader
from appliance.model import Extent
from tests.media import Bench


class Medium:
    """Bytes of which some sectors fail: always, or for the first ``heals`` times."""

    def __init__(self, data: bytes, sector: int, bad: set[int], heals: int = 1 << 30) -> None:
        self.data, self.sector, self.bad, self.heals = data, sector, bad, heals
        self.asked: list[tuple[int, int]] = []

    def read(self, fd: int, offset: int, buffer: memoryview) -> int:
        del fd
        self.asked.append((offset, len(buffer)))
        sectors = range(offset // self.sector, -(-(offset + len(buffer)) // self.sector))
        if self.heals and self.bad & set(sectors):
            self.heals -= len(buffer) <= self.sector
            raise OSError(errno.EIO, "Input/output error")
        buffer[:] = self.data[offset : offset + len(buffer)]
        return len(buffer)

    def reader(self, *, there: bool = True) -> SectorReader:
        return SectorReader(-1, self.sector, "disk", lambda: there, self.read)


def failing(code: int) -> ReadFunction:
    def read(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return read


def runs(bad: set[int], sector: int, size: int) -> list[Extent]:
    """Sectors as byte ranges, neighbours joined."""
    found: list[Extent] = []
    for one in sorted(bad):
        start, end = one * sector, min((one + 1) * sector, size)
        if found and found[-1].end == start:
            found[-1] = Extent(found[-1].offset, end - found[-1].offset)
        else:
            found.append(Extent(start, end - start))
    return found


@given(
    sector=st.sampled_from([512, 4096]),
    sectors=st.integers(1, 40),
    cut_off=st.integers(0, 511),
    bad=st.sets(st.integers(0, 39)),
)
def test_exactly_the_bad_sectors_are_lost(
    sector: int, sectors: int, cut_off: int, bad: set[int]
) -> None:
    size = sectors * sector - cut_off
    data = bytes(1 + one % 255 for one in range(size))
    bad = {one for one in bad if one < sectors}
    buffer = memoryview(bytearray(b"\xff" * size))
    found = Medium(data, sector, bad).reader().readinto(0, buffer)
    wanted = bytearray(data)
    for one in runs(bad, sector, size):
        wanted[one.offset : one.end] = bytes(one.length)
    assert list(found) == runs(bad, sector, size)
    assert buffer == wanted


def test_ranges_are_told_where_they_are_on_the_disk() -> None:
    medium = Medium(os.urandom(64 * 512), 512, {33, 34})
    buffer = memoryview(bytearray(16 * 512))
    assert medium.reader().readinto(32 * 512, buffer) == [Extent(33 * 512, 1024)]
    assert buffer[:512] == medium.data[32 * 512 : 33 * 512]


def test_a_good_disk_is_asked_once() -> None:
    medium = Medium(os.urandom(1 << 16), 512, set())
    assert not medium.reader().readinto(0, memoryview(bytearray(1 << 16)))
    assert medium.asked == [(0, 1 << 16)]


def test_a_sector_that_answers_when_asked_again_is_not_lost() -> None:
    medium = Medium(os.urandom(8 * 512), 512, {3}, heals=1)
    buffer = memoryview(bytearray(8 * 512))
    assert not medium.reader().readinto(0, buffer)
    assert buffer == medium.data


def test_a_sector_is_given_up_after_two_tries() -> None:
    medium = Medium(os.urandom(8 * 512), 512, {3})
    medium.reader().readinto(0, memoryview(bytearray(8 * 512)))
    assert medium.asked.count((3 * 512, 512)) == 2


def test_a_disk_that_fails_everywhere_because_it_was_pulled_is_gone() -> None:
    reader = Medium(bytes(4096), 512, set(range(8))).reader(there=False)
    with pytest.raises(SourceGoneError, match="disk no longer answers"):
        reader.readinto(0, memoryview(bytearray(4096)))


@pytest.mark.parametrize(
    "code", [errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM, errno.ESTALE, errno.EBADF]
)
def test_what_is_no_error_of_the_medium_means_that_the_disk_is_gone(code: int) -> None:
    with pytest.raises(SourceGoneError, match=os.strerror(code)):
        SectorReader(-1, 512, "disk", lambda: True, failing(code)).readinto(
            0, memoryview(bytearray(512))
        )


@pytest.mark.parametrize(
    "code", [errno.EIO, errno.EILSEQ, errno.ENODATA, errno.EREMOTEIO, errno.EBADMSG]
)
def test_every_error_of_the_medium_becomes_a_range(code: int) -> None:
    reader = SectorReader(-1, 512, "disk", lambda: True, failing(code))
    found: Sequence[Extent] = reader.readinto(512, memoryview(bytearray(1024)))
    assert found == [Extent(512, 1024)]


def test_a_disk_that_ends_early_is_gone() -> None:
    reader = SectorReader(-1, 512, "disk", lambda: True, lambda *_: 100)
    with pytest.raises(SourceGoneError, match="ends at byte 1124: it became shorter"):
        reader.readinto(1024, memoryview(bytearray(512)))


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_device_that_fails_for_real(bench: Bench, sector: int) -> None:
    data = os.urandom(1 << 20)
    image = bench.image(data)
    device = bench.loop(image, "--sector-size", str(sector))
    lost = Extent(768 << 10, 256 << 10)
    os.truncate(image, lost.offset)  # what lies behind the new end fails with EIO
    buffer = aligned_buffer(1 << 20)
    with opened(device, os.O_RDONLY | os.O_DIRECT) as fd:
        found = SectorReader(fd, sector, "disk", lambda: True).readinto(0, buffer)
    assert found == [lost]
    assert buffer[: lost.offset] == data[: lost.offset]
    assert not any(buffer[lost.offset :])
