"""Documents in canonical JSON: in stores, in key files, in what either end of a line keeps; and
the texts that people type.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.catchup import replica
from appliance.catchup.course import Course
from appliance.catchup.enrol import Code, Enrolled, Gates, Registry
from appliance.catchup.identity import certificate_for
from appliance.catchup.link import Address
from appliance.catchup.notes import Notes
from appliance.catchup.wire import Form, Point
from appliance.cloud import local_tags
from appliance.cloud.local import LocalTarget
from appliance.errors import StoreRefusedError
from appliance.model import DiskId, PackId, SnapshotSpec, VolumeSpec
from appliance.rate import parse_limit
from appliance.seal import canary, canon, head, keys, papers, statement, text
from appliance.seal.accepted import Accepted
from appliance.seal.cut import digest
from appliance.seal.identity import Counter, Device
from appliance.seal.keys import PrivateKey, read_public, read_recipient, unlock, write_pair
from appliance.seal.label import Label
from appliance.seal.manifest import Manifest
from appliance.seal.pointmap import refuse_larger_than_memory
from appliance.seal.proved import Proved
from appliance.seal.statement import Seal, SealedCanary, SealedPack
from appliance.seal.verify import Pins
from tests.fuzz.documents import behind, canonical, documents, parsed
from tests.fuzz.pack_targets import DISK, HEAD_RECORD, SIZE, SPEC, end
from tests.fuzz.scenes import BLOCK, DEVICE, HEAD, KEY, LINE_KEY, place
from tests.fuzz.target import Run, Target, attempt, steady

_PASSPHRASE = "fuzz"
_VOLUME = VolumeSpec("web01-S-1", SIZE, BLOCK, DISK, 2, "ab" * 32)
_SNAPSHOT = SnapshotSpec(_VOLUME, "web01", 2, Form.QUIESCED, 1_700_000_000, (DISK,), ("cd" * 32,))
_ROUND = Point(bytes(16), Form.QUIESCED, 1_700_000_000, (DISK, DiskId("22" * 16)))


def _file() -> tuple[list[bytes], Callable[..., bytes]]:
    """What stands in a file that is none, and how it is read."""
    told: list[bytes] = []

    def read(*_: object, **__: object) -> bytes:
        return told[-1]

    return told, read


# --- in a store --------------------


def _head(data: bytes) -> None:
    assert head.parse(data).encode() == data


def _seal(data: bytes) -> None:
    """The body, signed by the device it names where that is ours."""
    signature = DEVICE.sign(b"motiongear/1 seal\0" + data).hex().encode()
    found = statement.parse(b'{"seal":' + data + b',"signature":"' + signature + b'"}')
    assert found.body() == data
    found.root()


def _seal_made() -> Seal:
    packs = tuple(
        SealedPack(PackId(f"{one:032x}"), 4096, one, "cd" * 32, "" if one == 2 else "ef" * 32)
        for one in range(3)
    )
    return Seal(
        shipment=HEAD.shipment,
        device=HEAD.device,
        created=HEAD.created,
        sequence=7,
        previous="01" * 32,
        head=HEAD.digest().hex(),
        recipients=(KEY.recipient.fingerprint,),
        contents=packs[0].pack,
        packs=packs,
        canary=SealedCanary("02" * 32, KEY.recipient.fingerprint, HEAD.created),
        waiver="",
        accepted=("Disk 11 is incomplete",),
    )


@contextmanager
def _canary() -> Iterator[Run]:
    told, read = _file()
    with mock.patch.object(canary, "read_bytes", read):

        def run(data: bytes) -> None:
            told[:] = [data]
            attempt(lambda _: canary.who_opened(Path(), HEAD, text.grouped(bytes(16))), b"")
            code = canary.open_code(Path(), HEAD, KEY)
            text.parse_grouped(code, canary.CODE_SIZE, "The code")

        yield run


def _canary_seeds() -> Iterator[bytes]:
    with place() as at:
        canary.create(at, HEAD)
        yield (at / canary.FILE).read_bytes()


def _contents_seed() -> bytes:
    listed = papers.DiskContents(DISK, 0, complete=True, blocks=7, packs=(), facts=SPEC)
    other = replace(listed, point=1, complete=False, blocks=0, facts=None)
    return canon.dump(papers.write_contents(papers.Contents(HEAD.shipment, (listed, other))))


# --- key files --------------------


class _QuickKdf:
    """Argon2id costs 8 MiB at the least: here its parameters alone give the key."""

    def __init__(self, **parameters: object) -> None:
        self._told = repr(sorted(parameters.items())).encode()

    def derive(self, passphrase: bytes) -> bytes:
        return digest(self._told + passphrase)


@contextmanager
def _private() -> Iterator[Run]:
    told, read = _file()
    with (
        mock.patch.object(keys, "Argon2id", _QuickKdf),
        mock.patch.object(keys, "read_small", read),
    ):

        def run(data: bytes) -> None:
            told[:] = [_locked_again(data)]
            attempt(lambda _: read_recipient(Path("fuzz.key")), b"")
            key = unlock(Path("fuzz.key"), _PASSPHRASE)
            assert read_recipient(Path("fuzz.key")) == key.recipient

        yield run


def _locked_again(data: bytes) -> bytes:
    """The key file with its seed encrypted for what the rest of it says now; as it is where
    that is nothing that could be.
    """
    found = parsed(data)
    if not isinstance(found, dict) or not isinstance(found.get("kdf"), dict):
        return data
    bound = {name: one for name, one in found.items() if name != "cipher"}
    kdf = found["kdf"]
    try:
        box = AESGCM(
            _QuickKdf(
                salt=canon.Fields(kdf, "kdf", StoreRefusedError).base64("salt", 16),
                length=32,
                iterations=kdf["iterations"],
                lanes=kdf["lanes"],
                memory_cost=kdf["memory_kib"],
            ).derive(_PASSPHRASE.encode())
        )
        nonce = canon.Fields(found, "key", StoreRefusedError).base64("nonce", 12)
    except (KeyError, StoreRefusedError):
        return data
    cipher = canon.b64(box.encrypt(nonce, KEY.seed(), canonical(bound)))
    return canonical({**bound, "cipher": cipher if "cipher" in found else ""})


def _private_seeds() -> Iterator[bytes]:
    with place() as at:
        write_pair(KEY, at / "key", _PASSPHRASE, 8192)
        yield (at / "key").read_bytes()
        write_pair(PrivateKey("r", "recovery", bytes(32)), at / "other", _PASSPHRASE, 8192)
        yield (at / "other").read_bytes()


@contextmanager
def _public() -> Iterator[Run]:
    told, read = _file()
    with mock.patch.object(keys, "read_small", read):

        def run(data: bytes) -> None:
            told[:] = [data]
            assert read_recipient(Path("fuzz.pub")) == read_public(Path("fuzz.pub"))

        yield run


def _public_seeds() -> Iterator[bytes]:
    with place() as at:
        yield write_pair(KEY, at / "key", _PASSPHRASE, 8192).read_bytes()


# --- what is kept on either side: the input's first byte says which document --------------------


def _one(directory: Path) -> Path:
    (found,) = directory.glob("*.json")
    return found


def _make_course(home: Path) -> Path:
    Course(home, "web01").begin(_ROUND, 3)
    return _one(home / "gate" / "courses")


def _course(home: Path) -> None:
    found = Course(home, "web01")
    leg = found.last()
    if leg is not None and leg.disks:  # whoever has a leg agrees on its disks, one by one
        found.agree(leg, leg.disks[-1], bytes(32))
        told = found.last()
        assert told is not None
        assert len(dict(zip(told.disks, told.roots, strict=True))) == len(leg.disks)
    found.begin(_ROUND, 3)


def _make_note(home: Path) -> Path:
    Notes(home).note("gate", "source", DISK, 5)
    return _one(home / "line" / "disks")


def _note(home: Path) -> None:
    assert len(bytes.fromhex(Notes(home).new_disk("gate", "source", 5))) == 16
    Notes(home).disk("gate", "source")


def _make_code(home: Path) -> Path:
    with mock.patch("os.urandom", bytes):
        Registry(home).invite(bytes(20), "web01", timedelta(days=36500))
    return _one(home / "gate" / "codes")


def _code(home: Path) -> None:
    try:
        Registry(home).enrol(bytes(16), _certificate())
    finally:
        for one in (home / "gate" / "machines").iterdir():
            one.unlink()


def _make_machine(home: Path) -> Path:
    _make_code(home)
    Registry(home).enrol(bytes(16), _certificate())
    return _one(home / "gate" / "machines")


def _machine(home: Path) -> None:
    found = Registry(home)
    listed = [one.fingerprint for one in found.machines()]
    found.refuse_damaged()
    assert len(listed) == 1


def _certificate() -> bytes:
    return certificate_for(LINE_KEY).public_bytes(Encoding.DER)


def _make_gate(home: Path) -> Path:
    Gates(home).note(Enrolled("gate.example:7443", bytes(20), "web01"))
    return _one(home / "line" / "gates")


def _gate(home: Path) -> None:
    for one in Gates(home).all():
        assert len(one.key) == 20
        attempt(lambda _, one=one: Address.parse(one.address), b"")  # type: ignore[misc]


def _make_accepted(home: Path) -> Path:
    Accepted(home).accept(_seal_made())
    return home / "accepted.json"


def _accepted(home: Path) -> None:
    Accepted(home).refuse_older(_seal_made())


def _make_counter(home: Path) -> Path:
    Device.of(home).count(Counter(5, "ab" * 32))
    return home / "device" / "seals.json"


def _counter(home: Path) -> None:
    found = Device.of(home).counter()
    assert replace(_seal_made(), sequence=found.sequence, previous=found.previous).body()


def _make_proved(home: Path) -> Path:
    Proved(home, "ab" * 32).keep(SPEC, Manifest(DISK, 0, BLOCK, SIZE))
    return _one(home / "manifests" / ("ab" * 32))


def _proved(home: Path) -> None:
    Proved(home, "ab" * 32).spec(DISK, 0)


def _make_snapshot(home: Path) -> Path:
    local_tags.write_snapshot(home / "tag.json", local_tags.SnapshotTag(_SNAPSHOT, "reflink", 5))
    return home / "tag.json"


def _snapshot(home: Path) -> None:
    found = local_tags.read_snapshot(home / "tag.json")
    assert found is not None
    assert all(len(bytes.fromhex(one)) == 16 for one in found.spec.disks)
    assert all(len(bytes.fromhex(one)) == 32 for one in found.spec.roots)
    assert len(found.spec.disks) == len(found.spec.roots)
    Form(found.spec.form)


def _make_clone(home: Path) -> Path:
    local_tags.write_clone(home / "tag.json", local_tags.CloneTag(_SNAPSHOT, "copy"))
    return home / "tag.json"


def _clone(home: Path) -> None:
    found = local_tags.read_clone(home / "tag.json")
    assert found is not None
    Form(found.of.form)


def _make_volume(home: Path) -> Path:
    LocalTarget(str(home)).ensure_volume(_VOLUME)
    return home / f"{_VOLUME.name}.json"


def _volume(home: Path) -> None:
    for one in LocalTarget(str(home)).volumes():
        spec = one.spec
        assert all(type(one) is int for one in (spec.size, spec.content, spec.point))
        assert len(bytes.fromhex(spec.disk)) == 16
        assert len(bytes.fromhex(spec.origin)) in {0, 32}
        assert (home / f"{spec.name}.json").exists()
        assert all(type(one) is str for one in (spec.name, spec.disk, spec.origin))


def _make_replica(home: Path) -> Path:
    replica.begin(home, replica.About(SPEC, _VOLUME, BLOCK))
    return home / replica.ABOUT


def _replica(home: Path) -> None:
    found = replica.read_about(home)
    refuse_larger_than_memory(found.spec, found.block_size)


_KEPT: dict[str, tuple[tuple[Callable[[Path], Path], Callable[[Path], None]], ...]] = {
    "line-papers": (
        (_make_course, _course),
        (_make_note, _note),
        (_make_code, _code),
        (_make_machine, _machine),
        (_make_gate, _gate),
    ),
    "books": ((_make_accepted, _accepted), (_make_counter, _counter), (_make_proved, _proved)),
    "tags": (
        (_make_snapshot, _snapshot),
        (_make_clone, _clone),
        (_make_volume, _volume),
        (_make_replica, _replica),
    ),
}


def _kept(name: str) -> Callable[[], AbstractContextManager[Run]]:
    """A home for each document, in which nothing else is; the input takes its place."""

    @contextmanager
    def scene() -> Iterator[Run]:
        with place() as at:
            homes = [at / str(number) for number in range(len(_KEPT[name]))]
            lies = []
            for home, (make, _) in zip(homes, _KEPT[name], strict=True):
                home.mkdir()
                lies.append(make(home))

            def run(data: bytes) -> None:
                number = data[0] % len(homes) if data else 0
                lies[number].write_bytes(data[1:])
                _KEPT[name][number][1](homes[number])

            yield run

    return scene


def _kept_seeds(name: str) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        for number, (make, _) in enumerate(_KEPT[name]):
            with place() as home:
                yield bytes([number]) + make(home).read_bytes()

    return seeds


# --- texts that people type --------------------


def _texts(data: bytes) -> None:
    """Whatever is taken is written the same way again."""
    typed = data.decode(errors="surrogateescape")
    for size in (canary.CODE_SIZE, keys.FINGERPRINT_SIZE, 32):
        attempt(lambda _, size=size: _either(typed, size), b"")  # type: ignore[misc]
    attempt(lambda _: Pins(typed, typed, (typed,)).parsed(), b"")
    attempt(lambda _: _same_code(typed), b"")
    attempt(lambda _: _same_label(typed), b"")
    attempt(lambda _: _same_address(typed), b"")
    attempt(lambda _: parse_limit(typed), b"")


def _either(typed: str, size: int) -> None:
    found = text.parse_either(typed, size, "The text")
    assert len(found) == size
    assert text.parse_grouped(text.grouped(found), size, "The text") == found
    if size != canary.CODE_SIZE:
        assert text.parse_words(text.words(found), size, "The text") == found


def _same_code(typed: str) -> None:
    found = Code.parse(typed)
    assert Code.parse(str(found)) == found


def _same_label(typed: str) -> None:
    found = Label.parse(typed)
    assert Label.parse(str(found)) == found


def _same_address(typed: str) -> None:
    found = Address.parse(typed)
    assert Address.parse(str(found)) == found


def _text_seeds() -> Iterator[bytes]:
    for data in (bytes(range(16)), bytes(range(20)), bytes(range(32))):
        yield text.grouped(data).encode()
        yield data.hex().encode()
        if len(data) > 16:
            yield text.words(data).encode()
    yield str(Code(bytes(20), bytes(16))).encode()
    yield str(Label(bytes(range(32)), bytes(range(20)), "5a5a5a5a")).encode()
    yield b"]Q1mg2 "
    yield from (
        b"gate.example:7443",
        b"[::1]:7443",
        b"fe80::1",
        b"20MB/s@08:00-18:00",
        b"0@22:00-06:00",
    )


_SEAL, _LINE = "appliance/seal/", "appliance/catchup/"


TARGETS = (
    Target(
        "head",
        (_SEAL + "head.py", _SEAL + "canon.py"),
        steady(_head),
        lambda: [HEAD.encode()],
        documents,
    ),
    Target(
        "seal",
        (_SEAL + "statement.py", _SEAL + "identity.py"),
        steady(_seal),
        lambda: [_seal_made().body()],
        documents,
    ),
    Target("canary", (_SEAL + "canary.py",), _canary, _canary_seeds, documents),
    Target(
        "disk-head",
        (_SEAL + "papers.py",),
        steady(lambda data: papers.read_disk_head(data, BLOCK)),
        lambda: [HEAD_RECORD[1][80:]],
        documents,
    ),
    Target(
        "point-end",
        (_SEAL + "papers.py",),
        steady(papers.read_point_end),
        lambda: [end(1, 2)[1][80:]],
        documents,
    ),
    Target(
        "contents",
        (_SEAL + "papers.py",),
        steady(papers.read_contents),
        lambda: [_contents_seed()],
        documents,
    ),
    Target("private-key", (_SEAL + "keys.py",), _private, _private_seeds, documents),
    Target("public-key", (_SEAL + "keys.py",), _public, _public_seeds, documents),
    Target(
        "line-papers",
        tuple(_LINE + one for one in ("course.py", "notes.py", "enrol.py")),
        _kept("line-papers"),
        _kept_seeds("line-papers"),
        behind(1),
    ),
    Target(
        "books",
        tuple(_SEAL + one for one in ("accepted.py", "identity.py", "proved.py", "kept.py")),
        _kept("books"),
        _kept_seeds("books"),
        behind(1),
    ),
    Target(
        "tags",
        ("appliance/cloud/local_tags.py", "appliance/cloud/local.py", _LINE + "replica.py"),
        _kept("tags"),
        _kept_seeds("tags"),
        behind(1),
    ),
    Target(
        "text",
        (_SEAL + "text.py", _SEAL + "label.py", "appliance/rate.py"),
        steady(_texts),
        _text_seeds,
        longest=512,
    ),
)
