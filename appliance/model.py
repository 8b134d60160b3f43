"""The nouns of MotionGear and the contracts between its rooms.

Read this first, then jobs. Sizes and offsets are bytes; an index counts blocks of the store's
block size. Everything here is immutable and free of I/O.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NewType, Protocol, runtime_checkable

ShipmentId = NewType("ShipmentId", str)  # 32 hex digits
DiskId = NewType("DiskId", str)  # 32 hex digits
PackId = NewType("PackId", str)  # 32 hex digits
Digest = NewType("Digest", bytes)  # 32 bytes, BLAKE3
JobId = NewType("JobId", int)

BLOCK_SIZE = 1 << 20
MIN_BLOCK_SIZE = 1 << 16
MAX_BLOCK_SIZE = 1 << 24


def block_count(size: int, block_size: int) -> int:
    """Number of blocks that ``size`` bytes are cut into; the last one may be shorter."""
    return -(-size // block_size)


def block_length(index: int, size: int, block_size: int) -> int:
    """Bytes in block ``index`` of a disk of ``size`` bytes; zero or less behind its end."""
    return min(block_size, size - index * block_size)


# --- what a disk is --------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of a partition table, with what blkid says of its content. Texts are foreign."""

    number: int
    start: int
    size: int
    type: str
    name: str
    uuid: str
    fs: str
    fs_label: str
    fs_uuid: str


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What is known of a source disk from outside its file systems. Texts are foreign.

    ``source`` is where it was found (``/dev/sdb``, a path); ``table`` is ``gpt``, ``dos``,
    ``none`` or sfdisk's word.
    """

    source: str
    serial: str
    model: str
    bus: str
    size: int
    logical_sector: int
    physical_sector: int
    table: str
    table_id: str
    firmware_hint: str
    parts: tuple[Part, ...]

    def same_disk(self, other: "DiskFacts") -> bool:
        """Whether both speak of one physical disk: serial, model, size and sector size agree."""
        mine = (self.serial, self.model, self.size, self.logical_sector)
        return mine == (other.serial, other.model, other.size, other.logical_sector)


class Answer(StrEnum):
    """What is known of a question with two answers."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface as its machine is told to set it up. Texts are foreign.

    ``addresses`` with the length of their prefix (``192.0.2.7/24``); ``dns`` are the servers it
    is to ask.
    """

    name: str
    mac: str
    addresses: tuple[str, ...]
    gateway: str
    dns: tuple[str, ...]
    dhcp: Answer


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system on a disk. ``place`` is the number of its partition, ``0`` where it fills the
    disk, or a logical volume's ``group/name``; of its ``size`` so many bytes are ``used``, None
    where that is not known. Texts are foreign.
    """

    place: str
    type: str
    label: str
    size: int
    used: int | None


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A volume that LVM makes of this disk, perhaps with others. Texts are foreign."""

    group: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An encrypted range of a disk; ``place`` as of a file system, ``kind`` is ``luks`` or
    ``bitlocker``.
    """

    place: str
    kind: str


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What a disk tells of the machine it belongs to, read from inside its file systems. Texts
    are foreign.

    ``family`` is ``linux``, ``windows``, ``other`` or ``unknown``; ``firmware`` is ``uefi``,
    ``bios`` or ``unknown``. ``dirty`` (not cleanly unmounted) and ``hibernated`` speak of Windows.
    ``method`` is ``dissect``, or ``blkid`` where nothing but tables and superblocks could be
    read, ``none`` where nothing could, with the ``reason``. ``warnings`` are English sentences.
    """

    hostname: str
    family: str
    product: str
    version: str
    architecture: str
    kernels: tuple[str, ...]
    nics: tuple[Nic, ...]
    firmware: str
    dirty: Answer
    hibernated: Answer
    encrypted: tuple[Encrypted, ...]
    volumes: tuple[LogicalVolume, ...]
    file_systems: tuple[FileSystem, ...]
    warnings: tuple[str, ...]
    method: str
    reason: str


@dataclass(frozen=True, slots=True)
class Extent:
    """A byte range of a disk; ``hole`` means that it is known to read as zeros."""

    offset: int
    length: int
    hole: bool = False

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class PointSpec:
    """One point of one disk, about to be written into a sink."""

    disk: DiskId
    point: int
    machine: str
    facts: DiskFacts


class Codec(IntEnum):
    """How a payload stands in a record (store-format.md, section 5)."""

    RAW = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Cut:
    """One block, cut and digested; or, with ``payload`` None, a run of ``count`` zero blocks.

    ``payload`` is only borrowed: it is valid until the call it is handed to returns.
    ``bad`` lists the bytes that could not be read and stand as zeros.
    """

    index: int
    count: int
    length: int
    digest: Digest
    codec: Codec
    payload: memoryview | bytes | None
    bad: tuple[Extent, ...] = ()


# --- contracts --------------------


class SourceDisk(Protocol):
    """A source disk opened for reading. Never writes. Methods may be called from several
    threads.
    """

    @property
    def facts(self) -> DiskFacts: ...

    @property
    def version(self) -> bytes:
        """Changes whenever the content does, where the source can tell without reading; else
        empty.
        """

    def extents(self, offset: int) -> Iterator[Extent]:
        """The disk from ``offset`` to its end, in order and without gaps."""

    def readinto(self, offset: int, buffer: memoryview) -> Sequence[Extent]:
        """Fill ``buffer`` from ``offset``; what cannot be read is zeroed and returned as ranges.

        Raises SourceGoneError when the disk itself is no longer there.
        """

    def confirm(self) -> None:
        """Raise SourceChangedError when the disk was exchanged or written to since it was
        opened, where that shows.
        """


class Source(Protocol):
    """A place that has disks: this machine, a directory of images, later a hypervisor."""

    def disks(self) -> Sequence[DiskFacts]: ...

    def open(self, name: str) -> AbstractContextManager[SourceDisk]:
        """Open one disk read-only and alone; refuses, with the reason, what must not be read."""


class Frozen(Protocol):
    """One point over several disks, while it is held and after. Mounts and disks by name, in the
    order in which they were looked at.
    """

    @property
    def mounts(self) -> tuple[str, ...]:
        """The file systems that were frozen."""

    @property
    def loose(self) -> tuple[str, ...]:
        """Those that could not be: for them the point is only as after a power cut."""

    @property
    def idle(self) -> tuple[str, ...]:
        """Disks with no file system mounted: that nothing writes to them, the operator says."""

    @property
    def seconds(self) -> float:
        """How long it has been held; once it is over, how long it was."""

    def confirm(self) -> None:
        """Raises FreezeLostError when it is known that it did not hold so far: what is read
        from now on is no point. Once it is over, nothing. From any thread.
        """


@runtime_checkable
class Freezes(Protocol):
    """Capability of a source: one point over all disks of a machine that goes on living."""

    def freeze(
        self, names: Sequence[str], at_most_seconds: float
    ) -> AbstractContextManager[Frozen]:
        """Nothing is written to these disks for as long as the context lasts, and no longer than
        that many seconds, whatever becomes of this process. Refuses, before anything is frozen,
        with FreezeRefusedError. Raises FreezeLostError at its end when it was thawed before:
        what was read is no point.
        """


class Witness(Protocol):
    """Says later whether a source still is the one whose blocks were stored (no chimeras)."""

    def guard(self, cursor: int) -> bytes:
        """32 bytes that depend on a sample of the source's blocks below ``cursor``."""

    def trusts(self, cursor: int, guard: bytes) -> bool:
        """Read the sample again and compare."""


