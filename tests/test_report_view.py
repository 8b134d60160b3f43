"""The report on paper: what it shows is what the JSON says, in both languages, whatever stands in
foreign fields.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from babel.messages.pofile import read_po
from pypdfium2 import PdfDocument

from appliance.language import CATALOGUES, Language, translator
from appliance.model import DiskId, ShipmentId
from appliance.report import paper, view, words
from appliance.report.certificate import told_of
from appliance.report.document import (
    DiskRoot,
    Erasure,
    Flaw,
    Repair,
)
from appliance.report.view import Mark, View
from appliance.seal.identity import Device
from appliance.seal.text import grouped
from appliance.shown import size
from tests.reports import erased as erased_store
from tests.reports import full, signed_anew

STEERING = "\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=y>{{ 7*7 }}{% raw %}&lt;\"'",
    "right to left": "abc\u202egnp.exe\u2066\u200f\u2028 \u05d0\u05d1\u05d2",
    "controls": "a\x00b\x1b[31mred\r\nnext\x07\x7f\x85",
    "one long word": "W" * 512,
    "many wide": "服务器" * 170,
    "path": "/" + "very-long-directory-name/" * 20,
}


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Device:
    return Device.of(tmp_path_factory.mktemp("home"))


def read(made: bytes) -> tuple[list[str], list[str]]:
    """The text of each page, and the bookmarks."""
    with PdfDocument(made) as found:
        pages = [one.get_textpage().get_text_range() for one in found]
        return pages, [one.get_title() for one in found.get_toc()]


def squeezed(text: str) -> str:
    """Without the breaks that a narrow column makes."""
    return re.sub(r"\s+", "", text)


def outside(made: bytes) -> list[tuple[int, str]]:
    """Characters that lie outside the printed area of their page."""
    found = []
    with PdfDocument(made) as pages:
        for number, page in enumerate(pages, 1):
            width, height = page.get_size()
            text = page.get_textpage()
            for at in range(text.count_chars()):
                left, bottom, right, top = text.get_charbox(at)
                if right > left and not (
                    left >= 30 and right <= width - 30 and bottom >= 20 and top <= height - 30
                ):
                    found.append((number, text.get_text_range(at, 1)))
    return found


# --- what it shows --------------------


@pytest.mark.parametrize("language", Language)
def test_the_figures_on_paper_are_those_of_the_document(
    signer: Device, language: Language
) -> None:
    signed = full(signer)
    report = signed.report
    pages, bookmarks = read(paper.pdf(view.html(signed, language)))
    shown = squeezed("".join(pages))
    (disk,), (volume,), (point,) = report.disks, report.volumes, report.points
    assert disk.facts is not None
    assert disk.content is not None
    assert report.shipment.seal is not None
    for exactly in (
        report.shipment.id,
        f"{report.shipment.seal.size:,}",
        grouped(bytes.fromhex(report.shipment.seal.root)),
        disk.disk,
        f"{disk.facts.size:,}",
        f"{disk.facts.parts[0].size:,}",
        disk.content.root,
        f"{disk.content.ranges[0].offset + disk.content.ranges[0].length - 1:,}",
        f"{volume.size:,}",
        volume.checked_root,
        point.roots[0].root,
        size(report.jobs[0].rate or 0) + "/s",
        signed.fingerprint,
        signed.signature,
        signed.digest(),
    ):
        assert squeezed(exactly) in shown, exactly
    say = translator(language)
    titles = ("Migration report", "Machines and disks", "Steps", "Rounds and cut-over")
    assert [say(one) for one in titles if say(one) not in bookmarks] == []
    for number, page in enumerate(pages, 1):
        assert squeezed(page).endswith(f"{number}/{len(pages)}")


@pytest.mark.parametrize("language", Language)
def test_a_pdf_is_called_after_its_shipment(signer: Device, language: Language) -> None:
    made = paper.pdf(view.html(full(signer), language))
    with PdfDocument(made) as found:
        title = found.get_metadata_value("Title")
    assert title == f"{translator(language)('Migration report')}: web01"


def test_nothing_is_left_untranslated(signer: Device) -> None:
    """Every sentence of the English page is another on the Chinese one."""
    catalogue = CATALOGUES / "zh" / "LC_MESSAGES" / "report.po"
    with catalogue.open("rb") as file:
        known = [str(one.id) for one in read_po(file) if one.id]
    shown = _Texts().fed(view.html(full(signer), Language.ZH))
    say = translator(Language.ZH)
    assert len(known) > 150
    for one in known:
        assert re.search("[\u4e00-\u9fff]", say(one)), one
        assert one not in shown, one


def test_the_page_holds_all_it_shows_and_runs_nothing(signer: Device) -> None:
    page = view.html(full(signer), Language.EN)
    assert not re.search(r"https?:|<script|<link|<img|url\(|@import| on\w+=", page)
    assert "<svg" in page


# --- hostile texts --------------------


class _Texts(HTMLParser):
    """What a browser shows, and the elements it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def fed(self, page: str) -> list[str]:
        self.feed(page)
        return self.texts


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_are_shown_and_do_nothing(signer: Device, kind: str) -> None:
    told = HOSTILE[kind]
    innocent, hostile = _Texts(), _Texts()
    innocent.fed(view.html(full(signer), Language.EN))
    shown = "".join(hostile.fed(view.html(full(signer, told), Language.EN)))
    assert hostile.tags == innocent.tags
    assert not re.search(f"[{STEERING}]", shown)
    if kind == "markup":
        assert told in shown
    if kind == "right to left":
        assert r"abc\u202egnp.exe\u2066\u200f\u2028" in shown


