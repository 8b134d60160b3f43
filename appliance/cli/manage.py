"""``motiongear shipment``, ``canary`` and ``jobs``: what there is, and what becomes of it."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from appliance import orders, process, shown
from appliance.block import free_space
from appliance.cli import ask, completion, ends, show, work
from appliance.cli.show import translated as _
from appliance.errors import BadInputError, JobRunningError, UnknownNameError
from appliance.events import Json, Progress
from appliance.jobs import (
    CatchUpSpec,
    IngestSpec,
    SealSpec,
    Spec,
    load_spec,
    names_disk,
    unfinished_disk,
)
from appliance.language import marked
from appliance.model import BLOCK_SIZE, DiskId, JobId
from appliance.seal import canary as canaries
from appliance.seal import head, intent, statement, text
from appliance.seal.canon import now
from appliance.seal.keys import read_public
from appliance.seal.store import SEAL, PointPacks, Store, by_point
from appliance.state import ENDED, EventRow, JobRow, JobState, ShipmentRow, State
from appliance.state.telling import KINDS
from appliance.state.words import last_words

STATES = {
    JobState.QUEUED: marked("queued"),
    JobState.RUNNING: marked("running"),
    JobState.PAUSED: marked("paused"),
    JobState.FINISHED: marked("finished"),
    JobState.STOPPED: marked("stopped"),
    JobState.FAILED: marked("failed"),
    JobState.DIED: marked("died"),
}
_GOES_BY_ITSELF = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.FINISHED})


@click.group()
def shipment() -> None:
    """Shipments: one store directory each, sealed for its recipients."""


@shipment.command("new")
@click.argument("label", type=ask.TEXT)
@ask.store
@click.option(
    "--recipient",
    "-r",
    "recipients",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Public key file (.pub) of somebody who may open it; give at least two.",
)
@click.option(
    "--block-size", default=BLOCK_SIZE, show_default=True, help="Bytes a block; a power of two."
)
def new(label: str, store: Path, recipients: tuple[Path, ...], block_size: int) -> None:
    """Begin a shipment called LABEL in an empty directory. Its recipients can never be changed."""
    keys = tuple(read_public(one) for one in recipients)
    with work.state() as opened:
        orders.begin_shipment(opened, store, label, keys, block_size)
    show.line(_("Shipment {label!r} in {store}, sealed for:").format(label=label, store=store))
    show.rows((_(one.role), f"{one.name}  {one.fingerprint}") for one in keys)
    if len(keys) < 2:
        show.line(
            _("Only one recipient: if that key is lost, the data is lost. Sealing will ask why.")
        )


@shipment.command("list")
def list_shipments() -> None:
    """The shipments that this device knows of."""
    with work.state() as opened:
        body = [(one.label, _standing(one), one.path, one.id) for one in opened.shipments()]
    show.table((_("LABEL"), _("STATE"), _("PATH"), _("ID")), body)


def _standing(row: ShipmentRow) -> str:
    if intent.stands(row.path):
        return _("erased in part")
    known = _("sealed") if row.root else _("not sealed yet")
    there = os.path.lexists(row.path)  # also where it may not be looked into
    return known if there else _("{state}, not there").format(state=known)


@shipment.command("show")
@ask.store
@ask.as_records
def show_shipment(store: Path, as_lines: bool) -> None:
    """What anyone can see of a shipment: recipients, disks by number, packs, seal."""
    found = Store(store)
    points = by_point(found.infos())
    seal = statement.read(store) if found.sealed else None
    if as_lines:
        show.record(_shipment_figures(found, points, seal))
        return
    show.rows(
        [
            (_("label"), found.head.label),
            (_("shipment"), found.head.shipment),
            (_("created"), found.head.created),
            (_("block size"), found.head.block_size),
            (_("room left"), shown.size(free_space(store))),
        ]
    )
    show.rows((_(one.role), f"{one.name}  {one.fingerprint}") for one in found.head.recipients)
    body = [
        (
            one.disk,
            one.point,
            _("complete") if one.complete else _("incomplete"),
            len(one.packs),
            shown.size(sum(pack.size for pack in one.packs)),
        )
        for one in points
    ]
    show.table((_("DISK"), _("POINT"), _("STATE"), _("PACKS"), _("STORED")), body)
    if seal is not None:
        told = _("Sealed {at}, number {number} of its device.")
        show.line(told.format(at=seal.created, number=seal.sequence))
        root = text.grouped(seal.root())
        show.rows([(_("device"), seal.device_fingerprint), (_("seal root"), root)])


def _shipment_figures(
    store: Store, points: tuple[PointPacks, ...], seal: statement.Seal | None
) -> Json:
    return {
        "label": store.head.label,
        "shipment": store.head.shipment,
        "created": store.head.created,
        "block_size": store.head.block_size,
        "room": free_space(store.path),
        "recipients": [
            {"role": one.role, "name": one.name, "fingerprint": one.fingerprint}
            for one in store.head.recipients
        ],
        "disks": [
            {
                "disk": one.disk,
                "point": one.point,
                "complete": one.complete,
                "packs": len(one.packs),
                "stored": sum(pack.size for pack in one.packs),
            }
            for one in points
        ],
        "seal": None
        if seal is None
        else {
            "created": seal.created,
            "sequence": seal.sequence,
            "device": seal.device_fingerprint,
            "root": seal.root().hex(),
        },
    }


@click.group()
def canary() -> None:
    """Prove, before shipping, that a recipient's key opens the shipment."""


