"""The support package: it has what whoever is asked for help needs, and no secret, however it
might be written.
"""

import base64
import errno
import json
import os
import platform
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance import run
from appliance.catchup.enrol import Code
from appliance.catchup.identity import LinkIdentity
from appliance.diagnose import package, space, versions
from appliance.errors import BadInputError, ExistsError, UnknownNameError
from appliance.language import Language
from appliance.state import FILE
from tests.diagnosis import snapshot
from tests.media import Bench
from tests.support import BLOCK, OPERATOR
from tests.technician import PASSPHRASE, Keys, Sent, Shell, noise, sealed_disks

FROM_ENVIRONMENT = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
MACHINE = "db-payroll-7"
NAMED = {"operator.key": "operator's file", "passphrase.txt": "passphrase"}
SERIAL = "WD-WX11E9ABCDEF"


def unpacked(path: Path) -> dict[str, bytes]:
    """The files of a package by name."""
    data = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        found = {}
        for one in tar.getmembers():
            assert one.isfile()
            assert one.mode == 0o600
            file = tar.extractfile(one)
            assert file is not None
            found[one.name.removeprefix("motiongear-support/")] = file.read()
    return found


def forms(secret: bytes) -> Iterator[bytes]:
    """A secret as it is, in hex, and in base64 wherever in a longer text it begins."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + secret)[(8 * before + 5) // 6 : -4]


@dataclass(frozen=True)
class Kept:
    """A home and a store with every secret there is, and these by name."""

    shell: Shell
    store: Path
    secrets: dict[str, bytes]

    def packed(self, path: Path, *options: object) -> dict[str, bytes]:
        self.shell.typed("diagnose", "--package", path, *options).fine()
        return unpacked(path)

    def leaks(self, files: dict[str, bytes]) -> set[str]:
        text = b"\n".join([*files.values(), *(name.encode() for name in files)])
        return {
            name
            for name, secret in self.secrets.items()
            if any(form in text for form in forms(secret))
        }


def private(path: Path) -> bytes:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.private_bytes_raw()


def _body(path: Path) -> bytes:
    """The private key as it stands in a PEM file, whatever its framing."""
    return base64.b64decode(_text(path))


def _text(path: Path) -> bytes:
    return path.read_bytes().split(b"-----")[2].strip()


@pytest.fixture
def kept(device: Shell, keyring: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """An ingest that was begun, a gate with an invitation, a sender, keys that lie about."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", FROM_ENVIRONMENT)
    monkeypatch.setenv("MOTIONGEAR_LANG", "en")
    store, image = tmp_path / "store", tmp_path / f"{SERIAL}.img"
    image.write_bytes(noise(20 * BLOCK))
    device.typed("shipment", "new", "hall 4", "-s", store, *keyring.recipients).fine()
    device.typed("ingest", image, "-s", store, "--machine", MACHINE).fine()
    code = device.typed("gate", "invite", "--machine", "web01").fine().out.split()
    (token,) = [one for one in code if one.count("-") > 5]
    LinkIdentity(device.home / "line" / "identity.pem")
    for place in (device.home, store, store / "packs", store / "custody"):
        shutil.copy(keyring.operator, place / "operator.key")
        (place / "passphrase.txt").write_text(PASSPHRASE)
        (place / "seed").write_bytes(OPERATOR.seed())
    with closing(sqlite3.connect(device.home / FILE)) as known:
        ((guard,),) = known.execute("select guard_key from sources").fetchall()
    data = image.read_bytes()
    secrets = {
        "device": (device.home / "device" / "identity.key").read_bytes(),
        "gate": private(device.home / "gate" / "identity.pem"),
        "line": private(device.home / "line" / "identity.pem"),
        **{f"{one}'s file": _body(device.home / one / "identity.pem") for one in ("gate", "line")},
        **{f"{one}'s text": _text(device.home / one / "identity.pem") for one in ("gate", "line")},
        "operator": OPERATOR.seed(),
        "operator's file": base64.b64decode(json.loads(keyring.operator.read_text())["cipher"]),
        "passphrase": PASSPHRASE.encode(),
        "code": token.encode(),
        "token": Code.parse(token).token,
        "guard": bytes(guard),
        "first bytes": data[:24],
        "last bytes": data[-24:],
        "environment": FROM_ENVIRONMENT.encode(),
    }
    return Kept(device, store, secrets)


