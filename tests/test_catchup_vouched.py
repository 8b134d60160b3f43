"""What the operator has to say of a machine's disks, because nothing else can: that nothing writes
to what cannot be frozen, and which is which where disks have no name of their own.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance import jobs
from appliance.catchup.enrol import Gates
from appliance.catchup.rounds import Figures, Round
from appliance.catchup.wire import Form
from appliance.errors import BadInputError, FreezeLostError, ReplicaUnknownError
from appliance.events import Event, Result, Step
from appliance.ingest import freezing
from appliance.jobs.asked import Asked
from appliance.jobs.catching_up import catch_up
from appliance.jobs.desk import Desk
from appliance.model import JobId
from appliance.state import JobState, State
from tests.line import Machine, TwoEnds, two_ends
from tests.media import Bench, tool
from tests.test_ingest_freezing import AT_ONCE, is_frozen, write_past

MIB = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount and freeze.")


@dataclass
class Job:
    """Catch-up as a job does it, of a machine that may bring new disks."""

    ends: TwoEnds
    machine: Machine
    state: State
    told: list[Event] = field(default_factory=list)
    asked: Asked = field(default_factory=Asked)
    hears: Callable[[Event], None] = lambda _: None

    def run(
        self,
        *disks: tuple[Path, str],
        final: bool = False,
        stopped: bool = False,
        freeze_seconds: float = 60,
        limits: tuple[str, ...] = (),
    ) -> None:
        spec = jobs.CatchUpSpec(
            gate=self.machine.gate.address,
            disks=tuple((str(path), asked) for path, asked in disks),
            limits=limits,
            rounds=1,
            short_seconds=0,
            final=final,
            stopped=stopped,
            freeze_seconds=freeze_seconds,
            patience_seconds=20,
        )
        home = self.machine.home
        asked = self.asked
        catch_up(spec, Desk(JobId(1), home, self.state, self._emit, asked, None, asked))

    def _emit(self, told: Event) -> None:
        self.told.append(told)
        self.hears(told)

    def result(self, kind: str) -> dict[str, object]:
        found = [one for one in self.told if isinstance(one, Result) and one.step == kind]
        return dict(found[-1].figures)

    def disks(self) -> list[str]:
        return [one.spec.disk for one in self.ends.target.volumes()]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with two_ends(tmp_path) as ends:
        machine = ends.invite(new_disks=True)
        Gates(machine.home).note(machine.gate)
        with State(machine.home) as state:
            yield Job(ends, machine, state)


@pytest.fixture
def server(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """A disk with two partitions, the system's and one that knows no freezing, and where that is
    mounted; and the partition itself.
    """
    image = bench.image(48 * MIB, "parted.img")
    tool("sfdisk", image, stdin="label: dos\nstart=2048, size=32768\nsize=32768\n")
    device = bench.loop(image)
    system, firmware = bench.partitions(device)
    for part in (system, firmware):
        tool("mkfs.ext4", "-q", *AT_ONCE["ext4"], part)
    bench.mount(system, bench.place / "system")
    where = bench.mount(firmware, bench.place / "firmware")
    knows_none = where.stat().st_dev

    class Vfat:
        @staticmethod
        def ioctl(fd: int, request: int, argument: int) -> int:
            if os.fstat(fd).st_dev == knows_none:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return fcntl.ioctl(fd, request, argument)

    monkeypatch.setattr(freezing, "fcntl", Vfat)
    return device, where, firmware


def test_what_cannot_be_frozen_is_vouched_for_by_name(
    job: Job, server: tuple[Path, Path, Path]
) -> None:
    device, where, _ = server
    with pytest.raises(BadInputError, match=f"^{where}: ") as told:
        job.run((device, "new"), final=True)
    assert "--stopped" in told.value.todo_now
    assert list(job.ends.target.snapshots()) == []
    job.run((device, "new"), final=True, stopped=True)
    assert job.result("final")["loose"] == [str(where)]
    (kept,) = job.ends.target.snapshots()
    assert kept.spec.form == Form.CRASH_CONSISTENT


def test_a_word_that_is_not_kept_makes_no_point(
    job: Job, server: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, _, firmware = server
    honest = Round.run

    def beside(*args: Any, **more: Any) -> Figures:  # noqa: ANN401 - passed on as they are
        write_past(firmware, 0)
        return honest(*args, **more)

    monkeypatch.setattr(Round, "run", beside)
    with pytest.raises(FreezeLostError, match=f"^{device} was written to"):
        job.run((device, "new"), final=True, stopped=True)
    assert list(job.ends.target.snapshots()) == []


def test_a_device_without_a_name_of_its_own_is_named_each_time(job: Job, bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    device = bench.loop(image)
    job.run((device, "new"))
    (ident,) = job.disks()
    for asked in ("", "new"):
        with pytest.raises(ReplicaUnknownError, match=ident) as told:
            job.run((device, asked))
        assert "--disk SOURCE=DISK" in told.value.todo_now
    job.run((device, ident[:8]))
    assert job.result("round")["blocks"] == 0
    assert job.disks() == [ident]


def test_an_image_file_is_known_by_its_path(job: Job, bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    job.run((image, "new"))
    job.run((image, ""))
    job.run((image, "new"))
    assert len(job.disks()) == 1


def test_a_device_with_a_table_is_known_again(job: Job, bench: Bench) -> None:
    image = bench.image(4 * MIB)
    tool("sfdisk", image, stdin="label: gpt\n")
    device = bench.loop(image)
    job.run((device, "new"))
    job.run((device, ""))
    job.run((device, "new"))
    assert len(job.disks()) == 1


# --- while the source stands still --------------------


@pytest.fixture
def living(bench: Bench) -> tuple[Path, Path]:
    """A disk of random bytes with a file system, and where that is mounted."""
    image = bench.image(48 * MIB)
    tool("mkfs.ext4", "-q", *AT_ONCE["ext4"], image)
    device = bench.loop(image)
    where = bench.mount(device, bench.place / "living")
    (where / "file").write_bytes(os.urandom(24 * MIB))
    return device, where


def test_a_freeze_that_is_lost_ends_the_round_before_all_is_sent(
    job: Job, living: tuple[Path, Path]
) -> None:
    """At this rate the whole round would take a day."""
    device, _ = living
    with pytest.raises(FreezeLostError, match=r"^After .* it was not frozen any more"):
        job.run((device, "new"), final=True, freeze_seconds=0.5, limits=("300",))
    assert list(job.ends.target.snapshots()) == []


def test_so_does_a_write_past_what_is_frozen(job: Job, living: tuple[Path, Path]) -> None:
    device, _ = living

    def write(told: Event) -> None:
        if isinstance(told, Step) and told.step == "send":
            write_past(device, 40 * MIB)

    job.hears = write
    with pytest.raises(FreezeLostError, match=f"^{device} was written to"):
        job.run((device, "new"), final=True, limits=("300",))


def test_a_pause_does_not_hold_the_source_frozen(job: Job, living: tuple[Path, Path]) -> None:
    """The job rests when the round has ended, if there is something left to do then."""
    device, where = living
    rested = list[bool]()

    def moved(now_in: JobState) -> None:
        rested.append(is_frozen(where))
        if now_in is JobState.PAUSED:
            job.asked.go_on()

    def pause(told: Event) -> None:
        if isinstance(told, Step) and told.step in {"freeze", "send"}:
            job.asked.pause()

    job.asked, job.hears = Asked(moved), pause
    job.run((device, "new"), final=True)
    assert job.result("final")["kept"]
    assert rested == []
    assert job.asked() is False  # where it would stop next, it rests
    assert rested == [False, False]
