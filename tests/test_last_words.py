"""The last words of a job: after every end of every kind they say what is safe, what to do, and
what to type, which is a command that exists.
"""

import json
import shlex
from dataclasses import asdict

import click
import pytest

from appliance import cli, jobs
from appliance.cli import show
from appliance.errors import (
    AlreadySealedError,
    JobDiedError,
    MotionGearError,
    StoppedError,
    StoreFullError,
    all_errors,
)
from appliance.events import failed
from appliance.language import Language, translator
from appliance.model import JobId, ShipmentId
from appliance.state import JobRow, JobState
from appliance.state.words import last_words
from tests.technician import Shell

STORE = "/media/my store/s"
SPECS: dict[str, jobs.Spec] = {
    "ingest": jobs.IngestSpec(
        STORE, "/dev/sdb", "web01", "22" * 16, 1, (), 1 << 30, 1 << 28, 10.0
    ),
    "seal": jobs.SealSpec(STORE, (), ""),
    "verify": jobs.VerifySpec(STORE, "", "", (), keyed=True),
    "restore": jobs.RestoreSpec(STORE, "local", "/vol/a b", (), "", "", (), ()),
    "check": jobs.CheckSpec(STORE, "local", "/vol/a b", keyed=False),
    "gate": jobs.GateSpec("local", "/vol", "0.0.0.0:7433", 8),
    "gate-check": jobs.ReplicaCheckSpec("local", "/vol", "web01"),
    "catch-up": jobs.CatchUpSpec(
        "gate:7433", (("/dev/sdb", ""), ("/dev/sdc", "33" * 16)), (), 20, 60, *(False, False), 9, 9
    ),
    "erase": jobs.EraseSpec(((STORE, "11" * 16, "", 0, 0, "33" * 16),), "A. Adams", ()),
}


def row(kind: str, state: JobState, error: MotionGearError | None = None) -> JobRow:
    return JobRow(
        id=JobId(7),
        kind=kind,
        shipment=ShipmentId("11" * 16),
        disk="22" * 16,  # type: ignore[arg-type]
        title=kind,
        spec=json.dumps(asdict(SPECS[kind])),
        state=state,
        created="then",
        ended="later",
        error=error.name if error else "",
        code=error.code if error else 0,
        what=error.what if error else "",
        safe=error.safe_now if error else "",
        todo=error.todo_now if error else "",
        resolved=False,
    )


def parsed(line: str) -> click.Context:
    """The command line, taken by the program as far as it can be without running it."""
    program, *args = shlex.split(line)
    assert program == "motiongear"
    group: click.Command = cli.motiongear
    context = click.Context(group, info_name=program, **group.context_settings)
    while isinstance(group, click.Group):
        name, found, args = group.resolve_command(context, args)
        assert found is not None, name
        group, context = found, click.Context(found, context, info_name=name)
    if args == ["--help"]:
        return context
    return group.make_context(context.info_name, args, parent=context.parent)


def test_the_kinds_are_all_there_are() -> None:
    assert SPECS.keys() == jobs.KINDS.keys()


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("error", all_errors(), ids=lambda one: one.name)
def test_after_every_error_it_is_said_what_is_safe_and_what_to_type(
    kind: str, error: type[MotionGearError]
) -> None:
    states = {StoppedError: JobState.STOPPED, JobDiedError: JobState.DIED}
    said = last_words(row(kind, states.get(error, JobState.FAILED), error("it happened")))
    told = "It only reads" if kind != "erase" else "What was erased is gone for good"
    storing = kind not in {"verify", "check", "gate-check", "erase"}
    if storing or error.safe != "Everything up to the last checkpoint is stored.":
        told = error.safe
    assert said.safe.startswith(told)
    assert said.todo == error.todo
    parsed(said.verb)


def test_who_seals_again_what_is_sealed_already_is_shown_its_label() -> None:
    """The job that sealed it may have died before it could say so."""
    said = last_words(row("seal", JobState.FAILED, AlreadySealedError("it is sealed")))
    assert said.verb == f"motiongear shipment show --store '{STORE}'"


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("state", [JobState.FINISHED, JobState.PAUSED, JobState.RUNNING])
def test_a_job_that_did_not_fail_says_what_comes_next(kind: str, state: JobState) -> None:
    said = last_words(row(kind, state))
    assert said.safe
    assert said.todo
    if (kind, state) == ("gate", JobState.FINISHED):  # it ends when it is stopped
        assert not said.verb
    else:
        parsed(said.verb)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("state", [JobState.FINISHED, JobState.PAUSED, JobState.RUNNING])
def test_what_comes_next_is_said_in_chinese_too(kind: str, state: JobState) -> None:
    said = last_words(row(kind, state))
    for one in (said.safe, said.todo):
        assert translator(Language.ZH)(one) != one


def test_the_list_of_jobs_and_what_a_job_ends_with_are_said_in_chinese(
    device: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONGEAR_LANG", "zh")
    show.words(last_words(row("seal", JobState.FINISHED)))
    assert "安全:  货件已经封存。" in capsys.readouterr().err
    with device.state() as opened:
        spec = jobs.dump_spec(SPECS["seal"])
        job = opened.add_job("seal", ShipmentId("11" * 16), "seal", spec, "now")
        opened.end_job(job, JobState.FAILED, "then", failed(StoreFullError("It is full")))
    assert translator(Language.ZH)(StoreFullError.todo) in device.typed("jobs", "list").out


def test_a_job_is_resumed_with_what_it_needs() -> None:
    died = JobDiedError("it died")
    verbs = {kind: last_words(row(kind, JobState.DIED, died)).verb for kind in SPECS}
    assert verbs.pop("restore") == "motiongear jobs resume 7 --key FILE"
    assert verbs.pop("verify") == "motiongear jobs resume 7 --key FILE"
    assert set(verbs.values()) == {"motiongear jobs resume 7"}


def test_what_is_typed_next_names_what_the_job_named() -> None:
    done = {kind: last_words(row(kind, JobState.FINISHED)).verb for kind in SPECS}
    assert done["ingest"] == f"motiongear seal --store '{STORE}'"
    assert done["seal"] == f"motiongear verify --store '{STORE}'"
    assert done["restore"] == "motiongear gate serve --to '/vol/a b'"
    assert done["catch-up"] == (
        f"motiongear catch-up --gate gate:7433 --disk /dev/sdb --disk /dev/sdc={'33' * 16} --final"
    )


def test_of_a_job_that_is_over_nothing_is_left_to_type() -> None:
    dropped = row("ingest", JobState.STOPPED)
    assert not last_words(JobRow(**{**asdict(dropped), "resolved": True})).verb
    forgotten = last_words(JobRow(**{**asdict(dropped), "spec": "{}"}))
    assert not forgotten.verb
    assert "sealed" in forgotten.safe
