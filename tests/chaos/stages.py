"""The stages of the journey in the operator's order. Each begins where the one before it has
ended, is typed as a user types it, gone on with as a user goes on with it, and ends with a
comparison.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from appliance.cli.demo_sources import mounted
from appliance.errors import AlreadySealedError
from appliance.model import JobId
from tests.chaos.work import Work, begin, listed, resume
from tests.chaos.world import (
    BLOCK,
    INTERVAL,
    MACHINE,
    PACK,
    Made,
    World,
    attached,
    differing,
    need,
    same,
)
from tests.media import tool
from tests.technician import PASSPHRASE, until

_REHEARSED = {  # how a file system is checked and mounted beside its original
    "ext4": (("e2fsck", "-fn"), "loop"),
    "xfs": (("xfs_repair", "-n", "-f", "-o", "force_geometry"), "loop,nouuid"),  # it is small
}
_PACE = ("--checkpoint-bytes", INTERVAL)
_ROOT = Path(__file__).parents[2]
Before = dict[str, Any]


class Stage(Protocol):
    """A stage of the journey. ``opened`` is held for as long as it lasts; ``before`` is what is
    known of a work that has died or failed, and ``after`` holds what came of it against that.
    """

    @property
    def name(self) -> str: ...
    def opened(self, world: World, ends: ExitStack) -> None: ...
    def start(self, world: World) -> list[Work]: ...
    def again(self, world: World, work: Work, chance: random.Random) -> Work: ...
    def before(self, world: World, work: Work) -> Before: ...
    def after(self, world: World, work: Work, known: Before) -> None: ...
    def end(self, world: World, works: Sequence[Work]) -> None: ...


# --- on the device ---


class Prepare:
    """Shipment and canary; no job runs here."""

    name: ClassVar[str] = "prepare"

    def go(self, world: World) -> None:
        device, keys = world.device, world.key.parent
        new = ("shipment", "new", "rack 7", "--store", world.store, "--block-size", BLOCK)
        world.store.parent.mkdir()
        recipients = ("-r", keys / "operator.key.pub", "-r", keys / "recovery.key.pub")
        device.run(*new, *recipients).fine()
        opened = ("canary", "open", "-s", world.store, "--key", world.key)
        said = world.operator.run(*opened, passphrase=PASSPHRASE).fine()
        code = said.out.rpartition(": ")[2].strip()
        device.run("canary", "confirm", "-s", world.store, code).fine()


@dataclass
class Ingest:
    """Both disks at once, one of them a block device."""

    name: ClassVar[str] = "ingest"
    limit: str = "40MB/s"
    place: Path | None = None  # where the images lie, when that is not where they were made
    sources: dict[str, str] = field(default_factory=dict)

    def opened(self, world: World, ends: ExitStack) -> None:
        disk, image = (_placed(one.image, self.place) for one in world.disks)
        node = attached(ends, disk, "--read-only")
        names = [one.name for one in world.disks]
        self.sources = dict(zip(names, (node, str(image)), strict=True))

    def start(self, world: World) -> list[Work]:
        found, disks = [], {}
        for one in world.disks:
            verb = ("ingest", self.sources[one.name], "-s", world.store, "-m", MACHINE)
            more = ("--pack-size", PACK, *_PACE, "--limit", self.limit)
            work = begin(world.device, *verb, *more)
            disks[one.name] = work.row().disk
            found.append(work)
        world.known["disks"] = disks
        return found

    def again(self, world: World, work: Work, chance: random.Random) -> Work:
        del chance
        return resume(work, world.key)

    def before(self, world: World, work: Work) -> Before:
        """What the job has told as stored; how far it had read."""
        del world
        told = [one["cursor"] for one in work.events("checkpoint", 0)]
        with work.shell.state() as opened:
            progress = opened.progress(work.job)
            last = opened.last_event()
        read = progress.done // BLOCK if progress is not None else 0
        return {"cursor": max(told, default=0), "read": read, "event": last}

    def after(self, world: World, work: Work, known: Before) -> None:
        """Nothing that was told is read again, and of what was not at most one interval."""
        spliced = [one["block"] for one in work.events("spliced", known["event"])][:1]
        whole = [one["step"] for one in work.events("step", known["event"])]
        if "read-back" in whole:
            return  # it had come to its end, and only proves it
        if not spliced and not work.results("ingest"):
            return  # it was killed again before it had begun
        start = spliced[0] if spliced else 0
        need(start >= known["cursor"], f"goes on at {start}, told as stored: {known['cursor']}")
        sizes = self._disk_of(world, work).sizes
        again = sum(sizes[start : known["read"]])
        need(again <= INTERVAL + 2 * BLOCK, f"{again} bytes are stored again")
        for told in work.results("ingest")[-1:]:
            blocks = told["stored"] + told["referenced"] + told["zero"]
            need(blocks == len(sizes) - start, f"{blocks} blocks from {start} of {len(sizes)}")

    def _disk_of(self, world: World, work: Work) -> Made:
        disk = work.row().disk
        return next(one for one in world.disks if world.known["disks"][one.name] == disk)

    def end(self, world: World, works: Sequence[Work]) -> None:
        del works
        shown = json.loads(world.device.typed("shipment", "show", "-s", world.store, "--json").out)
        found = sorted((one["disk"], one["complete"]) for one in shown["disks"])
        want = sorted((one, True) for one in world.known["disks"].values())
        need(found == want, f"in the store: {found}")


class Seal:
    """Every pack read back, and the whole signed."""

    name: ClassVar[str] = "seal"

    def opened(self, world: World, ends: ExitStack) -> None: ...

    def start(self, world: World) -> list[Work]:
        return [begin(world.device, "seal", "-s", world.store, "--no-qr")]

    def again(self, world: World, work: Work, chance: random.Random) -> Work:
        now = _either(work, chance, world)
        now.codes = (0, AlreadySealedError.code)  # it was, and only could not say so any more
        return now

    def before(self, world: World, work: Work) -> Before:
        del work
        seal = world.store / "seal.json"
        return {"seal": seal.read_bytes() if seal.exists() else None}

    def after(self, world: World, work: Work, known: Before) -> None:
        """A seal that was there stays what it is."""
        del work
        if known["seal"] is not None:
            now = (world.store / "seal.json").read_bytes()
            need(now == known["seal"], "a second seal was made")

    def end(self, world: World, works: Sequence[Work]) -> None:
        """A stranger's program opens the store to the bytes of the sources."""
        del works
        shown = json.loads(world.device.typed("shipment", "show", "-s", world.store, "--json").out)
        seal = shown["seal"]
        need(seal and seal["sequence"] == 1, f"the seal: {seal}")
        world.known["pins"] = ["--device", seal["device"], "--seal", seal["root"]]
        into = world.run / "read independently"
        into.mkdir()
        done = subprocess.run(
            [sys.executable, _ROOT / "tests/independent_reader.py", world.store, world.key, into],
            input=f"{PASSPHRASE}\n",
            text=True,
            capture_output=True,
            check=False,
        )
        need(not done.returncode, f"a stranger's reader refuses: {done.stdout}{done.stderr}")
        for one in world.disks:
            found = into / f"{world.known['disks'][one.name]}-0.img"
            same(one.image, found)
            found.unlink()
        into.rmdir()


