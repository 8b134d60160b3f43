"""The device's own identity: an Ed25519 key made on first use, and the counter of its seals.

Lives in ``<home>/device/``, apart from the state database, which is a cache and may be lost.
"""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.block import locked, make_directory, write_durably
from appliance.errors import StateError, StoreRefusedError
from appliance.events import Json
from appliance.seal import canon, text
from appliance.seal.kept import alone, kept
from appliance.seal.keys import fingerprint

_LOCK = "lock"


def device_fingerprint(public_hex: str) -> str:
    """The grouped fingerprint of a device's public key given in hex."""
    return text.grouped(fingerprint(bytes.fromhex(public_hex)))


def signed_by(public_hex: str, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature is the given device's."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Counter:
    """The device's last seal: its number (0: none yet) and its root in hex."""

    sequence: int
    previous: str


def _parse_counter(fields: canon.Fields) -> Counter:
    return Counter(fields.number("sequence"), fields.hex("previous", 32, empty=True))


def _write_counter(counter: Counter) -> Json:
    return {"previous": counter.previous, "sequence": counter.sequence}


class Device:
    """The signing key and seal counter of this device."""

    def __init__(self, directory: Path, key: Ed25519PrivateKey) -> None:
        self._lock_path = directory / _LOCK
        self._counter_path = directory / "seals.json"
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()

    @classmethod
    def of(cls, home: Path) -> "Device":
        """The identity kept under ``home``, made now when there is none."""
        directory = home / "device"
        path = directory / "identity.key"
        with kept(path):
            if not path.exists():
                make_directory(directory, 0o700)
                with locked(directory / _LOCK):
                    if not path.exists():  # nobody else was first
                        write_durably(path, os.urandom(32), 0o600)
            seed = path.read_bytes()
        if len(seed) != 32:
            raise StateError(
                f"The device's identity in {path} is damaged",
                todo="Restore the file from a copy, or remove it: a new identity is then made.",
            )
        return cls(directory, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def fingerprint(self) -> str:
        return device_fingerprint(self.public)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def alone(self) -> AbstractContextManager[None]:
        """Hold the counter from reading it until the seal is counted; waits for others."""
        return alone(self._lock_path)

    def counter(self) -> Counter:
        with kept(self._counter_path):
            if not self._counter_path.exists():
                return Counter(0, "")
            data = self._counter_path.read_bytes()
        try:
            return canon.read(
                data, "seal counter", _parse_counter, _write_counter, StoreRefusedError
            )
        except StoreRefusedError as exc:
            raise StateError(f"The device's seal counter is damaged ({exc.what})") from exc

    def count(self, counter: Counter) -> None:
        """Remember a seal before it is published: a number is never used twice."""
        with kept(self._counter_path):
            write_durably(self._counter_path, canon.dump(_write_counter(counter)))
