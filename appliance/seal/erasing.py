"""Erasing a shipment: its files' space given back and the disk told, pages looked at afterwards,
and what was done written down as it is done.

The order makes every interruption one that can be named: record and mark are durable before the
first pack goes; packs, then the seal, then the head, then the mark, then the directory. From the
mark to its end only the mark tells that a place is the one that was agreed to; without one it is
looked at and asked for again. Nothing is written over: on flash and in journals that would prove
nothing (docs/threat-model.md).
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from appliance.block import (
    NO_SPACE_ERRNOS,
    make_directory,
    read_small,
    sync_directory,
    sync_file_system,
    trim,
    write_durably,
)
from appliance.errors import (
    ErasedInPartError,
    NotAStoreError,
    RootMismatchError,
    StoppedError,
    StoreFullError,
    StoreRefusedError,
    StoreWriteError,
)
from appliance.events import Emit, Json, Progress, Step
from appliance.model import ShipmentId, Stop
from appliance.seal import canon, custody, deed, erasable, head, intent, places
from appliance.seal.certificate import (
    LONGEST_NAME,
    MAX_LEFT,
    Copies,
    Delivered,
    Directory,
    Discard,
    Erased,
    Method,
    Outcome,
    digest,
    parse_erased,
    write_erased,
)
from appliance.seal.erasable import Found
from appliance.seal.intent import Intent
from appliance.seal.kept import kept, load, save
from appliance.seal.statement import MAX_SEAL
from appliance.seal.store import PACKS, SEAL
from appliance.seal.torn import DAMAGED
from appliance.seal.tree import BELOW, LAST, PLACE, Listed, Tree, remove_empty

DIRECTORY = "erasures"  # in the home
RECORD = "record.json"
COPY = "copy-of-"  # else what is kept here would look like a store
_NOT_SUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS})
_NOT_PERMITTED = frozenset({errno.EPERM, errno.EACCES})


class Phase(StrEnum):
    """How far an erase has come. ``begun``: it is agreed to, nothing is touched. ``packs``: the
    mark stands, they are going. ``looked``: they are gone, and their places were looked at.
    ``last``: seal and head are gone too. ``unmarked``: the mark as well. ``ended``: all is done.
    """

    BEGUN = "begun"
    PACKS = "packs"
    LOOKED = "looked"
    LAST = "last"
    UNMARKED = "unmarked"
    ENDED = "ended"


_MARKED = frozenset({Phase.PACKS, Phase.LOOKED})


@dataclass(frozen=True, slots=True)
class Consent:
    """What is known of the delivery, and what the operator has said twice."""

    delivered: Delivered
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """An erase as far as it has come, kept in the home. ``stood`` tells which directory it was,
    and which one that stood in, once nothing in it would tell it from others.
    """

    phase: Phase
    pages: places.Pages
    erased: Erased
    stood: tuple[str, str] = ("", "")

    def is_of(self, path: Path, about: Intent) -> bool:
        """Whether it is the one that goes on there. A mark is not signed: it may be a copy, of
        another place, or older than the end of its erase.
        """
        mine = (self.erased.place, self.erased.shipment, self.erased.root)
        return self.phase is not Phase.ENDED and mine == (str(path), about.shipment, about.root)


def _write(record: Record) -> Json:
    return {
        "around": record.stood[1],
        "erased": write_erased(record.erased),
        "pages": places.write_pages(record.pages),
        "phase": record.phase,
        "place": record.stood[0],
    }


def _parse(fields: canon.Fields) -> Record:
    return Record(
        phase=Phase(fields.choice("phase", *Phase)),
        pages=places.parse_pages(fields.object("pages")),
        erased=parse_erased(fields.object("erased")),
        stood=(fields.text("place", 40), fields.text("around", 40)),
    )


def _identity(at: Path) -> str:
    """What tells a directory from one of another disk: its inode, and its file system's number."""
    return f"{at.lstat().st_ino:x}-{os.statvfs(at).f_fsid:x}"


def _stands(tree: Tree) -> tuple[str, str]:
    """The directory, and the one around it."""
    return _identity(tree.path), _identity(tree.path.parent)


