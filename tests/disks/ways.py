"""The three ways that a campaign cuts: ingest, restore, catch-up; each on a disk of its own.

``begin`` makes what is there before, once. ``go`` is the way; it is called again after a cut and
does what a user would: look what there is, and say the same verbs again. ``look`` holds what was
told against what the cut has left, before anything touches it; ``end`` compares bytes.
"""

import hashlib
import json
import random
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from blake3 import blake3

from appliance.seal.writer import Pace
from tests.disks.disk import Disk
from tests.disks.outage import (
    ROOT,
    PowerCutError,
    Running,
    Shells,
    Told,
    Way,
    need,
)
from tests.support import BLOCK
from tests.technician import PASSPHRASE, Keys, sealed_disks

SMALL_PACKS = ("--pack-size", "2MiB")
OFTEN = ("--checkpoint-bytes", "256KiB")
PACE = Pace(pack_size=2 << 20)


class Cuttable(Protocol):
    """One way. ``homes`` are the state directories on the disk."""

    disk: Disk
    homes: tuple[Path, ...]

    def begin(self, shells: Shells) -> None: ...
    def reset(self) -> None: ...
    def go(self, shells: Shells, way: Way) -> None: ...
    def look(self, shells: Shells, way: Way, chance: random.Random) -> None: ...
    def end(self, shells: Shells, way: Way) -> None: ...


