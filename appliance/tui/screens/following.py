"""The arrival's last steps, on a target that keeps points: the restore comes to its end, the
machines' rounds come in, one of their points is chosen, and the machine goes on from there.

Where each step stands is on the target and in the state database: they can be left and opened
again, for days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.widgets import Button

from appliance import orders, process, shown
from appliance.catchup.enrol import Code, Invitation, Registry
from appliance.catchup.points import Keeps, RecoveryPoint, points_of
from appliance.catchup.replicas import Replicas
from appliance.catchup.wire import Form
from appliance.errors import MotionGearError, UnknownNameError
from appliance.events import Json
from appliance.jobs.spec import GateSpec, parse_spec
from appliance.language import Translator, marked
from appliance.model import CloneInfo, JobId
from appliance.seal import canon
from appliance.state import JobRow, JobState
from appliance.tui import views
from appliance.tui.background import in_background
from appliance.tui.page import console_of
from appliance.tui.screens.dialogs import AskScreen, ToldScreen
from appliance.tui.screens.job import JobScreen
from appliance.tui.speech import NOTHING, Said, foreign, refused, said
from appliance.tui.watch import Job, Snapshot
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.rows import Draw, Drawn, Row, Rows, Tone, fact, fold
from appliance.tui.widgets.spoken import Line, Push
from appliance.tui.wizard import Answers, Stage

TARGET = "local"
FORMS = {
    Form.FUZZY: marked("read while it went on: not to be booted"),
    Form.CRASH_CONSISTENT: marked("as after a power cut"),
    Form.QUIESCED: marked("quiesced"),
}
_LONGEST_NAME = 60
_A_LINE = 8  # groups of a code


class Following(Stage):
    """A step behind the restore: nothing before it can be taken back, and the operator says when
    the arrival is over.
    """

    PAST = True

    @property
    def place(self) -> str:
        return str(self.answers.get("place", ""))

    @property
    def machine(self) -> str:
        return str(self.answers.get("machine", ""))

    def end(self) -> Push:
        return Push(said(marked("End the arrival here")), id=f"end-{self.id}", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id != f"end-{self.id}":
            return
        event.stop()
        question = AskScreen(
            said(marked("End the arrival here?")),
            said(marked("The volumes stay as they are, and so do jobs and recovery points.")),
            do=said(marked("End it")),
        )
        self.app.push_screen(question, self._ended)

    def _ended(self, end: bool | None) -> None:  # noqa: FBT001 - the result
        if end:
            self.wizard.done()


class RestoredStage(Following):
    TITLE = marked("restore and check")

    def compose(self) -> ComposeResult:
        yield Line(said(marked("The volumes are written, then read back and compared.")))
        yield Rows(id="restoring")
        yield Push(said(marked("Open the job")), id="open-job", compact=True)
        yield self.end()

    def _job(self) -> Job | None:
        number = self.answers.get("restore-job")
        return console_of(self).snapshot.job(JobId(number)) if isinstance(number, int) else None

    def seen(self, found: Snapshot) -> None:
        del found
        job = self._job()
        self.query_one(Rows).show(views.job_rows((job,)) if job is not None else [])

    @on(Button.Pressed, "#open-job")
    @on(Rows.Picked)
    def _open(self, event: Button.Pressed | Rows.Picked) -> None:
        event.stop()
        job = self._job()
        if job is not None:
            self.app.push_screen(JobScreen(job.row.id))

    def lacks(self) -> Said:
        job = self._job()
        if job is None or job.row.state is JobState.FINISHED:
            return NOTHING
        if job.row.state in views.AT_WORK or job.row.state is JobState.QUEUED:
            return said(marked("The restore is still at work."))
        return said(marked("The restore has not ended well: open the job, and resume it."))


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the machines at a place: those enrolled, and the points of all."""

    machines: Sequence[str] = ()
    enrolled: frozenset[str] = frozenset()
    points: Sequence[RecoveryPoint] = ()

    def whole(self, machine: str) -> list[RecoveryPoint]:
        """The machine's points that can be gone on from, the newest first."""
        return [one for one in reversed(self.points) if one.machine == machine and one.complete]


