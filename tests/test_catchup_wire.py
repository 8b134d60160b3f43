"""Frames: what is written is read back, and whatever else may come is refused by one name."""

import os
import struct
import tracemalloc
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catchup import wire
from appliance.catchup.wire import HEAD, MESSAGES, PIECE, Again, Form, Message, Replica
from appliance.errors import WireViolationError
from appliance.model import Codec, Digest, DiskId, Extent
from appliance.seal.manifest import PAGE_ENTRIES, State
from tests import wire_vectors

KINDS = [pytest.param(one, id=one.__name__) for one in MESSAGES.values()]
GOOD = [pytest.param(one, id=about) for about, one in wire_vectors.frames()]


def taken(frame: bytes, *expected: type[Message]) -> Message:
    """The message that a frame is, read as the line reads it."""
    length, kind = wire.limit(frame[: HEAD.size], expected)
    assert length == len(frame) - HEAD.size
    return wire.parse(kind, memoryview(frame)[HEAD.size :])


def read(kind: type[Message], payload: bytes) -> Message:
    return wire.parse(kind, memoryview(payload))


# --- every message there can be --------------------


def texts(most: int) -> st.SearchStrategy[str]:
    plain = st.characters(exclude_categories=("Cc", "Cs"))
    return st.text(plain, max_size=most).filter(lambda one: len(one.encode()) <= most)


def digests(size: int = 32) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def numbers(most: int = (1 << 32) - 1, least: int = 0) -> st.SearchStrategy[int]:
    return st.integers(least, most)


FEATURES = st.lists(texts(64), max_size=64).map(tuple)
DIGEST = digests().map(Digest)
DISK = digests(16).map(lambda one: DiskId(one.hex()))
BLOCK = numbers((1 << 26) - 1)
TEXT = texts(512)


@st.composite
def replicas(draw: st.DrawFn) -> Replica:
    block_size = 1 << draw(numbers(24, 16))
    size = draw(numbers(min((1 << 50) - 1, block_size << 26), 1))
    head = (draw(DISK), draw(digests()), size, block_size, draw(numbers(1 << 20, 1)))
    return Replica(*head, draw(TEXT), draw(TEXT), draw(TEXT))


