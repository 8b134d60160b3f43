"""Help, and what click itself says, in the language chosen. The verbs' own texts stay English
where they are written; they are told anew when a verb is looked up.

click asks the standard library's gettext for its own words: it is given a catalogue, room "click".
"""

import gettext
import inspect
import os
import re
from collections.abc import Iterable, Iterator
from copy import copy

import click

from appliance.cli.folding import folded
from appliance.errors import UsageError
from appliance.language import CATALOGUES, Language, Translator, marked, width

_DOMAIN = "click"
_KEPT = "\b"  # a paragraph that begins with it keeps its lines
_NAMES = 30  # the widest that names of options stand beside their help
_GAP = 2


def listen(language: Language) -> None:
    """From here on click speaks this language, whatever the locale is."""
    os.environ["LANGUAGE"] = language
    gettext.bindtextdomain(_DOMAIN, CATALOGUES)
    gettext.textdomain(_DOMAIN)


def told(command: click.Command, say: Translator) -> click.Command:
    """The command with all its texts translated; verbs below it too, when they are looked up."""
    if isinstance(command, click.Group):
        return _Group(command, say)
    return _Verb(
        command.name,
        context_settings=command.context_settings,
        callback=command.callback,
        params=[_param(one, say) for one in command.params],
        help=_text(command.help, say),
        short_help=_first(command.help, say),
        options_metavar=say(command.options_metavar or ""),
        hidden=command.hidden,
    )


def texts(command: click.Command) -> Iterator[str]:
    """What is said of a command and all below it, for the catalogue."""
    yield from _pieces(command.help)
    yield command.options_metavar or ""
    for one in command.params:
        yield one.type.name
        if isinstance(one, click.Option) and not one.hidden:
            yield one.help or ""
            yield one.prompt if isinstance(one.prompt, str) else ""
    if isinstance(command, click.Group):
        yield command.subcommand_metavar
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None  # it is listed
            if not found.hidden:
                yield from texts(found)


def refused(exc: click.ClickException) -> UsageError:
    """What click could not understand, as an error like all others."""
    about = exc.ctx.command_path if isinstance(exc, click.UsageError) and exc.ctx else "motiongear"
    todo = next((say for kind, say in _TODO if isinstance(exc, kind)), None)
    what = " ".join(exc.format_message().split())  # choices stand a line each
    return UsageError(what.removesuffix("."), todo=todo, verb=f"{about} --help")


_TODO = (
    (click.MissingParameter, marked("Give what is missing too.")),
    (click.NoSuchOption, marked("See which options there are.")),
    (click.NoSuchCommand, marked("See which verbs there are.")),
    (click.BadParameter, marked("Give another value; see which can be taken.")),
)


class _Formatter(click.HelpFormatter):
    """Widths are cells: a wide character takes two, and a line may end behind it."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        begun = f"{prefix or gettext.gettext('Usage:')} {prog}"
        lines = folded(args, max(self.width - width(begun) - 1, 20))
        self._write(begun, lines, width(begun) + 1)

    def write_text(self, text: str) -> None:
        indent = " " * self.current_indent
        paragraphs = [
            "\n".join(indent + one for one in _lines(each, self.width - len(indent)))
            for each in text.split("\n\n")
        ]
        self.write("\n\n".join(paragraphs) + "\n")

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = _NAMES, col_spacing: int = _GAP
    ) -> None:
        rows = list(rows)
        column = min(max(width(name) for name, _ in rows), col_max) + col_spacing
        behind = self.current_indent + column
        for name, help_ in rows:
            begun = " " * self.current_indent + name
            lines = folded(help_, max(self.width - behind, 10))
            if width(begun) > behind - col_spacing and help_:
                self.write(begun + "\n")
                begun = ""
            self._write(begun, lines, behind)

    def _write(self, begun: str, lines: list[str], column: int) -> None:
        """The lines beside what has begun, from a column on."""
        first, *more = lines or [""]
        self.write(f"{begun}{' ' * (column - width(begun))}{first}".rstrip() + "\n")
        for one in more:
            self.write(" " * column + one + "\n")


class _Context(click.Context):
    formatter_class = _Formatter


class _Verb(click.Command):
    context_class = _Context


class _Group(click.Group):
    """A group told in a language. Its verbs stay with it: they may be imported when used."""

    context_class = _Context

    def __init__(self, of: click.Group, say: Translator) -> None:
        super().__init__(
            of.name,
            context_settings=of.context_settings,
            callback=of.callback,
            params=[_param(one, say) for one in of.params],
            help=_text(of.help, say),
            short_help=_first(of.help, say),
            invoke_without_command=of.invoke_without_command,
            no_args_is_help=of.no_args_is_help,
            options_metavar=say(of.options_metavar or ""),
            subcommand_metavar=say(of.subcommand_metavar),
        )
        self._of, self._say = of, say

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._of.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._of.get_command(ctx, cmd_name)
        return None if found is None else told(found, self._say)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Verbs that are imported when used are thought of too, where one is mistyped."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as exc:
            known = self.list_commands(ctx)
            raise click.NoSuchCommand(exc.command_name, possibilities=known, ctx=ctx) from None


def _param(one: click.Parameter, say: Translator) -> click.Parameter:
    made = copy(one)
    made.type = copy(one.type)
    made.type.name = say(one.type.name)
    if isinstance(made, click.Option):
        made.help = say(made.help) if made.help else made.help
        made.prompt = say(made.prompt) if made.prompt else made.prompt
    return made


def _paragraphs(text: str | None) -> list[str]:
    """Each on one line, except those that keep their lines."""
    found = inspect.cleandoc(text or "").split("\n\n")
    return [one if one.startswith(_KEPT) else " ".join(one.split()) for one in found if one]


def _pieces(text: str | None) -> Iterator[str]:
    """What is translated as a whole: a paragraph, or a line of one that keeps its lines."""
    for one in _paragraphs(text):
        yield from one.splitlines()[1:] if one.startswith(_KEPT) else [one]


def _text(text: str | None, say: Translator) -> str:
    return "\n\n".join(
        "\n".join([_KEPT, *map(say, one.splitlines()[1:])]) if one.startswith(_KEPT) else say(one)
        for one in _paragraphs(text)
    )


def _first(text: str | None, say: Translator) -> str:
    """The first sentence, for the list of verbs."""
    first = "".join(map(say, _paragraphs(text)[:1]))
    return re.split(r"(?<=[^.]\.)\s|。", first)[0].rstrip(".")


def _lines(paragraph: str, cells: int) -> list[str]:
    if not paragraph.startswith(_KEPT):
        return folded(paragraph, cells)
    edge = cells + 2  # commands among them are copied best from one line
    return [line for one in paragraph.splitlines()[1:] for line in _beside(one, edge)]


def _beside(line: str, cells: int) -> list[str]:
    """A line that keeps its column: what does not fit stands below in the same one."""
    begun = line[: len(line) - len(re.split(r"\s{2,}", line)[-1])]
    column = " " * width(begun)
    lines = folded(line[len(begun) :], max(cells - width(begun), 20))
    return [f"{begun if at == 0 else column}{one}" for at, one in enumerate(lines)]
