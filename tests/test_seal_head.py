"""head.json and the making of a shipment: every field, and what an enemy may put there."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from appliance.errors import (
    BadInputError,
    ExistsError,
    HeadDamagedError,
    MotionGearError,
    NotAStoreError,
    UnknownFormatError,
)
from appliance.events import Event, Json, Step
from appliance.seal import canary, canon, head, opening, verify
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey, Recipient
from appliance.seal.store import SEAL, Store
from appliance.seal.writer import StoreWriter
from tests.readout import problems
from tests.support import (
    OPERATOR,
    RECOVERY,
    new_store,
    point,
    put_blocks,
    seal_it,
    sealed_sample,
)


def changed(place: Path, **fields: Json) -> bytes:
    """The head of a new store with other fields, in canonical form."""
    document = json.loads(new_store(place)[0].head.encode())
    document.update(fields)
    return canon.dump(document)


def test_a_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    found = head.read(store.path)
    assert found == store.head
    assert found.device == device.public
    assert found.recipients == (OPERATOR.recipient, RECOVERY.recipient)
    assert not Store(store.path).sealed


@pytest.mark.parametrize(
    "fields",
    [{"format": "tar"}, {"version": 2}, {"features": ["sparse"]}, {"features": ["parity" * 100]}],
    ids=["format", "version", "feature", "long feature"],
)
def test_what_a_later_release_wrote_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Json]
) -> None:
    with pytest.raises(UnknownFormatError, match=r"format|feature"):
        head.parse(changed(tmp_path, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"block_size": 3 << 16},
        {"block_size": 1 << 15},
        {"block_size": 1 << 25},
        {"block_size": 1 << 52},
        {"created": "today"},
        {"device": "ff"},
        {"extra": 1},
        {"features": [[]]},
        {"features": [{}]},
        {"features": 1},
        {"features": ["x"] * 65},
        {"features": ["x" * 1025]},
        {"format": 1},
        {"label": ""},
        {"label": "x" * 129},
        {"recipients": []},
        {"recipients": [{}] * 17},
        {"recipients": ["key"]},
        {"shipment": "00" * 15},
        {"version": True},
    ],
    ids=lambda fields: str(fields)[:30],
)
def test_a_field_that_no_writer_writes_is_refused(tmp_path: Path, fields: dict[str, Json]) -> None:
    with pytest.raises(HeadDamagedError):
        head.parse(changed(tmp_path, **fields))


@pytest.mark.parametrize("label", ["x", "x" * 128], ids=len)
def test_a_label_has_up_to_128_characters(tmp_path: Path, label: str) -> None:
    assert head.parse(changed(tmp_path, label=label)).label == label


def test_one_key_under_two_names_is_refused(tmp_path: Path) -> None:
    document = json.loads(changed(tmp_path))
    twin = {**document["recipients"][0], "name": "another"}
    with pytest.raises(HeadDamagedError, match="twice"):
        head.parse(canon.dump({**document, "recipients": [document["recipients"][0], twin]}))


def test_a_head_beyond_64_kib_is_not_parsed(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    with (store.path / head.FILE).open("r+b") as out:
        out.truncate(1 << 40)
    with pytest.raises(HeadDamagedError, match="longer than 65536"):
        Store(store.path)


def test_a_directory_that_is_no_store_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match=r"head\.json"):
        Store(tmp_path)
    store, _ = new_store(tmp_path)
    store.packs.rmdir()
    with pytest.raises(NotAStoreError, match="packs"):
        Store(store.path)


def test_a_pipe_in_place_of_the_head_does_not_hold_anybody_up(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    (store.path / head.FILE).unlink()
    os.mkfifo(store.path / head.FILE)
    with pytest.raises(NotAStoreError):
        Store(store.path)


def test_a_shipment_is_not_made_over_something_else(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    before = store.head.encode()
    for there in (store.path, store.path / head.FILE):
        with pytest.raises(ExistsError):
            Store.create(there, "again", device, (OPERATOR.recipient,))
    assert head.read(store.path).encode() == before


@pytest.mark.parametrize(
    ("label", "recipients", "block_size"),
    [
        ("x", (), 1 << 16),
        ("", (OPERATOR.recipient,), 1 << 16),
        ("x", (OPERATOR.recipient,), 1000),
        ("x", (OPERATOR.recipient, OPERATOR.recipient), 1 << 16),
        ("x", tuple(PrivateKey.generate(f"{i}").recipient for i in range(17)), 1 << 16),
    ],
    ids=["nobody", "no label", "block size", "one twice", "too many"],
)
def test_a_shipment_that_no_reader_would_take_leaves_nothing_behind(
    tmp_path: Path, label: str, recipients: tuple[Recipient, ...], block_size: int
) -> None:
    place = tmp_path / "store"
    with pytest.raises(BadInputError):
        Store.create(place, label, Device.of(tmp_path), recipients, block_size)
    assert not place.exists()


def test_every_flipped_byte_of_the_head_is_another_head_or_none(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    whole, seen = store.head.encode(), set[str]()
    for place in range(0, len(whole), 7):
        try:
            found = head.parse(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        except MotionGearError as exc:
            seen.add(exc.name)
        else:
            assert found.digest() != store.head.digest()
    assert seen == {"head-damaged", "unknown-format"}


def test_features_of_the_packs_concern_who_opens_or_writes_them(tmp_path: Path) -> None:
    """Whoever verifies without a key goes on, and says so."""
    made, device, data = sealed_sample(tmp_path)
    later = replace(made.head, features_inside=("known", "more"))
    assert head.parse(later.encode()) == later
    with patch.object(head, "KNOWN_FEATURES", frozenset(["known", "more"])):
        place = Store(shutil.copytree(made.path, tmp_path / "later"))
        (place.path / SEAL).unlink()
        for one in (*place.packs.iterdir(), place.path / canary.FILE):
            one.unlink()
        canary.create(place.path, later)
        head.write(place.path, later)
        store = Store(place.path)
        put_blocks(store, data, point(data))
        seal_it(store, device, point(data))
        assert problems(store.path, OPERATOR) == []
    for known in (frozenset[str](), frozenset(["known"])):
        with patch.object(head, "KNOWN_FEATURES", known):
            first = "'more'" if known else "'known'"
            told: list[Event] = []
            found = verify.inspect(store.path, verify.Pins())
            assert verify.verify(found, told.append).problems == []
            steps = [one.detail for one in told if isinstance(one, Step)]
            assert f"to open the packs takes features unknown here: {first}" in steps
            asked: list[Callable[[], object]] = [
                partial(opening.open_all, found, OPERATOR),
                partial(opening.disks_of, found, OPERATOR),
            ]
            (store.path / SEAL).rename(tmp_path / "aside")
            asked += [partial(StoreWriter, store), partial(seal_it, store, device)]
            for ask in asked:
                with pytest.raises(UnknownFormatError, match=f"The packs use the feature {first}"):
                    ask()
            (tmp_path / "aside").rename(store.path / SEAL)
