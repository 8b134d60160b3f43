"""Makes tests/vectors/custody.json: `python -m tests.custody_vectors`, from the root."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.events import Json
from appliance.model import ShipmentId
from appliance.seal import canon, chain, deed
from appliance.seal.chain import Expected
from appliance.seal.cut import digest
from appliance.seal.deed import Clock, Deed, Record, What, Who
from appliance.seal.identity import Device
from tests.promise import PLACE

FILE = PLACE / "custody.json"
SHIPMENT, ROOT, OTHER = ShipmentId("ab" * 16), "cd" * 32, "ef" * 32
_SEEDS = {
    name: digest(f"motiongear vectors custody {name}".encode()) for name in ("giver", "taker")
}
GIVER, TAKER = (
    Device(Path("nowhere"), Ed25519PrivateKey.from_private_bytes(one)) for one in _SEEDS.values()
)
EXPECTED = Expected(SHIPMENT, ROOT, GIVER.public)
Chain = dict[int, bytes]
_WAY = (
    (GIVER, Deed.CREATED, ""),
    (GIVER, Deed.INGESTED, ""),
    (GIVER, Deed.SEALED, ROOT),
    (GIVER, Deed.HANDED_OVER, ROOT),
    (TAKER, Deed.RECEIVED, ROOT),
    (TAKER, Deed.VERIFIED, ROOT),
    (TAKER, Deed.OPENED, ROOT),
    (TAKER, Deed.RESTORED, ROOT),
    (TAKER, Deed.CHECKED, ROOT),
    (GIVER, Deed.ERASED, ROOT),
)


def _record(told: Chain, done: Deed, device: Device, root: str) -> Record:
    number = len(told) + 1
    return Record(
        number=number,
        deed=done,
        shipment=SHIPMENT,
        root=root,
        who=Who("Ada" if device is GIVER else "林", "Acme"),
        where="hall 4",
        at=f"2026-11-23T08:00:{number:02}Z",
        clock=Clock.FREE,
        what=What(disk="12" * 16) if done is Deed.INGESTED else What(),
        previous=deed.digest(told[number - 1]) if told else "",
        signer=device.public,
    )


def _way(*deeds: tuple[Device, Deed, str]) -> Chain:
    told: Chain = {}
    for device, done, root in deeds:
        told[len(told) + 1] = deed.sign(_record(told, done, device, root), device)
    return told


def _changed(number: int, change: Callable[[Record], Record]) -> Chain:
    """The whole way; one record says something else, signed by whoever signed it, and all behind
    it follow.
    """
    told: Chain = {}
    for device, done, root in _WAY:
        record = _record(told, done, device, root)
        if record.number == number:
            record = change(record)
        told[record.number] = deed.sign(record, GIVER if record.signer == GIVER.public else TAKER)
    return told


def _chains() -> list[tuple[str, Chain, Expected, Chain]]:
    whole = _way(*_WAY)
    later = json.loads(whole[4])
    later["record"]["version"] = 2
    unsigned = json.loads(whole[4]) | {"signature": "00" * 64}
    cut = {number: whole[number] for number in range(1, 7)}
    return [
        ("A whole way", whole, EXPECTED, whole),
        ("Nothing is known by another path", whole, Expected(), {}),
        (
            "The receiver was named, and has compared the code",
            _named(TAKER.public, code=True),
            EXPECTED,
            {},
        ),
        ("Nothing", {}, EXPECTED, {}),
        ("On its way", _way(*_WAY[:4]), EXPECTED, {}),
        ("A record is missing", {k: v for k, v in whole.items() if k != 3}, EXPECTED, {}),
        ("The end is missing, as another copy shows", cut, EXPECTED, whole),
        ("A byte is another", whole | {4: whole[4].replace(b"hall 4", b"hall 5")}, EXPECTED, {}),
        ("A signature of zeros", whole | {4: canon.dump(unsigned)}, EXPECTED, {}),
        ("Of a later version", whole | {4: canon.dump(later)}, EXPECTED, {}),
        ("No record at all in a file", whole | {4: b""}, EXPECTED, {}),
        ("Two files are swapped", whole | {4: whole[5], 5: whole[4]}, EXPECTED, {}),
        ("A space behind a record", whole | {4: whole[4] + b" "}, EXPECTED, {}),
        (
            "A link to elsewhere",
            _changed(4, lambda one: replace(one, previous="00" * 32)),
            EXPECTED,
            {},
        ),
        (
            "A record of another shipment",
            _changed(6, lambda one: replace(one, shipment=ShipmentId("00" * 16))),
            EXPECTED,
            {},
        ),
        ("Another seal", _changed(6, lambda one: replace(one, root=OTHER)), EXPECTED, {}),
        ("Another seal than the one known", whole, replace(EXPECTED, root=OTHER), {}),
        (
            "Two copies part",
            _changed(8, lambda one: replace(one, where="elsewhere")),
            EXPECTED,
            whole,
        ),
        (
            "Another device has read a disk",
            _changed(2, lambda one: replace(one, signer=TAKER.public)),
            EXPECTED,
            {},
        ),
        (
            "Another device has sealed",
            _changed(3, lambda one: replace(one, signer=TAKER.public)),
            EXPECTED,
            {},
        ),
        ("Received by another than was named", _named("11" * 32), EXPECTED, {}),
        (
            "Received with another code",
            _changed(5, lambda one: replace(one, what=What(code="AAAA-" * 3 + "AAAA"))),
            EXPECTED,
            {},
        ),
        (
            "Received by the giver",
            _changed(5, lambda one: replace(one, signer=GIVER.public)),
            EXPECTED,
            {},
        ),
        (
            "The clock went back",
            _changed(6, lambda one: replace(one, at="2026-11-23T07:00:00Z")),
            EXPECTED,
            {},
        ),
        ("Verified before it was sealed", _way(_WAY[0], _WAY[5], _WAY[2]), EXPECTED, {}),
        ("Sealed, and no record says so", _way(*_WAY[:2]), EXPECTED, {}),
        ("Verified, and no record tells of a seal", _way(*_WAY[:2], _WAY[5]), Expected(), {}),
        ("The beginning is not there", _way(*_WAY[5:7]), Expected(SHIPMENT), {}),
        ("Received, and never given", _way(*_WAY[:3], _WAY[4]), EXPECTED, {}),
        ("Given twice", _way(*_WAY[:4], _WAY[3]), EXPECTED, {}),
        ("Read behind the seal", _way(*_WAY[:3], (GIVER, Deed.INGESTED, ROOT)), EXPECTED, {}),
        ("Verified after it was erased", _way(*_WAY, _WAY[5]), EXPECTED, {}),
    ]


def _named(receiver: str, *, code: bool = False) -> Chain:
    told = _way(*_WAY[:3])
    given = replace(
        _record(told, Deed.HANDED_OVER, GIVER, ROOT), what=What(to=Who("林"), receiver=receiver)
    )
    told[4] = deed.sign(given, GIVER)
    said = What(code=deed.code(deed.digest(told[4])) if code else "")
    told[5] = deed.sign(replace(_record(told, Deed.RECEIVED, TAKER, ROOT), what=said), TAKER)
    return told


def files(told: Mapping[int, bytes]) -> Json:
    return {f"{number:06}.json": one.decode() for number, one in told.items()}


def parsed(told: Mapping[str, str]) -> Chain:
    return {int(name[:6]): one.encode() for name, one in told.items()}


def document() -> Json:
    return {
        "chains": [
            {
                "about": about,
                "files": files(told),
                "shipment": expected.shipment or "",
                "root": expected.root,
                "device": expected.device,
                "against": files(other),
                "sound": chain.sound(told, SHIPMENT),
                "findings": [
                    [one.kind, one.number] for one in chain.verify(told, expected, other)
                ],
            }
            for about, told, expected, other in _chains()
        ],
        "codes": [{"digest": one, "code": deed.code(one)} for one in ("00" * 32, "ff" * 32, ROOT)],
        "keys": {name: seed.hex() for name, seed in _SEEDS.items()},
    }


def make() -> None:
    FILE.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    make()