class Sink(Protocol):
    """Where the source loop puts blocks, in ascending order: a store, later a link."""

    def begin(self, point: PointSpec, witness: Witness) -> int:
        """Make ready; return the first block wanted. Equal to the block count: nothing is
        missing.
        """

    def put(self, cut: Cut) -> None:
        """Take one block or zero run. It is durable once a later checkpoint has returned."""

    def checkpoint(self) -> None:
        """Make all that was put durable."""

    def commit(self) -> None:
        """All blocks were put: end the point."""


class VolumeState(StrEnum):
    """How far a volume at a target has come; written as a tag on the volume itself."""

    PARTIAL = "partial"
    RESTORED = "restored"
    CHECKED = "checked"
    BAD = "bad"
    HURT = "hurt"  # restored but for blocks that the store has lost: catch-up sends them
    REPLICA = "replica"  # follows its source: rounds change it, nothing else may


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """The volume wanted for one disk. ``name`` is safe as a file name; ``origin`` is the seal
    root it is restored from, in hex; ``content`` is how many of its bytes are not zero,
    roughly.
    """

    name: str
    size: int
    content: int
    disk: DiskId
    point: int
    origin: str


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A volume as a target has it. ``id`` is made with the volume and goes with it: no other
    ever has it.
    """

    spec: VolumeSpec
    state: VolumeState
    location: str
    id: str


class Volume(Protocol):
    """A volume attached for writing. Methods may be called from several threads."""

    @property
    def fresh(self) -> bool:
        """Whether the volume is known to read as zeros wherever this attachment has not
        written.
        """

    def pread(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with what the medium holds: caches are passed by."""

    def pwrite(self, offset: int, data: memoryview) -> None: ...

    def zero(self, offset: int, length: int) -> None: ...

    def flush(self) -> None:
        """Return when everything written is durable."""


