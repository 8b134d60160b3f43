"""The demo's second half: the servers go on living, and their replicas follow over the line."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

from appliance import jobs, process, shown
from appliance.catchup import rounds
from appliance.catchup.enrol import Gates, Registry
from appliance.catchup.gate import identity_of
from appliance.catchup.link import Address
from appliance.catchup.points import points_of
from appliance.cli import work
from appliance.cli.demo_report import Report
from appliance.cli.demo_sources import MIB, Made, living
from appliance.cli.show import translated as _
from appliance.events import Json
from appliance.language import marked
from appliance.model import JobId, Snapshots
from appliance.state import ENDED, State

_PAUSE_SECONDS = 0.05
_FILES = 24


class DemoLine:
    """A gate at the destination, and a sender on each server."""

    def __init__(
        self, base: Path, report: Report, stack: ExitStack, operator: State, disks: list[Made]
    ) -> None:
        self._base, self._report, self._stack = base, report, stack
        self._operator, self._disks = operator, disks
        self._states: dict[str, State] = {}
        self._address = ""

    def run(self) -> None:
        self._open()
        with ExitStack() as held:
            nodes = {one.machine: held.enter_context(living(one)) for one in self._disks}
            with writing(self._disks):
                self._round(marked("round 1, while both servers go on writing"), nodes)
            self._round(marked("round 2"), nodes)
            with writing(self._disks):
                self._frozen(nodes)
        self._last()

    def _open(self) -> None:
        """A code for each server, typed in there."""
        with self._report.step(marked("open the gate, enrol both servers")) as told:
            place = str(self._base / "volumes")
            spec = jobs.GateSpec("local", place, "127.0.0.1:0", 8)
            job = process.begin(self._operator, "gate", jobs.NOBODYS, spec.listen, spec)
            self._stack.callback(stop, self._operator, job)
            self._address = listening(self._operator, job)
            registry, key = Registry(self._operator.home), identity_of(self._operator.home).key
            for one in self._disks:
                home = self._base / f"{one.machine}-home"
                home.mkdir(mode=0o700)
                self._states[one.machine] = self._stack.enter_context(State(home))
                code, _invited = registry.invite(key, one.machine, timedelta(hours=1))
                enrolled = rounds.enrol(home, Address.parse(self._address), code)
                Gates(home).note(enrolled)
            fingerprint = f"{identity_of(self._operator.home).fingerprint[:14]}..."
            told(0, _("gate {fingerprint}, TLS 1.3").format(fingerprint=fingerprint))

    def _spec(self, made: Made, source: str, *, final: bool, stopped: bool) -> jobs.CatchUpSpec:
        return jobs.CatchUpSpec(
            gate=self._address,
            disks=((source, made.disk),),
            limits=(),
            rounds=1,
            short_seconds=0,
            final=final,
            stopped=stopped,
            freeze_seconds=60,
            patience_seconds=30,
        )

    def _sent(
        self, sources: Mapping[str, str], *, final: bool = False, stopped: bool = False
    ) -> list[dict[str, Json]]:
        """A round of each server, side by side; their figures."""

        def one(made: Made) -> dict[str, Json]:
            state = self._states[made.machine]
            spec = self._spec(made, sources[made.machine], final=final, stopped=stopped)
            job = process.begin(state, "catch-up", jobs.NOBODYS, made.machine, spec)
            work.watch(state, job, as_lines=self._report.as_lines, name=made.machine)
            told = work.figures(state, job, "round")
            return {**told, **(work.figures(state, job, "final") if final else {})}

        with ThreadPoolExecutor(len(self._disks)) as pool:
            return list(pool.map(one, self._disks))

    def _round(self, name: str, nodes: Mapping[str, str]) -> None:
        with self._report.step(name) as told:
            found = self._sent(nodes)
            lag = max(cast("float", one["seconds"]) for one in found)
            result = _("{cost}; lag {seconds} s").format(cost=_cost(found), seconds=f"{lag:.1f}")
            told(_sum(found, "read"), result)

    def _frozen(self, nodes: Mapping[str, str]) -> None:
        """A rehearsal: the servers stand still for a moment, and then go on."""
        with self._report.step(marked("freeze, round 3: a point that can be booted")) as told:
            found = self._sent(nodes, final=True)
            target = cast("Snapshots", jobs.target_for("local", str(self._base / "volumes")))
            points = [one for one in points_of(target.snapshots()) if one.complete]
            held = max(cast("float", one["downtime"]) for one in found)
            told(
                _sum(found, "read"),
                _("{cost}; writes stood still {seconds} s; {count} points kept").format(
                    cost=_cost(found), seconds=f"{held:.1f}", count=len(points)
                ),
            )

    def _last(self) -> None:
        """The cut-over: the servers are shut down, and what they wrote last follows."""
        images = {one.machine: str(one.image) for one in self._disks}
        with self._report.step(marked("servers stopped, last round")) as told:
            found = self._sent(images, final=True, stopped=True)
            down = max(cast("float", one["seconds"]) for one in found)
            result = _("{cost}; roots equal; downtime {seconds} s")
            told(_sum(found, "read"), result.format(cost=_cost(found), seconds=f"{down:.1f}"))


def _sum(found: list[dict[str, Json]], name: str) -> int:
    return sum(cast("int", one[name]) for one in found)


def _cost(found: list[dict[str, Json]]) -> str:
    changed, sent = (shown.size(_sum(found, one)) for one in ("changed", "sent"))
    return _("{changed} changed, {sent} sent").format(changed=changed, sent=sent)


def listening(state: State, job: JobId) -> str:
    """The address on which a gate that was just started listens."""
    for told in process.follow(state, job):
        body = getattr(told, "body", {})
        if body.get("step") == "listen":
            return str(body["detail"])
    work.watch(state, job, as_lines=False)  # it ended: say why
    raise AssertionError


def stop(state: State, job: JobId) -> None:
    """Stop a job and wait until it has ended."""
    process.stop(state, job)
    for _told in process.follow(state, job):
        pass
    assert state.job(job).state in ENDED


@contextmanager
def writing(disks: list[Made]) -> Iterator[None]:
    """Files of every disk change for as long as this lasts."""
    ended = threading.Event()
    threads = [threading.Thread(target=_write, args=(one.place, ended.is_set)) for one in disks]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        ended.set()
        for one in threads:
            one.join()


def _write(place: Path, ended: Callable[[], bool]) -> None:
    """A server at work: a log that grows, and files that are written anew."""
    folder = place / "var" / "lib" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    turn = 0
    pause = threading.Event()
    while not ended():
        turn += 1
        with (folder / f"file-{turn % _FILES}").open("wb") as file:
            file.write(os.urandom(MIB // 2))
            file.flush()
            os.fsync(file.fileno())
        with (folder / "log").open("a") as log:
            log.write(f"turn {turn}\n" * 100)
        pause.wait(_PAUSE_SECONDS)
