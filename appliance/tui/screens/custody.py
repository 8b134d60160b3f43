"""Custody: through whose hands a shipment went, what is wrong with its chain, the next hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button

from appliance import handover, shown
from appliance.errors import MotionGearError
from appliance.handover import Hands
from appliance.language import Translator, marked
from appliance.seal import chain, deed
from appliance.seal.chain import Finding
from appliance.seal.custody import Appended
from appliance.seal.identity import device_fingerprint
from appliance.state import ShipmentRow
from appliance.tui.background import in_background
from appliance.tui.page import Page
from appliance.tui.screens.dialogs import ToldScreen
from appliance.tui.speech import NOTHING, Said, foreign, refused, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push


@dataclass(frozen=True, slots=True)
class Told:
    """A chain as it lies in the store, and what is wrong with it."""

    records: Sequence[deed.Signed]
    findings: Sequence[Finding]


class CustodyScreen(Page[None]):
    ABOUT = (
        marked("Every record is signed and names the one before: a change anywhere is seen."),
        marked("Both sides of a hand-over compare its code by another path than the device."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, shipment: ShipmentRow) -> None:
        super().__init__()
        self._shipment = shipment

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with Vertical(id="sheet"):
            yield Line(
                said(marked("Custody of {label}"), label=self._shipment.label), classes="title"
            )
            yield Line(id="custody-say")
            yield Rows(id="records")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Hand over")), id="hand-over")
            yield Push(said(marked("Receive")), id="receive")

    def on_mount(self) -> None:
        self.query_one("#back").focus()
        self._look()

    def _look(self) -> None:
        sign = partial(self.query_one("#custody-say", Line).tell, said(marked("being read ...")))
        in_background(self, partial(_read, self._shipment), self._show, self._unseen, sign)

    def _unseen(self, exc: MotionGearError) -> None:
        self.query_one("#custody-say", Line).tell(*refused(exc))

    def _show(self, told: Told) -> None:
        wrong = any(one.is_error for one in told.findings)
        self.query_one("#custody-say", Line).tell(
            said(marked("The chain does NOT hold together."))
            if wrong
            else said(
                marked("The chain holds together; records: {count}."), count=len(told.records)
            )
        )
        rows = [Row("", _finding(one)) for one in told.findings]
        rows += [Row("", _record(one)) for one in reversed(told.records)]
        self.query_one("#records", Rows).show(rows)

    @on(Button.Pressed, "#hand-over")
    def _hand_over(self, event: Button.Pressed) -> None:
        event.stop()
        self.app.push_screen(HandScreen(GIVE, self._give), self._handed)

    def _give(self, fields: dict[str, str]) -> list[Said]:
        taker = Hands(fields["to"], fields["organisation"])
        code, made = handover.hand_over(
            self.state.home, self._shipment.path, taker, fields["receiver"], Hands(fields["by"])
        )
        return [
            said(marked("Handed over to {name}. The code of this hand-over:"), name=fields["to"]),
            foreign(code),
            said(
                marked(
                    "Both write it down, or send it to the receiver by another path than the "
                    "device."
                )
            ),
            Said(handover.APART),
            *_where(made),
        ]

    @on(Button.Pressed, "#receive")
    def _receive(self, event: Button.Pressed) -> None:
        event.stop()
        self.app.push_screen(HandScreen(TAKE, self._take), self._handed)

    def _take(self, fields: dict[str, str]) -> list[Said]:
        code = fields["code"]
        told, made = handover.receive(
            self.state.home, self._shipment.path, code, Hands(fields["by"])
        )
        compared = said(
            marked("Nobody has compared the code: ask the giver for it by another path.")
        )
        return [
            said(marked("Received, and signed. It answers the hand-over with this code:")),
            foreign(told),
            NOTHING if code else compared,
            Said(handover.APART),
            *_where(made),
        ]

    def _handed(self, told: list[Said] | None) -> None:
        if told is not None:
            self.app.push_screen(ToldScreen(*told))
            self._look()

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()


def _read(shipment: ShipmentRow) -> Told:
    found = handover.chain_of(shipment.path)
    findings = chain.verify(found, handover.expected(shipment.path, found, ""))
    return Told(list(chain.records(found).values()), findings)


def _where(made: Appended) -> list[Said]:
    """Where the record is kept, and why not elsewhere."""
    if made.finding is not None:
        why = Said(chain.FLAWS[made.finding.kind])
        return [said(marked("The device's chain of custody cannot be gone on from:")), why]
    if not made.in_store:
        return [
            said(marked("The record is kept on this machine only: the store cannot be written."))
        ]
    return []


def _finding(one: Finding) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        mark, tone = ("!!", Tone.BAD) if one.is_error else ("??", Tone.WATCH)
        told = f"{mark} {handover.sentence(one, say)}"
        return [((each, tone),) for each in fold(told, wide, indent=3)]

    return draw


def _record(signed: deed.Signed) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        one = signed.record
        who = ", ".join(filter(None, (one.who.name, one.who.organisation)))
        clock = say(handover.CLOCKS[one.clock])
        head = f"{one.number}  {say(handover.DEEDS[one.deed])}  {one.at} ({clock})"
        lines: list[Sequence[tuple[str, Tone]]] = [
            ((each, Tone.STRONG),) for each in fold(head, wide, indent=3)
        ]
        taker = ", ".join(filter(None, (one.what.to.name, one.what.to.organisation)))
        for name, text in (
            (marked("who"), who),
            (marked("where"), one.where),
            (marked("to"), taker),
            (marked("disk"), one.what.disk),
            (marked("note"), one.what.note),
            (marked("signed by"), device_fingerprint(one.signer)),
        ):
            if text:
                lines += fact(f"   {say(name)}", shown.safe(text), wide)
        return lines

    return draw


@dataclass(frozen=True, slots=True)
class Asked:
    """What a hand gives or takes with: fields by their names; ``deed`` is what the button does."""

    title: str
    deed: str
    fields: tuple[tuple[str, str], ...]
    needed: str = ""


GIVE = Asked(
    marked("Hand over"),
    marked("Sign the hand-over"),
    (
        ("to", marked("who takes it")),
        ("organisation", marked("for whom")),
        ("receiver", marked("their public key")),
        ("by", marked("your name")),
    ),
    "to",
)
TAKE = Asked(
    marked("Receive"),
    marked("Sign for it"),
    (("code", marked("the giver's code")), ("by", marked("your name"))),
)


class HandScreen(ModalScreen[list[Said] | None]):
    """Asks for what a record needs; returns what came of it."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "")]

    def __init__(self, asked: Asked, do: Callable[[dict[str, str]], list[Said]]) -> None:
        super().__init__()
        self._asked, self._do = asked, do

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Line(Said(self._asked.title), classes="paragraph")
            for name, words in self._asked.fields:
                yield Field(Said(words), id=f"hand-{name}")
            yield Line(id="hand-say")
            with Horizontal(classes="buttons"):
                yield Push(said(marked("Cancel")), id="cancel")
                yield Push(Said(self._asked.deed), id="do")

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "cancel":
            self.dismiss(None)
            return
        fields = {
            name: self.query_one(f"#hand-{name}", Field).value.strip()
            for name, _ in self._asked.fields
        }
        if self._asked.needed and not fields[self._asked.needed]:
            self._say(said(marked("Say who takes it.")))
            return
        event.button.disabled = True
        in_background(self, partial(self._do, fields), self._done, self._refused)

    def _done(self, told: list[Said]) -> None:
        self.dismiss(told)

    def _refused(self, exc: MotionGearError) -> None:
        self.query_one("#do").disabled = False
        self._say(*refused(exc))

    def _say(self, *told: Said) -> None:
        self.query_one("#hand-say", Line).tell(*told)

    def action_leave(self) -> None:
        self.dismiss(None)
