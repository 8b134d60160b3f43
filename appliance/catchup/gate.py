"""The gate: takes rounds of enrolled machines into their replicas.

A thread a connection; what two connections share - which disk is open where - is guarded. A
refusal ends one connection and touches no other.
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast, get_args

from appliance.catchup import points, wire
from appliance.catchup.course import Course, Leg
from appliance.catchup.enrol import Known, Registry
from appliance.catchup.identity import LinkIdentity, key_of
from appliance.catchup.link import (
    ALPN,
    GREETING_SECONDS,
    Address,
    Channel,
    gate_context,
    refusal_of,
    tend,
)
from appliance.catchup.pairing import refuse_another
from appliance.catchup.replica import BATCH_BLOCKS, BATCH_BYTES, Replica, Staged
from appliance.catchup.replicas import Held, Replicas
from appliance.catchup.wire import Form
from appliance.errors import (
    LinkCutError,
    MotionGearError,
    OtherShipmentError,
    PointRefusedError,
    ReplicaUnknownError,
    StateError,
    StoppedError,
    WireViolationError,
)
from appliance.events import Emit, Json, Result, Step
from appliance.model import Clones, DiskId, Snapshots, SnapshotSpec, Stop, Target

_LOOK_SECONDS = 0.25
_MOST_LINES = 128


def identity_of(home: Path) -> LinkIdentity:
    """The key that this gate is known by."""
    return LinkIdentity(home / "gate" / "identity.pem")


@dataclass(slots=True)
class _Open:
    """A disk that is open on a connection; another connection may take it over."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    given_up: threading.Event = field(default_factory=threading.Event)


class Desk:
    """What all connections of a gate share. ``keep`` is how many recovery points of a machine
    stay.
    """

    def __init__(self, home: Path, target: Target, emit: Emit, keep: int) -> None:
        self.home, self.target, self.emit, self.keep = home, target, emit, keep
        self.identity = identity_of(home)
        self.registry = Registry(home)
        self.replicas = Replicas(home, target)
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._retiring = threading.Lock()
        self._open: dict[DiskId, _Open] = {}

    @contextmanager
    def alone_with(self, disk: DiskId) -> Iterator[threading.Event]:
        """Hold a disk; whoever held it before is told to let go. The event is set when this
        holder is the one to let go.
        """
        mine = _Open()
        mine.lock.acquire()
        with self._lock:
            before, self._open[disk] = self._open.get(disk), mine
        try:
            if before is not None:
                before.given_up.set()
                if not before.lock.acquire(timeout=GREETING_SECONDS):
                    raise PointRefusedError(f"Disk {disk} is still being written to")
            yield mine.given_up
        finally:
            mine.lock.release()
            with self._lock:
                if self._open.get(disk) is mine:
                    del self._open[disk]

    def retire(self, machine: str) -> None:
        """Discard the points of a machine that need not be kept; one that is in use stays."""
        if not isinstance(self.target, Snapshots) or not isinstance(self.target, Clones):
            return
        with self._retiring:
            try:
                gone = points.retain(cast("points.Keeps", self.target), machine, self.keep)
            except MotionGearError as exc:  # the new point is kept; the old ones can wait
                self.emit(Step("retain", exc.what))
                return
        for one in gone:
            self.emit(Step("retain", f"point {one.point} of {machine} was discarded"))

    @contextmanager
    def making(self) -> Iterator[None]:
        """Hold what makes replicas: two connections of a machine must not make one twice."""
        with self._making:
            yield