@canary.command("open")
@ask.store
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="A private key file."
)
@ask.passphrase_fd
def open_canary(store: Path, key_file: Path, passphrase_fd: int | None) -> None:
    """At the operator's: read the code out of head.json and canary.json (copied from the
    store).
    """
    shipment_head = head.read(store)
    key = ask.unlock(key_file, passphrase_fd)
    assert key is not None
    code = canaries.open_code(store, shipment_head, key)
    show.line(_("Read this code to the technician: {code}").format(code=code))


@canary.command("confirm")
@ask.store
@click.argument("code", type=ask.TEXT)
def confirm_canary(store: Path, code: str) -> None:
    """On the device: enter the code that the operator has read out."""
    found = Store(store)
    found.refuse_sealed()
    recipient = canaries.who_opened(store, found.head, code)
    with work.state() as opened:
        opened.note_shipment(found.head.shipment, found.path.absolute(), found.head.label)
        opened.note_canary(found.head.shipment, recipient, now())
    show.line(_("Confirmed: {recipient} can open this shipment.").format(recipient=recipient))


@click.group(invoke_without_command=True)
@click.option("--follow", "following", is_flag=True, help="Show all jobs until none is left.")
@ask.as_records
@click.pass_context
def jobs(ctx: click.Context, following: bool, as_lines: bool) -> None:
    """Jobs: each is a process of its own and goes on without a console.

    Alone it lists them. With --follow it shows what all living jobs do, and those begun meanwhile.
    """
    if ctx.invoked_subcommand is not None:
        if following or as_lines:
            raise BadInputError(
                "--follow and --json of `jobs` stand alone", todo="Give them after the verb."
            )
    elif following:
        _follow_living(as_lines=as_lines)
    else:
        _list(as_lines=as_lines)


@jobs.command("list")
@ask.as_records
def list_jobs(as_lines: bool) -> None:
    """All jobs, why those that did not finish did not, and what to type then."""
    _list(as_lines=as_lines)


def _list(*, as_lines: bool) -> None:
    with work.state() as opened:
        found = [(row, opened.progress(row.id)) for row in opened.jobs()]
    if as_lines:
        for row, told in found:
            show.record(_job_figures(row, told))
        return
    body = []
    for row, told in found:
        share = f"{100 * told.done // told.total} %" if told and told.total else ""
        end = row.what if row.state is not JobState.FINISHED else ""
        kind, state = _(KINDS.get(row.kind, row.kind)), _(STATES[row.state])
        body.append((row.id, kind, state, share, row.title, end))
    show.table((_("JOB"), _("KIND"), _("STATE"), _("DONE"), _("WHAT"), _("WHY")), body)
    for row, _told in found:
        said = last_words(row)
        if row.state not in _GOES_BY_ITSELF and said.verb:
            sentence = _("Job {job}: {safe} {todo} Type: {verb}")
            safe, todo = _(said.safe), _(said.todo)
            show.line(sentence.format(job=row.id, safe=safe, todo=todo, verb=said.verb))


