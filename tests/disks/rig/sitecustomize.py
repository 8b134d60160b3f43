"""Runs first in every process that a campaign starts: this directory stands in its PYTHONPATH.

MOTIONGEAR_RIG names, apart by commas, what is to be other than in the product:

- ``acks=FILE``: a sender notes there what it patches (P) and what the gate has acknowledged (A).
- the name of a sync (``SYNCS``): it is left out, as if somebody had forgotten it.
"""

# ruff: noqa: PLC0415, SLF001 - a process loads what it would load anyway; the rig reaches inside

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path


class _Without:
    """A module in which some functions do nothing."""

    def __init__(self, module: object, *names: str) -> None:
        self._module, self._names = module, names

    def __getattr__(self, name: str) -> object:
        return _nothing if name in self._names else getattr(self._module, name)


def _nothing(*_: object, **__: object) -> None:
    """The sync that was forgotten."""


def _acks(place: str) -> None:
    from appliance.catchup import sender, wire

    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    window = sender.Window
    patched, answered = window._patch, window._answer

    def patch(self: sender.Window, index: int, codes: bytes) -> None:
        os.write(fd, f"P {index}\n".encode())
        patched(self, index, codes)

    def answer(self: sender.Window, said: wire.Message) -> None:
        answered(self, said)
        if isinstance(said, wire.Ack):
            os.write(fd, f"A {said.index} {said.digest.hex()}\n".encode())

    window._patch, window._answer = patch, answer  # type: ignore[method-assign]


def _no_pack_checkpoint() -> None:
    from appliance.seal import pack

    vars(pack).update(os=_Without(os, "fdatasync"))


def _no_pack_name() -> None:
    """The directory is not synced when a pack is new."""
    _unless("checkpoint")


def _no_pack_rename() -> None:
    """The directory is not synced when a pack was closed."""
    _unless("close")


def _unless(caller: str) -> None:
    from appliance.seal import pack

    real = vars(pack)["sync_directory"]

    def sync(path: Path) -> None:
        if sys._getframe(1).f_code.co_name != caller:
            real(path)

    vars(pack).update(sync_directory=sync)


def _no_pack_close() -> None:
    from appliance.seal import pack

    vars(pack).update(os=_Without(os, "fsync"))


def _no_seal() -> None:
    from appliance.seal import sealing

    def write(path: Path, data: bytes) -> None:
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_bytes(data)
        fresh.replace(path)

    vars(sealing).update(write_durably=write)


def _no_journal() -> None:
    from appliance.catchup import replica

    vars(replica).update(os=_Without(os, "fdatasync"), sync_directory=_nothing)


def _no_volume() -> None:
    from appliance.cloud.local import LocalVolume

    LocalVolume.flush = _nothing  # type: ignore[method-assign]


def _no_manifest() -> None:
    from appliance.seal.manifest import Manifest

    Manifest.flush = _nothing  # type: ignore[method-assign]


def _no_state() -> None:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if sql.startswith("pragma synchronous"):
                sql = "pragma synchronous = off"
            return super().execute(sql, *args)  # type: ignore[arg-type]

    real = sqlite3.connect

    def connect(*args: object, **how: object) -> sqlite3.Connection:
        return real(*args, **how, factory=Connection)  # type: ignore[call-overload,no-any-return]

    sqlite3.connect = connect  # type: ignore[assignment]


SYNCS: dict[str, Callable[[], None]] = {
    "pack-checkpoint": _no_pack_checkpoint,
    "pack-name": _no_pack_name,
    "pack-rename": _no_pack_rename,
    "pack-close": _no_pack_close,
    "seal": _no_seal,
    "journal": _no_journal,
    "volume": _no_volume,
    "manifest": _no_manifest,
    "state": _no_state,
}

for _one in filter(None, os.environ.get("MOTIONGEAR_RIG", "").split(",")):
    _name, _, _value = _one.partition("=")
    if _name == "acks":
        _acks(_value)
    else:
        SYNCS[_name]()
