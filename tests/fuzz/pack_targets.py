"""Packs and whole stores: structures, keyed reading, keyless verification, mending, recovery."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import zstandard

from appliance.block import PAGE, pwrite_full
from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.model import Codec, DiskFacts, DiskId, PackId, Part, PointSpec
from appliance.seal import canary, canon, opening, pointmap, statement, verify
from appliance.seal import recover as recover_module
from appliance.seal.cut import digest
from appliance.seal.layout import (
    NO_DIGEST,
    ZERO_DISK,
    Entry,
    Kind,
    PackHead,
    PackState,
    RecordHead,
    parse_checkpoint,
    parse_frame,
    parse_index,
    parse_pack_head,
    parse_ranges,
    parse_record_head,
    parse_trailer,
    ranges_bytes,
)
from appliance.seal.manifest import Manifest, State, point_of
from appliance.seal.papers import PointEnd, write_disk_head, write_point_end
from appliance.seal.recover import recover
from appliance.seal.scan import PackReader, examine
from appliance.seal.statement import Seal, SealedPack
from appliance.seal.store import SEAL, by_point
from appliance.seal.torn import disk_of, mend
from tests.fuzz.packs import (
    Baked,
    Do,
    Recipe,
    baked,
    bundle,
    bundles,
    close,
    packs,
    recipe,
    record,
    unbundle,
)
from tests.fuzz.scenes import (
    BLOCK,
    DEVICE,
    HEAD,
    KEY,
    little_memory,
    one_secret,
    one_thread,
    place,
)
from tests.fuzz.target import Run, Target, attempt, steady

SIZE = 6 * BLOCK + 5
FACTS = DiskFacts(
    source="/dev/sdx",
    serial="S-1",
    model="Model é",
    bus="usb",
    size=SIZE,
    logical_sector=512,
    physical_sector=4096,
    table="gpt",
    table_id="T-1",
    firmware_hint="uefi",
    parts=(Part(1, 1 << 20, 1 << 22, "linux", "root", "u-1", "ext4", "label", "f-1"),),
)
DISK = DiskId("11" * 16)
SPEC = PointSpec(DISK, 0, "web01", FACTS)
ONE, TWO, LAST = (b"one " * BLOCK)[:BLOCK], (b"two " * BLOCK)[:BLOCK], b"end!!"


# --- recipes that an honest writer could have made --------------------


def front(
    number: int, *, session: int = 0, sequence: int = 0, start: int = 0, disk: str = DISK
) -> PackHead:
    return PackHead(
        shipment=HEAD.shipment,
        head_digest=HEAD.digest(),
        pack=PackId(f"{number:032x}"),
        disk=DiskId(disk),
        point=0,
        session=session,
        sequence=sequence,
        block_size=BLOCK,
        start=start,
        recipients=1,
    )


def paper(kind: Kind, document: Json) -> tuple[int, bytes]:
    payload = canon.dump(document)
    size = len(payload)
    return record(RecordHead(kind, Codec.RAW, size, size, 0, 0, digest(payload)), payload)


def block(index: int, data: bytes) -> tuple[int, bytes]:
    packed = zstandard.compress(data, 1)
    head = RecordHead(Kind.BLOCK, Codec.ZSTD, len(data), len(packed), index, 1, digest(data))
    return record(head, packed)


def raw(index: int, data: bytes) -> tuple[int, bytes]:
    size = len(data)
    head = RecordHead(Kind.BLOCK, Codec.RAW, size, size, index, 1, digest(data))
    return record(head, data)


def reference(index: int, data: bytes, pack: int, number: int) -> tuple[int, bytes]:
    target = PackId(f"{pack:032x}")
    head = RecordHead(
        Kind.REFERENCE, Codec.RAW, len(data), 0, index, 1, digest(data), target, number
    )
    return record(head)


def zeros(index: int, count: int) -> tuple[int, bytes]:
    return record(RecordHead(Kind.ZERO_RUN, Codec.RAW, 0, 0, index, count, NO_DIGEST))


def unreadable(index: int, *ranges: tuple[int, int]) -> tuple[int, bytes]:
    payload = ranges_bytes(list(ranges))
    size = len(payload)
    head = RecordHead(Kind.UNREADABLE, Codec.RAW, size, size, index, 1, digest(payload))
    return record(head, payload)


def end(*numbers: int, blocks: int = 7) -> tuple[int, bytes]:
    told = PointEnd(
        blocks,
        tuple(PackId(f"{one:032x}") for one in numbers),
        stored=2,
        referenced=1,
        zero=3,
        unreadable_bytes=9,
    )
    return paper(Kind.POINT_END, write_point_end(told))


HEAD_RECORD = paper(Kind.DISK_HEAD, write_disk_head(SPEC))
CHECKPOINT = (int(Do.CHECKPOINT), b"")
WHOLE = recipe(
    front(1),
    HEAD_RECORD,
    block(0, ONE),
    reference(1, ONE, 1, 1),
    CHECKPOINT,
    zeros(2, 3),
    block(5, TWO),
    unreadable(5, (5 * BLOCK + 512, 9)),
    raw(6, LAST),
    end(1),
    close(),
)
FIRST = recipe(
    front(2), HEAD_RECORD, block(0, TWO), zeros(1, 1), CHECKPOINT, close(PackState.CLOSED)
)
SECOND = recipe(
    front(3, sequence=1, start=2),
    HEAD_RECORD,
    reference(2, TWO, 2, 1),
    close(PackState.TORN),
)
THIRD = recipe(
    front(4, session=1, start=3), HEAD_RECORD, zeros(3, 3), raw(6, LAST), end(2, 3, 4), close()
)
VAST = replace(SPEC, facts=replace(FACTS, size=1 << 46))
ALL_ZEROS = [zeros(0, 1 << 22)] * 12
VAST_PACK = recipe(
    replace(front(6, disk=DISK), block_size=1 << 24),
    paper(Kind.DISK_HEAD, write_disk_head(VAST)),
    *ALL_ZEROS,
    close(PackState.TORN),
)
VAST_AGAIN = recipe(
    replace(front(7, session=1), block_size=1 << 24),
    paper(Kind.DISK_HEAD, write_disk_head(VAST)),
    *ALL_ZEROS,
    close(PackState.TORN),
)
OTHER = recipe(
    front(5, disk="22" * 16),
    paper(Kind.DISK_HEAD, {**write_disk_head(SPEC), "disk": "22" * 16, "machine": "db"}),
    block(0, ONE),
    close(PackState.TORN),
)
OPEN = Recipe(0, WHOLE.context, [*WHOLE.steps[:6], (int(Do.PAGE), b"torn")])


# --- the structures, one by one --------------------


def layout(data: bytes) -> None:
    which, data = data[:1], data[1:]
    head = front(1)
    page = data.ljust(PAGE, b"\0")
    match which:
        case b"\0":
            parsed, commitment, wraps = parse_pack_head(data)
            assert parsed.context_bytes() == data[:120]
            assert len(commitment) == 32
            assert len(wraps) == parsed.recipients
        case b"\1":
            told = parse_record_head(data.ljust(80, b"\0"), BLOCK)
            assert told.encode() == data.ljust(80, b"\0")[:80]
        case b"\2":
            found = parse_checkpoint(page)
            assert found.encode()[4:] == page[4:PAGE]
        case b"\3":
            size = int.from_bytes(data[80:83], "little") * PAGE
            trailer = parse_trailer(page[:80].ljust(PAGE, b"\0"), head, size)
            assert head.size <= trailer.checkpoint_offset < size
        case b"\4":
            parse_index(data, head, len(data) // 88)
        case b"\5":
            padded = data.ljust(80, b"\0")
            run = parse_record_head(padded, BLOCK)
            ranges = parse_ranges(padded[80 : 80 + len(padded[80:]) // 16 * 16], run, BLOCK, SIZE)
            assert all(offset + length <= SIZE for offset, length in ranges)
        case _:
            parse_frame(page)


def _layout_seeds() -> Iterator[bytes]:
    made = baked(WHOLE)
    yield b"\0" + made.data[:PAGE]
    for head, _ in made.entries:
        yield b"\1" + head
    yield b"\2" + made.data[made.checkpoint : made.checkpoint + PAGE]
    yield b"\3" + made.data[-PAGE:][:80] + (len(made.data) // PAGE).to_bytes(3, "little")
    yield b"\4" + b"".join(head + offset.to_bytes(8, "little") for head, offset in made.entries)
    yield b"\5" + WHOLE.steps[6][1]


# --- one pack, with the key --------------------


@contextmanager
def _keyed() -> Iterator[Run]:
    with place() as at, one_secret(), one_thread(), little_memory(at):
        path = at / "some.pack"

        def run(data: bytes) -> None:
            path.write_bytes(baked(Recipe.parse(data)).data)
            _read(path)

        yield run


def _read(path: Path) -> None:
    """Every way to read a pack; each may refuse, and none may say what another denies."""
    walked, swept = _found(_walked, path), _found(_swept, path)
    assert swept is None or swept == walked, "two readers find two packs"
    attempt(lambda _: [pointmap.build(one, KEY) for one in by_point([examine(path)])], b"")


def _found(read: Callable[[Path], list[Entry]], path: Path) -> list[Entry] | None:
    """What a way of reading finds; None where it refuses."""
    found: list[list[Entry]] = []
    attempt(lambda _: found.append(read(path)), b"")
    return found[0] if found else None


def _walked(path: Path) -> list[Entry]:
    with PackReader(path, KEY) as reader:
        found = []
        for one in reader.walk():
            assert len(one.payload) in _sizes(one.entry.head)
            found.append(one.entry)
        return found


def _sizes(head: RecordHead) -> set[int]:
    """What a record's payload may measure: nothing where it has none, else what it says."""
    return {0} if head.kind in {Kind.REFERENCE, Kind.ZERO_RUN} else {head.plain}


