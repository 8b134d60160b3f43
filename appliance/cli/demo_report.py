"""What the demo says of its steps: time, bytes, rate, result."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from appliance import shown
from appliance.cli import show
from appliance.cli.show import translated as _


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step of the demo: how long it took, how many bytes it was about, and what came of it."""

    step: str
    seconds: float
    size: int
    result: str


@dataclass(slots=True)
class Report:
    as_lines: bool
    steps: list[StepReport] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[int, str], None]]:
        """Time a step; the body says at its end how many bytes it was about and what came of
        it.
        """
        told: list[tuple[int, str]] = []
        if not self.as_lines:
            show.line(f"== {_(name)}")
        start = time.monotonic()
        yield lambda size, result: told.append((size, result))
        spent = time.monotonic() - start
        size, result = told[-1] if told else (0, "")
        done = StepReport(name, round(spent, 2), size, result)
        self.steps.append(done)
        if self.as_lines:
            show.record({"event": "demo", **asdict(done)})

    def show(self) -> None:
        show.line()
        body = [
            (
                _(one.step),
                f"{one.seconds:.1f} s",
                shown.size(one.size) if one.size else "",
                f"{shown.size(one.size / one.seconds)}/s" if one.size and one.seconds else "",
                one.result,
            )
            for one in self.steps
        ]
        show.table((_("STEP"), _("TIME"), _("BYTES"), _("RATE"), _("RESULT")), body)
