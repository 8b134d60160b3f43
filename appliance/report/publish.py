"""A report as files: NAME.json, which is signed, and for each language NAME.LANG.html and .pdf.

The JSON comes last: where it is, all of them are. What cannot be written whole is not there.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from appliance.block import make_directory, write_durably
from appliance.errors import BadInputError, ExistsError
from appliance.language import Language
from appliance.report import paper, view
from appliance.report.document import Signed


def publish(signed: Signed, out: Path, languages: Sequence[Language], *, pdf: bool) -> list[Path]:
    """Write the files; ``out`` is DIR/NAME. Raises ToolMissingError before anything is written
    where ``pdf`` is wanted and cannot be made.
    """
    refuse_taken(out)
    pages = {one: view.html(signed, one) for one in languages}
    papers = {one: paper.pdf(page) for one, page in pages.items()} if pdf else {}
    found = {_named(out, f"{one}.html"): page.encode() for one, page in pages.items()}
    found |= {_named(out, f"{one}.pdf"): made for one, made in papers.items()}
    found[_named(out, "json")] = signed.encode()
    try:
        make_directory(out.parent)
        with ExitStack() as undo:
            for path, data in found.items():
                write_durably(path, data, 0o600)
                undo.callback(path.unlink)
            undo.pop_all()
    except OSError as exc:
        raise BadInputError(
            f"The report cannot be written at {out} ({exc.strerror})",
            safe="No part of it is left.",
            todo="Choose a place where there is room and you may write.",
        ) from exc
    return list(found)


def refuse_taken(out: Path) -> None:
    """Refuse a name under which something stands."""
    endings = ["json", *(f"{one}.{kind}" for one in Language for kind in ("html", "pdf"))]
    for path in (_named(out, one) for one in endings):
        if path.exists():
            raise ExistsError(f"{path} is there already")


def _named(out: Path, ending: str) -> Path:
    return out.with_name(f"{out.name}.{ending}")
