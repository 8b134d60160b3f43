"""Every vector in tests/vectors, replayed: good stores are read as promised, damaged ones refused
by the promised name, without a key where that is promised.
"""

import hmac
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, cast

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.seal import canon, opening, statement, verify
from appliance.seal.accepted import Accepted
from appliance.seal.cut import digest
from appliance.seal.keys import PrivateKey
from appliance.seal.pointmap import PointMap
from appliance.seal.recover import recover
from appliance.seal.verify import Pins, Trust
from tests import promise
from tests.promise import PLACE, Edit, apply

GOOD = sorted(one.name for one in PLACE.glob("good-*"))


class Damaged(TypedDict, total=False):
    about: str
    base: str
    edits: list[Edit]
    keyless: bool
    refused: str
    device: str
    root: str
    recipients: list[str]
    accepted: int
    seed: str


DAMAGED = cast("list[Damaged]", json.loads((PLACE / "damaged.json").read_bytes()))
ACCEPTED = cast("list[dict[str, Json]]", json.loads((PLACE / "accepted.json").read_bytes()))
PRIMITIVES = json.loads((PLACE / "primitives.json").read_bytes())


def read(name: str) -> dict[str, object]:
    return cast("dict[str, object]", json.loads((PLACE / name / "vector.json").read_bytes()))


def keys_of(vector: dict[str, object]) -> list[PrivateKey]:
    listed = cast("list[dict[str, str]]", vector["keys"])
    return [PrivateKey(one["name"], one["role"], bytes.fromhex(one["seed"])) for one in listed]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_store_is_read_as_promised(name: str) -> None:
    vector, path = read(name), PLACE / name / "store"
    device, root = cast("dict[str, str]", vector["device"]), cast("dict[str, str]", vector["root"])
    sealed = verify.inspect(path, Pins(device["fingerprint"], root["words"]))
    assert sealed.trust is Trust.AUTHENTIC
    assert verify.verify(sealed).problems == []
    keys = keys_of(vector)
    for key in keys:
        maps: list[PointMap] = []
        assert opening.open_all(sealed, key, proved=maps.append).problems == []
        told = promise.of_store(sealed, maps, keys, key)
        assert {"about": vector["about"], **told} == vector


@pytest.mark.parametrize("name", GOOD)
def test_a_good_store_is_recovered_from_its_packs(tmp_path: Path, name: str) -> None:
    vector = read(name)
    packs = sorted((PLACE / name / "store" / "packs").iterdir())
    found, lost = recover(packs, keys_of(vector)[0], tmp_path)
    assert lost == []
    contents = {
        one["disk"]: one["content"] for one in cast("list[dict[str, str]]", vector["disks"])
    }
    for one in found:
        whole = digest(one.path.read_bytes()).hex()
        assert contents[one.spec.disk] == (whole if one.ended else None)


@pytest.mark.parametrize(
    "vector", DAMAGED, ids=[f"{one['base']}: {one['about']}" for one in DAMAGED]
)
def test_a_damaged_store_is_refused_as_promised(tmp_path: Path, vector: Damaged) -> None:
    store = tmp_path / "store"
    shutil.copytree(PLACE / vector["base"] / "store", store)
    for edit in vector["edits"]:
        apply(store, edit)
    good = read("good-plain")
    seed = vector.get("seed")
    key = PrivateKey("a", "operator", bytes.fromhex(seed)) if seed else keys_of(good)[0]
    assert refusal(tmp_path, store, vector, None) == (
        vector["refused"] if vector["keyless"] else ""
    )
    assert refusal(tmp_path, store, vector, key) == vector["refused"]


def refusal(place: Path, store: Path, vector: Damaged, key: PrivateKey | None) -> str:
    """The name of the first refusal, without a key or with one; empty when there is none."""
    book = Accepted(place)
    if "accepted" in vector:
        last = statement.read(store)
        book.accept(replace(last, sequence=vector["accepted"], waiver="a later one"))
    pins = Pins(
        vector.get("device", ""), vector.get("root", ""), tuple(vector.get("recipients", ()))
    )
    try:
        sealed = verify.inspect(store, pins, book)
        verify.verify(sealed).refuse()
        if key is not None:
            opening.open_all(sealed, key).refuse()
    except MotionGearError as exc:
        return exc.name
    return ""


@pytest.mark.parametrize("vector", ACCEPTED, ids=[str(one["about"]) for one in ACCEPTED])
def test_what_is_left_of_a_damaged_store_is_as_promised(
    tmp_path: Path, vector: dict[str, Json]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(PLACE / str(vector["base"]) / "store", store)
    for edit in cast("list[Edit]", vector["edits"]):
        apply(store, edit)
    told = promise.of_damaged(store, keys_of(read("good-plain"))[0])
    assert {one: vector[one] for one in ("about", "base", "edits")} | told == vector


def test_the_primitives_are_what_they_were() -> None:
    key = PRIMITIVES["key"]
    assert (
        promise.of_primitives(
            json.loads(bytes.fromhex(PRIMITIVES["canonical"])),
            PrivateKey(key["name"], key["role"], bytes.fromhex(key["seed"])),
            bytes.fromhex(PRIMITIVES["pack_secret"]),
            bytes.fromhex(PRIMITIVES["pack_context"]),
            bytes.fromhex(PRIMITIVES["wrap"]["bytes"]),
        )
        == PRIMITIVES
    )


def test_a_wrap_opens_by_the_parts_that_the_document_names() -> None:
    """RFC 9180, 5.1, base mode, for a shared secret that comes from X-Wing's own parts."""
    wrap, info = (bytes.fromhex(PRIMITIVES["wrap"][one]) for one in ("bytes", "info"))
    suite = b"HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, label: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite + label + secret, "sha256")

    def expand(label: bytes, length: int) -> bytes:
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + about
        return hmac.digest(schedule, labelled + b"\1", "sha256")[:length]

    shared = bytes.fromhex(PRIMITIVES["wrap"]["kem_secret"])
    about = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    schedule = extract(shared, b"secret", b"")
    box, nonce = AESGCM(expand(b"key", 32)), expand(b"base_nonce", 12)
    assert box.decrypt(nonce, wrap[1120:], b"").hex() == PRIMITIVES["pack_secret"]
    assert PRIMITIVES["wrap"]["opened"] == PRIMITIVES["pack_secret"]


def test_the_key_of_the_first_vector_in_the_draft_of_x_wing() -> None:
    seed = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"
    public = PrivateKey("draft", "operator", bytes.fromhex(seed)).recipient.key
    assert public[:32].hex() == "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5"


def test_the_signature_of_a_seal_is_over_the_text_that_the_document_gives() -> None:
    told = {name: bytes.fromhex(one) for name, one in PRIMITIVES["seal"].items()}
    signer = Ed25519PrivateKey.from_private_bytes(told["seed"])
    assert signer.sign(told["message"]) == told["signature"]
    assert signer.public_key().public_bytes_raw() == told["public"]
    before, body = told["message"].split(b"\0", 1)
    assert before == b"motiongear/1 seal"
    assert blake3(body, derive_key_context="motiongear/1 seal root").digest() == told["root"]
    signed = canon.dump({"seal": json.loads(body), "signature": told["signature"].hex()})
    assert statement.parse(signed).root() == told["root"]


def test_the_vectors_stay_small() -> None:
    files = [one for one in PLACE.rglob("*") if one.is_file()]
    assert sum(one.stat().st_size for one in files) < 2_500_000
