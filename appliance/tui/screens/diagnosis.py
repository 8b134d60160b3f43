"""What is wrong with the device or a job, what is safe, what to do; and the support package."""

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from appliance import shown
from appliance.diagnose import device, jobs, package
from appliance.diagnose.findings import Finding, worst_first
from appliance.diagnose.kinds import Severity
from appliance.language import Translator, marked
from appliance.model import JobId
from appliance.state import look
from appliance.tui.background import in_background
from appliance.tui.page import Page, console_of
from appliance.tui.speech import NOTHING, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Drawn, Row, Rows, Tone, fold
from appliance.tui.widgets.spoken import Line, Push

_TONES = {Severity.ERROR: Tone.BAD, Severity.WARNING: Tone.WATCH, Severity.OK: Tone.PLAIN}


class DiagnosisScreen(Page[None]):
    """Of one job, or of the device. Changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]
    ABOUT = (
        marked("What is worst stands first. Looking changes nothing."),
        marked("The support package holds no keys and no content; look through it all the same."),
    )

    def __init__(self, job: JobId | None = None) -> None:
        super().__init__()
        self._job = job

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with Vertical(id="diagnosis"):
            yield Line(id="diagnosis-say", classes="title")
            yield Rows(id="findings")
            yield Field(said(marked("support package")), id="package")
            yield Line(said(marked("a file that is not there yet: NAME.tar.zst")), classes="hint")
            yield Line(id="package-say")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Write package")), id="write")

    def on_mount(self) -> None:
        self.query_one("#back").focus()
        told = said(marked("being read ..."))
        sign = partial(self.query_one("#diagnosis-say", Line).tell, told)
        in_background(self, self._look, self._looked, self.refuse, sign)

    def _look(self) -> list[Finding]:
        home = self.state.home
        with look.seen(home, self.state) as seen:
            if self._job is None:
                return worst_first(device.findings(home, seen))
            return worst_first(jobs.one(home, seen, self._job))

    def _looked(self, found: list[Finding]) -> None:
        wrong = sum(one.severity is Severity.ERROR for one in found)
        self.query_one("#diagnosis-say", Line).tell(
            said(
                marked("Findings: {count}; of them errors: {wrong}"), count=len(found), wrong=wrong
            )
        )
        self.query_one(Rows).show([self._row(one) for one in found])

    def _row(self, found: Finding) -> Row:
        def draw(wide: int, say: Translator) -> Drawn:
            del say
            lines = found.lines_in(console_of(self).language)
            folded = [each for one in lines for each in fold(shown.safe(one), wide, indent=4)]
            return [((one, _TONES[found.severity]),) for one in folded]

        return Row("", draw)

    @on(Button.Pressed, "#write")
    def _write(self, event: Button.Pressed) -> None:
        event.stop()
        path = self.query_one("#package", Field).value.strip()
        if not path:
            self.query_one("#package-say", Line).tell(
                said(marked("Name the file of the support package."))
            )
            return
        self.query_one("#package-say", Line).tell(NOTHING)
        work = partial(self._package, Path(path).absolute())
        in_background(self, work, self._written, self.refuse)

    def _package(self, path: Path) -> package.Package:
        home = self.state.home
        with look.seen(home, self.state) as seen:
            return package.write(path, home, seen)

    def _written(self, made: package.Package) -> None:
        self.query_one("#package-say", Line).tell(
            said(
                marked("Written: {path}, files: {count}, {size}. It is not encrypted."),
                path=made.path,
                count=len(made.names),
                size=shown.size(made.size),
            )
        )

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()
