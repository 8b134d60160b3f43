"""A keyboard on the screen: all that can be typed can be clicked."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid, Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from appliance import shown
from appliance.language import Translator, marked
from appliance.tui.speech import Said, foreign, said
from appliance.tui.widgets.spoken import Line, Push

# Rows of 13 keys; each page has the same places.
_LOWER = "1234567890-_=", "qwertyuiop[]\\", "asdfghjkl;'#+", "zxcvbnm,./@:*"
_UPPER = '!"$%&()?^~|<>', "QWERTYUIOP{}`", "ASDFGHJKL;'#+", "ZXCVBNM,./@:*"


class KeyboardScreen(ModalScreen[str | None]):
    """Returns what was typed; None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "")]

    def __init__(self, name: Said, text: str, *, secret: bool) -> None:
        super().__init__()
        self._named, self._text, self._secret = name, text, secret
        self._upper = False

    def compose(self) -> ComposeResult:
        with Vertical(id="keyboard"):
            yield Line(self._named)
            yield Static("", markup=False, id="typed")
            with Grid(id="keys"):
                for number, one in enumerate("".join(_LOWER)):
                    yield Push(foreign(one), id=f"key-{number}", compact=True, classes="key")
            with Horizontal(id="keyboard-end"):
                yield Push(said(marked("Cancel")), id="leave", compact=True)
                yield Push(said(marked("Shift")), id="shift", compact=True)
                yield Push(said(marked("Space")), id="space", compact=True)
                yield Push(said(marked("Delete")), id="delete", compact=True)
                yield Push(said(marked("Clear")), id="clear", compact=True)
                yield Push(said(marked("OK")), id="done", compact=True)

    def on_mount(self) -> None:
        self._show()
        self.query_one("#leave").focus()

    def speak(self, say: Translator) -> None:
        del say

    def _show(self) -> None:
        typed = "*" * len(self._text) if self._secret else shown.safe(self._text)
        self.query_one("#typed", Static).update(Content(f"{typed}_"))

    def action_leave(self) -> None:
        self.dismiss(None)

    @on(Push.Pressed)
    def _pressed(self, event: Push.Pressed) -> None:
        event.stop()
        match event.button.id or "":
            case "leave":
                self.dismiss(None)
                return
            case "done":
                self.dismiss(self._text)
                return
            case "shift":
                self._turn()
            case "space":
                self._text += " "
            case "delete":
                self._text = self._text[:-1]
            case "clear":
                self._text = ""
            case key:
                page = "".join(_UPPER if self._upper else _LOWER)
                self._text += page[int(key.removeprefix("key-"))]
        self._show()

    def _turn(self) -> None:
        self._upper = not self._upper
        for number, one in enumerate("".join(_UPPER if self._upper else _LOWER)):
            self.query_one(f"#key-{number}", Push).tell(foreign(one))
