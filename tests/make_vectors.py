"""Makes tests/vectors anew: `python -m tests.make_vectors`, from the checkout's root.

Wraps and ids are random, so every run makes other bytes; tests/vectors/README.md says what they
are. Those of the wire format come from tests/wire_vectors.py.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import zstandard

from appliance.events import Json
from appliance.model import Codec, DiskId, Extent, PackId, PointSpec
from appliance.seal import canary, canon, files, head, statement, text
from appliance.seal.cut import digest
from appliance.seal.envelope import wrap
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey, Role
from appliance.seal.layout import Kind, RecordHead, index_bytes, ranges_bytes
from appliance.seal.opening import read_sealed_contents
from appliance.seal.papers import Note
from appliance.seal.sealing import Consent, seal
from appliance.seal.statement import Seal
from appliance.seal.store import Store
from appliance.seal.writer import Pace
from tests import custody_vectors, forge, label_vectors, promise, wire_vectors
from tests.forge import Forge, disk_head, pack_head, point_end, reference, sign_again, zeros
from tests.promise import PLACE
from tests.readout import maps_of, reopened
from tests.support import BLOCK, FakeWitness, PowerCutError, facts, put_blocks

GOOD_CANARY_TIME = "2026-11-22T20:15:17Z"


def key(name: str, role: Role = "operator") -> PrivateKey:
    return PrivateKey(name, role, digest(f"motiongear vectors {name}".encode()))


OPERATOR, RECOVERY, STRANGER = key("operator"), key("recovery", "recovery"), key("stranger")
KEYS = (OPERATOR, RECOVERY)


class Bench:
    """Makes stores by one device in a directory that is thrown away, and keeps the good ones."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.device = Device.of(work / "home")
        self.damaged: list[Json] = []

    def store(self, name: str) -> Store:
        recipients = tuple(one.recipient for one in KEYS)
        return Store.create(self.work / name, name, self.device, recipients, BLOCK)

    def keep(self, store: Store, about: str) -> None:
        """Copy a sealed store into the vectors, with what a reader must find in it."""
        place = PLACE / store.path.name
        shutil.copytree(store.path, place / "store")
        told = promise.of_store(reopened(store), maps_of(store, OPERATOR), KEYS, OPERATOR)
        (place / "vector.json").write_bytes(canon.dump({"about": about, **told}) + b"\n")

    def hostile(self, name: str, about: str, refused: str, make: Callable[[Store], None]) -> None:
        """A store made by a device that lies: sealed, and refused only with a key."""
        store = self.store(name)
        make(store)
        if not store.sealed:
            forge.seal_whatever(store, self.device, DISK)
        shutil.copytree(store.path, PLACE / name / "store")
        self.refuse(name, about, refused, keyless=False)

    def refuse(
        self, base: str, about: str, refused: str, *edits: Json, keyless: bool = True, **more: Json
    ) -> None:
        vector: dict[str, Json] = {
            "about": about,
            "base": base,
            "edits": list(edits),
            "keyless": keyless,
            "refused": refused,
        }
        self.damaged.append({**vector, **more})


# --- good stores ---

DISK = DiskId("a1" * 16)
PLAIN = (b"a short text " * BLOCK)[:BLOCK] * 2 + bytes(2 * BLOCK) + b"the end"
NOISE = random.Random(7).randbytes(4 * BLOCK) + bytes(5) + random.Random(8).randbytes(BLOCK)


def spec(data: bytes, disk: str, machine: str) -> PointSpec:
    return PointSpec(DiskId(disk), 0, machine, facts(len(data), f"SN-{disk[:4]}"))


def plain(bench: Bench) -> tuple[Store, Seal]:
    store = bench.store("good-plain")
    told = spec(PLAIN, DISK, "web01")
    put_blocks(store, PLAIN, told, bad=[Extent(2 * BLOCK + 512, 1024)])
    made = seal(store, bench.device, {(DISK, 0): told}, Consent(waiver="a vector"))
    bench.keep(store, "One disk in one pack: zstd, a repeat, zeros with unreadable bytes, an end")
    return store, made


