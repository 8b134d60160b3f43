"""What the console says: kept as English sentences, shown in the language that is chosen then.

Whatever stands on a screen and can be said in another language is ``Spoken``: switched at run time
it is told to speak anew, and loses nothing that was typed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from appliance import shown
from appliance.errors import MotionGearError
from appliance.language import Language, Translator, marked

OTHER = {Language.EN: Language.ZH, Language.ZH: Language.EN}
NAMES = {Language.EN: "English", Language.ZH: "中文"}


@dataclass(frozen=True, slots=True)
class Said:
    """A marked sentence and its figures: foreign text, which is made safe, or other sentences."""

    sentence: str
    figures: Mapping[str, "object | Said"] = field(default_factory=dict)

    def told(self, say: Translator) -> str:
        if not self.sentence:
            return ""
        found = {
            name: one.told(say) if isinstance(one, Said) else shown.safe(one)
            for name, one in self.figures.items()
        }
        return say(self.sentence).format(**found) if found else say(self.sentence)


NOTHING = Said("")


def said(sentence: str, /, **figures: "object | Said") -> Said:
    return Said(sentence, figures)


def foreign(text: object) -> Said:
    """Text that is the same in every language, from wherever."""
    return Said("{text}", {"text": text})


def refused(exc: MotionGearError) -> list[Said]:
    """What happened, what is safe, what to do, what to type, and the code."""
    told = [
        said(marked("Error: {happened} ({what}.)"), happened=Said(exc.happened), what=exc.what),
        said(marked("Safe: {sentence}"), sentence=Said(exc.safe_now)),
        said(marked("Do: {sentence}"), sentence=Said(exc.todo_now)),
    ]
    if exc.verb:
        told.append(said(marked("Type: {verb}"), verb=exc.verb))
    return [*told, said(marked("Code: {code} ({name})"), code=exc.code, name=exc.name)]


@runtime_checkable
class Spoken(Protocol):
    """What says something. ``say`` turns English sentences into those of the language chosen."""

    def speak(self, say: Translator) -> None: ...
