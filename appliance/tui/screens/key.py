"""A private key, for a job that opens packs: in this console's memory until the job has it."""

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button

from appliance.block import keep_in_memory
from appliance.errors import MotionGearError
from appliance.language import marked
from appliance.seal import keys
from appliance.seal.keys import PrivateKey
from appliance.tui.background import in_background
from appliance.tui.page import alone
from appliance.tui.speech import Said, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.spoken import Line, Push


def unlocked(path: Path, passphrase: str) -> PrivateKey:
    """It takes a second or two, by design. From here on the console holds a secret, and keeps
    itself out of swap and core dumps.
    """
    keep_in_memory()
    keys.read_recipient(path)
    return keys.unlock(path, passphrase)


class KeyScreen(ModalScreen[PrivateKey | None]):
    """Returns the key, unlocked; None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Line(
                said(marked("The private key of one of the recipients, and its passphrase.")),
                classes="paragraph",
            )
            yield Field(said(marked("private key file")), id="key")
            yield Field(said(marked("passphrase")), id="passphrase", secret=True)
            yield Line(id="key-say")
            with Horizontal(classes="buttons"):
                yield Push(said(marked("Cancel")), id="cancel")
                yield Push(said(marked("Unlock")), id="unlock")

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def action_leave(self) -> None:
        self.dismiss(None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "cancel":
            self.dismiss(None)
            return
        field = self.query_one("#passphrase", Field)
        path, passphrase, field.value = self.query_one("#key", Field).value, field.value, ""
        if not path or not passphrase:
            self._tell(said(marked("Give the key file and its passphrase.")))
            return
        event.button.disabled = True
        work = partial(unlocked, Path(path), passphrase)
        sign = partial(self._tell, said(marked("being checked ...")))
        in_background(self, work, self._done, self._refused, sign)

    def _done(self, key: PrivateKey) -> None:
        alone(self)
        self.dismiss(key)

    def _refused(self, exc: MotionGearError) -> None:
        self.query_one("#unlock").disabled = False
        self._tell(
            said(marked("{happened} ({what}.)"), happened=Said(exc.happened), what=exc.what)
        )

    def _tell(self, told: Said) -> None:
        self.query_one("#key-say", Line).tell(told)
