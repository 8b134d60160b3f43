"""Catch up: rounds of a machine's disks to its gate, until the next would be short; or one last
round, read from one frozen point. And the gate that takes them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import cast

from appliance.catchup import pairing
from appliance.catchup.enrol import Gates
from appliance.catchup.gate import Gate
from appliance.catchup.link import Address
from appliance.catchup.notes import Notes
from appliance.catchup.pace import Lap, outlook
from appliance.catchup.rounds import Figures, Line, Part, Round, identity_of
from appliance.catchup.wire import Form
from appliance.errors import BadInputError, NotConvergingError
from appliance.events import Json, Result
from appliance.jobs.desk import Desk
from appliance.jobs.plugins import live_source_for, target_for
from appliance.jobs.spec import CatchUpSpec, GateSpec
from appliance.rate import Throttle, parse_limit


def gate(spec: GateSpec, desk: Desk) -> None:
    """Until it is stopped."""
    target = target_for(spec.target, spec.place)
    Gate(desk.home, target, desk.emit, desk.stop, spec.keep).serve(Address.parse(spec.listen))


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


def _round(desk: Desk, line: Line, parts: Sequence[Part], form: Form, taken: int) -> Figures:
    known = desk.home / "line" / "known"
    told = Round(line, known, desk.emit, desk.stop, form).run(parts, taken)
    figures = cast("dict[str, Json]", asdict(told))
    desk.emit(Result("round", {**figures, "form": form.name.lower()}))
    return told


def _last_round(spec: CatchUpSpec, desk: Desk, line: Line) -> None:
    """Every disk read while nothing is written to any of them."""
    with ExitStack() as held:
        parts = held.enter_context(_parts(spec, desk, line))
        began = time.monotonic()
        form, frozen = held.enter_context(_frozen(spec, desk))
        told = _round(desk, line, parts, form, int(time.time()))
        for one in parts:
            one.source.confirm()
    downtime = time.monotonic() - began
    figures: dict[str, Json] = {"point": told.point, "kept": told.kept, "downtime": downtime}
    desk.emit(Result("final", {**figures, "frozen": list(frozen)}))


@contextmanager
def _frozen(spec: CatchUpSpec, desk: Desk) -> Iterator[tuple[Form, tuple[str, ...]]]:
    """One point over all disks: held by their source where it can, else by the operator, who has
    stopped the machine.
    """
    if spec.stopped:
        yield Form.QUIESCED, ()
        return
    raise BadInputError(
        f"{spec.disks[0][0]} cannot be frozen by this program",
        safe="Nothing was sent.",
        todo="Stop the machine, then run this again with --stopped.",
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
                about = pairing.new_replica(disk.facts, notes.new_disk(spec.gate, name))
            else:
                known = asked or notes.disk(spec.gate, name)
                about = pairing.paired(disk.facts, known, replicas)
            notes.note(spec.gate, name, about.disk)
            found.append(Part(disk, about))
        if len({one.about.disk for one in found}) < len(found):
            raise BadInputError("One disk was named twice")
        yield found
