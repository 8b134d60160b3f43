"""What an engine tells whoever listens. Engines take an ``Emit``; with nobody listening it is
``silent``.

Emitting never blocks and never raises. Progress may be dropped, the rest may not.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from appliance.errors import MotionGearError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; ``kind`` is their stable name in JSON lines and in the state
    database.
    """

    kind: ClassVar[str] = "event"


@dataclass(frozen=True, slots=True)
class Step(Event):
    """A named part of a job begins. Its detail is a name, or a ``sentence`` with its ``values``:
    consoles tell that in their own language, if they know it.
    """

    kind: ClassVar[str] = "step"
    step: str
    detail: str = ""
    sentence: str = ""
    values: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def said(cls, step: str, sentence: str, /, **values: Json) -> "Step":
        """``sentence`` is one of those that state.telling knows."""
        return cls(step, sentence.format(**values), sentence, values)


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """How far the present step is: bytes of ``total`` done, and the bytes that reached the
    other side.
    """

    kind: ClassVar[str] = "progress"
    step: str
    done: int
    total: int
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Checkpointed(Event):
    """Blocks below ``cursor`` are durable."""

    kind: ClassVar[str] = "checkpoint"
    cursor: int
    pack: str
    stored: int


@dataclass(frozen=True, slots=True)
class Spliced(Event):
    """A session goes on at ``block`` (0: the source had changed, the whole disk is read anew)."""

    kind: ClassVar[str] = "spliced"
    session: int
    block: int


@dataclass(frozen=True, slots=True)
class Unreadable(Event):
    """Bytes that the source could not give; they are stored as zeros and reported."""

    kind: ClassVar[str] = "unreadable"
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PackClosed(Event):
    kind: ClassVar[str] = "pack"
    pack: str
    size: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Result(Event):
    """What a step came to: figures and names for the report."""

    kind: ClassVar[str] = "result"
    step: str
    figures: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The job's last word when it did not finish. ``verb`` is what to type."""

    kind: ClassVar[str] = "failed"
    error: str
    code: int
    what: str
    safe: str
    todo: str
    verb: str = ""


def failed(exc: MotionGearError) -> Failed:
    """A refusal as a job's last word."""
    return Failed(exc.name, exc.code, exc.what, exc.safe_now, exc.todo_now, exc.verb)


Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """Nobody listens."""
    del event


def as_json(event: Event) -> dict[str, Json]:
    """The event as one flat JSON object, ``event`` naming its kind."""
    return {"event": event.kind, **asdict(event)}
