"""The blocks of a disk, a line each, however many: only those that are seen are asked for."""

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from appliance.language import Translator, marked, width
from appliance.seal.manifest import Manifest, State
from appliance.tui.widgets.rows import Tone
from appliance.tui.widgets.spoken import speaker

STATES = {
    State.UNKNOWN: (marked("not known"), Tone.WATCH),
    State.DATA: (marked("stored"), Tone.PLAIN),
    State.ZERO: (marked("zero"), Tone.DIM),
    State.UNREADABLE: (marked("unreadable"), Tone.BAD),
}
_PAGE = 1 << 20


class Blocks(ScrollView, can_focus=True):
    """One block under the cursor; ``Moved`` tells which."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "move(-1)"),
        ("down", "move(1)"),
        ("pageup", "page(-1)"),
        ("pagedown", "page(1)"),
        ("home", "first"),
        ("end", "last"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--cursor",
        *(f"rows--{one}" for one in Tone),
    }

    class Moved(Message):
        """The cursor stands on another block."""

        def __init__(self, block: int) -> None:
            super().__init__()
            self.block = block

    def __init__(self, manifest: Manifest, id: str | None = None) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id)
        self._manifest = manifest
        self._cursor = 0

    def on_mount(self) -> None:
        self.virtual_size = Size(60, len(self._manifest))
        self.go(0)

    def speak(self, say: Translator) -> None:
        del say
        self.refresh()

    @property
    def cursor(self) -> int:
        return self._cursor

    def go(self, block: int) -> None:
        """Stand on a block, and have it seen."""
        self._cursor = min(max(block, 0), max(len(self._manifest) - 1, 0))
        tall = self.scrollable_content_region.height
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif tall and self._cursor >= top + tall:
            self.scroll_to(y=self._cursor - tall + 1, animate=False, force=True)
        self.refresh()
        if len(self._manifest):
            self.post_message(self.Moved(self._cursor))

    def action_move(self, by: int) -> None:
        self.go(self._cursor + by)

    def action_page(self, by: int) -> None:
        self.go(self._cursor + by * max(self.scrollable_content_region.height - 1, 1))

    def action_first(self) -> None:
        self.go(0)

    def action_last(self) -> None:
        self.go(len(self._manifest) - 1)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if at is not None and at.y + self.scroll_offset.y < len(self._manifest):
            self.go(at.y + self.scroll_offset.y)

    def render_line(self, y: int) -> Strip:
        block, wide = y + self.scroll_offset.y, self.scrollable_content_region.width
        if block >= len(self._manifest):
            return Strip.blank(wide, self.rich_style)
        digest, state = self._manifest[block]
        word, tone = STATES[state]
        told = speaker(self)(word)
        head = f"{block:>10}  {block * self._manifest.block_size:>16}  {told}"
        head += " " * max(44 - width(head), 1)
        shown = digest.hex() if state is not State.UNKNOWN else ""
        # The whole of it stands below the list; here it is there to be compared by eye.
        line = head + (shown if width(head) + 64 <= wide else shown[: max(wide - width(head), 0)])
        style = self.get_component_rich_style(f"rows--{tone}")
        strip = Strip([Segment(line, style)]).adjust_cell_length(wide, self.rich_style)
        if block == self._cursor:
            strip = strip.apply_style(self.get_component_rich_style("rows--cursor"))
        return strip
