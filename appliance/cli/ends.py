"""How each kind of job ends on a console, whether it was just started or resumed."""

import shlex
import sys
from pathlib import Path
from typing import assert_never, cast

import click

from appliance.cli import chains, drawing, erased, show, work
from appliance.events import Json
from appliance.jobs import (
    CatchUpSpec,
    CheckSpec,
    EraseSpec,
    GateSpec,
    IngestSpec,
    ReplicaCheckSpec,
    RestoreSpec,
    SealSpec,
    Spec,
    VerifySpec,
)
from appliance.model import JobId
from appliance.seal import statement, text
from appliance.seal.chain import Finding, Kind
from appliance.seal.label import Label
from appliance.seal.store import Store
from appliance.seal.verify import Trust
from appliance.state import State

CONSISTENT_ONLY = 3  # exit code: whole, but nobody has confirmed the signer
NOT_CONFIRMED = (
    "Consistent; signer not confirmed: give --device and --seal as sent by another path."
)


def tell(opened: State, job: JobId, spec: Spec, *, as_lines: bool, qr: bool = True) -> None:
    """What came of a finished job, in words unless its events were told as JSON; exits when a
    verification found a store consistent only.
    """
    if not as_lines:
        _show(opened, job, spec, qr=qr)
        _tell_custody(work.results_of(opened, job, "custody"))
    if isinstance(spec, VerifySpec):
        told = work.figures(opened, job, "verify")
        if told["trust"] != Trust.AUTHENTIC:
            sys.exit(CONSISTENT_ONLY)


def _show(opened: State, job: JobId, spec: Spec, *, qr: bool) -> None:
    match spec:
        case IngestSpec():
            _show_ingest(work.figures(opened, job, "ingest"))
        case SealSpec():
            _show_label(Store(Path(spec.store)), qr=qr)
        case VerifySpec():
            _show_verified(work.figures(opened, job, "verify"))
        case RestoreSpec() | CheckSpec() | ReplicaCheckSpec():
            _show_checked(_last_run(work.results_of(opened, job, "check")))
        case CatchUpSpec():
            _show_rounds(opened, job)
        case GateSpec():
            pass
        case EraseSpec():
            erased.tell(Path(str(work.figures(opened, job, "erase")["certificate"])))
        case _:
            assert_never(spec)


def _tell_custody(told: list[dict[str, Json]]) -> None:
    """What kept a record out of the chain of custody, if anything did; once."""
    for one in told[-1:]:
        if "not_kept" in one:
            chains.tell_not_kept(str(one["not_kept"]))
        elif "finding" in one:
            chains.tell_unsound(
                Finding(Kind(str(one["finding"])), cast("int", one.get("number", 0)))
            )


def _last_run(found: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """The last check of each volume: a job that was resumed may have checked it before."""
    return list({str(one["volume"]): one for one in found}.values())


def _show_ingest(told: dict[str, Json]) -> None:
    show.line(
        f"Ingested: {show.size(cast('int', told['size']))} read, "
        f"{show.size(cast('int', told['written']))} stored; blocks: {told['stored']} stored, "
        f"{told['referenced']} repeated, {told['zero']} zero."
    )
    if told["unreadable_bytes"]:
        show.line(
            f"UNREADABLE: {told['unreadable_bytes']} bytes are stored as zeros; see the manifest."
        )


def _show_label(store: Store, *, qr: bool) -> None:
    """What goes onto the label, and by another path to the operator."""
    made = statement.read(store.path)
    root = made.root()
    show.line("Sealed. Send these two to the operator by another path than the device:")
    show.rows(
        [
            ("device", made.device_fingerprint),
            ("seal root", text.grouped(root)),
            ("in words", text.words(root)),
            ("sequence", made.sequence),
        ]
    )
    if qr:
        click.echo(drawing.qr(str(Label.of(made))))
    verb = shlex.join(["motiongear", "label", "--store", str(store.path), "--out", "label.pdf"])
    show.line(f"To print the label:  {verb}")


def _show_verified(told: dict[str, Json]) -> None:
    if told["trust"] == Trust.AUTHENTIC:
        show.line("AUTHENTIC: sealed by the device expected, and nothing was changed since.")
    else:
        show.line(NOT_CONFIRMED)
    show.rows(
        [
            ("label", told["label"]),
            ("device", told["device"]),
            ("seal root", text.grouped(bytes.fromhex(str(told["root"])))),
            ("sequence", told["sequence"]),
            ("sealed", f"{told['sealed']} by the device's clock"),
            ("packs", f"{told['packs']}, {show.size(cast('int', told['bytes']))}"),
        ]
    )
    for one in cast("list[str]", told["recipients"]):
        show.rows([("readable by", one)])
    for name in ("waiver", "accepted"):
        if told[name]:
            show.rows([(name, told[name])])
    show_disks(cast("list[dict[str, Json]]", told["disks"]))


def show_disks(found: list[dict[str, Json]]) -> None:
    """Disks as the manifest tells them."""
    for one in found:
        blocks = cast("dict[str, int]", one["blocks"])
        state = "complete" if one["complete"] else "INCOMPLETE"
        show.line(f"Disk {one['disk']} point {one['point']}: {state}")
        counted = ", ".join(f"{count} {name}" for name, count in blocks.items() if count)
        show.rows(
            [
                ("machine", one["machine"]),
                ("serial", one["serial"] or "(no serial)"),
                ("model", one["model"]),
                ("size", f"{one['size']} bytes"),
                ("blocks", counted),
                ("root", one["root"]),
            ]
        )
        for offset, length in cast("list[list[int]]", one["unreadable"]):
            show.rows([("unreadable", f"bytes {offset} to {offset + length - 1}")])
        for session, block in cast("list[list[int]]", one["splices"]):
            show.rows([("spliced", f"session {session} went on at block {block}")])


def _show_checked(found: list[dict[str, Json]]) -> None:
    for one in found:
        show.line(
            f"Checked: {one['blocks']} blocks of {one['location']} "
            f"are those of the manifest {one['root']}"
        )


def _show_rounds(opened: State, job: JobId) -> None:
    told = work.results_of(opened, job, "round")
    body = [
        (
            one["point"],
            one["form"],
            show.duration(cast("float", one["seconds"])),
            show.size(cast("int", one["changed"])),
            show.size(cast("int", one["sent"])),
            "kept" if one["kept"] else "",
        )
        for one in told
    ]
    show.table(("POINT", "READ", "TIME", "CHANGED", "SENT", ""), body)
    for one in work.results_of(opened, job, "outlook")[-1:]:
        show.line(
            f"The next round would take {show.duration(cast('float', one['next_seconds']))}."
        )
    for one in work.results_of(opened, job, "final"):
        show.line(
            f"Point {one['point']}: both ends have the same roots. The source stood still for "
            f"{cast('float', one['downtime']):.1f} s."
        )
