"""The manifest browser: the disks of a sealed shipment, and every block of one.

What was proved here before needs no key; anything else is opened with one, and kept in memory only
while it is looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from appliance import shown
from appliance.errors import IncompleteDiskError, MotionGearError
from appliance.language import Translator, marked
from appliance.model import DiskId, PointSpec
from appliance.seal import opening, verify
from appliance.seal.keys import PrivateKey
from appliance.seal.manifest import Manifest, State
from appliance.seal.proved import Proved
from appliance.seal.store import by_point
from appliance.seal.verify import Pins, Sealed
from appliance.state import ShipmentRow
from appliance.tui.background import in_background
from appliance.tui.page import Page
from appliance.tui.screens.key import KeyScreen
from appliance.tui.speech import NOTHING, Said, refused, said
from appliance.tui.widgets.blocks import STATES, Blocks
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.guards import GuardBar
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push


@dataclass(frozen=True, slots=True)
class Listed:
    """A disk at a point as the packs' public heads tell; ``spec`` where it was proved here."""

    disk: DiskId
    point: int
    packs: int
    spec: PointSpec | None

    @property
    def key(self) -> str:
        return f"{self.disk} {self.point}"


@dataclass(frozen=True, slots=True)
class Opened:
    spec: PointSpec
    manifest: Manifest


