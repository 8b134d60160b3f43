"""What disks tell of their machines, from the outside and from within, honest and not."""

import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.block import opened
from appliance.ingest import inspection
from appliance.ingest.inspection import depth, linux, networks, surface, usage, warned
from appliance.ingest.inspection.files import MOST_FILE, cidr
from appliance.model import (
    Answer,
    DiskFacts,
    Encrypted,
    FileSystem,
    LogicalVolume,
    MachineFacts,
    Nic,
    Part,
)
from appliance.seal import machine
from tests import machines
from tests.media import Bench, tool

MIB = 1 << 20


def inspected(image: Path) -> MachineFacts:
    disk = inspection.facts(
        source=str(image),
        serial="",
        model="",
        bus="",
        size=image.stat().st_size,
        sectors=(sector(image), 512),
    )
    return inspection.machine_facts(str(image), disk)


def sector(image: Path) -> int:
    with opened(image, os.O_RDONLY) as fd:
        return inspection.image_sector(fd)


def within(image: Path) -> MachineFacts:
    """The same without a cell, where a debugger and coverage see it."""
    depth.prepare()
    with opened(image, os.O_RDONLY) as fd:
        return machine.read(depth.examine(fd, image.stat().st_size, sector(image)))


BARE = DiskFacts(
    source="/dev/sdx",
    serial="",
    model="",
    bus="",
    size=MIB,
    logical_sector=512,
    physical_sector=512,
    table="none",
    table_id="",
    firmware_hint="unknown",
    parts=(Part(0, 0, MIB, "", "", "", "ext4", "", ""),),
)
BOTH = pytest.mark.parametrize("look", [inspected, within])
Look = Callable[[Path], MachineFacts]


@BOTH
def test_a_debian_as_it_stands_here(bench: Bench, look: Look) -> None:
    image = machines.debian(bench)
    before = (image.read_bytes(), image.stat().st_mtime_ns)
    found = look(image)
    release = Path("/etc/os-release").read_text()
    assert f'NAME="{found.product}"' in release
    assert f'VERSION="{found.version}"' in release
    assert (found.method, found.reason, found.warnings) == ("dissect", "", ())
    assert (found.family, found.hostname, found.firmware) == ("linux", "web01", "uefi")
    assert found.architecture == os.uname().machine
    assert found.kernels == ("6.1.0-18-amd64", "6.1.0-25-amd64")
    addresses = ("192.0.2.7/24", "2001:db8::7/64")
    assert found.nics == (
        Nic("eth0", "52:54:00:aa:bb:cc", addresses, "192.0.2.1", ("192.0.2.53",), Answer.NO),
        Nic("eth1", "", (), "", (), Answer.YES),
    )
    esp, root = found.file_systems
    assert esp == FileSystem("1", "vfat", "ESP", 4 * MIB, None)
    assert (root.place, root.type, root.label, root.size) == ("2", "ext4", "root", 40 * MIB)
    counted = tool("dumpe2fs", "-h", f"{image}?offset={5 * MIB}")
    (blocks,), (free,), (size,) = (
        re.findall(rf"^{name}: +([0-9]+)$", counted, re.MULTILINE)
        for name in ("Block count", "Free blocks", "Block size")
    )
    assert root.used == (int(blocks) - int(free)) * int(size)
    assert (image.read_bytes(), image.stat().st_mtime_ns) == before


def test_the_root_of_a_debian_as_it_was_installed(bench: Bench) -> None:
    found = inspected(machines.this_machine(bench))
    assert (found.method, found.reason, found.family) == ("dissect", "", "linux")
    assert (found.hostname, found.architecture) == ("here.example", os.uname().machine)
    release = Path("/usr/lib/os-release").read_text()
    assert f'NAME="{found.product}"' in release
    assert f'VERSION="{found.version}"' in release


