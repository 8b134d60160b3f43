"""One point over the disks of a living machine: every file system that lies on them is frozen.

What is frozen is found from below: a mounted file system counts when one of the disks is among all
that it stands on, through partitions, device-mapper, RAID, btrfs and loop devices. What writes
past the file systems is not held back, but the kernel's counters tell of it.
"""

import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.block import opened, sync_file_system
from appliance.errors import (
    BadInputError,
    FreezeLostError,
    FreezeRefusedError,
    NeedRootError,
)
from appliance.ingest import counters, guard
from appliance.ingest.guard import Mount
from appliance.ingest.watchdog import FIFREEZE, Watchdog, thaw, watched

_PROC = Path("/proc")
_MOST_SECONDS = 24 * 3600
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOTTY})


@dataclass(frozen=True, slots=True)
class _FileSystem:
    """A mounted file system and a descriptor in it."""

    where: str
    fd: int


class Freeze:
    """model.Frozen, as it comes about."""

    def __init__(self, disks: Mapping[str, int], idle: tuple[str, ...]) -> None:
        self.idle = idle
        self._disks = disks
        self._dog: Watchdog | None = None
        self._before: Mapping[int, counters.Counted] = {}
        self.mounts: tuple[str, ...] = ()
        self.loose: tuple[str, ...] = ()
        self._began = time.monotonic()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._began

    def begin(self, mounts: tuple[str, ...], dog: Watchdog) -> None:
        self.mounts, self._dog = mounts, dog
        self._before = counters.written(self._disks.values())  # what a freeze writes is over now

    def confirm(self) -> None:
        """As model.Frozen says; whoever has thawed and not yet written is found at the end."""
        if self._ended is not None:
            return
        moved = self.moved()
        if self._dog is not None and self._dog.thawed:
            raise FreezeLostError(f"After {self.seconds:.0f} s it was not frozen any more")
        if moved:
            raise _written_to(moved)

    def moved(self) -> list[str]:
        """The disks that were written to since: past their file systems, by one that could not be
        frozen, or by one that was thawed and frozen again.
        """
        now, before = counters.written(self._disks.values()), self._before
        return [name for name, number in self._disks.items() if now[number] != before[number]]

    def end(self) -> None:
        self._ended = time.monotonic()


@contextmanager
def frozen(
    disks: Mapping[str, int], own: Sequence[Path], at_most_seconds: float
) -> Iterator[Freeze]:
    """Freeze what is mounted from ``disks``, device numbers by name. ``own`` is what this process
    writes to meanwhile. The contract is model.Freezes'.
    """
    if not 0 < at_most_seconds <= _MOST_SECONDS:
        raise BadInputError(f"Nothing can be frozen for {at_most_seconds:g} s")
    with ExitStack() as held:
        numbers = set(disks.values())
        mounted = _standing_on(numbers, guard.mounts())
        _refuse_own([one for one in mounted if not one.read_only], own)
        used = {number for one in mounted for number in guard.standing(one)}
        point = Freeze(disks, tuple(name for name, number in disks.items() if number not in used))
        point.loose = _elsewhere(numbers, {one.number for one in mounted})
        found = []
        for each in _superblocks(mounted):
            one = _reached(each, held)
            if one is None:
                point.loose += (each[0].where,)
            else:
                found.append(one)
                with suppress(OSError):  # what is written now need not be while frozen
                    sync_file_system(one.fd)
        dog = held.enter_context(watched([one.fd for one in found], at_most_seconds))
        held.enter_context(_no_bytecode())
        with _held(point, found, dog, disks):
            yield point


@contextmanager
def _held(
    point: Freeze, found: Sequence[_FileSystem], dog: Watchdog, disks: Mapping[str, int]
) -> Iterator[None]:
    done: list[_FileSystem] = []
    lost, moved = list[int](), list[str]()
    dog.go()
    try:
        for one in found:
            if _froze(one):
                done.append(one)
            else:
                point.loose += (one.where,)
        _write_back(disks)
        point.begin(tuple(one.where for one in done), dog)
        yield
        moved = point.moved()
    finally:
        lost = thaw([one.fd for one in done])
        point.end()
        if not lost:
            dog.dismiss()
    if lost:
        names = ", ".join(one.where for one in done if one.fd in lost)
        raise FreezeLostError(f"After {point.seconds:.0f} s {names} was not frozen any more")
    if moved:
        raise _written_to(moved)


