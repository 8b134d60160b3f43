"""One connection at the gate, from its greeting to its end."""

import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import cast, get_args

from appliance.catchup import wire
from appliance.catchup.course import Course, Leg
from appliance.catchup.desk import TAKEN_OVER, Desk
from appliance.catchup.enrol import Known
from appliance.catchup.identity import key_of
from appliance.catchup.link import ALPN, GREETING_SECONDS, Channel, refusal_of
from appliance.catchup.pairing import refuse_another
from appliance.catchup.replica import BATCH_BLOCKS, BATCH_BYTES, Replica, Staged
from appliance.catchup.replicas import Held, refuse_untold
from appliance.catchup.wire import Form
from appliance.errors import (
    LinkCutError,
    MotionGearError,
    OtherShipmentError,
    PointRefusedError,
    ReplicaUnknownError,
    StateError,
    WireViolationError,
)
from appliance.events import Event, Json, Progress, Result, Step
from appliance.model import DiskId, Snapshots, SnapshotSpec, Stop

_HELD_SECONDS = 4.0  # of the 5 that wire-format.md allows


class Session:
    """One connection, from its greeting to its end."""

    def __init__(self, desk: Desk, line: ssl.SSLSocket, peer: str, stop: Stop) -> None:
        self._desk, self._line, self._stop = desk, line, stop
        self._given_up: threading.Event | None = None
        self._far = wire.Busy(0, 0)
        self._key = b""
        self._channel = Channel(line, peer, self._stopped)
        self._channel.wait_at_most(GREETING_SECONDS)

    def _stopped(self) -> bool:
        return self._stop() or (self._given_up is not None and self._given_up.is_set())

    def run(self) -> None:
        """Raises what ended the connection, after telling the sender."""
        try:
            self._talk()
        except LinkCutError:
            raise
        except (MotionGearError, OSError) as exc:
            why = self._why(exc)
            self._given_up = None
            with suppress(MotionGearError):
                self._channel.send(refusal_of(why))
            self._channel.close()
            raise why from exc

    def _why(self, exc: MotionGearError | OSError) -> MotionGearError:
        if self._given_up is not None and self._given_up.is_set() and not self._stop():
            return PointRefusedError(TAKEN_OVER)
        if isinstance(exc, MotionGearError):
            return exc
        return StateError(f"The gate's own disk has failed ({exc.strerror})")

    def _talk(self) -> None:
        hello = self._channel.receive(wire.Hello)
        if self._line.selected_alpn_protocol() != ALPN:
            raise WireViolationError(f"This gate speaks {ALPN} only")
        if not hello.lowest <= wire.VERSION <= hello.highest:
            raise WireViolationError(
                f"The sender speaks versions {hello.lowest} to {hello.highest}, this gate "
                f"{wire.VERSION}"
            )
        chosen = tuple(sorted(wire.FEATURES.intersection(hello.features)))
        certificate = self._line.getpeercert(binary_form=True)
        if certificate is None:
            self._enrol(chosen)
            return
        self._key = key_of(certificate)
        known = self._known()
        with self._channel.at_work():  # a target may list its volumes slowly
            held = self._desk.replicas.of(known.machine)
            refuse_untold(known.machine, len(held))
            listed = tuple((one.point(), one.told()) for one in held)
        self._welcome(wire.Welcome(wire.VERSION, known.machine, listed, chosen))
        self._channel.wait_at_most(None)
        peer = str(self._channel.peer)
        self._desk.emit(
            Step.said("line", "{machine} from {peer}", machine=known.machine, peer=peer)
        )
        with ExitStack() as riding:
            self._points(Course(self._desk.home, known.machine), riding)

    def _known(self) -> Known:
        """Whom the sender speaks for; asked again each time, since the operator may forget it."""
        return self._desk.registry.known(self._key)

    def _welcome(self, said: wire.Welcome) -> None:
        self._channel.send(said)
        self._channel.greeted()

    def _enrol(self, chosen: tuple[str, ...]) -> None:
        self._welcome(wire.Welcome(wire.VERSION, "", (), chosen))
        asked = self._channel.receive(wire.Enrol)
        known = self._desk.registry.enrol(asked.token, asked.certificate)
        self._channel.send(wire.Enrolled(known.machine))
        self._channel.close()
        self._desk.emit(Result("enrol", {"machine": known.machine}))

    def _points(self, course: Course, riding: ExitStack) -> None:
        """Points of the machine until the sender hangs up."""
        leg: Leg | None = None
        while True:
            try:
                said = self._either(*((wire.Disk, wire.EndPoint) if leg else (wire.Point,)))
            except LinkCutError:  # between two disks: all that was begun was ended
                return
            if isinstance(said, wire.Point):
                with self._channel.at_work():
                    leg = self._begin(course, said)
                riding.enter_context(self._desk.riding(leg))
                self._channel.send(wire.PointIs(leg.point))
            elif leg is not None and isinstance(said, wire.Disk):
                self._disk(course, leg, said.replica)
            elif leg is not None:
                self._end(course, leg)
                riding.close()
                leg = None

    def _either(self, *kinds: type[wire.Message]) -> wire.Message:
        self._channel.accepts = kinds
        return self._channel.next()

    def _begin(self, course: Course, asked: wire.Point) -> Leg:
        known = self._known()
        with self._desk.turn_of(known.machine, self._stop):
            held = {one.disk: one for one in self._desk.replicas.of(known.machine)}
            _refuse_other_disks(known, held, asked)
            self._desk.refuse_fuzzy_beside(course.last(), asked)
            target = self._desk.target  # it also remembers what a gate made anew does not
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

    def _disk(self, course: Course, leg: Leg, asked: wire.Replica) -> None:
        known = self._known()
        if asked.disk not in leg.disks:
            raise PointRefusedError(f"Disk {asked.disk} is not one of this point's")
        with ExitStack() as alone, ExitStack() as attached:
            with self._channel.at_work(lambda: self._far):
                mine = self._desk.alone_with(asked.disk, self._stop)
                self._given_up = alone.enter_context(mine)
                if course.still(leg).ended:
                    raise PointRefusedError("The round has ended")
                held = self._held(known, asked)
                # A survey is of use to who takes over: only the gate's end stops it.
                opened = self._desk.replicas.open(held, self._stop, self._survey)
                replica = attached.enter_context(opened)
                manifest = replica.manifest
                told = wire.DiskIs(manifest.point, manifest.root())
            self._far = wire.Busy(0, 0)
            self._channel.send(told)
            disk = _Disk(self._channel, replica, leg.point)
            root = disk.run()
            with self._channel.at_work():
                attached.close()
                self._desk.replicas.whole(held)
                course.agree(leg, held.disk, root)
            self._channel.send(wire.DiskDone(same=True, root=root))
            self._desk.emit(Result("disk", {"disk": held.disk, **disk.told()}))
        self._given_up = None

    def _survey(self, told: Event) -> None:
        if isinstance(told, Progress):
            self._far = wire.Busy(told.done, told.total)

    def _end(self, course: Course, leg: Leg) -> None:
        known = self._known()
        with self._channel.at_work(), self._desk.turn_of(known.machine, self._stop):
            leg = course.still(leg)
            if not leg.ended:
                leg = self._keep(known, course, leg)
        self._channel.send(wire.PointDone(leg.point, leg.kept))
        self._desk.emit(Result("point", point_figures(leg)))
        if leg.kept:
            self._desk.retire(leg.machine)

    def _keep(self, known: Known, course: Course, leg: Leg) -> Leg:
        """End the point: every replica still is what both ends have agreed on."""
        kept = leg.form is not Form.FUZZY and isinstance(self._desk.target, Snapshots)
        with ExitStack() as alone:
            for disk in leg.disks:  # no other connection writes to them meanwhile
                alone.enter_context(self._desk.alone_with(disk, self._stop))
            held = {one.disk: one for one in self._desk.replicas.of(known.machine)}
            for disk, agreed in zip(leg.disks, leg.roots, strict=True):
                if disk not in held or not agreed or held[disk].point() != leg.point:
                    raise PointRefusedError(f"Disk {disk} has not come to point {leg.point}")
                if held[disk].root().hex() != agreed:
                    raise PointRefusedError(f"Disk {disk} was written to after it was done")
            for disk in leg.disks if kept else ():
                told = _snapshot(held[disk], leg)
                cast("Snapshots", self._desk.target).snapshot(told)
            course.end(leg, kept=kept)
        return replace(leg, ended=True, kept=kept)


