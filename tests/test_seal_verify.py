"""Verifying without a key and with one: pins, exchanged parts, lies of the signer."""

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.block import aligned_buffer
from appliance.errors import (
    BadInputError,
    MotionGearError,
    OlderSealError,
    PackDamagedError,
    StateError,
    StoppedError,
)
from appliance.events import Event, Progress, Step
from appliance.model import PackId
from appliance.seal import canary, canon, readback, scan, statement, text, verify
from appliance.seal.accepted import Accepted
from appliance.seal.cut import digest
from appliance.seal.identity import Device
from appliance.seal.layout import PackState
from appliance.seal.readback import each, readers_for
from appliance.seal.scan import PackReader, examine
from appliance.seal.statement import Seal
from appliance.seal.store import SEAL, Store
from appliance.seal.verify import Findings, Pins, Trust, inspect
from tests.forge import Forge, pack_head, sign, sign_again
from tests.readout import other_device, pack_of, problems, reopened
from tests.support import (
    BLOCK,
    OPERATOR,
    RECOVERY,
    STRANGER,
    many_packs,
    new_store,
    point,
    put_blocks,
    sample_bytes,
    seal_it,
    sealed_sample,
)

Change = Callable[[Seal], Seal]


def pins(store: Store) -> Pins:
    """What the sender would have told: all of it."""
    seal = statement.read(store.path)
    return Pins(seal.device_fingerprint, text.words(seal.root()), seal.recipients)


def refused(path: Path, given: Pins | None = None, book: Accepted | None = None) -> str:
    with pytest.raises(MotionGearError) as caught:
        inspect(path, given or Pins(), book)
    return caught.value.name


def test_a_store_is_authentic_only_when_signer_and_root_were_known(tmp_path: Path) -> None:
    store, device, _ = sealed_sample(tmp_path)
    known = pins(store)
    assert inspect(store.path, known).trust is Trust.AUTHENTIC
    assert inspect(store.path, Pins(root=known.root)).trust is Trust.CONSISTENT
    assert inspect(store.path, Pins(device=device.fingerprint)).trust is Trust.CONSISTENT
    assert inspect(store.path, Pins()).trust is Trust.CONSISTENT


