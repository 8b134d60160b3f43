"""Where things are kept, and which plug-ins there are. Read once, at the edge."""

import os
from importlib.metadata import entry_points
from pathlib import Path

from appliance.block import make_directory
from appliance.errors import BadInputError, StateError


def home() -> Path:
    """The state directory: MOTIONGEAR_HOME, else /var/lib/motiongear for root, else the XDG
    state directory.
    """
    chosen = os.environ.get("MOTIONGEAR_HOME")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/motiongear")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "motiongear"


def shelf() -> Path:
    """Where a console begins new shipments, a directory each: MOTIONGEAR_STORES, else a directory
    in the state directory.
    """
    chosen = os.environ.get("MOTIONGEAR_STORES")
    return Path(chosen).absolute() if chosen else home() / "shipments"


def ensure_home() -> Path:
    """The state directory, made now when it is not there; only its owner may look into it."""
    path = home()
    try:
        make_directory(path, 0o700)
    except OSError as exc:
        raise StateError(f"The state directory {path} cannot be made ({exc.strerror})") from exc
    return path


def plugins(group: str) -> list[str]:
    """The names under which plug-ins of a group are registered."""
    return sorted(entry_points(group=f"motiongear.{group}").names)


def plugin(group: str, name: str) -> object:
    """The plug-in registered under ``motiongear.<group>``; refuses a name that is not there."""
    found = entry_points(group=f"motiongear.{group}")
    if name not in found.names:
        known = ", ".join(plugins(group))
        raise BadInputError(
            f"There is no {group[:-1]} {name!r}, but: {known}", todo="Use one of those."
        )
    return found[name].load()
