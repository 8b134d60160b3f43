"""How much room there is, and how sizes are written."""

from pathlib import Path

from appliance.block import free_space
from appliance.diagnose.findings import Finding
from appliance.diagnose.kinds import Kind

_NONE, _SHORT = 64 << 20, 1 << 30  # bytes: less stops jobs, less stops them soon


def left(path: Path) -> Finding:
    """How much room there is at ``path``; raises OSError."""
    free = free_space(path)
    kind = Kind.SPACE_NONE if free < _NONE else Kind.SPACE_SHORT if free < _SHORT else Kind.SPACE
    return Finding(kind, {"path": str(path), "size": written(free)})


def written(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
