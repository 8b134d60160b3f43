"""What the command refuses, by exit code and name, and what it leaves as it was."""

import os
import shutil
from pathlib import Path

import pytest

from appliance.errors import (
    AlreadySealedError,
    BadInputError,
    CanaryError,
    ExistsError,
    ForeignPackError,
    KeyFileError,
    MotionGearError,
    NotADiskError,
    NotAStoreError,
    NotReadyToShipError,
    OlderSealError,
    OwnDiskError,
    PackDamagedError,
    PackMissingError,
    PackUnlistedError,
    PrivateKeyOnDeviceError,
    RecipientsMismatchError,
    RecordDamagedError,
    RootMismatchError,
    SealMissingError,
    SignerMismatchError,
    SourceBusyError,
    StateError,
    TargetFullError,
    UnknownNameError,
    VolumeForeignError,
    WrongKeyError,
    WrongPassphraseError,
)
from appliance.seal import statement, text
from appliance.seal.store import Store
from tests.media import Bench, tool
from tests.support import BLOCK, OPERATOR, RECOVERY, STRANGER, point, put_blocks, sample_bytes
from tests.technician import (
    PASSPHRASE,
    Keys,
    Sent,
    Shell,
    begun,
    disk_id,
    noise,
    sealed_disks,
)

WAIVE = ("--waive", "a test")


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return sealed_disks(tmp_path, web01=noise(6 * BLOCK))


@pytest.fixture
def store(tmp_path: Path, device: Shell) -> Store:
    return begun(device, tmp_path / "store")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(sample_bytes())
    return path


def fill(store: Store) -> None:
    data = sample_bytes()
    put_blocks(store, data, point(data))


# --- keys and passphrases --------------------


def test_a_wrong_passphrase_is_refused(operator: Shell, keyring: Keys, sent: Sent) -> None:
    manifest = ("manifest", "-s", sent.path, "--key", keyring.operator)
    operator.typed(*manifest, passphrase="wrong").refused(WrongPassphraseError)
    assert "empty" in operator.typed(*manifest, passphrase="").refused(BadInputError).err
    operator.typed(*manifest, passphrase=PASSPHRASE).fine()


def test_a_descriptor_that_gives_no_passphrase_is_refused(
    tmp_path: Path, operator: Shell, keyring: Keys, sent: Sent
) -> None:
    manifest = ("manifest", "-s", sent.path, "--key", keyring.operator, "--passphrase-fd")
    assert "cannot be read" in operator.typed(*manifest, 987).refused(BadInputError).err
    (tmp_path / "latin").write_bytes(b"\xe4\xf6\n")
    with (tmp_path / "latin").open("rb") as file:
        refused = operator.typed(*manifest, file.fileno()).refused(BadInputError)
    assert "not UTF-8" in refused.err
    (tmp_path / "short").write_text(PASSPHRASE)  # ends without a line's end
    with (tmp_path / "short").open("rb") as file:
        operator.typed(*manifest, file.fileno()).fine()


def test_a_passphrase_that_is_too_long_is_refused_and_not_cut(
    tmp_path: Path, operator: Shell
) -> None:
    for name, data in (("a", b"p" * 1025), ("b", b"p" * 1025 + b"\n"), ("c", b"p" * 9999)):
        (tmp_path / name).write_bytes(data)
        make = ("keys", "new", "Olga", "--out", tmp_path / f"{name}.key", "--passphrase-fd")
        with (tmp_path / name).open("rb") as file:
            refused = operator.typed(*make, file.fileno()).refused(BadInputError)
        assert "longer than 1024 bytes" in refused.err
    assert not list(tmp_path.glob("*.key*"))
    (tmp_path / "d").write_bytes(b"p" * 1024)
    make = ("keys", "new", "Olga", "--out", tmp_path / "d.key", "--passphrase-fd")
    with (tmp_path / "d").open("rb") as file:
        operator.typed(*make, file.fileno()).fine()


def test_a_place_where_no_key_file_can_be_written_is_named(
    tmp_path: Path, operator: Shell
) -> None:
    place = tmp_path / "nowhere" / "x.key"
    make = ("keys", "new", "Olga", "--out", place)
    assert str(place) in operator.typed(*make, passphrase=PASSPHRASE).refused(BadInputError).err


