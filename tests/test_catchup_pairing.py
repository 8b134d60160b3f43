"""Pairing: a disk is told for its replica only when nothing speaks against it, and nothing else is
like it.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catchup import pairing, wire
from appliance.catchup.wire import Replica
from appliance.errors import OtherShipmentError, ReplicaUnknownError, SourceChangedError
from appliance.model import BLOCK_SIZE, DiskFacts, DiskId
from tests.support import facts

SIZE = 1 << 30
MINE = Replica(DiskId("11" * 16), b"o" * 32, SIZE, 1 << 16, 512, "S-1", "Model", "")
OTHER = replace(MINE, disk=DiskId("12" + "34" * 15), serial="S-2")


def disk(serial: str = "S-1", model: str = "Model", table_id: str = "") -> DiskFacts:
    return replace(facts(SIZE, serial), model=model, table_id=table_id)


NAMES = st.sampled_from(["", "a", "b"])
REPLICAS = st.builds(
    Replica,
    st.just(MINE.disk), st.just(MINE.origin), st.sampled_from([SIZE, SIZE + 512]),
    st.just(1 << 16), st.sampled_from([512, 4096]), NAMES, NAMES, NAMES,
)  # fmt: skip


def test_a_disk_is_told_as_it_is_found_now_under_its_replicas_name() -> None:
    found = pairing.as_replica(replace(disk("S-9", "Else", "T"), logical_sector=4096), MINE)
    named = (MINE.disk, MINE.origin, MINE.block_size)
    assert (found.disk, found.origin, found.block_size) == named
    assert (found.size, found.sector, found.serial, found.model, found.table_id) == (
        SIZE, 4096, "S-9", "Else", "T",
    )  # fmt: skip


@given(st.text(max_size=512), st.text(max_size=512), st.text(max_size=512))
def test_a_disk_is_told_as_the_other_end_comes_to_know_it(
    serial: str, model: str, table_id: str
) -> None:
    found = pairing.as_replica(disk(serial, model, table_id), MINE)
    assert wire.parse(wire.Disk, memoryview(wire.Disk(found).payload())) == wire.Disk(found)


def test_a_new_disk_comes_from_no_shipment() -> None:
    found = pairing.new_replica(disk(table_id="T"), OTHER.disk)
    assert (found.disk, found.origin, found.block_size) == (OTHER.disk, bytes(32), BLOCK_SIZE)
    assert (found.size, found.serial, found.table_id) == (SIZE, "S-1", "T")


@given(REPLICAS, REPLICAS)
def test_it_does_not_matter_which_end_compares(one: Replica, other: Replica) -> None:
    assert pairing.contradicts(one, other) == pairing.contradicts(other, one)
    assert pairing.recognised(one, other) == pairing.recognised(other, one)
    assert not (pairing.contradicts(one, other) and pairing.recognised(one, other))


@given(REPLICAS)
def test_every_disk_is_itself(one: Replica) -> None:
    assert not pairing.contradicts(one, one)
    assert pairing.recognised(one, one) == any((one.serial, one.model, one.table_id))
    pairing.refuse_another(one, one)


@pytest.mark.parametrize(
    ("one", "other", "speaks_against"),
    [
        (("S-1", "M", "T"), ("S-1", "M", "U"), True),
        (("S-1", "M", "T"), ("S-2", "N", "T"), False),  # out of a USB dock, into a server
        (("S-1", "M", "T"), ("S-2", "M", ""), True),
        (("S-1", "M", ""), ("S-1", "N", ""), True),
        (("S-1", "M", ""), ("S-2", "M", ""), True),
        (("S-1", "M", ""), ("", "", ""), False),
        (("S-1", "M", "T"), ("", "", ""), False),
        (("", "M", ""), ("", "N", ""), False),
    ],
)
def test_what_speaks_against_one_disk(
    one: tuple[str, str, str], other: tuple[str, str, str], *, speaks_against: bool
) -> None:
    pair = [
        replace(MINE, serial=serial, model=model, table_id=table)
        for serial, model, table in (one, other)
    ]
    assert pairing.contradicts(*pair) == speaks_against


@pytest.mark.parametrize(
    ("one", "other", "known"),
    [
        (("S-1", "M", "T"), ("S-2", "N", "T"), True),
        (("S-1", "M", ""), ("S-1", "M", ""), True),
        (("S-1", "", ""), ("S-1", "", ""), True),
        (("", "M", ""), ("", "M", ""), True),
        (("", "", ""), ("", "", ""), False),  # any two blank disks of one size
        (("S-1", "M", "T"), ("S-1", "M", ""), False),
        (("", "M", "T"), ("", "M", ""), False),
        (("S-1", "M", ""), ("", "M", ""), False),
        (("S-1", "M", ""), ("S-1", "N", ""), False),
        (("", "M", ""), ("", "N", ""), False),
    ],
)
def test_a_size_alone_pairs_nothing(
    one: tuple[str, str, str], other: tuple[str, str, str], *, known: bool
) -> None:
    mine, theirs = (
        replace(MINE, serial=serial, model=model, table_id=table)
        for serial, model, table in (one, other)
    )
    assert pairing.recognised(mine, theirs) == known
    assert not pairing.recognised(mine, replace(theirs, size=SIZE + 512))


@pytest.mark.parametrize(
    ("facts_now", "guessed"),
    [
        (disk(), False),
        (disk(table_id="T"), True),
        (disk("", "Model"), True),
        (disk("", ""), True),
    ],
)
def test_a_device_that_nobody_named_needs_more_than_its_place(
    facts_now: DiskFacts, *, guessed: bool
) -> None:
    found = pairing.paired(facts_now, MINE.disk, [MINE, OTHER])
    if guessed:
        with pytest.raises(ReplicaUnknownError, match=MINE.disk) as caught:
            pairing.refuse_guessed(found, [MINE, OTHER])
        assert "--disk SOURCE=DISK" in caught.value.todo_now
    else:
        pairing.refuse_guessed(found, [MINE, OTHER])


def test_a_disk_of_another_shipment_is_refused() -> None:
    with pytest.raises(OtherShipmentError, match=MINE.disk):
        pairing.refuse_another(MINE, replace(MINE, origin=bytes(32)))


@pytest.mark.parametrize(
    "grown", [replace(MINE, size=SIZE + 512), replace(MINE, block_size=1 << 20)]
)
def test_a_disk_that_has_grown_is_refused(grown: Replica) -> None:
    with pytest.raises(SourceChangedError, match=f"{grown.size} bytes in blocks of"):
        pairing.refuse_another(MINE, grown)


def test_a_disk_that_stands_where_another_stood_is_refused() -> None:
    with pytest.raises(SourceChangedError, match=r"'S-2'; its replica is of .* 'S-1'"):
        pairing.refuse_another(MINE, OTHER)


def test_a_disk_finds_its_replica_among_others() -> None:
    assert pairing.paired(disk("S-2"), "", [MINE, OTHER]) == OTHER
    assert pairing.paired(disk(), "", [MINE, OTHER]) == MINE


@pytest.mark.parametrize("replicas", [[], [MINE], [OTHER, replace(OTHER, disk=DiskId("99" * 16))]])
def test_a_disk_with_no_replica_or_two_is_refused(replicas: list[Replica]) -> None:
    with pytest.raises(
        ReplicaUnknownError, match=r"replicas at the gate are of /dev/sdx"
    ) as caught:
        pairing.paired(disk("S-2"), "", replicas)
    assert all(one.disk in caught.value.what for one in replicas)
    assert replicas or "none" in caught.value.what


@pytest.mark.parametrize("asked", ["11", "11" * 16, "1111"])
def test_a_replica_can_be_named_by_the_beginning_of_its_id(asked: str) -> None:
    assert pairing.paired(disk(), asked, [OTHER, MINE]) == MINE


def test_a_name_may_be_typed_in_capitals() -> None:
    named = replace(MINE, disk=DiskId("ab" * 16))
    assert pairing.paired(disk(), "ABA", [OTHER, named]) == named


@pytest.mark.parametrize("asked", ["1", "3", "x"])
def test_a_name_of_no_replica_or_two_is_refused(asked: str) -> None:
    with pytest.raises(ReplicaUnknownError):
        pairing.paired(disk(), asked, [MINE, OTHER])


def test_also_a_named_replica_must_be_this_disks() -> None:
    with pytest.raises(SourceChangedError):
        pairing.paired(disk(), "12", [MINE, OTHER])
