"""What the device keeps: not one byte of the disks, no digest of a block, no name, no key."""

import hashlib
import os
from pathlib import Path

from appliance.model import DiskId, Extent, PointSpec
from appliance.seal.cut import digest
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.manifest import Manifest
from tests.readout import maps_of, problems
from tests.support import (
    BLOCK,
    OPERATOR,
    RECOVERY,
    facts,
    new_store,
    put_blocks,
    seal_it,
)

WORDS = b"The quick brown fox jumps over the lazy dog; "
NOISE = os.urandom(3 * BLOCK)
DATA = (WORDS * BLOCK)[: 2 * BLOCK] + NOISE + bytes(BLOCK) + NOISE[:BLOCK] + b"end of the disk"
SPEC = PointSpec(DiskId("5d" * 16), 0, "machine-name", facts(len(DATA), "SERIAL-0815", "/dev/sdq"))


def everything(place: Path) -> bytes:
    """Every byte under a directory, names included."""
    files = sorted(one for one in place.rglob("*") if one.is_file())
    return b"\0".join(bytes(one) + b"\0" + one.read_bytes() for one in files)


def samples() -> list[bytes]:
    """Pieces of the disk, every 1000 bytes and short enough to show through any encoding."""
    found = {DATA[at : at + 16] for at in range(0, len(DATA) - 16, 1000)}
    return sorted(one for one in found if any(one))


def blocks() -> list[bytes]:
    return [DATA[at : at + BLOCK] for at in range(0, len(DATA), BLOCK)]


def hidden(key: PrivateKey) -> list[bytes]:
    expanded = hashlib.shake_256(key.seed()).digest(96)
    return [key.seed(), expanded[:32], expanded[32:64], expanded[64:]]


def test_nothing_the_device_wrote_gives_the_disks_away(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC, bad=[Extent(BLOCK + 512, 512)])
    manifest: Manifest = maps_of(store)[0].manifest
    digests = [digest(one) for one in blocks()] + [manifest.root(), *manifest.page_digests()]
    seal_it(store, device, SPEC)
    seed = (tmp_path / "home" / "device" / "identity.key").read_bytes()
    kept = everything(tmp_path / "home") + everything(store.path)
    assert len(kept) > 3 * BLOCK
    for piece in samples():
        assert piece not in kept
    for one in digests:
        assert one not in kept
        assert one.hex().encode() not in kept
    for told in (b"SERIAL-0815", b"machine-name", b"/dev/sdq", b"Model"):
        assert told not in kept
    for key in (OPERATOR, RECOVERY):
        for secret in hidden(key):
            assert secret not in kept
    assert kept.count(seed) == 1
    assert Device.of(tmp_path / "home").public.encode() in kept
    assert problems(store.path, RECOVERY) == []


def test_two_packs_of_the_same_bytes_have_nothing_in_common(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    for disk in ("11" * 16, "22" * 16):
        put_blocks(store, DATA, PointSpec(DiskId(disk), 0, "m", SPEC.facts))
    one, other = (path.read_bytes() for path in store.closed())
    pages = {one[at : at + 64] for at in range(4096, len(one), 4096)} - {bytes(64)}
    assert not [1 for at in range(4096, len(other), 4096) if other[at : at + 64] in pages]
