"""Network interfaces out of foreign texts."""

from collections.abc import Iterable
from dataclasses import replace

from appliance.ingest.foreign import text
from appliance.ingest.inspection.files import few
from appliance.model import Answer, Nic
from appliance.seal.machine import MAX_LIST


def nic(
    name: str,
    mac: str,
    addresses: Iterable[str],
    gateway: str,
    dns: Iterable[str],
    dhcp: Answer,
) -> Nic:
    """Where nothing is said of DHCP, an address says no."""
    found, servers = few(addresses), few(dns)
    if dhcp is Answer.UNKNOWN and found:
        dhcp = Answer.NO
    return Nic(text(name), text(mac).lower(), found, text(gateway), servers, dhcp)


def together(found: Iterable[Nic], macs: dict[str, str]) -> tuple[Nic, ...]:
    """All but the loopback, each once, with all that is said of it; ``macs`` by name."""
    known: dict[str, Nic] = {}
    for one in found:
        key = one.name or one.mac
        if key not in {"lo", ""}:
            known[key] = _joined(known[key], one) if key in known else one
    whole = (replace(one, mac=one.mac or macs.get(one.name, "")) for one in known.values())
    return tuple(whole)[:MAX_LIST]


def _joined(one: Nic, other: Nic) -> Nic:
    answers = {one.dhcp, other.dhcp}
    return Nic(
        name=one.name,
        mac=one.mac or other.mac,
        addresses=few([*one.addresses, *other.addresses]),
        gateway=one.gateway or other.gateway,
        dns=few([*one.dns, *other.dns]),
        dhcp=next((each for each in (Answer.YES, Answer.NO) if each in answers), Answer.UNKNOWN),
    )