class RoundsStage(Following):
    """Machines that went on living are let in, and send what they have changed since."""

    TITLE = marked("catch up")

    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self._standing = Standing()
        self._looked, self._looking = -1, False

    def compose(self) -> ComposeResult:
        yield Line(said(marked("Pick a machine, and make a code for it; then take its rounds.")))
        yield Rows(id="machines-here")
        yield Push(said(marked("Make a code")), id="invite", compact=True)
        yield Line(id="code")
        yield Field(
            said(marked("listen at")),
            id="listen",
            value=str(self.answers.get("listen", orders.LISTEN)),
            answer="listen",
        )
        yield Push(said(marked("Take rounds")), id="gate", compact=True)
        yield Rows(id="gate-jobs")
        yield self.end()

    def entered(self) -> None:
        self.query_one("#code", Line).tell(NOTHING)
        self._looked = -1

    def seen(self, found: Snapshot) -> None:
        jobs = tuple(one for one in found.jobs if self._is_gate(one.row))
        self.query_one("#gate-jobs", Rows).show(views.job_rows(jobs[-1:]))
        open_now = self._gate(found) is not None
        told = marked("Stop taking rounds") if open_now else marked("Take rounds")
        self.query_one("#gate", Push).tell(Said(told))
        if found.last_event != self._looked and not self._looking:
            self._looked, self._looking = found.last_event, True
            in_background(self, self._look, self._known, self._unseen)

    def _is_gate(self, row: JobRow) -> bool:
        if row.kind != "gate":
            return False
        try:
            spec = parse_spec(GateSpec, row)
        except MotionGearError:  # of a later version
            return False
        return isinstance(spec, GateSpec) and spec.place == self.place

    def _gate(self, found: Snapshot) -> JobRow | None:
        """The gate that takes rounds here now."""
        living = [
            one.row
            for one in found.jobs
            if one.row.state in {JobState.QUEUED, *views.AT_WORK} and self._is_gate(one.row)
        ]
        return living[-1] if living else None

    def _look(self) -> Standing:
        home = self.wizard.state.home
        goal = orders.keeps(TARGET, self.place)
        enrolled = frozenset(one.machine for one in Registry(home).machines())
        found = Replicas(home, goal).machines()
        return Standing(found, enrolled, points_of(goal.snapshots()))

    def _known(self, found: Standing) -> None:
        self._standing, self._looking = found, False
        self._show()

    def _show(self) -> None:
        rows = [Row(one, self._machine_drawn(one)) for one in self._standing.machines]
        self.query_one("#machines-here", Rows).show(rows)

    def _unseen(self, exc: MotionGearError) -> None:
        self._looking = False
        self.query_one("#code", Line).tell(*refused(exc))

    def _machine_drawn(self, machine: str) -> Draw:
        def draw(wide: int, say: Translator) -> Drawn:
            box = "(x)" if machine == self.machine else "( )"
            known = machine in self._standing.enrolled
            told = say(marked("enrolled")) if known else say(marked("not enrolled"))
            count = say(marked("recovery points: {count}")).format(
                count=len(self._standing.whole(machine))
            )
            line = f"{box} {shown.safe(machine)}  {told}  {count}"
            return [((one, Tone.PLAIN),) for one in fold(line, wide, indent=4)]

        return draw

    @on(Rows.Picked, "#machines-here")
    def _picked(self, event: Rows.Picked) -> None:
        event.stop()
        self.answers["machine"] = event.key
        self._show()

    @on(Rows.Picked, "#gate-jobs")
    def _open(self, event: Rows.Picked) -> None:
        event.stop()
        self.app.push_screen(JobScreen(JobId(int(event.key))))

    @on(Button.Pressed, "#invite")
    def _invite(self, event: Button.Pressed) -> None:
        event.stop()
        if not self.machine:
            self.query_one("#code", Line).tell(said(marked("Pick a machine first.")))
            return
        make = partial(orders.invite, self.wizard.state.home, self.machine)
        in_background(self, make, self._invited, self.wizard.refuse)

    def _invited(self, made: tuple[Code, Invitation]) -> None:
        code, about = made
        self.query_one("#code", Line).tell(
            said(
                marked("Code for {machine}, once, until {at}; it travels like a password:"),
                machine=about.machine,
                at=about.expires,
            ),
            *map(foreign, _lines_of(code)),
            said(marked("There, type: {verb}"), verb="motiongear enrol --gate HOST:PORT"),
        )

    @on(Button.Pressed, "#gate")
    def _serve(self, event: Button.Pressed) -> None:
        event.stop()
        self.collect()
        state, gate = self.wizard.state, self._gate(console_of(self).snapshot)
        listen = str(self.answers.get("listen", orders.LISTEN)).strip()

        def turn() -> None:
            if gate is not None:
                process.stop(state, gate.id)
            else:
                orders.gate(state, TARGET, self.place, listen)

        in_background(self, turn, lambda _: None, self.wizard.refuse)

    def lacks(self) -> Said:
        if not self.machine:
            return said(marked("Pick the machine that is to go on from here."))
        if not self._standing.whole(self.machine):
            return said(
                marked(
                    "{machine} has no recovery point yet: there, run the last round "
                    "(motiongear catch-up --final)."
                ),
                machine=self.machine,
            )
        return NOTHING


def _lines_of(code: Code) -> list[str]:
    """Broken where it is read and typed in pieces."""
    groups = str(code).split("-")
    return ["-".join(one) for one in (groups[:_A_LINE], groups[_A_LINE:])]


