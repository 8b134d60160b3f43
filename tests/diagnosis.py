"""What a diagnosis says, by kind, and what shows that it has changed nothing."""

import json
from pathlib import Path
from typing import Any

from appliance.errors import FoundWrongError
from appliance.language import Language
from tests.technician import Shell

WRONG = FoundWrongError.code
Found = dict[str, dict[str, Any]]


def found(shell: Shell, *options: object) -> Found:
    """The findings by kind, the last of each; the same are told in both languages without a gap:
    what is looked at stands still.
    """
    told = listed(shell, *options)
    wrong = any(one["severity"] == "error" for one in told.values())
    for language in Language:
        said = shell.typed("diagnose", "--lang", language, *options).fine(WRONG if wrong else 0)
        assert not [one for one in told if f"({one}" not in said.out]
        assert "{" not in said.out
    return told


def listed(shell: Shell, *options: object) -> Found:
    """The findings by kind, the last of each, the worst first, with the exit code that they ask
    for.
    """
    said = shell.typed("diagnose", "--json", *options)
    told = json.loads(said.out)["findings"]
    wrong = any(one["severity"] == "error" for one in told)
    assert said.code == (WRONG if wrong else 0), said
    order = [one["severity"] for one in told]
    assert order == sorted(order, key=["error", "warning", "ok"].index)
    return {one["kind"]: one for one in told}


def snapshot(place: Path) -> dict[str, object]:
    """All that can be told of the files in a directory but when they were read."""
    return {str(one): _as_it_is(one) for one in [place, *sorted(place.rglob("*"))]}


def _as_it_is(path: Path) -> object:
    at = path.lstat()
    data = path.read_bytes() if path.is_file() else b""
    return at.st_ino, at.st_mode, at.st_size, at.st_nlink, at.st_mtime_ns, at.st_ctime_ns, data
