"""The diagnosis of a store: each damage is done to a real one; looking at it changes nothing."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from appliance.block import PAGE, opened
from appliance.diagnose import locks
from appliance.diagnose import store as stores
from appliance.diagnose.kinds import Kind
from appliance.errors import IncompleteDiskError
from appliance.language import Language
from appliance.seal import chain, custody, deed, intent
from appliance.seal.label import Label
from appliance.seal.store import RESERVE, Store
from appliance.seal.torn import mend
from tests.diagnosis import Found, found, listed, snapshot
from tests.media import Bench, tool, unprivileged
from tests.support import BLOCK, many_packs
from tests.technician import Keys, Sent, Shell, begun, ingest_spec, noise, sealed_disks, until

ERRORS = {"store-refused", "seal-refused", "pack-refused", "custody-wrong"}


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return sealed_disks(tmp_path, web01=noise(40 * BLOCK), db01=noise(3 * BLOCK))


def refused(device: Shell, sent: Sent, kind: str) -> str:
    """The error that alone stands behind what is wrong with the store."""
    told = found(device, "--store", sent.path)
    assert {one for one in told if told[one]["severity"] == "error"} == {kind}
    assert told[kind]["code"]
    return str(told[kind]["error"])


def overwrite(path: Path, at: int, data: bytes) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, data, at)


# --- whole stores --------------------


def test_a_sealed_store_with_which_nothing_is_wrong(device: Shell, sent: Sent) -> None:
    before = snapshot(sent.path)
    told = found(device, "--store", sent.path)
    assert told["store"]["figures"]["disks"] == "2"
    assert told["sealed"]["figures"]["device"] == sent.seal.device_fingerprint
    assert told["sealed"]["figures"]["label"] == str(Label.of(sent.seal))
    assert not ERRORS & told.keys()
    assert "custody-none" in told  # it was made without one
    assert told["content-unread"]["type"] == f"motiongear verify --store {sent.path}"
    assert "unsealed" not in told
    assert snapshot(sent.path) == before


def test_an_open_store_as_the_verbs_make_it(device: Shell, keyring: Keys, tmp_path: Path) -> None:
    store, image = tmp_path / "store", tmp_path / "disk.img"
    image.write_bytes(noise(4 * BLOCK))
    device.typed("shipment", "new", "hall 4", "-s", store, *keyring.recipients).fine()
    device.typed("ingest", image, "-s", store, "--machine", "web01").fine()
    before = snapshot(store)
    told = found(device, "--store", store)
    assert told["custody"]["figures"] == {"count": "2"}
    assert told["unsealed"]["severity"] == "ok"
    assert not {one for one in told if told[one]["severity"] != "ok"}
    assert snapshot(store) == before


def written(device: Shell, store: Path) -> Found:
    """The findings while a pack is open, which mostly one is."""
    told: Found = {}

    def seen() -> bool:
        told.clear()
        told.update(listed(device, "--store", store))
        return "pack-written" in told

    until(seen)
    return told


def test_a_store_that_is_being_written_and_one_whose_writer_was_killed(
    device: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, image = begun(device, tmp_path / "store"), tmp_path / "disk.img"
    image.write_bytes(noise(600 * BLOCK))
    spec = ingest_spec(store.path, image, limits=("2MB/s",))
    job = device.start("ingest", store.path, spec)
    device.wait_for(job, "checkpoint", 12)
    with device.state() as known:
        pid = str(known.process_of(job))
    told = written(device, store.path)
    assert told["pack-written"]["figures"]["pid"] == pid
    assert told["store-locked"]["figures"]["pid"] == pid
    with monkeypatch.context() as hidden:  # as where the kernel calls locked files otherwise
        hidden.setattr(locks, "_LOCKS", tmp_path / "none")
        assert written(device, store.path)["pack-written"]["figures"]["pid"] == pid
    device.kill(job)
    told = found(device, "--store", store.path)
    assert told["pack-torn"]["severity"] == "warning"
    assert told["disk-incomplete"]["error"] == IncompleteDiskError.name
    assert "store-locked" not in told


# --- damage --------------------


def test_a_byte_of_a_packs_head_is_flipped(device: Shell, sent: Sent) -> None:
    overwrite(sent.packs("web01")[0], 3, b"!")
    assert refused(device, sent, "pack-refused") == "pack-damaged"


def test_a_pack_of_another_shipment(device: Shell, sent: Sent) -> None:
    overwrite(sent.packs("web01")[0], 16, b"another shipment")
    assert refused(device, sent, "pack-refused") == "foreign-pack"


def test_a_pack_is_missing(device: Shell, sent: Sent) -> None:
    gone = sent.packs("web01")[0]
    gone.unlink()
    assert refused(device, sent, "pack-refused") == "pack-missing"
    assert gone.name in found(device, "--store", sent.path)["pack-refused"]["what"]


def test_a_pack_is_cut_short(device: Shell, sent: Sent) -> None:
    os.truncate(sent.packs("web01")[0], 3 * PAGE)
    assert refused(device, sent, "pack-refused") == "pack-damaged"


def test_a_pack_that_is_whole_in_itself_and_not_what_was_sealed(device: Shell, sent: Sent) -> None:
    """Only the seal tells: somebody has cut it, and closed it where it was cut."""
    path = sent.packs("web01")[0]
    torn = path.rename(path.with_suffix(".open"))
    os.truncate(torn, torn.stat().st_size - 4 * PAGE)
    assert mend(torn) == path
    assert refused(device, sent, "pack-refused") == "pack-damaged"
    told = found(device, "--store", sent.path)["pack-refused"]
    assert "not the size that was sealed" in told["what"]


def test_a_pack_under_the_name_of_another(device: Shell, sent: Sent) -> None:
    sent.packs("db01")[0].write_bytes(sent.packs("web01")[0].read_bytes())
    assert refused(device, sent, "pack-refused") == "foreign-pack"


@pytest.mark.parametrize("name", ["notes.txt", f"{'ab' * 16}.pack", f"{'ab' * 16}.open"])
def test_what_is_no_pack_of_the_seal(device: Shell, sent: Sent, name: str) -> None:
    (sent.store.packs / name).write_bytes(b"x")
    assert refused(device, sent, "pack-refused") == "pack-unlisted"
    todo = str(found(device, "--store", sent.path)["pack-refused"]["todo"])
    assert ("Move it out" in todo) == (name == "notes.txt")


def test_a_pack_that_is_there_twice(device: Shell, tmp_path: Path) -> None:
    """In an open store, where no seal says which one it is."""
    sent = sealed_disks(tmp_path, web01=noise(40 * BLOCK))
    (sent.path / "seal.json").unlink()
    told = found(device, "--store", sent.path)
    assert "pack-refused" not in told
    first, second = sent.packs("web01")[:2]
    data = bytearray(first.read_bytes())
    data[64:80] = bytes.fromhex(second.stem)  # its name, and still the other's place
    second.write_bytes(data)
    assert refused(device, sent, "pack-refused") == "pack-repeated"


def test_a_seal_that_was_removed(device: Shell, sent: Sent) -> None:
    """Its chain tells of it: else it would pass for a store that is still being filled."""
    mine = custody.Custody(
        device.home, sent.store.head.shipment, deed.Who("Ada", "ACME"), "Berlin"
    )
    custody.append(mine, sent.path, deed.Deed.SEALED, sent.seal.root().hex())
    assert "seal-gone" not in found(device, "--store", sent.path)
    (sent.path / "seal.json").unlink()
    told = found(device, "--store", sent.path)["seal-gone"]
    assert (told["severity"], told["error"]) == ("error", "seal-missing")


def test_a_chain_that_may_not_be_read_is_not_called_wrong(sent: Sent) -> None:
    place = custody.in_store(sent.path)
    place.mkdir(mode=0o700)
    with unprivileged():
        told = {one.kind: one for one in stores.findings(sent.path)}
    assert Kind.CUSTODY_WRONG not in told
    assert "Permission denied" in told[Kind.STORE_REFUSED].told(Language.EN).what


def test_a_damaged_seal(device: Shell, sent: Sent) -> None:
    path = sent.path / "seal.json"
    path.write_bytes(path.read_bytes().replace(b'"sequence":1', b'"sequence":2'))
    assert refused(device, sent, "seal-refused") == "seal-damaged"


def test_files_that_the_seal_does_not_list(device: Shell, sent: Sent) -> None:
    (sent.path / "files").mkdir()
    (sent.path / "files" / "more.txt").write_text("x")
    assert refused(device, sent, "seal-refused") == "pack-unlisted"


def test_another_canary_than_was_sealed(device: Shell, sent: Sent) -> None:
    (sent.path / "canary.json").write_text("{}")
    assert refused(device, sent, "seal-refused") == "seal-damaged"


def test_a_head_of_which_a_byte_was_changed_makes_no_pack_foreign(
    device: Shell, sent: Sent
) -> None:
    path = sent.path / "head.json"
    changed = bytearray(path.read_bytes())
    at = changed.index(sent.seal.created[:4].encode())
    changed[at + 3] ^= 1
    path.write_bytes(changed)
    assert Store(sent.path).sealed
    assert refused(device, sent, "seal-refused") == "seal-damaged"
    assert "pack-refused" not in found(device, "--store", sent.path)


def test_a_pack_of_another_shipment_is_one_under_a_changed_head_too(
    device: Shell, sent: Sent, tmp_path: Path
) -> None:
    path = sent.path / "head.json"
    (tmp_path / "other").mkdir()
    foreign = next(many_packs(tmp_path / "other").closed())
    victim = next(Store(sent.path).closed())
    shutil.copy(foreign, victim)
    changed = bytearray(path.read_bytes())
    at = changed.index(sent.seal.created[:4].encode())
    changed[at + 3] ^= 1
    path.write_bytes(changed)
    assert found(device, "--store", sent.path)["pack-refused"]["error"] == "foreign-pack"


def test_a_damaged_head(device: Shell, sent: Sent) -> None:
    path = sent.path / "head.json"
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(device, sent, "store-refused") == "head-damaged"


def test_no_store_at_all(device: Shell, sent: Sent) -> None:
    (sent.path / "head.json").unlink()
    assert refused(device, sent, "store-refused") == "not-a-store"
    shutil.rmtree(sent.path)
    assert refused(device, sent, "store-refused") == "not-a-store"
    assert not sent.path.exists()


def test_a_store_that_is_half_erased(device: Shell, sent: Sent) -> None:
    (sent.path / intent.FILE).write_text("{}")
    assert refused(device, sent, "store-refused") == "erased-in-part"


def test_a_chain_of_custody_with_a_gap_or_none_that_can_be_read(
    device: Shell, keyring: Keys, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    image = tmp_path / "disk.img"
    image.write_bytes(noise(BLOCK))
    device.typed("shipment", "new", "hall 4", "-s", store, *keyring.recipients).fine()
    device.typed("ingest", image, "-s", store, "--machine", "web01").fine()
    (store / "custody" / "000001.json").unlink()
    told = found(device, "--store", store)["custody-wrong"]
    assert (told["error"], told["figures"]["finding"]) == ("custody-refused", chain.Kind.GAP)
    assert told["what"] == "The chain of custody is wrong: a record is missing. Record: 1."
    shutil.rmtree(store / "custody")
    (store / "custody").mkdir()
    (store / "custody" / "000001.json").write_text("{}")
    told = found(device, "--store", store)["custody-wrong"]
    assert told["figures"]["finding"] == chain.Kind.DAMAGED
    assert told["type"] == f"motiongear custody verify {store}"
    shutil.rmtree(store / "custody")
    (store / "custody").symlink_to(tmp_path)
    assert found(device, "--store", store)["custody-wrong"]["figures"]["number"] == "0"


def test_a_store_whose_disk_fails_on_the_way(
    device: Shell, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head can be read, what lies beside it cannot."""
    (sent.path / "custody").mkdir()
    failing = type(sent.path).iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "packs":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return failing(path)

    monkeypatch.setattr(type(sent.path), "iterdir", iterdir)
    assert refused(device, sent, "store-refused") == "not-a-store"