class PointStage(Following):
    TITLE = marked("recovery point")
    PAST = False

    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self._points: Sequence[RecoveryPoint] = ()

    def compose(self) -> ComposeResult:
        yield Line(said(marked("Choose the point of the machine to go on from.")))
        yield Rows(id="points")
        yield Line(id="points-say")
        yield Field(
            said(marked("name of its volumes")),
            id="clones",
            value=str(self.answers.get("clones", "")),
            longest=_LONGEST_NAME,
            answer="clones",
        )

    def entered(self) -> None:
        self.query_one("#points-say", Line).tell(NOTHING)
        in_background(self, self._look, self._show, self._unseen)

    def _look(self) -> Sequence[RecoveryPoint]:
        return points_of(orders.keeps(TARGET, self.place).snapshots(), self.machine)

    def _show(self, found: Sequence[RecoveryPoint]) -> None:
        self._points = found
        rows = [
            Row(point_key(one) if one.complete else "", self._drawn(one))
            for one in reversed(found)
        ]
        self.query_one("#points", Rows).show(rows)

    def _unseen(self, exc: MotionGearError) -> None:
        self.query_one("#points-say", Line).tell(*refused(exc))

    def _drawn(self, point: RecoveryPoint) -> Draw:
        return draw_point(point, chosen=point_key(point) == self.answers.get("point"))

    @on(Rows.Picked)
    def _picked(self, event: Rows.Picked) -> None:
        event.stop()
        self.answers["point"] = event.key
        self._show(self._points)

    def lacks(self) -> Said:
        if self.answers.get("point") not in [point_key(one) for one in self._points]:
            return said(marked("Choose a recovery point."))
        if not str(self.answers.get("clones", "")).strip():
            return said(marked("Give the volumes that are made of it a name."))
        return NOTHING


def point_key(point: RecoveryPoint) -> str:
    """What tells a reading of a point from another of the same number."""
    return f"{point.machine}\0{point.point}\0{point.taken}\0{','.join(point.roots)}"


def when(seconds: int) -> str:
    """By the source's clock, which may say anything."""
    try:
        return canon.written(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def form(number: int, say: Translator) -> str:
    return say(FORMS[Form(number)]) if number in list(Form) else str(number)


def draw_point(point: RecoveryPoint, *, chosen: bool) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        box = "(x)" if chosen else "( )" if point.complete else "(-)"
        told = say(marked("point {number}, {at}, {form}, disks: {count} of {all}"))
        line = told.format(
            number=point.point,
            at=when(point.taken),
            form=form(point.form, say),
            count=len(point.snapshots),
            all=len(point.disks),
        )
        tone = Tone.PLAIN if point.complete else Tone.WATCH
        return [((one, tone),) for one in fold(f"{box} {line}", wide, indent=4)]

    return draw


class CutOverStage(Following):
    """The point of no return, on a page of its own."""

    TITLE = marked("cut over")
    NEXT = marked("Cut over")
    PAST = False

    def compose(self) -> ComposeResult:
        yield Rows(id="cut-over")
        yield Field(said(marked("type: {name}"), name=self.machine), id="typed")

    def entered(self) -> None:
        self.query_one("#typed", Field).rename(said(marked("type: {name}"), name=self.machine))
        self.query_one("#typed", Field).value = ""
        self.query_one(Rows).show([Row("", self._draw)])

    def _draw(self, wide: int, say: Translator) -> Drawn:
        name = shown.safe(str(self.answers.get("clones", "")).strip())
        lines = [*fact(say(marked("machine")), shown.safe(self.machine), wide, Tone.STRONG)]
        number = str(self.answers.get("point", "")).split("\0")[1:2]
        lines += fact(say(marked("recovery point")), "".join(number), wide, Tone.STRONG)
        lines += fact(say(marked("volumes")), f"{name}-...", wide)
        lines += fact(say(marked("place")), shown.safe(self.place), wide)
        told = (
            marked("The volumes are made of the point, to be booted; the point itself stays."),
            marked(
                "What the machine at the source writes after this point is lost to it: see that "
                "its services are stopped, and stay so."
            ),
            marked("It is let in no more: to send rounds again, it needs a new code."),
        )
        for one in told:
            lines += [(), *(((each, Tone.WATCH),) for each in fold(say(one), wide))]
        return lines

    def lacks(self) -> Said:
        if self.query_one("#typed", Field).value.strip() != shown.safe(self.machine):
            return said(marked("Type the machine's name, exactly as it stands there."))
        return NOTHING


def cut_over(home_of: Stage) -> list[CloneInfo]:
    """What the last step was confirmed for; off the screen's thread."""
    answers, state = home_of.answers, home_of.wizard.state
    goal: Keeps = orders.keeps(TARGET, str(answers["place"]))
    machine, wanted = str(answers["machine"]), answers["point"]
    for point in points_of(goal.snapshots(), machine):
        if point_key(point) == wanted:
            return orders.cut_over(state.home, goal, point, str(answers["clones"]).strip())
    raise UnknownNameError(
        f"The recovery point of {machine} is not there any more",
        todo="Choose another one.",
    )


def done_with(made: Sequence[CloneInfo], machine: Json) -> ToldScreen:
    """Where the machine goes on."""
    return ToldScreen(
        said(marked("{machine} goes on from these volumes:"), machine=machine),
        *(foreign(f"{one.location} ({one.format})") for one in made),
        said(marked("Test them, and boot the machine from them. The replica is never booted.")),
    )