def test_what_a_package_holds(kept: Kept, tmp_path: Path) -> None:
    before = snapshot(kept.shell.home), snapshot(kept.store)
    files = kept.packed(tmp_path / "help.tar.zst")
    assert (snapshot(kept.shell.home), snapshot(kept.store)) == before
    assert stat.S_IMODE((tmp_path / "help.tar.zst").stat().st_mode) == 0o600
    assert {"README.en.txt", "README.zh.txt", "diagnosis.zh.txt", "logs/1.log"} & files.keys() == {
        *("README.en.txt", "README.zh.txt", "diagnosis.zh.txt")  # the job has said nothing
    }
    (job,) = json.loads(files["jobs.json"])
    assert (job["state"], job["progress"]["step"]) == ("finished", "ingest")
    assert "spec" not in job
    assert json.loads(files["state.json"])["rows"]["jobs"] == 1
    assert json.loads(files["versions.json"])["libraries"]["blake3"]
    steps = [json.loads(one) for one in files["events.jsonl"].splitlines()]
    assert any(one.get("figures", {}).get("size") == 20 * BLOCK for one in steps)
    listed = json.loads(files["stores/1/listing.json"])["files"]
    assert {"head.json", "packs/operator.key"} < {one["name"] for one in listed}
    assert files["stores/1/head.json"] == (kept.store / "head.json").read_bytes()
    assert (
        files["stores/1/custody/000002.json"]
        == (kept.store / "custody" / "000002.json").read_bytes()
    )
    kinds = {one["kind"] for one in json.loads(files["diagnosis.json"])["findings"]}
    assert {"database", "clock", "clock-free", "pack-refused"} & kinds >= {"pack-refused"}


def test_no_secret_is_in_a_package(kept: Kept, tmp_path: Path) -> None:
    files = kept.packed(tmp_path / "help.tar.zst")
    assert not kept.leaks(files)
    text = b"\n".join(files.values()).decode()
    home = str(kept.shell.home)
    values = {one for one in os.environ.values() if len(one) >= 8 and one not in home}
    assert not [one for one in values if one in text]


def test_machines_are_named_by_custody_alone_and_disks_by_errors_alone(
    kept: Kept, tmp_path: Path
) -> None:
    files = kept.packed(tmp_path / "help.tar.zst")
    naming = [name for name, data in files.items() if MACHINE.encode() in data]
    assert naming == ["stores/1/custody/000002.json"]
    assert not [name for name, data in files.items() if SERIAL.encode() in data]


def test_a_key_file_that_was_added_by_hand_would_be_seen(kept: Kept, tmp_path: Path) -> None:
    files = kept.packed(tmp_path / "help.tar.zst")
    for name in ("device/identity.key", "gate/identity.pem", "line/identity.pem", "seed"):
        data = (kept.shell.home / name).read_bytes()
        for added in (data, data.hex().encode(), base64.b64encode(b"it: " + data + b" that's it")):
            assert kept.leaks({**files, "key": b"before" + added + b"after"}), name
    for name in ("operator.key", "passphrase.txt"):
        added = (kept.shell.home / name).read_bytes()
        assert kept.leaks({**files, "key": added}) == {NAMED[name]}


def test_a_key_in_the_place_of_a_paper_stays_out(
    kept: Kept, keyring: Keys, tmp_path: Path
) -> None:
    """By name they would be public: links to keys, and copies of them."""
    log = kept.shell.home / "jobs" / "1.log"
    log.unlink()
    log.symlink_to(kept.shell.home / "seed")
    shutil.copy(keyring.operator, kept.store / "seal.json")
    shutil.copy(keyring.operator, kept.store / "custody" / "000003.json")
    (kept.store / "head.json").unlink()
    (kept.store / "head.json").symlink_to(keyring.operator)
    files = kept.packed(tmp_path / "help.tar.zst", "--store", kept.store)
    assert not kept.leaks(files)
    assert not {"stores/1/head.json", "stores/1/seal.json", "logs/1.log"} & files.keys()
    assert "stores/1/custody/000003.json" not in files


def test_a_sealed_store_and_a_log_and_a_lost_database(device: Shell, tmp_path: Path) -> None:
    sent: Sent = sealed_disks(tmp_path, web01=noise(4 * BLOCK))
    path = tmp_path / "help.tar.zst"
    with device.state() as opened:  # as an operator's: it was only read here
        spec = json.dumps({"store": str(sent.path)})
        job = opened.add_job("verify", sent.seal.shipment, "test", spec, "then")
    (device.home / "jobs" / f"{job}.log").write_text("x" * (1 << 20) + "the last words\n")
    device.typed("diagnose", "--package", path).fine()
    files = unpacked(path)
    assert files["stores/1/seal.json"] == (sent.path / "seal.json").read_bytes()
    assert files[f"logs/{job}.log"].endswith(b"the last words\n")
    assert len(files[f"logs/{job}.log"]) == 64 << 10
    (device.home / FILE).write_bytes(b"damaged" * 999)
    said = device.typed("diagnose", "--package", tmp_path / "b.tar.zst", "--json").fine()
    told = json.loads(said.out)
    assert set(unpacked(tmp_path / "b.tar.zst")) == set(told["files"])
    assert "jobs.json" not in told["files"]
    assert json.loads(unpacked(tmp_path / "b.tar.zst")["state.json"])["standing"] == "damaged"
    (device.home / FILE).unlink()