def test_a_key_that_opens_nothing_here_is_refused(
    operator: Shell, keyring: Keys, sent: Sent, tmp_path: Path
) -> None:
    key = ("--key", keyring.stranger)
    for verb in (
        ("manifest", "-s", sent.path),
        ("restore", "-s", sent.path, "--to", tmp_path / "to"),
        ("verify", "-s", sent.path),
    ):
        operator.typed(*verb, *key, passphrase=PASSPHRASE).refused(WrongKeyError)
    assert not (tmp_path / "to").exists()


def test_a_file_that_is_no_key_is_refused_before_anybody_types(
    operator: Shell, sent: Sent, tmp_path: Path
) -> None:
    (tmp_path / "no.key").write_text("{}")
    operator.typed("manifest", "-s", sent.path, "--key", tmp_path / "no.key").refused(KeyFileError)


def test_a_private_key_is_kept_off_the_device(
    tmp_path: Path, device: Shell, keyring: Keys, store: Store
) -> None:
    new = ("shipment", "new", "x", "-s", tmp_path / "other", "-r", keyring.operator)
    device.typed(*new).refused(PrivateKeyOnDeviceError)
    assert not (tmp_path / "other").exists()
    for place in (device.home / "op.key", store.path / "op.key", store.packs / "op.key"):
        make = ("keys", "new", "Olga", "--out", place)
        device.typed(*make, passphrase=PASSPHRASE).refused(PrivateKeyOnDeviceError)
        assert not place.exists()
    (tmp_path / "link").symlink_to(device.home)
    device.typed("keys", "new", "Olga", "--out", tmp_path / "link" / "op.key").refused(
        PrivateKeyOnDeviceError
    )


def test_a_key_file_is_never_overwritten(operator: Shell, keyring: Keys) -> None:
    before = keyring.operator.read_bytes()
    make = ("keys", "new", "Olga", "--out", keyring.operator)
    operator.typed(*make, passphrase=PASSPHRASE).refused(ExistsError)
    assert keyring.operator.read_bytes() == before


# --- shipments and canaries --------------------


def test_a_shipment_needs_a_directory_of_its_own(
    device: Shell, keyring: Keys, store: Store, tmp_path: Path
) -> None:
    new = ("shipment", "new", "x", *keyring.recipients)
    device.typed(*new, "-s", store.path).refused(ExistsError)
    device.typed(*new, "-s", tmp_path / "n", "--block-size", 1000).refused(BadInputError)


def test_a_store_that_is_none_is_named(device: Shell, tmp_path: Path, image: Path) -> None:
    for verb in (
        ("shipment", "show"),
        ("ingest", image, "-m", "web01"),
        ("seal",),
        ("verify",),
        ("canary", "confirm", "CODE"),
        ("check", "--to", tmp_path),
    ):
        device.typed(*verb, "-s", tmp_path / "nothing").refused(NotAStoreError)


def test_only_a_recipient_opens_the_canary(
    device: Shell, operator: Shell, keyring: Keys, store: Store
) -> None:
    canary = ("canary", "open", "-s", store.path, "--key", keyring.stranger)
    operator.typed(*canary, passphrase=PASSPHRASE).refused(CanaryError)
    confirm = ("canary", "confirm", "-s", store.path)
    device.typed(*confirm, text.grouped(bytes(16))).refused(CanaryError)
    device.typed(*confirm, "ABCD").refused(BadInputError)


def test_sealing_wants_an_opened_canary_or_a_reason(
    device: Shell, operator: Shell, keyring: Keys, store: Store
) -> None:
    seal = ("seal", "-s", store.path)
    assert "Sealed" not in device.typed("shipment", "show", "-s", store.path).fine().out
    assert "is empty" in device.typed(*seal).refused(NotReadyToShipError).err
    fill(store)
    assert "canary open" in device.typed(*seal).refused(NotReadyToShipError).err
    canary = ("canary", "open", "-s", store.path, "--key", keyring.operator)
    code = operator.typed(*canary, passphrase=PASSPHRASE).fine().out.rpartition(": ")[2].strip()
    device.typed("canary", "confirm", "-s", store.path, code).fine()
    device.typed(*seal).fine()
    assert (
        f"readable by    {OPERATOR.recipient.fingerprint}"
        in operator.typed("verify", "-s", store.path).fine(3).out
    )


