"""The last words of a job: what is safe, what to do, and what to type, however it ended."""

import json
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from appliance.errors import JobDiedError, StoppedError
from appliance.events import Json
from appliance.language import marked
from appliance.state.rows import LIVING, JobRow, JobState

_STORING_NOTHING = {
    "verify": marked("It only reads: nothing was changed."),
    "check": marked("It only reads: nothing was changed."),
    "gate-check": marked("It only reads: nothing was changed."),
    "erase": marked("What was erased is gone for good; what is left was not touched."),
}
_Spec = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Words:
    """``verb`` is a command to type; empty where there is nothing to do. Whoever shows the
    sentences translates them.
    """

    safe: str
    todo: str
    verb: str


def last_words(row: JobRow) -> Words:
    """Of a job that lives: what is true while it does."""
    if row.state in LIVING:
        return _living(row)
    if row.resolved and row.kind == "erase":
        return Words(
            marked("What it has erased is gone for good."),
            marked("See what is certified."),
            "motiongear certificate list",
        )
    if row.resolved:
        return Words(
            marked("Nothing of it is kept."), marked("Start a new job where you want one."), ""
        )
    if row.forgotten:  # and was no secret to whoever sealed it
        return Words(marked("Its disk is in the sealed shipment."), marked("Nothing."), "")
    spec = cast("_Spec", json.loads(row.spec))
    if row.state is JobState.FINISHED:
        return _finished(row, spec)
    verb = row.verb or _INSTEAD.get(row.error, _resume)(row, spec)
    return Words(safe(row), row.todo, verb)


def safe(row: JobRow) -> str:
    """What is safe after a job that did not finish: where it was merely broken off, and is of a
    kind that stores nothing, its error would not say what is true.
    """
    broken_off = row.safe in {StoppedError.safe, JobDiedError.safe}
    return _STORING_NOTHING.get(row.kind, row.safe) if broken_off else row.safe


def _living(row: JobRow) -> Words:
    if row.state is JobState.PAUSED:
        return Words(
            marked("All that was done so far is safe, and the job keeps what it holds."),
            marked("Let it go on when you like."),
            f"motiongear jobs resume {row.id}",
        )
    return Words(
        marked("It goes on without a console."),
        marked("See it."),
        f"motiongear jobs follow {row.id}",
    )


def _finished(row: JobRow, spec: _Spec) -> Words:
    match row.kind:
        case "ingest":
            told = (
                marked("All of the disk is in the store, and was read back."),
                marked("Seal the shipment."),
            )
            verb = _line("motiongear seal", "--store", spec["store"])
        case "seal":
            told = (
                marked("The shipment is sealed."),
                marked("Ship it; verify it where it arrives."),
            )
            verb = _line("motiongear verify", "--store", spec["store"])
        case "verify":
            told = (marked("Every pack is as it was sealed."), marked("Restore it."))
            verb = _line("motiongear restore --key FILE --to PLACE", "--store", spec["store"])
        case "restore" | "check":
            told = (
                marked("Every block of the volumes is that of the manifest."),
                marked("Let the gate take up the volumes, and catch up from the source."),
            )
            verb = _line("motiongear gate serve", "--to", spec["place"])
        case "gate-check":
            told = (
                marked("Every block of the replicas is that of the last round."),
                marked("Choose a point."),
            )
            verb = _line("motiongear points list", "--to", spec["place"])
        case "catch-up" if spec["final"]:
            told = (
                marked("Both ends are the same, at a point that is kept."),
                marked("Boot it at the gate."),
            )
            verb = "motiongear points list --to PLACE"
        case "catch-up":
            told = (
                marked("The replica is at the last round's point."),
                marked("Stop the source, then finish."),
            )
            verb = _catch_up(spec, "--final")
        case "erase":
            told = (
                marked("What was erased is gone."),
                marked("Keep the certificate of what was done and seen."),
            )
            verb = f"motiongear certificate show {row.id}"
        case _:
            told, verb = (marked("What it has done stands."), marked("Nothing.")), ""
    return Words(*told, verb)


def _line(verb: str, *args: Json) -> str:
    return f"{verb} {shlex.join(str(one) for one in args)}"