# --- at the destination ---


class Ship:
    """The store goes to another place; no job runs here."""

    name: ClassVar[str] = "ship"

    def go(self, world: World) -> None:
        arrived = world.run / "arrived"
        arrived.mkdir()
        world.store.rename(arrived / "store")


@dataclass
class Verify:
    """Without a key, or with one."""

    keyed: bool
    name: str = ""

    def __post_init__(self) -> None:
        self.name = "verify with key" if self.keyed else "verify"

    def opened(self, world: World, ends: ExitStack) -> None: ...

    def start(self, world: World) -> list[Work]:
        key = ("--key", world.key) if self.keyed else ()
        verb = ("verify", "-s", world.store, *world.known["pins"], *_PACE, *key)
        return [begin(world.operator, *verb, secret=self.keyed)]

    def again(self, world: World, work: Work, chance: random.Random) -> Work:
        return _either(work, chance, world)

    def before(self, world: World, work: Work) -> Before:
        with work.shell.state() as opened:
            run = f"{_root(world)} in job {work.job}"
            return {"read": len(opened.verified(run)), "event": opened.last_event()}

    def after(self, world: World, work: Work, known: Before) -> None:
        """A job that goes on reads no pack again that it had read."""
        _no_more_than(work, known, "verify", len(list((world.store / "packs").iterdir())))

    def end(self, world: World, works: Sequence[Work]) -> None:
        (told,) = [one for work in works for one in work.results("verify")]
        need(told["trust"] == "authentic", f"verified: {told}")
        if not self.keyed:
            return
        found = sorted((one["disk"], one["size"], one["complete"]) for one in told["disks"])
        want = [(world.known["disks"][one.name], one.image.stat().st_size) for one in world.disks]
        need(found == sorted((*one, True) for one in want), f"disks: {found}")
        for one in told["disks"]:
            blocks = one["blocks"]
            made = next(a for a in world.disks if world.known["disks"][a.name] == one["disk"])
            need(blocks["data"] + blocks["zero"] == made.blocks, f"blocks: {blocks}")


