"""Ingest of one disk against what else stores a disk encrypted."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import images
from benchmarks.measure import Command
from benchmarks.motiongear import MotionGear
from benchmarks.pairs import Contender, Contest, Trial, contest
from benchmarks.report import Bar, Section, contest_table, profile_text, stage_times
from benchmarks.rivals import have
from benchmarks.room import Room

ZSTD_AGE = "zstd -1 -T0 | age"


def ours(product: MotionGear, image: Path) -> Contender:
    """The whole verb, from the prompt and back to it, into a store of its own."""

    def ready() -> Sequence[Command]:
        product.new_store()
        return [product.ingest(image)]

    return Contender("motiongear ingest", ready, product.stored)


def compared(room: Room, image: Path, rounds: int, *more: Contender) -> Contest:
    contenders = [*room.rivals().storing(image), *more]
    product = room.motiongear()
    return contest(ours(product, image), contenders, rounds, lambda: images.read_once(image))


def files(room: Room) -> Section:
    """The first image: bars are set for it."""
    image, product = room.files(), room.motiongear()
    bound = [room.rivals().zstd_null(image)] if have("zstd") else []
    found = compared(room, image, room.rounds, *bound, room.rivals().sketch(image))
    told = Section("Ingest: a disk a third full of real files")
    told.add(
        f"{image.stat().st_size / images.GIB:g} GiB, ext4, written to the end (zeros, not holes): "
        "copies of /usr and edited copies of them.",
        contest_table(found, image.stat().st_size),
        stage_times(found, "ingest"),
    )
    told.bars += _speed_bars(found)
    told.bars += _size_bar(found, "files")

    def ready() -> Command:
        product.new_store()
        return product.ingest(image)

    profile = room.profile(ready)
    if profile is not None:
        told.add("Where the time goes, of a run of its own:", *profile_text(profile))
    return told


def noise(room: Room) -> Section:
    """Half full of what does not compress: the store's disk and AES count."""
    image = room.noise()
    found = compared(room, image, room.fewer)
    told = Section("Ingest: a disk half full of incompressible data")
    told.add(contest_table(found, image.stat().st_size), stage_times(found, "ingest"))
    told.bars += _size_bar(found, "incompressible data")
    return told


def clones(room: Room) -> Section:
    """Machines made of one template, in one job."""
    image, template = room.clones(), room.template().stat().st_size
    found = compared(room, image, room.fewer)
    counts = [_figures(one) for one in found.trials(found.ours)]
    told = Section("Ingest: clones of one template in one job")
    told.add(
        f"One disk of {room.sizes.clones} clones of a template of {template / images.MIB:.0f} "
        "MiB, each with 1 % of its 64 KiB pieces written anew. Repeats are found by whole "
        f"blocks: {counts[0]['referenced']} of {counts[0]['blocks']} blocks with content are "
        "references.",
        contest_table(found, image.stat().st_size),
    )
    return told


def _figures(trial: Trial) -> dict[str, int]:
    told = trial.cost.figures("ingest")[1]
    stored, referenced = int(str(told["stored"])), int(str(told["referenced"]))
    return {"referenced": referenced, "blocks": stored + referenced}


def _speed_bars(found: Contest) -> list[Bar]:
    wanted = {
        ZSTD_AGE: (ZSTD_AGE, 2.0),
        "borg": ("borg", 4.0),
        "restic": ("restic", 5.0),
        "zstd -1 -T0 > /dev/null": ("reading + zstd -1 on all cores", 0.8),
    }
    return [
        Bar(f"ingest, speed against {text}", bar, found.faster(name))
        for name, (text, bar) in wanted.items()
        if name in found.pairs
    ]


def _size_bar(found: Contest, of: str) -> list[Bar]:
    name = "zstd -1 -T0 > file, no encryption"
    if name not in found.pairs:
        return []
    ratio = median(ours.left / theirs.left for ours, theirs in found.pairs[name])
    return [Bar(f"stored size against zstd -1, {of}", 1.1, ratio, at_least=False)]
