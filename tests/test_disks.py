"""The volatile disk itself: what it keeps, what it may lose, and how it fails when told to."""

import errno
import fcntl
import mmap
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.block import aligned_buffer, opened, sync_directory, write_durably
from tests.disks.disk import Disk
from tests.disks.faults import Call, Fault, gone
from tests.disks.medium import PAGE, SECTOR
from tests.disks.server import VolatileFiles
from tests.media import Bench, tool

SEEDS = range(100)
OLD, NEW = b"old" * 10000, b"new" * 10000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount file systems.")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "volatile") as made:
        yield made


class Files:
    """The file system's own calls, without a kernel in between: cuts of many seeds are cheap."""

    def __init__(self, place: Path) -> None:
        self._place = place
        (place / "tree").mkdir()
        self._files = VolatileFiles(place / "tree", place)
        self._open: dict[str, int] = {}
        self._asked = 0

    def write(self, path: str, data: bytes, at: int = 0) -> None:
        if path not in self._open:
            self._open[path] = self._files.create(path, 0o600, os.O_RDWR)
        self._files.write(path, data, at, self._open[path])

    def sync(self, path: str) -> None:
        self._files.fsync(path, 0, self._open[path])

    def sync_names(self, path: str = "/") -> None:
        self._files.fsyncdir(path, 0, 0)

    def rename(self, old: str, new: str) -> None:
        self._files.rename(old, new)
        self._open[new] = self._open.pop(old)

    def mkdir(self, path: str) -> None:
        self._files.mkdir(path, 0o700)

    def remove(self, path: str) -> None:
        self._files.unlink(path)

    def resize(self, path: str, size: int) -> None:
        self._files.truncate(path, size)

    def left(self) -> Iterator[Path]:
        """What each seed leaves."""
        self._asked += 1
        for seed in SEEDS:
            place = self._place / f"left-{self._asked}-{seed}"
            self._files.medium.cut(seed, place)
            yield place


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def contents(files: Files, name: str) -> set[bytes | None]:
    """What the file may hold after a cut; None: it may be gone."""
    found = (place / name for place in files.left())
    return {one.read_bytes() if one.exists() else None for one in found}


# --- what a cut may take --------------------


def test_what_was_synced_with_its_name_is_there_whatever_the_seed(files: Files) -> None:
    files.write("/a", OLD)
    files.sync("/a")
    files.sync_names()
    assert contents(files, "a") == {OLD}


def test_a_file_whose_directory_was_not_synced_may_be_gone_or_whole(files: Files) -> None:
    files.write("/a", OLD)
    files.sync("/a")
    assert contents(files, "a") == {OLD, None}


def test_a_name_does_not_say_that_the_bytes_are_there(files: Files) -> None:
    files.write("/a", OLD)
    files.sync_names()
    found = contents(files, "a")
    assert None not in found
    assert {b"", OLD} < found


def test_a_directory_is_lost_with_all_that_was_synced_in_it(files: Files) -> None:
    files.mkdir("/deep")
    files.write("/deep/a", OLD)
    files.sync("/deep/a")
    files.sync_names("/deep")
    assert contents(files, "deep/a") == {OLD, None}
    files.sync_names()


def replaced(files: Files, *, synced: bool) -> None:
    files.write("/a", OLD)
    files.sync("/a")
    files.sync_names()
    files.write("/b", NEW)
    if synced:
        files.sync("/b")
    files.rename("/b", "/a")


def test_a_rename_is_done_or_not(files: Files) -> None:
    replaced(files, synced=True)
    assert contents(files, "a") == {OLD, NEW}
    files.sync_names()
    assert contents(files, "b") == {None}


def test_a_rename_may_come_before_the_bytes(files: Files) -> None:
    replaced(files, synced=False)
    found = contents(files, "a")
    assert {OLD, NEW, b""} < found


def test_what_was_removed_may_be_there_again(files: Files) -> None:
    files.write("/a", OLD)
    files.sync("/a")
    files.sync_names()
    files.remove("/a")
    assert contents(files, "a") == {OLD, None}


