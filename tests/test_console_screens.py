"""Screens: what is typed survives a change of language and of consoles, jobs are steered, disks
come and go, foreign names do no harm.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import jobs, process
from appliance.errors import NotADiskError, StoreFullError, ToolFailedError, WrongPassphraseError
from appliance.events import Step, failed
from appliance.language import Language, translator
from appliance.model import JobId
from appliance.seal.canon import now
from appliance.seal.keys import PrivateKey, public_file
from appliance.state import JobState, State
from appliance.tui import watch
from appliance.tui.screens.dialogs import AskScreen, HelpScreen, RefusalScreen
from appliance.tui.screens.home import HomeScreen
from appliance.tui.screens.job import JobScreen
from appliance.tui.screens.key import KeyScreen
from appliance.tui.speech import said
from appliance.tui.widgets.field import Field
from appliance.tui.widgets.rows import Rows
from appliance.tui.widgets.spoken import Line
from tests.console import NARROW, WIDE, Seat, seated, squeezed, told
from tests.media import Bench
from tests.technician import (
    PASSPHRASE,
    Keys,
    Shell,
    begun,
    ingest_spec,
    noise,
    restore_spec,
    sealed_disks,
)

HOSTILE = "x[/]y [@click=app.quit()] \x1b[2J \u202eabc\u200b 中文"
SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "132x43"])


@pytest.fixture
def state(device: Shell) -> Iterator[State]:
    with device.state() as found:
        yield found


def steered(device: Shell, place: Path, *limits: str) -> JobId:
    """An ingest that takes as long as the limit lets it."""
    store = begun(device, place / "store")
    (place / "disk.img").write_bytes(noise(8 << 20))
    spec = replace(ingest_spec(store.path, place / "disk.img"), limits=limits)
    return device.start("ingest", store.path, spec)


# --- languages and drafts ---


@SIZES
def test_the_language_changes_and_nothing_that_was_typed_is_lost(
    state: State, tmp_path: Path, size: tuple[int, int]
) -> None:
    async def story() -> None:
        async with seated(state, tmp_path / "shelf", size=size) as seat:
            await seat.push("#ingest")
            await seat.type("#image", "/not/whole")
            for language in (Language.ZH, Language.EN):
                await seat.pilot.press("f3")
                await seat.shows(
                    translator(language)("Choose the disks to be copied. They are only read.")
                )
                assert seat.app.screen.query_one("#image", Field).value == "/not/whole"

    told(story)


def test_a_draft_outlives_the_console(state: State, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(noise(1 << 20))

    async def first() -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            await seat.push("#ingest")
            await seat.type("#image", str(image))
            await seat.push("#add-image")
            await seat.push("#next")
            await seat.shows(seat.say("firmware"))

    async def second() -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            await seat.push("#ingest")
            await seat.shows("step 2 of 6", str(image))
            await seat.push("#back")
            await seat.shows("step 1 of 6", str(image))
            await seat.push("#cancel")
            assert seat.screen_is(AskScreen)
            await seat.push("#do")
            assert seat.screen_is(HomeScreen)

    told(first)
    told(second)
    assert state.draft("ingest")


def test_a_draft_that_is_nonsense_begins_anew(state: State, tmp_path: Path) -> None:
    for nonsense in (
        {"at": 99, "answers": []},
        {"at": "x", "answers": None},
        {"answers": {"sources": 7}},
    ):
        state.keep_draft("ingest", nonsense)  # type: ignore[arg-type]

        async def story() -> None:
            async with seated(state, tmp_path / "shelf") as seat:
                await seat.push("#ingest")
                await seat.shows("step 1 of 6")
                await seat.push("#next")
                await seat.shows("Choose at least one disk.")

        told(story)


# --- jobs ---


@pytest.mark.parametrize("mouse", [False, True], ids=["keys", "mouse"])
def test_a_job_is_paused_resumed_and_stopped(
    device: Shell, state: State, tmp_path: Path, *, mouse: bool
) -> None:
    job = steered(device, tmp_path, "1MB/s")

    async def story() -> None:
        async with seated(state, tmp_path / "shelf", mouse=mouse) as seat:
            await seat.pick("#jobs", str(job))
            assert seat.screen_is(JobScreen)
            await seat.until(lambda: state.job(job).state is JobState.RUNNING)
            await seat.until(lambda: not seat.app.screen.query_one("#pause").disabled)
            await seat.push("#pause")
            await seat.until(lambda: state.job(job).state is JobState.PAUSED)
            await seat.shows("paused", "Let it go on when you like.")
            await seat.push("#resume")
            await seat.until(lambda: state.job(job).state is JobState.RUNNING)
            await seat.until(lambda: not seat.app.screen.query_one("#stop").disabled)
            await seat.push("#stop")
            assert seat.screen_is(AskScreen)
            await seat.push("#do")
            await seat.until(lambda: state.job(job).state is JobState.STOPPED)
            await seat.shows("stopped by the operator", f"motiongear jobs resume {job}")

    told(story)


def test_a_question_is_left_without_doing_it(device: Shell, state: State, tmp_path: Path) -> None:
    job = steered(device, tmp_path, "1MB/s")

    async def story() -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            await seat.pick("#jobs", str(job))
            await seat.until(lambda: not seat.app.screen.query_one("#stop").disabled)
            await seat.push("#stop")
            assert seat.app.focused is not None
            assert seat.app.focused.id == "cancel"
            await seat.pilot.press("enter")
            await seat.until(lambda: isinstance(seat.app.screen, JobScreen))
            assert state.job(job).state is JobState.RUNNING

    told(story)


def test_what_a_job_ended_with_is_told_with_what_is_safe_and_what_to_do(
    state: State, tmp_path: Path
) -> None:
    job = state.add_job("verify", "11" * 16, HOSTILE, '{"store": "/s"}', now())  # type: ignore[arg-type]
    state.put_event(job, now(), Step("open", HOSTILE))
    state.end_job(job, JobState.FAILED, now(), failed(StoreFullError("The disk is full")))

    async def story() -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            await seat.pick("#jobs", str(job))
            await seat.shows("The disk is full", StoreFullError.safe, StoreFullError.todo)
            await seat.shows(f"Code: {StoreFullError.code} (store-full)", "x[/]y", "\\x1b[2J")
            assert all(one.isprintable() for one in seat.lines)
            await seat.pilot.press("f3")
            await seat.shows(translator(Language.ZH)(StoreFullError.todo))

    told(story)


def test_a_job_that_cannot_be_resumed_says_why(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ToolFailedError("No process can be started", verb="free -h")

    monkeypatch.setattr(process, "start", refuse)
    job = state.add_job("verify", "11" * 16, "v", '{"store": "/none"}', now())  # type: ignore[arg-type]
    state.end_job(job, JobState.FAILED, now(), failed(StoreFullError("It is full")))

    async def story() -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            await seat.pick("#jobs", str(job))
            await seat.push("#resume")
            await seat.until(lambda: isinstance(seat.app.screen, RefusalScreen))
            await seat.shows("No process can be started", ToolFailedError.safe, "free -h")
            await seat.pilot.press("f3")
            await seat.shows(translator(Language.ZH)(ToolFailedError.happened))
            await seat.push("#close")
            assert seat.screen_is(JobScreen)

    told(story)


def test_a_restore_that_broke_off_asks_for_the_key(
    operator: Shell, keyring: Keys, tmp_path: Path
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(1 << 20))
    spec = restore_spec(sent, tmp_path / "volumes")

    async def story(state: State) -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            await seat.pick("#jobs", "1")
            await seat.push("#resume")
            assert seat.screen_is(KeyScreen)
            await seat.type("#key", str(keyring.operator))
            await seat.type("#passphrase", "wrong")
            await seat.push("#unlock")
            await seat.shows(WrongPassphraseError.happened)
            await seat.type("#passphrase", PASSPHRASE)
            await seat.push("#unlock")
            await seat.until(lambda: seat.screen_is(JobScreen))
            await seat.shows("Every block of the volumes is that of the manifest.")

    with operator.state() as state:
        job = state.add_job(
            "restore", sent.store.head.shipment, "restore", jobs.dump_spec(spec), now()
        )
        state.end_job(job, JobState.FAILED, now(), failed(StoreFullError("It is full")))
        told(lambda: story(state))
        assert state.job(job).state is JobState.FINISHED


def test_a_job_is_diagnosed_and_a_package_written(
    device: Shell, state: State, tmp_path: Path
) -> None:
    store = begun(device, tmp_path / "store")
    job = device.start("ingest", store.path, ingest_spec(store.path, tmp_path / "none.img"))
    device.ended(job)
    package = tmp_path / "help.tar.zst"

    async def story() -> None:
        async with seated(state, tmp_path / "shelf", size=WIDE) as seat:
            await seat.pick("#jobs", str(job))
            await seat.push("#diagnosis")
            await seat.shows("(job-failed", "Findings: 2; of them errors: 1")
            await seat.push("#write")
            await seat.shows("Name the file of the support package.")
            await seat.type("#package", str(package))
            await seat.push("#write")
            await seat.shows(f"Written: {package}")
            await seat.pilot.press("f3")
            await seat.shows(translator(Language.ZH)(NotADiskError.happened), "(job-failed")
            await seat.shows("F3 English")
            await seat.push("#write")
            await seat.until(lambda: seat.screen_is(RefusalScreen))

    told(story)
    assert package.stat().st_size > 0


# --- what comes and goes ---


def test_a_disk_that_comes_is_seen_by_the_kernels_word(
    bench: Bench, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not because somebody looks again now and then."""
    monkeypatch.setattr(watch, "_DISKS_SECONDS", 1e9)

    async def story() -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            before = {one.node for one in seat.app.snapshot.disks}
            node = bench.loop(bench.image(8 << 20))
            assert str(node) not in before
            await seat.until(lambda: str(node) in {one.node for one in seat.app.snapshot.disks})
            await seat.shows(str(node))

    told(story)


