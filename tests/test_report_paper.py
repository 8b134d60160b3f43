"""Paper is made from the page alone, and says what it lacks."""

import subprocess
import sys
from pathlib import Path

import pytest
from pypdfium2 import PdfDocument

from appliance.errors import ToolFailedError, ToolMissingError
from appliance.report import paper

WITHOUT_PANGO = """
import cffi
def refuse(self, name, flags=0):
    raise OSError(f"cannot load library {name!r}")
cffi.FFI.dlopen = refuse
from appliance.errors import ToolMissingError
from appliance.report import paper
try:
    paper.pdf("<p>x</p>")
except ToolMissingError as exc:
    print(exc)
"""


def test_both_scripts_are_on_the_paper_and_in_its_text() -> None:
    made = paper.pdf("<meta charset=utf-8><title>T</title><h1>Disks 磁盘</h1><p>root 封印根")
    with PdfDocument(made) as found:
        text = found[0].get_textpage().get_text_range()
        assert found.get_metadata_dict()["Title"] == "T"
        assert [one.get_title() for one in found.get_toc()] == ["Disks 磁盘"]
    assert "Disks 磁盘" in text
    assert "root 封印根" in text
    small, large = paper.png(made, 40), paper.png(made, 80)
    assert [len(small), len(large)] == [1, 1]
    assert small[0].startswith(b"\x89PNG")
    width = [int.from_bytes(one[0][16:20], "big") for one in (small, large)]
    assert width[1] == pytest.approx(2 * width[0], abs=2)


@pytest.mark.parametrize(
    "reference",
    [
        "<img src=file:///etc/hostname>",
        "<link rel=stylesheet href=http://127.0.0.1:9/style>",
        "<style>@import url(file:///etc/hostname);</style>",
        "<link rel=attachment href=file:///etc/hostname>",
        "<style>p { background: url(ftp://127.0.0.1:9/) }</style><p>x",
    ],
)
def test_a_page_may_open_neither_files_nor_the_network(reference: str) -> None:
    with pytest.raises(ToolFailedError, match="does not hold"):
        paper.pdf(reference)


def test_missing_fonts_are_named_by_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = paper.FONTS | {"fonts-wqy-microhei": Path("/nowhere.ttc")}
    monkeypatch.setattr(paper, "FONTS", lacking)
    with pytest.raises(ToolMissingError, match=r"packages fonts-wqy-microhei for"):
        paper.pdf("<p>x")


def test_without_pango_one_sentence_names_the_packages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PANGO], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert line.startswith("Paper needs the Debian packages libpango-1.0-0 ")
