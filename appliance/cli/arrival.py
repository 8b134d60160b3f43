"""The verbs at the destination, in the order of a migration: verify, manifest, restore, check; and
recover.
"""

from pathlib import Path
from typing import cast

import click

from appliance import jobs, orders, process, shown
from appliance.cli import ask, completion, ends, inspecting, show, work
from appliance.errors import BadInputError, IncompleteDiskError
from appliance.events import Json, Result
from appliance.language import chosen, translator
from appliance.model import DiskId, Loops, Target
from appliance.rate import parse_limit
from appliance.restore import plan as plans
from appliance.seal import intent, machine, opening
from appliance.seal import verify as verification
from appliance.seal.recover import make_output
from appliance.seal.recover import recover as recover_packs
from appliance.seal.store import Store


@click.command()
@ask.store
@ask.pins
@ask.key_file
@ask.passphrase_fd
@ask.interval
@ask.as_json
def verify(
    store: Path,
    label: str | None,
    device: str,
    root: str,
    recipients: tuple[str, ...],
    key_file: Path | None,
    passphrase_fd: int | None,
    checkpoint_bytes: int,
    checkpoint_seconds: float,
    as_lines: bool,
) -> None:
    """Check the seal and read every pack; with --key open every record too.

    Without --label, or --device and --seal, the store can only be found consistent (exit code 3):
    whole, sealed by somebody.
    """
    found = Store(store.absolute())
    pins = ask.checked_pins(found, label, device, root, recipients)
    key = ask.unlock(key_file, passphrase_fd)
    with work.state() as opened:
        begun = orders.verify(opened, found, pins, key, checkpoint_bytes, checkpoint_seconds)
        work.stay(opened, begun.job, as_lines=as_lines)
        ends.tell(opened, begun.job, begun.spec, as_lines=as_lines)


@click.command()
@ask.store
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="A private key file."
)
@ask.passphrase_fd
@ask.as_json
def manifest(store: Path, key_file: Path, passphrase_fd: int | None, as_lines: bool) -> None:
    """List disks, points, blocks and unreadable ranges, as the packs' indexes tell (verify
    --key proves them).
    """
    sealed = verification.inspect(store, verification.Pins())
    key = ask.unlock(key_file, passphrase_fd)
    assert key is not None
    found: list[Json] = []
    findings = opening.open_each(
        opening.disks_of(sealed, key), key, lambda one: found.append(jobs.disk_figures(one))
    )
    machines = opening.machines_of(sealed, key)
    for one in cast("list[dict[str, Json]]", found):
        known = machines.get(DiskId(str(one["disk"])))
        if as_lines:
            show.record(one | ({} if known is None else {"told": machine.write(known)}))
            continue
        ends.show_disks([one])
        if known is not None:
            inspecting.show_machine(known, translator(chosen()))
    findings.refuse()


@click.command()
@ask.store
@click.option(
    "--to",
    "place",
    required=True,
    shell_complete=completion.directories,
    help="Where the volumes go; for the local target a directory.",
)
@ask.target
@click.option(
    "--map",
    "volumes",
    multiple=True,
    metavar="DISK=NAME",
    type=ask.TEXT,
    help="Only this disk, as that volume.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Show what would be done, write nothing.")
@click.option("--loop", is_flag=True, help="Attach the restored volumes to loop devices.")
@click.option(
    "--accept-damage",
    is_flag=True,
    help="Restore all but what damaged packs tell; catch-up sends it from the source.",
)
@ask.pins
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="A private key file."
)
@ask.passphrase_fd
@ask.limit
@ask.interval
@ask.as_json
def restore(
    store: Path,
    place: str,
    target: str,
    volumes: tuple[str, ...],
    plan_only: bool,
    loop: bool,
    accept_damage: bool,
    label: str | None,
    device: str,
    root: str,
    recipients: tuple[str, ...],
    key_file: Path,
    passphrase_fd: int | None,
    limits: tuple[str, ...],
    checkpoint_bytes: int,
    checkpoint_seconds: float,
    as_lines: bool,
) -> None:
    """Write the disks of a sealed store onto volumes, then read every block back and compare.

    Run again after any interruption: it goes on.
    """
    chosen = _chosen(volumes)
    for one in limits:
        parse_limit(one)
    found = Store(store.absolute())
    order = orders.Restore(
        store=found.path,
        target=target,
        place=place,
        volumes=chosen,
        pins=ask.checked_pins(found, label, device, root, recipients),
        limits=limits,
        accept_damage=accept_damage,
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_seconds=checkpoint_seconds,
    )
    key = ask.unlock(key_file, passphrase_fd)
    assert key is not None
    with work.state() as opened:
        loops = _loops(jobs.target_for(target, place)) if loop else None
        made = orders.plan(opened, order, key)
        if not as_lines:
            _show_plan(made)
        elif plan_only:
            show.event(Result("plan", jobs.plan_figures(made)))
        if plan_only:
            return
        begun = orders.restore(opened, order, key)
        work.stay(opened, begun.job, as_lines=as_lines)
        ends.tell(opened, begun.job, begun.spec, as_lines=as_lines)
        if loops is not None:
            _attach(loops, jobs.target_for(target, place), made, as_lines=as_lines)


