"""The arrival wizard: the seal, by what came on another path; the key; where the disks go; review.
Behind the job that restores and checks it goes on with what the machines have changed since.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Button

from appliance import orders, shown
from appliance.errors import BadInputError, MotionGearError
from appliance.ingest import guard
from appliance.language import Translator, marked
from appliance.model import CloneInfo, JobId
from appliance.rate import parse_limit
from appliance.restore.plan import Plan
from appliance.seal import head, text, verify
from appliance.seal.keys import PrivateKey
from appliance.seal.label import Label
from appliance.seal.store import Store
from appliance.seal.verify import Pins, Sealed, Trust
from appliance.tui import views
from appliance.tui.background import in_background
from appliance.tui.page import console_of
from appliance.tui.screens.following import (
    CutOverStage,
    PointStage,
    RestoredStage,
    RoundsStage,
    cut_over,
    done_with,
)
from appliance.tui.screens.key import unlocked
from appliance.tui.speech import NOTHING, Said, foreign, refused, said
from appliance.tui.watch import Snapshot, Standing
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.rows import Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push
from appliance.tui.wizard import Answers, Stage, Wizard

_PLACES = (Path("/media"), Path("/run/media"), Path("/mnt"))
_MOST_FOUND = 64
_TRUST = {
    Trust.AUTHENTIC: marked("AUTHENTIC: sealed by the device expected"),
    Trust.CONSISTENT: marked("CONSISTENT only: nobody has confirmed who sealed it"),
}


def stores_on(places: Sequence[Path]) -> Iterator[Path]:
    """Stores at the top of what is mounted at these places, or a directory below it."""
    count = 0
    for one in guard.mounts():
        place = Path(one.where)
        if not any(base == place or base in place.parents for base in places):
            continue
        for found in (*place.glob(head.FILE), *place.glob(f"*/{head.FILE}")):
            count += 1
            if count > _MOST_FOUND:
                return
            yield found.parent


class Arrival(Stage):
    """A step of the wizard that holds what no draft may: the key, and what was found with it."""

    @property
    def arrival(self) -> "ArrivalWizard":
        found = self.wizard
        assert isinstance(found, ArrivalWizard)
        return found

    def answer(self, name: str) -> str:
        return str(self.answers.get(name, ""))

    def field(self, name: Said, answer: str) -> Field:
        """A field that is kept."""
        return Field(name, id=answer, value=self.answer(answer), answer=answer)


class StoreStage(Arrival):
    TITLE = marked("store")

    def compose(self) -> ComposeResult:
        yield Line(said(marked("Choose the store that has arrived, or name its directory.")))
        yield Rows(id="stores")
        yield Push(said(marked("Look on devices")), id="look", compact=True)
        yield self.field(said(marked("directory")), "store")

    def entered(self) -> None:
        self._look()

    def _look(self) -> None:
        known = [
            one.row.path
            for one in console_of(self).snapshot.shipments
            if one.standing is Standing.SEALED
        ]
        found = dict.fromkeys([*known, *stores_on(_PLACES)])
        self.query_one(Rows).show([_store(one) for one in found])

    @on(Button.Pressed, "#look")
    def _asked(self, event: Button.Pressed) -> None:
        event.stop()
        self._look()

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        self.query_one("#store", Field).value = event.key

    def lacks(self) -> Said:
        if not self.answer("store"):
            return said(marked("Choose a store."))
        return NOTHING

    def check(self) -> Said:
        self.arrival.sealed = verify.inspect(Path(self.answer("store")).absolute(), Pins())
        return NOTHING


def _store(path: Path) -> Row:
    try:
        label = head.read(path).label
    except MotionGearError as exc:
        label = f"({exc.what})"

    def draw(wide: int, say: Translator) -> Drawn:
        del say
        told = f"{shown.safe(label)}  {shown.safe(path)}"
        return [((one, Tone.PLAIN),) for one in fold(told, wide, indent=4)]

    return Row(str(path), draw)


class SealStage(Arrival):
    """Whole, and by whom: the second only by what came on another path than the device."""

    TITLE = marked("seal check")
    _job: JobId | None = None
    _warned = False

    def compose(self) -> ComposeResult:
        yield Rows(id="seal-facts")
        yield self.field(said(marked("label, scanned")), "label-text")
        yield self.field(said(marked("or device")), "device")
        yield self.field(said(marked("and seal root")), "root")
        yield Line(
            said(
                marked(
                    "From the copy that was sent by another path: what came with the device "
                    "proves nothing. Groups or words."
                )
            ),
            classes="hint",
        )
        yield Push(said(marked("Read every pack now")), id="verify", compact=True)
        yield Line(id="verified")

    def entered(self) -> None:
        self._warned = False
        self.query_one(Rows).show([Row("", self._draw)])

    def _draw(self, wide: int, say: Translator) -> Drawn:
        sealed = self.arrival.sealed
        if sealed is None:
            return []
        made, packs = sealed.seal, sealed.seal.packs
        size = shown.size(sum(one.size for one in packs))
        lines = [*fact(say(marked("label")), shown.safe(sealed.store.head.label), wide)]
        lines += fact(say(marked("device")), made.device_fingerprint, wide)
        lines += fact(say(marked("seal root")), text.grouped(made.root()), wide)
        lines += fact(say(marked("packs")), f"{len(packs)}, {size}", wide)
        for one in sealed.store.head.recipients:
            lines += fact(
                say(marked("readable by")), f"{shown.safe(one.name)}  {one.fingerprint}", wide
            )
        for name, told in (("waiver", made.waiver), ("accepted", ", ".join(made.accepted))):
            if told:
                lines += fact(say(name), shown.safe(told), wide, Tone.WATCH)
        return lines

    def seen(self, found: Snapshot) -> None:
        job = found.job(self._job) if self._job is not None else None
        if job is not None:
            how = views.standing(job.row)
            told = said(marked("Reading every pack: {word}"), word=Said(how.word))
            if job.progress is not None and job.row.state in views.AT_WORK:
                line = views.progress_line(job, self.size.width - 4, console_of(self).say)
                self.query_one("#verified", Line).tell(told, foreign(line))
            else:
                self.query_one("#verified", Line).tell(told, foreign(job.row.what))

    @on(Button.Pressed, "#verify")
    def _verify(self, event: Button.Pressed) -> None:
        event.stop()
        sealed = self.arrival.sealed
        assert sealed is not None
        try:
            pins = self._pins(sealed.store)
            self._job = orders.verify(self.wizard.state, sealed.store, pins).job
        except MotionGearError as exc:
            self.wizard.refuse(exc)

    def _pins(self, store: Store) -> Pins:
        scanned = self.answer("label-text").strip()
        label = Label.parse(scanned) if scanned else None
        return orders.pins(
            store, label, self.answer("device").strip(), self.answer("root").strip()
        )

    def lacks(self) -> Said:
        if self.arrival.sealed is None:
            return said(marked("Go back, and choose the store."))
        return NOTHING

    def check(self) -> Said:
        sealed = self.arrival.sealed
        assert sealed is not None
        pins = self._pins(sealed.store)
        found = verify.inspect(sealed.store.path, pins)
        if found.trust is not Trust.AUTHENTIC and not self._warned:
            self._warned = True  # said once, and pressed again
            return said(
                marked(
                    "Nobody has confirmed who sealed it: enter the label, or press Next again to "
                    "go on without."
                )
            )
        self.arrival.sealed, self.arrival.pins = found, pins
        return NOTHING


class KeyStage(Arrival):
    """The key that opens the packs: in the memory of this console, and nowhere else."""

    TITLE = marked("key")
    _phrase = ""

    def compose(self) -> ComposeResult:
        yield Line(said(marked("The private key of one of the recipients, and its passphrase.")))
        yield self.field(said(marked("private key file")), "key")
        yield Field(said(marked("passphrase")), id="passphrase", secret=True)
        yield Line(
            said(marked("The key never travels with the device, and is not kept here.")),
            classes="hint",
        )

    def lacks(self) -> Said:
        field = self.query_one("#passphrase", Field)
        self._phrase, field.value = field.value, ""
        if self.arrival.key is not None and not self._phrase:
            return NOTHING
        if not self.answer("key") or not self._phrase:
            return said(marked("Give the key file and its passphrase."))
        return NOTHING

    def check(self) -> Said:
        if not self._phrase:
            return NOTHING
        passphrase, self._phrase = self._phrase, ""
        self.arrival.key = unlocked(Path(self.answer("key")), passphrase)
        return NOTHING


class TargetStage(Arrival):
    TITLE = marked("target")

    def compose(self) -> ComposeResult:
        yield Line(said(marked("Where the volumes go: a directory of this machine.")))
        yield self.field(said(marked("directory")), "place")
        yield self.field(said(marked("speed limit")), "limit")

    def lacks(self) -> Said:
        if not self.answer("place"):
            return said(marked("Name the directory for the volumes."))
        for limit in self.arrival.limits:
            try:
                parse_limit(limit)
            except BadInputError as exc:
                return said(marked("That is no speed limit: {why}"), why=exc.what)
        return NOTHING


class MappingStage(Arrival):
    """Which disk becomes which volume. All refusals come before any write."""

    TITLE = marked("mapping")

    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self._told: list[Said] = []

    def compose(self) -> ComposeResult:
        yield Line(said(marked("The volume that each disk becomes.")))
        yield Line(id="mapping-say")
        yield Vertical(id="volumes")

    def entered(self) -> None:
        self.arrival.plan = None
        sign = partial(self.query_one("#mapping-say", Line).tell, said(marked("being read ...")))
        in_background(self, self._plan, self._planned, self._refused, sign)

    def _plan(self) -> Plan:
        wizard = self.arrival
        assert wizard.key is not None
        return orders.plan(wizard.state, wizard.order_now(volumes=()), wizard.key)

    def _refused(self, exc: MotionGearError) -> None:
        self.query_one("#mapping-say", Line).tell(*refused(exc))

    def _planned(self, plan: Plan) -> None:
        self.arrival.plan = plan
        place = self.query_one("#volumes")
        place.remove_children()
        for one in plan.disks:
            facts = one.map.spec.facts
            name = f"{one.map.spec.machine}: {facts.serial or facts.source}"
            known = self.answers.get(f"volume-{one.map.spec.disk}", one.volume.name)
            place.mount(
                Line(said(marked("{disk}, {size}"), disk=name, size=shown.size(facts.size))),
                Field(
                    said(marked("volume")),
                    id=f"volume-{one.map.spec.disk}",
                    value=str(known),
                    longest=100,
                    answer=f"volume-{one.map.spec.disk}",
                ),
            )
        left = [
            said(marked("Left out: disk {disk} is incomplete"), disk=one.disk)
            for one in plan.left_out
        ]
        told = said(
            marked("Disks: {count}; {size}, about {content} of data"),
            count=len(plan.disks),
            size=shown.size(plan.size),
            content=shown.size(plan.content),
        )
        self.query_one("#mapping-say", Line).tell(told, *left)

    def lacks(self) -> Said:
        plan, wizard = self.arrival.plan, self.arrival
        if plan is None or wizard.key is None:
            return said(marked("There is no plan yet; what is wrong stands above."))
        return NOTHING

    def check(self) -> Said:
        wizard = self.arrival
        assert wizard.key is not None
        orders.plan(wizard.state, wizard.order_now(), wizard.key)
        return NOTHING


class ReviewStage(Arrival):
    TITLE = marked("review")
    NEXT = marked("Restore")

    def compose(self) -> ComposeResult:
        yield Rows(id="review")

    def entered(self) -> None:
        self.query_one(Rows).show([Row("", self._draw)])

    def _draw(self, wide: int, say: Translator) -> Drawn:
        wizard = self.arrival
        if wizard.plan is None or wizard.sealed is None:
            return []
        trust = wizard.sealed.trust
        tone = Tone.GOOD if trust is Trust.AUTHENTIC else Tone.WATCH
        lines = [*fact(say(marked("seal")), say(_TRUST[trust]), wide, tone)]
        lines += fact(say(marked("shipment")), shown.safe(wizard.sealed.store.head.label), wide)
        lines += fact(say(marked("place")), shown.safe(self.answer("place")), wide)
        names = dict(wizard.volumes)
        for one in wizard.plan.disks:
            spec = one.map.spec
            told = f"{shown.safe(names[spec.disk])}  {shown.size(one.volume.size)}"
            lines += fact(shown.safe(spec.facts.serial or spec.machine), told, wide, Tone.STRONG)
        told = say(
            marked(
                "The volumes are written, then every block is read back and compared with the "
                "manifest. Whatever else is there is left alone."
            )
        )
        return [*lines, (), *(((one, Tone.DIM),) for one in fold(told, wide))]

    def check(self) -> Said:
        """The restore begins: once, also where the console dies behind it."""
        wizard = self.arrival
        assert wizard.key is not None
        begun = orders.restore(wizard.state, wizard.order_now(), wizard.key)
        wizard.key = None
        self.answers["restore-job"] = begun.job
        self.answers["place"] = str(Path(self.answer("place")).absolute())
        return NOTHING


_BEHIND = (RestoredStage, RoundsStage, PointStage, CutOverStage)


class ArrivalWizard(Wizard):
    """``sealed``, ``pins``, ``key`` and ``plan`` are what was found on the way; none of it is kept
    in a draft, so that a wizard opened again begins at its seal until the restore has begun.
    """

    NAME = "arrival"
    TITLE = marked("Arrival")
    ABOUT = (
        marked("The seal is checked without a key: whole, and by the device that was expected."),
        marked("The label to compare with is the one that was sent by another path."),
    )
    STAGES = (
        StoreStage,
        SealStage,
        KeyStage,
        TargetStage,
        MappingStage,
        ReviewStage,
        RestoredStage,
        RoundsStage,
        PointStage,
        CutOverStage,
    )

    def __init__(self) -> None:
        super().__init__()
        self.sealed: Sealed | None = None
        self.pins = Pins()
        self.key: PrivateKey | None = None
        self.plan: Plan | None = None

    def begins_at(self, at: int) -> int:
        """Behind the restore where it was left; before, the key is needed again."""
        return at if self.STAGES[at] in _BEHIND else 0

    @property
    def limits(self) -> tuple[str, ...]:
        return tuple(str(self.answers.get("limit", "")).split())

    @property
    def volumes(self) -> tuple[tuple[str, str], ...]:
        """Volume names by disk, as they stand in the fields."""
        if self.plan is None:
            return ()
        return tuple(
            (
                one.map.spec.disk,
                str(self.answers.get(f"volume-{one.map.spec.disk}", one.volume.name)).strip(),
            )
            for one in self.plan.disks
        )

    def order_now(self, volumes: tuple[tuple[str, str], ...] | None = None) -> orders.Restore:
        assert self.sealed is not None
        return orders.Restore(
            store=self.sealed.store.path,
            target="local",
            place=str(self.answers.get("place", "")),
            volumes=self.volumes if volumes is None else volumes,
            pins=self.pins,
            limits=self.limits,
        )

    def finish(self) -> None:
        self.order(partial(cut_over, self.stage), self._cut_over)

    def _cut_over(self, made: Sequence[CloneInfo]) -> None:
        """Another machine of the shipment may still send its rounds."""
        self.app.push_screen(done_with(made, self.answers.pop("machine")))
        for one in ("point", "clones"):
            self.answers.pop(one, None)
        self.go_to(RoundsStage)