class Gate:
    """Listens, and serves each connection until ``stop``."""

    def __init__(self, home: Path, target: Target, emit: Emit, stop: Stop, keep: int = 8) -> None:
        self._desk, self._emit, self._stop = Desk(home, target, emit, keep), emit, stop
        self._lines: set[threading.Thread] = set()

    def serve(self, address: Address, ready: Callable[[int], object] = lambda _: None) -> None:
        """Raises StoppedError when it was stopped, all connections ended. ``ready`` hears of the
        port.
        """
        with self._listening(address) as listener:
            port = listener.getsockname()[1]
            self._emit(Step("listen", f"{Address(address.host, port)}"))
            ready(port)
            while not self._stop():
                if not select.select([listener], [], [], _LOOK_SECONDS)[0]:
                    continue
                with suppress(OSError):  # whoever dialled has hung up meanwhile
                    plain, peer = listener.accept()
                    self._begin(plain, str(Address(*peer[:2])))
        for one in list(self._lines):
            one.join()
        raise StoppedError("The gate was stopped", safe="All that was acknowledged is durable.")

    @contextmanager
    def _listening(self, address: Address) -> Iterator[socket.socket]:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            listener = socket.create_server((address.host, address.port), family=family)
        except OSError as exc:
            raise StateError(
                f"The gate cannot listen on {address} ({exc.strerror})",
                todo="Choose another address or port with --listen.",
            ) from exc
        with listener:
            yield listener

    def _begin(self, plain: socket.socket, peer: str) -> None:
        self._lines = {one for one in self._lines if one.is_alive()}
        if len(self._lines) >= _MOST_LINES:
            plain.close()
            return
        line = threading.Thread(target=self._serve, args=(plain, peer), name=peer, daemon=True)
        self._lines.add(line)
        line.start()

    def _serve(self, plain: socket.socket, peer: str) -> None:
        try:
            with plain, self._greeted(plain) as line:
                Session(self._desk, line, peer, self._stop).run()
        except MotionGearError as exc:
            self._emit(Result("line", {"peer": peer, "name": exc.name, "what": exc.what}))
        except (OSError, ssl.SSLError) as exc:
            self._emit(Result("line", {"peer": peer, "name": "link-cut", "what": str(exc)}))

    def _greeted(self, plain: socket.socket) -> ssl.SSLSocket:
        plain.settimeout(GREETING_SECONDS)
        tend(plain)
        known = [one.certificate for one in self._desk.registry.machines()]
        context = gate_context(self._desk.identity, known)
        return context.wrap_socket(plain, server_side=True)


