"""One shipment: what is known of it, and what can be done with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Button

from appliance import shown
from appliance.language import Translator, marked
from appliance.seal import text
from appliance.state import ShipmentRow
from appliance.tui import views
from appliance.tui.page import Page
from appliance.tui.screens.custody import CustodyScreen
from appliance.tui.screens.erase import EraseScreen
from appliance.tui.screens.manifest import ManifestScreen
from appliance.tui.screens.points import PointsScreen
from appliance.tui.screens.report import ReportScreen
from appliance.tui.screens.seal import LabelScreen
from appliance.tui.speech import said
from appliance.tui.watch import Shipment, Snapshot, Standing
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push

_ANY = frozenset(Standing)
_THERE = frozenset({Standing.OPEN, Standing.SEALED})


@dataclass(frozen=True, slots=True)
class Deed:
    """What can be done with a shipment that stands so. ``name`` and ``about`` are marked."""

    name: str
    about: str
    standings: frozenset[Standing]
    opens: Callable[[ShipmentRow], Screen[Any]]


DEEDS = {
    "label": Deed(
        marked("Label"),
        marked("seal root and code, to be compared"),
        frozenset({Standing.SEALED}),
        LabelScreen,
    ),
    "manifest": Deed(
        marked("Manifest"),
        marked("every block of its disks; needs a key"),
        frozenset({Standing.SEALED}),
        ManifestScreen,
    ),
    "points": Deed(
        marked("Recovery points"),
        marked("of the machines that were restored from it"),
        _ANY,
        PointsScreen,
    ),
    "custody": Deed(
        marked("Custody"),
        marked("through whose hands it went; hand over, receive"),
        _THERE,
        CustodyScreen,
    ),
    "report": Deed(
        marked("Report"),
        marked("what is known of its way, signed"),
        _ANY,
        ReportScreen,
    ),
    "erase": Deed(
        marked("Erase"),
        marked("take it off this device for good"),
        _ANY - {Standing.AWAY},
        EraseScreen,
    ),
}


class ShipmentScreen(Page[None]):
    ABOUT = (
        marked("What can be done with a shipment depends on how it stands."),
        marked("Erase asks twice, and for a text that is to be typed."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, shipment: ShipmentRow) -> None:
        super().__init__()
        self._shipment = shipment

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with Vertical(id="sheet"):
            yield Line(said(marked("Shipment")), classes="title")
            yield Rows(id="facts")
            yield Line(said(marked("What can be done")), classes="title")
            yield Rows(id="deeds")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")

    def on_mount(self) -> None:
        self.query_one("#deeds").focus()

    def seen(self, found: Snapshot) -> None:
        known = found.shipment(self._shipment.id)
        if known is None:
            return
        self._shipment = known.row
        self.query_one("#facts", Rows).show([Row("", _facts(known))])
        offered = [
            Row(key, _deed(one)) for key, one in DEEDS.items() if known.standing in one.standings
        ]
        self.query_one("#deeds", Rows).show(offered)

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        self.app.push_screen(DEEDS[event.key].opens(self._shipment))

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()


def _facts(known: Shipment) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        row, (word, tone) = known.row, views.SHIPMENTS[known.standing]
        lines = [*fact(say(marked("label")), shown.safe(row.label), wide, Tone.STRONG)]
        lines += fact(say(marked("stands")), say(word), wide, tone)
        lines += fact(say(marked("shipment")), row.id, wide)
        lines += fact(say(marked("place")), shown.safe(row.path), wide)
        if row.root:
            root = text.grouped(bytes.fromhex(row.root))
            lines += fact(say(marked("seal root")), root, wide)
        return lines

    return draw


def _deed(one: Deed) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        told = f"{say(one.name)}: {say(one.about)}"
        return [((each, Tone.STRONG),) for each in fold(told, wide, indent=4)]

    return draw
