"""Recipients and their key files: what opens, what is refused, where a private key may not be."""

import errno
import json
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.errors import (
    ExistsError,
    KeyFileError,
    PrivateKeyOnDeviceError,
    UnknownFormatError,
    WrongPassphraseError,
)
from appliance.events import Json
from appliance.seal import canon, keys
from appliance.seal.keys import PrivateKey, Recipient
from tests.disks.disk import Disk
from tests.disks.faults import Call, Fault
from tests.support import OPERATOR, RECOVERY, STRANGER

LIGHT = 8192  # the least memory that a key file may ask for: fast


def pair(place: Path, key: PrivateKey = OPERATOR) -> Path:
    public = keys.write_pair(key, place / "me.key", "pass", LIGHT)
    assert public == place / "me.key.pub"
    return place / "me.key"


def change(path: Path, **fields: Json) -> None:
    """Rewrite a key file with other fields, in canonical form."""
    document = json.loads(path.read_bytes())
    document.update(fields)
    path.write_bytes(canon.dump(document))


def test_a_locked_key_opens_with_its_passphrase(tmp_path: Path) -> None:
    path = pair(tmp_path, RECOVERY)
    found = keys.unlock(path, "pass")
    assert found.seed() == RECOVERY.seed()
    assert found.recipient == RECOVERY.recipient == keys.read_recipient(path)
    public = tmp_path / "me.key.pub"
    assert keys.read_public(public) == keys.read_recipient(public) == RECOVERY.recipient
    assert path.stat().st_mode & 0o777 == 0o600
    assert RECOVERY.seed() not in path.read_bytes() + public.read_bytes()


def test_a_new_key_is_32_random_bytes(tmp_path: Path) -> None:
    one, other = PrivateKey.generate("a"), PrivateKey.generate("a")
    assert len(one.seed()) == len(other.seed()) == 32
    assert one.seed() != other.seed()
    cipher = json.loads(pair(tmp_path, one).read_bytes())["cipher"]
    assert len(cipher) == 64  # 48 bytes in base64: the seed and a tag


def test_a_wrong_passphrase_is_told_apart_from_a_damaged_file(tmp_path: Path) -> None:
    path = pair(tmp_path)
    with pytest.raises(WrongPassphraseError):
        keys.unlock(path, "Pass")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(KeyFileError, match=r"me\.key"):
        keys.unlock(path, "pass")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = pair(tmp_path)
    before = path.read_bytes()
    for there, gone in ((path, "me.key.pub"), (tmp_path / "me.key.pub", "me.key")):
        kept = there.read_bytes()
        (tmp_path / gone).unlink(missing_ok=True)
        with pytest.raises(ExistsError):
            keys.write_pair(STRANGER, path, "pass", LIGHT)
        assert there.read_bytes() == kept
        path.write_bytes(before)
        (tmp_path / "me.key.pub").write_bytes(b"public")


def test_a_pair_of_which_one_cannot_be_written_leaves_none(tmp_path: Path) -> None:
    with Disk(tmp_path / "volatile") as disk:
        disk.inject(Fault("me.key.pub.*", Call.WRITE, errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            pair(disk.path)
        assert [*disk.path.iterdir()] == []
        disk.heal()
        assert keys.unlock(pair(disk.path), "pass").recipient == OPERATOR.recipient


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    with pytest.raises(PrivateKeyOnDeviceError):
        keys.read_public(pair(tmp_path))


@pytest.mark.parametrize(
    "fields",
    [
        {"cipher": "AAAA"},
        {"extra": 1},
        {"kdf": {"name": "scrypt"}},
        {"name": ""},
        {"name": "x" * 129},
        {"nonce": ""},
        {"public": ""},
        {"role": "king"},
        {"type": "key"},
    ],
    ids=str,
)
def test_a_private_key_file_with_a_wrong_field_is_refused(
    tmp_path: Path, fields: dict[str, Json]
) -> None:
    path = pair(tmp_path)
    change(path, **fields)
    with pytest.raises(KeyFileError):
        keys.unlock(path, "pass")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0),
        ("iterations", 17),
        ("lanes", 0),
        ("lanes", 17),
        ("memory_kib", 8191),
        ("memory_kib", (1 << 20) + 1),
        ("salt", ""),
        ("more", 1),
    ],
)
def test_a_key_file_cannot_ask_for_any_effort_it_likes(
    tmp_path: Path, field: str, value: Json
) -> None:
    path = pair(tmp_path)
    kdf = {**json.loads(path.read_bytes())["kdf"], field: value}
    change(path, kdf=kdf)
    with pytest.raises(KeyFileError, match=field):
        keys.unlock(path, "pass")


