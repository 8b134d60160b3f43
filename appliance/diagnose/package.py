"""The support package: what whoever is asked for help needs, and nothing that is secret.

Made by an allow list: every file in it is written here from what was parsed, field by field, and
no file of the state directory or of a store is copied as it is but the public papers, and those
only when they are what they say they are. Logs are what the jobs' processes wrote.
"""

import errno
import io
import json
import os
import stat
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import zstandard

from appliance.block import read_small, write_durably, write_once
from appliance.diagnose import device
from appliance.diagnose import store as stores
from appliance.diagnose.findings import Finding, worst_first
from appliance.diagnose.jobs import asked, tail
from appliance.diagnose.versions import versions
from appliance.errors import BadInputError, ExistsError, MotionGearError, StateError
from appliance.events import Json
from appliance.language import Language, marked, translator
from appliance.seal import chain, custody, head, statement
from appliance.seal.canon import now
from appliance.seal.store import SEAL
from appliance.state import EventRow, JobRow, State
from appliance.state.look import Seen

ENDING = ".tar.zst"
_TOP = "motiongear-support"
_LOGS, _LOG, _EVENTS, _ENTRIES = 20, 64 << 10, 5000, 100_000
_PAPER = 8 << 20
_LEVEL = 10
# Of an event, by its kind; of a step its detail only where that names no machine.
_EVENT: Mapping[str, tuple[str, ...]] = {
    "step": ("step",),
    "checkpoint": ("cursor", "pack", "stored"),
    "spliced": ("session", "block"),
    "unreadable": ("offset", "length"),
    "pack": ("pack", "size", "blake3"),
    "result": ("step",),
    "failed": ("error", "code", "what", "safe", "todo"),
}
_DETAILED = frozenset(
    {"check", "damage", "erase", "ingest", "look", "read-back", "restore", "verify", "wait"}
)
_FIGURES = frozenset({"deed", "form", "name", "trust", "what"})  # and all numbers
_JOB = (
    *("id", "kind", "shipment", "disk", "state", "created", "ended", "run"),
    *("error", "code", "what", "safe", "todo", "resolved"),
)
INSIDE = (
    marked("diagnosis: what was found, in English, Chinese and for programs; it names paths"),
    marked("versions: of the program, its libraries, the kernel and the tools"),
    marked("state: the schema of the state database, and how many rows it has"),
    marked("jobs: when they began and ended, and their errors, which may name disks and paths"),
    marked("events: steps, figures and errors of jobs"),
    marked("logs: the ends of what the jobs' processes wrote"),
    marked(
        "stores: names, sizes and times of files, and the public papers: head.json with the "
        "label and the recipients' names, seal.json, and the chain of custody, which names "
        "people, places and machines"
    ),
)
NOT_INSIDE = marked(
    "Not inside: keys, passphrases, enrolment codes, contents of packs, what disks tell of their "
    "machines, what jobs were told to do, the environment, the kernel's log."
)


@dataclass(frozen=True, slots=True)
class Package:
    """Where it lies, and the names of the files in it."""

    path: Path
    size: int
    names: tuple[str, ...]


def write(path: Path, home: Path, seen: Seen, more: Iterable[Path] = ()) -> Package:
    """Write a new package at ``path``, for its owner alone; ``more`` are stores besides those that
    the device knows of. ExistsError where there is something; BadInputError where it cannot be.
    """
    if not path.name.endswith(ENDING):
        raise BadInputError(f"{path} does not end in {ENDING}")
    if os.path.lexists(path):
        raise ExistsError(f"{path} exists already")
    files = dict(_files(home, seen, _known(seen, more)))
    data = zstandard.compress(_tar(files), _LEVEL)
    try:
        _put(path, data)
    except FileExistsError as exc:
        raise ExistsError(f"{path} exists already") from exc
    except OSError as exc:
        raise BadInputError(f"{path} cannot be written ({exc.strerror})") from exc
    return Package(path, len(data), tuple(files))


def _put(path: Path, data: bytes) -> None:
    try:
        write_once(path, data, 0o600)
    except OSError as exc:
        if exc.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
            raise
    else:
        return
    path.touch(0o600, exist_ok=False)  # a FAT stick knows no second names
    try:
        write_durably(path, data, 0o600)
    except OSError:
        path.unlink()
        raise


def _known(seen: Seen, more: Iterable[Path]) -> list[Path]:
    """Those that were asked for, and those that were made or read here and are there now."""
    found: list[Path] = []
    if seen.state is not None:
        found += [one.path for one in seen.state.shipments()]
        found += [Path(place) for row in seen.state.jobs() if (place := asked(row, "store"))]
    return list(dict.fromkeys((*more, *(one for one in found if one.is_dir()))))


