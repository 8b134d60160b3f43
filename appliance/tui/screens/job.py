"""One job: how far it is, how fast, what it says; pause, resume, stop."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from appliance import process, shown
from appliance.errors import MotionGearError
from appliance.language import Translator, marked
from appliance.model import JobId
from appliance.seal.keys import PrivateKey
from appliance.state import ENDED, EventRow, JobState, telling
from appliance.state.words import last_words, needs_key
from appliance.tui import views
from appliance.tui.background import in_background
from appliance.tui.page import Page, console_of
from appliance.tui.screens.diagnosis import DiagnosisScreen
from appliance.tui.screens.dialogs import AskScreen
from appliance.tui.screens.key import KeyScreen
from appliance.tui.speech import NOTHING, Said, foreign, said
from appliance.tui.watch import Job, Snapshot
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fold
from appliance.tui.widgets.spoken import Line, Push

_MOST_LINES = 500


class JobScreen(Page[None]):
    ABOUT = (
        marked("Pause lets the job rest with all it holds; Resume lets it go on."),
        marked("Stop ends it at its next block: what it has stored stays, and it can be resumed."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, job: JobId) -> None:
        super().__init__()
        self._job = job
        self._events: dict[int, EventRow] = {}
        self._looked = -1  # the last event of all when its own were asked for

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with Vertical(id="job"):
            yield Line(id="job-head", classes="title")
            yield Line(id="job-progress")
            yield Line(id="job-chart")
            yield Line(id="job-words")
            yield Rows(id="log")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Pause")), id="pause")
            yield Push(said(marked("Resume")), id="resume")
            yield Push(said(marked("Stop")), id="stop")
            yield Push(said(marked("Diagnosis")), id="diagnosis")

    def on_mount(self) -> None:
        self.query_one("#back").focus()

    def seen(self, found: Snapshot) -> None:
        job = found.job(self._job)
        if job is None:
            return
        self._show(job)
        if found.last_event != self._looked:
            self._looked = found.last_event
            known = max(self._events, default=0)
            read = partial(self.state.events, self._job, known)
            in_background(self, read, self._take, _passed_over)

    def _take(self, new: list[EventRow]) -> None:
        """Several may have been asked for the same at once."""
        self._events |= {one.id: one for one in new}
        for old in sorted(self._events)[:-_MOST_LINES]:
            del self._events[old]
        log = self.query_one("#log", Rows)
        log.show([Row("", _entry(self._events[one])) for one in sorted(self._events)])
        log.scroll_end(animate=False)

    def _show(self, job: Job) -> None:
        row, how = job.row, views.standing(job.row)
        self.query_one("#job-head", Line).tell(
            said(
                marked("{symbol} {word}   job {job}, {kind}: {title}"),
                symbol=how.symbol,
                word=Said(marked("dropped") if row.resolved else how.word),
                job=row.id,
                kind=Said(telling.KINDS.get(row.kind, row.kind)),
                title=row.title,
            )
        )
        width = self.query_one("#job").size.width
        lives = row.state not in ENDED
        there = lives and job.progress is not None
        told = views.progress_line(job, width - 4, console_of(self).say) if there else ""
        self.query_one("#job-progress", Line).tell(foreign(told))
        rates = job.pace.rates
        drawn = f"{views.chart(rates, width - 24)}  {shown.size(max(rates))}/s" if rates else ""
        self.query_one("#job-chart", Line).tell(foreign(drawn))
        self.query_one("#job-words", Line).tell(*_last_words(job))
        running = row.state in {JobState.QUEUED, JobState.RUNNING}
        again = row.state in ENDED and row.state is not JobState.FINISHED and not row.resolved
        played = console_of(self).recorded is not None  # it has no process of its own
        self.query_one("#pause").disabled = not running or row.kind == "gate" or played
        self.query_one("#stop").disabled = not lives or played
        can_go_on = row.state is JobState.PAUSED or again
        self.query_one("#resume").disabled = not can_go_on or played

    def on_button_pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "back":
                self.action_back()
            case "pause":
                self._do(lambda: process.pause(self.state, self._job))
            case "resume":
                self._resume()
            case "diagnosis":
                self.app.push_screen(DiagnosisScreen(self._job))
            case _:
                question = AskScreen(
                    said(marked("Stop job {job}?"), job=self._job),
                    said(marked("What it has stored is kept, and it can be resumed.")),
                    do=said(marked("Stop")),
                )
                self.app.push_screen(question, self._stopped)

    def _stopped(self, stop: bool | None) -> None:  # noqa: FBT001 - the result
        if stop:
            self._do(lambda: process.stop(self.state, self._job))

    def _resume(self) -> None:
        job = console_of(self).snapshot.job(self._job)
        if job is not None and job.row.state is not JobState.PAUSED and needs_key(job.row):
            self.app.push_screen(KeyScreen(), self._resumed)
        else:
            self._go_on(None)

    def _resumed(self, key: PrivateKey | None) -> None:
        if key is not None:
            self._go_on(key)

    def _go_on(self, key: PrivateKey | None) -> None:
        def resume() -> None:
            if not process.go_on(self.state, self._job):
                process.start(self.state, self._job, key)

        self._do(resume)

    def _do(self, deed: Callable[[], object]) -> None:
        """To signal a job that is just starting takes a moment."""
        in_background(self, deed, lambda _: None, self.refuse)

    def action_back(self) -> None:
        self.dismiss()


def _passed_over(exc: MotionGearError) -> None:
    """What cannot be read now is asked for again with the next event; Home says why."""
    del exc


def _last_words(job: Job) -> list[Said]:
    """What is safe and what to do; while all goes well, nothing."""
    row = job.row
    if row.state in {JobState.QUEUED, JobState.RUNNING}:
        return [NOTHING]
    words = last_words(row)
    told = [said(marked("What happened: {what}"), what=row.what)] if row.what else []
    told += [
        said(marked("Safe: {sentence}"), sentence=Said(words.safe)),
        said(marked("Do: {sentence}"), sentence=Said(words.todo)),
    ]
    if words.verb:
        told.append(said(marked("Type: {verb}"), verb=words.verb))
    if row.error:
        told.append(said(marked("Code: {code} ({name})"), code=row.code, name=row.error))
    return told


def _entry(event: EventRow) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        told = telling.sentence(event.kind, event.body, say)
        if not told:
            return []
        at = event.at[11:19]
        return [((one, Tone.PLAIN),) for one in fold(shown.safe(f"{at} {told}"), wide, indent=9)]

    return draw
