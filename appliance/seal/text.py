"""Digests as people read, type, speak and scan them (store-format.md, sections 4 and 8)."""

import base64
import re
from difflib import get_close_matches
from functools import cache

from mnemonic import Mnemonic

from appliance.errors import BadInputError
from appliance.language import marked

SEPARATORS = re.compile(r"[\s-]+")
CONFUSED = str.maketrans("018", "OIB")  # digits that base32 does not have, as they are misread
_SHOWN = 16  # characters of a word that is none
_FROM_LABEL = marked("Type it again, as it is printed.")


def grouped(data: bytes) -> str:
    """Base32 without padding, in groups of four: ``ABCD-EFGH-...``."""
    text = base64.b32encode(data).decode().rstrip("=")
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def parse_grouped(text: str, size: int, what: str) -> bytes:
    """The bytes behind ``grouped`` text as typed by a person: any case, spaces or dashes."""
    plain = SEPARATORS.sub("", text).upper().translate(CONFUSED)
    try:
        data = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except ValueError:
        data = b""
    if len(data) != size or grouped(data).replace("-", "") != plain:
        raise BadInputError(
            f"{what} must be {len(grouped(bytes(size)).replace('-', ''))} letters and digits "
            "in groups of four, as printed",
            todo=_FROM_LABEL,
        )
    return data


@cache
def _words() -> Mnemonic:
    return Mnemonic("english")


def words(data: bytes) -> str:
    """BIP-39 words: 15 for a fingerprint, 24 for a seal root. The last word checks the others."""
    return str(_words().to_mnemonic(data))


def parse_words(text: str, size: int, what: str) -> bytes:
    """The bytes behind ``words``; a wrong word is named where it is on no list, else noticed."""
    typed, wanted = text.lower().split(), size * 3 // 4
    known = _words().wordlist
    for place, word in enumerate(typed, 1):
        if word not in known:
            near = ", ".join(get_close_matches(word[:_SHOWN], known))
            raise BadInputError(
                f"{what}: word {place}, {word[:_SHOWN]!r}, is none of the words that are used"
                + (f"; near: {near}" if near else ""),
                todo=_FROM_LABEL,
            )
    if len(typed) != wanted:
        raise BadInputError(
            f"{what} has {wanted} words, and not {len(typed)} of them", todo=_FROM_LABEL
        )
    try:
        return bytes(_words().to_entropy(typed))
    except ValueError as exc:
        raise BadInputError(
            f"{what}: these words do not belong together; one is another, or two changed places",
            todo=_FROM_LABEL,
        ) from exc


def parse_either(text: str, size: int, what: str) -> bytes:
    """Grouped text, words, or the hex that programs are given: whichever was typed."""
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", text.strip()):
        return bytes.fromhex(text.strip())
    if len(text.split()) >= 12 and "-" not in text:
        return parse_words(text, size, what)
    return parse_grouped(text, size, what)
