"""What several targets stand on: keys, a directory in memory, a machine with little of it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import block
from appliance.model import ShipmentId
from appliance.seal import envelope, readback, scan
from appliance.seal.cut import digest
from appliance.seal.head import Head
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from tests.fuzz.packs import SECRET

P = ParamSpec("P")
T = TypeVar("T")
BLOCK = 1 << 16
KEY = PrivateKey("operator", "operator", digest(b"fuzz operator"))
DEVICE = Device(Path("/nonexistent"), Ed25519PrivateKey.from_private_bytes(digest(b"fuzz device")))
LINE_KEY = Ed25519PrivateKey.from_private_bytes(digest(b"fuzz line"))
HEAD = Head(
    shipment=ShipmentId("5a" * 16),
    label="fuzz",
    created="2026-11-22T20:15:17Z",
    device=DEVICE.public,
    block_size=BLOCK,
    recipients=(KEY.recipient,),
)
_IN_MEMORY = Path("/dev/shm")
_FREE_KIB = 64 << 10  # a disk whose map needs more is refused, not mapped


@contextmanager
def place() -> Iterator[Path]:
    """An empty directory, in memory where nothing else is asked for."""
    root = None if "TMPDIR" in os.environ or not _IN_MEMORY.is_dir() else _IN_MEMORY
    with tempfile.TemporaryDirectory(prefix="motiongear-fuzz-", dir=root) as found:
        yield Path(found)


@contextmanager
def little_memory(at: Path) -> Iterator[None]:
    """A machine that has 64 MiB left."""
    told = at / "meminfo"
    told.write_text(f"MemAvailable: {_FREE_KIB} kB\n")
    with mock.patch.object(block, "MEMINFO", told):
        yield


class _AtOnce(Executor):
    """Does in this thread what it is given: to start others costs more than most inputs do."""

    def __init__(self, workers: int, prefix: str = "") -> None:
        del workers, prefix

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except BaseException as exc:  # noqa: BLE001 - whoever asks for the result gets it
            done.set_exception(exc)
        return done


@contextmanager
def one_thread() -> Iterator[None]:
    with (
        mock.patch.object(readback, "ThreadPoolExecutor", _AtOnce),
        mock.patch.object(scan, "ThreadPoolExecutor", _AtOnce),
    ):
        yield


@contextmanager
def one_secret() -> Iterator[None]:
    """Every pack has the same secret, which every key opens: recipes are sealed with it."""

    def unwrap(*_: object) -> bytes:  # a Mock would remember every call
        return SECRET

    with mock.patch.object(envelope, "unwrap", unwrap):
        yield
