"""``motiongear demo``: the main job end to end, on real disks made of this machine's own files.

Two homes are kept apart as in life: the device's, which holds public keys only, and the
operator's. That the restored volumes equal the sources is said only after ``cmp``, which is no
code of ours, has compared them byte by byte.
"""

import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import click

from appliance import jobs
from appliance.block import PAGE, write_durably
from appliance.cli import ask, show, work
from appliance.errors import ExistsError, NeedRootError
from appliance.events import Json
from appliance.model import DiskId, JobId
from appliance.run import run
from appliance.seal import canary, canon, keys, statement, text
from appliance.seal.identity import Device
from appliance.seal.store import Store
from appliance.seal.writer import Pace
from appliance.state import State

MB = 10**6
MIB = 1 << 20
_LARGEST = 32 * MB  # one file; many small ones are more like a server
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step of the demo: how long it took, how many bytes it was about, and what came of it."""

    step: str
    seconds: float
    size: int
    result: str


@dataclass(slots=True)
class Made:
    """A source disk that the demo made. ``source`` is what is ingested: a loop device or the
    image file.
    """

    machine: str
    image: Path
    source: str
    content: int
    disk: DiskId


@dataclass(slots=True)
class Report:
    as_lines: bool
    steps: list[StepReport] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[int, str], None]]:
        """Time a step; the body says at its end how many bytes it was about and what came of
        it.
        """
        told: list[tuple[int, str]] = []
        if not self.as_lines:
            show.line(f"== {name}")
        start = time.monotonic()
        yield lambda size, result: told.append((size, result))
        spent = time.monotonic() - start
        size, result = told[-1] if told else (0, "")
        done = StepReport(name, round(spent, 2), size, result)
        self.steps.append(done)
        if self.as_lines:
            show.record({"event": "demo", **asdict(done)})

    def show(self) -> None:
        show.line()
        body = [
            (
                one.step,
                f"{one.seconds:.1f} s",
                show.size(one.size) if one.size else "",
                f"{show.size(one.size / one.seconds)}/s" if one.size and one.seconds else "",
                one.result,
            )
            for one in self.steps
        ]
        show.table(("STEP", "TIME", "BYTES", "RATE", "RESULT"), body)


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything where it was made.")
@click.option(
    "--dir",
    "place",
    type=click.Path(path_type=Path),
    help="Where to work; default: a temporary directory.",
)
@ask.as_json
def demo(keep: bool, place: Path | None, as_lines: bool) -> None:
    """Migrate two servers' disks, made of this machine's own files: ingest, seal, ship, verify,
    restore, check.

    Needs root, for it mounts file systems; takes about a minute and 3 GB in a temporary directory.
    """
    if os.geteuid() != 0:
        raise NeedRootError("The demo makes and mounts file systems, which only root may do")
    with ExitStack() as stack:
        base = place or Path(tempfile.mkdtemp(prefix="motiongear-demo-"))
        if base.is_dir() and any(base.iterdir()):
            raise ExistsError(f"{base} is not empty")
        base.mkdir(parents=True, exist_ok=True)
        if not keep and place is None:
            stack.callback(run, "rm", "-rf", str(base))
        report = Report(as_lines)
        started = time.monotonic()
        Demo(base, report, stack).run()
        if as_lines:
            total = round(time.monotonic() - started, 2)
            show.record({"event": "report", "seconds": total, "equal": True})
        else:
            report.show()
            show.line(
                f"Two disks went through in {time.monotonic() - started:.0f} s; every byte arrived"
            )
            if keep or place is not None:
                show.line(f"Kept in {base}")


class Demo:
    """The demo's steps, each a method, in the operator's order."""

    def __init__(self, base: Path, report: Report, stack: ExitStack) -> None:
        self._base, self._report, self._stack = base, report, stack
        self._device_home = base / "device-home"
        self._operator_home = base / "operator-home"
        for one in (self._device_home, self._operator_home):
            one.mkdir(mode=0o700)
        self._device = stack.enter_context(State(self._device_home))
        self._operator = stack.enter_context(State(self._operator_home))

    def run(self) -> None:
        disks = self._make_disks()
        operator, recovery = self._make_keys()
        store = self._shipment(operator, recovery)
        self._ingest(store, disks)
        label = self._seal(store)
        arrived = self._ship(store)
        self._verify(arrived, label)
        volumes = self._restore(arrived, label, operator)
        self._compare(disks, volumes)

    # --- the sources ---

    def _make_disks(self) -> list[Made]:
        with self._report.step("make two source disks") as told:
            files = real_files()
            web = self._disk("web01", 900, [(_ESP, 64), (_LINUX, 0)], files, 360 * MB)
            data = self._disk("db01", 700, [(_LINUX, 0)], files, 200 * MB)
            web.source = self._stack.enter_context(attached(web.image, "--read-only"))
            told(
                web.content + data.content, f"{web.source} (a disk), {data.image.name} (an image)"
            )
        return [web, data]

    def _disk(
        self,
        machine: str,
        mib: int,
        parts: list[tuple[str, int]],
        files: Iterator[Path],
        content: int,
    ) -> Made:
        """A GPT disk whose last partition is filled with real files; a first one of 64 MiB is
        an ESP.
        """
        image = self._base / f"{machine}.img"
        with image.open("wb") as file:
            file.truncate(mib * MIB)
        script = self._base / f"{machine}.sfdisk"
        lines = [
            f"size={size}MiB, type={kind}" if size else f"type={kind}" for kind, size in parts
        ]
        script.write_text("label: gpt\n" + "\n".join(lines) + "\n")
        run("sh", "-c", 'sfdisk --quiet "$1" < "$2"', "sh", str(image), str(script))
        listed = json.loads(run("sfdisk", "--json", str(image)))["partitiontable"]["partitions"]
        start, size = listed[-1]["start"] * 512, listed[-1]["size"] * 512
        if len(parts) > 1:
            _fill_esp(image, listed[0]["start"] * 512)
        place = self._base / f"{machine}.mnt"
        place.mkdir()
        window = ("--offset", str(start), "--sizelimit", str(size))
        with attached(image, *window) as node:
            run("mkfs.ext4" if len(parts) > 1 else "mkfs.xfs", "-q", node)
            with mounted(node, place):
                written = fill(place, files, content)
        return Made(machine, image, str(image), written, DiskId(os.urandom(16).hex()))

    # --- on the device ---

    def _make_keys(self) -> tuple[keys.PrivateKey, keys.PrivateKey]:
        with self._report.step("make recipients' keys") as told:
            place = self._base / "operator-keys"
            place.mkdir(mode=0o700)
            passphrase = secrets.token_urlsafe(24)
            # A demo's keys protect nothing; who keeps its directory can open its store with this.
            write_durably(place / "passphrase", passphrase.encode() + b"\n", 0o600)
            for name, role in (("operator", "operator"), ("recovery", "recovery")):
                made = keys.PrivateKey.generate(name, cast("keys.Role", role))
                keys.write_pair(made, place / f"{name}.key", passphrase)
            opened = keys.unlock(place / "operator.key", passphrase)
            recovery = keys.unlock(place / "recovery.key", passphrase)
            told(
                0, f"operator {opened.recipient.fingerprint[:14]}..., private keys under Argon2id"
            )
        return opened, recovery

    def _shipment(self, operator: keys.PrivateKey, recovery: keys.PrivateKey) -> Store:
        with self._report.step("begin the shipment, try the canary") as told:
            device = Device.of(self._device_home)
            pair = (operator.recipient, recovery.recipient)
            store = Store.create(self._base / "device-store", "demo", device, pair)
            self._device.note_shipment(store.head.shipment, store.path, "demo")
            code = canary.open_code(store.path, store.head, operator)
            opened_by = canary.who_opened(store.path, store.head, code)
            self._device.note_canary(store.head.shipment, opened_by, canon.now())
            told(0, f"device {device.fingerprint[:14]}..., opened by {opened_by[:14]}...")
        return store

    def _ingest(self, store: Store, disks: list[Made]) -> None:
        pace = Pace()
        with self._report.step("ingest both disks at once") as told:
            running: dict[str, JobId] = {}
            for one in disks:
                spec = jobs.IngestSpec(
                    store=str(store.path),
                    source=one.source,
                    machine=one.machine,
                    disk=one.disk,
                    level=1,
                    limits=(),
                    pack_size=pace.pack_size,
                    checkpoint_bytes=pace.checkpoint_bytes,
                    checkpoint_seconds=pace.checkpoint_seconds,
                )
                running[one.machine] = work.begin(
                    self._device, "ingest", store.head.shipment, one.machine, spec, disk=one.disk
                )
            with ThreadPoolExecutor(len(disks)) as pool:
                list(pool.map(lambda one: self._watch(self._device, running[one], one), running))
            found = [work.figures(self._device, one, "ingest") for one in running.values()]
            read = sum(cast("int", one["size"]) for one in found)
            written = sum(cast("int", one["written"]) for one in found)
            told(read, f"{show.size(written)} stored, encrypted, in packs")

    def _seal(self, store: Store) -> dict[str, str]:
        with self._report.step("seal") as told:
            spec = jobs.SealSpec(str(store.path), (), "")
            job = work.begin(self._device, "seal", store.head.shipment, "seal", spec)
            self._watch(self._device, job, "seal")
            made = statement.read(store.path)
            root = text.grouped(made.root())
            told(sum(one.size for one in made.packs), f"root {root[:24]}...")
        return {"device": made.device_fingerprint, "root": root}

    def _ship(self, store: Store) -> Path:
        """The directory moves, and what arrives cannot be written to."""
        with self._report.step("ship") as told:
            arrived = self._base / "arrived"
            store.path.rename(arrived)
            run("mount", "--bind", str(arrived), str(arrived))
            self._stack.callback(run, "umount", str(arrived))
            run("mount", "-o", "remount,ro,bind", str(arrived))
            told(0, "moved, read-only")
        return arrived

    # --- at the destination ---

    def _verify(self, arrived: Path, label: dict[str, str]) -> None:
        with self._report.step("verify without a key") as told:
            spec = jobs.VerifySpec(str(arrived), label["device"], label["root"], (), keyed=False)
            shipment = Store(arrived).head.shipment
            job = work.begin(self._operator, "verify", shipment, "verify", spec)
            self._watch(self._operator, job, "verify")
            found = work.figures(self._operator, job, "verify")
            told(cast("int", found["bytes"]), str(found["trust"]))

    def _restore(
        self, arrived: Path, label: dict[str, str], key: keys.PrivateKey
    ) -> dict[str, dict[str, Json]]:
        with self._report.step("restore and check by read-back") as told:
            spec = jobs.RestoreSpec(
                store=str(arrived),
                target="local",
                place=str(self._base / "volumes"),
                volumes=(),
                device=label["device"],
                root=label["root"],
                recipients=(),
                limits=(),
            )
            shipment = Store(arrived).head.shipment
            job = work.begin(self._operator, "restore", shipment, "restore", spec, key)
            self._watch(self._operator, job, "restore")
            found = work.results_of(self._operator, job, "check")
            size = sum(cast("int", one["size"]) for one in found)
            told(
                size,
                f"{sum(cast('int', one['blocks']) for one in found)} blocks read back, all right",
            )
        return {str(one["disk"]): one for one in found}

    def _compare(self, disks: list[Made], volumes: dict[str, dict[str, Json]]) -> None:
        with self._report.step("compare byte by byte (cmp)") as told:
            digests = []
            for one in disks:
                found = volumes[one.disk]
                run("cmp", str(one.image), str(found["location"]), timeout=600)
                digests.append(f"{one.machine} {str(found['root'])[:16]}...")
            told(
                sum(one.image.stat().st_size for one in disks),
                f"equal; manifest roots {', '.join(digests)}",
            )

    def _watch(self, state: State, job: JobId, name: str) -> None:
        work.watch(state, job, as_lines=self._report.as_lines, name=name)


@contextmanager
def attached(image: Path, *how: str) -> Iterator[str]:
    """A loop device over the image; detached at the end, whatever came between."""
    node = run("losetup", "--find", "--show", *how, str(image)).strip()
    try:
        yield node
    finally:
        run("losetup", "--detach", node)


@contextmanager
def mounted(node: str, place: Path) -> Iterator[None]:
    run("mount", node, str(place))
    try:
        yield
    finally:
        run("umount", str(place))


def real_files() -> Iterator[Path]:
    """The regular files of /usr and of the running environment, without end: the second time
    round they are edited.
    """
    places = [Path("/usr"), Path(sys.prefix)]
    while True:
        for place in places:
            for folder, _, names in os.walk(place):
                for name in names:
                    path = Path(folder, name)
                    if (
                        not path.is_symlink()
                        and path.is_file()
                        and PAGE <= path.stat().st_size <= _LARGEST
                    ):
                        yield path


def fill(mounted: Path, files: Iterator[Path], content: int) -> int:
    """Copy files until ``content`` bytes are there; a file that came by before gets edited.
    Returns the bytes written.
    """
    written = 0
    while written < content:
        source = next(files)
        target = mounted / str(source).lstrip("/")
        edits = 0
        while target.exists():
            edits += 1
            target = target.with_name(f"{source.name}.{edits}")
        data = source.read_bytes()
        if edits:
            data = f"edited {edits} times\n".encode() + data
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        written += len(data)
    return written


def _fill_esp(image: Path, start: int) -> None:
    """A FAT file system made without the kernel: it may not know FAT."""
    drive = f"{image}@@{start}"
    run(
        "mformat",
        "-i",
        drive,
        "-T",
        str(64 * MIB // 512),
        "-h",
        "255",
        "-s",
        "63",
        "-v",
        "ESP",
        "::",
    )
    run("mmd", "-i", drive, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", drive, "/bin/sh", "::/EFI/BOOT/BOOTX64.EFI")
