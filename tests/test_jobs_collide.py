"""Two jobs want the same volume: one has it, the other is told so and harms nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from appliance import jobs
from appliance.cloud.local import LocalTarget, LocalVolume
from appliance.errors import VolumeBusyError
from appliance.events import Emit, Event, Result, silent
from appliance.model import JobId, VolumeSpec, VolumeState
from appliance.state import JobState
from tests.support import BLOCK, OPERATOR
from tests.technician import (
    PASSPHRASE,
    Keys,
    Sent,
    Shell,
    noise,
    restore_spec,
    sealed_disks,
    until,
)


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return sealed_disks(tmp_path, web01=noise(20 * BLOCK))


@contextmanager
def halted(shell: Shell, job: JobId) -> Iterator[None]:
    """The job stands still, with all it holds, however long this takes."""
    pid = shell.pid(job)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_second_restore_to_one_place_is_refused_and_the_first_unharmed(
    operator: Shell, tmp_path: Path, keyring: Keys, sent: Sent
) -> None:
    goal, stranger = tmp_path / "volumes", Shell(tmp_path / "stranger")
    first = operator.start("restore", sent.path, restore_spec(sent, goal, "1MB/s"), OPERATOR)
    until(lambda: any(one.stat().st_blocks for one in goal.glob("*.img.partial")))
    again = ("restore", "-s", sent.path, "--to", goal, "--key", keyring.operator)
    with halted(operator, first):
        for shell in (operator, stranger):  # also one whose database knows nothing of the first
            said = shell.typed(*again, passphrase=PASSPHRASE).refused(VolumeBusyError)
            assert "Another restore or check is at work on volume web01-S-7765" in said.err
            assert "Nothing was written" in said.err
    assert operator.ended(first).state is JobState.FINISHED
    (info,) = LocalTarget(str(goal)).volumes()
    assert info.state is VolumeState.CHECKED
    assert Path(info.location).read_bytes() == sent.disks["web01"]


def test_a_check_of_a_volume_that_another_has_is_refused_and_calls_nothing_bad(
    operator: Shell, tmp_path: Path, sent: Sent
) -> None:
    goal = tmp_path / "volumes"
    job = operator.start("restore", sent.path, restore_spec(sent, goal), OPERATOR)
    assert operator.ended(job).state is JobState.FINISHED
    target = LocalTarget(str(goal))
    (info,) = target.volumes()
    check = ("check", "-s", sent.path, "--to", goal)
    with target.attach(info.spec):
        operator.typed(*check).refused(VolumeBusyError)
    assert list(target.volumes()) == [info]
    operator.typed(*check).fine()


def test_a_volume_that_another_job_finished_meanwhile_is_not_written_again(
    operator: Shell, tmp_path: Path, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal, attach, told = tmp_path / "volumes", LocalTarget.attach, list[Event]()

    def restore(emit: Emit) -> None:
        with operator.state() as state:
            desk = jobs.Desk(JobId(1), operator.home, state, emit, lambda: False, OPERATOR)
            jobs.restore(restore_spec(sent, goal), desk)

    def overtaken(target: LocalTarget, wanted: VolumeSpec) -> AbstractContextManager[LocalVolume]:
        monkeypatch.setattr(LocalTarget, "attach", attach)
        restore(silent)
        return attach(target, wanted)

    monkeypatch.setattr(LocalTarget, "attach", overtaken)
    restore(told.append)
    (replayed,) = [one for one in told if isinstance(one, Result) and one.step == "restore"]
    assert replayed.figures["packs"] == 0
    (info,) = LocalTarget(str(goal)).volumes()
    assert info.state is VolumeState.CHECKED
    assert Path(info.location).read_bytes() == sent.disks["web01"]
