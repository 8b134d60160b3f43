"""Recovery points of the machines that were restored from a shipment, and clones of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button

from appliance import orders, papers, shown
from appliance.catchup import points
from appliance.catchup.points import Keeps, RecoveryPoint
from appliance.errors import BadInputError, MotionGearError
from appliance.language import Translator, marked
from appliance.model import CloneInfo, Clones, Snapshots
from appliance.state import ShipmentRow
from appliance.tui.background import in_background
from appliance.tui.page import Page
from appliance.tui.screens.dialogs import AskScreen
from appliance.tui.screens.following import form, point_key, when
from appliance.tui.speech import NOTHING, Said, refused, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fold
from appliance.tui.widgets.spoken import Line, Push


@dataclass(frozen=True, slots=True)
class Kept:
    """A point, the target that keeps it, and the clones that were made of it."""

    place: tuple[str, str]
    point: RecoveryPoint
    clones: Sequence[CloneInfo]

    @property
    def key(self) -> str:
        return "\0".join((*self.place, point_key(self.point)))


class PointsScreen(Page[None]):
    ABOUT = (
        marked("A recovery point is all disks of a machine as they were at the end of a round."),
        marked("Chosen, it is never removed by the gate. What is booted is a clone of it."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, shipment: ShipmentRow) -> None:
        super().__init__()
        self._shipment = shipment
        self._kept: dict[str, Kept] = {}
        self._picked_key = ""

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with VerticalScroll(id="sheet", can_focus=False):
            yield Line(
                said(marked("Recovery points of {label}"), label=self._shipment.label),
                classes="title",
            )
            yield Rows(id="points")
            yield Field(said(marked("name of clones")), id="clones")
            yield Line(id="points-say")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Choose")), id="choose")
            yield Push(said(marked("Clone")), id="clone")
            yield Push(said(marked("Discard")), id="discard")

    def on_mount(self) -> None:
        self.query_one("#back").focus()
        self._look()

    def _look(self) -> None:
        in_background(self, self._read, self._show, self._unseen)

    def _read(self) -> list[Kept]:
        found = []
        for place, goal in papers.targets(self.state, self._shipment.id, "local", ()).items():
            if isinstance(goal, Snapshots) and isinstance(goal, Clones):
                clones = goal.clones()
                for one in reversed(points.points_of(goal.snapshots())):
                    of = {each.spec for each in one.snapshots}
                    found.append(Kept(place, one, [each for each in clones if each.of in of]))
        return found

    def _show(self, found: list[Kept]) -> None:
        self._kept = {one.key: one for one in found}
        if self._picked_key not in self._kept:
            self._picked_key = ""
        rows = [
            Row(key, _point(one, picked=key == self._picked_key))
            for key, one in self._kept.items()
        ]
        self.query_one("#points", Rows).show(rows or [Row("", _none)])

    def _unseen(self, exc: MotionGearError) -> None:
        self._say(*refused(exc))

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        self._picked_key = event.key
        self._show(list(self._kept.values()))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "back":
            self.dismiss()
            return
        one = self._kept.get(self._picked_key)
        if one is None:
            self._say(said(marked("Pick a recovery point first.")))
            return
        goal = partial(orders.keeps, *one.place)
        match event.button.id:
            case "choose":
                self._do(lambda: _chosen(goal(), one.point))
            case "clone":
                name = self.query_one("#clones", Field).value.strip()
                self._do(lambda: _cloned(goal(), one.point, name))
            case _:
                question = AskScreen(
                    said(
                        marked("Discard point {number} of {machine}?"),
                        number=one.point.point,
                        machine=one.point.machine,
                    ),
                    said(marked("What is discarded cannot be had back.")),
                    do=said(marked("Discard")),
                )
                discard = partial(self._do, lambda: _discarded(goal(), one.point))
                self.app.push_screen(question, lambda sure: discard() if sure else None)

    def _do(self, deed: Callable[[], list[Said]]) -> None:
        sign = partial(self._say, said(marked("being done ...")))
        in_background(self, deed, self._done, self._refused, sign)

    def _done(self, told: list[Said]) -> None:
        self._say(*told)
        self._look()

    def _refused(self, exc: MotionGearError) -> None:
        self._say(NOTHING)
        self.refuse(exc)

    def _say(self, *told: Said) -> None:
        self.query_one("#points-say", Line).tell(*told)

    def action_back(self) -> None:
        self.dismiss()


def _chosen(goal: Keeps, point: RecoveryPoint) -> list[Said]:
    points.choose(goal, point)
    told = marked("Chosen: point {number} of {machine}.")
    return [said(told, number=point.point, machine=point.machine)]


def _cloned(goal: Keeps, point: RecoveryPoint, name: str) -> list[Said]:
    if not name:
        raise BadInputError("The clones have no name yet", todo="Give them one.")
    made = points.clone(goal, point, name)
    return [
        said(marked("Made: {path} ({format})"), path=one.location, format=one.format)
        for one in made
    ]


def _discarded(goal: Keeps, point: RecoveryPoint) -> list[Said]:
    points.discard(goal, point)
    told = marked("Discarded: point {number} of {machine}.")
    return [said(told, number=point.point, machine=point.machine)]


def _point(kept: Kept, *, picked: bool) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        one = kept.point
        box = "(x)" if picked else "( )"
        told = say(marked("{machine}: point {number}, {at}, {form}, disks: {count} of {all}"))
        line = told.format(
            machine=shown.safe(one.machine),
            number=one.point,
            at=when(one.taken),
            form=form(one.form, say),
            count=len(one.snapshots),
            all=len(one.disks),
        )
        word = say(marked("chosen"))
        chosen = f"  * {word}" if one.chosen else ""
        tone = Tone.PLAIN if one.complete else Tone.WATCH
        lines = [((each, tone),) for each in fold(f"{box} {line}{chosen}", wide, indent=4)]
        names = sorted({points.name_of(each) for each in kept.clones})
        if names:
            clones = say(marked("clones: {names}")).format(names=shown.safe(", ".join(names)))
            lines += [((each, Tone.DIM),) for each in fold(f"    {clones}", wide, indent=4)]
        return lines

    return draw


def _none(wide: int, say: Translator) -> Drawn:
    told = say(
        marked("There is no recovery point yet: a round that reads a machine frozen makes one.")
    )
    return [((each, Tone.DIM),) for each in fold(told, wide)]
