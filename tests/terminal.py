"""A real terminal: tmux holds it, keys and mouse go in as bytes, what is shown is read back."""

import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Terminal:
    """One pane of a tmux server of its own."""

    socket: Path

    def _tmux(self, *args: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), "-f", "/dev/null", *args],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    @property
    def text(self) -> str:
        """What stands on the screen, lines that were folded in one."""
        return self._tmux("capture-pane", "-p")

    def shows(self, *texts: str) -> None:
        """Wait until all of each is there, wherever lines are folded."""
        for one in texts:
            wanted, end = "".join(one.split()), time.monotonic() + _PATIENCE_SECONDS
            while wanted not in "".join(self.text.split()):
                assert time.monotonic() < end, f"{one!r} never came to be:\n{self.text}"
                time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, Tab, F3, Escape."""
        for one in keys:
            self._tmux("send-keys", one)
            time.sleep(0.05)  # an Escape and what follows it at once are another key

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def click(self, text: str) -> None:
        """Press and let go of the left button where a text stands, as SGR reports it."""
        self._click_beside(text, 1)

    def fill(self, field: str, text: str, *, secret: bool = False) -> None:
        """Click into the field of that name, and type."""
        self._click_beside(field, 22)
        self.type(text)
        self.shows("*" * len(text) if secret else text[-20:])  # it is scrolled to its end

    def _click_beside(self, text: str, cells: int) -> None:
        self.shows(text)
        lines = self.text.split("\n")
        row = next(number for number, one in enumerate(lines) if text in one)
        column = len(lines[row].partition(text)[0]) + cells + 1
        for end in "Mm":
            self._tmux("send-keys", "-l", f"\x1b[<0;{column};{row + 1}{end}")

    @property
    def pid(self) -> int:
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))

    @property
    def is_over(self) -> bool:
        return self._tmux("display-message", "-p", "#{pane_dead}").strip() == "1"


@contextmanager
def terminal(
    place: Path, command: list[str], environ: Mapping[str, str], size: tuple[int, int] = (80, 24)
) -> Iterator[Terminal]:
    """``command`` at a terminal of that size; the server ends with it."""
    found = Terminal(place / "tmux")
    named = [f"{name}={value}" for name, value in environ.items()]
    line = shlex.join(["env", *named, "TERM=tmux-256color", *command])
    columns, lines = map(str, size)
    found._tmux(  # noqa: SLF001 - its own
        "new-session", "-d", "-x", columns, "-y", lines, line, ";", "set", "remain-on-exit", "on"
    )
    try:
        yield found
    finally:
        subprocess.run(
            ["tmux", "-S", str(found.socket), "kill-server"], check=False, capture_output=True
        )
