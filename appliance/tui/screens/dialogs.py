"""What lies over a screen for a moment: help, a refusal, a question."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button

from appliance.errors import MotionGearError
from appliance.language import marked
from appliance.tui.speech import Said, refused, said
from appliance.tui.widgets.spoken import Line, Push

_EVERYWHERE = (
    marked("F1 helps and F3 changes the language, on every screen; Esc goes back."),
    marked("Tab goes on, Shift-Tab goes back; Enter or Space presses what is lit."),
    marked("By mouse: click what is to be pressed; [...] beside a field opens a keyboard."),
    marked("Jobs go on without this console: leaving it harms none."),
)
_CLOSE: list[BindingType] = [("escape", "close", "")]


class ToldScreen(ModalScreen[None]):
    """Sentences, to be read and closed."""

    BINDINGS: ClassVar[list[BindingType]] = _CLOSE
    LOOK: ClassVar[str] = "dialog"

    def __init__(self, *told: Said) -> None:
        super().__init__()
        self._told = told

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes=self.LOOK):
            for one in self._told:
                yield Line(one, classes="paragraph")
            yield Push(said(marked("Close")), id="close")

    def on_mount(self) -> None:
        self.query_one("#close").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss()

    def action_close(self) -> None:
        self.dismiss()


class HelpScreen(ToldScreen):
    """What the screen below is for, and what holds everywhere."""

    def __init__(self, about: Sequence[str]) -> None:
        super().__init__(said(marked("Help")), *(Said(one) for one in (*about, *_EVERYWHERE)))


class RefusalScreen(ToldScreen):
    """What happened, what is safe, what to do, and the code."""

    LOOK = "dialog refusal"

    def __init__(self, exc: MotionGearError) -> None:
        super().__init__(*refused(exc))


class AskScreen(ModalScreen[bool]):
    """Whether it is to be done; what is lit first is to leave it."""

    BINDINGS: ClassVar[list[BindingType]] = _CLOSE

    def __init__(self, *told: Said, do: Said) -> None:
        super().__init__()
        self._told, self._do = told, do

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            for one in self._told:
                yield Line(one, classes="paragraph")
            with Horizontal(classes="buttons"):
                yield Push(said(marked("Cancel")), id="cancel")
                yield Push(self._do, id="do")

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(event.button.id == "do")

    def action_close(self) -> None:
        self.dismiss(False)  # noqa: FBT003 - the result
