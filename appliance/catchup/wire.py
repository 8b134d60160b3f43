"""The frames between sender and gate, as docs/wire-format.md specifies them. Pure.

``encode`` makes a frame of a message; ``limit`` and ``parse`` make a message of a frame. Foreign
bytes: what is not exactly a message is a WireViolationError.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol, Self

from appliance.catchup.fields import Fields, packed_text, told_text
from appliance.errors import WireViolationError
from appliance.model import (
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    Codec,
    Digest,
    DiskFacts,
    DiskId,
    Extent,
    block_count,
)
from appliance.seal.canon import MAX_INT
from appliance.seal.layout import MAX_BLOCKS
from appliance.seal.manifest import PAGE_ENTRIES, State
from appliance.seal.papers import MAX_SIZE, MAX_TEXT

VERSION = 1
MAGIC = b"MGLINK\0\1"
HEAD = struct.Struct("<IB3s")
PIECE = 1 << 16
MOST_ASKED = 256
MOST_REPLICAS = 256
MOST_RANGES = 512
MOST_CERTIFICATE = 4096
MOST_FEATURES = 64
ENTRY = 33
FEATURES: frozenset[str] = frozenset()  # what this end can do beyond version 1
_ROOM = 8192
_PROGRAM = 128
_FEATURE = 64
SENDER_ASIDES, GATE_ASIDES = range(32, 64), range(96, 127)
_MOST_ASIDE = 1 << 16
assert HEAD.size == 8


class Form(IntEnum):
    """How the disks of a point were read."""

    FUZZY = 0
    CRASH_CONSISTENT = 1
    QUIESCED = 2


class Piece(IntEnum):
    """What a patch says of one piece of its block."""

    SAME = 0
    SENT = 1
    ZERO = 2


class Again(IntEnum):
    """Whether what was refused may be asked for again."""

    NEVER = 0
    LATER = 1
    AFTER_OPERATOR = 2

    @classmethod
    def read(cls, value: int) -> Self:
        """What a later version says otherwise is the operator's to look at: neither is it lost
        for good, nor does saying it again and again help.
        """
        return cls(min(value, cls.AFTER_OPERATOR))


class Message(Protocol):
    """One frame's meaning. ``most`` is the greatest length of its payload."""

    kind: ClassVar[int]
    most: ClassVar[int]

    def payload(self) -> bytes: ...

    @classmethod
    def read(cls, fields: Fields) -> Self: ...


def _packed_features(features: Sequence[str]) -> bytes:
    named = b"".join(packed_text(one, _FEATURE) for one in features)
    return len(features).to_bytes(2, "little") + named


def _features(fields: Fields) -> tuple[str, ...]:
    count = fields.number(2, 0, MOST_FEATURES)
    return tuple(fields.text(_FEATURE) for _ in range(count))