def _swept(path: Path) -> list[Entry]:
    info = examine(path)
    with PackReader(path, KEY) as reader:
        swept = reader.sweep(info, reader.entries(info), _refuse)
        found = [one.entry for one in swept]
        assert reader.swept == digest(path.read_bytes())
        return found


def _refuse(_: object, problem: MotionGearError) -> None:
    raise problem


# --- a pack that a crash has torn, without a key --------------------


@contextmanager
def _torn() -> Iterator[Run]:
    with place() as at:
        packs_at = at / "packs"
        packs_at.mkdir()
        path = packs_at / "some.open"

        def run(data: bytes) -> None:
            made = baked(Recipe.parse(data)).data
            path.write_bytes(made[: len(made) - data[0] * 16] if data[:1] else made)
            disk_of(path)
            mended = mend(path)
            if mended is not None:
                examine(mended)
                mended.unlink()
            shutil.rmtree(at / "damaged", ignore_errors=True)

        yield run


# --- many packs: the store, and what can be recovered without it --------------------


@contextmanager
def _store() -> Iterator[Run]:
    with place() as at, one_secret(), one_thread(), little_memory(at):
        packs_at = at / "packs"
        packs_at.mkdir()
        (at / "head.json").write_bytes(HEAD.encode())
        canary.create(at, HEAD)
        sealed_canary = digest((at / canary.FILE).read_bytes()).hex()

        def run(data: bytes) -> None:
            flags, recipes = unbundle(data)
            made = _of_one_store(recipes, keep=bool(flags & 1))
            listed = _lay(packs_at, made, truncate=bool(flags & 2))
            (at / SEAL).write_bytes(_sealed(listed, sealed_canary))
            _open(at)

        yield run


