"""Power cuts by the dozen: ``python -m tests.disks.campaign [--cuts 100] [--way ingest]``.

Each cut has a seed, which says after how many operations of the disk it comes, what it leaves, and
whether the machine at the other end is killed too. ``--seed`` repeats one; what the programs'
threads do meanwhile no seed can say: a cut that is repeated meets the same moment, not always the
same byte.
"""

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.disks.outage import LostError, PowerCutError, Shells, Told, Way, logs_are_clean, need
from tests.disks.ways import CatchUpWay, Cuttable, IngestWay, RestoreWay

WAYS: dict[str, Callable[[Path], Cuttable]] = {
    "ingest": IngestWay,
    "restore": RestoreWay,
    "catch-up": CatchUpWay,
}
# Syncs that can be left out (rig/sitecustomize.py), and the way on which they are missed.
SYNCS = {
    "pack-checkpoint": "ingest",
    "pack-name": "ingest",
    "pack-rename": "ingest",
    "pack-close": "ingest",
    "seal": "ingest",
    "state": "restore",
    "journal": "catch-up",
    "volume": "catch-up",
    "manifest": "catch-up",
}
_GOLDEN = 0.6180339887498949
_WHOLE = 1.05  # some of the moments lie behind the end: what was told last must stay true as well


@dataclass(frozen=True, slots=True)
class Cut:
    """One power cut, and what came of it. ``stage`` is the verb, ``last`` the last operation that
    was done, ``left`` how much of what was pending had reached the disk; ``lost`` says what was
    wrong, if anything was.
    """

    way: str
    seed: int
    at: int
    of: int
    stage: str
    last: str
    left: str
    lost: str

    @property
    def share(self) -> float:
        return min(self.at / self.of, 1.0)


class Campaign:
    """Cuts on one way, below ``place``; ``rig`` are syncs that are left out of the product. How
    many ``operations`` the way takes is measured unless it is told.
    """

    def __init__(
        self, name: str, place: Path, rig: Sequence[str] = (), operations: int = 0
    ) -> None:
        self._name, self._place = name, place
        self._rig = (f"acks={place / 'acks'}", *rig)
        place.mkdir(parents=True)
        self._way = WAYS[name](place)
        try:
            self._way.disk.start()
            self._way.begin(self._shells(place / "begun"))
            self.operations = operations or self._measured()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._way.disk.stop()

    def _shells(self, place: Path) -> Shells:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return Shells(self._way.disk, place, self._rig)

    def _measured(self) -> int:
        """Operations of the disk on the whole way, without a cut."""
        self._way.reset()
        shells, way = self._shells(self._place / "measured"), Way()
        try:
            self._way.go(shells, way)
            found = self._way.disk.status().operations
            self._way.end(shells, way)
        finally:
            shells.kill()
        return found

    def cut(self, seed: int) -> Cut:
        """One cut: its moment goes over the whole way evenly as the seed counts up."""
        at = int((seed * _GOLDEN) % 1.0 * self.operations * _WHOLE)
        self._way.reset()
        self._way.disk.cut_after(at)
        shells, way, lost = self._shells(self._place / "shells"), Way(), ""
        stage = last = left = ""
        try:
            try:
                self._way.go(shells, way)
                shells.stage = "the end"
            except PowerCutError:
                pass
            stage = " ".join(shells.stage.split())
            last = _kind(self._way.disk.status().last)
            left = self._power_off(shells, seed)
            self._gone_on(shells, way, seed)
        except (LostError, PowerCutError) as exc:
            lost = str(exc) or "the power went twice"
            self._keep(seed)
        finally:
            shells.kill()
        return Cut(self._name, seed, at, self.operations, stage, last, left, lost)

    def _power_off(self, shells: Shells, seed: int) -> str:
        for home in self._way.homes:
            shells.kill(home)
        left = self._way.disk.cut(seed)
        return (
            f"{left.pages_kept} of {left.pages} pages kept, {left.torn} torn, "
            f"{left.changes_kept} of {left.changes} names"
        )

    def _gone_on(self, shells: Shells, way: Way, seed: int) -> None:
        for told in shells.outputs():
            _refuse_raw(told)
        self._way.look(shells, way, random.Random(seed))
        self._way.go(shells, way)
        self._way.end(shells, way)
        for told in shells.outputs():
            _refuse_raw(told)
        for home in self._way.homes:
            logs_are_clean(home)

    def _keep(self, seed: int) -> None:
        """What a failed seed has left, to be looked at."""
        aside = self._place / f"failed-{seed}"
        shutil.rmtree(aside, ignore_errors=True)
        self._way.disk.stop()
        shutil.copytree(self._way.disk.tree, aside / "tree", symlinks=True)
        shutil.copytree(self._place / "shells", aside / "shells")


def _kind(operation: str) -> str:
    """An operation without what is another each time."""
    call, _, path = operation.partition(" ")
    return f"{call} {re.sub('[0-9a-f]{16,}', '*', Path(path).name)}"


def _refuse_raw(told: Told) -> None:
    said = told.out + told.err
    need("Traceback (most recent" not in said, f"a raw traceback: {said}")
    need("An unexpected error" not in said, f"an unexpected error: {said}")


def histogram(cuts: Sequence[Cut]) -> str:
    """The cuts by stage, and by how far the way had been gone."""
    rows = []
    for way in dict.fromkeys(one.way for one in cuts):
        mine = [one for one in cuts if one.way == way]
        rows.append(
            f"{way}: {len(mine)} cuts, {sum(bool(one.lost) for one in mine)} lost something"
        )
        for stage, count in sorted(Counter(one.stage for one in mine).items()):
            rows.append(f"  {stage:<28} {count:4} {'#' * count}")
        for last, count in Counter(one.last for one in mine).most_common():
            rows.append(f"    after {last:<20} {count:4} {'#' * count}")
        tenths = Counter(min(int(one.share * 10), 9) for one in mine)
        rows.append(
            "  by tenths of the way         " + " ".join(str(tenths[n]) for n in range(10))
        )
    return "\n".join(rows)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.disks.campaign")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--way", choices=list(WAYS))
    parser.add_argument("--seed", type=int, help="one cut only, with this seed")
    parser.add_argument(
        "--without", choices=list(SYNCS), help="leave that sync out, until a cut shows it"
    )
    parser.add_argument("--place", type=Path, help="where to work, and to leave what failed")
    given = parser.parse_args(argv)
    place = given.place or Path(tempfile.mkdtemp(prefix="motiongear-cuts-"))
    ways = [SYNCS[given.without]] if given.without else list(WAYS)
    names, done = ([given.way] if given.way else ways), []
    for name in names:
        campaign = Campaign(name, place / name, [given.without] if given.without else [])
        say(f"{name}: {campaign.operations} operations on the way")
        try:
            count = -(-given.cuts // len(names))
            seeds = [given.seed] if given.seed is not None else range(count)
            for seed in seeds:
                begun = time.monotonic()
                one = campaign.cut(seed)
                done.append(one)
                took = time.monotonic() - begun
                say(
                    f"{name} seed {seed}: cut after {one.at} of {one.of}, {one.stage or 'nothing'}"
                    f" ({one.last}), {one.left}, {took:.1f} s: {one.lost or 'all there'}"
                )
                if given.without and one.lost:
                    break
        finally:
            campaign.close()
    say(histogram(done))
    lost = any(one.lost for one in done)
    if not given.place and (given.without or not lost):
        shutil.rmtree(place)
    return lost != bool(given.without)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
