"""The languages in which MotionGear speaks: catalogues of gettext, one a room, made with Babel
(`make locale`).

A sentence is written in English where it is said, ``marked`` there or given to a translator, and
translated when it is shown. What has no translation is shown in English.
"""

import gettext
import os
import unicodedata
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path

CATALOGUES = Path(__file__).parent / "locale"
Translator = Callable[[str], str]


class Language(StrEnum):
    EN = "en"
    ZH = "zh"


def marked(text: str) -> str:
    """``text`` as it is: `make locale` finds it, whoever shows it translates it."""
    return text


@cache
def translator(language: Language) -> Translator:
    """English sentence to sentence in ``language``."""
    known = gettext.NullTranslations()
    for one in sorted((CATALOGUES / language / "LC_MESSAGES").glob("*.mo")):
        with one.open("rb") as file:
            found = gettext.GNUTranslations(file)
        found.add_fallback(known)
        known = found
    return known.gettext


def chosen(environ: Mapping[str, str] = os.environ) -> Language:
    """What the environment asks for: MOTIONGEAR_LANG, else as any program by its locale."""
    for name in ("MOTIONGEAR_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if found := environ.get(name, ""):
            return Language.ZH if found.lower().startswith("zh") else Language.EN
    return Language.EN


def width(text: str) -> int:
    """Cells of a terminal that ``text`` takes: a wide character takes two (UAX 11)."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
