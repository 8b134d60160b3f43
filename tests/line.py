"""Both ends of a line in one process: a gate on loopback over a real target, senders over disks in
memory, and a relay that can be cut.
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from appliance.catchup import rounds, wire
from appliance.catchup.enrol import Enrolled, Registry
from appliance.catchup.gate import Gate, identity_of
from appliance.catchup.link import Address, Channel, dial
from appliance.catchup.pairing import as_replica, new_replica
from appliance.catchup.replicas import Held, Replicas
from appliance.catchup.rounds import Figures, Line, Part, Round
from appliance.catchup.wire import Form
from appliance.cloud.local import LocalTarget
from appliance.errors import StoppedError
from appliance.events import Event
from appliance.model import DiskId, PointSpec, VolumeSpec, VolumeState
from appliance.rate import Throttle
from appliance.seal.cut import digest, zero_digest
from appliance.seal.manifest import Manifest, State
from appliance.seal.proved import Proved
from tests.support import BLOCK, MemoryDisk, facts

ORIGIN = "44" * 32


class Relay:
    """Carries bytes between senders and the gate, from a port of its own or ``at`` that one.
    ``cut_after``: the line is cut when that many bytes have gone up, once. ``delay`` are seconds
    that each handful of bytes takes; while the line is ``down`` nothing passes and nobody hears
    why.
    """

    def __init__(self, port: int, at: int = 0) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", at))
        self.port: int = self._listener.getsockname()[1]
        self.up = 0
        self.cut_after: int | None = None
        self.cuts = 0
        self.delay = 0.0
        self.down = False
        self._stop, self._cut_now = threading.Event(), 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()
        self._listener.close()

    def cut(self) -> None:
        """Cut every line that is up now."""
        with self._lock:
            self._cut_now += 1
            self.cuts += 1

    def _accept(self) -> None:
        while not self._stop.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                line, _ = self._listener.accept()
                thread = threading.Thread(target=self._carry, args=(line,))
                self._threads.append(thread)
                thread.start()

    def _carry(self, line: socket.socket) -> None:
        there, cuts = ("127.0.0.1", self._port), self._cut_now
        with suppress(OSError), line, socket.create_connection(there) as gate:
            while not self._stop.is_set() and self._cut_now == cuts:
                for one in select.select([] if self.down else [line, gate], [], [], 0.05)[0]:
                    data = one.recv(4096)
                    if not data or (one is line and self._cut(len(data))):
                        return
                    self._stop.wait(self.delay)
                    (gate if one is line else line).sendall(data)

    def _cut(self, count: int) -> bool:
        with self._lock:
            self.up += count
            if self.cut_after is not None and self.up >= self.cut_after:
                self.cut_after = None
                self.cuts += 1
                return True
            return False


@dataclass
class TwoEnds:
    """A gate that serves, and a machine that is enrolled with it."""

    place: Path
    target: LocalTarget
    port: int
    told: list[Event] = field(default_factory=list)

    @property
    def gate_home(self) -> Path:
        return self.place / "gate"

    def invite(self, machine: str = "web01", *, new_disks: bool = False) -> "Machine":
        """Enrol a machine, with a home of its own."""
        registry = Registry(self.gate_home)
        code, _ = registry.invite(
            identity_of(self.gate_home).key, machine, timedelta(hours=1), new_disks=new_disks
        )
        home = self.place / f"home of {machine}"
        home.mkdir(exist_ok=True)
        return Machine(self, home, rounds.enrol(home, Address("127.0.0.1", self.port), code))

    def restored(
        self,
        data: bytes,
        disk: str = "11" * 16,
        machine: str = "web01",
        unknown: Sequence[int] = (),
        serial: str = "",
    ) -> wire.Replica:
        """A volume as a restore leaves it, its manifest proved; ``unknown`` blocks were lost with
        their store.
        """
        spec = PointSpec(DiskId(disk), 0, machine, facts(len(data), serial or f"S-{disk[:4]}"))
        manifest = manifest_of(data, DiskId(disk))
        content = bytearray(data)
        for index in unknown:
            manifest.set(index, zero_digest(0), State.UNKNOWN)
            content[index * BLOCK : (index + 1) * BLOCK] = bytes(manifest.length(index))
        volume = VolumeSpec(f"{machine}-{disk[:8]}", len(data), len(data), spec.disk, 0, ORIGIN)
        ident = self.target.ensure_volume(volume).id
        Proved(self.gate_home, ORIGIN, ident if unknown else "").keep(spec, manifest)
        with self.target.attach(volume) as attached:
            attached.pwrite(0, memoryview(bytes(content)))
            attached.flush()
        self.target.tag(volume, VolumeState.HURT if unknown else VolumeState.CHECKED)
        return self.held(disk, machine).told()

    def held(self, disk: str = "11" * 16, machine: str = "web01") -> Held:
        (found,) = (
            one for one in Replicas(self.gate_home, self.target).of(machine) if one.disk == disk
        )
        return found

    def content(self, disk: str = "11" * 16, machine: str = "web01") -> bytes:
        return Path(self.held(disk, machine).info.location).read_bytes()


@dataclass
class Machine:
    """The sender's end."""

    ends: TwoEnds
    home: Path
    gate: Enrolled
    told: list[Event] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def line(self, port: int | None = None, patience: float = 20.0) -> Line:
        gate = replace(self.gate, address=f"127.0.0.1:{port or self.ends.port}")
        identity = rounds.identity_of(self.home)
        return Line(gate, identity, self.stop.is_set, Throttle(), patience)

    def round(
        self,
        *parts: Part,
        form: Form = Form.FUZZY,
        port: int | None = None,
        patience: float = 20.0,
        settled: Callable[[], object] = lambda: None,
    ) -> Figures:
        one = Round(
            self.line(port, patience),
            self.home / "known",
            self.told.append,
            self.stop.is_set,
            form,
        )
        return one.run(parts, 1_790_000_000, settled)

    @contextmanager
    def channel(self) -> Iterator[Channel]:
        """A line on which the test says what it likes, the greeting done."""
        address = Address("127.0.0.1", self.ends.port)
        identity = rounds.identity_of(self.home)
        with dial(address, self.gate.key, identity) as channel:
            channel.send(wire.Hello(1, 1, "a test"))
            channel.receive(wire.Welcome)
            yield channel


