"""Runs by seed: which stage, what happens to it, and what came of it."""

import random
import traceback
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.kills import Killing, Struck
from tests.chaos.refusals import Troubled
from tests.chaos.stages import JOURNEY, Seal, Stage
from tests.chaos.troubles import TROUBLES, rigged
from tests.chaos.world import World

# How often each stage is drawn: about as its length, and none so seldom that it is not met.
STAGES = {
    "ingest": 5,
    "seal": 2,
    "verify": 2,
    "verify with key": 2,
    "restore": 5,
    "check": 2,
    "round": 5,
    "frozen": 3,
    "final": 3,
}
KINDS = {"kill": 3, "trouble": 3}
_JOURNEYS = 0.05
_LEAST_SECONDS = 0.05  # what ends sooner may not be seen to run


@dataclass(frozen=True)
class Wish:
    """What is not left to the seed; empty: it is."""

    stage: str = ""
    kind: str = ""
    trouble: str = ""
    moments: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a run was, and what came of it: ``lost`` says what was wrong, if anything was."""

    what: str
    struck: Sequence[Struck]
    met: Sequence[str]
    lost: str
    kept: Path | None

    def __str__(self) -> str:
        kills = [f"{one.death.kind} killed at {_place(one)}" for one in self.struck]
        refused = [f"refused: {one}" for one in self.met]
        told = "; ".join([*kills, *refused]) or "undisturbed"
        return f"{self.what}: {told}: {'LOST: ' + self.lost if self.lost else 'all there'}"


def _place(one: Struck) -> str:
    return f"{one.death.step} ({one.share:.2f})" if one.share >= 0 else "its start"


@dataclass
class Runs:
    """Runs in one world below ``place``. ``rig``: what is broken in the product."""

    place: Path
    rig: str = ""
    lengths: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(self.place)
        self.world.make(1)

    def travel(self, last: str = "", without: Collection[str] = ()) -> None:
        """The journey, undisturbed and measured; put aside before each stage. Up to ``last``,
        ``without`` some that nothing else needs.
        """
        self.world.run.mkdir()
        self.world.put_aside("journey")
        for one in (make() for make in JOURNEY):
            if hasattr(one, "go"):
                one.go(self.world)
            elif one.name not in without:
                self.world.put_aside(one.name)
                self.lengths[one.name] = undisturbed(self.world, one)
            if one.name == last:
                return

    def run(self, seed: int, wish: Wish | None = None) -> Outcome:
        """One run. What is not wished for goes by the seed."""
        chance, wish = random.Random(seed), wish or Wish()
        journey, drawn = chance.random() < _JOURNEYS, _drawn(chance, STAGES)
        name = wish.stage or ("journey" if journey else drawn)
        self.world.take_up(name)
        self.world.rig = rigged(self.rig) if self.rig else {}
        run = Run(self.world, self.lengths, chance, wish)
        lost, kept = "", None
        try:
            run.go(name)
        except (AssertionError, OSError, ValueError, KeyError) as exc:
            lost = f"{type(exc).__name__} {exc}" if str(exc) else traceback.format_exc()
            kept = self.world.keep(f"{name} {seed}")
        finally:
            self.world.stop_all()
        return Outcome(", ".join([name, *run.said]), run.struck, run.met, lost, kept)


@dataclass
class Run:
    """A stage, or all of them, each with something happening to it."""

    world: World
    lengths: Mapping[str, float]
    chance: random.Random
    wish: Wish
    struck: list[Struck] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def go(self, name: str) -> None:
        for one in (make() for make in JOURNEY):
            if hasattr(one, "go"):
                if name == "journey":
                    one.go(self.world)
            elif name in {"journey", one.name}:
                self._disturbed(one)
        if name == "ingest":
            undisturbed(self.world, Seal())  # and what is in the store is compared

    def _disturbed(self, stage: Stage) -> None:
        """Go through a stage while something happens to it."""
        kind, trouble = _drawn(self.chance, KINDS), self.chance.choice(TROUBLES[stage.name])()
        kind = self.wish.kind or kind
        if self.wish.trouble:
            kind, found = "trouble", [make() for make in TROUBLES[stage.name]]
            (trouble,) = [one for one in found if one.name == self.wish.trouble]
        if kind == "trouble":
            self.said.append(trouble.name)
        if kind == "trouble" and not trouble.harmless:
            Troubled(self.world, stage, trouble, self.chance, self.met).run()
            return
        Killing(
            world=self.world,
            stage=stage,
            chance=self.chance,
            length=self.lengths[stage.name],
            trouble=trouble if kind == "trouble" else None,
            moments=self.wish.moments,
            struck=self.struck,
        ).run()


def undisturbed(world: World, stage: Stage) -> float:
    """Go through a stage; how many seconds its jobs ran."""
    with ExitStack() as ends:
        stage.opened(world, ends)
        works = stage.start(world)
        length = max(_LEAST_SECONDS, *(work.length() for work in works))
        for work in works:
            work.fine()
        stage.end(world, works)
    return length


def _drawn(chance: random.Random, weights: Mapping[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]
