"""Contenders measured in pairs, A B A B ..., so that what disturbs one disturbs the other too."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.measure import Command, Cost, run


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that does the work. ``ready`` makes everything ready anew, untimed, and says what
    is timed: commands that run at once. ``left`` tells the bytes that it has written to keep.
    """

    name: str
    ready: Callable[[], Sequence[Command]]
    left: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: what it cost, and the bytes it wrote to keep."""

    cost: Cost
    left: int


@dataclass(frozen=True, slots=True)
class Contest:
    """Pairs of (ours, theirs), by the rival's name; ours ``alone`` where no rival is there."""

    ours: str
    pairs: dict[str, list[tuple[Trial, Trial]]] = field(default_factory=dict)
    alone: list[Trial] = field(default_factory=list)

    def ratios(self, rival: str, of: Callable[[Trial], float]) -> list[float]:
        """Theirs over ours, of each pair."""
        return [of(theirs) / of(ours) for ours, theirs in self.pairs[rival]]

    def faster(self, rival: str) -> float:
        """How many times as fast as the rival we are: the median of the pairs."""
        return median(self.ratios(rival, seconds))

    def trials(self, name: str) -> list[Trial]:
        if name == self.ours:
            return self.alone + [ours for pairs in self.pairs.values() for ours, _ in pairs]
        return [theirs for _, theirs in self.pairs[name]]

    @property
    def names(self) -> list[str]:
        return [self.ours, *self.pairs]


def seconds(trial: Trial) -> float:
    return trial.cost.seconds


def trial(contender: Contender, warm: Callable[[], object]) -> Trial:
    """One run; what earlier runs have left in memory to be written is written before."""
    commands = contender.ready()
    os.sync()
    warm()
    cost = run(commands)
    print(f"  {contender.name}: {cost.seconds:.2f} s", file=sys.stderr, flush=True)  # noqa: T201
    return Trial(cost, contender.left())


def contest(
    ours: Contender,
    rivals: Sequence[Contender],
    rounds: int,
    warm: Callable[[], object] = lambda: None,
) -> Contest:
    """``rounds`` pairs with every rival; ``warm`` brings the input into the page cache."""
    found = Contest(ours.name)
    for _ in range(rounds):
        for rival in rivals:
            pair = trial(ours, warm), trial(rival, warm)
            found.pairs.setdefault(rival.name, []).append(pair)
        if not rivals:
            found.alone.append(trial(ours, warm))
    return found
