"""Power cuts on the three ways, a few of them; ``python -m tests.disks.campaign`` makes more. And
the proof that cuts show a sync that is missing.
"""

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.disks.campaign import Campaign, Cut, histogram

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount file systems.")
OPERATIONS = 700  # roughly what each of the ways takes


@pytest.mark.parametrize(
    ("way", "seeds"), [("ingest", (4,)), ("restore", (4,)), ("catch-up", (8,))]
)
def test_what_was_told_survives_a_power_cut(
    tmp_path: Path, way: str, seeds: tuple[int, ...]
) -> None:
    with closing(Campaign(way, tmp_path / way, operations=OPERATIONS)) as campaign:
        assert [campaign.cut(seed).lost for seed in seeds] == [""] * len(seeds)


def test_a_checkpoint_that_does_not_sync_its_pack_is_found(tmp_path: Path) -> None:
    rig = ["pack-checkpoint"]
    with closing(Campaign("ingest", tmp_path / "ingest", rig, OPERATIONS)) as campaign:
        assert any(campaign.cut(seed).lost for seed in (1, 4, 6, 9))


def test_the_histogram_counts_by_stage_and_by_tenths() -> None:
    cuts = [
        Cut(
            "ingest",
            seed,
            70 * seed,
            700,
            "seal" if seed > 7 else "ingest",
            "fsync *.open",
            "",
            lost,
        )
        for seed, lost in enumerate(["", "a block"] + [""] * 9)
    ]
    said = histogram(cuts).splitlines()
    assert said[0] == "ingest: 11 cuts, 1 lost something"
    assert [one.split() for one in said[1:3]] == [
        ["ingest", "8", "########"],
        ["seal", "3", "###"],
    ]
    assert said[-1].endswith(" 1 1 1 1 1 1 1 1 1 2")
