"""A text field with its name, and a keyboard on the screen for whoever has a mouse only."""

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Button, Input

from appliance.tui.keyboard import KeyboardScreen
from appliance.tui.speech import Said, foreign
from appliance.tui.widgets.spoken import Line, Push


class Typed(Input):
    """Foreign text stands in it too, a hostile disk's host name for one: a character that steers a
    terminal, or has no width of its own, is shown as ``?``, and secrets as ``*``.
    """

    @property
    def _value(self) -> Text:
        told = "*" * len(self.value) if self.password else _plain(self.value)
        return Text(told, no_wrap=True, overflow="ignore", end="")


def _plain(text: str) -> str:
    """A character for a character: the cursor is counted by them."""
    return "".join(one if one.isprintable() and cell_len(one) else "?" for one in text)


class Field(Horizontal):
    """One line of text. ``secret``: what is typed is not shown. ``answer`` is the name under which
    a wizard keeps it; empty where it is not to be kept.
    """

    class Changed(Message):
        """Something was typed into it."""

        def __init__(self, field: "Field", value: str) -> None:
            super().__init__()
            self.field, self.value = field, value

        @property
        def control(self) -> "Field":
            return self.field

    def __init__(
        self,
        name: Said,
        *,
        id: str,  # noqa: A002 - textual's name
        value: str = "",
        secret: bool = False,
        longest: int = 0,
        answer: str = "",
    ) -> None:
        super().__init__(id=id, classes="field")
        self._named = name
        self._input = Typed(value, password=secret, max_length=longest, compact=True)
        self.secret, self.answer = secret, answer

    def compose(self) -> ComposeResult:
        yield Line(self._named, classes="field-name")
        yield self._input
        yield Push(foreign("[...]"), compact=True, classes="field-keys")

    @property
    def value(self) -> str:
        return self._input.value

    @value.setter
    def value(self, text: str) -> None:
        self._input.value = text

    def rename(self, name: Said) -> None:
        self._named = name
        self.query_one(Line).tell(name)

    def focus_in(self) -> None:
        self._input.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, event.value))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        keyboard = KeyboardScreen(self._named, self.value, secret=self.secret)
        self.app.push_screen(keyboard, self._typed)

    def _typed(self, text: str | None) -> None:
        if text is not None:
            self.value = text
        self._input.focus()
