"""Packs as recipes: what a pack says, before it is encrypted, digested and counted. The fuzzer
changes the recipe; making the pack seals it anew, with keys that the readers hold.

    recipe = flags u8 | the 120 bytes that a pack begins with | step*
    step   = code u8 | size u16 | body [size]

The low three bits of a code say what the step is; with bit 7 a record's digest and lengths stay
as they are, else they are put right. A bundle is several recipes, each behind its size as u32,
behind one byte of flags.
"""

import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random

import zstandard
from blake3 import blake3

from appliance.block import PAGE
from appliance.model import MAX_BLOCK_SIZE, Codec, DiskId, PackId
from appliance.seal.cut import digest
from appliance.seal.envelope import PackKeys
from appliance.seal.layout import (
    CHECKPOINT,
    CONTENT_KINDS,
    CONTEXT_SIZE,
    FRAME_HEAD,
    INDEX,
    JSON_KINDS,
    MAX_RECIPIENTS,
    RECORD_HEAD,
    TAG,
    WRAP,
    Checkpoint,
    PackHead,
    PackState,
    RecordHead,
    Trailer,
    align,
    frame_bytes,
    index_bytes,
)
from tests.fuzz.documents import documents
from tests.fuzz.target import Havoc

SECRET = bytes(range(32))
RAW = 0x80
_FIELDS = ((0, 8), (8, 4), (12, 4), (16, 16), (32, 32), (64, 16), (80, 16),
           (96, 4), (100, 4), (104, 4), (108, 4), (112, 8))  # fmt: skip
_RECORD_FIELDS = ((0, 1), (1, 1), (2, 2), (4, 4), (8, 4), (12, 4), (16, 8), (24, 8),
                  (32, 32), (64, 16))  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 255, PAGE, 65536, 1 << 18, (1 << 24) - 1, 1 << 24,
            1 << 26, (1 << 32) - 1, 1 << 50, (1 << 62) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
_STEP = struct.Struct("<BH")
_SIZE = struct.Struct("<I")


class Do(IntEnum):
    """What a step puts into the pack."""

    RECORD = 0
    CHECKPOINT = 1
    PAGE = 2
    CLOSE = 3
    INDEX = 4
    TRAILER = 5
    NUMBERED = 6  # a record under the number that its first four bytes give
    DAMAGED = 7  # a record whose last byte is another


@dataclass(slots=True)
class Recipe:
    flags: int
    context: bytes
    steps: list[tuple[int, bytes]]

    def encode(self) -> bytes:
        told = b"".join(_STEP.pack(code, len(body)) + body for code, body in self.steps)
        return bytes([self.flags]) + self.context + told

    @classmethod
    def parse(cls, data: bytes) -> "Recipe":
        data = data.ljust(1 + CONTEXT_SIZE, b"\0")
        steps, at = [], 1 + CONTEXT_SIZE
        while at + _STEP.size <= len(data):
            code, size = _STEP.unpack_from(data, at)
            at += _STEP.size
            steps.append((code, data[at : at + size]))
            at += size
        return cls(data[0], data[1 : 1 + CONTEXT_SIZE], steps)


def bundle(flags: int, recipes: Iterable[Recipe]) -> bytes:
    told = [one.encode() for one in recipes]
    return bytes([flags]) + b"".join(_SIZE.pack(len(one)) + one for one in told)


def unbundle(data: bytes) -> tuple[int, list[Recipe]]:
    found, at = [], 1
    while at + _SIZE.size <= len(data):
        (size,) = _SIZE.unpack_from(data, at)
        found.append(Recipe.parse(data[at + _SIZE.size : at + _SIZE.size + size]))
        at += _SIZE.size + size
    return (data[0] if data else 0), found


@dataclass(slots=True)
class Baked:
    """A pack made of a recipe. ``index`` is the digest of its index frame, empty without one."""

    context: bytes
    data: bytearray = field(default_factory=bytearray)
    entries: list[tuple[bytes, int]] = field(default_factory=list)
    cursor: int = 0
    checkpoint: int = 0
    state: int = 0
    index: str = ""

    @property
    def pack(self) -> PackId:
        return PackId(self.context[64:80].hex())

    @property
    def disk(self) -> DiskId:
        return DiskId(self.context[80:96].hex())

    @property
    def order(self) -> tuple[str, int, int, int]:
        return (self.disk, *struct.unpack_from("<III", self.context, 96))