def test_what_is_inside_is_told_in_both_languages(device: Shell, tmp_path: Path) -> None:
    for language in Language:
        path = tmp_path / f"{language}.tar.zst"
        said = device.typed("diagnose", "--package", path, "--lang", language).fine()
        readme = unpacked(path)[f"README.{language}.txt"].decode()
        inside = [one.strip() for one in readme.splitlines() if one.strip()]
        assert len(inside) == len(package.INSIDE) + 1
        assert not [one for one in inside if one not in said.out]


def test_what_was_asked_for_and_is_not_there_is_told_in_the_package(
    device: Shell, tmp_path: Path
) -> None:
    path, gone = tmp_path / "help.tar.zst", tmp_path / "no-such-store"
    with device.state():
        pass
    device.typed("diagnose", "--package", path, "--store", gone).fine()
    told = json.loads(unpacked(path)["diagnosis.json"])["findings"]
    assert any(str(gone) in one["what"] for one in told if one["kind"] == "store-refused")
    again = tmp_path / "again.tar.zst"
    device.typed("diagnose", "--package", again, "--job", 99).refused(UnknownNameError)
    assert not again.exists()


def test_a_package_that_cannot_be_written(device: Shell, tmp_path: Path) -> None:
    path = tmp_path / "help.tar.zst"
    path.write_text("mine")
    device.typed("diagnose", "--package", path).refused(ExistsError)
    assert path.read_text() == "mine"
    device.typed("diagnose", "--package", tmp_path / "help.zip").refused(BadInputError)
    device.typed("diagnose", "--package", tmp_path / "no" / "a.tar.zst").refused(BadInputError)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["device-home", "help.tar.zst"]


def test_a_package_goes_onto_a_stick(
    device: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT knows no second names, by which a file is otherwise made once; nor do all kernels that
    run tests know FAT.
    """

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    stick = tmp_path / "stick"
    stick.mkdir()
    device.typed("diagnose", "--package", stick / "help.tar.zst").fine()
    assert "versions.json" in unpacked(stick / "help.tar.zst")
    device.typed("diagnose", "--package", stick / "help.tar.zst").refused(ExistsError)
    monkeypatch.setattr(package, "write_durably", refuse)
    device.typed("diagnose", "--package", stick / "more.tar.zst").refused(BadInputError)
    assert {one.name for one in stick.iterdir()} == {"help.tar.zst"}


def test_a_stick_that_is_full(bench: Bench, device: Shell, tmp_path: Path) -> None:
    stick = bench.tmpfs(tmp_path / "stick")
    bench.fill(stick)
    device.typed("diagnose", "--package", stick / "more.tar.zst").refused(BadInputError)
    assert {one.name for one in stick.iterdir()} == {"filler"}


def test_only_so_many_events_and_logs(
    device: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "_LOGS", 2)
    with device.state() as opened:
        for _ in range(4):
            job = opened.add_job("seal", "11" * 16, "t", "{}", "then")  # type: ignore[arg-type]
            (device.home / "jobs" / f"{job}.log").write_text("said")
    device.typed("diagnose", "--package", tmp_path / "a.tar.zst").fine()
    logs = {one for one in unpacked(tmp_path / "a.tar.zst") if one.startswith("logs/")}
    assert logs == {"logs/3.log", "logs/4.log"}


def test_somebody_else_was_faster(
    device: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "help.tar.zst"
    path.write_text("theirs")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # it came between
    device.typed("diagnose", "--package", path).refused(ExistsError)
    assert path.read_text() == "theirs"


def test_versions_of_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run, "_SBIN", str(tmp_path))
    monkeypatch.setattr(versions, "requires", lambda _: ["no-such-library >= 2", "click"])
    monkeypatch.setattr(platform, "freedesktop_os_release", _none)
    found = versions.versions()
    assert set(cast("dict[str, str]", found["tools"]).values()) == {""}
    assert cast("dict[str, str]", found["libraries"])["no-such-library"] == ""
    assert found["system"] == ""
    assert platform.node() not in found.values()


def _none() -> dict[str, str]:
    raise FileNotFoundError


def test_sizes_are_written_in_decimal_units() -> None:
    written = [space.written(one) for one in (0, 999, 1000, 25e6, 3e9, 4e12, 5e15)]
    assert written == ["0.0 B", "999.0 B", "1.0 kB", "25.0 MB", "3.0 GB", "4.0 TB", "5000.0 TB"]
