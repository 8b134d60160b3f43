"""Course: which points a machine has come to, and which one is on its way.

Kept so that a round that was cut goes on as the same point, and a point number is never used
twice.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from appliance.catchup.wire import Form, Point
from appliance.errors import PointRefusedError
from appliance.events import Json
from appliance.model import DiskId
from appliance.seal import canon
from appliance.seal.kept import alone, kept, load, save


@dataclass(frozen=True, slots=True)
class Leg:
    """The machine's latest point. ``round`` is the sender's name for it, in hex."""

    machine: str
    point: int
    round: str
    form: Form
    taken: int
    disks: tuple[DiskId, ...]
    ended: bool


def _write(leg: Leg) -> Json:
    return {
        "disks": list(leg.disks),
        "ended": leg.ended,
        "form": int(leg.form),
        "machine": leg.machine,
        "point": leg.point,
        "round": leg.round,
        "taken": leg.taken,
    }


def _parse(fields: canon.Fields) -> Leg:
    return Leg(
        machine=fields.text("machine", 512),
        point=fields.number("point", 0, (1 << 32) - 1),
        round=fields.hex("round", 16),
        form=Form(fields.number("form", 0, max(Form))),
        taken=fields.number("taken"),
        disks=tuple(DiskId(one) for one in fields.strings("disks", 256, 32)),
        ended=fields.flag("ended"),
    )


class Course:
    """The points of one machine."""

    def __init__(self, home: Path, machine: str) -> None:
        name = blake3(machine.encode(), derive_key_context="motiongear/1 machine").hexdigest()[:32]
        self._machine = machine
        self._path = home / "gate" / "courses" / f"{name}.json"
        with kept(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, asked: Point, reached: int) -> Leg:
        """The point that a round makes: a new one above ``reached`` and all before, or the one
        that the same round began; refuses a round that has ended, or has become another.
        """
        with alone(self._path.with_suffix(".lock")):
            last = self.last()
            named = asked.round.hex()
            if last is not None and last.round == named:
                if last.ended:
                    raise PointRefusedError(f"This round has ended: it was point {last.point}")
                if (last.form, last.disks) != (asked.form, asked.disks):
                    raise PointRefusedError("The round was begun with other disks, or otherwise")
                return last
            point = max(reached, last.point if last is not None else 0) + 1
            made = Leg(
                self._machine, point, named, asked.form, asked.taken, asked.disks, ended=False
            )
            save(self._path, _write(made))
            return made

    def end(self, leg: Leg) -> None:
        """The point is whole; refuses when another round was begun since."""
        with alone(self._path.with_suffix(".lock")):
            self.refuse_other(leg)
            save(self._path, _write(replace(leg, ended=True)))

    def refuse_other(self, leg: Leg) -> None:
        """Refuse when another round was begun since: it may have written to the replicas."""
        if self.last() != leg:
            raise PointRefusedError("Another round was begun since")

    def last(self) -> Leg | None:
        with kept(self._path):
            there = self._path.exists()
        return load(self._path, _parse, _write) if there else None
