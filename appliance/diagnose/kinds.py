"""What a diagnosis may find: of each kind a stable name, how bad it is, and the sentences that say
what is, what is safe and what to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from appliance.errors import (
    CustodyRefusedError,
    IncompleteDiskError,
    MemoryShortError,
    MotionGearError,
    NeedRootError,
    SealMissingError,
    StateError,
    StoreFullError,
    StoreWriteError,
    ToolMissingError,
)
from appliance.language import marked


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    OK = "ok"


class Kind(StrEnum):
    """Stable names."""

    # the state directory
    HOME_NONE = "home-none"
    HOME_CLOSED = "home-closed"
    HOME_OPEN = "home-open"
    DATABASE = "database"
    DATABASE_MISSING = "database-missing"
    DATABASE_DAMAGED = "database-damaged"
    DATABASE_NEWER = "database-newer"
    DATABASE_UNREAD = "database-unread"
    BALLAST_GONE = "ballast-gone"
    SPACE = "space"
    SPACE_SHORT = "space-short"
    SPACE_NONE = "space-none"
    LOCK = "lock"
    STORE_GONE = "store-gone"
    LOOP_LEFT = "loop-left"
    # the machine
    CLOCK = "clock"
    CLOCK_FREE = "clock-free"
    ROOT = "root"
    ROOT_NOT = "root-not"
    KERNEL = "kernel"
    LOOPS_NONE = "loops-none"
    NEEDED = "needed"
    NEEDED_MISSING = "needed-missing"
    WANTED_MISSING = "wanted-missing"
    MEMORY = "memory"
    MEMORY_SHORT = "memory-short"
    DISK_ERRORS = "disk-errors"
    DISK_READ_ONLY = "disk-read-only"
    DISK_EMPTY = "disk-empty"
    FILE_SYSTEM_ERRORS = "file-system-errors"
    RAID_DEGRADED = "raid-degraded"
    SMART_UNREAD = "smart-unread"
    # jobs
    JOB_FAILED = "job-failed"
    JOB_DIED = "job-died"
    JOB_SPEECHLESS = "job-speechless"
    JOB_STOPPED = "job-stopped"
    JOB_PAUSED = "job-paused"
    JOB_LIVES = "job-lives"
    JOB_FINISHED = "job-finished"
    JOB_DROPPED = "job-dropped"
    GATE_ENDED = "gate-ended"
    JOB_LOG = "job-log"
    JOB_LOG_NONE = "job-log-none"
    # a store
    STORE = "store"
    STORE_REFUSED = "store-refused"
    STORE_LOCKED = "store-locked"
    STORE_READ_ONLY = "store-read-only"
    STORE_SHUT = "store-shut"
    STORE_OPEN = "store-open"
    RESERVE_GONE = "reserve-gone"
    DRAFT_LEFT = "draft-left"
    ASIDE = "aside"
    FOREIGN_FILE = "foreign-file"
    SEALED = "sealed"
    UNSEALED = "unsealed"
    SEAL_REFUSED = "seal-refused"
    SEAL_GONE = "seal-gone"
    PACK_REFUSED = "pack-refused"
    PACK_TORN = "pack-torn"
    PACK_WRITTEN = "pack-written"
    DISK_INCOMPLETE = "disk-incomplete"
    CONTENT_UNREAD = "content-unread"
    CUSTODY = "custody"
    CUSTODY_NONE = "custody-none"
    CUSTODY_LACKS = "custody-lacks"
    CUSTODY_WRONG = "custody-wrong"
    MORE = "more"


@dataclass(frozen=True, slots=True)
class Said:
    """Sentences of a kind, with places for figures. Where an ``error`` stands behind it, its
    sentences are used for those that are empty. A kind of refusals has none: the error met has.
    """

    severity: Severity
    what: str = ""
    safe: str = ""
    todo: str = ""
    error: type[MotionGearError] | None = None


ALL_RECORDS = marked("all of them")  # in the place of a record's number
_E, _W, _OK = Severity.ERROR, Severity.WARNING, Severity.OK
_STORES_SAFE = marked("Stores and packs are untouched by this.")
_DIGESTS = marked("What is stored was digested: damage is found, and not passed on.")
_CHECKPOINT = marked("Everything up to the last checkpoint is stored.")
_CONTENT_SAFE = marked("What is in the store is not touched by this.")
_STORE_AS_IT_WAS = marked("The store is as it was.")

SAID: Mapping[Kind, Said] = {
    Kind.HOME_NONE: Said(
        _OK, marked("The state directory {path} is not there: nothing was done here yet.")
    ),
    Kind.HOME_CLOSED: Said(
        _E,
        marked("The state directory {path} cannot be read ({why})."),
        todo=marked("Run the command as the user to whom it belongs, mostly root."),
        error=StateError,
    ),
    Kind.HOME_OPEN: Said(
        _W,
        marked("Others than its owner may look into the state directory {path}."),
        marked("What lies in it was not changed."),
        marked("Take their rights away: chmod 700 {path}"),
    ),
    Kind.DATABASE: Said(
        _OK, marked("The state database can be read; its schema has {count} steps.")
    ),
    Kind.DATABASE_MISSING: Said(
        _W,
        marked("The state database {path} is missing, though there were jobs."),
        _STORES_SAFE,
        marked("Go on: it is made anew. Jobs that ran are not known any more."),
    ),
    Kind.DATABASE_DAMAGED: Said(
        _E,
        marked("The state database {path} is damaged ({why})."),
        todo=marked("Move it away: history is lost, no data; jobs that run go on."),
        error=StateError,
    ),
    Kind.DATABASE_NEWER: Said(
        _E,
        marked("The state database {path} was used by a later release ({why})."),
        todo=marked("Use that release again, or a later one."),
        error=StateError,
    ),
    Kind.DATABASE_UNREAD: Said(
        _E, marked("The state database {path} cannot be read ({why})."), error=StateError
    ),
    Kind.BALLAST_GONE: Said(
        _W,
        marked("The space kept for the state database was given up: the disk was full."),
        _STORES_SAFE,
        marked("Free space at {path}; it is taken again as soon as there is room."),
    ),
    Kind.SPACE: Said(_OK, marked("{path} has {size} left.")),
    Kind.SPACE_SHORT: Said(
        _W,
        marked("{path} has only {size} left."),
        marked("What is stored is kept; a job stops at its last checkpoint when it is full."),
        marked("Free space there before the next job."),
    ),
    Kind.SPACE_NONE: Said(
        _E,
        marked("{path} is full: {size} left."),
        marked("What is stored is kept; a job stops at its last checkpoint when it is full."),
        marked("Free space there; a store can be sealed with what is in it all the same."),
        StoreFullError,
    ),
    Kind.LOCK: Said(_OK, marked("{path} is held by process {pid} ({name}).")),
    Kind.STORE_GONE: Said(
        _W,
        marked("The shipment {label} is not sealed, and its store {path} is not there."),
        marked("What was stored is on the disk it was stored on."),
        marked("Attach and mount that disk, then look again."),
    ),
    Kind.LOOP_LEFT: Said(
        _W,
        marked("{node} is still attached to {path}, and no job uses it."),
        marked("The volume is as it was; nobody else can be given it as long as it is attached."),
        marked("If nothing runs from it, detach it: losetup --detach {node}"),
    ),
    Kind.CLOCK: Said(_OK, marked("The clock is kept right by others.")),
    Kind.CLOCK_FREE: Said(
        _W,
        marked("Nothing keeps the clock right: it says {now}."),
        marked("Papers and custody say that they are dated by this device's own clock."),
        marked("Compare it with another clock; connect a time server where that is allowed."),
    ),
    Kind.ROOT: Said(_OK, marked("The diagnosis runs as root: it could look at everything.")),
    Kind.ROOT_NOT: Said(
        _W,
        marked(
            "This is not root: disks cannot be read, volumes not attached, sources not frozen, "
            "and processes of others were not looked at."
        ),
        error=NeedRootError,
    ),
    Kind.KERNEL: Said(_OK, marked("Linux {release} on {machine}.")),
    Kind.LOOPS_NONE: Said(
        _W,
        marked("The kernel offers no loop devices: /dev/loop-control is not there."),
        marked("Stores and volumes can be used; volumes cannot be attached as disks."),
        marked("Load the module as root: modprobe loop"),
    ),
    Kind.NEEDED: Said(_OK, marked("All {count} programs and libraries are there.")),
    Kind.NEEDED_MISSING: Said(
        _E,
        marked("{name} is missing, needed for {use}; Debian package: {package}."),
        todo=marked("Install it as root: apt-get install --no-install-recommends {package}"),
        error=ToolMissingError,
    ),
    Kind.WANTED_MISSING: Said(
        _W,
        marked("{name} is missing, needed only for {use}; Debian package: {package}."),
        todo=marked("Install it as root: apt-get install --no-install-recommends {package}"),
        error=ToolMissingError,
    ),
    Kind.MEMORY: Said(_OK, marked("{size} of memory are free.")),
    Kind.MEMORY_SHORT: Said(
        _W,
        marked("Only {size} of memory are free."),
        marked("A job that is killed for want of memory keeps what it has stored."),
        marked("Let fewer jobs run at once, or add memory."),
        MemoryShortError,
    ),
    Kind.DISK_ERRORS: Said(
        _W,
        marked("The disk {disk} has failed to answer {count} times since it was attached."),
        _DIGESTS,
        marked("Look at its cable and slot; read what is needed from it before it gets worse."),
    ),
    Kind.DISK_READ_ONLY: Said(
        _W,
        marked("The disk {disk} can only be read."),
        marked("A source may be like that, as behind a write blocker."),
        marked("If it is to be written to: look at its switch, then at the kernel's log."),
    ),
    Kind.DISK_EMPTY: Said(
        _W,
        marked("The disk {disk} says that it has no bytes."),
        marked("Nothing was read from it or written to it."),
        marked("Put a medium into it; if there is one, attach it again: it may be failing."),
    ),
    Kind.FILE_SYSTEM_ERRORS: Said(
        _E,
        marked("The file system on {disk} has noted {count} errors of its own."),
        _DIGESTS,
        marked("Stop the jobs that use it, unmount it and check it with fsck; verify its stores."),
        StoreWriteError,
    ),
    Kind.RAID_DEGRADED: Said(
        _W,
        marked("The array {disk} lacks {count} of its disks."),
        marked("It still has all it holds; the next disk that fails may take it away."),
        marked("Replace the disk that has failed before anything else."),
    ),
    Kind.SMART_UNREAD: Said(
        _OK,
        marked(
            "SMART values were not looked at, only what the kernel counts. smartctl (Debian "
            "package smartmontools) tells them."
        ),
    ),
    Kind.JOB_FAILED: Said(_E, marked("Job {job} ({kind}) failed. {happened} ({what}.)")),
    Kind.JOB_DIED: Said(_E, marked("Job {job} ({kind}) died. {happened} ({what}.)")),
    Kind.JOB_SPEECHLESS: Said(
        _E,
        marked("Job {job} ({kind}) did not finish and has left no word of why."),
        _CHECKPOINT,
        marked("Look into its log; resume it, or start it anew."),
    ),
    Kind.JOB_STOPPED: Said(_W, marked("Job {job} ({kind}) was stopped and is not done.")),
    Kind.JOB_PAUSED: Said(_W, marked("Job {job} ({kind}) is paused, as process {pid}.")),
    Kind.JOB_LIVES: Said(_OK, marked("Job {job} ({kind}) lives, as process {pid}.")),
    Kind.JOB_FINISHED: Said(_OK, marked("Job {job} ({kind}) is finished.")),
    Kind.JOB_DROPPED: Said(_OK, marked("Job {job} ({kind}) was dropped by the operator.")),
    Kind.GATE_ENDED: Said(_W, marked("Job {job}, a gate, was stopped: no machine can catch up.")),
    Kind.JOB_LOG: Said(_OK, marked("The last lines of {path}:")),
    Kind.JOB_LOG_NONE: Said(_OK, marked("Job {job} has left no log, or an empty one.")),
    Kind.STORE: Said(_OK, marked("Shipment {label}, {size}; packs: {packs}, disks: {disks}.")),
    Kind.STORE_REFUSED: Said(_E),
    Kind.STORE_LOCKED: Said(_OK, marked("The store is in use by process {pid} ({name}).")),
    Kind.STORE_READ_ONLY: Said(
        _W,
        marked("The store is not sealed, and its file system is mounted read-only."),
        _STORE_AS_IT_WAS,
        marked("Look at the kernel's log for why; mount it for writing before the next job."),
        StoreWriteError,
    ),
    Kind.STORE_SHUT: Said(
        _W,
        marked("The store is not sealed, and this user may not write to it: it is {owner}'s."),
        _STORE_AS_IT_WAS,
        marked("Run jobs on it as its owner, or as root."),
        NeedRootError,
    ),
    Kind.STORE_OPEN: Said(
        _W,
        marked("Everybody may write to {path}."),
        marked("What was sealed cannot be changed unnoticed; it can be destroyed."),
        marked("Take their rights away: chmod o-w {path}"),
    ),
    Kind.RESERVE_GONE: Said(
        _W,
        marked("The space kept for the seal is gone."),
        _STORE_AS_IT_WAS,
        marked("Leave {size} free for the seal before it is sealed."),
        StoreFullError,
    ),
    Kind.DRAFT_LEFT: Said(
        _W,
        marked("{name} is a draft that a writer left who was ended."),
        marked("Nobody reads it: the document itself was not touched."),
        marked("Leave it: whoever writes that document next removes it."),
    ),
    Kind.ASIDE: Said(
        _W,
        marked("{count} packs lie aside in damaged/: the store's disk has lost bytes of them."),
        marked("Their disks were, or will be, read again from there on."),
        marked("Check the store's disk before more is stored on it; keep damaged/ for recovery."),
        StoreWriteError,
    ),
    Kind.FOREIGN_FILE: Said(
        _W,
        marked("{name} does not belong to a store."),
        marked("Nobody reads it, and no seal speaks of it."),
        marked("Move it elsewhere; what is to travel with the seal belongs into files/."),
    ),
    Kind.SEALED: Said(
        _OK, marked("Sealed {at}, number {sequence} of device {device}; its label: {label}")
    ),
    Kind.UNSEALED: Said(_OK, marked("It is not sealed.")),
    Kind.SEAL_REFUSED: Said(_E),
    Kind.SEAL_GONE: Said(
        _E,
        marked("It was sealed, as its chain of custody tells, and its seal is gone."),
        _CONTENT_SAFE,
        marked("Ask whoever sealed it for the seal.json; do not restore from it before that."),
        SealMissingError,
    ),
    Kind.PACK_REFUSED: Said(_E),
    Kind.PACK_TORN: Said(
        _W,
        marked("The pack {name} is not closed, and no process is seen that writes it."),
        _CHECKPOINT,
        marked(
            "Resume the job that wrote it; where no such job is known, ingest its disk again: it "
            "is closed at its last checkpoint and gone on from."
        ),
    ),
    Kind.PACK_WRITTEN: Said(_OK, marked("The pack {name} is being written by process {pid}.")),
    Kind.DISK_INCOMPLETE: Said(
        _W, marked("Disk {disk} is not in the store to its end."), error=IncompleteDiskError
    ),
    Kind.CONTENT_UNREAD: Said(
        _OK,
        marked(
            "What is inside the packs was not read, nor can it be without a key; `motiongear "
            "verify` reads every byte against the seal."
        ),
    ),
    Kind.CUSTODY: Said(_OK, marked("The chain of custody holds together; records: {count}.")),
    Kind.CUSTODY_NONE: Said(
        _W,
        marked("There is no chain of custody: nothing tells who had the store."),
        _CONTENT_SAFE,
        marked("Ask whoever sent it for their copy, and bring both together."),
    ),
    Kind.CUSTODY_LACKS: Said(
        _W,
        marked("The chain of custody lacks something: {finding}. Record: {record}."),
        _CONTENT_SAFE,
        marked("Look at it with `motiongear custody verify`, which says it in words."),
    ),
    Kind.CUSTODY_WRONG: Said(
        _E,
        marked("The chain of custody is wrong: {finding}. Record: {record}."),
        error=CustodyRefusedError,
    ),
    Kind.MORE: Said(_W, marked("There are {count} more of {kind}, not listed here.")),
}
assert SAID.keys() == set(Kind)