def _of_one_store(recipes: list[Recipe], *, keep: bool) -> list[Baked]:
    """The packs, put into the store by their heads, and its contents pack, unless there is
    one; with ``keep`` heads stay as they are.
    """
    if not keep:
        own = front(1).context_bytes()
        for one in recipes:
            one.context = own[:64] + one.context[64:108] + own[108:112] + one.context[112:]
    made = {one.pack: one for one in map(baked, recipes[:8])}
    if not any(one.disk == ZERO_DISK for one in made.values()):
        contents = baked(_contents(list(made.values())))
        made[contents.pack] = contents
    return sorted(made.values(), key=lambda one: one.order)


def _contents(made: list[Baked]) -> Recipe:
    points: dict[tuple[str, int], list[Baked]] = {}
    for one in sorted(made, key=lambda one: one.order):
        points.setdefault(one.order[:2], []).append(one)
    document: Json = {
        "disks": [
            {
                "blocks": 0,
                "disk": disk,
                "facts": None,
                "packs": [one.pack for one in theirs],
                "point": point,
                "state": "complete" if theirs[-1].state == 2 else "incomplete",
            }
            for (disk, point), theirs in points.items()
        ],
        "shipment": HEAD.shipment,
    }
    paper_record = paper(Kind.CONTENTS, document)
    head = front(0xC0, disk=ZERO_DISK)
    return recipe(head, paper_record, close(PackState.CLOSED))


def _lay(packs_at: Path, made: list[Baked], *, truncate: bool) -> tuple[SealedPack, ...]:
    """Put the packs into their directory, and nothing else; one is cut after it was listed."""
    for old in packs_at.iterdir():
        old.unlink()
    for one in made:
        (packs_at / f"{one.pack}.pack").write_bytes(one.data)
    if truncate:
        os.truncate(packs_at / f"{made[-1].pack}.pack", len(made[-1].data) - PAGE)
    return tuple(
        SealedPack(
            one.pack, len(one.data), len(one.entries), digest(bytes(one.data)).hex(), one.index
        )
        for one in made
    )