def _refuse_other_disks(known: Known, held: Mapping[DiskId, Held], asked: wire.Point) -> None:
    """A point has no disks that the machine may not bring, and one that is kept has all it has."""
    if not known.new_disks and (strange := set(asked.disks) - held.keys()):
        raise ReplicaUnknownError(f"{known.machine} has no replica of disk {min(strange)} here")
    if asked.form is not Form.FUZZY and (missing := held.keys() - set(asked.disks)):
        raise PointRefusedError(
            f"Disk {min(missing)} of {known.machine} is not in this point, so it would not be one",
            todo="Name every disk with --disk, or remove the volume of one that is not wanted.",
        )


def point_figures(leg: Leg) -> dict[str, Json]:
    return {
        "machine": leg.machine,
        "point": leg.point,
        "form": leg.form.name.lower(),
        "taken": leg.taken,
        "disks": list(leg.disks),
        "roots": list(leg.roots),
        "kept": leg.kept,
    }


def _snapshot(held: Held, leg: Leg) -> SnapshotSpec:
    return SnapshotSpec(
        volume=held.about.volume,
        machine=leg.machine,
        point=leg.point,
        form=leg.form,
        taken=leg.taken,
        disks=leg.disks,
        roots=leg.roots,
    )


_Said = wire.Pages | wire.Entries | wire.Ask | wire.Patch | wire.EndDisk


