"""``motiongear custody``: through whose hands a shipment went."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from appliance import handover
from appliance.cli import ask, ends, show, work
from appliance.cli import chains as words
from appliance.errors import (
    CustodyRefusedError,
)
from appliance.events import Json, Result
from appliance.handover import Hands
from appliance.jobs import custody as custodian
from appliance.language import chosen, translator
from appliance.seal import chain, deed
from appliance.seal import custody as chains
from appliance.seal.chain import Finding
from appliance.seal.custody import Deed, Who
from appliance.seal.identity import Device, device_fingerprint
from appliance.seal.store import Store

F = TypeVar("F", bound=Callable[..., object])


@click.group()
def custody() -> None:
    """Who had a shipment: a chain of signed records, checked by anyone, offline."""


def _by(function: F) -> F:
    """Who does it: options, else what the environment says."""
    for name, what in (
        ("--by", "Your name; else MOTIONGEAR_NAME, else the user."),
        ("--organisation", "Your organisation; else MOTIONGEAR_ORGANISATION."),
        ("--where", "Where you are; else MOTIONGEAR_WHERE, else the host."),
    ):
        function = click.option(name, default="", type=ask.TEXT, help=what)(function)
    return function


_place = click.argument("place", type=click.Path(path_type=Path, file_okay=False, exists=True))


@custody.command()
def key() -> None:
    """The public key of this home, to be named as the receiver in a hand-over."""
    with work.state() as opened:
        device = Device.of(opened.home)
    show.line(device.public)
    show.line(device.fingerprint)


@custody.command("show")
@_place
@ask.as_records
def show_records(place: Path, as_lines: bool) -> None:
    """The records of PLACE, a store or an exported chain. Their signatures are told by verify."""
    for number, one in chain.records(handover.chain_of(place)).items():
        if as_lines:
            show.event(Result("custody", _figures(number, one)))
        else:
            _show(one)


def _figures(number: int, signed: deed.Signed) -> dict[str, Json]:
    one = signed.record
    return {
        "number": number,
        "deed": one.deed,
        "at": one.at,
        "clock": one.clock,
        "name": one.who.name,
        "organisation": one.who.organisation,
        "where": one.where,
        "to": one.what.to.name,
        "to_organisation": one.what.to.organisation,
        "disk": one.what.disk,
        "note": one.what.note,
        "root": one.root,
        "signer": device_fingerprint(one.signer),
        "genuine": signed.genuine,
    }


def _show(signed: deed.Signed) -> None:
    _, one = translator(chosen()), signed.record
    told = [one.at, f"({_(handover.CLOCKS[one.clock])})", ", ".join(filter(None, _who(one.who)))]
    show.line(f"{one.number:4}  {_(handover.DEEDS[one.deed]):14}  {'  '.join(told)}")
    rows = [
        (_("where"), one.where),
        (_("to"), ", ".join(filter(None, _who(one.what.to)))),
        (_("disk"), one.what.disk),
        (_("note"), one.what.note),
        (_("signed by"), device_fingerprint(one.signer)),
    ]
    show.rows([row for row in rows if row[1]])


def _who(who: Who) -> tuple[str, str]:
    return who.name, who.organisation


@custody.command("hand-over")
@ask.store
@click.option("--to", "to", required=True, type=ask.TEXT, help="Who takes it.")
@click.option("--to-organisation", default="", type=ask.TEXT, help="For whom they take it.")
@click.option(
    "--receiver", default="", help="The receiver's public key, as `custody key` tells it there."
)
@_by
@ask.as_json
def hand_over(
    store: Path,
    to: str,
    to_organisation: str,
    receiver: str,
    by: str,
    organisation: str,
    where: str,
    as_lines: bool,
) -> None:
    """Write down that a sealed shipment leaves your hands; prints the code to compare.

    The receiver signs with `custody receive`. A courier without a key writes the code on paper.
    """
    giver, taker = Hands(by, organisation, where), Hands(to, to_organisation)
    with work.state() as opened:
        code, made = handover.hand_over(opened.home, store, taker, receiver, giver)
    if as_lines:
        show.event(
            Result("custody", {"deed": Deed.HANDED_OVER, "code": code, **custodian.figures(made)})
        )
        return
    _ = translator(chosen())
    _tell_where(made)
    show.line(_("Handed over to {name}. The code of this hand-over:").format(name=to))
    show.line(code)
    show.line(_("Both write it down, or send it to the receiver by another path than the device."))
    show.line(_(handover.APART))


@custody.command()
@ask.store
@click.option("--code", default="", help="The code that the giver has told.")
@_by
@ask.as_json
def receive(
    store: Path, code: str, by: str, organisation: str, where: str, as_lines: bool
) -> None:
    """Sign that you have a shipment that was handed over; compares the giver's code."""
    taker = Hands(by, organisation, where)
    with work.state() as opened:
        told, made = handover.receive(opened.home, store, code, taker)
    if as_lines:
        show.event(
            Result("custody", {"deed": Deed.RECEIVED, "code": told, **custodian.figures(made)})
        )
        return
    _ = translator(chosen())
    _tell_where(made)
    show.line(_("Received, and signed. It answers the hand-over with this code:"))
    show.line(told)
    if not code:
        show.line(_("Nobody has compared the code: ask the giver for it by another path."))
    show.line(_(handover.APART))


def _tell_where(made: chains.Appended) -> None:
    if made.finding is not None:
        words.tell_unsound(made.finding)
    elif not made.in_store:
        words.tell_kept_at_home()
    if made.own is not None:
        words.tell_kept_in_store(made.own)


@custody.command()
@_place
@click.option(
    "--against",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Another copy: a store, or an exported chain.",
)
@click.option(
    "--device", default="", help="The fingerprint of the device that should have sealed."
)
@ask.as_json
def verify(place: Path, against: Path | None, device: str, as_lines: bool) -> None:
    """Check the chain of PLACE, a store or an exported chain: every signature, link and deed.

    Without --device it can only be found consistent (exit code 3).
    """
    told = handover.chain_of(place)
    found = chain.verify(
        told,
        handover.expected(place, told, device),
        handover.chain_of(against) if against else None,
    )
    if as_lines:
        listed: list[Json] = [{"finding": one.kind, "number": one.number} for one in found]
        show.event(Result("custody", {"records": len(told), "findings": listed}))
    else:
        _tell(found, len(told), confirmed=bool(device))
    if any(one.is_error for one in found):
        raise CustodyRefusedError(f"The chain of custody in {place} does not hold together")
    if not device:
        sys.exit(ends.CONSISTENT_ONLY)


def _tell(found: list[Finding], count: int, *, confirmed: bool) -> None:
    _ = translator(chosen())
    for one in found:
        show.line(f"{'!!' if one.is_error else '??'}  {words.sentence(one)}")
    if not any(one.is_error for one in found):
        show.line(_("The chain holds together; records: {count}.").format(count=count))
        if not confirmed:
            show.line(
                _("Consistent: as they were signed. Whose device it was, --device would confirm.")
            )


@custody.command()
@ask.store
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The directory to make, or to bring up to date.",
)
def export(store: Path, out: Path) -> None:
    """Bring the records of a store and of this home together in a directory of their own."""
    found = Store(store.absolute())
    with work.state() as opened:
        home = chains.at_home(opened.home, found.head.shipment)
    for source in (chains.in_store(found.path), home):
        finding = chains.bring(source, out.absolute(), found.head.shipment)
        if finding is not None:
            words.tell_left_behind(source, finding)
    _ = translator(chosen())
    made = chains.read(out.absolute())
    show.line(_("Records: {count}, in {path}.").format(count=len(made), path=out))
