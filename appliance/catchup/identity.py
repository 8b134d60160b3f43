"""The key by which an end of the line is known, and the certificates that carry such keys.

Of a certificate only the key counts (wire-format.md, section 1): no authority vouches for it, the
other end has pinned it.
"""

import os
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from appliance.block import locked, make_directory, write_durably
from appliance.catchup.wire import MOST_CERTIFICATE
from appliance.errors import StateError, WireViolationError
from appliance.seal import text
from appliance.seal.keys import fingerprint

# A machine that is being moved may have lost its clock: nothing is ever out of date.
_FROM, _TO = datetime(1970, 1, 1), datetime(9999, 12, 31)  # noqa: DTZ001 - X.509 has no zones
# What the library says of bytes that are no certificate, or none that can be used.
_NO_CERTIFICATE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
)


def certificate_for(key: Ed25519PrivateKey) -> x509.Certificate:
    """The certificate that ``key`` signs for itself. Its name is its fingerprint: two keys under
    one name would be mistaken for each other.
    """
    public = key.public_key()
    name = x509.Name(
        [
            x509.NameAttribute(
                NameOID.COMMON_NAME, text.grouped(fingerprint(public.public_bytes_raw()))
            )
        ]
    )
    builder = x509.CertificateBuilder(name, name, public, int.from_bytes(os.urandom(8)) + 1)
    return builder.not_valid_before(_FROM).not_valid_after(_TO).sign(key, None)


def key_of(certificate: bytes) -> bytes:
    """The 20-byte fingerprint of the key in a DER certificate that this key signed itself, under
    its own name; refuses any other.
    """
    if len(certificate) > MOST_CERTIFICATE:
        raise WireViolationError("The certificate is too long to be one of ours")
    try:
        found = x509.load_der_x509_certificate(certificate)
        public = found.public_key()
        if not isinstance(public, Ed25519PublicKey):
            raise WireViolationError("The certificate holds no Ed25519 key")
        found.verify_directly_issued_by(found)
        (name,) = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except _NO_CERTIFICATE as exc:
        raise WireViolationError("The certificate is not one that its own key signed") from exc
    mine = fingerprint(public.public_bytes_raw())
    if name.value != text.grouped(mine) or len(found.subject) != 1:
        raise WireViolationError("The certificate does not go by its key's fingerprint")
    return mine


class LinkIdentity:
    """The key and certificate of this end, in one PEM file; made on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not path.exists():
                make_directory(path.parent, 0o700)
                with locked(path.with_name("lock")):
                    if not path.exists():  # nobody else was first
                        write_durably(path, _made(), 0o600)
            self.certificate, self.key = _kept(path.read_bytes())
        except (OSError, WireViolationError, *_NO_CERTIFICATE) as exc:
            raise StateError(
                f"The key of this end of the line, {path}, cannot be used ({exc})",
                todo="Restore the file from a copy, or remove it and enrol again.",
            ) from exc

    @property
    def fingerprint(self) -> str:
        return text.grouped(self.key)


def _made() -> bytes:
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + certificate_for(key).public_bytes(Encoding.PEM)


def _kept(data: bytes) -> tuple[bytes, bytes]:
    """The certificate, and the fingerprint of its key, of a file as ``_made`` makes it."""
    certificate = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
    key, secret = key_of(certificate), load_pem_private_key(data, None)
    if not isinstance(secret, Ed25519PrivateKey):
        raise WireViolationError("it holds no Ed25519 key")
    if fingerprint(secret.public_key().public_bytes_raw()) != key:
        raise WireViolationError("its certificate is another key's")
    return certificate, key


def pem_of(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
