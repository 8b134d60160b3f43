"""At the console from a disk to a sealed shipment, on real data: by keys and by mouse, on either
size, in either language.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zxingcpp

from appliance.language import Language
from appliance.seal import keys, statement
from appliance.seal.label import Label
from appliance.seal.store import Store
from appliance.state import JobState, State
from appliance.tui.screens.home import HomeScreen
from appliance.tui.screens.job import JobScreen
from appliance.tui.screens.seal import LabelScreen, SealingScreen
from tests.console import NARROW, WIDE, Seat, seated, told
from tests.pictures import picture
from tests.support import OPERATOR, RECOVERY
from tests.technician import Shell, noise

BY_ANOTHER_PATH = (
    "From the copy that was sent by another path: what came with the device proves nothing. "
    "Groups or words."
)
UNCONFIRMED = (
    "Nobody has confirmed who sealed it: enter the label, or press Next again to go on without."
)
WAYS = pytest.mark.parametrize("mouse", [False, True], ids=["keys", "mouse"])
SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "132x43"])
LANGUAGES = pytest.mark.parametrize("language", Language)


@pytest.fixture
def state(device: Shell) -> Iterator[State]:
    with device.state() as found:
        yield found


PASSPHRASE = "p 1"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the console is opened: names of files are short, for whoever clicks each letter."""
    for name, key in (("a", OPERATOR), ("b", RECOVERY)):
        keys.write_pair(key, tmp_path / name, PASSPHRASE, memory_kib=8192)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@WAYS
@SIZES
@LANGUAGES
def test_from_a_disk_to_its_volume(
    state: State, here: Path, *, mouse: bool, size: tuple[int, int], language: Language
) -> None:
    data = noise(3 << 20)
    (here / "w.img").write_bytes(data)

    async def story() -> None:
        async with seated(
            state, here / "shelf", size=size, language=language, mouse=mouse
        ) as seat:
            await ingested(seat)
            await seat.until(lambda: bool(seat.app.snapshot.jobs))
            await seat.until(lambda: seat.app.snapshot.jobs[0].row.state is JobState.FINISHED)
            label = await sealed(seat)
            await arrived(seat, label)

    told(story)
    (volume,) = (here / "v").glob("*.img")
    assert volume.read_bytes() == data
    (shipment,) = state.shipments()
    seal = statement.read(shipment.path)
    assert shipment.root == seal.root().hex()
    assert seal.waiver == "late"
    assert not any(state.draft(one) for one in ("ingest", "seal", "arrival"))


async def ingested(seat: Seat) -> None:
    """The whole wizard, with an image file for a disk."""
    await seat.push("#ingest")
    await seat.push("#next")
    await seat.shows(seat.say("Choose at least one disk."))
    await seat.type("#image", "w.img")
    await seat.push("#add-image")
    await seat.shows("w.img")
    await seat.shows_no_more(seat.say("Choose at least one disk."))
    await seat.push("#next")
    await seat.shows(seat.say("firmware"))
    await seat.push("#next")
    await seat.push("#next")
    lacking = seat.say("Say which machine {name} belongs to.").format(name="w.img")
    await seat.shows(lacking)
    (field,) = seat.app.screen.query("#machines Field")
    await seat.type(f"#{field.id}", "web")
    await seat.shows_no_more(lacking)
    await seat.push("#next")
    await seat.push("#new")
    await seat.type("#label", "Ac7")
    await seat.push("#next")
    await seat.push("#next")
    await seat.shows(seat.say("Add at least one recipient; two are wise."))
    for one in ("a.pub", "b.pub"):
        await seat.type("#key-file", one)
        await seat.push("#add-key")
    await seat.push("#next")
    readers = (OPERATOR.recipient.fingerprint, RECOVERY.recipient.fingerprint)
    await seat.shows("web", "Ac7", *readers)
    await seat.push("#next")
    await seat.until(lambda: isinstance(seat.app.screen, HomeScreen))


async def sealed(seat: Seat) -> str:
    await seat.push("#seal")
    shipment = seat.app.snapshot.shipments[0].row
    await seat.pick("#open", shipment.id)
    await seat.push("#next")
    await seat.push("#next")
    await seat.shows(seat.say("Enter the canary code, or say why it is sealed without."))
    await seat.type("#waiver", "late")
    await seat.push("#next")
    await seat.shows("Ac7", "late")
    await seat.push("#next")
    await seat.until(lambda: isinstance(seat.app.screen, SealingScreen | LabelScreen))
    await seat.until(lambda: isinstance(seat.app.screen, LabelScreen))
    seal = statement.read(Store(shipment.path).path)
    await seat.until(lambda: seal.device_fingerprint in seat.text)
    await seat.shows(str(seal.sequence))
    await seat.scroll_down("#label")
    found = [one.text for one in zxingcpp.read_barcodes(picture(seat.strips))]
    assert found == [str(Label.of(seal))]
    await seat.push("#back")
    assert seat.screen_is(HomeScreen)
    return str(Label.of(seal))


async def arrived(seat: Seat, label: str) -> None:
    store = seat.app.snapshot.shipments[0].row.path
    await seat.push("#arrival")
    await seat.pick("#stores", str(store))
    await seat.push("#next")
    await seat.shows(seat.say("seal check"), seat.say(BY_ANOTHER_PATH))
    await seat.push("#verify")
    await seat.shows(seat.say("Reading every pack: {word}").format(word=seat.say("finished")))
    await seat.push("#next")
    await seat.shows(seat.say(UNCONFIRMED))
    await seat.scan("#label-text", label)
    await seat.push("#next")
    await seat.shows(seat.say("The private key of one of the recipients, and its passphrase."))
    await seat.type("#key", "a")
    await seat.type("#passphrase", PASSPHRASE)
    assert PASSPHRASE not in seat.text
    await seat.push("#next")
    await seat.shows(seat.say("Where the volumes go: a directory of this machine."))
    await seat.type("#place", "v")
    await seat.push("#next")
    await seat.shows(seat.say("The volume that each disk becomes."), "web-")
    await seat.push("#next")
    await seat.shows(seat.say("AUTHENTIC: sealed by the device expected"))
    with_secrets = str(seat.app.state.draft("arrival"))
    assert PASSPHRASE not in with_secrets
    await seat.push("#next")
    await seat.shows(seat.say("The volumes are written, then read back and compared."))
    await seat.shows(seat.say("finished"))
    await seat.push("#open-job")
    await seat.until(lambda: seat.screen_is(JobScreen))
    await seat.shows(seat.say("Every block of the volumes is that of the manifest."))
    await seat.push("#back")
    await seat.push("#end-restoredstage")
    await seat.shows(seat.say("End the arrival here?"))
    await seat.push("#do")
    await seat.until(lambda: seat.screen_is(HomeScreen))