# --- what the sender says --------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame. Versions of this format that the sender speaks; its name for people; the
    features it offers. What follows them is a later sender's and is not read.
    """

    kind: ClassVar[int] = 1
    most: ClassVar[int] = _ROOM
    lowest: int
    highest: int
    program: str
    features: tuple[str, ...] = ()

    def payload(self) -> bytes:
        versions = struct.pack("<HH", self.lowest, self.highest)
        told = packed_text(self.program, _PROGRAM) + _packed_features(self.features)
        return MAGIC + versions + told

    @classmethod
    def read(cls, fields: Fields) -> Self:
        if fields.bytes(8) != MAGIC:
            raise fields.bad("this is no sender's greeting")
        lowest = fields.number(2, 1)
        highest, program = fields.number(2, lowest), fields.text(_PROGRAM)
        found = cls(lowest, highest, program, _features(fields))
        fields.rest()
        return found


@dataclass(frozen=True, slots=True)
class Enrol:
    """The token of an enrolment code, and the certificate the sender will show from now on."""

    kind: ClassVar[int] = 2
    most: ClassVar[int] = 16 + MOST_CERTIFICATE
    token: bytes
    certificate: bytes

    def payload(self) -> bytes:
        return self.token + self.certificate

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.bytes(16), bytes(fields.rest()))


@dataclass(frozen=True, slots=True)
class Point:
    """Begin or go on with a point of the machine. ``round`` is 16 random bytes; ``taken`` is the
    sender's clock in seconds since 1970.
    """

    kind: ClassVar[int] = 3
    most: ClassVar[int] = 1 << 16
    round: bytes
    form: Form
    taken: int
    disks: tuple[DiskId, ...]

    def payload(self) -> bytes:
        head = struct.pack("<16sBQH", self.round, self.form, self.taken, len(self.disks))
        return head + b"".join(bytes.fromhex(one) for one in self.disks)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        nonce, form = fields.bytes(16), Form(fields.number(1, 0, 2))
        taken = fields.number(8, 0, MAX_INT)
        count = fields.number(2, 1, MOST_REPLICAS)
        disks = tuple(DiskId(fields.bytes(16).hex()) for _ in range(count))
        if list(disks) != sorted(set(disks)):
            raise fields.bad("its disks are out of order")
        return cls(nonce, form, taken, disks)


@dataclass(frozen=True, slots=True)
class Replica:
    """A disk as both ends know it: its texts as they go over the wire. ``origin`` is a seal's
    root, or zeros; ``size`` is bytes.
    """

    disk: DiskId
    origin: bytes
    size: int
    block_size: int
    sector: int
    serial: str
    model: str
    table_id: str

    @classmethod
    def of(cls, facts: DiskFacts, disk: DiskId, origin: bytes, block_size: int) -> Self:
        """The disk that ``facts`` are known of at one end, as the other end comes to know it."""
        known = (facts.serial, facts.model, facts.table_id)
        texts = (told_text(one, MAX_TEXT) for one in known)
        return cls(disk, origin, facts.size, block_size, facts.logical_sector, *texts)

    def packed(self) -> bytes:
        head = struct.pack("<QII", self.size, self.block_size, self.sector)
        texts = (self.serial, self.model, self.table_id)
        return (
            bytes.fromhex(self.disk)
            + self.origin
            + head
            + b"".join(packed_text(one, MAX_TEXT) for one in texts)
        )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        disk, origin = DiskId(fields.bytes(16).hex()), fields.bytes(32)
        size = fields.number(8, 1, MAX_SIZE)
        block_size = fields.number(4, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE)
        if block_size & (block_size - 1) or block_count(size, block_size) > MAX_BLOCKS:
            raise fields.bad("an impossible block size")
        sector = fields.number(4, 1, 1 << 20)
        texts = (fields.text(MAX_TEXT), fields.text(MAX_TEXT), fields.text(MAX_TEXT))
        return cls(disk, origin, size, block_size, sector, *texts)


@dataclass(frozen=True, slots=True)
class Disk:
    """Open a disk of the point."""

    kind: ClassVar[int] = 4
    most: ClassVar[int] = _ROOM
    replica: Replica

    def payload(self) -> bytes:
        return self.replica.packed()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(Replica.read(fields))


@dataclass(frozen=True, slots=True)
class Pages:
    """Ask for the digests of pages of the manifest."""

    kind: ClassVar[int] = 5
    most: ClassVar[int] = 8
    first: int
    count: int

    def payload(self) -> bytes:
        return struct.pack("<II", self.first, self.count)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.number(4, 0, MAX_BLOCKS - 1), fields.number(4, 1, PAGE_ENTRIES))


@dataclass(frozen=True, slots=True)
class Entries:
    """Ask for the entries of one page of the manifest."""

    kind: ClassVar[int] = 6
    most: ClassVar[int] = 4
    page: int

    def payload(self) -> bytes:
        return struct.pack("<I", self.page)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.number(4, 0, MAX_BLOCKS - 1))


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask what the volume holds: the piece digests of these blocks."""

    kind: ClassVar[int] = 7
    most: ClassVar[int] = 4 * MOST_ASKED
    indexes: tuple[int, ...]

    def payload(self) -> bytes:
        return struct.pack(f"<{len(self.indexes)}I", *self.indexes)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        data = fields.rest()
        if not data or len(data) % 4:
            raise fields.bad("it asks for nothing")
        indexes = struct.unpack(f"<{len(data) // 4}I", data)
        if list(indexes) != sorted(set(indexes)) or indexes[-1] >= MAX_BLOCKS:
            raise fields.bad("its blocks are out of order")
        return cls(indexes)


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of one block. ``codes`` has a Piece for every piece of it; ``bad`` are ranges
    inside the block; ``payload`` is borrowed from the frame.
    """

    kind: ClassVar[int] = 8
    most: ClassVar[int] = MAX_BLOCK_SIZE + _ROOM
    index: int
    codec: Codec
    plain: int
    digest: Digest
    codes: bytes
    bad: tuple[Extent, ...]
    data: memoryview | bytes

    def payload(self) -> bytes:
        head = struct.pack(
            "<IBBHHHI32s",
            self.index,
            self.codec,
            0,
            len(self.codes),
            len(self.bad),
            0,
            self.plain,
            self.digest,
        )
        ranges = b"".join(struct.pack("<II", one.offset, one.length) for one in self.bad)
        return b"".join((head, self.codes, ranges, self.data))

    @classmethod
    def read(cls, fields: Fields) -> Self:
        index = fields.number(4, 0, MAX_BLOCKS - 1)
        codec = Codec(fields.number(1, 0, 1))
        fields.zeros(1)
        pieces = fields.number(2, 1, MAX_BLOCK_SIZE // PIECE)
        ranges = fields.number(2, 0, MOST_RANGES)
        fields.zeros(2)
        plain = fields.number(4, 0, pieces * PIECE)
        found = Digest(fields.bytes(32))
        codes = fields.bytes(pieces)
        if max(codes) > Piece.ZERO:
            raise fields.bad("it marks a piece as nothing that is known")
        bad = tuple(
            Extent(fields.number(4), fields.number(4, 1, pieces * PIECE)) for _ in range(ranges)
        )
        at = 0
        for one in bad:
            if one.offset < at or one.end > pieces * PIECE:
                raise fields.bad("its unreadable ranges are out of order")
            at = one.end + 1
        if bad and any(found):
            raise fields.bad("of a block with unreadable ranges there is no digest")
        data = fields.rest()
        if codec is Codec.RAW and len(data) != plain:
            raise fields.bad("its payload has a wrong length")
        return cls(index, codec, plain, found, codes, bad, data)


@dataclass(frozen=True, slots=True)
class EndDisk:
    """All of the disk has been sent; ``root`` is the sender's, for the new point."""

    kind: ClassVar[int] = 9
    most: ClassVar[int] = 32
    root: bytes

    def payload(self) -> bytes:
        return self.root

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.bytes(32))


