"""``motiongear report`` at a shell: made whole or not at all, verified, shown."""

import json
from pathlib import Path

import pytest
from pypdfium2 import PdfDocument

from appliance.errors import (
    BadInputError,
    ExistsError,
    ReportRefusedError,
    SignerMismatchError,
    ToolMissingError,
    UnknownNameError,
    WrongKeyError,
)
from appliance.report import paper
from appliance.report.document import parse
from appliance.seal.identity import Device
from tests.media import Bench
from tests.support import BLOCK
from tests.technician import PASSPHRASE, Keys, Sent, Shell, begun, noise, sealed_disks


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return sealed_disks(tmp_path, web01=noise(6 * BLOCK))


def make(sent: Sent, out: Path, *more: object) -> tuple[object, ...]:
    return ("report", "make", "-s", sent.path, "-o", out, *more)


def test_a_whole_way_is_told_from_the_first_disk_to_the_volumes(
    tmp_path: Path, device: Shell, operator: Shell, keyring: Keys
) -> None:
    """Two homes, real jobs, and the figures of the papers are those of the store."""
    store, image, place = begun(device, tmp_path / "store"), tmp_path / "d.img", tmp_path / "to"
    image.write_bytes(noise(7 * BLOCK) + bytes(2 * BLOCK))
    device.typed("ingest", image, "-s", store.path, "-m", "web01").fine()
    before = tmp_path / "papers" / "before"
    device.typed("report", "make", "-s", store.path, "-o", before, "--no-pdf").fine()
    half = parse(before.with_name("before.json").read_bytes()).report
    assert half.shipment.seal is None
    assert (half.disks[0].machine, half.disks[0].state) == ("web01", "complete")
    device.typed("seal", "-s", store.path, "--waive", "x", "--no-qr").fine()
    early = tmp_path / "papers" / "device"
    shipment = store.head.shipment
    device.typed("report", "make", "--shipment", shipment[:8], "-o", early, "--no-pdf").fine()
    key = ("--key", keyring.operator)
    restore = ("restore", "-s", store.path, "--to", place, *key)
    operator.typed(*restore, passphrase=PASSPHRASE).fine()
    out = tmp_path / "papers" / "report"
    said = operator.typed(
        *("report", "make", "--shipment", shipment, "--with", f"{early}.json", "-o", out, *key),
        passphrase=PASSPHRASE,
    ).fine()
    assert "1 of 1 disks are on volumes" in said.out
    names = {one.name for one in out.parent.glob("report.*")}
    kinds = ("json", "en.html", "en.pdf", "zh.html", "zh.pdf")
    assert names == {f"report.{one}" for one in kinds}
    signed = parse(out.with_name("report.json").read_bytes())
    report = signed.report
    assert [one.kind for one in report.jobs] == ["ingest", "seal", "restore"]
    assert {one.told_by for one in report.jobs} == {
        Device.of(one.home).fingerprint for one in (device, operator)
    }
    (volume,), (disk,) = report.volumes, report.disks
    assert disk.content is not None
    assert (volume.state, volume.checked_root) == ("checked", disk.content.root)
    for language in ("en", "zh"):
        with PdfDocument(out.with_name(f"report.{language}.pdf").read_bytes()) as pages:
            text = "".join(one.get_textpage().get_text_range() for one in pages)
        assert "".join(disk.content.root) in "".join(text.split())
        assert signed.digest() in "".join(text.split())
        assert f"{image.stat().st_size:,}" in text
    assert {one.stat().st_mode & 0o777 for one in out.parent.iterdir()} == {0o600}


def test_a_report_is_verified_with_and_without_its_device(
    tmp_path: Path, operator: Shell, device: Shell, sent: Sent
) -> None:
    out = tmp_path / "r"
    operator.typed(*make(sent, out, "--no-pdf")).fine()
    file, signer = tmp_path / "r.json", Device.of(operator.home).fingerprint
    said = device.typed("report", "verify", file).fine(3)
    assert "Consistent" in said.out
    said = device.typed("report", "verify", file, "--device", signer).fine()
    assert "AUTHENTIC" in said.out
    assert signer in said.out
    (told,) = device.typed("report", "verify", file, "--json").fine(3).results("report-verified")
    assert (told["trust"], told["signer"]) == ("consistent", signer)
    other = Device.of(device.home).fingerprint
    device.typed("report", "verify", file, "--device", other).refused(SignerMismatchError)
    file.write_bytes(file.read_bytes().replace(b'"label":"test"', b'"label":"best"'))
    device.typed("report", "verify", file).refused(ReportRefusedError)
    device.typed("report", "show", file).refused(ReportRefusedError)


