"""The fixed structures: every one comes back from its bytes, and nothing else is taken for one."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.block import PAGE
from appliance.errors import PackDamagedError, RecordDamagedError, UnknownFormatError
from appliance.model import Codec, Digest, DiskId, PackId, ShipmentId
from appliance.seal import layout
from appliance.seal.layout import (
    NO_DIGEST,
    NO_PACK,
    RECORD_HEAD,
    WRAP,
    Checkpoint,
    Kind,
    PackHead,
    PackState,
    RecordHead,
    Trailer,
)
from appliance.seal.scan import _MOST_HEAD as MOST_HEAD
from tests.support import BLOCK

HEX16 = st.binary(min_size=16, max_size=16).map(bytes.hex)
BYTES32 = st.binary(min_size=32, max_size=32)
U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)

HEADS = st.builds(
    PackHead,
    shipment=HEX16.map(ShipmentId),
    head_digest=BYTES32,
    pack=HEX16.map(PackId),
    disk=HEX16.map(DiskId),
    point=U32,
    session=U32,
    sequence=U32,
    block_size=st.integers(16, 24).map(lambda bits: 1 << bits),
    start=U64,
    recipients=st.integers(1, 16),
)
HEAD = PackHead(
    ShipmentId("11" * 16), b"h" * 32, PackId("22" * 16), DiskId("33" * 16), 0, 0, 0, BLOCK, 0, 2
)
SOME = Digest(b"d" * 32)
BLOCK_HEAD = RecordHead(Kind.BLOCK, Codec.RAW, BLOCK, BLOCK, 7, 1, SOME)
REFERENCE = RecordHead(Kind.REFERENCE, Codec.RAW, 9, 0, 7, 1, SOME, PackId("22" * 16), 3)
RUN = RecordHead(Kind.ZERO_RUN, Codec.RAW, 0, 0, 7, 1 << 60, NO_DIGEST)
UNREADABLE = RecordHead(Kind.UNREADABLE, Codec.RAW, 32, 32, 1, 2, SOME)
PAPER = RecordHead(Kind.CONTENTS, Codec.ZSTD, 100, 50, 0, 0, SOME)


def front(head: PackHead) -> bytes:
    """A pack's head as it stands in the file."""
    wraps = b"".join(bytes([place + 1]) * WRAP for place in range(head.recipients))
    return (head.context_bytes() + b"c" * 32 + wraps).ljust(head.size, b"\0")


@given(HEADS)
@example(replace(HEAD, block_size=1 << 16, recipients=1))
@example(replace(HEAD, block_size=1 << 24, recipients=16))
def test_a_pack_head_comes_back(head: PackHead) -> None:
    data = front(head)
    assert len(data) == head.size <= MOST_HEAD
    found, commitment, wraps = layout.parse_pack_head(data + b"records behind it")
    assert (found, commitment) == (head, b"c" * 32)
    assert wraps == [bytes([place + 1]) * WRAP for place in range(head.recipients)]
    assert layout.parse_pack_head(data)[0] == head


@pytest.mark.parametrize(
    "data",
    [
        b"",
        front(HEAD)[: PAGE - 1],
        b"x" + front(HEAD)[1:],
        front(replace(HEAD, recipients=4))[:PAGE],
        front(HEAD)[:8] + (8192).to_bytes(4, "little") + front(HEAD)[12:] + bytes(PAGE),
        front(replace(HEAD, recipients=0)),
        front(replace(HEAD, recipients=17)),
        front(HEAD)[:12] + b"\xff\xff" + front(HEAD)[14:],
        front(HEAD)[:-1] + b"\1",
        *(front(replace(HEAD, block_size=size)) for size in (0, 1, 3 << 16, 1 << 15, 1 << 31)),
    ],
    ids=range(14),
)
def test_a_pack_head_that_no_writer_writes_is_refused(data: bytes) -> None:
    with pytest.raises(PackDamagedError):
        layout.parse_pack_head(data)


@pytest.mark.parametrize(("place", "found"), [(6, 0x32), (14, 1), (15, 0x80)])
def test_a_pack_of_a_later_version_or_with_flags_is_named_as_such(place: int, found: int) -> None:
    data = bytearray(front(HEAD))
    data[place] = found
    with pytest.raises(UnknownFormatError):
        layout.parse_pack_head(bytes(data))


