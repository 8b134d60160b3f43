"""Replay: every pack read once, each block written wherever it belongs, and nothing believed that
was not sealed.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from appliance.errors import (
    MotionGearError,
    PackDamagedError,
    RecordDamagedError,
    StoppedError,
)
from appliance.events import Emit, Progress, silent
from appliance.model import DiskId, PackId, Stop, VolumeState
from appliance.rate import Limit, Throttle
from appliance.restore.plan import Plan, make
from appliance.restore.replay import Replay, Replayed
from appliance.seal import verify
from appliance.seal.layout import RecordHead
from appliance.seal.scan import examine
from tests.forge import Forge, block, disk_head, pack_head, point_end, zeros
from tests.support import (
    BLOCK,
    OPERATOR,
    FakeWitness,
    PowerCutError,
    new_store,
    point,
    put_blocks,
    seal_it,
)
from tests.targets import MemoryTarget, MemoryVolume
from tests.technician import Sent, disk_id, noise, sealed_disks


def never() -> bool:
    return False


@dataclass
class Yard:
    """A target in memory, and what was replayed onto it."""

    sent: Sent
    target: MemoryTarget = field(default_factory=MemoryTarget)
    passed: list[PackId] = field(default_factory=list)

    def plan(self) -> Plan:
        sealed = verify.inspect(self.sent.path, verify.Pins())
        return make(sealed, OPERATOR, self.target, {})

    def volume(self, machine: str) -> MemoryVolume:
        return next(
            volume
            for info, volume in self.target.held.values()
            if info.spec.disk == disk_id(machine)
        )

    @contextmanager
    def attached(self, plan: Plan) -> Iterator[dict[DiskId, MemoryVolume]]:
        with ExitStack() as stack:
            found = {}
            for one in plan.disks:
                self.target.ensure_volume(one.volume)
                found[one.volume.disk] = stack.enter_context(self.target.attach(one.volume))
            yield found

    def replay(
        self,
        plan: Plan | None = None,
        emit: Emit = silent,
        stop: Stop = never,
        throttle: Throttle | None = None,
    ) -> Replayed:
        """Replay what was not replayed before."""
        made = plan or self.plan()
        with self.attached(made) as volumes:
            replay = Replay(made, OPERATOR, volumes, emit, stop, throttle or Throttle())
            return replay.run(set(self.passed), lambda _, pack: self.passed.append(pack))

    def arrived(self) -> bool:
        return all(
            bytes(self.volume(machine).data) == data for machine, data in self.sent.disks.items()
        )


@pytest.fixture(autouse=True)
def one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pack after the other, so that what happens between two packs is always the same."""
    monkeypatch.setattr("appliance.restore.replay.readers_for", lambda _: 1)


def mixed(seed: int) -> bytes:
    """Blocks that repeat over several packs, zeros, and an odd end."""
    often = bytes([seed]) * BLOCK
    return often + noise(20 * BLOCK) + bytes(5 * BLOCK) + often + noise(9 * BLOCK) + b"end"


def test_several_disks_with_repeats_over_several_packs_arrive(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=mixed(1), db01=mixed(2), mail=bytes(3 * BLOCK)))
    told = yard.replay()
    assert yard.arrived()
    packs = [one for machine in yard.sent.disks for one in yard.sent.packs(machine)]
    assert told.packs == len(packs) == len(yard.passed)
    assert told.bytes_read == sum(one.stat().st_size for one in packs)
    assert told.bytes_written == 2 * (31 * BLOCK + 3)


def test_a_fresh_volume_is_spared_its_zeros(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=mixed(1)))
    yard.replay()
    volume = yard.volume("web01")
    assert volume.zeroed == []
    assert not [one for one in volume.writes if 21 * BLOCK <= one[0] < 26 * BLOCK]
    assert volume.flushes > len(yard.passed)


