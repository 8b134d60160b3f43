"""Sentences and buttons that speak the language chosen."""

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Static

from appliance.language import Translator
from appliance.tui.speech import NOTHING, Said


class Line(Static):
    """Sentences, each on lines of its own; folded where they are longer than the place."""

    def __init__(self, *told: Said, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - textual's name
        super().__init__("", markup=False, id=id, classes=classes)
        self._told = told

    def tell(self, *told: Said) -> None:
        if told != self._told:
            self._told = told
            self.speak(speaker(self))

    @property
    def told(self) -> tuple[Said, ...]:
        return self._told

    def on_mount(self) -> None:
        self.speak(speaker(self))

    def speak(self, say: Translator) -> None:
        self.update(Content("\n".join(one.told(say) for one in self._told if one != NOTHING)))


class Push(Button):
    """A button."""

    def __init__(
        self,
        told: Said,
        *,
        id: str | None = None,  # noqa: A002 - textual's name
        compact: bool = False,
        classes: str | None = None,
    ) -> None:
        super().__init__("", id=id, compact=compact, classes=classes)
        self._told = told
        self.active_effect_duration = 0  # while it is lit a button takes no second press

    def tell(self, told: Said) -> None:
        if told != self._told:  # else the whole screen would be laid out anew, four times a second
            self._told = told
            self.speak(speaker(self))

    def on_mount(self) -> None:
        self.speak(speaker(self))

    def speak(self, say: Translator) -> None:
        self.label = Content(self._told.told(say))
        self.refresh(layout=True)  # it is as wide as what it says


def speaker(widget: Widget) -> Translator:
    """The translator of the console that the widget is in."""
    found = widget.app
    say = getattr(found, "say", None)
    assert callable(say)
    return say  # type: ignore[no-any-return]
