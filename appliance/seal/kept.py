"""What the state directory keeps - identity, counter, book - and how its failures are told."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from appliance.block import locked, read_small, write_durably
from appliance.errors import StateError, StoreRefusedError
from appliance.events import Json
from appliance.seal import canon

T = TypeVar("T")
_MOST = 1 << 20


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """What is done here with ``path`` ends in a StateError when the disk refuses it."""
    try:
        yield
    except OSError as exc:
        raise StateError(f"{path} cannot be read or written ({exc.strerror})") from exc


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` among what is kept; waits for others."""
    with ExitStack() as stack:
        with kept(path):  # the lock alone: what is done under it has errors of its own
            stack.enter_context(locked(path))
        yield


def load(path: Path, parse: Callable[[canon.Fields], T], write: Callable[[T], Json]) -> T:
    """A document kept at ``path``; StateError where it is not there, or not what was written."""
    with kept(path):
        data = read_small(path, _MOST)
    try:
        return canon.read(data, path.name, parse, write, StoreRefusedError)
    except StoreRefusedError as exc:
        raise StateError(f"{path} is damaged ({exc.what})") from exc


def save(path: Path, document: Json) -> None:
    """Keep a document at ``path``, whole or not at all, for its owner alone."""
    with kept(path):
        write_durably(path, canon.dump(document), 0o600)
