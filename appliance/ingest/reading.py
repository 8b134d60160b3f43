"""Reading what can be read: around a bad sector everything else is still wanted."""

from collections.abc import Callable, Sequence

from appliance.block import MEDIA_ERRNOS, pread_full
from appliance.errors import SourceGoneError
from appliance.model import Extent

_TRIES = 2  # a sector is asked for this often before it counts as unreadable

ReadFunction = Callable[[int, int, memoryview], int]


class SectorReader:
    """Reads from a descriptor; where that fails, in halves down to one sector; what remains is
    zeros and a range.

    ``there`` says whether the disk itself still answers: if not, SourceGoneError instead of
    ranges.
    """

    def __init__(
        self,
        fd: int,
        sector: int,
        name: str,
        there: Callable[[], bool],
        read: ReadFunction = pread_full,
    ) -> None:
        self._fd, self._sector, self._name = fd, sector, name
        self._there, self._read = there, read

    def readinto(self, offset: int, buffer: memoryview) -> Sequence[Extent]:
        bad: list[Extent] = []
        self._halves(offset, buffer, bad)
        if bad and not self._there():
            raise SourceGoneError(f"{self._name} no longer answers")
        return bad

    def _halves(self, offset: int, buffer: memoryview, bad: list[Extent]) -> None:
        if self._try(offset, buffer):
            return
        size = len(buffer)
        if size <= self._sector:
            if not any(self._try(offset, buffer) for _ in range(_TRIES - 1)):
                buffer[:] = bytes(size)
                _join(bad, Extent(offset, size))
            return
        half = max(size // 2 // self._sector, 1) * self._sector
        self._halves(offset, buffer[:half], bad)
        self._halves(offset + half, buffer[half:], bad)

    def _try(self, offset: int, buffer: memoryview) -> bool:
        try:
            got = self._read(self._fd, offset, buffer)
        except OSError as exc:
            if exc.errno not in MEDIA_ERRNOS:
                raise SourceGoneError(f"{self._name} no longer answers ({exc.strerror})") from exc
            return False
        if got != len(buffer):
            raise SourceGoneError(f"{self._name} ends at byte {offset + got}: it became shorter")
        return True


def _join(bad: list[Extent], one: Extent) -> None:
    if bad and bad[-1].end == one.offset:
        bad[-1] = Extent(bad[-1].offset, bad[-1].length + one.length)
    else:
        bad.append(one)