def _written_to(moved: Sequence[str]) -> FreezeLostError:
    return FreezeLostError(
        f"{', '.join(moved)} was written to while it was to stand still",
        todo="Stop what writes there past what can be frozen (a database on a raw partition, "
        "a virtual machine on a logical volume, a container), then run it again.",
    )


def _write_back(disks: Mapping[str, int]) -> None:
    """A disk that another is made of, as a loop device may be, has a cache of its own: what the
    file systems above have written must not reach it later.
    """
    for name in disks:
        with suppress(OSError), opened(name, os.O_RDONLY) as fd:
            os.fsync(fd)


def _froze(one: _FileSystem) -> bool:
    """False where the file system knows no freezing."""
    try:
        fcntl.ioctl(one.fd, FIFREEZE, 0)
    except PermissionError as exc:
        raise NeedRootError(f"{one.where} cannot be frozen ({exc.strerror})") from exc
    except OSError as exc:
        if exc.errno in _CANNOT:
            return False
        why = "somebody else has frozen it" if exc.errno == errno.EBUSY else exc.strerror
        raise FreezeRefusedError(
            f"{one.where} cannot be frozen: {why}",
            todo="Wait for whoever froze it, or thaw it with `fsfreeze --unfreeze`.",
        ) from exc
    return True


def _standing_on(disks: set[int], mounts: Iterable[Mount]) -> list[Mount]:
    return [one for one in mounts if guard.standing(one) & disks]


def _superblocks(mounted: Sequence[Mount]) -> list[list[Mount]]:
    """The mounts of each file system that can be written to. One that lies in a file of another
    comes before it: its last writes go through the other.
    """
    found: dict[int, list[Mount]] = {}
    for one in mounted:
        if not one.read_only:
            found.setdefault(one.number, []).append(one)
    return sorted(found.values(), key=lambda each: (-len(guard.standing(each[0])), each[0].number))


def _reached(mounts: Sequence[Mount], held: ExitStack) -> _FileSystem | None:
    """Open the file system where one of its mounts is not covered by another; None: nowhere."""
    for one in mounts:
        try:
            fd = os.open(one.where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as exc:
            if os.geteuid():
                raise NeedRootError(f"{one.where} cannot be frozen ({exc.strerror})") from exc
        except OSError:
            continue  # its place was removed
        else:
            held.callback(os.close, fd)
            if guard.mount_of(fd) == one.id:
                return _FileSystem(one.where, fd)
    return None


def _elsewhere(disks: set[int], ours: set[int]) -> tuple[str, ...]:
    """What other mount namespaces, such as containers, have mounted from these disks and ours
    has not: it is out of reach.
    """
    found: dict[int, str] = {}
    seen = set()
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            space = (process / "ns" / "mnt").readlink()
            if space not in seen:
                seen.add(space)
                for one in _standing_on(disks, guard.mounts(process / "mountinfo")):
                    if one.number not in ours and not one.read_only:
                        found[one.number] = f"{one.where} (in the container of {process.name})"
    return tuple(found.values())


def _refuse_own(mounted: Sequence[Mount], own: Sequence[Path]) -> None:
    """Refuse where a write of this process would wait for the thaw that is its own to make."""
    at = {one.number: one.where for one in mounted}
    by_id = {one.id: one for one in guard.mounts()}
    for name, fd in _written(own):
        try:
            mount = by_id.get(guard.mount_of(fd))
        finally:
            os.close(fd)
        if mount is None or not at:
            continue
        if mount.number in at:
            raise FreezeRefusedError(
                f"{name} lies on {at[mount.number]}, which would be frozen: we would hang"
            )
        if mount.type == "overlay":
            raise FreezeRefusedError(
                f"{name} lies on an overlay, which may lie on {next(iter(at.values()))}"
            )


def _written(own: Sequence[Path]) -> Iterator[tuple[str, int]]:
    """What this process writes to: its own paths, and where its output goes into a file."""
    for path in own:
        with suppress(OSError):
            yield str(path), os.open(path, os.O_PATH | os.O_CLOEXEC)
    for fd, name in ((1, "The standard output"), (2, "The log")):
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(fd).st_mode):
                yield name, os.dup(fd)


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """A module first imported while frozen must not be written down beside its source."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
