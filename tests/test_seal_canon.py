"""Canonical JSON: what is taken, what is refused, and in which words."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import StoreRefusedError, UnknownFormatError
from appliance.events import Json
from appliance.seal import canon

WHOLE = st.integers(-canon.MAX_INT, canon.MAX_INT)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def parse_any(fields: canon.Fields) -> Json:
    """Takes whatever the object holds."""
    found: dict[str, Json] = {}
    for key in list(vars(fields)["_left"]):
        found[key] = vars(fields)["_left"].pop(key)
    return found


def read_any(data: bytes, most: int = 1 << 24) -> Json:
    return canon.read(data, "paper", parse_any, lambda found: found, StoreRefusedError, most)


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_what_is_written_is_read_back(document: dict[str, Json]) -> None:
    assert read_any(canon.dump(document)) == document


@given(st.dictionaries(TEXT, JSON, max_size=3), st.data())
def test_a_changed_byte_is_another_document_or_refused(
    document: dict[str, Json], data: st.DataObject
) -> None:
    good = bytearray(canon.dump(document))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    try:
        found = read_any(bytes(good))
    except StoreRefusedError:
        return
    assert canon.dump(found) == good


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not canonical JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a":1', "not canonical JSON"),
        (b'{"a":1} ', "not in canonical form"),
        (b'{"a": 1}', "not in canonical form"),
        (b'{"b":1,"a":1}', "not in canonical form"),
        (b'{"a":1,"a":1}', "stands twice"),
        (b'{"a":1.0}', "not a whole number"),
        (b'{"a":1e3}', "not a whole number"),
        (b'{"a":NaN}', "not a whole number"),
        (b'{"a":-Infinity}', "not a whole number"),
        (b'{"a":123456789012345678}', "out of range"),
        (b'{"a":-0}', "not in canonical form"),
        (b'{"a":"\\u0041"}', "not in canonical form"),
        (b'{"a":"\\ud800"}', "half a character"),
        (b'{"a":"\xff"}', "not canonical JSON"),
        (b"\xef\xbb\xbf{}", "not canonical JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not canonical JSON"),
        (b'{"a":' + b"9" * 500_000 + b"}", "out of range"),
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(StoreRefusedError, match=why):
        read_any(data)


def test_a_document_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(StoreRefusedError, match="longer than 4 bytes"):
        read_any(b"{    }", most=4)


def test_shortest_escapes_are_the_canonical_ones() -> None:
    text = '\x00\b\t\n\f\r\x1f"\\/\x7f\u20ac\U0001f600'
    assert canon.dump({"a": text}) == (
        b'{"a":"\\u0000\\b\\t\\n\\f\\r\\u001f\\"\\\\/\x7f' + "\u20ac\U0001f600".encode() + b'"}'
    )


REFUSED: list[tuple[Callable[[canon.Fields], object], object]] = [
    (lambda one: one.text("a"), 5),
    (lambda one: one.text("a", 3), "four"),
    (lambda one: one.text("a", 3, 1), ""),
    (lambda one: one.choice("a", "x", "y"), "z"),
    (lambda one: one.choice("a", "x", "y"), ["x"]),
    (lambda one: one.number("a"), -1),
    (lambda one: one.number("a"), True),
    (lambda one: one.number("a"), canon.MAX_INT + 1),
    (lambda one: one.number("a"), "1"),
    (lambda one: one.flag("a"), 1),
    (lambda one: one.hex("a", 2), "abc"),
    (lambda one: one.hex("a", 2), "ABCD"),
    (lambda one: one.hex("a", 2), ""),
    (lambda one: one.hex("a", 2, empty=True), "ab"),
    (lambda one: one.base64("a", 2), "AAA"),
    (lambda one: one.base64("a", 2), "AA\n="),
    (lambda one: one.base64("a", 2), "AAE="[:3] + "\u00e9"),
    (lambda one: one.base64("a", 2), "AAF="),
    (lambda one: one.base64("a", 2), "AAAA"),
    (lambda one: one.time("a"), "2026-11-22 20:15:17"),
    (lambda one: one.time("a"), ""),
    (lambda one: one.time("a"), "2026-11-22T20:15:1\u0667Z"),
    (lambda one: one.time("a"), "2026-02-29T20:15:17Z"),
    (lambda one: one.time("a"), "2026-13-01T20:15:17Z"),
    (lambda one: one.time("a"), "2026-11-22T24:00:00Z"),
    (lambda one: one.time("a"), "2026-12-31T23:59:60Z"),
    (lambda one: one.time("a"), "0000-01-01T00:00:00Z"),
    (lambda one: one.name("a", re.compile("x+")), "xy"),
    (lambda one: one.tree("a"), []),
    (lambda one: one.tree("a"), {"\u00e9": 1}),
    (lambda one: one.tree("a"), {"b": [{"\u00e9": 1}]}),
    (lambda one: one.tree("a"), {"b": canon.MAX_INT + 1}),
    (lambda one: one.tree("a"), {"b": [-1]}),
    (lambda one: one.tree("a", 2), {"b": [{}]}),
    (lambda one: one.tree("a", 2), {"b": {"c": []}}),
    (lambda one: one.items("a", 1), {}),
    (lambda one: one.items("a", 1), [1, 2]),
    (lambda one: one.items("a", 1, 1), []),
    (lambda one: one.texts("a", 2, re.compile("x+")), ["x", "y"]),
    (lambda one: one.texts("a", 2, re.compile("x+")), [1]),
    (lambda one: one.strings("a", 2, 3), ["four"]),
    (lambda one: one.objects("a", 2), [1]),
    (lambda one: one.object("a"), None),
    (lambda one: one.object_or_none("a"), 0),
    (lambda one: one.text("b"), "missing"),
    (lambda one: one.done(), "unknown"),
]


@pytest.mark.parametrize(("ask", "value"), REFUSED, ids=range(len(REFUSED)))
def test_a_field_of_the_wrong_form_is_refused(
    ask: Callable[[canon.Fields], object], value: object
) -> None:
    with pytest.raises(StoreRefusedError, match="paper"):
        ask(canon.Fields({"a": value}, "paper", StoreRefusedError))


def test_fields_of_the_right_form_are_given() -> None:
    fields = canon.Fields(
        {
            "base64": "AAE=",
            "flag": False,
            "hex": "00ff",
            "none": None,
            "number": 7,
            "object": {},
            "objects": [{}],
            "strings": ["a\nb"],
            "time": "2026-11-22T20:15:17Z",
            "unset": "",
            "word": "x",
        },
        "paper",
        StoreRefusedError,
    )
    assert fields.base64("base64", 2) == b"\0\1"
    assert fields.flag("flag") is False
    assert fields.hex("hex", 2) == "00ff"
    assert fields.object_or_none("none") is None
    assert fields.number("number", 7, 7) == 7
    fields.object("object").done()
    fields.objects("objects", 1)[0].done()
    assert fields.strings("strings", 1, 3) == ("a\nb",)
    assert fields.time("time") == "2026-11-22T20:15:17Z"
    assert not fields.time("unset", empty=True)
    assert fields.choice("word", "x", "y") == "x"
    assert fields.done() is fields


def test_a_number_may_be_null_where_it_is_said() -> None:
    fields = canon.Fields({"none": None, "some": 7, "wrong": "7"}, "it", StoreRefusedError)
    assert (fields.number_or_none("none"), fields.number_or_none("some")) == (None, 7)
    for key in ("wrong", "none"):  # which was asked for before
        with pytest.raises(StoreRefusedError, match=key):
            fields.number_or_none(key)
    fields.done()


def test_now_is_a_time_of_the_format() -> None:
    moment = canon.now()
    assert canon.Fields({"a": moment}, "paper", StoreRefusedError).time("a") == moment


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00Z", "2024-02-29T23:59:59Z", "9999-12-31T23:59:59Z"]
)
def test_every_second_of_the_calendar_is_a_time(moment: str) -> None:
    assert canon.Fields({"a": moment}, "paper", StoreRefusedError).time("a") == moment


def test_a_tree_may_be_as_deep_as_it_is_said_and_hold_any_value() -> None:
    tree = {"": None, "\x7f": [True, "\u20ac", canon.MAX_INT, {}]}
    assert canon.Fields({"a": tree}, "paper", StoreRefusedError).tree("a", 3) == tree


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"format": "x", "version": 1}, "paper is of another program's format"),
        ({"format": "tree", "version": 2}, "paper is of format version 2; known here is 1"),
        ({"format": "tree", "version": 0}, "paper is of format version 0; known here is 1"),
    ],
)
def test_another_form_is_not_called_damage(fields: dict[str, Json], why: str) -> None:
    with pytest.raises(UnknownFormatError, match=why):
        canon.Fields(fields, "paper", StoreRefusedError).form("tree")


def test_a_version_that_is_no_number_is_damage() -> None:
    with pytest.raises(StoreRefusedError) as caught:
        canon.Fields({"version": "1"}, "paper", StoreRefusedError).version()
    assert caught.type is StoreRefusedError


def tokens(found: Json) -> int:
    """Each object and list, and each value that is not the first in its own."""
    inner: list[Json] = []
    if isinstance(found, dict):
        inner = list(found.values())
    elif isinstance(found, list):
        inner = found
    else:
        return 0
    return max(len(inner), 1) + sum(map(tokens, inner))


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_values_are_counted_before_they_are_parsed(document: dict[str, Json]) -> None:
    """Whatever stands in the texts."""
    data, count = canon.dump(document), tokens(document)
    canon._refuse_many(data, count, len(data))  # noqa: SLF001
    with pytest.raises(ValueError, match="more than"):
        canon._refuse_many(data, count - 1, len(data))  # noqa: SLF001


def test_a_large_document_of_too_many_values_or_too_long_a_text_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(values: int, longest: int) -> Json:
        return canon.read(
            b'{"a":["bcd",2]}',
            "paper",
            parse_any,
            lambda found: found,
            StoreRefusedError,
            values=values,
            longest=longest,
        )

    assert read(2, 4) == {"a": ["bcd", 2]}  # a small one takes little, whatever it holds
    monkeypatch.setattr(canon, "_FEW", 14)
    assert read(3, 5) == {"a": ["bcd", 2]}
    with pytest.raises(StoreRefusedError, match="more than 2 values"):
        read(2, 5)
    with pytest.raises(StoreRefusedError, match="a text of more than 4 bytes"):
        read(3, 4)
