"""The demo: what real migrations told, written once more into a state database, line by line, at
the times it was told; the console looks at it as at any other.

A recording is JSON lines, in order of ``at``, seconds since it began (tools/record.py makes them):

    {"at": 0, "disks": [{"node", "serial", "model", "bus", "size"}]}
    {"at", "file": {"path", "text"}}            a public file of a store, below the demo's place
    {"at", "shipment": {"id", "label", "path", "root"}}
    {"at", "job": {"id", "kind", "shipment", "disk", "title"}}
    {"at", "state": {"job", "state", "error", "code", "what", "safe", "todo", "verb"}}
    {"at", "event": {"job", "kind", "body"}}
    {"at", "progress": {"job", "step", "done", "total"}}

Its texts are this project's own. No job of it has a process: there is nothing to stop.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from appliance.errors import MotionGearError
from appliance.events import Event, Failed, Progress
from appliance.model import DiskId, JobId, ShipmentId
from appliance.seal.canon import now
from appliance.state import JobState, State
from appliance.tui.watch import Disk

RECORDING = "two-servers.jsonl"
_KINDS = {one.kind: one for one in Event.__subclasses__()}
Line = dict[str, Any]  # as it stands in the file


def recorded() -> list[Line]:
    """The recording that comes with the program."""
    text = files("appliance.tui").joinpath("recordings", RECORDING).read_text()
    return [json.loads(one) for one in text.splitlines()]


def disks_of(lines: list[Line]) -> tuple[Disk, ...]:
    """The disks of the machines that were recorded; there is nothing behind their nodes."""
    return tuple(
        Disk(refusal="", blocked=True, **one) for each in lines for one in each.get("disks", ())
    )


class Player:
    """Plays a recording into ``state``; ``place`` is where its stores are."""

    def __init__(
        self, state: State, place: Path, lines: list[Line], leaving: threading.Event
    ) -> None:
        self._state, self._place, self._lines, self._leaving = state, place, lines, leaving
        self._jobs: dict[int, JobId] = {}  # by their numbers in the recording
        self._lives: dict[JobId, ExitStack] = {}
        self._deeds: Mapping[str, Callable[[Line], None]] = {
            "disks": lambda _: None,
            "file": self._file,
            "shipment": self._shipment,
            "job": self._job,
            "state": self._turned,
            "event": self._event,
            "progress": self._progress,
        }

    def play(self, speed: float = 1.0) -> None:
        """To its end, or until the console is left."""
        began = time.monotonic()
        with ExitStack() as alive:
            alive.callback(self._end)
            for line in self._lines:
                wait = line["at"] / speed - (time.monotonic() - began)
                if self._leaving.wait(max(wait, 0)):
                    return
                with suppress(MotionGearError):  # the console says what is wrong with its database
                    self._play(line)
            self._leaving.wait()

    def _play(self, line: Line) -> None:
        for name, told in line.items():
            if name != "at":
                self._deeds[name](told)

    def _file(self, told: Line) -> None:
        path = self._place / told["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(told["text"])

    def _shipment(self, told: Line) -> None:
        path, root = self._place / told["path"], told["root"]
        (path / "packs").mkdir(parents=True, exist_ok=True)
        self._state.note_shipment(ShipmentId(told["id"]), path, told["label"])
        if root:
            self._state.note_sealed(ShipmentId(told["id"]), root)

    def _job(self, told: Line) -> None:
        shipment = ShipmentId(told["shipment"])
        job = self._state.add_job(
            told["kind"], shipment, told["title"], "{}", now(), DiskId(told["disk"])
        )
        self._jobs[told["id"]] = job
        stack = self._lives[job] = ExitStack()
        stack.enter_context(self._state.living(job))
        self._state.begin_job(job)

    def _turned(self, told: Line) -> None:
        job, turned = self._jobs[told["job"]], JobState(told["state"])
        if turned in {JobState.RUNNING, JobState.PAUSED}:
            self._state.pause_job(job, turned)
            return
        said = {one.name: told[one.name] for one in fields(Failed) if one.name in told}
        failed = Failed(**said) if told["error"] else None
        self._state.end_job(job, turned, now(), failed)
        self._lives.pop(job).close()

    def _event(self, told: Line) -> None:
        kind = _KINDS[told["kind"]]
        body = {name: value for name, value in told["body"].items() if name != "event"}
        self._state.put_event(self._jobs[told["job"]], now(), kind(**body))

    def _progress(self, told: Line) -> None:
        job = self._jobs[told["job"]]
        progress = Progress(told["step"], told["done"], told["total"])
        self._state.put_progress(job, time.time(), progress)

    def _end(self) -> None:
        for one in self._lives.values():
            one.close()
