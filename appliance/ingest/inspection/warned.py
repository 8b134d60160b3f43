"""What a technician is to be warned of, by what was found."""

from appliance.language import marked
from appliance.model import Answer, DiskFacts, MachineFacts

ENCRYPTED = marked("A part of the disk is encrypted: what lies in it cannot be told.")
HIBERNATED = marked("Windows is hibernated: shut it down wholly before its disks are read.")
DIRTY = marked("Windows was not shut down cleanly: it will check its disk when it starts.")
LVM_APART = marked("Its LVM group stands on other disks too: take all of them.")
LVM_UNREAD = marked("LVM is on this disk, but its description cannot be read.")
RAID = marked("This disk is a member of a RAID: take all of its members.")
GPT_LOST = marked(
    "Its GPT cannot be read, only what protects it: the image is cut short, or the table damaged."
)
NO_SYSTEM = marked("No operating system was found on this disk.")

_PROTECTIVE = "ee"  # type of the partition that a GPT shows to those who do not know it


def is_lost_gpt(disk: DiskFacts) -> bool:
    """Whether all that is left of a GPT is the dos table that protects it."""
    return disk.table == "dos" and any(one.type == _PROTECTIVE for one in disk.parts)


def warned(facts: MachineFacts, disk: DiskFacts, groups: dict[str, int]) -> tuple[str, ...]:
    """``groups`` are LVM's, by name, with how many disks or partitions each stands on."""
    kinds = [one.fs for one in disk.parts]
    members = kinds.count("LVM2_member")
    told = {
        ENCRYPTED: bool(facts.encrypted),
        HIBERNATED: facts.hibernated is Answer.YES,
        DIRTY: facts.dirty is Answer.YES,
        LVM_APART: sum(groups.values()) > members > 0,
        LVM_UNREAD: members > 0 and not groups,
        RAID: "linux_raid_member" in kinds,
        GPT_LOST: is_lost_gpt(disk),
        NO_SYSTEM: facts.family == "unknown",
    }
    return tuple(sentence for sentence, so in told.items() if so)
