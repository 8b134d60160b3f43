"""The ingest wizard: disks, what they hold, whose they are, the shipment they go into, review."""

import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Button

from appliance import jobs, orders, shown
from appliance.block import make_directory
from appliance.errors import BadInputError, MotionGearError, StoreWriteError, UnknownNameError
from appliance.events import Json
from appliance.ingest.inspection import machine_facts
from appliance.language import Translator, marked
from appliance.model import DiskFacts, MachineFacts, ShipmentId
from appliance.rate import parse_limit
from appliance.report import inside
from appliance.seal.keys import Recipient
from appliance.seal.store import Store
from appliance.tui import views
from appliance.tui.background import in_background
from appliance.tui.page import console_of
from appliance.tui.recipients import RecipientsStage, recipients_of
from appliance.tui.speech import NOTHING, Said, foreign, said
from appliance.tui.watch import Disk, Snapshot
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.rows import Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push
from appliance.tui.wizard import Answers, Stage, Wizard


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be ingested: a disk by what tells it from others, or an image file."""

    key: str
    source: str
    name: str
    size: int


def chosen(answers: Answers) -> list[Chosen]:
    """As they stand in the draft; none where that is nonsense."""
    told = cast("list[dict[str, Json]]", answers.get("sources") or [])
    try:
        return [
            Chosen(str(one["key"]), str(one["source"]), str(one["name"]), int(str(one["size"])))
            for one in told
        ]
    except (TypeError, LookupError, ValueError):
        return []


def keep_chosen(answers: Answers, found: Sequence[Chosen]) -> None:
    answers["sources"] = [
        {"key": one.key, "source": one.source, "name": one.name, "size": one.size} for one in found
    ]


def names(answers: Answers) -> dict[str, Json]:
    """The machines' names, by source."""
    found = answers.get("machines")
    if not isinstance(found, dict):
        found = answers["machines"] = {}
    return found


class DisksStage(Stage):
    """Which disks; none is chosen beforehand, and those that may not be read say why."""

    TITLE = marked("disks")

    def compose(self) -> ComposeResult:
        yield Line(said(marked("Choose the disks to be copied. They are only read.")))
        yield Rows(id="choose")
        yield Field(said(marked("or an image file")), id="image")
        yield Push(said(marked("Add the file")), id="add-image", compact=True)

    def seen(self, found: Snapshot) -> None:
        attached = {one.key: one for one in found.disks}
        keys = frozenset(one.key for one in chosen(self.answers))
        rows = views.disk_rows(found.disks, keys, pickable=True)
        rows += [
            _gone(one) if one.key not in attached and not _is_image(one) else _image(one)
            for one in chosen(self.answers)
            if one.key not in attached
        ]
        self._attached = attached
        self.query_one(Rows).show(rows)

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        kept = [one for one in chosen(self.answers) if one.key != event.key]
        if len(kept) == len(chosen(self.answers)) and event.key in self._attached:
            kept.append(_of(self._attached[event.key]))
        self._choose(kept)

    @on(Button.Pressed, "#add-image")
    def _add(self, event: Button.Pressed) -> None:
        event.stop()
        field = self.query_one("#image", Field)
        path = Path(field.value).absolute()
        if not field.value or not path.is_file():
            self.wizard.lacking(said(marked("There is no file {path}"), path=path))
            return
        one = Chosen(f"\0\0{path}", str(path), path.name, path.stat().st_size)
        self._choose([*(each for each in chosen(self.answers) if each.key != one.key), one])
        field.value = ""

    def _choose(self, found: Sequence[Chosen]) -> None:
        keep_chosen(self.answers, found)
        self.wizard.keep()
        self.seen(console_of(self).snapshot)

    def lacks(self) -> Said:
        found = chosen(self.answers)
        if not found:
            return said(marked("Choose at least one disk."))
        for one in found:
            if _is_image(one):
                continue
            there = self._attached.get(one.key)
            if there is None:
                return said(marked("Disk {name} is not attached any more."), name=one.name)
            if there.refusal:
                return said(
                    marked("Disk {name} cannot be read: {why}"), name=one.name, why=there.refusal
                )
        keep_chosen(self.answers, [replace(one, source=self._node(one)) for one in found])
        return NOTHING

    def _node(self, one: Chosen) -> str:
        return one.source if _is_image(one) else self._attached[one.key].node


