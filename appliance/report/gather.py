"""Gathering a report: from the store, the tags at targets, what was proved at this home, and last
from the state database, which is a cache.

What cannot be learnt leaves a gap, in words; it does not keep the report from being made.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TypeVar

from appliance.errors import (
    CertificateRefusedError,
    CustodyRefusedError,
    MotionGearError,
    WrongKeyError,
)
from appliance.model import DiskId, MachineFacts, PointSpec, ShipmentId
from appliance.report import hands
from appliance.report.document import (
    MOST_RANGES,
    Content,
    Custody,
    CutOver,
    Disk,
    Erasure,
    Range,
    Reader,
    Report,
    Sealing,
    Shipment,
    Signed,
    Source,
    Splice,
    Turn,
    Work,
)
from appliance.report.standing import Standing, Targets
from appliance.report.told import Job, Rounds, disks_told, jobs_of, work
from appliance.seal import canon, certificate, machine, opening, statement, verify
from appliance.seal.accepted import Accepted
from appliance.seal.certificate import digest as digest_of
from appliance.seal.chain import Expected
from appliance.seal.identity import device_fingerprint
from appliance.seal.keys import PrivateKey
from appliance.seal.manifest import Manifest
from appliance.seal.manifest import State as Block
from appliance.seal.papers import read_disk_head
from appliance.seal.pointmap import PointMap
from appliance.seal.proved import Proved
from appliance.seal.scan import PackInfo, examine
from appliance.seal.statement import Seal
from appliance.seal.store import PointPacks, Store, by_point
from appliance.seal.torn import disk_of
from appliance.state import State

COMPLETE, INCOMPLETE = "complete", "incomplete"
T = TypeVar("T", Work, Turn, CutOver)
_Place = tuple[DiskId, int]


def gather(
    state: State,
    gathered_by: str,
    shipment: ShipmentId,
    store: Store | None,
    targets: Targets,
    key: PrivateKey | None = None,
    others: Sequence[Signed] = (),
    certificates: Sequence[bytes] = (),
) -> Report:
    """All that is known at this home, and by ``others``, reports of the same shipment from other
    homes, and erase ``certificates``. ``targets`` by kind and place; ``gathered_by`` is this
    device's fingerprint.

    Raises WrongKeyError for a key that opens nothing here, CertificateRefusedError.
    """
    erasures = [two for one in certificates for two in _erasures(one, shipment)]
    found = _Gathering(state, gathered_by, shipment, store, targets, key, others).report()
    told = [two for one in others for two in one.report.erasures]
    return replace(found, erasures=tuple(dict.fromkeys([*erasures, *told])))


def _erasures(data: bytes, shipment: ShipmentId) -> list[Erasure]:
    """What a certificate says of the shipment; refuses one that does not speak of it."""
    made = certificate.verify(data)
    found = [
        Erasure(made.device_fingerprint, made.by, made.at, made.clock, digest_of(data), one)
        for one in made.erased
        if one.shipment == shipment
    ]
    if not found:
        raise CertificateRefusedError(
            f"The certificate says nothing of shipment {shipment}",
            todo="Give the certificate of this shipment's erase.",
        )
    return found


@dataclass(slots=True)
class _Gathering:
    state: State
    gathered_by: str
    shipment: ShipmentId
    store: Store | None
    targets: Targets
    key: PrivateKey | None
    others: Sequence[Signed]
    gaps: list[str] = field(default_factory=list)

    def report(self) -> Report:
        jobs = jobs_of(self.state, self.shipment)
        seal = self._seal()
        disks = self._disks(seal)
        for other in self.others:
            disks = _joined(disks, other.report.disks)
        ids = frozenset(one.disk for one in disks)
        mine = [one for one in jobs if one.row.shipment or not ids or ids & disks_told(one)]
        origin = seal.root().hex() if seal else self._origin()
        standing = Standing(self.state.home, self.targets, origin, ids, mine)
        self.gaps += standing.look()
        disks = [_as_repaired(one, standing) for one in disks]
        own = [work(one, self.gathered_by) for one in mine]
        turns, ends = self._rounds(mine, disks)
        return Report(
            created=canon.now(),
            gathered_by=self.gathered_by,
            release=version("motiongear"),
            shipment=self._shipment(seal, jobs),
            disks=tuple(sorted(disks, key=lambda one: (one.machine, one.disk, one.point))),
            jobs=tuple(sorted(self._told(own, lambda one: one.jobs), key=_order_of_job)),
            volumes=tuple(standing.volumes),
            repairs=tuple(standing.repairs),
            rounds=turns,
            cut_overs=ends,
            points=tuple(standing.points),
            custody=self._custody(seal),
            erasures=(),
            sources=tuple(_source(one) for one in self.others),
            gaps=tuple(self.gaps),
        )

    def _rounds(
        self, jobs: Sequence[Job], disks: Sequence[Disk]
    ) -> tuple[tuple[Turn, ...], tuple[CutOver, ...]]:
        """Of these disks, where any are known."""
        told = Rounds(self.gathered_by, frozenset(one.disk for one in disks))
        for one in jobs:
            told.take(one)
        machines = {one.disk: one.machine for one in disks if one.machine}
        turns = [_whose(one, machines) for one in self._told(told.rounds, lambda one: one.rounds)]
        ends = self._told(told.cut_overs, lambda one: one.cut_overs)
        cut_overs = [_of_round(one, turns) for one in ends]
        return tuple(sorted(turns, key=_order)), tuple(sorted(cut_overs, key=_order))

    @contextmanager
    def _gap(self) -> Iterator[None]:
        """What is refused here is told, and not known."""
        try:
            yield
        except WrongKeyError:
            raise
        except MotionGearError as exc:
            self.gaps.append(exc.what)

    # --- shipment and seal ---

    def _seal(self) -> Seal | None:
        found: Seal | None = None
        if self.store is not None and self.store.sealed:
            with self._gap():
                found = statement.read(self.store.path)
        return found

    def _origin(self) -> str:
        """The seal root, where only the database knows it."""
        row = self.state.shipment(self.shipment)
        told = [one.report.shipment.seal for one in self.others]
        return next((one.root for one in told if one), row.root if row else "")

    def _shipment(self, seal: Seal | None, jobs: Sequence[Job]) -> Shipment:
        if self.store is not None:
            head = self.store.head
            return Shipment(
                id=head.shipment,
                label=head.label,
                created=head.created,
                device=device_fingerprint(head.device),
                block_size=head.block_size,
                readers=tuple(
                    Reader(one.name, one.role, one.fingerprint) for one in head.recipients
                ),
                seal=self._sealing(seal, jobs) if seal else None,
            )
        for other in self.others:
            return other.report.shipment
        row = self.state.shipment(self.shipment)
        label = row.label if row else ""
        return Shipment(self.shipment, label, "", "", None, (), None)

    def _sealing(self, seal: Seal, jobs: Sequence[Job]) -> Sealing:
        root, accepted = seal.root().hex(), False
        with self._gap():
            accepted = Accepted(self.state.home).has(seal)
        told = [one for job in jobs for one in job.results("verify")]
        return Sealing(
            root=root,
            created=seal.created,
            sequence=seal.sequence,
            previous=seal.previous,
            packs=len(seal.packs),
            torn=sum(one.torn for one in seal.packs),
            size=sum(one.size for one in seal.packs),
            waiver=seal.waiver,
            incomplete=seal.accepted,
            canary_by=seal.canary.opened_by if seal.canary else "",
            canary_at=seal.canary.at if seal.canary else "",
            accepted_here=accepted
            or any((one.get("trust"), one.get("root")) == ("authentic", root) for one in told),
        )

    def _custody(self, seal: Seal | None) -> Custody | None:
        """As it is here; else the longest that another report tells."""
        expected = Expected(
            shipment=self.shipment,
            root=seal.root().hex() if seal else "",
            device=self.store.head.device if self.store else "",
        )
        told = [one.report.custody for one in self.others]
        longest = max((one for one in told if one), key=lambda one: len(one.records), default=None)
        place = self.store.path if self.store else None
        try:
            return hands.known(self.state.home, place, expected) or longest
        except CustodyRefusedError as exc:
            self.gaps.append(exc.what)
            return longest

    # --- disks ---

    def _disks(self, seal: Seal | None) -> list[Disk]:
        found: dict[_Place, Disk] = {}
        if self.store is not None:
            with self._gap():
                found = self._sealed(self.store, seal) if seal else self._unsealed(self.store)
        for row in self.state.sources(self.shipment):
            with self._gap():
                size = self.store.head.block_size if self.store else 1 << 20
                spec = read_disk_head(row.facts.encode(), size)
                bare = found.get((spec.disk, spec.point)) or _bare(spec.disk, spec.point)
                found[spec.disk, spec.point] = _with_facts(bare, spec)
        told = self._noted()
        for place, one in found.items():
            found[place] = replace(one, inside=one.inside or told.get(one.disk))
        return [found[one] for one in sorted(found)]

    def _noted(self) -> dict[DiskId, MachineFacts]:
        """What disks tell of their machines, as long as this home knows it: until the seal."""
        found: dict[DiskId, MachineFacts] = {}
        for disk, told in self.state.machines(self.shipment).items():
            with self._gap():
                found[disk] = machine.read(told.encode())
        return found

    def _unsealed(self, store: Store) -> dict[_Place, Disk]:
        """By the packs' public heads; a disk that is being written is incomplete."""
        infos: list[PackInfo] = []
        for path in store.closed():
            with self._gap():
                infos.append(examine(path))
        found: dict[_Place, Disk] = {}
        for one in by_point(infos):
            found[one.disk, one.point] = self._opened(one) if self.key else _by_packs(one)
        for path in store.open_packs():
            if (disk := disk_of(path)) is not None:
                known = [place for place in found if place[0] == disk] or [(disk, 0)]
                bare = found.get(known[-1]) or _bare(*known[-1])
                found[known[-1]] = replace(bare, state=INCOMPLETE)
        return found

    def _opened(self, packs: PointPacks) -> Disk:
        assert self.key is not None
        try:
            return _by_index(_by_packs(packs), opening.StoredDisk(packs, None).open(self.key))
        except WrongKeyError:
            raise
        except MotionGearError as exc:
            self.gaps.append(exc.what)
            return _by_packs(packs)

    def _sealed(self, store: Store, seal: Seal) -> dict[_Place, Disk]:
        sealed = verify.inspect(store.path, verify.Pins(), despite_damage=True)
        for lost in sealed.lost.values():
            self.gaps.append(lost.what)
        points = by_point(list(sealed.infos.values()))
        found = {(one.disk, one.point): _by_packs(one) for one in points}
        self._prove(found, seal)
        if self.key is not None:
            self._open_all(sealed, self.key, found)
        return found

    def _open_all(self, sealed: verify.Sealed, key: PrivateKey, found: dict[_Place, Disk]) -> None:
        def opened(one: PointMap) -> None:
            place = (one.spec.disk, one.spec.point)
            found[place] = _by_both(found[place], _by_index(found[place], one))

        points = by_point(list(sealed.infos.values()))
        disks = [opening.StoredDisk(one, None) for one in points]
        with self._gap():
            disks = opening.disks_of(sealed, key)
        for disk in disks:
            if disk.spec is not None:
                place = (disk.disk, disk.spec.point)
                found[place] = _with_facts(found[place], disk.spec)
        told = opening.machines_of(sealed, key)
        for place, known in found.items():
            found[place] = replace(known, inside=told.get(known.disk))
        findings = opening.open_each(disks, key, opened, despite_damage=True)
        self.gaps += [one.what for one in findings.problems]

    def _prove(self, found: dict[_Place, Disk], seal: Seal) -> None:
        """What was proved at this home of the disks, before."""
        proved = Proved(self.state.home, seal.root().hex())
        for (disk, point), one in found.items():
            if proved.has(disk, point):
                with self._gap():
                    known = _with_facts(one, proved.spec(disk, point))
                    content = _by_manifest(proved.manifest(disk, point))
                    found[disk, point] = replace(known, content=content)

    # --- what others have told ---

    def _told(self, own: Iterable[T], kind: Callable[[Report], Iterable[T]]) -> list[T]:
        """What each home tells of itself: this one now, another in its latest report."""
        found: dict[str, list[T]] = {}
        for other in sorted(self.others, key=lambda one: one.report.created):
            latest: dict[str, list[T]] = {}
            for one in kind(other.report):
                latest.setdefault(one.told_by, []).append(one)
            found |= latest
        found[self.gathered_by] = list(own)
        return [one for each in found.values() for one in each]


