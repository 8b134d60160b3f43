"""What comes over the line: frames, streams of them, patches, certificates."""

import io
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import cast
from unittest import mock

import zstandard
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from appliance.catchup import link, replica, wire
from appliance.catchup.identity import LinkIdentity, certificate_for, key_of
from appliance.catchup.link import Channel
from appliance.catchup.replica import About, Journal, adopt, begin
from appliance.catchup.wire import HEAD, MESSAGES, Message
from appliance.errors import TargetWriteError
from appliance.model import Codec, Digest, DiskId, Extent, VolumeSpec
from appliance.seal.cut import Expander, digest
from appliance.seal.manifest import State
from tests.fuzz.pack_targets import DISK, SPEC
from tests.fuzz.scenes import BLOCK, LINE_KEY, place
from tests.fuzz.target import Havoc, Run, Target, attempt, steady

_TOLD = wire.Replica(DISK, bytes(32), 7 * BLOCK, BLOCK, 512, "S-1", "Model é", "T-1")
_ROOT = bytes(range(32))
GOOD: tuple[Message, ...] = (
    wire.Hello(1, 2, "fuzz", ("this", "that")),
    wire.Enrol(bytes(16), b"certificate"),
    wire.Point(bytes(16), wire.Form.QUIESCED, 1_700_000_000, (DISK, DiskId("22" * 16))),
    wire.Disk(_TOLD),
    wire.Pages(0, 3),
    wire.Entries(1),
    wire.Ask((0, 2, 5)),
    wire.Patch(1, Codec.RAW, 5, digest(b"x"), b"\1", (), b"plain"),
    wire.Patch(1, Codec.ZSTD, 65536, Digest(bytes(32)), b"\1\2\0", (Extent(5, 9), Extent(20, 1)),
               zstandard.compress(bytes(65536))),
    wire.EndDisk(_ROOT),
    wire.EndPoint(),
    wire.Welcome(1, "web01", ((0, _TOLD), (3, _TOLD))),
    wire.Enrolled("web01"),
    wire.PointIs(4),
    wire.DiskIs(4, _ROOT),
    wire.PagesAre(0, (_ROOT, _ROOT)),
    wire.EntriesAre(0, ((Digest(_ROOT), State.DATA), (Digest(bytes(32)), State.UNKNOWN))),
    wire.Have(3, (bytes(16), _ROOT[:16])),
    wire.Ack(3, State.ZERO, Digest(_ROOT)),
    wire.Whole(3),
    wire.DiskDone(same=True, root=_ROOT),
    wire.PointDone(4, kept=True),
    wire.Busy(3, 7),
    wire.Refused(91, "wire-violation", "something", "do this"),
)  # fmt: skip


# What a later version may put more behind.
_LATER = (wire.Hello, wire.Welcome, wire.Refused)


def frames(data: bytes) -> None:
    """One frame where any may stand; what is read is written the same way again."""
    length, kind = wire.limit(data[: HEAD.size].ljust(HEAD.size, b"\0"), tuple(MESSAGES.values()))
    payload = data[HEAD.size :]
    assert length <= kind.most
    found = wire.parse(kind, memoryview(payload))
    said = wire.encode(found)[HEAD.size :]
    if isinstance(found, wire.Refused):  # what a later version says of it is read as 2
        assert found.again == min(payload[2], 2)
        payload = payload[:2] + bytes([found.again]) + payload[3:]
    assert said == payload or (isinstance(found, _LATER) and payload.startswith(said))


# --- many frames, as they come --------------------


class _Line:
    """A TLS connection on which these bytes come, piece by piece, until it ends."""

    def __init__(self, data: bytes, pieces: bytes) -> None:
        self._data = io.BytesIO(data)
        self._pieces = iter(pieces)
        self._full = True

    def settimeout(self, seconds: float) -> None:
        """Nothing here waits."""

    def pending(self) -> int:
        return 1

    def recv(self, most: int) -> bytes:
        size = next(self._pieces, 255)
        if not size:
            raise ssl.SSLWantReadError
        return self._data.read(min(most, 64 * size))

    def recv_into(self, piece: memoryview) -> int:
        found = self.recv(len(piece))
        piece[: len(found)] = found
        return len(found)

    def send(self, data: memoryview) -> int:
        self._full = not self._full
        if self._full:
            raise ssl.SSLWantWriteError
        return len(data)

    def close(self) -> None:
        """It is nothing that could stay open."""


