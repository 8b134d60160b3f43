"""The line: TLS 1.3 with pinned keys, and frames over it.

Either end is one thread: a TLS connection is not to be read and written by two at once. A sender
that waits to send goes on taking in what the gate says, so that the two never wait for each other.
While a gate's thread is at work on an answer, another says so in its place.
"""

import errno
import ipaddress
import re
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Self, TypeVar, cast

from appliance.block import fd_ready
from appliance.catchup import wire
from appliance.catchup.identity import LinkIdentity, key_of, pem_of
from appliance.catchup.wire import HEAD, Again, Aside, Busy, Message, Refused
from appliance.errors import (
    BadInputError,
    LinkCutError,
    MotionGearError,
    NotEnrolledError,
    OtherShipmentError,
    PointRefusedError,
    SourceChangedError,
    StateError,
    StoppedError,
    VolumeBusyError,
    WireViolationError,
    WrongPeerError,
    all_errors,
)
from appliance.model import MAX_BLOCK_SIZE, Stop
from appliance.rate import Throttle
from appliance.seal import text

DEFAULT_PORT = 7443
ALPN = "motiongear/1"
GREETING_SECONDS = 30.0
_IDLE_SECONDS = 60
_UNHEARD_SECONDS = 300.0  # longer than the 120 s between two questions to a full window
_REPLY_SECONDS = 300.0  # neither an answer nor BUSY
_BUSY_SECONDS = 20.0  # of the 60 that wire-format.md allows
_LOOK_SECONDS = 0.25
_NO_CHECK_TIME = 0x200000  # openssl/x509_vfy.h: of a certificate only the key counts
_RECV = 1 << 18
_MOST_WAITING = 2 * wire.MOST_ASKED
_LAST_HEARD = slice(56, 60)  # tcpi_last_ack_recv, milliseconds; linux/tcp.h
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL"})
_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^\[\]:\s\x00-\x1f\x7f]+))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<bare>[^\[\]]*:[^\[\]]*:[^\[\]]*)"
)