def test_a_single_recipient_is_warned_of_and_refused(
    tmp_path: Path, device: Shell, keyring: Keys
) -> None:
    place, public = tmp_path / "alone", keyring.place / "operator.key.pub"
    new = device.typed("shipment", "new", "x", "-s", place, "-r", public, "--block-size", BLOCK)
    assert "Only one recipient" in new.fine().out
    fill(Store(place))
    refused = device.typed("seal", "-s", place).refused(NotReadyToShipError)
    assert "Only one recipient" in refused.err
    device.typed("seal", "-s", place, *WAIVE, "--no-qr").fine()


def test_a_sealed_shipment_stays_as_it_is(device: Shell, store: Store, image: Path) -> None:
    ingest = ("ingest", image, "-s", store.path, "-m", "web01")
    device.typed(*ingest).fine()
    device.typed("seal", "-s", store.path, *WAIVE).fine()
    before = {one: one.read_bytes() for one in store.path.rglob("*") if one.is_file()}
    for verb in (
        ("seal", "-s", store.path, *WAIVE),
        ingest,
        ("canary", "confirm", "-s", store.path, "CODE"),
        ("jobs", "discard", 1, "--yes"),
    ):
        device.typed(*verb).refused(AlreadySealedError)
    assert {one: one.read_bytes() for one in store.path.rglob("*") if one.is_file()} == before


def test_a_shipment_is_sealed_where_it_was_begun(
    device: Shell, operator: Shell, store: Store
) -> None:
    fill(store)
    refused = operator.typed("seal", "-s", store.path, *WAIVE).refused(SignerMismatchError)
    assert "Nothing was signed" in refused.err
    device.typed("seal", "-s", store.path, *WAIVE).fine()


# --- sources --------------------


def test_a_mounted_disk_is_refused(
    tmp_path: Path, device: Shell, store: Store, bench: Bench
) -> None:
    image = bench.image(4 << 20)
    tool("mkfs.ext4", "-q", image)
    node = bench.loop(image)
    bench.mount(node, tmp_path / "mounted")
    ingest = ("ingest", node, "-s", store.path, "-m", "web01")
    assert "mounted at" in device.typed(*ingest).refused(SourceBusyError).err
    assert "it is mounted at" in device.typed("disks").fine().out
    device.typed("ingest", image, "-s", store.path, "-m", "w").refused(SourceBusyError)


def test_what_is_no_disk_is_refused(tmp_path: Path, device: Shell, store: Store) -> None:
    empty = tmp_path / "empty.img"
    empty.touch()
    for source in (tmp_path, empty, "/dev/null", tmp_path / "missing"):
        ingest = ("ingest", source, "-s", store.path, "-m", "web01")
        device.typed(*ingest).refused(NotADiskError)
    with device.state() as opened:
        assert opened.jobs() == []


def test_the_device_does_not_eat_itself(device: Shell, store: Store) -> None:
    for own in (store.path / "head.json", device.home / "state.db"):
        device.typed("disks").fine()
        ingest = ("ingest", own, "-s", store.path, "-m", "web01")
        device.typed(*ingest).refused(OwnDiskError)


@pytest.mark.parametrize(
    "option",
    [
        ("--limit", "fast"),
        ("--limit", "1MB/s@25:00-26:00"),
        ("--limit", "0"),
        ("--machine", ""),
        ("--machine", "m" * 129),
    ],
)
def test_options_that_make_no_sense_start_no_job(
    device: Shell, store: Store, image: Path, option: tuple[str, str]
) -> None:
    ingest = ("ingest", image, "-s", store.path, "--machine", "web01")
    device.typed(*ingest, *option).refused(BadInputError)
    with device.state() as opened:
        assert opened.jobs() == []


def test_a_disk_too_large_for_small_blocks_is_refused(
    tmp_path: Path, device: Shell, store: Store
) -> None:
    huge = tmp_path / "huge.img"
    huge.touch()
    os.truncate(huge, (BLOCK << 26) + 1)
    device.typed("ingest", huge, "-s", store.path, "-m", "huge").refused(NotADiskError)


