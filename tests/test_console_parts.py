"""What the console is made of: how fast a job is, how it stands, lists that draw themselves."""

from dataclasses import replace

import pytest
from rich.cells import cell_len

from appliance.events import Progress
from appliance.language import CATALOGUES, Language, translator
from appliance.model import JobId, ShipmentId
from appliance.state import JobRow, JobState
from appliance.tui import views
from appliance.tui.drawing import qr
from appliance.tui.speech import Said, said
from appliance.tui.watch import Disk, Gauge, Job, Pace, Snapshot
from appliance.tui.widgets.rows import Drawn, cut, fact, fold

HOSTILE = "x[/]y a[b].txt [@click=app.quit()] \x1b[2J \u202eabc\u200b\ud800 中文"
ROW = JobRow(
    id=JobId(7),
    kind="ingest",
    shipment=ShipmentId("11" * 16),
    disk="22" * 16,  # type: ignore[arg-type]
    title="web01: S-1",
    spec="{}",
    state=JobState.RUNNING,
    created="then",
    ended="",
    error="",
    code=0,
    what="",
    safe="",
    todo="",
    resolved=False,
)
DISK = Disk("/dev/sdb", "S-1", "Model", "usb", 1 << 30, "", blocked=False)
SAY = translator(Language.EN)


def flat(drawn: Drawn) -> str:
    return "\n".join("".join(text for text, _ in line) for line in drawn)


# --- how fast ---


def test_a_rate_is_calculated_before_it_is_told() -> None:
    gauge = Gauge(0.0)
    assert gauge.take(Progress("ingest", 0, 1000), 0.0) == Pace()
    assert gauge.take(Progress("ingest", 50, 1000), 0.5) == Pace()
    pace = gauge.take(Progress("ingest", 100, 1000), 1.0)
    assert (pace.now, pace.average, pace.left) == (100.0, 100.0, 9.0)


def test_what_is_left_follows_a_change_of_rate_smoothly() -> None:
    gauge, steady = Gauge(0.0), Pace()
    for second in range(61):
        steady = gauge.take(Progress("ingest", 100 * second, 100_000), float(second))
    assert steady.left == pytest.approx((100_000 - 6000) / 100)
    slow = gauge.take(Progress("ingest", 6010, 100_000), 61.0)
    assert slow.now == 10.0
    assert slow.left is not None
    assert 940 < slow.left < (100_000 - 6010) / 10
    assert len(slow.rates) == 61


def test_a_step_begins_anew_and_so_does_what_was_resumed() -> None:
    gauge = Gauge(0.0)
    for second in range(5):
        gauge.take(Progress("ingest", 100 * second, 1000), float(second))
    assert gauge.take(Progress("read-back", 500, 1000), 5.0) == Pace()
    gauge.take(Progress("read-back", 900, 1000), 7.0)
    assert gauge.take(Progress("read-back", 100, 1000), 8.0) == Pace()


def test_a_job_that_stands_still_has_no_end() -> None:
    gauge, pace = Gauge(0.0), Pace()
    for second in range(3):
        pace = gauge.take(Progress("ingest", 7, 1000), float(second))
    assert (pace.now, pace.left) == (0.0, None)


# --- how a job stands ---


def test_every_end_has_a_symbol_and_a_word_of_its_own() -> None:
    rows = [replace(ROW, state=one) for one in JobState]
    rows.append(replace(ROW, state=JobState.FAILED, error="source-gone"))
    rows.append(replace(ROW, kind="verify", state=JobState.FAILED, error="pack-damaged"))
    found = [views.standing(one) for one in rows]
    assert len({one.symbol for one in found}) == len(found)
    assert len({one.word for one in found}) == len(found)
    for language in Language:
        say = translator(language)
        assert len({say(one.word) for one in found}) == len(found)


