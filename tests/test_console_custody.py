"""Custody at the console: what is wrong is said first and in words, the store is compared with
what this machine knows, and a hand-over is signed once, and its code seen.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen

from appliance import handover
from appliance.handover import Hands, Whose
from appliance.language import Language
from appliance.orders import begin_shipment
from appliance.seal import chain, custody, deed, keys, text
from appliance.seal.chain import Finding, Kind
from appliance.seal.custody import Custody, Deed, Who
from appliance.seal.identity import Device
from appliance.state import ShipmentRow, State
from appliance.tui.keyboard import KeyboardScreen
from appliance.tui.screens.custody import CustodyScreen
from appliance.tui.screens.dialogs import HelpScreen, ToldScreen
from appliance.tui.screens.hands import HandScreen
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.spoken import Push
from tests import sealed
from tests.console import EACH_WAY, WIDE, Seat, seated, told
from tests.media import Bench

NAME = "[@click=app.quit()]L\x1bi"  # foreign text, which steers nothing
NAMED = r"[@click=app.quit()]L\x1bi"


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


async def looked(seat: Seat, row: ShipmentRow) -> None:
    seat.app.push_screen(CustodyScreen(row))
    await seat.until(lambda: seat.screen_is(CustodyScreen))


def records_of(row: ShipmentRow) -> dict[int, deed.Signed]:
    return chain.records(custody.read(custody.in_store(row.path)))


@EACH_WAY
def test_every_record_says_what_who_where_when_and_under_which_seal(
    state: State,
    here: Path,
    row: ShipmentRow,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    giver = Hands("\u202egiv[/]er", "[b]org", "ramp [/]7")
    code, _ = handover.hand_over(here / "home", row.path, Hands(NAME, "[/]"), "", giver)

    async def story() -> None:
        async with seated(state, here, size=size, language=language, mouse=mouse) as seat:
            await looked(seat, row)
            one = records_of(row)[4].record
            await seat.shows(
                seat.say("The shipment was begun on this device."),
                seat.say("handed over"),
                f"{one.at} ({seat.say(handover.CLOCKS[one.clock])})",
                r"\u202egiv[/]er, [b]org",
                "ramp [/]7",
                f"{NAMED}, [/]",
                text.grouped(bytes.fromhex(row.root)),
                Device.of(here / "home").fingerprint,
                code,  # the giver's own, to be told once more
            )
            await seat.scroll_down("#records")
            await seat.shows(sealed.SHOWN)

    told(story)


def test_the_code_of_another_ones_hand_over_is_not_told(here: Path, row: ShipmentRow) -> None:
    """The receiver has it from the giver, by another path than the device."""
    code, _ = handover.hand_over(here / "home", row.path, Hands("Lin"), "", Hands())
    assert handover.known(here / "home", row.path).codes == {4: code}
    assert not handover.known(here / "other", row.path).codes


def test_records_that_only_this_machine_has_are_said(
    state: State, here: Path, row: ShipmentRow
) -> None:
    """The store could not be written, or they were taken from it: nobody can tell."""
    (custody.in_store(row.path) / "000003.json").unlink()

    async def story() -> None:
        async with seated(state, here) as seat:
            await looked(seat, row)
            await seat.shows("Only this machine has these records: 3.", "3  sealed")
            await seat.pilot.press("f3")
            await seat.shows(
                seat.say(
                    "Only this machine has these records: {numbers}. The store could not be "
                    "written, or they were taken from it."
                ).format(numbers=3)
            )

    told(story)


def test_a_record_of_another_that_is_gone_from_the_store_was_taken_from_it(
    here: Path, row: ShipmentRow
) -> None:
    handover.hand_over(here / "home", row.path, Hands("Lin"), "", Hands())
    handover.receive(here / "other", row.path, "", Hands())
    who = Custody(here / "home", row.id, Who("late"), "")
    custody.append(who, row.path, Deed.VERIFIED, row.root)  # which brings the answer home
    for number in (5, 6):
        (custody.in_store(row.path) / f"{number:06}.json").unlink()
    found = handover.known(here / "home", row.path)
    assert Finding(Kind.TRUNCATED, 5) in found.findings
    assert not found.is_sound
    assert found.only_here == {5, 6}
    assert [one.record.number for one in found.records] == [1, 2, 3, 4, 5, 6]


def test_another_chain_than_the_one_known_here_is_a_fork(
    state: State, here: Path, row: ShipmentRow
) -> None:
    """Signed by the same key, and sound in itself: only the copy at home tells."""
    place, home = custody.in_store(row.path), custody.at_home(here / "home", row.id)
    kept = custody.read(home)
    for number in (2, 3):
        (place / f"{number:06}.json").unlink()
    home.rename(here / "aside")
    who = Custody(here / "home", row.id, Who("[/]forger"), "")
    custody.append(who, row.path, Deed.INGESTED)
    custody.append(who, row.path, Deed.SEALED, row.root)
    custody.at_home(here / "home", row.id).rename(here / "forged")
    (here / "aside").rename(home)
    assert custody.read(home) == kept
    assert not [one for one in chain.verify(custody.read(place)) if one.is_error]

    async def story() -> None:
        async with seated(state, here) as seat:
            await looked(seat, row)
            await seat.shows(
                "The chain does NOT hold together.",
                "!! record 2: another copy has another record here (fork)",
                "[/]forger",
            )
            assert seat.text.index("(fork)") < seat.text.index("forger")

    told(story)


def test_a_damaged_copy_at_home_is_said(state: State, here: Path, row: ShipmentRow) -> None:
    mine = custody.at_home(here / "home", row.id) / "000003.json"
    mine.write_bytes(mine.read_bytes()[:-9])

    async def story() -> None:
        async with seated(state, here) as seat:
            await looked(seat, row)
            await seat.shows("!! This machine's own copy: record 3: a record is damaged (damaged)")

    told(story)


def test_a_home_whose_copy_cannot_be_read_says_so(here: Path, row: ShipmentRow) -> None:
    home = custody.at_home(here / "home", row.id)
    home.rename(here / "aside")
    home.symlink_to(here / "aside")
    found = handover.known(here / "home", row.path)
    assert found.own == (Finding(Kind.DAMAGED),)
    assert found.is_sound


def test_an_exported_chain_is_of_no_shipment_known_by_another_path(
    here: Path, row: ShipmentRow
) -> None:
    custody.bring(custody.in_store(row.path), here / "out", row.id)
    found = handover.known(here / "home", here / "out")
    assert (found.is_sound, found.whose, found.only_here) == (True, Whose.UNKNOWN, frozenset())


@EACH_WAY
def test_whose_device_it_was_is_known_by_its_fingerprint_only(
    here: Path,
    row: ShipmentRow,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    wrong, right = (Device.of(here / one).fingerprint for one in ("other", "home"))

    async def story() -> None:
        async with seated(other, here, size=size, language=language, mouse=mouse) as seat:
            await looked(seat, row)
            consistent = (
                "Consistent: as they were signed. Whose device it was, its fingerprint would "
                "confirm."
            )
            await seat.shows(seat.say(consistent))
            await seat.scan("#custody-device", wrong)
            await seat.push("#verify-custody")
            await seat.shows(seat.say("The chain does NOT hold together."), "(other-signer)")
            await seat.scan("#custody-device", "ABCD")
            await seat.push("#verify-custody")
            await seat.shows("bad-input")
            assert "other-signer" not in seat.text
            await seat.scan("#custody-device", right)
            await seat.push("#verify-custody")
            await seat.shows(seat.say("It was begun and sealed by the device expected."))

    with State(here / "other") as other:
        told(story)


@pytest.mark.parametrize("key", ["escape", "keyboard", "f1"])
def test_what_is_being_signed_is_not_left_before_its_code_is_seen(
    state: State, here: Path, row: ShipmentRow, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    sign = sealed.Held(handover.hand_over)
    monkeypatch.setattr(handover, "hand_over", sign)
    over: dict[str, type[Screen[Any]]] = {"keyboard": KeyboardScreen, "f1": HelpScreen}

    async def story() -> None:
        async with seated(state, here, mouse=True, size=WIDE) as seat:
            await looked(seat, row)
            await seat.push("#hand-over")
            await seat.type("#hand-to", "Lin")
            await seat.push("#do")
            await seat.until(sign.called.is_set)
            assert seat.app.screen.query_one("#cancel").disabled
            if key == "keyboard":
                seat.app.screen.query_one("#hand-by", Field).query_one(Push).press()
                await seat.pilot.pause()
            else:
                await seat.pilot.press(key)
            assert seat.screen_is(over.get(key, HandScreen))
            sign.go()
            await seat.until(lambda: seat.screen_is(ToldScreen))
            signed = custody.read(custody.in_store(row.path))[4]
            await seat.shows(deed.code(deed.digest(signed)))
            await seat.push("#close")
            assert seat.screen_is(CustodyScreen)

    told(story)


@EACH_WAY
def test_a_giver_says_who_and_where_they_are_and_a_receiver_tells_their_key(
    state: State,
    here: Path,
    row: ShipmentRow,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    key = Device.of(here / "home").public

    async def story() -> None:
        async with seated(state, here, size=size, language=language, mouse=mouse) as seat:
            await looked(seat, row)
            await seat.push("#own-key")
            await seat.until(lambda: seat.screen_is(ToldScreen))
            assert key in seat.text  # in one piece, whole
            await seat.shows(Device.of(here / "home").fingerprint)
            await seat.push("#close")
            await seat.push("#hand-over")
            for field, typed in (
                ("to", "[/]lin"),
                ("organisation", "cargo"),
                ("by", "ada"),
                ("own", "[b]acme"),
                ("where", "ramp 7"),
            ):
                await seat.type(f"#hand-{field}", typed)
            await seat.pilot.press("f1")
            await seat.shows(
                seat.say("A courier without a key writes the code of the hand-over on paper.")
            )
            await seat.pilot.press("escape")
            await seat.pilot.press("f3", "f3")
            await seat.push("#do")
            await seat.until(lambda: seat.screen_is(ToldScreen))
            await seat.push("#close")
            await seat.shows("[/]lin, cargo", "ada, [b]acme", "ramp 7")

    told(story)
    one = records_of(row)[4].record
    assert (one.who, one.where) == (Who("ada", "[b]acme"), "ramp 7")
    assert one.what.to == Who("[/]lin", "cargo")


@pytest.mark.parametrize("which", ["store", "home"])
def test_why_a_record_is_kept_in_one_place_only_is_said_with_what_to_do(
    state: State, here: Path, row: ShipmentRow, which: str
) -> None:
    """As the verbs of the command line say it."""
    place = custody.in_store(row.path) if which == "store" else custody.at_home(state.home, row.id)
    (place / "000002.json").write_bytes(b"{}")
    first, kept, todo = handover.UNSOUND if which == "store" else handover.OWN_UNSOUND

    async def story() -> None:
        async with seated(state, here) as seat:
            await looked(seat, row)
            await seat.push("#hand-over")
            await seat.type("#hand-to", "Lin")
            await seat.push("#do")
            await seat.until(lambda: seat.screen_is(ToldScreen))
            await seat.scroll_down(".dialog")
            await seat.shows("record 2: a record is damaged (damaged)", kept, todo)

    told(story)
    assert first


def test_a_name_that_is_longer_than_a_record_holds_is_refused_and_can_be_mended(
    state: State, here: Path, row: ShipmentRow
) -> None:
    async def story() -> None:
        async with seated(state, here) as seat:
            await looked(seat, row)
            await seat.push("#hand-over")
            await seat.scan("#hand-to", "x" * (deed.NAME + 1))
            await seat.push("#do")
            await seat.shows("has 129 characters", "Say it shorter.")
            await seat.type("#hand-to", "Lin")
            await seat.push("#do")
            await seat.until(lambda: seat.screen_is(ToldScreen))

    told(story)
    assert len(records_of(row)) == 4


def test_a_shipment_whose_records_were_taken_away_has_none(state: State, here: Path) -> None:
    store = begin_shipment(state, here / "e", "e", (keys.read_recipient(here / "op.pub"),))
    os.unlink(custody.in_store(store.path) / "000001.json")  # noqa: PTH108 - it is gone
    found = state.shipment(store.head.shipment)
    assert found is not None

    async def story() -> None:
        async with seated(state, here) as seat:
            await looked(seat, found)
            await seat.shows("The chain does NOT hold together.", "there is no record (empty)")
            await seat.shows("Only this machine has these records: 1.")

    told(story)
