"""What the files of a Linux machine say of it. For a cell."""

import re
from dataclasses import replace

from appliance.ingest.foreign import text
from appliance.ingest.inspection import networks
from appliance.ingest.inspection.files import Files, assignments, few, lines
from appliance.model import MachineFacts

_RELEASE = re.compile(r"(.{1,128}?) release (.{1,128})")
# e_machine of ELF headers (elf.h)
_MACHINES = {
    3: "i386",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}


def read(files: Files, known: MachineFacts) -> MachineFacts:
    product, version = _system(files)
    return replace(
        known,
        family="linux",
        hostname=_hostname(files),
        product=text(product),
        version=text(version),
        architecture=_architecture(files),
        kernels=_kernels(files),
        nics=networks.nics(files),
    )


def _system(files: Files) -> tuple[str, str]:
    """Name and version. Red Hat's and those like it write the whole version nowhere else."""
    for one in lines(files, "/etc/redhat-release")[:1]:
        if found := _RELEASE.fullmatch(one):
            return found[1], found[2]
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        if said := assignments(lines(files, path)):
            version = said.get("VERSION") or said.get("VERSION_ID") or ""
            return said.get("NAME") or said.get("ID") or "", version
    version = "".join(lines(files, "/etc/debian_version")[:1])
    return ("Debian GNU/Linux", version) if version else ("", "")


def _hostname(files: Files) -> str:
    for one in lines(files, "/etc/hostname") or lines(files, "/etc/HOSTNAME"):
        return text(one)
    return text(assignments(lines(files, "/etc/sysconfig/network")).get("HOSTNAME"))


def _architecture(files: Files) -> str:
    for path in ("/bin/sh", "/usr/bin/env", "/bin/ls", "/sbin/init"):
        head = files.read(path, 20)
        if head[:4] == b"\x7fELF" and len(head) == 20:
            order = "big" if head[5] == 2 else "little"
            machine = int.from_bytes(head[18:20], order)  # type: ignore[arg-type] # one of two
            return _MACHINES.get(machine, f"ELF machine {machine}")
    return ""


def _kernels(files: Files) -> tuple[str, ...]:
    booted = (one for one in files.names("/boot") if one.startswith(("vmlinuz-", "vmlinux-")))
    names = [one.partition("-")[2] for one in booted]
    return few(sorted({*names, *files.names("/lib/modules")}))
