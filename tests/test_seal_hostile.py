"""Packs that no honest writer makes, made with the real keys and duly sealed: refused by name when
a recipient opens them, within bounds of memory.
"""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from blake3 import blake3

from appliance.block import PAGE
from appliance.errors import MotionGearError, RecordOrderError
from appliance.model import Codec, Digest, DiskId, PackId
from appliance.seal import canon
from appliance.seal.cut import digest
from appliance.seal.layout import (
    MAX_JSON,
    NO_DIGEST,
    Checkpoint,
    Kind,
    PackState,
    RecordHead,
    index_bytes,
    ranges_bytes,
)
from appliance.seal.manifest import State
from appliance.seal.papers import write_disk_head
from appliance.seal.recover import recover
from appliance.seal.scan import PackReader, examine
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import Store
from tests import forge
from tests.forge import Forge, disk_head, pack_head, point_end, reference, zeros
from tests.readout import content, maps_of, problems
from tests.support import BLOCK, OPERATOR, facts, new_store, point

ONE, TWO = b"1" * BLOCK, b"2" * BLOCK
DATA = ONE + TWO + bytes(2 * BLOCK) + b"end"
SPEC = point(DATA)
ALL = [forge.block(0, ONE), forge.block(1, TWO), zeros(2, 2), forge.block(4, b"end")]
Records = list[tuple[RecordHead, bytes]]


def here(store: Store) -> PackId:
    return pack_head(store, SPEC.disk).pack


def refusal(place: Path, make: Callable[[Store], object], most: int = 24 << 20) -> list[str]:
    """Make packs, seal them, and say what a recipient finds, in at most so much memory."""
    store, device = new_store(place)
    make(store)
    seal(store, device, {}, Consent(frozenset([SPEC.disk]), waiver="hostile"))
    assert problems(store.path) == [], "without a key nothing shows"
    tracemalloc.start()
    found = problems(store.path, OPERATOR)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most
    recovered(store, place / "out")
    return found


def recovered(store: Store, out: Path) -> list[str]:
    """The recovery reader never fails and never writes outside the disk."""
    out.mkdir()
    disks, lost = recover(sorted(store.packs.iterdir()), OPERATOR, out)
    for one in disks:
        assert one.path.stat().st_size == one.spec.facts.size
    return [*lost, *(problem for one in disks for problem in one.problems)]


