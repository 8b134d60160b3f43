"""``motiongear diagnose``: what is wrong, what is safe, and what to do."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from appliance import config
from appliance.cli import ask, completion, show
from appliance.diagnose import device, jobs
from appliance.diagnose import store as stores
from appliance.diagnose.findings import Finding, worst_first
from appliance.diagnose.kinds import Severity
from appliance.errors import FoundWrongError
from appliance.language import Language, translator
from appliance.model import JobId
from appliance.state import look
from appliance.state.look import Seen

_MARKS = {Severity.ERROR: "!!", Severity.WARNING: "??", Severity.OK: "ok"}


@click.command()
@click.option(
    "--store",
    "-s",
    type=click.Path(path_type=Path, file_okay=False),
    help="Look at this store.",
)
@click.option(
    "--job",
    "-j",
    type=int,
    shell_complete=completion.jobs_in(),
    help="Look at this job.",
)
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document.")
@ask.language
def diagnose(store: Path | None, job: int | None, language: str, *, as_document: bool) -> None:
    """Say what is wrong with this device, a store or a job, what is safe, and what to do.

    Changes nothing. What is worst stands first. The exit code is 86 where something is wrong;
    a warning (??) is not.
    """
    home = config.home()
    with look.seen(home) as seen:
        found = worst_first(_findings(home, seen, store, job))
    if as_document:
        show.record({"findings": [one.as_json() for one in found]})
    else:
        _tell(found, Language(language))
    if wrong := sum(one.severity is Severity.ERROR for one in found):
        if as_document:
            sys.exit(FoundWrongError.code)
        raise FoundWrongError(f"{wrong} of {len(found)} findings are errors")


def _findings(home: Path, seen: Seen, store: Path | None, job: int | None) -> Iterator[Finding]:
    if store is not None:
        yield from stores.findings(store.absolute())
    if job is not None:
        yield from jobs.one(home, seen, JobId(job))
    if store is None and job is None:
        yield from device.findings(home, seen)


def _tell(found: list[Finding], language: Language) -> None:
    _ = translator(language)
    for one in found:
        told, behind = one.told(language), one.as_json()
        code = f", {behind['code']} {behind['error']}" if behind["code"] else ""
        show.line(f"{_MARKS[one.severity]}  {told.what} ({one.kind}{code})")
        rows = [(_("Safe"), told.safe), (_("Do"), told.todo), (_("Type"), one.verb)]
        show.rows([row for row in rows if row[1]])
        for line in one.lines:
            show.line(f"    {line}")
