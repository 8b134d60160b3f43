"""Recipients: whom a store is sealed for, and the private key files that open it
(store-format.md, section 4).
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from appliance.block import read_small, write_durably
from appliance.errors import (
    ExistsError,
    KeyFileError,
    PrivateKeyOnDeviceError,
    StoreRefusedError,
    WrongPassphraseError,
)
from appliance.events import Json
from appliance.seal import canon, text

Role = Literal["operator", "recovery"]

PUBLIC_SIZE = 1184 + 32
SEED_SIZE = 32
FINGERPRINT_SIZE = 20
# 256 MiB, 3 passes, 4 lanes: RFC 9106's second choice with four times the memory; 0.4 s on two
# cores of 2024.
KDF_MEMORY_KIB, KDF_ITERATIONS, KDF_LANES = 1 << 18, 3, 4
_MOST_FILE = 1 << 16
# An exchange with any key tells points of low order, with which every exchange fails.
_PROBE = x25519.X25519PrivateKey.from_private_bytes(bytes(32))


def fingerprint(public: bytes) -> bytes:
    """20 bytes that name a public key, a device's or a recipient's."""
    return blake3(public, derive_key_context="motiongear/1 fingerprint").digest(FINGERPRINT_SIZE)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key that a store is sealed for. ``name`` is foreign text."""

    name: str
    role: str
    key: bytes

    @property
    def fingerprint(self) -> str:
        return text.grouped(fingerprint(self.key))

    def hpke_key(self) -> hpke.MLKEM768X25519PublicKey:
        """Raises ValueError for bytes that are no key, or one that nothing can be sealed for."""
        ecdh = x25519.X25519PublicKey.from_public_bytes(self.key[1184:])
        _PROBE.exchange(ecdh)
        return hpke.MLKEM768X25519PublicKey(
            mlkem.MLKEM768PublicKey.from_public_bytes(self.key[:1184]), ecdh
        )


class PrivateKey:
    """A recipient's unlocked private key. Lives in the operator's memory only."""

    def __init__(self, name: str, role: str, seed: bytes) -> None:
        self._seed = seed
        expanded = hashlib.shake_256(seed).digest(96)
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        ecdh = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        self.hpke_key = hpke.MLKEM768X25519PrivateKey(kem, ecdh)
        public = kem.public_key().public_bytes_raw() + ecdh.public_key().public_bytes_raw()
        self.recipient = Recipient(name, role, public)

    @classmethod
    def generate(cls, name: str, role: Role = "operator") -> "PrivateKey":
        return cls(name, role, os.urandom(SEED_SIZE))

    def seed(self) -> bytes:
        """The secret itself, 32 bytes: for handing the key to a child process through a pipe."""
        return self._seed


def _parse_public(fields: canon.Fields) -> Recipient:
    fields.choice("type", "motiongear-recipient")
    fields.version()
    return parse_recipient(fields)


def _write_public(recipient: Recipient) -> Json:
    return {"type": "motiongear-recipient", "version": 1, **write_recipient(recipient)}


def parse_recipient(fields: canon.Fields) -> Recipient:
    """The three fields of a recipient, in head.json and in public key files."""
    found = Recipient(
        fields.text("name", 128, 1),
        fields.choice("role", "operator", "recovery"),
        fields.base64("key", PUBLIC_SIZE),
    )
    try:
        found.hpke_key()
    except ValueError as exc:
        raise fields.bad("key", "is not a public key") from exc
    return found


def write_recipient(recipient: Recipient) -> dict[str, Json]:
    return {"key": canon.b64(recipient.key), "name": recipient.name, "role": recipient.role}


class _FileRefusedError(StoreRefusedError):
    """A key file is malformed; turned into KeyFileError with the file's name at the edge."""


def _read_file(path: Path) -> bytes:
    try:
        return read_small(path, _MOST_FILE, flags=0)  # the operator's own: may be a link
    except OSError as exc:
        raise KeyFileError(f"Cannot read the key file {path} ({exc.strerror})") from exc


def read_public(path: Path) -> Recipient:
    """A recipient from its public key file; a private one is refused."""
    return parse_public(_read_file(path), str(path))


def parse_public(data: bytes, named: str) -> Recipient:
    """A recipient from the bytes of its public key file, wherever they came from."""
    if b'"motiongear-private-key"' in data:
        raise PrivateKeyOnDeviceError(f"{named} is a private key")
    try:
        return canon.read(data, "public key file", _parse_public, _write_public, _FileRefusedError)
    except _FileRefusedError as exc:
        raise KeyFileError(f"{named}: {exc.what}") from exc


