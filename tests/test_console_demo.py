"""The demo of the console: a recording of real migrations, by its own screens and database."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.language import Language
from appliance.seal import chain, custody, statement
from appliance.seal.store import Store
from appliance.state import JobState, State
from appliance.tui.replay import Player, disks_of, recorded
from appliance.tui.screens.job import JobScreen
from appliance.tui.screens.seal import LabelScreen
from tests.console import EACH_WAY, seated, told

QUICK = 1000.0  # times as fast


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path) as found:
        yield found


@contextmanager
def played(state: State, speed: float = QUICK) -> Iterator[None]:
    """The recording, while it is played and until the console is left."""
    leaving = threading.Event()
    player = Player(state, state.home, recorded(), leaving)
    thread = threading.Thread(target=player.play, args=(speed,))
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join()


def test_a_recording_plays_to_its_end(state: State) -> None:
    async def story() -> None:
        with played(state):
            disks = disks_of(recorded())
            async with seated(state, state.home, recorded=disks) as seat:
                await seat.shows("DEMO, recorded", "S4EWNX0R512876")
                await seat.until(lambda: len(state.jobs()) == jobs_in_recording())
                await seat.until(lambda: ended(state))

    told(story)
    assert {one.state for one in state.jobs() if one.kind != "gate"} == {JobState.FINISHED}
    (sealed,) = [one for one in state.shipments() if one.root]
    assert statement.read(sealed.path).root().hex() == sealed.root
    records = custody.read(custody.in_store(sealed.path))
    about = chain.Expected(Store(sealed.path).head.shipment, sealed.root)
    assert not [one for one in chain.verify(records, about) if one.is_error]


def jobs_in_recording() -> int:
    return sum("job" in one for one in recorded())


def ended(state: State) -> bool:
    return all(one.state is not JobState.RUNNING for one in state.jobs() if one.kind != "gate")


@EACH_WAY
def test_what_was_recorded_is_looked_at_and_cannot_be_stopped(
    state: State, *, mouse: bool, size: tuple[int, int], language: Language
) -> None:
    """No job of it has a process: who stopped one would end the console."""

    async def story() -> None:
        disks = disks_of(recorded())
        with played(state, 1.0):
            async with seated(
                state,
                state.home,
                size=size,
                language=language,
                mouse=mouse,
                recorded=disks,
            ) as seat:
                await seat.until(lambda: any(one.pace.now for one in seat.app.snapshot.jobs))
                await seat.shows(seat.say("running"), "web01")
                job = seat.app.snapshot.jobs[0].row.id
                await seat.pick("#jobs", str(job))
                await seat.until(lambda: seat.screen_is(JobScreen))
                for one in ("#pause", "#stop", "#resume"):
                    assert seat.app.screen.query_one(one).disabled
                await seat.push("#back")
                await seat.until(lambda: any(one.root for one in state.shipments()))
                (sealed,) = [one for one in state.shipments() if one.root]
                await seat.pick("#shipments", sealed.id)
                await seat.pick("#deeds", "label")
                await seat.until(lambda: seat.screen_is(LabelScreen))
                await seat.shows(statement.read(sealed.path).device_fingerprint)

    told(story)


def test_a_recording_names_no_place_of_a_machine() -> None:
    for one in recorded():
        text = str(one)
        assert "/home/" not in text
        assert "/tmp" not in text
        assert "/root" not in text
