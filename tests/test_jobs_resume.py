"""Verify, restore and check go on where they died, within a pack and within a volume; and believe
no note that is stale.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from appliance import jobs
from appliance.cloud.local import LocalVolume
from appliance.errors import CheckFailedError, PackDamagedError, RootMismatchError, StoppedError
from appliance.events import Event, Progress
from appliance.jobs.desk import Desk
from appliance.model import JobId
from appliance.rate import Due, Interval
from appliance.restore import check
from appliance.seal.layout import Entry
from appliance.seal.scan import PackReader, Record, _Slot, examine
from appliance.seal.writer import Pace
from appliance.state import JobState, Reached
from tests.support import BLOCK, OPERATOR
from tests.technician import Sent, Shell, ingest_spec, noise, sealed_disks, until

BLOCKS = 200
OFTEN = 4 * BLOCK  # bytes between two notes
ONE_PACK = Pace(pack_size=1 << 30, checkpoint_bytes=1 << 30, checkpoint_seconds=3600)


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    """A disk in one pack."""
    return sealed_disks(tmp_path, ONE_PACK, web01=noise(BLOCKS * BLOCK))


def pack_of(sent: Sent) -> Path:
    return max(sent.path.glob("packs/*.pack"), key=lambda one: one.stat().st_size)


class Cut:
    """A stop flag that is raised once so many bytes were done of a step, or when it was looked at
    so many times.
    """

    def __init__(self, step: str, at: int, looks: int = 1 << 60) -> None:
        self.step, self.at, self.hit, self.looks = step, at, False, looks
        self.told: list[Event] = []

    def emit(self, event: Event) -> None:
        self.told.append(event)
        if isinstance(event, Progress) and event.step == self.step and event.done >= self.at:
            self.hit = True

    def __call__(self) -> bool:
        self.looks -= 1
        return self.hit or self.looks < 0


@contextmanager
def desk(shell: Shell, cut: Cut | None = None, job: int = 1) -> Iterator[Desk]:
    end = cut or Cut("", 0)
    with shell.state() as state:
        yield Desk(
            JobId(job), shell.home, state, end.emit, end, OPERATOR, interval=Interval(OFTEN, 3600)
        )


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[int]:
    """Which offsets a method is called with from now on."""
    seen: list[int] = []
    real: Callable[..., object] = getattr(owner, name)

    def look(self: object, *args: object, **more: object) -> object:
        seen.append(next(one for one in args if isinstance(one, int)))
        return real(self, *args, **more)

    monkeypatch.setattr(owner, name, look)
    return seen


def restore_spec(sent: Sent, goal: Path, *limits: str) -> jobs.RestoreSpec:
    spec = jobs.RestoreSpec(str(sent.path), "local", str(goal), (), "", "", (), limits)
    return replace(spec, checkpoint_bytes=OFTEN)


def verify_spec(sent: Sent, *, keyed: bool = True) -> jobs.VerifySpec:
    return jobs.VerifySpec(str(sent.path), "", "", (), keyed=keyed)


# --- how often --------------------


def test_it_is_time_after_so_many_bytes_or_seconds() -> None:
    now = [0.0]
    due = Due(Interval(100, 10), lambda: now[0])
    assert [due.after(60) for _ in range(4)] == [False, True, False, True]
    now[0] = 9.9
    assert not due.after(1)
    now[0] = 10.0
    assert due.after(0)
    assert not due.after(99)


# --- restore --------------------


def test_a_killed_restore_goes_on_within_its_pack(
    tmp_path: Path, operator: Shell, sent: Sent
) -> None:
    goal = tmp_path / "goal"
    job = operator.start("restore", sent.path, restore_spec(sent, goal, "2MB/s"), OPERATOR)
    pack = pack_of(sent)
    with operator.state() as state:
        volume = ""

        def noted() -> Reached | None:
            found = state._tables.read("select task, at from reached", ())  # noqa: SLF001
            nonlocal volume
            volume = found[0][0] if found else ""
            return state.reached(volume, pack.stem) if found else None

        until(lambda: (one := noted()) is not None and one.at > 20)
        operator.kill(job)
        at = noted()
        assert at is not None
        assert 20 < at.at < BLOCKS
        state.change_job(job, jobs.dump_spec(restore_spec(sent, goal)))
    assert operator.job(job).state is JobState.DIED
    with desk(operator) as one:
        jobs.run(operator.job(job), one)
    assert isinstance(one.stop, Cut)
    (figures,) = [
        dict(event.figures)  # type: ignore[attr-defined]
        for event in one.stop.told
        if event.kind == "result" and event.step == "restore"  # type: ignore[attr-defined]
    ]
    whole = sum(info.stat().st_size for info in sent.path.glob("packs/*.pack"))
    assert figures["bytes_read"] < whole - (at.at - 2) * BLOCK  # nothing before the note
    assert figures["bytes_written"] == (BLOCKS - at.at + 1) * BLOCK
    (made,) = goal.glob("*.img")
    assert made.read_bytes() == sent.disks["web01"]


def test_a_stopped_restore_repeats_nothing(tmp_path: Path, operator: Shell, sent: Sent) -> None:
    goal = tmp_path / "goal"
    cut = Cut("restore", 50 * BLOCK)
    with desk(operator, cut) as one, pytest.raises(StoppedError):
        jobs.restore(restore_spec(sent, goal), one)
    written = max(one.stored for one in cut.told if isinstance(one, Progress))
    rest = Cut("", 0)
    with desk(operator, rest) as one:
        jobs.restore(restore_spec(sent, goal), one)
    again = max(
        one.stored for one in rest.told if isinstance(one, Progress) and one.step == "restore"
    )
    assert written + again == BLOCKS * BLOCK
    (made,) = goal.glob("*.img")
    assert made.read_bytes() == sent.disks["web01"]


def test_a_volume_that_was_made_anew_is_written_from_the_first_block(
    tmp_path: Path, operator: Shell, sent: Sent
) -> None:
    """What is noted is noted of a volume that is gone."""
    goal = tmp_path / "goal"
    with desk(operator, Cut("restore", 50 * BLOCK)) as one, pytest.raises(StoppedError):
        jobs.restore(restore_spec(sent, goal), one)
    for left in goal.iterdir():
        left.unlink()
    with desk(operator) as one:
        jobs.restore(restore_spec(sent, goal), one)
    (made,) = goal.glob("*.img")
    assert made.read_bytes() == sent.disks["web01"]


# --- verify --------------------


def test_a_verification_with_a_key_goes_on_within_its_pack(
    operator: Shell, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desk(operator, Cut("open", 100 * BLOCK)) as one, pytest.raises(StoppedError):
        jobs.verify_store(verify_spec(sent), one)
    seen: list[int] = []
    real = PackReader._open_as  # noqa: SLF001

    def look(self: PackReader, entry: Entry, frame: memoryview, slot: _Slot) -> Record:
        if len(entries_of(self.path)) > 1:  # not the contents
            seen.append(entry.number)
        return real(self, entry, frame, slot)

    monkeypatch.setattr(PackReader, "_open_as", look)
    with desk(operator) as one:
        jobs.verify_store(verify_spec(sent), one)
    assert seen[:2] == [0, BLOCKS + 1]  # what the disk is, and its end: its map is made first
    assert 90 < min(seen[2:]) <= 101
    assert sorted(seen[2:]) == list(range(min(seen[2:]), BLOCKS + 2))


def entries_of(pack: Path) -> range:
    return range(examine(pack).trailer.records)


@pytest.mark.parametrize("keyed", [False, True])
def test_a_pack_that_changed_since_it_was_read_is_read_again(
    operator: Shell, sent: Sent, *, keyed: bool
) -> None:
    """Its size and times are put back, as far as that can be done: the inode tells."""
    step = "open" if keyed else "verify"
    at = 100 * BLOCK if keyed else (BLOCKS + 1) * BLOCK
    with desk(operator, Cut(step, at)) as one:
        with suppress(StoppedError):
            jobs.verify_store(verify_spec(sent, keyed=keyed), one)
        run = f"{sent.seal.root().hex()} in job 1"
        one.state.note_verified(run, pack_of(sent).stem, "1:2:3")  # type: ignore[arg-type]
    pack = pack_of(sent)
    was = pack.stat()
    with pack.open("r+b") as file:
        file.seek(30 * BLOCK)
        file.write(b"\0" * 8)
    os.utime(pack, ns=(was.st_atime_ns, was.st_mtime_ns))
    with desk(operator) as one, pytest.raises(PackDamagedError):
        jobs.verify_store(verify_spec(sent, keyed=keyed), one)


def test_another_verification_reads_all_of_it(operator: Shell, sent: Sent) -> None:
    with desk(operator, Cut("open", 100 * BLOCK)) as one, pytest.raises(StoppedError):
        jobs.verify_store(verify_spec(sent), one)
    cut = Cut("", 0)
    with desk(operator, cut, job=2) as one:
        jobs.verify_store(verify_spec(sent), one)
    steps = [event for event in cut.told if event.kind == "step"]
    assert "2 packs" in str(steps[0])


# --- check --------------------


@pytest.fixture
def restored(tmp_path: Path, operator: Shell, sent: Sent) -> Path:
    goal = tmp_path / "goal"
    with desk(operator) as one:
        jobs.restore(restore_spec(sent, goal), one)
    (made,) = goal.glob("*.img")
    return made


def check_spec(sent: Sent, volume: Path) -> jobs.CheckSpec:
    return jobs.CheckSpec(str(sent.path), "local", str(volume.parent), keyed=False)


def half_checked(operator: Shell, sent: Sent, volume: Path) -> None:
    """Stopped at its 16th batch of four blocks."""
    with (
        patch.object(check, "_BATCH", 4),
        desk(operator, Cut("", 0, looks=15), job=2) as one,
        pytest.raises(StoppedError),
    ):
        jobs.check(check_spec(sent, volume), one)


def test_a_check_goes_on_where_it_died(
    operator: Shell, sent: Sent, restored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_checked(operator, sent, restored)
    reads = counted(monkeypatch, LocalVolume, "pread")
    with desk(operator, job=2) as one:
        jobs.check(check_spec(sent, restored), one)
    assert 10 * 4 * BLOCK <= min(reads) <= 15 * 4 * BLOCK  # batches end in any order
    assert len(reads) == BLOCKS - min(reads) // BLOCK
    reads.clear()
    with desk(operator, job=2) as one:  # it is over: asked again it reads everything
        jobs.check(check_spec(sent, restored), one)
    assert len(reads) == BLOCKS


def test_what_a_check_found_wrong_before_it_died_stays_wrong(
    operator: Shell, sent: Sent, restored: Path
) -> None:
    with restored.open("r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"rot")
    half_checked(operator, sent, restored)
    with desk(operator, job=2) as one, pytest.raises(CheckFailedError, match="block 3 "):
        jobs.check(check_spec(sent, restored), one)


def test_a_volume_that_was_written_to_since_is_checked_anew(
    operator: Shell, sent: Sent, restored: Path
) -> None:
    half_checked(operator, sent, restored)
    was = restored.stat()
    with restored.open("r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"rot")
    os.utime(restored, ns=(was.st_atime_ns, was.st_mtime_ns))
    with desk(operator, job=2) as one, pytest.raises(CheckFailedError, match="block 3 "):
        jobs.check(check_spec(sent, restored), one)


# --- another shipment than the job began with --------------------


@pytest.mark.parametrize("kind", ["verify", "restore", "check", "seal", "ingest"])
def test_a_job_does_not_go_on_with_another_shipment(
    tmp_path: Path, operator: Shell, sent: Sent, kind: str
) -> None:
    goal = tmp_path / "goal"
    specs: dict[str, jobs.Spec] = {
        "verify": verify_spec(sent, keyed=False),
        "restore": restore_spec(sent, goal),
        "check": jobs.CheckSpec(str(sent.path), "local", str(goal), keyed=False),
        "seal": jobs.SealSpec(str(sent.path), (), ""),
        "ingest": ingest_spec(sent.path, tmp_path / "web01.img"),
    }
    with operator.state() as state:
        spec = jobs.dump_spec(specs[kind])
        job = state.add_job(kind, sent.store.head.shipment, kind, spec, "then")
        state.end_job(job, JobState.STOPPED, "then")
    sent.path.rename(tmp_path / "away")
    sealed_disks(tmp_path, web02=noise(BLOCK))
    refused = operator.run("jobs", "resume", job).refused(RootMismatchError)
    assert f"another shipment than job {job} began with" in refused.err
    assert f"Type:  motiongear shipment show --store {sent.path}" in refused.err
    assert not goal.exists()
