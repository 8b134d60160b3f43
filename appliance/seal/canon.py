"""Canonical JSON and strict reading of it (store-format.md, section 1).

Foreign documents are parsed into typed objects field by field; unknown, missing and ill-formed
fields are refused, and so is a document that is not, byte for byte, what its own content would be
written as.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Self, TypeVar, cast

from appliance.errors import StoreRefusedError, UnknownFormatError
from appliance.events import Json

MAX_INT = 1 << 53
_QUOTE = ord('"')
T = TypeVar("T")
_HEX = re.compile(r"[0-9a-f]*")
# A string, which is passed over whole; else a sign that a value begins behind.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{,]', re.DOTALL)
_FEW = 1 << 20  # bytes: a document of values alone takes 40 MiB
MAX_VALUES = 1 << 21  # no document of ours has more in 16 MiB: 250 MiB in memory
_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")


def dump(document: Json) -> bytes:
    """Canonical JSON of a document without floats."""
    text = json.dumps(
        document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    return text.encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def now() -> str:
    """The present moment as the format writes it."""
    return written(datetime.now(UTC))


def written(moment: datetime) -> str:
    """A moment in UTC as the format writes it; such texts compare as their moments do."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Fields:
    """A JSON object being read: every field is asked for once, by type; ``done`` refuses what
    was not asked for.
    """

    def __init__(self, found: object, what: str, refuse: type[StoreRefusedError]) -> None:
        if not isinstance(found, dict):
            raise refuse(f"{what} is not a JSON object")
        self._left: dict[str, object] = dict(found)
        self.what = what
        self._refuse = refuse

    def bad(self, key: str, why: str) -> StoreRefusedError:
        return self._refuse(f"{self.what}: field {key!r} {why}")

    def _take(self, key: str) -> object:
        if key not in self._left:
            raise self.bad(key, "is missing")
        return self._left.pop(key)

    def text(self, key: str, most: int = 1024, least: int = 0) -> str:
        found = self._take(key)
        if not isinstance(found, str) or not least <= len(found) <= most:
            raise self.bad(key, f"is not a text of {least} to {most} characters")
        return found

    def name(self, key: str, form: re.Pattern[str]) -> str:
        found = self.text(key)
        if not form.fullmatch(found):
            raise self.bad(key, "is no name")
        return found

    def choice(self, key: str, *allowed: str) -> str:
        found = self._take(key)
        if not isinstance(found, str) or found not in allowed:
            raise self.bad(key, f"is none of {', '.join(allowed)}")
        return found

    def version(self) -> None:
        """Refuses another ``version`` than 1: what else there is may be sound, in a later one."""
        found = self.number("version")
        if found != 1:
            raise UnknownFormatError(f"{self.what} is of format version {found}; known here is 1")

    def form(self, name: str) -> None:
        """Refuses another ``format`` than this one in version 1."""
        if self.text("format", 64) != name:
            raise UnknownFormatError(f"{self.what} is of another program's format")
        self.version()

    def number(self, key: str, least: int = 0, most: int = MAX_INT) -> int:
        found = self._take(key)
        if type(found) is not int or not least <= found <= most:
            raise self.bad(key, f"is not a whole number from {least} to {most}")
        return found

    def number_or_none(self, key: str) -> int | None:
        if self._left.get(key, 0) is not None:
            return self.number(key)
        self._take(key)
        return None

    def flag(self, key: str) -> bool:
        found = self._take(key)
        if not isinstance(found, bool):
            raise self.bad(key, "is neither true nor false")
        return found

    def hex(self, key: str, size: int, *, empty: bool = False) -> str:
        """Lower-case hex of ``size`` bytes; the empty text too where ``empty``."""
        found = self.text(key, most=2 * size)
        if (len(found) != 2 * size and not (empty and not found)) or not _HEX.fullmatch(found):
            raise self.bad(key, f"is not {size} bytes in hex")
        return found

    def base64(self, key: str, size: int) -> bytes:
        data = self.any_base64(key, size)
        if len(data) != size:
            raise self.bad(key, f"is not {size} bytes in base64")
        return data

    def any_base64(self, key: str, most: int) -> bytes:
        """At most ``most`` bytes in base64."""
        found = self.text(key, most=4 * most)
        try:
            data = base64.b64decode(found, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise self.bad(key, "is not base64") from exc
        if len(data) > most or b64(data) != found:
            raise self.bad(key, f"is not at most {most} bytes in base64")
        return data

    def time(self, key: str, *, empty: bool = False) -> str:
        found = self.text(key, most=20)
        if not _is_time(found) and not (empty and not found):
            raise self.bad(key, "is not a time such as 2026-11-22T20:15:17Z")
        return found

    def items(self, key: str, most: int, least: int = 0) -> Sequence[object]:
        found = self._take(key)
        if not isinstance(found, list) or not least <= len(found) <= most:
            raise self.bad(key, f"is not a list of {least} to {most} entries")
        return found

    def texts(self, key: str, most: int, check: re.Pattern[str]) -> tuple[str, ...]:
        found = self.items(key, most)
        if not all(isinstance(one, str) and check.fullmatch(one) for one in found):
            raise self.bad(key, "has an entry of the wrong form")
        return tuple(str(one) for one in found)

    def strings(self, key: str, most: int, longest: int) -> tuple[str, ...]:
        return self.texts(key, most, re.compile(rf"(?s).{{0,{longest}}}"))

    def objects(self, key: str, most: int, least: int = 0) -> list["Fields"]:
        return [
            Fields(one, f"{self.what}: {key} {place}", self._refuse)
            for place, one in enumerate(self.items(key, most, least))
        ]

    def object_or_none(self, key: str) -> "Fields | None":
        found = self._take(key)
        return None if found is None else Fields(found, f"{self.what}: {key}", self._refuse)

    def object(self, key: str) -> "Fields":
        return Fields(self._take(key), f"{self.what}: {key}", self._refuse)

    def tree(self, key: str, deep: int = 16) -> dict[str, Json]:
        """An object of any canonical JSON with keys of ASCII, at most ``deep`` objects and lists
        deep, itself counted.
        """
        found = self._take(key)
        if not isinstance(found, dict) or not _plain(found, deep):
            raise self.bad(key, f"is not an object of plain values, {deep} deep at most")
        return cast("dict[str, Json]", found)

    def done(self) -> Self:
        if self._left:
            raise self.bad(min(self._left), "is not known")
        return self


def _is_time(text: str) -> bool:
    """Whether the calendar has that second."""
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return False
    return True


def _plain(found: object, deep: int) -> bool:
    if isinstance(found, dict):
        keys = all(one.isascii() for one in found)
        return keys and deep > 0 and all(_plain(one, deep - 1) for one in found.values())
    if isinstance(found, list):
        return deep > 0 and all(_plain(one, deep - 1) for one in found)
    return not isinstance(found, int) or 0 <= found <= MAX_INT


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse_many(data: bytes, most: int, longest: int) -> None:
    """Refuse a document of more values than any has, or longer texts, before memory is taken for
    them: a list in two bytes of it takes 64, a text four for each character.
    """
    count = 0
    for token in _TOKEN.finditer(data):
        count += data[token.start()] != _QUOTE
        if token.end() - token.start() > longest:
            raise ValueError(f"it has a text of more than {longest} bytes")
        if count > most:
            raise ValueError(f"it has more than {most} values")


def _no_float(text: str) -> object:
    raise ValueError(f"{text[:20]} is not a whole number")


def _short_int(text: str) -> int:
    if len(text) > 17:  # 2^53 has 16 digits; refuse early what int() would take quadratic time for
        raise ValueError("a number is out of range")
    return int(text)


def read(
    data: bytes,
    what: str,
    parse: Callable[[Fields], T],
    write: Callable[[T], Json],
    refuse: type[StoreRefusedError],
    most: int = 1 << 24,
    values: int = MAX_VALUES,
    longest: int = 1 << 24,
) -> T:
    """Parse a canonical document of at most ``most`` bytes and ``values`` values, none of more
    than ``longest`` bytes, into T, or raise ``refuse`` saying what is wrong.

    ``write`` is the way back: what it gives must be the very bytes that were read.
    """
    if len(data) > most:
        raise refuse(f"{what} is longer than {most} bytes")
    try:
        if len(data) > _FEW:
            _refuse_many(data, values, longest)
        found = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_float=_no_float,
            parse_constant=_no_float,
            parse_int=_short_int,
        )
    except (ValueError, RecursionError) as exc:
        raise refuse(f"{what} is not canonical JSON ({exc})") from exc
    fields = Fields(found, what, refuse)
    parsed = parse(fields)
    fields.done()
    try:
        again = dump(write(parsed))
    except UnicodeEncodeError as exc:
        raise refuse(f"{what} holds half a character") from exc
    if again != data:
        raise refuse(f"{what} is not in canonical form")
    return parsed