def _loops(goal: Target) -> Loops:
    """The target's loop devices; refused before any work where it has none."""
    if not isinstance(goal, Loops):
        raise BadInputError(f"The target {goal.name} has no loop devices")
    return goal


def _attach(loops: Loops, goal: Target, made: plans.Plan, *, as_lines: bool) -> None:
    """Attach every restored volume to a loop device."""
    for disk in made.disks:
        info = goal.ensure_volume(disk.volume)
        node = loops.loop(info, disk.map.spec.facts.logical_sector)
        if as_lines:
            show.event(Result("loop", {"location": info.location, "device": node}))
        else:
            _ = translator(chosen())
            told = _("{location} as {node}").format(location=info.location, node=node)
            show.rows([(_("attached"), told)])


def _chosen(volumes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [one.partition("=") for one in volumes]
    for disk, _, name in pairs:
        if not disk or not name:
            raise BadInputError(
                "--map takes DISK=NAME", todo="DISK is an id, its beginning, or a serial."
            )
    return tuple((disk, name) for disk, _, name in pairs)


def _show_plan(made: plans.Plan) -> None:
    _ = translator(chosen())
    if made.sealed.trust is not verification.Trust.AUTHENTIC:
        show.line(_(ends.NOT_CONFIRMED))
    count = len(made.disks)
    told = _("Plan: {count} disk, {size}, about {content} of data")
    if count != 1:
        told = _("Plan: {count} disks, {size}, about {content} of data")
    size, content = shown.size(made.size), shown.size(made.content)
    show.line(told.format(count=count, size=size, content=content))
    body = [
        (
            one.map.spec.machine,
            one.map.spec.facts.serial,
            shown.size(one.volume.size),
            one.volume.name,
        )
        for one in made.disks
    ]
    show.table((_("MACHINE"), _("SERIAL"), _("SIZE"), _("VOLUME")), body)
    for lost in (why for one in made.disks for why in one.map.lost.values()):
        show.line(_("Damaged: {what}; what it told of will be unknown").format(what=lost.what))
    for left in made.left_out:
        show.line(_("Left out: disk {disk} is incomplete").format(disk=left.disk))


@click.command()
@ask.store
@click.option(
    "--to",
    "place",
    required=True,
    shell_complete=completion.directories,
    help="Where the volumes are.",
)
@ask.target
@ask.key_file
@ask.passphrase_fd
@ask.interval
@ask.as_json
def check(
    store: Path,
    place: str,
    target: str,
    key_file: Path | None,
    passphrase_fd: int | None,
    checkpoint_bytes: int,
    checkpoint_seconds: float,
    as_lines: bool,
) -> None:
    """Read every block of the restored volumes back from the medium and compare it with the
    manifest.
    """
    found = Store(store.absolute())
    key = ask.unlock(key_file, passphrase_fd)
    spec = jobs.CheckSpec(
        store=str(found.path),
        target=target,
        place=str(Path(place).absolute()),
        keyed=key is not None,
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_seconds=checkpoint_seconds,
    )
    with work.state() as opened:
        job = process.begin(opened, "check", found.head.shipment, place, spec, key)
        work.stay(opened, job, as_lines=as_lines)
        ends.tell(opened, job, spec, as_lines=as_lines)


@click.command()
@click.argument("packs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="A private key file."
)
@ask.passphrase_fd
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path, file_okay=False))
def recover(
    packs: tuple[Path, ...], key_file: Path, passphrase_fd: int | None, output: Path
) -> None:
    """Last resort: rebuild disks from PACKS (files or directories) and a key alone.

    No seal is looked at: whether all packs are there, and who wrote them, nobody can say.
    """
    _ = translator(chosen())
    key = ask.unlock(key_file, passphrase_fd)
    assert key is not None
    files = [
        found
        for one in packs
        for found in (
            sorted(one.glob("*.pack")) + sorted(one.glob("*.open")) if one.is_dir() else [one]
        )
    ]
    for given in packs:
        place = given.parent if given.is_dir() else given.parent.parent
        if intent.stands(place):
            show.line(_("{place} is erased in part: packs are missing.").format(place=place))
    make_output(output)
    disks, lost = recover_packs(files, key, output)
    for problem in lost:
        show.line(_("Lost: {what}").format(what=problem))
    for one in disks:
        whole = one.ended and not one.missing and not one.problems
        told = _("{path}: {whole}, {missing} blocks missing, {unreadable} unreadable ranges")
        show.line(
            told.format(
                path=one.path,
                whole=_("whole") if whole else _("NOT WHOLE"),
                missing=one.missing,
                unreadable=len(one.unreadable),
            )
        )
        for problem in one.problems:
            show.line(f"  {problem}")
    if lost or any(one.missing or one.problems or not one.ended for one in disks):
        raise IncompleteDiskError("Not everything could be recovered", todo="See the lines above.")
