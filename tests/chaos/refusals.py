"""A stage at work while something goes wrong, and gone on with once that is mended."""

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from tests.chaos.stages import Frozen, Gate, Ingest, Round, Stage
from tests.chaos.troubles import SECTOR, FailingDisk, Trouble
from tests.chaos.work import Work, logs_are_clean, refused_well
from tests.chaos.world import Made, World, need
from tests.disks.faults import Fault


@dataclass
class Troubled:
    """A stage in the world as it is, from its beginning to its end. ``met`` are the errors it was
    refused by.
    """

    world: World
    stage: Stage
    trouble: Trouble
    chance: random.Random
    met: list[str] = field(default_factory=list)

    def run(self) -> None:
        with ExitStack() as ends:
            self.trouble.made(self.world, self.stage, ends)
            self.stage.opened(self.world, ends)
            early = isinstance(self.trouble, FailingDisk) and self.trouble.early
            if early:
                self.trouble.begin(self.chance)
            works = self.stage.start(self.world)
            if not early:
                self.trouble.begin(self.chance)
            for work in works:
                work.wait()
            self.trouble.heal()
            works = [self._ended(work, ends) for work in works]
            if isinstance(self.stage, Ingest):
                self._spoilt(works)
            self.stage.end(self.world, works)
        logs_are_clean(self.world.shells)

    def _ended(self, work: Work, ends: ExitStack) -> Work:
        """The work, or what it was gone on with."""
        self._gate_serves(ends)
        if not work.wait().code:
            return work
        self.met.append(refused_well(work))
        need(self.met[-1] in self.trouble.errors, f"{self.trouble.name}: refused by {work.said}")
        known = self.stage.before(self.world, work)
        now = self.stage.again(self.world, work, self.chance)
        now.fine()
        self.stage.after(self.world, now, known)
        return now

    def _gate_serves(self, ends: ExitStack) -> None:
        if not isinstance(self.stage, Round | Frozen) or self.stage.gate is None:
            return
        gate = self.stage.gate
        if gate.child.poll() is not None:
            self.met.append(f"gate: {refused_well(gate)}")
            self.stage.gate = Gate.serve(self.world, ends)

    def _spoilt(self, works: list[Work]) -> None:
        """What nobody can read is told, and nothing else is; a store holds zeros for it."""
        read = zip(self.world.disks, works, strict=True)
        self.world.disks = tuple(self._as_read(made, work) for made, work in read)

    def _as_read(self, made: Made, work: Work) -> Made:
        told = [(one["offset"], one["length"]) for one in work.events("unreadable", 0)]
        faults = self.trouble.unreadable if isinstance(self.trouble, FailingDisk) else ()
        if not told:
            need(not list(_sectors(made, faults)), "no word of sectors that cannot be read")
            return made
        for at, length in told:
            hit = any(one.start - SECTOR < at and at + length < one.end + SECTOR for one in faults)
            need(hit, f"{length} bytes at {at} could have been read")
        for sector in _sectors(made, faults):
            covered = any(at <= sector and sector + SECTOR <= at + length for at, length in told)
            need(covered, f"the sector at {sector} could not be read, told: {told}")
        as_read = self.world.run / f"{made.image.name} as read"
        shutil.copy(made.image, as_read)
        with as_read.open("r+b") as disk:
            for at, length in told:
                disk.seek(at)
                disk.write(bytes(length))
        return replace(made, image=as_read)


def _sectors(made: Made, faults: Sequence[Fault]) -> Iterator[int]:
    """Where sectors are that cannot be read and are no zeros: those may be a hole, which nobody
    reads.
    """
    with made.image.open("rb") as disk:
        for one in faults:
            for at in range(one.start, one.end, SECTOR):
                disk.seek(at)
                if any(disk.read(SECTOR)):
                    yield at