def test_unknown_jobs_are_unknown(device: Shell) -> None:
    for verb in ("follow", "stop", "resume"):
        device.typed("jobs", verb, 7).refused(UnknownNameError)
    device.typed("jobs", "discard", 7, "--yes").refused(UnknownNameError)


def test_a_job_that_reads_no_disk_has_no_source(device: Shell, store: Store) -> None:
    device.typed("seal", "-s", store.path).refused(NotReadyToShipError)
    refused = device.typed("jobs", "resume", 1, "--source", "/dev/sdz").refused(BadInputError)
    assert "--source is for ingest jobs" in refused.err
    assert "Job 1 is dropped" in device.typed("jobs", "discard", 1, "--yes").fine().out


# --- stores on arrival --------------------


def test_a_store_that_was_never_sealed_says_so(operator: Shell, store: Store) -> None:
    operator.typed("verify", "-s", store.path).refused(SealMissingError)


def test_wrong_pins_are_told_apart(operator: Shell, sent: Sent) -> None:
    verify = ("verify", "-s", sent.path)
    stranger = STRANGER.recipient.fingerprint
    named = [OPERATOR.recipient.fingerprint, RECOVERY.recipient.fingerprint]
    for pins, error in (
        (("--device", stranger), SignerMismatchError),
        (("--seal", text.grouped(bytes(32))), RootMismatchError),
        (("--recipient", stranger), RecipientsMismatchError),
        (("--recipient", named[0]), RecipientsMismatchError),
        (("--device", "ABC"), BadInputError),
        (
            ("--seal", "not words of any list but twelve of them at least as it seems"),
            BadInputError,
        ),
    ):
        operator.typed(*verify, *pins).refused(error)
    both = ("--recipient", named[0], "--recipient", named[1])
    operator.typed(*verify, *sent.pins, *both).fine()


def test_an_older_seal_of_the_same_device_is_refused(
    device: Shell, operator: Shell, tmp_path: Path
) -> None:
    labels: list[tuple[Path, tuple[str, ...]]] = []
    for name in ("first", "second"):
        store = begun(device, tmp_path / name)
        fill(store)
        device.typed("seal", "-s", store.path, *WAIVE).fine()
        labels.append((store.path, Sent(store, statement.read(store.path), {}).pins))
    (first, first_pins), (second, second_pins) = labels
    operator.typed("verify", "-s", first, *first_pins).fine()
    operator.typed("verify", "-s", second, *second_pins).fine()
    operator.typed("verify", "-s", second, *second_pins).fine()
    operator.typed("verify", "-s", first, *first_pins).refused(OlderSealError)


def test_missing_additional_and_foreign_packs_are_told_apart(
    operator: Shell, sent: Sent, tmp_path: Path
) -> None:
    path = sent.packs("web01")[0]
    kept = path.read_bytes()
    extra = path.with_name(f"{'ab' * 16}.pack")
    verify = ("verify", "-s", sent.path)
    shutil.copy(path, extra)
    assert extra.name in operator.typed(*verify).refused(PackUnlistedError).err
    extra.unlink()
    path.unlink()
    assert path.name in operator.typed(*verify).refused(PackMissingError).err
    other = sealed_disks(tmp_path / "elsewhere", web01=noise(6 * BLOCK))
    shutil.copy(other.packs("web01")[0], path)
    operator.typed(*verify).refused(ForeignPackError)
    path.write_bytes(kept)
    operator.typed(*verify).fine(3)


def test_damage_is_named_ever_more_closely(
    operator: Shell, keyring: Keys, sent: Sent, tmp_path: Path
) -> None:
    path = sent.packs("web01")[0]
    data = bytearray(path.read_bytes())
    data[3 * BLOCK] ^= 1
    path.write_bytes(data)
    key = ("--key", keyring.operator)
    verify = ("verify", "-s", sent.path)
    assert (
        f"{path.name} is not what was sealed"
        in operator.typed(*verify).refused(PackDamagedError).err
    )
    keyed = operator.typed(*verify, *key, passphrase=PASSPHRASE)
    assert keyed.code in {PackDamagedError.code, RecordDamagedError.code}
    for named in (
        path.name,
        f"block 2 (bytes {2 * BLOCK} to {3 * BLOCK - 1})",
        f"disk {disk_id('web01')}",
        "'web01'",
        "S-7765",
    ):
        assert named in keyed.err
    restore = ("restore", "-s", sent.path, "--to", tmp_path / "to", *key)
    refused = operator.typed(*restore, passphrase=PASSPHRASE).refused(RecordDamagedError)
    assert f"hit: block 2 of disk {disk_id('web01')} (web01-S-7765)" in refused.err
    assert [one.name for one in (tmp_path / "to").glob("*.img*")] == ["web01-S-7765.img.partial"]


