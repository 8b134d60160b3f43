"""A bounded share of `make chaos`, and what it says of a product that loses something."""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.runs import Outcome, Runs, Wish
from tests.chaos.stages import Ingest
from tests.chaos.troubles import rigged
from tests.chaos.work import looks_dead
from tests.chaos.world import LostError

_UNMEASURED = frozenset({"verify", "verify with key", "check", "frozen", "final"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A journey that went well, put aside before each of its stages."""
    if os.geteuid():
        pytest.skip("Only root may mount file systems and make network namespaces.")
    found = Runs(tmp_path_factory.mktemp("chaos") / "world")
    found.travel("round", without=_UNMEASURED)
    yield found
    found.world.stop_all()


def killed(runs: Runs, wish: Wish) -> Outcome:
    """The first run whose moment came before the stage had ended."""
    for seed in range(10):
        found = runs.run(seed, wish)
        assert not found.lost, found
        if found.struck:
            return found
    raise AssertionError("no moment came in time")


@pytest.mark.parametrize("stage", ["ingest", "restore"])
def test_what_is_killed_goes_on_and_ends_as_if_nothing_had_been(runs: Runs, stage: str) -> None:
    assert killed(runs, Wish(stage, "kill", moments=1)).struck


def test_a_round_over_a_thin_line_whose_link_goes_down_and_whose_ends_are_killed(
    runs: Runs,
) -> None:
    """Both ends are in network namespaces of their own."""
    assert killed(runs, Wish("round", trouble="thin line", moments=1)).struck


def test_a_sync_that_failed_once_is_told_and_what_it_lost_is_read_again(runs: Runs) -> None:
    found = runs.run(1, Wish("ingest", trouble="store fsync fails once"))
    assert not found.lost, found
    assert "store-write" in found.met


@pytest.mark.parametrize(
    ("broken", "said"),
    [("told-too-early", "told as stored"), ("all-again", "blocks from")],
)
def test_a_product_that_loses_or_doubles_something_is_caught(
    runs: Runs, broken: str, said: str
) -> None:
    stage, world = Ingest(), runs.world
    world.take_up("ingest")
    world.rig = rigged(broken)
    with ExitStack() as ends:
        ends.callback(world.stop_all)
        stage.opened(world, ends)
        other, work = stage.start(world)
        world.device.wait_for(work.job, "checkpoint", 2)
        assert work.strike(0) is not None
        looks_dead(work)
        known = stage.before(world, work)
        work = stage.again(world, work, random.Random(1))
        for one in (other, work):
            one.wait()
        with pytest.raises(LostError, match=said):
            stage.after(world, work, known)
