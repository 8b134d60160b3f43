"""What is wrong with a store: its structure, without a key, and what lies around it. Nothing in it
is locked, made or changed.
"""

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from pwd import getpwuid

from appliance.block import free_space
from appliance.diagnose import locks, space
from appliance.diagnose.findings import Finding
from appliance.diagnose.kinds import ALL_RECORDS, Kind
from appliance.errors import (
    CustodyRefusedError,
    ForeignPackError,
    MotionGearError,
    NotAStoreError,
    PackDamagedError,
    PackMissingError,
    PackUnlistedError,
    StoreRefusedError,
)
from appliance.seal import canary, chain, custody, files, head, intent, statement, verify
from appliance.seal.deed import Deed
from appliance.seal.label import Label
from appliance.seal.pack import NAME, OPEN
from appliance.seal.scan import PackInfo, examine
from appliance.seal.statement import Seal, SealedPack
from appliance.seal.store import PACKS, RESERVE, RESERVE_SIZE, SEAL, Store, by_point, no_pack
from appliance.seal.torn import DAMAGED
from appliance.seal.verify import Pins

_MOST = 20  # findings of a kind
_DRAFT = re.compile(r".*\.[0-9a-f]{16}\.new")
_OWN = {
    head.FILE,
    canary.FILE,
    SEAL,
    PACKS,
    RESERVE,
    DAMAGED,
    files.DIRECTORY,
    custody.DIRECTORY,
    intent.FILE,
}


def findings(path: Path) -> Iterator[Finding]:
    """Of the store at ``path``; a kind of finding at most twenty times."""
    counts: Counter[Kind] = Counter()
    for one in _whatever_refuses(path):
        counts[one.kind] += 1
        if counts[one.kind] <= _MOST:
            yield one
    for kind, count in counts.items():
        if count > _MOST:
            yield Finding(Kind.MORE, {"count": str(count - _MOST), "kind": kind})


def _whatever_refuses(path: Path) -> Iterator[Finding]:
    """A store whose disk fails on the way is told as far as it can be read."""
    try:
        yield from _all(path)
    except OSError as exc:
        what = f"{exc.filename or path} cannot be read ({exc.strerror})"
        todo = "Check that the store's disk is attached, and that you may read it."
        yield Finding(Kind.STORE_REFUSED, refusal=NotAStoreError(what, todo=todo))


def _all(path: Path) -> Iterator[Finding]:
    try:
        store = Store(path)
    except MotionGearError as exc:
        yield Finding(Kind.STORE_REFUSED, refusal=exc)
        return
    try:
        seal = statement.read(path) if store.sealed else None
    except StoreRefusedError as exc:
        seal = None
        yield Finding(Kind.SEAL_REFUSED, refusal=exc)
    if seal is not None:  # what it names is what packs are held against
        yield from _seal(store, seal)
    yield from _place(store)
    yield from _packs(store, seal)
    if not store.sealed:
        yield from _unsealed(store)
    yield from _custody(store, seal)
    verb = shlex.join(["motiongear", "verify", "--store", str(path)]) if seal is not None else ""
    yield Finding(Kind.CONTENT_UNREAD, verb=verb)


def _place(store: Store) -> Iterator[Finding]:
    """What lies beside the packs, and who may do what."""
    for one in (store.path, store.packs):
        if one.stat().st_mode & 0o002:
            yield Finding(Kind.STORE_OPEN, {"path": str(one)})
    inside = sorted(store.path.iterdir())
    for each in (*inside, *sorted(custody.in_store(store.path).glob("*"))):
        if _DRAFT.fullmatch(each.name):
            yield Finding(Kind.DRAFT_LEFT, {"name": str(each.relative_to(store.path))})
        elif each in inside and each.name not in _OWN:
            yield Finding(Kind.FOREIGN_FILE, {"name": each.name})
    if aside := len(list((store.path / DAMAGED).glob("*"))):
        yield Finding(Kind.ASIDE, {"count": str(aside)})
    for held in locks.holders([store.path / head.FILE]):
        yield Finding(Kind.STORE_LOCKED, {"pid": str(held.pid), "name": held.name})


def _unsealed(store: Store) -> Iterator[Finding]:
    """Whether more can be stored."""
    yield Finding(Kind.UNSEALED)
    yield space.left(store.path)
    found = store.path.stat()
    if os.statvfs(store.path).f_flag & os.ST_RDONLY:
        yield Finding(Kind.STORE_READ_ONLY)
    elif not os.access(store.packs, os.W_OK, effective_ids=True):
        yield Finding(Kind.STORE_SHUT, {"owner": _user(found.st_uid)})
    if not (store.path / RESERVE).exists() and free_space(store.path) < RESERVE_SIZE:
        yield Finding(Kind.RESERVE_GONE, {"size": space.written(RESERVE_SIZE)})


