"""Restore, verify and check as jobs: interrupted, resumed, and lied to between two runs."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from appliance import jobs
from appliance.cloud.local import LocalTarget, LocalVolume
from appliance.errors import (
    BadInputError,
    CheckFailedError,
    PackDamagedError,
    StoppedError,
    StoreRefusedError,
    TargetFullError,
    VolumeMissingError,
)
from appliance.events import Event, Step
from appliance.model import JobId, PackId, VolumeState
from appliance.seal.layout import PackState
from appliance.seal.scan import examine
from appliance.seal.writer import Pace
from appliance.state import JobState
from tests.forge import Forge, block, disk_head, pack_head, point_end, zeros
from tests.media import Bench
from tests.support import BLOCK, OPERATOR, point
from tests.technician import (
    PASSPHRASE,
    Keys,
    Sent,
    Shell,
    disk_id,
    noise,
    restore_spec,
    sealed_disks,
    until,
)

TINY = Pace(pack_size=300 << 10, checkpoint_bytes=1 << 30, checkpoint_seconds=3600)


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    """One disk in some twenty packs."""
    return sealed_disks(tmp_path, TINY, web01=noise(60 * BLOCK) + bytes(9 * BLOCK) + b"end")


@pytest.fixture(autouse=True)
def one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process one pack after the other is read, however many cores there are."""
    for room in ("restore.replay", "seal.verify"):
        monkeypatch.setattr(f"appliance.{room}.readers_for", lambda _: 1)


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / "volumes"


def arrived(sent: Sent, goal: Path) -> bool:
    volumes = {one.name.split("-")[0]: one.read_bytes() for one in goal.glob("*.img")}
    return volumes == sent.disks


def noted(home: Path, table: str) -> int:
    """How many packs the state database knows as done."""
    with closing(sqlite3.connect(home / "state.db")) as db:
        return int(
            db.execute(f"select count(*) from {table} where length(pack) = 32").fetchone()[0]
        )


@contextmanager
def desk(
    shell: Shell, stop: Callable[[], bool] = lambda: False, job: int = 1
) -> Iterator[tuple[jobs.Desk, list[Event]]]:
    """A job's desk in this process, and what is said at it."""
    told: list[Event] = []
    with shell.state() as state:
        yield jobs.Desk(JobId(job), shell.home, state, told.append, stop, OPERATOR), told


def restored(
    operator: Shell, spec: jobs.RestoreSpec, stop: Callable[[], bool] = lambda: False
) -> list[Event]:
    with desk(operator, stop) as (one, told):
        jobs.restore(spec, one)
    return told


def begun(goal: Path) -> bool:
    """Whether anything was written to the volume."""
    return any(one.stat().st_blocks for one in goal.glob("*.img.partial"))


# --- interrupted and resumed --------------------


def test_a_killed_restore_goes_on_behind_the_last_whole_pack(
    operator: Shell, keyring: Keys, sent: Sent, goal: Path
) -> None:
    spec = restore_spec(sent, goal, "1.5MB/s")
    job = operator.start("restore", sent.path, spec, OPERATOR)
    packs = len(sent.packs("web01"))
    until(lambda: 0 < noted(operator.home, "replayed") < packs)
    operator.kill(job)
    done = noted(operator.home, "replayed")
    assert 0 < done < packs
    assert operator.job(job).state is JobState.DIED
    assert [one.name for one in goal.glob("*.img*")] == ["web01-S-7765.img.partial"]

    refused = operator.typed("jobs", "resume", job).refused(BadInputError)
    assert "private key" in refused.err
    with operator.state() as state:
        state.change_job(job, jobs.dump_spec(restore_spec(sent, goal)))
    resume = ("jobs", "resume", job, "--key", keyring.operator, "--json")
    (told,) = operator.typed(*resume, passphrase=PASSPHRASE).fine().results("restore")
    assert told["packs"] == packs - done
    assert arrived(sent, goal)
    assert operator.job(job).state is JobState.FINISHED
    assert not noted(operator.home, "replayed")


def test_a_stopped_restore_is_stopped_and_not_failed(
    operator: Shell, sent: Sent, goal: Path
) -> None:
    job = operator.start("restore", sent.path, restore_spec(sent, goal, "1MB/s"), OPERATOR)
    until(lambda: any(one["step"] == "restore" for one in operator.events(job, "step")))
    operator.typed("jobs", "stop", job).fine()
    row = operator.ended(job)
    assert (row.state, row.code) == (JobState.STOPPED, StoppedError.code)
    assert row.safe == "What is on the volumes stays."
    (info,) = LocalTarget(str(goal)).volumes()
    assert info.state is VolumeState.PARTIAL