def test_a_verification_that_found_wrong_is_no_failure_of_the_verification() -> None:
    wrong = replace(ROW, kind="check", state=JobState.FAILED, error="check-failed")
    assert views.standing(wrong).word == "finished: NOT as it should be"
    full = replace(wrong, error="state")
    assert views.standing(full).word == "failed"


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("wide", [40, 76, 128])
def test_a_job_fits_its_place_and_nothing_of_it_is_lost(language: Language, wide: int) -> None:
    row = replace(ROW, title="web01: " + "S-" + "7" * 90)
    told = Progress("ingest", 10**12, 4 * 10**12)
    job = Job(row, told, Pace(1e9, 9e8, 3333.0, (1.0, 2.0)))
    drawn = views.draw_job(job, wide, translator(language))
    assert all(cell_len("".join(text for text, _ in line)) <= wide for line in drawn[:-1])
    assert "7" * 90 in "".join(flat(drawn).split())
    assert "25 %" in flat(drawn)


def test_rates_are_charted_by_their_highest() -> None:
    assert views.chart((0.0, 1.0, 8.0), 10) == "▁▁█"
    assert views.chart((0.0, 0.0), 10) == "▁▁"
    assert views.chart(tuple(map(float, range(100))), 4) == "████"
    assert not views.chart((), 10)
    assert (views.bar(0.5, 4), views.bar(2.0, 4)) == ("██░░", "████")


# --- the guards ---


def test_the_write_block_is_told_of_what_could_be_read_and_never_guessed() -> None:
    own = replace(DISK, refusal="it is mounted", blocked=False)
    shown = {
        (): None,
        (own,): None,
        (DISK,): False,
        (own, replace(DISK, blocked=True)): True,
        (DISK, replace(DISK, blocked=True)): False,
        (replace(DISK, blocked=None), replace(DISK, blocked=True)): None,
    }
    for disks, expected in shown.items():
        assert Snapshot(disks=disks).write_blocked is expected


# --- foreign text ---


def test_disks_begin_with_their_serial_and_say_why_they_are_locked() -> None:
    row, locked = views.disk_rows(
        (DISK, replace(DISK, serial="", refusal="it is mounted at /")), frozenset(), pickable=True
    )
    assert row.key == DISK.key
    assert flat(row.draw(80, SAY)).startswith("[ ] S-1  Model  1.1 GB  usb  /dev/sdb")
    assert not locked.key
    assert flat(locked.draw(80, SAY)).startswith("[-] (no serial)")
    assert "locked: it is mounted at /" in flat(locked.draw(80, SAY))


def test_foreign_text_is_shown_and_steers_nothing() -> None:
    for one in (
        flat(views.disk_rows((replace(DISK, serial=HOSTILE, model=HOSTILE),))[0].draw(60, SAY)),
        flat(views.draw_job(Job(replace(ROW, title=HOSTILE), None, Pace()), 60, SAY)),
        said("{what}", what=HOSTILE).told(SAY),
    ):
        assert "x[/]y" in one.replace("\n", "")
        assert all(each.isprintable() or each == "\n" for each in one)


def test_figures_may_be_sentences_too() -> None:
    told = said(
        "Job {job} ({title}) is at work: let it end, or stop it.", job=1, title=Said("ingest")
    )
    assert "采集" in told.told(translator(Language.ZH))


def test_lines_are_folded_by_cells() -> None:
    assert fold("中文中文", 4) == ["中文", "中文"]
    assert fold("abcdef", 4, indent=2) == ["abcd", "  ef"]
    assert fold("", 4) == [""]
    assert (cut("abc", 5), cut("中文中", 5)) == ("abc  ", "中文~")
    drawn = fact("name", "x" * 50, 40)
    assert all(cell_len("".join(text for text, _ in line)) <= 40 for line in drawn)


def test_no_sentence_of_the_console_has_a_width_that_fonts_do_not_agree_on() -> None:
    """One cell for us and two in a CJK font: the rest of the line would be out of place."""
    import unicodedata  # noqa: PLC0415

    from babel.messages.pofile import read_po  # noqa: PLC0415

    for path in (CATALOGUES / Language.ZH / "LC_MESSAGES").glob("*.po"):
        with path.open("rb") as file:
            for one in read_po(file):
                for text in (str(one.id), str(one.string)) if one.id else ():
                    assert not [x for x in text if unicodedata.east_asian_width(x) == "A"], text


def test_a_code_is_drawn_two_rows_a_line() -> None:
    lines = qr("MG1:0123456789").split("\n")
    assert len({len(one) for one in lines}) == 1
    assert set("".join(lines)) <= set(" ▀▄█")
