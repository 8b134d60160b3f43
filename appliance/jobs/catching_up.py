"""Catch up: rounds of a machine's disks to its gate, until the next would be short; or one last
round, read from one frozen point. And the gate that takes them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from appliance.catchup import pairing
from appliance.catchup.enrol import Gates
from appliance.catchup.gate import Gate
from appliance.catchup.link import Address
from appliance.catchup.notes import Notes
from appliance.catchup.pace import Lap, outlook
from appliance.catchup.rounds import Figures, Line, Part, Round, identity_of
from appliance.catchup.wire import Form, Replica
from appliance.errors import BadInputError, NotConvergingError
from appliance.events import Json, Result, Step
from appliance.jobs.desk import Desk
from appliance.jobs.plugins import live_source_for, target_for
from appliance.jobs.spec import CatchUpSpec, GateSpec
from appliance.model import DiskFacts, Freezes, Frozen, Stop
from appliance.rate import Throttle, parse_limit

_LOOK_SECONDS = 1.0


def gate(spec: GateSpec, desk: Desk) -> None:
    """Until it is stopped."""
    target = target_for(spec.target, spec.place)
    taker = Gate(desk.home, target, desk.emit, desk.stop, spec.keep, 3600 * spec.keep_hours)
    taker.serve(Address.parse(spec.listen))


def catch_up(spec: CatchUpSpec, desk: Desk) -> None:
    line = Line(
        gate=Gates(desk.home).at(spec.gate),
        identity=identity_of(desk.home),
        stop=desk.stop,
        throttle=Throttle([parse_limit(one) for one in spec.limits]),
        patience_seconds=spec.patience_seconds,
    )
    if spec.final:
        _last_round(spec, desk, line)
    else:
        _rounds(spec, desk, line)


def _rounds(spec: CatchUpSpec, desk: Desk, line: Line) -> None:
    """Raises NotConvergingError, with the figures, when no round is shorter than the one
    before.
    """
    laps: list[Lap] = []
    while len(laps) < spec.rounds:
        with _parts(spec, desk, line) as parts:
            told = _round(desk, line, parts, Form.FUZZY, int(time.time()))
        laps.append(Lap(told.seconds, told.changed, told.sent))
        ahead = outlook(laps)
        desk.emit(Result("outlook", cast("dict[str, Json]", asdict(ahead))))
        if len(laps) > 1 and ahead.next_seconds <= spec.short_seconds:
            return
        if not ahead.converging:
            raise NotConvergingError(
                f"After {len(laps)} rounds the next would still take {ahead.next_seconds:.0f} s: "
                f"{ahead.written_per_second / 1e6:.1f} MB/s are written at the source, "
                f"{ahead.sent_per_second / 1e6:.1f} MB/s go over the line"
            )


@dataclass(slots=True)
class _StandingStill:
    """The stop flag of a round whose source is frozen: raises FreezeLostError when that has not
    held, which is looked at once a second. Called by every thread of the round.
    """

    frozen: Frozen
    stop: Stop
    looked: float = 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self.looked >= _LOOK_SECONDS:
            self.looked = time.monotonic()
            self.frozen.confirm()
        return self.stop()


def _round(
    desk: Desk,
    line: Line,
    parts: Sequence[Part],
    form: Form,
    taken: int,
    settled: Callable[[], object] = lambda: None,
) -> Figures:
    known = desk.home / "line" / "known"
    told = Round(line, known, desk.emit, desk.stop, form).run(parts, taken, settled)
    figures = cast("dict[str, Json]", asdict(told))
    desk.emit(Result("round", {**figures, "form": form.name.lower()}))
    return told


def _last_round(spec: CatchUpSpec, desk: Desk, line: Line) -> None:
    """Every disk read while nothing is written to any of them. The point is one only if they
    stood still to the end.
    """
    with _parts(spec, desk, line) as parts, desk.asked.awake(), ExitStack() as still:
        frozen = still.enter_context(_frozen(spec, desk))
        form = Form.CRASH_CONSISTENT if frozen is not None and frozen.loose else Form.QUIESCED
        taken = int(time.time())
        if frozen is not None:
            watching = _StandingStill(frozen, desk.stop)
            desk, line = replace(desk, stop=watching), replace(line, stop=watching)
        told = _round(desk, line, parts, form, taken, settled=still.close)
    figures: dict[str, Json] = {
        "point": told.point,
        "kept": told.kept,
        "downtime": frozen.seconds if frozen is not None else 0.0,
        "frozen": list(frozen.mounts) if frozen is not None else [],
        "loose": list(frozen.loose) if frozen is not None else [],
    }
    desk.emit(Result("final", figures))


@contextmanager
def _frozen(spec: CatchUpSpec, desk: Desk) -> Iterator[Frozen | None]:
    """One point over all disks, held by their source where it can; what it cannot hold, disk or
    file system, the operator has to vouch for. None: nothing had to be frozen.
    """
    held: dict[str, Freezes] = {}
    for name, _ in spec.disks:
        source = live_source_for(name, desk.home)
        if isinstance(source, Freezes):
            held[name] = source
    loose = [name for name, _ in spec.disks if name not in held]
    if not held:
        _refuse_unvouched(spec, loose)
        yield None
        return
    desk.emit(Step("freeze", ", ".join(held)))
    with next(iter(held.values())).freeze(list(held), spec.freeze_seconds) as frozen:
        _refuse_unvouched(spec, [*loose, *frozen.idle, *frozen.loose])
        yield frozen


def _refuse_unvouched(spec: CatchUpSpec, names: Sequence[str]) -> None:
    if names and not spec.stopped:
        raise BadInputError(
            f"{', '.join(names)}: this cannot be frozen, or nothing is mounted there to freeze",
            safe="Nothing was sent.",
            todo="See that nothing writes to it any more, and say so with --stopped.",
        )


@contextmanager
def _parts(spec: CatchUpSpec, desk: Desk, line: Line) -> Iterator[list[Part]]:
    """The disks, opened, each with what the gate knows it as."""
    welcome = line.kept_up(lambda _, welcome: welcome, desk.emit)
    replicas = [one for _, one in welcome.replicas]
    notes = Notes(desk.home)
    with ExitStack() as held:
        found: list[Part] = []
        for name, asked in spec.disks:
            source = live_source_for(name, desk.home)
            disk = held.enter_context(source.open(name))
            if asked == "new":
                about = _new(spec, notes, name, disk.facts, replicas)
            else:
                known = asked or notes.disk(spec.gate, name)
                about = pairing.paired(disk.facts, known, replicas)
                if not asked and Path(name).is_block_device():
                    pairing.refuse_guessed(about, replicas)
                notes.note(spec.gate, name, about.disk)
            found.append(Part(disk, about))
        if len({one.about.disk for one in found}) < len(found):
            raise BadInputError("One disk was named twice")
        yield found


def _new(
    spec: CatchUpSpec, notes: Notes, name: str, facts: DiskFacts, replicas: Sequence[Replica]
) -> Replica:
    """A disk that comes by the line alone, or the same again: where that can be told."""
    about = pairing.new_replica(facts, notes.new_disk(spec.gate, name, facts.size))
    begun = any(one.disk == about.disk for one in replicas)
    if begun and Path(name).is_block_device():
        pairing.refuse_guessed(about, replicas)
    notes.note(spec.gate, name, about.disk, facts.size)
    return about
