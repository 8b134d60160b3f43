"""What a disk says of itself and of its machine, read without a mount, a write or trust.

All of it is read in cells (``cell``, ``confine``) by examiners: ``tables`` (partition table and
superblocks), ``surface`` (what these say of the machine) and ``depth`` (what dissect reads inside
the file systems). What comes back is foreign, parsed here into typed facts.
"""

import os
from dataclasses import replace
from pathlib import Path

from appliance.block import SECTOR, opened, peek
from appliance.errors import RecordDamagedError, ToolMissingError
from appliance.ingest.foreign import text
from appliance.ingest.inspection import cell
from appliance.ingest.inspection.warned import is_lost_gpt
from appliance.model import DiskFacts, MachineFacts
from appliance.seal import canon, machine
from appliance.seal.papers import MAX_TEXT, parse_facts, write_facts

TABLE_SECONDS = 30
MACHINE_SECONDS = 60
UNREAD = "unknown"  # in place of the name of a partition table
_TABLES, _SURFACE, _DEPTH = (f"{__name__}.{one}" for one in ("tables", "surface", "depth"))


def image_sector(fd: int) -> int:
    """The sector size an image was partitioned for: 4096 where only there a GPT header stands,
    else 512.
    """
    at_512, at_4096 = peek(fd, 8, 512), peek(fd, 8, 4096)
    return 4096 if at_4096 == b"EFI PART" != at_512 else SECTOR


def facts(
    *, source: str, serial: str, model: str, bus: str, size: int, sectors: tuple[int, int]
) -> DiskFacts:
    """All that is known of the disk at ``source``, a device node or an image file; where its table
    cannot be read, that is UNREAD. Raises ToolMissingError.
    """
    logical, physical = sectors
    known = DiskFacts(
        source=text(source),
        serial=text(serial),
        model=text(model),
        bus=text(bus),
        size=size,
        logical_sector=logical,
        physical_sector=physical,
        table="none",
        table_id="",
        firmware_hint="unknown",
        parts=(),
    )
    try:
        answer = _asked(_TABLES, source, size, logical, TABLE_SECONDS)
        found = canon.read(
            answer, "the cell's answer", parse_facts, write_facts, RecordDamagedError
        )
    except cell.UnpreparedError as exc:
        raise ToolMissingError(
            f"A disk's table cannot be read here ({exc}); "
            "Debian packages: libblkid1, libfdisk1, libseccomp2"
        ) from exc
    except (cell.CellError, OSError, RecordDamagedError):
        return replace(known, table=UNREAD)
    return replace(
        known,
        table=found.table,
        table_id=found.table_id,
        firmware_hint=found.firmware_hint,
        parts=found.parts,
    )


def tells(disk: DiskFacts) -> bool:
    """Whether anything lies on the disk, as far as it is known, so that it is worth a look."""
    known = any(one.fs for one in disk.parts)
    return known or disk.table == UNREAD or is_lost_gpt(disk)


def machine_facts(source: str, disk: DiskFacts) -> MachineFacts:
    """What the disk at ``source`` tells of its machine, within MACHINE_SECONDS and TABLE_SECONDS;
    where that fails, the reason. One that is known to be empty is not looked into.
    """
    if not tells(disk):
        return replace(machine.nothing(""), method="blkid", firmware=disk.firmware_hint)
    reasons = []
    for examiner, seconds in ((_DEPTH, MACHINE_SECONDS), (_SURFACE, TABLE_SECONDS)):
        try:
            answer = _asked(examiner, source, disk.size, disk.logical_sector, seconds)
            found = machine.read(answer)
        except (cell.CellError, OSError, RecordDamagedError) as exc:
            reasons.append(text(str(exc)))
        else:
            return replace(found, reason=found.reason or "; ".join(reasons)[:MAX_TEXT])
    return machine.nothing("; ".join(reasons))


def _asked(examiner: str, source: str, size: int, sector: int, seconds: int) -> bytes:
    with opened(Path(source), os.O_RDONLY | os.O_NONBLOCK) as fd:
        return cell.ask(examiner, fd, size, sector, seconds)