@dataclass(frozen=True, slots=True)
class EndPoint:
    """All disks of the point are done."""

    kind: ClassVar[int] = 10
    most: ClassVar[int] = 0

    def payload(self) -> bytes:
        return b""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        del fields
        return cls()


# --- what the gate says --------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """The version chosen; the machine the sender speaks for, and the point and disk of each of
    its replicas; the features chosen of those offered. What follows is not read.
    """

    kind: ClassVar[int] = 65
    most: ClassVar[int] = 1 << 20
    version: int
    machine: str
    replicas: tuple[tuple[int, Replica], ...]
    features: tuple[str, ...] = ()

    def payload(self) -> bytes:
        head = struct.pack("<H", self.version) + packed_text(self.machine, MAX_TEXT)
        listed = b"".join(struct.pack("<I", point) + one.packed() for point, one in self.replicas)
        count = struct.pack("<H", len(self.replicas))
        return head + count + listed + _packed_features(self.features)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        version, machine = fields.number(2, 1), fields.text(MAX_TEXT)
        count = fields.number(2, 0, MOST_REPLICAS)
        replicas = tuple((fields.number(4), Replica.read(fields)) for _ in range(count))
        found = cls(version, machine, replicas, _features(fields))
        fields.rest()
        return found


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The sender's key is known from now on, as this machine's."""

    kind: ClassVar[int] = 66
    most: ClassVar[int] = 1024
    machine: str

    def payload(self) -> bytes:
        return packed_text(self.machine, MAX_TEXT)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.text(MAX_TEXT))


