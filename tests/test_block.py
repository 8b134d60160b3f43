"""Bytes on media: aligned, durable, past the cache."""

import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import block
from appliance.block import PAGE, aligned_buffer, opened, opened_past_cache
from tests.media import Bench, tool

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 511, PAGE, MIB + 1])
def test_a_buffer_is_zeroed_and_as_long_as_asked(size: int) -> None:
    buffer = aligned_buffer(size)
    assert len(buffer) == size
    assert not any(buffer)
    assert not buffer.readonly


def test_a_buffer_serves_reads_past_the_cache(bench: Bench) -> None:
    device = bench.loop(bench.image(os.urandom(MIB)))
    buffer = aligned_buffer(MIB)
    with opened(device, os.O_RDONLY | os.O_DIRECT) as fd:
        assert block.pread_full(fd, 0, buffer) == MIB
        assert block.pread_full(fd, MIB - 512, buffer) == 512
        assert block.pread_full(fd, MIB, buffer) == 0


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_device_tells_its_size_and_sectors(bench: Bench, sector: int) -> None:
    device = bench.loop(bench.image(MIB), "--sector-size", str(sector))
    with opened(device, os.O_RDONLY) as fd:
        assert block.device_size(fd) == MIB
        assert block.sector_sizes(fd) == (sector, sector)
    assert block.is_block_device(device)


def test_what_is_no_block_device(tmp_path: Path) -> None:
    for one in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        assert not block.is_block_device(one)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(0, 5000))
def test_a_file_is_read_on_after_short_reads(pieces: list[int], offset: int) -> None:
    """A read may give less than asked for; whole sectors mean that there is more."""
    data = os.urandom(sum(pieces) * 512)
    left = iter(pieces)

    def short(_: int, buffers: list[memoryview], at: int) -> int:
        got = min(next(left, 1) * 512, len(buffers[0]))
        piece = data[at - offset : at - offset + got]
        buffers[0][: len(piece)] = piece
        return len(piece)

    buffer = aligned_buffer(len(data) + 512)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", short)
        assert block.pread_full(-1, offset, buffer) == len(data)
    assert buffer[: len(data)] == data


def test_an_odd_end_is_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    with opened(tmp_path / "file", os.O_RDONLY) as fd:
        assert block.pread_full(fd, 0, memoryview(bytearray(4096))) == 1000


def test_a_write_goes_on_until_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:7], at))
    with opened(tmp_path / "file", os.O_WRONLY | os.O_CREAT) as fd:
        block.pwrite_full(fd, 5, b"the whole of it and nothing less")
    assert (tmp_path / "file").read_bytes() == bytes(5) + b"the whole of it and nothing less"


