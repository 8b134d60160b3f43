"""Disks of whole machines, made without a network: what inspection is to read."""

import json
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from tests.hives import Key, hive
from tests.media import Bench, tool

MIB = 1 << 20
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


def tree(place: Path, files: Mapping[str, str | bytes]) -> Path:
    """These files below ``place``; one whose name ends with / is a directory."""
    for name, content in files.items():
        path = place / name.strip("/")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return place


def ext4(image: Path, root: Path, offset: int, size: int, *options: str) -> None:
    """The tree ``root`` as a file system in the image."""
    where = ("-E", f"offset={offset}") if offset else ()
    tool("mkfs.ext4", "-q", "-F", *options, *where, "-d", root, image, f"{size // 1024}k")


def debian(bench: Bench) -> Path:
    """A Debian with this machine's own /etc/os-release and shell, on ext4 in a GPT with an ESP."""
    root = tree(
        bench.place / "debian",
        {
            "/etc/hostname": "web01\n",
            "/etc/netplan/50-cloud-init.yaml": NETPLAN,
            "/etc/fstab": "LABEL=root / ext4 defaults 0 1\n",
            "/boot/vmlinuz-6.1.0-25-amd64": "",
            "/lib/modules/6.1.0-25-amd64/": "",
            "/lib/modules/6.1.0-18-amd64/": "",
            "/var/": "",
            "/run/": "",
        },
    )
    shutil.copy("/etc/os-release", root / "etc")
    (root / "bin").mkdir()
    shutil.copy("/bin/sh", root / "bin")
    image = bench.image(48 * MIB)
    tool("sfdisk", image, stdin=f"label: gpt\nsize=4MiB,type={ESP}\nsize=40MiB,name=root\n")
    ext4(image, root, 5 * MIB, 40 * MIB, "-L", "root")
    tool("mkfs.vfat", "-n", "ESP", "--offset", "2048", image, "4096")
    return image


def _closed(directory: str, names: list[str]) -> list[str]:
    """Of the names in a directory, those of what not everybody may read."""
    found = {one: Path(directory, one).lstat().st_mode for one in names}
    return [one for one, mode in found.items() if not mode & stat.S_IROTH]


def this_machine(bench: Bench) -> Path:
    """The root of the system that runs the tests, as far as it says what it is: its /etc and its
    packages, as they were installed, on a bare ext4.
    """
    root = bench.place / "root"
    for name in ("usr/lib", "var/lib/dpkg", "bin", "run"):
        (root / name).mkdir(parents=True)
    shutil.copytree("/etc", root / "etc", symlinks=True, ignore=_closed)
    shutil.copy("/usr/lib/os-release", root / "usr/lib")
    shutil.copy("/var/lib/dpkg/status", root / "var/lib/dpkg")
    shutil.copy("/bin/sh", root / "bin")
    (root / "etc/hostname").write_text("here.example\n")
    image = bench.image(256 * MIB)
    ext4(image, root, 0, 256 * MIB)
    return image


NETPLAN = """network:
  version: 2
  ethernets:
    eth0:
      match: {macaddress: "52:54:00:AA:BB:CC"}
      addresses: [192.0.2.7/24, "2001:db8::7/64"]
      routes: [{to: default, via: 192.0.2.1}]
      nameservers: {addresses: [192.0.2.53]}
    eth1: {dhcp4: true}
"""