@dataclass(frozen=True, slots=True)
class PointIs:
    kind: ClassVar[int] = 67
    most: ClassVar[int] = 4
    point: int

    def payload(self) -> bytes:
        return struct.pack("<I", self.point)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.number(4))


@dataclass(frozen=True, slots=True)
class DiskIs:
    """Where the replica stands: its point, and the root of its manifest for that point."""

    kind: ClassVar[int] = 68
    most: ClassVar[int] = 36
    point: int
    root: bytes

    def payload(self) -> bytes:
        return struct.pack("<I", self.point) + self.root

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.number(4), fields.bytes(32))


@dataclass(frozen=True, slots=True)
class PagesAre:
    kind: ClassVar[int] = 69
    most: ClassVar[int] = 4 + 32 * PAGE_ENTRIES
    first: int
    digests: tuple[bytes, ...]

    def payload(self) -> bytes:
        return struct.pack("<I", self.first) + b"".join(self.digests)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        first, data = fields.number(4), bytes(fields.rest())
        return cls(first, _parted(fields, data, 32))


@dataclass(frozen=True, slots=True)
class EntriesAre:
    kind: ClassVar[int] = 70
    most: ClassVar[int] = 4 + ENTRY * PAGE_ENTRIES
    page: int
    entries: tuple[tuple[Digest, State], ...]

    def payload(self) -> bytes:
        told = (found + bytes([state]) for found, state in self.entries)
        return struct.pack("<I", self.page) + b"".join(told)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        page, data = fields.number(4), bytes(fields.rest())
        parts = _parted(fields, data, ENTRY)
        if any(one[32] > State.UNREADABLE for one in parts):
            raise fields.bad("a block is in no state that is known")
        return cls(page, tuple((Digest(one[:32]), State(one[32])) for one in parts))


@dataclass(frozen=True, slots=True)
class Have:
    """What the volume holds of a block: the first 16 bytes of each piece's digest."""

    kind: ClassVar[int] = 71
    most: ClassVar[int] = 4 + 16 * (MAX_BLOCK_SIZE // PIECE)
    index: int
    pieces: tuple[bytes, ...]

    def payload(self) -> bytes:
        return struct.pack("<I", self.index) + b"".join(self.pieces)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        index, data = fields.number(4), bytes(fields.rest())
        return cls(index, _parted(fields, data, 16))


@dataclass(frozen=True, slots=True)
class Ack:
    """The block is durable on the volume, and is this."""

    kind: ClassVar[int] = 72
    most: ClassVar[int] = 37
    index: int
    state: State
    digest: Digest

    def payload(self) -> bytes:
        return struct.pack("<IB32s", self.index, self.state, self.digest)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        index, state = fields.number(4), State(fields.number(1, 1, 3))
        return cls(index, state, Digest(fields.bytes(32)))


@dataclass(frozen=True, slots=True)
class Whole:
    """The volume holds something else than its manifest says: send all of the block."""

    kind: ClassVar[int] = 73
    most: ClassVar[int] = 4
    index: int

    def payload(self) -> bytes:
        return struct.pack("<I", self.index)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.number(4))


@dataclass(frozen=True, slots=True)
class DiskDone:
    kind: ClassVar[int] = 74
    most: ClassVar[int] = 33
    same: bool
    root: bytes

    def payload(self) -> bytes:
        return bytes([self.same]) + self.root

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(bool(fields.number(1, 0, 1)), fields.bytes(32))


