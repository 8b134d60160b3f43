"""``motiongear diagnose``: what is wrong, what is safe, and what to do."""

import sys

import click

from appliance import config
from appliance.cli import ask, show
from appliance.diagnose import device
from appliance.diagnose.findings import Finding, Severity, worst_first
from appliance.errors import FoundWrongError
from appliance.language import Language, translator
from appliance.state import look


@click.command()
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document.")
@ask.language
def diagnose(*, as_document: bool, language: str) -> None:
    """Say what is wrong with this device, what is safe, and what to do. Changes nothing.

    The exit code is 86 where something is wrong; a warning is not.
    """
    home = config.home()
    with look.seen(home) as seen:
        found = worst_first(device.findings(home, seen))
    if as_document:
        show.record({"findings": [one.as_json() for one in found]})
    else:
        _tell(found, Language(language))
    if wrong := sum(one.severity is Severity.ERROR for one in found):
        if as_document:
            sys.exit(FoundWrongError.code)
        raise FoundWrongError(f"Wrong: {wrong}")


def _tell(found: list[Finding], language: Language) -> None:
    _ = translator(language)
    marks = {Severity.ERROR: "!!", Severity.WARNING: "??", Severity.OK: "ok"}
    for one in found:
        told = one.told(language)
        show.line(f"{marks[one.severity]}  {told.what} ({one.kind})")
        if one.severity is not Severity.OK:
            rows = [(_("Safe"), told.safe), (_("Do"), told.todo), (_("Type"), one.verb)]
            show.rows([row for row in rows if row[1]])
