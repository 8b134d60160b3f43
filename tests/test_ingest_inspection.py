"""What a disk says of itself, as typed facts, whatever it says."""

import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.block import opened
from appliance.errors import ToolMissingError
from appliance.ingest import inspection
from appliance.ingest.inspection import cell, native, tables
from appliance.model import DiskFacts, DiskId, PointSpec
from appliance.seal import canon
from appliance.seal.papers import read_disk_head, write_disk_head
from tests.media import Bench, tool

MIB = 1 << 20
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


def inspected(source: Path, size: int = 0, sector: int = 512) -> DiskFacts:
    return inspection.facts(
        source=str(source),
        serial="S",
        model="M",
        bus="b",
        size=size or source.stat().st_size,
        sectors=(sector, 4096),
    )


def kept(facts: DiskFacts) -> DiskFacts:
    """The facts after they travelled in a disk head."""
    spec = PointSpec(DiskId("11" * 16), 0, "web01", facts)
    return read_disk_head(canon.dump(write_disk_head(spec)), 1 << 20).facts


def test_a_modern_server_disk(bench: Bench) -> None:
    image = bench.image(360 * MIB)
    table = f"""label: gpt
        start=2048, size=32MiB, type={ESP}, name="EFI System"
        size=20MiB, type={LINUX}, name="root"
        size=302MiB, type={LINUX}, name="data"
        """
    tool("sfdisk", image, stdin=table)
    device = bench.loop(image)
    efi, root, data = bench.partitions(device)
    tool("mkfs.vfat", "-n", "EFI", efi)
    tool("mkfs.ext4", "-q", "-L", "root fs", root)
    tool("mkfs.xfs", "-q", "-L", "data", data)
    tool("sync")
    before = image.stat().st_mtime_ns
    for source in (image, device):
        facts = inspected(source, 360 * MIB)
        assert (facts.table, facts.firmware_hint) == ("gpt", "uefi")
        assert len(facts.table_id) == 36
        found = [(one.number, one.start, one.size, one.name, one.fs) for one in facts.parts]
        assert found == [
            (1, MIB, 32 * MIB, "EFI System", "vfat"),
            (2, 33 * MIB, 20 * MIB, "root", "ext4"),
            (3, 53 * MIB, 302 * MIB, "data", "xfs"),
        ]
        assert [one.type for one in facts.parts] == [ESP, LINUX, LINUX]
        assert [one.fs_label for one in facts.parts] == ["EFI", "root fs", "data"]
        assert len(facts.parts[1].fs_uuid) == len(facts.parts[1].uuid) == 36
        assert kept(facts) == facts
    assert image.stat().st_mtime_ns == before