def test_a_used_volume_gets_its_zeros_written(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=noise(BLOCK) + bytes(BLOCK) + b"x" + bytes(BLOCK)))
    plan = yard.plan()
    with yard.attached(plan) as volumes:
        (volume,) = volumes.values()
        volume.data[:] = b"\xff" * len(volume.data)
    yard.replay(plan)
    assert yard.arrived()
    assert volume.zeroed == [(BLOCK, BLOCK), (3 * BLOCK, 1)]


def test_replaying_goes_on_behind_the_last_pack(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=mixed(1)))
    total = len(yard.sent.packs("web01"))
    with pytest.raises(StoppedError) as stopped:
        yard.replay(stop=lambda: len(yard.passed) >= 2)
    assert stopped.value.safe_now == "What is on the volumes stays."
    assert len(yard.passed) == 2 < total
    assert not yard.arrived()
    written = len(yard.volume("web01").writes)
    told = yard.replay()
    assert told.packs == total - 2
    assert yard.arrived()
    assert len(yard.volume("web01").writes) - written < 31
    assert yard.replay().packs == 0


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=mixed(1)))
    told: list[Progress] = []
    yard.replay(emit=lambda one: told.append(one) if isinstance(one, Progress) else None)
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[-1].done == told[-1].total
    assert told[-1].stored == 31 * BLOCK + 3


def test_a_limit_holds_for_what_is_written(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=noise(10 * BLOCK)))
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    noon = datetime.fromisoformat("2026-11-22T12:00:00")
    throttle = Throttle([Limit(BLOCK)], lambda: clock[0], sleep, lambda: noon)
    yard.replay(throttle=throttle)
    assert clock[0] == pytest.approx(9, abs=0.1)


def test_a_disk_read_in_two_goes_arrives_as_the_later_one_saw_it(tmp_path: Path) -> None:
    """A torn session, then one that reads the whole disk anew since the source had changed."""
    store, device = new_store(tmp_path)
    before, after = noise(12 * BLOCK), noise(6 * BLOCK) + bytes(6 * BLOCK)
    spec = point(after, disk_id("web01"))
    with pytest.raises(PowerCutError):
        put_blocks(store, before, spec, cut_at=9)
    put_blocks(store, after, spec, witness=FakeWitness(trusting=False))
    yard = Yard(Sent(store, seal_it(store, device, spec), {"web01": after}))
    assert any(examine(one).torn for one in yard.sent.packs("web01"))
    yard.replay()
    assert yard.arrived()
    assert yard.volume("web01").zeroed == []


def test_a_disk_read_in_two_goes_takes_what_the_torn_pack_holds(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    data = noise(12 * BLOCK)
    spec = point(data, disk_id("web01"))
    with pytest.raises(PowerCutError):
        put_blocks(store, data, spec, cut_at=9)
    put_blocks(store, data, spec)
    yard = Yard(Sent(store, seal_it(store, device, spec), {"web01": data}))
    yard.replay()
    assert yard.arrived()
    assert len(yard.volume("web01").writes) == 12


# --- what an enemy or a bad disk does between the plan and the reading --------------------


def refuse(yard: Yard, plan: Plan, error: type[MotionGearError]) -> MotionGearError:
    with pytest.raises(error) as refused:
        yard.replay(plan)
    (info,) = yard.target.volumes()
    assert info.state is VolumeState.PARTIAL
    return refused.value


def test_a_damaged_record_is_named_by_block_and_disk(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=noise(6 * BLOCK)))
    path = yard.sent.packs("web01")[0]
    data = bytearray(path.read_bytes())
    data[3 * BLOCK] ^= 1
    path.write_bytes(data)
    said = refuse(yard, yard.plan(), RecordDamagedError).what
    assert path.name in said
    assert f"hit: block 2 of disk {disk_id('web01')} (web01-S-7765)" in said
    assert yard.passed == []


def test_a_pack_cut_short_between_plan_and_reading_is_refused(tmp_path: Path) -> None:
    yard = Yard(sealed_disks(tmp_path, web01=noise(6 * BLOCK)))
    plan = yard.plan()
    path = yard.sent.packs("web01")[0]
    os.truncate(path, path.stat().st_size - 3 * BLOCK)
    refuse(yard, plan, MotionGearError)


