"""Erasing a shipment: what goes, what stays, what is seen afterwards, and every way to be cut off.

The file systems are real ones on loop devices: what is discarded is gone from the backing file.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import block
from appliance.block import PAGE
from appliance.errors import (
    ErasedInPartError,
    HeadDamagedError,
    JobRunningError,
    MotionGearError,
    NotAStoreError,
    RootMismatchError,
    StateError,
    StoppedError,
    StoreFullError,
    StoreRefusedError,
    StoreWriteError,
    UnknownFormatError,
)
from appliance.events import Event, Progress, Step, silent
from appliance.language import Language, translator
from appliance.model import ShipmentId
from appliance.report import certificate as pages
from appliance.seal import canon, custody, erasable, erasing, head, intent, places, statement, tree
from appliance.seal.certificate import (
    Delivered,
    Directory,
    Erased,
    KnownBy,
    Method,
    Outcome,
    Seen,
)
from appliance.seal.erasable import Found
from appliance.seal.erasing import Consent, Eraser, Phase
from appliance.seal.store import Store
from appliance.seal.tree import Tree
from tests.media import NOBODY, Bench, tool, unprivileged
from tests.support import (
    BLOCK,
    OPERATOR,
    PowerCutError,
    many_packs,
    new_store,
    point,
    put_blocks,
    seal_it,
    sealed_sample,
)

ERASURE = "ee" * 16
MIB = 1 << 20


def agreed(found: Found) -> Consent:
    del found
    return Consent(Delivered.CUSTODY, ())


def erase(
    store: Path,
    ready: Callable[[Found], Consent] = agreed,
    erasure: str = ERASURE,
    emit: Callable[[Event], None] = silent,
) -> Erased:
    return Eraser(store.parent / "home", store, erasure, emit, lambda: False).run(ready)


def kept(store: Path) -> Path:
    return erasing.kept_at(store.parent / "home", ERASURE)


def phase(store: Path) -> Phase | None:
    record = erasing.record_of(store.parent / "home", ERASURE)
    return record.phase if record else None


@pytest.fixture(autouse=True)
def only_the_bench_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk that the tests themselves lie on is large, and not theirs to discard."""
    own, honest = tmp_path.stat().st_dev, block.trim

    def trim(fd: int) -> int:
        if os.fstat(fd).st_dev == own:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return honest(fd)

    monkeypatch.setattr(erasing, "trim", trim)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_packs(tmp_path_factory.mktemp("made")).path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    return copied(made, tmp_path)


def copied(made: Path, place: Path) -> Store:
    return Store(shutil.copytree(made, place / "store"))


@pytest.fixture
def ext4(bench: Bench) -> tuple[Path, Path]:
    """The backing file and the mount point of a file system of 192 MiB."""
    image = bench.image(192 * MIB)
    device = bench.loop(image)
    tool("mkfs.ext4", "-q", device)
    return image, bench.mount(device, bench.place / "mnt")


# --- what goes, and what is said of it ---


def test_a_shipment_is_gone_with_its_directory(store: Store) -> None:
    seal = statement.read(store.path)
    packs = list(store.closed())
    size = sum(one.stat().st_size for one in store.path.rglob("*") if one.is_file())
    done = erase(store.path)
    assert not store.path.exists()
    assert (done.root, done.sequence) == (seal.root().hex(), seal.sequence)
    assert (done.shipment, done.label) == (store.head.shipment, "test")
    assert done.signer == seal.device
    assert done.known_by is KnownBy.SEAL
    assert done.place == str(store.path)
    assert (done.packs, done.size) == (len(packs), size)
    assert (done.directory, done.left, done.left_count) == (Directory.REMOVED, (), 0)
    assert done.began <= done.ended
    assert done.delivered is Delivered.CUSTODY
    assert phase(store.path) is Phase.ENDED


def test_what_was_public_is_kept_in_the_home(store: Store) -> None:
    about, seal = store.head, statement.read(store.path)
    done = erase(store.path)
    assert head.parse((kept(store.path) / "copy-of-head.json").read_bytes()) == about
    assert statement.parse((kept(store.path) / "copy-of-seal.json").read_bytes()) == seal
    assert done.copies.head == about.digest().hex()
    assert done.copies.seal
    assert stat.S_IMODE((kept(store.path) / "copy-of-seal.json").stat().st_mode) == 0o600


def test_progress_counts_the_bytes(store: Store) -> None:
    told: list[Event] = []
    done = erase(store.path, emit=told.append)
    bytes_done = [one.done for one in told if isinstance(one, Progress)]
    assert bytes_done == sorted(bytes_done)
    assert {one.total for one in told if isinstance(one, Progress)} == {done.size}


def test_what_is_discarded_is_gone_from_the_disk_below(
    made: Path, ext4: tuple[Path, Path]
) -> None:
    image, place = ext4
    store = copied(made, place)
    marks = [one.read_bytes()[PAGE : 2 * PAGE] for one in store.closed()]
    os.sync()
    before, held = image.stat().st_blocks, image.read_bytes()
    assert all(held.count(one) == 1 for one in marks)
    done = erase(store.path)
    os.sync()
    assert done.discard.outcome is Outcome.DONE
    assert done.discard.size >= done.size
    assert image.stat().st_blocks * 512 <= before * 512 - done.size + MIB
    held = image.read_bytes()
    assert not any(one in held for one in marks)
    assert done.seen.taken == places.MOST_PAGES
    assert done.seen.zeros == done.seen.taken
    assert (done.seen.as_before, done.seen.other, done.seen.not_seen) == (0, 0, 0)
    assert Path(done.seen.device).is_block_device()


