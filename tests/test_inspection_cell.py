"""What a disk could make of the program that looks at it stays in its cell."""

import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.block import opened
from appliance.ingest import inspection
from appliance.ingest.inspection import cell, confine
from tests import escapes
from tests.disks.disk import Disk
from tests.disks.faults import Call, Fault
from tests.media import NOBODY, Bench, tool
from tests.test_inspection_machines import BARE

HERE = Path(__file__).parents[1]
Ask = Callable[..., list[str]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What an escape would be after: a disk, a secret of root, and that nothing else is there."""
    tmp_path.chmod(0o777)
    (tmp_path / "disk").write_bytes(bytes(4096))
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


@pytest.fixture
def listeners(place: Path) -> Iterator[list[socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{place}")
        unix.listen()
        for one in (tcp, unix):
            one.setblocking(False)  # noqa: FBT003 - its name says it
        yield [tcp, unix]


@pytest.fixture
def ask(place: Path, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch) -> Ask:
    def asked(way: str, seconds: int = 20, fd: int | None = None, **more: str) -> list[str]:
        port = str(listeners[0].getsockname()[1])
        told = {"PYTHONPATH": str(HERE), "ESCAPE": way, "AT": str(place), "PORT": port}
        monkeypatch.setattr(cell, "ENVIRONMENT", told | more)
        if fd is not None:
            return cell.ask("tests.escapes", fd, 4096, 512, seconds).decode().split()
        with opened(place / "disk", os.O_RDONLY) as its_own:
            return asked(way, seconds, its_own, **more)

    return asked


@pytest.fixture
def as_nobody(place: Path, listeners: list[socket.socket]) -> Ask:
    """The same where MotionGear itself does not run as root: nothing can be dropped."""

    def asked(way: str, **more: str) -> list[str]:
        place.parent.chmod(0o755)
        place.parent.parent.chmod(0o755)
        with opened(place / "disk", os.O_RDONLY) as fd:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.escapes", way, more.get("AT", str(place))),
                    str(listeners[0].getsockname()[1]),
                ],
                stdin=fd,
                capture_output=True,
                check=True,
                cwd=HERE,
                env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"} | more,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
            )
        return done.stdout.decode().split()

    return asked


@pytest.fixture(params=["root", "nobody"])
def escape(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.getfixturevalue("ask" if request.param == "root" else "as_nobody")
    return found


def test_it_writes_nothing(escape: Ask, place: Path) -> None:
    assert escape("files") == ["EPERM"] * 9 + ["EBADF"]
    assert set(escape("common")) == {"EPERM"}
    assert sorted(one.name for one in place.iterdir()) == ["disk", "secret"]
    assert (place / "disk").read_bytes() == bytes(4096)


def test_it_reads_nothing_else(escape: Ask) -> None:
    assert set(escape("secrets") + escape("open")) == {"EPERM"}


def test_it_reaches_nobody(escape: Ask, listeners: list[socket.socket]) -> None:
    assert set(escape("network") + escape("sockets")) == {"EPERM"}
    _nobody_called(listeners)


def _nobody_called(listeners: list[socket.socket]) -> None:
    for one in listeners:
        with pytest.raises(BlockingIOError):
            one.accept()


def test_it_starts_nothing(escape: Ask) -> None:
    assert set(escape("children")) == {"EPERM"}
    assert escape("programs") == ["EPERM", "RuntimeError"]


def test_it_takes_little_memory(escape: Ask) -> None:
    assert escape("memory") == ["MemoryError"]


def test_it_signals_nobody_and_regains_nothing(escape: Ask) -> None:
    assert set(escape("powers") + escape("equals")) == {"EPERM"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_what_it_has_no_need_of_is_refused_by_the_kernel(escape: Ask) -> None:
    assert set(escape("calls")) == {"EPERM"}


def test_it_ends_in_time(ask: Ask) -> None:
    with pytest.raises(cell.CellError, match=r"did not answer within 2 s|signal (24|9) "):
        ask("forever", 2)


def test_it_ends_when_it_has_answered(ask: Ask) -> None:
    with pytest.raises(cell.CellError, match=r"did not answer within 2 s|signal (24|9) "):
        ask("deaf", 2)


def test_it_does_not_flood_its_parent(ask: Ask) -> None:
    with pytest.raises(cell.CellError, match="answers more than 1048576 bytes"):
        ask("flood")


def test_its_crash_is_told(ask: Ask) -> None:
    with pytest.raises(cell.CellError, match="ended by signal 11 "):
        ask("crash")


def test_its_last_words_are_told(ask: Ask) -> None:
    with pytest.raises(cell.CellError, match=r"ValueError: x{250}") as caught:
        ask("said", AT="x" * 10_000)
    assert len(str(caught.value)) == 300


def test_what_it_lacks_is_told_before_it_looks(place: Path) -> None:
    with (
        opened(place / "disk", os.O_RDONLY) as fd,
        pytest.raises(cell.UnpreparedError, match="no_such_examiner"),
    ):
        cell.ask("appliance.no_such_examiner", fd, 4096, 512, 20)


@pytest.mark.parametrize("code", ["4", "1", "0"])
def test_one_that_was_taken_over_cannot_pass_for_unprepared(ask: Ask, code: str) -> None:
    """Nor for one whose program is missing: that would end more than an inspection."""
    if code == "0":
        assert ask("exit", AT=code) == ["nothing", "is", "installed", "here"]
        return
    with pytest.raises(cell.CellError, match="nothing is installed here") as caught:
        ask("exit", AT=code)
    assert not isinstance(caught.value, cell.UnpreparedError)


@pytest.mark.parametrize("number", [signal.SIGKILL, 40])
def test_a_signal_of_any_number_is_told(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    program = f"import os; os.kill(os.getpid(), {int(number)})"
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **more: real([sys.executable, "-c", program], **more)
    )
    with (
        pytest.raises(cell.CellError, match=f"by signal {int(number)} "),
        opened(Path(os.devnull), os.O_RDONLY) as fd,
    ):
        cell.ask("", fd, 1, 512, 20)


def test_one_whose_disk_hangs_is_given_up(
    ask: Ask, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even SIGKILL ends it before its disk answers."""
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as it is called
            super().__init__(*args, **more)
            started.append(self)

    monkeypatch.setattr(cell, "_GONE_SECONDS", 0.5)
    (place / "disk").unlink()
    disk = Disk(place)
    (disk.tree / "image").write_bytes(bytes(4096))
    with disk, opened(disk.path / "image", os.O_RDONLY | os.O_DIRECT) as fd:
        disk.inject(Fault("image", Call.READ, seconds=3600))
        monkeypatch.setattr(subprocess, "Popen", Noted)
        with pytest.raises(cell.CellError, match="did not answer within 2 s"):
            ask("reading", 2, fd=fd)
        assert started[-1].poll() is None
        monkeypatch.undo()
    assert started[-1].wait(30) == -signal.SIGKILL


def test_it_keeps_no_file_system_busy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever unmounts one meanwhile may take its disk away."""
    image = bench.image(16 << 20)
    tool("mkfs.ext4", "-q", image)
    where = bench.place / "mounted"
    where.mkdir()
    tool("mount", "-o", "loop", image, where)
    told = {"PYTHONPATH": str(HERE), "ESCAPE": "here", "AT": ""}
    monkeypatch.setattr(cell, "ENVIRONMENT", told)
    with (
        opened(image, os.O_RDONLY) as fd,
        cell._started("tests.escapes", fd, 1, 512, 60) as child,  # noqa: SLF001 - it never ends
    ):
        assert child.stdout is not None
        assert child.stdout.read(1) == confine.READY
        assert child.stdout.read(4) == b"here"
        tool("umount", where)
        assert not tool("losetup", "--associated", image)
        assert child.poll() is None


def test_it_dies_with_its_parent(place: Path) -> None:
    with (
        opened(place / "disk", os.O_RDONLY) as fd,
        subprocess.Popen(
            [sys.executable, "-m", "tests.escapes", "here", str(place), "0"],
            stdin=fd,
            stdout=subprocess.PIPE,
            cwd=HERE,
        ) as parent,
    ):
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _lives(child)
        parent.kill()
    deadline = time.monotonic() + 30
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"hostname":1e9}',
        b'{"hostname":"a","hostname":"b"}',
        b'{"hostname":' + b"9" * 5000 + b"}",
        b" " * 1000,
    ],
)
def test_a_malformed_answer_is_no_answer(
    place: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    told = {"PYTHONPATH": str(HERE), "ANSWER": answer.hex(), "AT": ""}
    monkeypatch.setattr(cell, "ENVIRONMENT", told)
    for one in ("_TABLES", "_SURFACE", "_DEPTH"):
        monkeypatch.setattr(inspection, one, "tests.escapes")
    disk = str(place / "disk")
    found = inspection.machine_facts(disk, BARE)
    assert (found.method, found.family) == ("none", "unknown")
    assert found.reason
    facts = inspection.facts(
        source=disk, serial="", model="", bus="", size=4096, sectors=(512, 512)
    )
    assert (facts.table, facts.parts) == (inspection.UNREAD, ())  # not: an empty disk
    assert inspection.machine_facts(disk, facts).reason


# --- each wall stands without the others --------------------


def test_without_the_filter_it_is_still_nobody_with_limits_in_a_network_of_its_own(
    ask: Ask, place: Path, listeners: list[socket.socket]
) -> None:
    place.chmod(0o755)
    ways = ("files", "secrets", "network", "children", "memory", "powers")
    found = {way: ask(way, WITHOUT="filter,descriptors") for way in ways}
    assert "did" not in found["files"]
    assert found["secrets"] == ["EACCES"] * 3
    assert found["network"] == ["ENETUNREACH", "ECONNREFUSED"]
    assert found["children"] == ["EAGAIN"] * 3
    assert found["memory"] == ["MemoryError"]
    assert set(found["powers"]) <= {"EPERM", "EACCES"}
    _nobody_called(listeners)


WALLS = {
    "spaces": "own",
    "groups": "[]",
    "group": f"({NOBODY},{NOBODY},{NOBODY})",
    "user": f"({NOBODY},{NOBODY},{NOBODY})",
    "memory": f"({confine.MEMORY},{confine.MEMORY})",
    "time": "(20,20)",
    "file-size": "(0,0)",
    "core-dump": "(0,0)",
    "descriptors": "(3,3)",
    "locked-memory": "(0,0)",
    "queues": "(0,0)",
    "processes": "(0,0)",
    "privileges": "1",
    "dump": "0",
    "parent": str(int(signal.SIGKILL)),
}


@pytest.fixture
def lavish() -> Iterator[None]:
    """A parent with something to lose in every way."""
    groups, core = os.getgroups(), resource.getrlimit(resource.RLIMIT_CORE)
    os.setgroups([4])
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
    yield
    os.setgroups(groups)
    resource.setrlimit(resource.RLIMIT_CORE, core)


def standing(ask: Ask, *without: str) -> dict[str, str]:
    """Of each wall, what it leaves."""
    told = ask("standing", AT=",".join(escapes.spaces()), WITHOUT=",".join(("filter", *without)))
    return dict(one.split("=", 1) for one in told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has all of this to give up")
@pytest.mark.usefixtures("lavish")
class TestWalls:
    def test_each_stands(self, ask: Ask) -> None:
        assert standing(ask) == WALLS
        assert set(confine.walls(os.getppid(), 20)) == {*WALLS, "orphan", "filter"}

    @pytest.mark.parametrize("wall", sorted({*WALLS} - {"dump"}))
    def test_one_that_is_left_out_is_missed(self, ask: Ask, wall: str) -> None:
        assert standing(ask, wall)[wall] != WALLS[wall]

    def test_the_wall_against_dumps(self, as_nobody: Ask) -> None:
        """For root, it is also the kernel's, on the change of user."""
        assert standing(as_nobody)["dump"] == "0"
        assert standing(as_nobody, "dump")["dump"] == "1"