@BOTH
def test_a_root_on_xfs_in_lvm(bench: Bench, look: Look) -> None:
    found = look(machines.centos(bench))
    assert (found.family, found.hostname) == ("linux", "db.example")
    assert (found.product, found.version) == ("CentOS Linux", "7.9.2009 (Core)")
    assert found.nics == (Nic("ens192", "", ("198.51.100.4/23",), "", (), Answer.NO),)
    assert found.volumes == (
        LogicalVolume("vg-0", "root", 48 * MIB),
        LogicalVolume("vg-0", "swap", 8 * MIB),
    )
    (root,) = found.file_systems
    assert (root.place, root.type, root.size) == ("vg-0/root", "xfs", 48 * MIB)
    assert root.used is not None
    assert MIB < root.used < 8 * MIB
    assert found.warnings == ()


@BOTH
def test_a_windows_that_was_shut_down(bench: Bench, look: Look) -> None:
    found = look(machines.windows(bench))
    assert (found.family, found.hostname, found.firmware) == ("windows", "WINSRV03", "bios")
    assert found.product == "Windows Server 2008 R2 Standard Service Pack 1"
    assert (found.version, found.architecture) == ("6.1.7601", "x86_64")
    assert (found.dirty, found.hibernated) == (Answer.NO, Answer.NO)
    servers = ("192.0.2.53", "192.0.2.54")
    address = ("192.0.2.50/24",)
    assert found.nics == (
        Nic("Local Area Connection", "", address, "192.0.2.1", servers, Answer.NO),
    )
    (system,) = found.file_systems
    assert (system.type, system.label) == ("ntfs", "System")
    assert system.used is not None
    assert MIB < system.used < 8 * MIB
    assert found.warnings == ()


def test_a_windows_that_sleeps(bench: Bench) -> None:
    found = within(machines.windows(bench, hibernated=True))
    assert (found.dirty, found.hibernated) == (Answer.NO, Answer.YES)
    assert found.warnings == (warned.HIBERNATED,)


def test_a_windows_that_lost_its_power(bench: Bench) -> None:
    found = within(machines.windows(bench, dirty=True))
    assert (found.dirty, found.hibernated) == (Answer.YES, Answer.NO)
    assert found.warnings == (warned.DIRTY,)