def spliced(bench: Bench) -> Seal:
    store = bench.store("good-spliced")
    pace = Pace(pack_size=1, checkpoint_bytes=BLOCK)
    whole, part = spec(NOISE, DISK, "db01"), spec(PLAIN, "b2" * 16, "web\u00e9\u202e\n")
    with suppress(PowerCutError):
        put_blocks(store, NOISE, whole, pace=pace, cut_at=3)
    store.mend()
    put_blocks(store, NOISE, whole, pace=pace, bad=[Extent(4 * BLOCK, 5)], witness=FakeWitness())
    with suppress(PowerCutError):
        put_blocks(store, PLAIN, part, pace=replace(pace, checkpoint_bytes=1), cut_at=3)
    code = canary.open_code(store.path, store.head, RECOVERY)
    (store.path / files.DIRECTORY).mkdir()
    (store.path / files.DIRECTORY / "about.txt").write_bytes(b"what a later version may add\n")
    note = Note("about", 3, {"a": [{"b": None}, True, "\u20ac"], "n": 1 << 53})
    consent = Consent(
        frozenset([part.disk]), canary.who_opened(store.path, store.head, code), GOOD_CANARY_TIME
    )
    made = seal(store, bench.device, {(DISK, 0): whole}, consent, notes=[note])
    bench.keep(
        store,
        "A disk in two sessions and several packs, one torn; another disk incomplete; a note and "
        "a file of a type that is unknown",
    )
    return made


# --- stores that were changed ---


def flip(file: str, at: int, mask: int = 1) -> Json:
    return {"at": at, "do": "flip", "file": file, "mask": mask}


def cut(file: str, size: int) -> Json:
    return {"do": "cut", "file": file, "size": size}


