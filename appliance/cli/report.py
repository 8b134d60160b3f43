"""``motiongear report``: what is known of a shipment's way, signed, as JSON, HTML and PDF."""

import sys
from pathlib import Path

import click

from appliance import papers
from appliance.cli import ask, completion, ends, show, work
from appliance.events import Result
from appliance.language import Language, chosen, translator
from appliance.report import document, view
from appliance.report.document import Signed
from appliance.report.publish import publish, refuse_taken
from appliance.seal.verify import Trust

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def report() -> None:
    """The migration report: what is known of a shipment, from its first disk to the cut-over.

    The JSON is signed by the device that made it; HTML and PDF show what it says.
    """


@report.command()
@ask.some_store("The shipment's directory (or MOTIONGEAR_STORE).", "MOTIONGEAR_STORE")
@click.option(
    "--shipment",
    default="",
    type=ask.TEXT,
    help="The shipment's id or its beginning, where its directory is not at hand.",
)
@click.option(
    "--to",
    "places",
    multiple=True,
    shell_complete=completion.directories,
    help="Where its volumes are, beside the places that jobs here restored to.",
)
@ask.target
@ask.key_file
@ask.passphrase_fd
@click.option(
    "--with",
    "others",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A report made on another device or at a source: what it tells is taken over.",
)
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The certificate of an erase of the shipment.",
)
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="DIR/NAME: NAME.json, NAME.en.html, NAME.en.pdf and so on are made.",
)
@click.option(
    "--lang",
    "languages",
    multiple=True,
    type=click.Choice([str(one) for one in Language]),
    help="A language of the pages; default: all.",
)
@click.option("--pdf/--no-pdf", default=True, help="Make PDF too.")
@ask.as_json
def make(
    store: Path | None,
    shipment: str,
    places: tuple[str, ...],
    target: str,
    key_file: Path | None,
    passphrase_fd: int | None,
    others: tuple[Path, ...],
    certificates: tuple[Path, ...],
    out: Path,
    languages: tuple[str, ...],
    pdf: bool,
    as_lines: bool,
) -> None:
    """Gather what store, targets and this device know of a shipment, and sign it.

    With --key the disks are opened by their indexes; no block is read. Nothing is changed.
    """
    refuse_taken(out)
    told = [document.parse(papers.read(one)) for one in others]
    with work.state() as opened:
        found, about = papers.about(opened, store, shipment)
        targets = papers.targets(opened, about, target, places)
        key = ask.unlock(key_file, passphrase_fd)
        erased = [papers.read(one) for one in certificates]
        signed = papers.report(opened, about, found, targets, key, told, erased)
    chosen_ones = [Language(one) for one in languages] or list(Language)
    files = publish(signed, out, chosen_ones, pdf=pdf)
    if as_lines:
        names = [str(one) for one in files]
        show.event(Result("report", {"files": list(names), "digest": signed.digest()}))
        return
    _ = translator(chosen())
    for path in files:
        show.line(_("Written: {path}").format(path=path))
    _show(signed, chosen())


@report.command()
@_file
@click.option(
    "--device", default="", help="The fingerprint of the device that should have signed."
)
@ask.as_json
def verify(file: Path, device: str, as_lines: bool) -> None:
    """Check the signature of a report FILE (the JSON).

    Without --device it can only be found consistent (exit code 3): as somebody signed it.
    """
    signed, trust = document.verified(papers.read(file), device)
    if as_lines:
        show.event(
            Result(
                "report-verified",
                {
                    "trust": trust,
                    "signer": signed.fingerprint,
                    "shipment": signed.report.shipment.id,
                    "created": signed.report.created,
                    "digest": signed.digest(),
                },
            )
        )
    else:
        _tell(signed, trust)
    if trust is not Trust.AUTHENTIC:
        sys.exit(ends.CONSISTENT_ONLY)


def _tell(signed: Signed, trust: Trust) -> None:
    _ = translator(chosen())
    if trust is Trust.AUTHENTIC:
        show.line(_("AUTHENTIC: signed by the device expected, and nothing was changed since."))
    else:
        show.line(_("Consistent: as somebody signed it. Who that was, --device would confirm."))
    show.rows(
        [
            (_("signer"), signed.fingerprint),
            (_("shipment"), signed.report.shipment.id),
            (_("label"), signed.report.shipment.label),
            (_("made"), signed.report.created),
            ("BLAKE3", signed.digest()),
        ]
    )


@report.command("show")
@_file
@ask.language
def show_report(file: Path, language: str) -> None:
    """The summary of a report FILE (the JSON), its signature checked."""
    signed = document.parse(papers.read(file))
    _show(signed, Language(language))


def _show(signed: Signed, language: Language) -> None:
    marks = {"fine": "ok", "watch": "!!", "unknown": "??"}
    seen = view.View(signed, translator(language))
    for one in seen.lines():
        show.line(f"{marks[one.mark]}  {one.name}: {one.text}")
    for flaw in seen.remarks():
        show.line(f"    {flaw}")
    for gap in signed.report.gaps:
        show.line(f"??  {gap}")
