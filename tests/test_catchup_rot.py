"""A medium that rots under a replica, where the page cache still shows what was written."""

import os
from pathlib import Path

import pytest

from appliance.block import PAGE, physical_order
from appliance.errors import CheckFailedError
from appliance.events import Event
from appliance.jobs.checking import check_replicas
from appliance.jobs.desk import Desk
from appliance.jobs.spec import ReplicaCheckSpec
from appliance.model import JobId, VolumeState
from appliance.state import State
from tests.line import noise, part, two_ends
from tests.media import Bench, tool
from tests.support import BLOCK, MemoryDisk

SIZE = 24 * BLOCK


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount file systems.")
def test_the_check_reads_the_medium_and_the_next_round_mends_it(
    tmp_path: Path, bench: Bench
) -> None:
    image = bench.image(64 << 20, "medium.img")
    tool("mkfs.ext4", "-q", image)
    (tmp_path / "volumes").mkdir()
    bench.mount(bench.loop(image), tmp_path / "volumes")
    with two_ends(tmp_path) as ends, State(ends.gate_home) as state:
        data = noise(SIZE)
        about = ends.restored(data)
        machine, disk = ends.invite(), MemoryDisk(data)
        disk.data[:BLOCK] = noise(BLOCK)
        machine.round(part(disk, about))
        volume = Path(ends.held().info.location)
        at, _ = physical_order(volume)
        assert volume.read_bytes() == disk.data  # now in memory, and stays there
        with image.open("r+b") as medium:
            medium.seek(at + PAGE)
            assert medium.read(PAGE) == disk.data[PAGE : 2 * PAGE]
            medium.seek(at + PAGE)
            medium.write(b"rotten")
            os.fsync(medium.fileno())
        assert volume.read_bytes() == disk.data  # so says the cache
        told: list[Event] = []
        desk = Desk(JobId(1), ends.gate_home, state, told.append, lambda: False, None)
        spec = ReplicaCheckSpec("local", str(tmp_path / "volumes"), "web01")
        with pytest.raises(CheckFailedError, match=rf"block 0 \(bytes 0 to {BLOCK - 1}\)"):
            check_replicas(spec, desk)
        assert ends.held().info.state is VolumeState.BAD
        assert machine.round(part(disk, about)).blocks == 1
        check_replicas(spec, desk)
        assert ends.held().info.state is VolumeState.REPLICA
        with image.open("rb") as medium:
            medium.seek(at + PAGE)
            assert medium.read(PAGE) == disk.data[PAGE : 2 * PAGE]
