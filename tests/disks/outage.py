"""One user's way through the product on a volatile disk, a power cut somewhere on it, and the same
way again until it has come to its end.

Programs are the real ones, each in a process of its own. What they have told before the cut is
held against what the disk has kept.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.disks.disk import Disk

RIG = Path(__file__).with_name("rig")
ROOT = Path(__file__).parents[2]
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 180.0
_MARK = "MOTIONGEAR_OUTAGE"


class PowerCutError(Exception):
    """The power is gone while somebody is at work."""


class LostError(AssertionError):
    """Something that was told is not so, or the way could not be gone on with."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise LostError(what)


@dataclass(frozen=True, slots=True)
class Told:
    """What a command printed by the time it ended, or the power did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines that are whole."""
        found = []
        for one in self.out.splitlines():
            with suppress(ValueError):
                found.append(json.loads(one))
        return [one for one in found if isinstance(one, dict)]

    def results(self, step: str) -> list[dict[str, Any]]:
        return [
            one["figures"] for one in self.lines if one.get("step") == step and "figures" in one
        ]

    def fine(self, *codes: int) -> "Told":
        need(self.code in (codes or (0,)), f"ended with {self.code}: {self.out[-500:]}{self.err}")
        return self


@dataclass
class Running:
    """A command at work; its output goes to files, which no power cut takes."""

    home: Path
    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def told(self) -> Told:
        out, err = self.out.read_text(), self.err.read_text()
        code = self.process.poll()
        need("Traceback (most recent" not in out + err, f"a raw traceback: {err}")
        need("An unexpected error" not in out + err, f"an unexpected error: {out}{err}")
        return Told(-1 if code is None else code, out, err)


@dataclass
class Shells:
    """Starts commands until the power of ``disk`` is cut. ``rig``: see rig/sitecustomize.py."""

    disk: Disk
    place: Path
    rig: tuple[str, ...] = ()
    stage: str = ""
    _mark: str = field(default_factory=lambda: os.urandom(8).hex())
    _begun: list[Running] = field(default_factory=list)

    def environment(self, home: Path) -> dict[str, str]:
        return {
            **os.environ,
            "MOTIONGEAR_HOME": str(home),
            "MOTIONGEAR_RIG": ",".join(self.rig),
            "PYTHONPATH": f"{RIG}:{ROOT}",
            _MARK: f"{self._mark}:{home}",
        }

    def begin(self, home: Path, *args: object, secret: str | None = None) -> Running:
        """``secret``: the first line that is read from the descriptor whose option comes last."""
        number = len(self._begun) + 1
        given, fds = [str(one) for one in args], []
        if secret is not None:
            reader, writer = os.pipe()
            os.write(writer, f"{secret}\n".encode())
            os.close(writer)
            given, fds = [*given, str(reader)], [reader]
        out, err = self.place / f"{number}.out", self.place / f"{number}.err"
        with out.open("wb") as out_file, err.open("wb") as err_file:
            child = subprocess.Popen(
                [sys.executable, "-m", "appliance", *given],
                cwd=self.place,
                env=self.environment(home),
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                pass_fds=fds,
            )
        for one in fds:
            os.close(one)
        self.stage = next(one for one in given if not one.startswith("-"))
        self._begun.append(Running(home, child, out, err))
        return self._begun[-1]

    def wait(self, running: Running) -> Told:
        """Until it has ended; raises PowerCutError when the power is cut before that, or when
        that is what it ended by.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while running.process.poll() is None:
            if self.disk.dead:
                raise PowerCutError
            need(time.monotonic() < end, f"it never ended: {running.told()}")
            time.sleep(_LOOK_SECONDS)
        if running.process.returncode and self.disk.dead:
            raise PowerCutError
        return running.told()

    def run(self, home: Path, *args: object, secret: str | None = None) -> Told:
        return self.wait(self.begin(home, *args, secret=secret))

    def kill(self, home: Path | None = None) -> None:
        """End what was started, and what that has started: all, or those with this home."""
        wanted = f"{_MARK}={self._mark}:{home or ''}".encode()
        while found := list(_marked(wanted, whole=home is not None)):
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)
        for one in self._begun:
            if home in {None, one.home}:
                one.process.wait()

    def outputs(self) -> Iterator[Told]:
        """What every command printed so far."""
        for one in self._begun:
            yield Told(-1, one.out.read_text(), one.err.read_text())


def _marked(wanted: bytes, *, whole: bool) -> Iterator[int]:
    """Processes that have this in their environment, and are no zombies."""
    for one in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found = one.read_bytes().split(b"\0")
            if any(item == wanted if whole else item.startswith(wanted) for item in found):
                yield int(one.parent.name)


def logs_are_clean(home: Path) -> None:
    """No job's log holds a traceback."""
    for one in (home / "jobs").glob("*.log"):
        said = one.read_text(errors="replace")
        need("Traceback (most recent" not in said, f"{one.name}: {said}")


@dataclass
class Way:
    """What a user has come to know on the way: words that were told and must stay true."""

    known: dict[str, Any] = field(default_factory=dict)

    def once(self, step: str) -> bool:
        """Whether the step is still to be done."""
        return step not in self.known

    def done(self, step: str, what: object = True) -> None:  # noqa: FBT002 - a value, no flag
        self.known[step] = what
