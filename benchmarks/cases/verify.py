"""Verify without a key against hashing the same bytes."""

import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.measure import Command, run
from benchmarks.motiongear import MotionGear, drop_from_cache
from benchmarks.pairs import Contender, Contest, contest
from benchmarks.report import Bar, Section, contest_table, profile_text, stage_times
from benchmarks.room import Room

_MAPPED, _DIRECT = "blake3, all cores, mapped", "blake3, all cores, past the page cache"


def verify(room: Room) -> Section:
    product = room.motiongear()
    product.new_store()
    for image in (room.files(), room.noise()):
        run([product.ingest(image, machine=image.stem)])
    label = product.seal()

    def ready() -> Sequence[Command]:
        drop_from_cache(product.store / "packs")
        return [product.verify(label)]

    rivals = [
        Contender(_MAPPED, partial(_hashing, product, "hash")),
        Contender(_DIRECT, partial(_hashing, product, "hash-direct")),
    ]
    found = contest(Contender("motiongear verify", ready), rivals, room.rounds)
    told = Section("Verify: without a key")
    told.add(
        "The two disks above in one sealed shipment, "
        f"{product.stored() / 1e6:.0f} MB of packs; nothing of them is in the page cache when a "
        "run begins. Against one Python process that only hashes the files, b3sum's way "
        "(mapped, all cores), and reading past the page cache, as ours does.",
        contest_table(found, product.stored()),
        stage_times(found, "verify"),
    )
    told.bars += [
        Bar(f"verify without a key, time against {name}", 1.3, _share(found, name), at_least=False)
        for name in found.pairs
    ]
    profile = room.profile(lambda: ready()[0])
    if profile is not None:
        told.add("Where the time goes, of a run of its own:", *profile_text(profile))
    return told


def _share(found: Contest, name: str) -> float:
    """Our time over theirs."""
    return 1 / found.faster(name)


def _hashing(product: MotionGear, verb: str) -> Sequence[Command]:
    drop_from_cache(product.store / "packs")
    packs = sorted(map(str, (product.store / "packs").iterdir()))
    return [Command((sys.executable, "-m", "benchmarks.sketches", verb, *packs))]
