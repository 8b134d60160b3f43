"""What goes wrong while a stage is at work: disks that fail, clocks that jump, lines that are cut.

A stage may be refused meanwhile, in words that name what is wrong; once that is mended it is gone
on with, and ends as if nothing had been.
"""

import errno
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Protocol

from tests.chaos.lines import far_away, relayed
from tests.chaos.stages import Ingest, Round, Stage
from tests.chaos.world import World
from tests.disks.disk import Disk
from tests.disks.faults import Call, Fault, gone
from tests.line import Relay
from tests.media import tool

RIG = Path(__file__).with_name("rig")
_ROOT = Path(__file__).parents[2]
_DAY = 86_400
SECTOR = 4096


class Trouble(Protocol):
    """``made`` is there while the stage is, and does no harm yet; ``begin`` is called when the
    stage is at work, ``heal`` when all of it has ended. ``errors`` are those it may end with; one
    that is ``harmless`` delays it at most.
    """

    @property
    def name(self) -> str: ...
    @property
    def errors(self) -> frozenset[str]: ...
    @property
    def harmless(self) -> bool: ...

    def made(self, world: World, stage: Stage, ends: ExitStack) -> None: ...
    def begin(self, chance: random.Random) -> None: ...
    def heal(self) -> None: ...


@dataclass
class FailingDisk:
    """The disk that holds ``below`` the world's place fails."""

    name: str
    below: str
    faults: Callable[[random.Random], Sequence[Fault]]
    errors: frozenset[str] = frozenset()
    early: bool = False  # it fails before the stage begins
    injected: tuple[Fault, ...] = ()
    disk: Disk | None = None

    def made(self, world: World, stage: Stage, ends: ExitStack) -> None:
        if isinstance(stage, Ingest | Round) and self.below == "sources":
            place = stage.place = world.run / self.below
            place.mkdir()
            for one in world.disks:
                shutil.copy(one.image if isinstance(stage, Ingest) else one.later, place)
        self.disk = ends.enter_context(_volatile(world.run / self.below))

    def begin(self, chance: random.Random) -> None:
        assert self.disk is not None
        self.injected = tuple(self.faults(chance))
        for one in self.injected:
            self.disk.inject(one)

    def heal(self) -> None:
        assert self.disk is not None
        self.disk.heal()

    @property
    def harmless(self) -> bool:
        return not self.errors and not self.early

    @property
    def unreadable(self) -> tuple[Fault, ...]:
        """Faults that are ranges of bad sectors."""
        return tuple(one for one in self.injected if one.call is Call.READ and one.end < 1 << 62)


@contextmanager
def _volatile(real: Path) -> Iterator[Disk]:
    """What lies there is on a disk of tests/disks for a while, under the same path."""
    disk = Disk(real.with_name(f"{real.name} on a disk"))
    disk.tree.rmdir()
    real.mkdir(exist_ok=True)
    real.rename(disk.tree)
    real.mkdir()
    disk.start()
    tool("mount", "--bind", disk.path, real)
    try:
        yield disk
    finally:
        disk.heal()
        tool("umount", "--lazy", real)
        disk.stop()
        real.rmdir()
        disk.tree.rename(real)
        shutil.rmtree(disk.place)


@dataclass
class JumpingClock:
    """The wall clock goes back and forth by hours and years."""

    name: ClassVar[str] = "clock"
    errors: ClassVar[frozenset[str]] = frozenset()
    harmless: ClassVar[bool] = True
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def made(self, world: World, stage: Stage, ends: ExitStack) -> None:
        del stage
        self._place = world.run / "clock"
        self._place.write_text("0")
        before = dict(world.rig)
        world.rig.update(rigged(f"clock={self._place}"))
        ends.callback(world.rig.update, before)
        ends.callback(self.heal)

    def begin(self, chance: random.Random) -> None:
        jumps = [chance.choice((-1, 1)) * chance.uniform(0, 3 * 365 * _DAY) for _ in range(200)]
        self._ended.clear()
        self._threads = [threading.Thread(target=self._jump, args=(jumps,))]
        self._threads[0].start()

    def _jump(self, jumps: Sequence[float]) -> None:
        for one in jumps:
            self._place.write_text(f"{one:<60.3f}")
            if self._ended.wait(0.05):
                return

    def heal(self) -> None:
        self._ended.set()
        for one in self._threads:
            one.join()


