"""Prints docs/man/motiongear.1, made from the verbs themselves: `make man`."""

import inspect
import sys
from collections.abc import Iterable, Iterator

import click

from appliance.cli import motiongear, speaking
from appliance.errors import all_errors
from appliance.language import Language

ENDS = (
    ("0", "Done."),
    ("3", "verify: consistent, but the signer was not confirmed."),
    ("130", "Interrupted; a job that was running goes on."),
)
ENVIRONMENT = (
    ("MOTIONGEAR_HOME", "The state directory, instead of those under FILES."),
    ("MOTIONGEAR_NAME", "Who you are, in the chain of custody; else the user."),
    ("MOTIONGEAR_ORGANISATION", "For whom you act, in the chain of custody."),
    ("MOTIONGEAR_STORE", "Stands in for --store."),
    ("MOTIONGEAR_WHERE", "Where you are, in the chain of custody; else the host."),
    ("XDG_STATE_HOME", "Where users keep state, instead of ~/.local/state."),
)
FILES = (
    (
        "/var/lib/motiongear",
        "State of root: jobs, the device's identity, accepted seals, enrolments.",
    ),
    ("~/.local/state/motiongear", "State of any other user."),
    ("STORE/head.json, STORE/packs/", "By these a shipment's directory is known."),
    (
        "NAME.key, NAME.key.pub",
        "A recipient's private key, which never comes near the device, and its public one.",
    ),
)
EXAMPLES = (
    (
        "Copy a disk on the device, seal, and prove at the destination what has arrived:",
        (
            'motiongear shipment new "Rack 7" --store /data/rack7 -r ada.key.pub -r safe.key.pub',
            "motiongear ingest /dev/sdb --store /data/rack7 --machine web01",
            "motiongear seal --store /data/rack7",
            "motiongear verify --store /mnt/rack7 --device FINGERPRINT --seal ROOT",
        ),
    ),
    (
        "Restore it:",
        (
            "motiongear restore --store /mnt/rack7 --device FINGERPRINT --seal ROOT \\",
            "    --key ada.key --to /var/lib/volumes",
        ),
    ),
    (
        "Catch up with the living machine, and cut over:",
        (
            "motiongear gate invite --machine web01",
            "motiongear gate serve --to /var/lib/volumes",
            "motiongear enrol --gate gate.example:7443",
            "motiongear catch-up --gate gate.example:7443 --disk /dev/sda",
            "motiongear catch-up --gate gate.example:7443 --disk /dev/sda --final",
            "motiongear points choose latest --to /var/lib/volumes",
        ),
    ),
)
# What roff would read as its own, or set as typographers do.
ASCII = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)


def page() -> str:
    """The whole page, in the man macros of groff and mandoc; in English, as all of docs/."""
    speaking.listen(Language.EN)
    lines = [
        '.TH MOTIONGEAR 1 "" "MotionGear" "User Commands"',
        '.\\" Made by `make man`: change the verbs, not this file.',
        *(".SH NAME", r"motiongear \- carry whole servers into a cloud"),
        *(".SH SYNOPSIS", r".B motiongear", r"\fIVERB\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]"),
        *(".SH DESCRIPTION", *_text(motiongear.help)),
        ".PP",
        "Every verb takes -h and --help. Each error says what happened, what is safe and what",
        "to do, on standard error.",
        ".SH VERBS",
    ]
    for words, verb in _verbs(motiongear):
        lines += _verb(words, verb)
    lines += [".SH EXIT STATUS", *_listed(ENDS)]
    lines += _listed((f"{one.code} ({one.name})", one.todo) for one in all_errors())
    lines += [".SH ENVIRONMENT", *_listed(ENVIRONMENT)]
    lines += [".SH FILES", *_listed(FILES)]
    lines += [".SH EXAMPLES"]
    for why, commands in EXAMPLES:
        lines += [".PP", _line(why), ".PP", ".RS 4", ".nf", *map(_line, commands), ".fi", ".RE"]
    return "\n".join(lines) + "\n"


def _verbs(group: click.Group, *above: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All that is not hidden, in the order of the help."""
    context = click.Context(group, **group.context_settings)
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        assert command is not None  # it is listed
        words = (*above, name)
        if isinstance(command, click.Group):
            yield words, command
            yield from _verbs(command, *words)
        elif not command.hidden:
            yield words, command


def _verb(words: tuple[str, ...], verb: click.Command) -> list[str]:
    lines = [f'.SS "{_line(" ".join(words))}"']
    # click remembers the help option it makes here: it has to be the one that the command makes.
    names = motiongear.context_settings["help_option_names"]
    with click.Context(verb, info_name=" ".join(words), help_option_names=names) as ctx:
        if not isinstance(verb, click.Group):
            usage = " ".join(verb.collect_usage_pieces(ctx))
            lines += [rf"\fBmotiongear {_escaped(' '.join(words))}\fR {_escaped(usage)}", ".PP"]
        lines += _text(verb.help)
        own = [one for one in verb.params if isinstance(one, click.Option)]
        lines += _listed(filter(None, (one.get_help_record(ctx) for one in own)))
    return lines


def _listed(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [
        line for name, text in pairs for line in (".TP", rf"\fB{_escaped(name)}\fR", _line(text))
    ]


def _text(found: str | None) -> list[str]:
    """A help text; a paragraph that begins with a backspace keeps its lines."""
    lines: list[str] = []
    for each in inspect.cleandoc(found or "").split("\n\n"):
        kept = each.removeprefix("\b\n")
        body = [_line(one) for one in kept.splitlines()]
        lines += [".PP", *([".nf", *body, ".fi"] if kept != each else body)]
    return lines[1:]


def _line(text: str) -> str:
    """A line of text that is no request."""
    return rf"\&{_escaped(text)}" if text.startswith(".") else _escaped(text)


def _escaped(text: str) -> str:
    return text.translate(ASCII)


if __name__ == "__main__":
    sys.stdout.write(page())
