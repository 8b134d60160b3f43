"""The report as a page of HTML, in a language: one file, all styles and drawings in it, no script.

What a program reads is the JSON; the page names its digest. Nothing is computed here that the
document does not say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache

from jinja2 import Template

from appliance import shown
from appliance.language import Language, Translator, marked, translator
from appliance.model import DiskFacts, MachineFacts
from appliance.report import certificate, inside, pages, words
from appliance.report.document import Signed, Turn, Volume, Work
from appliance.seal.certificate import Erased
from appliance.seal.chain import FLAWS
from appliance.seal.text import grouped

_REMARK = marked("{flaw}; record: {number}")
_MOST_WORKS = 400  # shown; the JSON has them all


class Mark(StrEnum):
    """How a line of the summary is to be taken."""

    FINE = "fine"
    WATCH = "watch"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Line:
    mark: Mark
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """Where a bar begins and how long it is, in thousandths of the width."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Lap:
    """A round, both ends of it: ``both`` is empty where only one has told."""

    turn: Turn
    written: int | None
    both: str
    bar: Span


def html(signed: Signed, language: Language) -> str:
    """The page; all of it is written in ``language`` but for what others have said."""
    return _template(language).render(
        language=language,
        report=signed.report,
        signed=signed,
        digest=signed.digest(),
        view=View(signed, translator(language)),
    )


@cache
def _template(language: Language) -> Template:
    made = pages.environment(translator(language))
    made.filters |= {
        "size": shown.size,
        "exact": exact,
        "time": moment,
        "seconds": duration,
        "ms": lambda ms: f"{ms / 1000:.1f} s",
        "word": lambda found: words.told(translator(language), words.WORDS, found),
        "deed": lambda found: words.told(translator(language), words.DEEDS, found),
        "clock": lambda found: words.told(translator(language), words.CLOCKS, found),
        "flaw": lambda found: words.told(translator(language), FLAWS, found),
        "groups": groups,
        "row": lambda text: words.foreign(text, words.ROW),
        "cell": words.foreign,
    }
    return made.get_template("report.html.j2")


# --- figures as people read them --------------------


def exact(count: int) -> str:
    return f"{count:,}"


def moment(told: str) -> str:
    """A time of the format, without its marks."""
    return f"{told[:10]} {told[11:19]}"


def duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def groups(found: str) -> str:
    """Hex in groups of eight."""
    return " ".join(found[at : at + 8] for at in range(0, len(found), 8))


def _share(part: float, whole: float) -> int:
    return round(1000 * part / whole) if whole > 0 else 0


