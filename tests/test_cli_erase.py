"""Erase as a technician types it: what is asked, what is refused, and jobs that are killed."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pypdfium2 import PdfDocument

from appliance import erasures, jobs
from appliance.errors import (
    BadInputError,
    CertificateRefusedError,
    ErasedInPartError,
    ExistsError,
    JobRunningError,
    NotAStoreError,
    NotConfirmedError,
    NotDeliveredError,
    RootMismatchError,
    SignerMismatchError,
    StateError,
    UnknownFormatError,
    UnknownNameError,
)
from appliance.events import Json, Result, silent
from appliance.jobs import erasing as erasing_job
from appliance.jobs import verifying as verifying_module
from appliance.jobs.custody import hands
from appliance.jobs.erasing import certificate_path
from appliance.language import Language, translator
from appliance.model import JobId, ShipmentId
from appliance.report import certificate as pages
from appliance.report import paper
from appliance.seal import (
    certificate,
    custody,
    deed,
    erasable,
    erasing,
    intent,
    places,
    statement,
    text,
)
from appliance.seal.canon import now
from appliance.seal.certificate import (
    Certificate,
    Delivered,
    Discard,
    Erased,
    KnownBy,
    Outcome,
    Seen,
)
from appliance.seal.chain import records
from appliance.seal.custody import Deed, What, Who
from appliance.seal.erasable import Found
from appliance.seal.identity import Device
from appliance.seal.store import Store, by_point
from appliance.seal.tree import Tree
from appliance.state import JobState
from tests.media import Bench, tool
from tests.support import BLOCK, OPERATOR, many_packs, new_store, point, put_blocks
from tests.technician import PASSPHRASE, Keys, Said, Shell

LOST = ("--not-delivered", "--data-will-be-lost")
# The process dies (SIGKILL) when it comes to this for the n-th time.
_DIES = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
from appliance import process
from appliance.model import JobId
home, job, module, names, count = sys.argv[1:]
where = import_module(module)
*way, name = names.split(".")
for one in way:
    where = getattr(where, one)
honest, left = getattr(where, name), int(count)
def dies(*args, **more):
    global left
    left -= 1
    if left < 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(*args, **more)
setattr(where, name, dies)
process.main(Path(home), JobId(int(job)))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_packs(tmp_path_factory.mktemp("made")).path


@pytest.fixture
def place(bench: Bench) -> Path:
    """A file system of its own, in memory: no disk of the machine's is told to discard."""
    return bench.tmpfs(bench.place / "media", "128m")


@pytest.fixture
def store(made: Path, place: Path) -> Store:
    return Store(shutil.copytree(made, place / "store"))


def root_end_of(seal: statement.Seal) -> str:
    return "-".join(text.grouped(seal.root()).split("-")[-2:])


def erase(shell: Shell, store: Path, *more: object) -> Said:
    return shell.typed("erase", "--store", store, "--confirm", "test", *more)


def certificate_of(shell: Shell, job: int = 1) -> Certificate:
    return certificate.verify(certificate_path(shell.home, JobId(job)).read_bytes())


# --- what is asked ---


def test_what_is_to_go_is_listed_before_it_is_asked_for(device: Shell, store: Store) -> None:
    (store.path / "packs" / "notes\x1b[2J").touch()
    seal = statement.read(store.path)
    said = device.at_terminal(
        "erase", "--store", store.path, *LOST, answers=[("Type to erase it", "test")]
    )
    assert said.code == 0, said
    listed, _, asked = said.out.partition("Type to erase it: ")
    assert text.grouped(seal.root()) in listed
    assert store.head.shipment in listed
    assert f"{len(seal.packs)}, " in listed
    assert r"notes\x1b[2J" in listed
    assert "NOT KNOWN" in listed
    assert "all that is free on its file system" in listed
    assert f"{root_end_of(seal)} | test" in asked
    assert "Certificate: " in asked
    assert [one.name for one in store.path.rglob("*") if one.is_file()] == ["notes\x1b[2J"]


@pytest.mark.parametrize("typed", ["label", "label ", "root", "small", "spaces"])
def test_the_label_or_the_end_of_the_root_is_typed(
    device: Shell, store: Store, typed: str
) -> None:
    end = root_end_of(statement.read(store.path))
    texts = {
        "label": "test",
        "label ": " test ",
        "root": end,
        "small": end.lower(),
        "spaces": end.replace("-", " "),
    }
    device.typed("erase", "--store", store.path, "--confirm", texts[typed], *LOST).fine()
    assert not store.path.exists()


@pytest.mark.parametrize("typed", ["", "Test", "yes", "AAAA-AAAA", "last", "shipment"])
def test_nothing_else_will_do(device: Shell, store: Store, typed: str) -> None:
    end = root_end_of(statement.read(store.path))
    text_typed = {"last": end.split("-")[-1], "shipment": store.head.shipment}.get(typed, typed)
    said = device.typed("erase", "--store", store.path, "--confirm", text_typed, *LOST)
    said.refused(NotConfirmedError)
    assert Store(store.path).sealed
    assert not (device.home / erasing.DIRECTORY).exists()