def _sealed(listed: tuple[SealedPack, ...], file: str) -> bytes:
    seal = Seal(
        shipment=HEAD.shipment,
        device=HEAD.device,
        created=HEAD.created,
        sequence=1,
        previous="",
        head=HEAD.digest().hex(),
        recipients=(KEY.recipient.fingerprint,),
        contents=listed[0].pack,
        packs=listed,
        canary=statement.SealedCanary(file, "", ""),
        waiver="fuzz",
        accepted=(),
    )
    return statement.sign(seal, DEVICE).encode()


def _open(at: Path) -> None:
    """All that is done with a sealed store, by whoever has a key and whoever has none."""
    sealed = verify.inspect(at, verify.Pins())
    verify.verify(sealed)
    proved: list[bytes] = []
    opening.open_all(sealed, KEY, proved=lambda one: proved.append(one.manifest.root()))
    maps: list[bytes] = []
    told = opening.disks_of(sealed, KEY)
    opening.open_each(told, KEY, lambda one: maps.append(one.manifest.root()), despite_damage=True)
    assert set(proved) <= set(maps), "what was proved is denied where damage is accepted"


_MOST_WRITTEN = 64 << 20  # in all the blocks of the few packs of an input there is less


@contextmanager
def _recover() -> Iterator[Run]:
    with place() as at, one_secret(), one_thread(), little_memory(at):
        packs_at, output = at / "packs", at / "output"
        packs_at.mkdir()
        written = 0

        def write(fd: int, offset: int, data: memoryview | bytes) -> None:
            nonlocal written
            written += len(data)
            assert written <= _MOST_WRITTEN, "a few packs fill the disk"
            pwrite_full(fd, offset, data)

        def run(data: bytes) -> None:
            nonlocal written
            written = 0
            output.mkdir()
            try:
                made = [baked(one) for one in unbundle(data)[1][:8]]
                _lay(packs_at, made, truncate=False)
                with mock.patch.object(recover_module, "pwrite_full", write):
                    recover(sorted(packs_at.iterdir()), KEY, output)
            finally:
                shutil.rmtree(output)

        yield run


# --- manifests --------------------


@contextmanager
def _manifest() -> Iterator[Run]:
    with place() as at:
        path = at / "some.manifest"

        def run(data: bytes) -> None:
            path.write_bytes(data)
            point = point_of(path)
            found = Manifest.load(path)
            assert (found.point, sum(found.states().values())) == (point, found.blocks)
            found.root()

        yield run


def _manifest_seeds() -> Iterator[bytes]:
    with place() as at:
        made = Manifest(DISK, 3, BLOCK, SIZE)
        made.set_zero(0, 3)
        made.set(3, digest(ONE), State.DATA)
        made.set(4, digest(TWO), State.UNREADABLE)
        made.save(at / "made")
        yield (at / "made").read_bytes()


_SEAL = "appliance/seal/"
_PACK = tuple(_SEAL + one for one in ("layout.py", "scan.py", "envelope.py", "cut.py"))
TARGETS = (
    Target("layout", (_SEAL + "layout.py",), steady(layout), _layout_seeds),
    Target(
        "pack",
        (*_PACK, _SEAL + "papers.py", _SEAL + "pointmap.py", _SEAL + "ranges.py"),
        _keyed,
        lambda: [one.encode() for one in (WHOLE, FIRST, SECOND, THIRD, OTHER)],
        packs,
    ),
    Target(
        "torn",
        (_SEAL + "torn.py", _SEAL + "layout.py"),
        _torn,
        lambda: [one.encode() for one in (OPEN, WHOLE, FIRST, SECOND)],
        packs,
    ),
    Target(
        "store",
        tuple(
            _SEAL + one
            for one in (
                "verify.py",
                "opening.py",
                "pointmap.py",
                "readback.py",
                "scan.py",
                "store.py",
                "statement.py",
            )
        ),
        _store,
        lambda: [
            bundle(0, [WHOLE]),
            bundle(0, [FIRST, SECOND, THIRD]),
            bundle(2, [WHOLE, OTHER]),
        ],
        bundles,
        longest=8192,
    ),
    Target(
        "recover",
        (_SEAL + "recover.py", _SEAL + "scan.py", _SEAL + "ranges.py"),
        _recover,
        lambda: [
            bundle(0, [WHOLE]),
            bundle(0, [FIRST, SECOND, THIRD]),
            bundle(0, [OTHER]),
            bundle(0, [VAST_PACK, VAST_AGAIN]),
        ],
        bundles,
        longest=8192,
    ),
    Target("manifest", (_SEAL + "manifest.py",), _manifest, _manifest_seeds),
)
