"""``motiongear erase``: a shipment, or all there are in a place, behind a typed confirmation."""

from collections.abc import Sequence
from pathlib import Path

import click

from appliance import erasures, shown
from appliance.cli import ask, completion, ends, show, work
from appliance.errors import (
    BadInputError,
    MotionGearError,
)
from appliance.events import Result
from appliance.jobs.erasing import (
    DATA_LOST,
    NOT_DELIVERED,
    NOT_SEALED,
)
from appliance.language import Translator, chosen, translator
from appliance.seal.erasable import Found
from appliance.state import State

_GROUPS = 2  # of the seal root, the last ones: 40 bits
_MOST_NAMED = 20


@click.command()
@ask.some_store("The shipment's directory.")
@click.option(
    "--all",
    "place",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    shell_complete=completion.directories,
    help="Every shipment in this directory or below.",
)
@click.option(
    "--confirm",
    type=ask.TEXT,
    help="For scripts: the text that is asked for - the label or the last two groups of the seal "
    "root; with --all the directory.",
)
@click.option(
    "--by",
    default="",
    type=ask.TEXT,
    help="Who erases it, for the certificate; else MOTIONGEAR_NAME, else the user.",
)
@click.option(
    f"--{NOT_SEALED}", "not_sealed", is_flag=True, help="Yes, it was never sealed and shipped."
)
@click.option(
    f"--{NOT_DELIVERED}",
    "not_delivered",
    is_flag=True,
    help="Yes, nobody is known to have received it.",
)
@click.option(
    f"--{DATA_LOST}",
    "data_lost",
    is_flag=True,
    help="Yes, what only this shipment holds is lost for good.",
)
@click.option("--detach", is_flag=True, help="Start the job and return at once.")
@ask.as_json
def erase(
    store: Path | None,
    place: Path | None,
    confirm: str | None,
    by: str,
    not_sealed: bool,
    not_delivered: bool,
    data_lost: bool,
    detach: bool,
    as_lines: bool,
) -> None:
    """Erase a shipment: give its space back, tell the disk to discard it, look whether it did.

    What is to go is listed first, and a text has to be typed. What no store has is left and named.
    A shipment that nobody is known to have goes only where that was said by two options.
    """
    if (store is None) == (place is None):
        raise BadInputError("Say what is to be erased", todo="Give either --store or --all.")
    flags = {NOT_SEALED: not_sealed, NOT_DELIVERED: not_delivered, DATA_LOST: data_lost}
    told = tuple(one for one, given in flags.items() if given)
    _ = translator(chosen())
    with work.state() as opened:
        if place is not None:
            found = erasures.look_below(opened, place)
        else:
            assert store is not None
            found = [erasures.look(opened, store)]
        for one in found:
            _list(one, opened, _)
        erasures.refuse_untold(opened, found, told)
        _confirmed(found, place, confirm, _)
        begun = erasures.order(opened, found, told, by, str(place))
        if as_lines:
            show.event(Result("start", {"job": begun.job}))
        if detach:
            return
        try:
            work.stay(opened, begun.job, as_lines=as_lines)
        except MotionGearError:  # of several, some may be erased all the same
            if not as_lines:
                ends.tell_erased(opened, begun.job)
            raise
        ends.tell(opened, begun.job, begun.spec, as_lines=as_lines)


def _list(found: Found, opened: State, _: Translator) -> None:
    """What is going to be gone, and what is not; on standard error, where the question stands."""
    show.line(_("To be erased for good: {label}").format(label=found.about.label), err=True)
    show.rows(erasures.facts(found, opened, _), err=True)


def _confirmed(
    found: Sequence[Found], place: Path | None, given: str | None, _: Translator
) -> None:
    """Raises NotConfirmedError for any text but the one that is asked for."""
    if place is not None:
        texts = {str(place.absolute())}
        asked = _("Type the directory to erase {count} shipments: {wanted}").format(
            count=len(found), wanted=place.absolute()
        )
    else:
        texts = erasures.wanted(found[0])
        asked = _("Type to erase it: {wanted}").format(
            wanted=" | ".join(sorted({shown.safe(one) for one in texts}))
        )
    if given is None:
        given = click.prompt(shown.safe(asked), err=True)
    erasures.refuse_unconfirmed(given, texts)
