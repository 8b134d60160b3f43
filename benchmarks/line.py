"""The line: a gate at work, a relay that counts what passes, and a machine that is enrolled."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.measure import Command, FailedRunError, prepare
from benchmarks.motiongear import MotionGear
from benchmarks.warden import descendants

_PIECE = 1 << 18
_MOST_THREADS = 64  # two a connection; a round has one a disk


class Relay:
    """Hands connections on to ``port`` and counts their bytes, both ways."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._count = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = ThreadPoolExecutor(_MOST_THREADS)
        self._threads.submit(self._serve)

    def taken(self) -> int:
        """Bytes since the last time this was asked."""
        with self._lock:
            found, self._count = self._count, 0
        return found

    def close(self) -> None:
        """Ends when the connections have ended; no new one is taken."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads.shutdown()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # close() has ended it
            while True:
                near, _ = self._listener.accept()
                self._threads.submit(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._port)) as far:
            back = self._threads.submit(self._pump, far, near)
            self._pump(near, far)
            back.result()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        buffer = bytearray(_PIECE)
        with suppress(OSError):  # who resets a connection has ended it too
            while got := one.recv_into(buffer):
                other.sendall(memoryview(buffer)[:got])
                with self._lock:
                    self._count += got
            other.shutdown(socket.SHUT_WR)


@contextmanager
def gate(product: MotionGear, place: Path) -> Iterator[int]:
    """A gate that takes rounds into replicas at ``place``; yields its port."""
    where = ("--to", place, "--listen", "127.0.0.1:0", "--json")
    serve = product.command("gate", "serve", *where, home="gate")
    with subprocess.Popen(
        serve.argv, env={**os.environ, **serve.env}, stdout=subprocess.PIPE, text=True
    ) as console:
        try:
            yield _listening(console)
        finally:
            for one in list(descendants(console.pid)):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGTERM)
            console.communicate()


def _listening(console: "subprocess.Popen[str]") -> int:
    assert console.stdout is not None
    for line in console.stdout:
        told = json.loads(line)
        if told.get("step") == "listen":
            return int(str(told["detail"]).rpartition(":")[2])
    raise FailedRunError("The gate did not come up")


@contextmanager
def enrolled(product: MotionGear, place: Path) -> Iterator[Relay]:
    """A machine that a gate knows, with a counting relay between them."""
    with ExitStack() as held:
        relay = Relay(held.enter_context(gate(product, place)))
        held.callback(relay.close)
        invite = ("gate", "invite", "-m", "web01", "--new-disks", "--json")
        code = json.loads(prepare(product.command(*invite, home="gate")))["code"]
        written = product.place / "code"
        written.write_text(f"{code}\n")
        enrol = product.command("enrol", "--gate", address(relay), "--code-fd", 0, home="machine")
        prepare(Command(enrol.argv, enrol.env, written))
        yield relay


def address(relay: Relay) -> str:
    return f"127.0.0.1:{relay.port}"


def catch_up(product: MotionGear, relay: Relay, image: Path, *, new: bool = False) -> Command:
    """One round; ``new`` is the first, onto an empty volume."""
    disk = f"{image}=new" if new else image
    where = ("--gate", address(relay), "--disk", disk, "--rounds", 1, "--json")
    return product.command("catch-up", *where, home="machine")