@dataclass(frozen=True, slots=True)
class SnapshotSpec:
    """What a replica held at a point of its machine. ``form`` is how the disks were read (wire-
    format.md, section 5), ``taken`` is in seconds since 1970 by the source's clock; ``disks`` are
    all that make up the point, ``roots`` their manifests' in hex, in the same order: disks of two
    readings never make a point together.
    """

    volume: VolumeSpec
    machine: str
    point: int
    form: int
    taken: int
    disks: tuple[DiskId, ...]
    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot as a target has it. ``how`` is the target's word for how it was made; of a
    machine's points the one with the highest ``chosen`` is the operator's choice, 0 is none.
    ``made`` is when, in seconds since 1970 by the target's clock.
    """

    spec: SnapshotSpec
    location: str
    how: str
    chosen: int
    made: int


@runtime_checkable
class Snapshots(Protocol):
    """Capability of a target: keep what a replica holds now."""

    def snapshot(self, spec: SnapshotSpec) -> SnapshotInfo:
        """Keep the replica as it is; made once, found again after. Another reading of the same
        point takes the place of the first. Raises VolumeBusyError while the volume is attached.
        """

    def snapshots(self) -> Sequence[SnapshotInfo]: ...

    def mark(self, spec: SnapshotSpec, chosen: int) -> SnapshotInfo:
        """Write ``chosen`` on the snapshot itself."""

    def discard(self, spec: SnapshotSpec) -> None:
        """Remove the snapshot; nothing when it is gone already. Clones stay: raises
        VolumeBusyError while one of them reads from it.
        """


@dataclass(frozen=True, slots=True)
class CloneInfo:
    """A volume made of a snapshot, to be changed and booted. ``format`` is raw or qcow2; one that
    ``depends`` reads from its snapshot for as long as it lives.
    """

    name: str
    of: SnapshotSpec
    location: str
    format: str
    how: str
    depends: bool


@runtime_checkable
class Clones(Protocol):
    """Capability of a target that has Snapshots: volumes made of them."""

    def clone(self, spec: SnapshotSpec, name: str) -> CloneInfo:
        """A volume of its own under a new name, which is safe as a file name."""

    def clones(self) -> Sequence[CloneInfo]: ...

    def remove(self, name: str) -> None:
        """Remove the clone; nothing when it is gone already."""


@runtime_checkable
class Loops(Protocol):
    """Capability of a target: attach a volume to a block device of this machine."""

    def loop(self, info: VolumeInfo, sector: int) -> str:
        """Attach with that logical sector size, once; returns the device node, also when it was
        attached before.
        """


class Target(Protocol):
    """A place that volumes are restored to."""

    @property
    def name(self) -> str:
        """What the target is called in words."""

    def check(self, wanted: Sequence[VolumeSpec]) -> None:
        """Refuse, before any write, what cannot succeed or must not: space, rights, names taken
        by others, replicas, which only rounds change.
        """

    def volumes(self) -> Sequence[VolumeInfo]: ...

    def ensure_volume(self, spec: VolumeSpec) -> VolumeInfo:
        """Make the volume or find it again by its tag; the second call changes nothing. One that
        became shorter has its size again and is bad.
        """

    def attach(self, spec: VolumeSpec) -> AbstractContextManager[Volume]:
        """The volume for this job alone; raises VolumeBusyError while another has it."""

    def tag(self, spec: VolumeSpec, state: VolumeState) -> VolumeInfo:
        """Say on the volume itself how far it has come; refused while it is attached."""


Stop = Callable[[], bool]  # True once the operator wants the job to stop; looked at once a block
