"""What a Linux machine's configuration says of its network, in the five ways that there are:
ifupdown (interfaces(5)), ifcfg files, netplan, NetworkManager's keyfiles, systemd.network(5).
"""

import re
from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from appliance.ingest.inspection.files import (
    Files,
    assignments,
    cidr,
    lines,
    sections,
    unquoted,
)
from appliance.ingest.inspection.nics import nic, together
from appliance.model import Answer, Nic
from appliance.seal.machine import MAX_LIST

_RULE = re.compile(r'ATTR\{address\}=="([0-9A-Fa-f:]{17})".*NAME="([^"]{1,64})"')
_SWITCH = {
    "true": Answer.YES,
    "yes": Answer.YES,
    "on": Answer.YES,
    "false": Answer.NO,
    "no": Answer.NO,
    "off": Answer.NO,
}
_MOST_FILES = 256  # of a directory


def nics(files: Files) -> tuple[Nic, ...]:
    ways = (_interfaces, _ifcfg, _netplan, _keyfiles, _networkd)
    return together((one for way in ways for one in way(files)), _persistent(files))


def _within(files: Files, directory: str, *endings: str) -> Iterator[list[str]]:
    """The lines of the files in a directory."""
    for name in files.names(directory)[:_MOST_FILES]:
        if name.endswith(endings):
            yield lines(files, f"{directory}/{name}")


def _interfaces(files: Files) -> Iterator[Nic]:
    for found in (
        lines(files, "/etc/network/interfaces"),
        *_within(files, "/etc/network/interfaces.d", ""),
    ):
        stanza: list[str] = []
        for one in [*found, "auto"]:
            word = one.split()[0]
            if word in {
                "iface",
                "auto",
                "mapping",
                "source",
                "source-directory",
            } or word.startswith("allow-"):
                yield from _stanza(stanza)
                stanza = []
            if word == "iface" or stanza:
                stanza.append(one)


def _stanza(found: list[str]) -> Iterator[Nic]:
    head = found[0].split() if found else []
    if len(head) < 4:
        return
    options = [one.split(None, 1) for one in found[1:]]
    said = {one[0]: one[1] for one in reversed(options) if len(one) == 2}
    dhcp = {"dhcp": Answer.YES, "static": Answer.NO}.get(head[3])
    if said.get("dhcp") == "1":  # of an address that is made from the router's word
        dhcp = Answer.YES
    addresses = [one[1] for one in options if len(one) == 2 and one[0] == "address"]
    yield nic(
        head[1],
        said.get("hwaddress", "").removeprefix("ether").strip(),
        [cidr(one, said.get("netmask", "")) for one in addresses],
        said.get("gateway", ""),
        said.get("dns-nameservers", "").split(),
        dhcp or Answer.UNKNOWN,
    )


def _ifcfg(files: Files) -> Iterator[Nic]:
    for directory in ("/etc/sysconfig/network-scripts", "/etc/sysconfig/network"):
        for name in files.names(directory)[:_MOST_FILES]:
            if not name.startswith("ifcfg-"):
                continue
            said = assignments(lines(files, f"{directory}/{name}"))
            numbers = ("", *map(str, range(10)))
            addresses = [
                cidr(
                    said[f"IPADDR{one}"], said.get(f"PREFIX{one}") or said.get(f"NETMASK{one}", "")
                )
                for one in numbers
                if said.get(f"IPADDR{one}")
            ]
            addresses += [cidr(one) for one in said.get("IPV6ADDR", "").split()]
            protocol = said.get("BOOTPROTO", "").lower()
            ways = {"dhcp": Answer.YES, "static": Answer.NO, "none": Answer.NO}
            yield nic(
                said.get("DEVICE") or name.removeprefix("ifcfg-"),
                said.get("HWADDR") or said.get("MACADDR") or "",
                addresses,
                said.get("GATEWAY") or said.get("GATEWAY0") or "",
                [said.get(f"DNS{one}", "") for one in range(1, 10)],
                ways.get(protocol, Answer.UNKNOWN),
            )


def _netplan(files: Files) -> Iterator[Nic]:
    for directory in ("/lib/netplan", "/etc/netplan", "/run/netplan"):
        for name in files.names(directory)[:_MOST_FILES]:
            if name.endswith(".yaml"):
                yield from _plan(files.read(f"{directory}/{name}"))


