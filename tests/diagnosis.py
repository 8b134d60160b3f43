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
    """The findings by kind, the last of each; English and Chinese are told without a gap."""
    told = shell.typed("diagnose", "--json", *options)
    listed = json.loads(told.out)["findings"]
    wrong = any(one["severity"] == "error" for one in listed)
    assert told.code == (WRONG if wrong else 0), told
    for language in Language:
        said = shell.typed("diagnose", "--lang", language, *options).fine(told.code)
        assert not [one for one in listed if f"({one['kind']}" not in said.out]
        assert "{" not in said.out
    order = [one["severity"] for one in listed]
    assert order == sorted(order, key=["error", "warning", "ok"].index)
    return {one["kind"]: one for one in listed}


def snapshot(place: Path) -> dict[str, object]:
    """All that can be told of the files in a directory but when they were read."""
    return {str(one): _as_it_is(one) for one in [place, *sorted(place.rglob("*"))]}


def _as_it_is(path: Path) -> object:
    at = path.lstat()
    data = path.read_bytes() if path.is_file() else b""
    return at.st_ino, at.st_mode, at.st_size, at.st_nlink, at.st_mtime_ns, at.st_ctime_ns, data
