"""The key of an end of the line, and the certificates that are refused."""

import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, x448
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.catchup.identity import LinkIdentity, certificate_for, key_of
from appliance.errors import StateError, WireViolationError
from appliance.seal.keys import fingerprint
from appliance.seal.text import grouped

KEY = Ed25519PrivateKey.generate()
MINE = fingerprint(KEY.public_key().public_bytes_raw())
GOOD = certificate_for(KEY).public_bytes(Encoding.DER)
FROM, TO = datetime(1970, 1, 1), datetime(9999, 12, 31)  # noqa: DTZ001 - X.509 has no zones


def named(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in names])


def built(subject: x509.Name, issuer: x509.Name, extra: bytes = b"") -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, None, 7, FROM, TO)
    if extra:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, extra), critical=False)
    return builder


def ours(subject: x509.Name, issuer: x509.Name, extra: bytes = b"") -> bytes:
    made = built(subject, issuer, extra).public_key(KEY.public_key()).sign(KEY, None)
    return made.public_bytes(Encoding.DER)


def test_a_certificate_names_its_key() -> None:
    assert key_of(GOOD) == MINE
    assert key_of(ours(named(grouped(MINE)), named(grouped(MINE)), b"x" * 3000)) == MINE


@pytest.mark.parametrize(
    ("subject", "issuer"),
    [
        (named("web01"), named("web01")),
        (named(grouped(MINE)), named("web01")),
        (named("web01"), named(grouped(MINE))),
        (named(grouped(MINE).lower()), named(grouped(MINE).lower())),
        (named(), named()),
        (named(grouped(MINE), "web01"), named(grouped(MINE), "web01")),
    ],
)
def test_a_certificate_under_another_name_is_refused(
    subject: x509.Name, issuer: x509.Name
) -> None:
    with pytest.raises(WireViolationError):
        key_of(ours(subject, issuer))


def test_a_certificate_that_is_too_long_is_refused() -> None:
    name = named(grouped(MINE))
    with pytest.raises(WireViolationError, match="too long"):
        key_of(ours(name, name, b"x" * 4000))


def test_a_certificate_that_another_key_signed_is_refused() -> None:
    name = named(grouped(MINE))
    other = Ed25519PrivateKey.generate()
    made = built(name, name).public_key(KEY.public_key()).sign(other, None)
    with pytest.raises(WireViolationError, match="its own key"):
        key_of(made.public_bytes(Encoding.DER))


def test_a_certificate_of_another_kind_of_key_is_refused() -> None:
    name, key = named("x"), ec.generate_private_key(ec.SECP256R1())
    curve = built(name, name).public_key(key.public_key()).sign(key, SHA256())
    public = x448.X448PrivateKey.generate().public_key()
    exchange = built(name, name).public_key(public).sign(KEY, None)
    for one in (curve, exchange):
        with pytest.raises(WireViolationError, match="no Ed25519 key"):
            key_of(one.public_bytes(Encoding.DER))


def test_a_certificate_of_a_key_that_nobody_knows_is_refused() -> None:
    ed25519 = bytes.fromhex("06032b6570")
    with pytest.raises(WireViolationError):
        key_of(GOOD.replace(ed25519, bytes.fromhex("06032b657f")))


@pytest.mark.parametrize("version", [0, 1, 3, 255])
def test_a_certificate_of_another_version_is_refused(version: int) -> None:
    v3 = bytes.fromhex("a003020102")
    with pytest.raises(WireViolationError):
        key_of(GOOD.replace(v3, v3[:-1] + bytes([version])))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_certificate_with_any_byte_changed_is_refused(at: int, mask: int) -> None:
    bent = bytearray(GOOD)
    bent[at] ^= mask
    with pytest.raises(WireViolationError):
        key_of(bytes(bent))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_refused(data: bytes) -> None:
    with pytest.raises(WireViolationError):
        key_of(data)


# --- the file --------------------


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "line" / "identity.pem"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(LinkIdentity, [path] * 16))
    assert len({one.certificate for one in made}) == 1
    assert made[0].key == LinkIdentity(path).key == key_of(made[0].certificate)
    assert made[0].fingerprint == grouped(made[0].key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_openssl_reads_what_we_make(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    found = LinkIdentity(path)
    asked = ["openssl", "x509", "-in", str(path), "-noout", "-subject", "-nameopt", "multiline"]
    said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    assert found.fingerprint in said


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


CERTIFICATE = certificate_for(KEY).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 300, id="zeros"),
        pytest.param(pem(KEY), id="no certificate"),
        pytest.param(CERTIFICATE, id="no key"),
        pytest.param((pem(KEY) + CERTIFICATE)[:-40], id="cut short"),
        pytest.param(pem(Ed25519PrivateKey.generate()) + CERTIFICATE, id="another's key"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256R1())) + CERTIFICATE, id="odd key"),
        pytest.param(pem(KEY, b"secret") + CERTIFICATE, id="locked"),
    ],
)
def test_a_damaged_file_is_told_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.pem"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"identity\.pem, cannot be used") as caught:
        LinkIdentity(path)
    assert "enrol again" in caught.value.todo_now
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be used"):
        LinkIdentity(tmp_path / "file" / "identity.pem")
