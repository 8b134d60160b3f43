"""An erase, as an operator orders it at a console of whatever kind: what is looked at before it is
asked for, which text has to be typed, and the job.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from appliance import handover, process, shown
from appliance.block import free_space
from appliance.errors import BadInputError, ErasedInPartError, NotAStoreError, NotConfirmedError
from appliance.jobs import NOBODYS, EraseSpec, custody
from appliance.jobs.erasing import agreed, delivered, left_off, refuse_used, wrong_with_chain
from appliance.language import Translator, marked
from appliance.orders import Begun
from appliance.seal import deed, erasable, erasing, text
from appliance.seal.certificate import MAX_ERASED, Delivered, KnownBy
from appliance.seal.erasable import Found
from appliance.seal.tree import printable
from appliance.state import State

_DELIVERED = {
    Delivered.CUSTODY: marked("yes: the receiver has confirmed it"),
    Delivered.CHECKED: marked("yes: every disk was restored and checked, as is known here"),
    Delivered.NOBODY: marked("NOT KNOWN: nobody is known to have it"),
}
_MOST_NAMED = 20
_GROUPS = 2  # of the seal root, the last ones: 40 bits
_ROOT_END = re.compile(rf"[A-Z2-7]{{4}}(-[A-Z2-7]{{4}}){{{_GROUPS - 1}}}")
_DIGITS = 8  # of the shipment's id, the last ones: 32 bits


def look(state: State, store: Path) -> Found:
    """What would go of one shipment; refuses what cannot be erased, or is at work."""
    store = store.absolute()
    _refuse_unnameable(store)
    try:
        found = erasable.look(store)
    except NotAStoreError:
        if (row := left_off(state, store)) is None:
            raise
        raise ErasedInPartError(
            f"{store} is no store any more: job {row.id} has begun to erase it",
            todo="Resume that job: it signs the certificate.",
        ) from None
    refuse_used(state, found.about.shipment)
    return found


def look_below(state: State, place: Path) -> list[Found]:
    """The same, of every shipment at ``place`` or below."""
    below = erasable.stores_below(place.absolute())
    if len(below) > MAX_ERASED:
        raise BadInputError(
            f"{len(below)} shipments are more than one certificate holds: {MAX_ERASED}",
            todo="Give a directory that holds fewer of them.",
        )
    for one in below:
        _refuse_unnameable(one)
    found = [erasable.look(one) for one in below]
    for each in found:
        refuse_used(state, each.about.shipment)
    return found


def _refuse_unnameable(store: Path) -> None:
    """A certificate names the place; no document can hold bytes that are no text."""
    if printable(str(store)) != str(store):
        raise BadInputError(
            f"{printable(str(store))} is no text (UTF-8), so that no certificate can name it",
            todo="Rename the directory; then erase the shipment.",
        )


def facts(found: Found, state: State, _: Translator) -> list[tuple[str, str]]:
    """What is going to be gone, and what is not, as names and texts."""
    about = found.about
    root = text.grouped(bytes.fromhex(about.root)) if about.root else _("none")
    rows = [
        (_("shipment"), about.shipment),
        (_("place"), str(found.path)),
        (_("seal root"), root),
        (_("packs"), f"{about.packs}, {shown.size(about.size)}"),
        (_("delivered"), _(_DELIVERED[delivered(state, found)])),
        (_("discard"), _trimmed(found.path, _)),
    ]
    if found.unsealed:
        rows.append((_("NOT SEALED"), found.unsealed))
    if about.erasure:
        rows.append((_("begun"), _("{when}: it is erased in part").format(when=about.began)))
    for one in wrong_with_chain(state.home, found):
        kept = _("{what}; the chain is kept in the home as it lies")
        rows.append((_("custody"), kept.format(what=handover.sentence(one, _))))
    rows += [(_("stays"), one) for one in found.listed.left[:_MOST_NAMED]]
    if more := found.listed.left[_MOST_NAMED:]:
        rows.append((_("stays"), _("and {count} more").format(count=len(more))))
    return rows


def _trimmed(path: Path, _: Translator) -> str:
    """What else the erase touches: a file system is told to discard as a whole."""
    told = _("all that is free on its file system, {size} and what the packs held, is discarded")
    return told.format(size=shown.size(free_space(path)))


def wanted(found: Found) -> set[str]:
    """What may be typed to confirm it: the label, or the last groups of the seal root. Where there
    is none, the end of the shipment's id: not every keyboard has what a label is written with.
    """
    about = found.about
    texts = {about.label, shown.safe(about.label)}
    if about.root:
        texts.add("-".join(text.grouped(bytes.fromhex(about.root)).split("-")[-_GROUPS:]))
    else:
        texts.add(about.shipment[-_DIGITS:])
    return texts


def is_confirmed(given: str, texts: set[str]) -> bool:
    """Whether what was typed is one of these; groups of a root also as they are read aloud."""
    plain = text.SEPARATORS.sub("-", given.strip()).upper()
    asked_group = plain in texts and _ROOT_END.fullmatch(plain) is not None
    return bool({given, given.strip()} & texts) or asked_group


def refuse_unconfirmed(given: str, texts: set[str]) -> None:
    if not is_confirmed(given, texts):
        raise NotConfirmedError("What was typed is not what was asked for")


def refuse_untold(state: State, found: Sequence[Found], told: tuple[str, ...]) -> None:
    """Refuse what may be the only copy, until that was said twice."""
    for one in found:
        agreed(one, delivered(state, one), told)


def order(
    state: State, found: Sequence[Found], told: tuple[str, ...], by: str = "", place: str = ""
) -> Begun:
    """The job that erases what was confirmed. ``by`` is who asks for it, ``place`` where several
    are.
    """
    if len(by) > deed.NAME:
        raise BadInputError(f"A name has 1 to {deed.NAME} characters")
    refuse_untold(state, found, told)
    by = by or custody.hands(state.home, NOBODYS).who.name
    named, numbers = [], set[str]()
    for one in found:
        named.append(_named(one, state, numbers))
        numbers.add(named[-1][-1])
    spec = EraseSpec(tuple(named), by, told)
    single = found[0].about if len(found) == 1 else None
    title = single.label if single else place
    shipment = single.shipment if single else NOBODYS
    return Begun(process.begin(state, "erase", shipment, title, spec), spec)


def _named(found: Found, state: State, taken: set[str]) -> tuple[str, str, str, int, int, str]:
    """What was confirmed. An erase that has begun already goes on under its own number, but of
    copies of one place only the first.
    """
    about = found.about
    if found.known_by is not KnownBy.MARK:  # which nobody has signed
        state.note_shipment(about.shipment, found.path, about.label)
    goes_on = about.erasure not in taken and erasing.goes_on(state.home, found.path, about)
    number = about.erasure if goes_on else os.urandom(16).hex()
    return str(found.path), about.shipment, about.root, about.packs, about.size, number
