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
@click.option(
    "--demo",
    "is_demo",
    is_flag=True,
    help="Play what two real migrations have told, on these screens; nothing of this machine is "
    "touched.",
)
def console(language: str, is_demo: bool) -> None:
    """Open the console: disks, shipments and jobs on one screen, and wizards from ingest to
    cut-over.

    By keyboard or mouse. Jobs go on when it is left.
    """
    if is_demo:
        _refuse_no_terminal()
        from appliance.tui.app import replay  # noqa: PLC0415 - no other verb waits for the screens

        replay(Language(language))
    else:
        opened(config.ensure_home(), Language(language))


def opened(home: Path, language: Language) -> None:
    """The console over this home, until it is left."""
    _refuse_no_terminal()
    from appliance.tui.app import run  # noqa: PLC0415 - no other verb waits for the screens

    with State(home) as state:
        run(state, language)


def _refuse_no_terminal() -> None:
    """Textual draws on standard error."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadInputError(
            "The console needs a terminal",
            todo="Open it on a terminal of 80 columns and 24 lines or more.",
        )