def _follow_living(*, as_lines: bool) -> None:
    try:
        with work.state() as opened:
            _show_living(opened, as_lines=as_lines)
    except KeyboardInterrupt:
        show.line(_("The jobs go on without this console."), err=True)
        sys.exit(130)


def _show_living(opened: State, *, as_lines: bool) -> None:
    followers: dict[JobId, show.Follower] = {}
    for row, told in process.follow_living(opened):
        name = f"job {row.id} ({row.title})"  # for programs
        kind = _(KINDS.get(row.kind, row.kind))
        shown_as = _("job {job} ({kind}: {title})").format(job=row.id, kind=kind, title=row.title)
        if row.id not in followers:
            called = name if as_lines else shown_as
            followers[row.id] = show.Follower(as_lines=as_lines, name=called, alone=False)
        if told is not None:
            followers[row.id].take(told)
        elif as_lines:
            show.record({**_job_figures(row, None), "event": "end", "job": name})
        else:
            _tell_last_words(row, shown_as)


def _tell_last_words(row: JobRow, name: str) -> None:
    why = f": {row.what}" if row.what else ""
    show.line(f"{name}: {_(STATES[row.state])}{why}", err=True)
    show.words(last_words(row))


def _job_figures(row: JobRow, told: Progress | None) -> dict[str, Json]:
    said = last_words(row)
    return {
        "job": row.id,
        "kind": row.kind,
        "state": row.state,
        "shipment": row.shipment,
        "disk": row.disk,
        "title": row.title,
        "created": row.created,
        "ended": row.ended,
        "step": told.step if told else "",
        "done": told.done if told else 0,
        "total": told.total if told else 0,
        "error": row.error,
        "code": row.code,
        "what": row.what,
        "safe": said.safe,
        "todo": said.todo,
        "verb": said.verb,
        "dropped": row.resolved,
    }


@jobs.command("follow")
@click.argument("job", type=int, shell_complete=completion.jobs_in())
@ask.as_json
def follow(job: int, as_lines: bool) -> None:
    """Show a job until it ends; ends as its own verb would have."""
    with work.state() as opened:
        work.stay(opened, JobId(job), as_lines=as_lines)
        _tell_end(opened, JobId(job), as_lines=as_lines)


def _tell_end(opened: State, job: JobId, *, as_lines: bool) -> None:
    """What came of a finished job, as far as it is still known here."""
    row = opened.job(job)
    if not as_lines:
        show.line(_("Job {job} is finished.").format(job=job))
        show.words(last_words(row))
    if row.forgotten:
        return
    spec = load_spec(row)
    if isinstance(spec, SealSpec) and not Path(spec.store, SEAL).exists():
        if not as_lines:
            show.line(_("The store is no longer at {store}.").format(store=spec.store))
        return
    ends.tell(opened, job, spec, as_lines=as_lines)


@jobs.command("stop")
@click.argument("job", type=int, shell_complete=completion.jobs_in(completion.LIVING))
def stop(job: int) -> None:
    """Stop a job at its next block; what it has stored is kept, and it can be resumed."""
    with work.state() as opened:
        if process.stop(opened, JobId(job)):
            show.line(_("Job {job} was asked to stop.").format(job=job))
        else:
            state = _(STATES[opened.job(JobId(job)).state])
            show.line(_("Job {job} does not run: it is {state}.").format(job=job, state=state))


@jobs.command("pause")
@click.argument("job", type=int, shell_complete=completion.jobs_in(completion.LIVING))
def pause(job: int) -> None:
    """Let a job rest at its next block, with all it has done made safe; its process stays, with
    all it holds, until `jobs resume` or `jobs stop`.
    """
    with work.state() as opened:
        row = opened.job(JobId(job))
        if row.kind == "gate":
            raise BadInputError(
                "A gate does not rest: those who call would wait in vain",
                safe="It goes on.",
                todo="Stop it.",
                verb=f"motiongear jobs stop {job}",
            )
        after = opened.last_event()
        if row.state is not JobState.PAUSED and process.pause(opened, row.id):
            show.line(_("Job {job} is asked to pause.").format(job=job))
            spec = load_spec(row)
            if isinstance(spec, CatchUpSpec) and spec.final:
                sentence = _(
                    "It is a last round, which holds the source frozen: it ends first. "
                    "To give the round up and thaw at once: motiongear jobs stop {job}"
                )
                show.line(sentence.format(job=job))
            try:
                for told in process.follow(opened, row.id, after):
                    if isinstance(told, EventRow) and told.body.get("step") == "paused":
                        break
            except KeyboardInterrupt:
                show.line(_("Job {job} pauses as soon as it can.").format(job=job), err=True)
                sys.exit(130)
        row = opened.job(row.id)
        show.line(_("Job {job} is {state}.").format(job=job, state=_(STATES[row.state])))
        show.words(last_words(row))