LARGEST = [
    replace(BLOCK_HEAD, index=(1 << 63) - 2),
    replace(BLOCK_HEAD, plain=1, stored=1),
    replace(BLOCK_HEAD, codec=Codec.ZSTD, stored=1),
    replace(REFERENCE, target_number=(1 << 18) - 1),
    replace(REFERENCE, plain=BLOCK),
    replace(RUN, index=1, count=(1 << 63) - 2),
    replace(UNREADABLE, plain=16, stored=16),
    replace(UNREADABLE, plain=16 * 65536, stored=16 * 65536),
    replace(PAPER, plain=1 << 24),
]


@pytest.mark.parametrize(
    "head", [BLOCK_HEAD, REFERENCE, RUN, UNREADABLE, PAPER, *LARGEST], ids=str
)
def test_a_record_head_comes_back(head: RecordHead) -> None:
    assert layout.parse_record_head(head.encode(), BLOCK) == head


@given(st.binary(min_size=RECORD_HEAD, max_size=RECORD_HEAD))
def test_a_record_head_is_refused_or_is_exactly_what_its_bytes_say(data: bytes) -> None:
    try:
        found = layout.parse_record_head(data, BLOCK)
    except (RecordDamagedError, UnknownFormatError):
        return
    assert found.encode() == data


@given(
    st.sampled_from([BLOCK_HEAD, REFERENCE, RUN, UNREADABLE, PAPER]),
    st.integers(0, RECORD_HEAD - 1),
    st.integers(1, 255),
)
def test_a_changed_record_head_is_refused_or_says_something_else(
    head: RecordHead, place: int, change: int
) -> None:
    data = bytearray(head.encode())
    data[place] ^= change
    try:
        found = layout.parse_record_head(bytes(data), BLOCK)
    except (RecordDamagedError, UnknownFormatError):
        return
    assert found != head
    assert found.encode() == data


LIES = [
    replace(BLOCK_HEAD, count=2),
    replace(BLOCK_HEAD, count=0),
    replace(BLOCK_HEAD, plain=0, stored=0),
    replace(BLOCK_HEAD, plain=BLOCK + 1, stored=BLOCK + 1),
    replace(BLOCK_HEAD, stored=BLOCK - 1),
    replace(BLOCK_HEAD, codec=Codec.ZSTD),
    replace(BLOCK_HEAD, codec=Codec.ZSTD, stored=BLOCK + 1),
    replace(BLOCK_HEAD, codec=Codec.ZSTD, stored=0),
    replace(BLOCK_HEAD, index=(1 << 63) - 1),
    replace(BLOCK_HEAD, target=PackId("22" * 16)),
    replace(BLOCK_HEAD, target_number=1),
    replace(REFERENCE, target=NO_PACK),
    replace(REFERENCE, target_number=1 << 18),
    replace(REFERENCE, count=2),
    replace(REFERENCE, plain=0),
    replace(REFERENCE, plain=BLOCK + 1),
    replace(REFERENCE, stored=9),
    replace(REFERENCE, codec=Codec.ZSTD),
    replace(REFERENCE, digest=NO_DIGEST),
    replace(RUN, count=0),
    replace(RUN, count=1 << 63),
    replace(RUN, index=(1 << 64) - 1),
    replace(RUN, plain=1, stored=1),
    replace(RUN, digest=SOME),
    replace(UNREADABLE, count=0),
    replace(UNREADABLE, plain=33, stored=33),
    replace(UNREADABLE, plain=0, stored=0),
    replace(UNREADABLE, plain=16 * 65537, stored=16 * 65537),
    replace(UNREADABLE, codec=Codec.ZSTD, stored=16),
    replace(PAPER, index=1),
    replace(PAPER, count=1),
    replace(PAPER, plain=(1 << 24) + 1),
    replace(PAPER, stored=0),
]


@pytest.mark.parametrize("head", LIES, ids=range(len(LIES)))
def test_a_record_head_that_contradicts_itself_is_refused(head: RecordHead) -> None:
    with pytest.raises(RecordDamagedError, match="contradicts itself"):
        layout.parse_record_head(head.encode(), BLOCK)