def baked(recipe: Recipe) -> Baked:
    """The pack that a recipe tells of."""
    made = Baked(recipe.context, cursor=int.from_bytes(recipe.context[112:120], "little"))
    keys = PackKeys(SECRET, blake3(recipe.context).digest())
    wraps = WRAP * min(int.from_bytes(recipe.context[12:16], "little"), MAX_RECIPIENTS)
    front = CONTEXT_SIZE + 32 + wraps
    made.data += (recipe.context + keys.commitment).ljust(align(front), b"\0")
    for code, body in recipe.steps:
        _DOING[Do(code & 7)](made, keys, code, body)
    return made


def _record(made: Baked, keys: PackKeys, code: int, body: bytes) -> None:
    number = len(made.entries)
    if code & 7 == Do.NUMBERED:
        number, body = int.from_bytes(body[:4], "little"), body[4:]
    body = body.ljust(RECORD_HEAD, b"\0")
    head, payload = body[:RECORD_HEAD], body[RECORD_HEAD:]
    if not code & RAW:
        head = _put_right(head, payload)
    if head[0] in CONTENT_KINDS:
        first, count = struct.unpack_from("<QQ", head, 16)
        made.cursor = min(first + count, (1 << 64) - 1)
    size = align(FRAME_HEAD + RECORD_HEAD + len(payload) + TAG)
    plain = (head + payload).ljust(size - FRAME_HEAD - TAG, b"\0")
    frame = bytearray(size)
    keys.seal_record(number, memoryview(plain), memoryview(frame))
    if code & 7 == Do.DAMAGED:
        frame[-1] ^= 1
    made.entries.append((head, len(made.data)))
    made.data += frame


def _put_right(head: bytes, payload: bytes) -> bytes:
    """The record head with the lengths and the digest of its payload, where it has one."""
    if not payload:
        return head
    plain = payload
    if head[1] == Codec.ZSTD:
        with suppress(zstandard.ZstdError):
            if zstandard.get_frame_parameters(payload).content_size <= MAX_BLOCK_SIZE:
                plain = zstandard.decompress(payload)
    sizes = struct.pack("<II", len(plain), len(payload))
    return head[:4] + sizes + head[12:32] + digest(plain) + head[64:]


def _checkpoint(made: Baked, keys: PackKeys, code: int, body: bytes) -> None:
    del keys, code
    cursor = int.from_bytes(body[:8], "little") if len(body) >= 8 else made.cursor
    made.checkpoint = len(made.data)
    found = blake3(made.data).digest()
    made.data += Checkpoint(len(made.entries), cursor, found, bytes(32)).encode()


def _page(made: Baked, keys: PackKeys, code: int, body: bytes) -> None:
    """Bytes that stand there as they are."""
    del keys, code
    made.data += body.ljust(align(len(body)) or PAGE, b"\0")


def _close(made: Baked, keys: PackKeys, code: int, body: bytes) -> None:
    """A last checkpoint, the index where the state wants one, and the trailer."""
    made.state = body[0] % len(PackState) if body else PackState.POINT_END
    _checkpoint(made, keys, code, body[1:])
    at = 0
    if made.state:
        at = len(made.data)
        _add_index(made, keys.seal_index(index_bytes(made.entries), len(made.entries)))
    _end(made, made.state, at)


def _index(made: Baked, keys: PackKeys, code: int, body: bytes) -> None:
    """An index that says what it likes, of the right length, and a trailer."""
    del code
    plain = index_bytes(made.entries)
    plain[: len(body)] = body[: len(plain)]
    at, made.state = len(made.data), PackState.POINT_END
    _add_index(made, keys.seal_index(plain, len(made.entries)))
    _end(made, made.state, at)


def _add_index(made: Baked, frame: bytes) -> None:
    made.index = digest(frame).hex()
    made.data += frame


def _end(made: Baked, state: int, index: int) -> None:
    found = blake3(made.data).digest()
    told = Trailer(len(made.entries), PackState(state), made.checkpoint, index, found)
    made.data += told.encode()


def _trailer(made: Baked, keys: PackKeys, code: int, body: bytes) -> None:
    """A trailer whose fields are those given."""
    del keys, code
    front = body.ljust(40, b"\0")[:40]
    made.data += (front + blake3(made.data).digest()).ljust(PAGE, b"\0")


