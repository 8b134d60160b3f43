"""The canary: a recipient proves that its key opens what will be sealed."""

import json
import os
from pathlib import Path

import pytest

from appliance.errors import BadInputError, CanaryError, StoreRefusedError, UnknownFormatError
from appliance.events import Json
from appliance.seal import canary, canon, text
from appliance.seal.store import Store
from tests.support import OPERATOR, RECOVERY, STRANGER, new_store


def changed(store: Store, **fields: Json) -> None:
    path = store.path / canary.FILE
    path.write_bytes(canon.dump({**json.loads(path.read_bytes()), **fields}))


def test_the_code_a_recipient_reads_out_names_the_recipient(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    codes = set()
    for key in (OPERATOR, RECOVERY):
        code = canary.open_code(store.path, store.head, key)
        heard = code.lower().replace("-", " ")
        assert canary.who_opened(store.path, store.head, heard) == key.recipient.fingerprint
        codes.add(code)
    assert len(codes) == 2


def test_the_device_cannot_know_the_code(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    code = text.parse_grouped(canary.open_code(store.path, store.head, OPERATOR), 16, "")
    written = (store.path / canary.FILE).read_bytes()
    assert code not in written
    assert code.hex().encode() not in written


def test_a_stranger_gets_no_code(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    with pytest.raises(CanaryError, match="does not open"):
        canary.open_code(store.path, store.head, STRANGER)


def test_a_made_up_code_is_nobodys(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    with pytest.raises(CanaryError, match="not that of any recipient"):
        canary.who_opened(store.path, store.head, text.grouped(os.urandom(16)))
    with pytest.raises(BadInputError):
        canary.who_opened(store.path, store.head, "hello")


def test_the_canary_of_another_shipment_is_refused(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path, name="one")
    other, _ = new_store(tmp_path, name="two")
    path = store.path / canary.FILE
    path.write_bytes((other.path / canary.FILE).read_bytes())
    with pytest.raises(CanaryError, match="another shipment"):
        canary.open_code(store.path, store.head, OPERATOR)
    changed(store, shipment=store.head.shipment)
    with pytest.raises(CanaryError, match="does not open"):
        canary.open_code(store.path, store.head, OPERATOR)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "x"},
        {"wraps": []},
        {"wraps": [{"proof": "", "recipient": "", "wrap": ""}]},
        {"shipment": ""},
        {"more": 1},
    ],
    ids=str,
)
def test_a_canary_of_another_form_is_refused(tmp_path: Path, fields: dict[str, Json]) -> None:
    store, _ = new_store(tmp_path)
    changed(store, **fields)
    with pytest.raises(StoreRefusedError, match=r"canary\.json"):
        canary.open_code(store.path, store.head, OPERATOR)


def test_a_missing_or_unreadable_canary_is_told(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    path = store.path / canary.FILE
    path.unlink()
    with pytest.raises(CanaryError, match="has no"):
        canary.open_code(store.path, store.head, OPERATOR)
    path.mkdir()
    with pytest.raises(CanaryError, match="cannot be read"):
        canary.open_code(store.path, store.head, OPERATOR)


def test_a_canary_in_another_order_or_of_a_later_version_is_refused(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    wraps = json.loads((store.path / canary.FILE).read_bytes())["wraps"]
    for other in (wraps[::-1], wraps[:1], [*wraps, wraps[0]]):
        changed(store, wraps=other)
        with pytest.raises(CanaryError, match="in their order"):
            canary.open_code(store.path, store.head, OPERATOR)
    changed(store, wraps=wraps)
    assert canary.open_code(store.path, store.head, OPERATOR)
    changed(store, version=2)
    with pytest.raises(UnknownFormatError, match=r"canary\.json is of format version 2"):
        canary.open_code(store.path, store.head, OPERATOR)
