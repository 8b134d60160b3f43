"""Every vector in tests/vectors, replayed: good stores are read as promised, damaged ones refused
by the promised name, without a key where that is promised.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, cast

import pytest

from appliance.errors import MotionGearError
from appliance.seal import opening, statement, verify
from appliance.seal.accepted import Accepted
from appliance.seal.cut import digest
from appliance.seal.keys import PrivateKey
from appliance.seal.pointmap import PointMap
from appliance.seal.recover import recover
from appliance.seal.verify import Pins, Trust
from tests import promise
from tests.promise import PLACE

GOOD = sorted(one.name for one in PLACE.glob("good-*"))


Edit = TypedDict(
    "Edit",
    {"do": str, "file": str, "with": str, "from": str, "at": int, "mask": int, "size": int},
    total=False,
)


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
PRIMITIVES = json.loads((PLACE / "primitives.json").read_bytes())


def read(name: str) -> dict[str, object]:
    return cast("dict[str, object]", json.loads((PLACE / name / "vector.json").read_bytes()))


def keys_of(vector: dict[str, object]) -> list[PrivateKey]:
    listed = cast("list[dict[str, str]]", vector["keys"])
    return [PrivateKey(one["name"], one["role"], bytes.fromhex(one["seed"])) for one in listed]


def apply(store: Path, edit: Edit) -> None:
    path = store / edit["file"]
    match edit["do"]:
        case "flip":
            data = bytearray(path.read_bytes())
            data[edit["at"]] ^= edit["mask"]
            path.write_bytes(data)
        case "cut":
            with path.open("r+b") as out:
                out.truncate(edit["size"])
        case "remove":
            path.unlink()
        case "swap":
            aside = store.with_name("aside")
            path.rename(aside)
            (store / edit["with"]).rename(path)
            aside.rename(store / edit["with"])
        case "copy":
            shutil.copyfile(PLACE / edit["from"], path)
        case unknown:
            raise ValueError(unknown)


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


def test_the_primitives_are_what_they_were() -> None:
    key = PRIMITIVES["key"]
    assert (
        promise.of_primitives(
            json.loads(bytes.fromhex(PRIMITIVES["canonical"])),
            PrivateKey(key["name"], key["role"], bytes.fromhex(key["seed"])),
            bytes.fromhex(PRIMITIVES["pack_secret"]),
            bytes.fromhex(PRIMITIVES["pack_context"]),
        )
        == PRIMITIVES
    )


def test_the_vectors_stay_small() -> None:
    files = [one for one in PLACE.rglob("*") if one.is_file()]
    assert sum(one.stat().st_size for one in files) < 1_500_000