def test_a_glance_sees_what_can_be_read(bench: Bench) -> None:
    image = bench.image(os.urandom(MIB))
    device = bench.loop(image)
    os.truncate(image, MIB // 2)
    with opened(device, os.O_RDONLY) as fd:
        assert len(block.peek(fd, 64, 0)) == 64
        assert block.peek(fd, 64, 3 * MIB // 4) == b""


def test_a_descriptor_is_closed_whatever_happens(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), opened(tmp_path, os.O_RDONLY) as fd:
        assert not os.get_inheritable(fd)
        raise ZeroDivisionError
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_small_files_are_read_to_their_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert block.read_small(tmp_path / "file", 100) == b"0123456789"
    assert block.read_small(tmp_path / "file", 4) == b"0123"


def test_what_is_put_in_the_place_of_a_small_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for one in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            block.read_small(one, 10)


def test_a_link_is_followed_only_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="symbolic links"):
        block.read_small(link, 10)
    assert block.read_small(link, 10, flags=0) == b"0123456789"


# --- past the cache --------------------


def test_a_disk_that_loses_writes_is_not_believed(bench: Bench) -> None:
    """What a file system remembers of a file is not what a fresh look at the disk gives."""
    image = bench.image(32 * MIB)
    tool("mkfs.ext4", "-q", "-b", "4096", image)
    place = bench.mount(bench.loop(image), bench.place / "mnt")
    file = place / "file"
    file.write_bytes(b"a" * MIB)
    tool("sync", "-f", place)
    at = block.physical_order(file)[0]
    with opened(image, os.O_WRONLY) as fd:
        os.pwrite(fd, b"b" * 4096, at)
    assert file.read_bytes()[:4096] == b"a" * 4096
    taken = bytearray()
    assert block.stream_past_cache(file, aligned_buffer(64 * PAGE), taken.extend) == MIB
    assert taken == b"b" * 4096 + b"a" * (MIB - 4096)


@pytest.mark.parametrize("size", [0, 1, PAGE, 8 * PAGE, 8 * PAGE + 1, 20 * PAGE - 1])
def test_a_file_is_streamed_whole(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    taken = bytearray()
    found = block.stream_past_cache(tmp_path / "file", aligned_buffer(8 * PAGE), taken.extend)
    assert found == size
    assert taken == data


def test_a_file_system_without_direct_reads_is_read_all_the_same() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        os.open("/proc/version", os.O_RDONLY | os.O_DIRECT)
    with opened_past_cache("/proc/version") as fd:
        assert b"Linux" in os.read(fd, 100)


def test_only_a_file_is_streamed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for one in ("link", "pipe"):
        with pytest.raises(OSError, match=r"symbolic links|Illegal seek"):
            block.stream_past_cache(tmp_path / one, aligned_buffer(PAGE), bytes)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_is_not_there_cannot_be_read_past_the_cache(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), opened_past_cache(tmp_path / "missing"):
        pass


# --- durable --------------------


def test_a_file_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    block.write_durably(path, b"first", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(block, "pwrite_full", full)
        with pytest.raises(OSError, match="No space"):
            block.write_durably(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
    block.write_durably(path, b"third")
    assert path.read_bytes() == b"third"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_everything_is_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, os.replace

    def synced(fd: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        sync(fd)

    def renamed(old: Path, new: Path) -> None:
        steps.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    block.write_durably(tmp_path / "file", b"content")
    fresh = steps.pop(0)
    assert fresh.startswith("sync file.")
    assert fresh.endswith(".new")
    assert steps == ["rename", f"sync {tmp_path.name}"]


def test_two_writers_of_one_file_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "file", os.replace

    def overtaken(old: Path, new: Path) -> None:
        monkeypatch.setattr(os, "replace", rename)
        block.write_durably(path, b"other")
        assert path.read_bytes() == b"other"
        rename(old, new)

    monkeypatch.setattr(os, "replace", overtaken)
    block.write_durably(path, b"mine")
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from appliance import block
block.pwrite_full = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
block.write_durably(Path(sys.argv[1]), b"never whole")
"""


def test_what_a_killed_writer_left_is_not_taken_for_whole_and_goes(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "file.of-another.new"
    other.write_bytes(b"not a draft")
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
        assert died.returncode == -signal.SIGKILL
        assert not path.exists()
        assert len(list(tmp_path.iterdir())) == 2
    block.write_durably(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == [path, other]


def test_a_draft_swept_away_before_it_was_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / "file", fcntl.flock

    def overtaken(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        block.write_durably(path, b"other")
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    block.write_durably(path, b"mine")
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    left = tmp_path / f"file.{'0' * 16}.new"
    left.write_bytes(b"perhaps still being written")
    monkeypatch.setattr(fcntl, "flock", unknown)
    block.write_durably(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert left.exists()


def test_a_lock_is_held_until_it_is_left(tmp_path: Path) -> None:
    path, now = tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB
    with block.locked(path), opened(path, os.O_RDWR) as fd, pytest.raises(BlockingIOError):
        fcntl.flock(fd, now)
    with opened(path, os.O_RDWR) as fd:
        fcntl.flock(fd, now)


def test_space_is_taken_or_refused(bench: Bench) -> None:
    place = bench.mount("none", bench.place / "small", "-t", "tmpfs", "-o", "size=4m")
    free = block.free_space(place)
    assert free == 4 * MIB
    with opened(place / "file", os.O_RDWR | os.O_CREAT) as fd:
        block.reserve(fd, 3 * MIB)
        assert block.free_space(place) == MIB
        with pytest.raises(OSError, match="No space left") as refused:
            block.reserve(fd, 5 * MIB)
    assert refused.value.errno in block.NO_SPACE_ERRNOS


# --- where a file lies --------------------


def test_files_are_ordered_as_they_lie_on_the_disk(bench: Bench) -> None:
    image = bench.image(64 * MIB)
    tool("mkfs.ext4", "-q", image)
    place = bench.mount(bench.loop(image), bench.place / "mnt")
    for one in ("a", "b", "empty"):
        (place / one).write_bytes(os.urandom(2 * MIB) if one != "empty" else b"")
    tool("sync", "-f", place)
    starts = {block.physical_order(place / one)[0] for one in ("a", "b")}
    assert len(starts) == 2
    assert 0 not in starts
    empty = place / "empty"
    assert block.physical_order(empty) == (0, empty.stat().st_ino)
    for one in ("a", "b"):
        with opened(image, os.O_RDONLY) as fd:
            at = block.physical_order(place / one)[0]
            assert os.pread(fd, 4096, at) == (place / one).read_bytes()[:4096]


def test_where_nobody_knows_the_order_the_inode_decides(bench: Bench) -> None:
    place = bench.mount("none", bench.place / "small", "-t", "tmpfs", "-o", "size=4m")
    (place / "file").write_bytes(b"x")
    assert block.physical_order(place / "file") == (0, (place / "file").stat().st_ino)


def test_a_page_lies_where_the_disk_has_it(bench: Bench) -> None:
    device = bench.loop(bench.image(16 * MIB))
    tool("mkfs.ext4", "-q", device)
    place = bench.mount(device, bench.place / "mnt")
    data = os.urandom(MIB)
    (place / "file").write_bytes(data)
    os.truncate(place / "file", 2 * MIB)
    node = block.device_node((place / "file").stat().st_dev)
    assert node == device
    buffer = aligned_buffer(PAGE)
    with opened(place / "file", os.O_RDONLY) as fd, opened_past_cache(device) as disk:
        for offset in (0, PAGE, MIB - PAGE):
            at = block.physical_place(fd, offset)
            assert at is not None
            block.pread_full(disk, at, buffer)
            assert bytes(buffer) == data[offset : offset + PAGE]
        assert block.physical_place(fd, MIB) is None  # a hole


def test_bytes_kept_beside_the_inode_have_no_place_of_their_own(bench: Bench) -> None:
    device = bench.loop(bench.image(16 * MIB))
    tool("mkfs.ext4", "-q", "-O", "inline_data", device)
    place = bench.mount(device, bench.place / "mnt")
    (place / "file").write_bytes(b"few")
    with opened(place / "file", os.O_RDONLY) as fd:
        assert block.physical_place(fd, 0) is None


def test_a_file_system_without_a_disk_has_no_node(bench: Bench) -> None:
    place = bench.tmpfs(bench.place / "memory")
    (place / "file").write_bytes(bytes(PAGE))
    assert block.device_node((place / "file").stat().st_dev) is None
    with opened(place / "file", os.O_RDONLY) as fd, pytest.raises(OSError, match="not supported"):
        block.physical_place(fd, 0)


def test_a_node_that_is_another_by_now_is_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = bench.loop(bench.image(MIB)).stat().st_rdev
    monkeypatch.setattr(Path, "read_text", lambda _: "MAJOR=1\nDEVNAME=null\n")
    assert block.device_node(number) is None
    monkeypatch.setattr(Path, "read_text", lambda _: "MAJOR=1\n")
    assert block.device_node(number) is None


def test_space_is_given_back_and_the_disk_is_told(bench: Bench) -> None:
    image = bench.image(32 * MIB)
    device = bench.loop(image)
    tool("mkfs.ext4", "-q", device)
    place = bench.mount(device, bench.place / "mnt")
    (place / "file").write_bytes(os.urandom(8 * MIB))
    with opened(place / "file", os.O_RDWR) as fd:
        os.fsync(fd)
        before = image.stat().st_blocks
        block.punch(fd, 8 * MIB)
        block.sync_file_system(fd)
        assert os.fstat(fd).st_size == 8 * MIB
        assert not any((place / "file").read_bytes())
        assert block.trim(fd) >= 8 * MIB
    assert image.stat().st_blocks <= before - (8 * MIB // 512)


def test_what_a_file_system_cannot_do_is_said(bench: Bench) -> None:
    place = bench.tmpfs(bench.place / "memory")
    with opened(place, os.O_RDONLY) as fd, pytest.raises(OSError, match="Inappropriate ioctl"):
        block.trim(fd)
    with opened(place, os.O_RDONLY) as fd, pytest.raises(OSError, match="Bad file descriptor"):
        block.punch(fd, PAGE)


def test_a_bind_mount_is_another_mount(bench: Bench) -> None:
    (bench.place / "there").mkdir()
    here = bench.mount(bench.place / "there", bench.place / "here", "--bind")
    found = []
    for one in (bench.place, bench.place / "there", here):
        with opened(one, os.O_RDONLY) as fd:
            found.append(block.mount_of(fd))
    assert found[0] == found[1] != found[2]


def test_a_disk_says_whether_it_seeks(bench: Bench) -> None:
    image = bench.image(32 * MIB)
    tool("sfdisk", image, stdin="label: dos\nstart=2048\n")
    device = bench.loop(image)
    (part,) = bench.partitions(device)
    tool("mkfs.ext4", "-q", part)
    place = bench.mount(part, bench.place / "mnt")
    queue = Path(f"/sys/block/{device.name}/queue/rotational")
    before = queue.read_text()
    for word in ("0", "1"):
        queue.write_text(word)
        assert block.is_rotational(place) == (word == "1")
    queue.write_text(before)


def test_a_file_system_without_a_disk_does_not_seek(bench: Bench) -> None:
    place = bench.mount("none", bench.place / "small", "-t", "tmpfs")
    assert not block.is_rotational(place)
    assert not block.is_rotational(place / "vanished")


def test_a_pipe_has_no_place_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert block.physical_order(tmp_path / "pipe") == (0, (tmp_path / "pipe").stat().st_ino)


# --- this process --------------------

LOCKED = """
import resource
from appliance.block import keep_in_memory
{before}
print(keep_in_memory())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmLck"].split()[0]) > 0)
"""


def locked(before: str = "") -> list[str]:
    command = [sys.executable, "-c", LOCKED.format(before=before)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_secrets_are_kept_out_of_swap(bench: Bench) -> None:
    del bench  # root's: others may lock little
    assert locked() == ["True", "True"]


def test_where_the_system_refuses_that_is_said(bench: Bench) -> None:
    del bench  # root's
    limit = "import os; resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0)); os.setuid(65534)"
    assert locked(limit) == ["False", "False"]


def test_the_page_size_is_the_one_that_is_assumed() -> None:
    assert not mmap.PAGESIZE % PAGE


def test_a_descriptor_of_any_number_is_waited_for() -> None:
    """select() knows none above 1,023."""
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        assert not block.fd_ready(high, 0)
        os.write(writer, b"x")
        assert block.fd_ready(high, 60)
        assert block.fd_ready(writer, 60, reading=False, writing=True)
        os.read(high, 1)
        os.close(writer)
        assert block.fd_ready(high, 1e12)  # its end
    finally:
        os.close(reader)
        os.close(high)
