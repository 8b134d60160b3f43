"""Reports and certificates: one is made of a shipment, others are looked at and handed on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button

from appliance import papers, shown
from appliance.errors import CertificateRefusedError, MotionGearError
from appliance.jobs.erasing import read_certificate
from appliance.language import Language, Translator, marked, translator
from appliance.report import document, view
from appliance.report.certificate import told_of
from appliance.report.document import Signed
from appliance.report.publish import publish, refuse_taken
from appliance.seal import certificate as certificates
from appliance.seal.certificate import Certificate
from appliance.seal.keys import PrivateKey
from appliance.seal.verify import Trust
from appliance.state import ShipmentRow
from appliance.tui.background import in_background
from appliance.tui.page import Console, Page, console_of
from appliance.tui.screens.key import KeyScreen
from appliance.tui.speech import NOTHING, Said, refused, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push

_TONES = {view.Mark.FINE: Tone.GOOD, view.Mark.WATCH: Tone.WATCH, view.Mark.UNKNOWN: Tone.DIM}
_SIGNS = {view.Mark.FINE: "+", view.Mark.WATCH: "!", view.Mark.UNKNOWN: "?"}


def summary(signed: Signed, console: Console) -> list[Row]:
    """What a report says first, and what is wrong with custody, in the language of the moment."""
    views = {one: view.View(signed, translator(one)) for one in Language}

    def draw(wide: int, say: Translator) -> Drawn:
        del say
        seen = views[console.language]
        lines: list[Sequence[tuple[str, Tone]]] = []
        for one in seen.lines():
            told = shown.safe(f"{_SIGNS[one.mark]} {one.name}: {one.text}")
            lines += [((each, _TONES[one.mark]),) for each in fold(told, wide, indent=2)]
        for remark in [*seen.remarks(), *signed.report.gaps]:
            told = shown.safe(f"? {remark}")
            lines += [((each, Tone.WATCH),) for each in fold(told, wide, indent=2)]
        return lines

    return [Row("", draw)]


class ReportScreen(Page[None]):
    """The report of a shipment is made: read, signed, written."""

    ABOUT = (
        marked("The report is gathered from what this machine knows; nothing is changed."),
        marked("With a key, the disks are opened by their indexes; no block is read."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, shipment: ShipmentRow) -> None:
        super().__init__()
        self._shipment = shipment
        self._key: PrivateKey | None = None

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with VerticalScroll(id="sheet", can_focus=False):
            yield Line(
                said(marked("Report of {label}"), label=self._shipment.label), classes="title"
            )
            yield Field(said(marked("files (DIR/NAME)")), id="out")
            yield Line(
                said(marked("NAME.json is signed; NAME.en.html, NAME.zh.pdf and so on show it.")),
                classes="hint",
            )
            yield Line(id="report-say")
            yield Rows(id="summary")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("With a key")), id="key-for-it")
            yield Push(said(marked("Write")), id="write")

    def on_mount(self) -> None:
        self.query_one("#back").focus()

    @on(Button.Pressed, "#key-for-it")
    def _ask(self, event: Button.Pressed) -> None:
        event.stop()
        self.app.push_screen(KeyScreen(), self._unlocked)

    def _unlocked(self, key: PrivateKey | None) -> None:
        if key is not None:
            self._key = key
            self._say(said(marked("The key is unlocked, until this page is left.")))

    @on(Button.Pressed, "#write")
    def _write(self, event: Button.Pressed) -> None:
        event.stop()
        out = self.query_one("#out", Field).value.strip()
        if not out:
            self._say(said(marked("Say where the files go.")))
            return
        self._busy(busy=True)
        sign = partial(self._say, said(marked("being written ...")))
        work = partial(self._make, Path(out).absolute())
        in_background(self, work, self._made, self._unmade, sign)

    def _make(self, out: Path) -> tuple[Signed, list[Path]]:
        refuse_taken(out)
        state = self.state
        store, shipment = papers.about(state, None, self._shipment.id)
        goals = papers.targets(state, shipment, "local", ())
        erased = [read_certificate(path) for path in self._certificates()]
        signed = papers.report(state, shipment, store, goals, self._key, (), erased)
        return signed, publish(signed, out, list(Language), pdf=True)

    def _certificates(self) -> list[Path]:
        """Those of this shipment's erase that are kept here."""
        told, _ = papers.kept(self.state.home)
        ours = self._shipment.id
        return [path for path, made in told if any(one.shipment == ours for one in made.erased)]

    def _made(self, made: tuple[Signed, list[Path]]) -> None:
        signed, files = made
        self._busy(busy=False)
        self._say(*(said(marked("Written: {path}"), path=one) for one in files))
        self.query_one("#summary", Rows).show(summary(signed, console_of(self)))

    def _unmade(self, exc: MotionGearError) -> None:
        self._busy(busy=False)
        self._say(NOTHING)
        self.refuse(exc)

    def _busy(self, *, busy: bool) -> None:
        for one in ("key-for-it", "write"):
            self.query_one(f"#{one}").disabled = busy

    def _say(self, *told: Said) -> None:
        self.query_one("#report-say", Line).tell(*told)

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate's file, and what it says."""

    path: Path
    made: Certificate


