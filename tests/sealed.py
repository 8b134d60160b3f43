"""A device's home and the sealed shipment that it has made, for stories at the console."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.model import ShipmentId
from appliance.orders import begin_shipment
from appliance.seal import keys
from appliance.state import ShipmentRow, State
from tests.media import Bench
from tests.support import OPERATOR
from tests.technician import PASSPHRASE, Shell, noise

LABEL = "h[/]4 \x1b[2J"  # foreign text, which steers nothing
SHOWN = r"h[/]4 \x1b[2J"


def make(place: Path) -> Path:
    """``home``, ``store`` and the key pair ``op`` below ``place``."""
    shell, store = Shell(place / "home"), place / "store"
    (place / "web.img").write_bytes(noise(3 << 20))
    keys.write_pair(OPERATOR, place / "op", PASSPHRASE, memory_kib=8192)
    shell.typed("shipment", "new", LABEL, "-s", store, "--recipient", place / "op.pub").fine()
    shell.typed("ingest", place / "web.img", "-s", store, "-m", "web01").fine()
    shell.typed("seal", "-s", store, "--waive", "a test").fine()
    return place


def copied(made: Path, bench: Bench) -> Path:
    """All of it anew, in memory: no disk of the machine's is told to discard."""
    place = bench.tmpfs(bench.place / "m", "160m")
    for one in ("home", "store"):
        shutil.copytree(made / one, place / one)
    for one in ("op", "op.pub"):
        shutil.copy(made / one, place / one)
    with State(place / "home") as state:
        (row,) = state.shipments()
        state.note_shipment(row.id, place / "store", row.label)
    return place


def unsealed(state: State, here: Path, label: str) -> ShipmentRow:
    """Another shipment, only begun."""
    store = begin_shipment(state, here / "begun", label, (keys.read_recipient(here / "op.pub"),))
    found = state.shipment(ShipmentId(store.head.shipment))
    assert found is not None
    return found


class Held:
    """A function that is let go on when a story says so."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._go = function, threading.Event()
        self.called = threading.Event()

    def __call__(self, *given: object, **named: object) -> Any:  # noqa: ANN401 - as the function
        self.called.set()
        assert self._go.wait(60)
        return self._function(*given, **named)

    def go(self) -> None:
        self._go.set()