def test_a_windows_11_says_that_it_is_a_10(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    version = {
        "ProductName": "Windows 10 Pro",
        "CurrentMajorVersionNumber": 10,
        "CurrentMinorVersionNumber": 0,
        "CurrentVersion": "6.3",
        "CurrentBuild": "22631",
        "UBR": 4317,
    }
    software = {"Microsoft": {"Windows NT": {"CurrentVersion": version}}}
    monkeypatch.setattr(machines, "SOFTWARE", software)
    found = within(machines.windows(bench))
    assert (found.product, found.version) == ("Windows 11 Pro", "10.0.22631.4317")


def luks(*, version: int = 1) -> bytes:
    return (b"LUKS\xba\xbe" + struct.pack(">H", version)).ljust(4096, b"\0")


def bitlocker() -> bytes:
    disk = bytearray(MIB)
    disk[:11] = b"\xeb\x58\x90-FVE-FS-"
    disk[160:176] = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")
    struct.pack_into("<Q", disk, 176, 65536)
    disk[65536:65544] = b"-FVE-FS-"
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


@BOTH
def test_what_is_encrypted_is_named(bench: Bench, look: Look) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: gpt\nsize=4MiB\nsize=4MiB\n")
    with image.open("r+b") as file:
        for at, content in ((MIB, luks()), (5 * MIB, bitlocker())):
            file.seek(at)
            file.write(content)
    found = look(image)
    assert found.encrypted == (Encrypted("1", "luks"), Encrypted("2", "bitlocker"))
    assert found.warnings == (warned.ENCRYPTED, warned.NO_SYSTEM)
    assert found.file_systems == ()


@BOTH
def test_a_gpt_that_is_cut_short_is_not_taken_for_an_empty_disk(bench: Bench, look: Look) -> None:
    image = machines.debian(bench)
    os.truncate(image, 24 * MIB)
    assert look(image).warnings == (warned.GPT_LOST, warned.NO_SYSTEM)


def test_a_root_in_a_subvolume_of_btrfs(bench: Bench) -> None:
    image = bench.image(128 * MIB)
    tool("mkfs.btrfs", "-q", image)
    top = bench.mount(image, bench.place / "top", "-o", "loop")
    tool("btrfs", "subvolume", "create", top / "@")
    files = {"etc/hostname": "sub\n", "usr/lib/": "", "var/": "", "boot/vmlinuz-6.1.0-1-x": ""}
    root = machines.tree(top / "@", files)
    shutil.copy("/etc/os-release", root / "usr/lib")
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    tool("btrfs", "subvolume", "set-default", top / "@")
    tool("sync", "-f", top)
    found = within(image)
    assert (found.hostname, found.kernels) == ("sub", ("6.1.0-1-x",))
    assert f'NAME="{found.product}"' in Path("/etc/os-release").read_text()


@BOTH
def test_a_disk_with_sectors_of_4096_bytes(bench: Bench, look: Look) -> None:
    root = machines.tree(bench.place / "root", {"etc/hostname": "wide\n", "var/": "", "run/": ""})
    shutil.copy("/etc/os-release", root / "etc")
    image = bench.image(48 * MIB)
    device = bench.loop(image, "--sector-size", "4096")
    tool("sfdisk", device, stdin="label: gpt\nsize=4MiB\nsize=40MiB,name=root\n")
    machines.ext4(image, root, 5 * MIB, 40 * MIB)
    found = look(image)
    assert (found.method, found.hostname) == ("dissect", "wide")
    assert [(one.place, one.type, one.size) for one in found.file_systems] == [
        ("2", "ext4", 40 * MIB)
    ]


@BOTH
def test_what_is_encrypted_in_a_logical_volume_is_named(bench: Bench, look: Look) -> None:
    image = machines.centos(bench)
    disk = image.read_bytes()
    assert disk.count(b"XFSB") >= 1
    at = disk.index(b"XFSB")
    with image.open("r+b") as file:
        file.seek(at)
        file.write(luks())
    found = look(image)
    assert found.encrypted == (Encrypted("vg-0/root", "luks"),)
    assert warned.ENCRYPTED in found.warnings
    assert found.file_systems == ()


# --- where dissect is missing, or fails --------------------


def test_without_dissect_tables_and_superblocks_are_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = machines.debian(bench)
    monkeypatch.setattr(inspection, "_DEPTH", "appliance.no_such_examiner")
    found = inspected(image)
    assert found.method == "blkid"
    assert "no_such_examiner" in found.reason
    assert (found.family, found.firmware) == ("unknown", "uefi")
    assert [one.type for one in found.file_systems] == ["vfat", "ext4"]


def test_a_disk_that_is_not_there_tells_nothing() -> None:
    found = inspection.machine_facts("/dev/no-such-disk", BARE)
    assert found.method == "none"
    assert "No such file" in found.reason


def test_surface_of_the_whole_disk(bench: Bench) -> None:
    image = bench.image(128 * MIB)
    tool("mkfs.btrfs", "-q", "-L", "BARE", image)
    with opened(image, os.O_RDONLY) as fd:
        found = machine.read(surface.examine(fd, 128 * MIB, 512))
    (system,) = found.file_systems
    assert (system.place, system.type, system.label) == ("0", "btrfs", "BARE")
    assert system.used is not None
    assert 0 < system.used < MIB


# --- disks that lie --------------------


def test_a_table_of_four_thousand_million_entries(bench: Bench) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: gpt\nsize=4MiB\n")
    disk = bytearray(image.read_bytes())
    for count, size in ((0xFFFFFFFF, 128), (128, 0xFFFFFFFF), (0, 0)):
        struct.pack_into("<II", disk, 512 + 80, count, size)
        struct.pack_into("<I", disk, 512 + 16, 0)
        struct.pack_into("<I", disk, 512 + 16, zlib.crc32(disk[512 : 512 + 92]))
        image.write_bytes(disk)
        found = within(image)
        assert found.family == "unknown"
        assert len(found.file_systems) <= 128


def chain_of_tables() -> bytes:
    """A dos table whose extended partition goes round in a circle."""
    disk = bytearray(MIB)
    struct.pack_into("<BBHBBHII", disk, 446, 0, 0, 0, 5, 0, 0, 1, 2000)
    for sector in (1, 2):
        entry = 512 * sector + 446
        struct.pack_into("<BBHBBHII", disk, entry, 0, 0, 0, 0x83, 0, 0, 1, 1)
        struct.pack_into("<BBHBBHII", disk, entry + 16, 0, 0, 0, 5, 0, 0, 2 - sector, 1)
        disk[512 * sector + 510 : 512 * sector + 512] = b"\x55\xaa"
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def label_of_lvm(*, offset: int, size: int) -> bytes:
    """An LVM label whose description lies at ``offset`` and is ``size`` bytes long."""
    disk = bytearray(MIB)
    disk[512:544] = b"LABELONE" + struct.pack("<QII8s", 1, 0, 32, b"LVM2 001")
    disk[544:576] = b"a" * 32
    struct.pack_into("<QQQQQQQQQ", disk, 576, MIB, 65536, 0, 0, 0, 4096, 8192, 0, 0)
    struct.pack_into("<I16sIQQ", disk, 4096, 0, b" LVM2 x[5A%r0N*>", 1, 4096, 8192)
    struct.pack_into("<QQII", disk, 4096 + 40, offset, size, 0, 0)
    return bytes(disk)


@pytest.mark.parametrize(
    "disk",
    [
        bytes(MIB),
        b"x",
        os.urandom(MIB),
        b"EFI PART" * (MIB // 8),
        chain_of_tables(),
        label_of_lvm(offset=0, size=1 << 62),
        label_of_lvm(offset=1 << 62, size=1 << 40),
        luks(version=2),
        b"\xeb\x52\x90NTFS    " + b"\xff" * (MIB - 11),
        b"XFSB" + b"\xff" * (MIB - 4),
        bytes(1080) + b"\x53\xef" + b"\xff" * MIB,
    ],
    ids=[
        "zeros",
        "byte",
        "noise",
        "gpt",
        "circle",
        "lvm",
        "lvm far",
        "luks",
        "ntfs",
        "xfs",
        "ext",
    ],
)
def test_garbage_tells_nothing(tmp_path: Path, disk: bytes) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(disk)
    found = within(image)
    assert (found.family, found.hostname, found.volumes) == ("unknown", "", ())
    assert all(one.used is None or one.used <= one.size for one in found.file_systems)


@BOTH
def test_a_root_that_lies(bench: Bench, look: Look) -> None:
    """Links in a circle, a directory within itself, a file of a terabyte, names without end, and a
    document that grows when it is read.
    """
    laughs = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    root = machines.tree(
        bench.place / "root",
        {
            "/etc/os-release": 'NAME="' + "N" * 10_000 + '"\nVERSION=\x1b[2J\n',
            "/etc/netplan/1.yaml": laughs + "network: *i\n",
            "/etc/netplan/2.yaml": "network: {ethernets: {eth0: {addresses: *b}}}\n",
            "/etc/netplan/3.yaml": "[" * 100_000,
            "/etc/network/interfaces": "source /etc/network/interfaces\niface\niface x\n",
            "/lib/modules/" + "k" * 255 + "/": "",
            "/var/deep/": "",
            "/run/": "",
        },
    )
    (root / "etc/hostname").touch()
    os.truncate(root / "etc/hostname", 1 << 40)
    (root / "etc/fstab").symlink_to("fstab")
    (root / "bin").symlink_to("bin")
    (root / "boot").symlink_to("/boot/boot")
    image = bench.image(32 * MIB)
    tool("sfdisk", image, stdin="label: dos\nstart=2048,size=24MiB,type=83\n")
    machines.ext4(image, root, MIB, 24 * MIB)
    tool("debugfs", "-w", "-R", "link /var /var/deep/again", f"{image}?offset={MIB}")
    found = look(image)
    assert (found.family, found.method) == ("linux", "dissect")
    assert (found.product, found.version) == ("N" * 512, "\x1b[2J")
    assert found.nics == ()
    assert found.kernels == ("k" * 255,)
    assert len(found.hostname) <= 512


def test_a_hive_that_goes_round(bench: Bench) -> None:
    image = machines.windows(bench)
    disk = bytearray(image.read_bytes())
    at = 0
    while (at := disk.find(b"li\x01\0", at + 1)) > 0:
        struct.pack_into("<I", disk, at + 4, 32)  # a key whose only key is some key's front
    image.write_bytes(disk)
    found = within(image)
    assert found.family == "windows"
    assert len(found.nics) <= machine.MAX_LIST


# --- Linux --------------------


def elf(machine_: int, order: str = "<") -> str:
    data = struct.pack(f"{order}4sBB10xHH", b"\x7fELF", 2, 1 if order == "<" else 2, 2, machine_)
    return data.decode("latin-1")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"/etc/debian_version": "3.1\n"}, {"product": "Debian GNU/Linux", "version": "3.1"}),
        (
            {"/usr/lib/os-release": "ID=alpine\nVERSION_ID=3.20\n"},
            {"product": "alpine", "version": "3.20"},
        ),
        (
            {"/etc/redhat-release": "nonsense\n", "/etc/os-release": "NAME=Fedora\n"},
            {"product": "Fedora"},
        ),
        ({"/etc/HOSTNAME": "# a comment\nsuse\n"}, {"hostname": "suse"}),
        ({"/etc/sysconfig/network": "HOSTNAME=old.example\n"}, {"hostname": "old.example"}),
        (
            {"/boot/vmlinuz-5.14": "", "/boot/vmlinux-4": "", "/boot/x": ""},
            {"kernels": ("4", "5.14")},
        ),
        ({"/bin/ls": elf(22, ">")}, {"architecture": "s390x"}),
        ({"/sbin/init": elf(77)}, {"architecture": "ELF machine 77"}),
        ({"/bin/sh": "#!"}, {"architecture": ""}),
    ],
)
def test_older_and_other_linuxes(files: dict[str, str], told: dict[str, object]) -> None:
    found = linux.read(Tree(files), machine.nothing(""))
    assert {name: getattr(found, name) for name in told} == told