def rigged(*what: str) -> dict[str, str]:
    """The environment of a process in which something is other than it is."""
    return {"PYTHONPATH": f"{RIG}:{_ROOT}", "MOTIONGEAR_CHAOS": ",".join(what)}


@dataclass
class BadWeather:
    """The line is slow, stands still, and is cut; whoever is on it goes on by himself."""

    name: ClassVar[str] = "bad line"
    errors: ClassVar[frozenset[str]] = frozenset()
    harmless: ClassVar[bool] = True
    relay: Relay | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def made(self, world: World, stage: Stage, ends: ExitStack) -> None:
        del stage
        self.relay = ends.enter_context(relayed(world))
        ends.callback(self.heal)

    def begin(self, chance: random.Random) -> None:
        assert self.relay is not None
        self.relay.delay = chance.choice((0.0, 0.0, 0.002))
        acts = [chance.choice(("cut", "cut", "stall")) for _ in range(chance.randrange(1, 4))]
        pauses = [chance.uniform(0.05, 1.5) for _ in acts]
        self._ended.clear()
        timed = list(zip(acts, pauses, strict=True))
        self._threads = [threading.Thread(target=self._act, args=(self.relay, timed))]
        self._threads[0].start()

    def _act(self, relay: Relay, acts: Sequence[tuple[str, float]]) -> None:
        for act, pause in acts:
            if self._ended.wait(pause):
                return
            if act == "cut":
                relay.cut()
            else:
                relay.down = True
                self._ended.wait(pause)
                relay.cut()
                relay.down = False

    def heal(self) -> None:
        self._ended.set()
        for one in self._threads:
            one.join()


@dataclass
class ThinLine:
    """Both ends in network namespaces of their own; the line between them is thin, and its link
    goes down and comes up again.
    """

    name: ClassVar[str] = "thin line"
    errors: ClassVar[frozenset[str]] = frozenset()
    harmless: ClassVar[bool] = True
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def made(self, world: World, stage: Stage, ends: ExitStack) -> None:
        del stage
        self._far = ends.enter_context(far_away(world, "30mbit"))
        ends.callback(self.heal)

    def begin(self, chance: random.Random) -> None:
        downs = [(chance.uniform(0.2, 2.0), chance.uniform(0.2, 3.0)) for _ in range(2)]
        self._ended.clear()
        self._threads = [threading.Thread(target=self._act, args=(downs,))]
        self._threads[0].start()

    def _act(self, downs: Sequence[tuple[float, float]]) -> None:
        for before, long in downs:
            if self._ended.wait(before):
                return
            self._far.link("down")
            self._ended.wait(long)
            self._far.link("up")

    def heal(self) -> None:
        self._ended.set()
        for one in self._threads:
            one.join()


# --- which there are ---


Faults = Callable[[random.Random], Sequence[Fault]]


def _some(chance: random.Random, mib: int) -> int:
    """After how many bytes a fault begins to be met."""
    return chance.randrange(mib << 20)


def _write(path: str, error: int, mib: int = 8) -> Faults:
    return lambda chance: [Fault(path, Call.WRITE, error, after=_some(chance, mib))]


def _sync_once(path: str) -> Faults:
    return lambda _: [Fault(path, Call.SYNC, errno.EIO, times=1)]


def _name_once(path: str) -> Faults:
    return lambda _: [Fault(path, Call.NAME, errno.EIO, times=1)]


def _read(path: str, times: int = 0) -> Faults:
    return lambda chance: [Fault(path, Call.READ, errno.EIO, after=_some(chance, 8), times=times)]


def _slow(path: str) -> Faults:
    return lambda chance: [Fault(path, Call.READ, seconds=0.1, after=_some(chance, 8), times=10)]


def _gone(path: str) -> Faults:
    return lambda chance: [replace(gone(path), after=_some(chance, 40))]


def _journal_write(chance: random.Random) -> Sequence[Fault]:
    """Not the manifests beside it: of a mapped page that is written in part FUSE tells nobody."""
    path, after = f"{_REPLICAS}/journal", chance.randrange(2000)
    return [Fault(path, Call.WRITE, errno.EIO, after=after)]


