"""The chain of custody: whatever is done to its records has a name."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import ShipmentId
from appliance.seal import chain, deed
from appliance.seal.chain import Expected, Finding, Kind
from appliance.seal.deed import Clock, Deed, Record, What, Who
from appliance.seal.identity import Device

SHIPMENT, ROOT, OTHER = ShipmentId("ab" * 16), "cd" * 32, "ef" * 32
GIVER, TAKER = "giver", "taker"
STORY = (
    (GIVER, Deed.CREATED, ""),
    (GIVER, Deed.INGESTED, ""),
    (GIVER, Deed.SEALED, ROOT),
    (GIVER, Deed.HANDED_OVER, ROOT),
    (TAKER, Deed.RECEIVED, ROOT),
    (TAKER, Deed.VERIFIED, ROOT),
    (TAKER, Deed.OPENED, ROOT),
    (TAKER, Deed.RESTORED, ROOT),
    (TAKER, Deed.CHECKED, ROOT),
    (TAKER, Deed.ERASED, ROOT),
)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Device]:
    base = tmp_path_factory.mktemp("custody")
    for one in (GIVER, TAKER):
        (base / one).mkdir()
    return {one: Device.of(base / one) for one in (GIVER, TAKER)}


@pytest.fixture
def story(homes: dict[str, Device]) -> dict[int, bytes]:
    """The whole way of a shipment, as it should be."""
    return made(homes, STORY)


def made(
    homes: dict[str, Device], deeds: tuple[tuple[str, Deed, str], ...], receiver: str = ""
) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for number, (who, done, root) in enumerate(deeds, 1):
        before = deed.digest(found[number - 1]) if found else ""
        what = What(receiver=receiver) if done is Deed.HANDED_OVER else What()
        record = Record(
            number,
            done,
            SHIPMENT,
            root,
            Who(who),
            "",
            f"2026-11-23T08:00:{number:02}Z",
            Clock.FREE,
            what,
            before,
            homes[who].public,
        )
        found[number] = deed.sign(record, homes[who])
    return found


def kinds(found: list[Finding]) -> list[tuple[Kind, int]]:
    return [(one.kind, one.number) for one in found]


def resigned(story: dict[int, bytes], number: int, device: Device, **changed: object) -> None:
    """Change a record as somebody would who has that device's key."""
    record = deed.parse(story[number]).record
    values = {name: getattr(record, name) for name in Record.__slots__} | changed
    story[number] = deed.sign(Record(**values), device)


def test_a_whole_story_has_no_findings(story: dict[int, bytes], homes: dict[str, Device]) -> None:
    expected = Expected(SHIPMENT, ROOT, homes[GIVER].public)
    assert chain.verify(story, expected, story) == []


@given(data=st.data())
def test_any_byte_that_is_changed_is_named(data: st.DataObject, homes: dict[str, Device]) -> None:
    story = made(homes, STORY)
    number = data.draw(st.sampled_from(sorted(story)))
    at = data.draw(st.integers(0, len(story[number]) - 1))
    bit = data.draw(st.integers(1, 255))
    changed = bytearray(story[number])
    changed[at] ^= bit
    story[number] = bytes(changed)
    found = kinds(chain.verify(story))
    assert {(Kind.DAMAGED, number), (Kind.BAD_SIGNATURE, number)} & set(found)


@given(data=st.data())
def test_a_record_that_is_cut_short_is_named(
    data: st.DataObject, homes: dict[str, Device]
) -> None:
    story = made(homes, STORY)
    number = data.draw(st.sampled_from(sorted(story)))
    story[number] = story[number][: data.draw(st.integers(0, len(story[number]) - 1))]
    assert (Kind.DAMAGED, number) in kinds(chain.verify(story))


@given(data=st.data())
def test_records_taken_out_of_the_middle_are_a_gap(
    data: st.DataObject, homes: dict[str, Device]
) -> None:
    story = made(homes, STORY)
    first = data.draw(st.integers(1, len(story) - 1))
    for number in range(first, data.draw(st.integers(first + 1, len(story)))):
        del story[number]
    assert (Kind.GAP, first) in kinds(chain.verify(story))


