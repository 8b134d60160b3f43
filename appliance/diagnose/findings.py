"""A finding: what is, what is safe and what to do, in any language and for programs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from appliance.diagnose.kinds import SAID, Kind, Severity
from appliance.errors import MotionGearError
from appliance.events import Json
from appliance.language import Language, translator
from appliance.seal.chain import FLAWS

_SPOKEN = {("finding", kind): said for kind, said in FLAWS.items()}  # for people
_MARKS = {Severity.ERROR: "!!", Severity.WARNING: "??", Severity.OK: "ok"}


@dataclass(frozen=True, slots=True)
class Told:
    """A finding in one language; ``safe`` and ``todo`` may be empty."""

    what: str
    safe: str
    todo: str


@dataclass(frozen=True, slots=True)
class Finding:
    """``figures`` fill the places in the sentences of its kind. A ``refusal`` that was met brings
    its own sentences; ``safe`` and ``todo``, where they are given, stand for those of the kind as
    they are. ``verb`` is what to type, ``lines`` what was said elsewhere.
    """

    kind: Kind
    figures: Mapping[str, str] = field(default_factory=dict)
    refusal: MotionGearError | None = None
    safe: str = ""
    todo: str = ""
    verb: str = ""
    lines: tuple[str, ...] = ()
    error: str = ""
    code: int = 0

    @property
    def severity(self) -> Severity:
        return SAID[self.kind].severity

    def told(self, language: Language) -> Told:
        _, said = translator(language), SAID[self.kind]
        if (met := self.refusal) is not None:
            what = (
                f"{met.what}." if language is Language.EN else f"{_(met.happened)} ({met.what}.)"
            )
            return Told(what, _(met.safe_now), _(met.todo_now))
        spoken = {name: _SPOKEN.get((name, one), one) for name, one in self.figures.items()}
        figures = {name: _(one) if one else "" for name, one in spoken.items()}
        error, wrong = said.error or MotionGearError, said.severity is not Severity.OK

        def own_or(own: str, usual: str) -> str:
            if own:
                return _(own)
            return _(usual).format(**figures) if wrong else ""

        return Told(
            _(said.what).format(**figures),
            own_or(self.safe, said.safe or error.safe),
            own_or(self.todo, said.todo or error.todo),
        )

    def lines_in(self, language: Language) -> Iterator[str]:
        """The finding as a console shows it."""
        _, told, behind = translator(language), self.told(language), self.as_json()
        code = f", {behind['code']} {behind['error']}" if behind["code"] else ""
        yield f"{_MARKS[self.severity]}  {told.what} ({self.kind}{code})"
        rows = ((_("Safe"), told.safe), (_("Do"), told.todo), (_("Type"), self.verb))
        yield from (f"    {name}: {text}" for name, text in rows if text)
        yield from (f"    {one}" for one in self.lines)

    def as_json(self) -> dict[str, Json]:
        """In English, as all that is for programs."""
        told, behind = self.told(Language.EN), self.refusal or SAID[self.kind].error
        return {
            "kind": self.kind,
            "severity": self.severity,
            "what": told.what,
            "safe": told.safe,
            "todo": told.todo,
            "type": self.verb,
            "code": self.code or (behind.code if behind else 0),
            "error": self.error or (behind.name if behind else ""),
            "figures": dict(self.figures),
            "lines": list(self.lines),
        }


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: list(Severity).index(one.severity))
