"""The text of a label: what is forgiven, and what is told as mistyped."""

import json
from random import Random
from typing import TypedDict, cast

import pytest
import segno
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadInputError, MotionGearError
from appliance.model import ShipmentId
from appliance.seal import label as labels
from appliance.seal.label import Label
from tests import label_vectors


class Vector(TypedDict, total=False):
    about: str
    device: str
    root: str
    shipment: str
    text: str
    typed: str
    refused: str


VECTORS = cast("dict[str, list[Vector]]", json.loads(label_vectors.FILE.read_bytes()))
GOOD = VECTORS["labels"][0]["text"]
SOME = st.builds(
    lambda data: Label(data[:32], data[32:52], data[52:].hex()),
    st.binary(min_size=56, max_size=56),
)


def test_the_vectors_are_what_they_were() -> None:
    assert label_vectors.document() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["labels"])
def test_a_label_is_what_the_document_says(vector: Vector) -> None:
    """By the letters of the specification, without a line of ours."""
    body = bytes.fromhex(vector["root"] + vector["device"] + vector["shipment"])
    check = blake3(body, derive_key_context="motiongear/1 label").digest(4)
    bits = int.from_bytes(body + check, "big")
    letters = [
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[bits >> 5 * place & 31] for place in range(95, -1, -1)
    ]
    assert vector["text"] == "MG1" + "".join(letters)
    read = Label.parse(vector["text"])
    assert (read.root.hex(), read.device.hex()) == (vector["root"], vector["device"])
    assert read.is_of(ShipmentId(vector["shipment"] + "0" * 24))
    assert not read.is_of(ShipmentId("1" + vector["shipment"] + "0" * 23))


@pytest.mark.parametrize("vector", VECTORS["typed"], ids=lambda one: one["about"])
def test_what_scanners_and_fingers_add_is_forgiven(vector: Vector) -> None:
    assert str(Label.parse(vector["typed"])) == vector["text"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda one: one["about"])
def test_what_is_no_label_is_refused_by_name(vector: Vector) -> None:
    with pytest.raises(MotionGearError) as caught:
        Label.parse(vector["typed"])
    assert caught.value.name == vector["refused"]


@given(SOME)
def test_a_label_comes_back(label: Label) -> None:
    assert Label.parse(str(label)) == label


@given(SOME, st.integers(3, labels.SIZE - 1), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_another_letter_is_a_mistyped_label_and_no_other_device(
    label: Label, place: int, letter: str
) -> None:
    text = str(label)
    if text[place] == letter:
        return
    with pytest.raises(BadInputError, match="misread or mistyped"):
        Label.parse(text[:place] + letter + text[place + 1 :])


def test_a_keyboard_of_another_layout_is_noticed() -> None:
    """A scanner that speaks to a computer set to German, where Y and Z have changed places."""
    typed = str(Label(Random(1).randbytes(32), bytes(20), "00000000"))
    assert {"Y", "Z"} & set(typed)
    with pytest.raises(BadInputError, match="misread or mistyped") as caught:
        Label.parse(typed.translate(str.maketrans("YZ", "ZY")))
    assert "layout" in caught.value.todo_now


@pytest.mark.parametrize("typed", ["", " \r\n", "]Q1"])
def test_where_nothing_was_scanned_that_is_said(typed: str) -> None:
    with pytest.raises(BadInputError, match="No label was scanned or typed"):
        Label.parse(typed)


@given(SOME)
def test_wide_letters_of_an_input_method_are_read(label: Label) -> None:
    wide = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
    assert Label.parse(str(label).translate(wide)) == label


def test_a_qr_code_holds_it_in_its_dense_mode() -> None:
    assert len(GOOD) == labels.SIZE < 100
    assert segno.make_qr(GOOD, error="q", boost_error=False).designator == "6-Q"
