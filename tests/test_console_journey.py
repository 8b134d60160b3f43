"""At the console from a disk to a sealed shipment, on real data: by keys and by mouse, on either
size, in either language.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.language import Language
from appliance.seal import statement
from appliance.seal.keys import public_file
from appliance.seal.store import Store
from appliance.state import JobState, State
from appliance.tui.screens.home import HomeScreen
from appliance.tui.screens.seal import LabelScreen, SealingScreen
from tests.console import NARROW, WIDE, Seat, seated, told
from tests.support import OPERATOR, RECOVERY
from tests.technician import Shell, noise

WAYS = pytest.mark.parametrize("mouse", [False, True], ids=["keys", "mouse"])
SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "132x43"])
LANGUAGES = pytest.mark.parametrize("language", Language)


@pytest.fixture
def state(device: Shell) -> Iterator[State]:
    with device.state() as found:
        yield found


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    found = []
    for one in (OPERATOR, RECOVERY):
        path = tmp_path / f"{one.recipient.name}.pub"
        path.write_bytes(public_file(one.recipient))
        found.append(path)
    return found


@WAYS
@SIZES
@LANGUAGES
def test_from_a_disk_to_a_sealed_shipment(
    state: State,
    tmp_path: Path,
    keys: list[Path],
    *,
    mouse: bool,
    size: tuple[int, int],
    language: Language,
) -> None:
    image = tmp_path / "web01.img"
    image.write_bytes(noise(3 << 20))

    async def story() -> None:
        async with seated(
            state, tmp_path / "shelf", size=size, language=language, mouse=mouse
        ) as seat:
            await ingested(seat, image, keys)
            await seat.until(lambda: bool(seat.app.snapshot.jobs))
            await seat.until(lambda: seat.app.snapshot.jobs[0].row.state is JobState.FINISHED)
            await sealed(seat)

    told(story)
    (shipment,) = state.shipments()
    seal = statement.read(shipment.path)
    assert shipment.root == seal.root().hex()
    assert seal.waiver == "no time"
    assert not state.draft("ingest")
    assert not state.draft("seal")


async def ingested(seat: Seat, image: Path, keys: list[Path]) -> None:
    """The whole wizard, with an image file for a disk."""
    await seat.push("#ingest")
    await seat.push("#next")
    await seat.shows(seat.say("Choose at least one disk."))
    await seat.type("#image", str(image))
    await seat.push("#add-image")
    await seat.shows(str(image))
    await seat.push("#next")
    await seat.shows(seat.say("firmware"))
    await seat.push("#next")
    await seat.push("#next")
    await seat.shows(seat.say("Say which machine {name} belongs to.").format(name=image.name))
    (field,) = seat.app.screen.query("#machines Field")
    await seat.type(f"#{field.id}", "web01")
    await seat.push("#next")
    await seat.push("#new")
    await seat.type("#label", "Acme 7")
    await seat.push("#next")
    await seat.push("#next")
    await seat.shows(seat.say("Add at least one recipient; two are wise."))
    for one in keys:
        await seat.type("#key-file", str(one))
        await seat.push("#add-key")
    await seat.push("#next")
    readers = (OPERATOR.recipient.fingerprint, RECOVERY.recipient.fingerprint)
    await seat.shows("web01", "Acme 7", *readers)
    await seat.push("#next")
    await seat.until(lambda: isinstance(seat.app.screen, HomeScreen))


async def sealed(seat: Seat) -> None:
    await seat.push("#seal")
    shipment = seat.app.snapshot.shipments[0]
    await seat.pick("#open", shipment.id)
    await seat.push("#next")
    await seat.push("#next")
    await seat.shows(seat.say("Enter the canary code, or say why it is sealed without."))
    await seat.type("#waiver", "no time")
    await seat.push("#next")
    await seat.shows("Acme 7", "no time")
    await seat.push("#next")
    await seat.until(lambda: isinstance(seat.app.screen, SealingScreen | LabelScreen))
    await seat.until(lambda: isinstance(seat.app.screen, LabelScreen))
    seal = statement.read(Store(shipment.path).path)
    await seat.until(lambda: seal.device_fingerprint in seat.text)
    await seat.shows(str(seal.sequence))
    await seat.push("#back")
    assert isinstance(seat.app.screen, HomeScreen)
