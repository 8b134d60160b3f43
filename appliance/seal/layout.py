"""The fixed structures of a pack, byte for byte (store-format.md, section 5). Pure: no keys, no
files.

``parse`` functions take foreign bytes: they refuse with PackDamagedError what no writer of this
format writes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3

from appliance.block import PAGE
from appliance.errors import PackDamagedError, RecordDamagedError, UnknownFormatError
from appliance.model import (
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    Codec,
    Digest,
    DiskId,
    PackId,
    ShipmentId,
)

ZERO_DISK = DiskId("0" * 32)
NO_PACK = PackId("0" * 32)
NO_DIGEST = Digest(bytes(32))
MAX_RECIPIENTS = 16
MAX_BLOCKS = 1 << 26
MAX_RECORDS = 1 << 18
MAX_JSON = 1 << 24
MAX_RANGES = 1 << 16

PACK_MAGIC = b"MGPACK1\n"
CHECKPOINT_MAGIC = b"MGCHECK1"
TRAILER_MAGIC = b"MGTRAIL1"
CHECKPOINT, INDEX, TRAILER = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD

_PACK_HEAD = struct.Struct("<8sIHH16s32s16s16sIIIIQ")
_FRAME = struct.Struct("<II")
_RECORD = struct.Struct("<BBHIIIQQ32s16s")
_CHECKPOINT = struct.Struct("<II8sQ32s32s")
_TRAILER = struct.Struct("<II8sIIQQ32s")
_OFFSET = struct.Struct("<Q")
_RANGE = struct.Struct("<QQ")

CONTEXT_SIZE = _PACK_HEAD.size
FRAME_HEAD = _FRAME.size
RECORD_HEAD = _RECORD.size
INDEX_ENTRY = RECORD_HEAD + _OFFSET.size
TAG = 16
WRAP = 1168
assert (CONTEXT_SIZE, RECORD_HEAD, INDEX_ENTRY) == (120, 80, 88)
assert (_CHECKPOINT.size, _TRAILER.size, FRAME_HEAD) == (88, 72, 8)


def align(size: int) -> int:
    return -(-size // PAGE) * PAGE


MAX_CIPHER = align(FRAME_HEAD + RECORD_HEAD + MAX_BLOCK_SIZE + TAG) - FRAME_HEAD
assert MAX_CIPHER == 16_781_304


def is_zero(data: memoryview | bytes) -> bool:
    return bytes(data).count(0) == len(data)


# --- pack head --------------------


@dataclass(frozen=True, slots=True)
class PackHead:
    """What anyone may know of a pack. Order within a disk's point: (session, sequence);
    ``start`` is the block at which this pack takes over.
    """

    shipment: ShipmentId
    head_digest: bytes
    pack: PackId
    disk: DiskId
    point: int
    session: int
    sequence: int
    block_size: int
    start: int
    recipients: int

    @property
    def size(self) -> int:
        return align(CONTEXT_SIZE + 32 + WRAP * self.recipients)

    @property
    def is_contents(self) -> bool:
        return self.disk == ZERO_DISK

    @property
    def order(self) -> tuple[str, int, int, int]:
        return (self.disk, self.point, self.session, self.sequence)

    def context_bytes(self) -> bytes:
        """Bytes 0 to 119: all keys of the pack depend on them."""
        return _PACK_HEAD.pack(
            PACK_MAGIC,
            self.size,
            self.recipients,
            0,
            bytes.fromhex(self.shipment),
            self.head_digest,
            bytes.fromhex(self.pack),
            bytes.fromhex(self.disk),
            self.point,
            self.session,
            self.sequence,
            self.block_size,
            self.start,
        )


def parse_pack_head(data: bytes) -> tuple[PackHead, bytes, list[bytes]]:
    """The head, its commitment and its wraps. ``data`` is the front of the pack, at least the
    head's size.
    """
    if len(data) < PAGE or data[:8] != PACK_MAGIC:
        if data[:6] == PACK_MAGIC[:6] and len(data) >= PAGE:
            raise UnknownFormatError("The pack has a format version that is unknown here")
        raise PackDamagedError("The pack does not begin as a pack")
    fields = _PACK_HEAD.unpack_from(data)
    (
        _,
        size,
        recipients,
        flags,
        shipment,
        head_digest,
        pack,
        disk,
        point,
        session,
        sequence,
        block,
        start,
    ) = fields
    _refuse_flags(flags, "head of the pack")
    if not 1 <= recipients <= MAX_RECIPIENTS:
        raise PackDamagedError(f"The pack head names {recipients} recipients")
    if not MIN_BLOCK_SIZE <= block <= MAX_BLOCK_SIZE or block & (block - 1):
        raise PackDamagedError(f"The pack head names blocks of {block} bytes")
    head = PackHead(
        shipment=ShipmentId(shipment.hex()),
        head_digest=head_digest,
        pack=PackId(pack.hex()),
        disk=DiskId(disk.hex()),
        point=point,
        session=session,
        sequence=sequence,
        block_size=block,
        start=start,
        recipients=recipients,
    )
    end = CONTEXT_SIZE + 32 + WRAP * recipients
    if size != head.size or len(data) < size:
        raise PackDamagedError("The pack head is cut short or has a wrong size")
    if not is_zero(data[end:size]):
        raise PackDamagedError("The pack head is padded with something else than zeros")
    wraps = [data[at : at + WRAP] for at in range(CONTEXT_SIZE + 32, end, WRAP)]
    return head, data[CONTEXT_SIZE : CONTEXT_SIZE + 32], wraps


def _refuse_flags(flags: int, where: str) -> None:
    if flags:
        raise UnknownFormatError(f"The {where} has flags unknown to version 1 ({flags:#x})")


def head_bytes(head: PackHead, commitment: bytes, wraps: Sequence[bytes]) -> bytes:
    """The head of a pack as it stands in the file."""
    return (head.context_bytes() + commitment + b"".join(wraps)).ljust(head.size, b"\0")


# --- records --------------------


class Kind(IntEnum):
    BLOCK = 1
    REFERENCE = 2
    ZERO_RUN = 3
    UNREADABLE = 4
    DISK_HEAD = 5
    POINT_END = 6
    CONTENTS = 7
    NOTE = 8


JSON_KINDS = frozenset({Kind.DISK_HEAD, Kind.POINT_END, Kind.CONTENTS, Kind.NOTE})
CONTENT_KINDS = frozenset({Kind.BLOCK, Kind.REFERENCE, Kind.ZERO_RUN})


@dataclass(frozen=True, slots=True)
class RecordHead:
    """The encrypted head of a record, also its entry in the index."""

    kind: Kind
    codec: Codec
    plain: int
    stored: int
    index: int
    count: int
    digest: Digest
    target: PackId = NO_PACK
    target_number: int = 0

    def encode(self) -> bytes:
        return _RECORD.pack(
            self.kind,
            self.codec,
            0,
            self.plain,
            self.stored,
            self.target_number,
            self.index,
            self.count,
            self.digest,
            bytes.fromhex(self.target),
        )

    @property
    def frame_size(self) -> int:
        """Bytes that the record takes in the pack."""
        return record_frame_size(self.stored)


def record_frame_size(stored: int) -> int:
    """Bytes that a record with so many payload bytes takes in a pack."""
    return align(FRAME_HEAD + RECORD_HEAD + stored + TAG)


def parse_record_head(data: bytes | memoryview, block_size: int) -> RecordHead:
    """A record head, each field within the bounds of its kind, else RecordDamagedError; of a kind
    and codec that version 1 knows, else UnknownFormatError.
    """
    kind, codec, zero, plain, stored, number, index, count, digest, target = _RECORD.unpack_from(
        data
    )
    try:
        head = RecordHead(
            Kind(kind),
            Codec(codec),
            plain,
            stored,
            index,
            count,
            Digest(digest),
            PackId(target.hex()),
            number,
        )
    except ValueError as exc:
        raise UnknownFormatError(f"A record is unknown to version 1 ({exc})") from exc
    if zero or not _sound(head, block_size):
        raise RecordDamagedError(f"A {head.kind.name} record contradicts itself")
    return head


def _sound(head: RecordHead, block_size: int) -> bool:
    """Whether the fields of a record head go together."""
    refers = head.kind is Kind.REFERENCE
    raw_as_it_is = refers or (head.codec is Codec.RAW) == (head.stored == head.plain)
    target = refers == (head.target != NO_PACK) and (refers or not head.target_number)
    bounded = head.index + head.count < 1 << 63 and head.target_number < MAX_RECORDS
    return raw_as_it_is and target and bounded and _sound_kind(head, block_size)


def _sound_kind(head: RecordHead, block_size: int) -> bool:
    raw, fills = head.codec is Codec.RAW, 0 < head.stored <= head.plain
    match head.kind:
        case Kind.BLOCK:
            return head.count == 1 and fills and head.plain <= block_size
        case Kind.REFERENCE:
            one_block = head.count == 1 and 0 < head.plain <= block_size
            return one_block and raw and head.stored == 0 and head.digest != NO_DIGEST
        case Kind.ZERO_RUN:
            empty = head.plain == head.stored == 0 and head.digest == NO_DIGEST
            return head.count >= 1 and empty
        case Kind.UNREADABLE:
            ranges, rest = divmod(head.plain, _RANGE.size)
            return raw and head.count >= 1 and rest == 0 and 1 <= ranges <= MAX_RANGES
        case _:
            return fills and head.index == head.count == 0 and head.plain <= MAX_JSON


@dataclass(frozen=True, slots=True)
class Entry:
    """A record's place in its pack."""

    number: int
    offset: int
    head: RecordHead


