"""What damage costs: which blocks of a restored disk may be believed, and which are unknown. Pure.

A pack is believed as a whole or not at all. Public keys are public: a pack whose bytes are not
those that were sealed may be anybody's, and that some of its records cannot be opened proves
nothing for the others. So whatever such a pack has the last word on is unknown, also a run of
zeros. What a pack that *is* the sealed one says holds, also of a block whose content lies in a
damaged pack: it gives that block's digest.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from appliance.errors import MotionGearError
from appliance.model import PackId
from appliance.seal.manifest import Manifest, State
from appliance.seal.pointmap import UNKNOWN_DIGEST, PointMap
from appliance.seal.ranges import Ranges

_BLOCK_MASK = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Hurt:
    """A pack that did not prove to be the sealed one. ``opened`` are the records of it that were
    written to the volume.
    """

    why: MotionGearError
    opened: AbstractSet[int]


def believed(found: PointMap, hurt: Mapping[PackId, Hurt]) -> Manifest:
    """What the volume is known to hold after a replay in which these packs were hurt."""
    unknown = Ranges()  # of blocks
    for info in found.packs.packs:
        head, end = info.head, info.checkpoint.cursor
        # A session may begin anew at block 0. That this one did not, only this pack says.
        first = head.start if head.sequence or head.pack not in hurt else 0
        if head.pack in found.lost or first == end:
            continue
        (unknown.add if head.pack in hurt else unknown.remove)(first, end)
    for info, winners in zip(found.packs.packs, found.winners(), strict=True):
        if (one := hurt.get(info.head.pack)) is not None:
            for code in winners:
                if code >> 32 not in one.opened:
                    unknown.add(code & _BLOCK_MASK, (code & _BLOCK_MASK) + 1)
    manifest = found.manifest.copy()
    for first, count in unknown:
        for index in range(first, first + count):
            manifest.set(index, UNKNOWN_DIGEST, State.UNKNOWN)
    return manifest
