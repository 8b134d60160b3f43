"""What may take a while is done off the screen's thread, by threads that keep no console that is
left: it ends at once, whatever a disk does.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from textual.app import App
from textual.dom import DOMNode
from textual.message import Message

from appliance.errors import MotionGearError

T = TypeVar("T")
# Shorter than that nobody waits; a sign that stands for less than the other only flickers.
_A_WHILE_SECONDS, _SIGN_SECONDS = 0.1, 1.0


class Done(Message):
    """Something is done; ``then`` goes on with it on the screen's thread."""

    bubble = False

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self.then = then


def post(app: "App[Any]", then: Callable[[], None]) -> None:
    """Have ``then`` called on the screen's thread, from any other; not where the console was left
    meanwhile.
    """
    with suppress(RuntimeError):
        app.post_message(Done(then))


def in_background(
    node: DOMNode,
    work: Callable[[], T],
    then: Callable[[T], None],
    refused: Callable[[MotionGearError], None],
    sign: Callable[[], None] | None = None,
) -> None:
    """``work``, which touches no widget; then ``then`` or ``refused`` with what came of it, or
    neither where ``node`` is gone by then. Any other error ends the console, as on its own thread.

    Where it takes a while ``sign`` is called, and what it has shown stays long enough to be read.
    """
    found: Future[T] = Future()
    shown: list[float] = []

    def show() -> None:
        if sign is not None and not found.done():
            shown.append(time.monotonic())
            sign()

    if sign is not None:
        node.set_timer(_A_WHILE_SECONDS, show)

    def whole() -> None:
        try:
            found.set_result(work())
        except Exception as exc:  # noqa: BLE001 - raised where the result is asked for
            found.set_exception(exc)
        post(app, partial(_read, node, shown, partial(_go_on, node, found, then, refused)))

    app = node.app  # asked for on the screen's thread: another does not know it
    threading.Thread(target=whole, daemon=True).start()


def _read(node: DOMNode, shown: list[float], then: Callable[[], None]) -> None:
    """``then``, once a sign that was shown has stood for its time."""
    left = shown[0] + _SIGN_SECONDS - time.monotonic() if shown else 0.0
    if left > 0 and node.is_attached:
        node.set_timer(left, then)
    else:
        then()


def _go_on(
    node: DOMNode,
    found: "Future[T]",
    then: Callable[[T], None],
    refused: Callable[[MotionGearError], None],
) -> None:
    if not node.is_attached:
        return
    try:
        result = found.result()
    except MotionGearError as exc:
        refused(exc)
    else:
        then(result)
