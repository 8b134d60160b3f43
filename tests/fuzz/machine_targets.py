"""What other programs, the kernel and disks say of themselves; what jobs are told."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pyudev

from appliance import process
from appliance.ingest import discovery, guard, image, inspection
from appliance.ingest.inspection import cell, native, tables
from appliance.jobs import KINDS, load_spec
from appliance.jobs.spec import (
    CatchUpSpec,
    GateSpec,
    IngestSpec,
    RestoreSpec,
    SealSpec,
    Spec,
    VerifySpec,
    dump_spec,
)
from appliance.model import (
    Answer,
    DiskFacts,
    DiskId,
    Encrypted,
    FileSystem,
    JobId,
    LogicalVolume,
    Nic,
    ShipmentId,
)
from appliance.seal import canon, machine
from appliance.seal.papers import read_disk_head, read_note, write_disk_head, write_note
from appliance.state import JobRow, JobState
from tests.fuzz.documents import behind, canonical, documents, parsed
from tests.fuzz.pack_targets import FACTS, SPEC
from tests.fuzz.scenes import BLOCK, KEY, place
from tests.fuzz.target import Run, Target, steady

# --- job specs, and the key that goes with them --------------------

_NAMES = tuple(KINDS)
_SPECS: dict[str, Spec] = {
    "ingest": IngestSpec("/store", "/dev/sdx", "web01", "11" * 16, 1, ("5MB/s",), 5, 5, 1.5),
    "seal": SealSpec("/store", ("3",), "reason"),
    "verify": VerifySpec("/store", "", "", ("A",), keyed=True),
    "restore": RestoreSpec("/store", "local", "/v", (("11", "v"),), "", "", (), ("1MB/s",)),
    "gate": GateSpec("local", "/v", "[::]:7443", 3),
    "catch-up": CatchUpSpec(
        "gate:7443", (("/dev/sdx", ""),), (), 3, 5.0, final=True, stopped=False,
        freeze_seconds=30.0, patience_seconds=5.0,
    ),
}  # fmt: skip
_ROW = JobRow(
    id=JobId(1),
    kind="",
    shipment=ShipmentId("5a" * 16),
    disk=DiskId("11" * 16),
    title="",
    spec="",
    state=JobState.QUEUED,
    created="",
    ended="",
    error="",
    code=0,
    what="",
    safe="",
    todo="",
    resolved=False,
)


def _spec(data: bytes) -> None:
    """The first byte says of which kind the job is."""
    kind = _NAMES[data[0] % len(_NAMES)] if data else _NAMES[0]
    row = replace(_ROW, kind=kind, spec=data[1:].decode(errors="replace"))
    found = load_spec(row)
    assert load_spec(replace(row, spec=dump_spec(found))) == found


def _spec_seeds() -> Iterator[bytes]:
    for kind, one in _SPECS.items():
        yield bytes([_NAMES.index(kind)]) + dump_spec(one).encode()


def _secret(data: bytes) -> None:
    """What a job process finds on its standard input."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        found = process._key_from(reader)  # noqa: SLF001 - else it takes a process each
        assert found is None or len(found.recipient.key) == 1216
    finally:
        os.close(reader)


# --- what disks say of themselves, through udev, libfdisk and libblkid --------------------


class _Device(SimpleNamespace):
    """A device as udev tells of it."""

    def find_parent(self, *_: str) -> None:
        return None


