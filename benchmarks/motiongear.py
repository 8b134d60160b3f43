"""The product, through its real command line, with homes, keys and stores of its own."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Command, prepare

_PASSPHRASE = "a passphrase for measurements"  # noqa: S105 - it guards nothing


@dataclass(frozen=True, slots=True)
class Label:
    """What stands on a sealed device: its fingerprint and the seal root."""

    device: str
    root: str

    @property
    def pins(self) -> tuple[str, ...]:
        return ("--device", self.device, "--seal", self.root)


class MotionGear:
    """A device and an operator in one directory; the recipients' keys that are there are used."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._passphrase = place / "passphrase"
        if place.exists():
            return
        place.mkdir(parents=True)
        self._passphrase.write_text(f"{_PASSPHRASE}\n")
        for name, role in (("operator", "operator"), ("recovery", "recovery")):
            out = ("--out", place / f"{name}.key", "--role", role)
            prepare(self.command("keys", "new", name, *out, unlock=True))

    def command(self, *args: object, unlock: bool = False, home: str = "device") -> Command:
        """A verb; ``unlock`` has it read the passphrase."""
        given = [str(one) for one in args]
        if unlock:
            given += ["--passphrase-fd", "0"]
        return Command(
            (str(Path(sys.executable).with_name("motiongear")), *given),
            {"MOTIONGEAR_HOME": str(self.place / home)},
            self._passphrase if unlock else None,
        )

    @property
    def store(self) -> Path:
        return self.place / "store"

    @property
    def key(self) -> Path:
        return self.place / "operator.key"

    def new_store(self) -> None:
        """An empty store; the one before is removed, with what the device knows of it."""
        for one in ("store", "device"):
            shutil.rmtree(self.place / one, ignore_errors=True)
        keys = [self.place / f"{one}.key.pub" for one in ("operator", "recovery")]
        recipients = [part for one in keys for part in ("-r", one)]
        prepare(self.command("shipment", "new", "bench", "--store", self.store, *recipients))

    def ingest(self, image: Path, *more: object, machine: str = "web01") -> Command:
        where = ("--store", self.store, "--machine", machine)
        return self.command("ingest", image, *where, "--json", *more)

    def ingest_all(self, images: Sequence[Path], *more: object) -> list[Command]:
        return [self.ingest(one, *more, machine=one.stem) for one in images]

    def stored(self) -> int:
        """Bytes of all packs."""
        return sum(one.stat().st_size for one in (self.store / "packs").iterdir())

    def seal(self) -> Label:
        """Seal the store; what is printed for the label."""
        waive = ("--waive", "a measurement")
        told = prepare(self.command("seal", "--store", self.store, *waive, "--no-qr"))
        found = dict(re.findall(r"^  (device|seal root) +(.*)$", told, re.MULTILINE))
        return Label(found["device"], found["seal root"])

    def verify(self, label: Label) -> Command:
        return self.command(
            "verify", "--store", self.store, *label.pins, "--json", home="operator"
        )

    def restore(self, label: Label, place: Path) -> Command:
        """Nothing is known of an earlier restore."""
        shutil.rmtree(self.place / "operator", ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
        where = ("--store", self.store, "--to", place, "--key", self.key)
        return self.command("restore", *where, *label.pins, "--json", unlock=True, home="operator")


def drop_from_cache(place: Path) -> None:
    """Have the files below ``place`` out of the page cache, for those who read through it."""
    for one in sorted(place.iterdir()):
        fd = os.open(one, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
