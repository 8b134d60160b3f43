"""A disk is told of although some of its packs tell nothing: what those told is unknown."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from appliance.block import PAGE
from appliance.errors import MemoryShortError, PackDamagedError, StoppedError
from appliance.model import Codec, Digest
from appliance.seal import pointmap
from appliance.seal.cut import digest
from appliance.seal.layout import CONTEXT_SIZE, Entry, Kind, PackState, RecordHead, ranges_bytes
from appliance.seal.manifest import Manifest, State
from appliance.seal.pointmap import PointMap, build, build_despite_damage
from appliance.seal.scan import PackInfo, PackReader, examine
from appliance.seal.store import PointPacks, Store, by_point
from appliance.seal.writer import Pace
from tests.forge import Forge, block, disk_head, pack_head, paper, point_end, reference, zeros
from tests.support import BLOCK, OPERATOR, new_store, point, put_blocks
from tests.technician import noise

DATA = noise(16 * BLOCK)
SPEC = point(DATA)
TINY = Pace(pack_size=300 << 10, checkpoint_bytes=1 << 30, checkpoint_seconds=3600)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A disk of sixteen blocks in at least four packs."""
    made, _ = new_store(tmp_path)
    put_blocks(made, DATA, SPEC, pace=TINY)
    assert len(made.infos()) >= 4
    return made


def packs_of(store: Store) -> PointPacks:
    (found,) = by_point(store.infos())
    return found


def spoil(info: PackInfo, at: int) -> None:
    with info.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def spoil_index(info: PackInfo) -> None:
    spoil(info, info.trailer.index_offset + 50)


def unknown(found: PointMap) -> list[int]:
    """The unknown blocks; all others are the disk's, and a pack that is not lost gives them."""
    given: set[int] = set()
    for info, winners in zip(found.packs.packs, found.winners(), strict=True):
        if info.head.pack not in found.lost:
            given |= {code & 0xFFFFFFFF for code in winners}
    told = [found.manifest[at] for at in range(found.manifest.blocks)]
    lost = [at for at, one in enumerate(told) if one == (Digest(bytes(32)), State.UNKNOWN)]
    for at in set(range(found.manifest.blocks)) - set(lost):
        assert told[at] == (digest(DATA[at * BLOCK : (at + 1) * BLOCK]), State.DATA)
        assert at in given
    return lost


def blocks_of(*infos: PackInfo) -> list[int]:
    return [at for one in infos for at in range(one.head.start, one.checkpoint.cursor)]


def test_without_damage_it_tells_the_same(store: Store) -> None:
    packs = packs_of(store)
    plain, other = build(packs, OPERATOR), build_despite_damage(packs, OPERATOR, SPEC)
    assert other.manifest.root() == plain.manifest.root()
    assert (other.lost, other.indexes) == ({}, plain.indexes)
    assert other.complete


@pytest.mark.parametrize("which", [(0,), (1,), (-1,), (0, 1), (1, 2), (0, -1), (0, 2)])
def test_packs_are_lost_and_the_others_tell_what_they_told(
    store: Store, which: tuple[int, ...]
) -> None:
    hurt = [packs_of(store).packs[one] for one in which]
    for info in hurt:
        spoil_index(info)
    for told in (SPEC, None):  # the contents may not tell of the disk: any disk head does
        found = build_despite_damage(packs_of(store), OPERATOR, told)
        assert unknown(found) == blocks_of(*hurt)
        assert set(found.lost) == {one.head.pack for one in hurt}
        assert found.spec == SPEC


def test_a_pack_whose_secret_cannot_be_had_is_lost_like_any_other(store: Store) -> None:
    info = packs_of(store).packs[1]
    spoil(info, CONTEXT_SIZE + 32 + 10)  # in the operator's wrap
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert unknown(found) == blocks_of(info)
    assert [one.name for one in found.lost.values()] == ["wrong-key"]


def test_a_disk_of_which_nothing_tells_is_refused(store: Store) -> None:
    for info in packs_of(store).packs:
        spoil_index(info)
    first = packs_of(store).packs[0].path.name
    with pytest.raises(PackDamagedError, match=first):
        build_despite_damage(packs_of(store), OPERATOR, None)
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert unknown(found) == list(range(16))


def test_it_can_be_stopped(store: Store) -> None:
    with pytest.raises(StoppedError):
        build_despite_damage(packs_of(store), OPERATOR, SPEC, lambda: True)


