"""The envelope: who can open a pack, and what its keys are bound to."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from appliance.errors import PackDamagedError, RecordDamagedError, WrongKeyError
from appliance.model import DiskId, PackId, ShipmentId
from appliance.seal import envelope
from appliance.seal.envelope import PackKeys, unwrap, wrap
from appliance.seal.layout import (
    FRAME_HEAD,
    INDEX,
    TAG,
    PackHead,
    frame_bytes,
    parse_frame,
    parse_pack_head,
)
from tests.forge import pack_head
from tests.support import OPERATOR, RECOVERY, STRANGER, new_store

PLAIN = b"p" * (4096 - FRAME_HEAD - TAG)


def created(place: Path) -> tuple[PackHead, PackKeys, bytes, list[bytes]]:
    store, _ = new_store(place)
    keys, data = PackKeys.create(pack_head(store), store.head.recipients)
    head, commitment, wraps = parse_pack_head(data)
    return head, keys, commitment, wraps


def test_every_recipient_opens_what_the_writer_sealed(tmp_path: Path) -> None:
    head, keys, commitment, wraps = created(tmp_path)
    frame, back = bytearray(4096), bytearray(len(PLAIN))
    keys.seal_record(3, memoryview(PLAIN), memoryview(frame))
    index = keys.seal_index(PLAIN, 3)
    for key in (OPERATOR, RECOVERY):
        mine = PackKeys.unlock(head, commitment, wraps, key)
        mine.open_record(3, memoryview(frame), memoryview(back))
        assert back == PLAIN
        assert mine.open_index(index, 3) == PLAIN
        with pytest.raises(RecordDamagedError, match="Record 4"):
            mine.open_record(4, memoryview(frame), memoryview(back))
        with pytest.raises(PackDamagedError, match="index"):
            mine.open_index(index, 4)


def test_an_index_says_how_long_it_is(tmp_path: Path) -> None:
    _, keys, _, _ = created(tmp_path)
    index = keys.seal_index(PLAIN, 3)
    assert parse_frame(index) == (INDEX, len(PLAIN) + TAG)
    with pytest.raises(PackDamagedError, match="index"):
        keys.open_index(frame_bytes(INDEX, len(PLAIN)) + index[FRAME_HEAD:], 3)


def test_an_index_that_was_bound_to_another_length_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, keys, _, _ = created(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(envelope, "TAG", 0)
        lie = keys.seal_index(PLAIN, 3)
    with pytest.raises(PackDamagedError, match="index"):
        keys.open_index(lie, 3)


def test_a_stranger_opens_nothing(tmp_path: Path) -> None:
    head, _, commitment, wraps = created(tmp_path)
    with pytest.raises(WrongKeyError) as caught:
        PackKeys.unlock(head, commitment, wraps, STRANGER)
    assert caught.value.name == "wrong-key"


def test_the_keys_are_bound_to_every_field_of_the_head(tmp_path: Path) -> None:
    head, _, commitment, wraps = created(tmp_path)
    for other in (
        replace(head, shipment=ShipmentId("22" * 16)),
        replace(head, head_digest=bytes(32)),
        replace(head, pack=PackId("33" * 16)),
        replace(head, disk=DiskId("44" * 16)),
        replace(head, point=1),
        replace(head, session=1),
        replace(head, sequence=1),
        replace(head, block_size=1 << 20),
        replace(head, start=1),
    ):
        with pytest.raises(WrongKeyError):
            PackKeys.unlock(other, commitment, wraps, OPERATOR)


def test_a_pack_that_opens_under_two_keys_is_refused(tmp_path: Path) -> None:
    head, _, commitment, wraps = created(tmp_path)
    context = b"motiongear/1 wrap" + blake3(head.context_bytes()).digest()
    other = [wraps[0], wrap(os.urandom(32), RECOVERY.recipient, context)]
    assert PackKeys.unlock(head, commitment, other, OPERATOR).commitment == commitment
    with pytest.raises(PackDamagedError, match="does not commit"):
        PackKeys.unlock(head, commitment, other, RECOVERY)


def test_a_wrap_of_another_length_or_use_opens_nothing() -> None:
    short = wrap(b"x" * 31, OPERATOR.recipient, b"use")
    good = wrap(b"x" * 32, OPERATOR.recipient, b"use")
    assert unwrap([bytes(1168), b"", short, good], OPERATOR, b"use") == b"x" * 32
    assert unwrap([short], OPERATOR, b"use") is None
    assert unwrap([good], OPERATOR, b"another use") is None
    assert len(good) == 1168
