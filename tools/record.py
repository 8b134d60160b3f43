"""Records what the homes below a place tell while something runs there, for `console --demo`.

    python -m tools.record PLACE OUT -- motiongear demo --keep --dir PLACE

Paths below PLACE become those of the demo; the machine's disks are described by hand, below.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from appliance.events import Json
from appliance.model import JobId
from appliance.state import FILE, LIVING, JobRow, State

LOOK_SECONDS = 0.25
PUBLIC = ("head.json", "seal.json", "custody")
SAID = "/srv/migration"  # where the demo says its files are
# As the disks of two servers would be shown; the recorded ones are files.
DISKS: list[Json] = [
    {
        "node": "/recorded/sdb",
        "serial": "S4EWNX0R512876",
        "model": "SAMSUNG SSD 860",
        "bus": "usb",
        "size": 500_107_862_016,
    },
    {
        "node": "/recorded/sdc",
        "serial": "WD-WCC4N3YX8F2K",
        "model": "WDC WD20EFRX",
        "bus": "usb",
        "size": 2_000_398_934_016,
    },
]


@dataclass
class Home:
    """What of a home was told already. ``number`` keeps its jobs apart from those of others."""

    path: Path
    number: int
    state: State
    rows: dict[JobId, JobRow] = field(default_factory=dict)
    told: dict[JobId, Json] = field(default_factory=dict)
    shipments: dict[str, tuple[str, str]] = field(default_factory=dict)
    last: int = 0

    def job(self, job: JobId) -> int:
        return 1000 * self.number + job

    def lines(self, place: Path) -> Iterator[dict[str, Json]]:
        """What is new since it was looked at the last time."""
        for one in self.state.shipments():
            said = (str(one.path), one.root)
            if self.shipments.get(one.id) != said:
                self.shipments[one.id] = said
                yield from _files(one.path, place)
                below = str(one.path.relative_to(place))
                about: dict[str, Json] = {
                    "id": one.id,
                    "label": one.label,
                    "path": below,
                    "root": one.root,
                }
                yield {"shipment": about}
        for row in self.state.jobs():
            yield from self._job(row)
        for event in self.state.events(None, self.last):
            self.last = event.id
            if event.kind != "failed":
                said_by: dict[str, Json] = {
                    "job": self.job(event.job),
                    "kind": event.kind,
                    "body": dict(event.body),
                }
                yield {"event": said_by}
        for row in self.rows.values():
            yield from self._ended(row)

    def _job(self, row: JobRow) -> Iterator[dict[str, Json]]:
        known = self.rows.get(row.id)
        if known is None:
            about: dict[str, Json] = {
                "id": self.job(row.id),
                "kind": row.kind,
                "shipment": row.shipment,
                "disk": row.disk,
                "title": row.title,
            }
            yield {"job": about}
        elif known.state is not row.state and row.state in LIVING:
            yield {"state": {"job": self.job(row.id), "state": row.state}}
        self.rows[row.id] = row
        told = self.state.progress(row.id)
        if told is not None and row.state in LIVING:
            progress: dict[str, Json] = {"step": told.step, "done": told.done, "total": told.total}
            if self.told.get(row.id) != progress:
                self.told[row.id] = progress
                yield {"progress": {"job": self.job(row.id), **progress}}

    def _ended(self, row: JobRow) -> Iterator[dict[str, Json]]:
        if row.state not in LIVING and self.told.get(row.id) != "ended":
            self.told[row.id] = "ended"
            yield {
                "state": {
                    "job": self.job(row.id),
                    "state": row.state,
                    "error": row.error,
                    "code": row.code,
                    "what": row.what,
                    "safe": row.safe,
                    "todo": row.todo,
                    "verb": row.verb,
                }
            }


def _files(store: Path, place: Path) -> Iterator[dict[str, Json]]:
    """What is public in a store, wherever it was moved by now."""
    found = next((one.parent for one in place.glob("*/seal.json")), store)
    for name in PUBLIC:
        for one in sorted((found / name).glob("*.json")) or [found / name]:
            if one.is_file():
                below = str(store.relative_to(place) / one.relative_to(found))
                yield {"file": {"path": below, "text": one.read_text()}}


def main(arguments: list[str]) -> int:
    place, out, command = Path(arguments[0]), Path(arguments[1]), arguments[3:]
    lines: list[dict[str, Json]] = [{"at": 0, "disks": DISKS}]
    began = time.monotonic()
    running = subprocess.Popen(command)
    homes: dict[Path, Home] = {}
    with ExitStack() as stack:
        ends = False
        while not ends:
            ends = running.poll() is not None
            for one in sorted(place.glob(f"*-home/{FILE}")):
                if one.parent not in homes:
                    state = stack.enter_context(State(one.parent))
                    homes[one.parent] = Home(one.parent, len(homes), state)
            for home in homes.values():
                at = round(time.monotonic() - began, 2)
                lines += [{"at": at, **line} for line in home.lines(place)]
            time.sleep(LOOK_SECONDS)
    text = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in lines)
    out.write_text(text.replace(str(place), SAID))
    return running.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
