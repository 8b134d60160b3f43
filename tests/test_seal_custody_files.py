"""The chain of custody on disk: two at once, killed in between, where nothing can be written."""

import json
import multiprocessing
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import block
from appliance.errors import CustodyRefusedError, StateError
from appliance.model import ShipmentId
from appliance.seal import canon, chain, custody, deed
from appliance.seal.chain import Finding, Kind
from appliance.seal.custody import Appended, Custody, append, at_home, bring, in_store, read
from appliance.seal.deed import Deed, What, Who
from appliance.seal.identity import Device

SHIPMENT, ROOT = ShipmentId("ab" * 16), "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def mine(tmp_path: Path) -> Custody:
    return _hands(tmp_path / "mine")


def _hands(home: Path) -> Custody:
    home.mkdir()
    return Custody(home, SHIPMENT, Who("Ada", "Acme"), "hall 4")


def test_records_follow_each_other_in_store_and_home(store: Path, mine: Custody) -> None:
    append(mine, store, Deed.CREATED)
    made = append(mine, store, Deed.INGESTED, what=What(disk="12" * 16))
    found = read(in_store(store))
    assert [deed.parse(one).record.deed for one in found.values()] == ["created", "ingested"]
    assert made == Appended(deed.digest(found[2]), in_store=True, finding=None)
    assert read(at_home(mine.home, SHIPMENT)) == found
    assert chain.verify(found, against=read(at_home(mine.home, SHIPMENT))) == []


def test_a_file_that_stands_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "one"
    block.write_once(path, b"first")
    with pytest.raises(FileExistsError):
        block.write_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


