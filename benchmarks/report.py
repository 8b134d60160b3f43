"""The report: what was measured, as tables, and every bar with the figure that it got."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.images import MIB
from benchmarks.pairs import Contest, seconds
from benchmarks.stages import Profile


@dataclass(frozen=True, slots=True)
class Bar:
    """What was promised and what was found; ``at_least`` says on which side of ``wanted`` it has
    to be.
    """

    text: str
    wanted: float
    found: float
    at_least: bool = True
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted

    def row(self) -> tuple[str, str, str, str]:
        sign = "≥" if self.at_least else "≤"
        verdict = "met" if self.met else "**missed**"
        return (
            self.text,
            f"{sign} {self.wanted:g} {self.unit}",
            f"{self.found:.2f} {self.unit}"
            if self.found < 100
            else f"{self.found:.0f} {self.unit}",
            verdict,
        )


@dataclass(slots=True)
class Section:
    """One case: ``body`` is Markdown, paragraph by paragraph."""

    title: str
    body: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    failed: bool = False

    def add(self, *paragraphs: str) -> None:
        self.body += paragraphs


def table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    cells = ([str(one).replace("|", "\\|") for one in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def contest_table(found: Contest, size: int) -> str:
    """``size`` is what was read or written, in bytes, for the rate."""
    body = []
    for name in found.names:
        trials = found.trials(name)
        took = median(one.cost.seconds for one in trials)
        ratio = "-"
        if name != found.ours:
            of = found.ratios(name, seconds)
            ratio = (
                f"**{found.faster(name):.2f}** ({min(of):.2f} to {max(of):.2f}, {len(of)} pairs)"
            )
        body.append(
            (
                name,
                f"{took:.2f}",
                f"{size / took / 1e6:.0f}",
                ratio,
                f"{median(one.cost.cpu_seconds for one in trials):.1f}",
                f"{max(one.cost.peak_bytes for one in trials) / MIB:.0f}",
                f"{median(one.left for one in trials) / MIB:.0f}",
            )
        )
    head = ("", "s", "MB/s", "we are so many times as fast", "CPU s", "MiB memory", "MiB left")
    return table(head, body)


def stage_times(found: Contest, step: str) -> str:
    """Where in our wall clock the step lies: before it, in it, after it."""
    costs = [one.cost for one in found.trials(found.ours)]
    before = median(one.begun(step) for one in costs)
    inside = median(one.figures(step)[0] - one.begun(step) for one in costs)
    after = median(one.seconds - one.figures(step)[0] for one in costs)
    return (
        f"Of our time {before:.2f} s go by before the engine begins (two processes start), "
        f"{inside:.2f} s in it, {after:.2f} s after it."
    )


def profile_text(found: Profile) -> list[str]:
    cpu = table(("CPU, by stage", "share"), ((n, f"{s:.0f} %") for n, s in found.cpu.items()))
    waits = table(
        ("system call", "calls", "seconds inside, threads added up"),
        ((name, calls, f"{spent:.2f}") for name, (calls, spent) in found.waits.items()),
    )
    top = "\n".join(f"    {share:5.1f} %  {name}" for share, name in found.top)
    return [cpu, waits, "The functions that most samples fell into:", top]


def bars_table(sections: Iterable[Section]) -> str:
    rows = (bar.row() for one in sections for bar in one.bars)
    return table(("bar", "wanted", "found", ""), rows)


def whole(
    host: Sequence[tuple[str, str]], sections: Sequence[Section], preface: str, notes: str
) -> str:
    """The whole document; ``preface`` and ``notes`` are Markdown, written by hand."""
    parts = ["# Performance", preface.rstrip(), "## The bars", bars_table(sections)]
    parts += ["## The machine", table(("", ""), host)]
    for one in sections:
        parts += [f"## {one.title}", *one.body]
    return "\n\n".join([*parts, notes]).rstrip() + "\n"
