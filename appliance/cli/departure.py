"""The verbs at the source, in the order of a migration: disks, ingest, seal."""

from pathlib import Path

import click

from appliance import config, orders, shown
from appliance.cli import ask, completion, ends, show, work
from appliance.cli.show import translated as _
from appliance.events import Result
from appliance.ingest.attached import AttachedDisks


@click.command()
@ask.as_records
def disks(as_lines: bool) -> None:
    """The disks attached to this machine: serial, model and size first, and why some may not be
    read.
    """
    source = AttachedDisks((config.home(),))
    found = [(one, source.refusal(Path(one.source))) for one in source.disks()]
    if as_lines:
        for one, refusal in found:
            show.record(
                {
                    "serial": one.serial,
                    "model": one.model,
                    "size": one.size,
                    "bus": one.bus,
                    "node": one.source,
                    "refusal": refusal,
                }
            )
        return
    body = [
        (
            one.serial or _("(no serial)"),
            one.model,
            shown.size(one.size),
            one.bus,
            one.source,
            refusal,
        )
        for one, refusal in found
    ]
    head = (_("SERIAL"), _("MODEL"), _("SIZE"), _("BUS"), _("NODE"), _("NOT POSSIBLE BECAUSE"))
    show.table(head, body)


@click.command()
@click.argument("source", shell_complete=completion.files)
@ask.store
@click.option(
    "--machine",
    "-m",
    required=True,
    type=ask.TEXT,
    help="The name of the machine the disk belongs to.",
)
@ask.limit
@click.option(
    "--level",
    type=click.IntRange(0, 19),
    default=1,
    show_default=True,
    help="zstd level; 0 stores as it is.",
)
@click.option("--detach", is_flag=True, help="Start the job and return at once.")
@ask.interval
@ask.pack_size
@ask.as_json
def ingest(
    source: str,
    store: Path,
    machine: str,
    limits: tuple[str, ...],
    level: int,
    detach: bool,
    checkpoint_bytes: int,
    checkpoint_seconds: float,
    pack_size: int,
    as_lines: bool,
) -> None:
    """Copy SOURCE, a whole disk such as /dev/sdb or a raw image file, block by block into the
    store.

    The source is opened read-only and alone; a mounted disk, or one of the device itself, is
    refused.
    """
    order = orders.Ingest(
        source=source,
        store=store,
        machine=machine,
        limits=limits,
        level=level,
        pack_size=pack_size,
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_seconds=checkpoint_seconds,
    )
    with work.state() as opened:
        begun, facts = orders.ingest(opened, order)
        job = begun.job
        if as_lines:
            show.event(Result("start", {"job": job, "disk": opened.job(job).disk}))
        else:
            serial = facts.serial or _("(no serial)")
            what = f"{serial}, {facts.model}, {shown.size(facts.size)}"
            show.line(_("Job {job}: {what}").format(job=job, what=what))
        if detach:
            return
        work.stay(opened, job, as_lines=as_lines)
        ends.tell(opened, job, begun.spec, as_lines=as_lines)


@click.command()
@ask.store
@click.option(
    "--accept",
    multiple=True,
    metavar="JOB|DISK",
    type=ask.TEXT,
    help="Job whose disk may travel incomplete, or the disk's id (its first 8 digits will do).",
)
@click.option(
    "--waive",
    default="",
    type=ask.TEXT,
    help="Why it is sealed without two recipients or an opened canary.",
)
@click.option("--qr/--no-qr", default=True, help="Draw the seal root as a QR code too.")
@ask.as_json
def seal(
    store: Path,
    accept: tuple[str, ...],
    waive: str,
    qr: bool,
    as_lines: bool,
) -> None:
    """Read every pack back, compare it, and sign the whole shipment. Nothing can be added
    afterwards.
    """
    with work.state() as opened:
        begun = orders.seal(opened, store, accept, waive)
        work.stay(opened, begun.job, as_lines=as_lines)
        ends.tell(opened, begun.job, begun.spec, as_lines=as_lines, qr=qr)
