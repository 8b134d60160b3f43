"""The vectors of the wire format, tests/vectors/wire: what each kind of frame looks like, which
are refused, and what keys, codes, manifests and patches come to.

`python -m tests.make_vectors` makes them with all others; `python -m tests.wire_vectors` these
alone. Only the certificate differs from run to run.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.catchup import wire
from appliance.catchup.enrol import Code
from appliance.catchup.identity import certificate_for
from appliance.catchup.wire import HEAD, PIECE, Again, Form, Message, Replica
from appliance.events import Json
from appliance.model import Codec, Digest, DiskId, Extent
from appliance.seal import canon, text
from appliance.seal.cut import digest, zero_digest
from appliance.seal.keys import fingerprint
from appliance.seal.manifest import Manifest, State
from tests.promise import PLACE

WIRE = PLACE / "wire"
KEY = Ed25519PrivateKey.from_private_bytes(digest(b"motiongear vectors gate"))
TOKEN = bytes(range(16))
DISK, OTHER = DiskId("a1" * 16), DiskId("b2" * 16)
ROOT = bytes(range(32))
FEATURES = ("parity", "f\u00fcr sp\u00e4ter")

Runs = Sequence[tuple[bytes, int]]


def plain(runs: Runs) -> bytes:
    """The bytes that a list of (bytes, times) stands for."""
    return b"".join(one * count for one, count in runs)


# --- a block before and after --------------------

BLOCK_SIZE = 4 * PIECE
# A disk of one whole block and one of three pieces and a bit: the second changes.
BEFORE: Runs = ((b"old ", PIECE // 4), (b"kept", PIECE // 4), (b"old ", PIECE // 4), (b"end", 100))
AFTER: Runs = ((b"new ", PIECE // 4), (b"kept", PIECE // 4), (b"\0", PIECE), (b"END", 100))
# Of these bytes of the same reading 1,000 at 500 could not be read, and stand as zeros.
HURT: Runs = ((b"new ", 125), (b"\0", 1000), (b"new ", (PIECE - 1500) // 4))
KEPT: Runs = (
    (b"new ", 125), (b"old ", 250), (b"new ", (PIECE - 1500) // 4),
    *BEFORE[1:],
)  # fmt: skip
ONES: Runs = ((b"1", 3 * PIECE + 300),)
INDEX = 1
SIZE = BLOCK_SIZE + len(plain(BEFORE))


def patch_of(codec: Codec) -> wire.Patch:
    """BEFORE becomes AFTER: a piece sent, one that stays, one of zeros, and a short one sent."""
    sent = plain((AFTER[0], AFTER[3]))
    data = zstandard.ZstdCompressor(level=3).compress(sent) if codec is Codec.ZSTD else sent
    found = digest(plain(AFTER))
    return wire.Patch(INDEX, codec, len(sent), found, b"\1\0\2\1", (), data)


def hurt_patch() -> wire.Patch:
    """BEFORE becomes KEPT: where the source cannot be read the replica keeps what it has."""
    sent = plain(HURT)
    data = zstandard.ZstdCompressor(level=3).compress(sent)
    bad = (Extent(500, 1000),)
    return wire.Patch(INDEX, Codec.ZSTD, len(sent), _NONE, b"\1\0\0\0", bad, data)


_NONE = Digest(bytes(32))


# --- frames --------------------

ABOUT = Replica(
    DISK,
    ROOT,
    SIZE,
    BLOCK_SIZE,
    512,
    "SN-1",
    "Disk \u00fc",
    "0fc63daf-8483-4772-8e79-3d69d8477de4",
)
NEW = Replica(OTHER, bytes(32), (1 << 50) - 1, 1 << 24, 4096, "", "", "")


def frames() -> list[tuple[str, Message]]:
    """What each frame is for, and the frame: every kind at least once."""
    certificate = certificate_for(KEY)
    return [
        ("A sender's greeting", wire.Hello(1, 1, "a sender")),
        ("One that speaks later versions, too", wire.Hello(1, 0xFFFF, "")),
        ("One that offers features", wire.Hello(1, 1, "a sender", FEATURES)),
        ("Enrolment", wire.Enrol(TOKEN, certificate.public_bytes(Encoding.DER))),
        ("A fuzzy point of a disk", wire.Point(TOKEN, Form.FUZZY, 1_790_000_000, (DISK,))),
        ("A quiesced one of two", wire.Point(TOKEN, Form.QUIESCED, 1 << 53, (DISK, OTHER))),
        ("A disk that was restored", wire.Disk(ABOUT)),
        ("A disk that is new", wire.Disk(NEW)),
        ("Asks for digests of pages", wire.Pages(4096, 4096)),
        ("Asks for the entries of a page", wire.Entries(7)),
        ("Asks what blocks hold", wire.Ask((0, 1, (1 << 26) - 1))),
        ("A patch, its payload compressed", patch_of(Codec.ZSTD)),
        ("A patch of a block with unreadable bytes", hurt_patch()),
        ("A patch of zeros", wire.Patch(0, Codec.RAW, 0, zero_digest(5), b"\2", (), b"")),
        ("The end of a disk", wire.EndDisk(ROOT)),
        ("The end of a point", wire.EndPoint()),
        ("To a sender that is not enrolled", wire.Welcome(1, "", ())),
        ("To one that is", wire.Welcome(1, "web01", ((0, ABOUT), (7, NEW)))),
        ("One of two features is chosen", wire.Welcome(1, "web01", ((7, NEW),), ("parity",))),
        ("The key is known from now on", wire.Enrolled("web01")),
        ("The point's number", wire.PointIs(8)),
        ("Where a replica stands", wire.DiskIs(7, ROOT)),
        ("Two pages", wire.PagesAre(4096, (ROOT, bytes(32)))),
        ("A short page", wire.EntriesAre(7, (
            (Digest(bytes(32)), State.UNKNOWN), (digest(b"x"), State.DATA),
            (zero_digest(5), State.ZERO), (digest(b"y"), State.UNREADABLE),
        ))),
        ("What a block holds", wire.Have(INDEX, _digests(plain(BEFORE)))),
        ("A block is durable", wire.Ack(INDEX, State.DATA, digest(plain(AFTER)))),
        ("The whole block is wanted", wire.Whole(INDEX)),
        ("Both ends agree", wire.DiskDone(same=True, root=ROOT)),
        ("They do not", wire.DiskDone(same=False, root=ROOT)),
        ("The point is kept", wire.PointDone(8, kept=True)),
        ("The gate is at work, who knows how far", wire.Busy(0, 0)),
        ("The gate is at work, half is done", wire.Busy(SIZE // 2, SIZE)),
        ("The gate refuses", wire.Refused(97, "point-refused", "Another began", "Go on")),
        ("The gate refuses for now", wire.Refused(68, "volume-busy", "A check", "", Again.LATER)),
        ("The gate refuses in words of the future", wire.Refused(
            0xFFFF, "out-of-ink", "No", "Ask", Again.AFTER_OPERATOR,
        )),
    ]  # fmt: skip


def _digests(block: bytes) -> tuple[bytes, ...]:
    return tuple(digest(block[at : at + PIECE])[:16] for at in range(0, len(block), PIECE))


def told(found: object) -> Json:
    """A message, or a field of one, as JSON: bytes as hex, a range as [offset, length]."""
    match found:
        case Extent(offset, length):
            return [offset, length]
        case bytes() | memoryview():
            return bytes(found).hex()
        case bool() | str():
            return found
        case int():
            return int(found)
        case tuple():
            return [told(one) for one in found]
        case _:
            assert is_dataclass(found)
            return {one.name: told(getattr(found, one.name)) for one in fields(found)}


def name_of(kind: type[Message]) -> str:
    """A kind as the document writes it: EndDisk is END_DISK."""
    return "".join(f"_{one}" if one.isupper() else one for one in kind.__name__)[1:].upper()


# --- frames of later versions --------------------


def later() -> list[tuple[str, Message | None, bytes]]:
    """What is said, the message that version 1 reads out of it - none: it is skipped, wherever it
    stands behind WELCOME -, and the bytes.
    """

    def longer(message: Message, more: bytes) -> tuple[Message, bytes]:
        payload = message.payload() + more
        return message, HEAD.pack(len(payload), message.kind, bytes(3)) + payload

    def aside(kind: int, payload: bytes) -> tuple[None, bytes]:
        return None, HEAD.pack(len(payload), kind, bytes(3)) + payload

    refused = wire.Refused(97, "point-refused", "Another began", "Go on", Again.AFTER_OPERATOR)
    made = {
        "A greeting with more behind its features": longer(
            wire.Hello(1, 2, "x", ("y",)), b"\1\0z"
        ),
        "A welcome with more behind its features": longer(
            wire.Welcome(1, "web01", ((7, NEW),), ("y",)), b"\0" * 9
        ),
        "A refusal with more behind its words": longer(refused, b"\xff\xff"),
        "A refusal that may be said again when nobody knows yet": (
            refused,
            wire.encode(refused)[: HEAD.size + 2]
            + b"\x03"
            + wire.encode(refused)[HEAD.size + 3 :],
        ),
        "The sender's first kind to skip": aside(32, b""),
        "The sender's last": aside(63, b"anything"),
        "The gate's first that is unknown": aside(97, b"\xff" * 3),
        "The gate's last": aside(126, ROOT),
    }
    return [(about, one, frame) for about, (one, frame) in made.items()]


# --- frames that are refused --------------------


def damaged() -> list[tuple[str, str, bytes]]:
    """What is wrong, the name of the kind that belongs there, and the bytes."""
    good = {about: (name_of(type(one)), wire.encode(one)) for about, one in frames()}

    def cut(about: str, bytes_: int = 1) -> tuple[str, bytes]:
        name, frame = good[about]
        payload = frame[HEAD.size : len(frame) - bytes_]
        return name, HEAD.pack(len(payload), frame[4], bytes(3)) + payload

    def longer(about: str) -> tuple[str, bytes]:
        name, frame = good[about]
        return name, HEAD.pack(len(frame) - HEAD.size + 1, frame[4], bytes(3)) + frame[8:] + b"\0"

    def put(about: str, at: int, data: bytes) -> tuple[str, bytes]:
        name, frame = good[about]
        return name, frame[: 8 + at] + data + frame[8 + at + len(data) :]

    def head(about: str, data: bytes) -> tuple[str, bytes]:
        name, frame = good[about]
        return name, data + frame[8:]

    def u(size: int, value: int) -> bytes:
        return value.to_bytes(size, "little")

    hello, point, disk = "A sender's greeting", "A fuzzy point of a disk", "A disk that is new"
    two, patch, hurt = (
        "A quiesced one of two",
        "A patch, its payload compressed",
        "A patch of a block with unreadable bytes",
    )
    nothing, refused = "A patch of zeros", "The gate refuses"
    blocks, entries = "Asks what blocks hold", "A short page"
    ack, done, kept = "A block is durable", "Both ends agree", "The point is kept"
    busy = "The gate is at work, who knows how far"
    made = {
        "An unknown kind": head("The end of a point", HEAD.pack(0, 11, bytes(3))),
        "Kind 0": head("The end of a point", HEAD.pack(0, 0, bytes(3))),
        "A frame head whose zeros are none": head(
            "The end of a point", HEAD.pack(0, 10, b"\0\0\1")
        ),
        "A frame of 4 GiB": head(patch, HEAD.pack((1 << 32) - 1, 8, bytes(3))),
        "A frame longer than its kind may be": head(
            "The end of a point", HEAD.pack(1, 10, bytes(3))
        ),
        "A greeting with another magic": put(hello, 6, b"\1"),
        "A greeting that speaks version 0": put(hello, 8, u(2, 0)),
        "A greeting whose highest version is below the lowest": put(hello, 8, u(2, 2)),
        "A greeting of a longer name than it has": put(hello, 12, u(2, 9)),
        "A greeting of 65 features": put(hello, 22, u(2, 65)),
        "A greeting with fewer features than it says": put(hello, 22, u(2, 1)),
        "A greeting with a feature of 65 bytes": put("One that offers features", 24, u(2, 65)),
        "A greeting without features": cut(hello, 2),
        "A greeting longer than it may be": head(hello, HEAD.pack(8193, 1, bytes(3))),
        "A name with a line end": put(hello, 14, b"\n"),
        "A name with a control character of two bytes": put(hello, 14, b"\xc2\x85"),
        "A name that is no UTF-8": put(hello, 14, b"\xff"),
        "A name with a surrogate": put(hello, 14, b"\xed\xa0\x80"),
        "A token cut short": cut("Enrolment", len(good["Enrolment"][1]) - 8 - 15),
        "A point of an unknown form": put(point, 16, u(1, 3)),
        "A point of a time above 2^53": put(point, 17, u(8, (1 << 53) + 1)),
        "A point of no disk": put(point, 25, u(2, 0)),
        "A point of 257 disks": put(point, 25, u(2, 257)),
        "A point with fewer disks than it says": put(point, 25, u(2, 2)),
        "A point with more disks than it says": put(two, 25, u(2, 1)),
        "A point whose disks descend": put(two, 27, b"\xff"),
        "A point that names a disk twice": put(two, 27, bytes.fromhex(OTHER)),
        "A disk of no bytes": put(disk, 48, u(8, 0)),
        "A disk of 2^50 bytes": put(disk, 48, u(8, 1 << 50)),
        "A disk of more than 2^26 blocks": put(disk, 56, u(4, 1 << 23)),
        "Blocks of less than 64 KiB": put(disk, 56, u(4, 1 << 15)),
        "Blocks of more than 16 MiB": put(disk, 56, u(4, 1 << 25)),
        "Blocks of no power of two": put(disk, 56, u(4, (1 << 24) - 1)),
        "Sectors of no bytes": put(disk, 60, u(4, 0)),
        "Sectors of more than 1 MiB": put(disk, 60, u(4, (1 << 20) + 1)),
        "A serial number of 513 bytes": put(disk, 64, u(2, 513)),
        "A disk cut short": cut(disk),
        "Pages behind the last there can be": put("Asks for digests of pages", 0, u(4, 1 << 26)),
        "No pages": put("Asks for digests of pages", 4, u(4, 0)),
        "4,097 pages": put("Asks for digests of pages", 4, u(4, 4097)),
        "A page behind the last there can be": put(
            "Asks for the entries of a page", 0, u(4, 1 << 26)
        ),
        "No block asked for": cut(blocks, 12),
        "A block asked for in three bytes": cut(blocks),
        "A block asked for twice": put(blocks, 4, u(4, 0)),
        "Blocks that descend": put(blocks, 0, u(4, 2)),
        "A block behind the last there can be": put(blocks, 8, u(4, 1 << 26)),
        "A patch behind the last block there can be": put(patch, 0, u(4, 1 << 26)),
        "A patch of an unknown codec": put(patch, 4, u(1, 2)),
        "A patch whose first zero is none": put(patch, 5, u(1, 1)),
        "A patch of no piece": put(patch, 6, u(2, 0)),
        "A patch of 257 pieces": put(patch, 6, u(2, 257)),
        "A patch of 513 unreadable ranges": put(patch, 8, u(2, 513)),
        "A patch whose second zero is none": put(patch, 10, u(2, 1)),
        "A patch of more bytes than its pieces": put(patch, 12, u(4, 4 * PIECE + 1)),
        "A patch that marks a piece as 3": put(patch, 48, u(1, 3)),
        "An empty unreadable range": put(hurt, 56, u(4, 0)),
        "An unreadable range behind the block": put(hurt, 52, u(4, 4 * PIECE - 999)),
        "A digest of a block that could not be read": put(hurt, 16, u(1, 1)),
        "Unreadable ranges that touch": (
            "PATCH",
            wire.encode(replace(hurt_patch(), bad=(Extent(0, 5), Extent(5, 5)))),
        ),
        "Unreadable ranges that descend": (
            "PATCH",
            wire.encode(replace(hurt_patch(), bad=(Extent(9, 5), Extent(0, 5)))),
        ),
        "Bytes behind an uncompressed payload": longer(nothing),
        "A root cut short": cut("The end of a disk"),
        "A version of 0": put("To one that is", 0, u(2, 0)),
        "More replicas than are told": put("To one that is", 9, u(2, 3)),
        "257 replicas": put("To one that is", 9, u(2, 257)),
        "A machine of 513 bytes": put("The key is known from now on", 0, u(2, 513)),
        "No digest of a page": cut("Two pages", 64),
        "A digest cut short": cut("Two pages"),
        "A block in state 4": put(entries, 4 + 32, u(1, 4)),
        "An entry cut short": cut(entries),
        "A piece's digest cut short": cut("What a block holds"),
        "A durable block that is unknown": put(ack, 4, u(1, 0)),
        "A durable block in state 4": put(ack, 4, u(1, 4)),
        "An answer that is neither": put(done, 0, u(1, 2)),
        "A point that is neither kept nor not": put(kept, 4, u(1, 2)),
        "A welcome without features": cut("To one that is", 2),
        "A welcome with fewer features than it says": put(
            "One of two features is chosen",
            len(good["One of two features is chosen"][1]) - 18,
            u(2, 2),
        ),
        "More is done than there is": put(busy, 0, u(8, 1)),
        "More is to do than 2^53 bytes": put(busy, 8, u(8, (1 << 53) + 1)),
        "A gate at work with a byte behind": longer(busy),
        "A refusal whose name is longer than 64 bytes": put(refused, 3, u(2, 65)),
        "A refusal cut short": cut(refused),
    }
    return [(about, name, frame) for about, (name, frame) in made.items()]


# --- keys, codes, manifests, patches --------------------


def _manifest() -> Manifest:
    """Block 0 unknown, block 1 as it is before the patch."""
    found = Manifest(DISK, 7, BLOCK_SIZE, SIZE)
    found.set(INDEX, digest(plain(BEFORE)), State.DATA)
    return found


def _paged() -> Manifest:
    """Two pages: 4,097 blocks, zero but for the last."""
    found = Manifest(OTHER, 8, 1 << 16, (4096 << 16) + 5)
    found.set_zero(0, found.blocks)
    found.set(4096, digest(b"12345"), State.DATA)
    return found


def _of_manifest(one: Manifest) -> Json:
    runs: list[Json] = []
    last: tuple[Digest, State] | None = None
    count = 0
    for index in range(one.blocks):
        if last is not None and one[index] != last:
            runs.append([last[0].hex(), int(last[1]), count])
            count = 0
        last, count = one[index], count + 1
    assert last is not None
    runs.append([last[0].hex(), int(last[1]), count])
    return {
        "block_size": one.block_size,
        "disk": one.disk,
        "entries": runs,
        "pages": [found.hex() for found in one.page_digests()],
        "point": one.point,
        "root": one.root().hex(),
        "size": one.size,
    }


def _runs(runs: Runs) -> Json:
    return [[one.hex(), count] for one, count in runs]


def _of_patch(about: str, patch: wire.Patch, after: Runs, state: State) -> Json:
    return {
        "about": about,
        "ack": wire.encode(wire.Ack(patch.index, state, digest(plain(after)))).hex(),
        "after": _runs(after),
        "before": _runs(BEFORE),
        "frame": wire.encode(patch).hex() if patch.codec is Codec.ZSTD else _head_of(patch),
        "payload": None if patch.codec is Codec.ZSTD else _runs((AFTER[0], AFTER[3])),
    }


def refused_patches() -> list[tuple[str, wire.Patch, wire.Message | None]]:
    """What is wrong, a patch of BEFORE that is a good frame, and what it is answered; none:
    REFUSED.
    """
    good = patch_of(Codec.ZSTD)
    packed = bytes(good.data)
    sent = plain((AFTER[0], AFTER[3]))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(sent)
    checked = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(sent))
    checked[-1] ^= 1
    skippable = b"\x50\x2a\x4d\x18\1\0\0\0x"
    named = zstandard.train_dictionary(512, [bytes([one]) * 99 for one in range(64)], dict_id=7)
    with_one = zstandard.ZstdCompressor(dict_data=named).compress(sent)
    other = Digest(bytes([1]) * 32)
    moved = replace(good, digest=other)
    payloads = {
        "No content size": unsized,
        "A skippable frame before": skippable + packed,
        "A skippable frame behind": packed + skippable,
        "Two frames": packed + packed,
        "A frame cut short": packed[:-1],
        "A wrong checksum": bytes(checked),
        "A dictionary": with_one,
        "No frame": b"no frame",
        "Another length than announced": zstandard.compress(sent[:-1]),
    }
    made: list[tuple[str, wire.Patch, wire.Message | None]] = [
        (about, replace(good, data=data), None) for about, data in payloads.items()
    ]
    unlike = replace(good, codes=b"\1\1\1\1", plain=SIZE - BLOCK_SIZE, digest=other,
        data=zstandard.compress(plain(AFTER)))  # fmt: skip
    return [
        ("A window of 32 MiB", windowed_patch(25), None),
        *made,
        ("Fewer pieces than the block has", replace(good, codes=b"\1\0\2"), None),
        ("More bytes than the pieces that are marked", replace(good, codes=b"\1\0\2\0"), None),
        ("Unreadable bytes behind the block", replace(hurt_patch(), bad=(
            Extent(3 * PIECE + 399, 2),
        )), None),
        ("A whole block that is another than its digest says", unlike, None),
        ("A part of one that is: the volume may be at fault", moved, wire.Whole(INDEX)),
    ]  # fmt: skip


def windowed_patch(window_log: int) -> wire.Patch:
    """BEFORE becomes ONES, by an RFC 8878 frame of that window; its blocks are runs of a byte."""
    size, most = SIZE - BLOCK_SIZE, 1 << 17
    lengths = [min(most, size - at) for at in range(0, size, most)]
    blocks = [
        (length << 3 | 1 << 1 | (place == len(lengths) - 1)).to_bytes(3, "little") + b"1"
        for place, length in enumerate(lengths)
    ]
    head = bytes([0x80, (window_log - 10) << 3]) + size.to_bytes(4, "little")
    data = zstandard.FRAME_HEADER + head + b"".join(blocks)
    codes = b"\1" * len(_digests(plain(BEFORE)))
    return wire.Patch(INDEX, Codec.ZSTD, size, digest(plain(ONES)), codes, (), data)


def _head_of(patch: wire.Patch) -> str:
    frame = wire.encode(patch)
    return frame[: len(frame) - len(patch.data)].hex()


def primitives() -> dict[str, Json]:
    public = KEY.public_key().public_bytes_raw()
    gate = fingerprint(public)
    return {
        "certificate": certificate_for(KEY).public_bytes(Encoding.DER).hex(),
        "code": {"gate": gate.hex(), "text": str(Code(gate, TOKEN)), "token": TOKEN.hex()},
        "key": {
            "fingerprint": gate.hex(),
            "public": public.hex(),
            "seed": KEY.private_bytes_raw().hex(),
            "text": text.grouped(gate),
        },
        "manifests": [_of_manifest(_manifest()), _of_manifest(_paged())],
        "patches": [
            _of_patch("Uncompressed", patch_of(Codec.RAW), AFTER, State.DATA),
            _of_patch("Compressed", patch_of(Codec.ZSTD), AFTER, State.DATA),
            _of_patch("With unreadable bytes", hurt_patch(), KEPT, State.UNREADABLE),
            _of_patch("With the largest window", windowed_patch(24), ONES, State.DATA),
        ],
        "refused_patches": [
            {
                "about": about,
                "before": _runs(BEFORE),
                "frame": wire.encode(patch).hex(),
                "whole": wire.encode(answer).hex() if answer else None,
            }
            for about, patch, answer in refused_patches()
        ],
    }


def make() -> None:
    WIRE.mkdir(exist_ok=True)
    good: list[Json] = [
        {
            "about": about,
            "fields": told(one),
            "frame": wire.encode(one).hex(),
            "kind": one.kind,
            "name": name_of(type(one)),
        }
        for about, one in frames()
    ]
    bad: list[Json] = [
        {"about": about, "belongs": name, "frame": frame.hex(), "refused": "wire-violation"}
        for about, name, frame in damaged()
    ]
    new: list[Json] = [
        {
            "about": about,
            "fields": told(one) if one else None,
            "frame": frame.hex(),
            "name": name_of(type(one)) if one else None,
        }
        for about, one, frame in later()
    ]
    for name, listed in (("frames", good), ("later", new), ("damaged", bad)):
        lines = canon.dump(listed).replace(b'{"about"', b'\n{"about"')
        (WIRE / f"{name}.json").write_bytes(lines + b"\n")
    (WIRE / "primitives.json").write_bytes(canon.dump(primitives()) + b"\n")


if __name__ == "__main__":
    make()
