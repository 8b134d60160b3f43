"""What may go wrong with a disk, switched on and off while it is mounted."""

import errno
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Call(StrEnum):
    """What programs ask of a disk; NAME stands for all that makes, renames and removes names."""

    READ = "read"
    WRITE = "write"
    SYNC = "sync"
    OPEN = "open"
    NAME = "name"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Fault:
    """``call`` on files whose path from the disk's root matches ``path`` (fnmatch; * passes
    slashes too) fails with ``error``, or takes ``seconds`` longer; with both, it fails late.

    READ and WRITE are meant where they touch bytes ``start`` to ``end``. ``after``: only once so
    many bytes have passed that would have met it; a write ends short there, as it does when a
    disk becomes full. ``times``: so often, 0 for ever. A SYNC that fails drops what was pending,
    as Linux does: the next one succeeds and has written nothing.
    """

    path: str
    call: Call
    error: int = 0
    seconds: float = 0.0
    start: int = 0
    end: int = 1 << 62
    after: int = 0
    times: int = 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def gone(path: str = "*") -> Fault:
    """The device was unplugged."""
    return Fault(path, Call.ANY, errno.ENODEV)


class Faults:
    """The faults of one disk that are switched on."""

    def __init__(self) -> None:
        self._all: list[Fault] = []
        self._passed: dict[Fault, int] = {}
        self._met: dict[Fault, int] = {}

    def inject(self, fault: Fault) -> None:
        self._all.append(fault)

    def heal(self) -> None:
        self._all.clear()
        self._passed.clear()
        self._met.clear()

    @property
    def met(self) -> int:
        """How often a fault was met by now."""
        return sum(self._met.values())

    def check(self, call: Call, path: str, start: int = 0, length: int = 0) -> int:
        """How many bytes of the call may pass: ``length``, or fewer for a write that ends short.
        Raises OSError.
        """
        for one in list(self._all):
            if one.call not in {call, Call.ANY} or not fnmatchcase(path.lstrip("/"), one.path):
                continue
            if call in {Call.READ, Call.WRITE} and not (
                one.start < start + length and start < one.end
            ):
                continue
            passed = self._passed.get(one, 0)
            if passed < one.after:
                self._passed[one] = passed + length
                if call is Call.WRITE and passed + length > one.after:
                    return one.after - passed
                continue
            met = self._met[one] = self._met.get(one, 0) + 1
            if one.times and met > one.times:
                continue
            if one.seconds:
                time.sleep(one.seconds)
            if one.error:
                raise OSError(one.error, errno.errorcode[one.error])
        return length