def test_a_system_that_is_only_known_to_be_some_unix_is_told_by_its_release(bench: Bench) -> None:
    """A root without /bin and /lib, but with /var and /etc."""
    said = {"/etc/os-release": "NAME=Odd\nVERSION=7\n", "/etc/hostname": "odd01\n", "/var/": ""}
    image = bench.image(16 * MIB)
    machines.ext4(image, machines.tree(bench.place / "odd", said), 0, 16 * MIB)
    found = within(image)
    assert (found.family, found.product, found.version) == ("linux", "Odd", "7")
    assert found.hostname == "odd01"


# --- networks --------------------


class Tree:
    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def read(self, path: str, most: int = MOST_FILE) -> bytes:
        return self._files.get(path, "").encode("latin-1")[:most]

    def names(self, directory: str) -> Sequence[str]:
        within = (one for one in self._files if one.startswith(directory + "/"))
        return sorted({one[len(directory) + 1 :].split("/")[0] for one in within})


CARD = Nic("eth0", "", ("192.0.2.7/24",), "192.0.2.1", ("192.0.2.53", "192.0.2.54"), Answer.NO)
LEASED = Nic("eth0", "", (), "", (), Answer.YES)
_ETH0 = "/etc/NetworkManager/system-connections/eth0.nmconnection"
WAYS = {
    "ifupdown": (
        {
            "/etc/network/interfaces": "# a comment\nauto lo eth0\niface lo inet loopback\n\n"
            "iface eth0 inet static\n  address 192.0.2.7\n  netmask 255.255.255.0\n"
            "  gateway 192.0.2.1\n  dns-nameservers 192.0.2.53 192.0.2.54\nauto eth1\n"
        },
        CARD,
    ),
    "ifupdown, leased": ({"/etc/network/interfaces.d/x": "iface eth0 inet dhcp\n"}, LEASED),
    "ifcfg": (
        {
            "/etc/sysconfig/network-scripts/ifcfg-eth0": 'DEVICE="eth0"\nBOOTPROTO=static\n'
            "IPADDR0=192.0.2.7\nPREFIX0=24\nGATEWAY=192.0.2.1\nDNS1=192.0.2.53\nDNS2=192.0.2.54\n",
            "/etc/sysconfig/network-scripts/ifcfg-lo": "DEVICE=lo\nIPADDR=127.0.0.1\n",
            "/etc/sysconfig/network-scripts/ifup-eth": "DEVICE=eth7\n",
        },
        CARD,
    ),
    "ifcfg, leased": ({"/etc/sysconfig/network/ifcfg-eth0": "BOOTPROTO='dhcp'\n"}, LEASED),
    "netplan": (
        {
            "/etc/netplan/1.yaml": "network: {ethernets: {eth0: {addresses: ["
            '{192.0.2.7/24: {label: "x"}}], gateway4: 192.0.2.1, '
            "nameservers: {addresses: [192.0.2.53, 192.0.2.54]}}}}\n"
        },
        CARD,
    ),
    "netplan, leased": (
        {"/etc/netplan/1.yaml": "network:\n  ethernets:\n    eth0:\n      dhcp4: yes\n"},
        LEASED,
    ),
    "keyfile": (
        {
            _ETH0: "[connection]\nid=x\ntype=ethernet\ninterface-name=eth0\n"
            "[ipv4]\nmethod=manual\naddress1=192.0.2.7/24,192.0.2.1\ndns=192.0.2.53;192.0.2.54;\n[ipv6]\nmethod=ignore\n",
            "/etc/NetworkManager/system-connections/vpn": "[connection]\ntype=vpn\nid=tun\n",
        },
        CARD,
    ),
    "keyfile, leased": (
        {_ETH0: "[connection]\ntype=802-3-ethernet\nid=eth0\n[ipv4]\nmethod=auto\n"},
        LEASED,
    ),
    "networkd": (
        {
            "/etc/systemd/network/1.network": "[Match]\nName=eth0\n[Network]\nDNS=192.0.2.53\n"
            "DNS=192.0.2.54\n[Address]\nAddress=192.0.2.7/24\n[Route]\nGateway=192.0.2.1\n",
            "/etc/systemd/network/1.link": "[Match]\nName=eth9\n",
        },
        CARD,
    ),
    "networkd, leased": (
        {"/etc/systemd/network/1.network": "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n"},
        LEASED,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_set_up_a_card(way: str) -> None:
    files, card = WAYS[way]
    assert networks.nics(Tree(files)) == (card,)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("iface e inet static\n address 192.0.2.1/24\niface e inet6 auto", Answer.NO),
        ("iface e inet6 auto", Answer.UNKNOWN),
        ("iface e inet6 auto\n dhcp 1", Answer.YES),
    ],
)
def test_an_address_by_the_routers_word_is_not_dhcp(lines: str, told: Answer) -> None:
    (card,) = networks.nics(Tree({"/etc/network/interfaces": lines}))
    assert card.dhcp is told