# What a gate refuses for good, and what only as long as somebody else is at work; the rest waits
# for its operator.
_FOR_GOOD = (WireViolationError, PointRefusedError, OtherShipmentError, SourceChangedError)
_FOR_NOW = (VolumeBusyError, StoppedError)

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gate listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, given: str) -> Self:
        """``host``, ``host:port``, ``v6`` or ``[v6]:port``."""
        found = _ADDRESS.fullmatch(given)
        host = _host(found) if found else ""
        port = int(found["port"] or DEFAULT_PORT) if found else 0
        if not host or port >= 1 << 16:
            raise BadInputError(
                f"{given!r} is no address", todo="Write it like gate.example:7443."
            )
        return cls(host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _host(found: re.Match[str]) -> str:
    """The host of an address; empty when there can be none of that name."""
    with suppress(ValueError):
        if v6 := found["v6"] or found["bare"]:
            return str(ipaddress.IPv6Address(v6))
        found["host"].encode("idna")
        return found["host"]
    return ""


def _context(side: int, identity: LinkIdentity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    if identity is not None:
        try:
            context.load_cert_chain(identity.path)
        except OSError as exc:
            raise StateError(
                f"The key of this end of the line, {identity.path}, cannot be used ({exc})"
            ) from exc
    return context


def gate_context(identity: LinkIdentity, known: Sequence[bytes]) -> ssl.SSLContext:
    """A gate's side. Who shows a certificate must show one of ``known`` (DER); who shows none
    has yet to enrol.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    for one in known:
        context.load_verify_locations(cadata=pem_of(one))
    return context


def _sender_context(identity: LinkIdentity | None) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_CLIENT, identity)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # ``dial`` compares the key itself with the one pinned
    return context


def tend(sock: socket.socket) -> None:
    """Notice within a minute that the other end of an idle line is gone; send small frames at
    once. No TCP_USER_TIMEOUT: it would also end a line whose other end is there and slow.
    """
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS // 3),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _IDLE_SECONDS // 6),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    ):
        sock.setsockopt(level, option, value)


@contextmanager
def dial(
    address: Address,
    pinned: bytes,
    identity: LinkIdentity | None,
    stop: Stop = lambda: False,
    throttle: Throttle | None = None,
) -> Iterator["Channel"]:
    """A line to the gate whose key has the fingerprint ``pinned``. To any other no frame is sent;
    the certificate of ``identity`` goes out in the handshake, before the keys are compared.
    """
    context = _sender_context(identity)
    with ExitStack() as ends:
        with _told(address):  # the greeting alone: what is done over the line has its own errors
            there = (address.host, address.port)
            plain = ends.enter_context(socket.create_connection(there, GREETING_SECONDS))
            tend(plain)
            line = ends.enter_context(context.wrap_socket(plain))
        _refuse_other(line, pinned, address)
        channel = Channel(line, str(address), stop, throttle, answers=True)
        yield channel
        channel.close()


def _refuse_other(line: ssl.SSLSocket, pinned: bytes, address: Address) -> None:
    shown = line.getpeercert(binary_form=True)
    found = key_of(shown) if shown else b""
    if found != pinned:
        raise WrongPeerError(
            f"{address} answers with the key {text.grouped(found)}, pinned is "
            f"{text.grouped(pinned)}"
        )
    if line.selected_alpn_protocol() != ALPN:
        raise WireViolationError(f"{address} does not speak {ALPN}")


@contextmanager
def _told(address: Address) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _cut(exc, str(address)) from exc


def _cut(exc: OSError, peer: str) -> MotionGearError:
    if isinstance(exc, ssl.SSLError) and "alert" in str(exc.reason).lower():
        # In TLS 1.3 a certificate is refused only after the handshake looked done.
        if "CERT" in str(exc.reason) or "UNKNOWN_CA" in str(exc.reason):
            return NotEnrolledError(f"{peer} does not know this machine's key")
        return WireViolationError(f"{peer} refuses the connection ({exc.reason})")
    if isinstance(exc, ssl.SSLError) and exc.reason in _NO_TLS:
        return WireViolationError(f"{peer} does not speak TLS 1.3")
    if isinstance(exc, TimeoutError) or exc.errno == errno.ETIMEDOUT:
        return LinkCutError(f"The line to {peer} is dead: no answer in time")
    return LinkCutError(f"The line to {peer} was cut ({exc.strerror or exc})")


class Channel:
    """Frames over a TLS connection, for one thread. ``accepts`` are the messages that may come
    next: all others are refused before memory is taken for them.

    ``answers``: this end takes in what comes while it waits to send, as a sender does, which
    bounds by its own asking what can come. ``busy`` is called with what a gate says of an answer
    that takes long. Of a patch that comes the disk has ``block_size``.
    """

    def __init__(
        self,
        line: ssl.SSLSocket,
        peer: str,
        stop: Stop = lambda: False,
        throttle: Throttle | None = None,
        *,
        answers: bool = False,
    ) -> None:
        line.settimeout(0)
        self._line, self.peer, self._stop = line, peer, stop
        self._throttle, self._answers = throttle, answers
        self.accepts: Sequence[type[Message]] = ()
        self.block_size = MAX_BLOCK_SIZE
        self.busy: Callable[[Busy], object] = lambda _: None
        self.sent = self.received = 0
        self._asides = range(wire.Busy.kind, wire.Busy.kind + 1) if answers else range(0)
        self._heard = 0.0
        self._inbox: deque[Message] = deque()
        self._head = bytearray()
        self._kind: type[Message] | None = None
        self._body = bytearray()
        self._at = 0
        self._wait_seconds = _REPLY_SECONDS if answers else None

    def fileno(self) -> int:
        return self._line.fileno()

    def greeted(self) -> None:
        """WELCOME is said: from now on frames may come that are skipped where they are unknown."""
        self._asides = wire.GATE_ASIDES if self._answers else wire.SENDER_ASIDES

    # --- sending ---

    def send(self, message: Message) -> None:
        """Returns when the frame is with the system; waits where the line or the limit wants
        it.
        """
        frame = memoryview(wire.encode(message))
        if self._throttle is not None:
            self._throttle.take(len(frame), self._stop)
        while frame:
            self._refuse_stopped()
            try:
                done = self._try_send(frame)
            except LinkCutError:
                if self._answers:
                    self._hear_why()
                raise
            frame, self.sent = frame[done:], self.sent + done

    def _try_send(self, frame: memoryview) -> int:
        """Bytes taken by the line; 0 after waiting a while for it."""
        try:
            with _said(self.peer):
                return self._line.send(frame[:_RECV])
        except ssl.SSLWantReadError:
            self._wait(reading=True, writing=False)
        except ssl.SSLWantWriteError:
            self._wait(reading=self._answers, writing=True)
            if self._answers:
                self._take_in(_MOST_WAITING)
                if len(self._inbox) >= _MOST_WAITING:
                    raise WireViolationError(f"{self.peer} says more than it was asked") from None
        return 0

    @contextmanager
    def at_work(self, done: Callable[[], Busy] = lambda: Busy(0, 0)) -> Iterator[None]:
        """Say now and then that the answer owed is on its way, and how far it is; whoever is at
        work does not use the line meanwhile.
        """
        ended = threading.Event()

        def say() -> None:
            with suppress(MotionGearError):  # who is at work finds the line as it is
                while not ended.wait(_BUSY_SECONDS):
                    self.send(done())

        saying = threading.Thread(target=say, name=f"busy for {self.peer}", daemon=True)
        saying.start()
        try:
            yield
        finally:
            ended.set()
            saying.join()

    def _hear_why(self) -> None:
        """A gate that closed the line may have said why before. That it did is what happened:
        whatever else came is not looked at.
        """
        with suppress(LinkCutError, WireViolationError):
            self._take_in(_MOST_WAITING)
        for one in self._inbox:
            if isinstance(one, Refused):
                raise _refusal(one)

    # --- receiving ---

    def receive(self, kind: type[M], *others: type[Message]) -> M:
        """The next message, which must be one of these kinds; waits for it."""
        self.accepts = (kind, *others)
        return cast("M", self.next())

    def next(self) -> Message:
        """The next message of those that ``accepts`` allows; waits for it."""
        self._heard = time.monotonic()
        while (found := self.poll()) is None:
            silent = time.monotonic() - self._heard
            if self._wait_seconds is not None and silent > self._wait_seconds:
                raise LinkCutError(f"{self.peer} has not answered for {self._wait_seconds:.0f} s")
            self._wait(reading=True, writing=False)
            self._refuse_stopped()  # which may rest for long: what has come meanwhile counts
        return found

    def wait_at_most(self, seconds: float | None) -> None:
        """From now on ``next`` gives up after that long; None: never."""
        self._wait_seconds = seconds

    def poll(self) -> Message | None:
        """The next message if it has come already; it must be one that ``accepts`` allows now. A
        refusal is raised as what it says.
        """
        if not self._inbox:
            self._take_in(1)
        if not self._inbox:
            return None
        found = self._inbox.popleft()
        if isinstance(found, Refused):
            raise _refusal(found)
        if not isinstance(found, tuple(self.accepts)):  # it came when another was waited for
            raise WireViolationError(f"{self.peer} says {type(found).__name__} out of turn")
        return found

    def _take_in(self, most: int) -> None:
        """What has come: whole messages go to the inbox until it holds so many, or one came that
        does not belong there.
        """
        aside = False
        while len(self._inbox) < most and not aside:
            want = (
                HEAD.size - len(self._head) if self._kind is None else len(self._body) - self._at
            )
            if want:
                try:
                    got = self._try_recv(want)
                except LinkCutError:
                    if self._inbox:  # what came before the cut counts
                        return
                    raise
                if got is None:
                    return
                self.received += got
            aside = self._advance()
            self._refuse_stopped()

    def _try_recv(self, want: int) -> int | None:
        """Bytes taken in, None when none are there."""
        try:
            with _said(self.peer):
                if self._kind is None:
                    data = self._line.recv(want)
                    self._head += data
                    got = len(data)
                else:
                    piece = memoryview(self._body)[self._at : self._at + min(want, _RECV)]
                    got = self._line.recv_into(piece)
                    self._at += got
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        if not got:
            raise LinkCutError(f"{self.peer} has closed the line")
        return got

    def _advance(self) -> bool:
        """Go on with the frame as far as it has come; True when it was one to be skipped."""
        if self._kind is None:
            if len(self._head) == HEAD.size:
                length, self._kind = wire.limit(
                    bytes(self._head),
                    self._may_come(),
                    asides=self._asides,
                    block_size=self.block_size,
                )
                self._body, self._at = bytearray(length), 0
                self._head.clear()
            return False
        if self._at < len(self._body):
            return False
        kind, self._kind = self._kind, None
        found = wire.parse(kind, memoryview(self._body).toreadonly())
        if isinstance(found, Busy):
            self._heard = time.monotonic()
            self.busy(found)
        if isinstance(found, Aside | Busy):
            return True
        self._inbox.append(found)
        return False

    def _may_come(self) -> Sequence[type[Message]]:
        return (*self.accepts, Refused) if self._answers else self.accepts

    # --- waiting and ending ---

    def _wait(self, *, reading: bool, writing: bool) -> None:
        if reading and self._line.pending():
            return
        if not fd_ready(self._line.fileno(), _LOOK_SECONDS, reading=reading, writing=writing):
            self._refuse_dead()

    def _refuse_dead(self) -> None:
        """A system that is there answers, also for a program that does not read for a long time;
        keep-alive probes are not sent while bytes wait to be acknowledged.
        """
        told = self._line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_HEARD.stop)
        if int.from_bytes(told[_LAST_HEARD], sys.byteorder) > 1000 * _UNHEARD_SECONDS:
            raise LinkCutError(f"The line to {self.peer} is dead: no answer in time")

    def _refuse_stopped(self) -> None:
        if self._stop():
            raise StoppedError("The round was stopped", safe=LinkCutError.safe)

    def close(self) -> None:
        """Say that nothing more will come."""
        with suppress(OSError, ValueError):
            self._line.settimeout(1)
            self._line.unwrap()


@contextmanager
def _said(peer: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise
    except OSError as exc:
        raise _cut(exc, peer) from exc


def _refusal(found: Refused) -> MotionGearError:
    """The gate's refusal as the error it has a name for; the words are foreign."""
    known = {one.name: one for one in all_errors()}
    exc = known.get(found.name, MotionGearError)(
        f"The gate refuses: {found.what}", todo=found.todo
    )
    exc.later = found.again is Again.LATER
    return exc


def refusal_of(exc: MotionGearError) -> Refused:
    again = Again.AFTER_OPERATOR
    if isinstance(exc, _FOR_GOOD):
        again = Again.NEVER
    elif isinstance(exc, _FOR_NOW):
        again = Again.LATER
    return Refused(exc.code, exc.name, exc.what, exc.todo_now, again)
