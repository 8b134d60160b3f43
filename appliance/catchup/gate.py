"""The gate: listens, and serves each connection in a thread of its own. A refusal ends one
connection and touches no other.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.block import fd_ready
from appliance.catchup.desk import Desk, identity_of
from appliance.catchup.link import GREETING_SECONDS, Address, gate_context, tend
from appliance.catchup.points import MIN_AGE_SECONDS
from appliance.catchup.session import Session
from appliance.errors import MotionGearError, StateError, StoppedError
from appliance.events import Emit, Result, Step
from appliance.model import Stop, Target

__all__ = ["Gate", "identity_of"]

_LOOK_SECONDS = 0.25
_MOST_LINES = 128


class Gate:
    """Listens, and serves each connection until ``stop``."""

    def __init__(
        self,
        home: Path,
        target: Target,
        emit: Emit,
        stop: Stop,
        keep: int = 8,
        keep_seconds: float = MIN_AGE_SECONDS,
    ) -> None:
        self._desk = Desk(home, target, emit, keep, keep_seconds)
        self._emit, self._stop = emit, stop
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
                if not fd_ready(listener.fileno(), _LOOK_SECONDS):
                    continue
                try:
                    plain, peer = listener.accept()
                except OSError:  # whoever dialled has hung up, or descriptors are short
                    time.sleep(_LOOK_SECONDS)
                    continue
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
