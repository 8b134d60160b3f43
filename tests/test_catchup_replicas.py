"""The replicas on a target: whose they are, when each is begun, and what a poor medium does."""

import fcntl
import os
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from appliance.block import PAGE, opened
from appliance.catchup import replicas, wire
from appliance.catchup.replica import About, Replica, adopt, begin, pieces_of
from appliance.catchup.replicas import Replicas
from appliance.catchup.wire import PIECE, Patch
from appliance.cloud.local import LocalVolume
from appliance.errors import (
    MemoryShortError,
    StateError,
    StoppedError,
    TargetFullError,
    TargetWriteError,
)
from appliance.model import Codec, Digest, DiskId, Extent, PointSpec, VolumeState
from appliance.seal import pointmap
from appliance.seal.cut import digest
from appliance.seal.manifest import PAGE_ENTRIES, Manifest, State
from appliance.seal.proved import Proved
from tests.line import TwoEnds, manifest_of, noise, part, two_ends
from tests.support import BLOCK, MemoryDisk, facts
from tests.targets import MemoryTarget, MemoryVolume, volume_spec

SIZE = 5 * BLOCK + 777
WEB, DB = DiskId("11" * 16), DiskId("22" * 16)


@dataclass
class Yard:
    """A gate's home and a target with volumes as restores leave them."""

    home: Path
    target: MemoryTarget = field(default_factory=MemoryTarget)

    def restored(self, disk: DiskId, machine: str, data: bytes) -> MemoryVolume:
        volume = volume_spec(f"{machine}-S1", len(data), disk=disk)
        spec = PointSpec(disk, 0, machine, facts(len(data)))
        Proved(self.home, volume.origin).keep(spec, manifest_of(data, disk))
        self.target.ensure_volume(volume)
        self.target.held[volume.name][1].data[:] = data
        self.target.held[volume.name][1].fresh = False
        self.target.tag(volume, VolumeState.CHECKED)
        return self.target.held[volume.name][1]

    @property
    def replicas(self) -> Replicas:
        """As another process would find them."""
        return Replicas(self.home, self.target)

    def write(self, machine: str, block: bytes) -> None:
        """A round that changes the first block."""
        (held,) = self.replicas.of(machine)
        with self.replicas.open(held) as replica:
            staged = replica.stage(whole(0, block))
            assert staged is not None
            replica.write([staged])

    def places(self) -> int:
        return len(list((self.home / "replicas").glob("*/replica.json")))


def whole(index: int, block: bytes, codes: bytes = b"", bad: tuple[Extent, ...] = ()) -> Patch:
    codes = codes or bytes([1]) * len(pieces_of(len(block)))
    found = Digest(bytes(32)) if bad else digest(block)
    pieces = zip(pieces_of(len(block)), codes, strict=True)
    data = b"".join(block[a:b] for (a, b), code in pieces if code)
    return Patch(index, Codec.RAW, len(data), found, codes, bad, data)


def told(disk: DiskId, size: int = SIZE) -> wire.Replica:
    return wire.Replica(disk, bytes(32), size, BLOCK, 512, f"S-{disk}", "M", "")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


# --- whose, and when --------------------


