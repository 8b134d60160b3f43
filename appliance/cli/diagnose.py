"""``motiongear diagnose``: what is wrong, what is safe, and what to do."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from appliance import config, shown
from appliance.cli import ask, completion, show
from appliance.diagnose import device, jobs, package
from appliance.diagnose import store as stores
from appliance.diagnose.findings import Finding, worst_first
from appliance.diagnose.kinds import Severity
from appliance.errors import FoundWrongError
from appliance.events import Json
from appliance.language import Language, translator
from appliance.model import JobId
from appliance.state import look
from appliance.state.look import Seen


@click.command()
@ask.some_store("Look at this store.")
@click.option(
    "--job",
    "-j",
    type=int,
    shell_complete=completion.jobs_in(),
    help="Look at this job.",
)
@click.option(
    "--package",
    "file",
    type=click.Path(path_type=Path),
    help="Write a support package, FILE.tar.zst, of this device and the stores it knows.",
    metavar="FILE.tar.zst",
)
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document.")
@ask.language
def diagnose(
    store: Path | None, job: int | None, file: Path | None, language: str, *, as_document: bool
) -> None:
    """Say what is wrong with this device, a store or a job, what is safe, and what to do.

    Changes nothing. What is worst stands first. The exit code is 86 where something is wrong;
    a warning (??) is not. With --package it is 0 when the package is written.
    """
    home, place = config.home(), store.absolute() if store is not None else None
    with look.seen(home) as seen:
        if file is not None:
            if job is not None and seen.state is not None:
                seen.state.job(JobId(job))  # which has to be one: all of them are in the package
            more = [place] if place is not None else []
            made = package.write(file.absolute(), home, seen, more)
            _tell_package(made, Language(language), as_document=as_document)
            return
        found = worst_first(_findings(home, seen, place, job))
    _tell(found, Language(language), as_document=as_document)
    if wrong := sum(one.severity is Severity.ERROR for one in found):
        if as_document:
            sys.exit(FoundWrongError.code)
        raise FoundWrongError(f"{wrong} of {len(found)} findings are errors")


def _findings(home: Path, seen: Seen, store: Path | None, job: int | None) -> Iterator[Finding]:
    if store is not None:
        yield from stores.findings(store)
    if job is not None:
        if seen.state is None:  # then only its log is left, and why
            yield from device.state_of(home, seen)
        yield from jobs.one(home, seen, JobId(job))
    if store is None and job is None:
        yield from device.findings(home, seen)


def _tell(found: list[Finding], language: Language, *, as_document: bool) -> None:
    if as_document:
        show.record({"findings": [one.as_json() for one in found]})
        return
    for one in found:
        for line in one.lines_in(language):
            show.line(line)


def _tell_package(made: package.Package, language: Language, *, as_document: bool) -> None:
    if as_document:
        told: Json = {"package": str(made.path), "size": made.size, "files": list(made.names)}
        show.record(told)
        return
    _ = translator(language)
    count, size = len(made.names), shown.size(made.size)
    show.line(
        _("Written: {path}, {count} files, {size}. Inside:").format(
            path=made.path, count=count, size=size
        )
    )
    for one in package.INSIDE:
        show.line(f"  - {_(one)}")
    show.line(_(package.NOT_INSIDE))
    show.line(_("Look through it before you send it; it is not encrypted."))
