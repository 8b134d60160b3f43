"""What many tests need: keys, disks of bytes, small stores. Real components, small sizes."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from appliance.events import Emit, silent
from appliance.model import DiskFacts, DiskId, Extent, PointSpec, block_count
from appliance.seal import sealing
from appliance.seal.cut import Cutter
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.statement import Seal
from appliance.seal.store import Store
from appliance.seal.writer import Pace, StoreWriter

BLOCK = 1 << 16
OPERATOR = PrivateKey.generate("operator")
RECOVERY = PrivateKey.generate("recovery", "recovery")
STRANGER = PrivateKey.generate("stranger")
SMALL = Pace(pack_size=1 << 20, checkpoint_bytes=4 * BLOCK, checkpoint_seconds=3600)


class PowerCutError(Exception):
    """The test pulls the plug."""


def facts(size: int, serial: str = "S-1", source: str = "/dev/sdx") -> DiskFacts:
    """A disk of ``size`` bytes without partitions."""
    return DiskFacts(
        source=source,
        serial=serial,
        model="Model",
        bus="usb",
        size=size,
        logical_sector=512,
        physical_sector=4096,
        table="none",
        table_id="",
        firmware_hint="unknown",
        parts=(),
    )


def point(data: bytes, disk: str = "11" * 16, machine: str = "web01") -> PointSpec:
    return PointSpec(DiskId(disk), 0, machine, facts(len(data), serial=f"S-{disk[:4]}"))


@dataclass
class FakeWitness:
    """A Witness that says what the test wants."""

    trusting: bool = True
    asked: list[int] = field(default_factory=list)

    def guard(self, cursor: int) -> bytes:
        return cursor.to_bytes(4, "little") * 8

    def trusts(self, cursor: int, guard: bytes) -> bool:
        self.asked.append(cursor)
        return self.trusting and guard == self.guard(cursor)


class MemoryDisk:
    """A SourceDisk over bytes; ``bad`` ranges cannot be read, ``holes`` are told as such."""

    def __init__(
        self, data: bytes, bad: Sequence[Extent] = (), holes: Sequence[Extent] = ()
    ) -> None:
        self.data, self.bad, self.holes = bytearray(data), list(bad), list(holes)
        self.facts = facts(len(data))
        self.reads: list[tuple[int, int]] = []
        self.version = b""

    def extents(self, offset: int) -> Iterator[Extent]:
        at = offset
        for hole in self.holes:
            if hole.end <= at:
                continue
            if hole.offset > at:
                yield Extent(at, hole.offset - at)
            start = max(at, hole.offset)
            yield Extent(start, hole.end - start, hole=True)
            at = hole.end
        if at < len(self.data):
            yield Extent(at, len(self.data) - at)

    def readinto(self, offset: int, buffer: memoryview) -> Sequence[Extent]:
        self.reads.append((offset, len(buffer)))
        buffer[:] = self.data[offset : offset + len(buffer)]
        found = []
        for one in self.bad:
            start, end = max(one.offset, offset), min(one.end, offset + len(buffer))
            if start < end:
                buffer[start - offset : end - offset] = bytes(end - start)
                found.append(Extent(start, end - start))
        return found

    def confirm(self) -> None:
        """Nothing changes in memory."""


def new_store(
    place: Path,
    keys: Sequence[PrivateKey] = (OPERATOR, RECOVERY),
    name: str = "store",
    block_size: int = BLOCK,
) -> tuple[Store, Device]:
    """An empty shipment in ``place/name``, and its device with the home ``place/home``."""
    device = Device.of(place / "home")
    recipients = tuple(one.recipient for one in keys)
    return Store.create(place / name, "test", device, recipients, block_size), device


class Session(TypedDict, total=False):
    """How ``put_blocks`` writes: at block ``cut_at`` the power is cut."""

    pace: Pace
    cut_at: int
    bad: Sequence[Extent]
    witness: FakeWitness
    emit: Emit
    level: int
    finish: Callable[[StoreWriter], None]


def put_blocks(store: Store, data: bytes, spec: PointSpec, **how: Unpack[Session]) -> StoreWriter:
    """Write a disk's blocks through StoreWriter, as one session."""
    cutter, size = Cutter(how.get("level", 1)), store.head.block_size
    view = memoryview(data)
    with StoreWriter(store, how.get("emit", silent), how.get("pace", SMALL)) as writer:
        start = writer.begin(spec, how.get("witness", FakeWitness()))
        for index in range(start, block_count(len(data), size)):
            if index == how.get("cut_at"):
                raise PowerCutError
            piece = view[index * size : (index + 1) * size]
            hit = tuple(one for one in how.get("bad", ()) if one.offset // size == index)
            writer.put(cutter.cut(index, piece, hit))
        how.get("finish", StoreWriter.commit)(writer)
    return writer


def seal_it(store: Store, device: Device, *specs: PointSpec) -> Seal:
    known = {(one.disk, one.point): one for one in specs}
    return sealing.seal(store, device, known, sealing.Consent(waiver="a test"))


def sample_bytes(seed: int = 0) -> bytes:
    """Half a megabyte with text, zeros, random bytes, a repeat, and an odd end."""
    noise = (
        os.urandom(2 * BLOCK)
        if seed < 0
        else bytes((seed * 31 + i * i) % 251 for i in range(2 * BLOCK))
    )
    words = (b"the quick brown fox %d " % seed) * (BLOCK // 10)
    return words[:BLOCK] + noise + bytes(3 * BLOCK) + noise[:BLOCK] + os.urandom(BLOCK) + b"end"


def sealed_sample(place: Path) -> tuple[Store, Device, bytes]:
    """A sealed store of one disk."""
    store, device = new_store(place)
    data = sample_bytes()
    spec = point(data)
    put_blocks(store, data, spec)
    seal_it(store, device, spec)
    return store, device, data


def many_packs(place: Path) -> Store:
    """A sealed store whose disk lies in more than two packs."""
    store, device = new_store(place)
    data = os.urandom(30 * BLOCK)
    put_blocks(store, data, point(data))
    assert len(seal_it(store, device, point(data)).packs) > 3
    return store
