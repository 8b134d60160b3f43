"""Reading a store back with a key, in memory: what a restore would write, without a target."""

from pathlib import Path

from appliance.errors import MotionGearError
from appliance.model import PackId
from appliance.seal import pointmap
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.layout import Kind
from appliance.seal.opening import open_all
from appliance.seal.pointmap import PointMap
from appliance.seal.scan import PackReader
from appliance.seal.store import Store, by_point
from appliance.seal.verify import Pins, Sealed, inspect, verify
from tests.support import OPERATOR


def maps_of(store: Store, key: PrivateKey = OPERATOR) -> list[PointMap]:
    """Every disk in the store's closed packs, sealed or not."""
    return [pointmap.build(one, key) for one in by_point(store.infos())]


def content(found: PointMap, key: PrivateKey = OPERATOR) -> bytes:
    """The disk's bytes as its winning records give them; what is unknown is ``?``."""
    manifest = found.manifest
    out = bytearray(b"?" * manifest.size)
    for first, count in found.zero_runs():
        start, end = first * manifest.block_size, (first + count) * manifest.block_size
        out[start:end] = bytes(min(end, manifest.size) - start)
    for info, wanted in zip(found.packs.packs, found.winners(), strict=True):
        with PackReader(info.path, key) as reader:
            entries = reader.entries(info)
            for one in wanted:
                number, index = one >> 32, one & 0xFFFFFFFF
                record = reader.record(entries[number])
                assert record.entry.head.kind is Kind.BLOCK
                assert record.entry.head.digest == manifest[index][0]
                start = index * manifest.block_size
                out[start : start + len(record.payload)] = record.payload
    assert len(out) == manifest.size
    return bytes(out)


def sole_content(store: Store) -> bytes:
    (found,) = maps_of(store)
    return content(found)


def problems(path: Path, key: PrivateKey | None = None) -> list[str]:
    """The names of all that a verification finds, quick checks first; empty when all is well."""
    try:
        sealed = inspect(path, Pins())
        found = verify(sealed).problems
        if key is not None and not found:
            found = open_all(sealed, key).problems
    except MotionGearError as exc:
        return [exc.name]
    return [one.name for one in found]


def reopened(store: Store) -> Sealed:
    return inspect(store.path, Pins())


def pack_of(store: Store, place: int) -> PackId:
    """The pack at a place in the seal's order; 0 is the contents pack."""
    return reopened(store).seal.packs[place].pack


def other_device(place: Path) -> Device:
    return Device.of(place / "another home")