def test_many_findings_of_one_kind_are_counted(device: Shell, sent: Sent) -> None:
    for one in range(30):
        (sent.store.packs / f"{one}.txt").touch()
    assert found(device, "--store", sent.path)["more"]["figures"]["count"] == "10"


# --- what lies around it --------------------


def test_what_was_left_in_it(device: Shell, tmp_path: Path) -> None:
    store = begun(device, tmp_path / "store")
    (store.path / "damaged").mkdir()
    (store.path / "damaged" / f"{'ab' * 16}.open").touch()
    (store.path / f"head.json.{'ab' * 8}.new").touch()
    (store.path / "notes.txt").touch()
    told = found(device, "--store", store.path)
    assert told["aside"]["figures"] == {"count": "1"}
    assert told["draft-left"]["figures"]["name"].startswith("head.json.")
    assert told["foreign-file"]["figures"] == {"name": "notes.txt"}


def test_a_full_store(bench: Bench, device: Shell, tmp_path: Path) -> None:
    store = begun(device, bench.tmpfs(tmp_path / "small", "64m") / "store")
    (store.path / RESERVE).unlink()
    bench.fill(store.path.parent)
    told = found(device, "--store", store.path)
    assert told["space-none"]["error"] == "store-full"
    assert told["reserve-gone"]["severity"] == "warning"
    assert found(device)["space-none"]["figures"]["path"] == str(store.path)


def test_a_store_that_can_only_be_read(bench: Bench, device: Shell, tmp_path: Path) -> None:
    store = begun(device, tmp_path / "store")
    bench.mount(store.path, store.path, "--bind")
    assert "store-read-only" not in found(device, "--store", store.path)
    tool("mount", "-o", "remount,ro,bind", store.path)
    assert found(device, "--store", store.path)["store-read-only"]["severity"] == "warning"


def test_a_store_of_somebody_else_and_one_that_is_everybodys(
    bench: Bench, device: Shell, tmp_path: Path
) -> None:
    del bench
    with TemporaryDirectory() as name:  # nobody may go through a test's own directories
        Path(name).chmod(0o755)
        store = begun(device, Path(name) / "store")
        for owner, told in ((0, "root"), (4_000_000, "4000000")):
            os.chown(store.path, owner, 0)
            nobody = Shell(tmp_path / told)
            with unprivileged():
                shut = found(nobody, "--store", store.path)["store-shut"]
            assert shut["figures"] == {"owner": told}
        store.packs.chmod(0o777)
        told = found(device, "--store", store.path)["store-open"]["figures"]["path"]
        assert told == str(store.packs)