def changed(bench: Bench, one: Store, seal_one: Seal, seal_many: Seal) -> None:
    base, more = "good-plain", "good-spliced"
    pack = f"packs/{seal_one.packs[1].pack}.pack"
    size = seal_one.packs[1].size
    names = [f"packs/{found.pack}.pack" for found in seal_many.packs]
    (seal_size, head_size) = (
        (one.path / name).stat().st_size for name in ("seal.json", "head.json")
    )
    refuse = bench.refuse
    info = reopened(one).infos[seal_one.packs[1].pack]
    for place, about in (
        (0, "the magic of a pack"),
        (80, "a pack's disk id"),
        (112, "a pack's start"),
        (130, "a pack's commitment"),
        (1000, "a wrap"),
        (4096 + 4, "a record's number"),
        (4096 + 200, "a record's ciphertext"),
        (info.trailer.checkpoint_offset + 60, "a checkpoint's guard"),
        (info.trailer.index_offset + 50, "the index"),
        (size - 4096 + 41, "the trailer's digest"),
        (size - 1, "the trailer's padding"),
    ):
        refuse(base, f"One bit of {about} is flipped", "pack-damaged", flip(pack, place))
    refuse(base, "A pack of a later version", "unknown-format", flip(pack, 6, 3))
    refuse(base, "A pack with a flag in its head", "unknown-format", flip(pack, 14))
    refuse(base, "A pack with a flag in its trailer", "unknown-format", flip(pack, size - 4076))
    refuse(base, "One bit of a pack's shipment id", "foreign-pack", flip(pack, 16))
    refuse(base, "One bit of a pack's own id", "foreign-pack", flip(pack, 64))
    refuse(base, "A pack cut by a page", "pack-damaged", cut(pack, size - 4096))
    refuse(base, "A pack cut by a byte", "pack-damaged", cut(pack, size - 1))
    refuse(base, "A pack cut to nothing", "pack-damaged", cut(pack, 0))
    refuse(base, "A pack with a page more", "pack-damaged", cut(pack, size + 4096))
    refuse(base, "A pack is missing", "pack-missing", {"do": "remove", "file": pack})
    refuse(base, "The seal is missing", "seal-missing", {"do": "remove", "file": "seal.json"})
    refuse(base, "The head is missing", "not-a-store", {"do": "remove", "file": "head.json"})
    refuse(base, "The canary is missing", "seal-damaged", {"do": "remove", "file": "canary.json"})
    refuse(base, "A byte behind the seal", "seal-damaged", cut("seal.json", seal_size + 1))
    refuse(base, "A byte behind the head", "head-damaged", cut("head.json", head_size + 1))
    refuse(
        base, "The signature is not the device's", "seal-damaged", flip("seal.json", seal_size - 4)
    )
    swap: Json = {"do": "swap", "file": names[1], "with": names[2]}
    refuse(more, "Two packs under each other's names", "foreign-pack", swap)
    copy: Json = {
        "do": "copy",
        "file": "packs/" + "ee" * 16 + ".pack",
        "from": f"{base}/store/{pack}",
    }
    refuse(more, "A pack of another shipment lies there too", "pack-unlisted", copy)
    foreign: Json = {"do": "copy", "file": names[1], "from": f"{base}/store/{pack}"}
    refuse(more, "A pack of another shipment in place of one", "foreign-pack", foreign)
    for name, refused in (("head.json", "seal-damaged"), ("canary.json", "seal-damaged")):
        exchanged: Json = {"do": "copy", "file": name, "from": f"{base}/store/{name}"}
        refuse(more, f"{name} of another shipment", refused, exchanged)
    spied = replace(one.head, recipients=(*one.head.recipients, STRANGER.recipient))
    (PLACE / "attached" / "spied-head.json").write_bytes(spied.encode())
    added: Json = {"do": "copy", "file": "head.json", "from": "attached/spied-head.json"}
    refuse(base, "A recipient was added to the head", "seal-damaged", added)
    refuse(
        base,
        "Opened with the key of nobody",
        "wrong-key",
        keyless=False,
        seed=STRANGER.seed().hex(),
    )
    root = text.grouped(seal_one.root())
    refuse(more, "Another root than expected", "root-mismatch", root=root)
    refuse(
        more,
        "Another device than expected",
        "signer-mismatch",
        device=text.grouped(bytes(20)),
    )
    refuse(
        more,
        "Sealed for others than expected",
        "recipients-mismatch",
        recipients=[OPERATOR.recipient.fingerprint],
    )
    refuse(
        base,
        "A seal older than one accepted before, with device and root as expected",
        "older-seal",
        accepted=seal_many.sequence,
        device=bench.device.fingerprint,
        root=root,
    )


def seals(bench: Bench, one: Store) -> None:
    """good-plain with another seal by its own device, which anybody refuses without a key."""
    place = PLACE / "attached"

    def seal_of(name: str, about: str, refused: str, sign: Callable[[Store], None]) -> None:
        shutil.copytree(one.path, bench.work / name)
        sign(Store(bench.work / name))
        shutil.copy(bench.work / name / "seal.json", place / name)
        edit: Json = {"do": "copy", "file": "seal.json", "from": f"attached/{name}"}
        bench.refuse("good-plain", about, refused, edit)

    def body(**fields: Json) -> Callable[[Store], None]:
        return lambda store: forge.sign_body(store, bench.device, **fields)

    def of_another_index(store: Store) -> None:
        first, pack = statement.read(store.path).packs
        lie = (first, replace(pack, index="00" * 32))
        forge.sign(store, bench.device, replace(statement.read(store.path), packs=lie))

    listed: Json = {"blake3": digest(b"").hex(), "name": "a", "size": 0}
    seal_of("later-seal.json", "A seal of a later version", "unknown-format", body(version=2))
    seal_of(
        "feature-seal.json", "A seal with a feature", "unknown-format", body(features=["more"])
    )
    seal_of(
        "index-seal.json", "Sealed with another index's digest", "seal-damaged", of_another_index
    )
    seal_of(
        "file-seal.json", "A file of the seal is missing", "seal-damaged", body(files=[listed])
    )


