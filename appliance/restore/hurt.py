"""What damage costs: which blocks of a restored disk may be believed, and which are unknown. Pure.

Public keys are public: that a record opens proves nothing. The seal vouches for the index of each
pack, and the index has the digest of every record. So of a damaged pack whose index is whole all
that opens is as it was sealed, and only the blocks whose record does not open are unknown. A torn
pack has no index: it is believed as a whole or not at all, and when it is not, whatever it has the
last word on is unknown, also a run of zeros. What a pack that was proved says of a block holds,
also where the content lies in a damaged one: it gives that block's digest.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from appliance.errors import MotionGearError
from appliance.model import PackId
from appliance.seal.manifest import Manifest
from appliance.seal.pointmap import PointMap
from appliance.seal.ranges import Ranges

_BLOCK_MASK = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Hurt:
    """A pack that is not whole as it was sealed. ``opened`` are its records that were written to
    the volume.
    """

    why: MotionGearError
    opened: AbstractSet[int]


def believed(found: PointMap, hurt: Mapping[PackId, Hurt]) -> Manifest:
    """What the volume is known to hold after a replay in which these packs were hurt."""
    unknown = Ranges()  # of blocks
    for info in found.packs.packs:
        head = info.head
        if head.pack in found.lost:
            continue
        end = found.cursors[head.pack]
        unproved = head.pack in hurt and not info.index
        # A session may begin anew at block 0. That this one did not, only this pack says.
        first = head.start if head.sequence or not unproved else 0
        if first < end:
            (unknown.add if unproved else unknown.remove)(first, end)
    for info, winners in zip(found.packs.packs, found.winners(), strict=True):
        if (one := hurt.get(info.head.pack)) is not None:
            for code in winners:
                if code >> 32 not in one.opened:
                    unknown.add(code & _BLOCK_MASK, (code & _BLOCK_MASK) + 1)
    manifest = found.manifest.copy()
    for first, count in unknown:
        manifest.set_unknown(first, count)
    return manifest
