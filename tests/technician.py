"""A technician at a shell: the real command, with homes, keys and disks of the test's own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import (
    ExitStack,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click

from appliance import cli, jobs, process
from appliance.cli import ask
from appliance.errors import MotionGearError
from appliance.model import DiskId, JobId
from appliance.seal import keys, text
from appliance.seal.canon import now
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.statement import Seal
from appliance.seal.store import Store, by_point
from appliance.seal.writer import Pace
from appliance.state import ENDED, JobRow, State
from tests.support import (
    BLOCK,
    OPERATOR,
    RECOVERY,
    SMALL,
    STRANGER,
    new_store,
    point,
    put_blocks,
    seal_it,
)

PASSPHRASE = "correct horse battery staple"
_PATIENCE_SECONDS = 60.0
# Where the tests run in the background, they and their children ignore SIGINT.
_COMMAND = ("env", "--default-signal=INT", sys.executable, "-m", "appliance")


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines; every line must be one object."""
        found = [json.loads(one) for one in self.out.splitlines()]
        assert all(isinstance(one, dict) and "event" in one for one in found)
        return found

    def results(self, step: str) -> list[dict[str, Any]]:
        return [
            one["figures"] for one in self.lines if one.get("step") == step and "figures" in one
        ]

    def refused(self, error: type[MotionGearError]) -> "Said":
        """Assert that this refusal, and no other, ended the command, in words."""
        assert self.code == error.code, self
        assert f"Code:  {error.code} ({error.name})" in self.err
        assert "Safe:  " in self.err
        assert "Do:    " in self.err
        return self

    def fine(self, code: int = 0) -> "Said":
        assert self.code == code, self
        return self


def until(true: Callable[[], bool]) -> None:
    """Look again and again until it is so; a test that waits for ever has failed."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


@dataclass
class Shell:
    """A shell whose MOTIONGEAR_HOME is ``home``. ``run`` starts the command as a process,
    ``typed`` runs the same command in this one. ``under``: by way of this program; ``more`` stands
    in the environment too.
    """

    home: Path
    under: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)

    def popen(self, *args: object, passphrase: str | None = None) -> "subprocess.Popen[str]":
        given, fds = _with_passphrase(args, passphrase)
        try:
            return subprocess.Popen(
                [*self.under, *_COMMAND, *given],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=fds,
                text=True,
            )
        finally:
            for one in fds:
                os.close(one)

    def run(self, *args: object, passphrase: str | None = None) -> Said:
        with self.popen(*args, passphrase=passphrase) as child:
            out, err = child.communicate(timeout=2 * _PATIENCE_SECONDS)
            return Said(child.returncode, out, err)

    def at_terminal(self, *args: object, answers: Sequence[tuple[str, str]] = ()) -> Said:
        """Run the command at a terminal of its own; ``answers`` are prompts and what is typed."""
        master, slave = os.openpty()
        with (
            open(master, "rb", buffering=0) as terminal,  # noqa: PTH123 - a descriptor, no path
            subprocess.Popen(
                ["setsid", "--ctty", sys.executable, "-m", "appliance", *map(str, args)],
                env=self.environment,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
            ) as child,
        ):
            os.close(slave)
            seen, left = b"", list(answers)
            with suppress(OSError):  # EIO: the command has ended
                while got := terminal.read(4096):
                    seen += got
                    if left and left[0][0].encode() in seen:
                        os.write(master, f"{left.pop(0)[1]}\n".encode())
            return Said(child.wait(), seen.decode(), "")

    def typed(self, *args: object, passphrase: str | None = None) -> Said:
        given, fds = _with_passphrase(args, passphrase)
        out, err, code = StringIO(), StringIO(), 0
        with ExitStack() as stack:
            for fd in fds:
                stack.callback(os.close, fd)
            stack.enter_context(patch.object(ask, "keep_in_memory"))  # that is for good
            stack.enter_context(patch.object(sys, "argv", ["motiongear", *given]))
            stack.enter_context(patch.dict(os.environ, MOTIONGEAR_HOME=str(self.home)))
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(err))
            try:
                cli.main()
            except SystemExit as exc:
                code = int(exc.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.more, "MOTIONGEAR_HOME": str(self.home)}

    # --- jobs, as the engine sees them ---

    @contextmanager
    def state(self) -> Iterator[State]:
        with State(self.home) as opened:
            yield opened

    def start(
        self, kind: str, store: Path, spec: jobs.Spec, key: PrivateKey | None = None
    ) -> JobId:
        """Start a job with a spec that the command line does not offer."""
        with self.state() as opened:
            disk = spec.disk if isinstance(spec, jobs.IngestSpec) else ""
            shipment = Store(store).head.shipment
            job = opened.add_job(kind, shipment, kind, jobs.dump_spec(spec), now(), disk)
            process.start(opened, job, key)
        return job

    def job(self, job: JobId) -> JobRow:
        with self.state() as opened:
            return opened.job(job)

    def ended(self, job: JobId) -> JobRow:
        """The job once it has ended."""
        with self.state() as opened:
            until(lambda: opened.job(job).state in ENDED)
            return opened.job(job)

    def events(self, job: JobId, kind: str) -> list[dict[str, Any]]:
        with self.state() as opened:
            return [one.body for one in opened.events(job) if one.kind == kind]

    def wait_for(self, job: JobId, kind: str, count: int = 1) -> None:
        """Until the job has told so many events of a kind."""
        with self.state() as opened:
            until(lambda: sum(one.kind == kind for one in opened.events(job)) >= count)

    def kill(self, job: JobId) -> None:
        """The power is cut, as far as one process is concerned."""
        with self.state() as opened:
            until(lambda: opened.process_of(job) > 0)
            os.kill(self.pid(job), signal.SIGKILL)
            until(lambda: not opened.process_of(job))

    def pid(self, job: JobId) -> int:
        """Of a job that lives; never 0, which to a signal means all of us."""
        with self.state() as opened:
            found = opened.process_of(job)
        assert found > 0, f"job {job} has ended"
        return found

    def stop_all(self) -> None:
        """End what a failed test has left running."""
        with self.state() as opened:
            for row in opened.jobs():
                if row.state not in ENDED:
                    process.stop(opened, row.id)
                    until(lambda job=row.id: not opened.process_of(job))  # type: ignore[misc]


def _with_passphrase(
    args: Sequence[object], passphrase: str | None
) -> tuple[list[str], tuple[int, ...]]:
    given = [str(one) for one in args]
    if passphrase is None:
        return given, ()
    reader, writer = os.pipe()
    with open(writer, "w") as pipe:  # noqa: PTH123 - a descriptor, no path
        pipe.write(f"{passphrase}\n")
    return [*given, "--passphrase-fd", str(reader)], (reader,)


@dataclass(frozen=True)
class Keys:
    """Key files of a shipment's two recipients and of a stranger, quick to unlock."""

    place: Path

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True)
        for key in (OPERATOR, RECOVERY, STRANGER):
            path = self.place / f"{key.recipient.name}.key"
            keys.write_pair(key, path, PASSPHRASE, memory_kib=8192)

    @property
    def operator(self) -> Path:
        return self.place / "operator.key"

    @property
    def public(self) -> tuple[Path, ...]:
        """The public key files of operator and recovery."""
        return self.place / "operator.key.pub", self.place / "recovery.key.pub"

    @property
    def stranger(self) -> Path:
        return self.place / "stranger.key"

    @property
    def recipients(self) -> tuple[object, ...]:
        """Options that make operator and recovery the recipients."""
        return tuple(each for one in self.public for each in ("-r", one))