def entries_digest(entries: Sequence[Entry]) -> bytes:
    """A digest of everything an index says."""
    found = blake3()
    for one in entries:
        found.update(one.head.encode() + _OFFSET.pack(one.offset))
    return found.digest()


def frame_bytes(first: int, second: int) -> bytes:
    return _FRAME.pack(first, second)


def parse_frame(data: bytes | memoryview) -> tuple[int, int]:
    """The two words at the front of every frame."""
    first, second = _FRAME.unpack_from(data)
    return int(first), int(second)


def index_bytes(entries: list[tuple[bytes, int]]) -> bytearray:
    """The plaintext of an index, padded: (record head bytes, offset) for each record."""
    padded = index_cipher_size(len(entries)) - TAG
    plain = bytearray(padded)
    for place, (head, offset) in enumerate(entries):
        at = place * INDEX_ENTRY
        plain[at : at + RECORD_HEAD] = head
        _OFFSET.pack_into(plain, at + RECORD_HEAD, offset)
    return plain


def index_cipher_size(records: int) -> int:
    return align(FRAME_HEAD + INDEX_ENTRY * records + TAG) - FRAME_HEAD


def parse_index(plain: bytes | memoryview, head: PackHead, records: int) -> list[Entry]:
    """The entries of an opened index; their frames must lie one behind the other, checkpoints
    between.
    """
    view = memoryview(plain)
    entries: list[Entry] = []
    at = head.size
    for number in range(records):
        piece = view[number * INDEX_ENTRY : (number + 1) * INDEX_ENTRY]
        record = parse_record_head(piece, head.block_size)
        (offset,) = _OFFSET.unpack_from(piece, RECORD_HEAD)
        if offset < at or offset % PAGE:
            raise PackDamagedError("The index of the pack places records on top of each other")
        entries.append(Entry(number, offset, record))
        at = offset + record.frame_size
    if not is_zero(view[records * INDEX_ENTRY :]):
        raise PackDamagedError("The index is padded with something else than zeros")
    return entries