def part(disk: MemoryDisk, about: wire.Replica) -> Part:
    """The disk as the sender finds it, for the replica it is to be."""
    disk.facts = replace(disk.facts, serial=about.serial, model=about.model)
    return Part(disk, as_replica(disk.facts, about))


def new_part(disk: MemoryDisk, ident: str = "22" * 16) -> Part:
    return Part(disk, replace(new_replica(disk.facts, DiskId(ident)), block_size=BLOCK))


def manifest_of(data: bytes, disk: DiskId, point: int = 0) -> Manifest:
    found = Manifest(disk, point, BLOCK, len(data))
    for index in range(found.blocks):
        block = data[index * BLOCK : (index + 1) * BLOCK]
        told = digest(block)
        found.set(index, told, State.ZERO if told == zero_digest(len(block)) else State.DATA)
    return found


@contextmanager
def two_ends(place: Path, keep: int = 8, keep_seconds: float = 86_400) -> Iterator[TwoEnds]:
    """A gate serving on loopback over a local target."""
    home = place / "gate"
    home.mkdir(exist_ok=True)
    target = LocalTarget(str(place / "volumes"))
    stop, ready, told = threading.Event(), threading.Event(), list[Event]()
    ports: list[int] = []

    def listens(port: int) -> None:
        ports.append(port)
        ready.set()

    def serve() -> None:
        with suppress(StoppedError):
            Gate(home, target, told.append, stop.is_set, keep, keep_seconds).serve(
                Address("127.0.0.1", 0), listens
            )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(30)
        yield TwoEnds(place, target, ports[0], told)
    finally:
        stop.set()
        thread.join()


@contextmanager
def relay_to(ends: TwoEnds) -> Iterator[Relay]:
    relay = Relay(ends.port)
    with ExitStack() as closing:
        closing.callback(relay.close)
        yield relay


def noise(size: int) -> bytes:
    return os.urandom(size)
