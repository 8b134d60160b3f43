"""The wizard's step that says who may open the shipment: by file, from a stick, pasted."""

from collections.abc import Iterator
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.widgets import Button

from appliance import shown
from appliance.errors import MotionGearError
from appliance.ingest import guard
from appliance.language import Translator, marked
from appliance.seal.keys import Recipient, parse_public, public_file, read_public
from appliance.seal.store import Store
from appliance.tui.page import console_of
from appliance.tui.speech import NOTHING, Said, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.rows import Drawn, Row, Rows, Tone, fold
from appliance.tui.widgets.spoken import Line, Push
from appliance.tui.wizard import Answers, Stage, listed

_STICKS = (Path("/media"), Path("/run/media"), Path("/mnt"))
_MOST_FOUND = 64


def recipients_of(answers: Answers) -> list[Recipient]:
    """As the draft has them; what is no key any more is left out."""
    found = []
    for one in listed(answers, "recipients"):
        try:
            found.append(parse_public(str(one).encode(), "draft"))
        except MotionGearError:
            continue
    return found


class RecipientsStage(Stage):
    """Nobody is chosen beforehand; of an open shipment they stand already."""

    TITLE = marked("recipients")

    def compose(self) -> ComposeResult:
        yield Line(id="recipients-say")
        yield Rows(id="recipients")
        yield Field(said(marked("public key file")), id="key-file")
        yield Push(said(marked("Add the file")), id="add-key", compact=True)
        yield Push(said(marked("Look on sticks")), id="sticks", compact=True)
        yield Field(said(marked("or paste a key")), id="pasted")
        yield Push(said(marked("Add what is pasted")), id="add-pasted", compact=True)
        yield Line(id="key-refused")

    def entered(self) -> None:
        for one in ("key-file", "add-key", "sticks", "pasted", "add-pasted"):
            self.query_one(f"#{one}").display = self._is_new
        self.query_one("#recipients-say", Line).tell(
            said(marked("Who may open the shipment: at least two, and never changed later."))
            if self._is_new
            else said(marked("The shipment was begun for these; they cannot be changed."))
        )
        self._show()

    @property
    def _is_new(self) -> bool:
        return self.answers.get("shipment") == "new"

    def _now(self) -> list[Recipient]:
        if self._is_new:
            return recipients_of(self.answers)
        known = console_of(self).snapshot.shipment(self.answers.get("shipment"))
        if known is not None:
            try:
                return list(Store(known.row.path).head.recipients)
            except MotionGearError as exc:
                self._refuse(exc)
        return []

    def _show(self) -> None:
        self.query_one(Rows).show([self._row(one) for one in self._now()])

    def _row(self, one: Recipient) -> Row:
        def draw(wide: int, say: Translator) -> Drawn:
            told = f"{shown.safe(one.name)}  {say(one.role)}"
            lines = [((each, Tone.PLAIN),) for each in fold(told, wide, indent=2)]
            return [*lines, *(((each, Tone.DIM),) for each in fold(f"  {one.fingerprint}", wide))]

        return Row(one.fingerprint if self._is_new else "", draw)

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        """Picked once more, it is taken away."""
        self._keep([one for one in self._now() if one.fingerprint != event.key])

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        try:
            match event.button.id:
                case "add-key":
                    field = self.query_one("#key-file", Field)
                    self._add(read_public(Path(field.value)))
                    field.value = ""
                case "add-pasted":
                    field = self.query_one("#pasted", Field)
                    self._add(
                        parse_public(
                            field.value.strip().encode(errors="replace"), "What was pasted"
                        )
                    )
                    field.value = ""
                case _:
                    self._look()
        except MotionGearError as exc:
            self._refuse(exc)
        else:
            if event.button.id != "sticks":
                self.query_one("#key-refused", Line).tell(NOTHING)

    def _look(self) -> None:
        found, refused = [], 0
        for path in _on_sticks():
            try:
                found.append(read_public(path))
            except MotionGearError:
                refused += 1
        for one in found:
            self._add(one)
        self.query_one("#key-refused", Line).tell(
            said(
                marked("Keys found on sticks: {count}; other files, not taken: {refused}."),
                count=len(found),
                refused=refused,
            )
        )

    def _add(self, one: Recipient) -> None:
        self._keep([*(each for each in self._now() if each.key != one.key), one])

    def _keep(self, found: list[Recipient]) -> None:
        self.answers["recipients"] = [public_file(one).decode() for one in found]
        self.wizard.keep()
        self._show()

    def _refuse(self, exc: MotionGearError) -> None:
        self.query_one("#key-refused", Line).tell(
            said(
                marked("{happened} ({what}.) {todo}"),
                happened=Said(exc.happened),
                what=exc.what,
                todo=Said(exc.todo_now),
            )
        )

    def lacks(self) -> Said:
        found = self._now()
        if not found:
            return said(marked("Add at least one recipient; two are wise."))
        return NOTHING


def _on_sticks() -> Iterator[Path]:
    """Public key files at the top of what is mounted where sticks are."""
    count = 0
    for one in guard.mounts():
        place = Path(one.where)
        if not any(base in place.parents or base == place for base in _STICKS):
            continue
        try:
            names = sorted(place.glob("*.pub"))
        except OSError:
            continue
        for path in names:
            count += 1
            if count > _MOST_FOUND:
                return
            yield path