def _bad_sectors(chance: random.Random) -> Sequence[Fault]:
    """Some runs of sectors that no try can read."""
    starts = [chance.randrange(40 << 20) // SECTOR * SECTOR for _ in range(3)]
    return [
        Fault("*.img", Call.READ, errno.EIO, start=at, end=at + SECTOR * chance.randrange(1, 40))
        for at in starts
    ]


def _disk(name: str, below: str, faults: Faults, *errors: str) -> Callable[[], Trouble]:
    early = faults is _bad_sectors
    return lambda: FailingDisk(name, below, faults, frozenset(errors), early)


_PACKS, _VOLUMES, _REPLICAS = "store/packs/*", "volumes/*", "replicas/*"
_DAMAGED = ("pack-damaged", "record-damaged")
_NOTED = ("state", "job-died")  # its end may be what could not be noted

TROUBLES: Mapping[str, Sequence[Callable[[], Trouble]]] = {
    "ingest": (
        _disk("bad sectors", "sources", _bad_sectors),
        _disk("slow sectors", "sources", _slow("*.img")),
        _disk("source gone", "sources", _gone("*.img"), "source-gone"),
        _disk("store ENOSPC", "media", _write(_PACKS, errno.ENOSPC), "store-full"),
        _disk("store EIO", "media", _write(_PACKS, errno.EIO), "store-write"),
        _disk("store fsync fails once", "media", _sync_once(_PACKS), "store-write"),
        _disk("store rename fails", "media", _name_once(_PACKS), "store-write"),
        _disk("state ENOSPC", "device", _write("state.db*", errno.ENOSPC, 1), *_NOTED),
        JumpingClock,
    ),
    "seal": (
        _disk("pack EIO", "media", _read(_PACKS), *_DAMAGED, "store-write"),
        _disk("seal ENOSPC", "media", _write("store/*", errno.ENOSPC, 1), "store-full"),
        _disk("seal fsync fails once", "media", _sync_once("store*"), "store-write"),
        _disk("seal rename fails", "media", _name_once("store/*"), "store-write"),
        JumpingClock,
    ),
    "verify": (_disk("pack EIO", "arrived", _read(_PACKS), *_DAMAGED), JumpingClock),
    "verify with key": (
        _disk("pack EIO", "arrived", _read(_PACKS, 3), *_DAMAGED),
        JumpingClock,
    ),
    "restore": (
        _disk("pack EIO", "arrived", _read(_PACKS), *_DAMAGED),
        _disk("target ENOSPC", "cloud", _write(_VOLUMES, errno.ENOSPC, 20), "target-full"),
        _disk("target EIO", "cloud", _write(_VOLUMES, errno.EIO, 20), "target-write"),
        _disk("target fsync fails once", "cloud", _sync_once(_VOLUMES), "target-write"),
        _disk("state ENOSPC", "operator", _write("state.db*", errno.ENOSPC, 1), *_NOTED),
        JumpingClock,
    ),
    "check": (_disk("slow sectors", "cloud", _slow(_VOLUMES)), JumpingClock),
    "round": (
        _disk("target ENOSPC", "cloud", _write(_VOLUMES, errno.ENOSPC), "target-full"),
        _disk("target EIO", "cloud", _write(_VOLUMES, errno.EIO), "target-write"),
        _disk("target fsync fails once", "cloud", _sync_once(_VOLUMES), "target-write"),
        _disk("journal EIO", "operator", _journal_write, "state"),
        _disk("journal fsync fails once", "operator", _sync_once(_REPLICAS), "state"),
        _disk("source gone", "sources", _gone("*.img"), "source-gone"),
        BadWeather,
        ThinLine,
        JumpingClock,
    ),
    "frozen": (
        _disk("target EIO", "cloud", _write(_VOLUMES, errno.EIO, 40), "target-write"),
        BadWeather,
        JumpingClock,
    ),
    "final": (
        _disk("target EIO", "cloud", _write(_VOLUMES, errno.EIO, 40), "target-write"),
        _disk("target ENOSPC", "cloud", _write(_VOLUMES, errno.ENOSPC, 40), "target-full"),
        _disk("source gone", "sources", _gone("*.img"), "source-gone"),
        BadWeather,
        ThinLine,
        JumpingClock,
    ),
}