def test_what_another_has_begun_and_written_to_is_not_begun_again(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whether there is a replica and its making, a whole round goes by."""
    yard.restored(WEB, "web01", noise(SIZE))
    fresh, asked = noise(BLOCK), Proved.has

    def has(self: Proved, disk: str, point: int) -> bool:
        monkeypatch.setattr(Proved, "has", asked)
        yard.write("web01", fresh)
        return asked(self, disk, point)

    monkeypatch.setattr(Proved, "has", has)
    (held,) = yard.replicas.of("web01")
    assert Manifest.load(held.place / "manifest")[0] == (digest(fresh), State.DATA)


def test_nobody_else_begins_a_replica_meanwhile(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.restored(WEB, "web01", noise(SIZE))
    refused: list[str] = []

    def alone(made: Callable[..., None], place: Path, about: About, *manifest: Manifest) -> None:
        with opened(yard.home / "replicas" / "lock", os.O_RDWR) as fd:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(about.spec.machine)
        made(place, about, *manifest)

    monkeypatch.setattr(replicas, "adopt", lambda *of: alone(adopt, *of))
    monkeypatch.setattr(replicas, "begin", lambda *of: alone(begin, *of))
    yard.replicas.of("web01")
    yard.replicas.create("db01", told(DB))
    assert refused == ["web01", "db01"]


def test_only_the_machine_that_asks_has_its_replicas_begun(yard: Yard) -> None:
    yard.restored(WEB, "web01", noise(SIZE))
    yard.restored(DB, "db01", noise(SIZE))
    (manifest,) = (yard.home / "manifests").rglob(f"{DB}-0.manifest")
    manifest.write_bytes(b"damaged")  # and what is wrong with another's does not stop it
    assert [one.disk for one in yard.replicas.of("web01")] == [WEB]
    assert yard.places() == 1


def test_a_lost_manifest_is_surveyed_by_who_opens_the_disk_alone(yard: Yard) -> None:
    """A survey takes hours: neither a list nor another machine waits for it, or has the disk."""
    yard.restored(WEB, "web01", noise(SIZE))
    volume, fresh = yard.restored(DB, "db01", noise(SIZE)), noise(BLOCK)
    yard.write("db01", fresh)
    for one in sorted((yard.home / "replicas").rglob("*"), reverse=True):
        one.rmdir() if one.is_dir() else one.unlink()
    with yard.target.attach(yard.target.held["db01-S1"][0].spec):
        assert [one.disk for one in yard.replicas.of("web01")] == [WEB]
        (held,) = yard.replicas.of("db01")
        assert (held.point(), held.root(), held.surveyed) == (0, bytes(32), False)
    with yard.replicas.open(held) as replica:
        assert replica.manifest.root() == manifest_of(bytes(volume.data), DB).root()
    assert held.root() == manifest_of(bytes(volume.data), DB).root()


def test_where_a_survey_cannot_read_the_block_is_unknown(yard: Yard) -> None:
    held = yard.replicas.create("web01", told(WEB))
    rotten = Rotten(bytearray(noise(SIZE)), fresh=False, rotten={2 * BLOCK})
    yard.target.held[held.info.spec.name] = held.info, rotten
    with yard.replicas.open(held) as replica:
        states = [replica.manifest[index][1] for index in range(6)]
    assert states == [State.DATA, State.DATA, State.UNKNOWN, *[State.DATA] * 3]


# --- bounds --------------------


def test_a_disk_whose_manifest_would_fill_the_home_is_refused_before_anything_is_made(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = told(DB, 3 * PAGE_ENTRIES * BLOCK)
    needed = 2 * (64 + 40 * 3 * PAGE_ENTRIES)
    room = [needed - 1]
    monkeypatch.setattr(replicas, "free_space", lambda _: room[0])
    with pytest.raises(StateError, match=f"needs {needed} bytes at .* has {needed - 1} left"):
        yard.replicas.create("web01", new)
    assert yard.target.held == {}
    room[0] = needed
    held = yard.replicas.create("web01", new)
    room[0] = needed - 1  # somebody else has taken it meanwhile
    with pytest.raises(StateError, match="left"), yard.replicas.open(held):
        pass
    assert not held.surveyed
    yard.restored(WEB, "db01", noise(SIZE))
    room[0] = 64
    with pytest.raises(StateError, match="left"):
        yard.replicas.of("db01")


def test_a_disk_that_is_only_said_to_be_huge_is_refused_before_anything_is_made(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pointmap, "free_memory", lambda: 1 << 20)
    monkeypatch.setattr(replicas, "free_space", lambda _: 1 << 50)
    huge = replace(told(DB, (1 << 50) - 1), block_size=1 << 24)
    tracemalloc.start()
    try:
        with pytest.raises(MemoryShortError, match="1 MiB are free"):
            yard.replicas.create("web01", huge)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert yard.target.held == {}
    assert peak < 1 << 20


def test_a_machine_has_no_more_replicas_than_can_be_told(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MOST_REPLICAS", 2)
    disks = [DiskId(f"{number:032x}") for number in range(3)]
    for disk in disks[:2]:
        yard.replicas.create("web01", told(disk))
    with pytest.raises(
        TargetFullError, match="web01 would have 3 replicas here; a machine may have 2"
    ):
        yard.replicas.create("web01", told(disks[2]))
    assert len(yard.target.held) == 2
    yard.replicas.create("web01", told(disks[1]))  # one that is there is no further one
    yard.replicas.create("db01", told(disks[2]))


# --- a target that cannot be read in places --------------------


@dataclass
class Rotten(MemoryVolume):
    """Sectors of it cannot be read until they are written: then the disk remaps them."""

    rotten: set[int] = field(default_factory=set)

    def pread(self, offset: int, buffer: memoryview) -> None:
        if any(offset <= at < offset + len(buffer) for at in self.rotten):
            raise TargetWriteError("The target cannot be read")
        super().pread(offset, buffer)

    def pwrite(self, offset: int, data: memoryview) -> None:
        self.rotten = {at for at in self.rotten if not offset <= at < offset + len(data)}
        super().pwrite(offset, data)


LARGE = 4 * PIECE


@pytest.fixture
def rotten(tmp_path: Path) -> Rotten:
    data = noise(3 * LARGE)
    found = Manifest(WEB, 0, LARGE, len(data))
    for index in range(3):
        found.set(index, digest(data[index * LARGE : (index + 1) * LARGE]), State.DATA)
    about = About(PointSpec(WEB, 0, "web01", facts(len(data))), volume_spec(disk=WEB), LARGE)
    adopt(tmp_path, about, found)
    return Rotten(bytearray(data), rotten={LARGE + PIECE + 3 * PAGE})


def test_a_block_that_cannot_be_read_is_wanted_whole_and_mended_by_it(
    tmp_path: Path, rotten: Rotten
) -> None:
    replica = Replica(tmp_path, rotten)
    assert replica.have(1) == (bytes(16),) * 4
    fresh = noise(LARGE)
    assert replica.stage(whole(1, fresh, b"\1\0\1\1")) is None
    assert replica.stage(whole(1, fresh, b"\1\0\1\1", (Extent(0, 512),))) is None
    staged = replica.stage(whole(1, fresh))
    assert staged is not None
    (ack,) = replica.write([staged])
    assert (ack.state, ack.digest) == (State.DATA, digest(fresh))
    assert replica.have(1) == tuple(digest(fresh[a:b])[:16] for a, b in pieces_of(LARGE))


def test_what_neither_end_can_read_is_zero_and_what_one_can_is_kept(
    tmp_path: Path, rotten: Rotten
) -> None:
    """The source names 8 pages; one of them cannot be read here either."""
    replica, before = Replica(tmp_path, rotten), bytes(rotten.data[LARGE : 2 * LARGE])
    lost, bad = PIECE + 3 * PAGE, Extent(PIECE + 512, 8 * PAGE)
    fresh = bytearray(noise(LARGE))
    fresh[bad.offset : bad.end] = bytes(bad.length)
    staged = replica.stage(whole(1, bytes(fresh), bad=(bad,)))
    assert staged is not None
    (ack,) = replica.write([staged])
    fresh[bad.offset : bad.end] = before[bad.offset : bad.end]
    fresh[lost : lost + PAGE] = bytes(PAGE)
    assert rotten.data[LARGE : 2 * LARGE] == fresh
    assert (ack.state, ack.digest) == (State.UNREADABLE, digest(bytes(fresh)))


def test_a_journalled_block_that_cannot_be_read_is_unknown(
    tmp_path: Path, rotten: Rotten, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(tmp_path, rotten)
    staged = replica.stage(whole(1, noise(LARGE)))
    assert staged is not None
    monkeypatch.setattr(rotten, "pwrite", cut)
    with pytest.raises(TargetWriteError):
        replica.write([staged])
    assert Replica(tmp_path, rotten).manifest[1] == (bytes(32), State.UNKNOWN)


def cut(offset: int, data: memoryview) -> None:
    raise TargetWriteError(f"The target failed at {offset} of {len(data)}")


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


@pytest.mark.parametrize("bad", [(), (Extent(3 * BLOCK, 1024),)])
def test_a_round_mends_what_cannot_be_read_at_the_replica(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch, bad: tuple[Extent, ...]
) -> None:
    data = noise(SIZE)
    about = ends.restored(data)
    machine, disk, lost = ends.invite(), MemoryDisk(data), {3 * BLOCK + 512}
    read, write = LocalVolume.pread, LocalVolume.pwrite

    def pread(self: LocalVolume, offset: int, buffer: memoryview) -> None:
        if any(offset <= at < offset + len(buffer) for at in lost):
            raise TargetWriteError("The target cannot be read")
        read(self, offset, buffer)

    def pwrite(self: LocalVolume, offset: int, piece: memoryview) -> None:
        lost.difference_update(range(offset, offset + len(piece)))
        write(self, offset, piece)

    monkeypatch.setattr(LocalVolume, "pread", pread)
    monkeypatch.setattr(LocalVolume, "pwrite", pwrite)
    disk.data[3 * BLOCK + 1024 : 4 * BLOCK] = noise(BLOCK - 1024)
    disk.bad = list(bad)
    assert machine.round(part(disk, about)).blocks == 1
    assert lost == set()
    expected = bytearray(disk.data)
    for one in bad:
        expected[one.offset : one.end] = bytes(one.length)
    assert ends.content() == expected


# --- the journal --------------------


def test_the_name_of_the_journal_is_durable_before_the_volume_is_touched(
    tmp_path: Path, rotten: Rotten, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, order = Replica(tmp_path, replace(rotten, rotten=set())), list[str]()
    staged = [replica.stage(whole(index, noise(LARGE))) for index in (0, 2)]
    monkeypatch.setattr(
        "appliance.catchup.replica.sync_directory", lambda place: order.append(str(place))
    )
    write = MemoryVolume.pwrite

    def pwrite(self: MemoryVolume, offset: int, data: memoryview) -> None:
        order.append("write")
        write(self, offset, data)

    monkeypatch.setattr(MemoryVolume, "pwrite", pwrite)
    for one in staged:
        assert one is not None
        replica.write([one])
    assert order == [str(tmp_path), "write", "write"]


def test_a_survey_of_what_a_volume_holds_ends_when_the_gate_is_stopped(yard: Yard) -> None:
    """The volume is surveyed by whoever comes next."""
    volume = yard.restored(WEB, "web01", noise(SIZE))
    (held,) = yard.replicas.of("web01")
    (held.place / "manifest").unlink()
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(StoppedError, match="survey"), yard.replicas.open(held, stop):
        pass
    assert len(asked) == 3  # once a block
    assert not held.surveyed
    with yard.replicas.open(held) as replica:
        assert replica.manifest.root() == manifest_of(bytes(volume.data), WEB).root()
