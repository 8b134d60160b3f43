"""The seal wizard: which shipment, what is still open, review; then the job and the label."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from appliance import orders, shown
from appliance.errors import MotionGearError
from appliance.language import Translator, marked
from appliance.model import JobId
from appliance.seal import canary, statement, text
from appliance.seal.canon import now
from appliance.seal.label import Label
from appliance.seal.statement import Seal
from appliance.seal.store import PointPacks, Store, by_point
from appliance.state import ENDED, JobRow, JobState, ShipmentRow
from appliance.tui import views
from appliance.tui.background import in_background
from appliance.tui.drawing import qr
from appliance.tui.page import Page, console_of
from appliance.tui.screens.job import JobScreen
from appliance.tui.speech import NOTHING, Said, refused, said
from appliance.tui.watch import Shipment, Snapshot
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push
from appliance.tui.wizard import Answers, Stage, Wizard, listed


class WhichStage(Stage):
    TITLE = marked("shipment")

    def compose(self) -> ComposeResult:
        yield Line(said(marked("Choose the shipment to be sealed: then nothing can be added.")))
        yield Rows(id="open")
        yield Line(id="chosen-shipment")

    def seen(self, found: Snapshot) -> None:
        self._open = found.open_shipments()
        self.query_one(Rows).show(views.shipment_rows(self._open.values()))
        self._tell()

    def _tell(self) -> None:
        found = self._open.get(str(self.answers.get("shipment", "")))
        told = NOTHING if found is None else said(marked("Chosen: {label}"), label=found.row.label)
        self.query_one("#chosen-shipment", Line).tell(told)

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        self.answers["shipment"] = event.key
        self.answers["accept"] = []
        self.wizard.keep()
        self._tell()

    def lacks(self) -> Said:
        if self.answers.get("shipment") not in self._open:
            return said(marked("Choose a shipment."))
        return NOTHING


@dataclass(frozen=True, slots=True)
class Facts:
    """What a store says of itself."""

    recipients: int
    points: tuple[PointPacks, ...]


def _facts_of(row: ShipmentRow) -> Facts:
    """A store may have thousands of packs."""
    store = Store(row.path)
    return Facts(len(store.head.recipients), tuple(by_point(store.infos())))


class ReadyStage(Stage):
    """What keeps it from being sealed, and what may travel as it is."""

    TITLE = marked("ready to ship")
    _facts: Facts | MotionGearError | None = None
    _found: Shipment | None = None
    _seen_ends: tuple[JobState, ...] | None = None

    def compose(self) -> ComposeResult:
        yield Rows(id="ready")
        yield Field(said(marked("canary code")), id="code")
        yield Push(said(marked("Enter the code")), id="confirm", compact=True)
        yield Field(
            said(marked("or why not")),
            id="waiver",
            value=str(self.answers.get("waiver", "")),
            longest=200,
            answer="waiver",
        )
        yield Line(
            said(
                marked(
                    "The canary shows that a recipient's key opens the shipment: `motiongear "
                    "canary open` at the operator's tells the code."
                )
            ),
            classes="hint",
        )

    def entered(self) -> None:
        self._facts, self._seen_ends = None, None

    def seen(self, found: Snapshot) -> None:
        self._found = found.shipment(self.answers.get("shipment"))
        self._open: list[JobRow] = []
        if self._found is None:
            return
        self._open = open_jobs(found, self._found.row)
        ends = tuple(one.row.state for one in found.jobs)
        if ends != self._seen_ends:
            self._seen_ends = ends
            in_background(self, partial(_facts_of, self._found.row), self._take, self._take)
        self._show()

    def _take(self, found: "Facts | MotionGearError") -> None:
        self._facts = found
        self._show()

    def _show(self) -> None:
        if self._found is not None:
            self.query_one(Rows).show(self._rows(self._found.row))

    def _rows(self, row: ShipmentRow) -> list[Row]:
        accepted, facts = _accepted(self.answers), self._facts
        if facts is None:
            return [_told(said(marked("being read ...")), Tone.DIM)]
        if isinstance(facts, MotionGearError):
            why = said(marked("The store cannot be read: {why}"), why=facts.what)
            return [_told(why, Tone.BAD)]
        rows = [
            _told(
                said(
                    marked("Disks in the shipment: {count}; not at their end: {open}"),
                    count=len({one.disk for one in facts.points}),
                    open=len([one for one in facts.points if not one.complete]),
                ),
                Tone.PLAIN,
            )
        ]
        enough = facts.recipients > 1
        rows.append(
            _told(
                said(marked("Recipients: {count}"), count=facts.recipients),
                Tone.GOOD if enough else Tone.WATCH,
            )
        )
        opened = bool(row.canary_by)
        told = (
            said(marked("canary opened by {who}"), who=row.canary_by)
            if opened
            else said(marked("canary: nobody has shown yet that their key opens the shipment"))
        )
        rows.append(_told(told, Tone.GOOD if opened else Tone.WATCH))
        for one in self._open:
            if one.state not in ENDED:
                running = said(
                    marked("Job {job} ({title}) is at work: let it end, or stop it."),
                    job=one.id,
                    title=one.title,
                )
                rows.append(_told(running, Tone.BAD))
            else:
                rows.append(_open_error(one, accepted=str(one.id) in accepted))
        return rows

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        before = _accepted(self.answers)
        now_ = [one for one in before if one != event.key]
        self.answers["accept"] = [*now_] if len(now_) < len(before) else [*before, event.key]
        self.wizard.keep()
        self._show()

    @on(Button.Pressed, "#confirm")
    def _confirm(self, event: Button.Pressed) -> None:
        event.stop()
        assert self._found is not None
        row, field = self._found.row, self.query_one("#code", Field)
        try:
            store = Store(row.path)
            who = canary.who_opened(store.path, store.head, field.value)
            self.wizard.state.note_canary(row.id, who, now())
        except MotionGearError as exc:
            self.wizard.refuse(exc)
        else:
            field.value = ""

    def lacks(self) -> Said:
        facts = self._facts
        if self._found is None:
            return said(marked("The shipment is not known here any more."))
        if facts is None or isinstance(facts, MotionGearError):
            return said(marked("The store is not read yet."))
        if not facts.points:
            return said(marked("The shipment is empty: ingest a disk first."))
        if (lacks := self._jobs_lack()) != NOTHING:
            return lacks
        sure = facts.recipients > 1 and self._found.row.canary_by
        if not sure and not str(self.answers.get("waiver", "")).strip():
            return said(marked("Enter the canary code, or say why it is sealed without."))
        return NOTHING

    def _jobs_lack(self) -> Said:
        for one in self._open:
            if one.state not in ENDED:
                return said(marked("Job {job} is still at work."), job=one.id)
            if str(one.id) not in _accepted(self.answers):
                return said(
                    marked(
                        "Job {job} has an open error: pick it to let its disk travel as it is."
                    ),
                    job=one.id,
                )
        return NOTHING


def _accepted(answers: Answers) -> list[str]:
    """Numbers of jobs whose disks may travel incomplete."""
    return [str(one) for one in listed(answers, "accept")]


def open_jobs(found: Snapshot, shipment: ShipmentRow) -> list[JobRow]:
    """What keeps a shipment from being sealed: jobs at work, and errors nobody has dealt with."""
    rows = [one.row for one in found.jobs if one.row.shipment == shipment.id]
    return [
        one
        for one in rows
        if one.kind == "ingest" and one.state is not JobState.FINISHED and not one.resolved
    ]


def _told(what: Said, tone: Tone) -> Row:
    def draw(wide: int, say: Translator) -> Drawn:
        return [((one, tone),) for one in fold(what.told(say), wide, indent=2)]

    return Row("", draw)


def _open_error(row: JobRow, *, accepted: bool) -> Row:
    def draw(wide: int, say: Translator) -> Drawn:
        box = "[x]" if accepted else "[ ]"
        word = say(views.standing(row).word)
        kind = say(marked("job"))
        told = f"{box} {kind} {row.id}  {shown.safe(row.title)}: {word}"
        may = say(marked("its disk travels incomplete, as the seal will say"))
        lines = [((one, Tone.BAD),) for one in fold(told, wide, indent=4)]
        return [*lines, *(((one, Tone.DIM),) for one in fold(f"    {may}", wide, indent=4))]

    return Row(str(row.id), draw)


class ReviewStage(Stage):
    TITLE = marked("review")
    NEXT = marked("Seal")

    def compose(self) -> ComposeResult:
        yield Rows(id="review")

    def entered(self) -> None:
        self.query_one(Rows).show([Row("", self._draw)])

    def _draw(self, wide: int, say: Translator) -> Drawn:
        found = console_of(self).snapshot.shipment(self.answers.get("shipment"))
        row = found.row if found is not None else None
        label = shown.safe(row.label) if row else "?"
        lines = [*fact(say(marked("shipment")), label, wide, Tone.STRONG)]
        lines += fact(say(marked("place")), shown.safe(row.path) if row else "?", wide)
        accepted = ", ".join(_accepted(self.answers))
        lines += fact(say(marked("incomplete")), accepted or say(marked("none")), wide)
        waiver = shown.safe(self.answers.get("waiver", "")) or say(marked("none"))
        lines += fact(say(marked("waiver")), waiver, wide)
        told = say(
            marked(
                "Every pack is read back and compared, then all of it is signed. Nothing can be "
                "added afterwards, and what this device knows of the disks is forgotten."
            )
        )
        return [*lines, (), *(((one, Tone.WATCH),) for one in fold(told, wide))]


class SealWizard(Wizard):
    NAME = "seal"
    TITLE = marked("Seal")
    ABOUT = (
        marked("Sealing is refused while a job runs or an error is open, and says which."),
        marked("The label is shown when the job has ended; send it by another path too."),
    )

    STAGES = (WhichStage, ReadyStage, ReviewStage)

    def finish(self) -> None:
        found = console_of(self).snapshot.shipment(self.answers.get("shipment"))
        if found is None:
            self.action_back()
            return
        accept, waiver = tuple(_accepted(self.answers)), str(self.answers.get("waiver", ""))
        row = found.row
        seal = partial(orders.seal, self.state, row.path, accept, waiver.strip())
        self.order(seal, lambda begun: self._begun(begun.job, row))

    def _begun(self, job: JobId, row: ShipmentRow) -> None:
        app = self.app
        self.done()
        app.push_screen(SealingScreen(job, row))


class SealingScreen(JobScreen):
    """The job that seals; when it has ended well, the label."""

    def __init__(self, job: JobId, shipment: ShipmentRow) -> None:
        super().__init__(job)
        self._shipment = shipment

    def seen(self, found: Snapshot) -> None:
        super().seen(found)
        job = found.job(self._job)
        if job is not None and job.row.state is JobState.FINISHED:
            self.app.switch_screen(LabelScreen(self._shipment))


class LabelScreen(Page[None]):
    """What goes onto the label, and by another path to the operator."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]
    ABOUT = (marked("A scanner reads the code; people compare the groups or the words."),)

    def __init__(self, shipment: ShipmentRow) -> None:
        super().__init__()
        self._shipment = shipment

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with VerticalScroll(id="label"):
            yield Line(id="label-say", classes="title")
            yield Rows(id="label-facts")
            yield Static("", markup=False, id="qr")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")

    def on_mount(self) -> None:
        self.query_one("#back").focus()
        read = partial(statement.read, self._shipment.path)  # large ones take a second
        sign = partial(self.query_one("#label-say", Line).tell, said(marked("being read ...")))
        in_background(self, read, self._show, self._unseen, sign)

    def _unseen(self, exc: MotionGearError) -> None:
        self.query_one("#label-say", Line).tell(*refused(exc))

    def _show(self, made: Seal) -> None:
        self.query_one("#label-say", Line).tell(
            said(marked("Sealed. Send these to the operator by another path than the device:"))
        )
        root = made.root()

        def draw(wide: int, say: Translator) -> Drawn:
            return [
                *fact(say(marked("label")), shown.safe(self._shipment.label), wide, Tone.STRONG),
                *fact(say(marked("device")), made.device_fingerprint, wide),
                *fact(say(marked("seal root")), text.grouped(root), wide, Tone.STRONG),
                *fact(say(marked("in words")), text.words(root), wide),
                *fact(say(marked("sequence")), str(made.sequence), wide),
            ]

        self.query_one(Rows).show([Row("", draw)])
        self.query_one("#qr", Static).update(Content(qr(str(Label.of(made)))))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss()

    def action_back(self) -> None:
        self.dismiss()
