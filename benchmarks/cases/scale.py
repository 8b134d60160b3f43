"""What grows with a disk, and what must not: sparse disks, sizes from small to large, and several
disks at once.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.images import GIB, MIB, read_once
from benchmarks.measure import Command, Cost
from benchmarks.motiongear import MotionGear
from benchmarks.pairs import Contender, Contest, contest, seconds, trial
from benchmarks.report import Bar, Section, contest_table, table
from benchmarks.room import Room

_LIMIT = 80_000_000  # bytes a second: a disk on USB 3 that has seen better days
_MOST = 4  # disks at once


def _ingesting(name: str, product: MotionGear, disks: Sequence[Path], *more: str) -> Contender:
    """Disks into one store, all at once, a job each."""

    def ready() -> Sequence[Command]:
        product.new_store()
        return product.ingest_all(disks, *more)

    return Contender(name, ready, product.stored)


def sparse(room: Room) -> Section:
    sizes, product = room.sizes, room.motiongear()
    large = room.sparse("sparse.img", sizes.sparse)
    dense = room.sparse("dense.img", sizes.sparse_data)
    ours = _ingesting(f"an image of {sizes.sparse / GIB:g} GiB", product, [large])
    theirs = _ingesting("the same data without holes", product, [dense])

    def warm() -> None:
        read_once(dense)

    found = contest(ours, [theirs], room.fewer, warm)
    told = Section("Ingest: a sparse image")
    told.add(
        f"{sizes.sparse / GIB:g} GiB, of which {sizes.sparse_data / MIB:.0f} MiB are data in "
        "scattered stretches, against an image that has these data and nothing else.",
        contest_table(found, sizes.sparse_data),
    )
    peak = max(one.cost.peak_bytes for one in found.trials(found.ours))
    alone = 1 / found.faster(theirs.name)
    told.bars += [
        Bar("memory for the sparse image", 300, peak / 1e6, at_least=False, unit="MB"),
        Bar("time for it against its data alone", 1.1, alone, at_least=False),
    ]
    for one in (large, dense):
        one.unlink()
    return told


def several(room: Room) -> Section:
    disks, product = [room.several(one) for one in range(_MOST)], room.motiongear()

    def warm() -> None:
        for one in disks:
            read_once(one)

    alone = _ingesting("one disk", product, disks[:1])
    more = {f"{count} at once": count for count in (2, _MOST)}
    others = [_ingesting(name, product, disks[:count]) for name, count in more.items()]
    found = contest(alone, others, room.fewer, warm)
    size = room.sizes.several
    told = Section("Ingest: several disks at once")
    body = [_row(found, alone.name, 1, size)]
    body += [_row(found, name, count, size) for name, count in more.items()]
    head = ("", "s", "MB/s together", "times one disk's rate", "CPU s", "MiB memory")
    told.add(f"Disks of {size / GIB:g} GiB, a third full of real files.", table(head, body))
    together = _together(found, others[0].name, 2)
    told.bars.append(Bar("two fast disks together, of one's rate", 0.95, together))
    _limited(product, disks, told)
    for one in disks:
        one.unlink()
    return told


def _row(found: Contest, name: str, count: int, size: int) -> tuple[str, ...]:
    trials = found.trials(name)
    took = median(one.cost.seconds for one in trials)
    return (
        name,
        f"{took:.2f}",
        f"{count * size / took / 1e6:.0f}",
        f"{_together(found, name, count) if count > 1 else 1:.2f}",
        f"{median(one.cost.cpu_seconds for one in trials):.1f}",
        f"{max(one.cost.peak_bytes for one in trials) / MIB:.0f}",
    )


def _together(found: Contest, name: str, count: int) -> float:
    """The rate of ``count`` disks together over that of one."""
    return median(count / ratio for ratio in found.ratios(name, seconds))


def _limited(product: MotionGear, disks: Sequence[Path], told: Section) -> None:
    """Sources that are slower than the device: here by the speed limit of the job."""
    limit = ("--limit", f"{_LIMIT // 1_000_000}MB/s")
    one = _ingesting("one slow disk", product, disks[:1], *limit)
    two = _ingesting("two slow disks", product, disks[:2], *limit)
    together = _together(contest(one, [two], 1), two.name, 2)
    told.add(
        f"Two disks of {_LIMIT // 1_000_000} MB/s each (limited by `--limit`) bring "
        f"{together:.2f} times the bytes a second of one."
    )
    told.bars.append(Bar("two sources of 80 MB/s together, of one's rate", 1.9, together))


def linear(room: Room) -> Section:
    """Three sizes, each four times the one before: what a further GiB costs must not grow. What
    does not depend on the size, start-up above all, is left out so that it cannot hide a curve.
    """
    product, step = room.motiongear(), room.sizes.linear
    costs: dict[int, list[Cost]] = {1: [], 4: [], 16: []}
    for _ in range(room.fewer):
        for steps, found in costs.items():
            disk = room.linear(steps)
            name = f"{steps * step / GIB:g} GiB"
            one = trial(_ingesting(name, product, [disk]), partial(read_once, disk))
            found.append(one.cost)
    took = {steps: median(one.seconds for one in found) for steps, found in costs.items()}
    early, late = (took[4] - took[1]) / (3 * step), (took[16] - took[4]) / (12 * step)
    body = [
        (
            f"{steps * step / GIB:g} GiB",
            f"{took[steps]:.2f}",
            f"{median(one.cpu_seconds for one in found):.1f}",
            f"{max(one.peak_bytes for one in found) / MIB:.0f}",
        )
        for steps, found in costs.items()
    ]
    told = Section("Ingest: cost by size")
    told.add(
        "Disks of which an eighth is data, the rest holes.",
        table(("", "s", "CPU s", "MiB memory"), body),
        f"A further GiB costs {early * GIB:.3f} s between the first two and {late * GIB:.3f} s "
        "between the last two.",
    )
    if early > 0:
        text = "linear cost: a further GiB late against early"
        told.bars.append(Bar(text, 1.15, late / early, at_least=False))
    for steps in costs:
        room.linear(steps).unlink()
    return told