def test_a_label_that_cannot_be_typed_is_typed_as_it_is_shown(device: Shell, place: Path) -> None:
    device_key = Device.of(device.home)
    store = Store.create(place / "s", "a\tb\u202e", device_key, (OPERATOR.recipient,))
    args = ("erase", "--store", store.path, "--not-sealed", "--data-will-be-lost", "--confirm")
    device.typed(*args, "a b").refused(NotConfirmedError)
    device.typed(*args, r"a\tb\u202e").fine()


def test_the_store_of_the_environment_is_never_meant(
    device: Shell, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONGEAR_STORE", str(store.path))
    device.typed("erase", "--confirm", "test", *LOST).refused(BadInputError)
    device.typed("erase", "--store", store.path, "--all", store.path).refused(BadInputError)
    assert Store(store.path).sealed


def test_who_erases_has_a_name_that_fits(device: Shell, store: Store) -> None:
    erase(device, store.path, *LOST, "--by", "x" * 129).refused(BadInputError)
    erase(device, store.path, *LOST, "--by", "A. Adams").fine()
    assert certificate_of(device).by == "A. Adams"


# --- what nobody is known to have ---


def test_what_nobody_is_known_to_have_has_to_be_said_twice(device: Shell, store: Store) -> None:
    for told in ((), LOST[:1], LOST[1:], ("--not-sealed", "--data-will-be-lost")):
        said = erase(device, store.path, *told).refused(NotDeliveredError)
        line = ["motiongear", "erase", "--store", str(store.path), *LOST]
        assert f"Type:  {shlex.join(line)}" in said.err
    assert Store(store.path).sealed
    erase(device, store.path, *LOST).fine()
    (done,) = certificate_of(device).erased
    assert done.delivered is Delivered.NOBODY
    assert done.told == ("not-delivered", "data-will-be-lost")


def test_what_was_never_sealed_has_to_be_said_twice(device: Shell, place: Path) -> None:
    store, _ = new_store(place)
    for told in ((), LOST, ("--not-sealed",)):
        erase(device, store.path, *told).refused(NotDeliveredError)
    erase(device, store.path, "--not-sealed", "--data-will-be-lost").fine()
    (done,) = certificate_of(device).erased
    assert (done.told, done.root) == (("not-sealed", "data-will-be-lost"), "")


def checked(shell: Shell, store: Store, kind: str = "restore", **change: Json) -> JobId:
    """A job that has checked the disks of the store."""
    with shell.state() as state:
        job = state.add_job(kind, store.head.shipment, kind, "{}", now())
        root = statement.read(store.path).root().hex()
        for one in by_point(store.infos()):
            known: dict[str, Json] = {"disk": one.disk, "point": one.point, "origin": root}
            figures: dict[str, Json] = {**known, "wrong": [], "unknown": 0, **change}
            state.put_event(job, now(), Result("check", figures))
        state.end_job(job, JobState.FINISHED, now())
    return job


def test_a_check_counts_only_for_all_that_the_seal_names(device: Shell, store: Store) -> None:
    """Not for what happens to lie there."""
    lost = max(store.closed())
    checked(device, store)
    lost.rename(store.path.parent / lost.name)
    erase(device, store.path).refused(NotDeliveredError)


@pytest.mark.parametrize("kind", ["restore", "check"])
def test_what_was_checked_here_is_delivered(device: Shell, store: Store, kind: str) -> None:
    checked(device, store, kind)
    erase(device, store.path).fine()
    (done,) = certificate_of(device, 2).erased
    assert (done.delivered, done.told) == (Delivered.CHECKED, ())


@pytest.mark.parametrize(
    "change",
    [
        {"wrong": [[0, 1]]},
        {"unknown": 1},
        {"disk": "99" * 16},
        {"point": 7},
        {"origin": "11" * 32},
    ],
    ids=str,
)
def test_a_check_that_was_not_all_right_is_none(
    device: Shell, store: Store, change: dict[str, Json]
) -> None:
    checked(device, store, "restore", **change)
    erase(device, store.path).refused(NotDeliveredError)


def test_a_check_that_did_not_end_is_none(device: Shell, store: Store) -> None:
    job = checked(device, store)
    with device.state() as state:
        state.end_job(job, JobState.FAILED, now())
    erase(device, store.path).refused(NotDeliveredError)


def test_a_store_that_is_damaged_is_not_known_to_be_delivered(device: Shell, store: Store) -> None:
    checked(device, store)
    next(store.closed()).write_bytes(b"short")
    erase(device, store.path).refused(NotDeliveredError)


def test_what_the_receiver_has_signed_for_is_delivered(
    device: Shell, operator: Shell, store: Store
) -> None:
    """And the chain goes on at home, with the erase as its last record."""
    shipment, root = store.head.shipment, statement.read(store.path).root().hex()
    receiver = Device.of(operator.home).public
    mine, theirs = hands(device.home, shipment), hands(operator.home, shipment)
    custody.append(mine, store.path, Deed.HANDED_OVER, root, What(receiver=receiver))
    erase(device, store.path).refused(NotDeliveredError)
    custody.append(theirs, store.path, Deed.RECEIVED, root, What(to=Who("B")))
    erase(device, store.path).fine()
    (done,) = certificate_of(device).erased
    assert (done.delivered, done.told) == (Delivered.CUSTODY, ())
    chain = custody.read(custody.at_home(device.home, shipment))
    assert custody.last_digest({1: chain[1], 2: chain[2]}, shipment) == done.copies.custody
    last = deed.parse(chain[3]).record
    assert (last.deed, last.root, last.signer) == (
        Deed.ERASED,
        root,
        Device.of(device.home).public,
    )
    assert not [one for one in custody.verify(chain) if one.is_error]


# --- who is at work there ---


def test_a_job_that_uses_the_store_is_not_disturbed(device: Shell, store: Store) -> None:
    spec = jobs.VerifySpec(str(store.path), "", "", (), keyed=False)
    with device.state() as state:
        job = state.add_job("verify", store.head.shipment, "v", jobs.dump_spec(spec), now())
        with state.living(job):
            state.begin_job(job)
            erase(device, store.path, *LOST).refused(JobRunningError)
            state.end_job(job, JobState.STOPPED, now())
    with store.lock(alone=False):
        erase(device, store.path, *LOST).refused(JobRunningError)
    assert Store(store.path).sealed


def test_who_verifies_holds_the_store(
    device: Shell, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another home nobody knows here: the lock tells."""
    met: list[str] = []

    def verifying(*_: object) -> None:
        with Tree.opened(store.path) as tree, pytest.raises(JobRunningError), tree.alone():
            met.append("never")
        met.append("held")

    monkeypatch.setattr(verifying_module, "verify_store", verifying)
    spec = jobs.VerifySpec(str(store.path), "", "", (), keyed=False)
    with device.state() as state:
        job = state.add_job("verify", store.head.shipment, "v", jobs.dump_spec(spec), now())
        desk = jobs.Desk(job, device.home, state, silent, lambda: False, None)
        jobs.run(state.job(job), desk)
    assert met == ["held"]


def test_what_was_confirmed_is_what_goes(device: Shell, store: Store) -> None:
    """Where another shipment has come between the question and the job."""
    spec = jobs.EraseSpec(
        ((str(store.path), store.head.shipment, "11" * 32, 1, 1, "ee" * 16),), "me", ()
    )
    job = device.start("erase", store.path, spec)
    assert device.ended(job).error == RootMismatchError.name
    assert Store(store.path).sealed


def test_what_is_taken_in_behind_the_question_is_not_erased(device: Shell, place: Path) -> None:
    store, _ = new_store(place)
    job = begun(device, store.path, NEVER)
    data = os.urandom(2 * BLOCK)
    put_blocks(store, data, point(data))
    with device.state() as state:
        desk = jobs.Desk(job, device.home, state, silent, lambda: False, None)
        with pytest.raises(RootMismatchError, match="does not hold what was confirmed"):
            jobs.run(state.job(job), desk)
    assert list(Store(store.path).closed())


def test_a_job_that_is_at_work_there_when_the_erase_begins_is_not_disturbed(
    device: Shell, store: Store
) -> None:
    """It may have come behind the question."""
    job = begun(device, store.path)
    verify = jobs.VerifySpec(str(store.path), "", "", (), keyed=False)
    with device.state() as state:
        other = state.add_job("verify", store.head.shipment, "v", jobs.dump_spec(verify), now())
        with state.living(other):
            state.begin_job(other)
            desk = jobs.Desk(job, device.home, state, silent, lambda: False, None)
            with pytest.raises(JobRunningError, match=f"Job {other} "):
                jobs.run(state.job(job), desk)
            state.end_job(other, JobState.STOPPED, now())
    assert Store(store.path).sealed


def test_a_record_of_another_place_is_not_gone_on_with(device: Shell, store: Store) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 2)
    moved = store.path.rename(store.path.with_name("moved"))
    other = begun(device, moved)
    with device.state() as state:
        desk = jobs.Desk(other, device.home, state, silent, lambda: False, None)
        with pytest.raises(RootMismatchError, match="is of another place"):
            jobs.run(state.job(other), desk)
    assert intent.stands(moved)


# --- half erased, it is known for what it is ---


LOSES = ("not-delivered", "data-will-be-lost")
NEVER = ("not-sealed", "data-will-be-lost")


def confirmed(found: Found, erasure: str) -> tuple[str, str, str, int, int, str]:
    about = found.about
    return str(found.path), about.shipment, about.root, about.packs, about.size, erasure


def begun(shell: Shell, store: Path, told: tuple[str, ...] = LOSES) -> JobId:
    """An erase whose job is written down but not started."""
    found = erasable.look(store)
    about = found.about
    spec = jobs.EraseSpec((confirmed(found, about.erasure or "ee" * 16),), "me", told)
    with shell.state() as state:
        return state.add_job("erase", about.shipment, "erase", jobs.dump_spec(spec), now())


def dies(shell: Shell, job: JobId, module: str, name: str, count: int = 1) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DIES, shell.home, str(job), module, name, str(count)],
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == -9


PLACES_TO_DIE = [
    ("appliance.seal.intent", "write_durably", 1),
    ("appliance.seal.tree", "punch", 3),
    ("appliance.seal.erasing", "trim", 1),
    ("appliance.seal.places", "look_again", 1),
    ("appliance.seal.tree", "Tree.remove_directories", 1),
    ("appliance.seal.erasing", "remove_empty", 1),
    ("appliance.jobs.erasing", "_certified", 1),
    ("appliance.jobs.custody", "add", 1),
]


@pytest.mark.parametrize(("module", "name", "count"), PLACES_TO_DIE)
def test_killed_anywhere_it_is_resumed_and_ends(
    device: Shell, store: Store, module: str, name: str, count: int
) -> None:
    root, shipment = statement.read(store.path).root().hex(), store.head.shipment
    packs = len(list(store.closed()))
    job = begun(device, store.path)
    dies(device, job, module, name, count)
    if intent.stands(store.path):
        device.typed("shipment", "show", "--store", store.path).refused(ErasedInPartError)
    assert device.job(job).state is JobState.DIED
    device.run("jobs", "resume", job).fine()
    assert not store.path.exists()
    (done,) = certificate_of(device).erased
    assert (done.root, done.packs, done.directory) == (root, packs, "removed")
    chain = custody.read(custody.at_home(device.home, shipment))
    assert [one.record.deed for one in records(chain).values()] == [Deed.ERASED]


def test_every_verb_calls_it_erased_in_part(
    device: Shell, keyring: Keys, store: Store, tmp_path: Path
) -> None:
    dies(device, begun(device, store.path), "appliance.seal.tree", "punch", 2)
    with device.state() as state:
        state.note_shipment(store.head.shipment, store.path, "test")
    at, key = ("--store", store.path), ("--key", keyring.operator)
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    for verb in (
        ("shipment", "show", *at),
        ("shipment", "new", "again", *at, *keyring.recipients),
        ("canary", "confirm", *at, "AAAA"),
        ("canary", "open", *at, *key),
        ("ingest", tmp_path / "disk.img", *at, "-m", "web01"),
        ("seal", *at),
        ("label", *at, "--out", tmp_path / "l.pdf"),
        ("verify", *at),
        ("manifest", *at, *key),
        ("restore", *at, *key, "--to", tmp_path / "volumes"),
        ("check", *at, "--to", tmp_path),
        ("report", "make", *at, "--out", tmp_path / "r"),
        ("jobs", "discard", "11" * 16, *at, "--yes"),
    ):
        device.typed(*verb, passphrase=None).refused(ErasedInPartError)
    assert "erased in part" in device.typed("shipment", "list").fine().out
    made = tmp_path / "recovered"
    said = device.typed("recover", store.packs, *key, "--output", made, passphrase=PASSPHRASE)
    assert "is erased in part" in said.out


def test_an_erase_that_began_elsewhere_is_ended_here(
    device: Shell, operator: Shell, store: Store
) -> None:
    root = statement.read(store.path).root().hex()
    dies(device, begun(device, store.path), "appliance.seal.tree", "punch", 2)
    said = erase(operator, store.path).refused(NotDeliveredError)
    assert "erased in part" in said.err
    erase(operator, store.path, *LOST).fine()
    assert certificate_of(operator).erased[0].root == root
    device.run("jobs", "resume", 1).refused(NotAStoreError)


@pytest.mark.parametrize("step", ["Eraser._packs", "Tree.remove_directories"])
def test_another_copy_at_the_place_is_not_erased_unasked(
    device: Shell, store: Store, made: Path, step: str
) -> None:
    """Resumed where the copy of another disk is mounted by now."""
    job = begun(device, store.path)
    module = "appliance.seal.erasing" if "Eraser" in step else "appliance.seal.tree"
    dies(device, job, module, step)
    store.path.rename(store.path.with_name("first-disk"))
    copy = Store(shutil.copytree(made, store.path))
    refused = device.run("jobs", "resume", job).refused(RootMismatchError)
    assert "its mark is not there" in refused.err
    assert len(list(copy.closed())) == len(statement.read(copy.path).packs)


# --- a mark is not signed: what it says is believed of the place its record is of ---


def copied(store: Path) -> Path:
    """Of a store, as it stands now."""
    return shutil.copytree(store, store.with_name("copy"))


@pytest.mark.parametrize("ended", [True, False])
def test_a_copy_of_a_store_that_is_half_erased_is_erased_for_itself(
    device: Shell, store: Store, *, ended: bool
) -> None:
    root = statement.read(store.path).root().hex()
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 2)
    copy = copied(store.path)
    if ended:
        device.run("jobs", "resume", job).fine()
    erase(device, copy, *LOST).fine()
    assert not copy.exists()
    (done,) = certificate_of(device, 2).erased
    assert (done.place, done.root, done.directory) == (str(copy), root, "removed")
    if not ended:
        assert intent.stands(store.path)
        device.run("jobs", "resume", job).fine()
    assert not store.path.exists()


def test_a_place_that_was_brought_back_is_erased_again(device: Shell, store: Store) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 2)
    copy = copied(store.path)
    device.run("jobs", "resume", job).fine()
    copy.rename(store.path)
    erase(device, store.path, *LOST).fine()
    assert not store.path.exists()
    first, second = certificate_of(device).erased + certificate_of(device, 2).erased
    assert first.erasure != second.erasure
    at = custody.at_home(device.home, store.head.shipment)
    deeds = [one.record.deed for one in records(custody.read(at)).values()]
    assert deeds == [Deed.ERASED, Deed.ERASED]


def test_a_mark_renames_no_shipment(device: Shell, store: Store, place: Path) -> None:
    """Where nothing but a mark stands, nobody has signed what it says."""
    with device.state() as state:
        state.note_shipment(store.head.shipment, store.path, "test")
    about = erasable.look(store.path).about
    (place / "planted").mkdir()
    replace(about, erasure="aa" * 16, label="junk").put(place / "planted")
    device.typed("erase", "--store", place / "planted", "--confirm", "junk", *LOST).fine()
    listed = device.typed("shipment", "list").fine().out
    assert str(store.path) in listed
    assert "junk" not in listed


def test_the_mark_of_another_shipment_erases_nothing_by_its_number(
    device: Shell, store: Store, place: Path
) -> None:
    other, _ = new_store(place, name="other")
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 2)
    mark = intent.read(store.path)
    device.run("jobs", "resume", job).fine()
    planted = replace(mark, shipment=other.head.shipment, root="", sequence=0)
    planted.put(other.path)
    said = device.typed(
        "erase", "--store", other.path, "--confirm", "test", "--not-sealed", LOST[1]
    ).fine()
    assert f"place          {other.path}" in said.out
    assert f"place          {store.path}" not in said.out
    assert not other.path.exists()


def test_a_place_whose_disk_is_away_is_not_taken_for_removed(
    device: Shell, store: Store, place: Path
) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.erasing", "Eraser._is_own_mark", 1)
    assert sorted(one.name for one in store.path.iterdir()) == [intent.FILE]
    tool("mount", "--types", "tmpfs", "none", place)  # what stands there when it is away
    refused = device.run("jobs", "resume", job).refused(NotAStoreError)
    assert "not attached" in refused.err
    tool("umount", place)
    device.run("jobs", "resume", job).fine()
    assert not store.path.exists()


def test_a_chain_that_does_not_hold_together_is_told_and_kept(device: Shell, store: Store) -> None:
    mine = custody.Custody(device.home, store.head.shipment, Who("Ada", ""), "Berlin")
    root = statement.read(store.path).root().hex()
    custody.append(mine, store.path, Deed.SEALED, root)
    changed = custody.in_store(store.path) / "000001.json"
    changed.write_bytes(changed.read_bytes().replace(b"Berlin", b"Bremen"))
    said = erase(device, store.path, *LOST).fine()
    assert "custody" in said.err
    assert "the signature is not that of the key it names" in said.err
    (kept,) = device.home.glob("erasures/*/copy-of-custody/000001.json")
    assert b"Bremen" in kept.read_bytes()


def test_a_disk_that_is_not_there_is_waited_for(device: Shell, store: Store) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 2)
    store.path.rename(store.path.with_name("taken-away"))
    device.run("jobs", "resume", job).refused(NotAStoreError)
    store.path.with_name("taken-away").rename(store.path)
    device.run("jobs", "resume", job).fine()


def test_it_says_what_comes_next(device: Shell, store: Store) -> None:
    said = erase(device, store.path, *LOST, "--json").fine()
    (figures,) = said.results("erase")
    assert figures["certificate"] == str(certificate_path(device.home, JobId(1)))
    followed = device.typed("jobs", "follow", 1).fine()
    assert "motiongear certificate show 1" in followed.err
    assert "not there" in device.typed("shipment", "list").fine().out


def test_it_goes_on_without_its_console(device: Shell, store: Store) -> None:
    said = erase(device, store.path, *LOST, "--json", "--detach").fine()
    (started,) = said.results("start")
    assert device.ended(started["job"]).state is JobState.FINISHED


# --- a whole place ---


def test_a_whole_place_goes_with_one_certificate(device: Shell, store: Store, place: Path) -> None:
    other, _ = new_store(place, name="other")
    (place / "precious").write_bytes(b"precious")
    told = (*LOST, "--not-sealed")
    device.typed("erase", "--all", place, "--confirm", "test", *told).refused(NotConfirmedError)
    said = device.typed("erase", "--all", place, "--confirm", place, *LOST)
    said.refused(NotDeliveredError)
    assert Store(store.path).sealed
    device.typed("erase", "--all", place, "--confirm", place, *told).fine()
    assert sorted(one.name for one in place.iterdir()) == ["home", "precious"]
    done = certificate_of(device).erased
    assert [one.place for one in done] == [str(other.path), str(store.path)]
    assert [bool(one.root) for one in done] == [False, True]


def begun_whole(shell: Shell, *stores: Path) -> JobId:
    """An erase of several whose job is written down but not started."""
    places = tuple(
        confirmed(erasable.look(one), f"{number:032x}") for number, one in enumerate(stores, 1)
    )
    told = ("not-delivered", "not-sealed", "data-will-be-lost")
    spec = jobs.EraseSpec(places, "me", told)
    with shell.state() as state:
        return state.add_job("erase", ShipmentId(""), "erase", jobs.dump_spec(spec), now())


def test_a_place_that_no_certificate_can_name_is_refused_before_the_question(
    device: Shell, store: Store, place: Path
) -> None:
    strange = place / os.fsdecode(b"store\xff")
    shutil.copytree(store.path, strange)
    for told in (("--store", strange), ("--all", place)):
        said = device.typed("erase", *told, "--confirm", "test", *LOST).refused(BadInputError)
        assert r"store\xff is no text" in said.err
    assert Store(strange).sealed
    assert Store(store.path).sealed


def test_more_places_than_a_certificate_holds_are_refused(
    device: Shell, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store(place, name="other")
    monkeypatch.setattr(erasures, "MAX_ERASED", 1)
    said = device.typed("erase", "--all", place, "--confirm", place, *LOST)
    assert "2 shipments are more" in said.refused(BadInputError).err
    assert Store(store.path).sealed


def test_of_a_whole_place_one_whose_disk_is_a_file_by_now_keeps_none_from_its_certificate(
    device: Shell, store: Store, place: Path
) -> None:
    (place / "a").mkdir()
    other, _ = new_store(place / "a", name="other")
    job = begun_whole(device, other.path, store.path)
    dies(device, job, "appliance.seal.erasing", "Eraser._unmarked", 1)
    (place / "a").rename(place / "taken")
    (place / "a").write_bytes(b"")
    device.run("jobs", "resume", job).refused(NotAStoreError)
    assert [one.place for one in certificate_of(device).erased] == [str(store.path)]


def test_of_a_whole_place_that_is_killed_the_rest_goes_on(
    device: Shell, store: Store, place: Path
) -> None:
    other, _ = new_store(place, name="other")
    job = begun_whole(device, other.path, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 6)
    assert not other.path.exists()
    device.run("jobs", "resume", job).fine()
    assert len(certificate_of(device).erased) == 2


def test_of_a_whole_place_what_is_erased_is_certified_though_a_disk_is_lost(
    device: Shell, store: Store, place: Path
) -> None:
    other, _ = new_store(place, name="other")
    about = [erasable.look(one).about for one in (other.path, store.path)]
    job = begun_whole(device, other.path, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 1)
    lost = place / "lost"
    other.path.rename(lost)
    device.run("jobs", "resume", job).refused(NotAStoreError)
    (done,) = certificate_of(device).erased
    assert done.place == str(store.path)
    chain = custody.read(custody.at_home(device.home, about[1].shipment))
    assert [one.record.deed for one in records(chain).values()] == [Deed.ERASED]
    assert not custody.read(custody.at_home(device.home, about[0].shipment))
    lost.rename(other.path)
    device.run("jobs", "resume", job).fine()
    assert [one.place for one in certificate_of(device).erased] == [
        str(other.path),
        str(store.path),
    ]
    chain = custody.read(custody.at_home(device.home, about[1].shipment))
    assert [one.record.deed for one in records(chain).values()] == [Deed.ERASED]


def test_of_a_whole_place_what_could_be_erased_is_told(
    device: Shell, store: Store, place: Path
) -> None:
    other, _ = new_store(place, name="other")
    first = next(store.closed())
    told = ("erase", "--all", place, *LOST, "--not-sealed")
    with Tree.opened(store.path) as tree, tree.alone():
        said = device.typed(*told, "--confirm", place).refused(JobRunningError)
    assert f"place          {other.path}" in said.out
    assert f"place          {store.path}" not in said.out
    assert not other.path.exists()
    assert first.exists()
    device.run("jobs", "resume", 1).fine()
    assert not store.path.exists()


def test_copies_of_one_marked_place_are_erased_each_under_its_own_number(
    device: Shell, operator: Shell, store: Store, place: Path
) -> None:
    shipment = store.head.shipment
    dies(device, begun(device, store.path), "appliance.seal.tree", "punch", 2)
    copied(store.path)
    operator.typed("erase", "--all", place, "--confirm", place, *LOST).fine()
    assert {one.place for one in certificate_of(operator).erased} == {
        str(store.path),
        str(store.path.with_name("copy")),
    }
    chain = custody.read(custody.at_home(operator.home, shipment))
    notes = [one.record.what.note for one in records(chain).values()]
    assert len(notes) == len(set(notes)) == 2


def test_a_record_that_is_damaged_keeps_no_other_from_its_record_of_custody(
    device: Shell, store: Store, place: Path
) -> None:
    other, _ = new_store(place, name="other")
    shipment = store.head.shipment
    job = begun_whole(device, other.path, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 1)
    kept = erasing.kept_at(device.home, f"{1:032x}") / "record.json"
    kept.write_bytes(b"{}")
    device.run("jobs", "resume", job).refused(StateError)
    chain = custody.read(custody.at_home(device.home, shipment))
    assert [one.record.deed for one in records(chain).values()] == [Deed.ERASED]


def test_names_are_told_as_far_as_a_certificate_can_hold_them(
    signed: tuple[Device, Certificate], device: Shell
) -> None:
    done = replace(signed[1].erased[0], left=tuple(f"{one:0>1024}" for one in range(256)))
    spec = jobs.EraseSpec((), "A. Adams", ())
    (device.home / erasing.DIRECTORY).mkdir()
    with device.state() as state:
        job = state.add_job("erase", ShipmentId(""), "erase", jobs.dump_spec(spec), now())
        desk = jobs.Desk(job, device.home, state, silent, lambda: False, None)
        path, made = erasing_job._certified(spec, desk, [done] * 1024)  # noqa: SLF001 - too many to make
    assert len(made.erased) == 1024
    assert {len(one.left) for one in made.erased} == {8}
    assert certificate.verify(path.read_bytes()) == made


# --- who goes on, and who need not any more ---


def test_a_job_that_never_began_what_another_has_erased_is_not_to_be_resumed(
    device: Shell, store: Store
) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.intent", "write_durably", 1)
    erase(device, store.path, *LOST).fine()
    assert device.job(job).resolved
    erase(device, store.path, *LOST).refused(NotAStoreError)


def test_a_certificate_that_was_damaged_is_signed_anew(device: Shell, store: Store) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.jobs.custody", "add", 1)
    certificate_path(device.home, job).write_bytes(b"{")
    device.run("jobs", "resume", job).fine()
    assert certificate_of(device).erased[0].place == str(store.path)


def test_a_user_whose_name_is_no_text_can_erase(
    device: Shell, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOTIONGEAR_NAME", raising=False)
    monkeypatch.setenv("LOGNAME", os.fsdecode(b"J\xf6rg"))
    erase(device, store.path, *LOST).fine()
    assert certificate_of(device).by == "J?rg"


def test_a_job_whose_erase_another_has_ended_is_not_to_be_resumed(
    device: Shell, store: Store
) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.seal.tree", "punch", 2)
    erase(device, store.path, *LOST).fine()
    assert device.job(job).resolved
    assert "resume" not in device.typed("jobs", "list").fine().out


def test_a_job_that_has_erased_more_than_is_certified_stays_to_be_resumed(
    device: Shell, store: Store, place: Path
) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.jobs.erasing", "_certified", 1)
    other, _ = new_store(place, name="other")
    erase(device, other.path, "--not-sealed", "--data-will-be-lost").fine()
    assert not device.job(job).resolved


def test_where_all_is_gone_but_the_certificate_the_job_is_named(
    device: Shell, store: Store
) -> None:
    job = begun(device, store.path)
    dies(device, job, "appliance.jobs.erasing", "_certified", 1)
    said = erase(device, store.path, *LOST).refused(ErasedInPartError)
    assert f"job {job} has begun to erase it" in said.err
    device.run("jobs", "resume", job).fine()
    erase(device, store.path, *LOST).refused(NotAStoreError)


# --- certificates ---


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Device, Certificate]:
    device = Device.of(tmp_path / "home")
    done = Erased(
        erasure="ee" * 16,
        shipment=ShipmentId("11" * 16),
        label="<b>标签</b>",
        signer=device.public,
        root="22" * 32,
        sequence=7,
        known_by=KnownBy.SEAL,
        place="/media/a <b>b</b>",
        packs=3,
        size=12_345_678,
        delivered=Delivered.NOBODY,
        told=("not-delivered", "data-will-be-lost"),
        began="2026-11-23T08:00:00Z",
        ended="2026-11-23T08:00:01Z",
        discard=Discard(Outcome.DONE, 99_000_000),
        seen=Seen(256, 1, 250, 5, 3, "/dev/sdx", places.UNREADABLE),
        left=("notes", "packs/x"),
        left_count=30,
    )
    at = "2026-11-23T08:00:02Z"
    return device, Certificate(device.public, "A. Adams", at, "some clock", (done,))


def test_a_certificate_is_what_was_signed(signed: tuple[Device, Certificate]) -> None:
    device, made = signed
    data = certificate.sign(made, device)
    assert certificate.verify(data) == made
    assert made.device_fingerprint == device.fingerprint


@pytest.mark.parametrize("offset", range(0, 1800, 61))
def test_a_certificate_that_was_changed_is_refused(
    signed: tuple[Device, Certificate], offset: int
) -> None:
    data = bytearray(certificate.sign(signed[1], signed[0]))
    data[offset % len(data)] ^= 1
    with pytest.raises((CertificateRefusedError, UnknownFormatError)):
        certificate.verify(bytes(data))


def test_a_certificate_by_another_key_or_of_what_goes_on_is_refused(
    signed: tuple[Device, Certificate], tmp_path: Path
) -> None:
    device, made = signed
    with pytest.raises(CertificateRefusedError, match="signature"):
        certificate.verify(certificate.sign(made, Device.of(tmp_path / "other")))
    open_end = replace(made, erased=(replace(made.erased[0], ended=""),))
    with pytest.raises(CertificateRefusedError, match="not ended"):
        certificate.verify(certificate.sign(open_end, device))


def test_a_certificate_is_verified_by_anybody(
    operator: Shell, signed: tuple[Device, Certificate], tmp_path: Path
) -> None:
    device, made = signed
    file = tmp_path / "c.json"
    file.write_bytes(certificate.sign(made, device))
    said = operator.typed("certificate", "verify", file)
    assert said.code == 3
    assert "Consistent" in said.out
    said = operator.typed("certificate", "verify", file, "--device", device.fingerprint).fine()
    assert "AUTHENTIC" in said.out
    stranger = Device.of(tmp_path / "other").fingerprint
    said = operator.typed("certificate", "verify", file, "--device", stranger)
    said.refused(SignerMismatchError)
    (told,) = operator.typed("certificate", "verify", file, "--json").results("certificate")
    assert (told["trust"], told["erased"][0]["root"]) == ("consistent", "22" * 32)
    missing = operator.typed("certificate", "verify", tmp_path / "none.json")
    missing.refused(UnknownNameError)


def test_certificates_are_kept_and_shown(device: Shell, store: Store, tmp_path: Path) -> None:
    assert device.typed("certificate", "list").fine().out.split() == [
        "JOB",
        "AT",
        "LABELS",
        "FILE",
    ]
    erase(device, store.path, *LOST).fine()
    assert "certificate-1.json" in device.typed("certificate", "list").fine().out
    (record,) = map(
        json.loads, device.typed("certificate", "list", "--json").fine().out.split("\n")[:-1]
    )
    assert record["job"] == "1"
    assert record["erased"][0]["label"] == "test"
    assert "Erased: test" in device.typed("certificate", "show", 1).fine().out
    assert "已擦除\uff1atest" in device.typed("certificate", "show", 1, "--lang", "zh").fine().out
    for ending in ("json", "html", "pdf"):
        out = tmp_path / f"c.{ending}"
        device.typed("certificate", "show", 1, "--out", out).fine()
        device.typed("certificate", "show", 1, "--out", out).refused(ExistsError)
    assert certificate.verify((tmp_path / "c.json").read_bytes()) == certificate_of(device)
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")
    device.typed("certificate", "show", 1, "--out", tmp_path / "c.txt").refused(BadInputError)
    nowhere = tmp_path / "no" / "c.json"
    device.typed("certificate", "show", 1, "--out", nowhere).refused(BadInputError)


def test_a_certificate_that_is_damaged_hides_no_other(device: Shell, store: Store) -> None:
    erase(device, store.path, *LOST).fine()
    certificate_path(device.home, JobId(0)).write_bytes(b"{}")
    said = device.typed("certificate", "list").refused(CertificateRefusedError)
    assert "certificate-1.json" in said.out
    assert "certificate-0.json" in said.err


@pytest.mark.parametrize("language", Language)
def test_the_page_says_what_the_document_says_and_no_more(
    signed: tuple[Device, Certificate], language: Language
) -> None:
    device, made = signed
    page = pages.html(certificate.sign(made, device), language)
    told = ["256", "250", "12 345 678", "99 000 000", device.fingerprint, "A. Adams", "/dev/sdx"]
    assert all(one in page for one in told)
    assert text.grouped(bytes.fromhex("22" * 32)) in page
    assert text.words(bytes.fromhex("22" * 32)) in page
    assert "<b>" not in page
    assert "&lt;b&gt;标签&lt;/b&gt;" in page
    assert "<script" not in page
    known = translator(language)
    assert known(places.UNREADABLE) in page
    assert known("and {count} more").format(count=28) in page
    with pytest.raises(CertificateRefusedError):
        pages.html(b"{}", language)


def test_a_disk_that_had_been_told_before_is_not_said_to_have_discarded_nothing(
    signed: tuple[Device, Certificate],
) -> None:
    done = replace(signed[1].erased[0], discard=Discard(Outcome.DONE, 0))
    rows = dict(pages.told_of(done, translator(Language.EN)))
    assert rows["discard"].endswith("it had been told of all of it before")


def test_paper_holds_the_words_in_chinese(signed: tuple[Device, Certificate]) -> None:
    data = paper.pdf(pages.html(certificate.sign(signed[1], signed[0]), Language.ZH))
    with PdfDocument(data) as document:
        shown = "".join(one.get_textpage().get_text_bounded() for one in document)
    assert "擦除证书" in shown
    assert "封签根" in shown
    assert "标签" in shown


def test_what_was_not_sealed_and_not_looked_at_is_said(
    signed: tuple[Device, Certificate],
) -> None:
    device, made = signed
    bare = replace(
        made.erased[0], root="", sequence=0, seen=Seen(), left=(), left_count=0, discard=Discard()
    )
    page = pages.html(certificate.sign(replace(made, erased=(bare,)), device), Language.EN)
    assert "it was not sealed" in page
    assert "there were no pages to look at" in page
    assert "the disk was not told" in page
