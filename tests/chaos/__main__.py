"""Chaos: ``make chaos``, or ``python -m tests.chaos [--seed N] [--runs M] [--stage STAGE]``.

A run is one stage of a migration, or all of it, by real processes on real disks; on the way they
are killed, or their disks, clocks and lines fail. Its seed says which, when, and how. The moment
goes by the clock, so that a seed that is run again meets the same stage of the same step, not
always the same instruction. Exits with 1 when anything was lost, and says how to run it again.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.kills import Struck, histogram
from tests.chaos.runs import KINDS, STAGES, Outcome, Runs, Wish


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others follow")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--stage", choices=[*STAGES, "journey"], default="", help="only this one")
    parser.add_argument("--kind", choices=KINDS, default="", help="only this")
    parser.add_argument("--trouble", default="", help="only this one, by its name")
    parser.add_argument("--rig", default="", help="what is broken in the product (chaos/rig)")
    parser.add_argument("--place", type=Path, help="where to work, and to leave what failed")
    given = parser.parse_args(argv)
    place = given.place or Path(tempfile.mkdtemp(prefix="motiongear-chaos-"))
    runs = Runs(place, given.rig)
    began = time.monotonic()
    runs.travel(given.stage)
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in runs.lengths.items())
    say(f"undisturbed: {told}; all of it {time.monotonic() - began:.0f} s")
    outcomes: list[Outcome] = []
    for seed in range(given.seed, given.seed + given.runs):
        began = time.monotonic()
        one = runs.run(seed, Wish(given.stage, given.kind, given.trouble))
        outcomes.append(one)
        say(f"seed {seed}: {one}, {time.monotonic() - began:.1f} s")
        if one.lost:
            again = " ".join(f"--{name} {value!r}" for name, value in vars(given).items()
                             if value and name in {"stage", "kind", "trouble", "rig"})  # fmt: skip
            say(f"  what is left: {one.kept}")
            say(f"""  again: make chaos CHAOS_ARGS="--seed {seed} --runs 1 {again}" """.rstrip())
    return report(outcomes, place, keep=given.place is not None)


def report(outcomes: Sequence[Outcome], place: Path, *, keep: bool) -> int:
    struck: list[Struck] = [kill for one in outcomes for kill in one.struck]
    for row in histogram(struck):
        say(row)
    lost = [one for one in outcomes if one.lost]
    say(f"{len(outcomes)} runs, {len(struck)} kills, {len(lost)} lost something")
    if not keep and not lost:
        shutil.rmtree(place)
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
