"""Who has a disk at the gate: one connection at a time, the latest of all that want it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from appliance.catchup import replica
from appliance.catchup.desk import TAKEN_OVER, Desk
from appliance.catchup.replica import MANIFEST
from appliance.cloud.local import LocalTarget
from appliance.errors import PointRefusedError, StoppedError, VolumeBusyError
from appliance.events import Event, Step, silent
from appliance.model import Digest, DiskId, Stop, Volume
from appliance.seal.manifest import Manifest, State
from tests.line import Machine, TwoEnds, noise, part, relay_to, two_ends
from tests.support import BLOCK, MemoryDisk
from tests.technician import until

DISK = DiskId("11" * 16)
_PATIENCE = 30.0


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, LocalTarget(str(tmp_path / "volumes")), silent, 8, 0)


class Wanting:
    """A connection, in a thread, that wants the disk, and has it until it is let go."""

    def __init__(
        self, pool: ThreadPoolExecutor, desk: Desk, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self.has_it, self.let_go = threading.Event(), threading.Event()
        self.told: threading.Event | None = None
        self._desk, self._stop = desk, stop
        self.ended: Future[None] = pool.submit(self._run)

    def _run(self) -> None:
        with self._desk.alone_with(DISK, self._stop) as self.told:
            self.has_it.set()
            assert self.let_go.wait(_PATIENCE)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as found:
        yield found


def test_who_comes_next_tells_who_has_it_to_let_go_and_waits(
    desk: Desk, pool: ThreadPoolExecutor
) -> None:
    first = Wanting(pool, desk)
    assert first.has_it.wait(_PATIENCE)
    assert first.told is not None
    assert not first.told.is_set()
    second = Wanting(pool, desk)
    assert first.told.wait(_PATIENCE)
    assert not second.has_it.is_set()
    first.let_go.set()
    assert second.has_it.wait(_PATIENCE)
    assert second.told is not None
    assert not second.told.is_set()
    second.let_go.set()
    second.ended.result(_PATIENCE)


def test_who_gives_up_waiting_lets_nobody_in_beside_who_has_it(
    desk: Desk, pool: ThreadPoolExecutor
) -> None:
    first = Wanting(pool, desk)
    assert first.has_it.wait(_PATIENCE)
    over = threading.Event()
    second = Wanting(pool, desk, over.is_set)
    assert first.told is not None
    assert first.told.wait(_PATIENCE)
    third = Wanting(pool, desk)
    with pytest.raises(PointRefusedError, match=TAKEN_OVER):
        second.ended.result(_PATIENCE)
    fourth = Wanting(pool, desk, over.is_set)
    with pytest.raises(PointRefusedError, match=TAKEN_OVER):
        third.ended.result(_PATIENCE)
    over.set()
    with pytest.raises(StoppedError):
        fourth.ended.result(_PATIENCE)
    last = Wanting(pool, desk)
    assert not last.has_it.wait(0.5)  # nothing shows it sooner
    first.let_go.set()
    assert last.has_it.wait(_PATIENCE)
    last.let_go.set()
    last.ended.result(_PATIENCE)


# --- over a line --------------------


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


def test_a_volume_that_somebody_else_has_for_now_is_waited_for(
    ends: TwoEnds, pool: ThreadPoolExecutor
) -> None:
    """A check beside the rounds has it attached."""
    data = noise(3 * BLOCK)
    about = ends.restored(data)
    machine: Machine = ends.invite()
    with ends.target.attach(ends.held().about.volume):
        with pytest.raises(VolumeBusyError):
            machine.round(part(MemoryDisk(data), about), patience=0)
        running = pool.submit(machine.round, part(MemoryDisk(data), about))
        until(lambda: any(_waits(one) for one in list(machine.told)))
    assert running.result(_PATIENCE).point == 2


def _waits(one: Event) -> bool:
    return isinstance(one, Step) and one.step == "wait" and "The gate refuses" in one.detail


def test_a_survey_goes_on_when_the_line_is_cut_and_serves_who_comes_next(
    ends: TwoEnds, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(5 * BLOCK)
    about = ends.restored(data)
    machine = ends.invite()
    machine.round(part(MemoryDisk(data), about))
    (ends.held().place / MANIFEST).unlink()
    read, go_on, waits = list[int](), threading.Event(), threading.Event()
    alone_with = Desk.alone_with

    def wanted(self: Desk, disk: DiskId, stop: Stop) -> AbstractContextManager[threading.Event]:
        def asked() -> bool:  # only who waits looks
            waits.set()
            return stop()

        return alone_with(self, disk, asked)

    standing = replica._standing  # noqa: SLF001 - where each block of a survey is read

    def held(
        volume: Volume, like: Manifest, index: int, buffer: memoryview
    ) -> tuple[Digest, State]:
        read.append(index)
        assert go_on.wait(_PATIENCE)
        return standing(volume, like, index, buffer)

    monkeypatch.setattr(Desk, "alone_with", wanted)
    monkeypatch.setattr(replica, "_standing", held)
    with relay_to(ends) as relay:
        running = pool.submit(machine.round, part(MemoryDisk(data), about), port=relay.port)
        until(lambda: bool(read))
        relay.cut()
        assert waits.wait(_PATIENCE)  # the next connection
        go_on.set()
        assert running.result(_PATIENCE).blocks == 0
    assert read == list(range(5))
