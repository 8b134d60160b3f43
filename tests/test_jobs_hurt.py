"""A damaged store, restored all the same: what its packs do not prove is unknown, and the first
round sends it. Down to the last act: a real gate, a real sender, and the volume is the source.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance import jobs
from appliance.block import PAGE
from appliance.catchup.rounds import Figures
from appliance.cloud.local import LocalTarget, LocalVolume
from appliance.errors import (
    CheckFailedError,
    PackDamagedError,
    PackMissingError,
    RecordDamagedError,
    RestoredHurtError,
    StoppedError,
    StoreRefusedError,
    TargetWriteError,
    VolumeForeignError,
)
from appliance.events import Event, Result, Step
from appliance.jobs.checking import check_replicas
from appliance.model import DiskId, PackId, VolumeInfo, VolumeState
from appliance.seal.layout import CONTEXT_SIZE, WRAP, Kind, PackState
from appliance.seal.manifest import Manifest, State
from appliance.seal.proved import Proved
from appliance.seal.scan import PackReader, examine
from tests.forge import Forge, block, disk_head, point_end
from tests.line import part, two_ends
from tests.support import (
    BLOCK,
    OPERATOR,
    FakeWitness,
    MemoryDisk,
    PowerCutError,
    new_store,
    point,
    put_blocks,
    seal_it,
)
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
from tests.test_jobs_restore import TINY, desk, flip, noted

DISK = disk_id("web01")


@dataclass
class Yard:
    """The destination: a shipment that has arrived, and the gate's home, which restores it."""

    place: Path
    sent: Sent
    shell: Shell

    @property
    def goal(self) -> Path:
        return self.place / "volumes"

    @property
    def data(self) -> bytes:
        return self.sent.disks["web01"]

    @property
    def packs(self) -> list[Path]:
        return self.sent.packs("web01")

    @property
    def volume(self) -> VolumeInfo:
        (found,) = LocalTarget(str(self.goal)).volumes()
        return found

    def restore(
        self, stop: Callable[[], bool] = lambda: False, *, accept: bool = True
    ) -> list[Event]:
        spec = replace(restore_spec(self.sent, self.goal), accept_damage=accept)
        with desk(self.shell, stop) as (one, told):
            jobs.restore(spec, one)
        return told

    def hurt(self) -> RestoredHurtError:
        with pytest.raises(RestoredHurtError) as refused:
            self.restore()
        assert self.volume.state is VolumeState.HURT
        assert self.volume.location.endswith(".img.partial")
        return refused.value

    def known(self) -> Manifest:
        home, info = self.shell.home, self.volume
        return Proved(home, info.spec.origin, info.id).manifest(DISK, 0)

    def unknown(self) -> list[int]:
        """The blocks nobody knows; all others are what the source held, and on the volume."""
        manifest, held = self.known(), Path(self.volume.location).read_bytes()
        found = [at for at in range(manifest.blocks) if manifest[at][1] is State.UNKNOWN]
        assert all(manifest[at][0] == bytes(32) for at in found)
        for at in set(range(manifest.blocks)) - set(found):
            where = slice(at * BLOCK, (at + 1) * BLOCK)
            assert held[where] == self.data[where]
        return found

    def caught_up(self) -> Figures:
        """The first round from the source as it was; afterwards the volume is the source."""
        with two_ends(self.place) as ends:
            source = part(MemoryDisk(self.data), ends.held(DISK).told())
            told = ends.invite().round(source)
            assert ends.content(DISK) == self.data
            assert ends.held(DISK).info.state is VolumeState.REPLICA
        return told


def range_of(path: Path) -> list[int]:
    """The blocks that a pack tells of."""
    info = examine(path)
    return list(range(info.head.start, info.checkpoint.cursor))


def offset_of(path: Path, index: int) -> int:
    """Where in the pack the record of a block stands."""
    info = examine(path)
    with PackReader(path, OPERATOR) as reader:
        return next(
            one.offset
            for one in reader.entries(info)
            if one.head.kind is Kind.BLOCK and one.head.index == index
        )


