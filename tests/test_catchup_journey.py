"""Catch-up at the shell: the gate and the machine as processes that are killed, stopped, and told
to go on.
"""

import json
import os
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance import jobs, process
from appliance.errors import (
    BadInputError,
    CheckFailedError,
    EnrolmentCodeError,
    LinkCutError,
    NotConvergingError,
    NotEnrolledError,
    ReplicaUnknownError,
    SourceChangedError,
    UnknownNameError,
    VolumeForeignError,
    VolumeMissingError,
)
from appliance.model import JobId
from appliance.seal.canon import now
from appliance.state import JobState, State
from tests.technician import Keys, Said, Sent, Shell, disk_id, noise, sealed_disks, until

PIECE = 1 << 16
SIZE = 24 << 20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Site:
    """The destination, where a shipment was restored and a gate serves; and the machine."""

    gate: Shell
    machine: Shell
    sent: Sent
    place: Path
    port: int
    image: Path
    serving: JobId

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def catch_up(self, *more: object, limit: str = "") -> tuple[object, ...]:
        limits = ("--limit", limit) if limit else ()
        return ("catch-up", "--gate", self.address, "-d", self.disk, *limits, *more)

    @property
    def disk(self) -> str:
        return f"{self.image}={disk_id('web01')[:8]}"

    @property
    def volume(self) -> Path:
        (found,) = self.place.glob("*.img*")
        return found

    def serve(self) -> JobId:
        """Start the gate, and wait until it listens."""
        spec = jobs.GateSpec("local", str(self.place), self.address, 8)
        with self.gate.state() as opened:
            job = begun(opened, "gate", spec)
        self.gate.wait_for(job, "step")
        return job

    def sending(self, limit: str) -> JobId:
        """A round on its way, slow enough to be caught."""
        job = self.begun(60, limit)
        with self.machine.state() as opened:
            until(lambda: bool((told := opened.progress(job)) and told.stored > 2 << 20))
        return job

    def begun(self, patience_seconds: float, *limits: str) -> JobId:
        """A round that has just begun."""
        spec = jobs.CatchUpSpec(
            gate=self.address,
            disks=((str(self.image), disk_id("web01")),),
            limits=limits,
            rounds=1,
            short_seconds=0,
            final=False,
            stopped=False,
            freeze_seconds=1,
            patience_seconds=patience_seconds,
        )
        with self.machine.state() as opened:
            return begun(opened, "catch-up", spec)

    def code(self, *more: object) -> str:
        said = self.gate.typed("gate", "invite", "-m", "web01", "--json", *more).fine()
        return str(json.loads(said.out)["code"])

    def enrol(self, code: str, shell: Shell | None = None) -> Said:
        reader, writer = os.pipe()
        os.write(writer, f"{code}\n".encode())
        os.close(writer)
        try:
            where = ("enrol", "--gate", self.address, "--code-fd", reader)
            return (shell or self.machine).typed(*where)
        finally:
            os.close(reader)


def begun(opened: State, kind: str, spec: jobs.Spec) -> JobId:
    job = opened.add_job(kind, jobs.NOBODYS, kind, jobs.dump_spec(spec), now())
    process.start(opened, job)
    return job