def test_a_card_has_the_address_by_which_udev_knows_it() -> None:
    rule = 'SUBSYSTEM=="net", ATTR{address}=="52:54:00:AA:BB:CC", NAME="eth0"\n'
    files = dict(WAYS["ifupdown"][0]) | {"/etc/udev/rules.d/70-persistent-net.rules": rule}
    assert networks.nics(Tree(files)) == (replace(CARD, mac="52:54:00:aa:bb:cc"),)


def test_what_two_files_tell_of_a_card_is_told_together() -> None:
    files = dict(WAYS["ifupdown, leased"][0]) | dict(WAYS["networkd"][0])
    assert networks.nics(Tree(files)) == (replace(CARD, dhcp=Answer.YES),)


@pytest.mark.parametrize(
    ("address", "mask", "told"),
    [
        ("192.0.2.7", "255.255.255.0", "192.0.2.7/24"),
        ("192.0.2.7/24", "255.0.0.0", "192.0.2.7/24"),
        ("2001:DB8::7", "64", "2001:db8::7/64"),
        ("nonsense\x1b", "", "nonsense\x1b"),
    ],
)
def test_addresses_have_the_length_of_their_prefix(address: str, mask: str, told: str) -> None:
    assert cidr(address, mask) == told


# --- bytes in use --------------------


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4", "xfs", "btrfs"])
def test_bytes_in_use(bench: Bench, kind: str) -> None:
    image = bench.image(320 * MIB)
    tool(f"mkfs.{kind}", "-q", image)

    def read(offset: int, size: int) -> bytes:
        with opened(image, os.O_RDONLY) as fd:
            return os.pread(fd, size, offset)

    assert usage.kind(read) == kind
    before = usage.used(kind, read, 320 * MIB)
    assert before is not None
    where = bench.mount(image, bench.place / "mounted", "-o", "loop")
    (where / "file").write_bytes(os.urandom(32 * MIB))
    tool("umount", where)
    after = usage.used(kind, read, 320 * MIB)
    tool("mount", "-o", "loop", image, where)
    assert after is not None
    assert 32 * MIB <= after - before < 34 * MIB
    assert usage.used(kind, read, after - 1) is None