def public_file(recipient: Recipient) -> bytes:
    """The bytes of a recipient's public key file."""
    return canon.dump(_write_public(recipient))


@dataclass(frozen=True, slots=True)
class _Locked:
    """A private key file, parsed and still locked."""

    name: str
    role: str
    public: bytes
    salt: bytes
    memory_kib: int
    iterations: int
    lanes: int
    nonce: bytes
    cipher: bytes

    def bound(self) -> dict[str, Json]:
        """Everything but the ciphertext: the additional data."""
        return {
            "kdf": {
                "iterations": self.iterations,
                "lanes": self.lanes,
                "memory_kib": self.memory_kib,
                "name": "argon2id",
                "salt": canon.b64(self.salt),
            },
            "name": self.name,
            "nonce": canon.b64(self.nonce),
            "public": canon.b64(self.public),
            "role": self.role,
            "type": "motiongear-private-key",
            "version": 1,
        }

    def write(self) -> Json:
        return {**self.bound(), "cipher": canon.b64(self.cipher)}

    def box(self, passphrase: str) -> AESGCM:
        kdf = Argon2id(
            salt=self.salt,
            length=32,
            iterations=self.iterations,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        )
        return AESGCM(kdf.derive(passphrase.encode()))


def _parse_locked(fields: canon.Fields) -> _Locked:
    fields.choice("type", "motiongear-private-key")
    fields.version()
    kdf = fields.object("kdf")
    kdf.choice("name", "argon2id")
    locked = _Locked(
        name=fields.text("name", 128, 1),
        role=fields.choice("role", "operator", "recovery"),
        public=fields.base64("public", PUBLIC_SIZE),
        salt=kdf.base64("salt", 16),
        memory_kib=kdf.number("memory_kib", 8192, 1 << 20),
        iterations=kdf.number("iterations", 1, 16),
        lanes=kdf.number("lanes", 1, 16),
        nonce=fields.base64("nonce", 12),
        cipher=fields.base64("cipher", SEED_SIZE + 16),
    )
    kdf.done()
    return locked


def _read_locked(path: Path) -> _Locked:
    try:
        return canon.read(
            _read_file(path),
            "private key file",
            _parse_locked,
            _Locked.write,
            _FileRefusedError,
        )
    except _FileRefusedError as exc:
        raise KeyFileError(f"{path}: {exc.what}") from exc


def read_recipient(path: Path) -> Recipient:
    """The public half from a key file of either sort; no passphrase is needed."""
    if b'"motiongear-private-key"' in _read_file(path):
        locked = _read_locked(path)
        return Recipient(locked.name, locked.role, locked.public)
    return read_public(path)


def write_pair(
    key: PrivateKey, path: Path, passphrase: str, memory_kib: int = KDF_MEMORY_KIB
) -> Path:
    """Write the locked private key to ``path`` and the public one beside it; returns the
    latter's path.
    """
    public_path = path.with_name(path.name + ".pub")
    for one in (path, public_path):
        if one.exists():
            raise ExistsError(f"{one} is there already: a key is never overwritten")
    draft = _Locked(
        name=key.recipient.name,
        role=key.recipient.role,
        public=key.recipient.key,
        salt=os.urandom(16),
        memory_kib=memory_kib,
        iterations=KDF_ITERATIONS,
        lanes=KDF_LANES,
        nonce=os.urandom(12),
        cipher=b"",
    )
    cipher = draft.box(passphrase).encrypt(draft.nonce, key.seed(), canon.dump(draft.bound()))
    document = {**draft.bound(), "cipher": canon.b64(cipher)}
    write_durably(path, canon.dump(document), 0o600)
    try:
        write_durably(public_path, canon.dump(_write_public(key.recipient)))
    except BaseException:
        path.unlink()  # nothing was told yet: the pair can be made under this name again
        raise
    return public_path


def unlock(path: Path, passphrase: str) -> PrivateKey:
    """Open a private key file with its passphrase."""
    locked = _read_locked(path)
    try:
        seed = locked.box(passphrase).decrypt(
            locked.nonce, locked.cipher, canon.dump(locked.bound())
        )
    except InvalidTag as exc:
        raise WrongPassphraseError(f"The passphrase does not open {path}") from exc
    key = PrivateKey(locked.name, locked.role, seed)
    if key.recipient.key != locked.public:
        raise KeyFileError(f"{path}: the public key in it is not that of the private key")
    return key
