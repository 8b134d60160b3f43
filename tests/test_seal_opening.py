"""Opening a sealed store with a key: damage by its place, contents that lie, disk by disk."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import block
from appliance.errors import (
    IncompleteDiskError,
    MotionGearError,
    PackDamagedError,
    PackUnlistedError,
    RecordDamagedError,
    SealDamagedError,
    StoppedError,
    WrongKeyError,
)
from appliance.events import Event, Step
from appliance.model import DiskId, PackId, Stop
from appliance.seal import canon, opening
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import ZERO_DISK, Kind, PackState
from appliance.seal.opening import disks_of, open_all, open_each, read_sealed_contents
from appliance.seal.papers import Contents, write_contents
from appliance.seal.pointmap import PointMap, build
from appliance.seal.scan import PackInfo, PackReader
from appliance.seal.store import PointPacks, Store, by_point
from appliance.seal.verify import Pins, Sealed, inspect
from tests import forge
from tests.forge import Forge, pack_head, sign_again
from tests.readout import pack_of, problems, reopened
from tests.support import (
    BLOCK,
    OPERATOR,
    STRANGER,
    PowerCutError,
    many_packs,
    new_store,
    point,
    put_blocks,
    sample_bytes,
    seal_it,
    sealed_sample,
)


def test_damage_is_named_by_disk_block_and_bytes(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    sealed = reopened(store)
    info = sealed.infos[sealed.seal.packs[1].pack]
    with PackReader(info.path, OPERATOR) as reader:
        entries = reader.entries(info)
    data = bytearray(info.path.read_bytes())
    block = next(one for one in entries if one.head.kind is Kind.BLOCK)
    end = entries[-1]
    for one in (block, end):
        data[one.offset + 500] ^= 1
    info.path.write_bytes(data)
    found = open_all(sealed, OPERATOR).problems
    assert [one.name for one in found] == ["record-damaged", "record-damaged"]
    assert "'web01' 'Model' serial" in found[1].what  # as the contents tell
    data[end.offset + 500] ^= 1
    info.path.write_bytes(data)
    told: list[Event] = []
    (problem,) = open_all(sealed, OPERATOR, told.append).problems
    assert f"block {block.head.index} (bytes 0 to {BLOCK - 1})" in problem.what
    assert "'web01' 'Model' serial" in problem.what
    assert [one.step for one in told if isinstance(one, Step)] == ["open"]


def test_damage_to_what_is_no_block_is_told_as_it_is(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    sealed = reopened(store)
    info = sealed.infos[sealed.seal.packs[1].pack]
    with PackReader(info.path, OPERATOR) as reader:
        zero = next(one for one in reader.entries(info) if one.head.kind is Kind.ZERO_RUN)
    data = bytearray(info.path.read_bytes())
    data[zero.offset + 500] ^= 1
    info.path.write_bytes(data)
    (problem,) = open_all(sealed, OPERATOR).problems
    assert problem.name == "record-damaged"
    assert "hit" not in problem.what


@pytest.mark.parametrize("place", [40_000, 4095 - 16], ids=["checkpoint", "head padding"])
def test_a_byte_that_no_record_holds_is_noticed_by_the_keyed_reader_too(
    tmp_path: Path, place: int
) -> None:
    store = many_packs(tmp_path)
    sealed = reopened(store)
    info = sealed.infos[pack_of(store, 1)]
    data = bytearray(info.path.read_bytes())
    at = info.trailer.checkpoint_offset + 60 if place == 40_000 else len(data) - 4096 + 41
    data[at] ^= 1
    info.path.write_bytes(data)
    (problem,) = open_all(sealed, OPERATOR).problems
    assert "not what was sealed" in problem.what


def test_one_damaged_pack_does_not_hide_another(tmp_path: Path) -> None:
    """Packs are opened side by side: each is compared with the seal for itself."""
    store = many_packs(tmp_path)
    sealed = reopened(store)
    for place, at in ((1, 30_000), (2, -4096 + 41), (3, -4096 + 41)):
        path = store.pack(pack_of(store, place))
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
    assert len(open_all(sealed, OPERATOR).problems) == 3


def test_a_pack_exchanged_between_listing_and_opening_is_foreign(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path, name="one")
    other, _ = new_store(tmp_path, name="two")
    data = sample_bytes()
    for one in (store, other):
        put_blocks(one, data, point(data))
    (points,) = by_point(store.infos())
    (mine,), (theirs,) = store.closed(), other.closed()
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(MotionGearError) as caught:
        build(points, OPERATOR)
    assert caught.value.name == "foreign-pack"
    assert "exchanged" in caught.value.what


def test_a_damaged_index_is_named_with_its_pack(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    sealed = reopened(store)
    info = sealed.infos[pack_of(store, 1)]
    data = bytearray(info.path.read_bytes())
    data[info.trailer.index_offset + 50] ^= 1
    info.path.write_bytes(data)
    (problem,) = open_all(sealed, OPERATOR).problems
    assert problem.name == "pack-damaged"
    assert problem.what.startswith(f"{info.path.name}: The index")


# --- the contents pack ---


def with_contents(
    place: Path, change: Callable[[Contents], Contents], kind: Kind = Kind.CONTENTS, times: int = 1
) -> list[str]:
    """Exchange the contents pack for one that tells something else, duly signed."""
    store, device, _ = sealed_sample(place)
    sealed = reopened(store)
    told = change(read_sealed_contents(sealed, OPERATOR))
    store.pack(sealed.seal.contents).unlink()
    made = Forge(store, pack_head(store, "00" * 16))
    for _ in range(times):
        made.add(*forge.paper(kind, canon.dump(write_contents(told))))
    made.close(PackState.CLOSED)
    sign_again(store, device)
    assert problems(store.path) == []
    return problems(store.path, OPERATOR)


def changed(**fields: object) -> Callable[[Contents], Contents]:
    def change(told: Contents) -> Contents:
        return replace(told, disks=(replace(told.disks[0], **fields),))  # type: ignore[arg-type]

    return change


def more(told: Contents) -> Contents:
    return replace(told, disks=(*told.disks, replace(told.disks[0], disk=DiskId("ff" * 16))))


CONTENT_LIES: dict[str, tuple[Callable[[Contents], Contents], str]] = {
    "a disk less": (lambda told: replace(told, disks=()), "incomplete-disk"),
    "a disk more": (more, "incomplete-disk"),
    "another point": (changed(point=1), "incomplete-disk"),
    "other packs": (changed(packs=()), "pack-missing"),
    "incomplete": (changed(complete=False), "pack-missing"),
    "other blocks": (changed(blocks=1), "seal-damaged"),
    "another size": (changed(facts=point(b"x")), "seal-damaged"),
    "another disk's facts": (changed(facts=point(b"x", "22" * 16)), "seal-damaged"),
    "another shipment": (lambda told: replace(told, shipment="00" * 16), "seal-damaged"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("lie", CONTENT_LIES)
def test_contents_that_lie_are_refused_by_name(tmp_path: Path, lie: str) -> None:
    change, name = CONTENT_LIES[lie]
    assert with_contents(tmp_path, change) == [name]


def test_contents_may_leave_facts_and_counts_out(tmp_path: Path) -> None:
    assert with_contents(tmp_path, changed(facts=None, blocks=0)) == []


def test_a_disk_may_be_found_elsewhere_by_a_later_session(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    data = os.urandom(9 * BLOCK)
    first = point(data)
    later = replace(first, facts=replace(first.facts, source="/dev/sdy", bus="sata"))
    with pytest.raises(PowerCutError):
        put_blocks(store, data, first, cut_at=7)
    put_blocks(store, data, later)
    seal_it(store, device, later)
    assert problems(store.path, OPERATOR) == []
    (found,) = disks_of(inspect(store.path, Pins()), OPERATOR)
    assert found.open(OPERATOR).spec == first


@pytest.mark.parametrize(
    ("kind", "times"), [(Kind.DISK_HEAD, 1), (Kind.CONTENTS, 2), (Kind.CONTENTS, 0)]
)
def test_a_contents_pack_holds_one_record_of_its_kind(
    tmp_path: Path, kind: Kind, times: int
) -> None:
    assert with_contents(tmp_path, lambda told: told, kind, times) == ["seal-damaged"]


def test_a_damaged_contents_pack_is_refused(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    sealed = reopened(store)
    path = sealed.contents_info.path
    whole = path.read_bytes()
    for at, name in ((5000, "record-damaged"), (len(whole) - 4096 + 41, "pack-damaged")):
        hurt = bytearray(whole)
        hurt[at] ^= 1
        path.write_bytes(hurt)
        with pytest.raises(MotionGearError) as caught:
            disks_of(sealed, OPERATOR)
        assert caught.value.name == name
        assert [one.name for one in open_all(sealed, OPERATOR).problems] == [name]


# --- where damage is accepted --------------------


def despite(store: Store) -> Sealed:
    return inspect(store.path, Pins(), despite_damage=True)


def test_a_whole_store_is_read_as_ever_where_damage_is_accepted(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    (found,) = disks_of(despite(store), OPERATOR)
    (plain,) = disks_of(reopened(store), OPERATOR)
    assert (found.listed, found.packs.ids) == (plain.listed, plain.packs.ids)
    told = found.open_despite_damage(OPERATOR)
    assert told.lost == {}
    assert told.manifest.root() == plain.open(OPERATOR).manifest.root()


def test_another_key_opens_no_damaged_store_either(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    with pytest.raises(WrongKeyError):
        disks_of(despite(store), STRANGER)


def test_contents_that_name_other_packs_than_the_seal_are_refused(tmp_path: Path) -> None:
    store, device, _ = sealed_sample(tmp_path)
    store.pack(pack_of(store, 0)).unlink()
    forge.contents_pack(store, Contents(store.head.shipment, ()))
    sign_again(store, device)
    with pytest.raises(IncompleteDiskError, match="than the seal"):
        disks_of(despite(store), OPERATOR)


def test_a_seal_that_does_not_list_its_contents_is_refused(tmp_path: Path) -> None:
    store, device, _ = sealed_sample(tmp_path)
    forge.sign_body(store, device, contents="ee" * 16)
    with pytest.raises(SealDamagedError, match="own contents"):
        despite(store)


def test_of_a_torn_contents_pack_all_is_read(tmp_path: Path) -> None:
    """It has no index for the seal to vouch for: its bytes are compared."""
    store, device, _ = sealed_sample(tmp_path)
    contents = read_sealed_contents(reopened(store), OPERATOR)
    store.pack(pack_of(store, 0)).unlink()
    payload = canon.dump(write_contents(contents))
    torn = Forge(store, pack_head(store, ZERO_DISK)).add(*forge.paper(Kind.CONTENTS, payload))
    torn.close(PackState.TORN)
    sign_again(store, device)
    assert read_sealed_contents(despite(store), OPERATOR) == contents
    torn.data[4096 + 200] ^= 1
    torn.save()
    with pytest.raises(RecordDamagedError):
        disks_of(despite(store), OPERATOR)


def test_a_contents_pack_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    path = store.pack(pack_of(store, 0))
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(PackDamagedError, match=f"{path.name}.*it is the contents pack"):
        disks_of(despite(store), OPERATOR)


def test_what_the_seal_does_not_list_is_refused_all_the_same(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    store.pack(PackId("ee" * 16)).write_bytes(b"")
    with pytest.raises(PackUnlistedError):
        despite(store)


def test_a_pack_exchanged_between_index_and_reading_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = sealed_sample(tmp_path)
    sealed = inspect(store.path, Pins())

    def exchanged(packs: PointPacks, key: PrivateKey, stop: Stop) -> PointMap:
        found = build(packs, key, stop)
        found.indexes = dict.fromkeys(found.indexes, bytes(32))
        return found

    monkeypatch.setattr(opening, "build", exchanged)
    (problem,) = open_all(sealed, OPERATOR).problems
    assert problem.name == "pack-damaged"
    assert "was exchanged" in problem.what


# --- several disks ---


def two_disks(place: Path) -> tuple[Sealed, PackInfo]:
    """A sealed store of two disks, and the pack of the first."""
    store, device = new_store(place)
    specs = [point(os.urandom(3 * BLOCK), one * 16) for one in ("11", "22")]
    for spec in specs:
        put_blocks(store, bytes(BLOCK) + os.urandom(2 * BLOCK), spec)
    seal_it(store, device, *specs)
    sealed = reopened(store)
    return sealed, sealed.infos[pack_of(store, 1)]


def test_a_disk_with_a_damaged_index_hides_neither_its_blocks_nor_other_disks(
    tmp_path: Path,
) -> None:
    sealed, info = two_disks(tmp_path)
    with PackReader(info.path, OPERATOR) as reader:
        block = next(one for one in reader.entries(info) if one.head.kind is Kind.BLOCK)
    proved: list[PointMap] = []
    assert open_all(sealed, OPERATOR, proved=proved.append).problems == []
    assert [one.spec.disk[:2] for one in proved] == ["11", "22"]
    data = bytearray(info.path.read_bytes())
    data[info.trailer.index_offset + 50] ^= 1
    info.path.write_bytes(data)
    proved.clear()
    (problem,) = open_all(sealed, OPERATOR, proved=proved.append).problems
    assert "The index" in problem.what
    assert [one.spec.disk[:2] for one in proved] == ["22"]
    opened: list[PointMap] = []
    (told,) = open_each(disks_of(sealed, OPERATOR), OPERATOR, opened.append).problems
    assert told.what == problem.what
    assert [one.spec.disk[:2] for one in opened] == ["22"]
    data[info.trailer.index_offset + 50] ^= 1
    data[block.offset + 500] ^= 1
    info.path.write_bytes(data)
    proved.clear()
    (problem,) = open_all(sealed, OPERATOR, proved=proved.append).problems
    assert "block 1 (bytes" in problem.what
    assert [one.spec.disk[:2] for one in proved] == ["22"]


def test_opening_can_be_stopped(tmp_path: Path) -> None:
    sealed, _ = two_disks(tmp_path)
    for one in disks_of(sealed, OPERATOR):
        with pytest.raises(StoppedError):
            one.open(OPERATOR, stop=lambda: True)
    looks = iter([False, False, True])  # one look a pack at its index, then one a record
    with pytest.raises(StoppedError):
        open_all(sealed, OPERATOR, stop=lambda: next(looks))


def test_a_disk_larger_than_memory_is_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of a few bytes may speak of 2^26 blocks."""
    sealed, _ = two_disks(tmp_path)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24000000 kB\nMemAvailable:          0 kB\n")
    monkeypatch.setattr(block, "MEMINFO", meminfo)
    found = open_all(sealed, OPERATOR).problems
    assert [one.name for one in found] == ["memory-short", "memory-short"]
    assert "MiB are free" in found[0].what


def test_a_stop_while_indexes_are_read_ends_the_opening(tmp_path: Path) -> None:
    sealed, _ = two_disks(tmp_path)
    with pytest.raises(StoppedError, match="indexes"):
        open_all(sealed, OPERATOR, stop=lambda: True)


def test_blocks_are_named_by_disk_alone_where_nothing_else_is_known_of_it(tmp_path: Path) -> None:
    """Neither contents nor index can be read: the block's place stands in its record's entry."""
    store = many_packs(tmp_path)
    sealed = reopened(store)
    contents, first, second = (sealed.infos[pack_of(store, place)] for place in (0, 1, 2))
    hurt = [
        (contents, contents.trailer.index_offset + 50),
        (first, first.trailer.index_offset + 50),
        (second, second.head.size + 20_000),
    ]
    for info, at in hurt:
        data = bytearray(info.path.read_bytes())
        data[at] ^= 1
        info.path.write_bytes(data)
    found = open_all(sealed, OPERATOR).problems
    assert [one.name for one in found] == ["pack-damaged", "pack-damaged", "record-damaged"]
    assert found[2].what.endswith(f"of disk {second.head.disk}")