def beside(bench: Bench) -> None:
    base, file = "good-spliced", "files/about.txt"
    more: Json = {"do": "copy", "file": "files/more", "from": "attached/spied-head.json"}
    gone: Json = {"do": "remove", "file": file}
    refuse = bench.refuse
    refuse(base, "One bit of a file beside the packs", "seal-damaged", flip(file, 3))
    refuse(base, "A file beside the packs is cut", "seal-damaged", cut(file, 3))
    refuse(base, "A file beside the packs is missing", "seal-damaged", gone)
    refuse(base, "A file more lies beside the packs", "pack-unlisted", more)


def other_canary(bench: Bench) -> None:
    """The right wraps in another order, duly sealed."""
    store = bench.store("hostile-canary")
    forge.forged(store, SPEC, FIRST, *REST)
    path = store.path / canary.FILE
    told = json.loads(path.read_bytes())
    path.write_bytes(canon.dump({**told, "wraps": told["wraps"][::-1]}))
    forge.seal_whatever(store, bench.device, DISK)
    shutil.copytree(store.path, PLACE / "hostile-canary" / "store")
    bench.refuse("hostile-canary", "A canary in another order", "canary")


def inside(bench: Bench) -> None:
    """A store of a device that knows a feature of packs which version 1 does not."""
    store = bench.store("hostile-inside")
    made = replace(store.head, features_inside=("more",))
    (store.path / canary.FILE).unlink()
    canary.create(store.path, made)
    head.write(store.path, made)
    store = Store(store.path)
    forge.forged(store, SPEC, FIRST, *REST)
    forge.seal_whatever(store, bench.device, DISK)
    shutil.copytree(store.path, PLACE / "hostile-inside" / "store")
    bench.refuse("hostile-inside", "A feature of the packs", "unknown-format", keyless=False)


# --- stores of a device that lies ---

TINY = b"only a block"
SPEC = spec(TINY + bytes(2 * BLOCK), DISK, "web01")
TEXT = (TINY + bytes(BLOCK))[:BLOCK]


def packed(index: int, plain: bytes, stored: bytes | None = None) -> tuple[RecordHead, bytes]:
    data = zstandard.compress(plain) if stored is None else stored
    return RecordHead(Kind.BLOCK, Codec.ZSTD, len(plain), len(data), index, 1, digest(plain)), data


FIRST, REST = packed(0, TEXT), (zeros(1, 1), forge.block(2, bytes(len(TINY))))


def records(*listed: tuple[RecordHead, bytes]) -> Callable[[Store], None]:
    def make(store: Store) -> None:
        forge.forged(store, SPEC, *listed)

    return make


def indexed(store: Store, **fields: int) -> None:
    """The index says something else of the first block."""
    made = Forge(store, pack_head(store, DISK)).add(*disk_head(SPEC))
    for one in (FIRST, *REST):
        made.add(*one)
    made.add(*point_end(3, made.head.pack))
    entries = list(made.entries)
    lie = replace(FIRST[0], **fields)  # type: ignore[arg-type]
    entries[1] = (lie.encode(), entries[1][1])
    made.close(plain=bytes(index_bytes(entries)))


def hidden(store: Store) -> None:
    """A record that the index does not list."""
    made = Forge(store, pack_head(store, DISK)).add(*disk_head(SPEC))
    for one in (FIRST, *REST):
        made.add(*one)
    made.add(*point_end(3, made.head.pack))
    made.data += made.frame(*packed(0, TEXT[::-1]), number=5)
    made.close()


