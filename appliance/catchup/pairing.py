"""Pairing: which disk at the source is which replica at the gate, and whether it still is it.
Pure.
"""

from collections.abc import Sequence

from appliance.catchup.wire import Replica
from appliance.errors import OtherShipmentError, ReplicaUnknownError, SourceChangedError
from appliance.model import BLOCK_SIZE, DiskFacts, DiskId


def as_replica(facts: DiskFacts, like: Replica) -> Replica:
    """The disk as it is found now, under the name and origin of its replica."""
    return Replica.of(facts, like.disk, like.origin, like.block_size)


def new_replica(facts: DiskFacts, disk: DiskId) -> Replica:
    """A disk that comes by the line alone."""
    return Replica.of(facts, disk, bytes(32), BLOCK_SIZE)


def contradicts(one: Replica, other: Replica) -> bool:
    """Whether both cannot be one disk. A partition table's own id goes with the disk, also from a
    USB dock into a server, where serial number and model may be told otherwise: they count where
    a table has no id. An image file has neither.
    """
    if one.table_id and other.table_id:
        return one.table_id != other.table_id
    if one.serial and other.serial:
        return (one.serial, one.model) != (other.serial, other.model)
    return False


def _identified(one: Replica, other: Replica) -> bool:
    """Whether both have one name: a table id that only one of them has speaks against it."""
    if one.table_id or other.table_id:
        return one.table_id == other.table_id
    return bool(one.serial) and (one.serial, one.model) == (other.serial, other.model)


def _nameless(one: Replica) -> bool:
    return not one.table_id and not one.serial


def recognised(one: Replica, other: Replica) -> bool:
    """Whether one is known for the other without being told so; that both are of one size says
    nothing.
    """
    if one.size != other.size:
        return False
    alike = _nameless(one) and _nameless(other) and one.model == other.model
    return _identified(one, other) or (alike and bool(one.model))


def refuse_guessed(found: Replica, replicas: Sequence[Replica]) -> None:
    """Refuse a block device that nobody named this time, when nothing but where it stands tells
    which it is: at the next boot another may stand there.
    """
    if not any(one.disk == found.disk and _identified(one, found) for one in replicas):
        raise ReplicaUnknownError(
            f"No table id and serial number tell that this is disk {found.disk}",
            safe="The replica is as it was.",
            todo="Names of devices change: name it with --disk SOURCE=DISK each time.",
        )


def refuse_another(mine: Replica, theirs: Replica) -> None:
    """Refuse a disk that has grown, or stands where another stood."""
    if theirs.origin != mine.origin:
        raise OtherShipmentError(f"Disk {mine.disk} was restored from another shipment")
    if (theirs.size, theirs.block_size) != (mine.size, mine.block_size):
        raise SourceChangedError(
            f"Disk {mine.disk} has {theirs.size} bytes in blocks of {theirs.block_size}, its "
            f"replica {mine.size} in blocks of {mine.block_size}",
            safe="The replica is as it was.",
            todo="A disk that was resized is ingested or sent anew, as a new disk.",
        )
    if contradicts(mine, theirs):
        raise SourceChangedError(
            f"Disk {mine.disk} is another now: table {theirs.table_id!r}, {theirs.model!r} serial "
            f"{theirs.serial!r}; its replica is of table {mine.table_id!r}, {mine.model!r} serial "
            f"{mine.serial!r}",
            safe="The replica is as it was.",
            todo="See that the right disk is named, with --disk SOURCE=DISK.",
        )


def paired(facts: DiskFacts, asked: str, replicas: Sequence[Replica]) -> Replica:
    """The replica of a disk: the one whose id begins with ``asked``, or else the only one that
    is of this size and identity.
    """
    if asked:
        hits = [one for one in replicas if one.disk.startswith(asked.lower())]
    else:
        hits = [one for one in replicas if recognised(one, as_replica(facts, one))]
    if len(hits) != 1:
        told = ", ".join(f"{one.disk} ({one.model!r} {one.serial!r})" for one in replicas)
        raise ReplicaUnknownError(
            f"{len(hits)} replicas at the gate are of {facts.source}; exactly one must be. The "
            f"gate has: {told or 'none'}",
            todo="Name it with --disk SOURCE=DISK.",
        )
    found = as_replica(facts, hits[0])
    refuse_another(hits[0], found)
    return found