@given(data=st.data())
def test_records_whose_files_are_swapped_are_damaged(
    data: st.DataObject, homes: dict[str, Device]
) -> None:
    story = made(homes, STORY)
    one, two = sorted(
        data.draw(st.lists(st.sampled_from(sorted(story)), min_size=2, max_size=2, unique=True))
    )
    story[one], story[two] = story[two], story[one]
    assert {(Kind.DAMAGED, one), (Kind.DAMAGED, two)} <= set(kinds(chain.verify(story)))


@given(number=st.integers(2, len(STORY)))
def test_a_record_put_between_breaks_what_follows(number: int, homes: dict[str, Device]) -> None:
    """Also by somebody who numbers all that follows anew, but for those keys they lack."""
    story = made(homes, STORY)
    told = {one: two for one, two in story.items() if one < number}
    told[number] = deed.sign(
        replace(
            deed.parse(story[number]).record,
            deed=Deed.VERIFIED,
            previous=deed.digest(story[number - 1]),
            signer=homes[TAKER].public,
        ),
        homes[TAKER],
    )
    told |= {one + 1: two for one, two in story.items() if one >= number}
    assert (Kind.DAMAGED, number + 1) in kinds(chain.verify(told))


@given(length=st.integers(1, len(STORY) - 1))
def test_a_chain_cut_off_is_told_by_another_copy(length: int, homes: dict[str, Device]) -> None:
    story = made(homes, STORY)
    cut = {one: two for one, two in story.items() if one <= length}
    assert (Kind.TRUNCATED, length + 1) in kinds(chain.verify(cut, against=story))
    assert not [one for one in chain.verify(cut) if one.is_error]  # by itself nobody can tell


def test_a_record_exchanged_by_its_own_signer_breaks_the_next(
    story: dict[int, bytes], homes: dict[str, Device]
) -> None:
    before = dict(story)
    resigned(story, 2, homes[GIVER], where="elsewhere")
    assert kinds(chain.verify(story)) == [(Kind.BROKEN, 3)]
    assert kinds(chain.verify(story, against=before)) == [(Kind.FORK, 2), (Kind.BROKEN, 3)]


def test_records_of_others_are_named(story: dict[int, bytes], homes: dict[str, Device]) -> None:
    resigned(story, 10, homes[TAKER], shipment=ShipmentId("00" * 16), root=OTHER)
    assert kinds(chain.verify(story)) == [(Kind.FOREIGN, 10), (Kind.OTHER_ROOT, 10)]
    expected = Expected(ShipmentId("00" * 16), OTHER, homes[TAKER].public)
    found = kinds(chain.verify(made(homes, STORY), expected))
    assert (Kind.FOREIGN, 1) in found
    assert (Kind.OTHER_ROOT, 3) in found
    assert {(Kind.OTHER_SIGNER, 1), (Kind.OTHER_SIGNER, 3)} <= set(found)


def test_a_clock_that_ran_backwards_is_a_warning(
    story: dict[int, bytes], homes: dict[str, Device]
) -> None:
    resigned(story, 10, homes[TAKER], at="2026-11-23T07:00:00Z")
    found = chain.verify(story)
    assert kinds(found) == [(Kind.CLOCK_BACKWARDS, 10)]
    assert not found[0].is_error


G, T = GIVER, TAKER
SEALED = ((G, Deed.CREATED, ""), (G, Deed.SEALED, ROOT))


