"""``motiongear shipment``, ``canary`` and ``jobs``: what there is, and what becomes of it."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from appliance import config, process
from appliance.block import free_space
from appliance.cli import ask, completion, ends, show, work
from appliance.errors import BadInputError, JobRunningError, UnknownNameError
from appliance.events import Json, Progress
from appliance.jobs import IngestSpec, SealSpec, dump_spec, load_spec, names_disk, unfinished_disk
from appliance.model import BLOCK_SIZE, DiskId, JobId
from appliance.seal import canary as canaries
from appliance.seal import head, statement, text
from appliance.seal.canon import now
from appliance.seal.identity import Device
from appliance.seal.keys import read_public
from appliance.seal.store import SEAL, PointPacks, Store, by_point
from appliance.state import ENDED, JobRow, JobState, State


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
        made = Store.create(store.absolute(), label, Device.of(opened.home), keys, block_size)
        opened.note_shipment(made.head.shipment, made.path, label)
    show.line(f"Shipment {label!r} in {store}, sealed for:")
    show.rows((f"{one.role}", f"{one.name}  {one.fingerprint}") for one in keys)
    if len(keys) < 2:
        show.line(
            "Only one recipient: if that key is lost, the data is lost. Sealing will ask why."
        )


@shipment.command("list")
def list_shipments() -> None:
    """The shipments that this device knows of."""
    with work.state() as opened:
        body = [
            (one.label, "sealed" if one.root else "open", one.path, one.id)
            for one in opened.shipments()
        ]
    show.table(("LABEL", "STATE", "PATH", "ID"), body)


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
            ("label", found.head.label),
            ("shipment", found.head.shipment),
            ("created", found.head.created),
            ("block size", found.head.block_size),
            ("room left", show.size(free_space(store))),
        ]
    )
    show.rows((one.role, f"{one.name}  {one.fingerprint}") for one in found.head.recipients)
    body = [
        (
            one.disk,
            one.point,
            "complete" if one.complete else "incomplete",
            len(one.packs),
            show.size(sum(pack.size for pack in one.packs)),
        )
        for one in points
    ]
    show.table(("DISK", "POINT", "STATE", "PACKS", "STORED"), body)
    if seal is not None:
        show.line(f"Sealed {seal.created}, number {seal.sequence} of its device.")
        show.rows([("device", seal.device_fingerprint), ("seal root", text.grouped(seal.root()))])


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
    show.line(f"Read this code to the technician: {canaries.open_code(store, shipment_head, key)}")


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
    show.line(f"Confirmed: {recipient} can open this shipment.")


@click.group()
def jobs() -> None:
    """Jobs: each is a process of its own and goes on without a console."""


@jobs.command("list")
@ask.as_records
def list_jobs(as_lines: bool) -> None:
    """All jobs, and why those that did not finish did not."""
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
        body.append((row.id, row.kind, row.state, share, row.title, end))
    show.table(("JOB", "KIND", "STATE", "DONE", "WHAT", "WHY"), body)


def _job_figures(row: JobRow, told: Progress | None) -> Json:
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
        show.line(f"Job {job} is finished.")
    if row.forgotten:
        return
    spec = load_spec(row)
    if isinstance(spec, SealSpec) and not Path(spec.store, SEAL).exists():
        if not as_lines:
            show.line(f"The store is no longer at {spec.store}.")
        return
    ends.tell(opened, job, spec, as_lines=as_lines)


@jobs.command("stop")
@click.argument("job", type=int, shell_complete=completion.jobs_in(completion.LIVING))
def stop(job: int) -> None:
    """Stop a job at its next block; what it has stored is kept, and it can be resumed."""
    with work.state() as opened:
        row = opened.job(JobId(job))
        if process.stop(opened, row.id):
            show.line(f"Job {job} was asked to stop.")
        else:
            show.line(f"Job {job} does not run: it is {row.state}.")


@jobs.command("resume")
@click.argument("job", type=int, shell_complete=completion.jobs_in(completion.BROKEN_OFF))
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
    """Go on with a job from its last checkpoint."""
    with work.state() as opened:
        row = opened.job(JobId(job))
        _refuse_running(row)
        if row.state is JobState.FINISHED:
            raise BadInputError(
                f"Job {job} is finished", safe="Its result stands.", todo="Nothing."
            )
        if row.resolved:
            raise BadInputError(f"Job {job} was dropped", todo="Start a new job.")
        spec = load_spec(row)
        key = ask.unlock(key_file, passphrase_fd)
        if source is not None:
            if not isinstance(spec, IngestSpec):
                raise BadInputError("--source is for ingest jobs")
            spec = replace(spec, source=str(Path(source).absolute()))
            opened.change_job(row.id, dump_spec(spec))
        after = work.last_event(opened.events(row.id))
        process.start(opened, row.id, key)
        work.stay(opened, row.id, as_lines=as_lines, after=after)
        _tell_end(opened, row.id, as_lines=as_lines)


@jobs.command("discard")
@click.argument(
    "job", metavar="JOB|DISK", shell_complete=completion.jobs_in(completion.BROKEN_OFF)
)
@click.option(
    "--store",
    "-s",
    envvar="MOTIONGEAR_STORE",
    type=click.Path(path_type=Path, file_okay=False),
    help="The shipment's directory, where a DISK is named.",
)
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
    row = opened.job(job)
    _refuse_running(row)
    if row.kind == "ingest":
        known = opened.shipment(row.shipment)
        if known is None:
            raise UnknownNameError(
                f"Where the shipment of job {job} is, is not known here",
                todo=f"Name disk and store: `motiongear jobs discard {row.disk} --store DIR`.",
            )
        _remove(Store(known.path), row.disk)
    opened.resolve_job(row.id)
    show.line(f"Job {job} is dropped.")


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
    show.line(f"Disk {disk} is dropped.")


def _refuse_running(row: JobRow) -> None:
    if row.state not in ENDED:
        raise JobRunningError(f"Job {row.id} is {row.state}")


def _remove(store: Store, disk: DiskId) -> None:
    with store.lock(alone=True):
        removed = store.discard(disk)
    show.line(f"Removed {show.size(removed)}.")


@click.command(hidden=True)
@click.argument("job", type=int)
def job(job: int) -> None:
    """What a job's own process runs. Not for people."""
    sys.exit(process.main(config.ensure_home(), JobId(job)))
