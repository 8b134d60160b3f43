"""A volatile disk, as tests have it: a mounted file system whose power can be cut.

    with Disk(tmp_path / "d") as disk:
        ...                          # programs work below disk.path
        disk.cut_after(1234)         # or: at any moment disk.cut(seed)
        until(lambda: disk.dead)     # now every call fails with EIO: kill the programs
        disk.cut(seed)               # what such a cut leaves is mounted again at disk.path
        ...                          # resume, compare

What lies in ``disk.tree`` before it is started is durable. The rules are in ``medium``, the
faults in ``faults``. Everything goes by seeds: the same operations and the same seed leave the
same disk.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.disks.faults import Fault
from tests.disks.medium import Left

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Status:
    """``operations`` that could have changed something since it was mounted, the ``last`` of
    them; ``met`` is how often a fault was met.
    """

    operations: int
    dead: bool
    last: str
    met: int


class Disk:
    """A disk in the directory ``place``, which it makes: ``place/disk`` is where it is mounted."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.tree, self.path = place / "tree", place / "disk"
        self._log = place / "log"
        for one in (self.tree, self.path):
            one.mkdir(parents=True, exist_ok=True)
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Mount it. What is in the tree now is durable."""
        with self._log.open("w") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.disks.server", str(self.place)],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.status()
        while not os.path.ismount(self.path):
            assert self._server.poll() is None, "the file system has ended"

    def stop(self) -> None:
        """Unmount it. What was not synced is in the tree all the same: this is no power cut."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.stdin.close()  # type: ignore[union-attr]
        server.stdout.close()  # type: ignore[union-attr]
        server.wait()
        assert "Traceback" not in self._log.read_text(), self._log.read_text()

    def _ask(self, do: str, **more: object) -> dict[str, Any]:
        assert self._server is not None, "it is not mounted"
        self._server.stdin.write(json.dumps({"do": do, **more}) + "\n")  # type: ignore[union-attr]
        self._server.stdin.flush()  # type: ignore[union-attr]
        said = json.loads(self._server.stdout.readline())  # type: ignore[union-attr]
        assert "failed" not in said, said["failed"]
        return dict(said)

    def status(self) -> Status:
        return Status(**self._ask("status"))

    @property
    def dead(self) -> bool:
        return self.status().dead

    def cut_after(self, operations: int) -> None:
        """From now on so many operations are done, and nothing after them."""
        self._ask("cut after", operations=operations)

    def cut(self, seed: int) -> Left:
        """Cut the power now, if that has not happened yet, and mount what it leaves. Whoever has
        files open on the disk gets EIO for ever; it is the caller who ends them.
        """
        left = Left(**self._ask("cut", seed=seed))
        self.stop()
        shutil.rmtree(self.tree)
        (self.place / "left").rename(self.tree)
        self.start()
        return left

    def settle(self) -> None:
        """Everything that was written is durable now, as after sync(1)."""
        self._ask("settle")

    def inject(self, fault: Fault) -> None:
        """Switch a fault on."""
        self._ask("inject", **fault.as_dict())

    def heal(self) -> None:
        """Switch all faults off."""
        self._ask("heal")
