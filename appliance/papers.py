"""Reports and certificates, as operators make, list and hand them on, at a console of whatever
kind.
"""

from collections.abc import Sequence
from pathlib import Path

from appliance import jobs
from appliance.block import read_small, write_durably
from appliance.errors import (
    BadInputError,
    CertificateRefusedError,
    ExistsError,
    MotionGearError,
    UnknownNameError,
)
from appliance.jobs.erasing import certificate_path, read_certificate
from appliance.language import Language
from appliance.model import JobId, ShipmentId, Target
from appliance.report import certificate as pages
from appliance.report import document, paper
from appliance.report.document import MAX_REPORT, Signed
from appliance.report.gather import gather
from appliance.report.told import jobs_of
from appliance.seal import certificate as certificates
from appliance.seal.certificate import Certificate
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.store import Store
from appliance.state import State

_PAPERS = (".json", ".html", ".pdf")
_RESTORES = frozenset({"restore", "check", "gate", "gate-check"})


def report(
    state: State,
    shipment: ShipmentId,
    store: Store | None,
    goals: dict[tuple[str, str], Target],
    key: PrivateKey | None = None,
    told: Sequence[Signed] = (),
    erased: Sequence[bytes] = (),
) -> Signed:
    """What is known of a shipment, signed. ``told`` are reports of others, ``erased`` certificates
    of its erase.
    """
    if strange := [one for one in told if one.report.shipment.id != shipment]:
        raise BadInputError(
            f"The report of {strange[0].fingerprint} is about shipment "
            f"{strange[0].report.shipment.id}, not {shipment}"
        )
    device = Device.of(state.home)
    found = gather(state, device.fingerprint, shipment, store, goals, key, told, erased)
    return document.sign(found, device)


def read(path: Path) -> bytes:
    try:
        return read_small(path, MAX_REPORT + 1, 0)
    except OSError as exc:
        raise BadInputError(f"{path} cannot be read ({exc.strerror})") from exc


def about(state: State, store: Path | None, asked: str) -> tuple[Store | None, ShipmentId]:
    """The shipment that is meant, and its store where that is at hand."""
    if store is not None:
        found = Store(store.absolute())
        if asked and not found.head.shipment.startswith(asked):
            raise BadInputError(f"{store} holds shipment {found.head.shipment}, not {asked}")
        return found, found.head.shipment
    if not asked:
        raise BadInputError("A report is about a shipment", todo="Give --store or --shipment.")
    known = {one.id for one in state.shipments()} | {one.shipment for one in state.jobs()}
    hits = sorted(one for one in known if one and one.startswith(asked))
    if len(hits) == 1:
        return _store_of(state, hits[0]), hits[0]
    if not hits and len(asked) == 32 and not set(asked) - set("0123456789abcdef"):
        return None, ShipmentId(asked)  # a source knows disks, and no shipment
    raise UnknownNameError(
        f"{len(hits)} shipments known here go by {asked!r}; exactly one must",
        todo="Give the whole id, as it stands on the label.",
    )


def _store_of(state: State, shipment: ShipmentId) -> Store | None:
    """Where the shipment was last known to lie, if it still does."""
    row = state.shipment(shipment)
    places = [one.spec("store") for one in reversed(jobs_of(state, shipment))]
    for place in [*places, str(row.path) if row else ""]:
        try:
            found = Store(Path(place)) if place else None
        except MotionGearError:
            continue
        if found is not None and found.head.shipment == shipment:
            return found
    return None


def targets(
    state: State, shipment: ShipmentId, kind: str, places: Sequence[str]
) -> dict[tuple[str, str], Target]:
    """The places that jobs here have restored to, and those that were named."""
    known = [
        (one.spec("target"), one.spec("place"))
        for one in jobs_of(state, shipment)
        if one.row.kind in _RESTORES
    ]
    named = [(kind, str(Path(one).absolute())) for one in places]
    return {one: jobs.target_for(*one) for one in dict.fromkeys([*known, *named]) if all(one)}


def kept(home: Path) -> tuple[list[tuple[Path, Certificate]], list[CertificateRefusedError]]:
    """The certificates that this home keeps, the oldest first; and those that cannot be read."""
    place = certificate_path(home, JobId(0)).parent
    told, refused = [], []
    for one in sorted(place.glob("*.json"), key=lambda one: (len(one.name), one.name)):
        try:
            told.append((one, certificates.verify(read_certificate(one))))
        except CertificateRefusedError as exc:
            refused.append(CertificateRefusedError(f"{one}: {exc.what}"))
    return told, refused


def write_certificate(data: bytes, out: Path, language: Language) -> None:
    """As it was signed, or as a page or paper, by the ending of ``out``, which must not exist."""
    if out.suffix not in _PAPERS:
        raise BadInputError(f"{out} ends in none of {', '.join(_PAPERS)}")
    if out.exists():
        raise ExistsError(f"{out} exists already")
    if out.suffix != ".json":
        page = pages.html(data, language)
        data = paper.pdf(page) if out.suffix == ".pdf" else page.encode()
    try:
        write_durably(out, data)
    except OSError as exc:
        raise BadInputError(f"{out} cannot be written ({exc.strerror})") from exc