@dataclass(frozen=True, slots=True)
class PointDone:
    """The point is durable; ``kept``: it can be chosen for a boot."""

    kind: ClassVar[int] = 75
    most: ClassVar[int] = 5
    point: int
    kept: bool

    def payload(self) -> bytes:
        return struct.pack("<IB", self.point, self.kept)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.number(4), bool(fields.number(1, 0, 1)))


@dataclass(frozen=True, slots=True)
class Busy:
    """The gate is at work on what it owes an answer to: ``done`` of ``total`` bytes, or zeros."""

    kind: ClassVar[int] = 96
    most: ClassVar[int] = 16
    done: int
    total: int

    def payload(self) -> bytes:
        return struct.pack("<QQ", self.done, self.total)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        done, total = fields.number(8, 0, MAX_INT), fields.number(8, 0, MAX_INT)
        if done > total:
            raise fields.bad("more is done than there is")
        return cls(done, total)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the gate ends the connection, in words for people; ``again`` for programs. What follows
    the last field is not read.
    """

    kind: ClassVar[int] = 127
    most: ClassVar[int] = _ROOM
    code: int
    name: str
    what: str
    todo: str
    again: Again = Again.NEVER

    def payload(self) -> bytes:
        texts = ((self.name, 64), (self.what, 4096), (self.todo, 2048))
        told = b"".join(packed_text(one, most) for one, most in texts)
        return struct.pack("<HB", self.code, self.again) + told

    @classmethod
    def read(cls, fields: Fields) -> Self:
        code, again = fields.number(2), Again.read(fields.number(1))
        found = cls(code, fields.text(64), fields.text(4096), fields.text(2048), again)
        fields.rest()
        return found


@dataclass(frozen=True, slots=True)
class Aside:
    """A frame of a kind that this end does not know and may skip."""

    kind: ClassVar[int] = 0
    most: ClassVar[int] = _MOST_ASIDE

    def payload(self) -> bytes:
        return b""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.rest()
        return cls()


def _parted(fields: Fields, data: bytes, size: int) -> tuple[bytes, ...]:
    if not data or len(data) % size:
        raise fields.bad("it is cut short")
    return tuple(data[at : at + size] for at in range(0, len(data), size))


MESSAGES: Mapping[int, type[Message]] = {
    one.kind: one
    for one in (
        Hello, Enrol, Point, Disk, Pages, Entries, Ask, Patch, EndDisk, EndPoint,
        Welcome, Enrolled, PointIs, DiskIs, PagesAre, EntriesAre, Have, Ack, Whole,
        DiskDone, PointDone, Busy, Refused,
    )
}  # fmt: skip


def encode(message: Message) -> bytes:
    payload = message.payload()
    return HEAD.pack(len(payload), message.kind, bytes(3)) + payload


def limit(
    head: bytes | memoryview,
    expected: Sequence[type[Message]],
    *,
    asides: range = range(0),
    block_size: int = MAX_BLOCK_SIZE,
) -> tuple[int, type[Message]]:
    """Length and kind of the frame that ``head``, 8 bytes, begins; refuses one that may not stand
    here before memory is taken for it. ``asides`` are the kinds that may stand anywhere now, known
    or not; a patch is of a disk of ``block_size``.
    """
    length, kind, zero = HEAD.unpack(head)
    found = MESSAGES.get(kind, Aside if kind in asides else None)
    if found is None or zero != bytes(3):
        raise WireViolationError("The other end does not speak this protocol")
    if found not in expected and kind not in asides:
        wanted = " or ".join(one.__name__ for one in expected)
        raise WireViolationError(f"{found.__name__} came where {wanted} belongs")
    if length > (block_size + _ROOM if found is Patch else found.most):
        raise WireViolationError(f"{found.__name__} announces {length} bytes")
    return length, found


def parse(kind: type[Message], payload: memoryview) -> Message:
    fields = Fields(payload, kind.__name__)
    found = kind.read(fields)
    fields.end()
    return found
