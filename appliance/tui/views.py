"""Jobs, disks and shipments as entries of a list. An end is told apart by a symbol and a word;
colour only repeats it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from appliance import shown
from appliance.errors import StoreRefusedError, all_errors
from appliance.language import Translator, marked, width
from appliance.state import JobRow, JobState
from appliance.state.telling import KINDS
from appliance.tui.watch import Disk, Job, Shipment, Standing
from appliance.tui.widgets.rows import Draw, Drawn, Row, Tone, fold

_CHECKING = frozenset({"verify", "check", "gate-check"})
_BAD = {one.name for one in all_errors() if issubclass(one, StoreRefusedError)} | {"check-failed"}
_BARS = " ▁▂▃▄▅▆▇█"
NO_SERIAL = marked("(no serial)")
AT_WORK = frozenset({JobState.RUNNING, JobState.PAUSED})


@dataclass(frozen=True, slots=True)
class End:
    """How a job stands: a symbol, a word, a tone."""

    symbol: str
    word: str
    tone: Tone


_STANDINGS = {
    JobState.QUEUED: End(".", marked("begins"), Tone.DIM),
    JobState.RUNNING: End(">", marked("running"), Tone.STRONG),
    JobState.PAUSED: End("=", marked("paused"), Tone.WATCH),
    JobState.FINISHED: End("+", marked("finished"), Tone.GOOD),
    JobState.STOPPED: End("-", marked("stopped by the operator"), Tone.WATCH),
    JobState.FAILED: End("!", marked("failed"), Tone.BAD),
    JobState.DIED: End("x", marked("died"), Tone.BAD),
}
_WRONG = End("#", marked("finished: NOT as it should be"), Tone.BAD)
_GONE = End("?", marked("broken off: the device is gone"), Tone.BAD)


def standing(row: JobRow) -> End:
    if row.state is JobState.FAILED and row.kind in _CHECKING and row.error in _BAD:
        return _WRONG
    if row.state is JobState.FAILED and row.error == "source-gone":
        return _GONE
    return _STANDINGS[row.state]


def job_rows(jobs: tuple[Job, ...]) -> list[Row]:
    """The newest first."""
    return [Row(str(one.row.id), _job(one)) for one in reversed(jobs)]


def _job(job: Job) -> Draw:
    return lambda wide, say: draw_job(job, wide, say)


def draw_job(job: Job, wide: int, say: Translator) -> Drawn:
    """A line of what it is; while it lives another of how far it is."""
    row, how = job.row, standing(job.row)
    word = say(marked("dropped")) if row.resolved else say(how.word)
    head = f"{how.symbol} {word}  {row.id} {say(KINDS.get(row.kind, row.kind))}"
    title = shown.safe(row.title)
    lines = [((one, how.tone),) for one in fold(f"{head}  {title}", wide, indent=4)]
    if job.progress is not None and row.state in AT_WORK:
        told = f"  {progress_line(job, wide - 2, say)}"
        lines += [((one, Tone.PLAIN),) for one in fold(told, wide, indent=2)]
    return lines


def progress_line(job: Job, wide: int, say: Translator) -> str:
    """Step, bar, how much of how much, rates, what is left; the bar takes what room there is."""
    told = job.progress
    assert told is not None
    share = 100 * told.done // told.total if told.total else 100
    figures = f"{share:3d} %  {shown.size(told.done)} / {shown.size(told.total)}"
    rates = f"  {pace_line(job, say)}" if job.row.state is JobState.RUNNING else ""
    step = say(told.step)
    room = wide - width(step) - width(figures) - width(rates) - 4
    if room < 4:
        return f"{step}  {figures}{rates}"
    return f"{step} {bar(share / 100, min(room, 30))} {figures}{rates}"


def pace_line(job: Job, say: Translator) -> str:
    """The rate now, the average, the time left."""
    pace = job.pace
    if pace.now is None or pace.average is None:
        return say(marked("calculating"))
    rate, average = shown.size(pace.now), shown.size(pace.average)
    if pace.left is None:
        return say(marked("{rate}/s  avg {average}/s")).format(rate=rate, average=average)
    told = say(marked("{rate}/s  avg {average}/s  ETA {left}"))
    return told.format(rate=rate, average=average, left=shown.duration(pace.left))


def bar(share: float, cells: int) -> str:
    full = round(max(0.0, min(share, 1.0)) * cells)
    return "█" * full + "░" * (cells - full)


def chart(rates: tuple[float, ...], cells: int) -> str:
    """The last rates, one a cell, the highest full."""
    last = rates[-cells:]
    most = max(last, default=0.0)
    if not most:
        return "▁" * len(last)
    return "".join(_BARS[max(round(one / most * 8), 1)] for one in last)


def disk_name(disk: Disk, say: Translator) -> str:
    """Serial number first: names of nodes change from start to start."""
    return shown.safe(disk.serial) if disk.serial else say(NO_SERIAL)


def disk_rows(
    disks: tuple[Disk, ...], chosen: frozenset[str] | None = None, *, pickable: bool = False
) -> list[Row]:
    """With ``chosen`` each begins with a box; what may not be read is shown, locked, with why."""
    return [
        Row(one.key if pickable and not one.refusal else "", _disk(one, chosen)) for one in disks
    ]


def _disk(disk: Disk, chosen: frozenset[str] | None) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        box = ""
        if chosen is not None:
            box = "[-] " if disk.refusal else "[x] " if disk.key in chosen else "[ ] "
        tone = Tone.DIM if disk.refusal else Tone.PLAIN
        told = (
            f"{box}{disk_name(disk, say)}  {shown.safe(disk.model)}  {shown.size(disk.size)}"
            f"  {shown.safe(disk.bus)}  {shown.safe(disk.node)}"
        )
        indent = len(box) + 2
        lines = [((one, tone),) for one in fold(told, wide, indent=indent)]
        if disk.refusal:
            why = say(marked("locked")) + f": {shown.safe(disk.refusal)}"
            lines += [
                ((one, Tone.WATCH),) for one in fold(" " * indent + why, wide, indent=indent)
            ]
        return lines

    return draw


SHIPMENTS = {
    Standing.OPEN: (marked("not sealed yet"), Tone.STRONG),
    Standing.SEALED: (marked("sealed"), Tone.GOOD),
    Standing.AWAY: (marked("not there"), Tone.WATCH),
    Standing.ERASED_IN_PART: (marked("erased in part"), Tone.BAD),
}


def shipment_rows(found: Iterable[Shipment], *, pickable: bool = True) -> list[Row]:
    return [Row(one.row.id if pickable else "", _shipment(one)) for one in found]


def _shipment(one: Shipment) -> Draw:
    def draw(wide: int, say: Translator) -> Drawn:
        word, tone = SHIPMENTS[one.standing]
        told = f"{shown.safe(one.row.label)}  {say(word)}  {shown.safe(one.row.path)}"
        return [((each, tone),) for each in fold(told, wide, indent=4)]

    return draw