def _is_image(one: Chosen) -> bool:
    return one.key.startswith("\0\0")


def _of(disk: Disk) -> Chosen:
    return Chosen(disk.key, disk.node, disk.serial or disk.node, disk.size)


def _image(one: Chosen) -> Row:
    def draw(wide: int, say: Translator) -> Drawn:
        kind = say(marked("image"))
        told = f"[x] {kind}  {shown.size(one.size)}  {shown.safe(one.source)}"
        return [((each, Tone.PLAIN),) for each in fold(told, wide, indent=6)]

    return Row(one.key, draw)


def _gone(one: Chosen) -> Row:
    def draw(wide: int, say: Translator) -> Drawn:
        gone = say(marked("not attached any more"))
        told = f"[x] {shown.safe(one.name)}  {gone}"
        return [((each, Tone.BAD),) for each in fold(told, wide, indent=6)]

    return Row(one.key, draw)


class HoldsStage(Stage):
    """What the disks tell of themselves, read by a process that has no rights."""

    TITLE = marked("what they hold")

    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self._found: dict[str, tuple[DiskFacts, MachineFacts] | MotionGearError | None] = {}

    def compose(self) -> ComposeResult:
        yield Line(said(marked("What stands on them. Nothing is mounted and nothing written.")))
        yield Rows(id="holds")

    def entered(self) -> None:
        for one in chosen(self.answers):
            if one.source not in self._found:
                self._found[one.source] = None
                work, then = partial(self._look, one.source), partial(self._looked, one.source)
                in_background(self, work, then, then)
        self._show()

    def _look(self, source: str) -> tuple[DiskFacts, MachineFacts]:
        own = (self.wizard.state.home,)
        with jobs.source_for(source, own).open(source) as disk:
            return disk.facts, machine_facts(source, disk.facts)

    def _looked(
        self, source: str, found: tuple[DiskFacts, MachineFacts] | MotionGearError
    ) -> None:
        self._found[source] = found
        if not isinstance(found, MotionGearError) and found[1].hostname:
            names(self.answers).setdefault(source, found[1].hostname)
        self._show()

    def _show(self) -> None:
        self.query_one(Rows).show([self._row(one) for one in chosen(self.answers)])

    def _row(self, one: Chosen) -> Row:
        found = self._found.get(one.source)

        def draw(wide: int, say: Translator) -> Drawn:
            head = f"{shown.safe(one.name)}  {shown.size(one.size)}  {shown.safe(one.source)}"
            lines: list[Sequence[tuple[str, Tone]]] = [
                ((each, Tone.STRONG),) for each in fold(head, wide, indent=2)
            ]
            if found is None:
                return [*lines, (("  " + say(marked("being read ...")), Tone.DIM),)]
            if isinstance(found, MotionGearError):
                why = f"  {say(found.happened)} ({shown.safe(found.what)})"
                return [*lines, *(((each, Tone.BAD),) for each in fold(why, wide, indent=2))]
            disk, machine = found
            lines += fact(f"  {say(marked('table'))}", shown.safe(disk.table), wide)
            for name, text in inside.rows(machine, say, shown.size):
                lines += fact(f"  {name}", shown.safe(text), wide)
            for warning in machine.warnings:
                told = "  ! " + say(warning)
                lines += [((each, Tone.WATCH),) for each in fold(told, wide, indent=4)]
            return lines

        return Row("", draw)

    def lacks(self) -> Said:
        for one in chosen(self.answers):
            found = self._found.get(one.source)
            if found is None:
                return said(marked("{name} is still being read."), name=one.name)
            if isinstance(found, MotionGearError):
                return said(
                    marked("{name} cannot be read: go back, and leave it out."), name=one.name
                )
        return NOTHING