def _refuse_unwritable(record: Record) -> None:
    """What could not be read back is not begun: sparse files may say any size."""
    data = canon.dump(_write(record))
    try:
        canon.read(data, RECORD, _parse, _write, StoreRefusedError)
    except StoreRefusedError as exc:
        raise NotAStoreError(
            f"{record.erased.place} holds what no certificate can tell ({exc.what})",
            todo="See which of its files says a size that cannot be; take it away.",
        ) from exc


def _is(at: Path, identity: str) -> bool:
    """Whether this directory stands there; no where that cannot be told."""
    with suppress(OSError):
        return _identity(at) == identity
    return False


def _is_gone_from(path: Path, stood: tuple[str, str]) -> bool:
    """Whether the directory has left the one it stood in. Of what was mounted there nobody knows:
    it is gone from there when its disk is away.
    """
    own, around = (one.partition("-")[2] for one in stood)
    return own == around and _is(path.parent, stood[1]) and not os.path.lexists(path)


def goes_on(home: Path, path: Path, about: Intent) -> bool:
    """Whether the erase that a mark at ``path`` tells of goes on under its number: it does where
    nothing is known of it here.
    """
    if not about.erasure:
        return False
    known = record_of(home, about.erasure)
    return known is None or known.is_of(path, about)


def record_of(home: Path, erasure: str) -> Record | None:
    """What is known here of an erase; None where it has not begun here."""
    path = kept_at(home, erasure) / RECORD
    return load(path, _parse, _write) if path.exists() else None


def kept_at(home: Path, erasure: str) -> Path:
    """Where the record lies, and copies of what was public in the shipment."""
    return home / DIRECTORY / erasure