def test_help_is_everywhere(state: State, tmp_path: Path) -> None:
    async def story() -> None:
        async with seated(state, tmp_path / "shelf") as seat:
            for place in ("#ingest", "#seal"):
                await seat.push(place)
                await seat.pilot.press("f1")
                assert seat.screen_is(HelpScreen)
                await seat.shows("F3 changes the language")
                await seat.pilot.press("f1")
                await seat.pilot.press("escape")
                await seat.push("#do")
                assert seat.screen_is(HomeScreen)

    told(story)


# --- foreign names ---


@SIZES
@pytest.mark.parametrize("language", Language)
def test_foreign_names_do_no_harm_anywhere(
    device: Shell, state: State, tmp_path: Path, size: tuple[int, int], language: Language
) -> None:
    key = PrivateKey(HOSTILE[:60], "operator", bytes(32))
    place = tmp_path / "x[ ]y \x1b[2J"
    place.mkdir()
    store = begun(device, place / "store", key)
    state.note_shipment(store.head.shipment, store.path, HOSTILE)
    (tmp_path / "k.pub").write_bytes(public_file(key.recipient))

    async def story() -> None:
        async with seated(state, tmp_path / "shelf", size=size, language=language) as seat:
            await harmless(seat)
            await seat.push("#seal")
            await seat.pick("#open", store.head.shipment)
            await harmless(seat)

    told(story)


async def harmless(seat: Seat) -> None:
    await seat.shows("x[/]y", "[@click=app.quit()]", "\\x1b[2J")
    assert all(one.isprintable() for one in seat.lines)
    assert not [one for one in seat.app.screen.query(Rows) if "\x1b" in one.text]
    assert "quit" in squeezed(seat.text)


def test_what_is_cut_would_be_seen(state: State, tmp_path: Path) -> None:
    """Every story looks for it, wherever it waits for something."""

    async def story() -> None:
        async with seated(state, tmp_path) as seat:
            await seat.shows("MotionGear")
            line = seat.app.screen.query_one("#device", Line)
            line.styles.height = 1
            line.tell(said("{text}", text="a long sentence " * 20))
            await seat.until(lambda: bool(seat._cut()))  # noqa: SLF001 - what is tested

    told(story)
