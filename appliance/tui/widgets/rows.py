"""A list of which every entry draws itself: one widget, however many there are.

A widget an entry would cost what a console on two cores does not have: twenty progress bars, four
times a second, took 20 % of a core.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from appliance.language import Translator
from appliance.tui.widgets.spoken import speaker


class Tone(StrEnum):
    """How a text is shown; never the only thing that tells one from another."""

    PLAIN = "plain"
    DIM = "dim"
    GOOD = "good"
    WATCH = "watch"
    BAD = "bad"
    STRONG = "strong"


Text = tuple[str, Tone]
Drawn = Sequence[Sequence[Text]]  # lines of texts
Draw = Callable[[int, Translator], Drawn]


@dataclass(frozen=True, slots=True)
class Row:
    """An entry: ``draw`` says it in lines of at most so many cells. ``key`` is its name for
    whoever is told that it was picked; empty where it cannot be.
    """

    key: str
    draw: Draw


class Rows(ScrollView, can_focus=True):
    """Entries below each other, one under the cursor where any can be picked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "move(-1)"),
        ("down", "move(1)"),
        ("pageup", "move(-5)"),
        ("pagedown", "move(5)"),
        ("home", "move(-1000000)"),
        ("end", "move(1000000)"),
        ("enter,space", "pick"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor", *(f"rows--{one}" for one in Tone)}

    class Picked(Message):
        """Somebody picked an entry, by its key."""

        def __init__(self, rows: "Rows", key: str) -> None:
            super().__init__()
            self.rows, self.key = rows, key

        @property
        def control(self) -> "Rows":
            return self.rows

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id, classes=classes)
        self._rows: Sequence[Row] = ()
        self._lines: list[tuple[str, Sequence[Text]]] = []  # of the row with this key
        self._cursor = ""

    def show(self, rows: Sequence[Row]) -> None:
        """Draw these from now on; the cursor stays on its entry while that is there."""
        self._rows = rows
        self._draw()

    @property
    def cursor(self) -> str:
        return self._cursor

    @property
    def text(self) -> str:
        """All of it as it is drawn."""
        return "\n".join("".join(text for text, _ in line) for _, line in self._lines)

    def speak(self, say: Translator) -> None:
        del say
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def on_focus(self) -> None:
        self.refresh()  # the cursor is shown where keys go

    def on_blur(self) -> None:
        self.refresh()

    def _draw(self) -> None:
        if not self.is_mounted or not self.size.width:
            return
        say = speaker(self)
        lines = [
            (row.key, line) for row in self._rows for line in row.draw(self.content_width, say)
        ]
        keys, before = self._keys(), self._cursor
        if self._cursor not in keys:
            self._cursor = keys[0] if keys else ""
        old, self._lines = self._lines, lines
        if len(old) != len(lines) or self._cursor != before:
            self.virtual_size = Size(self.content_width, len(lines))
            self.refresh()
            return
        for number, (was, now) in enumerate(zip(old, lines, strict=True)):
            if was != now:
                self.refresh_line(number)

    @property
    def content_width(self) -> int:
        return max(self.scrollable_content_region.width, 1)

    def _keys(self) -> list[str]:
        return [one.key for one in self._rows if one.key]

    def render_line(self, y: int) -> Strip:
        top = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        if top >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        key, line = self._lines[top]
        strip = Strip(
            [Segment(text, self.get_component_rich_style(f"rows--{tone}")) for text, tone in line]
        )
        strip = strip.adjust_cell_length(width, self.rich_style)
        if key and key == self._cursor and self.has_focus:
            strip = strip.apply_style(self.get_component_rich_style("rows--cursor"))
        return strip

    def action_move(self, by: int) -> None:
        keys = self._keys()
        if not keys:
            self.scroll_relative(y=by, animate=False)
            return
        at = keys.index(self._cursor) if self._cursor in keys else 0
        self._cursor = keys[min(max(at + by, 0), len(keys) - 1)]
        of = [number for number, (key, _) in enumerate(self._lines) if key == self._cursor]
        if of[0] < self.scroll_offset.y:
            self.scroll_to(y=of[0], animate=False)
        elif of[-1] >= self.scroll_offset.y + self.size.height:
            self.scroll_to(y=of[-1] - self.size.height + 1, animate=False)
        self.refresh()

    def action_pick(self) -> None:
        if self._cursor:
            self.post_message(self.Picked(self, self._cursor))

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if at is None:
            return
        line = at.y + self.scroll_offset.y
        if line < len(self._lines) and (key := self._lines[line][0]):
            self._cursor = key
            self.refresh()
            self.action_pick()


def fold(text: str, width: int, *, indent: int = 0) -> list[str]:
    """``text`` in lines of at most so many cells, the later ones indented. A line ends behind a
    blank near its end, else behind a stroke or a wide character; nothing but blanks is lost there.
    """
    if cell_len(text) <= width:
        return [text]
    lines: list[str] = []
    line, used, blank, other = "", 0, 0, 0
    for one in text:
        wide = cell_len(one)
        if used + wide > width and line.strip():
            begun = indent if lines else 0
            ends = (blank, begun + 2 * len(line) // 3), (other, begun + len(line) // 3)
            at = next((end for end, least in ends if end > least), len(line))
            lines.append(line[:at])
            line = " " * indent + line[at:]
            used, blank, other = cell_len(line), 0, 0
        if line.strip() or one != " " or not lines:
            line, used = line + one, used + wide
        if one == " ":
            blank = len(line)
        elif one in "-/" or wide > 1:
            other = len(line)
    return [*lines, line]


def cut(text: str, width: int) -> str:
    """The beginning of ``text``, filled up to exactly so many cells; what is cut ends in ``~``."""
    if cell_len(text) > width:
        kept = ""
        for one in text:
            if cell_len(kept + one) > width - 1:
                break
            kept += one
        text = f"{kept}~"
    return text + " " * (width - cell_len(text))


def fact(name: str, text: str, width: int, tone: Tone = Tone.PLAIN, column: int = 14) -> Drawn:
    """A name and what it is, folded beside it."""
    room = max(width - column - 1, 8)
    lines = fold(text, room)
    return [
        ((cut(name, column) + " ", Tone.DIM), (lines[0], tone)),
        *(((" " * (column + 1), Tone.DIM), (one, tone)) for one in lines[1:]),
    ]