def test_an_honest_pack_of_the_forge_is_taken(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    forge.forged(store, SPEC, *ALL)
    seal(store, device, {}, Consent(waiver="honest"))
    assert problems(store.path, OPERATOR) == []
    assert content(maps_of(store)[0]) == DATA
    assert recovered(store, tmp_path / "out") == []


def unreadable(*ranges: tuple[int, int], index: int = 1, count: int = 1) -> Records:
    return [forge.paper(Kind.UNREADABLE, ranges_bytes(list(ranges)), index, count)]


def packed(index: int, plain: int, stored: bytes, found: Digest) -> tuple[RecordHead, bytes]:
    return RecordHead(Kind.BLOCK, Codec.ZSTD, plain, len(stored), index, 1, found), stored


BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 28))
NO_SIZE = zstandard.ZstdCompressor(write_content_size=False).compress(TWO)
LIES: dict[str, tuple[Records, str]] = {
    "repeated record": ([ALL[0], ALL[0], *ALL[1:]], "record-order"),
    "swapped records": ([ALL[1], ALL[0], *ALL[2:]], "record-order"),
    "a block left out": ([ALL[0], *ALL[2:]], "record-order"),
    "a zero run over a block": ([ALL[0], zeros(0, 4), ALL[3]], "record-order"),
    "the end left out": (ALL[:3], "incomplete-disk"),
    "zero run of 2^60 blocks": ([*ALL[:2], zeros(2, 1 << 60)], "record-damaged"),
    "a block behind the end": ([*ALL, forge.block(5, ONE)], "record-damaged"),
    "a short block": ([ALL[0], forge.block(1, b"short"), *ALL[2:]], "record-damaged"),
    "a long last block": ([*ALL[:3], forge.block(4, b"end!")], "record-damaged"),
    "unreadable bytes outside": ([*ALL, *unreadable((0, 5))], "record-damaged"),
    "unreadable behind the disk": (
        [*ALL, *unreadable((4 * BLOCK, 4), index=4)],
        "record-damaged",
    ),
    "unreadable 2^60": (
        [*ALL, *unreadable((BLOCK, 1 << 60), count=1 << 60)],
        "record-damaged",
    ),
    "unreadable overlap": ([*ALL, *unreadable((BLOCK, 9), (BLOCK + 8, 9))], "record-damaged"),
    "zstd of another size": (
        [ALL[0], packed(1, BLOCK, zstandard.compress(b"x"), digest(TWO)), *ALL[2:]],
        "record-damaged",
    ),
    "zstd bomb": ([ALL[0], packed(1, BLOCK, BOMB, digest(TWO)), *ALL[2:]], "record-damaged"),
    "zstd without size": (
        [ALL[0], packed(1, BLOCK, NO_SIZE, digest(TWO)), *ALL[2:]],
        "record-damaged",
    ),
    "another digest": (
        [ALL[0], (replace(ALL[1][0], digest=digest(ONE)), TWO), *ALL[2:]],
        "record-damaged",
    ),
    "a second disk head": ([*ALL, disk_head(SPEC)], "record-damaged"),
    "contents in a disk's pack": (
        [*ALL, forge.paper(Kind.CONTENTS, b"{}")],
        "record-damaged",
    ),
    "an early end": ([*ALL[:2], point_end(5), *ALL[2:]], "record-damaged"),
    "a kind unknown": (
        [*ALL, (replace(ALL[0][0], kind=9), ONE)],  # type: ignore[arg-type]
        "unknown-format",
    ),
    "a note in a disk's pack": (
        [*ALL, forge.paper(Kind.NOTE, b'{"body":{},"type":"x","version":1}')],
        "record-damaged",
    ),
    "unreadable bytes told before their block": (
        [*ALL[:3], *unreadable((4 * BLOCK, 1), index=4), ALL[3]],
        "record-order",
    ),
    "unreadable bytes told of one block too many": (
        [*ALL[:2], *unreadable((BLOCK, 9), count=2), *ALL[2:]],
        "record-order",
    ),
    "a large window": (
        [packed(0, BLOCK, forge.windowed(25 - 10 << 3), digest(b"x" * BLOCK)), *ALL[1:]],
        "record-damaged",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_records_that_lie_are_refused_by_name(tmp_path: Path, lie: str) -> None:
    records, name = LIES[lie]
    found = refusal(tmp_path, lambda store: forge.forged(store, SPEC, *records))
    assert found == [name]


@pytest.mark.parametrize(
    ("target", "number"),
    [(None, 2), (None, 3), (None, 0), (None, 9), ("22" * 16, 1), ("later", 1), (None, 262_143)],
    ids=["itself", "later", "the disk head", "nothing", "no pack", "a later pack", "the last"],
)
def test_a_reference_to_anything_but_an_earlier_block_is_refused(
    tmp_path: Path, target: str | None, number: int
) -> None:
    def make(store: Store) -> None:
        later = pack_head(store, SPEC.disk, sequence=1, start=2)
        name = {None: here(store), "later": later.pack}.get(target, PackId(target or ""))
        first = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
        first.add(*ALL[0]).add(*reference(1, TWO, name, number)).close(PackState.CLOSED)
        second = Forge(store, later).add(*disk_head(SPEC)).add(*forge.block(2, TWO))
        second.add(*zeros(3, 1)).add(*ALL[3]).add(*point_end(5, here(store), later.pack)).close()

    assert refusal(tmp_path, make) == ["record-damaged"]


def test_a_reference_to_a_reference_is_refused(tmp_path: Path) -> None:
    def make(store: Store) -> None:
        records = [ALL[0], reference(1, ONE, here(store), 1), reference(2, ONE, here(store), 2)]
        forge.forged(store, SPEC, *records, zeros(3, 1), ALL[3])

    assert refusal(tmp_path, make) == ["record-damaged"]


def test_a_reference_into_another_disk_is_refused(tmp_path: Path) -> None:
    def make(store: Store) -> None:
        other = point(ONE, "00" * 15 + "01")
        forge.forged(store, other, forge.block(0, ONE))
        records = [reference(0, ONE, pack_head(store, other.disk).pack, 1), *ALL[1:]]
        forge.forged(store, SPEC, *records)

    assert refusal(tmp_path, make) == ["record-damaged"]


def two_packs(
    store: Store, torn: PackState, second: Records, session: int = 1, start: int = 2
) -> None:
    """A first pack with two blocks in ``torn`` state, a second one with other records."""
    first = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
    first.add(*ALL[0]).add(*ALL[1]).close(torn)
    sequence = 0 if session else 1
    head = pack_head(store, SPEC.disk, session=session, sequence=sequence, start=start)
    last = Forge(store, head).add(*disk_head(SPEC))
    for one in second:
        last.add(*one)
    last.add(*point_end(5, first.head.pack, head.pack)).close()


@pytest.mark.parametrize("session", [0, 1], ids=["the next sequence", "a new session"])
def test_nothing_stands_behind_the_end_of_a_point(tmp_path: Path, session: int) -> None:
    def make(store: Store) -> None:
        forge.forged(store, SPEC, *ALL)
        head = pack_head(store, SPEC.disk, session=session, sequence=1 - session, start=5)
        more = Forge(store, head).add(*disk_head(SPEC)).add(*point_end(5, here(store), head.pack))
        more.close()

    store, device = new_store(tmp_path / "unsealed")
    make(store)
    with pytest.raises(RecordOrderError, match="behind the end of its point"):
        seal(store, device, {}, Consent(waiver="hostile"))
    store, device = new_store(tmp_path)
    make(store)
    forge.seal_whatever(store, device, SPEC.disk)
    assert problems(store.path) == [], "without a key nothing shows"
    assert problems(store.path, OPERATOR)[:1] == ["record-order"]


def test_unreadable_bytes_of_blocks_that_the_pack_before_gave_are_refused(tmp_path: Path) -> None:
    def second(first: int, count: int) -> Records:
        told = unreadable((2 * BLOCK, 9), index=first, count=count)
        return [zeros(2, 1), *told, zeros(3, 1), ALL[3]]

    def make(first: int, count: int) -> Callable[[Store], None]:
        return lambda store: two_packs(store, PackState.CLOSED, second(first, count), session=0)

    assert refusal(tmp_path / "own", make(2, 1)) == []
    assert refusal(tmp_path / "other", make(1, 2)) == ["record-order"]


def test_a_reference_into_a_torn_pack_is_refused_and_into_a_closed_one_is_not(
    tmp_path: Path,
) -> None:
    def records(store: Store) -> Records:
        return [reference(2, ONE, here(store), 1), zeros(3, 1), ALL[3]]

    torn = refusal(
        tmp_path / "torn", lambda store: two_packs(store, PackState.TORN, records(store))
    )
    closed = refusal(
        tmp_path / "closed", lambda store: two_packs(store, PackState.CLOSED, records(store))
    )
    assert (torn, closed) == (["record-damaged"], [])


@pytest.mark.parametrize(
    ("state", "session", "start", "name"),
    [
        (PackState.CLOSED, 0, 2, []),
        (PackState.CLOSED, 0, 0, ["record-order"]),
        (PackState.CLOSED, 0, 3, ["record-order"]),
        (PackState.CLOSED, 1, 3, ["record-order"]),
        (PackState.TORN, 1, 2, []),
    ],
    ids=str,
)
def test_a_pack_takes_over_where_the_one_before_it_ended(
    tmp_path: Path, state: PackState, session: int, start: int, name: list[str]
) -> None:
    records = [zeros(start, 4 - start), ALL[3]]
    found = refusal(
        tmp_path, lambda store: two_packs(store, state, records, session=session, start=start)
    )
    assert found == name


@pytest.mark.parametrize("session", [0, 2])
def test_a_session_does_not_go_on_behind_a_torn_pack_nor_leave_a_gap(
    tmp_path: Path, session: int
) -> None:
    store, device = new_store(tmp_path)
    two_packs(store, PackState.TORN, [zeros(2, 2), ALL[3]], session=session)
    with pytest.raises(MotionGearError) as caught:
        seal(store, device, {}, Consent(waiver="hostile"))
    assert caught.value.name == {0: "record-order", 2: "pack-missing"}[session]


LAST_CURSOR_LIES = ["record-order", "pack-damaged"]


@pytest.mark.parametrize(
    ("last", "lie", "names"),
    [
        (5, {}, []),
        (4, {}, LAST_CURSOR_LIES),
        (5, {"cursor": 1}, ["pack-damaged"]),
        (5, {"cursor": 3}, ["pack-damaged"]),
        (5, {"records": 2}, ["pack-damaged"]),
        (5, {"records": 4}, ["pack-damaged"]),
        (5, {"digest": bytes(32)}, ["pack-damaged"]),
    ],
    ids=str,
)
def test_a_checkpoint_that_lies_is_refused_by_name(
    tmp_path: Path, last: int, lie: dict[str, Any], names: list[str]
) -> None:
    def make(store: Store) -> None:
        made = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
        made.add(*ALL[0]).add(*ALL[1])
        honest = Checkpoint(3, 2, blake3(made.data).digest(), forge.GUARD)
        made.data += replace(honest, **lie).encode()
        made.add(*ALL[2]).add(*ALL[3])
        made.add(*point_end(5, here(store))).close(cursor=last)

    assert refusal(tmp_path, make) == names


def test_beside_a_damaged_record_checkpoints_are_not_blamed(tmp_path: Path) -> None:
    """They digest what stood there; the pack's own digest tells the same."""

    def make(store: Store) -> None:
        made = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
        made.add(*ALL[0]).add(*ALL[1]).checkpoint().add(*ALL[2]).add(*ALL[3])
        made.add(*point_end(5, here(store))).close()

    store, _ = new_store(tmp_path)
    make(store)
    (info,) = store.infos()
    heard: list[str] = []
    with PackReader(info.path, OPERATOR) as reader:
        entries = reader.entries(info)
        for broken in (False, True):
            with info.path.open("r+b") as out:
                out.seek(entries[1].offset + PAGE)
                out.write(b"broken" if broken else b"")
            swept = reader.sweep(info, entries, lambda _, exc: heard.append(exc.name))
            assert len(list(swept)) == len(entries) - broken
    assert heard == ["record-damaged"]


def wrong_end(blocks: int, *packs: PackId) -> Callable[[Store], None]:
    def make(store: Store) -> None:
        lie = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
        for one in ALL:
            lie.add(*one)
        lie.add(*point_end(blocks, *(packs or (here(store),)))).close()

    return make


def no_end(store: Store) -> None:
    lie = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
    for one in ALL:
        lie.add(*one)
    lie.close(PackState.POINT_END)


def end_in_a_note(store: Store) -> None:
    lie = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
    for one in ALL:
        lie.add(*one)
    lie.add(*forge.paper(Kind.NOTE, point_end(5, here(store))[1])).close()


def hidden_end(store: Store) -> None:
    lie = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
    for one in ALL:
        lie.add(*one)
    lie.add(*point_end(5, here(store))).close(PackState.CLOSED)


def foreign_disk_head(store: Store) -> None:
    other = replace(SPEC, disk=DiskId("99" * 16))
    Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(other)).close(PackState.CLOSED)


def no_disk_head(store: Store) -> None:
    Forge(store, pack_head(store, SPEC.disk)).add(*ALL[0]).close(PackState.CLOSED)


def no_record(store: Store) -> None:
    Forge(store, pack_head(store, SPEC.disk)).close(PackState.CLOSED)


def absurd_size(store: Store) -> None:
    lie = {**write_disk_head(SPEC), "size": (1 << 50) - 1}
    paper = forge.paper(Kind.DISK_HEAD, canon.dump(lie))
    Forge(store, pack_head(store, SPEC.disk)).add(*paper).close(PackState.CLOSED)


def two_sizes(store: Store) -> None:
    first = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
    first.add(*ALL[0]).close(PackState.CLOSED)
    head = pack_head(store, SPEC.disk, sequence=1, start=1)
    smaller = replace(SPEC, facts=facts(BLOCK))
    Forge(store, head).add(*disk_head(smaller)).close(PackState.CLOSED)


def deep_paper(store: Store) -> None:
    paper = forge.paper(Kind.DISK_HEAD, b"[" * 100_000)
    Forge(store, pack_head(store, SPEC.disk)).add(*paper).close(PackState.CLOSED)


def paper_bomb(store: Store) -> None:
    plain = b"[" + b"1," * (MAX_JSON // 2) + b"1]"
    stored = zstandard.compress(plain)
    head = RecordHead(Kind.DISK_HEAD, Codec.ZSTD, len(plain), len(stored), 0, 0, digest(plain))
    Forge(store, pack_head(store, SPEC.disk)).add(head, stored).close(PackState.CLOSED)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (wrong_end(4), "pack-missing"),
        (wrong_end(5, PackId("77" * 16)), "pack-missing"),
        (no_end, "record-damaged"),
        (end_in_a_note, "record-damaged"),
        (hidden_end, "record-damaged"),
        (foreign_disk_head, "foreign-pack"),
        (no_disk_head, "record-damaged"),
        (no_record, "record-damaged"),
        (absurd_size, "record-damaged"),
        (two_sizes, "record-damaged"),
        (deep_paper, "record-damaged"),
        (paper_bomb, "record-damaged"),
    ],
    ids=range(12),
)
def test_papers_that_lie_are_refused_by_name(
    tmp_path: Path, make: Callable[[Store], None], name: str
) -> None:
    most = 200 << 20 if make is paper_bomb else 24 << 20  # 16 MiB of JSON as Python objects
    assert refusal(tmp_path, make, most) == [name]


