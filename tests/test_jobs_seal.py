"""Sealing as a job: what it forgets, also when it was killed at the worst moment."""

from pathlib import Path

import pytest

from appliance import jobs
from appliance.errors import AlreadySealedError
from appliance.events import silent
from appliance.model import JobId
from appliance.seal import canon
from appliance.seal.papers import write_disk_head
from appliance.state import SourceRow, State
from tests.support import new_store, point, put_blocks, sample_bytes, seal_it


def test_sealing_again_forgets_what_a_killed_sealing_left(tmp_path: Path) -> None:
    """Killed behind its signature: the facts about the disks still stand in the database."""
    store, device = new_store(tmp_path)
    data = sample_bytes()
    spec = point(data)
    put_blocks(store, data, spec)
    with State(tmp_path / "home") as state:
        facts = canon.dump(write_disk_head(spec)).decode()
        state.note_source(store.head.shipment, SourceRow(spec.disk, 0, facts, bytes(32)))
        seal_it(store, device, spec)
        assert state.sources(store.head.shipment)
        desk = jobs.Desk(JobId(1), tmp_path / "home", state, silent, lambda: False, None)
        with pytest.raises(AlreadySealedError):
            jobs.seal(jobs.SealSpec(str(store.path), (), ""), desk)
        assert not state.sources(store.head.shipment)
