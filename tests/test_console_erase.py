"""Erase at the console: what is critical is whole and in sight, whatever it is called; what has
been ordered is not said to be cancelled.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import erasures, process
from appliance.errors import StateError
from appliance.language import Language
from appliance.seal.store import Store
from appliance.state import ShipmentRow, State
from appliance.tui.page import Page
from appliance.tui.screens.custody import CustodyScreen
from appliance.tui.screens.dialogs import HelpScreen
from appliance.tui.screens.erase import EraseScreen
from appliance.tui.screens.job import JobScreen
from appliance.tui.screens.report import ReportScreen
from appliance.tui.screens.shipment import ShipmentScreen
from appliance.tui.widgets.spoken import Line
from tests import sealed
from tests.console import EACH_WAY, Seat, seated, squeezed, told
from tests.media import Bench

LONGEST = "[b]" + "机柜7" * 41 + "$9"  # 128 characters, 207 cells, some of them no keyboard has
assert len(LONGEST) == 128


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed.make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def here(made: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = sealed.copied(made, bench)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def state(here: Path) -> Iterator[State]:
    with State(here / "home") as found:
        yield found


@pytest.fixture
def row(state: State) -> ShipmentRow:
    (found,) = state.shipments()
    return found


async def agreed(seat: Seat, row: ShipmentRow) -> None:
    """All is said and typed; Erase is pressed next."""
    await seat.until(lambda: bool(seat.app.snapshot.shipments))
    await seat.pick("#shipments", row.id)
    await seat.pick("#deeds", "erase")
    await seat.until(lambda: not seat.app.screen.query_one("#do").disabled)
    await seat.pick("#twice", "not-delivered")
    await seat.pick("#twice", "data-will-be-lost")
    await seat.type("#typed", sealed.SHOWN)


@pytest.mark.parametrize("page", [EraseScreen, CustodyScreen, ReportScreen, ShipmentScreen])
def test_the_longest_label_is_whole(
    state: State, here: Path, page: Callable[[ShipmentRow], Page[None]]
) -> None:
    row = sealed.unsealed(state, here, LONGEST)

    async def story() -> None:
        async with seated(state, here) as seat:
            seat.app.push_screen(page(row))
            await seat.shows(LONGEST)

    told(story)


def test_that_it_cannot_be_undone_is_seen_however_much_stays(state: State, here: Path) -> None:
    row = sealed.unsealed(state, here, "l")
    for number in range(25):
        (row.path / f"[b]mine-{number:02}").touch()

    async def story() -> None:
        async with seated(state, here) as seat:
            seat.app.push_screen(EraseScreen(row))
            await seat.shows("[b]mine-00", "It cannot be undone.")
            going = seat.app.screen.query_one("#going")
            await seat.scroll_down("#going")
            assert going.scroll_offset.y > 0
            await seat.shows("[b]mine-19", "and 5 more", "It cannot be undone.")

    told(story)


@EACH_WAY
def test_a_shipment_whose_label_no_keyboard_has_is_erased_by_the_end_of_its_id(
    state: State,
    here: Path,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    """It was never sealed: it has no root that could be typed instead."""
    row = sealed.unsealed(state, here, LONGEST)

    async def story() -> None:
        async with seated(state, here, size=size, language=language, mouse=mouse) as seat:
            await seat.until(lambda: seat.app.snapshot.shipment(row.id) is not None)
            await seat.pick("#shipments", row.id)
            await seat.pick("#deeds", "erase")
            await seat.shows(seat.say("NOT SEALED"), row.id, LONGEST)
            assert seat.app.focused is seat.app.screen.query_one("#cancel")
            await seat.pick("#twice", "not-sealed")
            await seat.pick("#twice", "data-will-be-lost")
            await seat.type("#typed", row.id[-8:-1])
            await seat.push("#do")
            await seat.shows(seat.say("What was typed is not what is asked for."))
            assert row.path.exists()
            await seat.type("#typed", row.id[-8:])
            asked = squeezed(seat.text if mouse else asked_by(seat))
            assert squeezed(row.id[-8:]) in asked
            assert squeezed(LONGEST) in asked
            await seat.push("#do")
            await seat.until(lambda: seat.screen_is(JobScreen))
            await seat.shows(seat.say("finished"))

    told(story)
    assert not row.path.exists()


def asked_by(seat: Seat) -> str:
    """The sentence above the field, as it is seen."""
    asked = seat.app.screen.query_one("#asked", Line).region
    return "\n".join(seat.lines[asked.y : asked.bottom])


def test_a_sealed_shipment_is_not_erased_by_the_end_of_its_id(
    state: State, row: ShipmentRow
) -> None:
    """What is on the label counts: it proves that somebody has looked at it."""
    assert row.id[-8:] not in erasures.wanted(erasures.look(state, row.path))


@pytest.mark.parametrize("key", ["escape", "f1"])
def test_what_is_pressed_while_it_is_ordered_neither_cancels_nor_stands_in_the_way(
    state: State, here: Path, row: ShipmentRow, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    order = sealed.Held(erasures.order)
    monkeypatch.setattr(erasures, "order", order)

    async def story() -> None:
        async with seated(state, here) as seat:
            await agreed(seat, row)
            await seat.push("#do")
            await seat.until(order.called.is_set)
            assert seat.app.screen.query_one("#cancel").disabled
            await seat.pilot.press(key)
            assert seat.screen_is(HelpScreen if key == "f1" else EraseScreen)
            order.go()
            await seat.until(lambda: seat.screen_is(JobScreen))
            await seat.shows("finished")
            await seat.push("#back")
            assert seat.screen_is(ShipmentScreen)

    told(story)
    assert not row.path.exists()


def test_an_erase_that_is_refused_can_be_left_or_ordered_again(
    state: State, here: Path, row: ShipmentRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StateError("no room in [/]home")

    monkeypatch.setattr(process, "begin", full)

    async def story() -> None:
        async with seated(state, here) as seat:
            await agreed(seat, row)
            await seat.push("#do")
            await seat.shows("no room in [/]home")
            await seat.push("#close")
            assert not seat.app.screen.query_one("#do").disabled
            await seat.push("#cancel")
            assert seat.screen_is(ShipmentScreen)

    told(story)
    assert Store(row.path).sealed
