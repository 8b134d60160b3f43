"""Digests as people read, type, speak and scan them (store-format.md, sections 4 and 8)."""

import base64
import re
from functools import cache

from mnemonic import Mnemonic

from appliance.errors import BadInputError

_SEPARATORS = re.compile(r"[\s-]+")
_CONFUSED = str.maketrans("018", "OIB")  # digits that base32 does not have, as they are misread


def grouped(data: bytes) -> str:
    """Base32 without padding, in groups of four: ``ABCD-EFGH-...``."""
    text = base64.b32encode(data).decode().rstrip("=")
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def parse_grouped(text: str, size: int, what: str) -> bytes:
    """The bytes behind ``grouped`` text as typed by a person: any case, spaces or dashes."""
    plain = _SEPARATORS.sub("", text).upper().translate(_CONFUSED)
    try:
        data = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except ValueError:
        data = b""
    if len(data) != size or grouped(data).replace("-", "") != plain:
        raise BadInputError(
            f"{what} must be {len(grouped(bytes(size)).replace('-', ''))} letters and digits "
            "in groups of four, as printed",
            todo="Type it again from the label.",
        )
    return data


@cache
def _words() -> Mnemonic:
    return Mnemonic("english")


def words(data: bytes) -> str:
    """BIP-39 words: 15 for a fingerprint, 24 for a seal root. The last word checks the others."""
    return str(_words().to_mnemonic(data))


def parse_words(text: str, size: int, what: str) -> bytes:
    """The bytes behind ``words``; a wrong word is noticed."""
    try:
        data = bytes(_words().to_entropy(text.lower().split()))
    except (ValueError, LookupError) as exc:
        raise BadInputError(f"{what}: these words do not belong together ({exc})") from exc
    if len(data) != size:
        raise BadInputError(f"{what} has another number of words")
    return data


def parse_either(text: str, size: int, what: str) -> bytes:
    """Grouped text, words, or the hex that programs are given: whichever was typed."""
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", text.strip()):
        return bytes.fromhex(text.strip())
    if len(text.split()) >= 12 and "-" not in text:
        return parse_words(text, size, what)
    return parse_grouped(text, size, what)