def test_a_stopped_verification_reads_only_what_is_left(operator: Shell, sent: Sent) -> None:
    spec = jobs.VerifySpec(str(sent.path), "", "", (), keyed=False)
    total = len(sent.seal.packs)

    def verify(job: int, stop: Callable[[], bool] = lambda: False) -> str:
        with desk(operator, stop, job) as (one, told):
            jobs.verify_store(spec, one)
        return next(one.detail for one in told if isinstance(one, Step))

    with pytest.raises(StoppedError):
        verify(1, lambda: noted(operator.home, "verified") >= 2)
    done = noted(operator.home, "verified")
    assert 2 <= done < total
    # Another verification takes nobody's word for it; the same one goes on.
    assert verify(2) == f"{total} packs"
    assert verify(1) == f"{total - done} packs"
    assert verify(1) == f"{total} packs"


def test_a_damaged_pack_that_was_mended_does_not_vouch_for_the_others(
    operator: Shell, sent: Sent
) -> None:
    one, other = sent.packs("web01")[:2]
    kept = one.read_bytes()
    flip(one, 2 * BLOCK)
    assert one.name in operator.typed("verify", "-s", sent.path).refused(PackDamagedError).err
    one.write_bytes(kept)
    flip(other, 2 * BLOCK)
    assert other.name in operator.typed("verify", "-s", sent.path).refused(PackDamagedError).err


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


# --- the volume, the store and the target at odds --------------------


def test_a_wrong_volume_is_named_tagged_and_repaired(
    operator: Shell, sent: Sent, goal: Path
) -> None:
    restored(operator, restore_spec(sent, goal))
    (volume,) = goal.glob("*.img")
    flip(volume, 3 * BLOCK + 5)
    flip(volume, 65 * BLOCK)  # in a block of zeros, which a fresh volume is spared
    check = ("check", "-s", sent.path, "--to", goal)
    refused = operator.typed(*check).refused(CheckFailedError)
    for named in (
        f"disk {disk_id('web01')}",
        f"block 3 (bytes {3 * BLOCK} to {4 * BLOCK - 1})",
        f"block 65 (bytes {65 * BLOCK} to {66 * BLOCK - 1})",
    ):
        assert named in refused.err
    (info,) = LocalTarget(str(goal)).volumes()
    assert info.state is VolumeState.BAD
    restored(operator, restore_spec(sent, goal))
    assert arrived(sent, goal)
    operator.typed(*check).fine()


def test_a_volume_that_became_shorter_is_named_tagged_and_repaired(
    operator: Shell, sent: Sent, goal: Path
) -> None:
    for checked_first in (True, False):
        restored(operator, restore_spec(sent, goal))
        (volume,) = goal.glob("*.img")
        with volume.open("r+b") as file:
            file.truncate(50 * BLOCK)
        if checked_first:
            check = operator.typed("check", "-s", sent.path, "--to", goal)
            assert "block 50 to 69" in check.refused(CheckFailedError).err
            assert [one.state for one in LocalTarget(str(goal)).volumes()] == [VolumeState.BAD]
        restored(operator, restore_spec(sent, goal))
        assert arrived(sent, goal)


def test_every_volume_is_checked_even_behind_a_wrong_one(
    tmp_path: Path, operator: Shell, goal: Path
) -> None:
    sent = sealed_disks(tmp_path, a=noise(BLOCK), b=noise(BLOCK), c=noise(BLOCK))
    restored(operator, restore_spec(sent, goal))
    for name in ("a", "c"):
        flip(next(goal.glob(f"{name}-*.img")), 0)
    refused = operator.typed("check", "-s", sent.path, "--to", goal).refused(CheckFailedError)
    assert "and 1 more: Volume c-" in refused.err
    states = {info.spec.name[0]: info.state for info in LocalTarget(str(goal)).volumes()}
    assert states == {"a": VolumeState.BAD, "b": VolumeState.CHECKED, "c": VolumeState.BAD}


def test_a_volume_of_unknown_manifest_does_not_hide_the_others(
    tmp_path: Path, operator: Shell, goal: Path
) -> None:
    sent = sealed_disks(tmp_path, a=noise(BLOCK), b=noise(BLOCK))
    restored(operator, restore_spec(sent, goal))
    next(operator.home.glob(f"manifests/*/{disk_id('a')}-0.manifest")).unlink()
    flip(next(goal.glob("b-*.img")), 0)
    refused = operator.typed("check", "-s", sent.path, "--to", goal).refused(BadInputError)
    assert f"The manifest of disk {disk_id('a')} is not known here" in refused.err
    assert "and 1 more: Volume b-" in refused.err
    states = {info.spec.name[0]: info.state for info in LocalTarget(str(goal)).volumes()}
    assert states == {"a": VolumeState.CHECKED, "b": VolumeState.BAD}


