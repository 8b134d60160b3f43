"""Sealing: what is ready to ship, what is read back, what an interruption leaves."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.block import PAGE, free_space, stream_past_cache, write_durably
from appliance.errors import (
    AlreadySealedError,
    BadInputError,
    ForeignPackError,
    JobRunningError,
    MotionGearError,
    NotReadyToShipError,
    OpenErrorError,
    PackDamagedError,
    PackMissingError,
    StoppedError,
    StoreFullError,
    StoreRefusedError,
    StoreWriteError,
)
from appliance.events import Event, Progress, Result
from appliance.model import DiskId
from appliance.seal import canary, readback, sealing, statement
from appliance.seal.identity import Device
from appliance.seal.layout import MAX_JSON, PackState
from appliance.seal.opening import read_sealed_contents
from appliance.seal.pack import PackWriter
from appliance.seal.papers import Note, read_note
from appliance.seal.readback import readers_for
from appliance.seal.scan import PackReader
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import RESERVE, RESERVE_SIZE, SEAL, Store
from tests.forge import pack_head
from tests.media import Bench, tool
from tests.readout import problems, reopened
from tests.support import (
    BLOCK,
    OPERATOR,
    RECOVERY,
    PowerCutError,
    new_store,
    point,
    put_blocks,
    sample_bytes,
    seal_it,
    sealed_sample,
)

DATA = sample_bytes(2)
SPEC = point(DATA)
WAIVED = Consent(waiver="a test")


def test_a_sealed_shipment_says_what_it_holds(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    told: list[Event] = []
    code = canary.open_code(store.path, store.head, OPERATOR)
    who = canary.who_opened(store.path, store.head, code)
    consent = Consent(canary_by=who, canary_at="2026-11-22T20:15:17Z")
    made = seal(store, device, {(SPEC.disk, 0): SPEC}, consent, told.append)
    assert store.sealed
    assert not (store.path / RESERVE).exists()
    assert statement.read(store.path) == made
    assert made.sequence == 1
    assert made.canary
    assert made.canary.opened_by == OPERATOR.recipient.fingerprint
    assert problems(store.path, OPERATOR) == []
    contents = read_sealed_contents(reopened(store), OPERATOR)
    assert [one.facts for one in contents.disks] == [SPEC]
    (result,) = [one for one in told if isinstance(one, Result)]
    assert result.figures["root"] == made.root().hex()
    progress = [one for one in told if isinstance(one, Progress)]
    assert progress[-1].done == progress[-1].total == sum(one.size for one in made.packs[1:])


def test_notes_travel_and_are_passed_over(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    notes = [Note("later", one, {"text": "x" * 100_000}) for one in range(3)]
    seal(store, device, {}, WAIVED, notes=notes)
    assert problems(store.path, OPERATOR) == []
    found = reopened(store)
    assert [one.disk for one in read_sealed_contents(found, OPERATOR).disks] == [SPEC.disk]
    with PackReader(found.contents_info.path, OPERATOR) as reader:
        payloads = [bytes(one.payload) for one in reader.walk()]
    assert [read_note(one) for one in payloads[1:]] == notes


@pytest.mark.parametrize(
    "note", [Note("", 1, {}), Note("x", 1, {"\u00e9": 1}), Note("x", 1, {"a": "x" * MAX_JSON})]
)
def test_a_note_that_no_reader_takes_is_not_sealed(tmp_path: Path, note: Note) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    before = sorted(store.path.rglob("*"))
    with pytest.raises(BadInputError, match="The note cannot be sealed"):
        seal(store, device, {}, WAIVED, notes=[note])
    assert sorted(store.path.rglob("*")) == before


def test_a_canary_that_no_reader_takes_is_not_sealed(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    path = store.path / canary.FILE
    whole = path.read_bytes()
    for wrong in (b"", whole + b" "):
        path.write_bytes(wrong)
        with pytest.raises(StoreRefusedError, match=r"canary\.json"):
            seal(store, device, {}, WAIVED)
    path.unlink()
    assert seal(store, device, {}, WAIVED).canary is None


def test_seals_of_one_device_form_a_chain(tmp_path: Path) -> None:
    first, device = new_store(tmp_path, name="one")
    second = Store.create(tmp_path / "two", "two", device, first.head.recipients, BLOCK)
    made = []
    for store in (first, second):
        put_blocks(store, DATA, SPEC)
        made.append(seal_it(store, device, SPEC))
    assert [one.sequence for one in made] == [1, 2]
    assert [one.previous for one in made] == ["", made[0].root().hex()]


def test_no_two_sealings_use_one_number(tmp_path: Path) -> None:
    store, device = new_store(tmp_path, name="one")
    other = Store.create(tmp_path / "two", "n", device, store.head.recipients, BLOCK)
    for one in (store, other):
        put_blocks(one, DATA, SPEC)
    with ThreadPoolExecutor(2) as pool, device.alone():
        running = [pool.submit(seal_it, one, device, SPEC) for one in (store, other)]
        assert device.counter().sequence == 0
    made = sorted((one.result() for one in running), key=lambda one: one.sequence)
    assert [one.sequence for one in made] == [1, 2]
    assert made[1].previous == made[0].root().hex()


def test_an_empty_shipment_is_not_sealed(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    with pytest.raises(NotReadyToShipError, match="empty"):
        seal(store, device, {}, WAIVED)


def test_an_incomplete_disk_travels_only_by_name(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    with pytest.raises(PowerCutError):
        put_blocks(store, os.urandom(len(DATA)), SPEC, cut_at=7)
    with pytest.raises(OpenErrorError, match=SPEC.disk):
        seal(store, device, {}, WAIVED)
    made = seal(store, device, {}, replace(WAIVED, incomplete=frozenset([SPEC.disk])))
    assert made.accepted == (f"Disk {SPEC.disk} travels incomplete",)
    assert [one.torn for one in made.packs] == [False, True]
    assert problems(store.path, OPERATOR) == []


def test_one_recipient_is_not_enough_without_a_reason(tmp_path: Path) -> None:
    store, device = new_store(tmp_path, keys=(OPERATOR,))
    put_blocks(store, DATA, SPEC)
    opened = Consent(canary_by=OPERATOR.recipient.fingerprint)
    with pytest.raises(NotReadyToShipError, match="Only one recipient"):
        seal(store, device, {}, opened)
    assert seal(store, device, {}, replace(opened, waiver="a test")).waiver == "a test"


def test_an_unopened_canary_is_not_enough_without_a_reason(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    with pytest.raises(NotReadyToShipError, match="No recipient has shown"):
        seal(store, device, {}, Consent())
    (store.path / canary.FILE).unlink()
    with pytest.raises(NotReadyToShipError, match="No recipient has shown"):
        seal(store, device, {}, Consent(canary_by=OPERATOR.recipient.fingerprint))
    assert seal(store, device, {}, WAIVED).canary is None
    assert problems(store.path) == []


def test_a_sealed_shipment_is_not_sealed_again(tmp_path: Path) -> None:
    store, device, _ = sealed_sample(tmp_path)
    before = (store.path / SEAL).read_bytes()
    with pytest.raises(AlreadySealedError):
        seal(store, device, {}, WAIVED)
    with pytest.raises(AlreadySealedError):
        store.discard(SPEC.disk)
    assert (store.path / SEAL).read_bytes() == before
    assert device.counter().sequence == 1


def test_a_reason_that_no_reader_would_take_is_refused_before_the_seal_is_counted(
    tmp_path: Path,
) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    with pytest.raises(BadInputError, match="waiver"):
        seal(store, device, {}, Consent(waiver="x" * 1025))
    assert not store.sealed
    assert device.counter().sequence == 0
    seal_it(store, device, SPEC)
    assert problems(store.path, OPERATOR) == []


def test_contents_too_long_for_a_record_leave_the_facts_to_the_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    monkeypatch.setattr(sealing, "MAX_JSON", 400)
    seal_it(store, device, SPEC)
    (listed,) = read_sealed_contents(reopened(store), OPERATOR).disks
    assert listed.facts is None
    assert problems(store.path, OPERATOR) == []


def test_nothing_is_sealed_while_a_job_holds_the_shipment(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    with store.lock(alone=False), pytest.raises(JobRunningError):
        seal(store, device, {}, WAIVED)
    assert not store.sealed


@pytest.mark.parametrize("place", [20_000, -PAGE - 1], ids=["record", "index"])
def test_a_pack_that_rotted_on_the_device_is_not_signed(tmp_path: Path, place: int) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    path = max(store.closed(), key=lambda one: one.stat().st_size)
    hurt = bytearray(path.read_bytes())
    hurt[place] ^= 1
    path.write_bytes(hurt)
    with pytest.raises(PackDamagedError, match="reads back other") as caught:
        seal(store, device, {}, WAIVED)
    assert caught.value.safe_now == "Nothing was signed."
    assert not store.sealed


def test_a_pack_that_grew_or_cannot_be_read_is_not_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    real = stream_past_cache

    def more(path: Path, buffer: memoryview, take: Callable[..., object]) -> int:
        size = real(path, buffer, take)
        take(memoryview(bytearray(PAGE)))
        return size

    monkeypatch.setattr(readback, "stream_past_cache", more)
    with pytest.raises(PackDamagedError, match="reads back other"):
        seal(store, device, {}, WAIVED)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(readback, "stream_past_cache", fail)
    with pytest.raises(PackDamagedError, match="cannot be read"):
        seal(store, device, {}, WAIVED)
    assert not store.sealed


def test_a_missing_pack_is_noticed_before_signing(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    data = os.urandom(30 * BLOCK)
    put_blocks(store, data, point(data))
    first = min(store.infos(), key=lambda one: one.head.sequence)
    first.path.unlink()
    with pytest.raises(PackMissingError):
        seal(store, device, {}, WAIVED)


def test_sealing_can_be_stopped_and_done_again(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    with pytest.raises(StoppedError):
        seal(store, device, {}, WAIVED, stop=lambda: True)
    assert not store.sealed
    seal_it(store, device, SPEC)
    assert problems(store.path, OPERATOR) == []


@pytest.mark.parametrize("step", ["contents", "count", "seal"])
def test_sealing_interrupted_anywhere_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)

    def pull(*_: object, **__: object) -> None:
        raise PowerCutError

    def die(pack: PackWriter, *_: object) -> None:
        os.close(vars(pack)["_fd"])  # as the death of the process does
        raise PowerCutError

    with monkeypatch.context() as patch:
        if step == "contents":
            patch.setattr(PackWriter, "close", die)
        elif step == "count":
            patch.setattr(type(device), "count", pull)
        else:
            patch.setattr(sealing, "write_durably", pull)
        with pytest.raises(PowerCutError):
            seal(store, device, {}, WAIVED)
    assert not store.sealed
    made = seal_again(store, tmp_path)
    assert made.sequence == (2 if step == "seal" else 1)
    assert problems(store.path, OPERATOR) == []
    assert len(list(store.closed())) == 2


def seal_again(store: Store, place: Path) -> statement.Seal:
    """As after a restart: everything opened anew."""
    again = Store(store.path)
    return seal(again, Device.of(place / "home"), {}, WAIVED)


@pytest.mark.parametrize(
    ("code", "refusal"), [(errno.ENOSPC, StoreFullError), (errno.EIO, StoreWriteError)]
)
def test_a_device_that_cannot_write_the_contents_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, refusal: type[MotionGearError]
) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        patch.setattr(os, "posix_fallocate", fail)
        with pytest.raises(refusal):
            seal(store, device, {}, WAIVED)
    assert not store.sealed
    seal_it(store, device, SPEC)


def test_a_file_that_is_no_pack_keeps_the_shipment_from_being_sealed(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    (store.packs / "notes.txt").write_bytes(b"hello")
    with pytest.raises(MotionGearError) as caught:
        seal(store, device, {}, WAIVED)
    assert caught.value.name == "pack-unlisted"


def test_a_pack_that_belongs_elsewhere_is_not_signed(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    other, _ = new_store(tmp_path, name="other")
    put_blocks(store, DATA, SPEC)
    put_blocks(other, DATA, replace(SPEC, disk=DiskId("22" * 16)))
    (mine,) = store.closed()
    (foreign,) = other.closed()
    strays = [(foreign, foreign.name, "another shipment"), (mine, "aa" * 16 + ".pack", "name")]
    for source, name, why in strays:
        stray = store.packs / name
        stray.write_bytes(source.read_bytes())
        with pytest.raises(ForeignPackError, match=why):
            seal(store, device, {}, WAIVED)
        stray.unlink()
    seal(store, device, {}, WAIVED)
    assert problems(store.path) == []


def test_two_packs_in_one_place_are_refused(tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    for name in ("aa" * 16, "bb" * 16):
        head = pack_head(store, pack=name)
        pack = PackWriter(store.packs, head, store.head.recipients, 1 << 20)
        pack.close(0, bytes(32), PackState.CLOSED)
    with pytest.raises(MotionGearError) as caught:
        seal(store, device, {}, WAIVED)
    assert caught.value.name == "pack-repeated"


# --- the disk refuses --------------------


@pytest.fixture
def small(tmp_path: Path, bench: Bench) -> tuple[Store, Device]:
    """A shipment of one disk on a file system with little more room than it needs."""
    place = bench.tmpfs(tmp_path / "small", str(RESERVE_SIZE + (4 << 20)))
    device = Device.of(tmp_path / "home")
    recipients = (OPERATOR.recipient, RECOVERY.recipient)
    store = Store.create(place / "store", "test", device, recipients, BLOCK)
    put_blocks(store, DATA, SPEC)
    return store, device


def test_without_room_for_the_contents_everything_stays_as_it_was(
    small: tuple[Store, Device],
) -> None:
    store, device = small
    (store.path / RESERVE).unlink()  # somebody made room in the wrong place
    rest = Bench.fill(store.path.parent)
    before = sorted(store.path.rglob("*"))
    with pytest.raises(StoreFullError, match="no room for") as caught:
        seal(store, device, {}, WAIVED)
    assert caught.value.safe_now == "Nothing was signed; every pack is as it was."
    assert "Make room" in caught.value.todo_now
    assert sorted(store.path.rglob("*")) == before
    rest.unlink()
    assert seal(store, device, {}, WAIVED).sequence == 1
    assert problems(store.path, OPERATOR) == []


def test_without_room_for_the_signature_the_contents_go_again(
    small: tuple[Store, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = small
    before = sorted(store.path.rglob("*"))
    sign, filled = statement.sign, list[Path]()

    def overtaken(made: statement.Seal, signer: Device) -> statement.Signed:
        filled.append(Bench.fill(store.path.parent))
        return sign(made, signer)

    with monkeypatch.context() as patch:
        patch.setattr(statement, "sign", overtaken)
        with pytest.raises(StoreFullError, match=r"no room for seal\.json"):
            seal(store, device, {}, WAIVED)
    assert sorted(store.path.rglob("*")) == [one for one in before if one.name != RESERVE]
    filled[0].unlink()
    assert seal(store, device, {}, WAIVED).sequence == 2
    assert problems(store.path, OPERATOR) == []


def test_a_failed_seal_keeps_its_space_for_the_next(
    small: tuple[Store, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = small
    free = free_space(store.path)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "write_durably", fail)
        with pytest.raises(StoreWriteError, match=r"while writing seal\.json"):
            seal(store, device, {}, WAIVED)
    assert free_space(store.path) == free
    Bench.fill(store.path.parent)  # others cannot take it
    seal(store, device, {}, WAIVED)
    assert problems(store.path, OPERATOR) == []


def test_the_space_that_a_killed_sealing_gave_up_is_kept_again_by_the_next_writer(
    small: tuple[Store, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = small

    def pull(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "write_durably", pull)
        with pytest.raises(PowerCutError):
            seal(store, device, {}, WAIVED)
    assert not (store.path / RESERVE).exists()
    other = replace(SPEC, disk=DiskId("22" * 16))
    rest = Bench.fill(store.path.parent)
    with pytest.raises(StoreFullError):
        put_blocks(store, DATA, other)
    assert not (store.path / RESERVE).exists()
    rest.unlink()
    put_blocks(store, DATA, other)
    Bench.fill(store.path.parent)
    seal(store, device, {}, WAIVED)
    assert problems(store.path, OPERATOR) == []


def test_a_seal_that_stands_keeps_its_contents_though_the_last_sync_failed(
    small: tuple[Store, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = small

    def unsure(path: Path, data: bytes) -> None:
        write_durably(path, data)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sealing, "write_durably", unsure)
    with pytest.raises(StoreWriteError):
        seal(store, device, {}, WAIVED)
    assert problems(store.path, OPERATOR) == []


def test_a_disk_that_became_read_only_is_named(
    small: tuple[Store, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = small

    def pull(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(type(device), "count", pull)
        with pytest.raises(PowerCutError):
            seal(store, device, {}, WAIVED)
    tool("mount", "-o", "remount,ro", store.path.parent)
    with pytest.raises(StoreWriteError, match=r"pack \(Read-only file system"):
        seal(store, device, {}, WAIVED)  # it would take the contents away that were left over
    tool("mount", "-o", "remount,rw", store.path.parent)
    seal(store, device, {}, WAIVED)
    assert problems(store.path, OPERATOR) == []


def test_a_pack_that_vanishes_while_it_is_to_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    (path,) = store.closed()

    def vanish(place: Path) -> int:
        path.unlink()
        return readers_for(place)

    monkeypatch.setattr(sealing, "readers_for", vanish)
    with pytest.raises(PackDamagedError, match=rf"{path.name} cannot be read \(No such file"):
        seal(store, device, {}, WAIVED)