def stream(data: bytes) -> None:
    """The first byte says which end reads, the next sixteen how the bytes come."""
    front = data[:17].ljust(17, b"\xff")
    answers = bool(front[0] & 1)
    line = cast("ssl.SSLSocket", _Line(data[17:], front[1:]))
    channel = Channel(line, "the other end", answers=answers)
    channel.accepts = tuple(one for one in MESSAGES.values() if (one.kind > 64) == answers)
    if front[0] & 4:
        channel.greeted()
    if front[0] & 2:
        attempt(lambda _: channel.send(wire.Hello(1, 1, "fuzz")), b"")
    for _ in range(1 + len(data)):
        channel.next()


def _later_ones(told: list[bytes]) -> Iterator[bytes]:
    """With frames between them that a later version may say."""
    for kind, one in zip((32, 97, 63, 126), told, strict=False):
        yield one
        yield HEAD.pack(kind, kind, bytes(3)) + bytes(kind)


def _stream_seeds() -> Iterator[bytes]:
    for answers in (False, True):
        told = [wire.encode(one) for one in GOOD if (one.kind > 64) == answers]
        yield bytes([answers]) + b"\xff" * 16 + b"".join(told)
        yield bytes([answers | 4]) + b"\xff" * 16 + b"".join(_later_ones(told))
        yield bytes([answers | 2]) + b"\1\0" * 8 + b"".join(told[:3])


@contextmanager
def _stream() -> Iterator[Run]:
    with mock.patch.object(link, "fd_ready", return_value=True):
        yield stream


def chained(data: bytes, most: int, rng: Random, havoc: Havoc) -> bytes:
    """One frame among many is another, of the length that it says."""
    front = 17 if len(data) > 17 else 0
    parts, at = [data[:front]], front
    while at + HEAD.size <= len(data):
        end = at + HEAD.size + HEAD.unpack_from(data, at)[0]
        parts.append(data[at:end])
        at = end
    if len(parts) < 2 or not rng.randrange(5):
        return havoc(data, most)
    place = rng.randrange(len(parts))
    if place == 0:
        parts[0] = (havoc(parts[0], front) if front else b"").ljust(front, b"\xff")
    elif rng.randrange(4):
        payload = havoc(parts[place][HEAD.size :] or b"\0", most)
        parts[place] = struct.pack("<I", len(payload)) + parts[place][4:8] + payload
    else:
        good = wire.encode(rng.choice(GOOD))
        parts[place : place + rng.randrange(2)] = [good]
    return b"".join(parts)[:most]


def framed(data: bytes, most: int, rng: Random, havoc: Havoc) -> bytes:
    """One frame with another payload; seldom other bytes."""
    if len(data) < HEAD.size or not rng.randrange(8):
        return havoc(data, most)
    if not rng.randrange(24):
        return wire.encode(rng.choice(GOOD))[:most]
    payload = havoc(data[HEAD.size :] or b"\0", most - HEAD.size)
    return struct.pack("<I", len(payload)) + data[4 : HEAD.size] + payload


# --- patches onto a volume, and the journal a killed gate leaves --------------------


