"""Custody: through whose hands a shipment went, what is wrong with its chain, the next hand."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from appliance import handover, shown
from appliance.errors import MotionGearError
from appliance.handover import Hands, Known, Whose
from appliance.language import Translator, marked
from appliance.seal import chain, deed, text
from appliance.seal.chain import Finding
from appliance.seal.custody import Appended
from appliance.seal.identity import Device, device_fingerprint
from appliance.state import ShipmentRow
from appliance.tui.background import in_background
from appliance.tui.page import Page
from appliance.tui.screens.dialogs import ToldScreen
from appliance.tui.screens.hands import GIVE, TAKE, HandScreen, own
from appliance.tui.speech import NOTHING, Said, foreign, refused, said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push

_WHOSE = {
    Whose.OWN: marked("The shipment was begun on this device."),
    Whose.EXPECTED: marked("It was begun and sealed by the device expected."),
    Whose.UNKNOWN: marked(
        "Consistent: as they were signed. Whose device it was, its fingerprint would confirm."
    ),
}


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
            yield Field(said(marked("device fingerprint")), id="custody-device")
            yield Push(said(marked("Verify")), id="verify-custody", compact=True)
            yield Rows(id="records")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Hand over")), id="hand-over")
            yield Push(said(marked("Receive")), id="receive")
            yield Push(said(marked("Own key")), id="own-key")

    def on_mount(self) -> None:
        self.query_one("#back").focus()
        self._look()

    def _look(self) -> None:
        sign = partial(self.query_one("#custody-say", Line).tell, said(marked("being read ...")))
        device = self.query_one("#custody-device", Field).value.strip()
        read = partial(handover.known, self.state.home, self._shipment.path, device)
        in_background(self, read, self._show, self._unseen, sign)

    @on(Button.Pressed, "#verify-custody")
    def _verify(self, event: Button.Pressed) -> None:
        event.stop()
        self._look()

    def _unseen(self, exc: MotionGearError) -> None:
        self.query_one("#custody-say", Line).tell(*refused(exc))
        self.query_one("#records", Rows).show([])

    def _show(self, known: Known) -> None:
        told = [said(marked("The chain does NOT hold together."))]
        if known.is_sound:
            holds = marked("The chain holds together; records: {count}.")
            told = [said(holds, count=len(known.records)), Said(_WHOSE[known.whose])]
        self.query_one("#custody-say", Line).tell(*told)
        rows = [Row("", _finding(one)) for one in known.findings]
        rows += [Row("", _own_finding(one)) for one in known.own]
        if known.only_here:
            rows.append(Row("", _only_here(known.only_here)))
        rows += [Row("", _record(one, known)) for one in reversed(known.records)]
        self.query_one("#records", Rows).show(rows)

    @on(Button.Pressed, "#own-key")
    def _own_key(self, event: Button.Pressed) -> None:
        event.stop()
        home = self.state.home
        in_background(self, lambda: Device.of(home), self._tell_key, self.refuse)

    def _tell_key(self, own: Device) -> None:
        told = said(marked("The public key of this machine, for whoever hands it something:"))
        print_of = said(marked("Its fingerprint: {fingerprint}"), fingerprint=own.fingerprint)
        self.app.push_screen(ToldScreen(told, foreign(own.public), print_of))

    @on(Button.Pressed, "#hand-over")
    def _hand_over(self, event: Button.Pressed) -> None:
        event.stop()
        self.app.push_screen(HandScreen(GIVE, self._give), self._handed)

    def _give(self, fields: dict[str, str]) -> list[Said]:
        taker = Hands(fields["to"], fields["organisation"])
        code, made = handover.hand_over(
            self.state.home, self._shipment.path, taker, fields["receiver"], own(fields)
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
        told, made = handover.receive(self.state.home, self._shipment.path, code, own(fields))
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


def _where(made: Appended) -> list[Said]:
    """Where the record is kept, and why not elsewhere."""
    told: list[Said] = []
    if made.finding is not None:
        told = _unsound(handover.UNSOUND, made.finding)
    elif not made.in_store:
        told = [Said(handover.AT_HOME_ONLY)]
    return told + (_unsound(handover.OWN_UNSOUND, made.own) if made.own is not None else [])


def _unsound(told: Sequence[str], finding: Finding) -> list[Said]:
    first, *rest = map(Said, told)
    return [first, _about(finding), *rest]


def _about(finding: Finding) -> Said:
    """As ``handover.sentence``, in whatever language is chosen then."""
    record = said(marked("record {number}"), number=finding.number)
    figures = {
        "about": record if finding.number else said(marked("the chain")),
        "flaw": Said(chain.FLAWS[finding.kind]),
        "kind": finding.kind,
    }
    return Said("{about}: {flaw} ({kind})", figures)


def _finding(one: Finding) -> Draw:
    return _remark(_about(one), is_error=one.is_error)


def _own_finding(one: Finding) -> Draw:
    told = said(marked("This machine's own copy: {finding}"), finding=_about(one))
    return _remark(told, is_error=True)


def _only_here(numbers: frozenset[int]) -> Draw:
    told = said(
        marked(
            "Only this machine has these records: {numbers}. The store could not be written, or "
            "they were taken from it."
        ),
        numbers=", ".join(map(str, sorted(numbers))),
    )
    return _remark(told, is_error=False)


def _remark(told: Said, *, is_error: bool) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        mark, tone = ("!!", Tone.BAD) if is_error else ("??", Tone.WATCH)
        return [((each, tone),) for each in fold(f"{mark} {told.told(say)}", wide, indent=3)]

    return draw


def _record(signed: deed.Signed, known: Known) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        one = signed.record
        who = ", ".join(filter(None, (one.who.name, one.who.organisation)))
        clock = say(handover.CLOCKS[one.clock])
        head = f"{one.number}  {say(handover.DEEDS[one.deed])}  {one.at} ({clock})"
        lines: list[Sequence[tuple[str, Tone]]] = [
            ((each, Tone.STRONG),) for each in fold(head, wide, indent=3)
        ]
        taker = ", ".join(filter(None, (one.what.to.name, one.what.to.organisation)))
        for name, what in (
            (marked("who"), who),
            (marked("where"), one.where),
            (marked("to"), taker),
            (marked("disk"), one.what.disk),
            (marked("note"), one.what.note),
            (marked("code"), known.codes.get(one.number, "")),
            (marked("seal root"), text.grouped(bytes.fromhex(one.root))),
            (marked("signed by"), device_fingerprint(one.signer)),
        ):
            if what:
                lines += fact(f"   {say(name)}", shown.safe(what), wide)
        return lines

    return draw
