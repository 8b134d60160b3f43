"""The diagnosis: everything it says is wrong was made wrong for real, and it changes nothing."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import FoundWrongError
from appliance.language import Language
from appliance.state import FILE, State
from tests.media import Bench, unprivileged
from tests.technician import Shell

WRONG = FoundWrongError.code
Found = dict[str, dict[str, Any]]


def found(shell: Shell, *options: object) -> Found:
    """The findings by kind, the last of each; English and Chinese are told without a gap."""
    told = shell.typed("diagnose", "--json", *options)
    listed = json.loads(told.out)["findings"]
    wrong = any(one["severity"] == "error" for one in listed)
    assert told.code == (WRONG if wrong else 0), told
    for language in Language:
        said = shell.typed("diagnose", "--lang", language, *options).fine(told.code)
        assert not [one for one in listed if f"({one['kind']})" not in said.out]
        assert "{" not in said.out
    order = [one["severity"] for one in listed]
    assert order == sorted(order, key=["error", "warning", "ok"].index)
    return {one["kind"]: one for one in listed}


def snapshot(place: Path) -> dict[str, object]:
    """All that can be told of the files in a directory but when they were read."""
    return {str(one): _as_it_is(one) for one in [place, *sorted(place.rglob("*"))]}


def _as_it_is(path: Path) -> object:
    at = path.lstat()
    data = path.read_bytes() if path.is_file() else b""
    return at.st_ino, at.st_mode, at.st_size, at.st_nlink, at.st_mtime_ns, at.st_ctime_ns, data


@pytest.fixture
def used(device: Shell) -> Shell:
    """A device on which something was done."""
    with device.state():
        pass
    return device


# --- the state directory --------------------


def test_a_device_with_which_nothing_is_wrong(used: Shell) -> None:
    before = snapshot(used.home)
    told = found(used)
    assert told["database"]["figures"] == {"count": "3"}
    assert told["database"]["code"] == 0
    assert "home-none" not in told
    assert snapshot(used.home) == before


def test_a_device_on_which_nothing_was_done_yet(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    shell.home.rmdir()
    assert found(shell)["home-none"]["severity"] == "ok"
    assert not shell.home.exists()


def test_a_database_that_is_being_written_to_is_read_and_left_alone(used: Shell) -> None:
    """What stands in its log alone is seen, and no file beside it is touched."""
    with closing(sqlite3.connect(used.home / FILE)) as other:
        other.execute("pragma wal_autocheckpoint = 0")
        other.execute("insert into shipments(id, path, label) values('x', '/nowhere', 'l')")
        other.commit()
        before = snapshot(used.home)
        assert found(used)["database"]["severity"] == "ok"
        assert snapshot(used.home) == before


def test_a_damaged_database(used: Shell) -> None:
    path = used.home / FILE
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 3] = os.urandom(4096 * 2)
    path.write_bytes(data)
    told = found(used)["database-damaged"]
    assert (told["severity"], told["error"], told["code"]) == ("error", "state", 83)
    assert str(path) in told["what"]
    path.write_bytes(b"no database at all" * 100)
    assert "file is not a database" in found(used)["database-damaged"]["what"]
    path.unlink()


def test_a_database_of_a_later_release(used: Shell) -> None:
    with closing(sqlite3.connect(used.home / FILE)) as other, other:
        other.execute(
            "insert into _sqlite_migrations(migration_set, name, applied_at) "
            "values('motiongear', 'ninety-ninth', 'then')"
        )
    before = snapshot(used.home)
    assert "ninety-ninth" in found(used)["database-newer"]["what"]
    assert snapshot(used.home) == before


def test_a_database_that_was_lost(used: Shell) -> None:
    (used.home / FILE).unlink()
    assert "database-missing" not in found(used)
    (used.home / "jobs" / "1.lock").touch()
    assert found(used)["database-missing"]["severity"] == "warning"


def test_a_state_directory_that_others_may_look_into(used: Shell) -> None:
    used.home.chmod(0o755)
    assert found(used)["home-open"]["severity"] == "warning"


def test_a_state_directory_of_somebody_else(bench: Bench, used: Shell) -> None:
    del bench
    with unprivileged():
        told = found(used)
    assert told["home-closed"]["error"] == "state"


def test_a_full_state_directory(bench: Bench, tmp_path: Path) -> None:
    shell = Shell(bench.tmpfs(tmp_path / "small", "32m"))
    with State(shell.home):
        pass
    bench.fill(shell.home)
    told = found(shell)
    assert (told["space-none"]["severity"], told["space-none"]["error"]) == ("error", "store-full")
    assert told["database"]["severity"] == "ok"