@contextmanager
def _disks() -> Iterator[Run]:
    """The input: a JSON document of what each of them says. Whatever it is, the format takes what
    comes of it.
    """
    said: dict[str, object] = {}

    def table(*_: object) -> bytes:
        return _said(said.get("sfdisk"))

    def probe(*_: object) -> dict[str, bytes]:
        return {
            key: one.encode(errors="replace") for key, one in _texts(said.get("blkid")).items()
        }

    def ask(_: str, fd: int, size: int, sector: int, seconds: int) -> bytes:
        del seconds
        return tables.examine(fd, size, sector)

    def no_disk(*_: object) -> AbstractContextManager[int]:
        return nullcontext(-1)

    def device(*_: object) -> _Device:
        return _Device(
            subsystem="block",
            device_type="disk",
            device_path="/devices/usb/1",
            device_node="/dev/sdx",
            device_number=5,
            sys_name="sdx",
            properties=_texts(said.get("udev")),
            attributes={**_attributes(said.get("attributes")), "size": b"2048\n"},
        )

    with (
        mock.patch.object(native, "table", table),
        mock.patch.object(native, "probe", probe),
        mock.patch.object(cell, "ask", ask),
        mock.patch.object(inspection, "opened", no_disk),
        mock.patch.object(pyudev, "Context", object),
        mock.patch.object(pyudev.Devices, "from_device_file", device),
    ):

        def run(data: bytes) -> None:
            found = parsed(data)
            said.clear()
            said.update(found if isinstance(found, dict) else {"sfdisk": data.decode("latin-1")})
            one = discovery.disk_at(Path("/dev/sdx"))
            told = inspection.facts(
                source=str(one.path),
                serial=one.serial,
                model=one.model,
                bus=one.bus,
                size=one.size,
                sectors=(512, 4096),
            )
            spec = replace(SPEC, facts=told)
            assert read_disk_head(canon.dump(write_disk_head(spec)), BLOCK) == spec

        yield run


def _said(found: object) -> bytes:
    return found.encode(errors="replace") if isinstance(found, str) else canonical(found)


def _texts(found: object) -> dict[str, str]:
    items = found.items() if isinstance(found, dict) else ()
    return {key: one for key, one in items if isinstance(one, str)}


def _attributes(found: object) -> dict[str, bytes]:
    return {key: one.encode(errors="replace") for key, one in _texts(found).items()}


def _disk_seeds() -> Iterator[bytes]:
    part = {
        "node": "/dev/sdx1",
        "start": 2048,
        "size": 4096,
        "type": "0C",
        "uuid": "u",
        "name": "n",
    }
    table = {"label": "dos", "id": "0x1", "partitions": [part, {**part, "bootable": True}]}
    yield canonical(
        {
            "attributes": {"device/model": "Model \0", "serial": "5", "device/wwid": "naa.5"},
            "blkid": {"TYPE": "ext4", "LABEL": "a b", "UUID": "1-2"},
            "sfdisk": {"partitiontable": table},
            "udev": {"ID_BUS": "usb", "ID_MODEL_ENC": "a\\x20b\\xff", "ID_SERIAL_SHORT": "S"},
        }
    )
    yield canonical({"attributes": {}, "blkid": {"TYPE": "vfat"}, "udev": {}})


# --- what a cell answers, and what a note says of a machine --------------------


def _machine(data: bytes) -> None:
    found = machine.read(data)
    assert canon.dump(machine.write(found)) == data
    note = read_note(canon.dump(write_note(machine.as_note(SPEC.disk, found))))
    assert machine.of_notes([note]) == {SPEC.disk: found}


def _machine_seeds() -> Iterator[bytes]:
    nic = Nic("eth0", "52:54:00:aa:bb:cc", ("192.0.2.7/24",), "192.0.2.1", ("::1",), Answer.NO)
    yield canon.dump(machine.write(machine.nothing("no reason")))
    yield canon.dump(
        machine.write(
            replace(
                machine.nothing(""),
                hostname="web01",
                family="windows",
                kernels=("6.1",),
                nics=(nic,),
                dirty=Answer.YES,
                encrypted=(Encrypted("1", "luks"),),
                volumes=(LogicalVolume("vg", "root", 1 << 30),),
                file_systems=(FileSystem("2", "ext4", "root", 1 << 30, None),),
                warnings=("text",),
                method="dissect",
            )
        )
    )


# --- image files that are not raw --------------------


