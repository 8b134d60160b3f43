"""An answer that takes long: the gate says that it is at work, and the sender waits. Real
processes; a hook holds the survey of a volume, and shortens the sender's patience.
"""

import time
from pathlib import Path

import pytest

from appliance.errors import LinkCutError
from appliance.events import Progress
from appliance.state import JobState
from tests.technician import until
from tests.test_catchup_journey import Site, enrolled, site

__all__ = ["enrolled", "site"]  # fixtures

_PATIENCE_SECONDS = 1.0
# Runs first in every process; the gate surveys a block, and no more as long as the file is there.
_HOOK = """
import time
from pathlib import Path
from appliance.catchup import link, replica

link._REPLY_SECONDS, link._BUSY_SECONDS = {patience}, {busy}
hold, standing = Path({hold!r}), replica._standing

def held(volume, like, index, buffer):
    while index and hold.exists():
        time.sleep(0.02)
    return standing(volume, like, index, buffer)

replica._standing = held
"""


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    found = tmp_path / "hold"
    found.touch()
    return found


def hooked(site: Site, monkeypatch: pytest.MonkeyPatch, hold: Path, busy_seconds: float) -> None:
    """A gate that has lost what it knew of a volume, and surveys it slowly."""
    place = hold.with_name("hook")
    place.mkdir()
    told = _HOOK.format(patience=_PATIENCE_SECONDS, busy=busy_seconds, hold=str(hold))
    (place / "sitecustomize.py").write_text(told)
    monkeypatch.setenv("PYTHONPATH", str(place))
    site.gate.kill(site.serving)
    (manifest,) = (site.gate.home / "replicas").glob("*/manifest")
    manifest.unlink()
    site.serve()


def known_to_the_gate(site: Site) -> None:
    site.machine.typed(*site.catch_up("--rounds", 1)).fine()


def test_a_survey_that_lasts_is_waited_for_because_the_gate_says_that_it_is_at_work(
    enrolled: Site, monkeypatch: pytest.MonkeyPatch, hold: Path
) -> None:
    known_to_the_gate(enrolled)
    hooked(enrolled, monkeypatch, hold, 0.1)
    began = time.monotonic()
    job = enrolled.begun(0)
    with enrolled.machine.state() as opened:

        def at_work() -> bool:
            told = opened.progress(job)
            return (
                isinstance(told, Progress) and told.step == "gate" and 0 < told.done < told.total
            )

        until(lambda: time.monotonic() > began + 4 * _PATIENCE_SECONDS and at_work())
        assert opened.job(job).state is JobState.RUNNING
    hold.unlink()
    assert enrolled.machine.ended(job).state is JobState.FINISHED
    assert enrolled.volume.read_bytes() == enrolled.image.read_bytes()


def test_a_gate_that_says_nothing_is_not_waited_for(
    enrolled: Site, monkeypatch: pytest.MonkeyPatch, hold: Path
) -> None:
    known_to_the_gate(enrolled)
    hooked(enrolled, monkeypatch, hold, 3600.0)
    job = enrolled.begun(0)
    assert enrolled.machine.ended(job).state is JobState.FAILED
    (failed,) = enrolled.machine.events(job, "failed")
    assert failed["error"] == LinkCutError.name
    assert "has not answered for 1 s" in failed["what"]
    hold.unlink()