def indexed(store: Store, lie: Callable[[Forge], dict[str, object]]) -> None:
    """An otherwise honest pack with another index."""
    made = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
    for one in ALL:
        made.add(*one)
    made.add(*point_end(5, here(store)))
    changed = lie(made)
    made.close(**changed)  # type: ignore[arg-type]


def relisted(place: int, **fields: object) -> Callable[[Forge], dict[str, object]]:
    """The index tells something else of one record."""

    def lie(made: Forge) -> dict[str, object]:
        listed = list(made.entries)
        heads = [disk_head(SPEC)[0], *(one for one, _ in ALL)]
        listed[place] = (replace(heads[place], **fields).encode(), listed[place][1])  # type: ignore[arg-type]
        return {"index": listed}

    return lie


def moved(place: int, by: int) -> Callable[[Forge], dict[str, object]]:
    def lie(made: Forge) -> dict[str, object]:
        listed = list(made.entries)
        listed[place] = (listed[place][0], listed[place][1] + by)
        return {"index": listed}

    return lie


def hiding(made: Forge) -> dict[str, object]:
    """The last block but one is left out, and listed nowhere."""
    made.entries.pop()
    made.data += made.frame(*forge.block(0, b"hidden" + ONE[6:]), number=6)
    made.entries.append((b"", 0))
    made.entries.pop()
    return {"index": [*made.entries], "state": PackState.CLOSED}