def behind(session: int) -> Callable[[Store], None]:
    """Another pack with a point end where the point has ended."""

    def make(store: Store) -> None:
        first = pack_head(store, DISK)
        second = pack_head(store, DISK, session=session, sequence=1 - session, start=3)
        end = point_end(3, first.pack, second.pack)
        made = Forge(store, first).add(*disk_head(SPEC))
        for one in (FIRST, *REST, end):
            made.add(*one)
        made.close()
        Forge(store, second).add(*disk_head(SPEC)).add(*end).close()

    return make


def odd_note(bench: Bench) -> Callable[[Store], None]:
    def make(store: Store) -> None:
        forge.forged(store, SPEC, FIRST, *REST)
        seal(store, bench.device, {}, Consent(waiver="hostile"))
        sealed = reopened(store)
        told = read_sealed_contents(sealed, OPERATOR)
        store.pack(sealed.seal.contents).unlink()
        note = forge.paper(Kind.NOTE, b'{"type":"a","version":1,"body":{}}')
        forge.contents_pack(store, told, note)
        sign_again(store, bench.device)

    return make


def lying_contents(bench: Bench) -> Callable[[Store], None]:
    def make(store: Store) -> None:
        forge.forged(store, SPEC, FIRST, *REST)
        seal(store, bench.device, {}, Consent(waiver="hostile"))
        sealed = reopened(store)
        told = read_sealed_contents(sealed, OPERATOR)
        store.pack(sealed.seal.contents).unlink()
        forge.contents_pack(store, replace(told, disks=()))
        sign_again(store, bench.device)

    return make


def hostile(bench: Bench) -> None:
    far = forge.paper(Kind.UNREADABLE, ranges_bytes([(0, 1 << 60)]), 0, 1)
    bomb = zstandard.compress(bytes(1 << 26))
    elsewhere = reference(1, TEXT, PackId("77" * 16), 1)

    def to_itself(store: Store) -> None:
        lie = reference(1, TEXT, pack_head(store, DISK).pack, 0)
        forge.forged(store, SPEC, FIRST, lie, REST[1])

    make = bench.hostile
    make("hostile-repeated", "A record stands twice", "record-order", records(FIRST, FIRST, *REST))
    make(
        "hostile-swapped", "Records out of order", "record-order", records(REST[0], FIRST, REST[1])
    )
    make(
        "hostile-run",
        "A zero run of 2^60 blocks",
        "record-damaged",
        records(FIRST, zeros(1, 1 << 60)),
    )
    make(
        "hostile-bomb",
        "zstd of another size",
        "record-damaged",
        records(packed(0, TEXT, bomb), *REST),
    )
    make(
        "hostile-range", "Unreadable bytes elsewhere", "record-damaged", records(FIRST, *REST, far)
    )
    make(
        "hostile-far",
        "A reference to no pack",
        "record-damaged",
        records(FIRST, elsewhere, REST[1]),
    )
    make("hostile-reference", "A reference to a disk head", "record-damaged", to_itself)
    make(
        "hostile-index", "An index that lies", "record-damaged", lambda one: indexed(one, stored=1)
    )
    make("hostile-hidden", "A record not in the index", "pack-damaged", hidden)
    make("hostile-contents", "Contents without the disk", "incomplete-disk", lying_contents(bench))
    make(
        "hostile-early",
        "Unreadable bytes told before their block",
        "record-order",
        records(FIRST, forge.paper(Kind.UNREADABLE, ranges_bytes([(BLOCK, 9)]), 1, 1), *REST),
    )
    make(
        "hostile-window",
        "zstd with a window of 32 MiB",
        "record-damaged",
        records(packed(0, b"x" * BLOCK, forge.windowed(25 - 10 << 3)), *REST),
    )
    make(
        "hostile-kind",
        "A record of an unknown kind",
        "unknown-format",
        records(FIRST, (replace(FIRST[0], kind=9), FIRST[1]), *REST),  # type: ignore[arg-type]
    )
    make("hostile-sequence", "A pack behind the point's end", "record-order", behind(0))
    make("hostile-session", "A session behind the point's end", "record-order", behind(1))
    make("hostile-note", "A note that is not canonical", "record-damaged", odd_note(bench))
    make("hostile-short", "A disk that is not all there", "incomplete-disk", records(FIRST))