def test_writes_are_lost_reordered_and_torn_between_sectors(files: Files) -> None:
    size = 16 * PAGE
    files.write("/a", b"0" * size)
    files.sync("/a")
    files.sync_names()
    for version in (b"1", b"2"):
        for page in range(16):
            files.write("/a", version * PAGE, page * PAGE)
    found = [one for one in contents(files, "a") if one is not None]
    assert {len(one) for one in found} == {size}
    sectors = {one[at : at + SECTOR] for one in found for at in range(0, size, SECTOR)}
    assert sectors == {b"0" * SECTOR, b"1" * SECTOR, b"2" * SECTOR}
    pages = [one[at : at + PAGE] for one in found for at in range(0, size, PAGE)]
    assert any(len(set(page)) > 1 for page in pages)  # torn
    assert any(b"0" in one[: size // 2] and b"2" in one[size // 2 :] for one in found)


def test_a_size_may_come_without_the_bytes_as_zeros_or_as_what_lay_there(files: Files) -> None:
    files.write("/a", b"")
    files.sync_names()
    files.write("/a", NEW)
    full = [one for one in contents(files, "a") if one is not None and len(one) == len(NEW)]
    assert bytes(len(NEW)) in full
    assert any(set(one) - set(NEW) - {0} for one in full)
    files.resize("/a", 5)
    files.sync("/a")
    assert contents(files, "a") == {NEW[:5]}


def test_a_seed_leaves_the_same_again(files: Files) -> None:
    replaced(files, synced=False)
    once, again = ([tree(one) for one in files.left()] for _ in range(2))
    assert once == again


def tree(place: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in place.iterdir()}


# --- through the kernel --------------------


def test_a_cut_comes_after_exactly_so_many_operations(disk: Disk) -> None:
    disk.cut_after(3)
    status = disk.status
    with opened(disk.path / "a", os.O_RDWR | os.O_CREAT) as fd:  # 1
        os.write(fd, OLD)  # 2
        os.fsync(fd)  # 3
        assert not status().dead
        fails(errno.EIO, lambda: os.write(fd, OLD))
        fails(errno.EIO, (disk.path / "a").read_bytes)
    assert (status().dead, status().last) == (True, "fsync /a")
    disk.cut(0)
    assert (status().dead, status().operations) == (False, 0)


def test_what_is_written_durably_survives(disk: Disk) -> None:
    for seed in range(3):
        write_durably(disk.path / "a", b"%d" % seed)
        disk.cut(seed)
        assert (disk.path / "a").read_bytes() == b"%d" % seed
        assert [one.name for one in disk.path.iterdir()] == ["a"]


def rows(disk: Disk, seed: int, synchronous: str) -> int:
    """Rows of a database that are there after a cut, of a hundred that were committed."""
    with closing(sqlite3.connect(disk.path / "state.db")) as database:
        database.execute("pragma journal_mode = wal")
        database.execute(f"pragma synchronous = {synchronous}")
        database.execute("create table if not exists t(a)")
        database.execute("delete from t")
        database.commit()
        disk.settle()
        for one in range(100):
            database.execute("insert into t values(?)", (one,))
            database.commit()
        with closing(sqlite3.connect(disk.path / "state.db")) as reader:  # shares the -shm
            assert reader.execute("select count(*) from t").fetchone() == (100,)
        disk.cut(seed)
    with closing(sqlite3.connect(disk.path / "state.db")) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(database.execute("select count(*) from t").fetchone()[0])


def test_a_database_keeps_what_was_committed(disk: Disk) -> None:
    assert [rows(disk, seed, "full") for seed in range(3)] == [100, 100, 100]


def test_a_database_that_does_not_sync_loses_what_was_committed(disk: Disk) -> None:
    assert min(rows(disk, seed, "normal") for seed in range(3)) < 100


def test_pages_changed_through_a_mapping_are_kept_by_their_flush(disk: Disk) -> None:
    (disk.path / "a").write_bytes(bytes(2 * PAGE))
    disk.settle()
    with opened(disk.path / "a", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[:PAGE] = b"f" * PAGE
        mapped.flush()
        mapped[PAGE:] = b"n" * PAGE
        disk.cut(0)
    assert (disk.path / "a").read_bytes() == b"f" * PAGE + bytes(PAGE)


def test_a_file_that_is_open_may_be_replaced_and_removed(disk: Disk) -> None:
    path = disk.path / "a"
    path.write_bytes(OLD)
    disk.settle()
    with opened(path, os.O_RDWR) as fd:
        (disk.path / "b").write_bytes(NEW)
        (disk.path / "b").rename(path)
        assert (os.pread(fd, 3, 0), path.read_bytes()) == (b"old", NEW)
        path.unlink()
        assert not os.fstat(fd).st_nlink
        assert [*disk.path.iterdir()] == []
        sync_directory(disk.path)
        disk.cut(0)
    assert [*disk.path.iterdir()] == []


def test_space_holes_and_direct_reads_work_as_on_other_disks(disk: Disk) -> None:
    with opened(disk.path / "a", os.O_RDWR | os.O_CREAT | os.O_DIRECT) as fd:
        os.ftruncate(fd, 1 << 20)
        buffer = aligned_buffer(PAGE)
        buffer[:] = b"d" * PAGE
        assert os.pwritev(fd, [buffer], 8 * PAGE) == PAGE
        assert os.preadv(fd, [buffer], 8 * PAGE) == PAGE
        assert os.lseek(fd, 0, os.SEEK_DATA) == 8 * PAGE
        assert os.lseek(fd, 8 * PAGE, os.SEEK_HOLE) == 9 * PAGE
        os.posix_fallocate(fd, 0, 2 << 20)
        assert os.fstat(fd).st_size == 2 << 20
        assert os.fstat(fd).st_blocks * SECTOR >= 2 << 20
        assert os.statvfs(disk.path).f_bavail > 0


def test_locks_are_held_against_other_processes(disk: Disk) -> None:
    take = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with opened(disk.path / "a", os.O_RDWR | os.O_CREAT) as fd:
        for lock, code in ((fcntl.LOCK_EX, 1), (fcntl.LOCK_UN, 0)):
            fcntl.flock(fd, lock)
            again = [sys.executable, "-c", take, str(disk.path / "a")]
            assert subprocess.run(again, check=False, capture_output=True).returncode == code


# --- faults --------------------


def fails(number: int, action: Callable[[], object]) -> None:
    with pytest.raises(OSError) as told:  # noqa: PT011 - its number is looked at
        action()
    assert told.value.errno == number


def test_a_range_cannot_be_read_until_it_is_healed(disk: Disk) -> None:
    (disk.path / "a").write_bytes(OLD)
    disk.inject(Fault("a", Call.READ, errno.EIO, start=PAGE, end=2 * PAGE))
    with opened(disk.path / "a", os.O_RDONLY | os.O_DIRECT) as fd:
        buffer = aligned_buffer(PAGE)
        assert os.preadv(fd, [buffer], 0) == PAGE
        fails(errno.EIO, lambda: os.preadv(fd, [buffer], PAGE))
        disk.heal()
        assert os.preadv(fd, [buffer], PAGE) == PAGE


def test_a_disk_under_a_loop_device_fails_where_it_is_told_to(disk: Disk, bench: Bench) -> None:
    image = disk.path / "disk.img"
    image.write_bytes(b"x" * (1 << 20))
    disk.inject(Fault("*.img", Call.READ, errno.EIO, start=1 << 19, end=(1 << 19) + PAGE))
    device = bench.loop(image, "--direct-io=on")
    with opened(device, os.O_RDONLY | os.O_DIRECT) as fd:
        buffer = aligned_buffer(PAGE)
        assert os.preadv(fd, [buffer], 0) == PAGE
        fails(errno.EIO, lambda: os.preadv(fd, [buffer], 1 << 19))
        assert os.preadv(fd, [buffer], (1 << 19) + PAGE) == PAGE
    tool("blockdev", "--flushbufs", device)


def test_a_write_ends_where_the_disk_is_full(disk: Disk) -> None:
    disk.inject(Fault("a", Call.WRITE, errno.ENOSPC, after=10000))
    with opened(disk.path / "a", os.O_RDWR | os.O_CREAT) as fd:
        assert os.write(fd, bytes(8000)) == 8000
        assert os.write(fd, bytes(8000)) == 2000
        fails(errno.ENOSPC, lambda: os.write(fd, b"x"))


def test_after_a_failed_sync_the_next_one_has_written_nothing(disk: Disk) -> None:
    (disk.path / "a").write_bytes(OLD)
    disk.settle()
    disk.inject(Fault("a", Call.SYNC, errno.EIO, times=1))
    with opened(disk.path / "a", os.O_RDWR) as fd:
        os.pwrite(fd, NEW, 0)
        fails(errno.EIO, lambda: os.fsync(fd))
        os.fsync(fd)
        assert os.pread(fd, 3, 0) == b"new"  # in memory, for as long as it likes
        with opened(disk.path / "a", os.O_RDONLY | os.O_DIRECT) as past:
            buffer = aligned_buffer(PAGE)
            os.preadv(past, [buffer], 0)
            assert bytes(buffer[:3]) == b"old"
        os.pwrite(fd, b"again", 100)  # dirties its page, and what was lost there with it
        os.fsync(fd)
    disk.cut(0)
    found = (disk.path / "a").read_bytes()
    assert found == NEW[:100] + b"again" + NEW[105:PAGE] + OLD[PAGE:]


def test_a_slow_and_then_an_unplugged_disk(disk: Disk) -> None:
    (disk.path / "a").write_bytes(OLD)
    disk.inject(Fault("a", Call.READ, seconds=0.01))
    with opened(disk.path / "a", os.O_RDWR | os.O_DIRECT) as fd:
        buffer = aligned_buffer(PAGE)
        assert os.preadv(fd, [buffer], 0) == PAGE
        assert disk.status().met == 1
        disk.inject(gone())
        fails(errno.ENODEV, lambda: os.preadv(fd, [buffer], 0))
        fails(errno.ENODEV, lambda: os.pwritev(fd, [buffer], 0))
        fails(errno.ENODEV, lambda: (disk.path / "b").write_bytes(b""))


def test_who_has_the_disk_open_when_its_owner_goes_is_not_left_hanging(disk: Disk) -> None:
    fd = os.open(disk.path / "a", os.O_RDWR | os.O_CREAT)
    disk.stop()
    fails(errno.ENOTCONN, lambda: os.pwrite(fd, b"x", 0))
    fails(errno.ENOTCONN, lambda: os.close(fd))
    assert not os.path.ismount(disk.path)
