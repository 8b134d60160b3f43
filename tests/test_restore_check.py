"""Check: every block read back; what is wrong is named by block and byte."""

from pathlib import Path

import pytest

from appliance.errors import CheckFailedError, StoppedError, TargetWriteError
from appliance.events import Event, Progress, silent
from appliance.model import DiskId
from appliance.restore.check import Check, Checked, byte_ranges, refuse_wrong
from appliance.seal.cut import digest
from appliance.seal.manifest import Manifest, State
from tests.support import BLOCK, sample_bytes
from tests.targets import MemoryVolume
from tests.technician import disk_id, noise

DISK = DiskId(disk_id("web01"))


def manifest_of(data: bytes) -> Manifest:
    made = Manifest(DISK, 0, BLOCK, len(data))
    for index in range(made.blocks):
        piece = data[index * BLOCK : (index + 1) * BLOCK]
        made.set(index, digest(piece), State.DATA)
    return made


def check(data: bytes, held: bytes) -> Checked:
    volume = MemoryVolume(bytearray(held))
    return Check(volume, manifest_of(data), silent, lambda: False).run()


def test_a_volume_that_holds_the_disk_is_right() -> None:
    data = sample_bytes()
    told: list[Event] = []
    volume, manifest = MemoryVolume(bytearray(data)), manifest_of(data)
    checked = Check(volume, manifest, told.append, lambda: False).run()
    assert checked == Checked(9, ())
    refuse_wrong(checked, manifest, "web01")
    assert told[-1] == Progress("check", len(data), len(data))


def test_wrong_blocks_are_named_in_runs() -> None:
    data = noise(70 * BLOCK) + b"tail"
    held = bytearray(data)
    for at in (BLOCK, 3 * BLOCK - 1, 63 * BLOCK, 64 * BLOCK, len(data) - 1):
        held[at] ^= 1
    checked = check(data, bytes(held))
    assert checked.wrong == ((1, 2), (63, 2), (70, 1))
    manifest = manifest_of(data)
    assert list(byte_ranges(checked, manifest)) == [
        (BLOCK, 3 * BLOCK - 1),
        (63 * BLOCK, 65 * BLOCK - 1),
        (70 * BLOCK, 70 * BLOCK + 3),
    ]
    with pytest.raises(CheckFailedError) as refused:
        refuse_wrong(checked, manifest, "web01")
    assert refused.value.what == (
        f"Volume web01 differs from disk {DISK}: block 1 to 2 (bytes 65536 to 196607), "
        "block 63 to 64 (bytes 4128768 to 4259839), block 70 (bytes 4587520 to 4587523)"
    )


def test_of_many_wrong_runs_twenty_are_named_and_the_rest_counted() -> None:
    data = bytes(50 * BLOCK)
    held = bytearray(data)
    held[:: 2 * BLOCK] = b"x" * 25
    with pytest.raises(CheckFailedError) as refused:
        refuse_wrong(check(data, bytes(held)), manifest_of(data), "web01")
    assert refused.value.what.count("block ") == 20
    assert refused.value.what.endswith(" and 5 more runs")


def test_what_cannot_be_read_is_wrong() -> None:
    data = noise(5 * BLOCK)
    assert check(data, data[: 3 * BLOCK + 1]).wrong == ((3, 2),)

    class Failing(MemoryVolume):
        def pread(self, offset: int, buffer: memoryview) -> None:
            if offset == BLOCK:
                raise TargetWriteError("It cannot be read")
            super().pread(offset, buffer)

    volume = Failing(bytearray(data))
    assert Check(volume, manifest_of(data), silent, lambda: False).run().wrong == ((1, 1),)


def test_a_check_can_be_stopped() -> None:
    data = sample_bytes()
    volume = MemoryVolume(bytearray(data))
    with pytest.raises(StoppedError) as stopped:
        Check(volume, manifest_of(data), silent, lambda: True).run()
    assert stopped.value.safe_now == "The volume is as it was."
    assert bytes(volume.data) == data


def test_a_manifest_that_was_saved_checks_the_same(tmp_path: Path) -> None:
    data = sample_bytes()
    manifest_of(data).save(tmp_path / "one.manifest")
    loaded = Manifest.load(tmp_path / "one.manifest")
    volume = MemoryVolume(bytearray(data))
    assert not Check(volume, loaded, silent, lambda: False).run().wrong