def ranges_bytes(ranges: list[tuple[int, int]]) -> bytes:
    return b"".join(_RANGE.pack(*one) for one in ranges)


def parse_ranges(
    payload: bytes | memoryview, head: RecordHead, block_size: int, disk_size: int
) -> list[tuple[int, int]]:
    """The (offset, length) pairs of an unreadable run, checked against the blocks it speaks of and
    the disk's end.
    """
    at, end = head.index * block_size, min((head.index + head.count) * block_size, disk_size)
    found = [(int(offset), int(length)) for offset, length in _RANGE.iter_unpack(payload)]
    for offset, length in found:
        if offset < at or length < 1 or offset + length > end:
            raise RecordDamagedError("An unreadable run names bytes outside its blocks")
        at = offset + length
    return found


# --- checkpoint and trailer --------------------


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything below block ``cursor`` is stored; ``digest`` is that of all pack bytes before
    it.
    """

    records: int
    cursor: int
    digest: bytes
    guard: bytes

    def encode(self) -> bytes:
        fixed = _CHECKPOINT.pack(
            CHECKPOINT, self.records, CHECKPOINT_MAGIC, self.cursor, self.digest, self.guard
        )
        return fixed.ljust(PAGE, b"\0")


def parse_checkpoint(data: bytes | memoryview) -> Checkpoint:
    _, records, magic, cursor, digest, guard = _CHECKPOINT.unpack_from(data)
    if magic != CHECKPOINT_MAGIC or not is_zero(data[_CHECKPOINT.size : PAGE]):
        raise PackDamagedError("A checkpoint of the pack is damaged")
    return Checkpoint(records, cursor, digest, guard)


class PackState(IntEnum):
    TORN = 0
    CLOSED = 1
    POINT_END = 2


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last page of a pack."""

    records: int
    state: PackState
    checkpoint_offset: int
    index_offset: int
    digest: bytes

    def encode(self) -> bytes:
        fixed = _TRAILER.pack(
            TRAILER,
            self.records,
            TRAILER_MAGIC,
            self.state,
            0,
            self.checkpoint_offset,
            self.index_offset,
            self.digest,
        )
        return fixed.ljust(PAGE, b"\0")


def parse_trailer(data: bytes | memoryview, head: PackHead, size: int) -> Trailer:
    """The trailer of a pack of ``size`` bytes; its offsets are checked against that size."""
    word, records, magic, state, flags, checkpoint, index, digest = _TRAILER.unpack_from(data)
    padding = data[_TRAILER.size : PAGE]
    if word != TRAILER or magic != TRAILER_MAGIC or not is_zero(padding):
        raise PackDamagedError("The pack does not end as a pack")
    _refuse_flags(flags, "trailer of the pack")
    body_end = size - PAGE
    states = [one.value for one in PackState]
    if state not in states or records > MAX_RECORDS:
        raise PackDamagedError("The trailer of the pack contradicts itself")
    trailer = Trailer(records, PackState(state), checkpoint, index, digest)
    behind = checkpoint + PAGE
    if trailer.state is PackState.TORN:
        fits = index == 0 and behind == body_end
    else:
        fits = index == behind and index + FRAME_HEAD + index_cipher_size(records) == body_end
    if checkpoint % PAGE or checkpoint < head.size or not fits:
        raise PackDamagedError("The trailer of the pack points outside of it")
    return trailer
