"""The console itself: one look at everything, a few times a second, told to the screen shown."""

import threading
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from textual.binding import Binding, BindingType

from appliance import config
from appliance.errors import MotionGearError
from appliance.language import Language
from appliance.state import State
from appliance.tui.background import post
from appliance.tui.page import Console, Page
from appliance.tui.replay import Player, disks_of, recorded
from appliance.tui.screens.dialogs import HelpScreen
from appliance.tui.screens.home import HomeScreen
from appliance.tui.watch import LOOK_SECONDS, Disk, Snapshot, Watch


class ConsoleApp(Console):
    """Looks at everything, and tells the screen that is shown."""

    CSS_PATH = "console.tcss"
    TITLE = "MotionGear"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "", priority=True),
        Binding("f3", "language", "", priority=True),
    ]

    def __init__(
        self,
        state: State,
        language: Language,
        shelf: Path,
        recorded: tuple[Disk, ...] | None = None,
    ) -> None:
        super().__init__(state, language, shelf, recorded)
        self._watch = Watch(state, (state.home, shelf), shelf, recorded)

    def on_mount(self) -> None:
        self.push_screen(HomeScreen())
        threading.Thread(target=self._look, daemon=True).start()

    def on_unmount(self) -> None:
        self.leaving.set()

    def _look(self) -> None:
        """Until the console is left; whatever goes wrong is shown, and looked at again."""
        with self._watch.listening():
            while not self.leaving.is_set():
                try:
                    found = self._watch.look()
                except MotionGearError as exc:
                    found = Snapshot(trouble=exc.what)
                if self.leaving.is_set():
                    return
                post(self, partial(self._see, found))
                self.leaving.wait(LOOK_SECONDS)

    def _see(self, found: Snapshot) -> None:
        self.snapshot = found
        if isinstance(self.screen, Page):
            self.screen.see(found)

    def action_language(self) -> None:
        self.turn_language()
        self._see(self.snapshot)

    def action_help(self) -> None:
        if isinstance(self.screen, HelpScreen):
            self.screen.dismiss()
        else:  # on a dialog too: what holds everywhere
            self.push_screen(HelpScreen(getattr(self.screen, "ABOUT", ())))


def run(state: State, language: Language) -> None:
    """Until the operator leaves it."""
    ConsoleApp(state, language, config.shelf()).run()


def replay(language: Language) -> None:
    """The same over a recording, in a place of its own that is gone afterwards."""
    lines = recorded()
    with TemporaryDirectory(prefix="motiongear-replay-") as name:
        place = Path(name)
        with State(place) as state:
            app = ConsoleApp(state, language, place / "stores", disks_of(lines))
            player = Player(state, place, lines, app.leaving)
            thread = threading.Thread(target=player.play)
            thread.start()
            try:
                app.run()
            finally:
                app.leaving.set()
                thread.join()
