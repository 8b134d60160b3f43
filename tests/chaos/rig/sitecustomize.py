"""Runs first in every process of the product that chaos starts, when this directory stands in
PYTHONPATH. MOTIONGEAR_CHAOS names, apart by commas, what is to be other than it is.

- ``clock=FILE``: the wall clock is off by the seconds that stand in the file, which may change.
- ``told-too-early``: a checkpoint of a pack is told, and never written.
- ``one-block-short``: whoever goes on with a disk leaves out a block.
- ``all-again``: whoever goes on with a disk begins at its beginning.
"""

import datetime as dt
import os
import time
from collections.abc import Callable


def _clock(place: str) -> None:
    """Of the whole process: time.time, and datetime.now. The monotonic clock stays what it is."""
    file, right, real = os.open(place, os.O_RDONLY), time.time, dt.datetime

    def off() -> float:
        return float(os.pread(file, 64, 0) or 0)

    def jumping() -> float:
        return right() + off()

    class Jumping(real):  # type: ignore[misc,valid-type]
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return real.fromtimestamp(jumping(), tz)

    time.time = jumping
    dt.datetime = Jumping  # type: ignore[misc]


def _told_too_early() -> None:
    from appliance.seal.pack import PackWriter  # noqa: PLC0415 - only where it is asked for

    PackWriter.checkpoint = lambda *_: None  # type: ignore[method-assign]


def _one_block_short() -> None:
    _goes_on(lambda cursor: cursor + 1 if cursor else 0)


def _all_again() -> None:
    _goes_on(lambda _: 0)


def _goes_on(otherwise: Callable[[int], int]) -> None:
    from appliance.model import PointSpec, Witness  # noqa: PLC0415 - the same
    from appliance.seal.writer import StoreWriter  # noqa: PLC0415 - the same

    right = StoreWriter.begin

    def begin(self: StoreWriter, point: PointSpec, witness: Witness) -> int:
        self._cursor = self._start = otherwise(right(self, point, witness))
        return self._cursor

    StoreWriter.begin = begin  # type: ignore[method-assign]


RIGS: dict[str, Callable[[], None]] = {
    "told-too-early": _told_too_early,
    "one-block-short": _one_block_short,
    "all-again": _all_again,
}

for _one in filter(None, os.environ.get("MOTIONGEAR_CHAOS", "").split(",")):
    _name, _, _value = _one.partition("=")
    if _name == "clock":
        _clock(_value)
    else:
        RIGS[_name]()
