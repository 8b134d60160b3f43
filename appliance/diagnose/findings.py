"""What a diagnosis may find: each kind has a stable name, and says what is, what is safe and what
to do, in any language.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from appliance.errors import (
    MotionGearError,
    StateError,
    StoreFullError,
)
from appliance.events import Json
from appliance.language import Language, Translator, marked, translator


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    OK = "ok"


class Kind(StrEnum):
    """Stable names."""

    HOME_NONE = "home-none"
    HOME_CLOSED = "home-closed"
    HOME_OPEN = "home-open"
    DATABASE = "database"
    DATABASE_MISSING = "database-missing"
    DATABASE_DAMAGED = "database-damaged"
    DATABASE_NEWER = "database-newer"
    DATABASE_UNREAD = "database-unread"
    SPACE = "space"
    SPACE_SHORT = "space-short"
    SPACE_NONE = "space-none"
    CLOCK = "clock"
    CLOCK_FREE = "clock-free"


@dataclass(frozen=True, slots=True)
class Said:
    """Sentences of a kind, with places for figures. Where an ``error`` stands behind it, its
    sentences are used for those that are empty.
    """

    severity: Severity
    what: str
    safe: str = ""
    todo: str = ""
    error: type[MotionGearError] | None = None


_E, _W, _OK = Severity.ERROR, Severity.WARNING, Severity.OK
_UNTOUCHED = marked("Stores and packs are untouched by this.")

SAID: Mapping[Kind, Said] = {
    Kind.HOME_NONE: Said(
        _OK, marked("The state directory {path} is not there: nothing was done here yet.")
    ),
    Kind.HOME_CLOSED: Said(
        _E,
        marked("The state directory {path} cannot be read ({why})."),
        todo=marked("Run the command as the user to whom it belongs, mostly root."),
        error=StateError,
    ),
    Kind.HOME_OPEN: Said(
        _W,
        marked("Others than its owner may look into the state directory {path}."),
        marked("What lies in it was not changed."),
        marked("Take their rights away: chmod 700 {path}"),
    ),
    Kind.DATABASE: Said(
        _OK, marked("The state database can be read; its schema has {count} steps.")
    ),
    Kind.DATABASE_MISSING: Said(
        _W,
        marked("The state database {path} is missing, though there were jobs."),
        _UNTOUCHED,
        marked("Go on: it is made anew. Jobs that ran are not known any more."),
    ),
    Kind.DATABASE_DAMAGED: Said(
        _E,
        marked("The state database {path} is damaged ({why})."),
        todo=marked("Move it away: history is lost, no data; jobs that run go on."),
        error=StateError,
    ),
    Kind.DATABASE_NEWER: Said(
        _E,
        marked("The state database {path} was used by a later release ({why})."),
        todo=marked("Use that release again, or a later one."),
        error=StateError,
    ),
    Kind.DATABASE_UNREAD: Said(
        _E,
        marked("The state database {path} cannot be read ({why})."),
        error=StateError,
    ),
    Kind.SPACE: Said(_OK, marked("{path} has {size} left.")),
    Kind.SPACE_SHORT: Said(
        _W,
        marked("{path} has only {size} left."),
        marked("What is stored is kept; a job stops at its last checkpoint when it is full."),
        marked("Free space there before the next job."),
    ),
    Kind.SPACE_NONE: Said(_E, marked("{path} is full: {size} left."), error=StoreFullError),
    Kind.CLOCK: Said(_OK, marked("The clock is kept right by others.")),
    Kind.CLOCK_FREE: Said(
        _W,
        marked("Nothing keeps the clock right: it says {now}."),
        marked("Papers and custody say that they are dated by this device's own clock."),
        marked("Compare it with another clock; connect a time server where that is allowed."),
    ),
}


@dataclass(frozen=True, slots=True)
class Told:
    """A finding in one language; ``safe`` and ``todo`` may be empty."""

    what: str
    safe: str
    todo: str


@dataclass(frozen=True, slots=True)
class Finding:
    """``figures`` fill the places in the sentences of its kind. The sentences of a ``refusal``
    that was met stand for those. ``verb`` is what to type, ``lines`` what was said elsewhere.
    """

    kind: Kind
    figures: Mapping[str, str] = field(default_factory=dict)
    refusal: MotionGearError | None = None
    verb: str = ""
    lines: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        return SAID[self.kind].severity

    @property
    def error(self) -> type[MotionGearError] | None:
        return type(self.refusal) if self.refusal is not None else SAID[self.kind].error

    def told(self, language: Language) -> Told:
        _, said = translator(language), SAID[self.kind]
        figures = {name: _(one) if one else "" for name, one in self.figures.items()}
        if (met := self.refusal) is not None:
            what = f"{met.what}." if language is Language.EN else f"{_(met.happened)} ({met.what})"
            return Told(_joined(_, said.what, figures, what), _(met.safe_now), _(met.todo_now))
        safe = said.safe or (said.error.safe if said.error else "")
        todo = said.todo or (said.error.todo if said.error else "")
        return Told(*(_(one).format(**figures) if one else "" for one in (said.what, safe, todo)))

    def as_json(self) -> dict[str, Json]:
        """In English, as all that is for programs."""
        told, error = self.told(Language.EN), self.error
        return {
            "kind": self.kind,
            "severity": self.severity,
            "what": told.what,
            "safe": told.safe,
            "todo": told.todo,
            "type": self.verb,
            "code": error.code if error else 0,
            "error": error.name if error else "",
            "figures": dict(self.figures),
            "lines": list(self.lines),
        }


def _joined(_: Translator, template: str, figures: Mapping[str, str], what: str) -> str:
    return f"{_(template).format(**figures)} {what}" if template else what


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: list(Severity).index(one.severity))