@pytest.mark.parametrize(
    ("lie", "name"),
    [
        (relisted(1, digest=digest(TWO)), "record-damaged"),
        (relisted(1, index=1), "record-order"),
        (relisted(1, plain=5, stored=5), "record-damaged"),
        (relisted(2, kind=Kind.REFERENCE, stored=0, target=PackId("1" * 32)), "record-damaged"),
        (relisted(3, kind=Kind.BLOCK), "record-damaged"),
        (relisted(3, count=1 << 60), "record-damaged"),
        (relisted(1, codec=7), "unknown-format"),
        (moved(1, PAGE), "pack-damaged"),
        (moved(1, 1), "pack-damaged"),
        (moved(5, PAGE), "pack-damaged"),
        (moved(5, 1 << 62), "pack-damaged"),
        (hiding, "pack-damaged"),
        (lambda made: {"plain": index_bytes(made.entries)[:-1] + b"\1"}, "pack-damaged"),
        (lambda made: {"plain": bytes(len(index_bytes(made.entries)))}, "unknown-format"),
    ],
    ids=range(14),
)
def test_an_index_that_lies_is_refused_by_name(
    tmp_path: Path, lie: Callable[[Forge], dict[str, object]], name: str
) -> None:
    found = refusal(tmp_path, lambda store: indexed(store, lie))
    assert found[:1] == [name]


