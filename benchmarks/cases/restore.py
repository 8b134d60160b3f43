"""Restore onto a new raw volume against age -d | zstd -d."""

import shutil
from collections.abc import Sequence
from statistics import median

from benchmarks import images
from benchmarks.measure import Command, run
from benchmarks.pairs import Contender, Contest, contest
from benchmarks.report import Bar, Section, contest_table, profile_text
from benchmarks.rivals import have
from benchmarks.room import Room


def restore(room: Room) -> Section:
    image, product, rivals = room.files(), room.motiongear(), room.rivals()
    product.new_store()
    run([product.ingest(image)])
    label, place = product.seal(), room.place / "volumes"
    ours = Contender(
        "motiongear restore, with read-back",
        lambda: [product.restore(label, place)],
        lambda: images.size_on_disk(place),
    )
    theirs = [rivals.age_zstd(image, sparse=one) for one in (False, True) if have("age", "zstd")]

    def warm() -> None:
        for one in (product.store / "packs").iterdir():
            images.read_once(one)

    found = contest(ours, theirs, room.rounds, warm)
    told = Section("Restore: onto a new raw volume")
    told.add(
        "The image above, sealed, back onto a volume. Ours opens every record, checks every "
        "digest, flushes the volume, then reads all of it back past the page cache and compares; "
        "unlocking the key (Argon2, 256 MiB) is in the time, theirs uses a key without a "
        "passphrase. On a new volume neither ours nor `zstd -d -o` writes zeros; `zstd -d > "
        "volume`, which the bar names, writes them.",
        contest_table(found, image.stat().st_size),
        *_parts(found),
    )
    told.bars += [
        Bar(f"restore without read-back, speed against {one.name}", 1.5, _before(found, one.name))
        for one in theirs[:1]
    ]

    def ready() -> Command:
        return product.restore(label, place)

    profile = room.profile(ready)
    if profile is not None:
        told.add("Where the time goes, of a run of its own:", *profile_text(profile))
    shutil.rmtree(place)
    return told


def _before(found: Contest, rival: str) -> float:
    """Their time over ours until the volume is whole and flushed."""
    pairs = found.pairs[rival]
    return median(theirs.cost.seconds / ours.cost.figures("restore")[0] for ours, theirs in pairs)


def _parts(found: Contest) -> Sequence[str]:
    costs = [one.cost for one in found.trials(found.ours)]
    begun = median(one.begun("restore") for one in costs)
    flushed = median(one.figures("restore")[0] for one in costs)
    compared = median(one.figures("check")[0] - one.figures("restore")[0] for one in costs)
    against = [
        f"{_before(found, name):.2f} times as fast as `{name}` without our read-back, "
        f"{found.faster(name):.2f} times with it"
        for name in found.pairs
    ]
    parts = (
        f"Of our time {begun:.2f} s go by before the first pack is read, {flushed - begun:.2f} s "
        f"until the volume is whole and flushed, {compared:.2f} s in the read-back."
    )
    return (
        parts,
        f"We are {'; '.join(against)}." if against else "No rival is installed.",
    )
