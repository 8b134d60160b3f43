"""``motiongear certificate``: what was erased, as the device that did it has signed it."""

import sys
from pathlib import Path

import click

from appliance import config, papers
from appliance.cli import ask, ends, erased, show
from appliance.errors import (
    SignerMismatchError,
)
from appliance.events import Result
from appliance.jobs.erasing import certificate_path, figures, read_certificate
from appliance.language import Language, chosen, translator
from appliance.model import JobId
from appliance.seal import certificate as certificates
from appliance.seal import text
from appliance.seal.keys import FINGERPRINT_SIZE

_named = click.argument("file", metavar="FILE|JOB")


@click.group()
def certificate() -> None:
    """Certificates of erases: signed by the device, readable by anybody."""


@certificate.command()
@_named
@click.option("--device", default="", help="The fingerprint of the device that is to have erased.")
@ask.as_json
def verify(file: str, device: str, as_lines: bool) -> None:
    """Check a certificate's signature. Without --device it is only known that some device signed
    it (exit code 3).
    """
    path = _path(file)
    made = certificates.verify(read_certificate(path))
    if device:
        wanted = text.parse_either(device, FINGERPRINT_SIZE, "The device fingerprint")
        if text.grouped(wanted) != made.device_fingerprint:
            raise SignerMismatchError(
                f"The certificate was signed by {made.device_fingerprint}, not by the device "
                "expected",
                safe="Nothing was changed: it was only read.",
                todo="Ask whose device that is; do not go by this certificate.",
            )
    trust = "authentic" if device else "consistent"
    if as_lines:
        show.event(Result("certificate", {"trust": trust, **figures(path, made)}))
    else:
        _ = translator(chosen())
        erased.lines(made, _)
        show.line(
            _("AUTHENTIC: signed by the device expected, and nothing was changed since.")
            if device
            else _("Consistent: some device signed it; give --device to know which.")
        )
    if not device:
        sys.exit(ends.CONSISTENT_ONLY)


@certificate.command("show")
@_named
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it there instead: .json (the signed document), .html or .pdf.",
)
@ask.language
def show_certificate(file: str, out: Path | None, language: str) -> None:
    """What a certificate says, on the console or as a paper."""
    data = read_certificate(_path(file))
    made = certificates.verify(data)
    _ = translator(Language(language))
    if out is None:
        erased.lines(made, _)
        return
    papers.write_certificate(data, out, Language(language))
    show.line(_("Certificate: {path}").format(path=out))


@certificate.command("list")
@ask.as_records
def list_certificates(as_lines: bool) -> None:
    """The certificates kept here."""
    told, refused = papers.kept(config.home())
    if as_lines:
        for path, made in told:
            show.record({"job": _job(path), **figures(path, made)})
    else:
        _ = translator(chosen())
        show.table(
            (_("JOB"), _("AT"), _("LABELS"), _("FILE")),
            [
                (_job(path), made.at, ", ".join(one.label for one in made.erased), path)
                for path, made in told
            ],
        )
    if refused:
        raise refused[0]


def _job(path: Path) -> str:
    """The number of the job that has made a certificate kept here."""
    return path.stem.rpartition("-")[2]


def _path(asked: str) -> Path:
    """A certificate's file, by its name or the number of the job that it is of."""
    if asked.isascii() and asked.isdecimal():
        return certificate_path(config.home(), JobId(int(asked)))
    return Path(asked)
