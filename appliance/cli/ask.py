"""Options that several verbs share, and how a passphrase is asked for: by a prompt or a
descriptor, never in argv.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from appliance import orders, shown
from appliance.block import keep_in_memory
from appliance.cli import completion, show
from appliance.cli.show import translated as _
from appliance.errors import BadInputError
from appliance.jobs.spec import CHECKPOINT_SECONDS
from appliance.language import Language, chosen, marked
from appliance.seal import keys
from appliance.seal.keys import PrivateKey
from appliance.seal.label import Label
from appliance.seal.store import Store
from appliance.seal.verify import Pins

F = TypeVar("F", bound=Callable[..., object])
_LONGEST_LINE = 1024


class _Text(click.types.StringParamType):
    """Text that ends up in documents, where bytes that are no UTF-8 have no place."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        return whole(str(super().convert(value, param, ctx)))


TEXT = _Text()
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15}) ?(|k|M|G|Ki|Mi|Gi)B?")


class _Size(click.ParamType[int]):
    """Bytes, as 4096, 64MiB or 1GB; within bounds."""

    name = "size"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        del param, ctx
        parsed = _SIZE.fullmatch(str(value))
        size = int(parsed[1]) * _UNITS[parsed[2]] if parsed else -1
        if not self._least <= size <= self._most:
            raise BadInputError(
                f"{value!r} is no size between {self._least} and {self._most} bytes",
                todo="Give bytes, or a number with kB, MB, GB, KiB, MiB or GiB: 64MiB.",
            )
        return size


def whole(found: str) -> str:
    """Refuses what a terminal or an argument held beside UTF-8 text."""
    try:
        found.encode()
    except UnicodeEncodeError as exc:
        raise BadInputError(f"{found!r} is not UTF-8 text", todo="Write it in UTF-8.") from exc
    return found


def some_store(what: str, envvar: str | None = None) -> Callable[[F], F]:
    """A store where one is meant at all."""
    return click.option(
        "--store",
        "-s",
        envvar=envvar,
        type=click.Path(path_type=Path, file_okay=False),
        help=what,
    )


store = click.option(
    "--store",
    "-s",
    required=True,
    envvar="MOTIONGEAR_STORE",
    type=click.Path(path_type=Path, file_okay=False),
    help="The shipment's directory (or MOTIONGEAR_STORE).",
)
as_json = click.option("--json", "as_lines", is_flag=True, help="Print events as JSON lines.")
as_records = click.option("--json", "as_lines", is_flag=True, help="Print one JSON object a line.")
passphrase_fd = click.option(
    "--passphrase-fd", type=int, help="Read the passphrase from this open descriptor."
)
key_file = click.option(
    "--key", "key_file", type=click.Path(path_type=Path), help="A recipient's private key file."
)
target = click.option(
    "--target",
    default="local",
    show_default=True,
    shell_complete=completion.targets,
    help="The kind of target.",
)
language = click.option(
    "--lang",
    "language",
    type=click.Choice([str(one) for one in Language]),
    default=lambda: str(chosen()),
    help="The language it is written in; else MOTIONGEAR_LANG, else that of the locale.",
)
limit = click.option(
    "--limit",
    "limits",
    multiple=True,
    help="Speed limit: 80MB/s, or 20MB/s@08:00-18:00 in a time window; may be repeated.",
)


def interval(function: F) -> F:
    """The options by which it is said how much a death may cost."""
    for option in (
        click.option(
            "--checkpoint-seconds",
            type=click.FloatRange(0.1, 3600),
            default=CHECKPOINT_SECONDS,
            show_default=True,
            help="Make safe what was done at least so often,",
        ),
        click.option(
            "--checkpoint-bytes",
            type=_Size(1 << 16, 1 << 40),
            default="256MiB",
            show_default=True,
            help="and after so many bytes: a job that dies repeats no more.",
        ),
    ):
        function = option(function)
    return function


pack_size = click.option(
    "--pack-size", type=_Size(1 << 20, 1 << 40), default="1GiB", hidden=True, help="Bytes a pack."
)


def pins(function: F) -> F:
    """The options by which the signer and the seal are pinned."""
    for option in (
        click.option(
            "--recipient",
            "recipients",
            multiple=True,
            help="Fingerprint of a recipient; all must be named.",
        ),
        click.option(
            "--label",
            help="Both, as a scanner reads them from the copy of the label that was sent by "
            "another path; - waits for the scanner.",
        ),
        click.option(
            "--seal",
            "root",
            default="",
            help="The seal root, as sent by another path than the device: text or 24 words.",
        ),
        click.option(
            "--device", default="", help="The device's fingerprint, as sent by another path."
        ),
    ):
        function = option(function)
    return function


def checked_pins(
    store: Store, label: str | None, device: str, root: str, recipients: tuple[str, ...]
) -> Pins:
    """Pins whose texts make sense, and which agree with the label where there is one."""
    scanned = None
    if label is not None:
        orders.pins(store, None, device, root, recipients)  # refused before anybody scans
        scanned = Label.parse(_scanned() if label == "-" else label)
    found = orders.pins(store, scanned, device, root, recipients)
    if scanned is not None and not (device and root):
        show.line(_(_BY_ANOTHER_PATH), err=True)
    return found


_BY_ANOTHER_PATH = marked(
    "A label that came with the device proves nothing: whoever exchanges the one exchanges the "
    "other. Scan the copy that was sent by another path."
)


def _scanned() -> str:
    """A line as a scanner types it that acts as a keyboard."""
    if sys.stdin.isatty():
        click.echo(_("Scan the label:") + " ", err=True, nl=False)
    return _text_line(0, "The label")


def secret(fd: int | None, prompt: str, *, confirm: bool = False) -> str:
    """A secret: the first line of ``fd``, or what is typed unseen. From here on the process
    holds secrets, and keeps itself out of swap and core dumps.
    """
    keep_in_memory()
    if fd is None:
        typed = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
        found = _decoded(str(typed).encode(errors="surrogateescape"), prompt)
    else:
        found = _text_line(fd, prompt)
    if not found:
        raise BadInputError(f"{prompt}: it is empty")
    return found


def _text_line(fd: int, what: str) -> str:
    return _decoded(_first_line(fd), what)


def _decoded(line: bytes, what: str) -> str:
    if len(line) > _LONGEST_LINE:  # to be cut would make it another
        raise BadInputError(f"{what}: the line is longer than {_LONGEST_LINE} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        raise BadInputError(f"{what}: it is not UTF-8 text") from exc


def _first_line(fd: int) -> bytes:
    data = b""
    try:
        while b"\n" not in data and len(data) <= _LONGEST_LINE:
            got = os.read(fd, _LONGEST_LINE)
            if not got:
                break
            data += got
    except OSError as exc:
        raise BadInputError(f"Descriptor {fd} cannot be read ({exc.strerror})") from exc
    return data.partition(b"\n")[0]


def unlock(path: Path | None, fd: int | None) -> PrivateKey | None:
    """The private key in ``path``, unlocked; None where no key was named."""
    if path is None:
        return None
    keys.read_recipient(path)  # a wrong file is refused before anybody types
    asked = _("Passphrase of {file}").format(file=shown.safe(path.name))
    return keys.unlock(path, secret(fd, asked))
