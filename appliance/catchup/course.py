"""Course: which points a machine has come to, and which one is on its way: the one durable record
that every connection of a round asks before it does anything.

A round that was cut goes on as the same point, a point number is never used twice, and a round
that another has followed does not come back.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from appliance.block import make_directory
from appliance.catchup.wire import Form, Point
from appliance.errors import PointRefusedError
from appliance.events import Json
from appliance.model import DiskId
from appliance.seal import canon
from appliance.seal.kept import alone, kept, load, save

_REMEMBERED = 64
_ID, _ROOT = re.compile(r"[0-9a-f]{32}"), re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Leg:
    """The machine's latest point. ``round`` is the sender's name for it, in hex; ``roots`` are
    what both ends have agreed on, in the order of ``disks``, empty where they have not yet.
    ``earlier`` are the rounds before it, the latest last.
    """

    machine: str
    point: int
    round: str
    form: Form
    taken: int
    disks: tuple[DiskId, ...]
    roots: tuple[str, ...]
    ended: bool
    kept: bool
    earlier: tuple[str, ...]


def _write(leg: Leg) -> Json:
    return {
        "disks": list(leg.disks),
        "earlier": list(leg.earlier),
        "ended": leg.ended,
        "form": int(leg.form),
        "kept": leg.kept,
        "machine": leg.machine,
        "point": leg.point,
        "roots": list(leg.roots),
        "round": leg.round,
        "taken": leg.taken,
    }


def _parse(fields: canon.Fields) -> Leg:
    leg = Leg(
        machine=fields.text("machine", 512),
        point=fields.number("point", 0, (1 << 32) - 1),
        round=fields.hex("round", 16),
        form=Form(fields.number("form", 0, max(Form))),
        taken=fields.number("taken"),
        disks=tuple(DiskId(one) for one in fields.texts("disks", 256, _ID)),
        roots=fields.texts("roots", 256, _ROOT),
        ended=fields.flag("ended"),
        kept=fields.flag("kept"),
        earlier=fields.texts("earlier", _REMEMBERED, _ID),
    )
    if list(leg.disks) != sorted(set(leg.disks)):
        raise fields.bad("disks", "are out of order")
    if len(leg.roots) != len(leg.disks):
        raise fields.bad("roots", "are not as many as the disks")
    return leg


class Course:
    """The points of one machine."""

    def __init__(self, home: Path, machine: str) -> None:
        name = blake3(machine.encode(), derive_key_context="motiongear/1 machine").hexdigest()[:32]
        self._machine = machine
        self._path = home / "gate" / "courses" / f"{name}.json"
        with kept(self._path):
            make_directory(self._path.parent, 0o700)

    def begin(self, asked: Point, reached: int) -> Leg:
        """The point that a round makes: a new one above ``reached`` and all before, or the one
        that the same round began, also when that has ended. Refuses a round that has become
        another, or that another has followed.
        """
        with alone(self._path.with_suffix(".lock")):
            last = self.last()
            named = asked.round.hex()
            if last is None:
                return self._save(self._new(asked, reached + 1, ()))
            if last.round == named:
                if (last.form, last.disks) != (asked.form, asked.disks):
                    raise PointRefusedError("The round was begun with other disks, or otherwise")
                return last
            if named in last.earlier:
                raise PointRefusedError("Another round was begun since")
            earlier = (*last.earlier, last.round)[-_REMEMBERED:]
            return self._save(self._new(asked, max(reached, last.point) + 1, earlier))

    def _new(self, asked: Point, point: int, earlier: tuple[str, ...]) -> Leg:
        return Leg(
            machine=self._machine,
            point=point,
            round=asked.round.hex(),
            form=asked.form,
            taken=asked.taken,
            disks=asked.disks,
            roots=("",) * len(asked.disks),
            ended=False,
            kept=False,
            earlier=earlier,
        )

    def _save(self, leg: Leg) -> Leg:
        save(self._path, _write(leg))
        return leg

    def agree(self, leg: Leg, disk: DiskId, root: bytes) -> None:
        """Both ends have come to this root of the disk."""
        with alone(self._path.with_suffix(".lock")):
            now = self.still(leg)
            roots = list(now.roots)
            roots[now.disks.index(disk)] = root.hex()
            self._save(replace(now, roots=tuple(roots)))

    def end(self, leg: Leg, *, kept: bool) -> None:
        """The point is whole, and a recovery point where it is ``kept``."""
        with alone(self._path.with_suffix(".lock")):
            self._save(replace(self.still(leg), ended=True, kept=kept))

    def still(self, leg: Leg) -> Leg:
        """The leg as it is now; refuses when another round was begun since: it may have written
        to the replicas.
        """
        now = self.last()
        if now is None or now.round != leg.round:
            raise PointRefusedError("Another round was begun since")
        return now

    def last(self) -> Leg | None:
        with kept(self._path):
            there = self._path.exists()
        return load(self._path, _parse, _write) if there else None
