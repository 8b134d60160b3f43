"""One measured run of one or several commands, and what it cost."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from benchmarks.warden import Asked, Told

_HERE = Path(__file__).parents[1]


class FailedRunError(Exception):
    """A command that is measured did not do what it was measured for."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments; ``env`` is added to the harness's own. ``ok`` are the exit
    codes of success.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Path | None = None
    ok: tuple[int, ...] = (0,)

    def asked(self) -> Asked:
        return Asked(
            argv=list(self.argv),
            env={**os.environ, **self.env},
            stdin=str(self.stdin or ""),
        )


def shell(script: str, *args: object, env: Mapping[str, str] | None = None) -> Command:
    """A pipeline that fails when any of its programs does; ``args`` are its $1, $2 ..."""
    prefix = ("bash", "-e", "-u", "-o", "pipefail", "-c", script, "bash")
    return Command((*prefix, *map(str, args)), env or {})


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall clock, CPU time of all processes, highest memory of all of them together, and what
    was printed when: (seconds, line).
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    lines: tuple[tuple[float, str], ...] = ()

    def events(self) -> list[tuple[float, dict[str, object]]]:
        """The JSON lines that ``motiongear --json`` printed, with their times."""
        return [(at, json.loads(line)) for at, line in self.lines]

    def figures(self, step: str) -> tuple[float, dict[str, object]]:
        """When a step's result was told, and its figures."""
        for at, one in self.events():
            if one.get("event") == "result" and one.get("step") == step:
                return at, cast("dict[str, object]", one["figures"])
        raise FailedRunError(f"No result of {step!r} was told")

    def begun(self, step: str) -> float:
        """When a step began, in seconds."""
        for at, one in self.events():
            if one.get("event") == "step" and one.get("step") == step:
                return at
        raise FailedRunError(f"The step {step!r} did not begin")


def run(commands: Sequence[Command]) -> Cost:
    """Start the commands at once, wait for all, tell what they cost together.

    Raises FailedRunError, with what was said, when one of them fails.
    """
    order = json.dumps([one.asked() for one in commands])
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.warden", order],
        cwd=_HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as warden:
        try:
            out, said = warden.communicate()
        except BaseException:
            warden.terminate()  # it ends all that it has started
            warden.communicate()
            raise
    if warden.returncode:
        raise FailedRunError(f"{commands[0].argv}: {said[-2000:]}")
    told = cast("Told", json.loads(out))
    for one, code in zip(commands, told["codes"], strict=True):
        if code not in one.ok:
            raise FailedRunError(f"{one.argv} ended with {code}: {said[-2000:]}")
    return Cost(
        seconds=told["seconds"],
        cpu_seconds=told["cpu_seconds"],
        peak_bytes=told["peak_bytes"],
        lines=tuple((at, line) for at, line in told["lines"]),
    )


def prepare(command: Command) -> str:
    """Run what is not measured; returns its standard output."""
    asked = command.asked()
    with open(asked["stdin"] or os.devnull, "rb") as stdin:  # noqa: PTH123 - as for a shell
        done = subprocess.run(
            asked["argv"],
            env=asked["env"],
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in command.ok:
        raise FailedRunError(f"{command.argv} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