class Restore:
    """Onto volumes, each block read back."""

    name: ClassVar[str] = "restore"
    limit: str = "60MB/s"

    def opened(self, world: World, ends: ExitStack) -> None: ...

    def start(self, world: World) -> list[Work]:
        verb = ("restore", "-s", world.store, "--to", world.volumes, "--key", world.key)
        more = (*world.known["pins"], *_PACE, "--limit", self.limit)
        return [begin(world.operator, *verb, *more, secret=True)]

    def again(self, world: World, work: Work, chance: random.Random) -> Work:
        return _either(work, chance, world)

    def before(self, world: World, work: Work) -> Before:
        """Packs that are on a volume, by what the job has noted."""
        read = 0
        with work.shell.state() as opened:
            for tag in world.volumes.glob("*.json"):
                noted = opened.replayed(json.loads(tag.read_bytes())["id"])
                packs = [world.store / "packs" / f"{one}.pack" for one in noted]
                read += sum(one.exists() for one in packs)
            return {"read": read, "event": opened.last_event()}

    def after(self, world: World, work: Work, known: Before) -> None:
        packs = len(list((world.store / "packs").iterdir())) - 1  # one has contents only
        _no_more_than(work, known, "restore", packs)

    def end(self, world: World, works: Sequence[Work]) -> None:
        del works
        names = [one for one in world.volumes.iterdir() if ".img" in one.name]
        need(len(names) == len(world.disks), f"volumes: {names}")
        for one in world.disks:
            volume = world.volume(one)
            need(volume.suffix == ".img", f"{volume} is not whole")
            same(one.image, volume)


class Check:
    """The volumes once more."""

    name: ClassVar[str] = "check"

    def opened(self, world: World, ends: ExitStack) -> None: ...

    def start(self, world: World) -> list[Work]:
        return [begin(world.operator, "check", "-s", world.store, "--to", world.volumes, *_PACE)]

    def again(self, world: World, work: Work, chance: random.Random) -> Work:
        return _either(work, chance, world)

    def before(self, world: World, work: Work) -> Before:
        del world, work
        return {}

    def after(self, world: World, work: Work, known: Before) -> None: ...

    def end(self, world: World, works: Sequence[Work]) -> None:
        told = {one["volume"] for work in works for one in work.results("check")}
        need(len(told) == len(world.disks), f"checked: {told}")
        for one in world.disks:
            same(one.image, world.volume(one))


# --- on the line ---


class Enrol:
    """The gate lets the machine in; no job of the machine's runs here."""

    name: ClassVar[str] = "enrol"

    def go(self, world: World) -> None:
        with ExitStack() as ends:
            Gate.serve(world, ends)
            said = world.operator.run("gate", "invite", "-m", MACHINE, "--json").fine()
            reader, writer = os.pipe()
            os.write(writer, f"{json.loads(said.out)['code']}\n".encode())
            os.close(writer)
            ends.callback(os.close, reader)
            where = ("enrol", "--gate", world.known["dial"], "--code-fd", reader)
            world.machine.typed(*where).fine()