def test_of_no_file_system_no_use_is_known() -> None:
    nothing = lambda *_: b""  # noqa: E731
    assert usage.used("vfat", nothing, MIB) is None
    for kind in ("ext4", "xfs", "btrfs"):
        assert usage.used(kind, nothing, MIB) is None
        assert usage.used(kind, lambda _, size: bytes(size), MIB) is None
    assert usage.kind(lambda _, size: bytes(size)) == ""


# --- warnings --------------------


def test_a_group_on_other_disks_and_a_raid_are_told() -> None:
    def holding(fs: str) -> DiskFacts:
        return replace(BARE, parts=(replace(BARE.parts[0], fs=fs),))

    known, member = replace(machine.nothing(""), family="linux"), holding("LVM2_member")
    assert warned.warned(known, member, {"vg": 2}) == (warned.LVM_APART,)
    assert warned.warned(known, member, {"vg": 1}) == ()
    assert warned.warned(known, member, {}) == (warned.LVM_UNREAD,)
    assert warned.warned(known, holding("linux_raid_member"), {}) == (warned.RAID,)


def test_a_disk_on_which_nothing_is_known_to_lie_is_not_looked_into(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = bench.image(16 * MIB)
    tool("sfdisk", image, stdin="label: gpt\nsize=4MiB,type=uefi\n")
    disk = inspection.facts(
        source=str(image), serial="", model="", bus="", size=16 * MIB, sectors=(512, 512)
    )
    monkeypatch.setattr(inspection, "_asked", None)
    found = inspection.machine_facts(str(image), disk)
    assert (found.method, found.reason, found.firmware) == ("blkid", "", "uefi")


def test_a_cell_that_is_too_slow_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "MACHINE_SECONDS", 0)
    image = bench.image(4 * MIB)
    tool("mkfs.ext4", "-q", image)
    found = inspected(image)
    assert (found.method, found.reason) == ("blkid", "it did not answer within 0 s")
