"""At the console behind a restore: a machine is let in, its rounds come, and it goes on from one
of their points.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from appliance import orders, process
from appliance.catchup import rounds
from appliance.catchup.enrol import Code, Gates, Registry
from appliance.catchup.link import Address
from appliance.catchup.points import name_of, points_of
from appliance.cli.demo_line import listening
from appliance.events import Json
from appliance.language import Language
from appliance.orders import keeps
from appliance.state import ENDED, JobState, State
from appliance.tui.screens.dialogs import ToldScreen
from appliance.tui.screens.following import point_key
from appliance.tui.screens.home import HomeScreen
from appliance.tui.screens.job import JobScreen
from appliance.tui.widgets.rows import Rows
from tests.console import EACH_WAY, Seat, seated, told
from tests.media import tool
from tests.technician import PASSPHRASE, Keys, Shell, noise, until


@pytest.fixture
def state(operator: Shell) -> Iterator[State]:
    with operator.state() as found:
        yield found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    found = tmp_path / "web.img"
    found.write_bytes(noise(3 << 20))
    return found


@pytest.fixture
def place(device: Shell, operator: Shell, keyring: Keys, image: Path, tmp_path: Path) -> Path:
    """Restored from a shipment, and the wizard left behind its review."""
    store, place = tmp_path / "store", tmp_path / "volumes"
    device.typed("shipment", "new", "hall 4", "-s", store, *keyring.recipients).fine()
    device.typed("ingest", image, "-s", store, "-m", "web[/]01").fine()
    device.typed("seal", "-s", store, "--waive", "a test").fine()
    restore = ("restore", "-s", store, "--to", place, "--key", keyring.operator)
    operator.typed(*restore, passphrase=PASSPHRASE)
    with operator.state() as state:
        (job,) = state.jobs()
        answers: dict[str, Json] = {"place": str(place), "restore-job": job.id}
        state.keep_draft("arrival", {"at": 6, "answers": answers})
    return place


def enrol(home: Path, address: str, code: str) -> None:
    Gates(home).note(rounds.enrol(home, Address.parse(address), Code.parse(code)))


def held_by(place: Path) -> bytes:
    """What the machine goes on from, whichever way its clone was made."""
    (clone,) = (one for one in (place / "clones").iterdir() if one.suffix != ".json")
    raw = place.parent / "raw.img"
    tool("qemu-img", "convert", "-O", "raw", clone, raw)
    return raw.read_bytes()


async def off_screen(work: Callable[[], object]) -> None:
    """What somebody else does meanwhile, at another machine."""
    await asyncio.get_running_loop().run_in_executor(None, work)


@EACH_WAY
def test_a_machine_goes_on_from_its_last_round(
    state: State,
    device: Shell,
    place: Path,
    image: Path,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    shelf = place.parent / "shelf"

    async def story() -> None:
        async with seated(state, shelf, size=size, language=language, mouse=mouse) as seat:
            await seat.push("#arrival")
            await seat.shows(seat.say("The volumes are written, then read back and compared."))
            await seat.shows(seat.say("finished"))
            await seat.push("#next")
            code = await invited(seat)
            address = await serving(seat)
            await off_screen(partial(enrol, device.home, address, code))
            await seat.shows(seat.say("enrolled"))
            changed = noise(3 << 20)
            await off_screen(lambda: image.write_bytes(changed))
            line = ("catch-up", "--gate", address, "-d", image, "--final", "--stopped")
            await off_screen(lambda: device.typed(*line).fine())
            await seat.shows(seat.say("recovery points: {count}").format(count=1))
            await cut_over(seat)
            assert held_by(place) == changed
            await over(seat)

    told(story)
    goal = keeps("local", str(place))
    (point,) = points_of(goal.snapshots())
    assert point.chosen
    assert list(Registry(state.home).machines()) == []
    assert state.draft("arrival") == {}


async def invited(seat: Seat) -> str:
    await seat.shows(seat.say("catch up"))
    await seat.push("#next")
    await seat.shows(seat.say("Pick the machine that is to go on from here."))
    await seat.push("#invite")
    await seat.shows(seat.say("Pick a machine first."))
    await seat.pick("#machines-here", "web[/]01")
    await seat.shows("(x) web[/]01", seat.say("not enrolled"))
    await seat.push("#invite")
    await seat.shows("motiongear enrol --gate HOST:PORT")
    code = "-".join(one for one in seat.text.split() if one.count("-") > 5)
    await seat.push("#next")
    await seat.shows("motiongear catch-up --final")
    return code


async def serving(seat: Seat) -> str:
    await seat.type("#listen", "127.0.0.1:0")
    await seat.push("#gate")
    await seat.shows(seat.say("Stop taking rounds"))
    jobs_of = seat.app.state.jobs
    gate = next(one.id for one in jobs_of() if one.kind == "gate")
    address: list[str] = []
    await off_screen(lambda: address.append(listening(seat.app.state, gate)))
    await seat.pick("#gate-jobs", str(gate))
    await seat.until(lambda: seat.screen_is(JobScreen))
    await seat.push("#back")
    return address[0]


async def cut_over(seat: Seat) -> None:
    await seat.push("#next")
    await seat.push("#next")
    await seat.shows(seat.say("Choose a recovery point."))
    points = seat.app.screen.query_one("#points", Rows)
    await seat.until(lambda: bool(points.cursor))
    await seat.pick("#points", points.cursor)
    await seat.shows("(x)", seat.say("quiesced"))
    await seat.push("#next")
    await seat.shows(seat.say("Give the volumes that are made of it a name."))
    await seat.type("#clones", "last")
    await seat.push("#next")
    await seat.shows(
        seat.say("It is let in no more: to send rounds again, it needs a new code."), "last-..."
    )
    await seat.push("#next")
    await seat.shows(seat.say("Type the machine's name, exactly as it stands there."))
    await seat.type("#typed", "web[/]01")
    await seat.push("#next")
    await seat.until(lambda: seat.screen_is(ToldScreen))
    await seat.shows("clones/last-")
    await seat.push("#close")


async def over(seat: Seat) -> None:
    """Rounds are taken no more, and the arrival is over."""
    await seat.shows(seat.say("catch up"))
    await seat.push("#gate")
    await seat.shows(seat.say("Take rounds"))
    gate = next(one for one in seat.app.snapshot.jobs if one.row.kind == "gate").row.id
    await seat.until(lambda: seat.app.state.job(gate).state in ENDED)
    assert seat.app.state.job(gate).state is not JobState.DIED
    await seat.push("#end-roundsstage")
    await seat.push("#do")
    await seat.until(lambda: seat.screen_is(HomeScreen))


@pytest.fixture
def caught_up(state: State, device: Shell, place: Path, image: Path) -> Iterator[Path]:
    """A gate that has taken the last rounds of the machine, twice."""
    gate = orders.gate(state, "local", str(place), "127.0.0.1:0").job
    address = listening(state, gate)
    code, _ = orders.invite(state.home, "web[/]01")
    enrol(device.home, address, str(code))
    for _ in range(2):
        image.write_bytes(noise(3 << 20))
        line = ("catch-up", "--gate", address, "-d", image, "--final", "--stopped")
        device.typed(*line).fine()
    process.stop(state, gate)
    yield place
    until(lambda: state.job(gate).state in ENDED)


@EACH_WAY
def test_points_are_chosen_cloned_and_discarded(
    state: State, caught_up: Path, *, mouse: bool, size: tuple[int, int], language: Language
) -> None:
    goal = keeps("local", str(caught_up))
    first, second = points_of(goal.snapshots())

    async def story() -> None:
        shelf = caught_up.parent / "shelf"
        async with seated(state, shelf, size=size, language=language, mouse=mouse) as seat:
            await seat.until(lambda: bool(seat.app.snapshot.shipments))
            await seat.pick("#shipments", seat.app.snapshot.shipments[0].row.id)
            await seat.pick("#deeds", "points")
            await seat.shows("web[/]01", seat.say("quiesced"))
            await seat.push("#choose")
            await seat.shows(seat.say("Pick a recovery point first."))
            newest, oldest = (f"local\0{caught_up}\0{point_key(one)}" for one in (second, first))
            await seat.pick("#points", newest)
            await seat.push("#choose")
            await seat.shows(seat.say("chosen"))
            await seat.push("#clone")
            await seat.shows("The clones have no name yet")
            await seat.push("#close")
            await seat.type("#clones", "try")
            await seat.push("#clone")
            await seat.shows(seat.say("clones: {names}").format(names="try"))
            await seat.pick("#points", oldest)
            await seat.push("#discard")
            await seat.shows(seat.say("What is discarded cannot be had back."))
            await seat.push("#do")
            await seat.until(lambda: len(points_of(goal.snapshots())) == 1)

    told(story)
    (left,) = points_of(goal.snapshots())
    assert (left.point, left.chosen) == (second.point, True)
    assert [name_of(one) for one in goal.clones()] == ["try"]
