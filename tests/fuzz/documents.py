"""Mutations of JSON documents that stay canonical, so that they come past the first check of
every reader: what is wrong with them is what they say.
"""

import json
from collections.abc import Callable
from random import Random

from tests.fuzz.target import Havoc, Mutate

_INTS = (-1, 0, 1, 2, 255, 65535, 65536, (1 << 26) - 1, 1 << 26, (1 << 32) - 1, 1 << 32,
         (1 << 50) - 1, 1 << 50, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, 1 << 63, 10**16,
         10**30)  # fmt: skip
_TEXTS = ("", "\0", "\x1f", "\x7f", "\x85", "\u2028", "\ud800", "\U0001f4be", "\u00e9" * 129,
          "x" * 600, "00" * 16, "ff" * 32, "0" * 39, "../../x", "2026-11-22T20:15:17Z",
          "AAAA")  # fmt: skip
_OTHERS: tuple[object, ...] = (None, True, False, [], {}, [[]], 0.5)


def canonical(document: object) -> bytes:
    """Canonical JSON, also of what no document of ours may hold."""
    told = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return told.encode(errors="surrogatepass")


def parsed(data: bytes) -> object:
    """The document; None for what is none."""
    try:
        return json.loads(data.decode(errors="surrogatepass"))
    except (ValueError, RecursionError):
        return None


def documents(data: bytes, most: int, rng: Random, havoc: Havoc) -> bytes:
    """Mostly another document; sometimes other bytes."""
    document = parsed(data)
    if document is None or not rng.randrange(5):
        return havoc(data, most)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        document = _changed(document, rng, havoc)
    made = canonical(document)
    return made if len(made) <= most else havoc(data, most)


def behind(front: int) -> Mutate:
    """The same for documents that stand behind so many bytes of another kind."""

    def mutate(data: bytes, most: int, rng: Random, havoc: Havoc) -> bytes:
        if len(data) < front or not rng.randrange(12):
            return havoc(data, most)
        return data[:front] + documents(data[front:], most - front, rng, havoc)

    return mutate


def _changed(document: object, rng: Random, havoc: Havoc) -> object:
    """The document with one place of it changed, the deeper the likelier."""
    if isinstance(document, dict) and document and rng.randrange(8):
        key = rng.choice(sorted(document))
        return {**document, key: _changed(document[key], rng, havoc)}
    if isinstance(document, list) and document and rng.randrange(5):
        place = rng.randrange(len(document))
        return [*document[:place], _changed(document[place], rng, havoc), *document[place + 1 :]]
    return _replaced(document, rng, havoc)


def _replaced(found: object, rng: Random, havoc: Havoc) -> object:
    if not rng.randrange(8):
        return rng.choice((*_OTHERS, *_INTS, *_TEXTS))
    made: object = 0
    match found:
        case bool() | None:
            made = not found
        case int():
            made = rng.choice((*_INTS, found + 1, found - 1, found * 2, rng.getrandbits(32)))
        case str():
            made = _text(found, rng, havoc)
        case dict():
            made = _fields(found, rng)
        case list():
            made = _items(found, rng)
        case _:
            pass
    return made


def _text(found: str, rng: Random, havoc: Havoc) -> str:
    def swapped() -> str:
        at = rng.randrange(len(found) + 1)
        return found[:at] + rng.choice("0189afAFzZ=-+/ \0\n") + found[at + 1 :]

    def stirred() -> str:
        return havoc(found.encode(errors="surrogatepass") or b"x", len(found) + 64).decode(
            errors="replace"
        )

    ways: tuple[Callable[[], str], ...] = (
        swapped,
        stirred,
        lambda: found[: rng.randrange(len(found) + 1)],
        lambda: found + rng.choice(("0", "A", found)),
        found.swapcase,
        lambda: rng.choice(_TEXTS),
    )
    return rng.choice(ways)()


def _fields(found: dict[str, object], rng: Random) -> dict[str, object]:
    if found and rng.randrange(2):
        gone = rng.choice(sorted(found))
        return {key: one for key, one in found.items() if key != gone}
    return {**found, rng.choice(("a", "zz", "version", "size")): rng.choice(_INTS)}


def _items(found: list[object], rng: Random) -> list[object]:
    if not found:
        return [rng.choice((*_OTHERS, *_INTS, *_TEXTS))]
    place = rng.randrange(len(found))
    return rng.choice(
        (
            found[:place] + found[place + 1 :],
            found[: place + 1] + found[place:],
            found[::-1],
            found * rng.choice((2, 17)),
            sorted(found, key=repr),
        )
    )