class Session:
    """One connection, from its greeting to its end."""

    def __init__(self, desk: Desk, line: ssl.SSLSocket, peer: str, stop: Stop) -> None:
        self._desk, self._line, self._stop = desk, line, stop
        self._given_up: threading.Event | None = None
        self._channel = Channel(line, peer, self._stopped)
        self._channel.wait_at_most(GREETING_SECONDS)

    def _stopped(self) -> bool:
        return self._stop() or (self._given_up is not None and self._given_up.is_set())

    def run(self) -> None:
        try:
            self._talk()
        except LinkCutError:
            raise
        except MotionGearError as exc:
            with suppress(MotionGearError):
                self._channel.send(refusal_of(exc))
            self._channel.close()
            raise

    def _talk(self) -> None:
        hello = self._channel.receive(wire.Hello)
        if self._line.selected_alpn_protocol() != ALPN:
            raise WireViolationError(f"This gate speaks {ALPN} only")
        if not hello.lowest <= wire.VERSION <= hello.highest:
            raise WireViolationError(
                f"The sender speaks versions {hello.lowest} to {hello.highest}, this gate "
                f"{wire.VERSION}"
            )
        certificate = self._line.getpeercert(binary_form=True)
        if certificate is None:
            self._enrol()
            return
        known = self._desk.registry.known(key_of(certificate))
        held = self._desk.replicas.of(known.machine)
        listed = tuple((one.point(), one.told()) for one in held)
        self._channel.send(wire.Welcome(wire.VERSION, known.machine, listed))
        self._channel.wait_at_most(None)
        self._desk.emit(Step("line", f"{known.machine} from {self._channel.peer}"))
        self._points(known)

    def _enrol(self) -> None:
        self._channel.send(wire.Welcome(wire.VERSION, "", ()))
        asked = self._channel.receive(wire.Enrol)
        known = self._desk.registry.enrol(asked.token, asked.certificate)
        self._channel.send(wire.Enrolled(known.machine))
        self._channel.close()
        self._desk.emit(Result("enrol", {"machine": known.machine}))

    def _points(self, known: Known) -> None:
        """Points of the machine until the sender hangs up."""
        course = Course(self._desk.home, known.machine)
        leg: Leg | None = None
        while True:
            try:
                said = self._either(*((wire.Disk, wire.EndPoint) if leg else (wire.Point,)))
            except LinkCutError:  # between two disks: all that was begun was ended
                return
            if isinstance(said, wire.Point):
                leg = self._begin(known, course, said)
                self._channel.send(wire.PointIs(leg.point))
            elif leg is not None and isinstance(said, wire.Disk):
                self._disk(known, leg, said.replica)
            elif leg is not None:
                self._end(known, course, leg)
                leg = None

    def _either(self, *kinds: type[wire.Message]) -> wire.Message:
        self._channel.accepts = kinds
        return self._channel.next()

    def _begin(self, known: Known, course: Course, asked: wire.Point) -> Leg:
        held = {one.disk: one for one in self._desk.replicas.of(known.machine)}
        if not known.new_disks and (strange := set(asked.disks) - held.keys()):
            raise ReplicaUnknownError(
                f"{known.machine} has no replica of disk {min(strange)} here"
            )
        target = self._desk.target  # it also remembers what a gate that was made anew does not
        there = target.snapshots() if isinstance(target, Snapshots) else ()
        kept = [one.spec.point for one in there if one.spec.machine == known.machine]
        return course.begin(asked, max([0, *(one.point() for one in held.values()), *kept]))

    def _held(self, known: Known, asked: wire.Replica) -> Held:
        with self._desk.making():
            for one in self._desk.replicas.of(known.machine):
                if one.disk == asked.disk:
                    refuse_another(one.told(), asked)
                    return one
            if not known.new_disks:
                raise ReplicaUnknownError(f"{known.machine} has no replica of disk {asked.disk}")
            if asked.origin != bytes(32):
                raise OtherShipmentError(f"No disk {asked.disk} was restored here")
            return self._desk.replicas.create(known.machine, asked)

    def _disk(self, known: Known, leg: Leg, asked: wire.Replica) -> None:
        if asked.disk not in leg.disks:
            raise PointRefusedError(f"Disk {asked.disk} is not one of this point's")
        with self._desk.alone_with(asked.disk) as self._given_up, ExitStack() as attached:
            held = self._held(known, asked)
            replica = attached.enter_context(self._desk.replicas.open(held))
            manifest = replica.manifest
            self._channel.send(wire.DiskIs(manifest.point, manifest.root()))
            told = _Disk(self._channel, replica, leg.point).run()
            attached.close()
            self._desk.replicas.whole(held)
            self._desk.emit(Result("disk", {"disk": held.disk, **told}))
        self._given_up = None

    def _end(self, known: Known, course: Course, leg: Leg) -> None:
        kept = leg.form is not Form.FUZZY and isinstance(self._desk.target, Snapshots)
        with ExitStack() as alone:
            for disk in leg.disks if kept else ():  # no other round writes to them meanwhile
                alone.enter_context(self._desk.alone_with(disk))
            course.refuse_other(leg)
            held = {one.disk: one for one in self._desk.replicas.of(known.machine)}
            for disk in leg.disks:
                if disk not in held or held[disk].point() != leg.point:
                    raise PointRefusedError(f"Disk {disk} has not come to point {leg.point}")
            for disk in leg.disks if kept else ():
                cast("Snapshots", self._desk.target).snapshot(_snapshot(held, disk, leg))
            course.end(leg)
        self._channel.send(wire.PointDone(leg.point, kept))
        self._desk.emit(Result("point", point_figures(leg, kept=kept)))
        if kept:
            self._desk.retire(leg.machine)