class View:
    """What the template asks for beside the document."""

    def __init__(self, signed: Signed, say: Translator) -> None:
        self._report, self._say = signed.report, say
        tellers = [signed.fingerprint, *(one.told_by for one in self._report.jobs)]
        tellers += [one.told_by for one in self._report.rounds]
        tellers += [one.told_by for one in self._report.cut_overs]
        if self._report.custody is not None:
            tellers += [one.signer for one in self._report.custody.records]
        self.tellers = {one: f"{at}" for at, one in enumerate(dict.fromkeys(tellers), 1)}
        self.works = self._report.jobs[:_MOST_WORKS]
        self.failures = [one for one in self.works if one.failure is not None]
        self._first, self._length = _times(self.works)
        self._fastest = max((one.rate or 0 for one in self.works), default=0)

    def known_by(self, found: str) -> str:
        return words.told(self._say, words.KNOWN_BY, found)

    def model(self, disk: DiskFacts) -> str:
        """What kind of disk it is, in the reader's language."""
        return inside.model(disk, self._say)

    def inside(self, found: MachineFacts) -> list[tuple[str, str]]:
        """What a disk tells of its machine, its texts as they are shown; last what was noticed."""
        say = self._say
        told = [*inside.rows(found, say, shown.size)]
        told += [(say(marked("Noticed")), say(one)) for one in found.warnings]
        if found.method != "dissect":
            told.append((say(marked("Not looked into")), found.reason))
        return [
            (name[:1].upper() + name[1:], words.foreign(one, words.FACT)) for name, one in told
        ]

    def erased(self, found: Erased) -> list[tuple[str, str]]:
        """What its certificate says, in the certificate's own words."""
        told = certificate.told_of(found, self._say)
        return [(name, words.foreign(one, words.ROW)) for name, one in told]

    def grouped(self, root: str) -> str:
        """A seal root as it stands on labels."""
        return grouped(bytes.fromhex(root))

    def said(self, words: str) -> str:
        """What a step left behind; in the reader's language where it is a sentence of ours."""
        return self._say(words) if words else ""

    def name(self, disk: str) -> str:
        """A disk as people call it: its machine, and the beginning of its id."""
        for one in self._report.disks:
            if one.disk == disk and one.machine:
                return f"{words.foreign(one.machine)} · {disk[:8]}"
        return disk[:8]

    # --- the summary ---

    def lines(self) -> list[Line]:
        return [
            self._sealed(),
            self._complete(),
            self._unreadable(),
            self._restored(),
            self._damage(),
            self._caught_up(),
            self._cut_over(),
            self._in_hands(),
        ]

    def _line(self, mark: Mark, name: str, text: str, **figures: object) -> Line:
        return Line(mark, self._say(name), self._say(text).format(**figures))

    def _sealed(self) -> Line:
        seal, name = self._report.shipment.seal, marked("Seal")
        if seal is None:
            return self._line(
                Mark.UNKNOWN,
                name,
                marked("No seal was found: it is not sealed yet, or the store was not at hand."),
            )
        if not seal.accepted_here:
            return self._line(
                Mark.UNKNOWN,
                name,
                marked(
                    "Sealed on {at}. Signer and root were not compared with what was sent by "
                    "another path."
                ),
                at=moment(seal.created),
            )
        return self._line(
            Mark.FINE,
            name,
            marked("Sealed on {at}. Signer and root are those sent by another path."),
            at=moment(seal.created),
        )

    def _complete(self) -> Line:
        disks = self._report.disks
        whole = sum(one.state == "complete" for one in disks)
        known = [one.facts.size for one in disks if one.facts]
        if not disks:
            return self._line(Mark.UNKNOWN, marked("Disks"), marked("No disk is known of."))
        text = marked("{whole} of {all} are complete; how large they are is not known here.")
        if known:
            text = marked("{whole} of {all} are complete; {size} in all, as far as known.")
        return self._line(
            Mark.FINE if whole == len(disks) else Mark.WATCH,
            marked("Disks"),
            text,
            whole=whole,
            all=len(disks),
            size=shown.size(sum(known)),
        )

    def _unreadable(self) -> Line:
        known = [one.content for one in self._report.disks if one.content]
        name, left = marked("Unreadable"), len(self._report.disks) - len(known)
        total = sum(one.unreadable_bytes for one in known)
        if total:
            text = marked("{size} could not be read at the source and stand as zeros.")
            return self._line(Mark.WATCH, name, text, size=shown.size(total))
        if not self._report.disks:
            return self._line(Mark.UNKNOWN, name, marked("No disk is known of."))
        if left:
            text = marked("Not known of {count} of the disks: their content was not opened here.")
            return self._line(Mark.UNKNOWN, name, text, count=left)
        return self._line(Mark.FINE, name, marked("All of every disk could be read."))

    def _restored(self) -> Line:
        checked = {one.disk for one in self._report.volumes if _right(one)}
        disks, name = self._report.disks, marked("Restored")
        count = sum(one.disk in checked for one in disks)
        if not disks:
            return self._line(Mark.UNKNOWN, name, marked("No disk is known of."))
        wrong = sum(bool(one.wrong) for one in self._report.volumes)
        text = marked(
            "{count} of {all} disks are on volumes that were read back and equal the manifest."
        )
        if wrong:
            text = marked("{wrong} volumes differ from the manifest; {count} of {all} are right.")
        fine = count == len(disks) and not wrong
        mark = Mark.FINE if fine else Mark.WATCH if wrong or count else Mark.UNKNOWN
        return self._line(mark, name, text, count=count, all=len(disks), wrong=wrong)

    def _damage(self) -> Line:
        lost = sum(one.lost for one in self._report.repairs)
        packs = sum(len(one.lost) for one in self._report.disks)
        left = [one.left for one in self._report.repairs]
        name = marked("Damage")
        if not lost and not packs:
            if not self._report.volumes:
                return self._line(Mark.UNKNOWN, name, marked("Not known: nothing was restored."))
            return self._line(Mark.FINE, name, marked("No block is known to be lost."))
        if lost and not any(one is None or one for one in left):
            text = marked("{lost} blocks were lost on the way; rounds have sent all of them.")
            return self._line(Mark.FINE, name, text, lost=lost)
        text = marked("{lost} blocks were lost on the way; {left} are still missing.")
        shown = self._say(marked("an unknown number"))
        if None not in left and left:
            shown = f"{sum(one or 0 for one in left)}"
        return self._line(Mark.WATCH, name, text, lost=lost, left=shown)

    def _caught_up(self) -> Line:
        laps, name = self.laps(), marked("Catch-up")
        if not laps:
            return self._line(Mark.UNKNOWN, name, marked("No round is known of."))
        sent = [one.turn.sent for one in laps]
        text = marked("Rounds: {count}; {sent} sent; last {at}.")
        if None in sent:
            text = marked("Rounds: {count}; how much was sent is not known here; last {at}.")
        elif not any(sent):
            text = marked(
                "Rounds: {count}; the ends were equal, no block had to be sent; last {at}."
            )
        differ = any(one.both == "differ" for one in laps)
        return self._line(
            Mark.WATCH if differ else Mark.FINE,
            name,
            text,
            count=len(laps),
            sent=shown.size(sum(one or 0 for one in sent)),
            at=moment(max(one.turn.at for one in laps)),
        )

    def _cut_over(self) -> Line:
        name, points = marked("Cut-over"), self._report.points
        whole = [one for one in points if one.complete]
        if not whole:
            return self._line(Mark.UNKNOWN, name, marked("No recovery point is known of."))
        told = [one.downtime_ms for one in self._report.cut_overs]
        known = [one for one in told if one is not None]
        longest = f"{max(known, default=0) / 1000:.1f}"
        text = marked("{count} recovery points; the source stood still for {seconds} s at most.")
        if not known:
            text = marked("{count} recovery points; how long the source stood still is not known.")
        elif len(known) < len(told):
            text = marked(
                "{count} recovery points; frozen for {seconds} s at most, else the source had "
                "been stopped."
            )
        return self._line(Mark.FINE, name, text, count=len(whole), seconds=longest)

    def _in_hands(self) -> Line:
        name, custody = marked("Custody"), self._report.custody
        if custody is None:
            return self._line(Mark.UNKNOWN, name, marked("No record of custody is known of."))
        flaws, count = custody.flaws, len(custody.records)
        if any(one.error for one in flaws):
            text = marked("Records: {count}; the chain does NOT hold together, see below.")
            return self._line(Mark.WATCH, name, text, count=count)
        text = marked("Records: {count}, every one signed and following the one before.")
        if flaws:
            text = marked("Records: {count}, which hold together; remarks, see below: {flaws}.")
        return self._line(
            Mark.WATCH if flaws else Mark.FINE, name, text, count=count, flaws=len(flaws)
        )

    def flaws(self, number: int) -> list[str]:
        """Of one record of custody; of the chain as a whole under 0 and what has no record."""
        custody = self._report.custody
        assert custody is not None
        known = {one.number for one in custody.records}
        return [
            words.told(self._say, FLAWS, one.kind)
            + ("" if one.number in known else _at(one.number))
            for one in custody.flaws
            if one.number == number or (not number and one.number not in known)
        ]

    def remarks(self) -> list[str]:
        """What is wrong with the chain of custody, record by record."""
        custody = self._report.custody
        return [
            self._say(_REMARK).format(
                flaw=words.told(self._say, FLAWS, one.kind), number=one.number or "-"
            )
            for one in (custody.flaws if custody else ())
        ]

    # --- bars ---

    def when(self, work: Work) -> Span:
        """When the job was at work, of all the time that is told of."""
        start = _seconds(work.began) - self._first if work.began else 0
        return Span(_share(start, self._length), max(_share(work.seconds or 0, self._length), 8))

    def speed(self, work: Work) -> Span:
        return Span(0, _share(work.rate or 0, self._fastest))

    def laps(self) -> list[Lap]:
        """Rounds as their sources tell them, else as their gate does."""
        turns = self._report.rounds
        sources = [one for one in turns if one.end == "source"]
        known = {_about(one) for one in sources}
        alone = [one for one in turns if one.end == "gate" and _about(one) not in known]
        gates = {_about(one): one for one in turns if one.end == "gate"}
        shown = sorted(sources + alone, key=lambda one: (one.machine, one.point, one.at))
        most = max((_moved(one) for one in shown), default=0)
        return [
            Lap(
                one,
                gates[_about(one)].written if _about(one) in gates else None,
                _both(one, gates.get(_about(one))),
                Span(0, _share(_moved(one), most)),
            )
            for one in shown
        ]


def _at(number: int) -> str:
    return f" ({number})" if number else ""


def _moved(turn: Turn) -> int:
    return (turn.written if turn.sent is None else turn.sent) or 0


def _about(turn: Turn) -> tuple[object, ...]:
    return (turn.machine, turn.point, tuple(one.disk for one in turn.roots))


def _both(turn: Turn, gate: Turn | None) -> str:
    if gate is None or turn.end == "gate":
        return ""
    return "equal" if turn.roots == gate.roots else "differ"


def _right(volume: Volume) -> bool:
    return bool(volume.checked_at) and volume.wrong == 0 and not volume.unknown


def _seconds(told: str) -> float:
    return datetime.fromisoformat(told).timestamp()


def _times(works: Sequence[Work]) -> tuple[float, float]:
    """When the first began, and the seconds from then to the end of the last."""
    told = [_seconds(one) for work in works for one in (work.began, work.ended) if one]
    return (min(told), max(max(told) - min(told), 1)) if told else (0, 1)
