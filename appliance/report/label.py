"""The label of a sealed shipment, for a printer: who it is, what proves it, who handed it over.

What it shows comes from a head and a seal that agree; foreign text stays text, on lines
of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import segno

from appliance import shown
from appliance.language import Language, marked, translator, width
from appliance.report import pages
from appliance.seal import text
from appliance.seal.head import Head
from appliance.seal.label import Label
from appliance.seal.statement import Seal

T = TypeVar("T")
QUIET_MODULES = 4  # of white on each side: ISO/IEC 18004
_READERS = {"operator": marked("operator: {name}"), "recovery": marked("recovery: {name}")}


class Size(StrEnum):
    A6 = "a6"
    A4 = "a4"


@dataclass(frozen=True, slots=True)
class _Sheet:
    """``module_mm`` is a whole number of dots of 300 an inch."""

    module_mm: float
    recipients: int  # that have room
    handovers: int


_SHEETS = {
    Size.A6: _Sheet(9 * 25.4 / 300, 3, 2),
    Size.A4: _Sheet(16 * 25.4 / 300, 4, 4),
}


def html(head: Head, seal: Seal, size: Size, language: Language) -> str:
    """One page of HTML that holds all it shows."""
    sheet, root, label = _SHEETS[size], seal.root(), shown.safe(head.label)
    code = segno.make_qr(str(Label.of(seal)), error="q", boost_error=False)
    translate = translator(language)
    page = pages.environment(translate).get_template("label.html.j2")
    return page.render(
        language=language,
        size=size,
        label=label,
        width=width(label),
        seal=seal,
        code=code.svg_inline(border=QUIET_MODULES, omitsize=True),
        code_mm=code.symbol_size(border=QUIET_MODULES)[0] * sheet.module_mm,
        quiet_mm=QUIET_MODULES * sheet.module_mm,
        device=_rows(seal.device_fingerprint.split("-"), 4),
        root=_rows(text.grouped(root).split("-"), 7),
        words=_rows(list(enumerate(text.words(root).split(), 1)), 4),
        recipients=[
            translate(_READERS[one.role]).format(name=shown.safe(one.name))
            for one in head.recipients[: sheet.recipients]
        ],
        more=len(head.recipients[sheet.recipients :]),
        handovers=sheet.handovers,
    )


def _rows(found: Sequence[T], width: int) -> list[Sequence[T]]:
    return [found[at : at + width] for at in range(0, len(found), width)]
