"""Rounds: a machine's disks brought to one point, again and again until the next would be short.

Every disk has a connection of its own, so that several disks are read at once; one more begins and
ends the point.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from appliance.catchup import wire
from appliance.catchup.enrol import Code, Enrolled
from appliance.catchup.identity import LinkIdentity
from appliance.catchup.link import Address, Channel, dial
from appliance.catchup.sender import DiskSender
from appliance.catchup.wire import Form
from appliance.errors import (
    LinkCutError,
    MotionGearError,
    StoppedError,
    StoreRefusedError,
    WireViolationError,
)
from appliance.events import Emit, Progress, Step
from appliance.model import DiskId, SourceDisk, Stop
from appliance.rate import Throttle
from appliance.seal.manifest import Manifest

PROGRAM = "motiongear 0.1"
_NAPS = (1.0, 2.0, 4.0, 8.0, 15.0)
_LOOK_SECONDS = 0.1
_STEADY_SECONDS = 10.0

T = TypeVar("T")


def identity_of(home: Path) -> LinkIdentity:
    """The key that this sender is known by."""
    return LinkIdentity(home / "line" / "identity.pem")


def enrol(home: Path, address: Address, code: Code, stop: Stop = lambda: False) -> Enrolled:
    """Have this end's key known to the gate as the machine's that the code was made for."""
    identity = identity_of(home)
    with dial(address, code.gate, None, stop) as channel:
        _greet(channel)
        channel.send(wire.Enrol(code.token, identity.certificate))
        machine = channel.receive(wire.Enrolled).machine
    return Enrolled(str(address), code.gate, machine)


def _greet(channel: Channel) -> wire.Welcome:
    channel.send(wire.Hello(wire.VERSION, wire.VERSION, PROGRAM, tuple(sorted(wire.FEATURES))))
    found = channel.receive(wire.Welcome)
    if found.version != wire.VERSION:
        raise WireViolationError(f"The gate has chosen version {found.version}")
    if strange := set(found.features) - wire.FEATURES:
        raise WireViolationError(f"The gate has chosen {min(strange)!r}, which was not offered")
    channel.greeted()
    return found


def _told_of(emit: Emit) -> Callable[[wire.Busy], None]:
    """What the gate is at work on, as events: how far it is, or once that it is."""
    last = wire.Busy(1, 1)

    def tell(busy: wire.Busy) -> None:
        nonlocal last
        if busy.total:
            emit(Progress("gate", busy.done, busy.total))
        elif last.total:
            emit(Step.said("wait", "The gate is at work on its answer"))
        last = busy

    return tell


@dataclass(frozen=True, slots=True)
class Line:
    """How a gate is reached, and how long a line that was cut is waited for."""

    gate: Enrolled
    identity: LinkIdentity
    stop: Stop
    throttle: Throttle
    patience_seconds: float = 120.0

    @contextmanager
    def open(self) -> Iterator[tuple[Channel, wire.Welcome]]:
        address = Address.parse(self.gate.address)
        with dial(address, self.gate.key, self.identity, self.stop, self.throttle) as channel:
            yield channel, _greet(channel)

    def kept_up(self, work: Callable[[Channel, wire.Welcome], T], emit: Emit) -> T:
        """``work`` done over a line; done again over another where one is cut, or the gate says
        that it can take it later, as long as one comes up, and stays up for a while, within the
        patience.
        """
        waited_from, tries = time.monotonic(), 0
        while True:
            up_at = None
            try:
                with self.open() as (channel, welcome):
                    up_at = time.monotonic()
                    channel.busy = _told_of(emit)
                    return work(channel, welcome)
            except MotionGearError as exc:
                now, was_cut = time.monotonic(), isinstance(exc, LinkCutError)
                if not was_cut and not exc.later:
                    raise
                if was_cut and up_at is not None and now - up_at > _STEADY_SECONDS:
                    waited_from, tries = now, 0
                if now - waited_from >= self.patience_seconds:
                    raise
                emit(Step("wait", exc.what))
                self._nap(_NAPS[min(tries, len(_NAPS) - 1)])
                tries += 1

    def _nap(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.stop():
                raise StoppedError("The round was stopped", safe=LinkCutError.safe)
            time.sleep(_LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class Part:
    """A disk of the round: where it is read, and how both ends name it."""

    source: SourceDisk
    about: wire.Replica


@dataclass(frozen=True, slots=True)
class Figures:
    """What a round was. Bytes: ``sent`` over the line, ``changed`` in pieces before compression,
    ``read`` from the disks. ``roots`` are the disks' in hex.
    """

    point: int
    kept: bool
    seconds: float
    sent: int
    received: int
    changed: int
    blocks: int
    read: int
    roots: dict[str, str]


class Round:
    """One round of a machine: all its disks brought to one point. ``known`` is where the manifests
    of earlier rounds are kept.
    """

    def __init__(
        self, line: Line, known: Path, emit: Emit, stop: Stop, form: Form = Form.FUZZY
    ) -> None:
        self._line, self._known, self._emit, self._stop = line, known, emit, stop
        self._form, self._nonce = form, os.urandom(16)
        self._lock = threading.Lock()
        self._sent = self._received = 0

    def run(
        self, parts: Sequence[Part], taken: int, settled: Callable[[], object] = lambda: None
    ) -> Figures:
        """``taken`` is when the disks were frozen, or now; seconds since 1970. ``settled`` is
        called when all disks are sent, before the point is ended: what it raises keeps the point
        from being one.
        """
        began = time.monotonic()
        ordered = tuple(sorted(one.about.disk for one in parts))
        asked = wire.Point(self._nonce, self._form, taken, ordered)
        number = self._line.kept_up(lambda channel, _: self._begin(channel, asked), self._emit)
        broken = threading.Event()
        senders = {one.about.disk: self._sender(one, broken) for one in parts}
        roots = self._all(senders, asked, broken)
        settled()
        done = self._line.kept_up(lambda channel, _: self._end(channel, asked), self._emit)
        told = [one.sent for one in senders.values()]
        return Figures(
            point=number,
            kept=done.kept,
            seconds=time.monotonic() - began,
            sent=self._sent,
            received=self._received,
            changed=sum(one.changed for one in told),
            blocks=sum(one.blocks for one in told),
            read=sum(one.read for one in told),
            roots=roots,
        )

    def _sender(self, part: Part, broken: threading.Event) -> DiskSender:
        return DiskSender(
            part.source,
            part.about,
            self._kept(part.about.disk),
            self._emit,
            lambda: self._stop() or broken.is_set(),
            still=self._form is not Form.FUZZY,
        )

    def _all(
        self, senders: Mapping[DiskId, DiskSender], asked: wire.Point, broken: threading.Event
    ) -> dict[str, str]:
        """The disks side by side. With one that fails there is no point: the others, which may
        hold up a frozen source, are stopped, and that first error is raised.
        """
        stop = self._line.stop
        line = replace(self._line, stop=lambda: stop() or broken.is_set())
        with ThreadPoolExecutor(len(senders), "disk") as pool:
            work = partial(self._disk, line=line, asked=asked)
            running = [pool.submit(work, one) for one in senders.items()]
            try:
                done, _ = wait(running, return_when=FIRST_EXCEPTION)
                _raise_first(done)
                return dict(one.result() for one in running)
            finally:
                broken.set()

    def _begin(self, channel: Channel, asked: wire.Point) -> int:
        with self._counted(channel):
            channel.send(asked)
            return channel.receive(wire.PointIs).point

    def _disk(
        self, named: tuple[DiskId, DiskSender], line: Line, asked: wire.Point
    ) -> tuple[str, str]:
        disk, sender = named

        def work(channel: Channel, _: wire.Welcome) -> Manifest:
            with self._counted(channel):
                return sender.run(channel, self._begin_again(channel, asked))

        agreed = line.kept_up(work, self._emit)
        agreed.save(self._path(disk))
        return disk, agreed.root().hex()

    def _begin_again(self, channel: Channel, asked: wire.Point) -> int:
        channel.send(asked)
        return channel.receive(wire.PointIs).point

    def _end(self, channel: Channel, asked: wire.Point) -> wire.PointDone:
        with self._counted(channel):
            self._begin_again(channel, asked)
            channel.send(wire.EndPoint())
            return channel.receive(wire.PointDone)

    @contextmanager
    def _counted(self, channel: Channel) -> Iterator[None]:
        """What goes over the line counts, also when it is cut."""
        try:
            yield
        finally:
            with self._lock:
                self._sent += channel.sent
                self._received += channel.received

    def _path(self, disk: DiskId) -> Path:
        return self._known / f"{disk}.manifest"

    def _kept(self, disk: DiskId) -> Manifest | None:
        """What the last round ended with; None where that is not known, or not to be read."""
        path = self._path(disk)
        if not path.exists():
            return None
        with suppress(StoreRefusedError):
            return Manifest.load(path).copy()
        return None


def _raise_first(done: Iterable[Future[T]]) -> None:
    """What has failed, if any has; rather that than that another was stopped."""
    failed = [exc for one in done if (exc := one.exception()) is not None]
    for exc in sorted(failed, key=lambda one: isinstance(one, StoppedError)):
        raise exc