def test_a_bad_volume_does_not_make_the_next_run_write_the_others(
    tmp_path: Path, operator: Shell, goal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sealed_disks(tmp_path, a=noise(BLOCK), b=noise(BLOCK))
    honest = LocalVolume.flush

    def spoil(volume: LocalVolume) -> None:
        honest(volume)
        with next(goal.glob("a-*.img.partial")).open("r+b") as file:
            file.write(bytes(512))

    with monkeypatch.context() as plug:
        plug.setattr(LocalVolume, "flush", spoil)
        with pytest.raises(CheckFailedError, match="Volume a-"):
            restored(operator, restore_spec(sent, goal))
    states = {info.spec.name[0]: info.state for info in LocalTarget(str(goal)).volumes()}
    assert states == {"a": VolumeState.BAD, "b": VolumeState.CHECKED}
    told = restored(operator, restore_spec(sent, goal))
    assert Step.said("restore", "{count} packs", count=len(sent.packs("a"))) in told
    assert arrived(sent, goal)


def test_a_half_restored_volume_is_not_called_whole_by_a_check(
    operator: Shell, keyring: Keys, sent: Sent, goal: Path
) -> None:
    with pytest.raises(StoppedError):
        restored(operator, restore_spec(sent, goal), lambda: begun(goal))
    check = ("check", "-s", sent.path, "--to", goal, "--key", keyring.operator)
    refused = operator.typed(*check, passphrase=PASSPHRASE).refused(CheckFailedError)
    assert "was not restored to its end" in refused.err
    assert [one.name for one in goal.glob("*.img*")] == ["web01-S-7765.img.partial"]


def test_a_check_can_be_stopped_between_two_volumes(
    tmp_path: Path, operator: Shell, goal: Path
) -> None:
    sent = sealed_disks(tmp_path, a=noise(BLOCK), b=noise(BLOCK))
    restored(operator, restore_spec(sent, goal))
    spec = jobs.CheckSpec(str(sent.path), "local", str(goal), keyed=False)
    with desk(operator, lambda: True) as (one, _), pytest.raises(StoppedError) as stopped:
        jobs.check(spec, one)
    assert stopped.value.what == "The check was stopped"


def test_a_check_needs_a_manifest_or_a_key(
    operator: Shell, keyring: Keys, device: Shell, sent: Sent, goal: Path
) -> None:
    restored(operator, restore_spec(sent, goal))
    check = ("check", "-s", sent.path, "--to", goal)
    assert "Give --key" in device.typed(*check).refused(BadInputError).err
    keyed = device.typed(*check, "--key", keyring.operator, passphrase=PASSPHRASE).fine()
    assert "Checked: 70 blocks" in keyed.out
    assert "Checked: 70 blocks" in device.typed(*check).fine().out


def test_a_check_where_nothing_was_restored_says_so(
    operator: Shell, sent: Sent, goal: Path
) -> None:
    operator.typed("check", "-s", sent.path, "--to", goal).refused(VolumeMissingError)
    goal.mkdir()
    operator.typed("check", "-s", sent.path, "--to", goal).refused(VolumeMissingError)


def test_a_target_that_runs_full_keeps_the_volume_partial(
    tmp_path: Path, operator: Shell, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(60 * BLOCK))
    goal = bench.tmpfs(tmp_path / "small", "8m")
    (goal / "something else").write_bytes(noise(5 << 20))
    spec = restore_spec(sent, goal)
    with pytest.raises(TargetFullError) as refused:
        restored(operator, spec)
    assert refused.value.safe_now == "Nothing was written."

    (goal / "something else").unlink()
    with pytest.raises(StoppedError):
        restored(operator, spec, lambda: begun(goal))
    (goal / "something else").write_bytes(noise(7 << 20))
    with monkeypatch.context() as plug:
        plug.setattr(LocalTarget, "check", lambda *_: None)  # as if it had filled up later
        with pytest.raises(TargetFullError, match="no room for"):
            restored(operator, spec)
    assert [one.name for one in goal.glob("*.img*")] == ["web01-S-7765.img.partial"]
    (goal / "something else").unlink()
    restored(operator, spec)
    assert arrived(sent, goal)


# --- a store that is exchanged between two runs --------------------


def test_an_exchanged_pack_is_refused_and_no_volume_comes_of_it(
    tmp_path: Path, operator: Shell, keyring: Keys, goal: Path
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(3 * BLOCK))
    exchange(sent, [noise(BLOCK) for _ in range(3)])
    command = ("restore", "-s", sent.path, "--to", goal, "--key", keyring.operator, *sent.pins)
    operator.typed(*command, passphrase=PASSPHRASE).refused(PackDamagedError)
    assert not list(goal.glob("*.img*"))  # its index is not the sealed one: seen before any write
    # A second try does not make it truer.
    operator.typed(*command, passphrase=PASSPHRASE).refused(PackDamagedError)
    assert not list(goal.glob("*.img"))


def exchange(sent: Sent, blocks: list[bytes]) -> None:
    (path,) = sent.packs("web01")
    forge = Forge(sent.store, pack_head(sent.store, disk_id("web01"), pack=path.stem))
    forge.add(*disk_head(point(sent.disks["web01"], disk_id("web01"))))
    for index, data in enumerate(blocks):
        forge.add(*block(index, data))
    forge.add(*point_end(len(blocks), forge.head.pack)).close()


def test_a_whole_volume_does_not_make_an_exchanged_pack_true(
    tmp_path: Path, operator: Shell, goal: Path
) -> None:
    """All packs were replayed and proved; then one is exchanged, and the restore run again."""
    sent = sealed_disks(tmp_path, web01=noise(3 * BLOCK))
    restored(operator, restore_spec(sent, goal))
    (proved,) = operator.home.glob("manifests/*/*.manifest")
    before = proved.read_bytes()
    exchange(sent, [noise(BLOCK) for _ in range(3)])
    with pytest.raises(PackDamagedError):
        restored(operator, restore_spec(sent, goal))
    assert proved.read_bytes() == before
    (volume,) = goal.glob("*.img")
    assert volume.read_bytes() == sent.disks["web01"]  # as it was proved then


def test_a_volume_of_unknown_history_is_restored_once_more(
    operator: Shell, device: Shell, sent: Sent, goal: Path
) -> None:
    """Another console has restored it: here nobody has proved what it should hold."""
    restored(operator, restore_spec(sent, goal))
    told = restored(device, restore_spec(sent, goal))
    assert f"{len(sent.packs('web01'))} packs" in {
        one.detail for one in told if isinstance(one, Step)
    }
    assert arrived(sent, goal)


def test_a_pack_that_was_replayed_is_not_believed_once_it_is_another(
    tmp_path: Path, operator: Shell, goal: Path
) -> None:
    """Exchanged after it was replayed and proved, it says that its blocks are zero: nobody would
    read it again, and the disk would be another.
    """
    words = [b"block %d " % index for index in range(120)]
    data = b"".join((one * BLOCK)[:BLOCK] for one in words)
    sent = sealed_disks(tmp_path, TINY, web01=data)
    with pytest.raises(StoppedError):
        restored(operator, restore_spec(sent, goal), lambda: noted(operator.home, "replayed") > 0)
    with operator.state() as state:
        (volume,) = LocalTarget(str(goal)).volumes()
        done = state.replayed(volume.id)
    path = next(one for one in sent.packs("web01") if one.stem in done)
    honest = path.read_bytes()
    empty(sent, path)
    with pytest.raises(PackDamagedError):
        restored(operator, restore_spec(sent, goal))
    assert not list(goal.glob("*.img"))
    path.write_bytes(honest)
    restored(operator, restore_spec(sent, goal))
    assert arrived(sent, goal)


def empty(sent: Sent, path: Path) -> None:
    """Exchange a pack for one of the same size whose blocks are zero."""
    info = examine(path)
    forge = Forge(sent.store, info.head)
    forge.add(*disk_head(point(sent.disks["web01"], disk_id("web01"))))
    for index in range(info.head.start, info.checkpoint.cursor):
        forge.add(*zeros(index, 1))
    if info.trailer.state is PackState.POINT_END:
        ids = [PackId(one.stem) for one in sent.packs("web01")]
        forge.add(*point_end(len(sent.disks["web01"]) // BLOCK, *ids))
    forge.close(info.trailer.state)
    assert path.stat().st_size == info.size


def test_a_damaged_index_hides_no_other_damage(tmp_path: Path, operator: Shell) -> None:
    store = sealed_disks(tmp_path, web01=noise(3 * BLOCK), db01=noise(3 * BLOCK))
    hit = [store.packs(machine)[0] for machine in ("web01", "db01")]
    for path in hit:
        data = bytearray(path.read_bytes())
        data[-4096 - 100] ^= 1  # in the index, which stands before the trailer
        path.write_bytes(data)
    spec = jobs.VerifySpec(str(store.path), "", "", (), keyed=True)
    with desk(operator) as (one, _), pytest.raises(StoreRefusedError) as refused:
        jobs.verify_store(spec, one)
    assert "is not what was sealed" in refused.value.what
    assert "(and 3 more:" in refused.value.what  # each pack's bytes, each pack's index
