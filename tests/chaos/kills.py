"""SIGKILL at random moments of a stage, and the stage gone on with to its end."""

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.chaos.stages import Before, Frozen, Gate, Round, Stage
from tests.chaos.troubles import Trouble
from tests.chaos.work import Death, Work, logs_are_clean, looks_dead
from tests.chaos.world import World

_STARTING = 0.08  # so many of the moments lie before the job runs, while its process comes up
_STARTING_SECONDS = 0.5
_LATE = 1.05  # some lie behind the measured end: a machine is not always as fast as it was
_TENTHS = 10


@dataclass(frozen=True)
class Struck:
    """A process that was killed: ``share`` is where the moment lay in the measured run, below 0
    before the job ran.
    """

    stage: str
    share: float
    death: Death


@dataclass
class Killing:
    """A stage in the world as it is, from its beginning to its end, with one to three kills on the
    way. ``length`` is how many seconds the stage takes; ``trouble`` is one that nobody is refused
    for.
    """

    world: World
    stage: Stage
    chance: random.Random
    length: float
    trouble: Trouble | None = None
    moments: int = 0  # at which somebody is killed; 0: by chance
    struck: list[Struck] = field(default_factory=list)
    _works: list[Work] = field(default_factory=list)
    _known: dict[int, Before] = field(default_factory=dict)

    def run(self) -> None:
        with ExitStack() as ends:
            if self.trouble is not None:
                self.trouble.made(self.world, self.stage, ends)
            self.stage.opened(self.world, ends)
            self._works = self.stage.start(self.world)
            if self.trouble is not None:
                self.trouble.begin(self.chance)
            drawn = self.chance.choice((1, 1, 1, 2, 3))
            for _ in range(self.moments or drawn):
                if not self._strike(ends):
                    break
            for work in self._works:
                work.fine()
                self._hold_against(work)
            if self.trouble is not None:
                self.trouble.heal()
            self.stage.end(self.world, self._works)
        logs_are_clean(self.world.shells)

    def _strike(self, ends: ExitStack) -> bool:
        """One moment: a job is killed, or several at once, and started again."""
        seconds, of_start = self._moment()
        clock = self.chance.choice(self._works)
        victims = self._victims(clock)
        began = clock.reach(seconds, of_start=of_start)
        if began is None:
            return False
        share = -1.0 if of_start else seconds / self.length
        deaths = [(one, one.strike(began)) for one in victims]
        dead = [(one, death) for one, death in deaths if death is not None]
        for victim, death in dead:
            self.struck.append(Struck(self.stage.name, share, death))
            looks_dead(victim)
        for victim, _ in dead:
            self._start_again(victim, ends)
        return bool(dead)

    def _moment(self) -> tuple[float, bool]:
        """Seconds, and whether they count from when the process came up."""
        if self.chance.random() < _STARTING:
            return self.chance.random() * _STARTING_SECONDS, True
        return self.chance.random() * self.length * _LATE, False

    def _victims(self, clock: Work) -> list[Work]:
        """The job, or all that are at work, or the one at the other end, or both ends."""
        dice = self.chance.random()
        if isinstance(self.stage, Round | Frozen) and self.stage.gate is not None:
            both = [clock, self.stage.gate]
            return both if dice < 0.15 else [self.stage.gate] if dice < 0.4 else [clock]
        return self._works if dice < 0.25 else [clock]

    def _start_again(self, victim: Work, ends: ExitStack) -> None:
        if victim not in self._works:
            assert isinstance(self.stage, Round | Frozen)
            self.stage.gate = Gate.serve(self.world, ends)
            return
        self._hold_against(victim)
        known = self.stage.before(self.world, victim)
        now = self.stage.again(self.world, victim, self.chance)
        self._works[self._works.index(victim)] = now
        self._known[id(now)] = known

    def _hold_against(self, work: Work) -> None:
        """What a work has done is held against what was known when it began again."""
        if id(work) in self._known:
            self.stage.after(self.world, work, self._known.pop(id(work)))


def histogram(struck: Sequence[Struck]) -> list[str]:
    """Kills by stage and by the step they met, and by tenths of the measured run."""
    rows = []
    for stage in dict.fromkeys(one.stage for one in struck):
        mine = [one for one in struck if one.stage == stage]
        rows.append(f"{stage}: {len(mine)} kills")
        steps = Counter(f"{one.death.kind}: {one.death.step}" for one in mine)
        rows += [f"  {step:<28} {count:4} {'#' * count}" for step, count in sorted(steps.items())]
        tenths = Counter(min(int(one.share * _TENTHS), _TENTHS) for one in mine if one.share >= 0)
        starting = sum(one.share < 0 for one in mine)
        told = " ".join(str(tenths[one]) for one in range(_TENTHS + 1))
        rows.append(f"  coming up {starting}; by tenths of the run, and behind it: {told}")
    return rows
