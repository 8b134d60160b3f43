"""How each kind of job ends on a console, whether it was just started or resumed."""

import shlex
import sys
from pathlib import Path
from typing import assert_never, cast

import click

from appliance import shown
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
from appliance.language import Translator, chosen, marked, translator
from appliance.model import JobId
from appliance.seal import statement, text
from appliance.seal.chain import Finding, Kind
from appliance.seal.label import Label
from appliance.seal.store import Store
from appliance.seal.verify import Trust
from appliance.state import State

CONSISTENT_ONLY = 3  # exit code: whole, but nobody has confirmed the signer
NOT_CONFIRMED = marked(
    "Consistent; signer not confirmed: give --device and --seal as sent by another path."
)
_BLOCKS = {
    "unknown": marked("{count} unknown"),
    "data": marked("{count} data"),
    "zero": marked("{count} zero"),
    "unreadable": marked("{count} unreadable"),
}
_FORMS = {
    "fuzzy": marked("fuzzy"),
    "crash_consistent": marked("crash_consistent"),
    "quiesced": marked("quiesced"),
}


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
    _ = translator(chosen())
    match spec:
        case IngestSpec():
            _show_ingest(work.figures(opened, job, "ingest"), _)
        case SealSpec():
            _show_label(Store(Path(spec.store)), _, qr=qr)
        case VerifySpec():
            _show_verified(work.figures(opened, job, "verify"), _)
        case RestoreSpec() | CheckSpec() | ReplicaCheckSpec():
            _show_checked(_last_run(work.results_of(opened, job, "check")), _)
        case CatchUpSpec():
            _show_rounds(opened, job, _)
        case GateSpec():
            pass
        case EraseSpec():
            tell_erased(opened, job)
        case _:
            assert_never(spec)


def tell_erased(opened: State, job: JobId) -> None:
    """The certificate of what an erase job has erased by now, if anything."""
    for told in work.results_of(opened, job, "erase")[-1:]:
        erased.tell(Path(str(told["certificate"])))


def _tell_custody(told: list[dict[str, Json]]) -> None:
    """What kept a record out of the chain of custody, if anything did; once."""
    for one in told[-1:]:
        if "not_kept" in one:
            chains.tell_not_kept(str(one["not_kept"]))
        elif "finding" in one:
            chains.tell_unsound(
                Finding(Kind(str(one["finding"])), cast("int", one.get("number", 0)))
            )
        if "own_finding" in one:
            chains.tell_kept_in_store(
                Finding(Kind(str(one["own_finding"])), cast("int", one["own_number"]))
            )


