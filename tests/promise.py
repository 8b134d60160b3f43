"""What a vector promises a reader of its store: make_vectors writes it, test_seal_vectors expects
it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.events import Json
from appliance.seal import canary, canon, text
from appliance.seal.cut import digest
from appliance.seal.envelope import PackKeys
from appliance.seal.keys import PrivateKey
from appliance.seal.pointmap import PointMap
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


def of_primitives(
    document: Json, key: PrivateKey, pack_secret: bytes, pack_context: bytes
) -> dict[str, Json]:
    return {
        "canonical": canon.dump(document).hex(),
        "grouped": text.grouped(pack_context),
        "key": of_key(key),
        "key_public": key.recipient.key.hex(),
        "pack_commitment": PackKeys(pack_secret, pack_context).commitment.hex(),
        "pack_context": pack_context.hex(),
        "pack_secret": pack_secret.hex(),
        "words": text.words(pack_context),
    }
