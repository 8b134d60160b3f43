"""``motiongear erase``: a shipment, or all there are in a place, behind a typed confirmation."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import click

from appliance import process, shown
from appliance.block import free_space
from appliance.cli import ask, chains, completion, ends, show, work
from appliance.errors import (
    BadInputError,
    ErasedInPartError,
    MotionGearError,
    NotAStoreError,
    NotConfirmedError,
)
from appliance.events import Result
from appliance.jobs import NOBODYS, EraseSpec, custody
from appliance.jobs.erasing import (
    DATA_LOST,
    NOT_DELIVERED,
    NOT_SEALED,
    agreed,
    delivered,
    left_off,
    refuse_used,
    wrong_with_chain,
)
from appliance.language import Translator, chosen, translator
from appliance.seal import erasable, erasing, text
from appliance.seal.certificate import MAX_ERASED, Delivered, KnownBy
from appliance.seal.chain import Finding
from appliance.seal.erasable import Found
from appliance.seal.tree import printable
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
    if len(by) > 128:
        raise BadInputError("A name has 1 to 128 characters")
    flags = {NOT_SEALED: not_sealed, NOT_DELIVERED: not_delivered, DATA_LOST: data_lost}
    told = tuple(one for one, given in flags.items() if given)
    _ = translator(chosen())
    with work.state() as opened:
        found = _looked(opened, store, place)
        for one in found:
            refuse_used(opened, one.about.shipment)
            _list(one, delivered(opened, one), wrong_with_chain(opened.home, one), _)
        for one in found:
            agreed(one, delivered(opened, one), told)
        _confirmed(found, place, confirm, _)
        by = by or custody.hands(opened.home, NOBODYS).who.name
        spec = EraseSpec(tuple(_named(one, opened) for one in found), by, told)
        single = found[0].about if len(found) == 1 else None
        title = f"erase {single.label if single else place}"
        job = process.begin(opened, "erase", single.shipment if single else NOBODYS, title, spec)
        if as_lines:
            show.event(Result("start", {"job": job}))
        if detach:
            return
        try:
            work.stay(opened, job, as_lines=as_lines)
        except MotionGearError:  # of several, some may be erased all the same
            if not as_lines:
                ends.tell_erased(opened, job)
            raise
        ends.tell(opened, job, spec, as_lines=as_lines)


def _looked(opened: State, store: Path | None, place: Path | None) -> list[Found]:
    if store is not None:
        store = store.absolute()
        _refuse_unnameable(store)
        try:
            return [erasable.look(store)]
        except NotAStoreError:
            if (row := left_off(opened, store)) is None:
                raise
            raise ErasedInPartError(
                f"{store} is no store any more: job {row.id} has begun to erase it",
                todo="Resume that job: it signs the certificate.",
            ) from None
    assert place is not None
    below = erasable.stores_below(place.absolute())
    if len(below) > MAX_ERASED:
        raise BadInputError(
            f"{len(below)} shipments are more than one certificate holds: {MAX_ERASED}",
            todo="Give a directory that holds fewer of them.",
        )
    for one in below:
        _refuse_unnameable(one)
    return [erasable.look(one) for one in below]


def _refuse_unnameable(store: Path) -> None:
    """A certificate names the place; no document can hold bytes that are no text."""
    if printable(str(store)) != str(store):
        raise BadInputError(
            f"{printable(str(store))} is no text (UTF-8), so that no certificate can name it",
            todo="Rename the directory; then erase the shipment.",
        )


def _named(found: Found, state: State) -> tuple[str, str, str, int, int, str]:
    """What was confirmed. An erase that has begun already goes on under its own number."""
    about = found.about
    if found.known_by is not KnownBy.MARK:  # which nobody has signed
        state.note_shipment(about.shipment, found.path, about.label)
    goes_on = erasing.goes_on(state.home, found.path, about)
    number = about.erasure if goes_on else os.urandom(16).hex()
    return str(found.path), about.shipment, about.root, about.packs, about.size, number


def _list(found: Found, known: Delivered, wrong: Sequence[Finding], _: Translator) -> None:
    """What is going to be gone, and what is not; on standard error, where the question stands."""
    about = found.about
    root = text.grouped(bytes.fromhex(about.root)) if about.root else _("none")
    said = {
        Delivered.CUSTODY: _("yes: the receiver has confirmed it"),
        Delivered.CHECKED: _("yes: every disk was restored and checked, as is known here"),
        Delivered.NOBODY: _("NOT KNOWN: nobody is known to have it"),
    }
    rows = [
        (_("shipment"), about.shipment),
        (_("place"), str(found.path)),
        (_("seal root"), root),
        (_("packs"), f"{about.packs}, {shown.size(about.size)}"),
        (_("delivered"), said[known]),
        (_("discard"), _trimmed(found.path, _)),
    ]
    if found.unsealed:
        rows.append((_("NOT SEALED"), found.unsealed))
    if about.erasure:
        rows.append((_("begun"), _("{when}: it is erased in part").format(when=about.began)))
    for one in wrong:
        kept = _("{what}; the chain is kept in the home as it lies")
        rows.append((_("custody"), kept.format(what=chains.sentence(one))))
    rows += [(_("stays"), one) for one in found.listed.left[:_MOST_NAMED]]
    if more := found.listed.left[_MOST_NAMED:]:
        rows.append((_("stays"), _("and {count} more").format(count=len(more))))
    show.line(_("To be erased for good: {label}").format(label=about.label), err=True)
    show.rows(rows, err=True)


def _trimmed(path: Path, _: Translator) -> str:
    """What else the erase touches: a file system is told to discard as a whole."""
    told = _("all that is free on its file system, {size} and what the packs held, is discarded")
    return told.format(size=shown.size(free_space(path)))


def _confirmed(
    found: Sequence[Found], place: Path | None, given: str | None, _: Translator
) -> None:
    """Raises NotConfirmedError for any text but the one that is asked for."""
    if place is not None:
        wanted = {str(place.absolute())}
        asked = _("Type the directory to erase {count} shipments: {wanted}").format(
            count=len(found), wanted=place.absolute()
        )
    else:
        about = found[0].about
        wanted = {about.label, shown.safe(about.label)}
        if about.root:
            wanted.add("-".join(text.grouped(bytes.fromhex(about.root)).split("-")[-_GROUPS:]))
        asked = _("Type to erase it: {wanted}").format(
            wanted=" | ".join(sorted({shown.safe(one) for one in wanted}))
        )
    if given is None:
        given = click.prompt(shown.safe(asked), err=True)
    typed = {given, given.strip()}
    plain = text.SEPARATORS.sub("-", given.strip()).upper()
    if not typed & wanted and not (plain in wanted and _ROOT_END.fullmatch(plain)):
        raise NotConfirmedError("What was typed is not what was asked for")


_ROOT_END = re.compile(rf"[A-Z2-7]{{4}}(-[A-Z2-7]{{4}}){{{_GROUPS - 1}}}")
