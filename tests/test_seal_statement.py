"""The seal as a document: what it may say, signed or not."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.block import PAGE
from appliance.errors import SealDamagedError
from appliance.model import PackId, ShipmentId
from appliance.seal import statement
from appliance.seal.files import MAX_FILES, SealedFile
from appliance.seal.identity import Device
from appliance.seal.layout import (
    CONTEXT_SIZE,
    MAX_JSON,
    MAX_RECORDS,
    WRAP,
    align,
    record_frame_size,
)
from appliance.seal.pack import tail_size
from appliance.seal.papers import MAX_DISKS, MAX_PACKS
from appliance.seal.statement import MAX_ACCEPTED, MAX_SEAL, Seal, SealedCanary, SealedPack
from appliance.seal.store import RESERVE_SIZE
from tests.support import OPERATOR

PACK = SealedPack(PackId("22" * 16), 20480, 1, "33" * 32, "99" * 32)
WHO = OPERATOR.recipient.fingerprint
FILE = SealedFile("b", 1, "aa" * 32)
WHEN = "2026-11-22T20:15:17Z"


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device.of(tmp_path)


def least(device: Device) -> Seal:
    """The shortest seal there can be."""
    return Seal(
        shipment=ShipmentId("11" * 16),
        device=device.public,
        created=WHEN,
        sequence=1,
        previous="",
        head="44" * 32,
        recipients=(WHO,),
        contents=PACK.pack,
        packs=(PACK,),
        canary=None,
        waiver="",
        accepted=(),
    )


def test_a_seal_comes_back(device: Device) -> None:
    most = replace(
        least(device),
        sequence=1 << 53,
        previous="55" * 32,
        recipients=(WHO,) * 16,
        packs=(PACK, replace(PACK, pack=PackId("66" * 16), size=1 << 53, index="")),
        canary=SealedCanary("77" * 32, WHO, WHEN),
        waiver="why",
        accepted=("a" * 256, *("\u20ac" for _ in range(MAX_DISKS - 1))),
        files=(replace(FILE, name="a"), FILE),
    )
    for one in (least(device), most):
        assert statement.parse(statement.sign(one, device).encode()) == one


LIES = [
    {"sequence": 0},
    {"packs": ()},
    {"packs": (PACK, PACK)},
    {"packs": (replace(PACK, digest=""),)},
    {"recipients": (WHO,) * 17},
    {"recipients": (WHO + "A",)},
    {"canary": SealedCanary("77" * 32, WHO + "A", WHEN)},
    {"canary": SealedCanary("", WHO, WHEN)},
    {"head": ""},
    {"created": ""},
    {"accepted": ("a" * 257,)},
    {"accepted": ("",) * (MAX_DISKS + 1)},
    {"files": (FILE, replace(FILE, name="a"))},
    {"files": (FILE, FILE)},
    {"files": (replace(FILE, name="a/b"),)},
    {"files": (replace(FILE, digest=""),)},
]


@pytest.mark.parametrize("fields", LIES, ids=range(len(LIES)))
def test_a_seal_that_may_not_be_is_refused_though_it_is_signed(
    device: Device, fields: dict[str, object]
) -> None:
    lie = replace(least(device), **fields)  # type: ignore[arg-type]
    with pytest.raises(SealDamagedError):
        statement.parse(statement.sign(lie, device).encode())


def test_the_largest_seal_is_read_and_fits_what_was_kept_for_it(device: Device) -> None:
    packs = tuple(
        SealedPack(PackId(f"{one:032x}"), MAX_RECORDS << 24, MAX_RECORDS, "33" * 32, "99" * 32)
        for one in range(MAX_PACKS)
    )
    files = tuple(SealedFile(f"{one:064}", 1 << 53, "aa" * 32) for one in range(MAX_FILES))
    written = replace(
        least(device),
        packs=packs,
        contents=packs[0].pack,
        files=files,
        recipients=(WHO,) * 16,
        waiver="\x01" * 1024,
        accepted=tuple(f"Disk {one:032x} travels incomplete" for one in range(MAX_DISKS)),
    )
    data = statement.sign(written, device).encode()
    assert statement.parse(data) == written
    head = align(CONTEXT_SIZE + 32 + 16 * WRAP)
    contents = head + record_frame_size(MAX_JSON) + tail_size(1)
    assert contents + len(data) + 3 * PAGE < RESERVE_SIZE
    longest = (MAX_ACCEPTED - 1) * 6 * MAX_DISKS  # every character as \u00xx
    assert len(data) + longest < MAX_SEAL