def content(seed: int, blocks: int) -> bytes:
    """A disk with text, noise, zeros and repeats, and an end that is no whole block."""
    chance = random.Random(seed)
    pieces: list[bytes] = []
    for index in range(blocks):
        kind = chance.random()
        if kind < 0.5:
            pieces.append(chance.randbytes(BLOCK))
        elif kind < 0.7:
            pieces.append((b"block %8d of a text\n" % index * (BLOCK // 20))[:BLOCK].ljust(BLOCK))
        elif kind < 0.9:
            pieces.append(bytes(BLOCK))
        else:
            pieces.append(chance.choice(pieces) if pieces else bytes(BLOCK))
    return b"".join(pieces) + b"the end"


def same(path: Path, data: bytes) -> bool:
    return hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()


def noted(home: Path, place: Path, question: str) -> list[tuple[str]]:
    """What stands in the state database that a cut has left, looked at in a copy: words that
    anybody may have read before the cut. None where there is no table for them yet.
    """
    copy = place / "state"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for one in home.glob("state.db*"):
        shutil.copy(one, copy)
    with (
        closing(sqlite3.connect(copy / "state.db")) as database,
        suppress(sqlite3.OperationalError),
    ):
        return database.execute(question).fetchall()
    return []


def read_independently(store: Path, key: Path, into: Path) -> list[bytes]:
    """The disks of a sealed store, by a reader that is not ours."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "independent_reader.py", store, key, into],
        input=f"{PASSPHRASE}\n",
        text=True,
        capture_output=True,
        check=False,
    )
    need(not done.returncode, f"a stranger's reader refuses the store: {done.stdout}{done.stderr}")
    return [one.read_bytes() for one in sorted(into.rglob("*")) if one.is_file()]


class _Template:
    """What lies on the disk before the way begins, kept aside."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self._kept = disk, disk.place / "template"

    def keep(self) -> None:
        self._disk.stop()
        shutil.copytree(self._disk.tree, self._kept, symlinks=True)

    def put_back(self) -> None:
        self._disk.stop()
        shutil.rmtree(self._disk.tree)
        shutil.copytree(self._kept, self._disk.tree, symlinks=True)
        self._disk.start()


class IngestWay:
    """A shipment is begun, a disk ingested, the store sealed: state directory and store are on
    the disk that fails.
    """

    def __init__(self, place: Path) -> None:
        self.disk = Disk(place / "volatile")
        self._place, self._template = place, _Template(self.disk)
        self._home, self._store = self.disk.path / "home", self.disk.path / "media" / "store"
        self.homes: tuple[Path, ...] = (self._home,)
        self._source, self._keys = place / "source.img", place / "keys"
        self._data = content(1, 220)

    def begin(self, shells: Shells) -> None:
        del shells
        self._source.write_bytes(self._data)
        Keys(self._keys)
        self._home.mkdir(mode=0o700)
        self._store.parent.mkdir()
        self._template.keep()

    def reset(self) -> None:
        self._template.put_back()

    def go(self, shells: Shells, way: Way) -> None:
        if way.once("shipment"):
            recipients = [
                ("-r", self._keys / f"{one}.key.pub") for one in ("operator", "recovery")
            ]
            new = ("shipment", "new", "box", "-s", self._store, "--block-size", BLOCK)
            told = shells.run(self._home, *new, *recipients[0], *recipients[1])
            if told.fine(0, 76).code:  # it had come to its end, but could not say so any more
                shells.run(self._home, "shipment", "show", "-s", self._store).fine()
            way.done("shipment")
        if way.once("ingest"):
            self._ingest(shells, way)
        if way.once("seal"):
            seal = ("seal", "-s", self._store, "--waive", "a test", "--no-qr", "--json")
            told = shells.run(self._home, *seal).fine(0, 73)
            way.done("seal", [one["root"] for one in told.results("seal")])

    def _ingest(self, shells: Shells, way: Way) -> None:
        jobs = [one for one in self._jobs(shells) if one["kind"] == "ingest"]
        if not jobs:
            need(
                not any("started" in one for one in way.known), "the job that had begun is unknown"
            )
            verb = ("ingest", self._source, "-s", self._store, "-m", "web01", "--json")
            running = shells.begin(self._home, *verb, *SMALL_PACKS, *OFTEN)
            self._note(shells, running, way)
        elif jobs[0]["state"] != "finished":
            resume = ("jobs", "resume", jobs[0]["job"], "--json")
            self._note(shells, shells.begin(self._home, *resume), way)
            self._went_on(shells, way)
        way.done("ingest")

    def _jobs(self, shells: Shells) -> list[dict[str, Any]]:
        return shells.run(self._home, "jobs", "list", "--json").fine().lines

    def _note(self, shells: Shells, running: Running, way: Way) -> None:
        """Stay with the job, and know what it has told whatever becomes of it."""
        try:
            shells.wait(running).fine()
        finally:
            lines = running.told().lines
            told = [one["cursor"] for one in lines if one["event"] == "checkpoint"]
            way.done("cursor", max([way.known.get("cursor", 0), *told]))
            if any(one.get("step") == "start" for one in lines):
                way.done("started")
            shells.stage += (
                f" {next((one['step'] for one in reversed(lines) if 'step' in one), '')}"
            )

    def _went_on(self, shells: Shells, way: Way) -> None:
        """The resumed job read nothing again from before the last cursor it had told."""
        *_, last = shells.outputs()
        (figures,) = last.results("ingest")
        put = figures["stored"] + figures["referenced"] + figures["zero"]
        told, all_blocks = way.known.get("resumed from", 0), -(-len(self._data) // BLOCK)
        need(put <= all_blocks - told, f"{put} of {all_blocks} read again, {told} were told")

    def look(self, shells: Shells, way: Way, chance: random.Random) -> None:
        del shells, chance
        rows = noted(self._home, self._place, "select body from events where kind = 'checkpoint'")
        cursors = [json.loads(body)["cursor"] for (body,) in rows]
        way.done("resumed from", max([way.known.get("cursor", 0), *cursors]))
        if way.known.get("seal"):
            need((self._store / "seal.json").exists(), "the seal that was told is not there")

    def end(self, shells: Shells, way: Way) -> None:
        key = self._keys / "operator.key"
        verify = ("verify", "-s", self._store, "--key", key, "--json", "--passphrase-fd")
        told = shells.run(self._place / "operator", *verify, secret=PASSPHRASE).fine(3)
        roots = [one["root"] for one in told.results("verify")]
        need(not way.known["seal"] or way.known["seal"] == roots, "another seal than was told")
        shown = shells.run(self._home, "shipment", "show", "-s", self._store, "--json").fine()
        (shipment,) = shown.lines
        need([one["complete"] for one in shipment["disks"]] == [True], f"disks: {shipment}")
        found = read_independently(self._store, key, self._place / "read")
        need([self._data] == found, "the store does not open to the bytes of the source")


class RestoreWay:
    """Two disks of a sealed shipment onto volumes: state directory and volumes are on the disk
    that fails.
    """

    def __init__(self, place: Path) -> None:
        self.disk = Disk(place / "volatile")
        self._place, self._template = place, _Template(self.disk)
        self._home, self._volumes = self.disk.path / "home", self.disk.path / "volumes"
        self.homes: tuple[Path, ...] = (self._home,)
        self._store, self._keys = place / "store", place / "keys"
        self._disks = {"web01": content(2, 130), "db01": content(3, 90)}

    def begin(self, shells: Shells) -> None:
        del shells
        Keys(self._keys)
        sealed_disks(self._place, PACE, **self._disks)
        self._home.mkdir(mode=0o700)
        self._template.keep()

    def reset(self) -> None:
        self._template.put_back()

    def go(self, shells: Shells, way: Way) -> None:
        key = ("--key", self._keys / "operator.key", "--json", "--passphrase-fd")
        if way.once("restore"):
            verb = ("restore", "-s", self._store, "--to", self._volumes, *OFTEN, *key)
            running = shells.begin(self._home, *verb, secret=PASSPHRASE)
            try:
                told = shells.wait(running).fine()
            finally:
                lines = running.told().lines
                step = next((one["step"] for one in reversed(lines) if "step" in one), "")
                shells.stage += f" {step}"
            way.done("restore")
            if way.known.get("replayed") is not None:
                (figures,) = told.results("restore")
                need(figures["packs"] <= way.known["packs"] - way.known["replayed"], "doubled")
        if way.once("check"):
            shells.run(self._home, "check", "-s", self._store, "--to", self._volumes).fine()
            way.done("check")

    def look(self, shells: Shells, way: Way, chance: random.Random) -> None:
        """What is called whole is whole; packs noted as replayed are on the volumes."""
        del shells, chance
        whole = list(self._volumes.glob("*.img"))
        for one in whole:
            need(any(same(one, data) for data in self._disks.values()), f"{one.name} is not whole")
        if not way.once("restore"):
            need(len(whole) == len(self._disks), "a volume that was told as restored is not there")
        elif (self._home / "state.db").exists():
            packs = noted(self._home, self._place, "select distinct pack from replayed")
            there = (self._store / "packs" / f"{one}.pack" for (one,) in packs)
            way.done("replayed", sum(one.exists() for one in there))
            way.done("packs", len(list((self._store / "packs").iterdir())) - 1)

    def end(self, shells: Shells, way: Way) -> None:
        del shells, way
        found = sorted(self._volumes.glob("*.img"))
        need(len(found) == len(self._disks), f"volumes: {found}")
        for data in self._disks.values():
            need(any(same(one, data) for one in found), "a volume does not hold its disk")


class CatchUpWay:
    """A machine enrols, sends a round, and a last one: the gate's state directory and its volumes
    are on the disk that fails. The machine has power all the time, or was killed too.
    """

    def __init__(self, place: Path) -> None:
        self.disk = Disk(place / "volatile")
        self._place, self._template = place, _Template(self.disk)
        self._gate, self._volumes = self.disk.path / "gate", self.disk.path / "volumes"
        self.homes: tuple[Path, ...] = (self._gate,)
        self._machine, self._image = place / "machine", place / "web01.img"
        self._acks = place / "acks"
        self._base = content(4, 200)

    def begin(self, shells: Shells) -> None:
        keys, store = Keys(self._place / "keys"), self._place / "store"
        sealed_disks(self._place, PACE, web01=self._base)
        self._gate.mkdir(mode=0o700)
        key = ("--key", keys.operator, "--passphrase-fd")
        verb = ("restore", "-s", store, "--to", self._volumes, *key)
        shells.run(self._gate, *verb, secret=PASSPHRASE).fine()
        self._template.keep()

    def reset(self) -> None:
        self._template.put_back()
        shutil.rmtree(self._machine, ignore_errors=True)
        self._machine.mkdir(mode=0o700)
        self._acks.unlink(missing_ok=True)
        self._data = bytearray(self._base)
        self._write()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = int(listener.getsockname()[1])
        self._sending: Running | None = None
        self._pieces: dict[int, bytes] = {}

    def _write(self) -> None:
        self._image.write_bytes(self._data)

    def _change(self, seed: int, pieces: int) -> None:
        """The machine goes on working: pieces of 4 KiB are written."""
        chance = random.Random(seed)
        for _ in range(pieces):
            at = chance.randrange(len(self._data) // 4096) * 4096
            self._pieces[at] = bytes(self._data[at : at + 4096])
            self._data[at : at + 4096] = chance.randbytes(4096)
        self._write()

    def go(self, shells: Shells, way: Way) -> None:
        self._serve(shells)
        if way.once("code"):
            told = shells.run(self._gate, "gate", "invite", "-m", "web01", "--json").fine()
            way.done("code", told.lines[0]["code"])
        gate = ("--gate", f"127.0.0.1:{self._port}")
        if way.once("enrol"):
            self._verb(shells, "enrol", *gate, "--code-fd", secret=way.known["code"]).fine()
            way.done("enrol")
        if way.once("changed"):
            self._change(5, 120)
            way.done("changed")
        catch_up = ("catch-up", *gate, "-d", self._disk(), "--json")
        if way.once("round"):
            self._verb(shells, *catch_up, "--rounds", 1).fine()
            way.done("round")
        if way.once("changed again"):
            self._change(6, 40)
            way.done("changed again")
        if way.once("final"):
            told = self._verb(shells, *catch_up, "--final", "--stopped").fine()
            way.done("final", told.results("final")[0]["point"])

    def _disk(self) -> str:
        (tag,) = self._volumes.glob("*.json")
        return f"{self._image}={json.loads(tag.read_bytes())['disk']}"

    def _serve(self, shells: Shells) -> None:
        listen = f"127.0.0.1:{self._port}"
        serve = ("gate", "serve", "--to", self._volumes, "--listen", listen)
        running = shells.begin(self._gate, *serve)
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1):
                    return
            except OSError as exc:
                if shells.disk.dead:
                    raise PowerCutError from exc
                need(running.process.poll() is None, f"the gate does not serve: {running.told()}")
                time.sleep(0.05)

    def _verb(self, shells: Shells, *args: object, secret: str | None = None) -> Told:
        """A verb at the machine: the one that is still at it, when there is."""
        survived = self._sending
        running = self._sending = survived or shells.begin(self._machine, *args, secret=secret)
        try:
            told = shells.wait(running)
            if survived is None or not told.code:
                return told
        finally:
            if running.process.poll() is not None:
                self._sending = None
            lines = running.told().lines
            steps = (one["step"] for one in reversed(lines) if "step" in one)
            shells.stage = f"{args[0]} {'final' if '--final' in args else ''} {next(steps, '')}"
        return self._verb(shells, *args, secret=secret)  # the gate's last word was of its disk

    def look(self, shells: Shells, way: Way, chance: random.Random) -> None:
        self._acknowledged_blocks_are_there()
        if not way.once("final"):
            self._point_is_there(way)
        if self._sending is None or chance.random() < 0.5:
            self._sending = None
            shells.kill(self._machine)
            if not way.once("round") or way.once("changed"):
                return
            undone = chance.sample(sorted(self._pieces), chance.randrange(len(self._pieces)))
            for at in undone:  # what was written at the source is what it was before
                self._data[at : at + 4096] = self._pieces[at]
            self._write()

    def _acknowledged_blocks_are_there(self) -> None:
        """Each block whose last word from the gate was an acknowledgement."""
        last: dict[int, str] = {}
        for line in self._acks.read_text().splitlines() if self._acks.exists() else []:
            kind, number, *acknowledged = line.split()
            last[int(number)] = acknowledged[0] if kind == "A" else ""
        (volume,) = self._volumes.glob("*.img*")
        data = volume.read_bytes()
        for index, digest in last.items():
            block = data[index * BLOCK : (index + 1) * BLOCK]
            found = blake3(block).hexdigest()
            need(digest in {"", found}, f"block {index} was acknowledged and is not there")
        self._manifest_is_true(data)

    def _manifest_is_true(self, data: bytes) -> None:
        """What the gate's manifest says of a block is so, but for blocks in the journal."""
        for manifest in self._gate.glob("replicas/*/manifest"):
            noted = set(_journal(manifest.with_name("journal")))
            entries = _entries(manifest.read_bytes())
            for number, entry in enumerate(entries):
                block = data[number * BLOCK : (number + 1) * BLOCK]
                fits = entry in {blake3(block).digest(), bytes(32)}
                need(fits or number in noted, f"the manifest is wrong about block {number}")

    def _point_is_there(self, way: Way) -> None:
        (found,) = self._volumes.glob(f"points/*/{way.known['final']}.img")
        need(same(found, bytes(self._data)), "the recovery point is not what was frozen")

    def end(self, shells: Shells, way: Way) -> None:
        (volume,) = self._volumes.glob("*.img")
        need(same(volume, bytes(self._data)), "the replica is not what the source is")
        self._point_is_there(way)
        check = ("gate", "check", "--to", self._volumes, "-m", "web01")
        shells.run(self._gate, *check).fine()
        listed = shells.run(self._gate, "points", "list", "--to", self._volumes, "--json").fine()
        need(way.known["final"] in [one["point"] for one in listed.lines], f"points: {listed.out}")


def _journal(path: Path) -> tuple[int, ...]:
    """The blocks in a gate's journal; none where it is not whole."""
    data = path.read_bytes() if path.exists() else b""
    if len(data) < 12 or data[:8] != b"MGJOURN1":
        return ()
    (count,) = struct.unpack_from("<I", data, 8)
    end = 12 + 4 * count
    if data[end : end + 32] != blake3(data[:end]).digest():
        return ()
    return struct.unpack_from(f"<{count}I", data, 12)


def _entries(data: bytes) -> list[bytes]:
    """The digests in a manifest file (store-format.md, section 10)."""
    return [data[at : at + 32] for at in range(64, len(data), 40)]
