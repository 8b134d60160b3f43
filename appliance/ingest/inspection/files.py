"""The files of a machine that is looked at, and what is common to reading them. All of them are
hostile: nothing is read without a bound.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_interface
from typing import Protocol

from appliance.ingest.foreign import text
from appliance.seal.machine import MAX_LIST

MOST_FILE = 1 << 18
Section = tuple[str, list[tuple[str, str]]]


class Files(Protocol):
    """A machine's files by absolute path; of what cannot be read, nothing."""

    def read(self, path: str, most: int = MOST_FILE) -> bytes:
        """The first bytes of a file."""

    def names(self, directory: str) -> Sequence[str]:
        """What lies in a directory, sorted, at most some thousands."""


def lines(files: Files, path: str) -> list[str]:
    """Without comments and blank lines."""
    found = (one.strip() for one in files.read(path).decode(errors="replace").splitlines())
    return [one for one in found if one and not one.startswith(("#", ";"))]


def assignments(found: Sequence[str]) -> dict[str, str]:
    """``KEY=value`` as a shell reads them, but for what it would expand."""
    pairs = (one.partition("=") for one in found if "=" in one)
    return {key.strip(): unquoted(value) for key, _, value in pairs}


def unquoted(value: str) -> str:
    value = value.strip()
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def sections(found: Sequence[str]) -> Iterator[Section]:
    """Of an INI file; a section may come again, and a key in it."""
    name, pairs = "", list[tuple[str, str]]()
    for one in found:
        if one.startswith("[") and one.endswith("]"):
            yield name, pairs
            name, pairs = one[1:-1].lower(), []
        elif "=" in one:
            key, _, value = one.partition("=")
            pairs.append((key.strip().lower(), value.strip()))
    yield name, pairs


def cidr(address: str, mask: str = "") -> str:
    """An address with the length of its prefix; as it stands where it is none."""
    try:
        return ip_interface(
            f"{address}/{mask}" if mask and "/" not in address else address
        ).compressed
    except ValueError:
        return text(address)


def few(found: Iterable[str]) -> tuple[str, ...]:
    """Different texts that are not empty, in order, as many as a record takes."""
    return tuple(dict.fromkeys(text(one) for one in found if one))[:MAX_LIST]