class _Disk:
    """One disk being brought to a point."""

    def __init__(self, channel: Channel, replica: Replica, point: int) -> None:
        self._channel, self._replica, self._point = channel, replica, point
        self._staged: dict[int, Staged] = {}
        self._since = 0.0
        self._written = self._blocks = 0

    def run(self) -> bytes:
        """Until both ends agree on the root, which it returns; the sender is told later."""
        self._channel.accepts = get_args(_Said)
        self._channel.block_size = self._replica.manifest.block_size
        while True:
            said = self._channel.poll()
            if said is None:
                self._commit()  # nothing more has come: what there is becomes durable now
                said = self._channel.next()
            self._commit_old()
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
                        return root

    def _agreed(self, theirs: bytes) -> bool:
        """Whether the sender has come to the same root; then the replica is at the point."""
        root = self._replica.manifest.root(self._point)
        if root != theirs:
            self._channel.send(wire.DiskDone(same=False, root=root))
            return False
        self._replica.move_to(self._point)
        return True

    def told(self) -> dict[str, Json]:
        """What was done."""
        return {"blocks": self._blocks, "written": self._written}

    def _patch(self, patch: wire.Patch) -> None:
        if patch.index in self._staged:
            self._commit()
        staged = self._replica.stage(patch)
        if staged is None:
            self._channel.send(wire.Whole(patch.index))
            return
        self._since = self._since if self._staged else time.monotonic()
        self._staged[patch.index] = staged
        size = self._replica.manifest.block_size
        if len(self._staged) >= BATCH_BLOCKS or len(self._staged) * size >= BATCH_BYTES:
            self._commit()

    def _commit_old(self) -> None:
        """Nothing waits for long to become durable, however much comes."""
        if self._staged and time.monotonic() - self._since >= _HELD_SECONDS:
            self._commit()

    def _commit(self) -> None:
        if not self._staged:
            return
        batch, self._staged = list(self._staged.values()), {}
        with self._channel.at_work():
            acks = self._replica.write(batch)
        for ack in acks:
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
            self._commit_old()

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