def test_a_byte_in_no_record_is_noticed_too(tmp_path: Path) -> None:
    """The guard of a checkpoint tells a reader nothing, but it was sealed."""
    yard = Yard(sealed_disks(tmp_path, web01=noise(6 * BLOCK)))
    path = yard.sent.packs("web01")[0]
    data = bytearray(path.read_bytes())
    data[data.rindex(b"MGCHECK1") + 48] ^= 1
    path.write_bytes(data)
    assert "not what was sealed" in refuse(yard, yard.plan(), PackDamagedError).what


def exchange(sent: Sent, *records: tuple[RecordHead, bytes]) -> None:
    """Put a pack with these records in the place of the only pack of web01: public keys are
    enough to make it.
    """
    path = sent.packs("web01")[0]
    pack = examine(path).head
    forge = Forge(sent.store, pack_head(sent.store, pack.disk, pack=pack.pack))
    forge.add(*disk_head(point(sent.disks["web01"], pack.disk)))
    for head, payload in records:
        forge.add(head, payload)
    forge.add(*point_end(-(-len(sent.disks["web01"]) // BLOCK), pack.pack))
    forge.close()


def test_a_pack_that_anybody_could_have_encrypted_is_refused(tmp_path: Path) -> None:
    """Right size, right count, right keys - and other content: only the seal tells."""
    data = noise(3 * BLOCK)
    yard = Yard(sealed_disks(tmp_path, web01=data))
    evil = [block(at, noise(BLOCK)) for at in range(3)]
    exchange(yard.sent, *evil)
    size = examine(yard.sent.packs("web01")[0]).size
    listed = next(one for one in yard.sent.seal.packs if one.size == size)
    assert listed.records == 5  # else the listing would have told already
    with pytest.raises(PackDamagedError, match="The index of the pack is not what was sealed"):
        yard.plan()


def test_a_pack_exchanged_behind_the_plan_is_refused(tmp_path: Path) -> None:
    data = noise(3 * BLOCK)
    yard = Yard(sealed_disks(tmp_path, web01=data))
    plan = yard.plan()
    exchange(yard.sent, *[block(at, noise(BLOCK)) for at in range(3)])
    assert "The index" in refuse(yard, plan, PackDamagedError).what
    assert yard.passed == []


def test_blocks_that_became_zeros_behind_the_plan_are_refused(tmp_path: Path) -> None:
    """No record of a block would betray it."""
    data = b"a" * BLOCK + b"b" * BLOCK  # compressed as small as a record of no bytes
    yard = Yard(sealed_disks(tmp_path, web01=data))
    plan = yard.plan()
    exchange(yard.sent, zeros(0, 1), zeros(1, 1))
    assert "The index" in refuse(yard, plan, PackDamagedError).what


def test_an_honest_replay_after_a_refused_one_mends_the_volume(tmp_path: Path) -> None:
    data = noise(3 * BLOCK)
    yard = Yard(sealed_disks(tmp_path, web01=data))
    path = yard.sent.packs("web01")[0]
    honest = path.read_bytes()
    plan = yard.plan()
    exchange(yard.sent, *[block(at, noise(BLOCK)) for at in range(3)])
    refuse(yard, plan, PackDamagedError)
    path.write_bytes(honest)
    yard.replay()
    assert yard.arrived()


def test_a_volume_that_is_done_is_left_alone(tmp_path: Path) -> None:
    """It may have been booted since: what stands in the source's zeros is not ours to remove."""
    yard = Yard(sealed_disks(tmp_path, web01=noise(BLOCK) + bytes(2 * BLOCK)))
    yard.replay()
    volume = yard.volume("web01")
    volume.data[BLOCK : BLOCK + 4] = b"used"
    written = len(volume.writes)
    yard.replay()
    assert volume.data[BLOCK : BLOCK + 4] == b"used"
    assert volume.zeroed == []
    assert len(volume.writes) == written
