"""``motiongear inspect``: what disks and images tell of their machines."""

from collections.abc import Iterator

import click

from appliance import config, jobs
from appliance.cli import ask, completion, show
from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.ingest.inspection import machine_facts
from appliance.language import Translator, chosen, marked, translator
from appliance.model import Answer, DiskFacts, FileSystem, MachineFacts, Nic
from appliance.seal import machine
from appliance.seal.papers import write_facts

_FIRMWARE = {"uefi": "UEFI", "bios": "BIOS", "unknown": marked("not known")}
_ANSWERS = {
    Answer.YES: marked("yes"),
    Answer.NO: marked("no"),
    Answer.UNKNOWN: marked("not known"),
}
_CIPHERS = {"luks": "LUKS", "bitlocker": "BitLocker"}


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
    named = (disk.model, disk.serial, show.size(disk.size))
    show.line(f"{source}: {', '.join(one for one in named if one)}")
    table = _("none") if disk.table == "none" else disk.table
    show.rows(
        [(_("table"), _("{table}, {count} partitions").format(table=table, count=len(disk.parts)))]
    )


def show_machine(found: MachineFacts, _: Translator) -> None:
    """What is known, a line each."""
    show.rows(_rows(found, _))
    for one in found.warnings:
        show.line(_("Warning: {what}").format(what=_(one)))
    if found.method == "blkid" and found.reason:
        show.line(
            _("Only tables and superblocks were read ({reason}).").format(reason=found.reason)
        )
    elif found.method == "none":
        show.line(_("Nothing could be read ({reason}).").format(reason=found.reason))


def _rows(found: MachineFacts, _: Translator) -> Iterator[tuple[str, str]]:
    system = " ".join(one for one in (found.product, found.version) if one)
    for name, told in (
        (_("host name"), found.hostname),
        (_("system"), ", ".join(one for one in (system, found.architecture) if one)),
        (_("kernels"), ", ".join(found.kernels)),
    ):
        if told:
            yield name, told
    yield _("firmware"), _(_FIRMWARE[found.firmware])
    if found.family == "windows":
        yield _("hibernated"), _(_ANSWERS[found.hibernated])
        yield _("clean"), _(_ANSWERS[_OPPOSITE[found.dirty]])
    yield from ((_("network"), _nic(one, _)) for one in found.nics)
    yield from ((_("file system"), _system(one, _)) for one in found.file_systems)
    for volume in found.volumes:
        yield _("LVM"), f"{volume.group}/{volume.name}, {show.size(volume.size)}"
    for cipher in found.encrypted:
        yield _("encrypted"), f"{cipher.place}: {_CIPHERS[cipher.kind]}"


_OPPOSITE = {Answer.YES: Answer.NO, Answer.NO: Answer.YES, Answer.UNKNOWN: Answer.UNKNOWN}


def _nic(one: Nic, _: Translator) -> str:
    told = [one.name, one.mac, *one.addresses]
    if one.dhcp is Answer.YES:
        told.append("DHCP")
    if one.gateway:
        told.append(_("gateway {address}").format(address=one.gateway))
    if one.dns:
        told.append("DNS " + " ".join(one.dns))
    return ", ".join(each for each in told if each)


def _system(one: FileSystem, _: Translator) -> str:
    told = [f"{one.place}: {one.type}", one.label, show.size(one.size)]
    if one.used is not None:
        told.append(_("{size} in use").format(size=show.size(one.used)))
    return ", ".join(each for each in told if each)
