"""Pausing catch-up at the shell: a round rests in the middle, with its line up, and goes on over
that very line; the last one does not, since its source stands still meanwhile.
"""

import time
from pathlib import Path

import pytest

from appliance import jobs
from appliance.state import JobState
from tests.technician import disk_id, noise, until
from tests.test_catchup_journey import SIZE, Site, begun, enrolled, site

__all__ = ["enrolled", "site"]  # fixtures

# Runs first in every process: an end that waits for the other gives up much sooner than it would.
_HOOK = """
from appliance.catchup import link

link._REPLY_SECONDS = 3.0
"""


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds after which an end gives up that hears nothing."""
    place = tmp_path / "hook"
    place.mkdir()
    (place / "sitecustomize.py").write_text(_HOOK)
    monkeypatch.setenv("PYTHONPATH", str(place))
    return 3.0


def test_a_round_that_rests_goes_on_over_the_same_line(
    impatient: float, request: pytest.FixtureRequest
) -> None:
    site: Site = request.getfixturevalue("enrolled")  # its gate is impatient, too
    site.image.write_bytes(noise(SIZE))
    job = site.sending("12MB/s")
    assert f"Job {job} is paused." in site.machine.typed("jobs", "pause", job).fine().out
    with site.machine.state() as opened:
        rested_at = opened.progress(job)
        since = time.monotonic()
        until(lambda: time.monotonic() > since + 1.5 * impatient)
        assert opened.progress(job) == rested_at
        assert opened.job(job).state is JobState.PAUSED
    site.machine.typed("jobs", "resume", job).fine()
    assert site.machine.ended(job).state is JobState.FINISHED
    assert site.volume.read_bytes() == site.image.read_bytes()
    steps = [one["step"] for one in site.machine.events(job, "step")]
    assert "wait" not in steps  # for another line
    assert steps.count("paused") == steps.count("goes on") == 1
    (told,) = site.machine.events(job, "result")[:1]
    assert told["figures"]["sent"] < 1.1 * SIZE


def test_a_round_whose_gate_goes_away_while_it_rests_goes_on_with_the_next(
    enrolled: Site,
) -> None:
    site = enrolled
    site.image.write_bytes(noise(SIZE))
    job = site.sending("12MB/s")
    site.machine.typed("jobs", "pause", job).fine()
    site.gate.kill(site.serving)
    site.serve()
    site.machine.typed("jobs", "resume", job).fine()
    assert site.machine.ended(job).state is JobState.FINISHED
    assert site.volume.read_bytes() == site.image.read_bytes()


def test_the_last_round_says_that_it_does_not_rest_and_ends(enrolled: Site) -> None:
    site = enrolled
    site.image.write_bytes(noise(SIZE))
    spec = jobs.CatchUpSpec(
        gate=site.address,
        disks=((str(site.image), disk_id("web01")),),
        limits=("12MB/s",),
        rounds=1,
        short_seconds=0,
        final=True,
        stopped=True,
        freeze_seconds=60,
        patience_seconds=60,
    )
    with site.machine.state() as opened:
        job = begun(opened, "catch-up", spec)
        until(lambda: bool((told := opened.progress(job)) and told.stored > 2 << 20))
    said = site.machine.typed("jobs", "pause", job).fine()
    assert "a last round, which holds the source frozen: it ends first" in said.out
    assert f"Job {job} is finished." in said.out
    assert "paused" not in [one["step"] for one in site.machine.events(job, "step")]
    assert site.volume.read_bytes() == site.image.read_bytes()
