"""Where the packs of a damaged disk belong: the contents name them in order, and those whose head
can be read say the places of the others. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from appliance.errors import MotionGearError, PackDamagedError
from appliance.model import PackId
from appliance.seal.head import Head
from appliance.seal.layout import Checkpoint, PackHead, PackState, Trailer
from appliance.seal.papers import DiskContents
from appliance.seal.scan import PackInfo
from appliance.seal.store import PointPacks, Store

Place = tuple[int, int]  # session, sequence


def placed(
    listed: DiskContents,
    infos: Mapping[PackId, PackInfo],
    lost: Mapping[PackId, MotionGearError],
    store: Store,
) -> PointPacks:
    """The packs of a disk as the contents list them; ``lost`` are those that are missing or whose
    head cannot be believed, and why.
    """
    why = dict(lost)
    own = (listed.disk, listed.point)
    for pack in listed.packs:
        if pack in infos and (infos[pack].head.disk, infos[pack].head.point) != own:
            why[pack] = PackDamagedError(f"{store.pack(pack).name} is not what was sealed")
    heads = {pack: infos[pack].head for pack in listed.packs if pack not in why}
    found = []
    told = [
        (heads[one].session, heads[one].sequence) if one in heads else None for one in listed.packs
    ]
    for pack, place in zip(listed.packs, places(told), strict=True):
        ends = listed.complete and pack == listed.packs[-1]
        state = PackState.POINT_END if ends else PackState.CLOSED
        if pack in why:
            head = _head(store.head, listed, pack, place)
            found.append(_lost(store, head, state, why[pack]))
        else:
            found.append(_ending(infos[pack], state))
    return PointPacks(listed.disk, listed.point, tuple(found))


def _ending(info: PackInfo, state: PackState) -> PackInfo:
    """With the state that the contents tell of, and no cursor: where there is an index, trailer
    and last checkpoint need not be believed, and damage of theirs may look like another claim.
    """
    if info.torn:
        return info
    return replace(info, trailer=replace(info.trailer, state=state), by_seal=True)


def _head(store: Head, listed: DiskContents, pack: PackId, place: Place) -> PackHead:
    session, sequence = place
    return PackHead(
        shipment=store.shipment,
        head_digest=store.digest(),
        pack=pack,
        disk=listed.disk,
        point=listed.point,
        session=session,
        sequence=sequence,
        block_size=store.block_size,
        start=0,
        recipients=len(store.recipients),
    )


def _lost(store: Store, head: PackHead, state: PackState, why: MotionGearError) -> PackInfo:
    trailer, checkpoint = (
        Trailer(0, state, 0, 0, bytes(32)),
        Checkpoint(0, 0, bytes(32), bytes(32)),
    )
    return PackInfo(store.pack(head.pack), 0, head, trailer, checkpoint, by_seal=True, lost=why)


def places(told: Sequence[Place | None]) -> list[Place]:
    """Every pack's place; None: it is not told. Where a session may have begun among those, it is
    taken to have: whoever believes less is not wrong.
    """
    found: list[Place] = []
    at = 0
    for known, run in groupby(told, lambda one: one is not None):
        size = len(list(run))
        if known:
            found += [one for one in told[at : at + size] if one is not None]
        else:
            before = found[-1] if found else (-1, -1)
            behind = told[at + size] if at + size < len(told) else None
            found += _between(before, behind, size)
        at += size
    return found


def _between(before: Place, behind: Place | None, size: int) -> list[Place]:
    if behind is None:
        return [(before[0] + 1, one) for one in range(size)]
    session, sequence = behind
    own = min(size, sequence)
    rest, last = size - own, session - 1
    first = [
        (min(before[0] + 1 + one, last), max(before[0] + 1 + one - last, 0)) for one in range(rest)
    ]
    if last == before[0]:
        first = [(last, before[1] + 1 + one) for one in range(rest)]
    return [*first, *((session, sequence - own + one) for one in range(own))]