def test_another_signer_root_or_recipient_than_expected_is_refused(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    known = pins(store)
    stranger = other_device(tmp_path).fingerprint
    assert refused(store.path, replace(known, device=stranger)) == "signer-mismatch"
    assert refused(store.path, replace(known, root=text.grouped(bytes(32)))) == "root-mismatch"
    mine = OPERATOR.recipient.fingerprint
    for others in ((mine,), (mine, STRANGER.recipient.fingerprint)):
        assert refused(store.path, replace(known, recipients=others)) == "recipients-mismatch"
    more = (*known.recipients, STRANGER.recipient.fingerprint)
    assert refused(store.path, replace(known, recipients=more)) == "recipients-mismatch"
    mixed = replace(known, recipients=known.recipients[::-1])
    assert inspect(store.path, mixed).trust is Trust.AUTHENTIC


def test_pins_that_cannot_be_what_they_are_given_for_are_refused(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    for wrong in (Pins(device="x"), Pins(root="x"), Pins(recipients=("x",))):
        with pytest.raises(BadInputError):
            inspect(store.path, wrong)


def test_an_older_seal_is_refused_by_the_book_and_by_the_pin(tmp_path: Path) -> None:
    older, device = new_store(tmp_path, name="older")
    newer = Store.create(tmp_path / "newer", "n", device, older.head.recipients, BLOCK)
    data = sample_bytes()
    for store in (older, newer):
        put_blocks(store, data, point(data))
        seal_it(store, device, point(data))
    book = Accepted(tmp_path / "home")
    for store in (older, newer):
        sealed = inspect(store.path, pins(store), book)
        book.accept(sealed.seal)
        inspect(store.path, pins(store), book)
    assert refused(older.path, pins(older), book) == "older-seal"
    assert refused(older.path, pins(newer), book) == "root-mismatch"
    book.accept(statement.read(older.path))
    with pytest.raises(OlderSealError, match="seal 2 was accepted"):
        book.refuse_older(statement.read(older.path))
    assert refused(older.path, Pins(), book) == "older-seal"
    assert inspect(older.path, Pins()).trust is Trust.CONSISTENT
    assert inspect(newer.path, Pins(), book).trust is Trust.CONSISTENT


def test_the_book_of_one_device_says_nothing_of_another(tmp_path: Path) -> None:
    book = Accepted(tmp_path)
    first, _, _ = sealed_sample(tmp_path / "a")
    other, _, _ = sealed_sample(tmp_path / "b")
    book.accept(replace(statement.read(first.path), sequence=9))
    book.accept(statement.read(other.path))
    inspect(other.path, pins(other), book)
    assert refused(first.path, pins(first), book) == "older-seal"


def test_no_line_of_the_book_is_lost_to_another_reader(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    seal = statement.read(store.path)
    seals = [replace(seal, device=f"{one:02x}" * 32) for one in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: Accepted(tmp_path).accept(one), seals))
    for one in seals:
        with pytest.raises(OlderSealError):
            Accepted(tmp_path).refuse_older(replace(one, waiver="another"))


def test_a_damaged_book_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    (tmp_path / "accepted.json").write_bytes(b"{}")
    with pytest.raises(StateError, match="damaged"):
        Accepted(tmp_path).refuse_older(statement.read(store.path))


def test_an_unsealed_store_is_not_verified(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    assert refused(store.path) == "seal-missing"


def seal_with(store: Store, **fields: object) -> None:
    document = json.loads((store.path / SEAL).read_bytes())
    document["seal"].update(fields)
    (store.path / SEAL).write_bytes(canon.dump(document))


@pytest.mark.parametrize(
    "fields",
    [
        {"features": "all"},
        {"sequence": 0},
        {"packs": []},
        {"packs": [{}]},
        {"packs": "all"},
        {"canary": {}},
        {"canary": 1},
        {"waiver": "w" * 1025},
        {"accepted": ["a" * 257]},
        {"created": "now"},
        {"previous": "ab"},
        {"more": 1},
        {"waiver": "another reason"},
        {"sequence": 2},
        {"device": "ff" * 32},
    ],
    ids=str,
)
def test_a_seal_changed_by_anybody_but_the_device_is_refused(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    store, _, _ = sealed_sample(tmp_path)
    seal_with(store, **fields)
    assert refused(store.path) == "seal-damaged"


@pytest.mark.parametrize(
    "fields", [{"format": "x"}, {"version": 2, "more": 1}, {"features": ["x"]}], ids=str
)
def test_a_seal_of_a_later_release_is_named_as_such(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    store, _, _ = sealed_sample(tmp_path)
    seal_with(store, **fields)
    assert refused(store.path) == "unknown-format"


def test_a_seal_beyond_64_mib_is_not_parsed(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    with (store.path / SEAL).open("r+b") as out:
        out.truncate(1 << 40)
    assert refused(store.path) == "seal-damaged"


def twice(seal: Seal) -> Seal:
    return replace(seal, packs=(*seal.packs, seal.packs[-1]))


SIGNED_LIES: dict[str, tuple[Change, str]] = {
    "a pack twice": (twice, "seal-damaged"),
    "another shipment": (lambda one: replace(one, shipment=bytes(16).hex()), "seal-damaged"),  # type: ignore[arg-type]
    "another head": (lambda one: replace(one, head="00" * 32), "seal-damaged"),
    "other recipients": (lambda one: replace(one, recipients=one.recipients[:1]), "seal-damaged"),
    "no canary": (lambda one: replace(one, canary=None), "seal-damaged"),
    "another canary": (
        lambda one: replace(one, canary=replace(_canary(one), file="00" * 32)),
        "seal-damaged",
    ),
    "a stranger's canary": (
        lambda one: replace(
            one, canary=replace(_canary(one), opened_by=STRANGER.recipient.fingerprint)
        ),
        "seal-damaged",
    ),
    "no contents pack": (lambda one: replace(one, contents=PackId("00" * 16)), "seal-damaged"),
    "other order": (lambda one: replace(one, packs=one.packs[::-1]), "seal-damaged"),
    "a pack less": (lambda one: replace(one, packs=one.packs[:-1]), "pack-unlisted"),
    "a pack more": (
        lambda one: replace(
            one, packs=(*one.packs, replace(one.packs[0], pack=PackId("ff" * 16)))
        ),
        "pack-missing",
    ),
    "another size": (
        lambda one: replace(one, packs=(*one.packs[:-1], replace(one.packs[-1], size=1))),
        "pack-damaged",
    ),
    "other records": (
        lambda one: replace(one, packs=(*one.packs[:-1], replace(one.packs[-1], records=1))),
        "pack-damaged",
    ),
    "torn": (
        lambda one: replace(one, packs=(*one.packs[:-1], replace(one.packs[-1], index=""))),
        "pack-damaged",
    ),
    "another index": (
        lambda one: replace(one, packs=(*one.packs[:-1], replace(one.packs[-1], index="00" * 32))),
        "seal-damaged",
    ),
    "another digest": (
        lambda one: replace(
            one, packs=(*one.packs[:-1], replace(one.packs[-1], digest="00" * 32))
        ),
        "pack-damaged",
    ),
}


def _canary(seal: Seal) -> statement.SealedCanary:
    assert seal.canary is not None
    return seal.canary


@pytest.mark.parametrize("lie", SIGNED_LIES)
def test_a_signer_who_lies_is_refused_by_name(tmp_path: Path, lie: str) -> None:
    change, name = SIGNED_LIES[lie]
    store, device, _ = sealed_sample(tmp_path)
    sign(store, device, change(statement.read(store.path)))
    assert problems(store.path) == [name]


def test_a_seal_by_another_device_is_refused(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    other = other_device(tmp_path)
    sign(store, other, replace(statement.read(store.path), device=other.public))
    assert problems(store.path) == ["seal-damaged"]


# --- what lies in the store was exchanged ---


def test_a_missing_an_extra_and_a_renamed_pack_are_told_apart(tmp_path: Path) -> None:
    store = many_packs(tmp_path)
    one, other = store.pack(pack_of(store, 1)), store.pack(pack_of(store, 2))
    aside = tmp_path / "aside"
    one.rename(aside)
    assert refused(store.path) == "pack-missing"
    aside.rename(one)
    (store.packs / ("ee" * 16 + ".pack")).write_bytes(one.read_bytes())
    assert refused(store.path) == "pack-unlisted"
    (store.packs / ("ee" * 16 + ".pack")).unlink()
    (store.packs / ("ee" * 16 + ".open")).touch()
    assert refused(store.path) == "pack-unlisted"
    (store.packs / ("ee" * 16 + ".open")).unlink()
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert refused(store.path) == "foreign-pack"


def test_packs_put_into_another_order_by_their_signer_are_refused(tmp_path: Path) -> None:
    store = many_packs(tmp_path)
    seal = statement.read(store.path)
    first, second = seal.packs[1:3]
    device = Device.of(tmp_path / "home")
    sign(store, device, replace(seal, packs=(seal.packs[0], second, first, *seal.packs[3:])))
    assert refused(store.path) == "seal-damaged"


def test_a_pack_of_another_shipment_is_foreign(tmp_path: Path) -> None:
    store, device = new_store(tmp_path, name="one")
    other, _ = new_store(tmp_path, name="two")
    data = sample_bytes()
    for one in (store, other):
        put_blocks(one, data, point(data))
    seal_it(store, device, point(data))
    seal_it(other, device, point(data))
    mine = store.pack(pack_of(store, 1))
    mine.write_bytes(other.pack(pack_of(other, 1)).read_bytes())
    assert refused(store.path) == "foreign-pack"


@pytest.mark.parametrize("part", ["block_size", "recipients"])
def test_a_pack_that_does_not_agree_with_the_head_is_foreign(tmp_path: Path, part: str) -> None:
    store, device, _ = sealed_sample(tmp_path)
    head = pack_head(store, "ff" * 16)
    odd = (
        replace(head, block_size=1 << 20) if part == "block_size" else replace(head, recipients=1)
    )
    made = Forge(store, head)
    if part == "recipients":
        store.head = replace(store.head, recipients=store.head.recipients[:1])
        made = Forge(store, odd)
    else:
        made.data[:120] = odd.context_bytes()
    made.close(PackState.CLOSED)
    sign_again(store, device)
    assert refused(store.path) == "foreign-pack"


def test_two_packs_in_one_place_are_refused_even_when_signed(tmp_path: Path) -> None:
    store, device, _ = sealed_sample(tmp_path)
    for name in ("aa" * 16, "bb" * 16):
        Forge(store, pack_head(store, "ff" * 16, pack=name)).close(PackState.CLOSED)
    sign_again(store, device)
    assert refused(store.path) == "pack-repeated"


def test_a_recipient_added_to_the_head_is_noticed(tmp_path: Path) -> None:
    store, device, _ = sealed_sample(tmp_path)
    spied = replace(store.head, recipients=(*store.head.recipients, STRANGER.recipient))
    (store.path / "head.json").write_bytes(spied.encode())
    assert refused(store.path) == "seal-damaged"
    seal = statement.read(store.path)
    names = tuple(one.fingerprint for one in spied.recipients)
    sign(store, device, replace(seal, head=spied.digest().hex(), recipients=names))
    assert refused(store.path) == "canary"
    expected = Pins(recipients=seal.recipients)
    assert refused(store.path, expected) == "recipients-mismatch"


def test_a_recipient_added_while_sealing_is_shown_by_the_pinned_list(tmp_path: Path) -> None:
    store, device = new_store(tmp_path, keys=(OPERATOR, RECOVERY, STRANGER))
    data = sample_bytes()
    put_blocks(store, data, point(data))
    seal_it(store, device, point(data))
    authorised = (OPERATOR.recipient.fingerprint, RECOVERY.recipient.fingerprint)
    assert refused(store.path, Pins(recipients=authorised)) == "recipients-mismatch"


def test_a_canary_exchanged_or_taken_away_is_noticed(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    path = store.path / canary.FILE
    path.write_bytes(path.read_bytes() + b" ")
    assert refused(store.path) == "seal-damaged"
    path.unlink()
    assert refused(store.path) == "seal-damaged"


@pytest.mark.parametrize("odd", ["directory", "pipe", "link", "empty"])
def test_a_pack_that_is_no_regular_file_is_refused(tmp_path: Path, odd: str) -> None:
    store, _, _ = sealed_sample(tmp_path)
    path = store.pack(pack_of(store, 1))
    path.rename(tmp_path / "aside")
    if odd == "directory":
        path.mkdir()
    elif odd == "pipe":
        os.mkfifo(path)
    elif odd == "link":
        path.symlink_to(tmp_path / "aside")
    else:
        path.touch()
    assert refused(store.path) == "pack-damaged"
    with pytest.raises(MotionGearError) as caught, PackReader(path, OPERATOR):
        pass
    assert caught.value.name in {"pack-damaged", "pack-missing"}


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("head.json", "not-a-store"),
        ("seal.json", "seal-missing"),
        ("canary.json", "canary"),
    ],
)
def test_no_file_of_a_store_is_a_link(tmp_path: Path, name: str, refusal: str) -> None:
    store, _, _ = sealed_sample(tmp_path)
    (store.path / name).rename(tmp_path / name)
    (store.path / name).symlink_to(tmp_path / name)
    assert refused(store.path) == refusal


def test_a_pack_gone_between_listing_and_reading_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MotionGearError) as caught:
        examine(tmp_path / "gone.pack")
    assert caught.value.name == "pack-missing"


# --- reading everything ---


def test_all_damage_is_found_and_work_done_before_is_not_done_again(tmp_path: Path) -> None:
    store = many_packs(tmp_path)
    sealed = reopened(store)
    hurt = [store.pack(pack_of(store, place)) for place in (1, 3)]
    for path in hurt:
        data = bytearray(path.read_bytes())
        data[30_000] ^= 1
        path.write_bytes(data)
    passed: list[PackId] = []
    told: list[Event] = []
    found = verify.verify(sealed, told.append, passed=passed.append)
    assert sorted(one.what.split()[0] for one in found.problems) == sorted(
        path.name for path in hurt
    )
    assert len(passed) == len(sealed.seal.packs) - 2
    with pytest.raises(PackDamagedError, match="and 1 more"):
        found.refuse()
    again: list[PackId] = []
    assert len(verify.verify(sealed, known=passed, passed=again.append).problems) == 2
    assert again == []
    done = [one for one in told if isinstance(one, Progress)][-1]
    assert done.done == done.total
    assert [one.step for one in told if isinstance(one, Step)] == ["verify"]


def test_no_findings_refuse_nothing_and_one_is_told_alone() -> None:
    Findings().refuse()
    with pytest.raises(PackDamagedError, match=r"^alone$"):
        Findings([PackDamagedError("alone")]).refuse()


def test_a_stranger_verifies_and_opens_nothing(tmp_path: Path) -> None:
    store, _, _ = sealed_sample(tmp_path)
    assert problems(store.path) == []
    assert problems(store.path, STRANGER) == ["wrong-key"]
    assert problems(store.path, RECOVERY) == []


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    sealed = reopened(many_packs(tmp_path))
    with pytest.raises(StoppedError):
        verify.verify(sealed, stop=lambda: True)


def test_a_disk_that_fails_while_reading_is_damage_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = sealed_sample(tmp_path)
    sealed = reopened(store)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(readback, "stream_past_cache", fail)
        assert {one.name for one in verify.verify(sealed).problems} == {"pack-damaged"}
    info = sealed.infos[pack_of(store, 1)]
    with PackReader(info.path, OPERATOR) as reader, monkeypatch.context() as patch:
        patch.setattr(scan, "pread_full", fail)
        for read in (reader.entries, lambda _: list(reader.walk())):
            with pytest.raises(PackDamagedError, match="cannot be read"):
                read(info)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "pread_full", fail)
        with pytest.raises(PackDamagedError, match="cannot be read"):
            examine(info.path)


def test_a_large_pack_is_digested_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = sealed_sample(tmp_path)
    info = max(store.infos(), key=lambda one: one.size)
    data = info.path.read_bytes()
    assert len(data) > 9 * 4096
    for piece in (4096, 3 * 4096, 9 * 4096, 1 << 20):
        monkeypatch.setattr(readback, "_buffer", lambda size=piece: aligned_buffer(size))
        moved: list[int] = []
        found = readback.digest_pack(info, moved.append, lambda: False)
        assert found.size == sum(moved) == len(data)
        assert found.whole == digest(data)
        assert found.body == digest(data[:-4096])
        assert found.index == digest(data[info.trailer.index_offset : -4096])


def test_other_work_is_called_off_when_one_is_stopped(tmp_path: Path) -> None:
    paths = [tmp_path / f"{place}" for place in range(9)]
    for one in paths:
        one.touch()
    began: list[Path] = []

    def work(path: Path) -> int:
        began.append(path)
        if len(began) == 2:
            raise StoppedError("stopped")
        return 1

    with pytest.raises(StoppedError):
        list(each(paths, 1, work))
    assert len(began) == 2
    assert readers_for(tmp_path) >= 1


def test_whoever_stops_listening_calls_the_rest_off(tmp_path: Path) -> None:
    paths = [tmp_path / f"{place}" for place in range(9)]
    for one in paths:
        one.touch()
    began: list[Path] = []
    told = each(paths, 4, began.append)
    next(told)
    told.close()  # type: ignore[attr-defined]
    assert len(began) <= 4


def test_two_contents_packs_are_one_too_many(tmp_path: Path) -> None:
    store, device, _ = sealed_sample(tmp_path)
    Forge(store, replace(pack_head(store, "00" * 16), sequence=1)).close(PackState.CLOSED)
    sign_again(store, device)
    assert refused(store.path) == "seal-damaged"
