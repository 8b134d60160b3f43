"""A freeze: one point over all disks of a living machine, which ends whatever happens."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from appliance.block import aligned_buffer
from appliance.errors import (
    BadInputError,
    FreezeLostError,
    FreezeRefusedError,
    NeedRootError,
)
from appliance.ingest import freezing, watchdog
from appliance.ingest.live import LiveDisks
from tests.media import Bench, tool, unprivileged

MIB = 1 << 20
LIVE = LiveDisks([])
LONG = 600.0
SIZES = {"ext4": 16 * MIB, "xfs": 300 * MIB}
# Else the kernel goes on making ext4 in the background, where it is not frozen.
AT_ONCE = {"ext4": ("-E", "lazy_itable_init=0,lazy_journal_init=0"), "xfs": ()}


def eventually(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, f"{what} did not come to pass"
        os.sched_yield()


def mounted(bench: Bench, kind: str, name: str, *options: str) -> tuple[Path, Path]:
    """A disk with that file system, and where it is mounted."""
    image = bench.image(SIZES[kind], f"{name}.img")
    tool(f"mkfs.{kind}", "-q", *AT_ONCE[kind], image)
    device = bench.loop(image)
    return device, bench.mount(device, bench.place / name, *options)


def is_frozen(where: Path) -> bool:
    """The kernel refuses to freeze twice."""
    fd = os.open(where, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, watchdog.FIFREEZE, 0)
    except OSError as exc:
        assert exc.errno == errno.EBUSY  # noqa: PT017 - also a result
        return True
    else:
        fcntl.ioctl(fd, watchdog.FITHAW, 0)
        return False
    finally:
        os.close(fd)


class Writer:
    """Somebody at the source who writes one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        self.path.write_bytes(b"written")

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def waits(self) -> bool:
        """Whether the kernel has put the thread to sleep, uninterruptibly."""
        stat = Path(f"/proc/self/task/{self._thread.native_id}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "D"


@contextmanager
def thawed_in_the_end(*places: Path) -> Iterator[None]:
    """A failing test must not leave a file system frozen: it could not even be unmounted."""
    try:
        yield
    finally:
        for one in places:
            fd = os.open(one, os.O_RDONLY)
            with suppress(OSError):
                fcntl.ioctl(fd, watchdog.FITHAW, 0)
            os.close(fd)


def the_watchdog(job: int) -> int:
    """The process that watches over the freeze of ``job``, by what it was started as."""
    for one in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (one / "cmdline").read_bytes().split(b"\0")
            parent = (one / "stat").read_text().rpartition(")")[2].split()[1]
            if b"appliance.ingest.watchdog" in words and int(parent) == job:
                return int(one.name)
    raise AssertionError("no watchdog runs")


def is_gone(process: int) -> bool:
    """Whether it holds nothing open any more, reaped or not."""
    with suppress(OSError):
        return not list(Path(f"/proc/{process}/fd").iterdir())
    return True


def test_all_disks_are_frozen_at_once_and_writers_wait(bench: Bench) -> None:
    (one, first), (two, second) = mounted(bench, "ext4", "one"), mounted(bench, "xfs", "two")
    (first / "before").write_bytes(b"before")
    with thawed_in_the_end(first, second):
        with LIVE.freeze([str(one), str(two)], LONG) as frozen:
            assert is_frozen(first)
            assert is_frozen(second)
            writers = [Writer(first / "file"), Writer(second / "file")]
            for writer in writers:
                eventually(writer.waits, "the writer waits")
            assert set(frozen.mounts) == {str(first), str(second)}
            assert (frozen.loose, frozen.idle) == ((), ())
            with LIVE.open(str(one)) as disk:
                before, after = aligned_buffer(SIZES["ext4"]), aligned_buffer(SIZES["ext4"])
                disk.readinto(0, before)
                disk.readinto(0, after)
                assert before == after == (bench.place / "one.img").read_bytes()
            assert not any(writer.done for writer in writers)
        for writer in writers:
            eventually(lambda writer=writer: writer.done, "the writer goes on")  # type: ignore[misc]
            assert writer.path.read_bytes() == b"written"
    assert not is_frozen(first)
    held = frozen.seconds
    assert held > 0
    assert frozen.seconds == held


def test_the_point_mounts_with_what_was_written_before(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    (where / "before").write_bytes(b"before")
    with (
        thawed_in_the_end(where),
        LIVE.freeze([str(device)], LONG),
        LIVE.open(str(device)) as disk,
    ):
        copy = aligned_buffer(SIZES["ext4"])
        disk.readinto(0, copy)
    image = bench.image(bytes(copy), "copy.img")
    tool("e2fsck", "-f", "-n", image)
    again = bench.mount(bench.loop(image), bench.place / "copy", "-o", "ro")
    assert (again / "before").read_bytes() == b"before"


def test_an_error_thaws_too(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")

    def fails() -> None:
        with LIVE.freeze([str(device)], LONG):
            assert is_frozen(where)
            raise RuntimeError("in the round")

    with thawed_in_the_end(where), pytest.raises(RuntimeError, match="in the round"):
        fails()
    assert not is_frozen(where)


def test_a_file_system_is_frozen_once_wherever_it_is_mounted(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    (where / "inside").mkdir()
    other = bench.mount(where / "inside", bench.place / "bound", "--bind")
    bench.tmpfs(where)  # covers it
    with LIVE.freeze([str(device)], LONG) as frozen:
        assert frozen.mounts == (str(other),)
        assert is_frozen(other)
    assert not is_frozen(other)


def test_partitions_are_found_and_other_disks_left_alone(bench: Bench) -> None:
    image = bench.image(16 * MIB, "parted.img")
    tool("sfdisk", image, stdin="label: dos\nstart=2048\n")
    device = bench.loop(image)
    (part,) = bench.partitions(device)
    tool("mkfs.ext4", "-q", part)
    where = bench.mount(part, bench.place / "part")
    _, other = mounted(bench, "ext4", "other")
    with thawed_in_the_end(where, other), LIVE.freeze([str(device)], LONG) as frozen:
        assert frozen.mounts == (str(where),)
        assert not is_frozen(other)


def test_what_lies_in_a_file_of_a_file_system_is_frozen_before_it(bench: Bench) -> None:
    image = bench.image(64 * MIB, "outer.img")
    tool("mkfs.ext4", "-q", image)
    outer = bench.loop(image)
    below = bench.mount(outer, bench.place / "outer")
    os.truncate(bench.image(0, "outer/inner.img"), 16 * MIB)
    tool("mkfs.ext4", "-q", below / "inner.img")
    above = bench.mount(bench.loop(below / "inner.img"), bench.place / "inner")
    (above / "fresh").write_bytes(b"not yet on any disk")
    with thawed_in_the_end(below, above), LIVE.freeze([str(outer)], LONG) as frozen:
        assert frozen.mounts == (str(above), str(below))


@pytest.mark.parametrize("kind", sorted(SIZES))
def test_a_killed_job_leaves_nothing_frozen(bench: Bench, kind: str) -> None:
    device, where = mounted(bench, kind, "one")
    script = (
        "import sys, time; from appliance.ingest.live import LiveDisks\n"
        f"with LiveDisks([]).freeze([{str(device)!r}], {LONG}):\n"
        "    print('frozen', flush=True); sys.stdin.read()\n"
    )
    with thawed_in_the_end(where):
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
            assert job.stdout is not None
            assert job.stdout.readline() == b"frozen\n"
            assert is_frozen(where)
            writer = Writer(where / "file")
            eventually(writer.waits, "the writer waits")
            dog = the_watchdog(job.pid)
            job.kill()
            assert job.wait() == -signal.SIGKILL
        eventually(lambda: writer.done, "the writer goes on")
        eventually(lambda: is_gone(dog), "the watchdog goes")
        assert not is_frozen(where)


def test_what_takes_too_long_is_thawed_and_is_no_point(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")

    def takes_too_long() -> None:
        with LIVE.freeze([str(device)], 0.1):
            writer = Writer(where / "file")
            eventually(lambda: writer.done, "the writer goes on")

    lost = pytest.raises(FreezeLostError, match=f"{where} was not frozen any more")
    with thawed_in_the_end(where), lost:
        takes_too_long()
    assert not is_frozen(where)


def test_a_watchdog_that_is_asked_to_end_thaws(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")

    def loses_it() -> None:
        with LIVE.freeze([str(device)], LONG):
            os.kill(the_watchdog(os.getpid()), signal.SIGTERM)
            writer = Writer(where / "file")
            eventually(lambda: writer.done, "the writer goes on")

    with thawed_in_the_end(where), pytest.raises(FreezeLostError):
        loses_it()


def test_without_its_watchdog_the_point_still_ends_well(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    with thawed_in_the_end(where):
        with LIVE.freeze([str(device)], LONG) as frozen:
            os.kill(the_watchdog(os.getpid()), signal.SIGKILL)
            assert is_frozen(where)
        assert not is_frozen(where)
    assert (frozen.loose, frozen.idle) == ((), ())


def test_without_a_watchdog_nothing_is_frozen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, where = mounted(bench, "ext4", "one")
    for broken in ("/bin/false", "/bin/echo"):
        monkeypatch.setattr(sys, "executable", broken)
        with (
            pytest.raises(FreezeRefusedError, match="watchdog"),
            LIVE.freeze([str(device)], LONG),
        ):
            pass
        assert not is_frozen(where)


def test_where_we_keep_our_state_is_never_frozen(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    other, _ = mounted(bench, "ext4", "other")
    home = where / "home"
    home.mkdir()
    live = LiveDisks([home])
    with (
        pytest.raises(FreezeRefusedError, match=f"^{home} lies on {where}, which would") as found,
        live.freeze([str(other), str(device)], LONG),
    ):
        pass
    assert "MOTIONGEAR_HOME to a directory on /run" in found.value.todo_now
    with live.freeze([str(other)], LONG) as frozen:
        assert (frozen.loose, frozen.idle) == ((), ())


def test_nor_is_what_our_output_goes_into(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    kept = os.dup(2)
    try:
        with (where / "log").open("wb") as log:
            os.dup2(log.fileno(), 2)
        with (
            pytest.raises(FreezeRefusedError, match="The log lies on"),
            LIVE.freeze([str(device)], LONG),
        ):
            pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_a_state_on_an_overlay_may_lie_anywhere(bench: Bench) -> None:
    device, _ = mounted(bench, "ext4", "one")
    for one in ("lower", "upper", "work"):
        (bench.place / one).mkdir()
    layers = ",".join(f"{one}dir={bench.place / one}" for one in ("lower", "upper", "work"))
    home = bench.mount("overlay", bench.place / "home", "-t", "overlay", "-o", layers)
    with (
        pytest.raises(FreezeRefusedError, match="lies on an overlay"),
        LiveDisks([home]).freeze([str(device)], LONG),
    ):
        pass


def test_what_cannot_be_frozen_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, first), (two, second) = mounted(bench, "ext4", "one"), mounted(bench, "ext4", "two")

    class Vfat:
        """The second file system knows no freezing."""

        @staticmethod
        def ioctl(fd: int, request: int, argument: int) -> int:
            if os.fstat(fd).st_dev == second.stat().st_dev:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return fcntl.ioctl(fd, request, argument)

    monkeypatch.setattr(freezing, "fcntl", Vfat)
    with LIVE.freeze([str(one), str(two)], LONG) as frozen:
        assert (frozen.mounts, frozen.loose) == ((str(first),), (str(second),))
    assert not is_frozen(first)


def test_what_is_mounted_in_a_container_only_is_out_of_reach(bench: Bench) -> None:
    image = bench.image(16 * MIB, "inside.img")
    tool("mkfs.ext4", "-q", *AT_ONCE["ext4"], image)
    device, where = bench.loop(image), bench.place / "inside"
    where.mkdir()
    script = f"mount {device} {where} && echo ready && read end"
    # In a changed root there is no mount whose propagation could be changed.
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    rooted = any(one.split()[4] == "/" for one in mounts)
    how = "private" if rooted else "unchanged"
    container = ["unshare", "--mount", "--propagation", how, "sh", "-c", script]
    with subprocess.Popen(container, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as inside:
        assert inside.stdout is not None
        assert inside.stdout.readline() == b"ready\n"
        with LIVE.freeze([str(device)], LONG) as frozen:
            assert frozen.loose == (f"{where} (in the container of {inside.pid})",)


def test_a_file_system_that_is_covered_everywhere_is_out_of_reach(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    bench.tmpfs(where)
    with LIVE.freeze([str(device)], LONG) as frozen:
        assert (frozen.mounts, frozen.loose) == ((), (str(where),))


def test_what_is_read_only_needs_no_freeze(bench: Bench) -> None:
    device, _ = mounted(bench, "ext4", "one", "-o", "ro")
    with LIVE.freeze([str(device)], LONG) as frozen:
        assert (frozen.mounts, frozen.loose, frozen.idle) == ((), (), ())
        assert (frozen.loose, frozen.idle) == ((), ())


def test_a_disk_that_nothing_is_mounted_from_is_named(bench: Bench) -> None:
    device = str(bench.loop(bench.image(MIB)))
    with LIVE.freeze([device], LONG) as frozen:
        assert frozen.idle == (device,)
        assert frozen.loose or frozen.idle


def test_what_somebody_else_froze_stays_theirs(bench: Bench) -> None:
    (one, first), (two, second) = mounted(bench, "ext4", "one"), mounted(bench, "ext4", "two")
    with thawed_in_the_end(second):
        tool("fsfreeze", "--freeze", second)
        with (
            pytest.raises(FreezeRefusedError, match="somebody else has frozen it"),
            LIVE.freeze([str(one), str(two)], LONG),
        ):
            pass
        assert is_frozen(second)
        assert not is_frozen(first)


def test_who_is_not_root_freezes_nothing(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    with unprivileged(), pytest.raises(NeedRootError), LIVE.freeze([str(device)], LONG):
        pass
    assert not is_frozen(where)


@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("nan")])
def test_no_freeze_without_an_end(bench: Bench, seconds: float) -> None:
    device, _ = mounted(bench, "ext4", "one")
    with pytest.raises(BadInputError), LIVE.freeze([str(device)], seconds):
        pass


def write_past(device: Path, offset: int) -> None:
    """Write the same again, past whatever is mounted from there."""
    page = aligned_buffer(4096)
    fd = os.open(device, os.O_RDWR | os.O_DIRECT)
    try:
        os.preadv(fd, [page], offset)
        os.pwritev(fd, [page], offset)
    finally:
        os.close(fd)


def test_who_writes_past_the_file_system_spoils_the_point(bench: Bench) -> None:
    (one, first), (two, second) = mounted(bench, "ext4", "one"), mounted(bench, "xfs", "two")

    def spoilt() -> None:
        with LIVE.freeze([str(one), str(two)], LONG):
            write_past(two, SIZES["xfs"] // 2)

    with (
        thawed_in_the_end(first, second),
        pytest.raises(FreezeLostError, match=f"^{two} was written to") as told,
    ):
        spoilt()
    assert "raw partition" in told.value.todo_now
    assert not is_frozen(first)
    assert not is_frozen(second)


def test_so_does_who_writes_to_another_partition(bench: Bench) -> None:
    image = bench.image(32 * MIB, "parted.img")
    tool("sfdisk", image, stdin="label: dos\nstart=2048, size=32768\nsize=16384\n")
    device = bench.loop(image)
    system, raw = bench.partitions(device)
    tool("mkfs.ext4", "-q", *AT_ONCE["ext4"], system)
    where = bench.mount(system, bench.place / "part")

    def spoilt() -> None:
        with LIVE.freeze([str(device)], LONG):
            write_past(raw, 0)

    with thawed_in_the_end(where), pytest.raises(FreezeLostError, match=str(device)):
        spoilt()


def test_a_thaw_that_was_covered_by_another_freeze_is_found(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")

    def covered() -> None:
        with LIVE.freeze([str(device)], LONG):
            tool("fsfreeze", "--unfreeze", where)
            (where / "meanwhile").write_bytes(b"written")
            tool("fsfreeze", "--freeze", where)

    with thawed_in_the_end(where), pytest.raises(FreezeLostError, match="was written to"):
        covered()


def test_an_idle_disk_that_is_written_to_is_not_idle(bench: Bench) -> None:
    device = bench.loop(bench.image(MIB))

    def spoilt() -> None:
        with LIVE.freeze([str(device)], LONG) as frozen:
            assert frozen.idle == (str(device),)
            write_past(device, 0)

    with pytest.raises(FreezeLostError, match="was written to"):
        spoilt()


def test_what_a_freeze_itself_writes_does_not_spoil_it(bench: Bench) -> None:
    places = [mounted(bench, kind, kind) for kind in sorted(SIZES)]
    with thawed_in_the_end(*(where for _, where in places)):
        for turn in range(20):
            for _, where in places:
                (where / "file").write_bytes(os.urandom(MIB + turn))
            with LIVE.freeze([str(device) for device, _ in places], LONG) as frozen:
                for _, where in places:
                    assert is_frozen(where)
            assert (frozen.loose, frozen.idle) == ((), ())


def test_an_error_in_the_round_is_told_before_a_write(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")

    def fails() -> None:
        with LIVE.freeze([str(device)], LONG):
            write_past(device, SIZES["ext4"] // 2)
            raise RuntimeError("in the round")

    with thawed_in_the_end(where), pytest.raises(RuntimeError, match="in the round"):
        fails()


def test_what_a_disk_under_another_still_had_in_memory_is_no_write_to_it(bench: Bench) -> None:
    """A loop device over a loop device: the one below has a cache of its own."""
    device = bench.loop(bench.image(320 * MIB, "below.img"))
    window = bench.loop(device, "--offset", str(MIB))
    tool("mkfs.xfs", "-q", window)
    where = bench.mount(window, bench.place / "above")
    for one in range(8):
        (where / f"file-{one}").write_bytes(os.urandom(MIB))
    with LIVE.freeze([str(device)], LONG) as frozen:
        assert frozen.mounts == (str(where),)
        tool("dd", f"if={device}", "of=/dev/null", "iflag=direct", "bs=1M", "status=none")


# --- a freeze that is lost is known at once --------------------


def test_a_freeze_that_took_too_long_is_known_before_its_end(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    told: list[FreezeLostError] = []

    def known() -> bool:
        try:
            frozen.confirm()
        except FreezeLostError as exc:
            told.append(exc)
        return bool(told)

    with (
        thawed_in_the_end(where),
        suppress(FreezeLostError),
        LIVE.freeze([str(device)], 0.1) as frozen,
    ):
        eventually(known, "the watchdog says that it has thawed")
        with pytest.raises(FreezeLostError, match="was not frozen any more"):
            frozen.confirm()
    assert told


def test_so_is_one_whose_watchdog_was_asked_to_end(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    with (
        thawed_in_the_end(where),
        suppress(FreezeLostError),
        LIVE.freeze([str(device)], LONG) as frozen,
    ):
        frozen.confirm()
        dog = the_watchdog(os.getpid())
        os.kill(dog, signal.SIGTERM)
        eventually(lambda: is_gone(dog), "the watchdog goes")
        with pytest.raises(FreezeLostError, match="was not frozen any more"):
            frozen.confirm()


def test_a_freeze_whose_watchdog_was_killed_still_holds(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    with thawed_in_the_end(where):
        with LIVE.freeze([str(device)], LONG) as frozen:
            dog = the_watchdog(os.getpid())
            os.kill(dog, signal.SIGKILL)
            eventually(lambda: is_gone(dog), "the watchdog goes")
            frozen.confirm()
        (where / "afterwards").write_bytes(os.urandom(MIB))
        os.sync()
        frozen.confirm()  # what is written once it is over is nobody's loss


def test_a_write_past_the_file_system_is_known_before_the_end(bench: Bench) -> None:
    device, where = mounted(bench, "ext4", "one")
    with (
        thawed_in_the_end(where),
        suppress(FreezeLostError),
        LIVE.freeze([str(device)], LONG) as frozen,
    ):
        frozen.confirm()
        write_past(device, SIZES["ext4"] // 2)
        with pytest.raises(FreezeLostError, match=f"^{device} was written to"):
            frozen.confirm()
