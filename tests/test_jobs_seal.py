"""Sealing as a job: what it forgets, and how it ends when it was killed at the worst moment."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance import jobs
from appliance.errors import AlreadySealedError, StateError
from appliance.events import Event, Json, Result
from appliance.model import JobId
from appliance.seal import canon, sealing, statement, verify
from appliance.seal.identity import Device
from appliance.seal.papers import write_disk_head
from appliance.seal.statement import Seal
from appliance.seal.store import Store
from appliance.state import JobState, SourceRow, State
from tests.support import PowerCutError, new_store, point, put_blocks, sample_bytes, seal_it
from tests.technician import Shell

# Killed behind its signature, before anything else is told or forgotten.
_DIES = """
import os, signal, sys
from pathlib import Path
from appliance import process
from appliance.model import JobId
from appliance.state import State
State.note_sealed = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
process.main(Path(sys.argv[1]), JobId(int(sys.argv[2])))
"""


@dataclass
class Dock:
    """A device with one disk ingested, whose facts the database knows."""

    store: Store
    device: Device
    shell: Shell

    @property
    def spec(self) -> jobs.SealSpec:
        return jobs.SealSpec(str(self.store.path), (), "a test")

    @property
    def seal(self) -> Seal:
        return statement.read(self.store.path)

    def add(self) -> JobId:
        with self.shell.state() as state:
            shipment = self.store.head.shipment
            return state.add_job("seal", shipment, "seal", jobs.dump_spec(self.spec), canon.now())

    def run(self, job: int) -> list[Result]:
        """The job in this process; returns what it ended with."""
        told: list[Event] = []
        with self.shell.state() as state:
            desk = jobs.Desk(JobId(job), self.shell.home, state, told.append, lambda: False, None)
            jobs.seal(self.spec, desk)
        return [one for one in told if isinstance(one, Result)]

    def cut(self, monkeypatch: pytest.MonkeyPatch, job: int = 1) -> Seal:
        """A job that loses its power behind its signature; what it signed."""

        def dies(*_: object) -> None:
            raise PowerCutError

        with monkeypatch.context() as plug:
            plug.setattr(State, "note_sealed", dies)
            with pytest.raises(PowerCutError):
                self.run(job)
        return self.seal

    def knows(self) -> int:
        with self.shell.state() as state:
            return len(state.sources(self.store.head.shipment))


@pytest.fixture
def dock(tmp_path: Path) -> Dock:
    store, device = new_store(tmp_path)
    data = sample_bytes()
    spec = point(data)
    put_blocks(store, data, spec)
    shell = Shell(tmp_path / "home")
    with shell.state() as state:
        facts = canon.dump(write_disk_head(spec)).decode()
        state.note_source(store.head.shipment, SourceRow(spec.disk, 0, facts, bytes(32)))
    return Dock(store, device, shell)


def test_sealing_again_is_refused_and_forgets_what_a_killed_sealing_left(dock: Dock) -> None:
    seal_it(dock.store, dock.device)
    assert dock.knows()
    with pytest.raises(AlreadySealedError):
        dock.run(1)
    assert not dock.knows()


def test_a_job_killed_behind_its_signature_is_resumed_and_ends_as_it_would_have(
    dock: Dock,
) -> None:
    job = dock.add()
    with dock.shell.state() as state:
        home = str(state.home)
    died = subprocess.run(
        [sys.executable, "-c", _DIES, home, str(job)], stdin=subprocess.DEVNULL, check=False
    )
    assert died.returncode == -9
    made = dock.seal
    assert dock.knows()
    assert dock.shell.job(job).state is JobState.DIED
    told = dock.shell.run("jobs", "resume", job, "--json").fine()
    (figures,) = told.results("seal")
    assert (figures["root"], figures["sequence"]) == (made.root().hex(), made.sequence)
    assert figures["packs"] == len(made.packs)
    assert dock.shell.job(job).state is JobState.FINISHED
    assert dock.seal == made
    assert not dock.knows()
    assert verify.verify(verify.inspect(dock.store.path, verify.Pins())).problems == []
    typed = dock.shell.run("seal", "-s", dock.store.path, "--waive", "a test")
    typed.refused(AlreadySealedError)


def test_it_tells_what_the_first_run_would_have_told(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Json]] = []
    honest = sealing._told  # noqa: SLF001

    def listened(made: Seal) -> dict[str, Json]:
        told.append(honest(made))
        return told[-1]

    monkeypatch.setattr(sealing, "_told", listened)
    made = dock.cut(monkeypatch)
    dock.run(1)
    first, again = told
    assert first == again
    assert first["root"] == made.root().hex()


def test_it_ends_as_often_as_it_is_asked(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dock.cut(monkeypatch)
    for _ in range(2):
        (told,) = dock.run(1)
        assert told.figures["root"] == made.root().hex()
    assert dock.device.counter().sequence == made.sequence == 1


def test_the_seal_of_another_job_is_none_of_its_own(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.cut(monkeypatch)
    with pytest.raises(AlreadySealedError):
        dock.run(2)


def test_nor_is_one_that_the_device_made_when_the_job_had_not_come_so_far(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off between its note and its seal; another has sealed since."""

    def dies(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as plug:
        plug.setattr(Device, "count", dies)
        with pytest.raises(PowerCutError):
            dock.run(1)
    assert not dock.store.sealed
    dock.run(2)
    with pytest.raises(AlreadySealedError):
        dock.run(1)
    (told,) = dock.run(2)
    assert told.figures["root"] == dock.seal.root().hex()


def test_a_note_that_cannot_be_made_keeps_nobody_from_sealing(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StateError("no room")

    with monkeypatch.context() as plug:
        plug.setattr(State, "note_reached", full)
        dock.cut(plug)
    with pytest.raises(AlreadySealedError):
        dock.run(1)
    assert not dock.knows()
