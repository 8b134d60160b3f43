"""A pack's lock between two processes: nobody touches what a living writer writes; what a killed
one leaves is anybody's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from random import Random

import pytest

from appliance.errors import JobRunningError, OpenErrorError
from appliance.events import Checkpointed, Event
from appliance.seal.cut import Cutter
from appliance.seal.identity import Device
from appliance.seal.pack import PackWriter
from appliance.seal.recover import Recovered, recover
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import Store
from appliance.seal.torn import mend
from appliance.seal.writer import Pace, StoreWriter
from tests.readout import problems, sole_content
from tests.support import BLOCK, OPERATOR, FakeWitness, new_store, point, put_blocks

DATA = Random(1).randbytes(10 * BLOCK)
SPEC = point(DATA)
PACE = Pace(pack_size=1 << 21, checkpoint_bytes=2 * BLOCK, checkpoint_seconds=3600)
CONSENT = Consent(waiver="a test")
UNFINISHED = Consent(frozenset([SPEC.disk]), waiver="a test")


def write(path: Path, line: Connection) -> None:
    """The other process: a job that stands still in the middle of its pack, then goes on."""
    safe = 0

    def hear(event: Event) -> None:
        nonlocal safe
        if isinstance(event, Checkpointed):
            safe = event.cursor

    store = Store(path)
    with store.lock(alone=False), StoreWriter(store, hear, PACE) as writer:
        writer.begin(SPEC, FakeWitness())
        for index in range(10):
            if index == 7:
                pack: PackWriter = vars(writer)["_pack"]
                pack.settle()
                line.send(safe)
                line.recv()
            piece = memoryview(DATA)[index * BLOCK : (index + 1) * BLOCK]
            writer.put(Cutter().cut(index, piece))
        writer.commit()


@dataclass
class Writer:
    """The other process, in the middle of its pack; all blocks below ``safe`` are stored."""

    process: SpawnProcess
    line: Connection
    safe: int

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def go_on(self) -> None:
        self.line.send(None)
        self.process.join()
        assert self.process.exitcode == 0


@contextmanager
def writing(store: Store) -> Iterator[Writer]:
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=write, args=(store.path, theirs))
    process.start()
    try:
        theirs.close()
        safe: int = ours.recv()
        assert 0 < safe < 7
        yield Writer(process, ours, safe)
    finally:
        process.kill()
        process.join()
        ours.close()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Store, Device]:
    return new_store(tmp_path)


@pytest.fixture
def store(made: tuple[Store, Device]) -> Store:
    return made[0]


@pytest.fixture
def device(made: tuple[Store, Device]) -> Device:
    return made[1]


def resume(store: Store) -> None:
    with StoreWriter(store) as writer:
        writer.begin(SPEC, FakeWitness())


def mend_its_pack(store: Store) -> None:
    (pack,) = store.open_packs()
    mend(pack)


def drop(store: Store) -> None:
    with store.lock(alone=True):
        store.discard(SPEC.disk)


@pytest.mark.parametrize("attempt", [resume, mend_its_pack, drop])
def test_what_a_living_process_writes_is_nobody_elses(
    store: Store, attempt: Callable[[Store], None]
) -> None:
    with writing(store) as other:
        (pack,) = store.open_packs()
        before = pack.read_bytes()
        with pytest.raises(JobRunningError):
            attempt(store)
        store.mend()
        assert list(store.names()) == [pack.name]
        assert pack.read_bytes() == before
        other.go_on()
    assert sole_content(store) == DATA


def test_a_shipment_is_not_sealed_while_a_process_writes(store: Store, device: Device) -> None:
    with writing(store) as other:
        for consent in (CONSENT, UNFINISHED):
            with pytest.raises(JobRunningError):
                seal(store, device, {}, consent)
        assert not store.sealed
        other.go_on()
    seal(store, device, {}, CONSENT)
    assert problems(store.path, OPERATOR) == []


def test_another_disk_is_written_beside_it(store: Store) -> None:
    with writing(store) as other:
        put_blocks(store, b"other", point(b"other", "22" * 16))
        assert len(list(store.closed())) == 1
        other.go_on()
    assert {one.head.disk for one in store.infos()} == {SPEC.disk, "22" * 16}


def recovered(store: Store, out: Path) -> tuple[Recovered, bytes]:
    out.mkdir()
    ((found,), lost) = recover(sorted(store.packs.iterdir()), OPERATOR, out)
    assert lost == []
    return found, found.path.read_bytes()


def test_a_pack_is_recovered_as_far_as_it_goes_and_left_as_it_is(
    store: Store, tmp_path: Path
) -> None:
    with writing(store) as other:
        (pack,) = store.open_packs()
        before = pack.read_bytes()
        found, data = recovered(store, tmp_path / "alive")
        assert data[: 7 * BLOCK] == DATA[: 7 * BLOCK]
        assert (found.missing, found.ended) == (3, False)
        other.kill()
    assert recovered(store, tmp_path / "dead")[1] == data
    assert pack.read_bytes() == before


def test_what_a_killed_process_left_is_gone_on_with(store: Store, device: Device) -> None:
    with writing(store) as other:
        other.kill()
        with pytest.raises(OpenErrorError):
            seal(store, device, {}, CONSENT)
        witness = FakeWitness()
        put_blocks(store, DATA, SPEC, witness=witness)
    assert witness.asked == [other.safe]
    assert sole_content(store) == DATA
    seal(store, device, {}, CONSENT)
    assert problems(store.path, OPERATOR) == []


def test_what_a_killed_process_left_is_sealed_as_unfinished(
    store: Store, device: Device, tmp_path: Path
) -> None:
    with writing(store) as other:
        other.kill()
    seal(store, device, {}, UNFINISHED)
    assert problems(store.path, OPERATOR) == []
    found, data = recovered(store, tmp_path / "out")
    assert data[: other.safe * BLOCK] == DATA[: other.safe * BLOCK]
    assert found.missing == 10 - other.safe


def test_what_a_killed_process_left_can_be_dropped(store: Store) -> None:
    with writing(store) as other:
        other.kill()
    drop(store)
    assert list(store.names()) == []
