"""A text field with its name, and a keyboard on the screen for whoever has a mouse only."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Button, Input

from appliance.tui.keyboard import KeyboardScreen
from appliance.tui.speech import Said, foreign
from appliance.tui.widgets.spoken import Line, Push


class Field(Horizontal):
    """One line of text. ``secret``: what is typed is not shown."""

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
    ) -> None:
        super().__init__(id=id, classes="field")
        self._named = name
        self._input = Input(value, password=secret, max_length=longest, compact=True)
        self.secret = secret

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
