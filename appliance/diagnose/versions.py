"""Which program, libraries, kernel and tools there are; nothing that names the machine."""

import os
import platform
import re
import sqlite3
import ssl
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from appliance.block import free_memory
from appliance.errors import ToolFailedError, ToolMissingError
from appliance.events import Json
from appliance.run import run

_TOOLS = ("blkid", "losetup", "qemu-img", "sfdisk")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def versions() -> dict[str, Json]:
    return {
        "program": _version("motiongear"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": os.cpu_count() or 0,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_free": free_memory(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "system": _system(),
        "libraries": dict(_libraries()),
        "tools": {one: _tool(one) for one in _TOOLS},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _libraries() -> Iterator[tuple[str, str]]:
    for one in sorted(requires("motiongear") or ()):
        if found := _NAME.match(one):
            yield found[0], _version(found[0])


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _tool(name: str) -> str:
    """What it says of itself; empty where it is missing."""
    try:
        return run(name, "--version", timeout=10).partition("\n")[0][:200]
    except (ToolMissingError, ToolFailedError):
        return ""
