"""``motiongear label``: what is stuck to the device, and sent by another path."""

from pathlib import Path

import click

from appliance.block import write_durably
from appliance.cli import ask, show
from appliance.errors import BadInputError, ExistsError
from appliance.language import Language, translator
from appliance.report import label as labels
from appliance.report import paper
from appliance.seal import verify as verification
from appliance.seal.label import Label

PRINTED_DPI = 300


@click.command()
@ask.store
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to make: .pdf, or .png of 300 dots an inch.",
)
@click.option(
    "--size",
    type=click.Choice([str(one) for one in labels.Size]),
    default=str(labels.Size.A6),
    show_default=True,
    help="A label, or a sheet with more room for hand-overs.",
)
@ask.language
def label(store: Path, out: Path, size: str, language: str) -> None:
    """Make the label of a sealed shipment: QR code, seal root as text and words, hand-overs.

    Stick one print to the device, and send another by another path: only that one proves anything.
    """
    if out.suffix not in {".pdf", ".png"}:
        raise BadInputError(f"{out} ends neither in .pdf nor in .png")
    if out.exists():
        raise ExistsError(f"{out} exists already")
    sealed = verification.inspect(store.absolute(), verification.Pins())
    head, seal = sealed.store.head, sealed.seal
    made = paper.pdf(labels.html(head, seal, labels.Size(size), Language(language)))
    if out.suffix == ".png":
        made = paper.png(made, PRINTED_DPI)[0]
    try:
        write_durably(out, made)
    except OSError as exc:
        raise BadInputError(f"{out} cannot be written ({exc.strerror})") from exc
    _ = translator(Language(language))
    show.line(_("Label: {path}").format(path=out))
    show.line(_("Stick it to the device. Send another print by another path, or this line:"))
    show.line(str(Label.of(seal)))