def _tar(files: Mapping[str, bytes]) -> bytes:
    out, at = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{_TOP}/{name}")
            info.size, info.mode, info.mtime = len(data), 0o600, at
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _files(home: Path, seen: Seen, places: list[Path]) -> Iterator[tuple[str, bytes]]:
    for language in Language:
        yield f"README.{language}.txt", _readme(language)
    yield from _diagnosis(home, seen, places)
    yield "versions.json", _json(versions())
    about: Json = {
        "standing": seen.standing,
        "why": seen.why,
        "schema": list(seen.applied),
        "rows": dict(seen.rows),
    }
    yield "state.json", _json(about)
    if seen.state is not None:
        yield from _jobs(home, seen.state)
    for number, place in enumerate(places, 1):
        yield from _store(f"stores/{number}", place)


def _readme(language: Language) -> bytes:
    _ = translator(language)
    return "\n".join([*(f"- {_(one)}" for one in INSIDE), "", _(NOT_INSIDE), ""]).encode()


def _diagnosis(home: Path, seen: Seen, places: list[Path]) -> Iterator[tuple[str, bytes]]:
    found: list[Finding] = list(device.findings(home, seen))
    for one in places:
        found += stores.findings(one)
    found = worst_first(found)
    listed: Json = [one.as_json() for one in found]
    yield "diagnosis.json", _json({"at": now(), "findings": listed})
    for language in Language:
        said = [line for one in found for line in one.lines_in(language)]
        yield f"diagnosis.{language}.txt", "\n".join([*said, ""]).encode(errors="replace")


def _jobs(home: Path, state: State) -> Iterator[tuple[str, bytes]]:
    rows = state.jobs()
    yield "jobs.json", _json([_job(state, one) for one in rows])
    with suppress(ValueError, StateError):  # whatever stands in a damaged database
        events = state.events(None)[-_EVENTS:]
        yield "events.jsonl", b"".join(_json(_event(one)) for one in events)
    for row in rows[-_LOGS:]:
        if said := tail(home / "jobs" / f"{row.id}.log", _LOG):
            yield f"logs/{row.id}.log", said.encode(errors="replace")


def _job(state: State, row: JobRow) -> Json:
    known = asdict(row)
    told = state.progress(row.id)
    return {**{name: known[name] for name in _JOB}, "progress": asdict(told) if told else None}


def _event(row: EventRow) -> Json:
    body = row.body
    found: dict[str, Json] = {"job": row.job, "at": row.at, "kind": row.kind}
    found |= {name: body[name] for name in _EVENT.get(row.kind, ()) if name in body}
    if row.kind == "step" and body.get("step") in _DETAILED:
        found["detail"] = body.get("detail", "")
    if isinstance(figures := body.get("figures"), dict):
        found["figures"] = {
            name: one
            for name, one in figures.items()
            if isinstance(one, int | float) or (name in _FIGURES and isinstance(one, str))
        }
    return found


def _store(name: str, place: Path) -> Iterator[tuple[str, bytes]]:
    listed: Json = list(_listing(place))
    yield f"{name}/listing.json", _json({"path": str(place), "files": listed})
    with suppress(MotionGearError):
        yield f"{name}/head.json", head.read_marked(place).encode()
    with suppress(MotionGearError, OSError):
        data = read_small(place / SEAL, _PAPER)
        statement.parse(data)
        yield f"{name}/seal.json", data
    with suppress(MotionGearError):
        told = custody.read(custody.in_store(place))
        for number in chain.records(told):
            yield f"{name}/custody/{number:06}.json", told[number]


def _listing(place: Path) -> Iterator[Json]:
    """Names, sizes and rights; links are not followed."""
    for path in islice(_below(place), _ENTRIES):
        with suppress(OSError):
            at = path.lstat()
            yield {
                "name": str(path.relative_to(place)),
                "size": at.st_size,
                "mode": stat.filemode(at.st_mode),
                "owner": at.st_uid,
                "mtime": int(at.st_mtime),
            }


def _below(place: Path) -> Iterator[Path]:
    for directory, inside, files in os.walk(place):
        inside.sort()
        yield from (Path(directory, one) for one in sorted([*inside, *files]))


def _json(document: Json) -> bytes:
    """In ASCII: a name may hold half a character."""
    return f"{json.dumps(document)}\n".encode()