def centos(bench: Bench) -> Path:
    """A CentOS whose root is an XFS in a logical volume of two segments, one behind the other only
    by LVM's description, which is made without device-mapper.
    """
    files = {
        "etc/redhat-release": "CentOS Linux release 7.9.2009 (Core)\n",
        "etc/hostname": "db.example\n",
        "etc/ifcfg": 'DEVICE="ens192"\nIPADDR=198.51.100.4\nNETMASK=255.255.254.0\n',
    }
    source = tree(bench.place / "centos", files)
    proto = bench.place / "proto"
    proto.write_text(
        f"""boot
0 0
d--755 0 0
etc d--755 0 0
redhat-release ---644 0 0 {source}/etc/redhat-release
hostname ---644 0 0 {source}/etc/hostname
sysconfig d--755 0 0
network-scripts d--755 0 0
ifcfg-ens192 ---644 0 0 {source}/etc/ifcfg
$
$
$
var d--755 0 0
$
run d--755 0 0
$
$
"""
    )
    inner = bench.image(48 * MIB, "xfs.img")
    tool("mkfs.xfs", "-q", "--unsupported", "-p", proto, inner)
    image = bench.image(96 * MIB, "lvm.img")
    tool("sfdisk", image, stdin="label: gpt\nsize=8MiB\nsize=80MiB,type=lvm\n")
    device = bench.loop(image)
    member = bench.partitions(device)[1]
    only = f'devices{{use_devicesfile=0 filter=["a|{member}|","r|.*|"]}}'
    lvm = ("--config", only + " global{use_lvmpolld=0 activation=0}")
    tool("pvcreate", "-qy", *lvm, member)
    tool("vgcreate", "-qy", *lvm, "vg-0", member)
    made = ("-y", "-an", "-Zn", "-Wn", *lvm)
    tool("lvcreate", *made, "-L", "24M", "-n", "root", "vg-0")
    tool("lvcreate", *made, "-L", "8M", "-n", "swap", "vg-0")
    tool("lvextend", "-qy", *lvm, "-L", "48M", "vg-0/root")
    said = tool(
        *("lvs", *lvm, "--segments", "--units", "b", "--nosuffix", "--reportformat", "json"),
        *("-o", "lv_name,seg_start,seg_size,seg_pe_ranges,vg_extent_size", "vg-0"),
    )
    first = int(tool("pvs", *lvm, "--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start"))
    content = inner.read_bytes()
    with member.open("r+b", buffering=0) as disk:
        for one in json.loads(said)["report"][0]["seg"]:
            if one["lv_name"] == "root":
                extent = int(one["seg_pe_ranges"].rpartition(":")[2].partition("-")[0])
                disk.seek(first + extent * int(one["vg_extent_size"]))
                start = int(one["seg_start"])
                disk.write(content[start : start + int(one["seg_size"])])
    return image


TCPIP = "{11111111-2222-3333-4444-555555555555}"
SYSTEM: Key = {
    "Select": {"Current": 1, "Default": 1, "LastKnownGood": 1},
    "ControlSet001": {
        "Control": {
            "ComputerName": {"ComputerName": {"ComputerName": "WINSRV03"}},
            "Session Manager": {"Environment": {"PROCESSOR_ARCHITECTURE": "AMD64"}},
            "Network": {
                "{4D36E972-E325-11CE-BFC1-08002BE10318}": {
                    TCPIP: {"Connection": {"Name": "Local Area Connection"}}
                }
            },
        },
        "Services": {
            "Tcpip": {
                "Parameters": {
                    "Interfaces": {
                        TCPIP: {
                            "EnableDHCP": 0,
                            "IPAddress": ["192.0.2.50"],
                            "SubnetMask": ["255.255.255.0"],
                            "DefaultGateway": ["192.0.2.1"],
                            "NameServer": "192.0.2.53,192.0.2.54",
                        },
                        "{22222222-2222-3333-4444-555555555555}": {"EnableDHCP": 0},
                    }
                }
            }
        },
    },
}
SOFTWARE: Key = {
    "Microsoft": {
        "Windows NT": {
            "CurrentVersion": {
                "ProductName": "Windows Server 2008 R2 Standard",
                "CurrentVersion": "6.1",
                "CurrentBuildNumber": "7601",
                "CSDVersion": "Service Pack 1",
                "SystemRoot": "C:\\Windows",
            }
        }
    }
}


def windows(bench: Bench, *, hibernated: bool = False, dirty: bool = False) -> Path:
    """A Windows Server on NTFS in a dos table, of which only the registry is there."""
    inner = bench.image(24 * MIB, "ntfs.img")
    tool("mkntfs", "-q", "-F", "-f", "-L", "System", "-p", "2048", inner)
    at = bench.place / "ntfs"
    at.mkdir()
    tool("ntfs-3g", inner, at)
    try:
        config = "Windows/System32/config"
        files = {f"{config}/SYSTEM": hive(SYSTEM), f"{config}/SOFTWARE": hive(SOFTWARE)}
        hibernation = {"hiberfil.sys": b"hibr" + bytes(4092)} if hibernated else {}
        tree(at, files | {"Windows/System32/drivers/": b""} | hibernation)
    finally:
        tool("umount", at)
    if dirty:
        tool("ntfsfix", inner)  # which leaves it to be checked
    image = bench.image(26 * MIB, "win.img")
    tool("sfdisk", image, stdin="label: dos\nstart=2048,size=24MiB,type=7,bootable\n")
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(inner.read_bytes())
    return image