def _user(number: int) -> str:
    try:
        return getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _packs(store: Store, seal: Seal | None) -> Iterator[Finding]:
    listed = {store.pack(one.pack).name: one for one in seal.packs} if seal is not None else {}
    infos: list[PackInfo] = []
    there = sorted(store.packs.iterdir())
    unclosed = [one for one in there if OPEN.fullmatch(one.name)]
    writers = {held.path: held.pid for held in locks.users(unclosed)}
    for path in there:
        if OPEN.fullmatch(path.name) and seal is None:
            if path.exists():  # it may have been closed just now
                yield _unclosed(path, writers.get(path, 0))
            continue
        try:
            infos.append(_examined(store, path, seal, listed.get(path.name)))
        except StoreRefusedError as exc:
            yield Finding(Kind.PACK_REFUSED, {"name": path.name}, refusal=exc)
    for name in sorted(listed.keys() - {one.name for one in there}):
        refusal = PackMissingError(f"{name} is listed by the seal and is not in the store")
        yield Finding(Kind.PACK_REFUSED, {"name": name}, refusal=refusal)
    yield from _disks(store, infos)


def _examined(store: Store, path: Path, seal: Seal | None, listed: SealedPack | None) -> PackInfo:
    """The pack by its public parts; refuses one that does not belong here."""
    if not NAME.fullmatch(path.name):
        raise no_pack(path.name)
    if seal is not None and listed is None:
        raise PackUnlistedError(f"{path.name} lies in the store, but the seal does not list it")
    info = examine(path)
    if seal is None or seal.head == store.head.digest().hex():
        store.refuse_foreign(info)
    elif info.head.head_digest.hex() != seal.head:  # head.json is what was changed
        raise ForeignPackError(f"{path.name} belongs to another shipment")
    if listed is not None and info.size != listed.size:
        raise PackDamagedError(f"{path.name} has not the size that was sealed")
    return info


def _unclosed(path: Path, pid: int) -> Finding:
    kind = Kind.PACK_WRITTEN if pid else Kind.PACK_TORN
    return Finding(kind, {"name": path.name, "pid": str(pid)})


def _disks(store: Store, infos: list[PackInfo]) -> Iterator[Finding]:
    try:
        points = by_point(infos)
    except StoreRefusedError as exc:
        yield Finding(Kind.PACK_REFUSED, refusal=exc)
        points = ()
    for one in points:
        if not one.complete:
            yield Finding(Kind.DISK_INCOMPLETE, {"disk": one.disk})
    about = {
        "label": store.head.label,
        "packs": str(len(infos)),
        "size": space.written(sum(one.size for one in infos)),
        "disks": str(len({one.disk for one in points})),
    }
    yield Finding(Kind.STORE, about)


def _seal(store: Store, seal: Seal) -> Iterator[Finding]:
    """What the seal says of all else than packs."""
    about = {
        "at": seal.created,
        "sequence": str(seal.sequence),
        "device": seal.device_fingerprint,
        "label": str(Label.of(seal)),
    }
    yield Finding(Kind.SEALED, about)
    try:
        verify.inspect(store.path, Pins(), despite_damage=True)
    except PackUnlistedError as exc:
        if f"{files.DIRECTORY}/" in exc.what:  # those among the packs are told one by one
            yield Finding(Kind.SEAL_REFUSED, refusal=exc)
    except StoreRefusedError as exc:
        if not isinstance(exc, NotAStoreError):  # packs/ cannot be read, as is found there
            yield Finding(Kind.SEAL_REFUSED, refusal=exc)


def _custody(store: Store, seal: Seal | None) -> Iterator[Finding]:
    root = seal.root().hex() if seal is not None else ""
    expected = chain.Expected(store.head.shipment, root, store.head.device)
    verb = shlex.join(["motiongear", "custody", "verify", str(store.path)])
    try:
        told = custody.read(custody.in_store(store.path))
    except CustodyRefusedError as exc:
        if isinstance(exc.__cause__, PermissionError):
            raise exc.__cause__ from exc
        about = {"number": "0", "finding": exc.what, "record": ALL_RECORDS}
        yield Finding(Kind.CUSTODY_WRONG, about, verb=verb)
        return
    if not told:
        yield Finding(Kind.CUSTODY_NONE)
        return
    deeds = {one.record.deed for one in chain.records(told).values()}
    if not store.sealed and Deed.SEALED in deeds:
        yield Finding(Kind.SEAL_GONE)
    found = chain.verify(told, expected)
    for one in found:
        kind = Kind.CUSTODY_WRONG if one.is_error else Kind.CUSTODY_LACKS
        number = str(one.number)
        about = {"number": number, "finding": one.kind, "record": number.strip("0") or ALL_RECORDS}
        yield Finding(kind, about, verb=verb)
    if not any(one.is_error for one in found):
        yield Finding(Kind.CUSTODY, {"count": str(len(told))})
