"""The line over loopback: only pinned keys are spoken to, every cut is told as one, and two ends
never wait for each other.
"""

import os
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import NoReturn, TypeVar, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.catchup import link, wire
from appliance.catchup.identity import LinkIdentity, certificate_for
from appliance.catchup.link import (
    ALPN,
    DEFAULT_PORT,
    Address,
    Channel,
    dial,
    gate_context,
    refusal_of,
    tend,
)
from appliance.catchup.wire import HEAD, Again
from appliance.errors import (
    BadInputError,
    LinkCutError,
    MotionGearError,
    NotEnrolledError,
    PointRefusedError,
    StateError,
    StoppedError,
    VolumeBusyError,
    WireViolationError,
    WrongPeerError,
    all_errors,
)
from appliance.model import Codec, Digest
from appliance.rate import Limit, Throttle
from appliance.seal.keys import fingerprint
from appliance.seal.text import grouped

T = TypeVar("T")
HELLO = wire.Hello(1, 1, "a test")
WELCOME = wire.Welcome(1, "web01", ())
MEGABYTE = wire.Patch(
    0, Codec.RAW, 1 << 20, Digest(bytes(32)), b"\1" * 16, (), os.urandom(1 << 20)
)
_PATIENCE = 30.0


@dataclass
class Ends:
    """Two keys, and a thread that plays the other end of a test."""

    gate: LinkIdentity
    sender: LinkIdentity
    place: Path
    pool: ThreadPoolExecutor

    def other(self, name: str) -> LinkIdentity:
        return LinkIdentity(self.place / name / "identity.pem")

    @contextmanager
    def served(self, talk: Callable[[socket.socket], T]) -> Iterator[tuple[Address, Future[T]]]:
        """One connection is taken, and ``talk`` has it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> T:
                plain, _ = listener.accept()
                with plain:
                    plain.settimeout(_PATIENCE)
                    return talk(plain)

            yield Address("127.0.0.1", listener.getsockname()[1]), self.pool.submit(serve)

    @contextmanager
    def gated(
        self, talk: Callable[[Channel], T], stop: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Address, Future[T]]]:
        """The same by a gate that knows the sender."""

        def greet(plain: socket.socket) -> T:
            with self.greeted(plain, self.sender.certificate) as line:
                channel = Channel(line, "the sender", stop)
                channel.wait_at_most(_PATIENCE)
                return talk(channel)

        with self.served(greet) as found:
            yield found

    def greeted(self, plain: socket.socket, *known: bytes) -> ssl.SSLSocket:
        return gate_context(self.gate, known).wrap_socket(plain, server_side=True)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    with ThreadPoolExecutor(1) as pool:
        gate, sender = (LinkIdentity(tmp_path / one / "identity.pem") for one in ("g", "s"))
        yield Ends(gate, sender, tmp_path, pool)


def greet(channel: Channel, after: Future[None] | None = None) -> wire.Welcome:
    """As a sender does; ``after`` the other end is done."""
    if after is not None:
        after.result(_PATIENCE)
    channel.send(HELLO)
    return channel.receive(wire.Welcome)


def go_on(
    channel: Channel, after: Future[None] | None = None, *accepts: type[wire.Message]
) -> NoReturn:
    """Send until something is in the way; ``after`` the other end is done."""
    channel.accepts = accepts or channel.accepts
    if after is not None:
        after.result(_PATIENCE)
    while True:
        channel.send(MEGABYTE)


def reset(line: socket.socket) -> None:
    """Close at once, without a word: the other end gets a reset."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


# --- who is spoken to --------------------


def test_two_ends_that_know_each_other_talk(ends: Ends) -> None:
    def talk(channel: Channel) -> tuple[wire.Hello, int]:
        hello = channel.receive(wire.Hello)
        channel.send(WELCOME)
        with pytest.raises(LinkCutError, match="the sender has closed the line"):
            channel.receive(wire.Point)
        return hello, channel.received

    with ends.gated(talk) as (address, heard):
        with dial(address, ends.gate.key, ends.sender) as channel:
            channel.send(HELLO)
            assert channel.receive(wire.Welcome) == WELCOME
            assert channel.sent == len(wire.encode(HELLO))
            assert channel.received == len(wire.encode(WELCOME))
            assert channel.fileno() > 0
        assert heard.result(_PATIENCE) == (HELLO, channel.sent)


def test_the_line_is_tls_1_3_and_shows_the_senders_key(ends: Ends) -> None:
    def talk(plain: socket.socket) -> tuple[str | None, str | None, bytes | None]:
        with ends.greeted(plain, ends.sender.certificate) as line:
            found = line.getpeercert(binary_form=True)
            return line.version(), line.selected_alpn_protocol(), found

    with ends.served(talk) as (address, heard):
        with dial(address, ends.gate.key, ends.sender):
            pass
        assert heard.result(_PATIENCE) == ("TLSv1.3", ALPN, ends.sender.certificate)


