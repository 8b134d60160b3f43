"""What a certificate of erase says, in words."""

from pathlib import Path

from appliance.cli import show
from appliance.jobs.erasing import read_certificate
from appliance.language import Translator, chosen, translator
from appliance.report.certificate import told_of
from appliance.seal import certificate
from appliance.seal.certificate import Certificate


def tell(path: Path) -> None:
    """The certificate in that file; CertificateRefusedError where it is none."""
    _ = translator(chosen())
    lines(certificate.verify(read_certificate(path)), _)
    show.line(_("Certificate: {path}").format(path=path))


def lines(made: Certificate, _: Translator) -> None:
    for one in made.erased:
        show.line(_("Erased: {label}").format(label=one.label))
        show.rows(told_of(one, _))
    show.rows(
        [
            (_("device"), made.device_fingerprint),
            (_("by"), made.by),
            (_("at"), f"{made.at} ({_(made.clock)})"),
        ]
    )
