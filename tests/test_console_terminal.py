"""The console at a real terminal, on a real disk that is plugged in while it is open: ingested,
sealed, arrived, restored, checked; and killed, which harms no job.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.seal import statement, text
from appliance.seal.keys import read_public
from appliance.seal.label import Label
from appliance.state import JobState
from tests.media import Bench
from tests.technician import PASSPHRASE, Keys, Shell, begun, ingest_spec, noise, until
from tests.terminal import Terminal, terminal

_COMMAND = [sys.executable, "-m", "appliance", "console", "--lang", "en"]


@contextmanager
def console(shell: Shell, place: Path, size: tuple[int, int] = (80, 24)) -> Iterator[Terminal]:
    environ = {"MOTIONGEAR_HOME": str(shell.home), "MOTIONGEAR_STORES": str(place / "shelf")}
    with terminal(place, _COMMAND, environ, size) as seat:
        seat.shows("MotionGear", "Disks", "Jobs")
        yield seat


@pytest.mark.parametrize("size", [(80, 24), (132, 43)], ids=["80x24", "132x43"])
def test_the_whole_way(
    bench: Bench, device: Shell, keyring: Keys, tmp_path: Path, size: tuple[int, int]
) -> None:
    data = noise(8 << 20)
    with console(device, tmp_path, size) as seat:
        node = bench.loop(bench.image(data))
        seat.shows(str(node))
        ingest(seat, node, keyring)
        seat.shows("finished")
        label = seal(seat, device)
        arrive(seat, device, keyring, label, tmp_path / "volumes")
        seat.shows("finished", "Every block of the volumes is that of the manifest.")
    (volume,) = (tmp_path / "volumes").glob("*.img")
    assert volume.read_bytes() == data


def ingest(seat: Terminal, node: Path, keyring: Keys) -> None:
    seat.click("Ingest")
    seat.shows("step 1 of 6")
    seat.click(f" {node}")
    seat.shows(f"[x] (no serial) loop device 8.4 MB loop {node}")
    seat.click("Next")
    seat.shows("step 2 of 6", "firmware")
    seat.click("Next")
    seat.shows("step 3 of 6")
    seat.fill(str(node), "web01")
    seat.click("Next")
    seat.shows("step 4 of 6")
    seat.click("A new one")
    seat.shows("Chosen: a new shipment")
    seat.fill("label", "Acme 7")
    seat.click("Next")
    seat.shows("step 5 of 6")
    for one in keyring.public:
        seat.fill("public key file", str(one))
        seat.click("Add the file")
        seat.shows(read_public(one).fingerprint)
    seat.click("Next")
    seat.shows("step 6 of 6", "web01", "Acme 7")
    seat.click("Start")
    seat.shows("MotionGear", "web01")


def seal(seat: Terminal, device: Shell) -> str:
    seat.click("Seal")
    seat.shows("step 1 of 3")
    seat.click("Acme 7")
    seat.shows("Chosen: Acme 7")
    seat.click("Next")
    seat.shows("step 2 of 3")
    seat.fill("or why not", "no time")
    seat.click("Next")
    seat.shows("step 3 of 3", "no time")
    seat.press("Tab", "Tab", "Enter")  # from Cancel, which is lit first
    with device.state() as state:
        until(lambda: bool(state.shipments()[0].root))
        made = statement.read(state.shipments()[0].path)
    seat.shows(made.device_fingerprint, text.grouped(made.root()))
    seat.click("Back")
    return str(Label.of(made))


def arrive(seat: Terminal, device: Shell, keyring: Keys, label: str, place: Path) -> None:
    seat.click("Arrival")
    seat.shows("step 1 of 10")
    seat.click("Acme 7")
    seat.click("Next")
    seat.shows("step 2 of 10", "seal root")
    seat.fill("label, scanned", label)
    seat.click("Next")
    seat.shows("step 3 of 10")
    seat.fill("private key file", str(keyring.operator))
    seat.fill("passphrase  ", PASSPHRASE, secret=True)
    assert PASSPHRASE not in seat.text
    seat.click("Next")
    seat.shows("step 4 of 10")
    seat.fill("directory  ", str(place))
    seat.click("Next")
    seat.shows("step 5 of 10", "of data")
    seat.click("Next")
    seat.shows("step 6 of 10", "AUTHENTIC")
    seat.click("Restore")
    seat.shows("step 7 of 10", "finished")
    seat.click("Open the job")
    with device.state() as state:
        assert PASSPHRASE not in str(state.draft("arrival"))


def test_killed_it_harms_no_job(device: Shell, tmp_path: Path) -> None:
    store = begun(device, tmp_path / "store")
    (tmp_path / "disk.img").write_bytes(noise(4 << 20))
    with console(device, tmp_path) as seat:
        job = device.start("ingest", store.path, ingest_spec(store.path, tmp_path / "disk.img"))
        seat.shows(f"{job} ingest")
        os.kill(seat.pid, signal.SIGKILL)
        until(lambda: seat.is_over)
    assert device.ended(job).state is JobState.FINISHED


def test_the_demo_plays_at_a_terminal_and_leaves_nothing_behind(
    device: Shell, tmp_path: Path
) -> None:
    place = tmp_path / "t"
    place.mkdir()
    environ = {"MOTIONGEAR_HOME": str(device.home), "TMPDIR": str(place)}
    with terminal(tmp_path, [*_COMMAND, "--demo"], environ, (132, 43)) as seat:
        seat.shows("DEMO, recorded", "S4EWNX0R512876", "running", "ingest", "web01")
        assert list(place.iterdir())
        seat.press("Escape")
        seat.shows("Leave the console?")
        seat.press("Tab", "Enter")
        until(lambda: not list(place.iterdir()))


def test_two_consoles_at_once_agree(device: Shell, tmp_path: Path) -> None:
    """They know nothing but the database: what one does the other sees, and goes on with."""
    store = begun(device, tmp_path / "store")
    image = tmp_path / "disk.img"
    image.write_bytes(noise(4 << 20))
    places = [tmp_path / "1", tmp_path / "2"]
    for place in places:
        place.mkdir()
    with console(device, places[0]) as one, console(device, places[1], (132, 43)) as two:
        one.click("Ingest")
        one.fill("or an image file", str(image))
        one.click("Add the file")
        one.click("Next")
        one.shows("step 2 of 6", "firmware")
        two.click("Ingest")
        two.shows("step 2 of 6", "disk.img")
        for seat in (one, two):
            seat.click("Cancel")
            seat.shows("Leave this wizard?")
            seat.press("Tab", "Enter")
        spec = replace(ingest_spec(store.path, image), limits=("1MB/s",))
        job = device.start("ingest", store.path, spec)
        for seat in (one, two):
            seat.shows(f"{job} ingest")
            seat.click(f"{job} ingest")
            seat.shows("running")
        one.click("Pause")
        for seat in (one, two):
            seat.shows("paused")
        two.click("Resume")
        for seat in (one, two):
            seat.shows("finished")
    assert device.ended(job).state is JobState.FINISHED
