"""Home: the device, its disks, its shipments, its jobs."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from appliance import shown
from appliance.errors import MotionGearError
from appliance.language import Translator, marked
from appliance.model import JobId
from appliance.seal.identity import Device
from appliance.tui import views
from appliance.tui.page import Page, console_of
from appliance.tui.screens.arrival import ArrivalWizard
from appliance.tui.screens.diagnosis import DiagnosisScreen
from appliance.tui.screens.dialogs import AskScreen, RefusalScreen
from appliance.tui.screens.ingest import IngestWizard
from appliance.tui.screens.job import JobScreen
from appliance.tui.screens.report import PapersScreen
from appliance.tui.screens.seal import SealWizard
from appliance.tui.screens.shipment import ShipmentScreen
from appliance.tui.speech import NOTHING, foreign, said
from appliance.tui.watch import Snapshot
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Drawn, Row, Rows, Tone
from appliance.tui.widgets.spoken import Line, Push


class HomeScreen(Page[None]):
    ABOUT = (
        marked("Ingest copies disks into a shipment; Seal closes a shipment for its journey."),
        marked("Pick a shipment to see what can be done with it."),
        marked("Pick a job to see how far it is, to let it rest, to go on with it or to stop it."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "")]

    def compose(self) -> ComposeResult:
        yield GuardBar()
        yield Line(id="device")
        yield Line(id="alert")
        with Vertical(id="home"):
            with Vertical(id="home-left"):
                yield Line(said(marked("Disks")), classes="title")
                yield Rows(id="disks")
                yield Line(said(marked("Shipments")), classes="title")
                yield Rows(id="shipments")
            with Vertical(id="home-right"):
                yield Line(said(marked("Jobs")), classes="title")
                yield Rows(id="jobs")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Ingest")), id="ingest")
            yield Push(said(marked("Seal")), id="seal")
            yield Push(said(marked("Arrival")), id="arrival")
            yield Push(said(marked("Papers")), id="papers")
            yield Push(said(marked("Diagnosis")), id="diagnose")
            yield Push(said(marked("Leave")), id="leave")

    def on_mount(self) -> None:
        self.query_one("#jobs").focus()
        self._device = ""
        try:
            self._device = Device.of(self.state.home).fingerprint
        except MotionGearError as exc:
            self.app.push_screen(RefusalScreen(exc))

    def seen(self, found: Snapshot) -> None:
        free = said(marked("unknown")) if found.free is None else foreign(shown.size(found.free))
        told = said(
            marked("MotionGear {device}   room {free}"), device=self._device or "-", free=free
        )
        self.query_one("#device", Line).tell(told)
        alert = self.query_one("#alert", Line)
        alert.tell(
            said(marked("Not all can be seen: {why}"), why=found.trouble)
            if found.trouble
            else NOTHING
        )
        alert.display = bool(found.trouble)
        self.query_one("#disks", Rows).show(
            views.disk_rows(found.disks) or [nothing(marked("No disk is attached."))]
        )
        self.query_one("#shipments", Rows).show(
            views.shipment_rows(found.shipments) or [nothing(marked("No shipment was begun yet."))]
        )
        self.query_one("#jobs", Rows).show(
            views.job_rows(found.jobs) or [nothing(marked("No job was started yet."))]
        )

    @on(Rows.Picked, "#jobs")
    def _picked(self, event: Rows.Picked) -> None:
        self.app.push_screen(JobScreen(JobId(int(event.key))))

    @on(Rows.Picked, "#shipments")
    def _shipment(self, event: Rows.Picked) -> None:
        found = console_of(self).snapshot.shipment(event.key)
        if found is not None:
            self.app.push_screen(ShipmentScreen(found.row))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "ingest":
                self.app.push_screen(IngestWizard())
            case "seal":
                self.app.push_screen(SealWizard())
            case "diagnose":
                self.app.push_screen(DiagnosisScreen())
            case "papers":
                self.app.push_screen(PapersScreen())
            case "arrival":
                self.app.push_screen(ArrivalWizard())
            case _:
                self.action_leave()

    def action_leave(self) -> None:
        question = AskScreen(
            said(marked("Leave the console?")),
            said(marked("Jobs go on without this console: leaving it harms none.")),
            do=said(marked("Leave")),
        )
        self.app.push_screen(question, self._left)

    def _left(self, leave: bool | None) -> None:  # noqa: FBT001 - the result
        if leave:
            console_of(self).leave()


def nothing(sentence: str) -> Row:
    """What stands in a list that is empty."""

    def draw(wide: int, say: Translator) -> Drawn:
        del wide
        return [((say(sentence), Tone.DIM),)]

    return Row("", draw)
