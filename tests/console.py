"""A technician at the console: told what to do, they do it by keys alone or by the mouse alone."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from rich.cells import cell_len
from textual.events import MouseScrollDown, Paste
from textual.pilot import Pilot
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Button, Input

from appliance.language import Language, translator
from appliance.state import State
from appliance.tui.app import ConsoleApp
from appliance.tui.keyboard import KeyboardScreen
from appliance.tui.watch import Disk
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.rows import Rows
from appliance.tui.widgets.spoken import Line
from appliance.tui.wizard import Wizard
from tests import pictures

Shown = TypeVar("Shown", bound=Widget)
NARROW, WIDE = (80, 24), (132, 43)
PICTURES = os.environ.get("MOTIONGEAR_PICTURES", "")  # where pictures of all that is seen go
# By keys on the small screen in English, by mouse on the large one in Chinese; for pictures all
# sizes and languages.
EACH_WAY = pytest.mark.parametrize(
    ("mouse", "size", "language"),
    [
        pytest.param(mouse, size, language, id=f"{way}-{size[0]}x{size[1]}-{language}")
        for mouse, way, size, language in (
            (False, "keys", NARROW, Language.EN),
            (True, "mouse", WIDE, Language.ZH),
            *(
                ((False, "keys", NARROW, Language.ZH), (False, "keys", WIDE, Language.EN))
                if PICTURES
                else ()
            ),
        )
    ],
)
_PATIENCE_SECONDS = 60.0
_MOST_TABS = 60


@dataclass
class Seat:
    """At the console: ``mouse`` alone, or else keys alone."""

    app: ConsoleApp
    pilot: Pilot[None]
    mouse: bool

    def say(self, sentence: str) -> str:
        return translator(self.app.language)(sentence)

    @property
    def strips(self) -> list[Strip]:
        """The screen as it is shown."""
        return self.app.screen._compositor.render_strips()  # noqa: SLF001 - there is no other way

    def _pictured(self) -> None:
        """Keep what is seen, under the name of the screen and its step; the last of each stays."""
        if not PICTURES:
            return
        screen = self.app.screen
        step = f"-{screen.stage.id}" if isinstance(screen, Wizard) else ""
        wide, tall = self.app.size
        place = Path(PICTURES) / f"{self.app.language}-{wide}x{tall}"
        pictures.save(self.strips, place / f"{type(screen).__name__.lower()}{step}.png")

    @property
    def lines(self) -> list[str]:
        """The same as text; of a dialog what stands in it."""
        strips = self.strips
        for dialog in self.app.screen.query(".dialog, #keyboard"):
            left, top, right, bottom = dialog.content_region.corners
            strips = [one.crop(left, right) for one in strips[top:bottom]]
        return ["".join(one.text for one in strip) for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def shows(self, *texts: str) -> None:
        """Wait until all of each is there, wherever lines are folded."""
        for one in texts:
            await self.until(partial(self._is_there, squeezed(one)), one)
        await self.until(lambda: not self._cut(), "all of it, uncut")
        self._pictured()

    def _cut(self) -> list[str]:
        """What is cut: sentences are to be folded, buttons as wide as what they say."""
        screen, wide = self.app.screen, self.app.size.width
        lines = [one for one in screen.query(Line) if one.display and one.size.width]
        buttons = [one for one in screen.query(Button) if one.display and one.size.width]
        lists = [one for one in screen.query(Rows) if one.content_width > 1]
        return [
            *(
                str(one.told)
                for one in lines
                if one.size.height
                < one.get_content_height(one.container_size, self.app.size, one.size.width)
                or one.region.right > wide
            ),
            *(
                str(one.label)
                for one in buttons
                if one.size.width < cell_len(str(one.label)) or one.region.right > wide
            ),
            *(
                line
                for one in lists
                for line in one.text.splitlines()
                if cell_len(line) > one.content_width
            ),
        ]

    async def shows_no_more(self, text: str) -> None:
        """Wait until a text is gone from the screen."""
        await self.until(lambda: not self._is_there(squeezed(text)), f"no {text}")

    def _is_there(self, text: str) -> bool:
        return text in squeezed(self.text)

    async def until(self, true: Callable[[], bool], what: str = "it") -> None:
        """Wait until it is so; a story that waits for ever has failed."""
        for _ in range(int(_PATIENCE_SECONDS / 0.02)):
            await self.pilot.pause(0.02)
            if true():
                return
        raise AssertionError(f"{what!r} never came to be:\n{self.text}")

    def screen_is(self, kind: type[Screen[Any]]) -> bool:
        return isinstance(self.app.screen, kind)

    async def _there(self, selector: str, kind: type[Shown]) -> Shown:
        """What is meant, once the screen has laid it out: it was opened just now, perhaps."""

        def found() -> list[Shown]:
            return [one for one in self.app.screen.query(selector).results(kind) if one.region]

        await self.until(lambda: bool(found()), selector)
        return found()[0]

    async def push(self, selector: str) -> None:
        """Press a button."""
        button = await self._there(selector, Button)
        assert not button.disabled, selector
        if self.mouse:
            await self._click(button)
        else:
            await self._tab_to(button)
            await self.pilot.press("enter")
        await self.pilot.pause()

    async def pick(self, selector: str, key: str) -> None:
        """Pick an entry of a list."""
        rows = await self._there(selector, Rows)
        await self.until(lambda: any(one == key for one, _ in rows._lines))  # noqa: SLF001
        if self.mouse:
            at = next(number for number, (one, _) in enumerate(rows._lines) if one == key)  # noqa: SLF001
            rows.scroll_visible(animate=False)
            await self.pilot.pause()
            await self.pilot.click(rows, offset=(4, at - rows.scroll_offset.y))
        else:
            await self._tab_to(rows)
            await self.pilot.press("home")
            while rows.cursor != key:
                before = rows.cursor
                await self.pilot.press("down")
                assert rows.cursor != before, f"{key} cannot be reached"
            await self.pilot.press("enter")
        await self.pilot.pause()

    async def type(self, selector: str, text: str) -> None:
        """Write a text into a field."""
        field = await self._there(selector, Field)
        if self.mouse:
            await self._click(field.query_one(Button))
            await self.until(lambda: isinstance(self.app.screen, KeyboardScreen))
            await self._click_keys(text)
        else:
            await self._tab_to(field.query_one("Input"))
            await self.pilot.press("home", "ctrl+k", *[_KEYS.get(one, one) for one in text])
        await self.pilot.pause()
        assert field.value == text

    async def scroll_down(self, selector: str) -> None:
        """To the end of what can be scrolled."""
        place = await self._there(selector, Widget)
        if self.mouse:
            while place.scroll_offset.y < place.max_scroll_y:
                before = place.scroll_offset.y
                await self.pilot._post_mouse_events(  # noqa: SLF001 - a wheel has no other way
                    [MouseScrollDown], widget=place, button=0
                )
                await self.until(lambda was=before: place.scroll_offset.y != was)  # type: ignore[misc]
        else:
            await self._tab_to(place)
            await self.pilot.press("end")
        await self.until(lambda: place.scroll_offset.y >= place.max_scroll_y)

    async def scan(self, selector: str, text: str) -> None:
        """Have a scanner write a text into a field: it acts as a keyboard, all at once."""
        line = (await self._there(selector, Field)).query_one(Input)
        if line.value:
            await self.type(selector, "")
        await (self._click(line) if self.mouse else self._tab_to(line))
        line.post_message(Paste(text))
        await self.pilot.pause()
        assert line.value == text

    async def _click_keys(self, text: str) -> None:
        await self.push("#clear")
        for one in text:
            if one == " ":
                await self.push("#space")
                continue
            key = self._key(one)
            if key is None:
                await self.push("#shift")
                key = self._key(one)
            assert key is not None, f"{one!r} cannot be clicked"
            await self._click(key)
        await self.push("#done")

    def _key(self, one: str) -> Button | None:
        keys = self.app.screen.query(".key").results(Button)
        return next((key for key in keys if str(key.label) == one), None)

    async def _click(self, widget: Widget) -> None:
        widget.scroll_visible(animate=False)
        await self.pilot.pause()
        assert await self.pilot.click(widget), f"{widget!r} lies under another"

    async def _tab_to(self, widget: Widget) -> None:
        for _ in range(_MOST_TABS):
            if self.app.focused is widget:
                return
            await self.pilot.press("tab")
        raise AssertionError(f"{widget!r} cannot be reached by Tab")


def squeezed(text: str) -> str:
    """Without blanks, and without bars: that of a scrolled place may stand in a folded text."""
    return "".join(one for one in text if not one.isspace() and not "▀" <= one <= "▟")


_KEYS = {
    " ": "space",
    "/": "slash",
    "-": "minus",
    ".": "full_stop",
    "_": "underscore",
    "@": "at",
    ":": "colon",
    "'": "apostrophe",
}


@asynccontextmanager
async def seated(
    state: State,
    shelf: Path,
    *,
    size: tuple[int, int] = NARROW,
    language: Language = Language.EN,
    mouse: bool = False,
    recorded: tuple[Disk, ...] | None = None,
) -> AsyncIterator[Seat]:
    """The console opened, and left again."""
    app = ConsoleApp(state, language, shelf, recorded)
    async with app.run_test(size=size) as pilot:
        seat = Seat(app, pilot, mouse)
        await seat.until(lambda: app.snapshot.clock_kept is not None)
        yield seat
        app.leave()


def told(story: Callable[[], Awaitable[None]]) -> None:
    """Tell an asynchronous story to its end."""

    async def whole() -> None:
        await story()

    asyncio.run(whole())