class ManifestScreen(Page[None]):
    ABOUT = (
        marked("Without a key, only ids and packs of the disks are known."),
        marked("What was verified with a key or restored here is shown without one."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, shipment: ShipmentRow) -> None:
        super().__init__()
        self._shipment = shipment
        self._sealed: Sealed | None = None
        self._listed: dict[str, Listed] = {}

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with Vertical(id="sheet"):
            yield Line(
                said(marked("Disks of {label}"), label=self._shipment.label), classes="title"
            )
            yield Line(id="manifest-say")
            yield Rows(id="disks-there")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")

    def on_mount(self) -> None:
        self.query_one("#disks-there").focus()
        sign = partial(self._say, said(marked("being read ...")))
        in_background(self, self._look, self._show, self._unseen, sign)

    def _look(self) -> list[Listed]:
        sealed = verify.inspect(self._shipment.path, Pins())
        self._sealed = sealed
        proved = Proved(self.state.home, sealed.seal.root().hex())
        return [
            Listed(
                one.disk,
                one.point,
                len(one.packs),
                proved.spec(one.disk, one.point) if proved.has(one.disk, one.point) else None,
            )
            for one in by_point(sealed.store.infos())
        ]

    def _show(self, found: Sequence[Listed]) -> None:
        self._listed = {one.key: one for one in found}
        self._say(said(marked("Pick a disk, to look at its blocks.")))
        self.query_one("#disks-there", Rows).show([Row(one.key, _disk(one)) for one in found])

    def _unseen(self, exc: MotionGearError) -> None:
        self._say(*refused(exc))

    def _say(self, *told: Said) -> None:
        self.query_one("#manifest-say", Line).tell(*told)

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        one = self._listed[event.key]
        if one.spec is None:
            self.app.push_screen(KeyScreen(), partial(self._unlocked, one))
            return
        self._read(partial(self._proved, one))

    def _read(self, work: Callable[[], Opened]) -> None:
        sign = partial(self._say, said(marked("being read ...")))
        in_background(self, work, self._browse, self._unseen, sign)

    def _proved(self, one: Listed) -> Opened:
        assert self._sealed is not None
        proved = Proved(self.state.home, self._sealed.seal.root().hex())
        return Opened(proved.spec(one.disk, one.point), proved.manifest(one.disk, one.point))

    def _unlocked(self, one: Listed, key: PrivateKey | None) -> None:
        if key is not None:
            self._read(partial(self._open, one, key))

    def _open(self, one: Listed, key: PrivateKey) -> Opened:
        assert self._sealed is not None
        for stored in opening.disks_of(self._sealed, key):
            if (stored.disk, stored.packs.point) == (one.disk, one.point):
                found = stored.open(key)
                return Opened(found.spec, found.manifest)
        raise IncompleteDiskError(f"Disk {one.disk} is not among the sealed contents")

    def _browse(self, opened: Opened) -> None:
        self._say(said(marked("Pick a disk, to look at its blocks.")))
        self.app.push_screen(BlocksScreen(opened))

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()


def _disk(one: Listed) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        if one.spec is None:
            told = say(marked("disk {disk}, packs: {count}; needs the key"))
            line = told.format(disk=one.disk, count=one.packs)
        else:
            facts = one.spec.facts
            name = shown.safe(facts.serial or facts.source)
            line = f"{shown.safe(one.spec.machine)}: {name}  {shown.size(facts.size)}  {one.disk}"
        return [((each, Tone.PLAIN),) for each in fold(line, wide, indent=4)]

    return draw


class BlocksScreen(Page[None]):
    ABOUT = (
        marked("A line for every block: its number, its place in bytes, what it is, its digest."),
        marked("The digest below the list is that of the line under the cursor, whole."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "back", "")]

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self._spec, self._manifest = opened.spec, opened.manifest

    def compose(self) -> ComposeResult:
        yield GuardBar()
        with Vertical(id="sheet"):
            facts = self._spec.facts
            yield Line(
                said(
                    marked("{machine}: {disk}, blocks: {count} of {size}"),
                    machine=self._spec.machine,
                    disk=facts.serial or facts.source,
                    count=len(self._manifest),
                    size=shown.size(self._manifest.block_size),
                ),
                classes="title",
            )
            yield Blocks(self._manifest, id="blocks")
            yield Rows(id="block")
            yield Field(said(marked("byte of the disk")), id="offset")
            yield Line(id="blocks-say")
        with Horizontal(classes="buttons"):
            yield Push(said(marked("Back")), id="back")
            yield Push(said(marked("Go there")), id="go")
            yield Push(said(marked("Next unreadable")), id="next-bad")

    def on_mount(self) -> None:
        self.query_one("#blocks").focus()

    @on(Blocks.Moved)
    def _moved(self, event: Blocks.Moved) -> None:
        event.stop()
        digest, state = self._manifest[event.block]

        def draw(wide: int, say: Translator) -> Drawn:
            first = event.block * self._manifest.block_size
            last = first + self._manifest.length(event.block) - 1
            where = say(marked("bytes {first} to {last}")).format(first=first, last=last)
            word, tone = STATES[state]
            lines = [*fact(say(marked("block")), f"{event.block}: {where}", wide)]
            lines += fact(say(marked("state")), say(word), wide, tone)
            if state is not State.UNKNOWN:
                lines += fact("BLAKE3", grouped_hex(digest), wide, Tone.STRONG)
            return lines

        self.query_one("#block", Rows).show([Row("", draw)])

    @on(Button.Pressed, "#go")
    def _go(self, event: Button.Pressed) -> None:
        event.stop()
        typed = self.query_one("#offset", Field).value.strip()
        if not typed.isdecimal() or not typed.isascii() or int(typed) >= self._manifest.size:
            size = self._manifest.size
            self._say(said(marked("Give a number below {size}."), size=size))
            return
        self._say(NOTHING)
        self.query_one(Blocks).go(int(typed) // self._manifest.block_size)

    @on(Button.Pressed, "#next-bad")
    def _next(self, event: Button.Pressed) -> None:
        event.stop()
        first = self.query_one(Blocks).cursor + 1
        sign = partial(self._say, said(marked("being read ...")))
        search = partial(self._manifest.find, State.UNREADABLE, first)
        in_background(self, search, self._found, self.refuse, sign)

    def _found(self, found: int | None) -> None:
        if found is None:
            self._say(said(marked("There is none behind this block.")))
            return
        self._say(NOTHING)
        self.query_one(Blocks).go(found)

    def _say(self, told: Said) -> None:
        self.query_one("#blocks-say", Line).tell(told)

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()


def grouped_hex(digest: bytes) -> str:
    """In groups of eight digits."""
    return digest.hex(" ", 4)
