"""Every vector in tests/vectors/wire, replayed: good frames are read as promised and written as
they stand there, damaged ones refused by the promised name; keys, codes, manifests and patches
come to what they came to.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict, cast

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.catchup import wire
from appliance.catchup.enrol import Code
from appliance.catchup.identity import key_of
from appliance.catchup.replica import MANIFEST, Replica, Staged
from appliance.catchup.wire import HEAD, MESSAGES, Message
from appliance.errors import MotionGearError, WireViolationError
from appliance.model import Digest, DiskId
from appliance.seal import text
from appliance.seal.keys import fingerprint
from appliance.seal.manifest import Manifest, State
from tests.wire_vectors import (
    BLOCK_SIZE,
    WIRE,
    damaged,
    frames,
    later,
    name_of,
    plain,
    primitives,
    told,
)

Runs = list[tuple[str, int]]


class Good(TypedDict):
    about: str
    fields: dict[str, object]
    frame: str
    kind: int
    name: str


class Later(TypedDict):
    about: str
    fields: dict[str, object] | None
    frame: str
    name: str | None


class Damaged(TypedDict):
    about: str
    belongs: str
    frame: str
    refused: str


class OfPatch(TypedDict):
    about: str
    ack: str
    after: Runs
    before: Runs
    frame: str
    payload: Runs | None


class RefusedPatch(TypedDict):
    about: str
    before: Runs
    frame: str
    whole: str | None


class OfManifest(TypedDict):
    block_size: int
    disk: str
    entries: list[tuple[str, int, int]]
    pages: list[str]
    point: int
    root: str
    size: int


GOOD = cast("list[Good]", json.loads((WIRE / "frames.json").read_bytes()))
LATER = cast("list[Later]", json.loads((WIRE / "later.json").read_bytes()))
DAMAGED = cast("list[Damaged]", json.loads((WIRE / "damaged.json").read_bytes()))
PRIMITIVES = json.loads((WIRE / "primitives.json").read_bytes())
PATCHES = cast("list[OfPatch]", PRIMITIVES["patches"])
REFUSED_PATCHES = cast("list[RefusedPatch]", PRIMITIVES["refused_patches"])
MANIFESTS = cast("list[OfManifest]", PRIMITIVES["manifests"])
KIND = {name_of(kind): kind for kind in MESSAGES.values()}


def taken(frame: bytes, kind: type[Message]) -> Message:
    length, found = wire.limit(frame[: HEAD.size], [kind])
    assert length == len(frame) - HEAD.size
    return wire.parse(found, memoryview(frame)[HEAD.size :])


def bytes_of(runs: Runs) -> bytes:
    return plain([(bytes.fromhex(one), count) for one, count in runs])


@pytest.mark.parametrize("vector", GOOD, ids=lambda one: one["about"])
def test_a_good_frame_is_read_and_written_as_promised(vector: Good) -> None:
    frame = bytes.fromhex(vector["frame"])
    found = taken(frame, KIND[vector["name"]])
    assert found.kind == vector["kind"]
    assert told(found) == vector["fields"]
    assert wire.encode(found) == frame


@pytest.mark.parametrize("vector", LATER, ids=lambda one: one["about"])
def test_of_a_later_frame_what_is_known_is_read(vector: Later) -> None:
    frame = bytes.fromhex(vector["frame"])
    if vector["name"] is None:
        asides = wire.SENDER_ASIDES if frame[4] < 64 else wire.GATE_ASIDES
        length, found = wire.limit(frame[: HEAD.size], [], asides=asides)
        assert (length, found) == (len(frame) - HEAD.size, wire.Aside)
        wire.parse(found, memoryview(frame)[HEAD.size :])
    else:
        assert told(taken(frame, KIND[vector["name"]])) == vector["fields"]


def test_there_is_a_good_frame_of_every_kind() -> None:
    assert {one["kind"] for one in GOOD} == MESSAGES.keys()


@pytest.mark.parametrize("vector", DAMAGED, ids=lambda one: one["about"])
def test_a_damaged_frame_is_refused_as_promised(vector: Damaged) -> None:
    with pytest.raises(MotionGearError) as caught:
        taken(bytes.fromhex(vector["frame"]), KIND[vector["belongs"]])
    assert caught.value.name == vector["refused"]


def test_the_vectors_are_those_that_would_be_made_now() -> None:
    """But for the certificate, whose serial number is random."""
    kept = [(one["about"], one["name"], one["frame"]) for one in GOOD]
    made = [(about, name_of(type(one)), wire.encode(one).hex()) for about, one in frames()]
    assert [one[:2] for one in kept] == [one[:2] for one in made]
    assert {about for (about, _, one), (_, _, other) in zip(kept, made, strict=True)
        if one != other} <= {"Enrolment"}  # fmt: skip
    assert [(one["about"], one["belongs"], one["frame"]) for one in DAMAGED] == [
        (about, name, frame.hex()) for about, name, frame in damaged()
    ]
    now = primitives()
    assert {**PRIMITIVES, "certificate": now["certificate"]} == now
    assert [(one["about"], one["frame"]) for one in LATER] == [
        (about, frame.hex()) for about, _, frame in later()
    ]


def test_a_key_and_its_certificate_come_to_the_fingerprint() -> None:
    key, certificate = PRIMITIVES["key"], bytes.fromhex(PRIMITIVES["certificate"])
    secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["seed"]))
    public = secret.public_key().public_bytes_raw()
    assert public.hex() == key["public"]
    assert fingerprint(public).hex() == key_of(certificate).hex() == key["fingerprint"]
    assert text.grouped(fingerprint(public)) == key["text"]


def test_a_code_is_written_and_read_as_promised() -> None:
    told_code = PRIMITIVES["code"]
    code = Code(bytes.fromhex(told_code["gate"]), bytes.fromhex(told_code["token"]))
    assert str(code) == told_code["text"]
    assert Code.parse(told_code["text"]) == code
    check = blake3(code.gate + code.token, derive_key_context="motiongear/1 enrolment code")
    assert text.grouped(code.gate + code.token + check.digest()[:4]) == told_code["text"]


@pytest.mark.parametrize("vector", MANIFESTS, ids=lambda one: one["disk"])
def test_a_manifest_comes_to_its_pages_and_root(vector: OfManifest) -> None:
    found = Manifest(DiskId(vector["disk"]), vector["point"], vector["block_size"], vector["size"])
    entries = [one for one in vector["entries"] for _ in range(one[2])]
    assert len(entries) == found.blocks
    for index, (digest, state, _) in enumerate(entries):
        found.set(index, Digest(bytes.fromhex(digest)), State(state))
    assert [one.hex() for one in found.page_digests()] == vector["pages"]
    assert found.root().hex() == vector["root"]


class Held:
    """A Volume over bytes."""

    fresh = False

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def pread(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.data[offset : offset + len(buffer)]

    def pwrite(self, offset: int, data: memoryview | bytes) -> None:
        self.data[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self.data[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        """Nothing is kept back."""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[tuple[Held, Replica]]:
    """The volume of the first manifest, as it is before the patch."""
    before = bytes_of(PATCHES[0]["before"])
    manifest = Manifest(DiskId("a1" * 16), 7, BLOCK_SIZE, BLOCK_SIZE + len(before))
    manifest.save(tmp_path / MANIFEST)
    held = Held(bytes(BLOCK_SIZE) + before)
    yield held, Replica(tmp_path, held)
    assert held.data[:BLOCK_SIZE] == bytes(BLOCK_SIZE)


@pytest.mark.parametrize("vector", PATCHES, ids=lambda one: one["about"])
def test_a_patch_makes_the_block_after_of_the_block_before(
    volume: tuple[Held, Replica], vector: OfPatch
) -> None:
    frame = bytes.fromhex(vector["frame"]) + bytes_of(vector["payload"] or [])
    patch = taken(frame, wire.Patch)
    assert isinstance(patch, wire.Patch)
    held, replica = volume
    assert bytes(held.data[BLOCK_SIZE:]) == bytes_of(vector["before"])
    staged = replica.stage(patch)
    assert isinstance(staged, Staged)
    (ack,) = replica.write([staged])
    assert wire.encode(ack).hex() == vector["ack"]
    assert bytes(held.data[BLOCK_SIZE:]) == bytes_of(vector["after"])


@pytest.mark.parametrize("vector", REFUSED_PATCHES, ids=lambda one: one["about"])
def test_a_patch_that_does_not_fit_is_refused_and_writes_nothing(
    volume: tuple[Held, Replica], vector: RefusedPatch
) -> None:
    patch = taken(bytes.fromhex(vector["frame"]), wire.Patch)
    assert isinstance(patch, wire.Patch)
    held, replica = volume
    if vector["whole"] is None:
        with pytest.raises(WireViolationError):
            replica.stage(patch)
    else:
        assert replica.stage(patch) is None
        assert wire.encode(wire.Whole(patch.index)).hex() == vector["whole"]
    assert bytes(held.data[BLOCK_SIZE:]) == bytes_of(vector["before"])


def test_the_vectors_of_the_line_stay_small() -> None:
    assert sum(one.stat().st_size for one in WIRE.iterdir()) < 100_000
