"""What seals and opens a pack: the secret, its wraps, the keys made of it (store-format.md,
section 4).

The secret exists in memory while a pack is written, and again at whoever holds a recipient's
private key.
"""

import os
from collections.abc import Sequence

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import PackDamagedError, RecordDamagedError, WrongKeyError
from appliance.seal.keys import PrivateKey, Recipient
from appliance.seal.layout import FRAME_HEAD, INDEX, TAG, PackHead, frame_bytes, head_bytes

SECRET_SIZE = 32
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def wrap(secret: bytes, recipient: Recipient, info: bytes) -> bytes:
    """``secret`` (32 bytes) for one recipient: 1,168 bytes."""
    return _SUITE.encrypt(secret, recipient.hpke_key(), info)


def unwrap(wraps: Sequence[bytes], key: PrivateKey, info: bytes) -> bytes | None:
    """The secret in the first wrap that the key opens, or None."""
    for one in wraps:
        try:
            secret = _SUITE.decrypt(one, key.hpke_key, info)
        except (InvalidTag, ValueError):
            continue
        if len(secret) == SECRET_SIZE:
            return secret
    return None


class PackKeys:
    """The keys of one pack, each for one use; made of its secret and bound to its head."""

    def __init__(self, secret: bytes, context: bytes) -> None:
        def derive(use: str) -> bytes:
            info = f"motiongear/1 {use}".encode()
            return HKDF(hashes.SHA256(), 32, salt=context, info=info).derive(secret)

        self._record = AESGCM(derive("record"))
        self._index = AESGCM(derive("index"))
        self.commitment = derive("commitment")

    @classmethod
    def create(cls, head: PackHead, recipients: Sequence[Recipient]) -> tuple["PackKeys", bytes]:
        """Keys for a new pack, and the bytes of its head, padded, with the secret wrapped to
        every recipient.
        """
        secret = os.urandom(SECRET_SIZE)
        context = blake3(head.context_bytes()).digest()
        keys = cls(secret, context)
        wraps = [wrap(secret, one, b"motiongear/1 wrap" + context) for one in recipients]
        return keys, head_bytes(head, keys.commitment, wraps)

    @classmethod
    def unlock(
        cls, head: PackHead, commitment: bytes, wraps: Sequence[bytes], key: PrivateKey
    ) -> "PackKeys":
        """The keys of a pack for a holder of ``key``; the commitment is checked before anything
        is opened.
        """
        context = blake3(head.context_bytes()).digest()
        secret = unwrap(wraps, key, b"motiongear/1 wrap" + context)
        if secret is None:
            raise WrongKeyError(
                f"The key {key.recipient.fingerprint} does not open pack {head.pack}: "
                "it is not for this recipient, or its head was changed"
            )
        keys = cls(secret, context)
        if not bytes_eq(keys.commitment, commitment):
            raise PackDamagedError(f"Pack {head.pack} does not commit to its key")
        return keys

    def seal_record(self, number: int, plain: memoryview, frame: memoryview) -> None:
        """Write a record's frame into ``frame``, which is as long as ``plain`` plus 24 bytes."""
        header = frame_bytes(len(plain) + TAG, number)
        frame[:FRAME_HEAD] = header
        self._record.encrypt_into(_nonce(number), plain, header, frame[FRAME_HEAD:])

    def open_record(self, number: int, frame: memoryview, plain: memoryview) -> None:
        """Open a whole frame into ``plain``, which is 24 bytes shorter."""
        try:
            self._record.decrypt_into(
                _nonce(number), frame[FRAME_HEAD:], bytes(frame[:FRAME_HEAD]), plain
            )
        except InvalidTag as exc:
            raise RecordDamagedError(f"Record {number} is damaged: it cannot be opened") from exc

    def seal_index(self, plain: bytes | bytearray, records: int) -> bytes:
        """The index frame."""
        header = frame_bytes(INDEX, len(plain) + TAG)
        bound = header + records.to_bytes(4, "little")
        return header + self._index.encrypt(bytes(12), bytes(plain), bound)

    def open_index(self, frame: bytes, records: int) -> bytes:
        """The index's plaintext, from its whole frame."""
        header = frame_bytes(INDEX, len(frame) - FRAME_HEAD)
        if frame[:FRAME_HEAD] != header:
            raise PackDamagedError("The index of the pack has another length than it says")
        bound = header + records.to_bytes(4, "little")
        try:
            return self._index.decrypt(bytes(12), frame[FRAME_HEAD:], bound)
        except InvalidTag as exc:
            raise PackDamagedError(
                "The index of the pack is damaged: it cannot be opened"
            ) from exc


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