class MachinesStage(Stage):
    """Whose the disks are, and how they are copied."""

    TITLE = marked("machine and options")

    def compose(self) -> ComposeResult:
        yield Line(said(marked("The machine of each disk; disks of one machine have one name.")))
        yield Vertical(id="machines")
        limit, level = (str(self.answers.get(one, "")) for one in ("limit", "level"))
        yield Field(said(marked("speed limit")), id="limit", value=limit, answer="limit")
        yield Line(
            said(marked("80MB/s, or 20MB/s@08:00-18:00; several with blanks; empty: none")),
            classes="hint",
        )
        yield Field(said(marked("compression")), id="level", value=level or "1", answer="level")
        yield Line(said(marked("0 none, 1 fast to 19 small")), classes="hint")

    def entered(self) -> None:
        place = self.query_one("#machines")
        wanted = {_field(one): one for one in chosen(self.answers)}
        for field in place.query(Field):
            if field.id not in wanted:
                field.remove()
        there = {field.id for field in place.query(Field)}
        for name, one in wanted.items():
            if name not in there:
                told = str(names(self.answers).get(one.source, ""))
                place.mount(
                    Field(foreign(one.name), id=name, value=told, longest=orders.LONGEST_MACHINE)
                )

    def take(self, field: Field) -> None:
        super().take(field)
        for one in chosen(self.answers):
            if _field(one) == field.id:
                names(self.answers)[one.source] = field.value

    def lacks(self) -> Said:
        for one in chosen(self.answers):
            try:
                orders.refuse_machine(str(names(self.answers).get(one.source, "")))
            except BadInputError:
                return said(marked("Say which machine {name} belongs to."), name=one.name)
        for limit in limits(self.answers):
            try:
                parse_limit(limit)
            except BadInputError as exc:
                return said(marked("That is no speed limit: {why}"), why=exc.what)
        if not re.fullmatch(r"1?[0-9]", str(self.answers.get("level", "1"))):
            return said(marked("Compression is a number from 0 to 19."))
        return NOTHING


def _field(one: Chosen) -> str:
    """An id that a widget may have."""
    return "machine-" + one.key.encode(errors="surrogatepass").hex()


def limits(answers: Answers) -> tuple[str, ...]:
    return tuple(str(answers.get("limit", "")).split())


class ShipmentStage(Stage):
    """Into which shipment: one that is open, or a new one."""

    TITLE = marked("shipment")

    def compose(self) -> ComposeResult:
        yield Line(said(marked("Choose an open shipment, or begin a new one.")))
        yield Rows(id="open")
        yield Push(said(marked("A new one, called:")), id="new", compact=True)
        yield Field(
            said(marked("label")),
            id="label",
            value=str(self.answers.get("label", "")),
            longest=128,
            answer="label",
        )
        yield Line(id="chosen-shipment")

    def seen(self, found: Snapshot) -> None:
        self._open = found.open_shipments()
        rows = views.shipment_rows(self._open.values())
        self.query_one(Rows).show(rows)
        self._tell()

    def _tell(self) -> None:
        picked = str(self.answers.get("shipment", ""))
        told = NOTHING
        if picked == "new":
            told = said(marked("Chosen: a new shipment"))
        elif picked in self._open:
            told = said(marked("Chosen: {label}"), label=self._open[picked].row.label)
        self.query_one("#chosen-shipment", Line).tell(told)

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        self._choose(event.key)

    @on(Button.Pressed, "#new")
    def _new(self, event: Button.Pressed) -> None:
        event.stop()
        self._choose("new")
        self.query_one("#label", Field).focus_in()

    def _choose(self, shipment: str) -> None:
        self.answers["shipment"] = shipment
        self.wizard.keep()
        self._tell()

    def lacks(self) -> Said:
        picked = str(self.answers.get("shipment", ""))
        if picked != "new" and picked not in self._open:
            return said(marked("Choose a shipment, or a new one."))
        if picked == "new" and not str(self.answers.get("label", "")).strip():
            return said(marked("Give the new shipment a label."))
        return NOTHING