def test_an_index_of_the_most_records_takes_no_more_than_its_own_size(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    made = Forge(store, pack_head(store, SPEC.disk))
    made.add(*disk_head(SPEC))
    path = made.close(plain=bytes(1 << 20), index=made.entries)
    with pytest.raises(MotionGearError) as caught:
        examine(path)
    assert caught.value.name == "pack-damaged"


# --- frames ---


def torn_pack(store: Store, change: Callable[[Forge], object]) -> Path:
    made = Forge(store, pack_head(store, SPEC.disk)).add(*disk_head(SPEC))
    change(made)
    return made.close(PackState.TORN)


def add_numbered(*numbers: int) -> Callable[[Forge], None]:
    def change(made: Forge) -> None:
        for place, number in enumerate(numbers):
            made.add(*forge.block(place, ONE), number=number)

    return change


def add_padded(made: Forge) -> None:
    made.add(*forge.block(0, ONE), pad=b"x")


def add_oversized(made: Forge) -> None:
    made.add(*forge.block(0, ONE), pad=bytes(PAGE))


def add_raw(data: bytes) -> Callable[[Forge], None]:
    def change(made: Forge) -> None:
        made.data += data

    return change


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (add_numbered(1, 1), "record-order"),
        (add_numbered(2, 1), "record-order"),
        (add_numbered(1, 3), "record-order"),
        (add_numbered(0), "record-order"),
        (add_padded, "record-damaged"),
        (add_oversized, "record-damaged"),
        (add_raw(bytes(PAGE)), "record-damaged"),
        (add_raw((PAGE - 8).to_bytes(4, "little") + b"\1" + bytes(PAGE - 5)), "record-damaged"),
        (add_raw((1 << 24).to_bytes(4, "little") + b"\1" + bytes(PAGE - 5)), "record-damaged"),
        (add_raw(b"\xfb" + b"\xff" * 3 + b"\1" + bytes(PAGE - 5)), "record-damaged"),
        (
            add_raw((2 * PAGE - 8).to_bytes(4, "little") + b"\1" + bytes(PAGE - 5)),
            "record-damaged",
        ),
        (lambda made: made.entries.append((b"", 0)), "pack-damaged"),
    ],
    ids=range(12),
)
def test_frames_of_a_torn_pack_that_lie_are_refused_by_name(
    tmp_path: Path, change: Callable[[Forge], object], name: str
) -> None:
    assert refusal(tmp_path, lambda store: torn_pack(store, change)) == [name]