def test_who_has_yet_to_enrol_shows_no_certificate(ends: Ends) -> None:
    def talk(plain: socket.socket) -> bytes | None:
        with ends.greeted(plain, ends.sender.certificate) as line:
            return line.getpeercert(binary_form=True)

    with ends.served(talk) as (address, heard):
        with dial(address, ends.gate.key, None):
            pass
        assert heard.result(_PATIENCE) is None


@pytest.mark.parametrize("enrolled", [True, False])
def test_a_gate_with_another_key_hears_nothing(ends: Ends, *, enrolled: bool) -> None:
    def talk(plain: socket.socket) -> bytes:
        with ends.greeted(plain, ends.sender.certificate) as line:
            heard = b""
            with suppress(OSError):
                while data := line.recv(1 << 16):
                    heard += data
            return heard

    with ends.served(talk) as (address, heard):
        pinned, mine = ends.other("x").key, ends.sender if enrolled else None
        with (
            pytest.raises(WrongPeerError, match=ends.gate.fingerprint),
            dial(address, pinned, mine),
        ):
            raise AssertionError
        assert heard.result(_PATIENCE) == b""


def test_a_sender_that_is_not_known_is_told_so(ends: Ends) -> None:
    def talk(plain: socket.socket) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            ends.greeted(plain, ends.other("somebody").certificate)

    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(NotEnrolledError, match="does not know this machine's key"),
            dial(address, ends.gate.key, ends.sender) as channel,
        ):
            greet(channel)
        heard.result(_PATIENCE)


def test_it_is_told_so_also_when_it_goes_on_sending(ends: Ends) -> None:
    def talk(plain: socket.socket) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            ends.greeted(plain)

    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(NotEnrolledError),
            dial(address, ends.gate.key, ends.sender) as channel,
        ):
            go_on(channel, heard)
        heard.result(_PATIENCE)


def old_tls(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_a_gate_of_tls_1_2_is_refused(ends: Ends) -> None:
    def talk(plain: socket.socket) -> None:
        context = old_tls(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ends.gate.path)
        with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
            context.wrap_socket(plain, server_side=True)

    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(WireViolationError, match="PROTOCOL_VERSION"),
            dial(address, ends.gate.key, ends.sender),
        ):
            raise AssertionError
        heard.result(_PATIENCE)


def test_a_sender_of_tls_1_2_is_refused(ends: Ends) -> None:
    def talk(plain: socket.socket) -> None:
        with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
            ends.greeted(plain)

    with ends.served(talk) as (address, heard):
        there = (address.host, address.port)
        with (
            socket.create_connection(there, _PATIENCE) as plain,
            pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
        ):
            old_tls(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain)
        heard.result(_PATIENCE)


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", bytes(99)]
)
def test_who_does_not_speak_tls_is_told_from_a_line_that_was_cut(ends: Ends, words: bytes) -> None:
    def talk(plain: socket.socket) -> None:
        plain.recv(1 << 16)
        plain.sendall(words)

    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(WireViolationError, match=r"does not speak TLS 1\.3"),
            dial(address, ends.gate.key, ends.sender),
        ):
            raise AssertionError
        heard.result(_PATIENCE)


@pytest.mark.parametrize("spoken", [["h2"], []])
def test_a_server_of_another_protocol_is_refused(ends: Ends, spoken: list[str]) -> None:
    def talk(plain: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ends.gate.path)
        context.set_alpn_protocols(spoken)
        context.wrap_socket(plain, server_side=True).close()

    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(WireViolationError, match="does not speak motiongear/1"),
            dial(address, ends.gate.key, ends.sender),
        ):
            raise AssertionError
        heard.result(_PATIENCE)


# --- of a certificate only the key counts --------------------