class ReviewStage(Stage):
    """All of it, once more: what comes after cannot be taken back by going back."""

    TITLE = marked("review")
    NEXT = marked("Start")

    def compose(self) -> ComposeResult:
        yield Rows(id="review")

    def entered(self) -> None:
        self.query_one(Rows).show([Row("", self._draw)])

    def _draw(self, wide: int, say: Translator) -> Drawn:
        lines: list[Sequence[tuple[str, Tone]]] = []
        for one in chosen(self.answers):
            told = f"{shown.safe(one.name)}  {shown.size(one.size)}  {shown.safe(one.source)}"
            machine = shown.safe(names(self.answers).get(one.source, ""))
            lines += fact(machine, told, wide, Tone.STRONG)
        label, recipients = self._shipment()
        lines += fact(say(marked("shipment")), shown.safe(label), wide)
        for each in recipients:
            lines += fact(
                say(marked("readable by")), f"{shown.safe(each.name)}  {each.fingerprint}", wide
            )
        limit = " ".join(limits(self.answers)) or say(marked("none"))
        lines += fact(say(marked("speed limit")), shown.safe(limit), wide)
        lines += fact(say(marked("compression")), str(self.answers.get("level", "1")), wide)
        told = say(
            marked(
                "The disks are copied block by block: they are only read, and stay as they are."
            )
        )
        return [*lines, (), *(((one, Tone.DIM),) for one in fold(told, wide))]

    def _shipment(self) -> tuple[str, Sequence[Recipient]]:
        picked = str(self.answers.get("shipment", ""))
        if picked == "new":
            return str(self.answers.get("label", "")), recipients_of(self.answers)
        known = console_of(self).snapshot.shipment(picked)
        if known is not None:
            with suppress(MotionGearError):
                return known.row.label, Store(known.row.path).head.recipients
        return "?", ()


class IngestWizard(Wizard):
    NAME = "ingest"
    TITLE = marked("Ingest")
    ABOUT = (
        marked("A disk that is locked cannot be chosen; the reason stands below it."),
        marked("Give at least two recipients: with one key lost, all would be lost."),
    )

    STAGES = (
        DisksStage,
        HoldsStage,
        MachinesStage,
        ShipmentStage,
        RecipientsStage,
        ReviewStage,
    )

    def finish(self) -> None:
        self._begun: list[str] = []
        self.order(self._order, lambda _: self.done())

    def _order(self) -> None:
        """A shipment is made durable, disks are opened."""
        store = self._store()
        for one in chosen(self.answers):
            orders.ingest(self.state, self._ingest(one, store))
            self._begun.append(one.key)

    def _ingest(self, one: Chosen, store: Path) -> orders.Ingest:
        return orders.Ingest(
            source=one.source,
            store=store,
            machine=str(names(self.answers)[one.source]).strip(),
            limits=limits(self.answers),
            level=int(str(self.answers.get("level", "1"))),
        )

    def _store(self) -> Path:
        picked = str(self.answers["shipment"])
        if picked == "new":
            label = str(self.answers["label"]).strip()
            recipients = tuple(recipients_of(self.answers))
            store = orders.begin_shipment(self.state, self._place(), label, recipients)
            self.answers["shipment"] = store.head.shipment  # not begun again, whatever comes now
            self.keep()
            return store.path
        known = self.state.shipment(ShipmentId(picked))
        if known is None:
            raise UnknownNameError("The shipment is not known here any more")
        return known.path

    def _place(self) -> Path:
        """A directory of its own for each shipment."""
        shelf = console_of(self).shelf
        try:
            make_directory(shelf, 0o700)
            return Path(tempfile.mkdtemp(prefix="shipment-", dir=shelf))
        except OSError as exc:
            raise StoreWriteError(f"{shelf} cannot be written ({exc.strerror})") from exc

    def order_refused(self, exc: MotionGearError) -> None:
        """What was begun goes on; the rest can be begun again."""
        kept = [one for one in chosen(self.answers) if one.key not in self._begun]
        keep_chosen(self.answers, kept)
        self.keep()
        self.stage.entered()
        super().order_refused(exc)
