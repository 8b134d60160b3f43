"""A wizard: steps one after the other, each refusing to be left while something is missing, and a
draft of the answers that outlives the console.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button, ContentSwitcher

from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.language import marked
from appliance.tui.background import in_background
from appliance.tui.page import Page, alone, console_of
from appliance.tui.screens.dialogs import AskScreen
from appliance.tui.speech import NOTHING, Said, said
from appliance.tui.watch import Snapshot
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Rows
from appliance.tui.widgets.spoken import Line, Push

Answers = dict[str, Json]
T = TypeVar("T")


def listed(answers: Answers, name: str) -> list[Json]:
    """A list among the answers; empty where a draft has something else there."""
    found = answers.get(name)
    return found if isinstance(found, list) else []


class Stage(VerticalScroll, can_focus=False):
    """One step of a wizard. What is answered is kept in ``answers``, which all steps share.

    ``NEXT`` is what its button does: more than going on to the next step where it says so. Behind
    one that is ``PAST`` nothing can be taken back.
    """

    TITLE: ClassVar[str] = ""  # marked
    NEXT: ClassVar[str] = marked("Next")
    PAST: ClassVar[bool] = False

    def __init__(self, answers: Answers) -> None:
        super().__init__(id=type(self).__name__.lower(), classes="stage")
        self.answers = answers

    @on(Field.Changed)
    def _typed(self, event: Field.Changed) -> None:
        event.stop()
        self.take(event.field)
        self.wizard.answered()

    @on(Rows.Picked)
    def _chosen(self) -> None:
        self.wizard.answered()

    def take(self, field: Field) -> None:
        """Keep what stands in a field of this step."""
        if field.answer:
            self.answers[field.answer] = field.value

    def collect(self) -> None:
        """What stands in all of them now: a field may not have said yet that it was changed."""
        for one in self.query(Field):
            self.take(one)

    def entered(self) -> None:
        """The step is shown now; the ones before it are answered."""

    def seen(self, found: Snapshot) -> None:
        """What there is to see, while the step is shown."""

    def lacks(self) -> Said:
        """Why one cannot go on; NOTHING where one can."""
        return NOTHING

    def check(self) -> Said:
        """What takes a while to find out, off the screen's thread: as ``lacks``, or raises what
        refuses it. Touches no widget.
        """
        return NOTHING

    @property
    def wizard(self) -> "Wizard":
        found = self.screen
        assert isinstance(found, Wizard)
        return found


class Wizard(Page[None]):
    """``NAME`` is stable: drafts are kept under it."""

    NAME: ClassVar[str]
    TITLE: ClassVar[str | None] = ""  # marked
    STAGES: ClassVar[Sequence[type[Stage]]] = ()
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self) -> None:
        super().__init__()
        self.answers: Answers = {}
        self._lacking: Answers = {}
        self._at = 0
        self.stages: Sequence[Stage] = ()

    def begins_at(self, at: int) -> int:
        """The step at which a draft that was left at step ``at`` goes on."""
        return at

    def finish(self) -> None:
        """The last step was confirmed."""
        self.done()

    def compose(self) -> ComposeResult:
        try:
            kept = self.state.draft(self.NAME)
        except MotionGearError:
            kept = {}
        answers = kept.get("answers")
        self.answers.update(answers if isinstance(answers, dict) else {})
        at = kept.get("at")
        self.stages = [one(self.answers) for one in self.STAGES]
        known = at if isinstance(at, int) and 0 <= at < len(self.stages) else 0
        # What the last step shows was found by the checks of the one before: they come again.
        self._at = self.begins_at(min(known, len(self.stages) - 2))
        yield GuardBar()
        yield Line(id="wizard-title", classes="title")
        with ContentSwitcher(initial=self.stages[self._at].id, id="stages"):
            yield from self.stages
        yield Line(id="lacks")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Cancel")), id="cancel")
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Next")), id="next")

    @property
    def stage(self) -> Stage:
        return self.stages[self._at]

    def on_mount(self) -> None:
        self._enter()
        self.query_one("#cancel").focus()

    def _enter(self) -> None:
        self.query_one("#stages", ContentSwitcher).current = self.stage.id
        self.query_one("#wizard-title", Line).tell(
            said(
                marked("{wizard}   step {number} of {count}: {title}"),
                wizard=Said(self.TITLE or ""),
                number=self._at + 1,
                count=len(self.stages),
                title=Said(self.stage.TITLE),
            )
        )
        self.query_one("#next", Push).tell(Said(self.stage.NEXT))
        self._busy(busy=False)
        self.query_one("#lacks", Line).tell(NOTHING)
        self.stage.entered()
        self.see(console_of(self).snapshot)
        if self.stage.NEXT != Stage.NEXT:
            self.query_one("#cancel").focus()

    def seen(self, found: Snapshot) -> None:
        self.stage.seen(found)

    def keep(self) -> None:
        """Keep what was answered, for a console to come."""
        self.stage.collect()
        self.answered()
        kept: Mapping[str, Json] = {"at": self._at, "answers": dict(self.answers)}
        try:
            self.state.keep_draft(self.NAME, kept)
        except MotionGearError as exc:
            self.query_one("#lacks", Line).tell(
                said(marked("The draft cannot be kept: {why}"), why=exc.what)
            )

    def on_button_pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "cancel":
                self._leave()
            case "back":
                self.action_back()
            case _:
                self._next()

    def _next(self) -> None:
        self.stage.collect()
        lacks = self.stage.lacks()
        self.lacking(lacks)
        if lacks != NOTHING:
            return
        if type(self.stage).check is Stage.check:
            self._go_on()
            return
        self._busy(busy=True)
        sign = partial(self.query_one("#lacks", Line).tell, said(marked("being checked ...")))
        in_background(self, self.stage.check, self._checked, self._check_refused, sign)

    def _checked(self, lacks: Said) -> None:
        self._busy(busy=False)
        self.lacking(lacks)
        if lacks == NOTHING:
            self._go_on()

    def lacking(self, told: Said) -> None:
        self._lacking = deepcopy(self.answers)
        self.query_one("#lacks", Line).tell(told)

    def answered(self) -> None:
        """What was lacking may be there by now: asked anew it is said anew. A field that says late
        what it had by then takes no sentence away that nobody has read.
        """
        if self.answers != self._lacking and not self.query_one("#cancel").disabled:
            self.query_one("#lacks", Line).tell(NOTHING)

    def _check_refused(self, exc: MotionGearError) -> None:
        self._checked(Said(exc.happened))
        self.refuse(exc)

    def order(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """The last step's deed, once: what refuses it is said, and it can be tried again."""
        self._busy(busy=True)
        in_background(self, work, then, self.order_refused)

    def order_refused(self, exc: MotionGearError) -> None:
        self._busy(busy=False)
        self.refuse(exc)

    def _busy(self, *, busy: bool) -> None:
        for one in ("cancel", "back", "next"):
            self.query_one(f"#{one}").disabled = busy or (one == "back" and not self._has_way_back)

    @property
    def _has_way_back(self) -> bool:
        return self._at > 0 and not self.stage.PAST

    def _go_on(self) -> None:
        if self._at == len(self.stages) - 1:
            self.finish()
            return
        self._at += 1
        self._enter()
        self.keep()

    def go_to(self, kind: type[Stage]) -> None:
        self._at = self.STAGES.index(kind)
        self._enter()
        self.keep()

    def action_back(self) -> None:
        if self.query_one("#cancel").disabled:  # busy
            return
        if not self._has_way_back:
            self._leave()
            return
        self._at -= 1
        self._enter()
        self.keep()

    def _leave(self) -> None:
        self.keep()
        question = AskScreen(
            said(marked("Leave this wizard?")),
            said(marked("What was answered is kept: opened again it goes on at this step.")),
            do=said(marked("Leave")),
        )
        self.app.push_screen(question, self._left)

    def _left(self, leave: bool | None) -> None:  # noqa: FBT001 - the result
        if leave:
            self.dismiss()

    def done(self) -> None:
        """All was ordered: the draft is past."""
        self.state.drop_draft(self.NAME)
        alone(self)
        self.dismiss()
