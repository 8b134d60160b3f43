"""An enemy who knows the format: packs and seals that no honest writer makes, with real keys."""

import json
from dataclasses import replace
from pathlib import Path

from blake3 import blake3

from appliance.block import PAGE
from appliance.events import Json
from appliance.model import Codec, DiskId, PackId, PointSpec
from appliance.seal import canary, canon, statement
from appliance.seal.cut import digest
from appliance.seal.envelope import PackKeys
from appliance.seal.identity import Device
from appliance.seal.layout import (
    CONTENT_KINDS,
    FRAME_HEAD,
    NO_DIGEST,
    RECORD_HEAD,
    TAG,
    ZERO_DISK,
    Checkpoint,
    Kind,
    PackHead,
    PackState,
    RecordHead,
    Trailer,
    align,
    index_bytes,
)
from appliance.seal.papers import (
    Contents,
    DiskContents,
    PointEnd,
    write_contents,
    write_disk_head,
    write_point_end,
)
from appliance.seal.scan import PackInfo
from appliance.seal.statement import Seal, SealedCanary, SealedPack
from appliance.seal.store import SEAL, Store
from appliance.seal.writer import document
from tests.support import BLOCK

GUARD = bytes(32)


def pack_head(
    store: Store,
    disk: str = "11" * 16,
    sequence: int = 0,
    session: int = 0,
    pack: str = "",
    start: int = 0,
) -> PackHead:
    """The head of a pack that fits the store."""
    name = pack or digest(f"{disk} {session} {sequence}".encode()).hex()[:32]
    return PackHead(
        shipment=store.head.shipment,
        head_digest=store.head.digest(),
        pack=PackId(name),
        disk=DiskId(disk),
        point=0,
        session=session,
        sequence=sequence,
        block_size=store.head.block_size,
        start=start,
        recipients=len(store.head.recipients),
    )


def block(index: int, data: bytes) -> tuple[RecordHead, bytes]:
    size = len(data)
    return RecordHead(Kind.BLOCK, Codec.RAW, size, size, index, 1, digest(data)), data


def zeros(index: int, count: int) -> tuple[RecordHead, bytes]:
    return RecordHead(Kind.ZERO_RUN, Codec.RAW, 0, 0, index, count, NO_DIGEST), b""


def windowed(window: int) -> bytes:
    """A zstd frame of BLOCK times ``x``, one run, with its content size and this Window_Descriptor
    (RFC 8878, 3.1.1.1.2).
    """
    run = (BLOCK << 3 | 0b011).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x80" + bytes([window]) + BLOCK.to_bytes(4, "little") + run + b"x"


def reference(index: int, data: bytes, pack: PackId, number: int) -> tuple[RecordHead, bytes]:
    head = RecordHead(
        Kind.REFERENCE, Codec.RAW, len(data), 0, index, 1, digest(data), pack, number
    )
    return head, b""


def paper(kind: Kind, payload: bytes, index: int = 0, count: int = 0) -> tuple[RecordHead, bytes]:
    return document(kind, payload, index, count), payload


def disk_head(spec: PointSpec) -> tuple[RecordHead, bytes]:
    return paper(Kind.DISK_HEAD, canon.dump(write_disk_head(spec)))


def point_end(blocks: int, *packs: PackId) -> tuple[RecordHead, bytes]:
    end = PointEnd(blocks, packs, stored=0, referenced=0, zero=0, unreadable_bytes=0)
    return paper(Kind.POINT_END, canon.dump(write_point_end(end)))