class _Memory:
    """A volume of three blocks and a bit; some of it cannot be read."""

    fresh = False
    size = 3 * BLOCK + 100

    def __init__(self) -> None:
        self.data = bytearray(b"held" * (self.size // 4))
        self.broken = False

    def pread(self, offset: int, buffer: memoryview) -> None:
        if self.broken and offset < 2 * BLOCK:
            raise TargetWriteError("a bad sector")
        found = self.data[offset : offset + len(buffer)]
        assert len(found) == len(buffer), "read behind the end"
        buffer[:] = found

    def pwrite(self, offset: int, data: memoryview) -> None:
        assert offset + len(data) <= self.size, "written behind the end"
        self.data[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self.pwrite(offset, memoryview(bytes(length)))

    def flush(self) -> None:
        """It is memory."""


@contextmanager
def _patches() -> Iterator[Run]:
    """The input: a byte of flags, a patch's payload. Its digest is put right unless told so."""
    with place() as at:
        spec = replace(SPEC, facts=replace(SPEC.facts, size=_Memory.size))
        about = About(spec, VolumeSpec("v", _Memory.size, 0, DISK, 0, ""), BLOCK)
        begin(at, about)
        adopt(at, about, replica.survey(_Memory(), about))
        pristine = _Memory().data
        volume = _Memory()
        there = replica.Replica(at, volume)

        def run(data: bytes) -> None:
            volume.data[:], volume.broken = pristine, bool(data[:1] > b"\x7f")
            patch = wire.parse(wire.Patch, memoryview(data[1:]))
            assert isinstance(patch, wire.Patch)
            there.have(min(patch.index, 3))
            staged = there.stage(patch)
            if staged is not None:
                (told,) = there.write([staged])
                at_byte = patch.index * BLOCK
                block = bytes(volume.data[at_byte : at_byte + BLOCK])
                assert told.state is State.UNREADABLE or digest(block) == told.digest

        yield run


@contextmanager
def _journal() -> Iterator[Run]:
    with place() as at:
        path = at / "journal"

        def run(data: bytes) -> None:
            flags, body = data[:1], data[1:]
            path.write_bytes(body if flags > b"\x7f" else body + digest(body))
            assert 4 * len(Journal(path).noted()) <= len(data)

        yield run


def _journal_seeds() -> Iterator[bytes]:
    with place() as at:
        Journal(at / "journal").note([0, 5, 7])
        made = (at / "journal").read_bytes()
        yield b"\0" + made[:-32]
        yield b"\xff" + made


# --- certificates --------------------


def _signed_again(data: bytes) -> bytes:
    """A certificate whose signed part is the input, signed by the key of good ones."""
    signature = LINE_KEY.sign(data)
    return _der(0x30, data + _ED25519 + _der(3, b"\0" + signature))


_ED25519 = bytes.fromhex("300506032b6570")


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    if size < 0x100:
        return bytes([tag, 0x81, size]) + body
    return bytes([tag, 0x82]) + size.to_bytes(2) + body


def certificates(data: bytes) -> None:
    """As it is; and signed by the key that it should name."""
    attempt(key_of, data)
    again = _signed_again(data)
    found = key_of(again)
    assert len(found) == 20
    assert x509.load_der_x509_certificate(again).public_key() == LINE_KEY.public_key()


def _certificate_seeds() -> Iterator[bytes]:
    made = certificate_for(LINE_KEY)
    yield made.tbs_certificate_bytes
    yield made.public_bytes(Encoding.DER)


@contextmanager
def _identity() -> Iterator[Run]:
    with place() as at:
        path = at / "identity.pem"

        def run(data: bytes) -> None:
            path.write_bytes(data)
            assert len(LinkIdentity(path).key) == 20

        yield run


def _identity_seeds() -> Iterator[bytes]:
    for key in (LINE_KEY, Ed25519PrivateKey.from_private_bytes(bytes(32))):
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        yield secret + certificate_for(LINE_KEY).public_bytes(Encoding.PEM)


# --- compressed payloads --------------------


def expand(data: bytes) -> None:
    """The length announced by the record or patch is the first three bytes."""
    plain = int.from_bytes(data[:3], "little")
    with _value_errors():
        assert len(Expander().expand(Codec.ZSTD, memoryview(data[3:]), plain)) == plain


@contextmanager
def _value_errors() -> Iterator[None]:
    """What Expander says it raises: its callers name the record."""
    try:
        yield
    except ValueError:
        return


def _expand_seeds() -> Iterator[bytes]:
    for plain in (b"", b"a" * 65536, bytes(range(256)) * 4):
        packed = zstandard.ZstdCompressor(level=1, write_checksum=False).compress(plain)
        yield len(plain).to_bytes(3, "little") + packed


def _patch_seeds() -> Iterator[bytes]:
    held = b"held" * (BLOCK // 4)
    packed = zstandard.compress(b"sent" * (BLOCK // 4), 1)
    sent = wire.Patch(1, Codec.ZSTD, BLOCK, digest(b"sent" * (BLOCK // 4)), b"\1", (), packed)
    same = wire.Patch(0, Codec.RAW, 0, digest(held), b"\0", (), b"")
    gone = wire.Patch(2, Codec.RAW, 0, digest(bytes(BLOCK)), b"\2", (), b"")
    hurt = wire.Patch(1, Codec.ZSTD, BLOCK, Digest(bytes(32)), b"\1", (Extent(5, 9),), packed)
    last = wire.Patch(3, Codec.RAW, 100, digest(b"x" * 100), b"\1", (), b"x" * 100)
    for one in (sent, same, gone, hurt, last):
        yield b"\0" + one.payload()
        yield b"\xff" + one.payload()


_LINE = "appliance/catchup/"
TARGETS = (
    Target("wire", (_LINE + "wire.py",), steady(frames), lambda: map(wire.encode, GOOD), framed),
    Target("stream", (_LINE + "link.py", _LINE + "wire.py"), _stream, _stream_seeds, chained),
    Target("patch", (_LINE + "replica.py", _LINE + "wire.py"), _patches, _patch_seeds),
    Target("journal", (_LINE + "replica.py",), _journal, _journal_seeds, longest=512),
    Target("certificate", (_LINE + "identity.py",), steady(certificates), _certificate_seeds),
    Target("identity", (_LINE + "identity.py",), _identity, _identity_seeds),
    Target("zstd", ("appliance/seal/cut.py",), steady(expand), _expand_seeds),
)
