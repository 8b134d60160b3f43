"""What all screens share: the console they are in, and being told what there is to see."""

import threading
from pathlib import Path
from typing import ClassVar, TypeVar

from textual.app import App
from textual.dom import DOMNode
from textual.screen import Screen

from appliance.errors import MotionGearError
from appliance.language import Language, Translator, translator
from appliance.state import State
from appliance.tui.background import Done
from appliance.tui.screens.dialogs import RefusalScreen
from appliance.tui.speech import OTHER, Spoken
from appliance.tui.watch import Disk, Snapshot
from appliance.tui.widgets.guards import GuardBar

Result = TypeVar("Result")


class Console(App[None]):
    """What every screen may ask of the console it is in. New shipments are begun on ``shelf``.
    ``recorded``: the disks of a recording, where one is played.
    """

    def __init__(
        self,
        state: State,
        language: Language,
        shelf: Path,
        recorded: tuple[Disk, ...] | None = None,
    ) -> None:
        super().__init__()
        self.recorded = recorded
        self.state, self.shelf, self.language = state, shelf, language
        self.say: Translator = translator(language)
        self.snapshot = Snapshot()
        self.leaving = threading.Event()

    def on_done(self, event: Done) -> None:
        if not self.leaving.is_set():  # else its screens are being taken down
            event.then()

    def leave(self) -> None:
        """Jobs go on; what was begun in the background comes too late."""
        self.leaving.set()
        self.exit()

    def turn_language(self) -> None:
        """Everything on all screens says itself anew; what was typed stays."""
        self.language = OTHER[self.language]
        self.say = translator(self.language)
        for screen in self.screen_stack:
            for one in screen.walk_children():
                if isinstance(one, Spoken):
                    one.speak(self.say)


def console_of(node: DOMNode) -> Console:
    found = node.app
    assert isinstance(found, Console)
    return found


def alone(screen: Screen[Result]) -> None:
    """Whatever lies over ``screen`` goes. For whoever ends a screen when something is done: by
    then help may lie over it, or a keyboard, and would be ended in its stead.
    """
    while screen.app.screen is not screen:
        screen.app.pop_screen()


class Page(Screen[Result]):
    """A screen that is told what there is to see, at most four times a second, while it is the one
    that is shown. ``ABOUT`` is what its help says, marked sentences.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - as textual has it
    ABOUT: ClassVar[tuple[str, ...]] = ()

    _stands = False

    def on_mount(self) -> None:
        """Called behind that of the screen itself: by now there is something to show it on."""
        self._stands = True
        self.see(console_of(self).snapshot)

    def see(self, found: Snapshot) -> None:
        if not self._stands:
            return
        for one in self.query(GuardBar):
            console = console_of(self)
            one.see(found, console.language, is_demo=console.recorded is not None)
        self.seen(found)

    def seen(self, found: Snapshot) -> None:
        """For whoever shows more than the guards."""

    def refuse(self, exc: MotionGearError) -> None:
        """Say it over the screen."""
        self.app.push_screen(RefusalScreen(exc))

    @property
    def state(self) -> State:
        return console_of(self).state
