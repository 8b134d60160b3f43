"""What a vector promises a reader of its store: make_vectors writes it, test_seal_vectors expects
it.
"""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.model import PackId, ShipmentId
from appliance.seal import canary, canon, text
from appliance.seal.cut import digest
from appliance.seal.envelope import PackKeys, unwrap
from appliance.seal.files import SealedFile
from appliance.seal.keys import PrivateKey
from appliance.seal.manifest import State
from appliance.seal.opening import disks_of
from appliance.seal.pointmap import PointMap
from appliance.seal.ranges import Ranges
from appliance.seal.statement import Seal, SealedPack
from appliance.seal.verify import Pins, Sealed, inspect
from tests.readout import content

PLACE = Path(__file__).parent / "vectors"


Edit = TypedDict(
    "Edit",
    {"do": str, "file": str, "with": str, "from": str, "at": int, "mask": int, "size": int},
    total=False,
)


def apply(store: Path, edit: Edit) -> None:
    path = store / edit["file"]
    match edit["do"]:
        case "flip":
            data = bytearray(path.read_bytes())
            data[edit["at"]] ^= edit["mask"]
            path.write_bytes(data)
        case "cut":
            with path.open("r+b") as out:
                out.truncate(edit["size"])
        case "remove":
            path.unlink()
        case "swap":
            aside = store.with_name("aside")
            path.rename(aside)
            (store / edit["with"]).rename(path)
            aside.rename(store / edit["with"])
        case "copy":
            shutil.copyfile(PLACE / edit["from"], path)
        case unknown:
            raise ValueError(unknown)


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


def of_damaged(path: Path, opener: PrivateKey) -> dict[str, Json]:
    """What whoever accepts damage finds: of each complete disk the packs that tell nothing, and
    runs (first block, count) of the unknown blocks.
    """
    try:
        sealed = inspect(path, Pins(), despite_damage=True)
        found = [one for one in disks_of(sealed, opener) if one.packs.complete]
        maps = [one.open_despite_damage(opener) for one in found]
    except MotionGearError as exc:
        return {"disks": [], "refused": exc.name}
    return {"disks": [_of_map(one) for one in maps], "refused": ""}


def _of_map(found: PointMap) -> Json:
    unknown = Ranges()
    for index in range(found.manifest.blocks):
        if found.manifest[index][1] is State.UNKNOWN:
            unknown.add(index, index + 1)
    runs: list[Json] = [list(one) for one in unknown]
    lost: list[Json] = list(found.lost)
    return {"disk": found.spec.disk, "lost": lost, "unknown": runs}


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