def _catch_up(spec: _Spec, *more: str) -> str:
    disks = cast("list[list[str]]", spec["disks"])
    named = [f"{source}={disk}" if disk else source for source, disk in disks]
    options = [one for name in named for one in ("--disk", name)]
    return _line("motiongear catch-up", "--gate", spec["gate"], *options, *more)


def _resume(row: JobRow, spec: _Spec) -> str:
    return f"motiongear jobs resume {row.id}{' --key FILE' if _keyed(row, spec) else ''}"


def _keyed(row: JobRow, spec: _Spec) -> bool:
    return row.kind == "restore" or bool(spec.get("keyed"))


def needs_key(row: JobRow) -> bool:
    """Whether the job cannot begin without a private key; False of one whose spec is nonsense."""
    with suppress(ValueError, AttributeError, RecursionError):
        return _keyed(row, cast("_Spec", json.loads(row.spec)))
    return False


def _resume_from(row: JobRow, spec: _Spec) -> str:
    """The disk may come back under another name."""
    return _resume(row, spec) + (" --source DISK" if row.kind == "ingest" else "")


def _anew(row: JobRow, spec: _Spec) -> str:
    """What was asked for cannot be done: it has to be asked for otherwise."""
    del spec
    return f"motiongear {_VERBS[row.kind]} --help"


def _compare(row: JobRow, spec: _Spec) -> str:
    """Somebody's words and the store differ: neither is to be used before that is understood. Or
    it is sealed already, by a job that died before it could say so: there stands its label.
    """
    if "store" not in spec:
        return _anew(row, spec)
    return _line("motiongear shipment show", "--store", spec["store"])


def _restore_again(row: JobRow, spec: _Spec) -> str:
    if row.kind != "check":
        return _resume(row, spec)
    where = ("--store", spec["store"], "--target", spec["target"], "--to", spec["place"])
    return _line("motiongear restore --key FILE", *where)


def _erase_on(row: JobRow, spec: _Spec) -> str:
    """The store is half gone: only its erase can come to an end."""
    if "store" not in spec:
        return _anew(row, spec)
    return _line("motiongear erase", "--store", spec["store"])


def _finally(row: JobRow, spec: _Spec) -> str:
    return _catch_up(spec, "--final") if row.kind == "catch-up" else _resume(row, spec)


def _list(row: JobRow, spec: _Spec) -> str:
    del row, spec
    return "motiongear jobs list"


_VERBS = {
    "ingest": "ingest",
    "seal": "seal",
    "verify": "verify",
    "restore": "restore",
    "check": "check",
    "gate": "gate serve",
    "gate-check": "gate check",
    "catch-up": "catch-up",
    "erase": "erase",
}
# What to type after an error, by its name; after all others the job is resumed once the cause is
# mended: its spec is still what is wanted.
_INSTEAD: Mapping[str, Callable[[JobRow, _Spec], str]] = {
    "already-sealed": _compare,
    "bad-input": _anew,
    "check-failed": _restore_again,
    "enrolment-code": lambda *_: "motiongear enrol --help",
    "erased-in-part": _erase_on,
    "exists": _anew,
    "foreign-pack": _compare,
    "incomplete-disk": _anew,
    "job-running": _list,
    "not-a-disk": lambda *_: "motiongear disks",
    "not-a-store": _anew,
    "not-confirmed": _anew,
    "not-converging": _finally,
    "not-delivered": _anew,
    "not-enrolled": lambda *_: "motiongear enrol --help",
    "not-ready-to-ship": _anew,
    "older-seal": _compare,
    "open-error": _list,
    "other-shipment": _anew,
    "own-disk": lambda *_: "motiongear disks",
    "pack-repeated": _compare,
    "pack-unlisted": _compare,
    "recipients-mismatch": _compare,
    "replica-unknown": _anew,
    "root-mismatch": _compare,
    "seal-damaged": _compare,
    "seal-missing": _compare,
    "signer-mismatch": _compare,
    "source-changed": _resume_from,
    "source-gone": _resume_from,
    "unknown-name": _anew,
    "volume-busy": _list,
    "volume-foreign": _anew,
    "volume-missing": _anew,
    "volume-too-small": _anew,
    "wrong-peer": lambda *_: "motiongear enrol --help",
}