def _whose(turn: Turn, machines: Mapping[DiskId, str]) -> Turn:
    names = {machines[one.disk] for one in turn.roots if one.disk in machines}
    return replace(turn, machine=turn.machine or ", ".join(sorted(names)))


def _of_round(last: CutOver, turns: Iterable[Turn]) -> CutOver:
    about = (last.told_by, last.job, last.point)
    machines = [one.machine for one in turns if (one.told_by, one.job, one.point) == about]
    return replace(last, machine=machines[0] if machines else "")


# Times have whole seconds: what began in one second stands in the order of the way.
_WAY = ("ingest", "seal", "verify", "restore", "check")


def _order_of_job(one: Work) -> tuple[str, int, str, int]:
    step = _WAY.index(one.kind) if one.kind in _WAY else len(_WAY)
    return (one.began, step, one.told_by, one.job)


def _order(one: Turn | CutOver) -> tuple[str, int, str]:
    return (one.machine, one.point, one.at)


def _source(other: Signed) -> Source:
    return Source(other.fingerprint, other.report.created, other.digest())


# --- disks, as each place tells them --------------------


def _bare(disk: DiskId, point: int) -> Disk:
    return Disk(disk, point, "", "", None, None, (), None, None, None, ())


def _by_packs(packs: PointPacks) -> Disk:
    return replace(
        _bare(packs.disk, packs.point),
        state=COMPLETE if packs.complete else INCOMPLETE,
        packs=len(packs.packs),
        stored=sum(one.size for one in packs.packs),
        splices=tuple(Splice(*one) for one in packs.splices),
    )


