"""Through whose hands a shipment went: its chain of custody, as the store and this home have it,
and what is wrong with it.
"""

from pathlib import Path

from appliance.model import DiskId, ShipmentId
from appliance.report.document import Custody, Flaw, HandRecord
from appliance.seal import chain, custody, deed
from appliance.seal.chain import Expected
from appliance.seal.identity import device_fingerprint


def known(home: Path, store: Path | None, expected: Expected) -> Custody | None:
    """The copy of which more is sound, with what is wrong with it or with the other; None where
    there is none. Raises CustodyRefusedError for one that cannot be read.
    """
    assert expected.shipment is not None
    shipment = ShipmentId(expected.shipment)
    copies = [custody.read(custody.at_home(home, shipment))]
    if store is not None:
        copies.insert(0, custody.read(custody.in_store(store)))
    mine = max(copies, key=lambda one: (chain.sound(one, shipment), len(one)))
    if not mine:
        return None
    other = next((one for one in copies if one is not mine), {})
    found = dict.fromkeys(chain.verify(mine, expected, other))
    if other:
        found |= dict.fromkeys(one for one in chain.verify(other, expected) if one.is_error)
    return Custody(
        records=tuple(
            _told(deed.digest(mine[number]), one) for number, one in chain.records(mine).items()
        ),
        flaws=tuple(
            Flaw(one.kind, one.number, one.is_error)
            for one in sorted(found, key=lambda one: one.number)
        ),
    )


def _told(digest: str, signed: deed.Signed) -> HandRecord:
    one = signed.record
    return HandRecord(
        number=one.number,
        deed=one.deed,
        at=one.at,
        clock=one.clock,
        name=one.who.name,
        organisation=one.who.organisation,
        where=one.where,
        to=", ".join(part for part in (one.what.to.name, one.what.to.organisation) if part),
        disk=DiskId(one.what.disk),
        note=one.what.note,
        signer=device_fingerprint(one.signer),
        genuine=signed.genuine,
        digest=digest,
    )