def ingest_spec(
    store: Path,
    source: Path,
    *,
    disk: str = "22" * 16,
    machine: str = "web01",
    limits: tuple[str, ...] = (),
    pack_size: int = 1 << 20,
) -> jobs.IngestSpec:
    """An ingest with small packs, and a checkpoint for every two blocks."""
    return jobs.IngestSpec(
        store=str(store),
        source=str(source),
        machine=machine,
        disk=DiskId(disk),
        level=1,
        limits=limits,
        pack_size=pack_size,
        checkpoint_bytes=2 * BLOCK,
        checkpoint_seconds=3600,
    )


def noise(size: int) -> bytes:
    """Bytes that do not compress."""
    return os.urandom(size)


@dataclass(frozen=True)
class Sent:
    """A sealed shipment, as it comes off the lorry."""

    store: Store
    seal: Seal
    disks: dict[str, bytes]

    @property
    def path(self) -> Path:
        return self.store.path

    @property
    def pins(self) -> tuple[str, ...]:
        """Options with what stands on the label."""
        root = text.grouped(self.seal.root())
        return ("--device", self.seal.device_fingerprint, "--seal", root)

    def packs(self, machine: str) -> list[Path]:
        """The packs of a machine's disk, in order."""
        (found,) = (one for one in by_point(self.store.infos()) if one.disk == disk_id(machine))
        return [one.path for one in found.packs]


def restore_spec(sent: Sent, goal: Path, *limits: str) -> jobs.RestoreSpec:
    return jobs.RestoreSpec(
        store=str(sent.path),
        target="local",
        place=str(goal),
        volumes=(),
        device="",
        root="",
        recipients=(),
        limits=limits,
    )


def begun(device: Shell, place: Path, *keys: PrivateKey) -> Store:
    """A shipment that this device has begun, for operator and recovery or these keys."""
    recipients = tuple(one.recipient for one in keys or (OPERATOR, RECOVERY))
    made = Store.create(place, "test", Device.of(device.home), recipients, BLOCK)
    with device.state() as opened:
        opened.note_shipment(made.head.shipment, made.path, made.head.label)
    return made


def disk_id(machine: str) -> str:
    return machine.encode().hex().ljust(32, "0")


def sealed_disks(place: Path, pace: Pace = SMALL, **disks: bytes) -> Sent:
    """A sealed shipment of one disk for each machine."""
    store, device = new_store(place)
    specs = [point(data, disk_id(name), name) for name, data in disks.items()]
    for spec, data in zip(specs, disks.values(), strict=True):
        put_blocks(store, data, spec, pace=pace)
    return Sent(store, seal_it(store, device, *specs), disks)


def listed(group: click.Group) -> list[tuple[str, click.Command]]:
    """The verbs of a group by name."""
    context = click.Context(group, **group.context_settings)
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [(name, command) for name, command in found if command is not None]