@pytest.mark.parametrize("change", [(0, 0), (0, 9), (0, 255), (1, 2), (1, 255)], ids=str)
def test_a_record_of_an_unknown_kind_or_codec_is_refused(change: tuple[int, int]) -> None:
    data = bytearray(BLOCK_HEAD.encode())
    data[change[0]] = change[1]
    with pytest.raises(UnknownFormatError):
        layout.parse_record_head(bytes(data), BLOCK)


def test_a_record_fills_its_pages_to_the_last_byte() -> None:
    least = 8 + RECORD_HEAD + 16
    assert layout.record_frame_size(0) == layout.record_frame_size(PAGE - least) == PAGE
    assert layout.record_frame_size(PAGE - least + 1) == 2 * PAGE


def test_the_digest_of_an_index_depends_on_all_it_says() -> None:
    first, second = (layout.Entry(place, place * PAGE, BLOCK_HEAD) for place in (1, 2))
    told = [
        [],
        [first],
        [second],
        [first, second],
        [replace(first, offset=0)],
        [replace(first, head=REFERENCE)],
    ]
    assert len({layout.entries_digest(one) for one in told}) == len(told)


def test_an_index_comes_back() -> None:
    listed = [(BLOCK_HEAD.encode(), HEAD.size), (RUN.encode(), HEAD.size + PAGE * 20)]
    plain = layout.index_bytes(listed)
    assert len(plain) + 16 == layout.index_cipher_size(2)
    found = layout.parse_index(bytes(plain), HEAD, 2)
    assert [(one.head.encode(), one.offset) for one in found] == listed
    assert [one.number for one in found] == [0, 1]


@pytest.mark.parametrize(
    "offsets",
    [
        (HEAD.size - PAGE, HEAD.size + PAGE * 20),
        (HEAD.size, HEAD.size + PAGE),
        (HEAD.size, HEAD.size),
        (HEAD.size + 1, HEAD.size + PAGE * 20),
        (HEAD.size, (1 << 64) - 1),
        (0, PAGE * 20),
    ],
    ids=str,
)
def test_an_index_that_lays_records_over_each_other_is_refused(offsets: tuple[int, int]) -> None:
    plain = layout.index_bytes([(BLOCK_HEAD.encode(), offsets[0]), (RUN.encode(), offsets[1])])
    with pytest.raises(PackDamagedError, match="on top of each other"):
        layout.parse_index(bytes(plain), HEAD, 2)


def test_an_index_with_something_behind_its_records_is_refused() -> None:
    plain = layout.index_bytes([(BLOCK_HEAD.encode(), HEAD.size), (RUN.encode(), PAGE * 99)])
    with pytest.raises(PackDamagedError, match="padded"):
        layout.parse_index(bytes(plain), HEAD, 1)


RANGES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=20)


@given(RANGES)
def test_unreadable_ranges_come_back(steps: list[tuple[int, int]]) -> None:
    at, ranges = BLOCK, []
    for gap, length in steps:
        ranges.append((at + gap, length))
        at += gap + length
    found = layout.parse_ranges(layout.ranges_bytes(ranges), UNREADABLE, BLOCK, 3 * BLOCK)
    assert found == ranges


@pytest.mark.parametrize(
    "ranges",
    [
        [(BLOCK - 1, 2)],
        [(BLOCK, 0)],
        [(BLOCK, 2 * BLOCK + 1)],
        [(3 * BLOCK, 1)],
        [(BLOCK, 10), (BLOCK + 9, 1)],
        [(BLOCK + 10, 1), (BLOCK, 1)],
        [(2 * BLOCK + 5, 6)],
        [(1, (1 << 64) - 1)],
        [((1 << 64) - 1, (1 << 64) - 1)],
    ],
    ids=str,
)
def test_unreadable_bytes_outside_their_blocks_or_the_disk_are_refused(
    ranges: list[tuple[int, int]],
) -> None:
    with pytest.raises(RecordDamagedError, match="outside"):
        layout.parse_ranges(layout.ranges_bytes(ranges), UNREADABLE, BLOCK, 2 * BLOCK + 10)


@given(U32, U64, BYTES32, BYTES32)
def test_a_checkpoint_comes_back(records: int, cursor: int, digest: bytes, guard: bytes) -> None:
    found = Checkpoint(records, cursor, digest, guard)
    data = found.encode()
    assert len(data) == PAGE
    assert layout.parse_frame(data) == (layout.CHECKPOINT, records)
    assert layout.parse_checkpoint(data) == found


