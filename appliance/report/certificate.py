"""The certificate of an erase as people read it: rows for a console, a page for paper. Neither
says more than the document does.
"""

from collections.abc import Sequence
from pathlib import Path

from appliance.language import Language, Translator, marked, translator
from appliance.report import pages
from appliance.seal import certificate
from appliance.seal.certificate import (
    Certificate,
    Delivered,
    Directory,
    Discard,
    Erased,
    KnownBy,
    Method,
    Outcome,
    Seen,
)
from appliance.seal.identity import device_fingerprint
from appliance.seal.text import grouped, words

_MOST_LEFT = 20  # names that are shown; the JSON has more
_KNOWN_BY = {
    KnownBy.SEAL: marked("as its signed seal said"),
    KnownBy.HEAD: marked("as its head said, which nobody had signed"),
    KnownBy.MARK: marked("as the mark of an erase said that had begun before; nobody signed that"),
}
_DELIVERED = {
    Delivered.CUSTODY: marked("confirmed by the receiver, in the record of custody"),
    Delivered.CHECKED: marked("every disk was restored and checked, as this device knew"),
    Delivered.NOBODY: marked("NOT KNOWN: nobody was known to have it"),
}
_TOLD = {
    "not-sealed": marked("it was never sealed and shipped"),
    "not-delivered": marked("nobody is known to have received it"),
    "data-will-be-lost": marked("what only this shipment holds is lost for good"),
}
_METHOD = {
    Method.PUNCHED: marked(
        "names removed, space given back to the file system; nothing was written over it"
    ),
    Method.TRUNCATED: marked("names removed, files cut to nothing; nothing was written over them"),
}
_DISCARD = {
    Outcome.NOT_ASKED: marked("the disk was not told"),
    Outcome.DONE: marked("the disk was told to discard all that was free: {size} bytes"),
    Outcome.NOT_SUPPORTED: marked("NOT POSSIBLE: the disk, or its file system, knows no discard"),
    Outcome.NOT_PERMITTED: marked("NOT DONE: this user may not tell the disk to discard"),
    Outcome.FAILED: marked("FAILED: the disk did not take it"),
}
# As where an erase was killed after it had told the disk, and went on.
_NOTHING_NEW = marked(
    "the disk was told to discard all that was free; it had been told of all of it before"
)
_DIRECTORY = {
    Directory.REMOVED: marked("removed"),
    Directory.KEPT: marked(
        "left: it holds other files, is where a disk is mounted, or was out of sight in the end"
    ),
}


def told_of(one: Erased, _: Translator) -> list[tuple[str, str]]:
    """What was done with one shipment and seen of it, as names and texts."""
    rows = [
        (_("shipment"), one.shipment),
        (_("seal root"), grouped(bytes.fromhex(one.root)) if one.root else _("none")),
        (_("seal number"), _sealed(one, _)),
        (_("begun on"), device_fingerprint(one.signer)),
        (_("known"), _(_KNOWN_BY[one.known_by])),
        (_("place"), one.place),
        (
            _("there were"),
            _("{packs} packs, {size} bytes in all").format(
                packs=one.packs, size=_figure(one.size)
            ),
        ),
        (_("delivered"), _(_DELIVERED[one.delivered])),
        *((_("said twice"), _(_TOLD.get(told, told))) for told in one.told),
        (_("began, ended"), f"{one.began}, {one.ended}"),
        (_("done"), _(_METHOD[one.method])),
        (_("discard"), _discarded(one.discard, _)),
        *((_("looked at"), told) for told in _looked(one.seen, _)),
        (_("directory"), _(_DIRECTORY[one.directory])),
        *((_("left"), told) for told in _left(one, _)),
    ]
    kept = (
        ("head.json", one.copies.head),
        ("seal.json", one.copies.seal),
        ("custody/", one.copies.custody),
    )
    return rows + [
        (_("kept"), _("copy of {name}, BLAKE3 {digest}").format(name=name, digest=digest))
        for name, digest in kept
        if digest
    ]


def _sealed(one: Erased, _: Translator) -> str:
    if one.root:
        return str(one.sequence)
    return (
        _("it had a seal that could not be verified")
        if one.copies.seal
        else _("it was not sealed")
    )


def _figure(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _discarded(found: Discard, _: Translator) -> str:
    said = _DISCARD[found.outcome]
    if found.outcome is Outcome.DONE and not found.size:
        said = _NOTHING_NEW
    return _(said).format(size=_figure(found.size))


def _looked(seen: Seen, _: Translator) -> list[str]:
    told = []
    if seen.taken:
        told.append(
            _(
                "{taken} pages, chosen at random and found on {device} before: now {zeros} read "
                "as zeros, {as_before} AS BEFORE, {other} as something else"
            ).format(
                taken=seen.taken,
                device=seen.device,
                zeros=seen.zeros,
                as_before=seen.as_before,
                other=seen.other,
            )
        )
    if seen.not_seen:
        told.append(
            _("{count} pages could not be looked at: {why}").format(
                count=seen.not_seen, why=_(seen.why)
            )
        )
    return told or [_("there were no pages to look at")]


def _left(one: Erased, _: Translator) -> list[str]:
    shown = [_("{name}, no part of a store").format(name=name) for name in one.left[:_MOST_LEFT]]
    more = one.left_count - len(shown)
    return shown + ([_("and {count} more").format(count=more)] if more else [])


def html(data: bytes, language: Language) -> str:
    """One page of HTML that holds all it shows; CertificateRefusedError for what is none."""
    made: Certificate = certificate.verify(data)
    translate = translator(language)
    shipments: Sequence[tuple[str, str, list[tuple[str, str]]]] = [
        (
            one.label,
            words(bytes.fromhex(one.root)) if one.root else "",
            told_of(one, translate),
        )
        for one in made.erased
    ]
    page = pages.environment(translate).get_template("certificate.html.j2")
    return page.render(
        language=language,
        made=made,
        clock=translate(made.clock),
        shipments=shipments,
        digest=certificate.digest(data),
        style=(Path(__file__).parent / "templates" / "report.css").read_text(),
    )