def test_a_report_is_shown_in_the_language_asked_for(
    tmp_path: Path, operator: Shell, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.typed(*make(sent, tmp_path / "r", "--lang", "zh", "--no-pdf")).fine()
    assert {one.name for one in tmp_path.glob("r.*")} == {"r.json", "r.zh.html"}
    shown = operator.typed("report", "show", tmp_path / "r.json", "--lang", "zh").fine()
    assert "完整 1 块" in shown.out
    assert "Disks: 1 of 1" in operator.typed("report", "show", tmp_path / "r.json").fine().out
    monkeypatch.setenv("MOTIONGEAR_LANG", "zh")
    assert "前后一致" in operator.typed("report", "verify", tmp_path / "r.json").fine(3).out


def test_programs_are_told_the_files_and_the_digest(
    tmp_path: Path, operator: Shell, sent: Sent
) -> None:
    said = operator.typed(*make(sent, tmp_path / "r", "--no-pdf", "--json")).fine()
    (told,) = said.results("report")
    assert told["files"][-1] == str(tmp_path / "r.json")
    assert told["digest"] == parse((tmp_path / "r.json").read_bytes()).digest()


def test_what_stands_is_not_written_over(tmp_path: Path, operator: Shell, sent: Sent) -> None:
    (tmp_path / "r.zh.pdf").write_text("mine")
    operator.typed(*make(sent, tmp_path / "r", "--no-pdf")).refused(ExistsError)
    assert [one.name for one in tmp_path.glob("r.*")] == ["r.zh.pdf"]


def test_on_a_full_disk_no_part_of_it_is_left(
    tmp_path: Path, operator: Shell, sent: Sent, bench: Bench
) -> None:
    small = bench.tmpfs(tmp_path / "small", "16k")
    operator.typed(*make(sent, small / "r", "--no-pdf")).refused(BadInputError)
    assert list(small.iterdir()) == []


def test_without_fonts_nothing_is_written_and_html_still_can_be(
    tmp_path: Path, operator: Shell, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "FONTS", {"fonts-wqy-microhei": Path("/nowhere")})
    said = operator.typed(*make(sent, tmp_path / "r")).refused(ToolMissingError)
    assert "fonts-wqy-microhei" in said.err
    assert list(tmp_path.glob("r.*")) == []
    operator.typed(*make(sent, tmp_path / "r", "--no-pdf")).fine()


def test_what_is_no_report_of_this_shipment_is_refused(
    tmp_path: Path, operator: Shell, sent: Sent, keyring: Keys
) -> None:
    (tmp_path / "other").mkdir()
    other = sealed_disks(tmp_path / "other", web01=noise(BLOCK))
    operator.typed(*make(other, tmp_path / "o", "--no-pdf")).fine()
    made = make(sent, tmp_path / "r", "--no-pdf")
    operator.typed(*made, "--with", tmp_path / "o.json").refused(BadInputError)
    operator.typed(*made, "--with", tmp_path / "nothing").refused(BadInputError)
    operator.typed(*made, "--shipment", "00").refused(BadInputError)
    stranger = ("--key", keyring.stranger)
    operator.typed(*made, *stranger, passphrase=PASSPHRASE).refused(WrongKeyError)
    nothing = ("report", "make", "-o", tmp_path / "r", "--no-pdf")
    operator.typed(*nothing).refused(BadInputError)
    operator.typed(*nothing, "--shipment", "77").refused(UnknownNameError)
    assert list(tmp_path.glob("r.*")) == []


def test_a_source_that_knows_no_shipment_can_report_on_it(
    tmp_path: Path, operator: Shell, sent: Sent
) -> None:
    """And a shipment whose directory was moved is told from what is known of it here."""
    about = ("report", "make", "--shipment", "77" * 16, "--no-pdf")
    operator.typed(*about, "-o", tmp_path / "r").fine()
    assert json.loads((tmp_path / "r.json").read_bytes())["report"]["shipment"]["id"] == "77" * 16
    operator.typed("verify", "-s", sent.path).fine(3)
    sent.path.rename(tmp_path / "elsewhere")
    moved = ("report", "make", "--shipment", sent.store.head.shipment, "--no-pdf")
    operator.typed(*moved, "-o", tmp_path / "m").fine()
    report = parse((tmp_path / "m.json").read_bytes()).report
    assert report.shipment.seal is None
    assert [one.kind for one in report.jobs] == ["verify"]
