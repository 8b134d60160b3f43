"""Which lines of the product an input reaches: what a corpus is reduced by, without atheris."""

import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from tests.fuzz.target import Run, attempt

_PRODUCT = str(Path(__file__).parents[2] / "appliance")
Reached = set[tuple[str, int, int]]


def reached(run: Run, data: bytes) -> Reached:
    """The steps from line to line that the input makes the product take."""
    found: Reached = set()

    def begin(frame: FrameType, _: str, __: object) -> object:
        if not frame.f_code.co_filename.startswith(_PRODUCT):
            return None
        before = 0

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal before
            if event == "line":
                found.add((frame.f_code.co_filename, before, frame.f_lineno))
                before = frame.f_lineno
            return trace

        return trace

    threading.settrace(begin)  # type: ignore[arg-type]
    sys.settrace(begin)  # type: ignore[arg-type]
    try:
        attempt(run, data)
    finally:
        sys.settrace(None)
        threading.settrace(None)
    return found


def distilled(run: Run, inputs: Iterable[bytes], most: int) -> list[bytes]:
    """The shortest inputs that reach what all of them reach, of ``most`` bytes together."""
    known: Reached = set()
    kept: list[bytes] = []
    for data in sorted(set(inputs), key=lambda one: (len(one), one)):
        new = reached(run, data) - known
        if new and len(data) <= most:
            known |= new
            most -= len(data)
            kept.append(data)
    return kept
