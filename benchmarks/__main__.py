"""``make bench``: measures all cases, prints the report and writes it to docs/performance.md."""

import argparse
import compileall
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import host
from benchmarks.cases import catchup, ingest, restore, scale, verify
from benchmarks.measure import FailedRunError
from benchmarks.report import Section, whole
from benchmarks.room import QUICK, Room, Sizes

_TOP = Path(__file__).parents[1]
_REPORT = _TOP / "docs" / "performance.md"
_NOTES = _TOP / "benchmarks" / "notes.md"
# In this order: later cases use the disks of earlier ones, and the last changes one.
CASES: dict[str, Callable[[Room], Section]] = {
    "ingest": ingest.files,
    "restore": restore.restore,
    "noise": ingest.noise,
    "verify": verify.verify,
    "clones": ingest.clones,
    "sparse": scale.sparse,
    "several": scale.several,
    "linear": scale.linear,
    "catchup": catchup.catchup,
}
_PREFACE = _TOP / "benchmarks" / "preface.md"


def _options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small disks, one round each")
    parser.add_argument("--only", default="", help=f"of {','.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5, help="pairs with each rival")
    parser.add_argument("--report", type=Path, help="where the report goes; - for nowhere")
    found = parser.parse_args(given)
    chosen = found.only.split(",") if found.only else list(CASES)
    if unknown := set(chosen) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    found.chosen = [one for one in CASES if one in chosen]
    if found.report is None:
        whole_run = not found.quick and not found.only
        found.report = _REPORT if whole_run else Path("-")
    return found


def measured(room: Room, chosen: Sequence[str]) -> list[Section]:
    """The chosen cases; one that cannot be measured says why, and the others go on."""
    sections: list[Section] = []
    for name in chosen:
        print(f"{name}:", file=sys.stderr, flush=True)  # noqa: T201
        try:
            sections.append(CASES[name](room))
        except FailedRunError as exc:
            print(f"  failed: {exc}", file=sys.stderr, flush=True)  # noqa: T201
            sections.append(Section(name, [f"Could not be measured: {exc}"], failed=True))
    return sections


def report(room: Room, sections: Sequence[Section], minutes: float) -> str:
    taken = ("measured", f"{datetime.now(UTC):%Y-%m-%d}, in {minutes:.0f} minutes")
    notes = _NOTES.read_text() if _NOTES.exists() else ""
    return whole([*host.described(room.place), taken], sections, _PREFACE.read_text(), notes)


@contextmanager
def _removing_when_ended() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C: what was started is ended, what was made is removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(given: Sequence[str] | None = None) -> int:
    """Exit code 1 when a case could not be measured: then nothing is written to the report."""
    options = _options(given)
    # As an installation has it, also where the environment keeps Python from keeping bytecode:
    # else every process that is measured would compile the product first.
    compileall.compile_dir(_TOP / "appliance", quiet=1)
    began = time.monotonic()
    base = os.environ.get("BENCH_DIR")
    with _removing_when_ended(), tempfile.TemporaryDirectory(prefix="bench-", dir=base) as place:
        rounds = 1 if options.quick else options.rounds
        room = Room(Path(place), QUICK if options.quick else Sizes(), rounds)
        sections = measured(room, options.chosen)
        told = report(room, sections, (time.monotonic() - began) / 60)
    print(told)  # noqa: T201
    failed = any(one.failed for one in sections)
    if not failed and str(options.report) != "-":
        options.report.write_text(told)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
