"""Verify: the seal and every pack, and with a key every block; the manifests are kept."""

from contextlib import suppress
from pathlib import Path
from typing import cast

from appliance.errors import StateError, WrongKeyError
from appliance.events import Json, Result
from appliance.jobs.desk import Desk
from appliance.jobs.notes import Verified, file_at
from appliance.jobs.spec import VerifySpec
from appliance.model import PackId
from appliance.seal import verify
from appliance.seal.accepted import Accepted
from appliance.seal.opening import open_all
from appliance.seal.pointmap import PointMap
from appliance.seal.proved import Proved


def verify_store(spec: VerifySpec, desk: Desk) -> None:
    pins = verify.Pins(spec.device, spec.root, spec.recipients)
    accepted = Accepted(desk.home)
    sealed = verify.inspect(Path(spec.store), pins, accepted)
    root = sealed.seal.root().hex()
    key = desk.need_key() if spec.keyed else None
    run = f"{root} in job {desk.job}"  # another verification reads every pack itself
    files = {pack: file_at(info.path) for pack, info in sealed.infos.items()}
    noted = desk.state.verified(run).items()
    known = [pack for pack, file in noted if file and file == files.get(pack)]

    def passed(pack: PackId) -> None:
        """Noted as what it was before it was read, if it still is that."""
        if file_at(sealed.infos[pack].path) == files[pack]:
            with suppress(StateError):
                desk.state.note_verified(run, pack, files[pack])

    findings = verify.verify(sealed, desk.emit, desk.stop, known, passed)
    disks: list[Json] = []
    if key is not None:

        def proved(found: PointMap) -> None:
            Proved(desk.home, root).keep(found.spec, found.manifest)
            disks.append(disk_figures(found))

        try:  # told beside what the packs' bytes have shown already
            notes = Verified(desk, run, files)
            opened = open_all(sealed, key, desk.emit, desk.stop, proved, notes)
            findings.problems += opened.problems
        except WrongKeyError as exc:
            findings.add(exc)
    findings.refuse()
    desk.state.forget_verified(run)
    desk.state.forget_reached(run)
    if sealed.trust is verify.Trust.AUTHENTIC:
        accepted.accept(sealed.seal)
    desk.emit(Result("verify", {**_seal_figures(sealed), "disks": disks, "keyed": spec.keyed}))


def _seal_figures(sealed: verify.Sealed) -> dict[str, Json]:
    """What the seal says, for people and programs."""
    seal = sealed.seal
    return {
        "trust": sealed.trust,
        "root": seal.root().hex(),
        "device": seal.device_fingerprint,
        "sequence": seal.sequence,
        "shipment": seal.shipment,
        "label": sealed.store.head.label,
        "sealed": seal.created,
        "packs": len(seal.packs),
        "bytes": sum(one.size for one in seal.packs),
        "recipients": list(seal.recipients),
        "waiver": seal.waiver,
        "accepted": list(seal.accepted),
    }


def disk_figures(found: PointMap) -> Json:
    """Disk, point, blocks and unreadable ranges, as ``verify`` and ``manifest`` show them."""
    states = {state.name.lower(): count for state, count in found.manifest.states().items()}
    return {
        "disk": found.spec.disk,
        "point": found.spec.point,
        "machine": found.spec.machine,
        "serial": found.spec.facts.serial,
        "model": found.spec.facts.model,
        "size": found.spec.facts.size,
        "complete": found.complete,
        "blocks": cast("dict[str, Json]", states),
        "root": found.manifest.root().hex(),
        "unreadable": [list(one) for one in found.unreadable()],
        "splices": [list(one) for one in found.packs.splices],
    }