@jobs.command("resume")
@click.argument("job", type=int, shell_complete=completion.jobs_in(completion.RESTING))
@click.option("--source", help="Where the disk is now, when it has got another name.")
@ask.key_file
@ask.passphrase_fd
@ask.as_json
def resume(
    job: int,
    source: str | None,
    key_file: Path | None,
    passphrase_fd: int | None,
    as_lines: bool,
) -> None:
    """Let a job that is paused go on; start one anew that has ended, from its last checkpoint."""
    with work.state() as opened:
        row = opened.job(JobId(job))
        after = opened.last_event()
        if row.state is not JobState.PAUSED or not process.go_on(opened, row.id):
            spec = None if row.forgotten else _spec_from(load_spec(row), source)
            key = ask.unlock(key_file, passphrase_fd)
            process.start(opened, row.id, key, spec)
        work.stay(opened, row.id, as_lines=as_lines, after=after)
        _tell_end(opened, row.id, as_lines=as_lines)


def _spec_from(spec: Spec, source: str | None) -> Spec:
    """The spec, with the disk where it is now."""
    if source is None:
        return spec
    if not isinstance(spec, IngestSpec):
        raise BadInputError("--source is for ingest jobs")
    return replace(spec, source=str(Path(source).absolute()))


@jobs.command("discard")
@click.argument(
    "job", metavar="JOB|DISK", shell_complete=completion.jobs_in(completion.BROKEN_OFF)
)
@ask.some_store("The shipment's directory, where a DISK is named.", "MOTIONGEAR_STORE")
@click.confirmation_option(prompt="This removes what the job has stored. Sure?")
def discard(job: str, store: Path | None) -> None:
    """Remove what an ingest job stored in a shipment that is not sealed, and forget its error.

    An unfinished disk whose job is not known any more is named by its id, or the first 8 digits.
    """
    with work.state() as opened:
        if names_disk(job.lower()):
            _discard_disk(opened, job.lower(), store)
        else:
            _discard_job(opened, JobId(int(job)))


def _discard_job(opened: State, job: JobId) -> None:
    with opened.claimed(job):  # nobody resumes it meanwhile
        row = opened.job(job)
        if row.kind == "ingest":
            known = opened.shipment(row.shipment)
            if known is None:
                raise UnknownNameError(
                    f"Where the shipment of job {job} is, is not known here",
                    todo="Name disk and store.",
                    verb=f"motiongear jobs discard {row.disk} --store DIR",
                )
            _remove(Store(known.path), row.disk)
        opened.resolve_job(row.id)
    show.line(_("Job {job} is dropped.").format(job=job))


def _discard_disk(opened: State, asked: str, place: Path | None) -> None:
    if place is None:
        raise BadInputError("A disk is looked for in its store", todo="Give --store.")
    store = Store(place.absolute())
    store.refuse_sealed()
    disk = unfinished_disk(store, asked)
    known = [one for one in opened.jobs(store.head.shipment) if one.disk == disk]
    for row in known:
        _refuse_running(row)
    _remove(store, disk)
    for row in known:
        opened.resolve_job(row.id)
    show.line(_("Disk {disk} is dropped.").format(disk=disk))


def _refuse_running(row: JobRow) -> None:
    if row.state not in ENDED:
        raise JobRunningError(f"Job {row.id} is {row.state}")


def _remove(store: Store, disk: DiskId) -> None:
    with store.lock(alone=True):
        removed = store.discard(disk)
    show.line(_("Removed {what}.").format(what=shown.size(removed)))
