"""Erase: what would be gone, said before it is asked for; what has to be said twice; a text that
has to be typed. A page of its own: what it does cannot be undone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button

from appliance import erasures, shown
from appliance.errors import MotionGearError
from appliance.jobs.erasing import (
    DATA_LOST,
    NOT_DELIVERED,
    NOT_SEALED,
    delivered,
    needed,
)
from appliance.language import Language, Translator, marked, translator
from appliance.orders import Begun
from appliance.seal.erasable import Found
from appliance.state import ShipmentRow
from appliance.tui.background import in_background
from appliance.tui.page import Page, alone, console_of
from appliance.tui.screens.job import JobScreen
from appliance.tui.speech import NOTHING, Said, refused, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push

TWICE = {
    NOT_SEALED: marked("Yes, it was never sealed and shipped."),
    NOT_DELIVERED: marked("Yes, nobody is known to have received it."),
    DATA_LOST: marked("Yes, what only this shipment holds is lost for good."),
}


@dataclass(frozen=True, slots=True)
class Looked:
    """What would go, in words of each language, and what has to be said and typed."""

    found: Found
    facts: Mapping[Language, list[tuple[str, str]]]
    needed: tuple[str, ...]
    wanted: frozenset[str]


class EraseScreen(Page[None]):
    ABOUT = (
        marked("What is erased is gone: the disk is told to forget it, and nobody can undo that."),
        marked("Files that are no part of a shipment stay, and are named."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, shipment: ShipmentRow) -> None:
        super().__init__()
        self._shipment = shipment
        self._looked: Looked | None = None
        self._told: set[str] = set()

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with VerticalScroll(id="erase", can_focus=False):
            yield Line(
                said(marked("To be erased for good: {label}"), label=self._shipment.label),
                classes="title",
            )
            yield Line(said(marked("It cannot be undone.")), id="undone")
            yield Rows(id="going")
            yield Rows(id="twice")
            yield Line(id="asked")
            yield Field(said(marked("type it here")), id="typed")
        yield Line(id="lacks")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Cancel")), id="cancel")
            yield Push(said(marked("Erase")), id="do")

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()
        self.query_one("#do").disabled = True
        sign = partial(self._lacks, said(marked("being read ...")))
        in_background(self, self._look, self._show, self._unseen, sign)

    def _look(self) -> Looked:
        state = self.state
        found = erasures.look(state, self._shipment.path)
        return Looked(
            found=found,
            facts={one: erasures.facts(found, state, translator(one)) for one in Language},
            needed=needed(found, delivered(state, found)),
            wanted=frozenset(erasures.wanted(found)),
        )

    def _unseen(self, exc: MotionGearError) -> None:
        self._lacks(*refused(exc))

    def _show(self, looked: Looked) -> None:
        self._looked = looked
        self._lacks(NOTHING)
        self.query_one("#going", Rows).show([Row("", self._going)])
        self._boxes()
        texts = " | ".join(sorted({shown.safe(one) for one in looked.wanted}))
        self.query_one("#asked", Line).tell(
            said(marked("Type to erase it: {wanted}"), wanted=texts)
        )
        self.query_one("#do").disabled = False

    def _going(self, wide: int, say: Translator) -> Drawn:
        del say
        assert self._looked is not None
        language = console_of(self).language
        lines: list[tuple[tuple[str, Tone], ...]] = []
        for name, told in self._looked.facts[language]:
            lines += [tuple(one) for one in fact(name, shown.safe(told), wide)]
        return lines

    def _boxes(self) -> None:
        assert self._looked is not None
        rows = [Row(one, _box(one, chosen=one in self._told)) for one in self._looked.needed]
        self.query_one("#twice", Rows).show(rows)

    @on(Rows.Picked, "#twice")
    def _picked(self, event: Rows.Picked) -> None:
        self._told ^= {event.key}
        self._boxes()

    @on(Button.Pressed, "#do")
    def _erase(self, event: Button.Pressed) -> None:
        event.stop()
        looked = self._looked
        assert looked is not None
        if not set(looked.needed) <= self._told:
            self._lacks(said(marked("It may be the only copy: say each of it above.")))
            return
        if not erasures.is_confirmed(self.query_one("#typed", Field).value, set(looked.wanted)):
            self._lacks(said(marked("What was typed is not what is asked for.")))
            return
        self._busy(busy=True)
        in_background(self, lambda: self._order(looked), self._begun, self._refused)

    def _order(self, looked: Looked) -> Begun:
        return erasures.order(self.state, [looked.found], tuple(looked.needed))

    def _busy(self, *, busy: bool) -> None:
        """What has been ordered is not cancelled by leaving."""
        for one in ("cancel", "do"):
            self.query_one(f"#{one}").disabled = busy

    def _begun(self, begun: Begun) -> None:
        alone(self)
        self.app.switch_screen(JobScreen(begun.job))

    def _refused(self, exc: MotionGearError) -> None:
        self._busy(busy=False)
        self.refuse(exc)

    def _lacks(self, *told: Said) -> None:
        self.query_one("#lacks", Line).tell(*told)

    @on(Button.Pressed, "#cancel")
    def action_back(self) -> None:
        if not self.query_one("#cancel").disabled:
            self.dismiss()


def _box(one: str, *, chosen: bool) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        line = f"{'[x]' if chosen else '[ ]'} {say(TWICE[one])}"
        return [((each, Tone.WATCH),) for each in fold(line, wide, indent=4)]

    return draw
