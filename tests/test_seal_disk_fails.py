"""The device's own disk fails or is full: only what the last good checkpoint covers is kept, the
error has a name, and what is there can still be sealed.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.block import PAGE
from appliance.errors import MotionGearError, PackDamagedError, StoreFullError, StoreWriteError
from appliance.events import Checkpointed, Event, PackClosed
from appliance.model import Cut, DiskId, PackId
from appliance.seal import pack as pack_module
from appliance.seal import readback
from appliance.seal import writer as writer_module
from appliance.seal.cut import Cutter
from appliance.seal.layout import Kind, PackState
from appliance.seal.pack import ClosedPack, PackWriter
from appliance.seal.readback import ReadBack
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import Store
from appliance.seal.torn import mend
from appliance.seal.writer import Pace, StoreWriter, document
from tests.forge import GUARD, pack_head
from tests.readout import content, maps_of, problems, sole_content
from tests.support import (
    BLOCK,
    OPERATOR,
    SMALL,
    FakeWitness,
    new_store,
    point,
    put_blocks,
)

DATA = bytes(range(256)) * (BLOCK // 256) + os.urandom(17 * BLOCK)
SPEC = point(DATA)
CALLS = ["fdatasync", "fsync", "pwrite", "ftruncate", "posix_fallocate", "open"]


class Failing:
    """The ``at``-th call of an os function fails, and ``lasting`` all later ones do too."""

    def __init__(self, real: Callable[..., object], at: int, code: int, *, lasting: bool) -> None:
        self.real, self.left, self.code, self.lasting = real, at, code, lasting
        self.hit = False

    def __call__(self, *args: object, **named: object) -> object:
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self.lasting):
            self.hit = True
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*args, **named)


def safe_cursor(told: list[Event]) -> int:
    return max([one.cursor for one in told if isinstance(one, Checkpointed)], default=0)


def check_what_is_left(store: Store, safe: int) -> None:
    """Every block reported as stored is there; then the disk is finished and equal."""
    store.mend()
    for found in maps_of(store):
        assert content(found)[: safe * BLOCK] == DATA[: safe * BLOCK]
        assert not found.complete
    if safe:
        assert maps_of(store)
    put_blocks(store, DATA, SPEC)
    assert sole_content(store) == DATA


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
def test_any_failing_call_leaves_what_the_last_checkpoint_covers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, *, lasting: bool
) -> None:
    for at in (1, 2, 3, 4, 7, 12, 26):
        store, _ = new_store(tmp_path, name=f"{at}")
        told: list[Event] = []
        failing = Failing(getattr(os, call), at, code, lasting=lasting)
        failed: MotionGearError | None = None
        with monkeypatch.context() as patch, StoreWriter(store, told.append, SMALL) as writer:
            writer.begin(SPEC, FakeWitness())
            patch.setattr(os, call, failing)
            try:
                for cut in cuts():
                    writer.put(cut)
                writer.commit()
            except MotionGearError as exc:
                failed = exc
        if not failing.hit:
            break
        if failed is None:
            assert call in {"open", "ftruncate"}
            continue
        full = code == errno.ENOSPC and "read" not in failed.what
        assert type(failed) is (StoreFullError if full else StoreWriteError)
        if any(one.trailer.state == 2 for one in store.infos()):
            assert sole_content(store) == DATA
            continue
        check_what_is_left(store, safe_cursor(told))


def cuts() -> list[Cut]:
    view = memoryview(DATA)
    cutter = Cutter()
    return [cutter.cut(i, view[i * BLOCK : (i + 1) * BLOCK]) for i in range(18)]


def put_all(writer: StoreWriter, patch: pytest.MonkeyPatch) -> None:
    """Put every block; each pack is read back before the next one opens."""
    reader: ThreadPoolExecutor = vars(writer)["_reader"]
    submit = reader.submit

    def done(*work: object) -> Future[None]:
        future: Future[None] = submit(*work)  # type: ignore[arg-type]
        future.exception()
        return future

    patch.setattr(reader, "submit", done)
    for cut in cuts():
        writer.put(cut)


def test_after_a_failed_sync_the_store_can_be_sealed_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, device = new_store(tmp_path)
    told: list[Event] = []
    failing = Failing(os.fdatasync, 3, errno.EIO, lasting=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(StoreWriteError):
            put_blocks(store, DATA, SPEC, emit=told.append)
    safe = safe_cursor(told)
    assert safe
    seal(store, device, {}, Consent(frozenset([SPEC.disk]), waiver="torn"))
    assert problems(store.path, OPERATOR) == []
    (found,) = maps_of(store)
    assert content(found)[: safe * BLOCK] == DATA[: safe * BLOCK]
    assert not found.complete


def written(store: Store) -> PackWriter:
    pack = PackWriter(store.packs, pack_head(store), store.head.recipients, 1 << 20)
    pack.checkpoint(0, GUARD)
    return pack


@pytest.mark.parametrize("name", ["rename", "sync"])
def test_a_pack_whose_name_fails_is_still_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store, _ = new_store(tmp_path)
    pack = written(store)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        if name == "rename":
            patch.setattr(Path, "rename", fail)
        else:
            patch.setattr(pack_module, "sync_directory", fail)
        with pytest.raises(StoreWriteError):
            pack.close(0, GUARD, PackState.CLOSED)
    store.mend()
    (info,) = store.infos()
    assert not info.torn


def test_a_directory_that_cannot_be_synced_voids_the_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    pack = PackWriter(store.packs, pack_head(store), store.head.recipients, 1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Failing(os.fsync, 1, errno.EIO, lasting=True))
        with pytest.raises(StoreWriteError):
            pack.checkpoint(0, GUARD)
    assert list(store.names()) == []


def test_a_pack_gets_its_name_only_when_all_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    pack = written(store)
    order: list[str] = []
    sync, rename, write = os.fsync, Path.rename, os.pwrite

    def synced(fd: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "pack")
        sync(fd)

    def renamed(path: Path, target: Path) -> Path:
        order.append("rename")
        return rename(path, target)

    def wrote(fd: int, data: bytes, offset: int) -> int:
        order.append("write")
        return write(fd, data, offset)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(os, "pwrite", wrote)
    pack.close(0, GUARD, PackState.CLOSED)
    assert order == ["write", "write", "write", "pack", "rename", "directory"]


def test_a_pack_is_never_opened_over_another(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    pack = written(store)
    with pytest.raises(StoreWriteError, match="File exists"):
        PackWriter(store.packs, pack_head(store), store.head.recipients, 1 << 20)
    pack.abandon()
    (path,) = store.open_packs()
    assert mend(path) is not None


def test_a_full_disk_is_told_before_a_pack_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    for free in (0, 1 << 20, (1 << 20) + 10 * 4096):
        monkeypatch.setattr(writer_module, "free_space", lambda _, free=free: free)
        with pytest.raises(StoreFullError, match="a pack needs"):
            put_blocks(store, DATA, SPEC)
        assert list(store.names()) == []


def test_a_store_whose_room_cannot_be_told_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    monkeypatch.setattr(writer_module, "free_space", Failing(int, 1, errno.EIO, lasting=True))
    with pytest.raises(StoreWriteError, match="Input/output error"):
        put_blocks(store, DATA, SPEC)
    assert list(store.names()) == []


def test_the_last_pack_is_as_large_as_the_space_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    monkeypatch.setattr(writer_module, "free_space", lambda _: 2 << 20)
    put_blocks(store, DATA, SPEC, pace=Pace(pack_size=1 << 40))
    assert all(one.size <= 1 << 20 for one in store.infos())
    assert sole_content(store) == DATA


def test_a_pack_that_reads_back_other_than_written_stops_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)

    def rots(back: ReadBack, closed: ClosedPack) -> None:
        with store.pack(closed.pack).open("r+b") as file:
            file.write(b"x")
        honest(back, closed)

    honest = ReadBack.finish
    monkeypatch.setattr(ReadBack, "finish", rots)
    with pytest.raises(StoreWriteError, match="reads back other"):
        put_blocks(store, DATA, SPEC)


def test_an_early_bad_read_back_is_told_when_the_next_pack_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    told: list[Event] = []
    with StoreWriter(store, told.append, SMALL) as writer:
        writer.begin(SPEC, FakeWitness())
        failing = Failing(lambda: 0, 1, errno.EIO, lasting=True)
        monkeypatch.setattr(ReadBack, "_read", failing)
        with pytest.raises(StoreWriteError, match="cannot be read back"):
            put_all(writer, monkeypatch)
    assert len([one for one in told if isinstance(one, PackClosed)]) == 1


def test_a_failed_read_back_is_not_forgotten_when_the_disk_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    put_blocks(store, DATA, SPEC)
    path = min(store.closed())
    whole = path.read_bytes()
    hurt = bytearray(whole)
    hurt[len(hurt) // 2] ^= 1
    path.write_bytes(hurt)
    with pytest.raises(StoreWriteError, match="reads back other"):
        put_blocks(store, DATA, SPEC)
    path.write_bytes(whole)
    put_blocks(store, DATA, SPEC)
    with monkeypatch.context() as patch:
        failing = Failing(lambda: 0, 1, errno.EIO, lasting=True)
        patch.setattr(readback, "stream_past_cache", failing)
        with pytest.raises(PackDamagedError, match="cannot be read"):
            put_blocks(store, DATA, SPEC)


def test_reading_back_wants_size_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.open"
    path.write_bytes(bytes(PAGE))
    digest = Cutter().cut(0, memoryview(bytes(PAGE))).digest
    good = ClosedPack(PackId("11" * 16), PAGE, 0, digest)
    ReadBack(path).finish(good)
    for other in (b"", b"y" * PAGE, bytes(2 * PAGE)):
        path.write_bytes(other)
        with pytest.raises(StoreWriteError, match="reads back other"):
            ReadBack(path).finish(good)
    path.unlink()
    with pytest.raises(StoreWriteError, match="cannot be read back"):
        ReadBack(path)


@pytest.mark.parametrize("direct", [True, False])
def test_a_pack_is_read_back_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, direct: bool
) -> None:
    """Only what lies behind the writer, and without O_DIRECT only what is closed."""
    if not direct:
        monkeypatch.setattr(os, "O_DIRECT", 0)
    monkeypatch.setattr(ReadBack, "_STRIDE", 4 * PAGE)
    monkeypatch.setattr(ReadBack, "_BEHIND", 2 * PAGE)
    data = os.urandom(9 * PAGE)
    path = tmp_path / "a.open"
    path.write_bytes(data[: 5 * PAGE])
    back = ReadBack(path)
    assert [back.late(pages * PAGE) for pages in (3, 4, 5, 7, 8)] == [
        False,
        True,
        False,
        False,
        True,
    ]
    back.follow(5 * PAGE)
    path.write_bytes(bytes(3 * PAGE) + data[3 * PAGE :])  # rot in what was read already
    whole = Cutter().cut(0, memoryview(data)).digest
    closed = ClosedPack(PackId("11" * 16), len(data), 0, whole)
    if direct:
        back.finish(closed)
    else:
        with pytest.raises(StoreWriteError, match="reads back other"):
            back.finish(closed)


def test_a_read_error_behind_the_writer_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.open"
    path.write_bytes(bytes(PAGE))
    back = ReadBack(path)
    with monkeypatch.context() as patch:
        patch.setattr(ReadBack, "_read", Failing(lambda: 0, 1, errno.EIO, lasting=True))
        back.follow(PAGE)
    digest = Cutter().cut(0, memoryview(bytes(PAGE))).digest
    with pytest.raises(StoreWriteError, match="cannot be read back"):
        back.finish(ClosedPack(PackId("11" * 16), PAGE, 0, digest))


def test_a_disk_can_be_discarded_while_others_stay(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    other = point(DATA, "22" * 16)
    put_blocks(store, DATA, SPEC)
    put_blocks(store, DATA, other)
    size = sum(one.size for one in store.infos() if one.head.disk == SPEC.disk)
    assert store.discard(SPEC.disk) == size
    assert store.discard(DiskId("33" * 16)) == 0
    (found,) = maps_of(store)
    assert found.spec.disk == other.disk
    assert content(found) == DATA


def test_records_are_on_their_way_while_the_disk_lets_one_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    pack = written(store)
    before = pack.written
    goes_on, write = threading.Event(), os.pwrite

    def waits(fd: int, data: memoryview, offset: int) -> int:
        assert goes_on.wait(60)
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", waits)
    payload = os.urandom(5000)
    for _ in range(3):
        pack.append(document(Kind.NOTE, payload), payload)
    assert pack.written == before < pack.size
    goes_on.set()
    pack.checkpoint(0, GUARD)
    assert pack.written == pack.size


def test_a_record_that_could_not_be_written_voids_all_behind_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    pack = written(store)
    safe = pack.size
    monkeypatch.setattr(os, "pwrite", Failing(os.pwrite, 1, errno.EIO, lasting=False))
    payload = os.urandom(5000)
    pack.append(document(Kind.NOTE, payload), payload)
    pack.append(document(Kind.NOTE, payload), payload)
    with pytest.raises(StoreWriteError):
        pack.checkpoint(0, GUARD)
    assert pack.path.stat().st_size == safe


def test_a_checkpoint_that_cannot_be_written_voids_all_behind_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    pack = written(store)
    safe = pack.size
    payload = os.urandom(5000)
    pack.append(document(Kind.NOTE, payload), payload)
    pack.settle()
    monkeypatch.setattr(os, "pwrite", Failing(os.pwrite, 1, errno.EIO, lasting=False))
    with pytest.raises(StoreWriteError):
        pack.checkpoint(0, GUARD)
    assert pack.path.stat().st_size == safe
