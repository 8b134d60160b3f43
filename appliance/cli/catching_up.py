"""``motiongear gate``, ``enrol`` and ``catch-up``: the two ends of the line."""

from pathlib import Path

import click

from appliance import orders, process
from appliance.catchup import rounds
from appliance.catchup.enrol import Code, Gates, Registry
from appliance.catchup.gate import identity_of
from appliance.catchup.link import Address
from appliance.catchup.replicas import Replicas
from appliance.cli import ask, completion, ends, show, work
from appliance.cli.show import translated as _
from appliance.config import ensure_home
from appliance.errors import BadInputError, UnknownNameError
from appliance.jobs import NOBODYS, CatchUpSpec, ReplicaCheckSpec, target_for
from appliance.language import marked
from appliance.model import VolumeState
from appliance.rate import parse_limit

_STATES = {
    VolumeState.PARTIAL: marked("partial"),
    VolumeState.RESTORED: marked("restored"),
    VolumeState.CHECKED: marked("checked"),
    VolumeState.BAD: marked("bad"),
    VolumeState.HURT: marked("hurt"),
    VolumeState.REPLICA: marked("replica"),
}
_place = click.option(
    "--to",
    "place",
    required=True,
    callback=lambda _, __, given: str(Path(given).absolute()),  # a job works elsewhere
    shell_complete=completion.directories,
    help="Where the replicas are.",
)
_machine = click.option(
    "--machine", "-m", required=True, type=ask.TEXT, help="The machine's name."
)
_gate = click.option(
    "--gate", "address", required=True, type=ask.TEXT, help="The gate's address, host:port."
)


@click.group()
def gate() -> None:
    """At the destination: let machines in, and take their rounds into the replicas."""


@gate.command()
@_machine
@click.option(
    "--hours", default=24.0, show_default=True, help="How long the code can be used, once."
)
@click.option(
    "--new-disks", is_flag=True, help="The machine may bring disks that were never restored here."
)
@ask.as_records
def invite(machine: str, hours: float, new_disks: bool, as_lines: bool) -> None:
    """Make an enrolment code for a machine. It travels like a password."""
    code, made = orders.invite(ensure_home(), machine, hours, new_disks=new_disks)
    if as_lines:
        show.record({"code": str(code), "machine": machine, "expires": made.expires})
        return
    told = _("Enrolment code for {machine!r}, to be used once before {end}:")
    show.line(told.format(machine=machine, end=made.expires))
    show.line(f"  {code}")
    show.line(_("At the machine: motiongear enrol --gate ADDRESS, then type the code."))


@gate.command()
@_place
@ask.target
@click.option(
    "--listen",
    type=ask.TEXT,
    default=orders.LISTEN,
    show_default=True,
    help="Address and port.",
)
@click.option(
    "--keep",
    default=orders.KEEP,
    show_default=True,
    help="Recovery points kept of each machine.",
)
@click.option(
    "--keep-hours",
    default=orders.KEEP_HOURS,
    show_default=True,
    help="Younger recovery points all stay, and are not counted: a machine that is no longer "
    "yours can push no older one out before that.",
)
@ask.as_json
def serve(
    place: str, target: str, listen: str, keep: int, keep_hours: float, as_lines: bool
) -> None:
    """Take rounds until stopped (motiongear jobs stop)."""
    with work.state() as opened:
        begun = orders.gate(opened, target, place, listen, keep, keep_hours)
        work.stay(opened, begun.job, as_lines=as_lines)


@gate.command("machines")
@ask.as_records
def list_machines(as_lines: bool) -> None:
    """The machines that are enrolled here, and the keys they are known by."""
    home = ensure_home()
    registry = Registry(home)
    known = list(registry.machines())
    if as_lines:
        for one in known:
            show.record({"machine": one.machine, "key": one.fingerprint, "since": one.enrolled})
    else:
        show.rows([(_("this gate's key"), identity_of(home).fingerprint)])
        body = [(one.machine, one.fingerprint, one.enrolled) for one in known]
        show.table((_("MACHINE"), _("KEY"), _("ENROLLED")), body)
    registry.refuse_damaged()  # its machine is not let in until it enrols anew


@gate.command()
@_machine
def forget(machine: str) -> None:
    """Refuse a machine's key from now on."""
    if not Registry(ensure_home()).forget(machine):
        raise UnknownNameError(f"No machine {machine!r} is enrolled here")
    told = _("{machine!r} is refused from now on, until it enrols again.")
    show.line(told.format(machine=machine))


