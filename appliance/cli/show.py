"""What the command shows: progress, figures, refusals. Foreign text is made safe here."""

import json
import sys
import time
from collections.abc import Iterable, Sequence

import click

from appliance import shown
from appliance.errors import MotionGearError
from appliance.events import Event, Json, Progress, as_json
from appliance.language import Language, chosen, translator, width
from appliance.state import EventRow, telling
from appliance.state.words import Words

_BAR = 24
_PLAIN_SECONDS = 10.0


def wants_json() -> bool:
    """Whether --json was given anywhere on the command line: also errors are then told as JSON."""
    return "--json" in sys.argv[1:]


def line(text: str = "", *, err: bool = False) -> None:
    click.echo(shown.safe(text), err=err)


def rows(pairs: Iterable[tuple[str, object]], *, err: bool = False) -> None:
    """A two-column list."""
    for name, value in pairs:
        click.echo(f"  {_filled(name, 14)} {shown.safe(value)}", err=err)


def table(head: Sequence[str], body: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their content."""
    cells = [[shown.safe(one) for one in row] for row in [head, *body]]
    widths = [max(width(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        click.echo(
            "  ".join(_filled(one, wide) for one, wide in zip(row, widths, strict=True)).rstrip()
        )


def _filled(text: str, cells: int) -> str:
    """Up to a column: what stands behind it begins at the same cell in every language."""
    return text + " " * (cells - width(text))


def event(told: Event) -> None:
    """An event as one JSON line, for programs."""
    record(as_json(told))


def record(found: Json) -> None:
    """One JSON line, for programs; in ASCII, so that foreign text cannot steer a terminal."""
    click.echo(json.dumps(found, ensure_ascii=True))


def refusal(exc: MotionGearError) -> None:
    """What happened, what is safe, what to do. What is special to this case is in English in every
    language.
    """
    language = chosen()
    _ = translator(language)
    what = _ended(exc.what)
    what = what if language is Language.EN else f"{_(exc.happened)} ({what})"
    error = _("Error")
    click.echo(f"{click.style(error, fg='red', bold=True)}: {shown.safe(what)}", err=True)
    _rows(
        (_("Safe"), _(exc.safe_now)),
        (_("Do"), _(exc.todo_now)),
        (_("Type"), exc.verb),
        (_("Code"), f"{exc.code} ({exc.name})"),
    )


def _ended(what: str) -> str:
    """With a full stop, if it has no end yet."""
    return what if what[-1:] in {"?", "？", "。"} else f"{what}."  # noqa: RUF001 - Chinese ones too


def translated(sentence: str) -> str:
    """In the chosen language, where it is known there; an error may have its own sentence."""
    return translator(chosen())(sentence) if sentence else ""


def words(said: Words) -> None:
    """The last words of a job that did not end by an error."""
    _ = translator(chosen())
    _rows(
        (_("Safe"), translated(said.safe)),
        (_("Do"), translated(said.todo)),
        (_("Type"), said.verb),
    )


def _rows(*told: tuple[str, str]) -> None:
    for name, text in told:
        if text:
            click.echo(f"{_filled(name + ':', 6)} {shown.safe(text)}", err=True)


class Rate:
    """Bytes a second since the step began, and a guess at the rest. "calculating" at first."""

    def __init__(self) -> None:
        self._step = ""
        self._began = 0.0
        self._first = 0

    def tell(self, told: Progress) -> str:
        now = time.monotonic()
        if told.step != self._step:
            self._step, self._began, self._first = told.step, now, told.done
        spent, moved = now - self._began, told.done - self._first
        share = 100 * told.done // told.total if told.total else 100
        _ = translator(chosen())
        of = _("{done} of {total}").format(
            done=shown.size(told.done), total=shown.size(told.total)
        )
        parts = [f"{share:3d} %", of]
        if spent >= 1 and moved:
            rate = moved / spent
            left = shown.duration((told.total - told.done) / rate)
            parts += [f"{shown.size(rate)}/s", _("ETA {duration}").format(duration=left)]
        else:
            parts.append(_("calculating"))
        return ", ".join(parts)


class Follower:
    """Shows a job: a moving line on a terminal, plain lines elsewhere or where it is not shown
    ``alone``, JSON lines when asked.
    """

    def __init__(self, *, as_lines: bool, name: str = "", alone: bool = True) -> None:
        self._json, self._name = as_lines, name
        self._terminal = sys.stderr.isatty() and not as_lines and alone
        self._rate = Rate()
        self._plain_at = time.monotonic()
        self._drawn = False

    def take(self, told: EventRow | Progress) -> None:
        if self._json:
            body = as_json(told) if isinstance(told, Progress) else told.body
            named: dict[str, Json] = {"job": self._name, **body} if self._name else body
            record(named)
        elif isinstance(told, Progress):
            self._progress(told)
        else:
            self._event(told)

    def _progress(self, told: Progress) -> None:
        text = f"{_filled(translated(told.step), 9)} {self._rate.tell(told)}"
        if self._terminal:
            full = _BAR * told.done // told.total if told.total else _BAR
            bar = "#" * full + "-" * (_BAR - full)
            click.echo(f"\r\x1b[K[{bar}] {text}", err=True, nl=False)
            self._drawn = True
        elif time.monotonic() - self._plain_at >= _PLAIN_SECONDS:
            self._plain_at = time.monotonic()
            click.echo(self._prefix() + text, err=True)

    def _event(self, row: EventRow) -> None:
        text = telling.sentence(row.kind, row.body, translator(chosen()))
        if not text:
            return
        self.clear()
        if row.kind == "step":
            self._rate = Rate()  # it may have rested: that is no slowness
        click.echo(self._prefix() + shown.safe(text), err=True)

    def _prefix(self) -> str:
        return f"{self._name}: " if self._name else ""

    def clear(self) -> None:
        """End the moving line."""
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False