def test_a_repeated_or_moved_frame_of_a_real_pack_is_refused(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    path = forge.forged(store, SPEC, *ALL)
    info = examine(path)
    whole = path.read_bytes()
    with PackReader(path, OPERATOR) as reader:
        entries = reader.entries(info)
    frames = [whole[one.offset : one.offset + one.head.frame_size] for one in entries]
    front, behind = whole[: info.head.size], whole[info.trailer.checkpoint_offset :]
    orders = {"repeated": [0, 1, 1, 2, 3, 4], "swapped": [0, 2, 1, 3, 4, 5], "lost": [0, 2, 3]}
    for place, order in enumerate(orders.values()):
        path.write_bytes(front + b"".join(frames[one] for one in order) + behind)
        with PackReader(path, OPERATOR) as reader, pytest.raises(MotionGearError) as caught:
            list(reader.walk())
        assert caught.value.name == "record-order"
        assert path.name in caught.value.what
        (said,) = recovered(store, tmp_path / f"{place}")
        assert "stands where record" in said


def test_a_record_asked_for_under_another_number_is_refused(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    path = forge.forged(store, SPEC, *ALL)
    with PackReader(path, OPERATOR) as reader:
        entry = reader.entries(examine(path))[1]
        assert reader.record_at(entry.offset, 1).payload == ONE
        with pytest.raises(MotionGearError, match=f"{path.name}: record 1 stands") as caught:
            reader.record_at(entry.offset, 2)
    assert caught.value.name == "record-order"


def test_zeros_stored_as_a_block_are_zeros_in_the_manifest(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    honest, other = point(DATA, "aa" * 16), point(DATA, "bb" * 16)
    forge.forged(store, honest, *ALL)
    forge.forged(store, other, *ALL[:2], forge.block(2, bytes(BLOCK)), zeros(3, 1), ALL[3])
    maps = maps_of(store)
    assert [one.manifest.page_digests() for one in maps] == [maps[0].manifest.page_digests()] * 2
    assert maps[1].manifest[2][1] is State.ZERO
    assert content(maps[1]) == DATA


def test_a_reference_without_a_digest_reaches_nothing(tmp_path: Path) -> None:
    def make(store: Store) -> None:
        blank = replace(reference(1, TWO, here(store), 0)[0], digest=NO_DIGEST)
        forge.forged(store, SPEC, ALL[0], (blank, b""), *ALL[2:])

    assert refusal(tmp_path, make) == ["record-damaged"]