def damage_record(path: Path, index: int) -> None:
    flip(path, offset_of(path, index) + 1000)


def damage_index(path: Path) -> None:
    flip(path, examine(path).trailer.index_offset + 50)


def exchange(yard: Yard, path: Path, blocks: Sequence[bytes]) -> None:
    """Put a pack of the same look in its place: public keys are enough to make it."""
    info = examine(path)
    forge = Forge(yard.sent.store, info.head)
    forge.add(*disk_head(point(yard.data, DISK)))
    for index, data in zip(range_of(path), blocks, strict=True):
        forge.add(*block(index, data))
    if info.trailer.state is PackState.POINT_END:
        forge.add(*point_end(len(yard.data) // BLOCK, *[PackId(one.stem) for one in yard.packs]))
    forge.close(info.trailer.state)
    assert examine(path).size == info.size


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Twenty-four blocks of noise, of which block 5 stands at the end once more, and zeros; in
    some seven packs.
    """
    data = noise(24 * BLOCK)
    data += bytes(3 * BLOCK) + noise(BLOCK) + data[5 * BLOCK : 6 * BLOCK] + noise(BLOCK)
    shell = Shell(tmp_path / "gate")
    yield Yard(tmp_path, sealed_disks(tmp_path, TINY, web01=data), shell)
    shell.stop_all()


AGAIN = 28  # the block that is block 5 once more


def pack_with(yard: Yard, index: int) -> Path:
    return next(one for one in yard.packs if index in range_of(one))


# --- what each kind of damage costs --------------------


def test_of_a_damaged_pack_only_what_is_lost_goes_over_the_line(yard: Yard) -> None:
    """The seal vouches for its index, and the index for every record that opens."""
    damage_record(pack_with(yard, 10), 10)
    said = yard.hurt()
    assert f"1 of the 30 blocks of disk {DISK}" in said.what
    assert yard.unknown() == [10]
    told = yard.caught_up()
    assert told.blocks == 1
    assert told.changed == BLOCK


@pytest.mark.parametrize("place", ["wrap", "checkpoint", "trailer"])
def test_damage_between_the_records_costs_no_block(yard: Yard, place: str) -> None:
    """The other recipient's wrap; a guard; the digest for whoever has no seal."""
    path = pack_with(yard, 10)
    info = examine(path)
    at = {
        "wrap": CONTEXT_SIZE + 32 + WRAP + 500,
        "checkpoint": info.trailer.checkpoint_offset + 60,
        "trailer": info.size - PAGE + 45,
    }[place]
    flip(path, at)
    assert "0 of the 30 blocks" in yard.hurt().what
    assert yard.unknown() == []
    assert yard.caught_up().blocks == 0


def test_a_repeat_of_a_block_is_proved_by_the_pack_that_repeats_it(yard: Yard) -> None:
    path = pack_with(yard, 5)
    other = next(one for one in range_of(path) if one != 5)
    damage_record(path, other)
    yard.hurt()
    assert yard.unknown() == [other]
    assert yard.caught_up().blocks == 1


def test_a_repeat_of_a_block_that_is_lost_is_lost_too(yard: Yard) -> None:
    path = pack_with(yard, 5)
    damage_record(path, 5)
    yard.hurt()
    assert yard.unknown() == [5, AGAIN]
    told = yard.caught_up()
    assert told.blocks == 2
    assert told.changed == 2 * BLOCK


def test_a_pack_with_a_damaged_index_is_lost_and_what_refers_to_it(yard: Yard) -> None:
    path = pack_with(yard, 5)
    damage_index(path)
    yard.hurt()
    assert yard.unknown() == [*range_of(path), AGAIN]
    told = yard.caught_up()
    assert told.blocks == len(range_of(path)) + 1
    assert told.changed == told.blocks * BLOCK


@pytest.mark.parametrize("place", [0, -1])
def test_first_and_last_pack_may_be_the_lost_ones(yard: Yard, place: int) -> None:
    damage_index(path := yard.packs[place])
    yard.hurt()
    assert set(range_of(path)) <= set(yard.unknown())
    assert yard.caught_up().blocks == len(range_of(path)) + (place == 0 and 5 in range_of(path))


def test_neighbours_are_lost_together(yard: Yard) -> None:
    for path in yard.packs[2:4]:
        damage_index(path)
    yard.hurt()
    assert yard.unknown() == [*range_of(yard.packs[2]), *range_of(yard.packs[3])]
    assert yard.caught_up().blocks == len(range_of(yard.packs[2]) + range_of(yard.packs[3]))


def test_nothing_of_an_exchanged_pack_is_believed(yard: Yard) -> None:
    path = pack_with(yard, 10)
    exchange(yard, path, [noise(BLOCK) for _ in range_of(path)])
    yard.hurt()
    assert yard.unknown() == range_of(path)
    told = yard.caught_up()
    assert told.blocks == len(range_of(path))
    assert told.changed == told.blocks * BLOCK


def test_nor_when_the_enemy_has_damaged_one_record_of_it(yard: Yard) -> None:
    """It looks like an accident, and the other records open."""
    path = pack_with(yard, 10)
    exchange(yard, path, [noise(BLOCK) for _ in range_of(path)])
    damage_record(path, 10)
    yard.hurt()
    assert yard.unknown() == range_of(path)
    yard.caught_up()


def test_an_exchanged_first_pack_does_not_name_the_disk(yard: Yard) -> None:
    """What the contents pack tells of it was sealed."""
    path, info = yard.packs[0], examine(yard.packs[0])
    forge = Forge(yard.sent.store, info.head)
    spec = point(yard.data, DISK)
    forge.add(*disk_head(replace(spec, machine="evil1")))
    for index in range_of(path):
        forge.add(*block(index, noise(BLOCK)))
    forge.close(info.trailer.state)
    yard.hurt()
    proved = Proved(yard.shell.home, yard.volume.spec.origin, yard.volume.id)
    assert proved.spec(DISK, 0).machine == "web01"
    assert yard.volume.spec.name.startswith("web01")
    yard.caught_up()


# --- packs of which less is left --------------------


def break_head(path: Path) -> None:
    flip(path, 0)


def break_place(path: Path) -> None:
    """The sequence in the head: it looks whole, but its keys depend on it."""
    flip(path, 104)


def break_disk(path: Path) -> None:
    flip(path, 85)


GONE = [Path.unlink, break_head, break_place, break_disk]


@pytest.mark.parametrize("goes", GONE)
@pytest.mark.parametrize("place", [0, 2])
def test_a_pack_that_is_gone_costs_its_blocks(
    yard: Yard, goes: Callable[[Path], None], place: int
) -> None:
    path = yard.packs[place]
    blocks = range_of(path)
    if 5 in blocks:
        blocks = [*blocks, AGAIN]
    goes(path)
    with pytest.raises(StoreRefusedError):
        yard.restore(accept=False)
    assert f"{len(blocks)} of the 30 blocks" in yard.hurt().what
    assert yard.unknown() == blocks
    told = yard.caught_up()
    assert told.blocks == len(blocks)


@pytest.mark.parametrize("goes", GONE)
def test_with_the_last_pack_nothing_is_proved_but_what_is_right_is_not_sent(
    yard: Yard, goes: Callable[[Path], None]
) -> None:
    """It may have been of a session that read the disk anew: what the others give is written, and
    compared by the first round.
    """
    blocks = range_of(path := yard.packs[-1])
    goes(path)
    yard.hurt()
    assert yard.unknown() == list(range(30))
    told = yard.caught_up()
    assert told.blocks == 30
    assert len(blocks) * BLOCK <= told.sent < (len(blocks) + 1) * BLOCK


def test_several_packs_may_be_gone(yard: Yard) -> None:
    first, second, third = yard.packs[1], yard.packs[2], yard.packs[4]
    blocks = [*range_of(first), *range_of(second), *range_of(third), AGAIN]
    assert 5 in blocks
    first.unlink()
    break_head(second)
    break_place(third)
    yard.hurt()
    assert yard.unknown() == blocks
    yard.caught_up()


def test_all_packs_may_be_gone(yard: Yard) -> None:
    for path in yard.packs:
        path.unlink()
    yard.hurt()
    assert yard.unknown() == list(range(30))
    assert yard.caught_up().blocks == 30


@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize("part", ["trailer", "checkpoint", "both", "state", "cursor"])
def test_trailer_and_last_checkpoint_are_not_needed(yard: Yard, place: int, part: str) -> None:
    """Where the index lies follows from the seal, and the index says all that they do."""
    path = yard.packs[place]
    info = examine(path)
    if part in {"trailer", "both"}:
        flip(path, info.size - PAGE + 9)
        flip(path, info.size - PAGE + 16)
    if part in {"checkpoint", "both"}:
        flip(path, info.trailer.checkpoint_offset)
        flip(path, info.trailer.checkpoint_offset + 17)
    if part == "state":
        data = bytearray(path.read_bytes())
        data[-PAGE + 16] ^= PackState.CLOSED ^ PackState.POINT_END
        path.write_bytes(data)
    if part == "cursor":
        flip(path, info.trailer.checkpoint_offset + 16)
    with pytest.raises(StoreRefusedError) as refused:
        yard.restore(accept=False)
    assert "--accept-damage" in refused.value.todo_now or (part, place) == ("state", -1)
    assert "0 of the 30 blocks" in yard.hurt().what
    assert yard.unknown() == []
    assert yard.caught_up().blocks == 0


def test_a_pack_that_is_cut_short_has_lost_its_index(yard: Yard) -> None:
    path = pack_with(yard, 10)
    blocks = range_of(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - PAGE)
    yard.hurt()
    assert yard.unknown() == blocks
    yard.caught_up()


def test_a_torn_pack_without_its_trailer_is_lost_whole(tmp_path: Path) -> None:
    yard = in_two_goes(tmp_path)
    blocks = range_of(path := yard.packs[0])
    flip(path, path.stat().st_size - PAGE + 9)
    yard.hurt()
    assert yard.unknown() == blocks
    yard.caught_up()


def contents_of(yard: Yard) -> Path:
    return yard.sent.store.pack(yard.sent.seal.contents)


def test_a_contents_pack_may_lack_its_end(yard: Yard) -> None:
    flip(contents_of(yard), contents_of(yard).stat().st_size - PAGE + 9)
    yard.restore()
    assert yard.volume.state is VolumeState.CHECKED


@pytest.mark.parametrize("goes", [Path.unlink, break_head, damage_index])
def test_without_the_contents_recover_is_named(yard: Yard, goes: Callable[[Path], None]) -> None:
    goes(path := contents_of(yard))
    with pytest.raises(StoreRefusedError, match=path.name) as refused:
        yard.restore()
    assert "motiongear recover" in refused.value.todo_now


def test_a_missing_pack_is_named_at_the_shell(yard: Yard, keyring: Keys) -> None:
    (path := pack_with(yard, 10)).unlink()
    command = ("restore", "-s", yard.sent.path, "--to", yard.goal, "--key", keyring.operator)
    told = yard.shell.typed(*command, passphrase=PASSPHRASE).refused(PackMissingError)
    assert path.name in told.err
    assert "--accept-damage" in told.err
    planned = yard.shell.typed(*command, "--accept-damage", "--plan", passphrase=PASSPHRASE)
    assert f"Damaged: {path.name} is not in the store" in planned.fine().out
    verify = yard.shell.typed("verify", "-s", yard.sent.path)
    assert path.name in verify.refused(PackMissingError).err


def test_an_exchanged_head_of_another_disk_costs_that_pack(tmp_path: Path) -> None:
    sent = sealed_disks(tmp_path, TINY, a=noise(9 * BLOCK), b=noise(9 * BLOCK))
    evil = sent.packs("a")[1]
    head = replace(examine(evil).head, disk=DiskId(disk_id("b")), sequence=40)
    forge = Forge(sent.store, head).add(*disk_head(point(sent.disks["b"], disk_id("b"))))
    forge.close(PackState.CLOSED)
    shell = Shell(tmp_path / "gate")
    spec = replace(restore_spec(sent, tmp_path / "volumes"), accept_damage=True)
    with desk(shell) as (one, _), pytest.raises(RestoredHurtError, match=disk_id("a")):
        jobs.restore(spec, one)
    states = {
        info.spec.name[0]: info.state for info in LocalTarget(str(tmp_path / "volumes")).volumes()
    }
    assert states == {"a": VolumeState.HURT, "b": VolumeState.CHECKED}


# --- sessions --------------------


def in_two_goes(place: Path, *, trusting: bool = True) -> Yard:
    """A disk whose ingest lost its power at block 13 and went on, or read it anew."""
    store, device = new_store(place)
    before, after = noise(20 * BLOCK), noise(20 * BLOCK)
    data = before if trusting else after
    spec = point(data, DISK)
    with pytest.raises(PowerCutError):
        put_blocks(store, before, spec, cut_at=13)
    put_blocks(store, data, spec, witness=FakeWitness(trusting=trusting), pace=TINY)
    sent = Sent(store, seal_it(store, device, spec), {"web01": data})
    assert examine(sent.packs("web01")[0]).torn
    return Yard(place, sent, Shell(place / "gate"))


def test_a_damaged_torn_pack_is_lost_whole(tmp_path: Path) -> None:
    """It has no index: what it holds, its records tell."""
    yard = in_two_goes(tmp_path)
    flip(yard.packs[0], 3 * BLOCK)
    yard.hurt()
    assert yard.unknown() == range_of(yard.packs[0])
    assert yard.caught_up().blocks == len(range_of(yard.packs[0]))


def test_a_torn_pack_that_was_read_anew_costs_nothing_but_the_proof(tmp_path: Path) -> None:
    yard = in_two_goes(tmp_path, trusting=False)
    flip(yard.packs[0], 3 * BLOCK)
    assert "of 0 of the 20 blocks" in yard.hurt().what
    assert yard.unknown() == []
    assert yard.caught_up().blocks == 0


def test_that_a_session_went_on_is_not_taken_from_a_pack_that_is_not_proved(
    tmp_path: Path,
) -> None:
    """It may have read the disk anew from its beginning: only the damaged pack says not."""
    yard = in_two_goes(tmp_path)
    path = yard.packs[1]
    assert range_of(path)[0] > 0
    damage_index(path)
    yard.hurt()
    assert yard.unknown() == list(range(range_of(path)[-1] + 1))
    yard.caught_up()


def test_a_spliced_disk_is_compared_in_full_by_the_first_round(tmp_path: Path) -> None:
    """Nothing is damaged, but what was read in two goes may be of no one time."""
    yard = in_two_goes(tmp_path)
    yard.restore(accept=False)
    assert yard.volume.state is VolumeState.CHECKED
    disk = MemoryDisk(yard.data)
    disk.data[2 * BLOCK : 3 * BLOCK] = noise(BLOCK)  # changed between the two goes
    with two_ends(tmp_path) as ends:
        machine = ends.invite()
        told = machine.round(part(disk, ends.held(DISK).told()))
        assert Step.said("compare", "disk {disk}", disk=DISK) in machine.told
        assert told.read >= len(yard.data)
        assert told.blocks == 1
        assert ends.content(DISK) == disk.data


# --- consent, and trying again --------------------


def test_without_consent_the_first_damage_ends_it_and_the_hint_names_the_flag(
    yard: Yard,
) -> None:
    damage_record(pack_with(yard, 10), 10)
    with pytest.raises(RecordDamagedError) as refused:
        yard.restore(accept=False)
    assert "--accept-damage" in refused.value.todo_now
    assert yard.volume.state is VolumeState.PARTIAL
    damage_index(pack_with(yard, 15))
    with pytest.raises(PackDamagedError) as lost:
        yard.restore(accept=False)
    assert "--accept-damage" in lost.value.todo_now


def test_at_the_shell_it_ends_with_a_code_of_its_own(yard: Yard, keyring: Keys) -> None:
    damage_index(path := pack_with(yard, 10))
    command = ("restore", "-s", yard.sent.path, "--to", yard.goal, "--key", keyring.operator)
    planned = yard.shell.typed(*command, "--accept-damage", "--plan", passphrase=PASSPHRASE)
    assert f"Damaged: {path.name}" in planned.fine().out
    told = yard.shell.typed(*command, "--accept-damage", passphrase=PASSPHRASE)
    assert "the first round sends these blocks" in told.refused(RestoredHurtError).err
    check = ("check", "-s", yard.sent.path, "--to", yard.goal)
    assert DISK in yard.shell.typed(*check).refused(RestoredHurtError).err
    assert yard.volume.state is VolumeState.HURT


def test_killed_on_the_way_it_goes_on(yard: Yard) -> None:
    damage_record(pack_with(yard, 10), 10)
    with pytest.raises(StoppedError):
        yard.restore(lambda: noted(yard.shell.home, "replayed") >= 3)
    done = noted(yard.shell.home, "replayed")
    with pytest.raises(RestoredHurtError), desk(yard.shell) as (one, told):
        jobs.restore(replace(restore_spec(yard.sent, yard.goal), accept_damage=True), one)
    assert Step.said("restore", "{count} packs", count=len(yard.packs) - done) in told
    assert yard.unknown() == [10]


def test_a_process_that_is_killed_leaves_nothing_to_be_believed(yard: Yard) -> None:
    damage_record(pack_with(yard, 10), 10)
    spec = replace(restore_spec(yard.sent, yard.goal, "300kB/s"), accept_damage=True)
    job = yard.shell.start("restore", yard.sent.path, spec, OPERATOR)
    until(lambda: noted(yard.shell.home, "replayed") >= 1)
    yard.shell.kill(job)
    assert yard.volume.state is VolumeState.PARTIAL
    yard.hurt()
    assert yard.unknown() == [10]
    assert yard.caught_up().blocks == 1


def test_a_hurt_volume_becomes_whole_by_the_undamaged_pack_alone(yard: Yard) -> None:
    path = pack_with(yard, 10)
    honest = path.read_bytes()
    damage_record(path, 10)
    yard.hurt()
    yard.hurt()  # again, and no other
    path.write_bytes(honest)
    told = yard.restore(accept=False)
    assert Step.said("restore", "{count} packs", count=1) in told
    assert yard.volume.state is VolumeState.CHECKED
    assert Path(yard.volume.location).read_bytes() == yard.data


def test_a_hurt_volume_becomes_whole_where_an_index_was_damaged(yard: Yard) -> None:
    path = pack_with(yard, 10)
    honest = path.read_bytes()
    damage_index(path)
    yard.hurt()
    path.write_bytes(honest)
    yard.restore()
    assert yard.volume.state is VolumeState.CHECKED
    assert Path(yard.volume.location).read_bytes() == yard.data


def test_a_hurt_volume_that_has_become_a_replica_is_not_written_over(yard: Yard) -> None:
    path = pack_with(yard, 10)
    honest = path.read_bytes()
    damage_record(path, 10)
    yard.hurt()
    with two_ends(yard.place) as ends:
        assert ends.held(DISK).point() == 0
    path.write_bytes(honest)
    with pytest.raises(VolumeForeignError, match="follows its source"):
        yard.restore()
    checked = jobs.ReplicaCheckSpec("local", str(yard.goal), "web01")
    with desk(yard.shell) as (one, _), pytest.raises(RestoredHurtError) as lacks:
        check_replicas(checked, one)
    assert lacks.value.todo_now == "Run a round: it sends these blocks."
    yard.caught_up()
    with desk(yard.shell) as (one, _):
        check_replicas(checked, one)


def test_a_whole_volume_stays_whole_whatever_becomes_of_the_store(yard: Yard) -> None:
    yard.restore()
    damage_index(pack_with(yard, 10))
    exchange(yard, pack_with(yard, 15), [noise(BLOCK) for _ in range_of(pack_with(yard, 15))])
    yard.restore()
    assert yard.volume.state is VolumeState.CHECKED
    assert Path(yard.volume.location).read_bytes() == yard.data


def test_what_was_proved_of_the_whole_disk_is_not_taken_for_a_hurt_volume(yard: Yard) -> None:
    """The store was whole when it was verified here, and is damaged when it is restored."""
    verified = jobs.VerifySpec(str(yard.sent.path), "", "", (), keyed=True)
    with desk(yard.shell) as (one, _):
        jobs.verify_store(verified, one)
    damage_record(pack_with(yard, 10), 10)
    yard.hurt()
    assert yard.caught_up().blocks == 1


def test_a_wrong_block_of_a_hurt_volume_is_bad(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_record(pack_with(yard, 10), 10)
    honest = LocalVolume.flush

    def spoil(volume: LocalVolume) -> None:
        honest(volume)
        with next(yard.goal.glob("*.img.partial")).open("r+b") as file:
            file.write(noise(512))

    with monkeypatch.context() as plug:
        plug.setattr(LocalVolume, "flush", spoil)
        with pytest.raises(CheckFailedError, match="block 0 "):
            yard.restore()
    assert yard.volume.state is VolumeState.BAD
    yard.hurt()


def test_a_target_that_fails_is_no_damage_of_the_store(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_record(pack_with(yard, 10), 10)

    def fails(*_: object) -> None:
        raise TargetWriteError("The target failed")

    monkeypatch.setattr(LocalVolume, "pwrite", fails)
    with pytest.raises(TargetWriteError):
        yard.restore()
    assert yard.volume.state is VolumeState.PARTIAL


def test_all_packs_may_be_lost(yard: Yard) -> None:
    for path in yard.packs:
        damage_index(path)
    yard.hurt()
    assert len(yard.unknown()) == 30
    assert yard.caught_up().blocks == 30


def test_the_figures_name_the_hurt_packs(yard: Yard) -> None:
    damage_record(path := pack_with(yard, 10), 10)
    with pytest.raises(RestoredHurtError), desk(yard.shell) as (one, told):
        jobs.restore(replace(restore_spec(yard.sent, yard.goal), accept_damage=True), one)
    results = {one.step: one.figures for one in told if isinstance(one, Result)}
    assert list(results["restore"]["hurt"]) == [path.stem]  # type: ignore[arg-type]
    assert results["check"]["unknown"] == 1
    with pytest.raises(StoreRefusedError):
        yard.restore(accept=False)


def test_a_hurt_disk_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """And of a volume that is wrong the operator hears before one that only lacks blocks."""
    sent = sealed_disks(tmp_path, TINY, a=noise(9 * BLOCK), b=noise(9 * BLOCK), c=noise(BLOCK))
    damage_index(sent.packs("a")[1])
    shell, goal = Shell(tmp_path / "gate"), tmp_path / "volumes"
    spec = replace(restore_spec(sent, goal), accept_damage=True)
    with desk(shell) as (one, _), pytest.raises(RestoredHurtError, match=disk_id("a")):
        jobs.restore(spec, one)
    volumes = LocalTarget(str(goal)).volumes()
    states = {info.spec.name[0]: info.state for info in volumes}
    checked = VolumeState.CHECKED
    assert states == {"a": VolumeState.HURT, "b": checked, "c": checked}
    flip(next(goal.glob("b-*.img")), 0)
    with desk(shell) as (one, _), pytest.raises(CheckFailedError, match="and 1 more: Volume a-"):
        jobs.restore(spec, one)
