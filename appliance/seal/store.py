"""The store of one shipment: its directory, and the Sink that writes one disk's point into it."""

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from appliance.block import NO_SPACE_ERRNOS, make_directory, opened, reserve, sync_directory
from appliance.errors import (
    AlreadySealedError,
    BadInputError,
    ExistsError,
    ForeignPackError,
    JobRunningError,
    MotionGearError,
    NotAStoreError,
    PackRepeatedError,
    PackUnlistedError,
    StoreFullError,
    StoreWriteError,
)
from appliance.model import BLOCK_SIZE, DiskId, PackId
from appliance.seal import canary, head, intent
from appliance.seal.identity import Device
from appliance.seal.keys import Recipient
from appliance.seal.layout import PackState
from appliance.seal.pack import CLOSED, NAME, OPEN, closed_name, writing
from appliance.seal.scan import PackInfo, examine
from appliance.seal.torn import disk_of, mend

PACKS = "packs"
SEAL = "seal.json"
RESERVE = "reserve"
# The largest contents (16 MiB) and the largest seal that is written (131,072 packs, 16,384 disks
# accepted, 1,024 files: 30.0 MiB), with what their files take around them.
RESERVE_SIZE = 3 * (1 << 24)
_NO_PLACE_ERRNOS = frozenset({errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_LEFT = re.compile(r"reserve|canary\.json|(head|canary)\.json\.[0-9a-f]{16}\.new")


@dataclass(frozen=True, slots=True)
class PointPacks:
    """The packs of one disk at one point, in order."""

    disk: DiskId
    point: int
    packs: tuple[PackInfo, ...]

    @property
    def last(self) -> PackInfo:
        return self.packs[-1]

    @property
    def complete(self) -> bool:
        """Whether the latest session came to the point's end. The keyed reader checks that
        nothing is missing.
        """
        return self.last.trailer.state is PackState.POINT_END

    @property
    def ids(self) -> tuple[PackId, ...]:
        return tuple(one.head.pack for one in self.packs)

    @property
    def splices(self) -> tuple[tuple[int, int], ...]:
        """(session, block) of every session that went on where an earlier one had stopped."""
        return tuple(
            (one.head.session, one.head.start)
            for one in self.packs
            if one.head.session and not one.head.sequence and one.head.start
        )


def by_point(infos: Sequence[PackInfo]) -> tuple[PointPacks, ...]:
    """Packs grouped by disk and point, ordered; contents packs left out. Refuses two packs in
    one place.
    """
    ordered = sorted(
        (one for one in infos if not one.head.is_contents), key=lambda one: one.head.order
    )
    for one, following in pairwise(ordered):
        if one.head.order == following.head.order:
            raise PackRepeatedError(
                f"{one.path.name} and {following.path.name} claim the same place in the same disk"
            )
    groups: dict[tuple[DiskId, int], list[PackInfo]] = {}
    for one in ordered:
        groups.setdefault((one.head.disk, one.head.point), []).append(one)
    return tuple(PointPacks(disk, point, tuple(packs)) for (disk, point), packs in groups.items())


class Store:
    """A shipment's directory, opened. Reading it needs no key and changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = head.read(path)
        self.packs = path / PACKS
        with _reading(path):
            if not self.packs.is_dir():
                raise NotAStoreError(f"{path} holds no directory {PACKS}")

    @classmethod
    def create(
        cls,
        path: Path,
        label: str,
        device: Device,
        recipients: tuple[Recipient, ...],
        block_size: int = BLOCK_SIZE,
    ) -> "Store":
        """A new shipment in a directory that does not exist yet, or is empty but for what a killed
        maker has left; it is empty again when no shipment can be made.
        """
        if not recipients:
            raise BadInputError("A shipment needs at least one recipient")
        made = head.make(label, device.public, recipients, block_size)
        intent.refuse(path)
        try:
            with _claimed(path):
                _take_reserve(path)
                canary.create(path, made)
                head.write(path, made)  # last: where it is, there is a shipment
        except FileExistsError as exc:
            raise ExistsError(f"{path} is there already, or was made just now") from exc
        except OSError as exc:
            raise _cannot_make(path, exc) from exc
        return cls(path)

    @property
    def sealed(self) -> bool:
        with _reading(self.path):
            return (self.path / SEAL).exists()

    def refuse_sealed(self) -> None:
        if self.sealed:
            raise AlreadySealedError(f"The shipment {self.head.label!r} is sealed")

    @contextmanager
    def lock(self, *, alone: bool) -> Iterator[None]:
        """Held together by all jobs that write packs or read them, alone by whoever seals or
        erases; ends with the process.
        """
        with ExitStack() as stack:
            with _reading(self.path):
                fd = stack.enter_context(opened(self.path / head.FILE, os.O_RDONLY))
                try:
                    fcntl.flock(fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                except BlockingIOError as exc:
                    raise JobRunningError(
                        f"Another job is at work on the shipment {self.head.label!r}"
                    ) from exc
            intent.refuse(self.path)  # it may have begun since the store was opened
            yield

    def give_up_reserve(self) -> None:
        """Free the space kept for the contents pack and the seal, which are now to be written."""
        with writing(self.path / RESERVE):
            (self.path / RESERVE).unlink(missing_ok=True)

    def take_reserve(self) -> None:
        """Keep that space again where it is not; raises OSError when others have taken it."""
        if not (self.path / RESERVE).exists():
            _take_reserve(self.path)

    def names(self) -> Iterator[str]:
        """What lies in packs/; anything that is no pack is refused, since nobody could vouch
        for it.
        """
        with _reading(self.packs):
            found = sorted(one.name for one in self.packs.iterdir())
        for one in found:
            if not NAME.fullmatch(one):
                raise no_pack(one)
            yield one

    def closed(self) -> Iterator[Path]:
        return (self.packs / one for one in self.names() if CLOSED.fullmatch(one))

    def open_packs(self) -> Iterator[Path]:
        return (self.packs / one for one in self.names() if OPEN.fullmatch(one))

    def pack(self, pack: PackId) -> Path:
        return self.packs / closed_name(pack)

    def infos(self) -> list[PackInfo]:
        """All closed packs, by their public parts."""
        return [examine(one) for one in self.closed()]

    def refuse_foreign(self, info: PackInfo) -> None:
        """Refuse a pack whose public head does not agree with head.json or with its name."""
        head, name = info.head, info.path.name
        if head.shipment != self.head.shipment or head.head_digest != self.head.digest():
            raise ForeignPackError(f"{name} belongs to another shipment")
        if name != closed_name(head.pack):
            raise ForeignPackError(f"{name} is pack {head.pack} under another's name")
        if head.block_size != self.head.block_size or head.recipients != len(self.head.recipients):
            raise ForeignPackError(f"{name} does not agree with head.json")

    def mend(self, disk: DiskId | None = None) -> None:
        """Close the torn packs of one disk, refusing while another job writes it; or, holding the
        store alone, all.

        Another job's pack that is just being made must not be touched: it may not be locked yet.
        """
        for one in self.open_packs():
            if disk is None:
                with suppress(JobRunningError), writing(one):
                    mend(one)
            elif disk_of(one) == disk:
                with writing(one):
                    mend(one)

    def discard(self, disk: DiskId) -> int:
        """Remove all packs of one disk from an unsealed shipment; returns their bytes."""
        self.refuse_sealed()
        self.mend()
        removed = 0
        for info in self.infos():
            if info.head.disk == disk:
                with writing(info.path):
                    info.path.unlink()
                removed += info.size
        with writing(self.packs):
            sync_directory(self.packs)
        return removed


def no_pack(name: str) -> PackUnlistedError:
    """The refusal of what lies among the packs and is not named as one."""
    return PackUnlistedError(
        f"packs/{name!r} is no pack of this store",
        safe="Nothing was read from it; the packs are not touched by it.",
        todo="Move it out of packs/, and keep it for whoever asks how it came there.",
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A store that cannot be read is refused, whether it vanished, is closed to us or fails."""
    try:
        yield
    except OSError as exc:
        raise NotAStoreError(
            f"{path} cannot be read ({exc.strerror})",
            todo="Check that the store's disk is attached, and that you may read it.",
        ) from exc


def _take_reserve(path: Path) -> None:
    with opened(path / RESERVE, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644) as fd:
        try:
            reserve(fd, RESERVE_SIZE)
        except OSError:
            (path / RESERVE).unlink()
            raise


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """The directory of a shipment being made: for one maker alone, and gone when that fails."""
    if path.exists() and not path.is_dir():
        raise ExistsError(f"{path} is there already and is not an empty directory")
    missing = [one for one in (path, *path.parents) if not one.exists()]
    with ExitStack() as undo:
        for one in reversed(missing):
            undo.callback(_leave, one.rmdir)
        make_directory(path)
        with _alone(path):
            _clear(path)
            (path / PACKS).mkdir()
            undo.callback(_leave, (path / PACKS).rmdir)
            for name in (RESERVE, head.FILE, canary.FILE):
                undo.callback(_leave, (path / name).unlink)
            yield
            undo.pop_all()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else makes a shipment in the directory meanwhile."""
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise FileExistsError(errno.EEXIST, "somebody else is making it") from exc
        yield


def _clear(path: Path) -> None:
    """Remove what a killed maker has left, who had not come to the head; refuse all else."""
    found = [one for one in path.iterdir() if one.name != PACKS]
    packs = path / PACKS
    if any(not _LEFT.fullmatch(one.name) for one in found) or (
        packs.exists() and any(packs.iterdir())
    ):
        raise ExistsError(f"{path} is there already and is not an empty directory")
    for one in found:
        one.unlink()
    if packs.exists():
        packs.rmdir()


def _leave(remove: Callable[[], None]) -> None:
    with suppress(OSError):  # it was never made, or another maker is in it
        remove()


def _cannot_make(path: Path, exc: OSError) -> MotionGearError:
    what = f"No shipment can be made in {path} ({exc.strerror})"
    if exc.errno in NO_SPACE_ERRNOS:
        todo = f"Choose a directory on a disk with room: {RESERVE_SIZE >> 20} MiB for the seal."
        return StoreFullError(what, safe="Nothing was stored.", todo=todo)
    if exc.errno in _NO_PLACE_ERRNOS:
        return BadInputError(what, todo="Choose another directory.")
    todo = "Choose a directory that can be written to."
    return StoreWriteError(what, safe="Nothing was stored.", todo=todo)
