"""The last round of a machine that goes on living: two mounted disks, written to all the time,
frozen to one point.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.catchup.pairing import as_replica, new_replica
from appliance.catchup.rounds import Part
from appliance.catchup.wire import Form
from appliance.errors import FreezeLostError
from appliance.ingest.live import LiveDisks
from appliance.model import DiskId
from tests.line import TwoEnds, two_ends
from tests.media import Bench, tool
from tests.support import BLOCK
from tests.technician import until

MIB = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount and freeze.")


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


class Writer:
    """Writes a file anew and syncs it, over and over."""

    def __init__(self, place: Path) -> None:
        self._place, self._ended = place, threading.Event()
        self.turns = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            with (self._place / f"file-{self.turns % 7}").open("wb") as file:
                file.write(os.urandom(BLOCK))
                os.fsync(file.fileno())
            self.turns += 1

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


class Server:
    """A machine with an ext4 and an XFS disk, mounted and in use."""

    def __init__(self, bench: Bench) -> None:
        self.nodes, self.images, self.writers = list[str](), list[Path](), list[Writer]()
        for kind, size in (("ext4", 48 * MIB), ("xfs", 320 * MIB)):
            image = bench.image(size, f"{kind}.img")
            tool(f"mkfs.{kind}", "-q", image)
            node = bench.loop(image)
            place = bench.mount(node, bench.place / kind)
            self.nodes.append(str(node))
            self.images.append(image)
            self.writers.append(Writer(place))

    def close(self) -> None:
        for one in self.writers:
            one.close()

    def busy(self, turns: int = 3) -> None:
        """Until every writer has done some more."""
        for one in self.writers:
            until(lambda one=one, now=one.turns: one.turns >= now + turns)  # type: ignore[misc]


@pytest.fixture
def server(bench: Bench) -> Iterator[Server]:
    with ExitStack() as closing:
        found = Server(bench)
        closing.callback(found.close)
        yield found


def parts(source: LiveDisks, server: Server, held: ExitStack) -> list[Part]:
    found = []
    for place, node in enumerate(server.nodes):
        disk = held.enter_context(source.open(node))
        like = replace(new_replica(disk.facts, DiskId(f"{place}1" * 16)), block_size=16 * BLOCK)
        found.append(Part(disk, as_replica(disk.facts, like)))
    return found


def test_what_is_frozen_arrives_byte_for_byte_while_the_server_goes_on_after(
    ends: TwoEnds, server: Server, tmp_path: Path
) -> None:
    machine, source = ends.invite(new_disks=True), LiveDisks([tmp_path])
    copies = [tmp_path / f"copy-{place}" for place in range(2)]
    with ExitStack() as held:
        disks = parts(source, server, held)
        server.busy()
        assert not machine.round(*disks).kept  # read while it was written to
        with ExitStack() as still:
            frozen = still.enter_context(source.freeze(server.nodes, 60))
            assert (frozen.loose, frozen.idle) == ((), ())
            before = [one.turns for one in server.writers]

            def settled() -> None:
                # The files behind the disks: a buffered read of a device may be stale.
                for image, copy in zip(server.images, copies, strict=True):
                    shutil.copyfile(image, copy)
                stood = [one.turns for one in server.writers]
                assert all(b <= a + 1 for a, b in zip(before, stood, strict=True))
                still.close()

            told = machine.round(*disks, form=Form.QUIESCED, settled=settled)
        assert told.kept
        server.busy()
    for part, copy in zip(disks, copies, strict=True):
        assert ends.content(part.about.disk) == copy.read_bytes()
    (whole,) = [
        Path(one.location) for one in ends.target.snapshots() if one.spec.volume.size < 64 * MIB
    ]
    tool("e2fsck", "-fn", whole)  # at rest, ext4 needs no journal


def test_a_freeze_that_was_lost_makes_no_point(ends: TwoEnds, server: Server) -> None:
    machine, source = ends.invite(new_disks=True), LiveDisks([])
    with ExitStack() as held:
        disks = parts(source, server, held)
        machine.round(*disks)
        with ExitStack() as still:
            still.enter_context(source.freeze(server.nodes, 0.2))
            server.busy()  # the watchdog has thawed
            with pytest.raises(FreezeLostError):
                machine.round(*disks, form=Form.QUIESCED, settled=still.close)
    assert list(ends.target.snapshots()) == []