@contextmanager
def _images() -> Iterator[Run]:
    """The front of an image, and behind its last 24 bytes' mark its last sector."""

    def accept(*_: object) -> None:  # a Mock would remember every call
        return None

    def facts(**_: object) -> DiskFacts:
        return FACTS

    with (
        place() as at,
        mock.patch.object(guard, "refuse_image", accept),
        mock.patch.object(inspection, "facts", facts),
    ):
        path = at / "image"

        def run(data: bytes) -> None:
            path.write_bytes(data)
            with image.ImageFiles([]).open(str(path)) as disk:
                assert not _FOREIGN.match(data), "it says itself that it is not raw"
                assert data[-512:][:8] != b"conectix" or len(data) < 512
                list(disk.extents(0))

        yield run


_FOREIGN = re.compile(
    rb"QFI\xfb|KDMV|# Disk DescriptorFile|vhdxfile|conectix|<<< .{60}\x7f\x10\xda\xbe", re.DOTALL
)


def _image_seeds() -> Iterator[bytes]:
    vdi = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe"
    for front in (b"QFI\xfb", b"KDMV", b"# Disk DescriptorFile", b"vhdxfile", b"conectix", vdi):
        yield front + bytes(600)
    yield bytes(600) + b"conectix" + bytes(504)
    yield b"raw" + bytes(700)


# --- /proc/self/mountinfo: the kernel's lines, with anybody's names --------------------

_MANGLED = b" \t\n\\#"  # fs/seq_file.c, seq_escape: what fs/proc_namespace.c writes as octal


@contextmanager
def _mounts() -> Iterator[Run]:
    """The input: names, each ended by a zero byte: what is mounted, of which type, where, and
    the options.
    """
    with place() as at:
        listed = at / "mountinfo"

        def run(data: bytes) -> None:
            names = data.split(b"\0")[:40]
            rows = [names[at : at + 5] for at in range(0, len(names) - 4, 5)]
            listed.write_bytes(b"".join(map(_line, rows)))
            found = list(guard.mounts(listed))
            assert len(found) == len(rows)
            for one, (root, where, source, kind, options) in zip(found, rows, strict=True):
                del root
                assert one.where == os.fsdecode(b"/" + where)
                assert one.source == os.fsdecode(source)
                assert one.type == os.fsdecode(_plain(kind))
                assert one.read_only == (b"ro" in _plain(options).split(b","))
                assert one.number == os.makedev(98, 3)

        yield run


def _line(names: list[bytes]) -> bytes:
    root, where, source, kind, options = names
    return b"36 35 98:3 /%s /%s rw,noatime master:1 shared:2 - %s %s %s\n" % (
        _escaped(root),
        _escaped(where),
        _plain(kind),
        _escaped(source),
        _plain(options),
    )


def _escaped(name: bytes) -> bytes:
    return b"".join(b"\\%03o" % one if one in _MANGLED else bytes([one]) for one in name)


def _plain(word: bytes) -> bytes:
    """A word of the kernel's own."""
    return re.sub(rb"[^a-z0-9.,=]", b"", word) or b"none"


_INGEST, _JOBS = "appliance/ingest/", "appliance/jobs/"
TARGETS = (
    Target("job-spec", (_JOBS + "spec.py",), steady(_spec), _spec_seeds, behind(1)),
    Target(
        "job-secret",
        ("appliance/process.py",),
        steady(_secret),
        lambda: [KEY.seed() + b'["operator", "operator"]'],
        behind(32),
        longest=1024,
    ),
    Target(
        "disk-facts",
        tuple(_INGEST + one for one in ("inspection/tables.py", "foreign.py", "discovery.py")),
        _disks,
        _disk_seeds,
        documents,
    ),
    Target("image", (_INGEST + "image.py",), _images, _image_seeds),
    Target(
        "machine",
        ("appliance/seal/machine.py",),
        steady(_machine),
        _machine_seeds,
        documents,
    ),
    Target(
        "mountinfo",
        (_INGEST + "guard.py",),
        _mounts,
        lambda: [b"\0mnt/a b\0/dev/sda1\0ext4\0rw,ro\0", b"r\0\\040#\xff\0\0tmpfs\0ro\0"],
    ),
)
