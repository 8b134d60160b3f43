"""``motiongear console``: the screens of the device."""

import sys
from pathlib import Path

import click

from appliance import config
from appliance.errors import BadInputError
from appliance.language import Language, chosen
from appliance.state import State


@click.command()
@click.option(
    "--lang",
    "language",
    type=click.Choice([str(one) for one in Language]),
    default=lambda: str(chosen()),
    help="The language it begins in; else MOTIONGEAR_LANG, else that of the locale.",
)
def console(language: str) -> None:
    """Open the console: disks, shipments and jobs on one screen, and wizards to ingest and seal.

    By keyboard or mouse. Jobs go on when it is left.
    """
    opened(config.ensure_home(), Language(language))


def opened(home: Path, language: Language) -> None:
    """The console over this home, until it is left. Textual draws on standard error."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadInputError(
            "The console needs a terminal",
            todo="Open it on a terminal of 80 columns and 24 lines or more.",
        )
    from appliance.tui.app import run  # noqa: PLC0415 - no other verb waits for the screens

    with State(home) as state:
        run(state, language)