def issued(
    key: Ed25519PrivateKey,
    name: str,
    years: tuple[int, int] = (1970, 9999),
    extensions: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
    for one in extensions:
        builder = builder.add_extension(one, critical=False)
    first, last = (datetime(one, 1, 1) for one in years)  # noqa: DTZ001 - X.509 has no zones
    return builder.not_valid_before(first).not_valid_after(last).sign(key, None)


def pem(key: Ed25519PrivateKey, certificate: x509.Certificate) -> bytes:
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + certificate.public_bytes(Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def shown(ends: Ends, file: bytes, known: Sequence[bytes]) -> bytes | None:
    """What a gate that knows these certificates sees of a sender with that file; none when it
    refuses it.
    """
    path = ends.place / "shown.pem"
    path.write_bytes(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(path)

    def talk(plain: socket.socket) -> bytes | None:
        try:
            with ends.greeted(plain, *known) as line:
                line.sendall(b"!")
                return line.getpeercert(binary_form=True)
        except ssl.SSLCertVerificationError:
            return None

    with ends.served(talk) as (address, heard):
        with (
            socket.create_connection((address.host, address.port), _PATIENCE) as plain,
            suppress(OSError),
            context.wrap_socket(plain) as line,
        ):
            line.recv(1)
        return heard.result(_PATIENCE)


def test_keys_under_one_name_are_told_apart(ends: Ends) -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(3)]
    certificates = [issued(one, "one name") for one in keys]
    known = [der(one) for one in certificates[:2]]
    seen = [shown(ends, pem(key, one), known) for key, one in zip(keys, certificates, strict=True)]
    assert seen == [*known, None]


@pytest.mark.parametrize("years", [(1971, 1972), (9998, 9999), (2020, 2021), (1950, 1960)])
def test_dates_are_not_looked_at(ends: Ends, years: tuple[int, int]) -> None:
    key = Ed25519PrivateKey.generate()
    certificate = issued(key, "a name", years)
    assert shown(ends, pem(key, certificate), [der(certificate)]) == der(certificate)


@pytest.mark.parametrize("ca", [True, False])
def test_usual_extensions_do_no_harm(ends: Ends, *, ca: bool) -> None:
    key = Ed25519PrivateKey.generate()
    more = (
        x509.BasicConstraints(ca=ca, path_length=None),
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
    )
    certificate = issued(key, "a name", extensions=more)
    assert shown(ends, pem(key, certificate), [der(certificate)]) == der(certificate)


def test_another_certificate_of_a_known_key_is_not_known(ends: Ends) -> None:
    key = Ed25519PrivateKey.generate()
    first, second = certificate_for(key), certificate_for(key)
    assert shown(ends, pem(key, second), [der(first)]) is None


def test_a_machine_cannot_vouch_for_another_key(ends: Ends) -> None:
    key, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    mine = issued(key, "a name", extensions=[x509.BasicConstraints(ca=True, path_length=None)])
    builder = x509.CertificateBuilder(
        mine.subject,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web01")]),
        stranger.public_key(),
        7,
        mine.not_valid_before_utc,
        mine.not_valid_after_utc,
    )
    theirs = builder.sign(key, None)
    seen = shown(ends, pem(stranger, theirs), [der(mine)])
    assert seen in {None, der(theirs)}  # who passes is looked up by the key shown, and not found
    assert seen != der(mine)


@pytest.mark.parametrize("years", [(1971, 1972), (9998, 9999)])
def test_a_gates_dates_are_not_looked_at(ends: Ends, years: tuple[int, int]) -> None:
    key = Ed25519PrivateKey.generate()
    name = grouped(fingerprint(key.public_key().public_bytes_raw()))
    path = ends.place / "gate.pem"
    path.write_bytes(pem(key, issued(key, name, years)))
    ends.gate = LinkIdentity(path)
    with (
        ends.gated(lambda channel: channel.receive(wire.Hello)) as (address, heard),
        dial(address, ends.gate.key, ends.sender) as channel,
    ):
        channel.send(HELLO)
        assert heard.result(_PATIENCE) == HELLO


# --- lines that are cut --------------------


def closes(plain: socket.socket) -> None:
    del plain


def closes_when_greeted(plain: socket.socket) -> None:
    plain.recv(1 << 16)


def closes_in_its_greeting(plain: socket.socket) -> None:
    plain.recv(1 << 16)
    plain.sendall(bytes.fromhex("160303007a020000760303"))


def resets(plain: socket.socket) -> None:
    plain.recv(1 << 16)
    reset(plain)


@pytest.mark.parametrize("talk", [closes, closes_when_greeted, closes_in_its_greeting, resets])
def test_a_peer_that_closes_before_it_has_greeted(
    ends: Ends, talk: Callable[[socket.socket], None]
) -> None:
    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(LinkCutError, match=str(address)),
            dial(address, ends.gate.key, ends.sender),
        ):
            raise AssertionError
        heard.result(_PATIENCE)


def test_nobody_listens(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
    with (
        pytest.raises(LinkCutError, match="Connection refused"),
        dial(address, ends.gate.key, None),
    ):
        raise AssertionError


def test_a_peer_that_never_greets_is_given_up(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.catchup.link.GREETING_SECONDS", 0.05)
    done = Event()
    with ends.served(lambda _: done.wait(_PATIENCE)) as (address, heard):
        with (
            pytest.raises(LinkCutError, match="is dead: no answer in time"),
            dial(address, ends.gate.key, ends.sender),
        ):
            raise AssertionError
        done.set()
        assert heard.result(_PATIENCE)


@pytest.mark.parametrize("how", ["closed", "told", "reset"])
@pytest.mark.parametrize("size", [0, 3, HEAD.size, HEAD.size + 5])
def test_a_peer_that_closes_in_a_frame(ends: Ends, size: int, how: str) -> None:
    def talk(plain: socket.socket) -> None:
        line = ends.greeted(plain, ends.sender.certificate)
        line.sendall(wire.encode(WELCOME)[:size])
        if how == "told":
            with line, suppress(ssl.SSLWantReadError):
                line.settimeout(0)  # the other end's answer is not waited for
                line.unwrap()
        elif how == "reset":
            reset(line)
        else:
            line.close()

    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(LinkCutError),
            dial(address, ends.gate.key, ends.sender) as channel,
        ):
            greet(channel, heard)
        heard.result(_PATIENCE)


def test_a_sender_that_closes_in_a_frame(ends: Ends) -> None:
    def talk(channel: Channel) -> None:
        with pytest.raises(LinkCutError):
            channel.receive(wire.Hello)

    with (
        ends.gated(talk) as (address, heard),
        dial(address, ends.gate.key, ends.sender) as channel,
    ):
        with socket.socket(fileno=os.dup(channel.fileno())) as plain:
            plain.shutdown(socket.SHUT_WR)
        heard.result(_PATIENCE)


def test_what_fails_beside_the_line_is_not_told_as_a_cut(ends: Ends) -> None:
    with ends.gated(lambda channel: channel.next) as (address, heard):
        with (
            pytest.raises(PermissionError, match="a disk"),
            dial(address, ends.gate.key, ends.sender),
        ):
            raise PermissionError("a disk")
        heard.result(_PATIENCE)


def test_a_refusal_is_heard_although_the_peer_has_closed(ends: Ends) -> None:
    def talk(channel: Channel) -> None:
        channel.send(refusal_of(PointRefusedError("Another round was begun", todo="Go on.")))

    with ends.gated(talk) as (address, heard):
        with (
            pytest.raises(PointRefusedError, match="The gate refuses: Another") as caught,
            dial(address, ends.gate.key, ends.sender) as channel,
        ):
            go_on(channel, heard)
        assert caught.value.todo_now == "Go on."


def test_a_key_that_cannot_be_read_is_not_told_as_a_cut(ends: Ends) -> None:
    """A cut is tried again; this would not get better."""
    with ends.served(lambda plain: plain.recv(1)) as (address, heard):
        identity = ends.sender
        identity.path.unlink()
        with (
            pytest.raises(StateError, match="cannot be used"),
            dial(address, ends.gate.key, identity),
        ):
            raise AssertionError
        socket.create_connection((address.host, address.port), _PATIENCE).close()
        assert heard.result(_PATIENCE) == b""


def test_what_was_said_before_a_cut_counts(ends: Ends) -> None:
    def talk(channel: Channel) -> None:
        for one in range(3):
            channel.send(wire.Whole(one))

    with (
        ends.gated(talk) as (address, heard),
        dial(address, ends.gate.key, ends.sender) as channel,
    ):
        heard.result(_PATIENCE)
        assert [channel.receive(wire.Whole).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LinkCutError):
            channel.receive(wire.Whole)


@pytest.mark.parametrize("error", all_errors(), ids=lambda one: one.name)
def test_every_refusal_arrives_as_the_error_it_is(
    ends: Ends, error: type[MotionGearError]
) -> None:
    with ends.gated(lambda channel: channel.send(refusal_of(error("Why\n")))) as (address, heard):
        with dial(address, ends.gate.key, ends.sender) as channel:
            heard.result(_PATIENCE)
            with pytest.raises(error, match=r"The gate refuses: Why\?") as caught:
                channel.receive(wire.Welcome)
        assert type(caught.value) is error
        assert caught.value.later is (error in {VolumeBusyError, StoppedError})


def test_what_is_refused_for_good_for_now_and_until_somebody_acts_is_told_apart() -> None:
    told = {one.name: refusal_of(one("No")).again for one in all_errors()}
    named = {again: {name for name in told if told[name] is again} for again in Again}
    assert named[Again.LATER] == {"volume-busy", "stopped"}
    assert named[Again.NEVER] == {
        "wire-violation", "point-refused", "other-shipment", "source-changed",
    }  # fmt: skip
    assert {"target-full", "not-enrolled", "state"} < named[Again.AFTER_OPERATOR]


def test_a_refusal_of_a_name_from_the_future_is_told(ends: Ends) -> None:
    said = wire.Refused(250, "from-the-future", "No", "")
    with ends.gated(lambda channel: channel.send(said)) as (address, heard):
        with dial(address, ends.gate.key, ends.sender) as channel:
            heard.result(_PATIENCE)
            with pytest.raises(MotionGearError, match="The gate refuses: No") as caught:
                channel.receive(wire.Welcome)
        assert type(caught.value) is MotionGearError


def test_a_gate_is_not_refused_by_a_sender(ends: Ends) -> None:
    def talk(channel: Channel) -> None:
        with pytest.raises(WireViolationError, match="Refused came where Hello belongs"):
            channel.receive(wire.Hello)

    with (
        ends.gated(talk) as (address, heard),
        dial(address, ends.gate.key, ends.sender) as channel,
    ):
        channel.send(refusal_of(PointRefusedError("No")))
        heard.result(_PATIENCE)


# --- waiting --------------------


@dataclass
class StoppedWhenStuck:
    """Says stop once it was asked often while nothing went over the line."""

    channel: Channel | None = None
    sent: int = 0
    asked: int = 0

    def __call__(self) -> bool:
        if self.channel is not None and self.channel.sent != self.sent:
            self.sent, self.asked = self.channel.sent, 0
        self.asked += 1
        return self.asked > 3


def send_for_ever(channel: Channel) -> int:
    """Bytes of memory that it takes."""
    tracemalloc.start()
    try:
        go_on(channel)
    except StoppedError:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_gate_that_stops_reading_costs_no_memory_and_the_sender_can_be_stopped(
    ends: Ends,
) -> None:
    done, stop = Event(), StoppedWhenStuck()
    with ends.gated(lambda _: done.wait(_PATIENCE)) as (address, heard):
        with dial(address, ends.gate.key, ends.sender, stop) as channel:
            stop.channel = channel
            assert send_for_ever(channel) < 8 << 20
            done.set()
        assert heard.result(_PATIENCE)


def test_a_sender_that_stops_reading_costs_no_memory_and_the_gate_can_be_stopped(
    ends: Ends,
) -> None:
    stop = StoppedWhenStuck()

    def talk(channel: Channel) -> int:
        stop.channel = channel
        return send_for_ever(channel)

    with (
        ends.gated(talk, stop) as (address, heard),
        dial(address, ends.gate.key, ends.sender),
    ):
        assert heard.result(_PATIENCE) < 8 << 20


def test_a_gate_that_says_more_than_it_was_asked_is_refused(ends: Ends) -> None:
    def talk(channel: Channel) -> None:
        with suppress(LinkCutError):
            for one in range(1 << 20):
                channel.send(wire.Whole(one))

    with ends.gated(talk) as (address, heard):
        with dial(address, ends.gate.key, ends.sender) as channel:
            channel.accepts = (wire.Whole,)
            with pytest.raises(WireViolationError, match="says more than it was asked"):
                go_on(channel)
        heard.result(_PATIENCE)


class Flood:
    """A line that never takes a byte, and always has a message."""

    def __init__(self) -> None:
        self._left = b""
        self.messages = 0

    def settimeout(self, seconds: float) -> None: ...

    def fileno(self) -> int:
        return 0

    def pending(self) -> int:
        return 1

    def send(self, data: memoryview) -> int:
        del data
        raise ssl.SSLWantWriteError

    def recv(self, size: int) -> bytes:
        self._left = self._left or self._next()
        found, self._left = self._left[:size], self._left[size:]
        return found

    def recv_into(self, buffer: memoryview) -> int:
        found = self.recv(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def _next(self) -> bytes:
        self.messages += 1
        return wire.encode(wire.Whole(self.messages))


def test_a_flood_is_refused_before_it_costs_memory() -> None:
    line = Flood()
    channel = Channel(cast("ssl.SSLSocket", line), "a gate", answers=True)
    channel.accepts = (wire.Whole,)
    with pytest.raises(WireViolationError, match="says more than it was asked"):
        channel.send(HELLO)
    assert line.messages <= 2 * wire.MOST_ASKED + 1


def test_who_is_flooded_can_be_stopped() -> None:
    line = Flood()
    stop = lambda: line.messages > 9  # noqa: E731
    channel = Channel(cast("ssl.SSLSocket", line), "a gate", stop, answers=True)
    channel.accepts = (wire.Whole,)
    with pytest.raises(StoppedError):
        channel.send(HELLO)


def test_who_waits_for_one_message_takes_one() -> None:
    line = Flood()
    channel = Channel(cast("ssl.SSLSocket", line), "a gate", answers=True)
    assert channel.receive(wire.Whole) == wire.Whole(1)
    assert line.messages == 1


@pytest.mark.parametrize("sending", [True, False])
def test_a_message_that_comes_when_another_is_waited_for_is_refused(*, sending: bool) -> None:
    """Also one that came before, and might have come then."""
    line = Flood()
    stop = lambda: line.messages > 9  # noqa: E731
    channel = Channel(cast("ssl.SSLSocket", line), "a gate", stop, answers=True)
    if sending:
        channel.accepts = (wire.Whole,)
        with pytest.raises(StoppedError):
            channel.send(HELLO)
    with pytest.raises(WireViolationError, match=r"DiskIs|out of turn"):
        channel.receive(wire.DiskIs)


def test_two_ends_that_both_send_much_do_not_wait_for_each_other(ends: Ends) -> None:
    until = time.monotonic() + _PATIENCE
    count = 32  # more than the two systems hold for us

    def talk(channel: Channel) -> int:
        for _ in range(count):
            channel.send(MEGABYTE)
        for _ in range(count):
            channel.receive(wire.Patch)
        return channel.received

    with ends.gated(talk, lambda: time.monotonic() > until) as (address, heard):
        stop = lambda: time.monotonic() > until  # noqa: E731
        with dial(address, ends.gate.key, ends.sender, stop) as channel:
            channel.accepts = (wire.Patch,)
            for _ in range(count):
                channel.send(MEGABYTE)
            for _ in range(count):
                assert channel.receive(wire.Patch).data == MEGABYTE.data
            assert heard.result(_PATIENCE) == channel.sent == channel.received


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(ends: Ends) -> None:
    done = Event()
    with ends.gated(lambda _: done.wait(_PATIENCE)) as (address, heard):
        with dial(address, ends.gate.key, ends.sender) as channel:
            channel.wait_at_most(0.0)
            with pytest.raises(LinkCutError, match="has not answered for 0 s"):
                channel.receive(wire.Welcome)
            done.set()
        assert heard.result(_PATIENCE)


# --- what may be said at any time --------------------


class Clock:
    """Time that passes when a frame comes."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Chatter(Flood):
    """A gate that says these things, a second each, over and over."""

    def __init__(self, clock: Clock, *said: bytes) -> None:
        super().__init__()
        self._clock, self._said = clock, said

    def _next(self) -> bytes:
        self._clock.now += 1
        self.messages += 1
        return self._said[(self.messages - 1) % len(self._said)]


class Late(Chatter):
    """A line on which these things have come once so many seconds have passed."""

    def __init__(self, clock: Clock, at: float, *said: bytes) -> None:
        super().__init__(clock, *said)
        self._at = at

    def recv(self, size: int) -> bytes:
        if self._clock.now < self._at:
            raise ssl.SSLWantReadError
        return super().recv(size)


def aside(kind: int, size: int = 3) -> bytes:
    return HEAD.pack(size, kind, bytes(3)) + bytes(size)


def listening(monkeypatch: pytest.MonkeyPatch, *said: bytes, answers: bool = True) -> Channel:
    clock = Clock()
    monkeypatch.setattr(link, "time", clock)
    line = cast("ssl.SSLSocket", Chatter(clock, *said))
    channel = Channel(line, "the other end", answers=answers)
    channel.wait_at_most(5.0)
    channel.greeted()
    return channel


def test_a_gate_that_is_busy_is_waited_for_and_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [wire.Busy(one, 50) for one in range(50)]
    done = wire.DiskIs(7, bytes(32))
    channel = listening(monkeypatch, *map(wire.encode, said), wire.encode(done))
    heard: list[wire.Busy] = []
    channel.busy = heard.append
    assert channel.receive(wire.DiskIs) == done
    assert heard == said


def test_what_is_skipped_is_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a flood of it does not hold up whoever waits."""
    channel = listening(monkeypatch, aside(97), aside(126, 1 << 16))
    with pytest.raises(LinkCutError, match="has not answered for 5 s"):
        channel.receive(wire.DiskIs)


@pytest.mark.parametrize(
    ("kinds", "answers"), [((97, 110, 126), True), ((32, 40, 63), False)], ids=["gate", "sender"]
)
def test_a_frame_of_a_later_version_is_skipped(
    monkeypatch: pytest.MonkeyPatch, kinds: Sequence[int], *, answers: bool
) -> None:
    known = wire.Whole(3) if answers else wire.EndPoint()
    frames = [aside(kinds[0]), aside(kinds[1], 0), aside(kinds[2]), wire.encode(known)]
    channel = listening(monkeypatch, *frames, answers=answers)
    assert channel.receive(type(known)) == known


@pytest.mark.parametrize(("kind", "answers"), [(32, True), (63, True), (96, False), (126, False)])
def test_what_the_other_end_may_skip_is_not_said_to_it(
    monkeypatch: pytest.MonkeyPatch, kind: int, *, answers: bool
) -> None:
    channel = listening(monkeypatch, aside(kind, 0), answers=answers)
    with pytest.raises(WireViolationError):
        channel.receive(wire.Whole)


@pytest.mark.parametrize("busy", [(), (wire.encode(wire.Busy(0, 0)),)])
def test_who_has_rested_for_long_still_hears_what_has_come_meanwhile(
    monkeypatch: pytest.MonkeyPatch, busy: tuple[bytes, ...]
) -> None:
    """A job that pauses does not come back from its stop flag."""
    clock, rested = Clock(), list[float]()
    monkeypatch.setattr(link, "time", clock)

    def rest() -> bool:
        if not rested:
            clock.now += 3600
            rested.append(clock.now)
        return False

    line = Late(clock, 3600, *busy, wire.encode(wire.DiskIs(7, bytes(32))))
    channel = Channel(cast("ssl.SSLSocket", line), "the gate", rest, answers=True)
    channel.greeted()
    assert channel.receive(wire.DiskIs).point == 7
    assert rested


def test_a_gate_may_say_that_it_is_at_work_before_it_welcomes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long as that takes."""
    clock = Clock()
    monkeypatch.setattr(link, "time", clock)
    said = [wire.encode(wire.Busy(0, 0))] * 9
    line = cast("ssl.SSLSocket", Chatter(clock, *said, wire.encode(WELCOME)))
    channel = Channel(line, "the gate", answers=True)
    channel.wait_at_most(5.0)
    assert channel.receive(wire.Welcome) == WELCOME


@pytest.mark.parametrize(("kind", "answers"), [(95, True), (97, True), (40, False), (96, False)])
def test_before_the_welcome_nothing_else_is_skipped(kind: int, *, answers: bool) -> None:
    line = cast("ssl.SSLSocket", Chatter(Clock(), aside(kind, 0)))
    channel = Channel(line, "the other end", answers=answers)
    with pytest.raises(WireViolationError):
        channel.receive(wire.Welcome)


def test_who_is_at_work_says_how_far_it_is_and_then_answers(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_BUSY_SECONDS", 0.01)
    heard, enough = list[wire.Busy](), Event()

    def listen(busy: wire.Busy) -> None:
        heard.append(busy)
        if len(heard) > 3:
            enough.set()

    def talk(channel: Channel) -> None:
        channel.receive(wire.Hello)
        with channel.at_work(lambda: wire.Busy(len(heard), 99)):
            assert enough.wait(_PATIENCE)
        channel.send(WELCOME)

    with ends.gated(talk) as (address, done):
        with dial(address, ends.gate.key, ends.sender) as channel:
            channel.greeted()
            channel.busy = listen
            channel.send(HELLO)
            assert channel.receive(wire.Welcome) == WELCOME
        done.result(_PATIENCE)
    assert heard[0] == wire.Busy(0, 99)
    assert heard[-1].done > 0


def test_who_is_at_work_goes_on_when_nobody_hears_it(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does may be of use to whoever dials next."""
    monkeypatch.setattr(link, "_BUSY_SECONDS", 0.0)
    working, given_up = Event(), Event()

    def told() -> wire.Busy:
        working.set()
        return wire.Busy(0, 0)

    def talk(channel: Channel) -> str:
        channel.receive(wire.Hello)
        with channel.at_work(told):
            assert working.wait(_PATIENCE)
            for one in threading.enumerate():
                if one.name.startswith("busy for"):  # else it has given up by now
                    one.join(_PATIENCE)
                    assert not one.is_alive()
            given_up.set()
        return "done"

    with ends.gated(talk) as (address, heard):
        with dial(address, ends.gate.key, ends.sender) as channel:
            channel.send(HELLO)
            assert working.wait(_PATIENCE)
            assert not given_up.is_set()
            reset(channel._line)  # noqa: SLF001 - a line that is cut
        assert heard.result(_PATIENCE) == "done"
        assert given_up.is_set()


def test_who_waits_for_an_answer_can_be_stopped(ends: Ends) -> None:
    done = Event()
    with ends.gated(lambda _: done.wait(_PATIENCE)) as (address, heard):
        with dial(address, ends.gate.key, ends.sender, lambda: True) as channel:
            assert channel.poll() is None
            with pytest.raises(StoppedError) as caught:
                channel.receive(wire.Welcome)
            done.set()
        assert heard.result(_PATIENCE)
    assert "acknowledged" in caught.value.safe_now


@dataclass
class Scale(Throttle):
    """A throttle that only notes what passes."""

    taken: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def take(self, size: int, stop: Callable[[], bool]) -> bool:
        self.taken.append(size)
        return super().take(size, stop)


def test_every_byte_that_is_sent_passes_the_throttle(ends: Ends) -> None:
    scale = Scale()
    said = (HELLO, wire.Whole(1), MEGABYTE)

    def talk(channel: Channel) -> list[wire.Message]:
        return [channel.receive(type(one)) for one in said]

    with (
        ends.gated(talk) as (address, heard),
        dial(address, ends.gate.key, ends.sender, throttle=scale) as channel,
    ):
        for one in said:
            channel.send(one)
        assert len(heard.result(_PATIENCE)) == 3
    assert scale.taken == [len(wire.encode(one)) for one in said]


def test_who_waits_for_the_throttle_can_be_stopped_and_sends_nothing(ends: Ends) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    throttle = Throttle([Limit(0)], sleep=lambda _: None)
    with ends.gated(lambda channel: channel.next) as (address, heard):
        with dial(address, ends.gate.key, ends.sender, stop, throttle) as channel:
            with pytest.raises(StoppedError):
                channel.send(HELLO)
            assert channel.sent == 0
        heard.result(_PATIENCE)


def test_an_idle_line_notices_within_a_minute_that_the_other_end_is_gone() -> None:
    with socket.socket() as plain:
        tend(plain)
        told = [
            plain.getsockopt(socket.IPPROTO_TCP, one)
            for one in (socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
        ]
        probes = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert told[0] == plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert told[1] + probes * told[2] == 60


def test_the_system_does_not_end_a_line_whose_other_end_is_there_and_slow() -> None:
    """TCP_USER_TIMEOUT counts a full window as an end that is gone."""
    with socket.socket() as plain:
        tend(plain)
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


@pytest.mark.parametrize("reads", [True, False])
def test_a_line_on_which_nothing_is_acknowledged_any_more_is_dead(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, *, reads: bool
) -> None:
    monkeypatch.setattr(link, "_UNHEARD_SECONDS", -1.0)
    done = Event()
    with ends.gated(lambda _: done.wait(_PATIENCE)) as (address, heard):
        with dial(address, ends.gate.key, ends.sender) as channel:
            with pytest.raises(LinkCutError, match="dead: no answer in time"):
                _ = channel.receive(wire.Welcome) if reads else go_on(channel)
            done.set()
        assert heard.result(_PATIENCE)


# --- addresses --------------------


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("gate", "gate", DEFAULT_PORT),
        ("gate.example:7443", "gate.example", 7443),
        ("10.0.0.7", "10.0.0.7", DEFAULT_PORT),
        ("10.0.0.7:0", "10.0.0.7", 0),
        ("10.0.0.7:65535", "10.0.0.7", 65535),
        ("::1", "::1", DEFAULT_PORT),
        ("[::1]", "::1", DEFAULT_PORT),
        ("[::1]:80", "::1", 80),
        ("[2001:DB8:0::7]:7443", "2001:db8::7", 7443),
        ("fe80::1%eth0", "fe80::1%eth0", DEFAULT_PORT),
        ("b\u00fccher.example", "b\u00fccher.example", DEFAULT_PORT),
    ],
)
def test_an_address_is_read(given: str, host: str, port: int) -> None:
    found = Address.parse(given)
    assert (found.host, found.port) == (host, port)
    assert Address.parse(str(found)) == found


@pytest.mark.parametrize(
    "nonsense",
    [
        "", ":", ":7443", "gate:", "gate:x", "gate:-1", "gate:65536", "gate:1 ", "gate:\u0661",
        "gate:" + "1" * 5000, "a b", "gate\n", "gate\0", "[gate]:1", "[]:1", "[::1", "::1]",
        "[::1]7443", "[::1]:", "[::1]:x", "1:2:3", ":::", "a..b", ".a", "x" * 64, "http://gate",
    ],
)  # fmt: skip
def test_nonsense_is_no_address(nonsense: str) -> None:
    with pytest.raises(BadInputError, match="is no address"):
        Address.parse(nonsense)


@given(st.text(st.sampled_from("a1:.[]%/ \0\u00fc"), max_size=12) | st.text(max_size=8))
def test_any_text_is_an_address_or_refused_by_name(given_text: str) -> None:
    try:
        found = Address.parse(given_text)
    except BadInputError:
        return
    assert Address.parse(str(found)) == found


def test_a_cut_is_told_as_one_whatever_came_before_it(ends: Ends) -> None:
    """A sender tries again after a cut, and gives up after a violation."""

    def talk(plain: socket.socket) -> None:
        line = ends.greeted(plain, ends.sender.certificate)
        line.sendall(wire.encode(WELCOME))
        reset(line)

    with ends.served(talk) as (address, heard):
        with (
            pytest.raises(LinkCutError),
            dial(address, ends.gate.key, ends.sender) as channel,
        ):
            go_on(channel, heard)
        heard.result(_PATIENCE)


def test_a_refusal_is_heard_behind_what_was_said_before(ends: Ends) -> None:
    def talk(channel: Channel) -> None:
        channel.send(wire.Whole(1))
        channel.send(refusal_of(PointRefusedError("No")))

    with ends.gated(talk) as (address, heard):
        with (
            pytest.raises(PointRefusedError),
            dial(address, ends.gate.key, ends.sender) as channel,
        ):
            go_on(channel, heard, wire.Whole)
        heard.result(_PATIENCE)


def test_a_message_may_be_empty(ends: Ends) -> None:
    said = (wire.EndPoint(), wire.EndPoint(), wire.Ask((1,)))

    def talk(channel: Channel) -> list[wire.Message]:
        return [channel.receive(type(one)) for one in said]

    with (
        ends.gated(talk) as (address, heard),
        dial(address, ends.gate.key, ends.sender) as channel,
    ):
        for one in said:
            channel.send(one)
        assert heard.result(_PATIENCE) == list(said)


class Renewing:
    """A TLS line whose other end renews its keys: it must be read before it can be written."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain, self.waiting = plain, 3

    def settimeout(self, seconds: float) -> None:
        self._plain.settimeout(seconds)

    def fileno(self) -> int:
        raise AssertionError("what is there already is not waited for")

    def pending(self) -> int:
        self.waiting -= 1
        return 1

    def send(self, data: memoryview) -> int:
        if self.waiting:
            raise ssl.SSLWantReadError
        return self._plain.send(data)


def test_a_line_that_must_be_read_first_is_written_after() -> None:
    one, other = socket.socketpair()
    with one, other:
        channel = Channel(cast("ssl.SSLSocket", Renewing(one)), "a gate")
        channel.send(HELLO)
        assert other.recv(1 << 16) == wire.encode(HELLO)
