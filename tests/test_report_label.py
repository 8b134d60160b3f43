"""The printed label: scanners and people read it, in both languages, and no name breaks it."""

import io
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image, ImageDraw
from pypdfium2 import PdfDocument

from appliance.cli.label import PRINTED_DPI
from appliance.errors import BadInputError, ExistsError, SealMissingError
from appliance.language import Language
from appliance.report import label as labels
from appliance.report import paper
from appliance.report.label import QUIET_MODULES, Size
from appliance.seal import text
from appliance.seal.head import Head
from appliance.seal.label import Label
from appliance.seal.statement import Seal
from tests.support import OPERATOR, RECOVERY, new_store, sample_bytes
from tests.technician import Sent, Shell, sealed_disks

MODULES = 41  # of a side of QR version 6
LEAST_MODULE_MM = 0.4  # what cheap scanners still resolve
INCH_MM = 25.4
EVERY = [(size, language) for size in Size for language in Language]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed_disks(tmp_path_factory.mktemp("sent"), web01=sample_bytes(1))


def printed(head: Head, seal: Seal, size: Size, language: Language) -> bytes:
    return paper.pdf(labels.html(head, seal, size, language))


def picture(document: bytes, dpi: int = PRINTED_DPI) -> Image.Image:
    (page,) = paper.png(document, dpi)
    return Image.open(io.BytesIO(page)).convert("L")


def scanned(image: Image.Image) -> zxingcpp.Barcode:
    (found,) = zxingcpp.read_barcodes(image)
    return found


def words_on(document: bytes) -> str:
    """The text of a PDF's pages, without white space and dashes."""
    with PdfDocument(document) as pages:
        return re.sub(r"[\s-]", "", "".join(one.get_textpage().get_text_range() for one in pages))


def compared(shown: str) -> str:
    return shown.replace("-", "")


@pytest.mark.parametrize(("size", "language"), EVERY)
def test_a_scanner_reads_what_was_sealed(sent: Sent, size: Size, language: Language) -> None:
    found = scanned(picture(printed(sent.store.head, sent.seal, size, language)))
    assert Label.parse(found.text) == Label.of(sent.seal)
    assert found.ec_level == "Q"


@pytest.mark.parametrize(("size", "language"), EVERY)
def test_people_read_all_that_must_be_compared(sent: Sent, size: Size, language: Language) -> None:
    said = words_on(printed(sent.store.head, sent.seal, size, language))
    spoken = text.words(sent.seal.root()).split()
    numbered = "".join(f"{place}{word}" for place, word in enumerate(spoken, 1))
    for one in (
        compared(text.grouped(sent.seal.root())),
        compared(sent.seal.device_fingerprint),
        sent.seal.shipment,
        compared(sent.seal.created).replace("T", "").replace("Z", "UTC"),
        numbered,
        "motiongearverify",
        *{
            Language.EN: ("Sealedshipment", "Seal1ofthisdevice", "Sealandkeynevertravelonone"),
            Language.ZH: ("已封存的货件", "本设备第1次封存", "封签与密钥绝不能走同一途径"),
        }[language],
    ):
        assert one in said


def corners(found: zxingcpp.Barcode) -> list[tuple[int, int]]:
    at = found.position
    return [(one.x, one.y) for one in (at.top_left, at.top_right, at.bottom_right, at.bottom_left)]


@pytest.mark.parametrize("size", Size)
def test_modules_are_large_and_the_quiet_zone_is_white(sent: Sent, size: Size) -> None:
    image = picture(printed(sent.store.head, sent.seal, size, Language.EN))
    (left, top), (right, _), _, (_, bottom) = corners(scanned(image))
    module = (right - left) / MODULES  # dots
    assert math.isclose(module, (bottom - top) / MODULES, rel_tol=0.02)
    assert module * INCH_MM / PRINTED_DPI > LEAST_MODULE_MM
    quiet = round(QUIET_MODULES * module) - 2  # zxing rounds to dots
    around = image.crop((left - quiet, top - quiet, right + quiet, bottom + quiet))
    ImageDraw.Draw(around).rectangle(
        (quiet - 2, quiet - 2, around.width - quiet + 2, around.height - quiet + 2), fill=255
    )
    assert around.getextrema() == (255, 255)


@pytest.mark.parametrize(
    "where", [(0.35, 0.35, 0.65, 0.65), (0.6, 0.6, 0.9, 0.9), (0.2, 0.45, 0.8, 0.52)]
)
def test_a_label_that_was_scratched_is_still_read(
    sent: Sent, where: tuple[float, float, float, float]
) -> None:
    """A stain, a corner torn off, a scratch across: level Q restores a quarter of the words."""
    image = picture(printed(sent.store.head, sent.seal, Size.A6, Language.EN))
    (left, top), (right, _), *_ = corners(scanned(image))
    side = right - left
    ImageDraw.Draw(image).rectangle(
        tuple(round((left, top)[place % 2] + part * side) for place, part in enumerate(where)),
        fill=0,
    )
    assert Label.parse(scanned(image).text) == Label.of(sent.seal)