# --- targets --------------------


def test_targets_that_cannot_work_are_refused_before_any_write(
    operator: Shell, keyring: Keys, sent: Sent, tmp_path: Path, bench: Bench
) -> None:
    key = ("--key", keyring.operator)
    goal = tmp_path / "to"

    def restore(*more: object, to: Path = goal) -> tuple[object, ...]:
        return ("restore", "-s", sent.path, "--to", to, *key, *more)

    def refused(error: type[MotionGearError], *command: object) -> str:
        return operator.typed(*command, passphrase=PASSPHRASE).refused(error).err

    small = bench.tmpfs(tmp_path / "small", "256k")
    assert "Nothing was written" in refused(TargetFullError, *restore(to=small))
    assert "no target 'moon', but: local" in refused(BadInputError, *restore("--target", "moon"))
    refused(BadInputError, *restore("--limit", "slow"))
    for wrong in ("web01", "=name", "S-7765="):
        refused(BadInputError, *restore("--map", wrong))
    refused(UnknownNameError, *restore("--map", "S-7765=../../etc/passwd"))
    goal.mkdir()
    (goal / "mine.img").write_bytes(b"mine")
    refused(VolumeForeignError, *restore("--map", "S-7765=mine"))
    assert [one.name for one in goal.iterdir()] == ["mine.img"]
    assert (goal / "mine.img").read_bytes() == b"mine"
    with operator.state() as opened:
        assert opened.jobs() == []


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shell = Shell(tmp_path / "home")
    shell.home = tmp_path / "file" / "home"
    assert str(shell.home) in shell.typed("shipment", "list").refused(StateError).err


UNDECODED = "x\udcff\udcfey"  # how Python hands over bytes that are no UTF-8


@pytest.mark.parametrize(
    "words",
    [
        ("shipment", "new", UNDECODED, "-s", "STORE", "-r", "a.pub"),
        ("keys", "new", UNDECODED, "-o", "KEY"),
        ("ingest", "disk.img", "-s", "STORE", "--machine", UNDECODED),
        ("seal", "-s", "STORE", "--waive", UNDECODED),
        ("seal", "-s", "STORE", "--accept", UNDECODED),
        ("canary", "confirm", "-s", "STORE", UNDECODED),
        ("gate", "invite", "--machine", UNDECODED),
        ("gate", "serve", "--to", "STORE", "--listen", UNDECODED),
        ("gate", "forget", "--machine", UNDECODED),
        ("gate", "replicas", "--to", "STORE", "--machine", UNDECODED),
        ("gate", "check", "--to", "STORE", "--machine", UNDECODED),
        ("enrol", "--gate", UNDECODED),
        ("catch-up", "--gate", UNDECODED, "-d", "/dev/sda"),
        ("catch-up", "--gate", "gate:7443", "-d", UNDECODED),
        ("points", "list", "--to", "STORE", "--machine", UNDECODED),
        ("points", "choose", UNDECODED, "--to", "STORE"),
        ("points", "clone", UNDECODED, "--name", "test", "--to", "STORE"),
        ("points", "clone", "1", "--name", UNDECODED, "--to", "STORE"),
        ("points", "remove", UNDECODED, "--to", "STORE"),
        ("points", "discard", UNDECODED, "--yes", "--to", "STORE"),
    ],
    ids=lambda words: " ".join(words).replace(UNDECODED, "BYTES"),
)
def test_bytes_that_are_no_text_are_refused(
    tmp_path: Path, device: Shell, words: tuple[str, ...]
) -> None:
    places = {"STORE": f"{tmp_path / 'store'}", "KEY": f"{tmp_path / 'key'}"}
    said = device.typed(*[places.get(one, one) for one in words]).refused(BadInputError)
    assert "is not UTF-8 text" in said.err
    assert list(tmp_path.iterdir()) == [device.home]