def _with_facts(disk: Disk, spec: PointSpec) -> Disk:
    return replace(disk, machine=spec.machine, facts=spec.facts)


def _as_repaired(disk: Disk, standing: Standing) -> Disk:
    """Of a disk that was restored despite damage, what is known by its volume."""
    spec = standing.specs.get((disk.disk, disk.point))
    return _with_facts(disk, spec) if spec is not None and disk.facts is None else disk


def _by_index(disk: Disk, found: PointMap) -> Disk:
    ranges = [Range(*one) for one in found.unreadable()]
    return replace(
        _with_facts(disk, found.spec),
        content=_content("index", found.manifest, ranges, 1),
        lost=tuple(why.what for why in found.lost.values()),
    )


def _by_both(before: Disk, opened: Disk) -> Disk:
    """What was proved stays so: the indexes tell the same, and more of it."""
    old, new = before.content, opened.content
    if old is None or new is None or old.root != new.root:
        return opened
    return replace(opened, content=replace(new, known_by=old.known_by))


def _by_manifest(found: Manifest) -> Content:
    """Which blocks have unreadable bytes is known, and not which bytes."""
    ranges: list[Range] = []
    if found.states()[Block.UNREADABLE]:
        for index in range(found.blocks):
            if found[index][1] is Block.UNREADABLE:
                offset, length = index * found.block_size, found.length(index)
                if ranges and ranges[-1].offset + ranges[-1].length == offset:
                    offset, length = ranges[-1].offset, ranges.pop().length + length
                ranges.append(Range(offset, length))
    return _content("proved", found, ranges, found.block_size)


def _content(known_by: str, found: Manifest, ranges: list[Range], unit: int) -> Content:
    states = found.states()
    return Content(
        known_by=known_by,
        root=found.root().hex(),
        data=states[Block.DATA],
        zero=states[Block.ZERO],
        unreadable=states[Block.UNREADABLE],
        unknown=states[Block.UNKNOWN],
        unreadable_bytes=sum(one.length for one in ranges),
        unit=unit,
        range_count=len(ranges),
        ranges=tuple(ranges[:MOST_RANGES]),
    )


def _joined(own: list[Disk], theirs: Iterable[Disk]) -> list[Disk]:
    """What another home knows of a disk, where this one does not."""
    found = {(one.disk, one.point): one for one in own}
    for one in theirs:
        mine = found.get((one.disk, one.point), one)
        found[one.disk, one.point] = replace(
            mine,
            machine=mine.machine or one.machine,
            state=mine.state or one.state,
            facts=mine.facts or one.facts,
            inside=mine.inside or one.inside,
            content=mine.content or one.content,
            packs=one.packs if mine.packs is None else mine.packs,
            stored=one.stored if mine.stored is None else mine.stored,
        )
    return [found[one] for one in sorted(found)]