def test_a_photograph_at_an_angle_is_read(sent: Sent) -> None:
    """Of a poor camera: turned, a third of the dots."""
    image = picture(printed(sent.store.head, sent.seal, Size.A6, Language.EN), 100)
    turned = image.rotate(17, expand=True, fillcolor=255, resample=Image.Resampling.BILINEAR)
    assert Label.parse(scanned(turned).text) == Label.of(sent.seal)


HOSTILE = {
    "markup": "<script>alert(1)</script><img src=file:///etc/passwd> &amp; {{ 7*7 }} {% x %}",
    "wide": "\u8fc1" * 128,
    "unbroken": "W" * 128,
    "controls": "\x07\n\u202e\U000e0001" * 32,
    "right to left": "\u05de\u05e9\u05d4 " * 32,
}


@pytest.mark.parametrize(("size", "language"), [EVERY[0], EVERY[-1]])
@pytest.mark.parametrize("shown", HOSTILE.values(), ids=HOSTILE)
def test_no_name_breaks_the_page(sent: Sent, shown: str, size: Size, language: Language) -> None:
    """One page, its code whole, its last line there."""
    reader = replace(OPERATOR.recipient, name=shown)
    head = replace(sent.store.head, label=shown, recipients=(reader,) * 16)
    made = printed(head, sent.seal, size, language)
    found = scanned(picture(made))
    assert Label.parse(found.text) == Label.of(sent.seal)
    said = words_on(made)
    assert compared(text.grouped(sent.seal.root())) in said
    assert {Language.EN: "Date,time", Language.ZH: "日期、时间"}[language] in said
    lines = 4 if size is Size.A4 else 3
    more = {Language.EN: f"and{16 - lines}more", Language.ZH: f"另有{16 - lines}个"}[language]
    assert more in said


def test_foreign_text_is_shown_as_it_is(sent: Sent) -> None:
    head = replace(sent.store.head, label="<b>{{ 7*7 }}</b>\u202e\n\x07")
    said = words_on(printed(head, sent.seal, Size.A6, Language.EN))
    assert r"<b>{{7*7}}</b>\u202e\n\x07" in said


# --- the verb ---


def test_what_is_printed_is_scanned_at_the_destination(
    tmp_path: Path, device: Shell, operator: Shell, sent: Sent
) -> None:
    out = tmp_path / "label.png"
    said = device.typed("label", "-s", sent.path, "-o", out, "--lang", "en").fine()
    with Image.open(out) as image:
        assert [round(one) for one in image.info["dpi"]] == [PRINTED_DPI] * 2
        assert [round(one * INCH_MM / PRINTED_DPI) for one in image.size] == [105, 148]
        read = scanned(image).text
    assert read in said.out
    done = operator.typed("verify", "-s", sent.path, "--label", read).fine()
    assert "AUTHENTIC" in done.out


def test_it_is_made_in_the_language_and_size_asked_for(
    tmp_path: Path, device: Shell, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONGEAR_LANG", "zh")
    said = device.typed("label", "-s", sent.path, "-o", tmp_path / "zh.pdf", "--size", "a4")
    assert "请贴在设备上" in said.fine().out
    made = (tmp_path / "zh.pdf").read_bytes()
    assert "已封存的货件" in words_on(made)
    with PdfDocument(made) as pages:
        assert [round(one * INCH_MM / 72) for one in pages[0].get_size()] == [210, 297]
    device.typed("label", "-s", sent.path, "-o", tmp_path / "en.pdf", "--lang", "en").fine()
    assert "Sealedshipment" in words_on((tmp_path / "en.pdf").read_bytes())


def test_what_cannot_become_a_label_is_refused(tmp_path: Path, device: Shell, sent: Sent) -> None:
    out = tmp_path / "label.pdf"
    for name in ("label.jpg", "label", "nowhere/label.pdf"):
        device.typed("label", "-s", sent.path, "-o", tmp_path / name).refused(BadInputError)
    out.write_bytes(b"mine")
    device.typed("label", "-s", sent.path, "-o", out).refused(ExistsError)
    assert out.read_bytes() == b"mine"
    store, _ = new_store(tmp_path, (OPERATOR, RECOVERY), "open")
    other = tmp_path / "other.pdf"
    device.typed("label", "-s", store.path, "-o", other).refused(SealMissingError)
    assert not other.exists()
