"""The bar that is always there: whether writes to sources are blocked, the clock, the language."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button, Static

from appliance.language import Language, marked
from appliance.tui.speech import NAMES, NOTHING, OTHER, Said, foreign, said
from appliance.tui.watch import Snapshot
from appliance.tui.widgets.spoken import Line, Push

_BLOCK = {
    True: marked("write block ON"),
    False: marked("write block OFF"),
    None: marked("write block: cannot tell"),
}
_CLOCK = {
    True: marked("clock kept"),
    False: marked("clock not kept"),
    None: marked("clock: cannot tell"),
}


class GuardBar(Horizontal):
    """Yes, no, or that nobody can tell: never a guess."""

    def compose(self) -> ComposeResult:
        yield Line(id="guard-demo")
        yield Line(id="guard-block")
        yield Line(id="guard-clock")
        yield Static(id="guard-room")
        yield Push(said(marked("F1 Help")), id="guard-help", compact=True)
        yield Push(foreign(""), id="guard-language", compact=True)

    def see(self, found: Snapshot, language: Language, *, is_demo: bool = False) -> None:
        self.query_one("#guard-demo", Line).tell(
            said(marked("DEMO, recorded")) if is_demo else NOTHING
        )
        self.query_one("#guard-demo", Line).display = is_demo
        self.query_one("#guard-block", Line).tell(said(_BLOCK[found.write_blocked]))
        time = found.at.astimezone().strftime("%H:%M")
        self.query_one("#guard-clock", Line).tell(_clock(found.clock_kept, time))
        self.query_one("#guard-language", Push).tell(foreign(f"F3 {NAMES[OTHER[language]]}"))

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        asked = "help" if event.button.id == "guard-help" else "language"
        await self.app.run_action(asked)


def _clock(kept: bool | None, time: str) -> Said:  # noqa: FBT001 - None is a third value
    return said(marked("{time}, {kept}"), time=time, kept=Said(_CLOCK[kept]))
