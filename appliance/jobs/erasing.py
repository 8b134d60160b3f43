"""Erase: what was confirmed, and nothing else, goes; the device signs what was done and seen.

A shipment that nobody is known to have goes only where the operator has said so twice.
"""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from appliance.block import clock_is_kept, read_small, write_durably
from appliance.errors import (
    CertificateRefusedError,
    CustodyRefusedError,
    JobRunningError,
    MotionGearError,
    NotDeliveredError,
    RootMismatchError,
    StoppedError,
    UnknownNameError,
)
from appliance.events import Json, Result
from appliance.jobs import custody
from appliance.jobs.desk import Desk
from appliance.jobs.spec import NOBODYS, EraseSpec, parse_spec
from appliance.language import marked
from appliance.model import DiskId, JobId, ShipmentId
from appliance.seal import canon, certificate, chain, erasing, statement
from appliance.seal import custody as seal_custody
from appliance.seal.certificate import Certificate, Delivered, Erased
from appliance.seal.chain import Finding, Kind
from appliance.seal.erasable import Found
from appliance.seal.erasing import Consent, Eraser
from appliance.seal.identity import Device
from appliance.seal.kept import kept
from appliance.seal.store import Store, by_point
from appliance.state import ENDED, JobRow, JobState, State

# What the operator says twice, each time by what comes of it.
NOT_SEALED = "not-sealed"
NOT_DELIVERED = "not-delivered"
DATA_LOST = "data-will-be-lost"
_MOST_NAMES = 8192  # in one certificate: a name of 1,024 characters may take six times as much
_CLOCKS = {
    True: marked("this device's clock, synchronised, as its kernel says"),
    False: marked("this device's own clock, which nobody vouches for"),
}


def erase(spec: EraseSpec, desk: Desk) -> None:
    """Every place that can be; where one cannot, its refusal is raised once the others are erased
    and certified.
    """
    erased: list[Erased] = []
    refused: list[MotionGearError] = []
    for one in spec.places:
        try:
            erased.append(_one(spec, desk, *one))
        except StoppedError as exc:
            refused.insert(0, exc)
            break
        except MotionGearError as exc:
            refused.append(exc)
    if erased:
        path, made = _certified(spec, desk, erased)
        desk.emit(Result("erase", figures(path, made)))
        _settle(desk, made)
    if refused:
        custody.note(spec, desk, NOBODYS)
        raise refused[0]


def _settle(desk: Desk, made: Certificate) -> None:
    """Jobs of this home that had begun to erase what is now certified have nothing left to do; nor
    have those that were confirmed for the same places and never touched them.
    """
    signed = {one.erasure for one in made.erased}
    gone = {(one.place, one.shipment, one.root) for one in made.erased}
    for row, spec in _left_off(desk.state, desk.job):
        try:
            known = certificate.verify(read_certificate(certificate_path(desk.home, row.id)))
        except (CertificateRefusedError, UnknownNameError):
            mine = set()
        else:
            mine = {one.erasure for one in known.erased}
        untouched = {
            erasure
            for path, shipment, root, *_, erasure in spec.places
            if (path, shipment, root) in gone and not _has_touched(desk.state, erasure)
        }
        if {erasure for *_, erasure in spec.places} <= signed | mine | untouched:
            desk.state.resolve_job(row.id)


def _has_touched(state: State, erasure: str) -> bool:
    """Whether an erase has got as far as its mark."""
    known = erasing.record_of(state.home, erasure)
    return known is not None and known.phase is not erasing.Phase.BEGUN


def left_off(state: State, place: Path) -> JobRow | None:
    """The newest job of this home that has begun to erase ``place`` and broke off."""
    found = [
        row
        for row, spec in _left_off(state)
        for path, *_, erasure in spec.places
        if path == str(place) and _has_touched(state, erasure)
    ]
    return max(found, key=lambda one: one.id, default=None)


def _left_off(state: State, but: JobId | None = None) -> Iterator[tuple[JobRow, EraseSpec]]:
    for row in state.jobs():
        past = row.state is JobState.FINISHED or row.resolved or row.forgotten
        if row.kind == "erase" and row.state in ENDED and not past and row.id != but:
            spec = parse_spec(EraseSpec, row)
            assert isinstance(spec, EraseSpec)
            yield row, spec


def _one(spec: EraseSpec, desk: Desk, path: str, *confirmed: str | int) -> Erased:
    shipment, root, *_, erasure = map(str, confirmed)

    def ready(found: Found) -> Consent:
        about = found.about
        if (about.shipment, about.root, about.packs, about.size) != confirmed[:-1]:
            raise RootMismatchError(
                f"{path} does not hold what was confirmed",
                safe="Nothing of it was erased.",
                todo="Look at what it holds now; then ask for its erase anew.",
            )
        refuse_used(desk.state, about.shipment, desk.job)
        return agreed(found, delivered(desk.state, found), spec.told)

    known = erasing.record_of(desk.home, erasure)
    if known is not None:
        mine = (known.erased.place, known.erased.shipment, known.erased.root)
        if mine != (path, shipment, root):
            raise RootMismatchError(f"The erase {erasure} is of another place than {path}")
    return Eraser(desk.home, Path(path), erasure, desk.emit, desk.stop).run(ready)


