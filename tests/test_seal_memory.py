"""What a hostile store may take of the reader's memory: measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.model import DiskId, PointSpec
from appliance.seal import canon, statement
from appliance.seal.canon import MAX_VALUES
from appliance.seal.identity import Device
from appliance.seal.layout import (
    MAX_JSON,
    MAX_RANGES,
    ZERO_DISK,
    Kind,
    PackState,
    RecordHead,
    ranges_bytes,
)
from appliance.seal.opening import read_sealed_contents
from appliance.seal.papers import read_note, write_contents
from appliance.seal.pointmap import MAX_UNREADABLE
from appliance.seal.statement import MAX_SEAL
from appliance.seal.store import SEAL, Store
from tests.forge import Forge, forged, pack_head, paper, seal_whatever, sign_again, zeros
from tests.readout import reopened
from tests.support import BLOCK, OPERATOR, facts, new_store, seal_it

MOST_MIB = 450
DISK = DiskId("11" * 16)
# One process: the seal is checked, every record opened. Tells the refusal and the peak in KiB:
# that of getrusage would be at least the test's own.
_READ = """
import resource, sys
from pathlib import Path
from appliance.errors import MotionGearError
from appliance.seal import opening, verify
from appliance.seal.keys import PrivateKey
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
key = PrivateKey("operator", "operator", sys.stdin.buffer.read(32))
try:
    sealed = verify.inspect(Path(sys.argv[1]), verify.Pins())
    verify.verify(sealed).refuse()
    opening.open_all(sealed, key).refuse()
except MotionGearError as exc:
    print(exc.name)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def refused(store: Store) -> str:
    """By which name the store is refused, by a reader that stays small."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(store.path)],
        input=OPERATOR.seed(),
        stdout=subprocess.PIPE,
        check=True,
    )
    *name, peak = done.stdout.decode().split()
    assert int(peak) >> 10 < MOST_MIB
    return name[0] if name else ""


def filled(unit: bytes, size: int, before: bytes = b"", behind: bytes = b"") -> bytes:
    """So many bytes of JSON, most of it ``unit`` again and again."""
    count = (size - len(before) - len(behind)) // (len(unit) + 1)
    return before + b",".join([unit] * count) + behind


WIDE = "\U0001f600".encode()  # makes a text four times as large in memory
WIDE_END = b'],"shipment":"' + WIDE + b'"}'


@pytest.fixture
def made(tmp_path: Path) -> tuple[Store, Device]:
    """A sealed disk of one block."""
    store, device = new_store(tmp_path)
    spec = PointSpec(DISK, 0, "web01", facts(BLOCK))
    forged(store, spec, zeros(0, 1))
    seal_it(store, device, spec)
    return store, device


@pytest.mark.parametrize("unit", [b"[]", b'"aa"'])
def test_a_seal_of_many_small_values(made: tuple[Store, Device], unit: bytes) -> None:
    store, _ = made
    (store.path / SEAL).write_bytes(filled(unit, MAX_SEAL, b'{"seal":[', b"]}"))
    assert refused(store) == "seal-damaged"


@pytest.mark.parametrize("times", [1, 9000])
def test_a_seal_of_long_texts(made: tuple[Store, Device], times: int) -> None:
    """One character such as the first makes a text four times as large."""
    store, _ = made
    text = b'"' + WIDE + b"x" * (MAX_SEAL // times - 20 - len(WIDE)) + b'"'
    (store.path / SEAL).write_bytes(filled(text, MAX_SEAL, b'{"seal":[', b"]}"))
    assert refused(store) == "seal-damaged"


def with_contents(made: tuple[Store, Device], payload: bytes, *notes: bytes) -> Store:
    """The store, duly sealed with other contents and these notes."""
    store, device = made
    store.pack(statement.read(store.path).contents).unlink()
    forge = Forge(store, pack_head(store, ZERO_DISK)).add(*paper(Kind.CONTENTS, payload))
    for one in notes:
        forge.add(*paper(Kind.NOTE, one))
    forge.close(PackState.CLOSED)
    sign_again(store, device)
    return store


@pytest.mark.parametrize("unit", [b'{"a":1}', b"9007199254740992"])
def test_contents_of_many_small_values(made: tuple[Store, Device], unit: bytes) -> None:
    payload = filled(unit, MAX_JSON, b'{"disks":[', WIDE_END)
    assert refused(with_contents(made, payload)) == "record-damaged"


@pytest.mark.parametrize("unit", [b"[]", b"[[[[[[[[]]]]]]]]"])
def test_a_note_of_many_small_values(made: tuple[Store, Device], unit: bytes) -> None:
    honest = canon.dump(write_contents(read_sealed_contents(reopened(made[0]), OPERATOR)))
    note = filled(
        unit, MAX_JSON, b'{"body":{"a":[', b'],"b":"' + WIDE + b'"},"type":"x","version":1}'
    )
    assert refused(with_contents(made, honest, note)) == "record-damaged"


def test_a_note_of_as_many_values_as_there_may_be(made: tuple[Store, Device]) -> None:
    """Objects take most: each is two of the values counted."""
    honest = canon.dump(write_contents(read_sealed_contents(reopened(made[0]), OPERATOR)))
    unit = b'{"a":1}'
    before, behind = b'{"body":{"a":[', b'],"b":"' + WIDE + b'"},"type":"x","version":1}'
    count = MAX_VALUES // 2 - 3
    size = count * (len(unit) + 1) + len(before) + len(behind)
    assert refused(with_contents(made, honest, filled(unit, size, before, behind))) == ""


@pytest.mark.parametrize("text", [b"[" * 1000, b'\\"' * 500, b"," * 1000])
def test_signs_in_texts_are_no_values(text: bytes) -> None:
    """Three million of them, in three thousand texts."""
    behind = b']},"type":"x","version":1}'
    found = read_note(filled(b'"' + text + b'"', 3 << 20, b'{"body":{"a":[', behind))
    assert found.type == "x"


def unreadable(first: int) -> tuple[RecordHead, bytes]:
    """As many unreadable bytes apart as a record can tell of: every second byte of two blocks."""
    start = first * BLOCK
    return paper(
        Kind.UNREADABLE,
        ranges_bytes([(start + 2 * one, 1) for one in range(MAX_RANGES)]),
        first,
        2,
    )


def test_a_disk_with_more_unreadable_bytes_than_can_be_told(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    runs = MAX_UNREADABLE // MAX_RANGES + 1
    spec = PointSpec(DISK, 0, "web01", facts(2 * runs * BLOCK))
    told = [unreadable(2 * one) for one in range(runs)]
    forged(store, spec, zeros(0, 2 * runs), *told)
    seal_whatever(store, device, DISK)
    assert refused(store) == "memory-short"


def test_so_many_can_be_told(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    runs = MAX_UNREADABLE // MAX_RANGES
    spec = PointSpec(DISK, 0, "web01", facts(2 * runs * BLOCK))
    forged(store, spec, zeros(0, 2 * runs), *(unreadable(2 * one) for one in range(runs)))
    seal_whatever(store, device, DISK)
    assert refused(store) == ""
