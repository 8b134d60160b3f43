"""Fuzz all targets, two at a time, each in a process of its own.

`make fuzz`, or `python -m tests.fuzz [TARGET ...]`.

FUZZ_RUNS are the executions of each (20,000), FUZZ_SEED where chance begins (1; 0: elsewhere each
time), FUZZ_JOBS how many run at once (2); with FUZZ_KEEP=1 what was found is added to the kept
corpus.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import mean

from tests.fuzz.registry import TARGETS
from tests.fuzz.target import Target

_ROOT = Path(__file__).parents[2]
WORK = _ROOT / "build" / "fuzz"
_UNCAUGHT = "=== Uncaught"  # where atheris begins to tell of an error
_SHOWN, _WIDTH = 30, 160  # lines of what a target said when it broke, and their length


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a target. ``broken`` is what it said when it broke, else empty."""

    executions: int
    rate: int
    corpus: int
    peak_mib: int
    covered: dict[str, float]
    broken: str


def fuzz(
    target: Target,
    runs: int,
    seed: int,
    registry: str = "tests.fuzz.registry",
    timeout_seconds: int = 10,
) -> Told:
    """Run a target; what it finds lies in build/fuzz/<target>, what breaks it under broken/."""
    corpus, broken = WORK / target.name / "corpus", WORK / target.name / "broken"
    for one in (corpus, broken):
        one.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (corpus / sha256(data).hexdigest()[:16]).write_bytes(data)
    corpora = [str(one) for one in (corpus, target.corpus) if one.is_dir()]
    limits = [f"-runs={runs}", f"-seed={seed}", f"-timeout={timeout_seconds}"]
    done = _python(
        "engine", registry, target.name, *limits, f"-artifact_prefix={broken}/", *corpora
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode < 0:
        said += f"\nended by signal {-done.returncode}"
    covered: dict[str, float] = {}
    if not done.returncode:
        shown = _python("cover", target.name, *corpora)
        covered = json.loads(shown.stdout) if not shown.returncode else {}
        if not covered:
            done, said = shown, shown.stderr.decode(errors="replace")
    return Told(
        executions=_figure(said, "number_of_executed_units"),
        rate=_figure(said, "average_exec_per_sec"),
        corpus=len(list(corpus.iterdir())),
        peak_mib=_figure(said, "peak_rss_mb"),
        covered=covered,
        broken=said if done.returncode else "",
    )


def _python(module: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Its temporary files are in memory and go with it, however it ends."""
    root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="motiongear-fuzz-", dir=root) as place:
        return subprocess.run(
            [sys.executable, "-m", f"tests.fuzz.{module}", *arguments],
            cwd=_ROOT,
            env={**os.environ, "TMPDIR": place},
            capture_output=True,
            check=False,
        )


def _figure(said: str, name: str) -> int:
    found = re.search(rf"stat::{name}: +(\d+)", said)
    return int(found[1]) if found else 0


def _line(target: Target, told: Told) -> str:
    covered = " ".join(f"{Path(one).name} {share:.0f}%" for one, share in told.covered.items())
    head = f"{target.name:<12} {told.executions:>9,} runs {told.rate:>7,}/s {told.peak_mib:>4} MiB"
    if not told.broken:
        return f"{head} {told.corpus:>5} inputs  {covered}"
    at = told.broken.find(_UNCAUGHT)
    lines = told.broken[max(at, 0) :].strip().splitlines()
    shown = [one[:_WIDTH] for one in (lines[:_SHOWN] if at >= 0 else lines[-_SHOWN:])]
    return "\n    ".join([f"{head} BROKEN", *shown])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(names: Sequence[str]) -> int:
    runs, seed = int(os.environ.get("FUZZ_RUNS", "20000")), int(os.environ.get("FUZZ_SEED", "1"))
    chosen = [TARGETS[one] for one in names or TARGETS]
    broken, covered = [], {}
    with ThreadPoolExecutor(int(os.environ.get("FUZZ_JOBS", "2"))) as pool:
        for target, told in zip(
            chosen, pool.map(lambda one: fuzz(one, runs, seed), chosen), strict=True
        ):
            _say(_line(target, told))
            covered.update({(target.name, one): share for one, share in told.covered.items()})
            if told.broken:
                broken.append(target.name)
            elif os.environ.get("FUZZ_KEEP"):
                _python("cover", "--keep", target.name, str(WORK / target.name / "corpus"))
    if covered:
        _say(f"{len(chosen)} targets, on average {mean(covered.values()):.0f}% of their parsers")
    for one in broken:
        _say(f"{one} broke: see {WORK / one / 'broken'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