def refuse_used(state: State, shipment: ShipmentId, but: JobId | None = None) -> None:
    """Refuse while a job of this home is at work on the shipment, but for one; those of other
    homes hold its lock.
    """
    for row in state.jobs(shipment):
        if row.state not in ENDED and row.id != but:
            raise JobRunningError(
                f"Job {row.id} ({row.title}) is {row.state}",
                safe="Nothing was erased.",
                todo="Let it end, or stop it.",
                verb=f"motiongear jobs stop {row.id}",
            )


def wrong_with_chain(home: Path, found: Found) -> list[Finding]:
    """What is wrong with the chain of custody in the store, which goes with it."""
    shipment = found.about.shipment
    try:
        told = seal_custody.read(seal_custody.in_store(found.path))
        mine = seal_custody.read(seal_custody.at_home(home, shipment))
    except CustodyRefusedError:
        return [Finding(Kind.DAMAGED)]
    expected = chain.Expected(shipment, found.about.root)
    return [one for one in chain.verify(told, expected, mine) if one.is_error] if told else []


def needed(found: Found, known: Delivered) -> tuple[str, ...]:
    """What has to be said before this may be erased."""
    if found.unsealed:
        return (NOT_SEALED, DATA_LOST)
    return (NOT_DELIVERED, DATA_LOST) if known is Delivered.NOBODY else ()


def agreed(found: Found, known: Delivered, told: Iterable[str]) -> Consent:
    """Raises NotDeliveredError where something needed was not said."""
    wanted = needed(found, known)
    if not set(wanted) <= set(told):
        options = [f"--{one}" for one in wanted]
        why = (
            found.unsealed or "nobody is known to have received it, or to have restored all of it"
        )
        raise NotDeliveredError(
            f"The shipment {found.about.label!r} may be the only copy: {why}",
            todo="Let the receiver confirm it first. Or say that it may be lost, with the "
            "options below.",
            verb=shlex.join(["motiongear", "erase", "--store", str(found.path), *options]),
        )
    return Consent(known, wanted)


def delivered(state: State, found: Found) -> Delivered:
    """Whether the receiver has signed that they have it, or this home knows of a finished check of
    every disk that the seal names packs of.
    """
    about = found.about
    if about.erasure or found.unsealed:  # what lay in it cannot be told any more, or not at all
        return Delivered.NOBODY
    try:
        if custody.is_received(state.home, found.path, about.shipment, about.root):
            return Delivered.CUSTODY
        seal, infos = statement.read(found.path), Store(found.path).infos()
        points = {(one.disk, one.point) for one in by_point(infos)}
    except MotionGearError:
        return Delivered.NOBODY
    whole = {one.pack for one in seal.packs} <= {one.head.pack for one in infos}
    known = points and points <= _checked(state, about.shipment, about.root)
    return Delivered.CHECKED if whole and known else Delivered.NOBODY


def _checked(state: State, shipment: ShipmentId, root: str) -> set[tuple[DiskId, int]]:
    """Disks and points of the sealed store of which every block was found on a volume as the
    manifest has it.
    """
    found = set()
    for row in state.jobs(shipment):
        if row.kind not in {"restore", "check"} or row.state is not JobState.FINISHED:
            continue
        for event in state.events(row.id):
            if event.kind == "result" and event.body.get("step") == "check":
                told = cast("dict[str, Json]", event.body["figures"])
                right = told["wrong"] == [] and told["unknown"] == 0
                if right and told.get("origin") == root:
                    found.add((DiskId(str(told["disk"])), cast("int", told["point"])))
    return found


def certificate_path(home: Path, job: JobId) -> Path:
    return home / erasing.DIRECTORY / f"certificate-{job}.json"


def read_certificate(path: Path) -> bytes:
    """The bytes of a certificate; UnknownNameError where there is none, CertificateRefusedError
    where it cannot be read.
    """
    try:
        return read_small(path, certificate.MOST + 1, 0)
    except FileNotFoundError as exc:
        raise UnknownNameError(
            f"There is no certificate {path}",
            todo="Give the file of a certificate, or the number of the job that erased; "
            "`motiongear certificate list` names those kept here.",
        ) from exc
    except OSError as exc:
        raise CertificateRefusedError(f"{path} cannot be read ({exc.strerror})") from exc


def _certified(spec: EraseSpec, desk: Desk, erased: list[Erased]) -> tuple[Path, Certificate]:
    """The certificate, signed once: a job that died behind it finds it."""
    path, device = certificate_path(desk.home, desk.job), Device.of(desk.home)
    most = max(_MOST_NAMES // len(erased), 1)  # all are counted
    erased = [replace(one, left=one.left[:most]) for one in erased]
    with suppress(CertificateRefusedError, UnknownNameError):  # none, or damaged: signed anew
        made = certificate.verify(read_certificate(path))
        if (made.device, made.erased) == (device.public, tuple(erased)):
            return path, made
    clock = _CLOCKS[clock_is_kept()]
    made = Certificate(device.public, spec.by, canon.now(), clock, tuple(erased))
    data = certificate.sign(made, device)
    certificate.verify(data)  # none is kept that nobody could read
    with kept(path):
        write_durably(path, data, 0o600)
    return path, made


def figures(path: Path, made: Certificate) -> dict[str, Json]:
    """What came of it, for people and programs."""
    return {
        "certificate": str(path),
        "device": made.device_fingerprint,
        "erased": [certificate.write_erased(one) for one in made.erased],
    }