@pytest.mark.parametrize(
    "kdf",
    [
        {"iterations": 1, "lanes": 1},
        {"iterations": 16, "lanes": 16},
        {"memory_kib": 8192},
        {"memory_kib": 1 << 20},
    ],
    ids=str,
)
def test_a_key_file_may_ask_for_the_least_and_the_most(
    tmp_path: Path, kdf: dict[str, Json]
) -> None:
    path = pair(tmp_path)
    change(path, kdf={**json.loads(path.read_bytes())["kdf"], **kdf})
    assert keys.read_recipient(path) == OPERATOR.recipient


@pytest.mark.parametrize("name", ["x", "x" * 128], ids=len)
def test_a_name_has_up_to_128_characters(tmp_path: Path, name: str) -> None:
    path = pair(tmp_path, PrivateKey(name, "operator", OPERATOR.seed()))
    assert keys.read_recipient(path).name == name
    assert keys.read_public(path.with_name("me.key.pub")).name == name
    for one in (path, path.with_name("me.key.pub")):
        for wrong in ("", name + "x" * 128):
            change(one, name=wrong)
            with pytest.raises(KeyFileError, match="name"):
                keys.read_recipient(one)


def test_a_new_key_costs_a_guesser_as_much_as_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the memory of RFC 9106's second choice; only the figures, not the work."""
    monkeypatch.setattr(keys, "Argon2id", lambda **_: FakeKdf())
    keys.write_pair(OPERATOR, tmp_path / "me.key", "pass")
    kdf = json.loads((tmp_path / "me.key").read_bytes())["kdf"]
    assert (kdf["memory_kib"], kdf["iterations"], kdf["lanes"]) == (262_144, 3, 4)


class FakeKdf:
    """A key derivation that costs nothing."""

    def derive(self, passphrase: bytes) -> bytes:
        return passphrase.ljust(32)


def test_every_field_of_a_key_file_is_bound_to_its_secret(tmp_path: Path) -> None:
    path = pair(tmp_path)
    whole = path.read_bytes()
    change(path, name="someone else")
    with pytest.raises(WrongPassphraseError):
        keys.unlock(path, "pass")
    path.write_bytes(whole)
    change(path, role="recovery")
    with pytest.raises(WrongPassphraseError):
        keys.unlock(path, "pass")


def test_a_public_key_that_is_not_the_private_keys_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = PrivateKey("mixed", "operator", OPERATOR.seed())
    monkeypatch.setattr(mixed, "recipient", Recipient("mixed", "operator", STRANGER.recipient.key))
    path = pair(tmp_path, mixed)
    with pytest.raises(KeyFileError, match="not that of the private key"):
        keys.unlock(path, "pass")


@pytest.mark.parametrize(
    "key",
    [
        b"\xff" * 1184 + OPERATOR.recipient.key[1184:],
        OPERATOR.recipient.key[:1184] + bytes(32),
        OPERATOR.recipient.key[:1184] + b"\1" + bytes(31),
    ],
    ids=["no ML-KEM key", "X25519 zero", "X25519 of low order"],
)
def test_bytes_that_nothing_can_be_sealed_for_are_no_key(tmp_path: Path, key: bytes) -> None:
    path = tmp_path / "odd.pub"
    pair(tmp_path)
    (tmp_path / "me.key.pub").rename(path)
    change(path, key=canon.b64(key))
    with pytest.raises(KeyFileError, match="is not a public key"):
        keys.read_public(path)


@pytest.mark.parametrize("reader", [keys.read_public, keys.read_recipient])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, reader: object) -> None:
    assert callable(reader)
    for odd in (tmp_path / "none", tmp_path):
        with pytest.raises(KeyFileError, match="Cannot read"):
            reader(odd)


def test_a_huge_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as out:
        out.truncate(1 << 40)
    with pytest.raises(KeyFileError):
        keys.read_public(path)


def test_any_flipped_byte_of_a_public_key_file_gives_another_key_or_none(tmp_path: Path) -> None:
    pair(tmp_path)
    path = tmp_path / "me.key.pub"
    whole = path.read_bytes()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(KeyFileError):
            assert keys.read_public(path) != OPERATOR.recipient


def test_key_files_of_a_later_version_are_named_as_such(tmp_path: Path) -> None:
    path = pair(tmp_path)
    public = path.with_name(path.name + ".pub")
    for one in (path, public):
        change(one, version=2)
    with pytest.raises(UnknownFormatError, match="private key file is of format version 2"):
        keys.unlock(path, "pass")
    with pytest.raises(UnknownFormatError, match="public key file is of format version 2"):
        keys.read_public(public)