def test_without_a_discard_it_is_said_what_still_reads_there(
    made: Path, ext4: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that does not know how: the file system has forgotten the bytes, the disk has
    not.
    """
    _, place = ext4
    store = copied(made, place)

    def cannot(_: int) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(erasing, "trim", cannot)
    done = erase(store.path)
    assert done.discard.outcome is Outcome.NOT_SUPPORTED
    assert done.discard.size == 0
    assert done.seen.as_before == done.seen.taken == places.MOST_PAGES


def test_what_was_written_there_since_is_neither(
    made: Path, ext4: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, place = ext4
    store = copied(made, place)
    honest = places.look_again

    def later(noted: places.Pages, number: int) -> Seen:
        with Path(noted.node).open("r+b") as disk:
            for one in noted.pages[:3]:
                disk.seek(one.at)
                disk.write(os.urandom(PAGE))
            disk.flush()
            os.fsync(disk.fileno())
        return honest(noted, number)

    monkeypatch.setattr(places, "look_again", later)
    seen = erase(store.path).seen
    assert (seen.other, seen.zeros) == (3, seen.taken - 3)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(1, Outcome.NOT_PERMITTED), (5, Outcome.FAILED), (25, Outcome.NOT_SUPPORTED)],
)
def test_why_the_disk_was_not_told_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int, outcome: Outcome
) -> None:
    def cannot(_: int) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(erasing, "trim", cannot)
    assert erase(store.path).discard.outcome is outcome
    assert not store.path.exists()


def test_in_memory_there_is_nothing_to_look_at(made: Path, bench: Bench) -> None:
    store = copied(made, bench.tmpfs(bench.place / "memory", "96m"))
    done = erase(store.path)
    assert done.seen == Seen(0, 0, 0, 0, places.MOST_PAGES, "", places.NO_DEVICE)
    assert done.discard.outcome is Outcome.NOT_SUPPORTED
    assert done.method is Method.PUNCHED


def test_where_no_holes_are_known_files_are_cut(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(_: int, __: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(tree, "punch", cannot)
    assert erase(store.path).method is Method.TRUNCATED
    assert not store.path.exists()


def test_a_shipment_that_was_never_sealed_goes_with_its_reserve(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(4 * BLOCK)
    with pytest.raises(PowerCutError):
        put_blocks(store, data, point(data), cut_at=3)
    (store.packs / f"{'ab' * 16}.open").write_bytes(bytes(PAGE))
    (store.packs / f"{'ac' * 16}.open").touch()
    (store.path / "damaged").mkdir()
    (store.path / "damaged" / f"{'ab' * 16}.open").write_bytes(bytes(PAGE))
    (store.path / f"head.json.{'12' * 8}.new").write_bytes(b"{")
    found = erasable.look(store.path)
    assert found.unsealed == "it is not sealed"
    done = erase(store.path)
    assert (done.known_by, done.root, done.sequence) == (KnownBy.HEAD, "", 0)
    assert done.packs == 3
    assert done.copies.seal == ""
    assert not store.path.exists()


def test_an_empty_shipment_has_no_pages(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    assert erase(store.path).seen == Seen()
    assert not store.path.exists()


@pytest.mark.parametrize("harm", ["torn", "exchanged"])
def test_a_seal_that_does_not_vouch_for_the_head_is_none(store: Store, harm: str) -> None:
    seal = store.path / "seal.json"
    if harm == "torn":
        seal.write_bytes(seal.read_bytes()[:-1])
        why = "not canonical JSON"
    else:
        (store.path.parent / "other").mkdir()
        other, _, _ = sealed_sample(store.path.parent / "other")
        seal.write_bytes((other.path / "seal.json").read_bytes())
        why = "that of another shipment"
    found = erasable.look(store.path)
    assert why in found.unsealed
    assert (found.about.root, found.known_by) == ("", KnownBy.HEAD)


def test_behind_a_seal_that_is_torn_only_what_says_it_is_the_shipments_goes(store: Store) -> None:
    seal = store.path / "seal.json"
    seal.write_bytes(seal.read_bytes()[:-1])
    (store.path / "files").mkdir(exist_ok=True)
    strange = [store.path / "files" / "thesis.txt", store.packs / f"{'ab' * 16}.pack"]
    for one in strange:
        one.write_bytes(b"precious")
    done = erase(store.path)
    assert done.left == ("files/thesis.txt", f"packs/{'ab' * 16}.pack")
    assert all(one.read_bytes() == b"precious" for one in strange)
    assert (done.root, bool(done.copies.seal)) == ("", True)
    rows = dict(pages.told_of(done, translator(Language.EN)))
    assert rows["seal number"] == "it had a seal that could not be verified"


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_only_has_the_name_of_a_seal_stays(tmp_path: Path, kind: str) -> None:
    store, _ = new_store(tmp_path)
    seal = store.path / "seal.json"
    if kind == "link":
        seal.symlink_to(tmp_path / "nowhere")
    elif kind == "directory":
        seal.mkdir()
    else:
        os.mkfifo(seal)
    done = erase(store.path)
    assert (done.left, done.directory) == (("seal.json",), Directory.KEPT)
    assert [one.name for one in store.path.iterdir()] == ["seal.json"]


def test_a_pack_that_cannot_be_read_goes_with_the_unsealed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector keeps nobody from erasing the rest."""
    (store.path / "seal.json").unlink()

    def bad(_: int) -> tuple[object, ...]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(erasable, "read_head", bad)
    assert erase(store.path).directory is Directory.REMOVED


# --- what is not a store's stays, and is named ---


def test_other_files_stay_and_are_named(store: Store) -> None:
    strange = [
        "notes.txt",
        "packs/readme",
        "packs/" + "a" * 255,
        "packs/" + "AB" * 16 + ".pack",
        "files/unlisted",
    ]
    (store.path / "files").mkdir()
    for one in strange:
        (store.path / one).write_bytes(b"precious")
    bad = os.fsencode(store.path / "packs") + b"/\xff\xfe"
    Path(os.fsdecode(bad)).write_bytes(b"precious")
    (store.path / "packs" / ("0" * 32 + ".pack")).mkdir()
    done = erase(store.path)
    assert done.directory is Directory.KEPT
    assert done.left_count == len(strange) + 2
    assert set(done.left) == {*strange, r"packs/\xff\xfe", "packs/" + "0" * 32 + ".pack"}
    assert all((store.path / one).read_bytes() == b"precious" for one in strange)
    files = [one for one in store.path.rglob("*") if one.is_file()]
    assert len(files) == len(strange) + 1
    with pytest.raises(NotAStoreError):
        Store(store.path)


def test_packs_that_are_not_of_the_shipment_stay_and_are_named(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    foreign = next(many_packs(tmp_path / "other").closed())
    own = store.packs / f"{'ac' * 16}.pack"
    shutil.copy(next(store.closed()), own)
    shutil.copy(foreign, store.packs)
    (store.packs / f"{'ab' * 16}.pack").write_bytes(b"precious")
    done = erase(store.path)
    assert done.left == tuple(sorted([f"packs/{'ab' * 16}.pack", f"packs/{foreign.name}"]))
    assert (store.packs / foreign.name).read_bytes() == foreign.read_bytes()
    assert not own.exists()


def test_what_is_not_of_the_shipment_stays_though_its_seal_is_gone_already(
    store: Store, tmp_path: Path
) -> None:
    """Cut off behind the seal, and gone on with from another home by the mark alone."""
    (store.path / "files").mkdir()
    strange = [store.path / "files" / "unlisted", store.packs / f"{'ab' * 16}.pack"]
    for one in strange:
        one.write_bytes(b"precious")
    cut_before(store.path, "_unmarked")
    assert not (store.path / "seal.json").exists()
    Eraser(tmp_path / "other", store.path, ERASURE, silent, lambda: False).run(agreed)
    assert all(one.read_bytes() == b"precious" for one in strange)


def test_a_pack_of_another_shipment_stays_in_one_that_was_not_sealed(
    made: Path, tmp_path: Path
) -> None:
    store, _ = new_store(tmp_path)
    foreign = next(Store(made).closed())
    shutil.copy(foreign, store.packs)
    assert erase(store.path).left == (f"packs/{foreign.name}",)


@pytest.mark.parametrize("name", ["damaged", "files", "custody"])
def test_a_pipe_named_as_a_directory_of_the_store_stays(store: Store, name: str) -> None:
    os.mkfifo(store.path / name)
    done = erase(store.path)
    assert (done.left, done.directory) == ((name,), Directory.KEPT)


@pytest.mark.parametrize("name", ["damaged", "files", "custody"])
def test_a_file_named_as_a_directory_of_the_store_stays(store: Store, name: str) -> None:
    (store.path / name).write_bytes(b"precious")
    done = erase(store.path)
    assert (done.left, done.directory) == ((name,), Directory.KEPT)
    assert (store.path / name).read_bytes() == b"precious"


def test_of_many_names_some_are_told_and_all_are_counted(store: Store) -> None:
    for one in range(300):
        (store.path / "packs" / f"{one:03}").touch()
    done = erase(store.path)
    assert (len(done.left), done.left_count) == (256, 300)


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (store.packs / f"{'cd' * 16}.pack").symlink_to(precious)
    (store.path / "reserve").symlink_to(precious)
    done = erase(store.path)
    assert precious.read_bytes() == b"precious"
    assert done.left == (f"packs/{'cd' * 16}.pack", "reserve")


@pytest.mark.parametrize("kind", ["fifo", "socket", "node"])
def test_what_is_no_file_is_neither_opened_nor_removed(
    bench: Bench, store: Store, kind: str
) -> None:
    place = store.packs / f"{'cd' * 16}.pack"
    if kind == "node":
        device = bench.loop(bench.image(os.urandom(MIB)))
        os.mknod(place, stat.S_IFBLK | 0o600, device.stat().st_rdev)
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        os.mknod(place, stat.S_IFSOCK | 0o600)
    done = erase(store.path)
    assert done.left == (f"packs/{place.name}",)
    if kind == "node":
        assert any((bench.place / "disk.img").read_bytes())
    assert not place.is_file()
    assert place.lstat()


@pytest.mark.parametrize("directory", ["packs", "files", "damaged"])
def test_a_link_in_the_place_of_a_directory_is_refused(
    store: Store, tmp_path: Path, directory: str
) -> None:
    if directory == "packs":
        store.packs.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").mkdir()
    (store.path / directory).symlink_to(tmp_path / "elsewhere")
    before = sorted(one.name for one in (tmp_path / "elsewhere").iterdir())
    with pytest.raises(NotAStoreError, match="is a link"):
        erase(store.path)
    assert sorted(one.name for one in (tmp_path / "elsewhere").iterdir()) == before
    assert phase(store.path) is None


def test_a_store_that_is_a_link_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.path)
    with pytest.raises(NotAStoreError, match="cannot be opened"):
        erase(tmp_path / "link")
    assert Store(store.path).sealed


def test_a_file_that_has_another_name_is_refused_before_anything_goes(
    store: Store, tmp_path: Path
) -> None:
    first = next(store.closed())
    os.link(first, tmp_path / "other-name")
    with pytest.raises(NotAStoreError, match="another name elsewhere"):
        erase(store.path)
    assert phase(store.path) is None
    assert Store(store.path).sealed
    (tmp_path / "other-name").unlink()
    erase(store.path)


def test_a_record_of_custody_whose_writer_died_between_its_names_goes(
    store: Store, tmp_path: Path
) -> None:
    about = custody.Custody(tmp_path / "home", store.head.shipment, custody.Who(), "")
    custody.append(about, store.path, custody.Deed.CREATED)
    chain = custody.in_store(store.path)
    os.link(chain / "000001.json", chain / f"000001.json.{'12' * 8}.new")
    os.link(chain / "000001.json", tmp_path / "copy")
    held = (tmp_path / "copy").read_bytes()
    done = erase(store.path)
    assert done.directory is Directory.REMOVED
    assert (tmp_path / "copy").read_bytes() == held
    assert done.copies.custody == custody.last_digest({1: held}, store.head.shipment)


def test_a_name_given_to_a_file_meanwhile_stops_the_erase_before_it(
    store: Store, tmp_path: Path
) -> None:
    last = max(store.closed())
    data = last.read_bytes()

    def told(event: Event) -> None:
        if isinstance(event, Progress) and not (tmp_path / "other-name").exists():
            os.link(last, tmp_path / "other-name")

    with pytest.raises(NotAStoreError, match="another name elsewhere"):
        erase(store.path, emit=told)
    assert last.exists()
    assert (tmp_path / "other-name").read_bytes() == data


def test_a_name_given_to_a_file_at_the_last_moment_keeps_its_bytes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, honest = max(store.closed()), os.unlink
    data = last.read_bytes()

    def unlink(name: str, *, dir_fd: int) -> None:
        if name == last.name:
            os.link(last, tmp_path / "other-name")
        honest(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(NotAStoreError, match="while it was erased"):
        erase(store.path)
    assert (tmp_path / "other-name").read_bytes() == data
    assert erase(store.path).directory is Directory.REMOVED


def test_what_comes_in_meanwhile_is_left_and_told(store: Store) -> None:
    def told(event: Event) -> None:
        if isinstance(event, Step) and event.step == "discard":
            (store.packs / f"{'ab' * 16}.pack").write_bytes(b"precious")
            (store.path / "reserve").write_bytes(b"late")
            (store.path / "late.txt").touch()

    done = erase(store.path, emit=told)
    assert done.left == ("late.txt", f"packs/{'ab' * 16}.pack", "reserve")
    assert (done.left_count, done.directory) == (3, Directory.KEPT)


def test_custody_goes_on_at_home_while_a_store_is_erased(store: Store, tmp_path: Path) -> None:
    about = custody.Custody(tmp_path / "other", store.head.shipment, custody.Who(), "")
    custody.append(about, store.path, custody.Deed.CREATED)
    found: list[custody.Appended] = []

    def told(event: Event) -> None:
        if isinstance(event, Progress) and not found:
            found.append(custody.append(about, store.path, custody.Deed.INGESTED))

    done = erase(store.path, emit=told)
    assert not found[0].in_store
    assert (done.left, done.directory) == ((), Directory.REMOVED)


def test_a_directory_that_is_exchanged_while_it_is_looked_at_is_refused(
    made: Path, store: Store, tmp_path: Path
) -> None:
    with Tree.opened(store.path) as opened:
        store.path.rename(tmp_path / "aside")
        copied(made, tmp_path)
        with pytest.raises(NotAStoreError, match="exchanged"):
            erasable.look_in(opened)


def test_a_directory_that_is_exchanged_before_its_mark_is_not_marked(
    made: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are noted between the question and the mark, which takes a while."""
    honest = places.note

    def note(packs: Sequence[tuple[Path, int]]) -> places.Pages:
        found = honest(packs)
        store.path.rename(tmp_path / "aside")
        copied(made, tmp_path)
        return found

    monkeypatch.setattr(places, "note", note)
    with pytest.raises(NotAStoreError, match="exchanged"):
        erase(store.path)
    monkeypatch.undo()
    assert intent.stands(tmp_path / "aside")
    with pytest.raises(RootMismatchError, match="its mark is not there"):
        erase(store.path, never)
    assert len(list(store.closed())) == len(statement.read(store.path).packs)


def test_nothing_is_an_erases_where_a_mark_stands_alone(store: Store, tmp_path: Path) -> None:
    """Anybody can put one anywhere: the head goes when all else is gone."""
    place = tmp_path / "documents"
    precious = ["files/thesis.txt", f"packs/{'ab' * 16}.pack", f"damaged/{'ab' * 16}.pack"]
    for one in [*precious, "reserve"]:
        (place / one).parent.mkdir(parents=True, exist_ok=True)
        (place / one).write_bytes(b"precious")
    replace(erasable.look(store.path).about, erasure=ERASURE, root="").put(place)
    done = erase(place)
    assert done.left == (*sorted(precious), "reserve")
    assert all((place / one).read_bytes() == b"precious" for one in [*precious, "reserve"])
    assert not intent.stands(place)


def test_a_size_that_cannot_be_told_is_refused_before_anything_goes(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    (store.path / "damaged").mkdir()
    odd = store.path / "damaged" / f"{'ab' * 16}.pack"
    odd.touch()
    with pytest.MonkeyPatch.context() as plug:
        plug.setattr(erasable, "_counted", lambda about, _: replace(about, size=(1 << 53) + 1))
        with pytest.raises(NotAStoreError, match="no certificate can tell"):
            erase(store.path)
    assert phase(store.path) is None
    assert not intent.stands(store.path)


def test_a_chain_that_cannot_be_kept_keeps_the_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = custody.Custody(tmp_path / "other", store.head.shipment, custody.Who(), "")
    custody.append(about, store.path, custody.Deed.CREATED)
    honest = block.write_durably

    def full(path: Path, data: bytes, mode: int = 0o644) -> None:
        if path.name == "000001.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(path, data, mode)

    monkeypatch.setattr(erasing, "write_durably", full)
    with pytest.raises(StateError, match="No space left"):
        erase(store.path)
    assert store.sealed


def test_a_record_of_custody_that_cannot_be_read_keeps_nobody(store: Store) -> None:
    chain = custody.in_store(store.path)
    chain.mkdir()
    (chain / "000001.json").write_bytes(b"{")
    honest = block.read_small

    def bad(path: Path, most: int) -> bytes:
        if path.name == "000001.json":
            raise OSError(errno.EIO, "Input/output error")
        return honest(path, most)

    with pytest.MonkeyPatch.context() as plug:
        plug.setattr(erasing, "read_small", bad)
        assert erase(store.path).directory is Directory.REMOVED


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "file"])
def test_a_mount_inside_is_refused(bench: Bench, store: Store, kind: str) -> None:
    precious = bench.place / "precious"
    precious.mkdir()
    (precious / f"{'ab' * 16}.pack").write_bytes(b"precious")
    if kind == "tmpfs":
        bench.tmpfs(store.packs)
    elif kind == "bind":
        bench.mount(precious, store.packs, "--bind")
    else:
        within = store.packs / f"{'ab' * 16}.pack"
        within.touch()
        tool("mount", "--bind", precious / within.name, within)
    try:
        with pytest.raises(NotAStoreError, match="something else is mounted"):
            erase(store.path)
    finally:
        if kind == "file":
            tool("umount", store.packs / f"{'ab' * 16}.pack")
    assert (precious / f"{'ab' * 16}.pack").read_bytes() == b"precious"
    assert phase(store.path) is None


def test_a_store_at_the_root_of_its_own_file_system_leaves_its_mount_point(
    ext4: tuple[Path, Path], tmp_path: Path
) -> None:
    _, place = ext4
    store, device = new_store(tmp_path)
    data = os.urandom(2 * BLOCK)
    put_blocks(store, data, point(data))
    seal_it(store, device, point(data))
    tool("cp", "-a", f"{store.path}/.", place)
    done = erase(place)
    assert done.directory is Directory.KEPT
    assert done.left == ("lost+found",)
    assert [one.name for one in place.iterdir()] == ["lost+found"]


def test_what_another_user_owns_is_refused_before_anything_goes(
    bench: Bench, store: Store
) -> None:
    home = store.path.parent / "home"
    place = bench.place
    while place != place.parent and place.stat().st_uid == 0:
        place.chmod(place.stat().st_mode | 0o055)
        place = place.parent
    home.mkdir()
    for one in (store.path, store.packs, home):
        os.chown(one, NOBODY, NOBODY)
    with unprivileged(), pytest.raises(StoreWriteError, match="Permission denied"):
        erase(store.path)
    assert Store(store.path).sealed
    assert phase(store.path) is None


@pytest.mark.parametrize("what", ["missing", "file", "empty", "strange"])
def test_a_place_that_is_no_store_is_refused(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what == "file":
        place.write_bytes(b"precious")
    elif what != "missing":
        place.mkdir()
    if what == "strange":
        (place / "packs").mkdir()
        (place / "packs" / f"{'ab' * 16}.pack").write_bytes(b"precious")
    with pytest.raises(NotAStoreError):
        erase(place)
    if what == "strange":
        assert (place / "packs" / f"{'ab' * 16}.pack").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"{}", HeadDamagedError), (b"", HeadDamagedError), (None, UnknownFormatError)],
)
def test_a_head_that_is_not_understood_is_refused(
    store: Store, content: bytes | None, error: type[MotionGearError]
) -> None:
    """A later version may hold what this one does not know."""
    path = store.path / "head.json"
    later = path.read_bytes().replace(b'"version":1', b'"version":2')
    path.write_bytes(later if content is None else content)
    with pytest.raises(error):
        erase(store.path)
    assert list(store.packs.iterdir())


def test_who_uses_the_store_is_not_disturbed(store: Store) -> None:
    with store.lock(alone=False), pytest.raises(JobRunningError):
        erase(store.path)
    assert phase(store.path) is None
    erase(store.path)


def test_who_makes_a_shipment_there_and_who_erases_do_not_meet(store: Store) -> None:
    """Before there is a head, and once it is gone, the directory itself is what is held."""
    cut_before(store.path, "_unmarked")
    fd = os.open(store.path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(JobRunningError) as refused:
            erase(store.path)
    finally:
        os.close(fd)
    assert refused.value.safe_now == "Nothing is erased meanwhile."
    assert intent.stands(store.path)


def test_two_who_erase_do_not_meet(store: Store) -> None:
    with Tree.opened(store.path) as held, held.alone(), pytest.raises(JobRunningError):
        erase(store.path)


def test_who_opened_the_store_before_finds_it_erased_in_part(store: Store) -> None:
    early = Store(store.path)
    cut_after(store.path, 0)
    with pytest.raises(ErasedInPartError), early.lock(alone=False):
        pass


def test_what_is_not_agreed_to_is_not_begun(store: Store) -> None:
    def refuse(found: Found) -> Consent:
        assert found.about.root == statement.read(store.path).root().hex()
        raise JobRunningError("no")

    with pytest.raises(JobRunningError):
        erase(store.path, refuse)
    assert phase(store.path) is None
    assert Store(store.path).sealed


# --- cut off anywhere, it goes on ---


class Fuse:
    """Cuts the power before the n-th thing that changes anything."""

    def __init__(self, count: int) -> None:
        self.left = count

    def burn(self, function: Callable[..., object]) -> Callable[..., object]:
        def burnt(*args: object, **more: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise PowerCutError
            return function(*args, **more)

        return burnt


CHANGES = [
    (os, "unlink"),
    (os, "rmdir"),
    (os, "replace"),
    (tree, "punch"),
    (erasing, "trim"),
    (erasing, "save"),
    (intent, "write_durably"),
    (erasing, "write_durably"),
    (erasing, "remove_empty"),
]


def cut(store: Path, count: int, changes: Sequence[tuple[object, str]] = CHANGES) -> bool:
    """Whether the power was cut before the erase came to its end."""
    fuse = Fuse(count)
    with pytest.MonkeyPatch.context() as plug:
        for where, name in changes:
            plug.setattr(where, name, fuse.burn(getattr(where, name)))
        try:
            erase(store)
        except PowerCutError:
            return True
    return False


def cut_after(store: Path, packs: int) -> None:
    """The power is cut when so many packs are gone."""
    assert cut(store, packs, [(os, "unlink")])
    assert phase(store) is Phase.PACKS


def cut_before(store: Path, step: str) -> None:
    """The power is cut when the erase comes to this step."""
    with pytest.MonkeyPatch.context() as plug:
        plug.setattr(Eraser, step, lambda *_: (_ for _ in ()).throw(PowerCutError))
        with pytest.raises(PowerCutError):
            erase(store)


def never(found: Found) -> Consent:
    raise AssertionError(found)


def test_cut_off_anywhere_it_is_known_for_what_it_is_and_goes_on(
    made: Path, tmp_path: Path
) -> None:
    seen: set[tuple[str, Phase | None]] = set()
    count = 0
    while True:
        store = copied(made, tmp_path / str(count))
        root = statement.read(store.path).root().hex()
        was_cut = cut(store.path, count)
        if not was_cut:
            break
        try:
            Store(store.path)
            state = "a store"
            assert len(list(store.closed())) == len(statement.read(store.path).packs)
        except ErasedInPartError:
            state = "erased in part"
        except NotAStoreError:
            state = "gone"
            assert not store.path.exists() or not any(store.path.iterdir())
        seen.add((state, phase(store.path)))
        done = erase(store.path)
        assert done.root == root
        assert done.known_by is KnownBy.SEAL
        assert not store.path.exists()
        assert phase(store.path) is Phase.ENDED
        count += 1
    assert count > 12
    assert seen == {
        ("a store", None),
        ("a store", Phase.BEGUN),
        ("erased in part", Phase.BEGUN),
        ("erased in part", Phase.PACKS),
        ("erased in part", Phase.LOOKED),
        ("erased in part", Phase.LAST),
        ("gone", Phase.LAST),
        ("gone", Phase.UNMARKED),
    }


def test_what_goes_is_durably_gone_before_what_follows_from_it(
    made: Path, ext4: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes something or makes it durable, in its order."""
    store = copied(made, ext4[1])
    names = {one.stat().st_ino: one.name for one in store.path.rglob("*")}
    names |= {store.path.stat().st_ino: "store", store.path.parent.stat().st_ino: "around"}
    packs = [one.name for one in sorted(store.closed())]
    calls: list[str] = []

    def recorded(where: object, name: str, of: Callable[..., str | None]) -> None:
        honest = getattr(where, name)

        def call(*args: object, **more: object) -> object:
            if (about := of(*args, **more)) is not None:
                calls.append(f"{name} {about}".rstrip())
            return honest(*args, **more)

        monkeypatch.setattr(where, name, call)

    def of_fd(fd: int, *_: object) -> str | None:
        found = os.fstat(fd)
        return names.get(found.st_ino) if found.st_dev == ext4[1].stat().st_dev else None

    def of_name(name: str, **_: object) -> str | None:
        return name if name in names.values() or name == intent.FILE else None

    recorded(os, "unlink", of_name)
    recorded(os, "fsync", of_fd)
    recorded(tree, "punch", of_fd)
    recorded(erasing, "sync_file_system", of_fd)
    recorded(erasing, "trim", of_fd)
    recorded(erasing, "remove_empty", lambda path: path.name)
    recorded(erasing, "sync_directory", lambda path: "around" if path == ext4[1] else path.name)
    recorded(erasing, "save", lambda _, record: str(record["phase"]))
    Eraser(tmp_path / "home", store.path, ERASURE, silent, lambda: False).run(agreed)

    def gone(name: str) -> list[str]:
        return [f"unlink {name}", f"punch {name}", f"fsync {name}"]

    assert [one for one in calls if one not in {"fsync store", "fsync packs"}] == [
        "save begun",
        "save packs",
        *(call for name in [*packs, "canary.json"] for call in gone(name)),
        "sync_file_system store",
        "trim store",
        "save looked",
        *gone("seal.json"),
        *gone("head.json"),
        "save last",
        "unlink erasing.json",
        "save unmarked",
        "remove_empty store",
        "sync_directory around",
        "fsync around",
        "save ended",
    ]
    after = calls.index
    assert "fsync packs" in calls[after(f"fsync {packs[-1]}") : after("trim store")]
    assert "fsync store" in calls[after("save begun") : after("save packs")]
    assert "fsync store" in calls[after("fsync seal.json") : after("unlink head.json")]
    assert "fsync store" in calls[after("fsync head.json") : after("save last")]
    assert "fsync store" in calls[after("unlink erasing.json") : after("save unmarked")]


def test_cut_off_it_is_done_once_more_as_often_as_asked(store: Store) -> None:
    first = erase(store.path)
    assert erase(store.path) == first


def test_places_noted_before_are_looked_at_after_a_cut(
    made: Path, ext4: tuple[Path, Path]
) -> None:
    store = copied(made, ext4[1])
    cut_after(store.path, 2)
    assert len(list(store.packs.iterdir())) < len(statement.read(store.path).packs)
    assert erase(store.path).seen.zeros == places.MOST_PAGES


def test_asked_to_stop_it_stops_between_two_files(store: Store) -> None:
    left = iter([False, False, True])
    eraser = Eraser(store.path.parent / "home", store.path, ERASURE, silent, lambda: next(left))
    before = len(list(store.closed()))
    with pytest.raises(StoppedError) as stopped:
        eraser.run(agreed)
    assert "no store any more" in stopped.value.safe_now
    assert len(list(store.packs.iterdir())) == before - 2
    with pytest.raises(ErasedInPartError):
        Store(store.path)
    erase(store.path)
    assert not store.path.exists()


def test_another_home_goes_on_by_the_word_of_the_mark(store: Store, tmp_path: Path) -> None:
    seal = statement.read(store.path)
    count = len(seal.packs)
    cut_after(store.path, 2)
    found = erasable.look(store.path)
    assert (found.about.erasure, found.unsealed) == (ERASURE, "")
    eraser = Eraser(tmp_path / "other", store.path, ERASURE, silent, lambda: False)
    done = eraser.run(agreed)
    assert (done.root, done.sequence) == (seal.root().hex(), seal.sequence)
    assert (done.known_by, done.packs) == (KnownBy.SEAL, count - 2)
    assert not store.path.exists()


def test_where_only_the_mark_is_left_that_is_what_is_known(store: Store, tmp_path: Path) -> None:
    seal = statement.read(store.path)
    cut_before(store.path, "_unmarked")
    assert [one.name for one in store.path.iterdir()] == [intent.FILE]
    done = Eraser(tmp_path / "other", store.path, ERASURE, silent, lambda: False).run(agreed)
    assert (done.root, done.known_by) == (seal.root().hex(), KnownBy.MARK)
    assert done.copies.head == done.copies.seal == ""
    assert not store.path.exists()


def test_the_unsealed_is_known_as_such_when_it_goes_on(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    cut_before(store.path, "_packs")
    assert erasable.look(store.path).unsealed
    assert erase(store.path).known_by is KnownBy.HEAD


@pytest.mark.parametrize("begun", [False, True])
def test_another_shipment_that_came_to_the_place_is_not_touched(
    store: Store, tmp_path: Path, *, begun: bool
) -> None:
    """Also where somebody else has begun to erase that one."""
    cut_after(store.path, 1)
    store.path.rename(tmp_path / "taken-away")
    (tmp_path / "other").mkdir()
    other, _, _ = sealed_sample(tmp_path / "other")
    other.path.rename(store.path)
    if begun:
        replace(erasable.look(store.path).about, erasure="dd" * 16).put(store.path)
    with pytest.raises(RootMismatchError):
        erase(store.path)
    assert len(list(store.packs.iterdir())) == len(statement.read(store.path).packs)
    assert intent.stands(store.path) is begun


@pytest.mark.parametrize("step", ["_packs", "_seal_and_head"])
def test_another_copy_of_the_shipment_that_came_to_the_place_is_not_touched(
    made: Path, store: Store, tmp_path: Path, step: str
) -> None:
    cut_before(store.path, step)
    store.path.rename(tmp_path / "taken-away")
    copy = copied(made, tmp_path)
    with pytest.raises(RootMismatchError, match="its mark is not there"):
        erase(store.path, never)
    assert copy.sealed
    assert len(list(copy.closed())) == len(statement.read(copy.path).packs)
    shutil.rmtree(copy.path)
    (tmp_path / "taken-away").rename(store.path)
    assert erase(store.path, never).directory is Directory.REMOVED


def test_what_was_agreed_to_before_its_mark_is_asked_for_again(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    first, more = os.urandom(2 * BLOCK), os.urandom(8 * BLOCK)
    put_blocks(store, first, point(first))
    cut_before(store.path, "_mark")
    put_blocks(Store(store.path), more, point(more, disk="22" * 16))
    now = erasable.look(store.path).about
    asked: list[Found] = []

    def ready(found: Found) -> Consent:
        asked.append(found)
        return agreed(found)

    done = erase(store.path, ready)
    assert [one.about.packs for one in asked] == [now.packs]
    assert (done.packs, done.size) == (now.packs, now.size)


def test_a_mark_without_its_record_is_gone_on_with_unasked(store: Store) -> None:
    """The mark is durable before the record says so."""
    cut_before(store.path, "_packs")
    path = kept(store.path) / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"phase":"packs"', b'"phase":"begun"'))
    assert phase(store.path) is Phase.BEGUN
    assert erase(store.path, never).directory is Directory.REMOVED


def test_another_job_that_has_gone_on_meanwhile_is_not_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_before(store.path, "_packs")
    (store.path / "notes.txt").write_bytes(b"precious")
    honest = Tree.opened

    @contextmanager
    def late(path: Path) -> Iterator[Tree]:
        monkeypatch.setattr(Tree, "opened", honest)
        cut_before(store.path, "_unmarked")
        with honest(path) as opened:
            yield opened

    monkeypatch.setattr(Tree, "opened", late)
    told: list[Event] = []
    done = erase(store.path, never, emit=told.append)
    assert told == []
    assert (done.left, done.directory) == (("notes.txt",), Directory.KEPT)
    assert phase(store.path) is Phase.ENDED


def test_where_the_disk_is_not_attached_nothing_is_believed_to_be_gone(
    store: Store, tmp_path: Path
) -> None:
    cut_after(store.path, 1)
    store.path.rename(tmp_path / "taken-away")
    with pytest.raises(NotAStoreError):
        erase(store.path)
    assert phase(store.path) is Phase.PACKS


def test_a_new_shipment_in_the_place_is_not_taken_for_the_rest(store: Store) -> None:
    cut_before(store.path, "_unmarked")
    (store.path / intent.FILE).unlink()
    for one in ("packs", "files"):
        (store.path / one).mkdir(exist_ok=True)
    (store.path / "packs" / "x").touch()
    assert erase(store.path).directory is Directory.KEPT
    assert (store.path / "packs" / "x").exists()


def test_another_erase_that_has_begun_in_the_place_is_left_alone(store: Store) -> None:
    cut_before(store.path, "_unmarked")
    mark = intent.read(store.path)
    replace(mark, erasure="dd" * 16).put(store.path)
    assert erase(store.path).directory is Directory.KEPT
    assert intent.read(store.path).erasure == "dd" * 16


@pytest.mark.parametrize("left", [True, False])
def test_a_directory_that_was_moved_before_its_mark_went_is_not_said_to_be_removed(
    store: Store, tmp_path: Path, *, left: bool
) -> None:
    if left:
        (store.path / "notes.txt").write_bytes(b"precious")
    cut_before(store.path, "_unmarked")
    store.path.rename(tmp_path / "moved")
    done = erase(store.path)
    assert (done.directory, done.left_count) == (Directory.KEPT, int(left))
    assert intent.stands(tmp_path / "moved")


def test_a_mount_that_is_away_is_not_said_to_be_removed(made: Path, bench: Bench) -> None:
    """As where a desktop mounts a disk, and takes the directory away with it."""
    mounted = bench.tmpfs(bench.place / "usb", "96m")
    held = bench.mount(mounted, bench.place / "held", "--bind")
    tool("cp", "-a", f"{made}/.", mounted)
    cut_before(mounted, "_unmarked")
    tool("umount", mounted)
    mounted.rmdir()
    for _ in range(2):
        with pytest.raises(NotAStoreError, match="not attached"):
            erase(mounted)
    assert intent.stands(held)
    mounted.mkdir()
    tool("mount", "--bind", held, mounted)
    assert erase(mounted).directory is Directory.KEPT
    assert not intent.stands(held)


def test_a_directory_that_is_away_behind_its_mark_counts_as_kept(
    store: Store, tmp_path: Path
) -> None:
    """Nothing of the shipment is left there: the erase ends without it."""
    (store.path / "notes.txt").write_bytes(b"precious")
    cut_before(store.path, "_removed")
    assert phase(store.path) is Phase.UNMARKED
    store.path.rename(tmp_path / "moved")
    assert erase(store.path).directory is Directory.KEPT
    assert (tmp_path / "moved" / "notes.txt").exists()


def test_a_place_around_which_all_is_gone_is_not_there(bench: Bench, made: Path) -> None:
    around = bench.place / "around"
    store = copied(made, around)
    eraser = Eraser(bench.place / "home", store.path, ERASURE, silent, lambda: False)
    with pytest.MonkeyPatch.context() as plug:
        plug.setattr(Eraser, "_unmarked", lambda *_: (_ for _ in ()).throw(PowerCutError))
        with pytest.raises(PowerCutError):
            eraser.run(agreed)
    around.rename(bench.place / "drawer")
    for stands in ("nothing", "a file"):
        if stands == "a file":
            around.write_bytes(b"")
        with pytest.raises(NotAStoreError, match="not attached"):
            eraser.run(agreed)


# --- the mark ---


def test_a_mark_that_says_another_seal_than_stands_there_is_refused(store: Store) -> None:
    about = erasable.look(store.path).about
    replace(about, erasure=ERASURE, root="11" * 32).put(store.path)
    with pytest.raises(RootMismatchError):
        erase(store.path)
    assert list(store.closed())


def test_what_a_mark_says_of_others_than_itself_is_not_believed(store: Store) -> None:
    """Nobody has signed it: head and seal say it, and what lies there is counted."""
    about = erasable.look(store.path).about
    early, stranger = "1999-01-01T00:00:00Z", "99" * 32
    told = replace(about, label="payroll", signer=stranger, packs=7777, size=1, sequence=42)
    replace(told, erasure=ERASURE, began=early).put(store.path)
    size = about.size + (store.path / intent.FILE).stat().st_size
    done = erase(store.path)
    assert done.known_by is KnownBy.SEAL
    assert (done.label, done.signer, done.packs) == (about.label, about.signer, about.packs)
    assert (done.size, done.sequence) == (size, about.sequence)
    assert done.began >= about.began


def test_a_mark_of_another_shipment_than_the_head_is_refused(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    about = erasable.look(store.path).about
    replace(about, erasure=ERASURE, shipment=ShipmentId("12" * 16)).put(store.path)
    with pytest.raises(RootMismatchError, match="speaks of another shipment"):
        erase(store.path)


def test_a_mark_does_not_make_a_shipment_sealed(tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = os.urandom(2 * BLOCK)
    put_blocks(store, data, point(data))
    about = erasable.look(store.path).about
    replace(about, erasure=ERASURE, root="ab" * 32, sequence=3).put(store.path)
    found = erasable.look(store.path)
    assert "without a seal" in found.unsealed
    assert (found.about.root, found.about.sequence) == ("", 0)
    assert erase(store.path).root == ""


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_a_mark_that_cannot_be_read_is_a_mark_all_the_same(store: Store, data: bytes) -> None:
    (store.path / intent.FILE).write_bytes(data)
    for refused in (Store, erasable.look):
        with pytest.raises(ErasedInPartError):
            refused(store.path)


def test_a_mark_that_is_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    (store.path / intent.FILE).symlink_to(tmp_path / "nowhere")
    for refused in (Store, erasable.look):
        with pytest.raises(ErasedInPartError):
            refused(store.path)


def test_nobody_makes_a_shipment_where_one_is_erased_in_part(store: Store) -> None:
    cut_before(store.path, "_unmarked")
    device = new_store(store.path.parent, name="new")[1]
    with pytest.raises(ErasedInPartError):
        Store.create(store.path, "new", device, (OPERATOR.recipient,))
    erase(store.path)
    Store.create(store.path, "new", device, (OPERATOR.recipient,))


def test_a_record_that_is_damaged_is_told(store: Store) -> None:
    cut_after(store.path, 1)
    (kept(store.path) / "record.json").write_bytes(b"{}")
    with pytest.raises(StateError):
        erase(store.path)


def test_a_mark_whose_bytes_a_power_cut_took_is_removed_in_the_end(store: Store) -> None:
    cut_before(store.path, "_unmarked")
    (store.path / intent.FILE).write_bytes(bytes(100))
    assert erase(store.path).directory is Directory.REMOVED


def test_a_mark_in_another_directory_is_not_removed_unread(store: Store) -> None:
    cut_before(store.path, "_unmarked")
    store.path.rename(store.path.with_name("aside"))
    store.path.mkdir()
    (store.path / intent.FILE).write_bytes(bytes(100))
    with pytest.raises(NotAStoreError, match="not the place that was erased"):
        erase(store.path)
    assert (store.path / intent.FILE).exists()


def fill(file: Path) -> None:
    """To the last byte of its disk."""
    with file.open("wb", buffering=0) as opened:
        for size in (MIB, PAGE):
            with suppress(OSError):
                while True:
                    opened.write(bytes(size))


def test_on_a_disk_without_any_room_nothing_begins(made: Path, bench: Bench) -> None:
    device = bench.loop(bench.image(64 * MIB))
    tool("mkfs.ext4", "-q", "-m", "0", device)
    mounted = bench.mount(device, bench.place / "mnt")
    store = copied(made, mounted)
    beside = mounted / "beside"
    fill(beside)
    eraser = Eraser(bench.place / "home", store.path, ERASURE, silent, lambda: False)
    with pytest.raises(StoreFullError) as refused:
        eraser.run(agreed)
    assert refused.value.safe_now == "Nothing was erased."
    assert Store(store.path).sealed
    beside.unlink()
    assert eraser.run(agreed).packs


# --- a whole place ---


def test_all_stores_below_a_place_are_found(bench: Bench) -> None:
    place = bench.place / "place"
    (place / "a").mkdir(parents=True)
    (place / "elsewhere").mkdir()
    first, _, _ = sealed_sample(place / "a")
    second, _ = new_store(place, name="b")
    cut_after(second.path, 0)
    (bench.place / "far").mkdir()
    far, _ = new_store(bench.place / "far")
    (place / "link").symlink_to(far.path)
    (place / "mounted").mkdir()
    bench.mount(bench.place / "far", place / "mounted", "--bind")
    assert erasable.stores_below(place) == [first.path, second.path]
    assert erasable.stores_below(first.path) == [first.path]
    with pytest.raises(NotAStoreError):
        erasable.stores_below(place / "elsewhere")
    with pytest.raises(NotAStoreError):
        erasable.stores_below(place / "link")


def test_a_place_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as plug:

        def fails(*_: object, onerror: Callable[[OSError], None]) -> list[object]:
            onerror(OSError(5, "Input/output error"))
            return []

        plug.setattr(os, "fwalk", fails)
        with pytest.raises(StoreWriteError):
            erasable.stores_below(tmp_path)


def test_what_the_system_refuses_is_told_and_the_erase_goes_on_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own refusals end as the store's errors, whichever call they come from."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for where, name in (
        (intent, "write_durably"),
        (tree, "punch"),
        (os, "rmdir"),
        (os, "fsync"),
    ):
        with monkeypatch.context() as plug:
            plug.setattr(where, name, fails)
            with pytest.raises((StoreWriteError, StateError)):
                erase(store.path)
    erase(store.path)


def test_a_directory_that_cannot_be_opened_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = os.open

    def refuses(path: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if path == "packs":
            raise PermissionError(errno.EACCES, "Permission denied")
        return honest(path, flags, *more, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(StoreWriteError, match="Permission denied"):
        erasable.look(store.path)


def test_a_directory_that_vanishes_meanwhile_is_told(store: Store) -> None:
    with Tree.opened(store.path) as opened, pytest.raises(StoreWriteError, match="has vanished"):
        opened.erase("damaged", "x")


def test_a_directory_that_cannot_be_removed_in_the_end_is_said_to_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(erasing, "remove_empty", fails)
    assert erase(store.path).directory is Directory.KEPT
    assert store.path.exists()


# --- pages that cannot be looked at ---


def some_file(place: Path, data: bytes) -> list[tuple[Path, int]]:
    (place / "file").write_bytes(data)
    with (place / "file").open("rb") as file:
        os.fsync(file.fileno())
    return [(place / "file", len(data))]


def test_pages_of_zeros_prove_nothing_and_are_passed_over(ext4: tuple[Path, Path]) -> None:
    found = places.note(some_file(ext4[1], bytes(PAGE) + os.urandom(PAGE) + bytes(PAGE) + b"end"))
    assert (len(found.pages), found.missed) == (1, 0)
    assert places.note(some_file(ext4[1], b"")) == replace(found, pages=())


@pytest.mark.parametrize(
    ("code", "why"),
    [(errno.EACCES, places.NOT_PERMITTED), (errno.EIO, places.UNREADABLE)],
)
def test_a_disk_that_cannot_be_opened_is_said_to_be_so(
    ext4: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    files = some_file(ext4[1], os.urandom(3 * PAGE))
    noted = places.note(files)

    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(places, "opened_past_cache", fails)
    found = places.note(files)
    assert (found.pages, found.missed, found.why) == ((), 3, why)
    seen = places.look_again(noted, noted.number)
    assert (seen.taken, seen.not_seen, seen.why) == (3, 3, why)


def test_a_disk_that_cannot_be_read_later_is_said_to_be_so(
    ext4: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = places.note(some_file(ext4[1], os.urandom(3 * PAGE)))

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(places, "pread_full", fails)
    seen = places.look_again(noted, noted.number)
    assert (seen.taken, seen.not_seen, seen.why) == (3, 3, places.UNREADABLE)


def test_a_disk_that_is_another_by_now_is_not_looked_at(
    ext4: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = places.note(some_file(ext4[1], os.urandom(3 * PAGE)))
    monkeypatch.setattr(places, "device_node", lambda _: Path("/dev/another"))
    seen = places.look_again(noted, noted.number)
    assert (seen.zeros, seen.not_seen, seen.why) == (0, 3, places.NO_DEVICE)


def test_another_disk_that_has_the_number_by_now_is_not_looked_at(ext4: tuple[Path, Path]) -> None:
    """After a start the store's disk may have another number, and its old one another disk."""
    noted = places.note(some_file(ext4[1], os.urandom(3 * PAGE)))
    seen = places.look_again(noted, noted.number + 1)
    assert (seen.zeros, seen.other, seen.not_seen, seen.why) == (0, 0, 3, places.NO_DEVICE)


def test_pages_are_not_looked_at_where_the_store_came_from_another_disk(
    made: Path, ext4: tuple[Path, Path], tmp_path: Path
) -> None:
    """As where a dying disk was copied onto another, which goes by the same number."""
    store = copied(made, ext4[1])
    home = tmp_path / "home"
    with pytest.MonkeyPatch.context() as plug:
        plug.setattr(Eraser, "_packs", lambda *_: (_ for _ in ()).throw(PowerCutError))
        with pytest.raises(PowerCutError):
            Eraser(home, store.path, ERASURE, silent, lambda: False).run(agreed)
    store.path.rename(store.path.with_name("first"))
    shutil.copytree(store.path.with_name("first"), store.path)
    done = Eraser(home, store.path, ERASURE, silent, lambda: False).run(agreed)
    assert done.seen.taken == done.seen.not_seen == places.MOST_PAGES
    assert done.seen.zeros == 0


def test_what_the_file_system_does_not_tell_is_not_guessed(
    ext4: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = some_file(ext4[1], os.urandom(3 * PAGE))

    def refuses(_: int, __: int) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    honest = block.physical_place
    for told, why in (
        (refuses, places.NO_PLACE),
        (lambda *_: None, places.NO_PLACE),
        (lambda fd, at: (honest(fd, at) or 0) + PAGE, places.ELSEWHERE),
    ):
        monkeypatch.setattr(places, "physical_place", told)
        found = places.note(files)
        assert (found.pages, found.missed, found.why) == ((), 3, why)


def test_what_is_noted_is_kept_as_it_is(ext4: tuple[Path, Path]) -> None:
    found = places.note(some_file(ext4[1], os.urandom(3 * PAGE)))
    data = canon.dump(places.write_pages(found))
    back = canon.read(data, "pages", places.parse_pages, places.write_pages, StoreRefusedError)
    assert back == found