@pytest.mark.parametrize("kind", ["one long word", "many wide", "right to left"])
@pytest.mark.parametrize("language", Language)
def test_hostile_texts_do_not_break_the_page(
    signer: Device, kind: str, language: Language
) -> None:
    signed = full(signer, HOSTILE[kind])
    work = signed.report.jobs[0]
    many = tuple(replace(work, job=number, disk=DiskId("")) for number in range(12))
    made = paper.pdf(view.html(signed_anew(signed, signer, jobs=many), language))
    assert outside(made) == []
    with PdfDocument(made) as pages:
        assert len(pages) < 15  # a report of an innocent one has four


@pytest.mark.parametrize(
    ("language", "told"),
    [
        (
            Language.EN,
            [
                "What the disk tells of its machine",
                "Host name",
                "web01",
                "Hibernated",
                "no",
                "LUKS",
                "DHCP",
                "1.1 GB in use",
                "Not looked into",
            ],
        ),
        (Language.ZH, ["磁盘所示的机器信息", "主机名", "web01", "未深入检查", "已用 1.1 GB"]),
    ],
)
def test_what_a_disk_tells_of_its_machine_is_shown(
    signer: Device, language: Language, told: list[str]
) -> None:
    page = view.html(full(signer), language)
    assert [one for one in told if one not in page] == []
    (disk,) = full(signer).report.disks
    bare = signed_anew(full(signer), signer, disks=(replace(disk, inside=None),))
    assert told[0] not in view.html(bare, language)


def test_a_long_text_is_shown_by_its_beginning_and_its_end() -> None:
    assert words.elided("a" * 20, 20) == "a" * 20
    assert words.elided("a" * 20 + "b" * 20, 12) == "aaaaaaaa…bbb"


# --- summary --------------------


def lines(signer: Device, **changes: object) -> dict[str, tuple[Mark, str]]:
    signed = signed_anew(full(signer), signer, **changes)
    found = View(signed, translator(Language.EN)).lines()
    return {one.name: (one.mark, one.text) for one in found}


def test_of_nothing_nothing_is_said_to_be_fine(signer: Device) -> None:
    names = ("disks", "jobs", "volumes", "repairs", "rounds", "cut_overs", "points")
    report = full(signer).report
    nothing: dict[str, object] = {**dict.fromkeys(names, ()), "custody": None}
    nothing["shipment"] = replace(report.shipment, seal=None)
    assert {mark for mark, _ in lines(signer, **nothing).values()} == {Mark.UNKNOWN}


def test_each_line_of_the_summary_says_what_the_document_says(signer: Device) -> None:
    report = full(signer).report
    (disk,), (volume,) = report.disks, report.volumes
    assert disk.content is not None
    seal = report.shipment.seal
    assert seal is not None
    clean = replace(disk.content, unreadable_bytes=0)
    right = replace(volume, wrong=0, unknown=0, disk=disk.disk)
    whole = replace(disk, state="complete", content=clean, lost=())
    mended = Repair("v", disk.disk, (), 7, 0)
    turn = replace(report.rounds[0], end="source", sent=5000, point=3)
    gate = replace(turn, end="gate", sent=None)
    point = replace(report.points[0], complete=True)
    last = replace(report.cut_overs[0], downtime_ms=1500)
    held = report.custody
    assert held is not None
    fine = {
        "disks": (whole,),
        "volumes": (right,),
        "repairs": (mended,),
        "rounds": (turn, gate),
        "points": (point,),
        "cut_overs": (last,),
        "custody": replace(held, flaws=()),
    }
    assert {mark for mark, _ in lines(signer, **fine).values()} == {Mark.FINE}
    assert "1.5 s at most" in lines(signer, **fine)["Cut-over"][1]

    def said(name: str, mark: Mark, words: str, **changes: object) -> None:
        found = lines(signer, **fine | changes)[name]
        assert found[0] is mark, found
        assert words in found[1]

    unsure = replace(report.shipment, seal=replace(seal, accepted_here=False))
    said("Seal", Mark.UNKNOWN, "not compared", shipment=unsure)
    said("Disks", Mark.WATCH, "0 of 1", disks=(replace(whole, state="incomplete"),))
    hurt = replace(whole, content=replace(clean, unreadable_bytes=4096))
    said("Unreadable", Mark.WATCH, "4.1 kB", disks=(hurt,))
    said("Unreadable", Mark.UNKNOWN, "1 of the disks", disks=(replace(whole, content=None),))
    said("Restored", Mark.WATCH, "1 volumes differ", volumes=(replace(right, wrong=2),))
    said("Restored", Mark.UNKNOWN, "0 of 1", volumes=(replace(right, checked_at=""),))
    said("Restored", Mark.UNKNOWN, "0 of 1", volumes=(replace(right, unknown=1),))
    said("Damage", Mark.FINE, "No block", repairs=())
    said("Damage", Mark.UNKNOWN, "nothing was restored", repairs=(), volumes=())
    said("Damage", Mark.WATCH, "3 are still", repairs=(replace(mended, left=3),))
    said("Damage", Mark.WATCH, "unknown number", repairs=(replace(mended, left=None),))
    said("Damage", Mark.WATCH, "0 blocks", repairs=(), disks=(replace(whole, lost=("x",)),))
    other = replace(gate, roots=(DiskRoot(disk.disk, "00" * 32),))
    said("Catch-up", Mark.WATCH, "Rounds: 1", rounds=(turn, other))
    said("Catch-up", Mark.FINE, "Rounds: 1; how much was sent is not known", rounds=(gate,))
    still = replace(turn, sent=0)
    said("Catch-up", Mark.FINE, "Rounds: 1; the ends were equal, no block", rounds=(still, gate))
    said("Cut-over", Mark.UNKNOWN, "No recovery", points=(replace(point, complete=False),))
    unknown = replace(last, downtime_ms=None)
    said("Cut-over", Mark.FINE, "else the source", cut_overs=(last, unknown))
    said("Cut-over", Mark.FINE, "is not known", cut_overs=(unknown,))
    late, cut = Flaw("begins-late", 1, error=False), Flaw("gap", 9, error=True)
    said("Custody", Mark.WATCH, "see below: 1", custody=replace(held, flaws=(late,)))
    said("Custody", Mark.WATCH, "does NOT hold", custody=replace(held, flaws=(late, cut)))