@gate.command()
@_place
@ask.target
@_machine
@ask.as_records
def replicas(place: str, target: str, machine: str, as_lines: bool) -> None:
    """The replicas of a machine: which volume follows which disk, and how far it is."""
    found = Replicas(ensure_home(), target_for(target, place)).of(machine)
    if as_lines:
        for one in found:
            show.record(
                {
                    "disk": one.disk,
                    "point": one.point(),
                    "location": one.info.location,
                    "state": one.info.state,
                    "root": one.root().hex(),
                }
            )
        return
    body = [
        (one.disk, one.point(), _(_STATES[one.info.state]), one.info.location) for one in found
    ]
    show.table((_("DISK"), _("POINT"), _("STATE"), _("VOLUME")), body)


@gate.command("check")
@_place
@ask.target
@_machine
@ask.interval
@ask.as_json
def check_replicas(
    place: str,
    target: str,
    machine: str,
    checkpoint_bytes: int,
    checkpoint_seconds: float,
    as_lines: bool,
) -> None:
    """Read every block of a machine's replicas back. The next round sends what is wrong."""
    spec = ReplicaCheckSpec(target, place, machine, checkpoint_bytes, checkpoint_seconds)
    with work.state() as opened:
        job = process.begin(opened, "gate-check", NOBODYS, machine, spec)
        work.stay(opened, job, as_lines=as_lines)
        ends.tell(opened, job, spec, as_lines=as_lines)


@click.command()
@_gate
@click.option("--code-fd", type=int, help="Read the code from this open descriptor.")
@ask.as_records
def enrol(address: str, code_fd: int | None, as_lines: bool) -> None:
    """Have this machine's key known to a gate, with the code its operator made."""
    at = Address.parse(address)
    code = Code.parse(ask.secret(code_fd, _("Enrolment code")))
    home = ensure_home()
    enrolled = rounds.enrol(home, at, code)
    Gates(home).note(enrolled)
    if as_lines:
        show.record({"gate": enrolled.address, "machine": enrolled.machine})
        return
    told = _("This machine is {machine!r} to the gate at {address}.")
    show.line(told.format(machine=enrolled.machine, address=enrolled.address))


@click.command("catch-up")
@_gate
@click.option(
    "--disk",
    "-d",
    "disks",
    multiple=True,
    required=True,
    type=ask.TEXT,
    metavar="SOURCE[=DISK]",
    shell_complete=completion.files,
    help="A disk of this machine (all of them make one point), and if need be which disk of the "
    "shipment it is; =new sends one that was never shipped.",
)
@click.option("--rounds", "most", default=20, show_default=True, help="At most so many rounds.")
@click.option(
    "--short",
    "short_seconds",
    default=60.0,
    show_default=True,
    help="Stop when the next round would take no longer, in seconds.",
)
@click.option("--final", is_flag=True, help="One last round, from a frozen source.")
@click.option(
    "--stopped",
    is_flag=True,
    help="With --final: nothing writes to what cannot be frozen; I say so.",
)
@click.option(
    "--freeze-seconds",
    default=300.0,
    show_default=True,
    help="With --final: thaw after that long, come what may.",
)
@click.option(
    "--patience-seconds",
    default=120.0,
    show_default=True,
    help="How long a line that was cut is waited for.",
)
@ask.limit
@ask.as_json
def catch_up(
    address: str,
    disks: tuple[str, ...],
    most: int,
    short_seconds: float,
    final: bool,
    stopped: bool,
    freeze_seconds: float,
    patience_seconds: float,
    limits: tuple[str, ...],
    as_lines: bool,
) -> None:
    """Send what has changed on this machine's disks, round after round, until the next would be
    short; then, with --final, one last round from a frozen source.

    Run again after any interruption: it goes on.
    """
    for one in limits:
        parse_limit(one)
    if stopped and not final:
        raise BadInputError("--stopped belongs to --final")
    if most < 1 or freeze_seconds <= 0 or patience_seconds < 0:
        raise BadInputError("Rounds and seconds must be more than none")
    spec = CatchUpSpec(
        gate=str(Address.parse(address)),
        disks=tuple(_disk(one) for one in disks),
        limits=limits,
        rounds=most,
        short_seconds=short_seconds,
        final=final,
        stopped=stopped,
        freeze_seconds=freeze_seconds,
        patience_seconds=patience_seconds,
    )
    with work.state() as opened:
        job = process.begin(opened, "catch-up", NOBODYS, spec.gate, spec)
        work.stay(opened, job, as_lines=as_lines)
        ends.tell(opened, job, spec, as_lines=as_lines)


def _disk(given: str) -> tuple[str, str]:
    """A source and which disk it is; a path may hold a = of its own."""
    source, _, disk = given.rpartition("=")
    if source and (disk == "new" or all(one in "0123456789abcdefABCDEF" for one in disk)):
        return str(Path(source).absolute()), disk
    return str(Path(given).absolute()), ""
