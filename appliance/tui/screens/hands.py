"""A hand-over and its answer: what a record of custody needs is asked for, and signed once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button

from appliance.errors import MotionGearError
from appliance.handover import Hands
from appliance.language import marked
from appliance.tui.background import in_background
from appliance.tui.page import alone
from appliance.tui.speech import Said, refused, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.spoken import Line, Push

_OWN = (
    ("by", marked("your name")),
    ("own", marked("your organisation")),
    ("where", marked("where you are")),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a hand gives or takes with: fields by their names; ``deed`` is what the button does."""

    title: str
    deed: str
    fields: tuple[tuple[str, str], ...]
    needed: str = ""


GIVE = Asked(
    marked("Hand over"),
    marked("Sign the hand-over"),
    (
        ("to", marked("who takes it")),
        ("organisation", marked("for whom")),
        ("receiver", marked("their public key")),
        *_OWN,
    ),
    "to",
)
TAKE = Asked(
    marked("Receive"), marked("Sign for it"), (("code", marked("the giver's code")), *_OWN)
)


def own(fields: dict[str, str]) -> Hands:
    """Whoever sits at the console, as they say."""
    return Hands(fields["by"], fields["own"], fields["where"])


class HandScreen(ModalScreen[list[Said] | None]):
    """Asks for what a record needs; returns what came of it."""

    ABOUT = (
        marked("What you leave empty the machine says itself: its user, and its name."),
        marked("Their public key: on their device, at the same page, press Own key."),
        marked("A courier without a key writes the code of the hand-over on paper."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "")]

    def __init__(self, asked: Asked, do: Callable[[dict[str, str]], list[Said]]) -> None:
        super().__init__()
        self._asked, self._do = asked, do

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Line(Said(self._asked.title), classes="paragraph")
            for name, words in self._asked.fields:
                yield Field(Said(words), id=f"hand-{name}")
            yield Line(id="hand-say")
            with Horizontal(classes="buttons"):
                yield Push(said(marked("Cancel")), id="cancel")
                yield Push(Said(self._asked.deed), id="do")

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "cancel":
            self.dismiss(None)
            return
        fields = {
            name: self.query_one(f"#hand-{name}", Field).value.strip()
            for name, _ in self._asked.fields
        }
        if self._asked.needed and not fields[self._asked.needed]:
            self._say(said(marked("Say who takes it.")))
            return
        self._busy(busy=True)
        self._say(said(marked("being signed ...")))
        in_background(self, partial(self._do, fields), self._done, self._refused)

    def _busy(self, *, busy: bool) -> None:
        """What is being signed is not cancelled by leaving: its code would be lost."""
        for one in ("cancel", "do"):
            self.query_one(f"#{one}").disabled = busy

    def _done(self, told: list[Said]) -> None:
        alone(self)
        self.dismiss(told)

    def _refused(self, exc: MotionGearError) -> None:
        self._busy(busy=False)
        self._say(*refused(exc))

    def _say(self, *told: Said) -> None:
        self.query_one("#hand-say", Line).tell(*told)

    def action_leave(self) -> None:
        if not self.query_one("#cancel").disabled:
            self.dismiss(None)