# --- what is left of damaged stores ---


def accepted() -> list[Json]:
    """good-spliced with less and less of it, for whoever accepts damage."""
    base = "good-spliced"
    seal = statement.read(PLACE / base / "store")
    names = [f"packs/{one.pack}.pack" for one in seal.packs]
    ends = [one.size for one in seal.packs]
    whole = [place for place, one in enumerate(seal.packs) if place and not one.torn]
    torn = next(place for place, one in enumerate(seal.packs) if one.torn)
    first, second, *_ = whole
    info = reopened(Store(PLACE / base / "store")).infos[seal.packs[first].pack]
    gone: Callable[[int], Json] = lambda place: {"do": "remove", "file": names[place]}  # noqa: E731
    told: list[tuple[str, list[Json]]] = [
        ("Nothing is damaged", []),
        ("The last pack is missing", [gone(second)]),
        ("Another pack is missing", [gone(first)]),
        ("A pack has no head", [flip(names[first], 0)]),
        ("A pack's sequence is another", [flip(names[first], 104)]),
        ("A pack has no trailer", [flip(names[first], ends[first] - 4096)]),
        ("A pack has another state", [flip(names[first], ends[first] - 4080, 3)]),
        ("A pack's cursor is another", [flip(names[first], info.trailer.checkpoint_offset + 16)]),
        ("A pack is cut by a page", [cut(names[second], ends[second] - 4096)]),
        ("The torn pack is missing", [gone(torn)]),
        ("The torn pack has no trailer", [flip(names[torn], ends[torn] - 4096)]),
        ("Two packs are missing", [gone(first), gone(torn)]),
        ("The contents pack has no trailer", [flip(names[0], ends[0] - 4096)]),
        ("The contents pack is missing", [gone(0)]),
    ]
    found: list[Json] = []
    with tempfile.TemporaryDirectory() as work:
        for number, (about, edits) in enumerate(told):
            store = Path(work) / str(number)
            shutil.copytree(PLACE / base / "store", store)
            for one in edits:
                promise.apply(store, cast("promise.Edit", one))
            left = promise.of_damaged(store, OPERATOR)
            found.append({"about": about, "base": base, "edits": edits, **left})
    return found


def primitives() -> Json:
    secret, context = bytes(range(32)), bytes(range(32, 64))
    document: Json = {"b": ["\u20ac", "\n", 1 << 53], "a": None, "\u00fc": True}
    info = b"motiongear/1 wrap" + context
    made = wrap(secret, STRANGER.recipient, info)
    return promise.of_primitives(document, STRANGER, secret, context, made)


def main() -> None:
    for name in ("good-*", "hostile-*", "attached"):
        for one in PLACE.glob(name):
            shutil.rmtree(one)
    (PLACE / "attached").mkdir()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(Path(work))
        store, first = plain(bench)
        changed(bench, store, first, spliced(bench))
        seals(bench, store)
        beside(bench)
        other_canary(bench)
        inside(bench)
        hostile(bench)
    (PLACE / "damaged.json").write_bytes(
        canon.dump(bench.damaged).replace(b'{"about', b'\n{"about') + b"\n"
    )
    (PLACE / "accepted.json").write_bytes(
        canon.dump(accepted()).replace(b'{"about', b'\n{"about') + b"\n"
    )
    (PLACE / "primitives.json").write_bytes(canon.dump(primitives()) + b"\n")
    custody_vectors.make()
    label_vectors.make()
    wire_vectors.make()


if __name__ == "__main__":
    main()
