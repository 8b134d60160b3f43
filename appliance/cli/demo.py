"""``motiongear demo``: the main job end to end, on real disks made of this machine's own files.

Two homes are kept apart as in life: the device's, which holds public keys only, and the
operator's. That the restored volumes equal the sources is said only after ``cmp``, which is no
code of ours, has compared them byte by byte.
"""

import os
import secrets
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import click

from appliance import jobs, process, shown
from appliance.block import write_durably
from appliance.cli import ask, console, demo_papers, show, work
from appliance.cli.demo_line import DemoLine
from appliance.cli.demo_report import Report
from appliance.cli.demo_sources import Made, attached, make_disks
from appliance.cli.show import translated as _
from appliance.errors import ExistsError, NeedRootError
from appliance.events import Json
from appliance.jobs import custody
from appliance.language import chosen, marked
from appliance.model import JobId
from appliance.run import run
from appliance.seal import canary, canon, keys, statement, text
from appliance.seal.custody import Deed, What
from appliance.seal.identity import Device
from appliance.seal.store import Store
from appliance.seal.writer import Pace
from appliance.state import State

_TRUST = {"authentic": marked("authentic"), "consistent": marked("consistent")}


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything where it was made.")
@click.option(
    "--dir",
    "place",
    type=click.Path(path_type=Path),
    help="Where to work; default: a temporary directory.",
)
@click.option("--offline", is_flag=True, help="End where the volumes are restored and compared.")
@ask.as_json
def demo(keep: bool, place: Path | None, offline: bool, as_lines: bool) -> None:
    """Migrate two servers, made of this machine's own files: ingest, seal, ship, verify, restore,
    check; then catch up with what they go on writing, until they are stopped.

    Needs root, for it mounts file systems; takes about a minute and 5 GB in a temporary directory.
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
        Demo(base, report, stack).run(offline=offline)
        if as_lines:
            total = round(time.monotonic() - started, 2)
            show.record({"event": "report", "seconds": total, "equal": True})
        else:
            report.show()
            spent = time.monotonic() - started
            told = _("Two servers went through in {seconds} s; every byte arrived")
            show.line(told.format(seconds=f"{spent:.0f}"))
            if keep or place is not None:
                show.line(_("Kept in {path}").format(path=base))
            if sys.stdin.isatty() and click.confirm(_("Look at it in the console?")):
                console.opened(base / "device-home", chosen())


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

    def run(self, *, offline: bool) -> None:
        disks = self._make_disks()
        operator, recovery = self._make_keys()
        store = self._shipment(operator, recovery)
        self._ingest(store, disks)
        label = self._seal(store)
        arrived = self._ship(store)
        self._verify(arrived, label)
        volumes = self._restore(arrived, label, operator)
        self._compare(marked("compare byte by byte (cmp)"), disks, volumes)
        if not offline:
            DemoLine(self._base, self._report, self._stack, self._operator, disks).run()
            self._compare(marked("compare byte by byte again (cmp)"), disks, volumes)
        self._papers(arrived, operator)

    # --- the sources ---

    def _make_disks(self) -> list[Made]:
        with self._report.step(marked("make two source disks")) as told:
            web, data = make_disks(self._base)
            web.source = self._stack.enter_context(attached(web.image, "--read-only"))
            made = _("{disk} (a disk), {image} (an image)")
            made = made.format(disk=web.source, image=data.image.name)
            told(web.content + data.content, made)
        return [web, data]

    # --- on the device ---

    def _make_keys(self) -> tuple[keys.PrivateKey, keys.PrivateKey]:
        with self._report.step(marked("make recipients' keys")) as told:
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
            result = _("operator {fingerprint}, private keys under Argon2id")
            told(0, result.format(fingerprint=f"{opened.recipient.fingerprint[:14]}..."))
        return opened, recovery

    def _shipment(self, operator: keys.PrivateKey, recovery: keys.PrivateKey) -> Store:
        with self._report.step(marked("begin the shipment, try the canary")) as told:
            device = Device.of(self._device_home)
            pair = (operator.recipient, recovery.recipient)
            store = Store.create(self._base / "device-store", "demo", device, pair)
            self._device.note_shipment(store.head.shipment, store.path, "demo")
            about = custody.hands(self._device_home, store.head.shipment)
            custody.add(about, store.path, Deed.CREATED, "", What(note="demo"))
            code = canary.open_code(store.path, store.head, operator)
            opened_by = canary.who_opened(store.path, store.head, code)
            self._device.note_canary(store.head.shipment, opened_by, canon.now())
            result = _("device {device}, opened by {recipient}")
            known = {"device": device.fingerprint, "recipient": opened_by}
            told(0, result.format(**{name: f"{one[:14]}..." for name, one in known.items()}))
        return store

    def _ingest(self, store: Store, disks: list[Made]) -> None:
        pace = Pace()
        with self._report.step(marked("ingest both disks at once")) as told:
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
                running[one.machine] = process.begin(
                    self._device, "ingest", store.head.shipment, one.machine, spec, disk=one.disk
                )
            with ThreadPoolExecutor(len(disks)) as pool:
                list(pool.map(lambda one: self._watch(self._device, running[one], one), running))
            found = [work.figures(self._device, one, "ingest") for one in running.values()]
            read = sum(cast("int", one["size"]) for one in found)
            written = sum(cast("int", one["written"]) for one in found)
            told(read, _("{size} stored, encrypted, in packs").format(size=shown.size(written)))

    def _seal(self, store: Store) -> dict[str, str]:
        with self._report.step(marked("seal")) as told:
            spec = jobs.SealSpec(str(store.path), (), "")
            job = process.begin(self._device, "seal", store.head.shipment, store.head.label, spec)
            self._watch(self._device, job, "seal")
            made = statement.read(store.path)
            root = text.grouped(made.root())
            told(
                sum(one.size for one in made.packs),
                _("root {root}").format(root=f"{root[:24]}..."),
            )
        return {"device": made.device_fingerprint, "root": root}

    def _ship(self, store: Store) -> Path:
        """The directory moves, and what arrives cannot be written to."""
        with self._report.step(marked("ship")) as told:
            arrived = self._base / "arrived"
            store.path.rename(arrived)
            run("mount", "--bind", str(arrived), str(arrived))
            self._stack.callback(run, "umount", str(arrived))
            run("mount", "-o", "remount,ro,bind", str(arrived))
            told(0, _("moved, read-only"))
        return arrived

    # --- at the destination ---

    def _verify(self, arrived: Path, label: dict[str, str]) -> None:
        with self._report.step(marked("verify without a key")) as told:
            spec = jobs.VerifySpec(str(arrived), label["device"], label["root"], (), keyed=False)
            head = Store(arrived).head
            job = process.begin(self._operator, "verify", head.shipment, head.label, spec)
            self._watch(self._operator, job, "verify")
            found = work.figures(self._operator, job, "verify")
            told(cast("int", found["bytes"]), _(_TRUST[str(found["trust"])]))

    def _restore(
        self, arrived: Path, label: dict[str, str], key: keys.PrivateKey
    ) -> dict[str, dict[str, Json]]:
        with self._report.step(marked("restore and check by read-back")) as told:
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
            job = process.begin(self._operator, "restore", shipment, spec.place, spec, key)
            self._watch(self._operator, job, "restore")
            found = work.results_of(self._operator, job, "check")
            size = sum(cast("int", one["size"]) for one in found)
            blocks = sum(cast("int", one["blocks"]) for one in found)
            roots = ", ".join(f"{str(one['root'])[:16]}..." for one in found)
            result = _("{count} blocks read back; roots {roots}")
            told(size, result.format(count=blocks, roots=roots))
        return {str(one["disk"]): one for one in found}

    def _compare(self, name: str, disks: list[Made], volumes: dict[str, dict[str, Json]]) -> None:
        with self._report.step(name) as told:
            for one in disks:
                run("cmp", str(one.image), str(volumes[one.disk]["location"]), timeout=600)
            told(sum(one.image.stat().st_size for one in disks), _("equal"))

    def _papers(self, arrived: Path, operator: keys.PrivateKey) -> None:
        """What the operator hands on; every other home has told what it knows."""
        with self._report.step(marked("make the report")) as told:
            homes = sorted(set(self._base.glob("*-home")) - {self._operator_home})
            told(*demo_papers.make(self._base, self._operator_home, homes, arrived, operator))

    def _watch(self, state: State, job: JobId, name: str) -> None:
        work.watch(state, job, as_lines=self._report.as_lines, name=name)
