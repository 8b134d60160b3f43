"""What the console does with one shipment: its blocks, its custody, its report, its end. Each once
by keys in English on the small screen, and once by mouse in Chinese on the large one.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.jobs.erasing import certificate_path
from appliance.language import Language
from appliance.model import DiskId, JobId
from appliance.report import document
from appliance.seal import custody, keys, text
from appliance.seal.chain import records
from appliance.seal.custody import Deed
from appliance.seal.identity import Device
from appliance.seal.manifest import Manifest
from appliance.seal.manifest import State as BlockState
from appliance.seal.store import Store
from appliance.state import JobState, ShipmentRow, State
from appliance.tui.screens.dialogs import ToldScreen
from appliance.tui.screens.home import HomeScreen
from appliance.tui.screens.job import JobScreen
from appliance.tui.screens.manifest import BlocksScreen, Opened
from appliance.tui.screens.report import CertificateScreen
from appliance.tui.screens.shipment import ShipmentScreen
from appliance.tui.widgets.blocks import Blocks
from tests.console import EACH_WAY, Seat, seated, told
from tests.media import Bench
from tests.support import OPERATOR, point
from tests.technician import PASSPHRASE, Shell, noise

LABEL = "h[/]4 \x1b[2J"  # foreign text, which steers nothing
WHOLE = "The chain holds together; records: {count}."
AUTHENTIC = "AUTHENTIC: signed by the device expected, and nothing was changed since."
SHOWN = r"h[/]4 \x1b[2J"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A device's home and the sealed shipment it has made."""
    place = tmp_path_factory.mktemp("made")
    shell, store = Shell(place / "home"), place / "store"
    (place / "web.img").write_bytes(noise(3 << 20))
    keys.write_pair(OPERATOR, place / "op", PASSPHRASE, memory_kib=8192)
    recipients = ("--recipient", place / "op.pub")
    shell.typed("shipment", "new", LABEL, "-s", store, *recipients).fine()
    shell.typed("ingest", place / "web.img", "-s", store, "-m", "web01").fine()
    shell.typed("seal", "-s", store, "--waive", "a test").fine()
    return place, store