class Gate:
    """The gate's job, at the operator's shell; always the same one, however often it is
    started.
    """

    @staticmethod
    def serve(world: World, ends: ExitStack) -> Work:
        title = f"gate {world.known['listen']}"
        known = [one["job"] for one in listed(world.operator) if one["title"] == title]
        if known:
            job = JobId(known[-1])
            work = begin(world.operator, "jobs", "resume", job, job=job)
        else:
            listen = ("--listen", world.known["listen"])
            work = begin(world.operator, "gate", "serve", "--to", world.volumes, *listen)
        ends.callback(Gate.stop, work)
        until(lambda: work.child.poll() is not None or bool(work.events("step")))
        need(work.child.poll() is None, f"the gate does not serve: {work.said}")
        return work

    @staticmethod
    def stop(work: Work) -> None:
        with work.shell.state() as opened:
            if opened.lives(work.job):
                work.shell.typed("jobs", "stop", work.job).fine()
        work.wait()


def _placed(image: Path, place: Path | None) -> Path:
    return image if place is None else place / image.name


@dataclass
class Round:
    """What has changed since, from block devices. ``final``: as a recovery point of disks that
    nobody writes to any more.
    """

    final: bool
    name: str = ""
    limit: str = "12MB/s"
    place: Path | None = None
    gate: Work | None = None
    nodes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = "final" if self.final else "round"

    def opened(self, world: World, ends: ExitStack) -> None:
        images = {one.name: _placed(one.later, self.place) for one in world.disks}
        self.nodes = {name: attached(ends, image) for name, image in images.items()}
        self.gate = Gate.serve(world, ends)

    def start(self, world: World) -> list[Work]:
        how = ("--final", "--stopped") if self.final else ("--rounds", 1)
        return [begin(world.machine, *_catch_up(world, self.nodes, self.limit), *how)]

    def again(self, world: World, work: Work, chance: random.Random) -> Work:
        return _either(work, chance, world)

    def before(self, world: World, work: Work) -> Before:
        """Blocks that are not at the gate yet: nobody has read them there."""
        del work
        left = sum(len(differing(one.later, world.volume(one))) for one in world.disks)
        return {"left": left}

    def after(self, world: World, work: Work, known: Before) -> None:
        """What was there is not sent again."""
        del world
        for told in work.results("round")[-1:]:
            sent, left = told["blocks"], known["left"]
            need(sent <= left, f"{sent} blocks sent, {left} were missing")

    def end(self, world: World, works: Sequence[Work]) -> None:
        for one in world.disks:
            same(one.later, world.volume(one))
        for told in [one for work in works for one in work.results("final")][-1:]:
            need(told["kept"], f"the point: {told}")
            for one in world.disks:
                same(one.later, _kept(world, one, told["point"]))


