"""Writing a disk into a store: kinds of record, packs, checkpoints, sessions."""

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import AlreadySealedError, StoppedError, StoreFullError
from appliance.events import Checkpointed, Event, PackClosed, Progress, Spliced, Step
from appliance.model import Extent, PointSpec, block_count
from appliance.seal import writer
from appliance.seal.cut import Cutter, zero_run
from appliance.seal.layout import Kind, PackState
from appliance.seal.manifest import State
from appliance.seal.pack import PackWriter
from appliance.seal.scan import PackReader, examine
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import Store, by_point
from appliance.seal.writer import Pace, Repeats, StoreWriter
from tests.forge import pack_head
from tests.readout import content, maps_of, problems, sole_content
from tests.support import (
    BLOCK,
    OPERATOR,
    RECOVERY,
    SMALL,
    FakeWitness,
    PowerCutError,
    new_store,
    point,
    put_blocks,
    sample_bytes,
    seal_it,
)


def kinds(path: Path) -> list[Kind]:
    with PackReader(path, OPERATOR) as reader:
        return [one.head.kind for one in reader.entries(examine(path))]


def test_a_disk_is_read_back_by_every_recipient(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = sample_bytes()
    put_blocks(store, data, point(data))
    for key in (OPERATOR, RECOVERY):
        (found,) = maps_of(store, key)
        assert found.complete
        assert content(found, key) == data
        assert found.manifest.states()[State.ZERO] == 3


def test_repeats_are_stored_once_and_zeros_not_at_all(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(BLOCK) * 3 + bytes(4 * BLOCK) + b"end"
    writer = put_blocks(store, data, point(data), pace=Pace(pack_size=1 << 20))
    (path,) = store.closed()
    assert kinds(path) == [
        Kind.DISK_HEAD,
        Kind.BLOCK,
        Kind.REFERENCE,
        Kind.REFERENCE,
        Kind.ZERO_RUN,
        Kind.BLOCK,
        Kind.POINT_END,
    ]
    assert (writer.counts.stored, writer.counts.referenced, writer.counts.zero) == (2, 2, 4)
    assert sole_content(store) == data


def test_a_repeat_may_lie_in_an_earlier_pack(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    noise = os.urandom(12 * BLOCK)
    data = noise + noise
    put_blocks(store, data, point(data), pace=Pace(pack_size=10 * BLOCK, checkpoint_bytes=1 << 30))
    infos = sorted(store.infos(), key=lambda one: one.head.sequence)
    assert [one.head.sequence for one in infos] == list(range(len(infos)))
    assert len(infos) > 1
    assert [one.trailer.state for one in infos[:-1]] == [PackState.CLOSED] * (len(infos) - 1)
    assert sum(one.size for one in infos) < 14 * BLOCK + len(infos) * 100_000
    assert sole_content(store) == data


def test_no_pack_outgrows_the_space_it_took(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(40 * BLOCK)
    pace = Pace(pack_size=12 * BLOCK, checkpoint_bytes=BLOCK)
    put_blocks(store, data, point(data), pace=pace)
    infos = store.infos()
    assert len(infos) > 3
    assert all(one.size <= pace.pack_size for one in infos)
    assert sole_content(store) == data


def test_unreadable_bytes_are_told_where_they_are(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = bytearray(os.urandom(6 * BLOCK))
    bad = [Extent(BLOCK, BLOCK), Extent(3 * BLOCK + 512, 512), Extent(4 * BLOCK - 512, 512)]
    for one in bad:
        data[one.offset : one.end] = bytes(one.length)
    writer = put_blocks(store, bytes(data), point(bytes(data)), bad=bad)
    assert writer.counts.unreadable_bytes == BLOCK + 1024
    (found,) = maps_of(store)
    assert found.unreadable() == [(one.offset, one.length) for one in bad]
    assert [found.manifest[index][1] for index in range(4)] == [
        State.DATA,
        State.UNREADABLE,
        State.DATA,
        State.UNREADABLE,
    ]
    assert content(found) == data


def test_a_disk_full_of_unreadable_sectors_is_flushed_before_a_record_overflows(
    tmp_path: Path,
) -> None:
    store, _ = new_store(tmp_path)
    spec = point(bytes(700 * BLOCK))
    with StoreWriter(store, pace=Pace(pack_size=8 << 20)) as writer:
        writer.begin(spec, FakeWitness())
        block = memoryview(bytes(BLOCK))
        for index in range(700):
            bad = tuple(Extent(index * BLOCK + at, 512) for at in range(0, BLOCK, 1024))
            writer.put(Cutter().cut(index, block, bad))
        writer.commit()
    (found,) = maps_of(store)
    assert len(found.unreadable()) == 700 * 64
    assert found.manifest.states()[State.UNREADABLE] == 700


def test_holes_need_no_reading(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    spec = point(b"x" * BLOCK + bytes(999 * BLOCK))
    with StoreWriter(store) as writer:
        writer.begin(spec, FakeWitness())
        writer.put(Cutter().cut(0, memoryview(b"x" * BLOCK)))
        writer.put(zero_run(1, 500))
        writer.put(zero_run(501, 499))
        writer.commit()
    (found,) = maps_of(store)
    assert list(found.zero_runs()) == [(1, 999)]
    assert found.complete


def test_a_disk_of_zeros_only_ends_too(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = bytes(2 * BLOCK + 7)
    put_blocks(store, data, point(data))
    assert sole_content(store) == data


def test_the_writer_tells_what_is_safe(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    told: list[Event] = []
    data = os.urandom(9 * BLOCK)
    put_blocks(store, data, point(data), emit=told.append)
    cursors = [one.cursor for one in told if isinstance(one, Checkpointed)]
    assert cursors == sorted(cursors)
    assert cursors[-1] == 9
    closed = {one.pack for one in told if isinstance(one, PackClosed)}
    assert closed == {one.stem for one in store.closed()}


def test_a_checkpoint_is_due_by_time_as_well(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    told: list[Event] = []
    hours = iter(range(0, 100_000, 3600))
    data = os.urandom(4 * BLOCK)
    with StoreWriter(store, told.append, clock=lambda: float(next(hours))) as writer:
        writer.begin(point(data), FakeWitness())
        for index in range(4):
            writer.put(Cutter().cut(index, memoryview(data)[index * BLOCK :][:BLOCK]))
        assert [one.cursor for one in told if isinstance(one, Checkpointed)] == [1, 2, 3, 4]


def test_hours_of_zeros_are_safe_too(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    told: list[Event] = []
    now = 0.0
    spec = point(bytes(9 * BLOCK))
    with StoreWriter(store, told.append, clock=lambda: now) as writer:
        writer.begin(spec, FakeWitness())
        writer.put(zero_run(0, 3))
        assert list(store.names()) == []
        now = 3600.0
        writer.put(zero_run(3, 4))
        assert [one.cursor for one in told if isinstance(one, Checkpointed)] == [7]
    with StoreWriter(store) as writer:
        assert writer.begin(spec, FakeWitness()) == 7


def test_a_checkpoint_before_anything_was_put_writes_nothing(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    with StoreWriter(store) as writer:
        assert writer.begin(point(b"x"), FakeWitness()) == 0
        writer.checkpoint()
    assert list(store.names()) == []


def test_a_checkpoint_covers_zeros_and_unreadable_bytes_too(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(2 * BLOCK) + bytes(7 * BLOCK)
    with StoreWriter(store) as writer:
        writer.begin(point(data), FakeWitness())
        for index in range(2):
            block = memoryview(data)[index * BLOCK :][:BLOCK]
            writer.put(Cutter().cut(index, block, (Extent(index * BLOCK, 512),)))
        writer.put(zero_run(2, 5))
        writer.checkpoint()
    store.mend()
    (found,) = maps_of(store)
    assert content(found)[: 7 * BLOCK] == data[: 7 * BLOCK]
    assert found.unreadable() == [(0, 512), (BLOCK, 512)]


def test_a_session_goes_on_where_the_checkpoint_stands(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(12 * BLOCK)
    told: list[Event] = []
    with pytest.raises(PowerCutError):
        put_blocks(store, data, point(data), cut_at=7, emit=told.append)
    safe = max(one.cursor for one in told if isinstance(one, Checkpointed))
    witness = FakeWitness()
    put_blocks(store, data, point(data), emit=told.append, witness=witness)
    assert witness.asked == [safe]
    assert [one for one in told if isinstance(one, Spliced)] == [Spliced(1, safe)]
    (points,) = by_point(store.infos())
    assert points.splices == ((1, safe),)
    assert sole_content(store) == data


def test_a_changed_source_is_read_anew_and_no_chimera_is_made(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    old, new = os.urandom(12 * BLOCK), os.urandom(12 * BLOCK)
    with pytest.raises(PowerCutError):
        put_blocks(store, old, point(old), cut_at=7)
    put_blocks(store, new, point(new), witness=FakeWitness(trusting=False))
    (points,) = by_point(store.infos())
    assert points.splices == ()
    assert sole_content(store) == new


def test_what_was_unreadable_is_mended_by_a_later_session(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(12 * BLOCK)
    with pytest.raises(PowerCutError):
        put_blocks(store, data, point(data), cut_at=9, bad=[Extent(0, 512), Extent(BLOCK, BLOCK)])
    put_blocks(
        store, data, point(data), witness=FakeWitness(trusting=False), bad=[Extent(512, 512)]
    )
    (found,) = maps_of(store)
    assert found.unreadable() == [(512, 512)]
    assert found.manifest[1][1] is State.DATA


def test_a_point_that_has_ended_is_not_written_again(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = sample_bytes()
    put_blocks(store, data, point(data))
    before = sorted(store.names())
    with StoreWriter(store) as writer:
        blocks = block_count(len(data), BLOCK)
        assert writer.begin(point(data), FakeWitness()) == blocks
        writer.commit()
    assert sorted(store.names()) == before


def ended(tmp_path: Path) -> tuple[Store, PointSpec]:
    """A store in which a disk of several packs has come to its end."""
    store, _ = new_store(tmp_path)
    data = os.urandom(20 * BLOCK)
    spec = point(data)
    put_blocks(store, data, spec, pace=Pace(pack_size=10 * BLOCK))
    assert len(store.infos()) > 2
    return store, spec


def test_reading_an_ended_point_back_again_tells_how_far_it_is(tmp_path: Path) -> None:
    store, spec = ended(tmp_path)
    told: list[Event] = []
    with StoreWriter(store, told.append) as writer:
        writer.begin(spec, FakeWitness())
    infos = store.infos()
    assert told.pop(0) == Step.said("read-back", "{count} packs", count=len(infos))
    far = [one for one in told if isinstance(one, Progress)]
    assert far == told
    assert [one.done for one in far] == sorted(one.done for one in far)
    assert {one.total for one in far} == {far[-1].done} == {sum(one.size for one in infos)}


def test_reading_an_ended_point_back_again_can_be_stopped(tmp_path: Path) -> None:
    store, spec = ended(tmp_path)
    told: list[Event] = []
    writer = StoreWriter(store, told.append, stop=lambda: len(told) > 1)
    with writer, pytest.raises(StoppedError):
        writer.begin(spec, FakeWitness())
    assert len(told) == 2
    assert put_blocks(store, b"", spec).bytes_written == 0


def test_a_sealed_shipment_takes_no_writer(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    data = sample_bytes()
    put_blocks(store, data, point(data))
    seal_it(store, device, point(data))
    with pytest.raises(AlreadySealedError):
        StoreWriter(store)


def test_disks_and_points_are_kept_apart(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    disks = {"11" * 16: os.urandom(3 * BLOCK), "22" * 16: os.urandom(2 * BLOCK + 1)}
    for disk, data in disks.items():
        put_blocks(store, data, point(data, disk))
    later = os.urandom(3 * BLOCK)
    put_blocks(store, later, replace(point(later, "11" * 16), point=1))
    found = {(one.spec.disk, one.spec.point): content(one) for one in maps_of(store)}
    assert found == {
        ("11" * 16, 0): disks["11" * 16],
        ("11" * 16, 1): later,
        ("22" * 16, 0): disks["22" * 16],
    }


def test_the_table_of_repeats_forgets_and_never_lies() -> None:
    table = Repeats(slots=1)
    first, other = (
        Cutter().cut(0, memoryview(b"a")).digest,
        Cutter().cut(0, memoryview(b"b")).digest,
    )
    assert table.find(first) is None
    table.remember(first, 3, 70_000)
    assert table.find(first) == (3, 70_000)
    table.remember(other, 4, 1)
    assert table.find(first) is None
    assert table.find(other) == (4, 1)


def test_writing_takes_no_memory_that_grows_with_the_disk(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(8 * BLOCK)
    tracemalloc.start()
    put_blocks(store, data, point(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_pack_that_is_full_says_so(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    head = pack_head(store)
    pack = PackWriter(store.packs, head, store.head.recipients, SMALL.pack_size)
    assert [one.name for one in store.open_packs()] == [f"{head.pack}.open"]
    assert pack.has_room(SMALL.pack_size - pack.size - 5 * 4096, 1)
    assert not pack.has_room(SMALL.pack_size - pack.size, 1)
    assert not pack.has_room(0, 1 << 19)
    pack.abandon()
    pack.abandon()
    assert list(store.names()) == []


def test_no_pack_is_made_that_the_seal_could_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_PACKS", 4)
    store, device = new_store(tmp_path)
    data = os.urandom(16 * BLOCK)
    pace = Pace(pack_size=1, checkpoint_bytes=BLOCK)
    with pytest.raises(StoreFullError, match="has 3 packs, as many as a seal can list") as caught:
        put_blocks(store, data, point(data), pace=pace)
    assert "another shipment" in caught.value.todo_now
    assert len(list(store.names())) == 3
    seal_incomplete = Consent(frozenset([point(data).disk]), waiver="a test")
    assert len(seal(store, device, {}, seal_incomplete).packs) == 4
    assert problems(store.path, OPERATOR) == []


def test_no_disk_is_begun_that_the_contents_could_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_DISKS", 2)
    store, _ = new_store(tmp_path)
    data = sample_bytes()
    names = ["aa" * 16, "bb" * 16, "cc" * 16]
    for name in names[:2]:
        put_blocks(store, data, point(data, name))
    with pytest.raises(StoreFullError, match="has 2 disks, as many as a seal can list"):
        put_blocks(store, data, point(data, names[2]))
    put_blocks(store, data, point(data, names[0]))
    assert len(by_point(store.infos())) == 2
