"""Verification: what anybody can say of a sealed store, without a key.

``inspect`` reads the seal and every pack's head and trailer; ``verify`` reads every byte.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from appliance.errors import (
    MotionGearError,
    PackDamagedError,
    PackMissingError,
    PackUnlistedError,
    RecipientsMismatchError,
    RootMismatchError,
    SealDamagedError,
    SignerMismatchError,
    StoreRefusedError,
)
from appliance.events import Emit, Step, silent
from appliance.model import PackId, Stop
from appliance.seal import canary, files, statement, text
from appliance.seal.accepted import Accepted
from appliance.seal.cut import digest
from appliance.seal.keys import FINGERPRINT_SIZE
from appliance.seal.readback import Tally, digest_pack, each, readers_for
from appliance.seal.scan import PackInfo, examine, examine_damaged
from appliance.seal.statement import Seal, SealedPack
from appliance.seal.store import Store, by_point


class Trust(StrEnum):
    """Authentic: signer and root were known beforehand and match. Consistent: somebody sealed
    this, and it is whole.
    """

    AUTHENTIC = "authentic"
    CONSISTENT = "consistent"


@dataclass(frozen=True, slots=True)
class Pins:
    """What the verifier knows by another path than the device. Texts as printed; empty: not
    known.
    """

    device: str = ""
    root: str = ""
    recipients: tuple[str, ...] = ()

    def parsed(self) -> tuple[bytes, bytes, tuple[str, ...]]:
        """Refuses texts that cannot be what they are given for."""
        device = self.device and text.parse_either(
            self.device, FINGERPRINT_SIZE, "The device fingerprint"
        )
        root = self.root and text.parse_either(self.root, 32, "The seal root")
        recipients = tuple(
            text.grouped(text.parse_either(one, FINGERPRINT_SIZE, "A recipient's fingerprint"))
            for one in self.recipients
        )
        return device or b"", root or b"", recipients


@dataclass(frozen=True, slots=True)
class Sealed:
    """A store whose seal, listing, heads and trailers agree. Its packs' content was not read
    yet.

    Where that is so ``despite_damage``, ``lost`` are packs that are missing or have no head, and
    why; only a key shows which of the other heads may be believed.
    """

    store: Store
    seal: Seal
    trust: Trust
    infos: dict[PackId, PackInfo]
    despite_damage: bool = False
    lost: dict[PackId, MotionGearError] = field(default_factory=dict)

    @property
    def contents_info(self) -> PackInfo:
        if (why := self.lost.get(self.seal.contents)) is not None:
            raise why
        info = self.infos[self.seal.contents]
        if info.lost is not None:
            raise info.lost
        return info


def inspect(
    path: Path, pins: Pins, accepted: Accepted | None = None, *, despite_damage: bool = False
) -> Sealed:
    """Check everything about a sealed store but the content of its packs. Quick; refuses by
    name. ``despite_damage`` refuses no pack of the seal, whatever has become of it.
    """
    device, root, recipients = pins.parsed()
    store = Store(path)
    seal = statement.read(path)
    trust = _pinned(seal, device, root)
    _agree(store, seal)
    found = {one.fingerprint for one in store.head.recipients}
    if recipients and found != set(recipients):
        extra = sorted(found - set(recipients)) or ["one of those expected is missing"]
        raise RecipientsMismatchError(f"The store is sealed for others than expected: {extra[0]}")
    if accepted is not None:  # whoever knows the root or not: the signature is the device's
        accepted.refuse_older(seal)
    _beside(store, seal)
    if despite_damage:
        return _despite_damage(store, seal, trust)
    return Sealed(store, seal, trust, _listing(store, seal))


def _pinned(seal: Seal, device: bytes, root: bytes) -> Trust:
    if device and text.grouped(device) != seal.device_fingerprint:
        raise SignerMismatchError(
            f"The store was sealed by {seal.device_fingerprint}, not by the device expected",
            todo=_mistyped(text.grouped(device), seal.device_fingerprint),
        )
    if root and root != seal.root():
        found = text.grouped(seal.root())
        raise RootMismatchError(
            f"The seal root is {found}, not the one expected",
            todo=_mistyped(text.grouped(root), found),
        )
    return Trust.AUTHENTIC if device and root else Trust.CONSISTENT


def _mistyped(given: str, found: str) -> str | None:
    """What to do where two texts differ in a few letters only: nobody can make a key or a seal
    that comes so near to another.
    """
    wrong = sum(one != other for one, other in zip(given, found, strict=True))
    return f"It was mistyped (letters that differ: {wrong}). Type it anew." if wrong <= 4 else None


def _agree(store: Store, seal: Seal) -> None:
    """Seal against head.json."""
    head = store.head
    if seal.shipment != head.shipment or seal.device != head.device:
        raise SealDamagedError("The seal is that of another shipment")
    if seal.head != head.digest().hex():
        raise SealDamagedError("head.json is not the one that was sealed")
    if seal.recipients != tuple(one.fingerprint for one in head.recipients):
        raise SealDamagedError("The seal and head.json name different recipients")
    if seal.canary and seal.canary.opened_by not in {"", *seal.recipients}:
        raise SealDamagedError("The seal says that somebody else opened the canary")


def _beside(store: Store, seal: Seal) -> None:
    """Seal against canary.json and what files/ holds."""
    data = canary.read_bytes(store.path)
    expected = seal.canary.file if seal.canary else None
    if (digest(data).hex() if data is not None else None) != expected:
        raise SealDamagedError("canary.json is not the one that was sealed")
    if data is not None:
        canary.parse(data, store.head)
    files.refuse_others(store.path, seal.files)


def _present(store: Store, seal: Seal) -> set[str]:
    """What lies in packs/; refuses what the seal does not list."""
    present = set(store.names())
    if extra := sorted(present - {store.pack(one.pack).name for one in seal.packs}):
        raise PackUnlistedError(f"{extra[0]} lies in the store, but the seal does not list it")
    return present


def _despite_damage(store: Store, seal: Seal, trust: Trust) -> Sealed:
    infos: dict[PackId, PackInfo] = {}
    lost: dict[PackId, MotionGearError] = {}
    _present(store, seal)
    for one in seal.packs:
        try:
            infos[one.pack] = _damaged_pack(store, one)
        except StoreRefusedError as exc:
            lost[one.pack] = exc
    if seal.contents not in infos.keys() | lost.keys():
        raise _own_contents()
    return Sealed(store, seal, trust, infos, despite_damage=True, lost=lost)


def _damaged_pack(store: Store, listed: SealedPack) -> PackInfo:
    """The pack as far as it can be believed; refuses one without a head."""
    try:
        return _sealed_pack(store, listed)
    except StoreRefusedError as why:
        path, index = store.pack(listed.pack), bytes.fromhex(listed.index)
        info = examine_damaged(path, listed.size, listed.records, index, why)
        store.refuse_foreign(info)
        return info


def _own_contents() -> SealDamagedError:
    return SealDamagedError("The seal does not list its own contents pack")


def _listing(store: Store, seal: Seal) -> dict[PackId, PackInfo]:
    listed = {store.pack(one.pack).name: one for one in seal.packs}
    present = _present(store, seal)
    if missing := sorted(set(listed) - present):
        raise PackMissingError(f"{len(missing)} of {len(listed)} packs are missing: {missing[0]}")
    infos = {one.pack: _sealed_pack(store, one) for one in seal.packs}
    if seal.contents not in infos:
        raise _own_contents()
    orders = [one.head.order for one in infos.values()]
    if (
        orders != sorted(orders)
        or [one.head.is_contents for one in infos.values()].count(True) != 1
    ):
        raise SealDamagedError("The seal lists the packs in another order than their heads")
    by_point(list(infos.values()))
    return infos


def _sealed_pack(store: Store, listed: SealedPack) -> PackInfo:
    """The pack as it lies there, its public parts agreeing with the store and the seal."""
    info = examine(store.pack(listed.pack))
    store.refuse_foreign(info)
    if (info.size, info.trailer.records, info.torn) != (listed.size, listed.records, listed.torn):
        raise PackDamagedError(f"{info.path.name} has not the size that was sealed")
    return replace(info, index=bytes.fromhex(listed.index))


@dataclass(slots=True)
class Findings:
    """What a verification found wrong: nothing, one refusal or many."""

    problems: list[MotionGearError] = field(default_factory=list)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def add(self, problem: MotionGearError) -> None:
        """Takes a problem once, however often it is met."""
        told = (problem.name, problem.what)
        if told not in self._told:
            self._told.add(told)
            self.problems.append(problem)

    def refuse(self, todo: str = "") -> None:
        """Raise the first problem, telling how many more there are, and ``todo`` as what to do
        next, where there is better advice than its own.
        """
        if not self.problems:
            return
        first, more = self.problems[0], self.problems[1:]
        tail = f" (and {len(more)} more: {more[0].what})" if more else ""
        raise type(first)(first.what + tail, safe=first.safe_now, todo=todo or first.todo_now)


def verify(
    sealed: Sealed,
    emit: Emit = silent,
    stop: Stop = lambda: False,
    known: Sequence[PackId] = (),
    passed: Callable[[PackId], None] = lambda _: None,
) -> Findings:
    """Read every pack and compare it with the seal; no key. All damage is found, not only the
    first.

    ``known`` packs passed in an earlier, interrupted run and are left out; ``passed`` hears of
    each that passes.
    """
    left = [one for one in sealed.seal.packs if one.pack not in set(known)]
    listed = {sealed.infos[one.pack].path: one for one in left}
    emit(Step.said("verify", "{count} packs", count=len(left)))
    if unknown := sealed.store.head.unknown_inside:
        told = "to open the packs takes features unknown here: {feature!r}"
        emit(Step.said("verify", told, feature=unknown[0][:64]))
    size = sum(one.size for one in left) + sum(one.size for one in sealed.seal.files)
    tally = Tally("verify", size, emit)
    findings = Findings()
    for one in sealed.seal.files:
        try:
            files.refuse_changed(sealed.store.path, one, tally.moved, stop)
        except StoreRefusedError as exc:
            findings.add(exc)
    readers = readers_for(sealed.store.packs)
    infos = {sealed.infos[one.pack].path: sealed.infos[one.pack] for one in left}
    work = lambda path: digest_pack(infos[path], tally.moved, stop)  # noqa: E731
    for path, found in each(list(listed), readers, work):
        if isinstance(found, MotionGearError):
            findings.add(found)
        elif found.whole.hex() != listed[path].digest:
            findings.add(PackDamagedError(f"{path.name} is not what was sealed"))
        elif listed[path].index and found.index != infos[path].index:
            findings.add(SealDamagedError(f"The seal tells of another index than {path.name} has"))
        else:
            passed(listed[path].pack)
    return findings