def _last_run(found: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """The last check of each volume: a job that was resumed may have checked it before."""
    return list({str(one["volume"]): one for one in found}.values())


def _show_ingest(told: dict[str, Json], _: Translator) -> None:
    show.line(
        _(
            "Ingested: {read} read, {written} stored; blocks: {stored} stored, {referenced} "
            "repeated, {zero} zero."
        ).format(
            read=shown.size(cast("int", told["size"])),
            written=shown.size(cast("int", told["written"])),
            stored=told["stored"],
            referenced=told["referenced"],
            zero=told["zero"],
        )
    )
    if told["unreadable_bytes"]:
        show.line(
            _("UNREADABLE: {count} bytes are stored as zeros; see the manifest.").format(
                count=told["unreadable_bytes"]
            )
        )


def _show_label(store: Store, _: Translator, *, qr: bool) -> None:
    """What goes onto the label, and by another path to the operator."""
    made = statement.read(store.path)
    root = made.root()
    show.line(_("Sealed. Send these two to the operator by another path than the device:"))
    show.rows(
        [
            (_("device"), made.device_fingerprint),
            (_("seal root"), text.grouped(root)),
            (_("in words"), text.words(root)),
            (_("sequence"), made.sequence),
        ]
    )
    if qr:
        click.echo(drawing.qr(str(Label.of(made))))
    verb = shlex.join(["motiongear", "label", "--store", str(store.path), "--out", "label.pdf"])
    show.line(_("To print the label:  {verb}").format(verb=verb))


def _show_verified(told: dict[str, Json], _: Translator) -> None:
    if told["trust"] == Trust.AUTHENTIC:
        show.line(_("AUTHENTIC: sealed by the device expected, and nothing was changed since."))
    else:
        show.line(_(NOT_CONFIRMED))
    show.rows(
        [
            (_("label"), told["label"]),
            (_("device"), told["device"]),
            (_("seal root"), text.grouped(bytes.fromhex(str(told["root"])))),
            (_("sequence"), told["sequence"]),
            (_("sealed"), _("{at} by the device's clock").format(at=told["sealed"])),
            (_("packs"), f"{told['packs']}, {shown.size(cast('int', told['bytes']))}"),
        ]
    )
    for one in cast("list[str]", told["recipients"]):
        show.rows([(_("readable by"), one)])
    for name, what in ((_("waiver"), told["waiver"]), (_("accepted"), told["accepted"])):
        if what:
            show.rows([(name, what)])
    show_disks(cast("list[dict[str, Json]]", told["disks"]))


def show_disks(found: list[dict[str, Json]]) -> None:
    """Disks as the manifest tells them."""
    _ = translator(chosen())
    for one in found:
        blocks = cast("dict[str, int]", one["blocks"])
        told = _("Disk {disk} point {point}: {state}")
        state = _("complete") if one["complete"] else _("INCOMPLETE")
        show.line(told.format(disk=one["disk"], point=one["point"], state=state))
        counted = [_(_BLOCKS[name]).format(count=many) for name, many in blocks.items() if many]
        show.rows(
            [
                (_("machine"), one["machine"]),
                (_("serial"), one["serial"] or _("(no serial)")),
                (_("model"), _model(str(one["model"]), _)),
                (_("size"), _("{count} bytes").format(count=one["size"])),
                (_("blocks"), ", ".join(counted)),
                (_("root"), one["root"]),
            ]
        )
        for offset, length in cast("list[list[int]]", one["unreadable"]):
            where = _("bytes {first} to {last}").format(first=offset, last=offset + length - 1)
            show.rows([(_("unreadable"), where)])
        for session, block in cast("list[list[int]]", one["splices"]):
            where = _("session {session} went on at block {block}")
            show.rows([(_("spliced"), where.format(session=session, block=block))])


def _model(told: str, _: Translator) -> str:
    """Foreign text, but where it is an image file."""
    name = told.removeprefix("image file ")
    return told if name == told else _("image file {name}").format(name=name)


def _show_checked(found: list[dict[str, Json]], _: Translator) -> None:
    for one in found:
        show.line(
            _("Checked: {blocks} blocks of {location} are those of the manifest {root}").format(
                blocks=one["blocks"], location=one["location"], root=one["root"]
            )
        )


def _show_rounds(opened: State, job: JobId, _: Translator) -> None:
    told = work.results_of(opened, job, "round")
    body = [
        (
            one["point"],
            _(_FORMS[str(one["form"])]),
            shown.duration(cast("float", one["seconds"])),
            shown.size(cast("int", one["changed"])),
            shown.size(cast("int", one["sent"])),
            _("kept") if one["kept"] else "",
        )
        for one in told
    ]
    show.table((_("POINT"), _("READ"), _("TIME"), _("CHANGED"), _("SENT"), ""), body)
    for one in work.results_of(opened, job, "outlook")[-1:]:
        next_ = shown.duration(cast("float", one["next_seconds"]))
        show.line(_("The next round would take {duration}.").format(duration=next_))
    for one in work.results_of(opened, job, "final"):
        ended = _(
            "Point {point}: both ends have the same roots. The source stood still for {seconds} s."
        )
        still = f"{cast('float', one['downtime']):.1f}"
        show.line(ended.format(point=one["point"], seconds=still))
