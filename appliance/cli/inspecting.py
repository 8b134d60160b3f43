"""``motiongear inspect``: what disks and images tell of their machines."""

import click

from appliance import config, jobs, shown
from appliance.cli import ask, completion, show
from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.ingest.inspection import UNREAD, machine_facts
from appliance.language import Translator, chosen, translator
from appliance.model import DiskFacts, MachineFacts
from appliance.report import inside
from appliance.seal import machine
from appliance.seal.papers import write_facts


@click.command()
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="SOURCE...",
    type=ask.TEXT,
    shell_complete=completion.files,
)
@ask.as_records
def inspect(sources: tuple[str, ...], as_lines: bool) -> None:
    """Tell what SOURCE, a whole disk or a raw image file, holds: system, host name, addresses,
    kernels, firmware, file systems, LVM, encryption.

    Nothing is mounted and nothing written. The disk is read by a process that has no rights.
    """
    _ = translator(chosen())
    refusal: MotionGearError | None = None
    for source in sources:
        try:
            disk, found = _inspected(source)
        except MotionGearError as exc:
            if refusal is not None:
                show.refusal(refusal)
            refusal = exc
            continue
        if as_lines:
            told: dict[str, Json] = {"disk": write_facts(disk), "machine": machine.write(found)}
            show.record({"source": source, **told})
        else:
            _show_disk(source, disk, _)
            show_machine(found, _)
    if refusal is not None:
        raise refusal


def _inspected(source: str) -> tuple[DiskFacts, MachineFacts]:
    with jobs.source_for(source, (config.home(),)).open(source) as disk:
        return disk.facts, machine_facts(source, disk.facts)


def _show_disk(source: str, disk: DiskFacts, _: Translator) -> None:
    named = (inside.model(disk, _), disk.serial, shown.size(disk.size))
    show.line(f"{source}: {', '.join(one for one in named if one)}")
    table = {"none": _("none"), UNREAD: _("not known")}.get(disk.table, disk.table)
    count = len(disk.parts)
    told = _("{table}, 1 partition") if count == 1 else _("{table}, {count} partitions")
    show.rows([(_("table"), told.format(table=table, count=count))])


def show_machine(found: MachineFacts, _: Translator) -> None:
    """What is known, a line each."""
    show.rows(inside.rows(found, _, shown.size))
    for one in found.warnings:
        show.line(_("Warning: {what}").format(what=_(one)))
    if found.method == "blkid" and found.reason:
        show.line(
            _("Only tables and superblocks were read ({reason}).").format(reason=found.reason)
        )
    elif found.method == "none":
        show.line(_("Nothing could be read ({reason}).").format(reason=found.reason))