class PapersScreen(Page[None]):
    """Certificates that are kept here; and any report or certificate, verified."""

    ABOUT = (
        marked("A certificate says what was erased here, and is signed by this device."),
        marked("With the fingerprint of the device expected, a report is proved to be its own."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Kept] = {}

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with VerticalScroll(id="sheet", can_focus=False):
            yield Line(said(marked("Certificates of erases")), classes="title")
            yield Rows(id="certificates")
            yield Line(said(marked("Verify a report")), classes="title")
            yield Field(said(marked("file (NAME.json)")), id="report-file")
            yield Field(said(marked("device fingerprint")), id="report-device")
            yield Push(said(marked("Verify")), id="verify-report", compact=True)
            yield Line(id="papers-say")
            yield Rows(id="summary")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")

    def on_mount(self) -> None:
        self.query_one("#back").focus()
        in_background(self, self._look, self._show, self._unseen)

    def _look(self) -> tuple[list[Kept], list[CertificateRefusedError]]:
        told, wrong = papers.kept(self.state.home)
        return [Kept(*one) for one in reversed(told)], wrong

    def _show(self, found: tuple[list[Kept], list[CertificateRefusedError]]) -> None:
        told, wrong = found
        self._kept = {str(one.path): one for one in told}
        rows = [Row(key, _certificate(one)) for key, one in self._kept.items()]
        rows += [Row("", _damaged(one)) for one in wrong]
        self.query_one("#certificates", Rows).show(rows or [Row("", _none)])

    def _unseen(self, exc: MotionGearError) -> None:
        self._say(*refused(exc))

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        self.app.push_screen(CertificateScreen(self._kept[event.key]))

    @on(Button.Pressed, "#verify-report")
    def _verify(self, event: Button.Pressed) -> None:
        event.stop()
        path = self.query_one("#report-file", Field).value.strip()
        device = self.query_one("#report-device", Field).value.strip()
        if not path:
            self._say(said(marked("Name the report's file.")))
            return
        sign = partial(self._say, said(marked("being read ...")))
        read = partial(_verified, Path(path).absolute(), device)
        in_background(self, read, self._verified, self._unseen, sign)

    def _verified(self, found: tuple[Signed, Trust]) -> None:
        signed, trust = found
        told = (
            marked("AUTHENTIC: signed by the device expected, and nothing was changed since.")
            if trust is Trust.AUTHENTIC
            else marked("Consistent: as somebody signed it. Whose it is, the fingerprint tells.")
        )
        self._say(said(told), said(marked("Signed by {device}"), device=signed.fingerprint))
        self.query_one("#summary", Rows).show(summary(signed, console_of(self)))

    def _say(self, *told: Said) -> None:
        self.query_one("#papers-say", Line).tell(*told)

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()


def _verified(path: Path, device: str) -> tuple[Signed, Trust]:
    return document.verified(papers.read(path), device)


def _certificate(one: Kept) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        del say
        labels = ", ".join(erased.label for erased in one.made.erased)
        told = shown.safe(f"{one.made.at}  {labels}  {one.path}")
        return [((each, Tone.PLAIN),) for each in fold(told, wide, indent=4)]

    return draw


def _damaged(exc: MotionGearError) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        del say
        return [((each, Tone.BAD),) for each in fold(shown.safe(exc.what), wide, indent=4)]

    return draw


def _none(wide: int, say: Translator) -> Drawn:
    del wide
    return [((say(marked("Nothing was erased here yet.")), Tone.DIM),)]


class CertificateScreen(Page[None]):
    """What a certificate says; and the paper of it."""

    ABOUT = (marked("A file that ends in .json is the signed document, .pdf and .html show it."),)
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self._one = kept

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with Vertical(id="sheet"):
            yield Line(said(marked("Certificate: {path}"), path=self._one.path), classes="hint")
            yield Rows(id="told")
            yield Field(said(marked("write it to")), id="out")
            yield Line(id="certificate-say")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Write")), id="write")

    def on_mount(self) -> None:
        self.query_one("#back").focus()
        self.query_one("#told", Rows).show([Row("", self._draw)])

    def _draw(self, wide: int, say: Translator) -> Drawn:
        made = self._one.made
        lines: list[Sequence[tuple[str, Tone]]] = []
        for one in made.erased:
            head = say(marked("Erased: {label}")).format(label=shown.safe(one.label))
            lines += [((each, Tone.STRONG),) for each in fold(head, wide)]
            for name, told in told_of(one, say):
                lines += fact(name, shown.safe(told), wide)
        lines += fact(say(marked("device")), made.device_fingerprint, wide)
        lines += fact(say(marked("by")), shown.safe(made.by), wide)
        lines += fact(say(marked("at")), f"{made.at} ({say(made.clock)})", wide)
        return lines

    @on(Button.Pressed, "#write")
    def _write(self, event: Button.Pressed) -> None:
        event.stop()
        out = self.query_one("#out", Field).value.strip()
        if not out:
            self._say(said(marked("Say where the file goes.")))
            return
        sign = partial(self._say, said(marked("being written ...")))
        work = partial(self._made, Path(out).absolute(), console_of(self).language)
        in_background(self, work, self._written, self._refused, sign)

    def _made(self, out: Path, language: Language) -> Path:
        data = read_certificate(self._one.path)
        certificates.verify(data)
        papers.write_certificate(data, out, language)
        return out

    def _written(self, out: Path) -> None:
        self._say(said(marked("Written: {path}"), path=out))

    def _refused(self, exc: MotionGearError) -> None:
        self._say(*refused(exc))

    def _say(self, *told: Said) -> None:
        self.query_one("#certificate-say", Line).tell(*told)

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()
