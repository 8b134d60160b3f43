"""A shipment's directory: made whole or not at all, and what the disk refuses has a name."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Never

import pytest

from appliance.block import free_space, make_directory
from appliance.errors import (
    BadInputError,
    ExistsError,
    JobRunningError,
    NotAStoreError,
    StoreFullError,
    StoreWriteError,
)
from appliance.model import DiskId
from appliance.seal import canary, head
from appliance.seal import store as store_module
from appliance.seal.identity import Device
from appliance.seal.sealing import Consent, seal
from appliance.seal.store import RESERVE_SIZE, Store
from tests.media import Bench, tool, unprivileged
from tests.support import BLOCK, OPERATOR, RECOVERY, new_store, point, put_blocks

DATA = b"content" * BLOCK
SPEC = point(DATA)
WAIVED = Consent(waiver="a test")


def begun(path: Path, home: Path) -> Store:
    recipients = (OPERATOR.recipient, RECOVERY.recipient)
    return Store.create(path, "test", Device.of(home), recipients, BLOCK)


def fails_with(number: int) -> Callable[..., Never]:
    def fail(*_: object, **__: object) -> Never:
        raise OSError(number, os.strerror(number))

    return fail


# --- making it --------------------


@pytest.mark.parametrize("left", [0, 1, RESERVE_SIZE >> 20])
def test_without_room_no_shipment_is_made_and_nothing_is_left(
    tmp_path: Path, bench: Bench, left: int
) -> None:
    place = bench.tmpfs(tmp_path / "disk", f"{left + 1}m")
    rest = place / "rest"
    rest.write_bytes(bytes(1 << 20))
    free = free_space(place)
    with pytest.raises(StoreFullError, match=r"No shipment can be made in .*No space") as told:
        begun(place / "deep" / "store", tmp_path / "home")
    assert told.value.safe_now == "Nothing was stored."
    assert "48 MiB" in told.value.todo_now
    assert list(place.iterdir()) == [rest]
    assert free_space(place) == free


def test_an_empty_directory_stays_and_stays_empty(tmp_path: Path, bench: Bench) -> None:
    place = bench.tmpfs(tmp_path / "disk")
    with pytest.raises(StoreFullError):
        begun(place, tmp_path / "home")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (store_module, "reserve"),
        (head, "write"),
        (canary, "write_durably"),
        (store_module, "make_directory"),
    ],
)
def test_whatever_fails_leaves_nothing_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, step, fails_with(errno.EIO))
        with pytest.raises(StoreWriteError, match="Input/output error") as told:
            begun(tmp_path / "new" / "store", tmp_path / "home")
    assert told.value.todo_now == "Choose a directory that can be written to."
    assert [one.name for one in tmp_path.iterdir()] == ["home"]
    assert begun(tmp_path / "new" / "store", tmp_path / "home").head.label == "test"


def test_where_no_directory_can_be_the_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    for name, why in (
        ("x" * 300, "File name too long"),
        ("file/store", "Not a directory"),
        ("circle", "symbolic links"),
        ("circle/store", "symbolic links"),
    ):
        with pytest.raises(BadInputError, match=why):
            begun(tmp_path / name, tmp_path / "home")
    with pytest.raises(ExistsError):
        begun(tmp_path / "file", tmp_path / "home")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["circle", "file", "home"]


def test_a_read_only_disk_and_a_forbidden_directory_are_not_called_full(
    bench: Bench, tmp_path: Path
) -> None:
    place = bench.tmpfs(tmp_path / "disk", "1m", "ro")
    with pytest.raises(StoreWriteError, match="Read-only file system"):
        begun(place / "store", tmp_path / "home")
    closed = bench.place / "closed"
    closed.mkdir(mode=0o700)
    device = Device.of(tmp_path / "home")
    for path in (closed, closed / "store"):
        with unprivileged(), pytest.raises(StoreWriteError, match="Permission denied"):
            Store.create(path, "test", device, (OPERATOR.recipient,), BLOCK)


@pytest.mark.parametrize("step", ["_take_reserve", "canary.create", "head.write"])
def test_what_a_killed_maker_has_left_is_made_anew(tmp_path: Path, step: str) -> None:
    path, home = tmp_path / "store", tmp_path / "home"
    Device.of(home)
    killed = (
        "import os; from pathlib import Path; from appliance.seal import canary, head, store\n"
        f"import sys; store.{step} = lambda *_: os._exit(9)\n"
        "from tests.test_seal_store import begun\n"
        "begun(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", killed, path, home], check=False)
    assert done.returncode == 9
    assert any(path.iterdir())
    with pytest.raises(NotAStoreError):
        Store(path)
    (path / "head.json.0123456789abcdef.new").write_bytes(b"half a head")
    store = begun(path, home)
    assert Store(path).head == store.head
    put_blocks(store, DATA, SPEC)


@pytest.mark.parametrize("name", ["mine", "packs/mine", "head.json"])
def test_what_no_maker_has_left_is_not_removed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "store"
    (path / "packs").mkdir(parents=True)
    (path / name).write_text("mine")
    with pytest.raises(ExistsError):
        begun(path, tmp_path / "home")
    assert (path / name).read_text() == "mine"


def test_a_maker_at_work_is_not_disturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, home = tmp_path / "store", tmp_path / "home"
    write = head.write

    def meanwhile(place: Path, made: head.Head) -> None:
        with pytest.raises(ExistsError, match="made just now"):
            begun(path, home)
        write(place, made)

    monkeypatch.setattr(head, "write", meanwhile)
    begun(path, home)
    assert (path / "reserve").exists()


def test_of_two_makers_one_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, home = tmp_path / "store", tmp_path / "home"
    Device.of(home)
    others = list[Store]()

    def overtaken(place: Path) -> None:
        monkeypatch.setattr(store_module, "make_directory", make_directory)
        make_directory(place)
        others.append(begun(path, home))

    monkeypatch.setattr(store_module, "make_directory", overtaken)
    with pytest.raises(ExistsError):
        begun(path, home)
    assert Store(path).head == others[0].head
    put_blocks(others[0], DATA, SPEC)
    seal(others[0], Device.of(home), {}, WAIVED)


# --- reading and changing it --------------------


def test_a_store_that_vanished_or_is_closed_is_named(bench: Bench) -> None:
    place = bench.place / "there"
    place.mkdir(mode=0o700)
    store, _ = new_store(place)
    with unprivileged():
        for asked in (
            lambda: Store(store.path),
            lambda: store.sealed,
            lambda: list(store.names()),
            lambda: store.lock(alone=False).__enter__(),
        ):
            with pytest.raises(NotAStoreError, match="Permission denied"):
                asked()
    (store.path / "packs").chmod(0o700)
    place.chmod(0o755)
    with unprivileged(), pytest.raises(NotAStoreError, match="Permission denied") as told:
        list(store.closed())
    assert "attached" in told.value.todo_now
    store.path.rename(place / "away")
    for asked in (lambda: list(store.names()), lambda: store.lock(alone=True).__enter__()):
        with pytest.raises(NotAStoreError, match="No such file"):
            asked()


def test_what_fails_under_the_lock_keeps_its_own_name(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    with pytest.raises(FileExistsError), store.lock(alone=True):
        raise FileExistsError
    with store.lock(alone=True), pytest.raises(JobRunningError), store.lock(alone=False):
        pytest.fail("It is held alone")


@pytest.mark.parametrize("act", ["discard", "mend"])
def test_a_read_only_disk_keeps_its_packs_and_is_named(
    tmp_path: Path, bench: Bench, act: str
) -> None:
    place = bench.tmpfs(tmp_path / "disk", str(RESERVE_SIZE + (4 << 20)))
    store = begun(place / "store", tmp_path / "home")
    put_blocks(store, DATA, SPEC)
    (pack,) = store.closed()
    if act == "mend":
        pack = pack.rename(pack.with_suffix(".open"))
    tool("mount", "-o", "remount,ro", place)
    refused: dict[str, Callable[[], object]] = {
        "discard": lambda: store.discard(SPEC.disk),
        "mend": store.mend,
    }
    with pytest.raises(StoreWriteError, match=rf"{pack.name} \(Read-only file system"):
        refused[act]()
    assert pack.exists()


def test_a_removal_that_cannot_be_synced_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = new_store(tmp_path)
    monkeypatch.setattr(store_module, "sync_directory", fails_with(errno.EIO))
    with pytest.raises(StoreWriteError, match="Input/output error"):
        store.discard(DiskId("33" * 16))