@st.composite
def patches(draw: st.DrawFn) -> wire.Patch:
    codes = bytes(draw(st.lists(numbers(2), min_size=1, max_size=256)))
    whole = len(codes) * PIECE
    edges = sorted(draw(st.sets(numbers(whole), max_size=20)))
    bad = [Extent(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    data, codec = draw(st.binary(max_size=100)), draw(st.sampled_from(Codec))
    plain = len(data) if codec is Codec.RAW else draw(numbers(whole))
    found = Digest(bytes(32)) if bad else draw(DIGEST)
    return wire.Patch(draw(BLOCK), codec, plain, found, codes, tuple(bad), data)


@st.composite
def hellos(draw: st.DrawFn) -> wire.Hello:
    lowest = draw(numbers(0xFFFF, 1))
    return wire.Hello(lowest, draw(numbers(0xFFFF, lowest)), draw(texts(128)), draw(FEATURES))


ENTRIES = st.lists(st.tuples(DIGEST, st.sampled_from(State)), min_size=1, max_size=8)
ORDERED = st.sets(DISK, min_size=1, max_size=8).map(lambda one: tuple(sorted(one)))
ASKED = st.sets(BLOCK, min_size=1, max_size=256).map(lambda one: tuple(sorted(one)))
LISTED = st.lists(st.tuples(numbers(), replicas()), max_size=3)


def some(size: int) -> st.SearchStrategy[tuple[bytes, ...]]:
    return st.lists(digests(size), min_size=1, max_size=8).map(tuple)


ANY: Mapping[type[Message], st.SearchStrategy[Message]] = {
    wire.Hello: hellos(),
    wire.Enrol: st.builds(wire.Enrol, digests(16), st.binary(max_size=500)),
    wire.Point: st.builds(
        wire.Point, digests(16), st.sampled_from(Form), numbers(1 << 53), ORDERED
    ),
    wire.Disk: st.builds(wire.Disk, replicas()),
    wire.Pages: st.builds(wire.Pages, BLOCK, numbers(PAGE_ENTRIES, 1)),
    wire.Entries: st.builds(wire.Entries, BLOCK),
    wire.Ask: st.builds(wire.Ask, ASKED),
    wire.Patch: patches(),
    wire.EndDisk: st.builds(wire.EndDisk, digests()),
    wire.EndPoint: st.builds(wire.EndPoint),
    wire.Welcome: st.builds(wire.Welcome, numbers(0xFFFF, 1), TEXT, LISTED.map(tuple), FEATURES),
    wire.Enrolled: st.builds(wire.Enrolled, TEXT),
    wire.PointIs: st.builds(wire.PointIs, numbers()),
    wire.DiskIs: st.builds(wire.DiskIs, numbers(), digests()),
    wire.PagesAre: st.builds(wire.PagesAre, numbers(), some(32)),
    wire.EntriesAre: st.builds(wire.EntriesAre, numbers(), ENTRIES.map(tuple)),
    wire.Have: st.builds(wire.Have, numbers(), some(16)),
    wire.Ack: st.builds(wire.Ack, numbers(), st.sampled_from(list(State)[1:]), DIGEST),
    wire.Whole: st.builds(wire.Whole, numbers()),
    wire.DiskDone: st.builds(wire.DiskDone, st.booleans(), digests()),
    wire.PointDone: st.builds(wire.PointDone, numbers(), st.booleans()),
    wire.Busy: st.tuples(numbers(1 << 53), numbers(1 << 53)).map(
        lambda one: wire.Busy(*sorted(one))
    ),
    wire.Refused: st.builds(
        wire.Refused, numbers(0xFFFF), texts(64), texts(4096), texts(2048), st.sampled_from(Again)
    ),
}


def test_every_kind_has_a_number_of_its_own_and_is_tested_here() -> None:
    assert ANY.keys() == set(MESSAGES.values())
    assert {number: kind.kind for number, kind in MESSAGES.items()} == {
        number: number for number in (*range(1, 11), *range(65, 76), 96, 127)
    }


@given(st.one_of(*ANY.values()))
def test_what_is_written_is_read_back(message: Message) -> None:
    assert taken(wire.encode(message), type(message)) == message


# Kinds whose last field goes to the end of the frame: the bytes before it, the bytes of one of its
# elements, and how many of them there must be at least.
OPEN: Mapping[type[Message], tuple[int, int, int]] = {
    wire.Enrol: (16, 1, 0),
    wire.Ask: (0, 4, 1),
    wire.PagesAre: (4, 32, 1),
    wire.EntriesAre: (4, 33, 1),
    wire.Have: (4, 16, 1),
}


# What a later version may put more behind.
LATER = (wire.Hello, wire.Welcome, wire.Refused)


def said(found: Message, payload: bytes) -> bool:
    """Whether a message says all of a payload that is looked at."""
    if isinstance(found, wire.Refused) and payload[2] > Again.AFTER_OPERATOR:
        assert found.again is Again.AFTER_OPERATOR
        payload = payload[:2] + bytes([found.again]) + payload[3:]
    if isinstance(found, LATER):
        return payload.startswith(found.payload())
    return found.payload() == payload


def may_end(message: Message, at: int) -> bool:
    """Whether a payload of ``at`` bytes may be a message, where ``message`` has another length."""
    if isinstance(message, wire.Patch):  # only who expands the payload can tell
        return message.codec is Codec.ZSTD and at >= len(message.payload()) - len(message.data)
    first, step, least = OPEN.get(type(message), (1 << 32, 1, 0))
    return at >= first + step * least and not (at - first) % step


@given(st.one_of(*ANY.values()), st.data())
def test_a_frame_that_is_cut_anywhere_is_refused(message: Message, data: st.DataObject) -> None:
    payload = message.payload()
    cuts = range(len(payload)) if len(payload) < 80 else sorted(
        data.draw(st.sets(numbers(len(payload) - 1), max_size=20))
    )  # fmt: skip
    for at in cuts:
        if may_end(message, at):
            assert read(type(message), payload[:at]) != message
        else:
            with pytest.raises(WireViolationError):
                read(type(message), payload[:at])


@given(st.one_of(*ANY.values()), st.binary(min_size=1, max_size=8))
def test_bytes_behind_a_frames_end_are_refused(message: Message, more: bytes) -> None:
    payload = message.payload() + more
    if isinstance(message, LATER):
        assert read(type(message), payload) == message
    elif isinstance(message, wire.Ask | wire.EntriesAre) or may_end(message, len(payload)):
        # It is another message, or none: never the one it was.
        try:
            assert read(type(message), payload) != message
        except WireViolationError:
            return
    else:
        with pytest.raises(WireViolationError):
            read(type(message), payload)


@pytest.mark.parametrize("message", GOOD)
def test_of_every_example_each_cut_and_each_byte_more_is_seen(message: Message) -> None:
    payload = message.payload()
    for other in (*(payload[:at] for at in range(min(len(payload), 2000))), payload + b"\0"):
        if len(other) > len(payload) and isinstance(message, LATER):
            assert read(type(message), other) == message
        elif may_end(message, len(other)):
            assert read(type(message), other) != message
        else:
            with pytest.raises(WireViolationError):
                read(type(message), other)


# --- whatever else may come --------------------


@pytest.mark.parametrize("kind", KINDS)
@given(payload=st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused_by_name(kind: type[Message], payload: bytes) -> None:
    try:
        found = read(kind, payload)
    except WireViolationError:
        return
    assert said(found, payload)  # nothing can be said in two ways


@given(st.one_of(*ANY.values()), st.data())
def test_a_message_with_bytes_changed_is_another_or_refused(
    message: Message, data: st.DataObject
) -> None:
    payload = bytearray(message.payload())
    for _ in range(data.draw(numbers(3, 1)) if payload else 0):
        payload[data.draw(numbers(len(payload) - 1))] = data.draw(numbers(255))
    try:
        found = read(type(message), bytes(payload))
    except WireViolationError:
        return
    assert said(found, bytes(payload))


@given(st.binary(min_size=8, max_size=8), st.lists(st.sampled_from(list(ANY)), unique=True))
def test_any_head_is_one_of_a_frame_that_may_stand_there_or_refused(
    head: bytes, expected: Sequence[type[Message]]
) -> None:
    try:
        length, kind = wire.limit(head, expected)
    except WireViolationError:
        return
    assert kind in expected
    assert length <= kind.most
    assert head == HEAD.pack(length, kind.kind, bytes(3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_greatest_length_is_refused_from_one_byte_more_on(kind: type[Message]) -> None:
    assert wire.limit(HEAD.pack(kind.most, kind.kind, bytes(3)), [kind]) == (kind.most, kind)
    for length in (kind.most + 1, 1 << 31, (1 << 32) - 1):
        with pytest.raises(WireViolationError, match=f"announces {length} bytes"):
            wire.limit(HEAD.pack(length, kind.kind, bytes(3)), [kind])


def test_an_absurd_length_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireViolationError):
            wire.limit(HEAD.pack((1 << 32) - 1, wire.Patch.kind, bytes(3)), [wire.Patch])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_message_fits_into_its_frame(kind: type[Message]) -> None:
    long, digest = "\u20ac" * 5000, Digest(b"\xff" * 32)
    disk = DiskId("ff" * 16)
    about = Replica(disk, digest, (1 << 50) - 1, 1 << 24, 1 << 20, long, long, long)
    disks = tuple(DiskId(f"{one:032x}") for one in range(256))
    ranges = tuple(Extent(2 * one, 1) for one in range(512))
    longest: Mapping[type[Message], Message] = {
        wire.Hello: wire.Hello(1, 1, long, (long,) * 64),
        wire.Enrol: wire.Enrol(bytes(16), bytes(wire.MOST_CERTIFICATE)),
        wire.Point: wire.Point(bytes(16), Form.FUZZY, 0, disks),
        wire.Disk: wire.Disk(about),
        wire.Pages: wire.Pages(0, 1),
        wire.Entries: wire.Entries(0),
        wire.Ask: wire.Ask(tuple(range(256))),
        wire.Patch: wire.Patch(
            0, Codec.RAW, 1 << 24, Digest(bytes(32)), b"\1" * 256, ranges, bytes(1 << 24)
        ),
        wire.EndDisk: wire.EndDisk(digest),
        wire.EndPoint: wire.EndPoint(),
        wire.Welcome: wire.Welcome(1, long, ((7, about),) * 256, (long,) * 64),
        wire.Enrolled: wire.Enrolled(long),
        wire.PointIs: wire.PointIs(1),
        wire.DiskIs: wire.DiskIs(1, digest),
        wire.PagesAre: wire.PagesAre(0, (digest,) * PAGE_ENTRIES),
        wire.EntriesAre: wire.EntriesAre(0, ((digest, State.DATA),) * PAGE_ENTRIES),
        wire.Have: wire.Have(0, (digest[:16],) * 256),
        wire.Ack: wire.Ack(0, State.DATA, digest),
        wire.Whole: wire.Whole(0),
        wire.DiskDone: wire.DiskDone(same=True, root=digest),
        wire.PointDone: wire.PointDone(0, kept=True),
        wire.Busy: wire.Busy(1 << 53, 1 << 53),
        wire.Refused: wire.Refused(1, long, long, long, Again.LATER),
    }
    frame = wire.encode(longest[kind])
    assert len(frame) - HEAD.size <= kind.most
    assert taken(frame, kind).payload() == frame[HEAD.size :]


@pytest.mark.parametrize("number", [*range(11, 65), *range(76, 96), *range(97, 127), 128, 255, 0])
def test_an_unknown_kind_is_refused(number: int) -> None:
    with pytest.raises(WireViolationError, match="does not speak this protocol"):
        wire.limit(HEAD.pack(0, number, bytes(3)), list(ANY))


def test_a_head_whose_zeros_are_none_is_refused() -> None:
    with pytest.raises(WireViolationError, match="does not speak this protocol"):
        wire.limit(HEAD.pack(0, 10, b"\0\0\1"), [wire.EndPoint])
    with pytest.raises(WireViolationError, match="does not speak this protocol"):
        wire.limit(HEAD.pack(0, 40, b"\0\0\1"), [], asides=wire.SENDER_ASIDES)


# --- what may stand anywhere --------------------


@pytest.mark.parametrize(
    ("asides", "known"), [(wire.SENDER_ASIDES, ()), (wire.GATE_ASIDES, (wire.Busy,))]
)
def test_of_kinds_that_may_be_skipped_the_unknown_are(
    asides: range, known: Sequence[type[Message]]
) -> None:
    named = {one.kind: one for one in known}
    for number in range(256):
        for length in (0, 1 << 16):
            head = HEAD.pack(length, number, bytes(3))
            if number in asides and number not in named:
                assert wire.limit(head, [], asides=asides) == (length, wire.Aside)
            elif number not in named:
                with pytest.raises(WireViolationError):
                    wire.limit(head, [], asides=asides)
    for number, kind in named.items():
        assert wire.limit(HEAD.pack(0, number, bytes(3)), [], asides=asides) == (0, kind)


def test_what_is_skipped_has_64_kib_at_most() -> None:
    with pytest.raises(WireViolationError, match="announces 65537 bytes"):
        wire.limit(HEAD.pack((1 << 16) + 1, 40, bytes(3)), [], asides=wire.SENDER_ASIDES)


def test_a_patch_is_no_longer_than_its_disks_blocks_allow() -> None:
    most = (1 << 16) + 8192
    head = HEAD.pack(most, wire.Patch.kind, bytes(3))
    assert wire.limit(head, [wire.Patch], block_size=1 << 16) == (most, wire.Patch)
    with pytest.raises(WireViolationError, match=f"announces {most + 1} bytes"):
        wire.limit(
            HEAD.pack(most + 1, wire.Patch.kind, bytes(3)), [wire.Patch], block_size=1 << 16
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_may_not_stand_there_is_refused(kind: type[Message]) -> None:
    others = [one for one in ANY if one is not kind]
    head = HEAD.pack(0, kind.kind, bytes(3))
    with pytest.raises(WireViolationError, match=f"{kind.__name__} came where"):
        wire.limit(head, others)
    with pytest.raises(WireViolationError, match=rf"{kind.__name__} came where  belongs"):
        wire.limit(head, [])


# --- foreign text --------------------


@given(st.text(max_size=200))
def test_a_text_goes_over_without_what_it_may_not_hold(said: str) -> None:
    found = taken(wire.encode(wire.Refused(1, "error", said, "")), wire.Refused)
    assert isinstance(found, wire.Refused)
    assert len(found.what) == len(said)
    for one, other in zip(found.what, said, strict=True):
        held = other < " " or "\x7f" <= other < "\xa0" or "\ud800" <= other < "\ue000"
        assert one == ("?" if held else other)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=129, max_size=400))
def test_a_text_that_is_too_long_is_cut_between_characters(said: str) -> None:
    found = taken(wire.encode(wire.Hello(1, 1, said)), wire.Hello)
    assert isinstance(found, wire.Hello)
    assert said.startswith(found.program)
    assert 125 <= len(found.program.encode()) <= 128


@pytest.mark.parametrize("number", [*range(32), *range(0x7F, 0xA0)])
def test_a_control_character_is_refused(number: int) -> None:
    data = chr(number).encode()
    with pytest.raises(WireViolationError, match="control characters"):
        read(wire.Enrolled, struct.pack("<H", len(data)) + data)


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
def test_bytes_that_are_no_utf_8_are_refused(data: bytes) -> None:
    with pytest.raises(WireViolationError, match="no UTF-8"):
        read(wire.Enrolled, struct.pack("<H", len(data)) + data)


# --- payloads are not copied more than once --------------------


def test_a_patchs_payload_is_borrowed_from_the_frame() -> None:
    data = os.urandom(PIECE)
    sent = wire.Patch(0, Codec.RAW, PIECE, Digest(bytes(32)), b"\1", (), data)
    frame = bytearray(sent.payload())
    found = wire.parse(wire.Patch, memoryview(frame))
    assert isinstance(found, wire.Patch)
    frame[-1] ^= 1
    assert bytes(found.data)[-1] == data[-1] ^ 1


# --- numbers that only announce --------------------


def _u(*numbers: tuple[int, int]) -> bytes:
    return b"".join(value.to_bytes(size, "little") for size, value in numbers)


_HELLO = wire.MAGIC + _u((2, 1), (2, 1), (2, 0))
ANNOUNCED = {
    "HELLO, features": (wire.Hello, _HELLO + _u((2, wire.MOST_FEATURES))),
    "HELLO, a name": (wire.Hello, _HELLO[:-2] + _u((2, 128))),
    "POINT, disks": (wire.Point, bytes(16) + _u((1, 0), (8, 0), (2, wire.MOST_REPLICAS))),
    "WELCOME, replicas": (wire.Welcome, _u((2, 1), (2, 0), (2, wire.MOST_REPLICAS))),
    "WELCOME, features": (wire.Welcome, _u((2, 1), (2, 0), (2, 0), (2, wire.MOST_FEATURES))),
    "DISK, a serial": (wire.Disk, bytes(48) + _u((8, 1), (4, 1 << 16), (4, 512), (2, 512))),
    "PATCH, pieces and ranges": (
        wire.Patch,
        _u((4, 0), (1, 0), (1, 0), (2, 256), (2, wire.MOST_RANGES), (2, 0), (4, 1 << 24))
        + bytes(32 + 256),
    ),
    "REFUSED, words": (wire.Refused, _u((2, 1), (1, 0), (2, 0), (2, 4096))),
}


@pytest.mark.parametrize("announced", ANNOUNCED.values(), ids=ANNOUNCED)
def test_what_is_only_announced_costs_no_memory(
    announced: tuple[type[wire.Message], bytes],
) -> None:
    kind, payload = announced
    view = memoryview(payload)
    with pytest.raises(WireViolationError, match="cut short"):  # also warms up what is made once
        wire.parse(kind, view)
    tracemalloc.start()
    try:
        with pytest.raises(WireViolationError):
            wire.parse(kind, view)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 10


def test_a_disk_of_2_to_the_50_bytes_costs_no_memory_before_it_is_opened() -> None:
    """Its map would be 2.7 GB."""
    largest = wire.Replica(DiskId("11" * 16), bytes(32), (1 << 50) - 1, 1 << 24, 512, "", "", "")
    payload = memoryview(wire.Welcome(1, "m", ((0, largest),) * wire.MOST_REPLICAS).payload())
    tracemalloc.start()
    try:
        found = wire.parse(wire.Welcome, payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, wire.Welcome)
    assert len(found.replicas) == wire.MOST_REPLICAS
    assert peak < 1 << 20


@pytest.mark.parametrize("again", [3, 4, 255])
def test_a_refusal_that_may_be_said_again_otherwise_waits_for_the_operator(again: int) -> None:
    payload = bytearray(wire.Refused(250, "from-the-future", "No", "").payload())
    payload[2] = again
    found = read(wire.Refused, bytes(payload))
    assert isinstance(found, wire.Refused)
    assert found.again is Again.AFTER_OPERATOR
