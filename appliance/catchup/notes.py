"""Notes: which disk a source was sent as, so that the next round needs not be told again. Under
``<home>/line/disks/``; what they say is checked against the disk each time.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.events import Json
from appliance.model import DiskId
from appliance.seal import canon
from appliance.seal.kept import kept, load, save


@dataclass(frozen=True, slots=True)
class _Note:
    gate: str
    source: str
    disk: str


def _write(note: _Note) -> Json:
    return {"disk": note.disk, "gate": note.gate, "source": note.source}


def _parse(fields: canon.Fields) -> _Note:
    return _Note(fields.text("gate", 512), fields.text("source", 4096), fields.hex("disk", 16))


class Notes:
    """The notes of this end of the line."""

    def __init__(self, home: Path) -> None:
        self._place = home / "line" / "disks"
        with kept(self._place):
            self._place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def disk(self, gate: str, source: str) -> str:
        """The disk that ``source`` was last sent as to that gate; empty: it never was."""
        path = self._path(gate, source)
        with kept(path):
            there = path.exists()
        return load(path, _parse, _write).disk if there else ""

    def new_disk(self, gate: str, source: str) -> DiskId:
        """The same again for one that was begun as new, else one that nobody has."""
        return DiskId(self.disk(gate, source) or os.urandom(16).hex())

    def note(self, gate: str, source: str, disk: DiskId) -> None:
        if self.disk(gate, source) != disk:
            save(self._path(gate, source), _write(_Note(gate, source, disk)))

    def _path(self, gate: str, source: str) -> Path:
        named = blake3(f"{gate}\0{source}".encode(errors="surrogateescape")).hexdigest()[:32]
        return self._place / f"{named}.json"
