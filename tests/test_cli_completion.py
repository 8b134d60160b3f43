"""Somebody presses the tabulator key: what the shell offers."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from appliance import cli
from appliance.cloud.local import LocalTarget
from appliance.jobs import NOBODYS
from appliance.model import VolumeState
from appliance.seal.canon import now
from appliance.state import FILE, JobState
from tests.targets import snapshot_spec, volume_spec
from tests.technician import Shell

Tabulator = Callable[..., list[str]]

# One line for each line that was begun, as bash keeps it: its words, the last being completed.
BASH = """
complete -p motiongear
while IFS=, read -ra COMP_WORDS; do
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_WORDS[COMP_CWORD]=${COMP_WORDS[COMP_CWORD]%.}
  COMPREPLY=()
  _motiongear_completion motiongear
  echo "${COMPREPLY[@]}"
done
"""


def begin_jobs(device: Shell, *ends: JobState | None) -> None:
    """Jobs that have ended so; None: one that is about to start."""
    with device.state() as opened:
        for end in ends:
            job = opened.add_job("verify", NOBODYS, "a \x1b[31mtitle", "{}", now())
            if end is not None:
                opened.end_job(job, end, now())


def reach(place: Path, *numbers: int) -> None:
    target, volume = LocalTarget(str(place)), volume_spec()
    target.ensure_volume(volume)
    target.tag(volume, VolumeState.REPLICA)
    for one in numbers:
        target.snapshot(snapshot_spec(volume, one))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    reach(tmp_path / "volumes", 1, 2)
    return tmp_path / "volumes"


@pytest.fixture
def tabulator(device: Shell, monkeypatch: pytest.MonkeyPatch) -> Tabulator:
    """What is offered behind these words, the last being completed: values, and what is told of
    them.
    """
    monkeypatch.setenv("MOTIONGEAR_HOME", str(device.home))
    offer = ShellComplete(cli.motiongear, {}, "motiongear", "")

    def pressed(*words: object) -> list[str]:
        *before, begun = map(str, words)
        found = offer.get_completions(before, begun)
        return [f"{one.value} {one.help or ''}".rstrip() for one in found]

    return pressed


def test_bash_completes_verbs_options_and_values(
    tmp_path: Path, device: Shell, place: Path
) -> None:
    begin_jobs(device, JobState.FAILED, None)
    command = tmp_path / "bin" / "motiongear"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m appliance "$@"\n')
    command.chmod(0o755)
    begun = [
        "motiongear,poi.",
        "motiongear,jobs,resume,.",
        f"motiongear,points,choose,--to,{place},.",
        "motiongear,restore,--target,.",
        "motiongear,seal,--wa.",
    ]
    environment = device.environment
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", device.typed("completion", "bash").fine().out + BASH],
        input="".join(f"{one}\n" for one in begun),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    registered, *found = done.stdout.splitlines()
    assert registered == "complete -o nosort -F _motiongear_completion motiongear"
    assert found == ["points", "1", "latest none 2 1", "local", "--waive"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_asks_in_its_own_words(device: Shell, shell: str) -> None:
    script = device.typed("completion", shell).fine().out
    assert re.findall(r"_MOTIONGEAR_COMPLETE=(\w+)", script) == [f"{shell}_complete"]
    assert "_motiongear_completion" in script
    device.typed("completion", "csh").fine(2)


def test_jobs_are_offered_where_the_verb_can_take_them(
    device: Shell, tabulator: Tabulator
) -> None:
    begin_jobs(device, JobState.FINISHED, JobState.STOPPED, None)
    title = r"a \x1b[31mtitle"
    assert tabulator("jobs", "follow", "") == [
        f"3 queued: {title}",
        f"2 stopped: {title}",
        f"1 finished: {title}",
    ]
    assert tabulator("jobs", "stop", "") == [f"3 queued: {title}"]
    assert tabulator("jobs", "resume", "") == [f"2 stopped: {title}"]
    assert tabulator("jobs", "resume", "3") == []


def test_points_are_those_of_the_machine_at_the_place(tabulator: Tabulator, place: Path) -> None:
    to = ("--to", place)
    assert tabulator("points", "discard", *to, "") == ["2 web01", "1 web01"]
    assert tabulator("points", "discard", *to, "-m", "db01", "") == []
    assert tabulator("points", "clone", "") == ["latest", "chosen"]
    tape = ("--target", "tape", *to)
    assert tabulator("points", "clone", *tape, "l") == ["latest"]


def test_who_only_completes_makes_nothing_and_hears_of_nothing(
    tmp_path: Path, tabulator: Tabulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MOTIONGEAR_HOME", str(home))
    assert tabulator("jobs", "stop", "") == []
    assert not home.exists()
    home.mkdir()
    (home / FILE).write_bytes(b"damaged" * 1000)
    assert tabulator("jobs", "stop", "") == []


def test_paths_are_left_to_the_shell_and_what_is_hidden_is_not_offered(
    tabulator: Tabulator,
) -> None:
    assert tabulator("check", "--to", "/med") == ["/med"]
    assert tabulator("ingest", "/dev/sd") == ["/dev/sd"]
    assert tabulator("completion", "f") == ["fish"]
    (only,) = tabulator("job")
    assert only.startswith("jobs ")