@pytest.fixture
def here(made: tuple[Path, Path], bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of both in memory: no disk of the machine's is told to discard."""
    place = bench.tmpfs(bench.place / "m", "160m")
    for one in ("home", "store", "op", "op.pub"):
        source = made[0] / one
        if source.is_dir():
            shutil.copytree(source, place / one)
        else:
            shutil.copy(source, place / one)
    monkeypatch.chdir(place)
    with State(place / "home") as state:
        (row,) = state.shipments()
        state.note_shipment(row.id, place / "store", row.label)
    return place


@pytest.fixture
def state(here: Path) -> Iterator[State]:
    with State(here / "home") as found:
        yield found


@pytest.fixture
def row(state: State) -> ShipmentRow:
    (found,) = state.shipments()
    return found


async def opened(seat: Seat, row: ShipmentRow, deed: str) -> None:
    await seat.until(lambda: bool(seat.app.snapshot.shipments))
    await seat.pick("#shipments", row.id)
    await seat.until(lambda: seat.screen_is(ShipmentScreen))
    root = text.grouped(bytes.fromhex(row.root))
    await seat.shows(SHOWN, row.id, str(row.path), root, seat.say("sealed"))
    await seat.pick("#deeds", deed)


@EACH_WAY
def test_a_shipment_is_erased_where_each_of_it_was_said(
    state: State,
    here: Path,
    row: ShipmentRow,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    end = "-".join(text.grouped(bytes.fromhex(row.root)).split("-")[-2:])

    async def story() -> None:
        async with seated(state, here, size=size, language=language, mouse=mouse) as seat:
            await opened(seat, row, "erase")
            await seat.shows(SHOWN, end, seat.say("It cannot be undone."))
            assert seat.app.focused is seat.app.screen.query_one("#cancel")
            await seat.push("#do")
            await seat.shows(seat.say("It may be the only copy: say each of it above."))
            await seat.pick("#twice", "not-delivered")
            await seat.pick("#twice", "data-will-be-lost")
            await seat.push("#do")
            await seat.shows(seat.say("What was typed is not what is asked for."))
            assert Store(row.path).sealed
            await seat.type("#typed", end)
            await seat.push("#do")
            await seat.until(lambda: seat.screen_is(JobScreen))
            await seat.shows(seat.say("finished"))
            await seat.push("#back")
            await seat.push("#back")
            await seat.until(lambda: seat.screen_is(HomeScreen))
            await seat.push("#papers")
            await seat.shows(SHOWN, "certificate-")
            await certified(seat, here)

    told(story)
    assert not row.path.exists()
    assert (here / "c.pdf").read_bytes().startswith(b"%PDF")


async def certified(seat: Seat, here: Path) -> None:
    (job,) = [one for one in seat.app.snapshot.jobs if one.row.kind == "erase"]
    assert job.row.state is JobState.FINISHED
    await seat.pick("#certificates", str(certificate_path(here / "home", JobId(job.row.id))))
    await seat.until(lambda: seat.screen_is(CertificateScreen))
    await seat.shows(SHOWN, seat.say("Erased: {label}").format(label=SHOWN))
    await seat.type("#out", "c.pdf")
    await seat.push("#write")
    await seat.shows(seat.say("Written: {path}").format(path=here / "c.pdf"))


def test_an_erase_that_is_left_erases_nothing(state: State, here: Path, row: ShipmentRow) -> None:
    async def story() -> None:
        async with seated(state, here) as seat:
            await opened(seat, row, "erase")
            await seat.shows(seat.say("It cannot be undone."))
            await seat.pilot.press("enter")  # what is lit first
            await seat.until(lambda: seat.screen_is(ShipmentScreen))

    told(story)
    assert Store(row.path).sealed
    assert not [one for one in state.jobs() if one.kind == "erase"]


def test_what_cannot_be_erased_is_said_with_what_to_do(
    state: State, here: Path, row: ShipmentRow
) -> None:
    async def story() -> None:
        async with seated(state, here) as seat:
            with Store(row.path).lock(alone=False):
                (row.path / "packs").rename(row.path / "away")
                (row.path / "packs").symlink_to(row.path / "away")
                await opened(seat, row, "erase")
                await seat.shows("is a link", "See where it leads; take the link away, then erase")
                assert seat.app.screen.query_one("#do").disabled

    told(story)


@EACH_WAY
def test_a_shipment_goes_from_hand_to_hand(
    state: State,
    here: Path,
    row: ShipmentRow,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    receiver = Device.of(here / "other").public

    async def giving() -> None:
        async with seated(state, here, size=size, language=language, mouse=mouse) as seat:
            await opened(seat, row, "custody")
            await seat.shows(seat.say(WHOLE).format(count=3))
            await seat.push("#receive")
            await seat.push("#do")
            await seat.shows("No hand-over of this shipment is waiting for an answer")
            await seat.push("#cancel")
            await seat.push("#hand-over")
            await seat.push("#do")
            await seat.shows(seat.say("Say who takes it."))
            await seat.type("#hand-to", "Lin")
            await seat.scan("#hand-receiver", receiver)
            await seat.push("#do")
            await seat.until(lambda: seat.screen_is(ToldScreen))
            codes.append(code_in(seat))
            await seat.push("#close")
            await seat.shows(seat.say(WHOLE).format(count=4))

    async def taking() -> None:
        async with seated(other, here, size=size, language=language, mouse=mouse) as seat:
            await seat.until(lambda: bool(seat.app.snapshot.shipments))
            await seat.pick("#shipments", row.id)
            await seat.pick("#deeds", "custody")
            await seat.push("#receive")
            await seat.type("#hand-code", codes[0].lower() if mouse else codes[0])
            await seat.push("#do")
            await seat.until(lambda: seat.screen_is(ToldScreen))
            await seat.shows(codes[0])
            await seat.push("#close")
            await seat.shows("Lin")

    codes: list[str] = []
    told(giving)
    with State(here / "other") as other:
        other.note_shipment(row.id, row.path, row.label)
        told(taking)
    chain = records(custody.read(custody.in_store(row.path)))
    assert [one.record.deed for one in chain.values()][3:] == [Deed.HANDED_OVER, Deed.RECEIVED]
    assert chain[5].record.signer == receiver


def code_in(seat: Seat) -> str:
    """Whole, in one piece: it is read aloud."""
    (found,) = [one for one in seat.text.split() if len(one) == 19 and one.count("-") == 3]
    return found


def test_a_chain_that_was_changed_says_so_first(
    state: State, here: Path, row: ShipmentRow
) -> None:
    changed = custody.in_store(row.path) / "000002.json"
    changed.write_bytes(changed.read_bytes().replace(b"web01", b"web02"))

    async def story() -> None:
        async with seated(state, here) as seat:
            await opened(seat, row, "custody")
            await seat.shows("The chain does NOT hold together.", "!! record 2:")
            await seat.pilot.press("f3")
            await seat.shows(seat.say("The chain does NOT hold together."))

    told(story)


@EACH_WAY
def test_a_report_is_made_and_verified(
    state: State,
    here: Path,
    row: ShipmentRow,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    device = Device.of(here / "home").fingerprint

    async def story() -> None:
        async with seated(state, here, size=size, language=language, mouse=mouse) as seat:
            await opened(seat, row, "report")
            await seat.push("#write")
            await seat.shows(seat.say("Say where the files go."))
            await seat.push("#key-for-it")
            await seat.type("#key", "op")
            await seat.type("#passphrase", PASSPHRASE)
            await seat.push("#unlock")
            await seat.shows(seat.say("The key is unlocked, until this page is left."))
            await seat.type("#out", "r/a")
            await seat.push("#write")
            for ending in ("json", "en.html", "zh.pdf"):
                await seat.shows(str(here / f"r/a.{ending}"))
            await seat.push("#write")
            await seat.shows("is there already")
            await seat.push("#close")
            await seat.push("#back")
            await seat.push("#back")
            await seat.push("#papers")
            await seat.type("#report-file", "r/a.json")
            await seat.scan("#report-device", device)
            await seat.push("#verify-report")
            await seat.shows(device)
            await seat.shows(
                seat.say(
                    "AUTHENTIC: signed by the device expected, and nothing was changed since."
                )
            )

    told(story)
    signed = document.parse((here / "r/a.json").read_bytes())
    assert signed.fingerprint == device
    assert signed.report.shipment.id == row.id


@EACH_WAY
def test_every_block_of_a_disk_can_be_looked_at(
    state: State,
    here: Path,
    row: ShipmentRow,
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    """With a key here; what was proved once needs none."""

    async def story() -> None:
        async with seated(state, here, size=size, language=language, mouse=mouse) as seat:
            await opened(seat, row, "manifest")
            rows = seat.app.screen.query_one("#disks-there")
            await seat.until(lambda: bool(rows.cursor))  # type: ignore[attr-defined]
            await seat.shows(rows.cursor.split()[0])  # type: ignore[attr-defined]
            await seat.pick("#disks-there", rows.cursor)  # type: ignore[attr-defined]
            await seat.type("#key", "op")
            await seat.type("#passphrase", PASSPHRASE)
            await seat.push("#unlock")
            await seat.until(lambda: seat.screen_is(BlocksScreen))
            blocks = seat.app.screen.query_one(Blocks)
            await seat.type("#offset", "99999999999")
            await seat.push("#go")
            await seat.shows(seat.say("Give a number below {size}.").format(size=3 << 20))
            await seat.type("#offset", "200000")
            await seat.push("#go")
            at = 200_000 // Store(row.path).head.block_size
            assert blocks.cursor == at
            digest = blocks._manifest[at][0]  # noqa: SLF001
            await seat.shows(digest.hex(" ", 4))
            await seat.push("#next-bad")
            await seat.shows(seat.say("There is none behind this block."))

    told(story)


def large(blocks: int) -> Opened:
    """A disk of so many blocks; one near its end was unreadable."""
    size = blocks << 16
    manifest = Manifest(DiskId("11" * 16), 0, 1 << 16, size)
    manifest.set_zero(0, blocks)
    manifest.set(blocks - 7, os.urandom(32), BlockState.UNREADABLE)  # type: ignore[arg-type]
    return Opened(point(b"x" * 65536), manifest)


def test_a_disk_of_a_million_blocks_is_looked_at_as_one_of_ten(state: State, here: Path) -> None:
    opened_one = large(1_000_000)

    async def story() -> None:
        async with seated(state, here) as seat:
            seat.app.push_screen(BlocksScreen(opened_one))
            await seat.until(lambda: seat.screen_is(BlocksScreen))
            await seat.shows("0  ")
            await seat.push("#next-bad")
            await seat.shows("999993", str(999_993 << 16))
            blocks = seat.app.screen.query_one(Blocks)
            blocks.focus()
            await seat.pilot.press("end", "up")
            assert blocks.cursor == 999_998
            await seat.pilot.press("home", "pagedown")
            assert 0 < blocks.cursor < 30
            await seat.pilot.press("f3")
            await seat.shows(seat.say("zero"))

    told(story)


def test_the_first_block_in_a_state_is_found_from_anywhere() -> None:
    manifest = large(10_000).manifest
    assert manifest.find(BlockState.UNREADABLE, 0) == 9_993
    assert manifest.find(BlockState.UNREADABLE, 9_993) == 9_993
    assert manifest.find(BlockState.UNREADABLE, 9_994) is None
    assert manifest.find(BlockState.ZERO, 9_993) == 9_994
    assert manifest.find(BlockState.ZERO, 4_096) == 4_096
