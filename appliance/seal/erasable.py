"""What stands at a place that is to be erased: whose it is, what of it may go, what stays."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.block import mount_of, opened
from appliance.errors import (
    NotAStoreError,
    RootMismatchError,
    SealMissingError,
    StoreRefusedError,
)
from appliance.model import ShipmentId
from appliance.seal import canon, files, head, intent, statement
from appliance.seal.certificate import KnownBy
from appliance.seal.head import Head
from appliance.seal.intent import Intent
from appliance.seal.pack import closed_name
from appliance.seal.scan import read_head
from appliance.seal.statement import Seal
from appliance.seal.store import PACKS, SEAL
from appliance.seal.torn import DAMAGED
from appliance.seal.tree import Listed, Tree

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at a place that is to be erased. ``about`` is what its mark says or is going to
    say; its erasure is empty where none has begun. ``unsealed``: why it does not count as sealed,
    empty where it does.
    """

    path: Path
    about: Intent
    known_by: KnownBy
    listed: Listed
    unsealed: str


def stores_below(place: Path) -> list[Path]:
    """The stores at ``place`` or below, links and other mounts left out, in order. NotAStoreError
    where there is none.
    """
    found: list[Path] = []
    with Tree.opened(place) as tree, tree.erasing():
        mount = mount_of(tree.fd)
        for path, below, names, fd in os.fwalk(place, onerror=_raise):
            if mount_of(fd) != mount:
                below.clear()
            elif {head.FILE, intent.FILE} & {*names, *below}:
                found.append(Path(path))
                below.clear()
    if not found:
        raise NotAStoreError(f"There is no store in {place} or below")
    return sorted(found)


def _raise(exc: OSError) -> None:
    raise exc


def look(path: Path) -> Found:
    """What is there to be erased. Changes nothing; refuses what is no store, or cannot be erased
    whole.
    """
    with Tree.opened(path) as tree:
        return look_in(tree)


def look_in(tree: Tree) -> Found:
    """The same, of a place that is opened."""
    path = tree.path
    if intent.stands(path):
        return _look_on(tree, intent.read(path))
    known = head.read_marked(path)
    seal, unsealed = _seal(path, known)
    listed = tree.listed(_own(path, known.shipment, seal))
    about = _counted(_about(known, seal), listed)
    return Found(path, about, KnownBy.SEAL if seal else KnownBy.HEAD, listed, unsealed)


def _about(known: Head, seal: Seal | None) -> Intent:
    return Intent(
        erasure="",
        shipment=known.shipment,
        label=known.label,
        signer=known.device,
        root=seal.root().hex() if seal else "",
        sequence=seal.sequence if seal else 0,
        packs=0,
        size=0,
        began=canon.now(),
    )


def _marks(directory: str, name: str) -> bool:
    """What is an erase's where there is no head: that goes when all but the mark is gone."""
    return not directory and name.startswith(intent.FILE)


def _counted(about: Intent, listed: Listed) -> Intent:
    """With what lies there now."""
    return replace(about, packs=listed.count(PACKS, DAMAGED), size=listed.size)


def _look_on(tree: Tree, mark: Intent) -> Found:
    """What an erase has left so far. Nobody has signed the mark: it is believed only where head
    and seal say nothing, and never that packs which lie there without a seal were sealed.
    """
    about, seal, known_by = mark, None, KnownBy.MARK
    has_head = os.path.lexists(tree.path / head.FILE)
    if has_head:
        known = head.read_marked(tree.path)
        if known.shipment != mark.shipment:
            raise RootMismatchError(
                f"{tree.path}: {intent.FILE} speaks of another shipment than {head.FILE}"
            )
        seal, _ = _seal(tree.path, known)
        about = replace(mark, label=known.label, signer=known.device)
    if seal is not None:
        if seal.root().hex() != mark.root:
            raise RootMismatchError(
                f"{tree.path}: {intent.FILE} speaks of another seal than its own"
            )
        about, known_by = replace(about, sequence=seal.sequence), KnownBy.SEAL
    is_own = _own(tree.path, mark.shipment, seal, mark.root) if has_head else _marks
    listed = tree.listed(is_own)
    unsealed = "" if mark.root else "it was not sealed when its erase began"
    if seal is None and mark.root and listed.count(PACKS, DAMAGED):
        unsealed = "packs lie there without a seal, whatever the mark of an erase says of one"
        about = replace(about, root="", sequence=0)
    return Found(tree.path, _counted(about, listed), known_by, listed, unsealed)


def _own(
    path: Path, shipment: ShipmentId, seal: Seal | None, root: str = ""
) -> Callable[[str, str], bool]:
    """What of files/ and packs/ is this store's: what its seal names, and packs that say so
    themselves. Of one that was never sealed, as far as its files and a mark's ``root`` tell, all
    is, but packs of another shipment.
    """
    sealed = bool(root) or os.path.lexists(path / SEAL)
    named = {(files.DIRECTORY, one.name) for one in seal.files} if seal else set()
    named |= {(PACKS, closed_name(one.pack)) for one in seal.packs} if seal else set()

    def is_own(directory: str, name: str) -> bool:
        if not directory or (directory, name) in named:
            return True
        if directory != PACKS:
            return not sealed or directory != files.DIRECTORY
        try:
            with opened(path / directory / name, _READ) as fd:
                return read_head(fd)[0].shipment == shipment
        except (StoreRefusedError, OSError):
            return not sealed

    return is_own


def _seal(path: Path, known: Head) -> tuple[Seal | None, str]:
    """The seal that vouches for this head; else why there is none."""
    try:
        seal = statement.read(path)
    except SealMissingError:
        return None, "it is not sealed"
    except StoreRefusedError as exc:
        return None, exc.what
    if (seal.shipment, seal.device, seal.head) != (
        known.shipment,
        known.device,
        known.digest().hex(),
    ):
        return None, f"its {SEAL} is that of another shipment"
    return seal, ""
