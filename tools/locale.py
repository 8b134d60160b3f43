"""``make locale``: finds what is said in the sources, brings every catalogue up to date and
compiles it. What has no translation yet is left empty; tests/test_locale.py refuses that.

A catalogue a room; its bytes follow from the sentences alone, so that they can be compared.
"""

import ast
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import click
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from appliance.cli import motiongear, speaking
from appliance.errors import all_errors
from appliance.language import CATALOGUES, Language

_TOP = Path(__file__).parents[1]
# Where each room's sentences stand, below appliance/. What errors say is asked of the classes, and
# what is said instead of that ("advice") is looked for where they are raised.
ROOMS = {
    "errors": ("cli/show.py", "cli/speaking.py", "cli/__init__.py"),
    # What click says itself; what the verbs say of themselves is asked of them ("help").
    "click": (),
    "help": (),
    "commands": (
        "cli/ask.py",
        "cli/catching_up.py",
        "cli/demo.py",
        "cli/demo_line.py",
        "cli/demo_papers.py",
        "cli/demo_report.py",
        "cli/departure.py",
        "cli/keys.py",
        "cli/manage.py",
        "cli/points.py",
    ),
    "path": ("cli/arrival.py", "cli/ends.py", "cli/work.py"),
    "console": (
        "tui/keyboard.py",
        "tui/recipients.py",
        "tui/screens/arrival.py",
        "tui/screens/custody.py",
        "tui/screens/diagnosis.py",
        "tui/screens/dialogs.py",
        "tui/screens/erase.py",
        "tui/screens/following.py",
        "tui/screens/hands.py",
        "tui/screens/home.py",
        "tui/screens/ingest.py",
        "tui/screens/job.py",
        "tui/screens/key.py",
        "tui/screens/manifest.py",
        "tui/screens/points.py",
        "tui/screens/report.py",
        "tui/screens/seal.py",
        "tui/screens/shipment.py",
        "tui/speech.py",
        "tui/widgets/blocks.py",
        "tui/views.py",
        "tui/widgets/guards.py",
        "tui/wizard.py",
    ),
    "custody": ("cli/chains.py", "cli/custody.py", "handover.py", "seal/chain.py"),
    "diagnose": (
        "cli/diagnose.py",
        "diagnose/findings.py",
        "diagnose/kinds.py",
        "diagnose/needs.py",
        "diagnose/package.py",
    ),
    "erase": (
        "cli/erase.py",
        "cli/certificate.py",
        "erasures.py",
        "jobs/erasing.py",
        "report/certificate.py",
        "report/templates/certificate.html.j2",
        "seal/places.py",
    ),
    "inspection": ("cli/inspecting.py", "ingest/inspection/warned.py", "report/inside.py"),
    "label": (
        "cli/label.py",
        "report/label.py",
        "report/templates/label.html.j2",
        "seal/label.py",
    ),
    "report": (
        "cli/report.py",
        "report/view.py",
        "report/words.py",
        "report/pages.py",
        "report/templates/report.html.j2",
    ),
    "words": ("state/words.py", "state/death.py", "state/telling.py"),
    "advice": ("seal/recover.py", "seal/text.py", "state/database.py"),
}
Sentence = str | tuple[str, str]  # the latter: of one, and of several
TRANSLATED = [one for one in Language if one is not Language.EN]
_KEYWORDS: dict[str, tuple[int, ...] | None] = {"_": None, "marked": None}
_CLICK_SPEAKS = ("core", "decorators", "exceptions", "formatting", "parser", "termui", "types")
_CLICK_KEYWORDS = {"_": None, "ngettext": (1, 2)}
_METHODS = {".py": "python", ".j2": "jinja2.ext:babel_extract"}
_NO_DATE = datetime(2026, 1, 1, tzinfo=UTC)
_HEADER = """msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def sentences(room: str) -> list[Sentence]:
    """What is said in a room, each once, in the order of the sources."""
    asked = {"errors": _of_errors, "advice": _of_refusals, "click": _of_click, "help": _of_verbs}
    found = [*(asked[room]() if room in asked else ()), *_of_files(ROOMS[room])]
    return list(dict.fromkeys(found))


def _of_errors() -> Iterator[str]:
    for one in all_errors():
        yield from (one.happened, one.safe, one.todo)


def _of_refusals() -> Iterator[str]:
    """What is said instead where an error is raised: ``safe`` and ``todo``, where they are one
    text without figures, and not one of a class.
    """
    told = set(_of_errors())
    for path in sorted((_TOP / "appliance").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            for given in call.keywords if isinstance(call, ast.Call) else ():
                match given:
                    case ast.keyword("safe" | "todo", ast.Constant(str(said))) if (
                        said and said not in told
                    ):
                        yield said


def _of_click() -> Iterator[Sentence]:
    """Its own words, where it marks them for gettext, and one that it looks up by a variable."""
    for name in _CLICK_SPEAKS:
        path = Path(click.__file__).with_name(f"{name}.py")
        for _, found, _, _ in extract_from_file("python", path, keywords=_CLICK_KEYWORDS):
            yield found if isinstance(found, str) else (found[0], found[1])
    yield "required"


def _of_verbs() -> Iterator[str]:
    return filter(None, speaking.texts(motiongear))


def _of_files(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        path = _TOP / "appliance" / name
        method = _METHODS[path.suffix]
        for _, found, _, _ in extract_from_file(method, path, keywords=_KEYWORDS):
            assert isinstance(found, str)
            yield found


def place(room: str, language: Language) -> Path:
    """The catalogue's text; beside it lies the compiled one, ``.mo``."""
    return CATALOGUES / language / "LC_MESSAGES" / f"{room}.po"


def known(path: Path, language: Language) -> Catalog:
    """The catalogue as it stands, empty where there is none."""
    if not path.exists():
        return Catalog(locale=language)
    with path.open("rb") as file:
        return read_po(file, locale=language)


def brought_up(room: str, language: Language) -> Catalog:
    """What is said now, with the translations known."""
    before, now = known(place(room, language), language), Catalog(locale=language)
    for sentence in sentences(room):
        old = before.get(sentence)
        now.add(sentence, old.string if isinstance(old, Message) else "")
    return now


def compiled(catalogue: Catalog) -> bytes:
    out = BytesIO()
    catalogue.creation_date = catalogue.revision_date = _NO_DATE
    write_mo(out, catalogue)
    return out.getvalue()


def written(catalogue: Catalog, language: Language) -> bytes:
    out = BytesIO()
    write_po(out, catalogue, width=0, no_location=True, omit_header=True)
    return _HEADER.format(language=language).encode() + out.getvalue().lstrip()


def main() -> int:
    """The exit code is 1 while sentences lack a translation."""
    missing = 0
    for room in ROOMS:
        for language in TRANSLATED:
            found = brought_up(room, language)
            path = place(room, language)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written(found, language))
            path.with_suffix(".mo").write_bytes(compiled(found))
            untold = [one.id for one in found if one.id and not any(one.string or ())]
            missing += len(untold)
            for one in untold:
                print(f"{room}, {language}: no translation: {one}")  # noqa: T201 - its output
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