# --- what it costs --------------------


@pytest.mark.parametrize("packs", [40, 80])
def test_each_pack_is_opened_once_however_many_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packs: int
) -> None:
    """Every second one turns out to be damaged half way, when it was believed so far."""
    store, _ = new_store(tmp_path)
    told = paper(Kind.UNREADABLE, ranges_bytes([(0, 1)]), 0, 1)
    for place in range(packs):
        made = Forge(store, pack_head(store, session=place))
        made.add(*disk_head(SPEC)).add(*zeros(0, 16))
        if place % 2:
            made.add(*told)
            made.data[-100] ^= 1
        made.close(PackState.CLOSED)
    opened: list[Path] = []
    forgotten: list[int] = []
    honest, unknown = PackReader.entries, Manifest.set_unknown

    def entries(reader: PackReader, info: PackInfo) -> list[Entry]:
        opened.append(info.path)
        return honest(reader, info)

    def set_unknown(manifest: Manifest, index: int, count: int) -> None:
        forgotten.append(count)
        unknown(manifest, index, count)

    monkeypatch.setattr(PackReader, "entries", entries)
    monkeypatch.setattr(Manifest, "set_unknown", set_unknown)
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert len(found.lost) == packs // 2
    assert sorted(opened) == sorted(one.path for one in packs_of(store).packs)
    assert sum(forgotten) <= packs * 16
    assert found.manifest.states()[State.UNKNOWN] == 16