def test_remarks_on_custody_name_their_records(signer: Device) -> None:
    whole = Flaw("lacks-seal", 0, error=False)
    report = full(signer)
    assert report.report.custody is not None
    held = replace(report.report.custody, flaws=(whole, Flaw("gap", 9, error=True)))
    made = signed_anew(report, signer, custody=held)
    assert View(made, translator(Language.EN)).remarks() == [
        "no record tells of the seal; record: -",
        "a record is missing; record: 9",
    ]


def test_what_is_wrong_with_custody_stands_at_its_record(signer: Device) -> None:
    held = full(signer).report.custody
    assert held is not None
    first = replace(held.records[0], number=1, deed="handed-over", genuine=False)
    flaws = (Flaw("not-countersigned", 1, error=False), Flaw("gap", 2, error=True))
    custody = replace(held, records=(first,), flaws=(*flaws, Flaw("lacks-seal", 0, error=False)))
    signed = signed_anew(full(signer), signer, custody=custody)
    found = View(signed, translator(Language.EN))
    assert found.flaws(1) == ["nobody has signed for taking it"]
    assert found.flaws(0) == ["a record is missing (2)", "no record tells of the seal"]
    shown = _Texts().fed(view.html(signed, Language.EN))
    for one in ("handed over", "NOT SIGNED BY ITS SIGNER", *found.flaws(1), *found.flaws(0)):
        assert one in shown


def test_bars_are_as_long_as_what_they_stand_for(signer: Device) -> None:
    work = full(signer).report.jobs[0]
    first = replace(work, began="2026-11-23T08:00:00Z", ended="2026-11-23T08:00:50Z", seconds=50)
    second = replace(
        first, began="2026-11-23T08:00:50Z", ended="2026-11-23T08:01:40Z", rate=3_000_000_000
    )
    found = View(signed_anew(full(signer), signer, jobs=(first, second)), str)
    assert (found.when(first).start, found.when(first).length) == (0, 500)
    assert (found.when(second).start, found.when(second).length) == (500, 500)
    assert (found.speed(first).length, found.speed(second).length) == (1000, 243)


def test_an_image_file_is_one_in_the_readers_language(signer: Device) -> None:
    (disk,) = full(signer).report.disks
    assert disk.facts is not None
    facts = replace(disk.facts, bus="file", source="/srv/a b.img", model="image file a b.img")

    def page(model: str) -> str:
        disks = (replace(disk, facts=replace(facts, model=model)),)
        return view.html(signed_anew(full(signer), signer, disks=disks), Language.ZH)

    assert "镜像文件 a b.img" in page(facts.model)
    assert "another model" in page("another model")  # whatever its bus


@pytest.mark.parametrize("language", Language)
def test_an_erase_is_told_in_the_words_of_its_certificate(
    signer: Device, language: Language
) -> None:
    erased = erased_store(signer.public, ShipmentId("cd" * 16), "ef" * 32, "/srv/<store>")
    told = Erasure(signer.fingerprint, "A", "2026-11-23T08:00:02Z", "system", "12" * 32, erased)
    page = view.html(signed_anew(full(signer), signer, erasures=(told,)), language)
    shown = _Texts().fed(page)
    for name, text in told_of(erased, translator(language)):
        assert name in shown
        assert text in shown
