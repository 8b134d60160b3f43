"""A sink in memory that keeps what the Sink contract says."""

from dataclasses import dataclass, field

from appliance.model import Cut, DiskId, PointSpec, Witness
from appliance.seal.cut import Expander
from tests.support import BLOCK


@dataclass
class Held:
    """What is durable of one disk's point."""

    data: bytearray
    cursor: int = 0
    guard: bytes = b""
    ended: bool = False


@dataclass
class MemoryShelf:
    """What outlives a sink: the disks put so far."""

    disks: dict[DiskId, Held] = field(default_factory=dict)


class MemorySink:
    """A Sink over a shelf. What was put since the last checkpoint dies with it."""

    def __init__(self, shelf: MemoryShelf) -> None:
        self._shelf = shelf
        self._pending: list[tuple[int, bytes]] = []
        self._expander = Expander()

    def begin(self, point: PointSpec, witness: Witness) -> int:
        self._point, self._witness = point, witness
        held = self._shelf.disks.setdefault(point.disk, Held(bytearray(point.facts.size)))
        known = not held.ended and held.cursor and witness.trusts(held.cursor, held.guard)
        self._cursor = held.cursor if held.ended or known else 0
        return self._cursor

    def put(self, cut: Cut) -> None:
        if cut.payload is None:
            end = min((cut.index + cut.count) * BLOCK, self._point.facts.size)
            data = bytes(end - cut.index * BLOCK)
        else:
            data = bytes(self._expander.expand(cut.codec, memoryview(cut.payload), cut.length))
        self._pending.append((cut.index, data))
        self._cursor = cut.index + cut.count

    def checkpoint(self) -> None:
        held = self._shelf.disks[self._point.disk]
        for index, data in self._pending:
            held.data[index * BLOCK : index * BLOCK + len(data)] = data
        self._pending.clear()
        held.cursor, held.guard = self._cursor, self._witness.guard(self._cursor)

    def commit(self) -> None:
        self.checkpoint()
        self._shelf.disks[self._point.disk].ended = True
