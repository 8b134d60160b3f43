"""What the command shows: JSON for programs, words for people, and foreign text made harmless."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from appliance import cli, config, errors
from appliance.cli import show, work
from appliance.errors import BadInputError, MotionGearError, NotReadyToShipError, PackDamagedError
from appliance.events import Progress, Step
from appliance.jobs import NOBODYS
from appliance.language import Language, translator
from appliance.language import width as cells
from appliance.model import Extent, JobId
from appliance.seal import statement
from appliance.state import EventRow, JobState, State, telling
from tests.media import Bench, tool
from tests.support import (
    BLOCK,
    FakeWitness,
    PowerCutError,
    new_store,
    point,
    put_blocks,
    sample_bytes,
    seal_it,
)
from tests.targets import MemoryTarget
from tests.technician import (
    PASSPHRASE,
    Keys,
    Said,
    Sent,
    Shell,
    begun,
    disk_id,
    listed,
    noise,
    sealed_disks,
)

DOCS = Path(__file__).parent.parent / "docs" / "cli.md"


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return sealed_disks(tmp_path, web01=noise(6 * BLOCK))


# --- for programs --------------------


def test_every_line_of_json_output_is_an_event(
    tmp_path: Path, device: Shell, operator: Shell, keyring: Keys
) -> None:
    store, image = begun(device, tmp_path / "store"), tmp_path / "disk.img"
    image.write_bytes(sample_bytes())
    ingest = ("ingest", image, "-s", store.path, "-m", "web01", "--json")
    first = device.typed(*ingest).fine()
    (started,) = first.results("start")
    assert started["job"] == 1
    (counted,) = first.results("ingest")
    assert (counted["disk"], counted["size"]) == (started["disk"], image.stat().st_size)
    detached = device.typed(*ingest, "--detach").fine().results("start")
    assert [one["job"] for one in detached] == [2]
    assert device.ended(JobId(2)).state is JobState.FINISHED
    (sealed,) = (
        device.typed("seal", "-s", store.path, "--waive", "x", "--json").fine().results("seal")
    )
    key = ("--key", keyring.operator, "--json")
    (verified,) = (
        operator.typed("verify", "-s", store.path, *key, passphrase=PASSPHRASE)
        .fine(3)
        .results("verify")
    )
    assert (verified["root"], verified["trust"]) == (sealed["root"], "consistent")
    listed = operator.typed("manifest", "-s", store.path, *key, passphrase=PASSPHRASE).fine()
    assert [json.loads(one) for one in listed.out.splitlines()] == verified["disks"]
    restore = ("restore", "-s", store.path, "--to", tmp_path / "to", *key)
    (planned,) = operator.typed(*restore, "--plan", passphrase=PASSPHRASE).fine().results("plan")
    done = operator.typed(*restore, passphrase=PASSPHRASE).fine()
    assert done.results("plan") == [planned]
    checked = operator.typed("check", "-s", store.path, "--to", tmp_path / "to", "--json").fine()
    assert checked.results("check") == done.results("check")
    assert {one["root"] for one in checked.results("check")} == {
        one["root"] for one in verified["disks"]
    }


def test_what_there_is_is_listed_for_programs_too(
    tmp_path: Path, device: Shell, bench: Bench
) -> None:
    store, image = begun(device, tmp_path / "store"), bench.image(1 << 20)
    node = bench.loop(image)

    def listed(*verb: object) -> list[dict[str, Any]]:
        said = device.typed(*verb, "--json").fine()
        return [json.loads(one) for one in said.out.splitlines()]

    (attached,) = [one for one in listed("disks") if one["node"] == str(node)]
    assert (attached["size"], attached["refusal"]) == (1 << 20, "")
    assert listed("jobs", "list") == []
    (disk,) = (
        device.typed("ingest", node, "-s", store.path, "-m", "web01", "--json")
        .fine()
        .results("ingest")
    )
    device.typed("seal", "-s", store.path).refused(NotReadyToShipError)
    ingest, seal = listed("jobs", "list")
    assert (ingest["job"], ingest["state"], ingest["disk"]) == (1, "finished", disk["disk"])
    assert ingest["done"] == ingest["total"] == 1 << 20
    assert (seal["state"], seal["error"], seal["code"]) == ("failed", "not-ready-to-ship", 72)

    show = ("shipment", "show", "-s", store.path)
    (before,) = listed(*show)
    assert before["seal"] is None
    device.typed("seal", "-s", store.path, "--waive", "x").fine()
    (after,) = listed(*show)
    made = statement.read(store.path)
    assert after["seal"] == {
        "created": made.created,
        "sequence": 1,
        "device": made.device_fingerprint,
        "root": made.root().hex(),
    }
    (held,) = after["disks"]
    assert (held["disk"], held["complete"]) == (disk["disk"], True)
    assert (before["label"], len(before["recipients"])) == ("test", 2)


def test_refusals_are_json_too(operator: Shell, sent: Sent, tmp_path: Path) -> None:
    pack = sent.packs("web01")[0]
    data = bytearray(pack.read_bytes())
    data[BLOCK] ^= 1
    pack.write_bytes(data)
    said = operator.typed("verify", "-s", sent.path, "--json").refused(PackDamagedError).lines[-1]
    assert (said["event"], said["error"], said["code"]) == ("failed", "pack-damaged", 32)
    assert pack.name in said["what"]
    assert said["safe"]
    assert said["todo"]
    early = operator.typed("verify", "-s", tmp_path / "none", "--json")
    assert early.lines[-1]["error"] == "not-a-store"


@pytest.mark.usefixtures("bench")
def test_loop_devices_are_told_in_both_ways(
    operator: Shell, keyring: Keys, sent: Sent, tmp_path: Path
) -> None:
    restore = ("restore", "-s", sent.path, "--to", tmp_path / "to", "--key", keyring.operator)
    said = operator.typed(*restore, "--loop", "--json", passphrase=PASSPHRASE)
    nodes = [one["device"] for one in said.results("loop")]
    try:
        said.fine()
        words = operator.typed(*restore, "--loop", passphrase=PASSPHRASE)
        (node,) = nodes  # the volume is attached once, however often it is asked for
        assert re.findall(r"attached +\S+ as (/dev/loop\d+)", words.fine().out) == nodes
        assert Path(str(node)).read_bytes() == sent.disks["web01"]
    finally:
        for one in nodes:
            tool("losetup", "--detach", one)


def test_a_chosen_disk_goes_to_the_volume_it_is_given(
    operator: Shell, keyring: Keys, tmp_path: Path
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(2 * BLOCK), db01=noise(BLOCK))
    restore = ("restore", "-s", sent.path, "--to", tmp_path / "to", "--key", keyring.operator)
    said = operator.typed(*restore, "--map", "S-7765=my-disk", passphrase=PASSPHRASE).fine()
    assert "Plan: 1 disk," in said.out
    assert [one.name for one in (tmp_path / "to").glob("*.img*")] == ["my-disk.img"]
    assert (tmp_path / "to" / "my-disk.img").read_bytes() == sent.disks["web01"]


def test_a_target_without_loop_devices_says_so_before_any_work(
    operator: Shell,
    keyring: Keys,
    sent: Sent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = MemoryTarget()
    monkeypatch.setattr(config, "plugin", lambda *_: lambda _: target)
    restore = ("restore", "-s", sent.path, "--to", tmp_path, "--key", keyring.operator, "--loop")
    refused = operator.typed(*restore, passphrase=PASSPHRASE).refused(BadInputError)
    assert "memory has no loop devices" in refused.err
    assert target.held == {}


# --- for people --------------------


def test_a_passphrase_is_typed_unseen_and_twice(tmp_path: Path, operator: Shell) -> None:
    make = ("keys", "new", "Olga", "--out", tmp_path / "op.key")
    typed = [("New passphrase: ", "one two three"), ("Repeat for confirmation: ", "one two three")]
    said = operator.at_terminal(*make, answers=typed).fine()
    assert "fingerprint" in said.out
    assert "one two three" not in said.out
    shown = operator.typed("keys", "show", tmp_path / "op.key", "--no-qr").fine()
    assert "Olga (operator)" in shown.out


def test_a_terminal_shows_a_moving_line_that_goes_away(tmp_path: Path, device: Shell) -> None:
    store, image = begun(device, tmp_path / "store"), tmp_path / "disk.img"
    image.write_bytes(noise(12 * BLOCK))
    ingest = ("ingest", image, "-s", store.path, "-m", "web01", "--limit", "1MB/s")
    said = device.at_terminal(*ingest).fine()
    assert re.search(r"\r\x1b\[K\[#+-*\] ingest +\d+ %, [\d.]+ kB of 786.4 kB", said.out)
    assert said.out.rpartition("\r\x1b[K")[2].startswith("Ingested: 786.4 kB read")


def test_an_empty_answer_to_a_question_changes_nothing(tmp_path: Path, operator: Shell) -> None:
    make = ("keys", "new", "Olga", "--out", tmp_path / "op.key")
    said = operator.run(*make)
    assert said.code == 130
    assert "Aborted." in said.err
    assert not list(tmp_path.glob("*.key*"))


def test_rate_and_rest_are_guessed_once_there_is_something_to_go_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    rate = show.Rate()
    assert rate.tell(Progress("read", 0, 4000)) == "  0 %, 0 B of 4.0 kB, calculating"
    clock[0] += 2
    assert rate.tell(Progress("read", 1000, 4000)) == " 25 %, 1.0 kB of 4.0 kB, 500 B/s, ETA 0:06"
    assert rate.tell(Progress("check", 10, 0)) == "100 %, 10 B of 0 B, calculating"


def test_elsewhere_than_on_a_terminal_progress_is_rare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    follower = show.Follower(as_lines=False, name="web01")
    for _ in range(25):
        follower.take(Progress("ingest", 5, 10))
        clock[0] += 1
    follower.clear()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(one.startswith("web01: ingest     50 %") for one in lines)


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("step", {"step": "open", "detail": "/dev/\x1b[2Jsdb"}, r"open: /dev/\x1b[2Jsdb"),
        ("step", {"step": "sign", "detail": ""}, "sign"),
        ("unreadable", {"offset": 512, "length": 1024}, "unreadable: 1024 bytes at 512"),
        ("spliced", {"block": 7, "session": 1}, "goes on at block 7 (session 1)"),
        ("spliced", {"block": 0, "session": 1}, "the whole disk is read anew"),
        ("pack", {"pack": "x"}, ""),
    ],
)
def test_events_become_sentences(
    capsys: pytest.CaptureFixture[str], kind: str, body: dict[str, object], said: str
) -> None:
    row = EventRow(1, JobId(1), "", kind, body)  # type: ignore[arg-type]
    show.Follower(as_lines=False).take(row)
    shown = capsys.readouterr().err
    assert said in shown
    assert bool(shown) == bool(said)


@pytest.mark.parametrize(
    ("step", "english", "chinese"),
    [
        (Step.said("restore", "{count} packs", count=3), "restore: 3 packs", "恢复: 数据包 3 个"),
        (
            Step.said("line", "{machine} from {peer}", machine="web{0}", peer="::1"),
            "line: web{0} from ::1",
            "线路: web{0}，来自 ::1",  # noqa: RUF001 - Chinese punctuation is meant
        ),
        # As it stands in the database of an earlier release, and of a later one.
        ({"step": "restore", "detail": "3 packs"}, "restore: 3 packs", "恢复: 3 packs"),
        (Step.said("restore", "{count} {x}", count=3, x="y"), "restore: 3 y", "恢复: 3 y"),
        (Step("open", "/dev/{sdb}"), "open: /dev/{sdb}", "打开: /dev/{sdb}"),
    ],
)
def test_what_a_step_says_is_told_in_the_language_of_whoever_looks(
    tmp_path: Path, step: Step | dict[str, Any], english: str, chinese: str
) -> None:
    with State(tmp_path) as state:  # through the database, as every console reads it
        job = state.add_job("restore", NOBODYS, "x", "{}", "2026-01-01")
        state.put_event(job, "1", step if isinstance(step, Step) else Step("x"))
        (row,) = state.events(job)
    row = row if isinstance(step, Step) else replace(row, body=step)
    for language, told in ((Language.EN, english), (Language.ZH, chinese)):
        assert telling.sentence(row.kind, row.body, translator(language)) == told


def test_names_in_json_lines_tell_jobs_apart(capsys: pytest.CaptureFixture[str]) -> None:
    show.Follower(as_lines=True, name="db01").take(Progress("ingest", 1, 2))
    assert json.loads(capsys.readouterr().out)["job"] == "db01"


def test_json_lines_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    foreign = "caf\u00e9 \x9b31m \x85 \ud800"
    show.event(Step("open", foreign))
    show.Follower(as_lines=True).take(EventRow(1, JobId(1), "", "step", {"detail": foreign}))
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(one)["detail"] for one in lines] == [foreign, foreign]
    assert all(one.isascii() and one.isprintable() for one in lines)


def test_hostile_names_of_machine_and_label_are_shown_harmless(
    tmp_path: Path, device: Shell, operator: Shell, keyring: Keys
) -> None:
    store, image = tmp_path / "store", tmp_path / "disk.img"
    image.write_bytes(sample_bytes())
    new = ("shipment", "new", "\x1b[31mred\n", "-s", store, "--block-size", BLOCK)
    device.typed(*new, *keyring.recipients).fine()
    ingest = ("ingest", image, "-s", store, "-m", "web\x1b]0;\x07/../01")
    said = [device.typed(*ingest).fine(), device.typed("jobs", "list").fine()]
    said.append(device.typed("seal", "-s", store, "--waive", "\x1b[1m").fine())
    said.append(operator.typed("verify", "-s", store).fine(3))
    key = ("--key", keyring.operator)
    said.append(operator.typed("manifest", "-s", store, *key, passphrase=PASSPHRASE).fine())
    restore = ("restore", "-s", store, "--to", tmp_path / "to", *key)
    said.append(operator.typed(*restore, passphrase=PASSPHRASE).fine())
    assert not [one for one in said if "\x1b" in one.out + one.err or "\x07" in one.out]
    assert any(r"web\x1b]0;\x07/../01" in one.out for one in said)
    assert [one.name[:12] for one in (tmp_path / "to").glob("*.img")] == ["web_0_.._01-"]


def test_unreadable_bytes_and_splices_stand_in_the_manifest(
    tmp_path: Path, operator: Shell, keyring: Keys
) -> None:
    store, device = new_store(tmp_path)
    data = noise(20 * BLOCK)
    spec = replace(point(data, disk_id("web01")), machine="web01")
    spec = replace(spec, facts=replace(spec.facts, serial=""))
    with pytest.raises(PowerCutError):
        put_blocks(store, data, spec, cut_at=9)
    gone = Extent(15 * BLOCK + 512, 1024)
    put_blocks(store, data, spec, bad=[gone], witness=FakeWitness())
    seal_it(store, device, spec)
    manifest = ("manifest", "-s", store.path, "--key", keyring.operator)
    said = operator.typed(*manifest, passphrase=PASSPHRASE).fine().out
    assert f"unreadable     bytes {gone.offset} to {gone.end - 1}" in said
    assert re.search(r"spliced +session 1 went on at block \d", said)
    assert "serial         (no serial)" in said
    assert "1 unreadable" in said


def test_unreadable_bytes_are_told_of_after_an_ingest(
    tmp_path: Path, device: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, image = begun(device, tmp_path / "store"), tmp_path / "disk.img"
    image.write_bytes(sample_bytes())
    honest = work.figures
    monkeypatch.setattr(work, "figures", lambda *asked: honest(*asked) | {"unreadable_bytes": 512})
    said = device.typed("ingest", image, "-s", store.path, "-m", "web01").fine()
    assert "UNREADABLE: 512 bytes are stored as zeros" in said.out


def test_a_job_that_came_to_nothing_is_an_error(tmp_path: Path, device: Shell) -> None:
    begun(device, tmp_path / "store")
    with device.state() as opened, pytest.raises(MotionGearError, match="what came of it"):
        work.figures(opened, JobId(1), "verify")


# --- the command itself --------------------


def verbs(group: click.Group, *above: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [above]
    for name, command in listed(group):
        below = (*above, name)
        found += verbs(command, *below) if isinstance(command, click.Group) else [below]
    return found


@pytest.mark.parametrize("verb", verbs(cli.motiongear), ids=" ".join)
def test_every_verb_explains_itself(device: Shell, verb: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        said = device.typed(*verb, flag).fine().out
        assert said.startswith("Usage: ")
        assert len(said.splitlines()) > 3
        assert "\\" not in said


def test_a_command_line_that_makes_no_sense_is_a_usage_error(device: Shell) -> None:
    for wrong in ((), ("fly",), ("seal",), ("ingest", "/dev/sdb", "--level", "77")):
        said: Said = device.typed(*wrong)
        assert said.code == 2
        if wrong:
            said.refused(errors.UsageError)
        else:
            assert "Usage: " in said.err
    assert re.fullmatch(r"motiongear \d\S+\n", device.typed("--version").fine().out)


def test_stores_may_be_named_by_the_environment(
    operator: Shell, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONGEAR_STORE", str(sent.path))
    assert operator.typed("shipment", "show").fine().out.count("complete") == 1


def test_every_exit_code_stands_in_the_manual() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z-]+) \|", DOCS.read_text(), re.MULTILINE)
    known = [(str(one.code), one.name) for one in errors.all_errors()]
    assert [one for one in rows if one in known] == known
    codes = [one.code for one in errors.all_errors()]
    names = [one.name for one in errors.all_errors()]
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)
    assert all(1 <= one <= 125 and one != 3 for one in codes)


def test_the_manual_names_every_verb() -> None:
    manual = DOCS.read_text()
    hidden = {("job",)}
    for verb in set(verbs(cli.motiongear)) - hidden:
        assert all(f"{word}" in manual for word in verb)


def test_disks_are_listed_even_where_none_can_be_read(device: Shell, bench: Bench) -> None:
    node = bench.loop(bench.image(1 << 20))
    lines = device.typed("disks").fine().out.splitlines()
    (line,) = [one for one in lines if str(node) in one.split()]
    assert line.startswith("(no serial)")


def test_columns_stand_below_each_other_in_every_language(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.rows([("host name", "web01"), ("主机名", "web01"), ("文件系统及其大小", "web01")])
    shown = capsys.readouterr().out.splitlines()
    assert {cells(one.removesuffix("web01")) for one in shown[:2]} == {17}
    assert shown[2] == "  文件系统及其大小 web01"  # too long for its column: nothing is cut
    show.table(("名称", "状态"), [("db01", "完整"), ("测试服务器", "完整")])
    shown = capsys.readouterr().out.splitlines()
    assert {cells(one[: -len("完整")]) for one in shown} == {12}