def point_figures(leg: Leg, *, kept: bool) -> dict[str, Json]:
    told = cast("dict[str, Json]", asdict(leg))
    return {**told, "disks": list(leg.disks), "form": leg.form.name.lower(), "kept": kept}


def _snapshot(held: Mapping[DiskId, Held], disk: DiskId, leg: Leg) -> SnapshotSpec:
    return SnapshotSpec(
        volume=held[disk].about.volume,
        machine=leg.machine,
        point=leg.point,
        form=leg.form,
        taken=leg.taken,
        disks=leg.disks,
        roots=tuple(held[one].root().hex() for one in leg.disks),
    )


_Said = wire.Pages | wire.Entries | wire.Ask | wire.Patch | wire.EndDisk


class _Disk:
    """One disk being brought to a point."""

    def __init__(self, channel: Channel, replica: Replica, point: int) -> None:
        self._channel, self._replica, self._point = channel, replica, point
        self._staged: dict[int, Staged] = {}
        self._written = self._blocks = 0

    def run(self) -> Mapping[str, Json]:
        """Until both ends agree on the root; returns what was done."""
        self._channel.accepts = get_args(_Said)
        while True:
            said = self._channel.poll()
            if said is None:
                self._commit()  # nothing more has come: what there is becomes durable now
                said = self._channel.next()
            match cast("_Said", said):
                case wire.Patch() as patch:
                    self._patch(patch)
                case wire.Ask() as ask:
                    self._have(ask)
                case wire.Pages() as pages:
                    self._pages(pages)
                case wire.Entries() as entries:
                    self._entries(entries)
                case wire.EndDisk(root):
                    self._commit()
                    if self._agreed(root):
                        return {"blocks": self._blocks, "written": self._written}

    def _agreed(self, theirs: bytes) -> bool:
        """Whether the sender has come to the same root; then the replica is at the point."""
        root = self._replica.manifest.root(self._point)
        if root == theirs:
            self._replica.move_to(self._point)
        self._channel.send(wire.DiskDone(root == theirs, root))
        return root == theirs

    def _patch(self, patch: wire.Patch) -> None:
        if patch.index in self._staged:
            self._commit()
        staged = self._replica.stage(patch)
        if staged is None:
            self._channel.send(wire.Whole(patch.index))
            return
        self._staged[patch.index] = staged
        size = self._replica.manifest.block_size
        if len(self._staged) >= BATCH_BLOCKS or len(self._staged) * size >= BATCH_BYTES:
            self._commit()

    def _commit(self) -> None:
        if not self._staged:
            return
        batch, self._staged = list(self._staged.values()), {}
        for ack in self._replica.write(batch):
            self._channel.send(ack)
        self._blocks += len(batch)
        self._written += sum(end - start for one in batch for start, end, _ in one.runs)

    def _have(self, asked: wire.Ask) -> None:
        if not self._staged.keys().isdisjoint(asked.indexes):
            self._commit()
        if (last := asked.indexes[-1]) >= self._replica.manifest.blocks:
            raise WireViolationError(f"The disk has no block {last}")
        for index in asked.indexes:
            self._channel.send(wire.Have(index, self._replica.have(index)))

    def _pages(self, asked: wire.Pages) -> None:
        self._commit()
        digests = self._replica.manifest.page_digests()
        if asked.first + asked.count > len(digests):
            raise WireViolationError(f"The manifest has {len(digests)} pages")
        told = digests[asked.first : asked.first + asked.count]
        self._channel.send(wire.PagesAre(asked.first, tuple(told)))

    def _entries(self, asked: wire.Entries) -> None:
        self._commit()
        blocks = self._replica.manifest.page(asked.page)
        if not blocks:
            raise WireViolationError(f"The manifest has no page {asked.page}")
        told = tuple(self._replica.manifest[index] for index in blocks)
        self._channel.send(wire.EntriesAre(asked.page, told))
