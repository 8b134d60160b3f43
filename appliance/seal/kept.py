"""What the state directory keeps - identity, counter, book - and how its failures are told."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from appliance.block import locked
from appliance.errors import StateError


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
