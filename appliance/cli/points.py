"""``motiongear points``: what replicas held, which point is to be booted, and clones of it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar, cast

import click

from appliance import orders
from appliance.catchup import points as found_points
from appliance.catchup.points import Keeps, RecoveryPoint
from appliance.catchup.wire import Form
from appliance.cli import ask, completion, show
from appliance.cli.show import translated as _
from appliance.errors import BadInputError
from appliance.events import Json
from appliance.language import marked
from appliance.model import CloneInfo
from appliance.seal.canon import written

F = TypeVar("F", bound=Callable[..., object])


def _where(function: F) -> F:
    """Which target, and which machine on it."""
    for option in (
        click.option(
            "--machine",
            "-m",
            type=ask.TEXT,
            help="The machine; needed where there are several.",
        ),
        ask.target,
        click.option(
            "--to",
            "place",
            required=True,
            shell_complete=completion.directories,
            help="Where the replicas are; for the local target a directory.",
        ),
    ):
        function = option(function)
    return function


@click.group()
def points() -> None:
    """Recovery points: all disks of a machine as they were at the end of a round.

    A POINT is its number, `latest` for the newest that is complete, or `chosen`. The replica
    itself is never booted, and changed by rounds alone: what is booted is a clone.
    """


@points.command("list")
@_where
@ask.as_records
def list_points(place: str, target: str, machine: str | None, as_lines: bool) -> None:
    """The points there are, the chosen one marked with *, and the clones made of them."""
    goal = orders.keeps(target, place)
    found = found_points.points_of(goal.snapshots(), machine)
    clones = [one for one in goal.clones() if machine in {None, one.of.machine}]
    if as_lines:
        for one in found:
            show.record(_figures(one, clones))
        return
    body = [
        (
            "*" if one.chosen else "",
            one.machine,
            one.point,
            _standing(one),
            _taken(one.taken),
            _(_FORMS.get(_form(one.form), _form(one.form))),
            ", ".join(_clones_of(one, clones)),
        )
        for one in found
    ]
    head = (_("MACHINE"), _("POINT"), _("STATE"), _("TAKEN"), _("DISKS READ"), _("CLONES"))
    show.table(("", *head), body)


def _standing(one: RecoveryPoint) -> str:
    if one.complete:
        return _("complete")
    return _("{some} of {all} disks").format(some=len(one.snapshots), all=len(one.disks))


@points.command()
@click.argument("point", type=ask.TEXT, shell_complete=completion.points("latest", "none"))
@_where
@ask.as_records
def choose(point: str, place: str, target: str, machine: str | None, as_lines: bool) -> None:
    """Choose the POINT to boot; `none` takes the choice back. Retention never removes it."""
    goal = orders.keeps(target, place)
    mine = _points(goal, machine)
    if point == "none":
        found_points.choose_none(goal, mine[0].machine)
        if not as_lines:
            show.line(_("No point of {machine} is chosen.").format(machine=mine[0].machine))
        return
    one = found_points.pick(mine, point)
    found_points.choose(goal, one)
    if as_lines:
        (now,) = [now for now in _points(goal, one.machine) if now.chosen]
        show.record(_figures(now, goal.clones()))
    else:
        show.line(_("Chosen: {point}.").format(point=_words(one)))


@points.command()
@click.argument("point", type=ask.TEXT, shell_complete=completion.points("latest", "chosen"))
@click.option(
    "--name",
    "-n",
    required=True,
    type=ask.TEXT,
    help="What the clones are called, all disks of them.",
)
@_where
@ask.as_records
def clone(
    point: str, name: str, place: str, target: str, machine: str | None, as_lines: bool
) -> None:
    """Make volumes of a POINT that may be changed and booted, one for every disk.

    Neither the point nor the replica changes with them. `points remove NAME` removes them again.
    """
    goal = orders.keeps(target, place)
    one = found_points.pick(_points(goal, machine), point)
    made = found_points.clone(goal, one, name)
    if as_lines:
        for info in made:
            show.record(_clone_figures(info))
        return
    show.line(_("Cloned as {name}: {point}.").format(name=name, point=_words(one)))
    show.table(
        (_("VOLUME"), _("FORMAT"), _("MADE BY"), _("PATH")),
        [(info.of.volume.name, info.format, info.how, info.location) for info in made],
    )


@points.command()
@click.argument("name", type=ask.TEXT)
@_where
@ask.as_records
def remove(name: str, place: str, target: str, machine: str | None, as_lines: bool) -> None:
    """Remove all clones called NAME, with everything that was written to them."""
    gone = found_points.remove(orders.keeps(target, place), name, machine)
    for info in gone:
        if as_lines:
            show.record(_clone_figures(info))
        else:
            show.line(_("Removed {what}.").format(what=info.location))


@points.command()
@click.argument(
    "point",
    metavar="[POINT]",
    required=False,
    type=ask.TEXT,
    shell_complete=completion.points(),
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="Instead of a POINT: all but the newest N complete ones and the chosen one.",
    metavar="N",
)
@_where
@ask.as_records
@click.confirmation_option(prompt="What is discarded cannot be had back. Sure?")
def discard(
    point: str | None,
    keep: int | None,
    place: str,
    target: str,
    machine: str | None,
    as_lines: bool,
) -> None:
    """Remove a POINT: the snapshots of all its disks. Clones that do not need it stay."""
    if (point is None) == (keep is None):
        raise BadInputError("Give either a POINT or --keep N, not both")
    goal = orders.keeps(target, place)
    mine = _points(goal, machine)
    if keep is not None:
        gone = found_points.retain(goal, mine[0].machine, keep, min_age_seconds=0)
    else:
        gone = found_points.numbered(mine, str(point))
        for one in gone:
            found_points.discard(goal, one)
    if as_lines:
        for one in gone:
            show.record(_figures(one, ()))
        return
    for one in gone:
        show.line(_("Discarded: {point}.").format(point=_words(one)))
    if not gone:
        show.line(_("Nothing need be discarded."))


def _points(goal: Keeps, machine: str | None) -> list[RecoveryPoint]:
    """The points of the machine that is meant; at least one."""
    found = found_points.points_of(goal.snapshots())
    meant = found_points.machine_of(found, machine)
    return [one for one in found if one.machine == meant]


def _words(one: RecoveryPoint) -> str:
    form = _(_FORMS.get(_form(one.form), _form(one.form)))
    told = _("point {point} of {machine}, {taken}, {form}")
    return told.format(point=one.point, machine=one.machine, taken=_taken(one.taken), form=form)


def _taken(seconds: int) -> str:
    """When, by the source's clock, which may say anything."""
    try:
        return written(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _form(number: int) -> str:
    known = {one.value: one.name.lower().replace("_", "-") for one in Form}
    return known.get(number, str(number))


_FORMS = {
    "fuzzy": marked("fuzzy"),
    "crash-consistent": marked("crash-consistent"),
    "quiesced": marked("quiesced"),
}


def _clones_of(point: RecoveryPoint, clones: Sequence[CloneInfo]) -> list[str]:
    specs = {one.spec for one in point.snapshots}
    return sorted({found_points.name_of(one) for one in clones if one.of in specs})


def _figures(one: RecoveryPoint, clones: Sequence[CloneInfo]) -> Json:
    return {
        "machine": one.machine,
        "point": one.point,
        "complete": one.complete,
        "chosen": one.chosen,
        "taken": _taken(one.taken),
        "form": _form(one.form),
        "disks": [
            {"disk": disk, "root": root} for disk, root in zip(one.disks, one.roots, strict=False)
        ],
        "snapshots": [
            {"disk": kept.spec.volume.disk, "location": kept.location, "how": kept.how}
            for kept in one.snapshots
        ],
        "clones": cast("list[Json]", _clones_of(one, clones)),
    }


def _clone_figures(info: CloneInfo) -> Json:
    return {
        "name": found_points.name_of(info),
        "machine": info.of.machine,
        "point": info.of.point,
        "disk": info.of.volume.disk,
        "volume": info.name,
        "location": info.location,
        "format": info.format,
        "how": info.how,
    }