def test_where_the_store_cannot_be_written_the_chain_goes_on_at_home(
    store: Path, mine: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(mine, store, Deed.CREATED)
    write = block.write_once

    def refused(path: Path, data: bytes) -> None:
        if store in path.parents:
            raise OSError(30, "Read-only file system")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(custody, "write_once", refused)
        append(mine, store, Deed.SEALED, ROOT)
    assert sorted(read(in_store(store))) == [1]
    assert sorted(read(at_home(mine.home, SHIPMENT))) == [1, 2]
    append(mine, store, Deed.VERIFIED, ROOT)  # it can be written again: nothing is missing
    assert sorted(read(in_store(store))) == [1, 2, 3]
    assert chain.verify(read(in_store(store))) == []


def test_without_a_store_the_chain_goes_on_at_home(store: Path, mine: Custody) -> None:
    append(mine, store, Deed.CREATED)
    append(mine, None, Deed.ERASED)
    append(mine, store / "gone", Deed.ERASED)
    assert sorted(read(at_home(mine.home, SHIPMENT))) == [1, 2, 3]
    assert not (store / "gone").exists()


def test_what_was_cut_off_the_store_is_put_back(store: Path, mine: Custody) -> None:
    for one in (Deed.CREATED, Deed.INGESTED, Deed.INGESTED):
        append(mine, store, one)
    (in_store(store) / "000003.json").unlink()
    append(mine, store, Deed.INGESTED)
    assert sorted(read(in_store(store))) == [1, 2, 3, 4]
    assert chain.verify(read(in_store(store))) == []


def test_two_branches_stay_and_the_fork_is_told(
    store: Path, mine: Custody, tmp_path: Path
) -> None:
    append(mine, store, Deed.CREATED)
    theirs = _hands(tmp_path / "theirs")
    assert bring(in_store(store), at_home(theirs.home, SHIPMENT), SHIPMENT) is None
    append(theirs, None, Deed.INGESTED)
    append(theirs, None, Deed.INGESTED)
    append(mine, store, Deed.INGESTED)
    made = append(theirs, store, Deed.INGESTED)
    assert (made.in_store, made.finding) == (False, Finding(Kind.FORK, 2))
    found, other = read(in_store(store)), read(at_home(theirs.home, SHIPMENT))
    assert (sorted(found), sorted(other)) == ([1, 2], [1, 2, 3, 4])
    assert chain.verify(other) == []  # each branch goes on by itself
    assert [(one.kind, one.number) for one in chain.verify(found, against=other)] == [
        (Kind.FORK, 2),
        (Kind.TRUNCATED, 3),
    ]
    assert bring(in_store(store), at_home(theirs.home, SHIPMENT), SHIPMENT) == made.finding


def _plant(store: Path, mine: Custody, what: str) -> None:
    """Behind the three records that lie there."""
    place = in_store(store)
    last = deed.parse(read(place)[3]).record
    following = replace(last, number=4, previous=deed.digest(read(place)[3]))
    match what:
        case "later version":
            said = json.loads((place / "000003.json").read_bytes())
            said["record"] |= {"version": 2, "number": 4}
            (place / "000004.json").write_bytes(canon.dump(said))
        case "false signature":
            signed = deed.sign(following, Device.of(mine.home))
            said = json.loads(signed) | {"signature": "00" * 64}
            (place / "000004.json").write_bytes(canon.dump(said))
        case "other shipment":
            foreign = replace(following, shipment=ShipmentId("00" * 16))
            (place / "000004.json").write_bytes(deed.sign(foreign, Device.of(mine.home)))
        case "unlinked":
            loose = replace(following, previous="00" * 32)
            (place / "000004.json").write_bytes(deed.sign(loose, Device.of(mine.home)))
        case "directory":
            (place / "000004.json").mkdir()
        case "last number":
            (place / "999999.json").write_bytes(b"{}")
        case _:
            for number in range(5, custody.MAX_RECORDS + 5):
                (place / f"{number:06}.json").touch()


@pytest.mark.parametrize(
    ("what", "finding"),
    [
        ("later version", Finding(Kind.DAMAGED, 4)),
        ("false signature", Finding(Kind.BAD_SIGNATURE, 4)),
        ("other shipment", Finding(Kind.FOREIGN, 4)),
        ("unlinked", Finding(Kind.BROKEN, 4)),
        ("directory", Finding(Kind.DAMAGED, 4)),
        ("last number", Finding(Kind.GAP, 4)),
        ("thousands", Finding(Kind.DAMAGED)),
    ],
)
def test_what_was_planted_in_a_store_is_not_gone_on_from(
    store: Path, mine: Custody, tmp_path: Path, what: str, finding: Finding
) -> None:
    """The chain goes on at home, of whoever had it before and of whoever gets it."""
    for done in (Deed.CREATED, Deed.INGESTED, Deed.INGESTED):
        append(mine, store, done)
    _plant(store, mine, what)
    before = sorted(in_store(store).iterdir())
    sound = [] if what == "thousands" else [1, 2, 3]
    for about, told in ((mine, [1, 2, 3]), (_hands(tmp_path / "theirs"), sound)):
        made = append(about, store, Deed.SEALED, ROOT)
        assert (made.in_store, made.finding) == (False, finding)
        found = read(at_home(about.home, SHIPMENT))
        assert sorted(found) == [*told, len(told) + 1]
        assert deed.digest(found[len(told) + 1]) == made.digest
        assert chain.sound(found, SHIPMENT) == len(found)
    assert sorted(in_store(store).iterdir()) == before


def test_a_home_that_is_damaged_is_gone_round(store: Path, mine: Custody) -> None:
    append(mine, store, Deed.CREATED)
    place = at_home(mine.home, SHIPMENT)
    (place / "000002.json").write_bytes(b"{}")
    made = append(mine, store, Deed.INGESTED)
    assert made.in_store
    assert deed.parse(read(in_store(store))[2]).record.deed is Deed.INGESTED
    assert read(place)[2] == b"{}"
    with pytest.raises(StateError, match="damaged behind record 1"):
        append(mine, None, Deed.INGESTED)
    with pytest.raises(StateError, match="damaged behind record 1"):
        append(mine, store / "gone", Deed.INGESTED)
    assert bring(in_store(store), place, SHIPMENT) == Finding(Kind.DAMAGED, 2)


def test_a_chain_that_is_full_is_not_gone_on_from(
    store: Path, mine: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "MAX_RECORDS", 2)
    append(mine, store, Deed.CREATED)
    append(mine, store, Deed.INGESTED)
    with pytest.raises(StateError, match="full"):
        append(mine, store, Deed.INGESTED)
    assert sorted(read(in_store(store))) == [1, 2]


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount file systems.")
def test_a_store_that_is_mounted_read_only_gets_what_it_lacks_later(
    store: Path, mine: Custody
) -> None:
    append(mine, store, Deed.CREATED)
    subprocess.run(["mount", "--bind", store, store], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", store], check=True)
        made = append(mine, store, Deed.SEALED, ROOT)
        assert (made.in_store, made.finding) == (False, None)
        assert sorted(read(in_store(store))) == [1]
    finally:
        subprocess.run(["umount", store], check=True)
    assert append(mine, store, Deed.VERIFIED, ROOT).in_store
    assert read(in_store(store)) == read(at_home(mine.home, SHIPMENT))
    assert sorted(read(in_store(store))) == [1, 2, 3]


def test_a_place_that_cannot_be_written_takes_no_chain(store: Path, mine: Custody) -> None:
    append(mine, store, Deed.CREATED)
    blocked = store / "blocked"
    blocked.write_bytes(b"")
    with pytest.raises(StateError):
        bring(in_store(store), blocked / "custody", SHIPMENT)
    assert bring(store / "nothing", store / "new", SHIPMENT) is None
    assert not (store / "new").exists()


def test_what_is_no_regular_file_is_damaged(store: Path, mine: Custody) -> None:
    append(mine, store, Deed.CREATED)
    (in_store(store) / "000002.json").symlink_to("/etc/passwd")
    os.mkfifo(in_store(store) / "000003.json")
    (in_store(store) / "notes.txt").write_text("no part of it")
    found = read(in_store(store))
    assert (found[2], found[3]) == (b"", b"")
    assert (Kind.DAMAGED, 3) in [(one.kind, one.number) for one in chain.verify(found)]


def test_a_link_in_place_of_the_directory_is_not_followed(
    store: Path, mine: Custody, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    in_store(store).symlink_to(tmp_path / "elsewhere")
    append(mine, store, Deed.CREATED)
    append(mine, store, Deed.INGESTED)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert sorted(read(at_home(mine.home, SHIPMENT))) == [1, 2]
    with pytest.raises(CustodyRefusedError, match="cannot be read"):
        read(in_store(store))


def test_more_records_than_a_chain_has_are_refused(store: Path) -> None:
    in_store(store).mkdir()
    for number in range(1, custody.MAX_RECORDS + 2):
        (in_store(store) / f"{number:06}.json").touch()
    with pytest.raises(CustodyRefusedError, match="more than 4096"):
        read(in_store(store))


def test_nowhere_to_write_is_told(mine: Custody) -> None:
    (mine.home / "custody").write_bytes(b"")
    with pytest.raises(StateError):
        append(mine, None, Deed.CREATED)


def test_a_record_that_no_reader_would_take_is_not_written(mine: Custody) -> None:
    with pytest.raises(CustodyRefusedError):
        append(mine, None, Deed.CREATED, what=What(note="x" * 1025))
    assert not read(at_home(mine.home, SHIPMENT))


def _many(mine: Custody, store: Path) -> None:
    for _ in range(20):
        append(mine, store, Deed.INGESTED)


def test_two_processes_append_to_one_chain(store: Path, mine: Custody, tmp_path: Path) -> None:
    append(mine, store, Deed.CREATED)
    others = [_hands(tmp_path / str(one)) for one in range(2)]
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_many, args=(one, store)) for one in others]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
        assert one.exitcode == 0
    found = read(in_store(store))
    assert sorted(found) == list(range(1, 42))
    assert chain.verify(found) == []


@pytest.mark.parametrize("call", ["pwrite_full", "os.fsync", "os.link", "sync_directory"])
def test_killed_while_it_appends(store: Path, mine: Custody, call: str) -> None:
    """The record is there whole or not at all, and the chain goes on behind it."""
    append(mine, store, Deed.CREATED)
    child = os.fork()
    if child == 0:
        where, _, name = call.rpartition(".")
        here = os if where else block
        setattr(here, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        append(mine, store, Deed.INGESTED)
        os._exit(0)  # it was not killed
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    append(mine, store, Deed.INGESTED)
    found = read(in_store(store))
    assert sorted(found) == ([1, 2, 3] if call == "sync_directory" else [1, 2])
    assert chain.verify(found) == []
    assert not list(in_store(store).glob("*.new"))