@pytest.mark.parametrize(
    ("deeds", "wanted"),
    [
        pytest.param(((G, Deed.CREATED, ""), (G, Deed.CREATED, "")), (Kind.ORDER, 2), id="twice"),
        pytest.param(((G, Deed.CREATED, ROOT),), (Kind.ORDER, 1), id="created under a seal"),
        pytest.param(((G, Deed.CREATED, ""), (G, Deed.SEALED, "")), (Kind.ORDER, 2), id="no root"),
        pytest.param((*SEALED, (G, Deed.SEALED, ROOT)), (Kind.ORDER, 3), id="sealed twice"),
        pytest.param((*SEALED, (G, Deed.INGESTED, "")), (Kind.ORDER, 3), id="ingested late"),
        pytest.param(
            ((G, Deed.CREATED, ""), (G, Deed.HANDED_OVER, "")), (Kind.ORDER, 2), id="unsealed"
        ),
        pytest.param((*SEALED, (T, Deed.RECEIVED, ROOT)), (Kind.ORDER, 3), id="never given"),
        pytest.param(
            (*SEALED, (G, Deed.HANDED_OVER, ROOT)), (Kind.NOT_COUNTERSIGNED, 3), id="on the way"
        ),
        pytest.param(
            (*SEALED, (G, Deed.HANDED_OVER, ROOT), (G, Deed.HANDED_OVER, ROOT)),
            (Kind.NOT_COUNTERSIGNED, 3),
            id="given twice",
        ),
        pytest.param(
            (*SEALED, (G, Deed.HANDED_OVER, ROOT), (G, Deed.RECEIVED, ROOT)),
            (Kind.SAME_SIGNER, 4),
            id="answered by oneself",
        ),
        pytest.param(((T, Deed.VERIFIED, ROOT),), (Kind.BEGINS_LATE, 1), id="begins late"),
        pytest.param(
            ((G, Deed.CREATED, ""), (G, Deed.ERASED, ""), (G, Deed.INGESTED, "")),
            (Kind.AFTER_ERASED, 3),
            id="after it was erased",
        ),
    ],
)
def test_deeds_that_cannot_follow_are_named(
    deeds: tuple[tuple[str, Deed, str], ...], wanted: tuple[Kind, int], homes: dict[str, Device]
) -> None:
    assert kinds(chain.verify(made(homes, deeds))).count(wanted) == 1


def test_another_receiver_than_the_one_named_is_an_error(homes: dict[str, Device]) -> None:
    right = made(homes, STORY, receiver=homes[TAKER].public)
    assert chain.verify(right) == []
    wrong = made(homes, STORY, receiver="11" * 32)
    assert kinds(chain.verify(wrong)) == [(Kind.OTHER_RECEIVER, 5)]


def test_a_receipt_with_another_code_is_an_error(
    story: dict[int, bytes], homes: dict[str, Device]
) -> None:
    code = deed.code(deed.digest(story[4]))
    for told, wanted in ((code, []), ("AAAA-AAAA-AAAA-AAAA", [(Kind.OTHER_CODE, 5)])):
        short = {number: story[number] for number in range(1, 6)}
        resigned(short, 5, homes[TAKER], what=What(code=told))
        found = chain.verify(short)
        assert kinds(found) == wanted
        assert all(one.is_error for one in found)


def test_disks_that_another_device_says_to_have_read_are_named(homes: dict[str, Device]) -> None:
    deeds = ((G, Deed.CREATED, ""), (T, Deed.INGESTED, ""), (G, Deed.SEALED, ROOT))
    expected = Expected(SHIPMENT, ROOT, homes[GIVER].public)
    assert kinds(chain.verify(made(homes, deeds), expected)) == [(Kind.OTHER_SIGNER, 2)]


def test_what_is_done_under_a_seal_that_no_record_tells_of_is_a_warning(
    homes: dict[str, Device],
) -> None:
    deeds = ((G, Deed.CREATED, ""), (T, Deed.VERIFIED, ROOT), (T, Deed.OPENED, ROOT))
    found = chain.verify(made(homes, deeds))
    assert kinds(found) == [(Kind.LACKS_SEAL, 2)]
    assert not found[0].is_error


def test_a_sealed_store_whose_chain_says_nothing_of_it(homes: dict[str, Device]) -> None:
    found = chain.verify(made(homes, STORY[:2]), Expected(root=ROOT))
    assert kinds(found) == [(Kind.LACKS_SEAL, 0)]


def test_no_record_at_all_is_an_error() -> None:
    assert kinds(chain.verify({})) == [(Kind.EMPTY, 0)]


def test_the_code_of_a_hand_over_is_that_of_the_document(story: dict[int, bytes]) -> None:
    assert deed.code("00" * 32) == "IS72-HTYJ-YHG7-N36X"
    codes = {deed.code(deed.digest(one)) for one in story.values()}
    assert len(codes) == len(story)