def _plan(data: bytes) -> Iterator[Nic]:
    try:
        network = _object(YAML(typ="safe", pure=True).load(data), "network")
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError, LookupError):
        return
    for kind in ("ethernets", "bonds", "bridges", "vlans", "wifis"):
        listed = _object(network, kind)
        for name in list(listed)[:MAX_LIST]:
            said = _object(listed, name)
            addresses = [_address(one) for one in _list(said, "addresses")]
            routes = [one for one in _list(said, "routes") if isinstance(one, dict)]
            default = [one for one in routes if one.get("to") in {"default", "0.0.0.0/0", "::/0"}]
            via = [
                said.get("gateway4"),
                said.get("gateway6"),
                *(one.get("via") for one in default),
            ]
            asked = str(said.get("dhcp4", said.get("dhcp6", ""))).lower()
            yield nic(
                str(_object(said, "match").get("name") or name),
                str(said.get("macaddress") or _object(said, "match").get("macaddress") or ""),
                [cidr(one) for one in addresses],
                str(next((one for one in via if one), "")),
                [str(one) for one in _list(_object(said, "nameservers"), "addresses")],
                _SWITCH.get(asked, Answer.UNKNOWN),
            )


def _address(found: object) -> str:
    """Also one that has options: a mapping with the address as its only key."""
    return str(next(iter(found), "")) if isinstance(found, dict) else str(found)


def _object(found: object, key: object) -> dict[object, object]:
    inner = found.get(key) if isinstance(found, dict) else None
    return inner if isinstance(inner, dict) else {}


def _list(found: dict[object, object], key: str) -> list[object]:
    inner = found.get(key)
    return inner[:MAX_LIST] if isinstance(inner, list) else []


def _keyfiles(files: Files) -> Iterator[Nic]:
    for found in _within(files, "/etc/NetworkManager/system-connections", ""):
        said = {
            f"{section}.{key}": unquoted(value)
            for section, pairs in sections(found)
            for key, value in pairs
        }
        if "connection.type" not in said or said["connection.type"] in {"loopback", "vpn"}:
            continue
        numbers = ("", *map(str, range(1, 10)))
        pairs = [
            said[key].split(",")
            for family in ("ipv4", "ipv6")
            for one in numbers
            if (key := f"{family}.address{one}") in said
        ]
        via = [one[1] for one in pairs if len(one) > 1]
        gateway = said.get("ipv4.gateway") or said.get("ipv6.gateway") or next(iter(via), "")
        ways = {"auto": Answer.YES, "manual": Answer.NO, "disabled": Answer.NO}
        yield nic(
            said.get("connection.interface-name") or said.get("connection.id", ""),
            said.get("ethernet.mac-address") or said.get("802-3-ethernet.mac-address") or "",
            [cidr(one[0]) for one in pairs],
            gateway,
            [*said.get("ipv4.dns", "").split(";"), *said.get("ipv6.dns", "").split(";")],
            ways.get(said.get("ipv4.method", ""), Answer.UNKNOWN),
        )


def _networkd(files: Files) -> Iterator[Nic]:
    for directory in ("/etc/systemd/network", "/run/systemd/network"):
        for found in _within(files, directory, ".network"):
            said: dict[str, list[str]] = {}
            for section, pairs in sections(found):
                for key, value in pairs:
                    said.setdefault(f"{section}.{key}", []).append(value)
            addresses = [*said.get("network.address", []), *said.get("address.address", [])]
            via = [*said.get("network.gateway", []), *said.get("route.gateway", [])]
            asked = said.get("network.dhcp", [""])[0].lower()
            ways = {"yes": Answer.YES, "true": Answer.YES, "ipv4": Answer.YES, "no": Answer.NO}
            yield nic(
                said.get("match.name", [""])[0],
                said.get("match.macaddress", said.get("link.macaddress", [""]))[0],
                [cidr(one) for one in addresses],
                next(iter(via), ""),
                " ".join(said.get("network.dns", [])).split(),
                ways.get(asked, Answer.UNKNOWN),
            )


def _persistent(files: Files) -> dict[str, str]:
    """Which card has which name, as udev was told to keep it."""
    told = lines(files, "/etc/udev/rules.d/70-persistent-net.rules")
    found = (_RULE.search(one[:1024]) for one in told)
    return {one[2]: one[1].lower() for one in found if one}
