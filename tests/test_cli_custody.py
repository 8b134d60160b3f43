"""From the device's first disk to the destination's check: every deed is in the chain."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.errors import BadInputError, CustodyRefusedError, HandOverError
from appliance.jobs.custody import hands, is_received
from appliance.seal import custody, statement
from appliance.seal.custody import Deed, What, Who, read
from appliance.seal.identity import Device
from appliance.seal.store import Store
from tests.support import sample_bytes
from tests.technician import PASSPHRASE, Keys, Shell

APART = "Seal and key never travel on one path"


def root_of(store: Path) -> str:
    return statement.read(store).root().hex()


def deeds(shell: Shell, place: Path) -> list[str]:
    said = shell.typed("custody", "show", place, "--json").fine()
    return [one["deed"] for one in said.results("custody")]


@pytest.fixture
def sealed(device: Shell, keyring: Keys, tmp_path: Path) -> Path:
    """A shipment as a technician makes it, by the verbs alone."""
    store, image = tmp_path / "shipped", tmp_path / "web.img"
    image.write_bytes(sample_bytes(1))
    device.typed("shipment", "new", "hall 4", "-s", store, *keyring.recipients).fine()
    device.typed("ingest", image, "-s", store, "--machine", "web01").fine()
    device.typed("seal", "-s", store, "--waive", "no canary").fine()
    return store


def test_a_shipment_goes_from_hand_to_hand(
    device: Shell, operator: Shell, keyring: Keys, sealed: Path, tmp_path: Path
) -> None:
    assert deeds(device, sealed) == ["created", "ingested", "sealed"]
    taker = operator.typed("custody", "key").fine().out.split()[0]
    giving = ("custody", "hand-over", "-s", sealed, "--to", "Lin", "--by", "Ada")
    said = device.typed(*giving, "--receiver", taker).fine()
    assert APART in said.out
    code = said.out.splitlines()[1]
    wrong = operator.typed("custody", "receive", "-s", sealed, "--code", "AAAA-" * 3 + "AAAA")
    wrong.refused(HandOverError)
    device.typed("custody", "receive", "-s", sealed).refused(HandOverError)  # not the one named
    took = operator.typed("custody", "receive", "-s", sealed, "--code", code.lower()).fine()
    assert (code in took.out, APART in took.out) == (True, True)
    operator.typed("custody", "receive", "-s", sealed).refused(HandOverError)  # nothing waits

    opening = ("verify", "-s", sealed, "--key", keyring.operator)
    operator.typed(*opening, passphrase=PASSPHRASE).fine(3)
    target = tmp_path / "target"
    operator.typed(
        "restore", "-s", sealed, "--to", target, "--key", keyring.operator, passphrase=PASSPHRASE
    )
    wanted = ["created", "ingested", "sealed", "handed-over", "received", "verified", "opened"]
    assert deeds(operator, sealed)[:7] == wanted
    assert deeds(operator, sealed)[7:] == ["restored", "checked"]

    out = tmp_path / "papers"
    operator.typed("custody", "export", "-s", sealed, "--out", out).fine()
    assert read(out) == read(custody.in_store(sealed))
    fingerprint = device.typed("custody", "key").fine().out.split()[1]
    check = ("custody", "verify", out, "--against", sealed)
    assert (
        "The chain holds together; records: 9"
        in operator.typed(*check, "--device", fingerprint).fine().out
    )
    operator.typed(*check).fine(3)
    strange = operator.typed("custody", "key").fine().out.split()[1]
    operator.typed(*check, "--device", strange).refused(CustodyRefusedError)


def test_what_is_wrong_is_said_by_name(device: Shell, sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(custody.in_store(sealed), copy)
    (copy / "000002.json").unlink()
    said = device.typed("custody", "verify", copy).refused(CustodyRefusedError)
    assert "record 2: a record is missing (gap)" in said.out
    told = device.typed("custody", "verify", copy, "--json").refused(CustodyRefusedError)
    assert told.results("custody")[0]["findings"] == [{"finding": "gap", "number": 2}]
    (custody.in_store(sealed) / "000003.json").unlink()
    said = device.typed("custody", "verify", sealed).fine(3)
    assert "the chain: no record tells of the seal (lacks-seal)" in said.out


def test_people_read_who_and_where(device: Shell, sealed: Path) -> None:
    device.typed(
        "custody", "hand-over", "-s", sealed, "--to", "Lin", "--organisation", "Acme", "--json"
    ).fine()
    said = device.typed("custody", "show", sealed).fine().out
    assert "handed over" in said
    assert "Acme" in said
    assert "Lin" in said


def test_a_key_that_is_none_is_refused(device: Shell, sealed: Path) -> None:
    giving = ("custody", "hand-over", "-s", sealed, "--to", "Lin")
    device.typed(*giving, "--receiver", "Z" * 64).refused(BadInputError)
    told = json.loads(device.typed(*giving, "--json").fine().out)
    assert told["figures"]["deed"] == "handed-over"
    said = device.typed("custody", "receive", "-s", sealed).fine().out
    assert "Nobody has compared the code" in said


def test_only_the_receiver_that_was_named_has_it(
    device: Shell, operator: Shell, sealed: Path
) -> None:
    shipment = Store(sealed).head.shipment
    giving = ("custody", "hand-over", "-s", sealed, "--to", "Lin")
    device.typed(*giving).fine()
    operator.typed("custody", "receive", "-s", sealed).fine()
    assert not is_received(
        device.home, sealed, shipment, root_of(sealed)
    )  # anybody may have signed
    taker = operator.typed("custody", "key").fine().out.split()[0]
    device.typed(*giving, "--receiver", taker).fine()
    assert not is_received(device.home, sealed, shipment, root_of(sealed))
    operator.typed("custody", "receive", "-s", sealed).fine()
    assert is_received(device.home, sealed, shipment, root_of(sealed))
    assert not is_received(operator.home, sealed, shipment, root_of(sealed))
    (custody.in_store(sealed) / "000002.json").write_bytes(b"")
    assert not is_received(device.home, sealed, shipment, root_of(sealed))


def test_who_has_signed_for_another_seal_has_not_this_one(
    device: Shell, operator: Shell, sealed: Path
) -> None:
    shipment, other = Store(sealed).head.shipment, "11" * 32
    receiver = Device.of(operator.home).public
    mine, theirs = hands(device.home, shipment), hands(operator.home, shipment)
    shutil.rmtree(custody.in_store(sealed))
    shutil.rmtree(custody.at_home(device.home, shipment))
    custody.append(mine, sealed, Deed.SEALED, other)
    custody.append(mine, sealed, Deed.HANDED_OVER, other, What(receiver=receiver))
    custody.append(theirs, sealed, Deed.RECEIVED, other, What(to=Who("B")))
    assert is_received(device.home, sealed, shipment, other)
    assert not is_received(device.home, sealed, shipment, root_of(sealed))


def test_what_was_handed_back_is_not_with_its_receiver_any_more(
    device: Shell, operator: Shell, sealed: Path
) -> None:
    """Else an erase would take what may be the only copy for delivered."""
    shipment = Store(sealed).head.shipment
    mine, theirs = (
        one.typed("custody", "key").fine().out.split()[0] for one in (device, operator)
    )
    giving = ("custody", "hand-over", "-s", sealed, "--to", "Lin", "--receiver")
    device.typed(*giving, theirs).fine()
    operator.typed("custody", "receive", "-s", sealed).fine()
    assert is_received(device.home, sealed, shipment, root_of(sealed))
    operator.typed(*giving, mine).fine()
    assert not is_received(device.home, sealed, shipment, root_of(sealed))
    device.typed("custody", "receive", "-s", sealed).fine()
    assert not is_received(device.home, sealed, shipment, root_of(sealed))
    device.typed(*giving, "11" * 32).fine()  # to a third, who has not signed
    assert not is_received(device.home, sealed, shipment, root_of(sealed))


def test_a_copy_at_home_that_was_changed_is_told_of(device: Shell, sealed: Path) -> None:
    place = custody.at_home(device.home, Store(sealed).head.shipment)
    before = sorted(read(place))
    (place / "000003.json").write_bytes((place / "000003.json").read_bytes().replace(b"Z", b"Y"))
    told = device.typed("verify", "-s", sealed, "--json").fine(3).results("custody")
    own = {"own_finding": "damaged", "own_number": 3}
    assert told == [{"deed": "verified", "in_store": True} | own]
    assert sorted(read(custody.in_store(sealed))) == [1, 2, 3, 4]
    assert sorted(read(place)) == before
    said = device.typed("custody", "hand-over", "-s", sealed, "--to", "Lin").fine().out
    assert "own copy of the chain of custody cannot be gone on from" in said
    assert "record 3: a record is damaged (damaged)" in said
    assert "own copy" in device.typed("verify", "-s", sealed).fine(3).out


def test_a_store_with_something_planted_is_told_of_and_harms_no_job(
    device: Shell, operator: Shell, sealed: Path
) -> None:
    """Whoever had it on its way left a record of no kind: the chain goes on with each of them."""
    before = sorted(one.name for one in custody.in_store(sealed).iterdir())
    (custody.in_store(sealed) / "999999.json").write_bytes(b"{}")
    told = device.typed("verify", "-s", sealed, "--json").fine(3).results("custody")
    assert told == [{"deed": "verified", "in_store": False, "finding": "gap", "number": 4}]
    said = device.typed("verify", "-s", sealed).fine(3).out
    assert "record 4: a record is missing (gap)" in said
    giving = ("custody", "hand-over", "-s", sealed, "--to", "Lin")
    assert "cannot be gone on from" in device.typed(*giving).fine().out
    refused = operator.typed("custody", "receive", "-s", sealed).refused(CustodyRefusedError)
    assert "behind record 3" in refused.err
    out = device.home / "exported"
    said = device.typed("custody", "export", "-s", sealed, "--out", out).fine().out
    assert "Of the chain in" in said
    assert sorted(read(out)) == [1, 2, 3, 4, 5, 6]
    device.typed("custody", "verify", out).fine(3)
    found = sorted(one.name for one in custody.in_store(sealed).iterdir())
    assert found == sorted([*before, "999999.json"])


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount file systems.")
def test_a_store_that_cannot_be_written_is_told_of(device: Shell, sealed: Path) -> None:
    giving = ("custody", "hand-over", "-s", sealed, "--to", "Lin")
    subprocess.run(["mount", "--bind", sealed, sealed], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", sealed], check=True)
        assert "kept on this machine only" in device.typed(*giving).fine().out
    finally:
        subprocess.run(["umount", sealed], check=True)
    assert deeds(device, sealed)[-1] == "sealed"
    assert "this machine" not in device.typed(*giving).fine().out
    assert deeds(device, sealed)[-2:] == ["handed-over", "handed-over"]


@pytest.mark.parametrize("option", ["--to", "--by", "--organisation", "--to-organisation"])
def test_names_that_no_record_holds_are_refused_where_they_are_typed(
    device: Shell, sealed: Path, option: str
) -> None:
    giving = ["custody", "hand-over", "-s", sealed, "--to", "Lin"]
    said = device.typed(*giving, option, "x" * 129).refused(BadInputError)
    assert "129 characters" in said.err
    device.typed(*giving, "--where", "x" * 257).refused(BadInputError)
    assert deeds(device, sealed)[-1] == "sealed"
