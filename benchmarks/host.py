"""The machine and the programs that the figures were taken with."""

import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Command, prepare
from benchmarks.rivals import have

_PROGRAMS = {
    "zstd": ("zstd", "--version"),
    "age": ("age", "--version"),
    "restic": ("restic", "version"),
    "borg": ("borg", "--version"),
    "rsync": ("rsync", "--version"),
    "perf": ("perf", "--version"),
}
_LIBRARIES = ("motiongear", "blake3", "cryptography", "zstandard")


def _version(argv: tuple[str, ...]) -> str:
    if not have(argv[0]):
        return "not installed: left out"
    said = prepare(Command(argv))
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()


def _field(path: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", Path(path).read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def _file_system(place: Path) -> str:
    argv = ("findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", str(place))
    return " on ".join(prepare(Command(argv)).split())


def described(place: Path) -> list[tuple[str, str]]:
    """What a reader has to know: processor, memory, kernel, versions, and where was written."""
    memory = int(_field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20)
    return [
        ("processor", f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores"),
        ("memory", f"{memory:.0f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("work directory", _file_system(place)),
        ("Python", sys.version.split()[0]),
        *((one, version(one)) for one in _LIBRARIES),
        *((name, _version(argv)) for name, argv in _PROGRAMS.items()),
    ]
