"""Digests as people type them: what is forgiven, what is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli import drawing
from appliance.errors import BadInputError
from appliance.seal import text

FINGERPRINT = bytes(range(20))
ROOT = bytes(range(32))


@given(st.sampled_from([16, 20, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_grouped_text_comes_back(data: bytes) -> None:
    assert text.parse_grouped(text.grouped(data), len(data), "It") == data


@given(st.sampled_from([20, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_words_come_back(data: bytes) -> None:
    spoken = text.words(data)
    assert len(spoken.split()) == {20: 15, 32: 24}[len(data)]
    assert text.parse_either(spoken.upper(), len(data), "It") == data


def test_case_spaces_and_misread_digits_are_forgiven() -> None:
    printed = text.grouped(b"\xff" * 20)
    typed = text.grouped(ROOT).replace("O", "0").replace("I", "1").replace("B", "8").lower()
    assert (
        text.parse_either(f"  {printed.lower().replace('-', ' - ')}\n", 20, "It") == b"\xff" * 20
    )
    assert text.parse_either(typed, 32, "It") == ROOT
    assert text.parse_either(ROOT.hex(), 32, "It") == ROOT


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "AAAA",
        "9" * 32,
        "A" * 33,
        "\u00e9" * 32,
        "\u00df",
        "A" * 31 + "=",
        text.grouped(ROOT),
        text.grouped(b"\0" * 21)[:-1],
    ],
)
def test_what_cannot_be_a_fingerprint_is_refused(typed: str) -> None:
    with pytest.raises(BadInputError, match="must be 32 letters and digits"):
        text.parse_either(typed, 20, "The fingerprint")


def test_bits_that_stand_for_nothing_are_refused() -> None:
    printed = text.grouped(ROOT)
    odd = printed[:-1] + chr(ord(printed[-1]) + 1)
    with pytest.raises(BadInputError):
        text.parse_grouped(odd, 32, "The root")


def test_a_wrong_word_is_noticed() -> None:
    words = text.words(FINGERPRINT).split()
    for wrong in (["zoo", *words[1:]], [words[1], words[0], *words[2:]]):
        with pytest.raises(BadInputError, match="do not belong together"):
            text.parse_either(" ".join(wrong), 20, "The fingerprint")


@pytest.mark.parametrize(
    ("typed", "meant"), [("abadnon", "abandon"), ("liquit", "liquid"), ("Schok", "shock")]
)
def test_a_mistyped_word_is_named_with_the_one_that_was_meant(typed: str, meant: str) -> None:
    words = text.words(FINGERPRINT).split()
    with pytest.raises(BadInputError, match=f"word 3, '{typed.lower()}', is none") as caught:
        text.parse_either(" ".join([*words[:2], typed, *words[3:]]), 20, "The fingerprint")
    assert meant in caught.value.what


def test_a_word_that_is_like_none_is_shown_in_part() -> None:
    words = text.words(FINGERPRINT).split()
    with pytest.raises(BadInputError, match="word 15, 'qqqqqqqqqqqqqqqq', is none") as caught:
        text.parse_either(" ".join([*words[:14], "q" * 500]), 20, "The fingerprint")
    assert caught.value.todo_now == "Type it again, as it is printed."


def test_another_number_of_words_is_refused() -> None:
    spoken = text.words(ROOT).split()
    for count in (12, 23):
        with pytest.raises(BadInputError, match=f"has 15 words, and not {count} of them"):
            text.parse_either(" ".join(spoken[:count]), 20, "The fingerprint")
    with pytest.raises(BadInputError, match="has 15 words, and not 24 of them"):
        text.parse_either(" ".join(spoken), 20, "The fingerprint")


def test_a_qr_code_is_drawn_with_blocks() -> None:
    drawn = drawing.qr("MOTIONGEAR").splitlines()
    assert len({len(one) for one in drawn}) == 1
    assert drawn != drawing.qr("MOTIONGEAS").splitlines()
