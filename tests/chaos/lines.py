"""Lines between the two ends, other than the loopback on which they are otherwise."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from os import getpid

from appliance.catchup.enrol import Gates
from tests.chaos.world import World
from tests.line import Relay
from tests.media import tool


@contextmanager
def relayed(world: World) -> Iterator[Relay]:
    """The machine reaches the gate by way of a relay that can be cut and stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    before = world.known["listen"]
    world.known["listen"] = f"127.0.0.1:{port}"
    relay = Relay(port, at=int(world.known["dial"].rpartition(":")[2]))
    try:
        yield relay
    finally:
        relay.close()
        world.known["listen"] = before


@dataclass(frozen=True)
class Far:
    """Two network namespaces and the line between them."""

    gate: str
    machine: str

    def link(self, state: str) -> None:
        tool("ip", "-n", self.machine, "link", "set", "line", state)


@contextmanager
def far_away(world: World, rate: str) -> Iterator[Far]:
    """Gate and machine in network namespaces of their own; what goes over the line between them,
    either way, is limited to this rate (tc-tbf).
    """
    far = Far(f"motiongear-gate-{getpid()}", f"motiongear-src-{getpid()}")
    known = dict(world.known)
    try:
        _lay(far, rate)
        world.known["listen"] = world.known["dial"] = "10.7.7.1:5443"
        gates = Gates(world.machine.home)
        gates.note(replace(gates.at(known["dial"]), address=world.known["dial"]))
        world.under = {
            "operator": ("ip", "netns", "exec", far.gate),
            "machine": ("ip", "netns", "exec", far.machine),
        }
        yield far
    finally:
        world.under = {}
        world.known.update(listen=known["listen"], dial=known["dial"])
        for one in (far.gate, far.machine):
            with suppress(AssertionError):  # it was not made
                tool("ip", "netns", "delete", one)


def _lay(far: Far, rate: str) -> None:
    for one in (far.gate, far.machine):
        tool("ip", "netns", "add", one)
        tool("ip", "-n", one, "link", "set", "lo", "up")
    tool("ip", "-n", far.gate, "link", "add", "line", "type", "veth",
         "peer", "name", "line", "netns", far.machine)  # fmt: skip
    for one, address in ((far.gate, "10.7.7.1/24"), (far.machine, "10.7.7.2/24")):
        tool("ip", "-n", one, "address", "add", address, "dev", "line")
        tool("ip", "-n", one, "link", "set", "line", "up")
        tool("tc", "-n", one, "qdisc", "add", "dev", "line", "root", "tbf",
             "rate", rate, "burst", "64k", "latency", "200ms")  # fmt: skip