def scatter(image: Path, pieces: int) -> None:
    with image.open("r+b") as disk:
        chosen = random.Random(pieces)
        for one in chosen.sample(range(SIZE // PIECE), pieces):
            disk.seek(one * PIECE)
            disk.write(noise(PIECE))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    data = noise(SIZE)
    sent = sealed_disks(tmp_path / "store", web01=data)
    gate, machine = Shell(tmp_path / "gate"), Shell(tmp_path / "machine")
    keys = Keys(tmp_path / "keys")
    place = tmp_path / "volumes"
    restore = ("restore", "-s", sent.path, *sent.pins, "--to", place, "--key", keys.operator)
    gate.typed(*restore, passphrase="correct horse battery staple").fine()
    image = tmp_path / "disk.img"
    image.write_bytes(data)
    found = Site(gate, machine, sent, place, free_port(), image, JobId(0))
    found.serving = found.serve()
    try:
        yield found
    finally:
        machine.stop_all()
        gate.stop_all()


@pytest.fixture
def enrolled(site: Site) -> Site:
    site.enrol(site.code())
    return site


def test_a_machine_catches_up_is_frozen_and_can_be_booted(enrolled: Site) -> None:
    site = enrolled
    scatter(site.image, 20)
    told = site.machine.typed(*site.catch_up()).fine()
    assert "The next round would take" in told.out
    assert site.volume.read_bytes() == site.image.read_bytes()
    scatter(site.image, 5)
    site.machine.typed(*site.catch_up("--final")).refused(BadInputError)
    told = site.machine.typed(*site.catch_up("--final", "--stopped")).fine()
    assert "both ends have the same roots" in told.out
    listed = site.gate.typed("points", "list", "--to", site.place, "--json").fine()
    (point,) = [json.loads(one) for one in listed.out.splitlines()]
    assert point["point"] == 3
    rows = site.gate.typed("gate", "replicas", "--to", site.place, "-m", "web01").fine()
    assert "replica" in rows.out
    checked = site.gate.typed("gate", "check", "--to", site.place, "-m", "web01").fine()
    assert "384 blocks" in checked.out
    assert "gate" in site.gate.typed("gate", "machines").fine().out


def test_a_gate_that_is_killed_comes_back_and_the_round_goes_on(enrolled: Site) -> None:
    site = enrolled
    site.image.write_bytes(noise(SIZE))
    job = site.sending("12MB/s")
    site.gate.kill(site.serving)
    site.serve()
    assert site.machine.ended(job).state is JobState.FINISHED
    assert site.volume.read_bytes() == site.image.read_bytes()
    (told,) = site.machine.events(job, "result")[:1]
    assert told["figures"]["point"] == 1
    assert told["figures"]["sent"] < 1.6 * SIZE


def test_a_sender_that_is_killed_sends_only_what_is_missing(enrolled: Site) -> None:
    site = enrolled
    site.image.write_bytes(noise(SIZE))
    job = site.sending("12MB/s")
    site.machine.kill(job)
    told = site.machine.typed(*site.catch_up("--rounds", 1, "--json")).fine()
    assert 0 < told.results("round")[0]["blocks"] < 384
    assert site.volume.read_bytes() == site.image.read_bytes()


def test_both_may_be_killed(enrolled: Site) -> None:
    site = enrolled
    site.image.write_bytes(noise(SIZE))
    job = site.sending("12MB/s")
    site.gate.kill(site.serving)
    site.machine.kill(job)
    site.serve()
    site.machine.typed(*site.catch_up()).fine()
    assert site.volume.read_bytes() == site.image.read_bytes()


def test_a_volume_that_rots_is_found_and_healed_by_the_next_round(enrolled: Site) -> None:
    site = enrolled
    site.machine.typed(*site.catch_up("--rounds", 1)).fine()
    with site.volume.open("r+b") as volume:
        volume.seek(7 * PIECE + 100)
        volume.write(b"rotten")
    check = ("gate", "check", "--to", site.place, "-m", "web01")
    assert "block 7" in site.gate.typed(*check).refused(CheckFailedError).err
    told = site.machine.typed(*site.catch_up("--rounds", 1, "--json")).fine()
    assert told.results("round")[0]["blocks"] == 1
    site.gate.typed(*check).fine()
    assert site.volume.read_bytes() == site.image.read_bytes()


def test_the_shipment_is_not_restored_over_its_replica(enrolled: Site, tmp_path: Path) -> None:
    site = enrolled
    scatter(site.image, 3)
    site.machine.typed(*site.catch_up("--rounds", 1)).fine()
    key = tmp_path / "keys" / "operator.key"
    restore = ("restore", "-s", site.sent.path, "--to", site.place, "--key", key)
    told = site.gate.typed(*restore, passphrase="correct horse battery staple")
    told.refused(VolumeForeignError)
    assert site.volume.read_bytes() == site.image.read_bytes()
    site.gate.typed("check", "-s", site.sent.path, "--to", site.place).fine()


def test_codes_are_used_once_and_expire(site: Site, tmp_path: Path) -> None:
    code = site.code()
    mistyped = code[:-1] + ("A" if code[-1] != "A" else "B")
    site.enrol(mistyped).refused(BadInputError)
    site.enrol(code).fine()
    other = Shell(tmp_path / "other")
    said = site.enrol(code, other).refused(EnrolmentCodeError)
    assert "used before" in said.err
    late = site.code("--hours", 1e-9)
    said = site.enrol(late, other).refused(EnrolmentCodeError)
    assert "expired" in said.err
    other.typed(*site.catch_up()).refused(NotEnrolledError)
    site.gate.typed("gate", "forget", "-m", "web01").fine()
    site.gate.typed("gate", "forget", "-m", "web01").refused(UnknownNameError)
    site.machine.typed(*site.catch_up("--rounds", 1)).refused(NotEnrolledError)


def test_a_disk_that_grew_or_is_none_of_the_machines_is_refused(enrolled: Site) -> None:
    site = enrolled
    with site.image.open("ab") as disk:
        disk.write(bytes(512))
    site.machine.typed(*site.catch_up()).refused(SourceChangedError)
    plain = ("catch-up", "--gate", site.address, "-d", site.image)
    site.machine.typed(*plain).refused(ReplicaUnknownError)
    new = ("catch-up", "--gate", site.address, "-d", f"{site.image}=new", "--rounds", 1)
    site.machine.typed(*new).refused(ReplicaUnknownError)
    site.enrol(site.code("--new-disks"))
    site.machine.typed(*new).fine()
    volumes = [one.read_bytes() for one in site.place.glob("*.img*")]
    assert site.image.read_bytes() in volumes
    plain_again = site.machine.typed(*plain, "--rounds", 1, "--json").fine()
    assert plain_again.results("round")[0]["blocks"] == 0
    with site.image.open("ab") as disk:
        disk.write(bytes(512))
    site.machine.typed(*plain).refused(SourceChangedError)
    site.machine.typed(*new).fine()


def test_a_disk_that_was_shipped_and_then_grew_is_sent_anew(enrolled: Site) -> None:
    site = enrolled
    site.machine.typed(*site.catch_up("--rounds", 1)).fine()
    with site.image.open("ab") as disk:
        disk.write(bytes(512))
    site.enrol(site.code("--new-disks"))
    new = ("catch-up", "--gate", site.address, "-d", f"{site.image}=new", "--rounds", 1)
    site.machine.typed(*new).fine()


def test_a_source_that_writes_faster_than_the_line_is_told_with_figures(enrolled: Site) -> None:
    """Every round finds as much changed as the one before it."""
    site = enrolled
    spec = jobs.CatchUpSpec(
        gate=site.address,
        disks=((str(site.image), disk_id("web01")),),
        limits=("4MB/s",),
        rounds=20,
        short_seconds=0,
        final=False,
        stopped=False,
        freeze_seconds=1,
        patience_seconds=60,
    )
    with site.machine.state() as opened:
        job = begun(opened, "catch-up", spec)

        def written() -> bool:
            scatter(site.image, 16)
            return opened.job(job).state is JobState.FAILED

        until(written)
        row = opened.job(job)
    assert row.error == NotConvergingError.name
    assert "MB/s go over the line" in row.what


def test_a_gate_that_is_not_there_is_told(site: Site) -> None:
    site.enrol(site.code())
    site.gate.kill(site.serving)
    away = site.catch_up("--patience-seconds", 0)
    site.machine.typed(*away).refused(LinkCutError)


def test_nonsense_is_refused_before_anything_starts(enrolled: Site) -> None:
    site = enrolled
    for odd in (("--stopped",), ("--rounds", 0), ("--freeze-seconds", 0, "--final")):
        site.machine.typed(*site.catch_up(*odd)).refused(BadInputError)
    twice = ("catch-up", "--gate", site.address, "-d", site.disk, "-d", site.disk)
    site.machine.typed(*twice).refused(BadInputError)
    nowhere = ("catch-up", "--gate", "gate:nowhere", "-d", site.image)
    site.machine.typed(*nowhere).refused(BadInputError)
    none = ("gate", "check", "--to", site.place, "-m", "db01")
    site.gate.typed(*none).refused(VolumeMissingError)
    site.gate.typed("gate", "invite", "-m", "x", "--hours", 0).refused(BadInputError)
    site.gate.typed("gate", "serve", "--to", site.place, "--keep", 0).refused(BadInputError)
