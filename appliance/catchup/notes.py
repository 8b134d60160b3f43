"""Notes: which disk a source was sent as, so that the next round needs not be told again. Under
``<home>/line/disks/``; what they say is checked against the disk each time.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from appliance.block import make_directory
from appliance.events import Json
from appliance.model import DiskId
from appliance.seal import canon
from appliance.seal.kept import kept, load, save

_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class _Note:
    """``source`` is for people: not every file name is text. ``new_size`` is the size of a disk
    that was begun as new, 0 for one that was shipped.
    """

    gate: str
    source: str
    disk: str
    new_size: int


def _write(note: _Note) -> Json:
    return {
        "disk": note.disk,
        "gate": note.gate,
        "new_size": note.new_size,
        "source": note.source,
    }


def _parse(fields: canon.Fields) -> _Note:
    return _Note(
        gate=fields.text("gate", 512),
        source=fields.text("source", _LONGEST),
        disk=fields.hex("disk", 16),
        new_size=fields.number("new_size"),
    )


class Notes:
    """The notes of this end of the line."""

    def __init__(self, home: Path) -> None:
        self._place = home / "line" / "disks"
        with kept(self._place):
            make_directory(self._place, 0o700)

    def disk(self, gate: str, source: str) -> str:
        """The disk that ``source`` was last sent as to that gate; empty: it never was."""
        note = self._note(gate, source)
        return note.disk if note is not None else ""

    def new_disk(self, gate: str, source: str, size: int) -> DiskId:
        """The same again for one that was begun as new and has this size, else one that nobody
        has.
        """
        note = self._note(gate, source)
        again = note is not None and note.new_size == size
        return DiskId(note.disk if note is not None and again else os.urandom(16).hex())

    def note(self, gate: str, source: str, disk: DiskId, new_size: int = 0) -> None:
        """``new_size``: the disk is begun as new, with so many bytes."""
        before = self._note(gate, source)
        if before is None or before.disk != disk:
            told = source.encode(errors="backslashreplace").decode()[:_LONGEST]
            save(self._path(gate, source), _write(_Note(gate, told, disk, new_size)))

    def _note(self, gate: str, source: str) -> _Note | None:
        path = self._path(gate, source)
        with kept(path):
            there = path.exists()
        return load(path, _parse, _write) if there else None

    def _path(self, gate: str, source: str) -> Path:
        named = blake3(f"{gate}\0{source}".encode(errors="surrogateescape")).hexdigest()[:32]
        return self._place / f"{named}.json"