def test_an_old_server_disk(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: dos\nlabel-id: 0x1234abcd\nstart=2048,type=83,bootable\n")
    facts = inspected(image)
    assert (facts.table, facts.table_id, facts.firmware_hint) == ("dos", "0x1234abcd", "bios")
    assert [(one.number, one.type, one.fs) for one in facts.parts] == [(1, "83", "")]


def test_a_data_disk_does_not_tell_the_firmware(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: dos\nstart=2048,type=83\n")
    assert inspected(image).firmware_hint == "unknown"


def test_partitions_keep_their_numbers_where_the_table_has_gaps(bench: Bench) -> None:
    for name in ("disk.img", "disk7"):
        image = bench.image(16 * MIB, name)
        table = "label: gpt\nx1: start=2048,size=2048\nx5: start=8192,size=2048\n"
        tool("sfdisk", image, stdin=table)
        assert [one.number for one in inspected(image).parts] == [1, 5]


@pytest.mark.parametrize("kind", ["ext4", "vfat", "btrfs"])
def test_a_bare_file_system(bench: Bench, kind: str) -> None:
    image = bench.image(128 * MIB)
    label = "-n" if kind == "vfat" else "-L"
    tool(f"mkfs.{kind}", label, "BARE", image)
    facts = inspected(image)
    (part,) = facts.parts
    assert (part.number, part.start, part.size) == (0, 0, 128 * MIB)
    assert (part.fs, part.fs_label, facts.table, facts.table_id) == (kind, "BARE", "none", "")
    assert part.fs_uuid


def test_a_disk_of_4096_byte_sectors(bench: Bench) -> None:
    image = bench.image(64 * MIB)
    device = bench.loop(image, "--sector-size", "4096")
    tool("sfdisk", device, stdin=f"label: gpt\nstart=256,size=16MiB,type={ESP}\n")
    tool("mkfs.ext4", "-q", "-E", f"offset={MIB}", image, "4096")
    with opened(image, os.O_RDONLY) as fd:
        assert inspection.image_sector(fd) == 4096
    for source in (device, image):
        facts = inspected(source, 64 * MIB, 4096)
        (part,) = facts.parts
        assert (facts.table, facts.logical_sector) == ("gpt", 4096)
        assert (part.start, part.size, part.fs) == (MIB, 16 * MIB, "ext4")
        assert facts.firmware_hint == "uefi"
    assert tool("losetup", "--list", "--output", "BACK-FILE").count(str(image)) == 1


def test_the_sector_size_of_an_image_stands_in_its_table(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    for content, sector in ((b"", 512), (b"label: gpt\n", 512)):
        if content:
            tool("sfdisk", image, stdin=content.decode())
        with opened(image, os.O_RDONLY) as fd:
            assert inspection.image_sector(fd) == sector
    assert inspected(image).table == "gpt"
    assert not inspected(image).parts


@pytest.mark.parametrize("content", [bytes(MIB), b"EFI PART" * 4096, b"x"])
def test_garbage_has_no_partitions(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(content)
    facts = inspected(image)
    assert (facts.table, facts.parts, facts.firmware_hint) == ("none", (), "unknown")


@pytest.mark.parametrize(
    "label",
    [
        "two words",
        "a=b=c",
        "[red]x[/red]",
        "\x1b[2J\x07",
        "a\nTYPE=xfs",
        "\u00fcber",
        "\\x41'\"$`",
    ],
)
def test_a_file_system_label_is_kept_as_it_is(bench: Bench, label: str) -> None:
    image = bench.image(4 * MIB)
    tool("mkfs.ext4", "-q", "-L", label, image)
    (part,) = inspected(image).parts
    assert (part.fs, part.fs_label) == ("ext4", label)


def test_a_label_that_is_no_text(bench: Bench) -> None:
    image = bench.image(4 * MIB)
    tool("mkfs.ext4", "-q", "-L", os.fsdecode(b"\xff-\xc3"), image)
    (part,) = inspected(image).parts
    assert part.fs_label == "\ufffd-\ufffd"


def named_partition(image: Path, name: bytes) -> None:
    """Give the first entry of a GPT a name that no partitioning tool would."""
    disk = bytearray(image.read_bytes())
    disk[1024 + 56 : 1024 + 128] = name.ljust(72, b"\0")
    count, size = struct.unpack_from("<II", disk, 512 + 80)
    struct.pack_into("<I", disk, 512 + 88, zlib.crc32(disk[1024 : 1024 + count * size]))
    struct.pack_into("<I", disk, 512 + 16, 0)
    struct.pack_into("<I", disk, 512 + 16, zlib.crc32(disk[512 : 512 + 92]))
    image.write_bytes(disk)


def test_a_hostile_partition_name(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: gpt\nstart=2048\n")
    hostile = 'q"\\\n\x1b[31m\x01]'
    named_partition(image, hostile.encode("utf-16-le") + b"\x00\xd8" + b"e\0")
    facts = inspected(image)
    assert facts.parts[0].name.startswith(hostile)
    assert facts.parts[0].name.endswith("e")
    assert kept(facts) == facts


# --- libraries that do not do their work --------------------


def told(table: bytes, **probed: bytes) -> DiskFacts:
    """The facts where libfdisk and libblkid say this of a disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "table", lambda *_: table)
        patch.setattr(native, "probe", lambda *_: probed)
        return tables.read(0, MIB, 512)


def as_table(table: object) -> bytes:
    return json.dumps({"partitiontable": table}).encode()


NOTHING = [
    b"",
    b"garbage",
    b"\xff\0\n=",
    bytes(100_000),
    b"null",
    b"[]",
    b'{"partitiontable": 3}',
    b"[" * 200_000,
    b'{"partitiontable": {"label": [], "partitions": {}}}',
]


@pytest.mark.parametrize("table", NOTHING)
def test_nonsense_leaves_the_facts_empty(table: bytes) -> None:
    facts = told(table)
    assert (facts.table, facts.parts, facts.firmware_hint) == ("none", (), "unknown")


def test_endless_names_are_cut() -> None:
    long = "x" * 10_000
    table = {"label": long, "id": long, "partitions": [{"name": long, "start": 1, "size": 1}]}
    facts = told(as_table(table), TYPE=long.encode(), LABEL=b"[" * 3000)
    assert facts.table == facts.table_id == facts.parts[0].name == facts.parts[0].fs == long[:512]
    assert facts.parts[0].fs_label == "[" * 512
    named = inspected(Path("/dev/" + long), MIB)
    assert named.source == ("/dev/" + long)[:512]
    assert kept(named) == named


def test_thousands_of_partitions_are_too_many() -> None:
    facts = told(as_table({"label": "gpt", "partitions": [{}] * 5000}))
    assert [one.number for one in facts.parts] == list(range(1, 129))


texts = st.text(st.characters() | st.sampled_from("\ud800\0\x1b["))  # half characters too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
entries = anything | st.fixed_dictionaries(
    {},
    optional={
        name: anything | st.integers(0, 1 << 70)
        for name in ("node", "start", "size", "type", "name", "uuid", "bootable")
    },
)
documents = anything | st.fixed_dictionaries(
    {}, optional={"label": anything, "id": anything, "partitions": st.lists(entries, max_size=3)}
)


@given(table=documents, probed=st.binary())
def test_whatever_the_libraries_say_the_facts_can_be_kept(table: object, probed: bytes) -> None:
    facts = replace(told(as_table(table), TYPE=probed, LABEL=probed), source="/dev/sdx")
    assert kept(facts) == facts


def test_a_probe_that_fails_leaves_the_partition() -> None:
    table = {"label": "gpt", "partitions": [{"start": 8, "size": 8}]}
    (part,) = told(as_table(table)).parts
    assert (part.start, part.size, part.fs) == (4096, 4096, "")


def test_what_a_machine_lacks_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_TABLES", "appliance.no_such_examiner")
    with pytest.raises(ToolMissingError, match="libfdisk1"):
        inspected(bench.image(MIB))


def test_where_a_cell_fails_the_table_is_unread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: gpt\nstart=2048\n")
    monkeypatch.setattr(cell, "MOST_ANSWER", 10)
    facts = inspected(image)
    assert (facts.table, facts.parts, facts.firmware_hint) == (inspection.UNREAD, (), "unknown")
    assert kept(facts) == facts