def test_what_is_unknown_is_not_forgotten_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lost session may have begun anew at block 0; the one behind it closes the gap."""
    for session in range(1, 30, 2):
        made = Forge(store, pack_head(store, session=session))
        made.add(*disk_head(SPEC)).add(*zeros(0, 16)).close(PackState.CLOSED)
        spoil_index(examine(store.pack(made.head.pack)))
        behind = Forge(store, pack_head(store, session=session + 1, start=16))
        behind.add(*disk_head(SPEC)).close(PackState.CLOSED)
    last = packs_of(store).packs[-31]
    unended = Forge(store, last.head).add(*disk_head(SPEC))
    for at in blocks_of(last):
        unended.add(*block(at, DATA[at * BLOCK : (at + 1) * BLOCK]))
    unended.close(PackState.CLOSED)
    forgotten: list[int] = []
    honest = Manifest.set_unknown

    def set_unknown(manifest: Manifest, index: int, count: int) -> None:
        forgotten.append(count)
        honest(manifest, index, count)

    monkeypatch.setattr(Manifest, "set_unknown", set_unknown)
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert len(found.lost) == 15
    assert forgotten == [16]
    assert unknown(found) == list(range(16))


def test_a_disk_with_too_many_unreadable_places_is_refused_whatever_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    told = [paper(Kind.UNREADABLE, ranges_bytes([(2 * at, 1)]), 0, 1) for at in range(4)]
    made = Forge(store, pack_head(store)).add(*disk_head(SPEC)).add(*zeros(0, 16))
    for one in told:
        made.add(*one)
    made.close(PackState.CLOSED)
    for most, refused in ((4, False), (3, True)):
        monkeypatch.setattr(pointmap, "MAX_UNREADABLE", most)
        with pytest.raises(MemoryShortError) if refused else nullcontext():
            build_despite_damage(packs_of(store), OPERATOR, SPEC)


# --- an enemy who exchanges packs --------------------


def exchange(store: Store, info: PackInfo, start: int, *records: tuple[RecordHead, bytes]) -> None:
    """A pack in the same place of the disk, with other claims."""
    old = info.head
    head = pack_head(store, old.disk, old.sequence, old.session, old.pack, start)
    forge = Forge(store, head)
    forge.add(*disk_head(SPEC))
    for one in records:
        forge.add(*one)
    forge.close(info.trailer.state)


def test_a_pack_that_reaches_back_into_what_is_lost_is_lost_too(store: Store) -> None:
    """Else it would have the last word on blocks that are not its own."""
    _, hurt, evil, *_ = packs_of(store).packs
    spoil_index(hurt)
    exchange(store, evil, hurt.head.start - 1, block(hurt.head.start - 1, noise(BLOCK)))
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert unknown(found) == blocks_of(hurt, evil)
    assert [examine(evil.path).head.pack in found.lost, len(found.lost)] == [True, 2]


def test_what_a_pack_tells_before_it_turns_out_to_be_lost_is_not_believed(store: Store) -> None:
    """Its first records are in order; then it speaks of a block far away."""
    evil = packs_of(store).packs[1]
    first = evil.head.start
    exchange(store, evil, first, block(first, noise(BLOCK)), block(first + 5, noise(BLOCK)))
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert unknown(found) == blocks_of(evil)


def test_a_disk_head_of_another_size_costs_that_pack_alone(store: Store) -> None:
    evil = packs_of(store).packs[0]
    forge = Forge(store, evil.head)
    forge.add(*disk_head(point(DATA[:-BLOCK])))
    for at in blocks_of(evil):
        forge.add(*block(at, noise(BLOCK)))
    forge.close(PackState.CLOSED)
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert unknown(found) == blocks_of(evil)


def test_bytes_that_could_not_be_read_are_not_taken_from_what_is_lost(tmp_path: Path) -> None:
    """The first session told of unreadable bytes; the pack that is lost may have read them."""
    store, _ = new_store(tmp_path)
    first = Forge(store, pack_head(store))
    first.add(*disk_head(SPEC))
    for at in range(16):
        first.add(*block(at, DATA[at * BLOCK : (at + 1) * BLOCK]))
    ranges = (3 * BLOCK).to_bytes(8, "little") + (512).to_bytes(8, "little")
    size = len(ranges)
    head = RecordHead(Kind.UNREADABLE, Codec.RAW, size, size, 3, 1, digest(ranges))
    first.add(head, ranges).close(PackState.CLOSED)
    second = Forge(store, pack_head(store, session=1))
    second.add(*disk_head(SPEC))
    for at in range(16):
        second.add(*block(at, noise(BLOCK)))
    second.add(*point_end(16, first.head.pack, second.head.pack)).close()
    assert build(packs_of(store), OPERATOR).unreadable() == []
    spoil_index(packs_of(store).packs[1])
    found = build_despite_damage(packs_of(store), OPERATOR, SPEC)
    assert unknown(found) == list(range(16))
    assert found.unreadable() == []


def test_a_pack_behind_the_disks_end_is_lost_like_the_one_before_it(tmp_path: Path) -> None:
    """With the index of the first gone, where the second takes over is only its own word."""
    made, _ = new_store(tmp_path)
    spec = point(bytes(4 * BLOCK))
    first = Forge(made, pack_head(made, spec.disk)).add(*disk_head(spec)).add(*zeros(0, 1))
    path = first.close(PackState.CLOSED)
    spoil(examine(path), path.stat().st_size - PAGE - 10)
    last = Forge(made, pack_head(made, spec.disk, sequence=1, start=1 << 40))
    last.add(*disk_head(spec)).close(PackState.CLOSED)
    (packs,) = by_point(made.infos())
    found = build_despite_damage(packs, OPERATOR, spec)
    assert {one.name for one in found.lost.values()} == {"pack-damaged", "record-order"}
    assert found.manifest.states()[State.UNKNOWN] == 4


def test_a_repeat_of_a_lost_block_stays_unknown_though_unreadable_bytes_are_told(
    tmp_path: Path,
) -> None:
    """What could not be read is told of the disk, not of a block that nobody has."""
    made, _ = new_store(tmp_path)
    one, rest = b"1" * BLOCK, zeros(2, 14)
    first, second = pack_head(made, SPEC.disk), pack_head(made, SPEC.disk, sequence=1, start=1)
    Forge(made, first).add(*disk_head(SPEC)).add(*block(0, one)).close(PackState.CLOSED)
    told = paper(Kind.UNREADABLE, ranges_bytes([(BLOCK, 9)]), 1, 1)
    last = Forge(made, second).add(*disk_head(SPEC)).add(*reference(1, one, first.pack, 1))
    last.add(*told).add(*rest).add(*point_end(16, first.pack, second.pack)).close()
    whole = build(packs_of(made), OPERATOR)
    assert whole.manifest[1] == (digest(one), State.UNREADABLE)
    spoil_index(packs_of(made).packs[0])
    found = build_despite_damage(packs_of(made), OPERATOR, SPEC)
    assert found.manifest[1] == (Digest(bytes(32)), State.UNKNOWN)
    assert found.unreadable() == [(BLOCK, 9)]
