"""What the registry and the files of a Windows machine say of it. For a cell."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from appliance.ingest.foreign import text
from appliance.ingest.inspection.files import Files, cidr
from appliance.ingest.inspection.nics import nic
from appliance.model import Answer, MachineFacts, Nic
from appliance.seal.machine import MAX_LIST

_VERSION = "HKLM\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion"
_CONTROL = "HKLM\\SYSTEM\\CurrentControlSet\\Control"
_INTERFACES = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\Interfaces"
_CONNECTIONS = _CONTROL + "\\Network\\{4D36E972-E325-11CE-BFC1-08002BE10318}"
_ARCHITECTURES = {"AMD64": "x86_64", "x86": "i386", "ARM64": "aarch64", "IA64": "ia64"}
_FIRST_11 = 22000  # build: Windows 11 goes on calling itself Windows 10
# How hiberfil.sys begins while it holds a system to wake up; else with wake, RSTR or zeros.
_ASLEEP = (b"hibr", b"HIBR")


class Registry(Protocol):
    """A Windows machine's registry; of what cannot be read, nothing."""

    def value(self, key: str, name: str) -> object:
        """None where there is none."""

    def keys(self, key: str) -> Sequence[str]:
        """The names of the keys below, at most some hundreds."""


def read(files: Files, registry: Registry, known: MachineFacts, *, dirty: Answer) -> MachineFacts:
    """``dirty`` is what the flag of the system's volume says."""
    architecture = _word(
        registry, _CONTROL + "\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE"
    )
    return replace(
        known,
        family="windows",
        hostname=_word(registry, _CONTROL + "\\ComputerName\\ComputerName", "ComputerName"),
        product=_product(registry),
        version=_version(registry),
        architecture=_ARCHITECTURES.get(architecture, architecture),
        nics=tuple(_nics(registry))[:MAX_LIST],
        dirty=dirty,
        hibernated=_hibernated(files),
    )


def _word(registry: Registry, key: str, name: str) -> str:
    found = registry.value(key, name)
    return text(str(found).strip("\0 ")) if isinstance(found, str | int) else ""


def _words(registry: Registry, key: str, name: str) -> list[str]:
    """Of a list, or of a text with blanks or commas."""
    found = registry.value(key, name)
    if isinstance(found, str):
        found = found.replace(",", " ").split()
    listed = found[:MAX_LIST] if isinstance(found, list) else []
    plain = [text(str(one).strip("\0 ")) for one in listed]
    return [one for one in plain if one and one != "0.0.0.0"]  # noqa: S104 # nosec B104


def _build(registry: Registry) -> str:
    build = _word(registry, _VERSION, "CurrentBuildNumber")
    return build or _word(registry, _VERSION, "CurrentBuild")


def _product(registry: Registry) -> str:
    name, build = _word(registry, _VERSION, "ProductName"), _build(registry)
    if build.isdecimal() and int(build[:9]) >= _FIRST_11:
        name = name.replace("Windows 10", "Windows 11")
    pack = _word(registry, _VERSION, "CSDVersion")
    return text(f"{name} {pack}".strip())


def _version(registry: Registry) -> str:
    """Such as 10.0.20348.1."""
    major = _word(registry, _VERSION, "CurrentMajorVersionNumber")
    minor = _word(registry, _VERSION, "CurrentMinorVersionNumber")
    number = f"{major}.{minor}" if major else _word(registry, _VERSION, "CurrentVersion")
    parts = (number, _build(registry), _word(registry, _VERSION, "UBR"))
    return text(".".join(one for one in parts if one))


def _nics(registry: Registry) -> Iterator[Nic]:
    for guid in registry.keys(_INTERFACES)[:MAX_LIST]:
        key = f"{_INTERFACES}\\{guid}"
        dhcp = registry.value(key, "EnableDHCP")
        lease = "Dhcp" if dhcp == 1 else ""
        addresses = _words(registry, key, lease + "IPAddress")
        masks = _words(registry, key, lease + "SubnetMask")
        if not addresses and dhcp != 1:
            continue  # tunnels, and cards that were there once
        masks += [""] * len(addresses)
        yield nic(
            _word(registry, f"{_CONNECTIONS}\\{guid}\\Connection", "Name") or guid,
            "",
            [cidr(*one) for one in zip(addresses, masks, strict=False)],
            next(iter(_words(registry, key, lease + "DefaultGateway")), ""),
            _words(registry, key, "NameServer") or _words(registry, key, lease + "NameServer"),
            {1: Answer.YES, 0: Answer.NO}.get(
                dhcp if isinstance(dhcp, int) else -1, Answer.UNKNOWN
            ),
        )


def _hibernated(files: Files) -> Answer:
    return Answer.YES if files.read("/hiberfil.sys", 4) in _ASLEEP else Answer.NO