@pytest.mark.parametrize("place", [8, 15, 88, PAGE - 1])
def test_a_checkpoint_that_no_writer_writes_is_refused(place: int) -> None:
    data = bytearray(Checkpoint(1, 2, bytes(32), bytes(32)).encode())
    data[place] ^= 1
    with pytest.raises(PackDamagedError):
        layout.parse_checkpoint(bytes(data))


def ending(state: PackState, records: int) -> tuple[Trailer, int]:
    """A trailer and the size of the pack it fits."""
    checkpoint = HEAD.size + 5 * PAGE
    if state is PackState.TORN:
        return Trailer(records, state, checkpoint, 0, SOME), checkpoint + 2 * PAGE
    index = checkpoint + PAGE
    end = index + 8 + layout.index_cipher_size(records)
    return Trailer(records, state, checkpoint, index, SOME), end + PAGE


@given(st.sampled_from(PackState), st.integers(0, layout.MAX_RECORDS))
def test_a_trailer_comes_back(state: PackState, records: int) -> None:
    trailer, size = ending(state, records)
    assert layout.parse_trailer(trailer.encode(), HEAD, size) == trailer


@pytest.mark.parametrize("place", [20, 23])
def test_a_trailer_with_flags_is_named_as_of_another_version(place: int) -> None:
    trailer, size = ending(PackState.CLOSED, 3)
    data = bytearray(trailer.encode())
    data[place] ^= 0x10
    with pytest.raises(UnknownFormatError, match="trailer"):
        layout.parse_trailer(bytes(data), HEAD, size)


@pytest.mark.parametrize("state", PackState)
def test_a_trailer_that_points_elsewhere_is_refused(state: PackState) -> None:
    trailer, size = ending(state, 3)
    for wrong in (
        replace(trailer, checkpoint_offset=trailer.checkpoint_offset + PAGE),
        replace(trailer, checkpoint_offset=trailer.checkpoint_offset + 1),
        replace(trailer, checkpoint_offset=HEAD.size - PAGE),
        replace(trailer, checkpoint_offset=(1 << 64) - PAGE),
        replace(trailer, index_offset=trailer.index_offset + PAGE),
        replace(trailer, records=layout.MAX_RECORDS),
        replace(trailer, records=layout.MAX_RECORDS + 1),
    )[: 7 if state is not PackState.TORN else 5]:
        with pytest.raises(PackDamagedError):
            layout.parse_trailer(wrong.encode(), HEAD, size)
    with pytest.raises(PackDamagedError):
        layout.parse_trailer(trailer.encode(), HEAD, size + PAGE)


def test_a_torn_pack_has_no_more_records_than_others() -> None:
    """Only its trailer counts them: it has no index whose size would show it."""
    most, size = ending(PackState.TORN, layout.MAX_RECORDS)
    assert layout.parse_trailer(most.encode(), HEAD, size) == most
    more = replace(most, records=layout.MAX_RECORDS + 1)
    with pytest.raises(PackDamagedError, match="contradicts itself"):
        layout.parse_trailer(more.encode(), HEAD, size)


def test_a_checkpoint_inside_the_head_is_refused() -> None:
    trailer = Trailer(0, PackState.TORN, HEAD.size - PAGE, 0, SOME)
    with pytest.raises(PackDamagedError, match="outside"):
        layout.parse_trailer(trailer.encode(), HEAD, HEAD.size + PAGE)


@pytest.mark.parametrize("place", [0, 8, 16, 19, 72, PAGE - 1])
def test_a_trailer_that_no_writer_writes_is_refused(place: int) -> None:
    trailer, size = ending(PackState.CLOSED, 3)
    data = bytearray(trailer.encode())
    data[place] ^= 0x10
    with pytest.raises(PackDamagedError):
        layout.parse_trailer(bytes(data), HEAD, size)


def test_the_specification_gives_the_sizes_that_the_code_has() -> None:
    text = (Path(__file__).parents[1] / "docs" / "store-format.md").read_text()
    for figure in ("16,781,304", "262,143", "67,108,864", "16,777,216", "1,168", "65,536 pairs"):
        assert figure in text
    assert layout.MAX_CIPHER == 16_781_304
    assert layout.MAX_RECORDS - 1 == 262_143
    assert layout.MAX_BLOCKS == 67_108_864
    assert layout.MAX_JSON == 16_777_216