_DOING: dict[Do, Callable[[Baked, PackKeys, int, bytes], None]] = {
    Do.RECORD: _record,
    Do.CHECKPOINT: _checkpoint,
    Do.PAGE: _page,
    Do.CLOSE: _close,
    Do.INDEX: _index,
    Do.TRAILER: _trailer,
    Do.NUMBERED: _record,
    Do.DAMAGED: _record,
}


# --- recipes of honest packs --------------------


def record(head: RecordHead, payload: bytes = b"") -> tuple[int, bytes]:
    return Do.RECORD, head.encode() + payload


def close(state: PackState = PackState.POINT_END) -> tuple[int, bytes]:
    return Do.CLOSE, bytes([state])


def recipe(head: PackHead, *steps: tuple[int, bytes]) -> Recipe:
    return Recipe(0, head.context_bytes(), list(steps))


# --- mutations --------------------


def packs(data: bytes, most: int, rng: Random, havoc: Havoc) -> bytes:
    """Another pack: a field of its head, a record, or which records there are."""
    if not rng.randrange(16):
        return havoc(data, most)
    found = Recipe.parse(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change(found, rng, havoc)
    return found.encode()[:most]


def bundles(data: bytes, most: int, rng: Random, havoc: Havoc) -> bytes:
    """Another bundle: one of its packs, or which there are."""
    flags, found = unbundle(data)
    if not found or not rng.randrange(16):
        return havoc(data, most)
    place = rng.randrange(len(found))
    match rng.randrange(10):
        case 0:
            found.append(Recipe.parse(found[place].encode()))
            _set(found[-1], rng, *rng.choice(((64, 16), (100, 4), (104, 4), (112, 8), (96, 4))))
        case 1 if len(found) > 1:
            del found[place]
        case 2:
            flags = rng.randrange(256)
        case _:
            found[place] = Recipe.parse(packs(found[place].encode(), most, rng, havoc))
    return bundle(flags, found)[:most]


def _change(found: Recipe, rng: Random, havoc: Havoc) -> None:
    steps = found.steps
    if not steps or not rng.randrange(6):
        _set(found, rng, *rng.choice(_FIELDS))
        return
    place = rng.randrange(len(steps))
    code, body = steps[place]
    match rng.randrange(9):
        case 0:
            steps.insert(rng.randrange(len(steps) + 1), (code, body))
        case 1 if len(steps) > 1:
            del steps[place]
        case 2:
            other = rng.randrange(len(steps))
            steps[place], steps[other] = steps[other], steps[place]
        case 3:
            steps[place] = (code ^ rng.choice((RAW, 1, 2, 3, 4, 6, 7)), body)
        case 4:
            word = rng.choice((0, INDEX, CHECKPOINT, INDEX - 1))
            second = rng.choice(_NUMBERS) & CHECKPOINT
            steps.insert(place, (Do.PAGE, frame_bytes(word, second)))
        case 5 if body:
            steps[place] = (code, havoc(body, 65535))
        case _:
            steps[place] = (code, _body(body, rng, havoc))


def _body(body: bytes, rng: Random, havoc: Havoc) -> bytes:
    if len(body) < RECORD_HEAD:
        return havoc(body or b"\0", 64)
    head, payload = body[:RECORD_HEAD], body[RECORD_HEAD:]
    if payload and rng.randrange(2):
        change = documents if head[0] in JSON_KINDS else _stirred
        return head + change(payload, 60000, rng, havoc)
    at, size = rng.choice(_RECORD_FIELDS)
    return head[:at] + _number(head[at : at + size], rng) + head[at + size :] + payload


def _stirred(data: bytes, most: int, rng: Random, havoc: Havoc) -> bytes:
    del rng
    return havoc(data, most)


def _set(found: Recipe, rng: Random, at: int, size: int) -> None:
    before = found.context
    found.context = before[:at] + _number(before[at : at + size], rng) + before[at + size :]


def _number(before: bytes, rng: Random) -> bytes:
    size = len(before)
    value = int.from_bytes(before, "little")
    made = rng.choice((value + 1, value - 1, value * 2, rng.choice(_NUMBERS), rng.getrandbits(8)))
    return (made % (1 << (8 * size))).to_bytes(size, "little")