class Forge:
    """A pack being forged, part after part, in memory."""

    def __init__(self, store: Store, head: PackHead) -> None:
        self.head = head
        self.data = bytearray()
        self.entries: list[tuple[bytes, int]] = []
        self.cursor = head.start
        self._directory = store.packs
        self._keys, front = PackKeys.create(head, store.head.recipients)
        self.data += front

    def frame(self, head: RecordHead, payload: bytes, number: int, pad: bytes = b"") -> bytes:
        """A record's frame as the keys make it."""
        size = align(FRAME_HEAD + RECORD_HEAD + len(payload) + len(pad) + TAG)
        plain = (head.encode() + payload + pad).ljust(size - FRAME_HEAD - TAG, b"\0")
        frame = bytearray(size)
        self._keys.seal_record(number, memoryview(plain), memoryview(frame))
        return bytes(frame)

    def add(
        self, head: RecordHead, payload: bytes = b"", number: int = -1, pad: bytes = b""
    ) -> "Forge":
        """Append a record and list it in the index."""
        place = len(self.entries) if number < 0 else number
        self.entries.append((head.encode(), len(self.data)))
        if head.kind in CONTENT_KINDS:
            self.cursor = head.index + head.count
        self.data += self.frame(head, payload, place, pad)
        return self

    def checkpoint(self, cursor: int | None = None) -> "Forge":
        found = blake3(self.data).digest()
        honest = min(self.cursor, (1 << 64) - 1)
        reached = honest if cursor is None else cursor
        self.data += Checkpoint(len(self.entries), reached, found, GUARD).encode()
        return self

    def close(
        self,
        state: PackState = PackState.POINT_END,
        index: list[tuple[bytes, int]] | None = None,
        plain: bytes | None = None,
        cursor: int | None = None,
    ) -> Path:
        """Checkpoint, an index that says what the enemy wants, trailer."""
        offset = len(self.data)
        self.checkpoint(cursor)
        listed = self.entries if index is None else index
        at = len(self.data)
        if state is not PackState.TORN:
            found = index_bytes(listed) if plain is None else plain
            self.data += self._keys.seal_index(found, len(listed))
        found_digest = blake3(self.data).digest()
        torn = state is PackState.TORN
        self.data += Trailer(len(listed), state, offset, 0 if torn else at, found_digest).encode()
        return self.save()

    def save(self) -> Path:
        path = self._directory / f"{self.head.pack}.pack"
        path.write_bytes(self.data)
        return path


def forged(
    store: Store,
    spec: PointSpec,
    *records: tuple[RecordHead, bytes],
    blocks: int = 0,
    state: PackState = PackState.POINT_END,
) -> Path:
    """One pack of one disk with these records between disk head and point end."""
    forge = Forge(store, pack_head(store, spec.disk))
    forge.add(*disk_head(spec))
    for one in records:
        forge.add(*one)
    if state is PackState.POINT_END:
        size = store.head.block_size
        forge.add(*point_end(blocks or -(-spec.facts.size // size), forge.head.pack))
    return forge.close(state)


def index_digest(info: PackInfo) -> str:
    """Of its index frame; empty for a torn pack."""
    if info.torn:
        return ""
    return digest(info.path.read_bytes()[info.trailer.index_offset : -PAGE]).hex()


def listing(store: Store) -> tuple[SealedPack, ...]:
    """What an honest seal would list now."""
    infos = sorted(store.infos(), key=lambda one: one.head.order)
    return tuple(
        SealedPack(
            one.head.pack,
            one.size,
            one.trailer.records,
            digest(one.path.read_bytes()).hex(),
            index_digest(one),
        )
        for one in infos
    )


def sign(store: Store, device: Device, seal: Seal) -> None:
    """Put a seal in place that says what the signer wants."""
    (store.path / SEAL).write_bytes(statement.sign(seal, device).encode())


def sign_body(store: Store, device: Device, **fields: Json) -> None:
    """Sign what the seal says, but for these fields: also what no Seal can say."""
    body = {**json.loads(statement.read(store.path).body()), **fields}
    signature = device.sign(b"motiongear/1 seal\0" + canon.dump(body)).hex()
    (store.path / SEAL).write_bytes(canon.dump({"seal": body, "signature": signature}))


def contents_pack(store: Store, contents: Contents, *more: tuple[RecordHead, bytes]) -> None:
    """A contents pack that says what the enemy wants."""
    made = Forge(store, pack_head(store, ZERO_DISK))
    for one in (paper(Kind.CONTENTS, canon.dump(write_contents(contents))), *more):
        made.add(*one)
    made.close(PackState.CLOSED)


def seal_whatever(store: Store, device: Device, disk: DiskId) -> None:
    """Seal the packs of a disk that no honest sealing takes."""
    store.give_up_reserve()
    ids = tuple(one.head.pack for one in sorted(store.infos(), key=lambda one: one.head.order))
    listed = DiskContents(disk, 0, complete=True, blocks=0, packs=ids, facts=None)
    contents_pack(store, Contents(store.head.shipment, (listed,)))
    found, data = listing(store), canary.read_bytes(store.path)
    assert data is not None
    made = Seal(
        shipment=store.head.shipment,
        device=device.public,
        created="2026-11-22T20:15:17Z",
        sequence=1,
        previous="",
        head=store.head.digest().hex(),
        recipients=tuple(one.fingerprint for one in store.head.recipients),
        contents=found[0].pack,
        packs=found,
        canary=SealedCanary(digest(data).hex(), "", ""),
        waiver="hostile",
        accepted=(),
    )
    sign(store, device, made)


def sign_again(store: Store, device: Device) -> None:
    """Sign what lies there now, in place of what the seal said."""
    found = listing(store)
    contents = next(one.head.pack for one in store.infos() if one.head.is_contents)
    sign(store, device, replace(statement.read(store.path), packs=found, contents=contents))
