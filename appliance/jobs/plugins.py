"""The plug-ins a job works with, by the names an operator gives."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from appliance import config
from appliance.block import is_block_device
from appliance.model import Source, Target


def source_for(name: str, own: tuple[Path, ...]) -> Source:
    """The source plug-in that reads ``name``: a block device or a file."""
    kind = "attached" if is_block_device(Path(name)) else "image"
    plugin = cast("Callable[[tuple[Path, ...]], Source]", config.plugin("sources", kind))
    return plugin(own)


def live_source_for(name: str, home: Path) -> Source:
    """The source plug-in that reads ``name`` while its machine goes on living."""
    kind = "live" if is_block_device(Path(name)) else "image"
    plugin = cast("Callable[[tuple[Path, ...]], Source]", config.plugin("sources", kind))
    return plugin((home,))


def target_for(kind: str, place: str) -> Target:
    plugin = cast("Callable[[str], Target]", config.plugin("targets", kind))
    return plugin(place)
