"""Disk heads, point ends, contents: they come back, and lies in them are refused."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RecordDamagedError
from appliance.events import Json
from appliance.model import DiskFacts, DiskId, PackId, Part, PointSpec, ShipmentId
from appliance.seal import canon, papers
from appliance.seal.papers import Contents, DiskContents, Note, PointEnd
from tests.support import BLOCK, point

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SIZES = st.integers(0, 1 << 53)
PARTS = st.builds(
    Part, *([SIZES] * 3), type=TEXT, name=TEXT, uuid=TEXT, fs=TEXT, fs_label=TEXT, fs_uuid=TEXT
)
IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)
FACTS = st.builds(
    DiskFacts,
    source=TEXT,
    serial=TEXT,
    model=TEXT,
    bus=TEXT,
    size=st.integers(1, 1 << 40),
    logical_sector=st.sampled_from([512, 4096]),
    physical_sector=st.sampled_from([512, 4096]),
    table=TEXT,
    table_id=TEXT,
    firmware_hint=st.sampled_from(["uefi", "bios", "unknown"]),
    parts=st.lists(PARTS, max_size=3).map(tuple),
)
SPECS = st.builds(
    PointSpec, disk=IDS.map(DiskId), point=st.integers(0, 99), machine=TEXT, facts=FACTS
)
SPEC = point(b"x" * 1000)
LONGEST = "x" * 512
PART: Json = {
    "fs": "",
    "fs_label": "",
    "fs_uuid": "",
    "name": LONGEST,
    "number": 1,
    "size": 1,
    "start": 0,
    "type": "",
    "uuid": "",
}


@given(SPECS)
def test_a_disk_head_comes_back(spec: PointSpec) -> None:
    payload = canon.dump(papers.write_disk_head(spec))
    assert papers.read_disk_head(payload, BLOCK) == spec


@pytest.mark.parametrize(
    "fields",
    [
        {"bus": LONGEST + "x"},
        {"disk": "AB" * 16},
        {"firmware_hint": "arm"},
        {"logical_sector": 0},
        {"logical_sector": (1 << 20) + 1},
        {"machine": 1},
        {"parts": [PART] * 129},
        {"parts": [{"fs": ""}]},
        {"parts": {}},
        {"physical_sector": 0},
        {"physical_sector": (1 << 24) + 1},
        {"point": 1 << 32},
        {"size": 0},
        {"size": 1 << 50},
        {"size": (1 << 42) + 1},
        {"size": -1},
        {"more": True},
    ],
    ids=lambda fields: str(fields)[:30],
)
def test_a_disk_head_that_lies_is_refused(fields: dict[str, Json]) -> None:
    payload = canon.dump({**papers.write_disk_head(SPEC), **fields})
    with pytest.raises(RecordDamagedError, match="disk head"):
        papers.read_disk_head(payload, BLOCK)


@pytest.mark.parametrize(
    "fields",
    [
        {"machine": LONGEST, "source": "\U0001f4be" * 512},
        {"parts": [PART] * 128},
        {"logical_sector": 1, "physical_sector": 1},
        {"logical_sector": 1 << 20, "physical_sector": 1 << 24},
        {"point": (1 << 32) - 1},
        {"size": 1},
    ],
    ids=lambda fields: str(fields)[:30],
)
def test_a_disk_head_may_go_to_its_limits(fields: dict[str, Json]) -> None:
    document: Json = {**papers.write_disk_head(SPEC), **fields}
    spec = papers.read_disk_head(canon.dump(document), BLOCK)
    assert papers.write_disk_head(spec) == document


def test_the_largest_disk_is_taken() -> None:
    largest = replace(SPEC, facts=replace(SPEC.facts, size=1 << 42))
    payload = canon.dump(papers.write_disk_head(largest))
    assert papers.read_disk_head(payload, BLOCK) == largest


def test_no_disk_has_a_petabyte() -> None:
    """The largest blocks would allow one byte more."""
    for size, refused in (((1 << 50) - 1, False), (1 << 50, True)):
        payload = canon.dump({**papers.write_disk_head(SPEC), "size": size})
        with pytest.raises(RecordDamagedError) if refused else nullcontext():
            assert papers.read_disk_head(payload, 1 << 24).facts.size == size


@given(
    st.builds(
        PointEnd,
        blocks=st.integers(1, 1 << 26),
        packs=st.lists(IDS.map(PackId), max_size=4).map(tuple),
        stored=SIZES,
        referenced=SIZES,
        zero=SIZES,
        unreadable_bytes=SIZES,
    )
)
def test_a_point_end_comes_back(end: PointEnd) -> None:
    assert papers.read_point_end(canon.dump(papers.write_point_end(end))) == end


@pytest.mark.parametrize(
    "fields",
    [{"blocks": 0}, {"blocks": (1 << 26) + 1}, {"packs": ["x"]}, {"packs": 1}],
    ids=str,
)
def test_a_point_end_that_lies_is_refused(fields: dict[str, Json]) -> None:
    written = papers.write_point_end(PointEnd(1, (), 0, 0, 0, 0))
    assert isinstance(written, dict)
    with pytest.raises(RecordDamagedError, match="point end"):
        papers.read_point_end(canon.dump({**written, **fields}))


DISKS = st.lists(
    st.builds(
        DiskContents,
        disk=IDS.map(DiskId),
        point=st.integers(0, 3),
        complete=st.booleans(),
        blocks=st.integers(0, 1 << 26),
        packs=st.lists(IDS.map(PackId), max_size=3).map(tuple),
        facts=st.none() | SPECS,
    ),
    max_size=3,
    unique_by=lambda one: (one.disk, one.point),
)


@given(DISKS)
def test_contents_come_back(disks: list[DiskContents]) -> None:
    ordered = tuple(sorted(disks, key=lambda one: (one.disk, one.point)))
    contents = Contents(ShipmentId("00" * 16), ordered)
    assert papers.read_contents(canon.dump(papers.write_contents(contents))) == contents


def test_contents_that_list_a_disk_twice_or_out_of_order_are_refused() -> None:
    one = DiskContents(DiskId("11" * 16), 0, complete=True, blocks=1, packs=(), facts=None)
    other = replace(one, disk=DiskId("22" * 16))
    for disks in ((one, one), (other, one), (one, other, one)):
        payload = canon.dump(papers.write_contents(Contents(ShipmentId("00" * 16), disks)))
        with pytest.raises(RecordDamagedError, match="out of order"):
            papers.read_contents(payload)


@pytest.mark.parametrize(
    "fields",
    [{"blocks": (1 << 26) + 1}, {"point": 1 << 32}, {"state": "torn"}, {"packs": ["x"]}],
    ids=str,
)
def test_contents_that_lie_are_refused(fields: dict[str, Json]) -> None:
    one: Json = {
        "blocks": 1 << 26,
        "disk": "11" * 16,
        "facts": None,
        "packs": ["22" * 16],
        "point": (1 << 32) - 1,
        "state": "incomplete",
    }
    assert isinstance(one, dict)
    whole: Json = {"disks": [one], "shipment": "00" * 16}
    assert papers.write_contents(papers.read_contents(canon.dump(whole))) == whole
    with pytest.raises(RecordDamagedError, match="contents"):
        papers.read_contents(canon.dump({"disks": [{**one, **fields}], "shipment": "00" * 16}))


def test_the_same_disk_is_known_again_by_what_does_not_change() -> None:
    facts = SPEC.facts
    assert facts.same_disk(replace(facts, source="/dev/sdz", bus="sata", table="gpt"))
    for other in (
        replace(facts, serial="S-2"),
        replace(facts, model="Other"),
        replace(facts, size=1001),
        replace(facts, logical_sector=4096),
    ):
        assert not facts.same_disk(other)


def test_every_text_of_a_disk_may_be_hostile_and_is_kept_as_it_is() -> None:
    nasty = "\x1b[31m\u202e\0\n\"'"
    facts = replace(SPEC.facts, serial=nasty, model=nasty, source=nasty)
    payload = canon.dump(papers.write_disk_head(replace(SPEC, machine=nasty, facts=facts)))
    assert papers.read_disk_head(payload, BLOCK).facts == facts
    assert json.loads(payload)["machine"] == nasty


TREES = st.recursive(
    st.none() | st.booleans() | SIZES | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner, max_size=3)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=9), TREES, max_size=3)


@given(st.builds(Note, TEXT.filter(bool), SIZES, BODIES))
def test_a_note_comes_back(note: Note) -> None:
    assert papers.read_note(canon.dump(papers.write_note(note))) == note


def nested(deep: int) -> Json:
    found: Json = {}
    for _ in range(deep - 1):
        found = [found] if deep % 2 else {"a": found}
    return {"a": found} if isinstance(found, list) else found


def test_a_note_may_be_16_deep() -> None:
    note = {"body": nested(16), "type": "x" * 64, "version": 0}
    assert papers.read_note(canon.dump(note)).body == nested(16)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": ""},
        {"type": "x" * 65},
        {"version": -1},
        {"version": "1"},
        {"body": []},
        {"body": None},
        {"body": {"\u00e9": 1}},
        {"body": {"a": nested(16)}},
        {"body": {"a": (1 << 53) + 1}},
        {"more": 1},
    ],
    ids=range(10),
)
def test_a_note_that_lies_is_refused(fields: dict[str, Json]) -> None:
    note: dict[str, Json] = {"body": {}, "type": "x", "version": 1}
    papers.read_note(canon.dump(note))
    with pytest.raises(RecordDamagedError, match="note"):
        papers.read_note(canon.dump({**note, **fields}))