class Eraser:
    """One erase: of the store at ``path``, under the number ``erasure``, written down in ``home``.
    ``ready`` is asked once, before anything is touched, and raises what refuses it.
    """

    def __init__(self, home: Path, path: Path, erasure: str, emit: Emit, stop: Stop) -> None:
        self._home, self._path, self._erasure = home, path, erasure
        self._emit, self._stop = emit, stop
        self._kept = kept_at(home, erasure)

    def run(self, ready: Callable[[Found], Consent]) -> Erased:
        """To its end, from where it stands; raises StoppedError between two files."""
        record = record_of(self._home, self._erasure)
        if record is None or record.phase in _MARKED | {Phase.BEGUN}:
            with Tree.opened(self._path) as tree, tree.alone():
                record = self._emptied(tree, ready)
        if record.phase is Phase.LAST:
            record = self._unmarked(record)
        if record.phase is Phase.UNMARKED:
            record = self._removed(record)
        return record.erased

    def _emptied(self, tree: Tree, ready: Callable[[Found], Consent]) -> Record:
        """All but the mark and what is no part of a store goes."""
        record = record_of(self._home, self._erasure)  # another job may have gone on with it
        is_marked = self._is_marked(tree)
        if record is None or (record.phase is Phase.BEGUN and not is_marked):
            record = self._begun(tree, ready)
        if record.phase is Phase.BEGUN:
            if not is_marked:
                self._mark(tree, record.erased)
            record = self._noted(replace(record, phase=Phase.PACKS))
        elif record.phase in _MARKED and not is_marked:
            raise RootMismatchError(
                f"{tree.path} is not where the erase has begun: its mark is not there",
                safe="Nothing of it was erased.",
                todo="Attach the disk that holds it; then resume the job. Where another erase has "
                "ended there, discard the job.",
            )
        if record.phase is Phase.PACKS:
            record = self._packs(tree, record)
        if record.phase is Phase.LOOKED:
            record = self._seal_and_head(tree, record)
        return record

    def _is_marked(self, tree: Tree) -> bool:
        """Whether this erase's mark stands there; refuses a place where another one goes on."""
        if not intent.stands(tree.path):
            return False
        known = intent.read(tree.path)
        if known.erasure != self._erasure and goes_on(self._home, tree.path, known):
            raise RootMismatchError(f"Another erase has begun in {tree.path}")
        return known.erasure == self._erasure

    def _begun(self, tree: Tree, ready: Callable[[Found], Consent]) -> Record:
        """What is there, and where pages of it lie; durable before anything goes."""
        found = erasable.look_in(tree)
        consent = ready(found)
        about = found.about
        packs = [
            (found.path / directory / name, size)
            for directory in (PACKS, DAMAGED)
            for name, size in found.listed.known.get(directory, {}).items()
        ]
        with kept(self._kept):
            make_directory(self._kept, 0o700)
        erased = Erased(
            erasure=self._erasure,
            shipment=about.shipment,
            label=about.label,
            signer=about.signer,
            root=about.root,
            sequence=about.sequence,
            known_by=found.known_by,
            place=str(found.path),
            packs=about.packs,
            size=about.size,
            delivered=consent.delivered,
            told=consent.told,
            began=canon.now(),
            copies=self._copies(found.path, about.shipment),
        )
        with tree.erasing():
            noted, stood = places.note(packs), _stands(tree)
        record = Record(Phase.BEGUN, noted, erased, stood)
        _refuse_unwritable(record)
        return self._noted(record)

    def _copies(self, store: Path, shipment: ShipmentId) -> Copies:
        """Copies of what is public beside the packs, where there is any; their digests. Of the
        chain of custody, which goes on at home, that of its last record.
        """
        found = {}
        for name, most in ((head.FILE, head.MAX_HEAD), (SEAL, MAX_SEAL)):
            try:
                data = read_small(store / name, most + 1)
            except OSError:
                found[name] = ""
                continue
            with kept(self._kept):
                write_durably(self._kept / f"{COPY}{name}", data, 0o600)
            found[name] = digest(data)
        self._keep(custody.in_store(store))
        chain = custody.at_home(self._home, shipment)
        custody.bring(custody.in_store(store), chain, shipment)
        last = custody.last_digest(custody.read(chain), shipment)
        return Copies(head=found[head.FILE], seal=found[SEAL], custody=last)

    def _keep(self, chain: Path) -> None:
        """The store's chain of custody as it lies there: what of it is not sound does not go on at
        home, and tells who has changed it.
        """
        try:
            names = sorted(
                one.name for one in os.scandir(chain) if one.is_file(follow_symlinks=False)
            )
        except OSError:
            return
        place = self._kept / f"{COPY}{custody.DIRECTORY}"
        with kept(self._kept):
            make_directory(place, 0o700)
        for name in names[: custody.MAX_RECORDS]:
            try:
                data = read_small(chain / name, deed.MOST + 1)
            except OSError:
                continue  # on a disk that is dying
            with kept(place):
                write_durably(place / name, data, 0o600)

    def _noted(self, record: Record) -> Record:
        save(self._kept / RECORD, _write(record))
        return record

    def _mark(self, tree: Tree, erased: Erased) -> None:
        """From here on it is no store."""
        mark = Intent(
            erasure=self._erasure,
            shipment=erased.shipment,
            label=erased.label,
            signer=erased.signer,
            root=erased.root,
            sequence=erased.sequence,
            packs=erased.packs,
            size=erased.size,
            began=erased.began,
        )
        try:
            with tree.erasing():
                mark.put(tree.itself)
        except StoreWriteError as exc:
            if not _is_full(exc):
                raise
            raise StoreFullError(
                f"{tree.path}: its disk is full, there is no room to note that the erase begins",
                safe="Nothing was erased.",
                todo="Move any file of that disk that is not the shipment's elsewhere, 1 MB is "
                "enough; then resume the job.",
            ) from exc

    def _packs(self, tree: Tree, record: Record) -> Record:
        """All but seal, head and mark goes; the disk is told, and looked at."""
        self._emit(Step("erase", record.erased.label))
        found = erasable.look_in(tree)
        going = [
            (directory, name, size)
            for directory in (*BELOW, PLACE)
            for name, size in found.listed.known.get(directory, {}).items()
            if directory or name not in LAST
        ]
        total = record.erased.size
        done = max(total - sum(size for *_, size in going), 0)
        for directory, name, size in going:
            self._refuse_to_go_on()
            if not tree.erase(directory, name) and record.erased.method is Method.PUNCHED:
                cut = replace(record.erased, method=Method.TRUNCATED)
                record = self._noted(replace(record, erased=cut))
            done += size
            self._emit(Progress("erase", done, total))
        tree.sync()
        self._emit(Step("discard"))
        with tree.erasing():
            sync_file_system(tree.fd)  # the disk may forget only what is written down as free
        discard = _discard(tree.fd)
        self._emit(Step.said("look", "{count} pages", count=len(record.pages.pages)))
        seen = places.look_again(record.pages, self._device(tree, record))
        left = _left(erasable.look_in(tree).listed)
        erased = replace(
            record.erased,
            discard=discard,
            seen=seen,
            left=tuple(one[:LONGEST_NAME] for one in left[:MAX_LEFT]),
            left_count=len(left),
        )
        return self._noted(replace(record, phase=Phase.LOOKED, erased=erased))

    def _device(self, tree: Tree, record: Record) -> int | None:
        """The number of the disk that the pages were noted on; None where that is not told: the
        store may have come onto another one since.
        """
        same = _is(tree.path, record.stood[0])
        return os.fstat(tree.fd).st_dev if same else None

    def _refuse_to_go_on(self) -> None:
        if self._stop():
            raise StoppedError(
                "The erase was stopped",
                safe="What was erased is gone; the rest is as it was, but no store any more.",
                todo="Resume the job: only then is the shipment erased.",
            )

    def _seal_and_head(self, tree: Tree, record: Record) -> Record:
        tree.remove_directories()
        there = tree.listed().known[PLACE]
        for name in LAST[:-1]:
            if name in there:
                tree.erase(PLACE, name)
                tree.sync()
        with tree.erasing():
            stood = _stands(tree)
        return self._noted(replace(record, phase=Phase.LAST, stood=stood))

    def _unmarked(self, record: Record) -> Record:
        """The mark goes: the last thing that tells the directory from others."""
        if _is_gone_from(self._path, record.stood):  # moved, perhaps with its mark
            return self._noted(replace(record, phase=Phase.UNMARKED, stood=("", "")))
        there = _is(self._path, record.stood[0])
        if intent.stands(self._path):
            with Tree.opened(self._path) as tree, tree.alone():
                if self._is_own_mark(there=there):
                    there = True
                    tree.erase(PLACE, intent.FILE)
                    tree.sync()
        if not there:
            raise NotAStoreError(
                f"{self._path} is not the place that was erased: its disk is not attached",
                safe="What was erased is gone; its mark may still be there.",
                todo="Attach the disk that holds it; then resume the job.",
            )
        return self._noted(replace(record, phase=Phase.UNMARKED))

    def _removed(self, record: Record) -> Record:
        """The directory goes where nothing is left in it. Where it is gone already, this erase
        has removed it if it could; else, and where its disk is away, it counts as kept.
        """
        gone = not record.erased.left_count and _is_gone_from(self._path, record.stood)
        if _is(self._path, record.stood[0]):
            with suppress(OSError):
                gone = remove_empty(self._path)
                sync_directory(self._path.parent)
        directory = Directory.REMOVED if gone else Directory.KEPT
        erased = replace(record.erased, directory=directory, ended=canon.now())
        return self._noted(replace(record, phase=Phase.ENDED, erased=erased))

    def _is_own_mark(self, *, there: bool) -> bool:
        """Whether it is this erase's mark, or, in the directory that was erased, one that a power
        cut has left without its bytes.
        """
        try:
            return intent.read(self._path).erasure == self._erasure
        except ErasedInPartError:
            return there


def _left(listed: Listed) -> list[str]:
    """What stays: no part of a store, or come in since the erase has begun."""
    late = [
        os.path.join(directory, name)  # noqa: PTH118 - as all that is left is named
        for directory, names in listed.known.items()
        for name in names
        if directory or name not in LAST
    ]
    return sorted([*listed.left, *late])


def _is_full(exc: StoreWriteError) -> bool:
    return isinstance(exc.__cause__, OSError) and exc.__cause__.errno in NO_SPACE_ERRNOS


def _discard(fd: int) -> Discard:
    """Tell the disk which blocks are free."""
    try:
        return Discard(Outcome.DONE, trim(fd))
    except OSError as exc:
        if exc.errno in _NOT_SUPPORTED:
            return Discard(Outcome.NOT_SUPPORTED)
        if exc.errno in _NOT_PERMITTED:
            return Discard(Outcome.NOT_PERMITTED)
        return Discard(Outcome.FAILED)