@dataclass
class Frozen:
    """A recovery point of disks that are mounted and in use: they stand still for a while, and go
    on living whatever becomes of the round.
    """

    name: ClassVar[str] = "frozen"
    limit: str = "12MB/s"
    gate: Work | None = None
    nodes: Mapping[str, str] = field(default_factory=dict)

    def opened(self, world: World, ends: ExitStack) -> None:
        place, nodes = world.run / "living", {}
        place.mkdir()
        for one in world.disks:
            node = attached(ends, Path(shutil.copy(one.image, place)))
            ends.enter_context(mounted(node, _made(place / one.name)))
            nodes[one.name] = node
        self.nodes = nodes
        self._all_live(world)
        self.gate = Gate.serve(world, ends)

    def start(self, world: World) -> list[Work]:
        return [begin(world.machine, *_catch_up(world, self.nodes, self.limit), "--final")]

    def again(self, world: World, work: Work, chance: random.Random) -> Work:
        return _either(work, chance, world)

    def before(self, world: World, work: Work) -> Before:
        """With the job its freeze has ended."""
        del work
        self._all_live(world)
        return {}

    def after(self, world: World, work: Work, known: Before) -> None: ...

    def end(self, world: World, works: Sequence[Work]) -> None:
        """The point has file systems that need no repair, and the machine lives."""
        self._all_live(world)
        (told,) = [one for work in works for one in work.results("final")]
        need(told["kept"] and len(told["frozen"]) == len(world.disks), f"the point: {told}")
        for one in world.disks:
            kept = _kept(world, one, told["point"])
            same(kept, world.volume(one))
            self._mounts(world, one, kept)

    @staticmethod
    def _mounts(world: World, made: Made, kept: Path) -> None:
        """A copy of the point is mounted, read, and found in order."""
        check, options = _REHEARSED[made.name]
        copy, place = world.run / "rehearsal.img", world.run / "rehearsal"
        shutil.copy(kept, copy)
        place.mkdir(exist_ok=True)
        tool("mount", "-o", options, copy, place)
        try:
            tool("tar", "--create", "--file", "/dev/null", "--directory", place, ".")
        finally:
            tool("umount", place)
        tool(*check, copy)

    @staticmethod
    def _all_live(world: World) -> None:
        """What is written to them reaches the disk."""
        for one in world.disks:
            file = world.run / "living" / one.name / "life"
            said = ("timeout", "20", "dd", "if=/dev/urandom", f"of={file}", "bs=64k", "count=2")
            done = subprocess.run([*said, "conv=fsync"], capture_output=True, check=False)
            need(not done.returncode, f"{file} cannot be written: {done.stderr!r}")


def _made(place: Path) -> Path:
    place.mkdir()
    return place


def _catch_up(world: World, nodes: Mapping[str, str], limit: str) -> tuple[object, ...]:
    disks = [f"{nodes[one.name]}={world.known['disks'][one.name]}" for one in world.disks]
    named = [word for one in disks for word in ("-d", one)]
    more = ("--limit", limit, "--patience-seconds", 60)
    return ("catch-up", "--gate", world.known["dial"], *named, *more)


def _kept(world: World, made: Made, point: int) -> Path:
    """The snapshot of a disk that belongs to a point."""
    (found,) = world.volumes.glob(f"points/*{world.known['disks'][made.name][:8]}*/{point}.img")
    return found


class Points:
    """The point is chosen, and cloned; no job runs here."""

    name: ClassVar[str] = "points"

    def go(self, world: World) -> None:
        shell, where = world.operator, ("--to", world.volumes)
        points = shell.run("points", "list", *where, "--json").fine().out.splitlines()
        need(json.loads(points[-1])["complete"], f"points: {points}")
        shell.run("points", "choose", "latest", *where).fine()
        said = shell.run("points", "clone", "chosen", "--name", "trial", *where, "--json").fine()
        clones = [json.loads(one) for one in said.out.splitlines()]
        need(len(clones) == len(world.disks), f"clones: {clones}")
        shell.run("points", "remove", "trial", *where).fine()
        shell.run("gate", "check", *where, "-m", MACHINE).fine()


def _either(work: Work, chance: random.Random, world: World) -> Work:
    """The verb again, or the job resumed: a user may do either."""
    if chance.random() < 0.5 or not work.args or work.args[0] == "jobs":
        return resume(work, world.key)
    return begin(work.shell, *work.args, secret="--key" in work.args)


def _root(world: World) -> str:
    return str(world.known["pins"][3])


def _no_more_than(work: Work, known: Before, step: str, packs: int) -> None:
    """Of the packs that were done none is told as to be done again, by the job that did them."""
    if work.args[0] != "jobs":
        return
    told = [one["detail"] for one in work.events("step", known["event"]) if one["step"] == step]
    for one in told[:1]:
        count = int(str(one).split()[0])
        need(count <= packs - known["read"], f"{one} again; {known['read']} of {packs} were done")


JOURNEY: tuple[Any, ...] = (
    Prepare,
    Ingest,
    Seal,
    Ship,
    lambda: Verify(keyed=False),
    lambda: Verify(keyed=True),
    Restore,
    Check,
    Enrol,
    lambda: Round(final=False),
    Frozen,
    lambda: Round(final=True),
    Points,
)
