"""What a vector promises a reader of its store: make_vectors writes it, test_seal_vectors expects
it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.events import Json
from appliance.model import PackId, ShipmentId
from appliance.seal import canary, canon, text
from appliance.seal.cut import digest
from appliance.seal.envelope import PackKeys, unwrap
from appliance.seal.files import SealedFile
from appliance.seal.keys import PrivateKey
from appliance.seal.pointmap import PointMap
from appliance.seal.statement import Seal, SealedPack
from appliance.seal.verify import Sealed
from tests.readout import content

PLACE = Path(__file__).parent / "vectors"


def of_key(one: PrivateKey) -> Json:
    return {
        "fingerprint": one.recipient.fingerprint,
        "name": one.recipient.name,
        "role": one.recipient.role,
        "seed": one.seed().hex(),
    }


def of_disk(one: PointMap, key: PrivateKey) -> Json:
    return {
        "blocks": len(one.manifest),
        "complete": one.complete,
        "content": digest(content(one, key)).hex() if one.complete else None,
        "disk": one.spec.disk,
        "machine": one.spec.machine,
        "manifest_root": one.manifest.root().hex(),
        "point": one.spec.point,
        "serial": one.spec.facts.serial,
        "size": one.spec.facts.size,
        "splices": [list(splice) for splice in one.packs.splices],
        "unreadable": [list(bad) for bad in one.unreadable()],
    }


def of_store(
    sealed: Sealed, maps: Iterable[PointMap], keys: Sequence[PrivateKey], opener: PrivateKey
) -> dict[str, Json]:
    """All of a vector.json but what it is for; ``opener`` is the key that made the maps."""
    seal, store = sealed.seal, sealed.store
    return {
        "canary_codes": [canary.open_code(store.path, store.head, one) for one in keys],
        "device": {"fingerprint": seal.device_fingerprint, "public": seal.device},
        "disks": [of_disk(one, opener) for one in maps],
        "head_digest": store.head.digest().hex(),
        "keys": [of_key(one) for one in keys],
        "packs": len(sealed.infos),
        "root": {
            "hex": seal.root().hex(),
            "text": text.grouped(seal.root()),
            "words": text.words(seal.root()),
        },
        "sequence": seal.sequence,
    }


def kem_secret(key: PrivateKey, enc: bytes) -> bytes:
    """X-Wing's shared secret, put together from its parts as section 4 says."""
    parts = hashlib.shake_256(key.seed()).digest(96)
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(parts[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(parts[64:])
    sender = enc[1088:]
    both = kem.decapsulate(enc[:1088])
    both += curve.exchange(x25519.X25519PublicKey.from_public_bytes(sender))
    public = key.recipient.key[1184:]
    return hashlib.sha3_256(both + sender + public + bytes.fromhex("5c2e2f2f5e5c")).digest()


def of_seal(seed: bytes) -> Json:
    """A short seal by the device with this key, and what is signed."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    pack = SealedPack(PackId("22" * 16), 20480, 1, "33" * 32, "99" * 32)
    seal = Seal(
        shipment=ShipmentId("11" * 16),
        device=key.public_key().public_bytes_raw().hex(),
        created="2026-11-22T20:15:17Z",
        sequence=1,
        previous="",
        head="44" * 32,
        recipients=(text.grouped(bytes(20)),),
        contents=pack.pack,
        packs=(pack,),
        canary=None,
        waiver="a vector",
        accepted=(),
        files=(SealedFile("a", 0, digest(b"").hex()),),
    )
    message = b"motiongear/1 seal\0" + seal.body()
    return {
        "message": message.hex(),
        "public": seal.device,
        "root": seal.root().hex(),
        "seed": seed.hex(),
        "signature": key.sign(message).hex(),
    }


def of_primitives(
    document: Json, key: PrivateKey, pack_secret: bytes, pack_context: bytes, wrap: bytes
) -> dict[str, Json]:
    """``wrap`` is one of ``pack_secret`` for ``key``, with ``pack_context`` in its info."""
    info = b"motiongear/1 wrap" + pack_context
    return {
        "canonical": canon.dump(document).hex(),
        "grouped": text.grouped(pack_context),
        "key": of_key(key),
        "key_public": key.recipient.key.hex(),
        "pack_commitment": PackKeys(pack_secret, pack_context).commitment.hex(),
        "pack_context": pack_context.hex(),
        "pack_secret": pack_secret.hex(),
        "seal": of_seal(pack_secret),
        "words": text.words(pack_context),
        "wrap": {
            "bytes": wrap.hex(),
            "info": info.hex(),
            "kem_secret": kem_secret(key, wrap[:1120]).hex(),
            "opened": (unwrap([wrap], key, info) or b"").hex(),
        },
    }
