# ruff: noqa: RUF001 - Chinese punctuation is meant
"""Help, and what click says, in both languages and within a terminal of 80 columns."""

import os
import re
from pathlib import Path

import click
import pytest

from appliance import cli
from appliance.cli.folding import folded
from appliance.errors import UsageError
from appliance.language import Language, width
from tests.technician import PASSPHRASE, Shell
from tools import man_page

COLUMNS = 80
# Three words of a sentence; names, commands and options are none.
ENGLISH = re.compile(r"(?<![-./`\w])[A-Za-z]?[a-z]+ [a-z]+ [a-z]+(?![-./\w])")
COMMANDS = re.compile(r"motiongear( [a-z-]+)+|`[^`]+`")


@pytest.fixture(autouse=True)
def _a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("LANGUAGE", os.environ.get("LANGUAGE", ""))  # is put back after the test


@pytest.fixture
def _chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIONGEAR_LANG", "zh")


def every(command: click.Command, *above: str) -> list[tuple[str, ...]]:
    found = [above]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += every(below, *above, name) if not below.hidden else []
    return found


EVERY = every(cli.motiongear)


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("verb", EVERY, ids=" ".join)
def test_help_is_told_in_each_language_and_no_line_is_wider_than_the_terminal(
    device: Shell, verb: tuple[str, ...], language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONGEAR_LANG", language)
    said = device.typed(*verb, "--help").fine().out
    assert not [one for one in said.splitlines() if width(one) > COLUMNS]
    begins = {Language.EN: "Usage: ", Language.ZH: "用法: "}
    assert said.startswith(begins[language])
    if language is Language.ZH:
        assert not ENGLISH.search(COMMANDS.sub("", said)), said
        for name in ("Options", "Commands", "required", "default", "TEXT", "PATH", "INTEGER"):
            assert name not in said


@pytest.mark.usefixtures("_chinese")
def test_help_in_chinese_is_told_whole(device: Shell) -> None:
    assert device.typed("jobs", "discard", "-h").fine().out.splitlines() == [
        "用法: motiongear jobs discard [选项] JOB|DISK",
        "",
        "  在尚未封存的货件中删除采集任务存入的内容，并不再计其错误。",
        "",
        "  未完成的磁盘如果其任务已无记录，用磁盘编号或其前 8 位指明。",
        "",
        "选项:",
        "  -s, --store 目录  指明 DISK 时，货件的目录。",
        "  --yes             不再询问，直接确认。",
        "  -h, --help        显示此帮助后退出。",
    ]


def test_the_man_page_is_english_in_every_language(
    device: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = man_page.page()
    monkeypatch.setenv("MOTIONGEAR_LANG", "zh")
    assert device.typed("--help").fine().out.startswith("用法: ")
    assert man_page.page() == before


REFUSALS = [
    ((), None),
    (("fly",), "没有命令 'fly'"),
    (("seal",), "缺少选项 '--store' / '-s'"),
    (("seal", "--waved", "x"), "没有选项 '--waved'。 您是否要写 '--waive'？"),
    (("seal", "--store"), "选项 '--store' 需要 1 个值"),
    (("seal", "--json=1"), "选项 '--json' 不接受值"),
    (("seal", "-s", __file__), f"'--store' / '-s' 的值无效：目录 '{__file__}' 是文件"),
    (("custody", "show", "/nowhere"), "'PLACE' 的值无效：目录 '/nowhere' 不存在"),
    (("jobs", "stop", "x"), "'JOB' 的值无效：'x' 不是有效的整数"),
    (("jobs", "stop", "1", "2"), "多余的参数：2"),
    (("ingest", "/x", "--level", "77"), "'--level' 的值无效：77 不在范围 0<=x<=19 之内"),
    (("console", "--lang", "fr"), "'--lang' 的值无效：'fr' 不在可选值之列：'en', 'zh'"),
    (("completion",), "可选： bash, zsh, fish"),
]


@pytest.mark.parametrize(("typed", "what"), REFUSALS)
@pytest.mark.usefixtures("_chinese")
def test_what_click_refuses_is_told_like_all_other_errors(
    device: Shell, typed: tuple[str, ...], what: str | None
) -> None:
    said = device.typed(*typed)
    assert said.code == 2
    if what is None:
        assert said.err.startswith("用法: motiongear [选项] 命令 [参数]...\n")
        return
    first, safe, todo, verb, code = said.err.splitlines()
    assert first.startswith("错误: 无法理解此命令行。 (")
    assert what in first
    assert safe == "安全:  没有任何更改。"
    assert todo.startswith("处理:  请")
    assert re.fullmatch(r"输入:  motiongear( [a-z-]+)* --help", verb)
    assert code == "代码:  2 (usage)"
    assert device.typed(*verb.split()[2:]).fine().out


def test_what_to_do_follows_from_what_was_refused(device: Shell) -> None:
    said = device.typed("jobs", "discrad", "--json").refused(UsageError)
    assert said.err.splitlines() == [
        "Error: No such command 'discrad'. Did you mean 'discard'?",
        "Safe:  Nothing was changed.",
        "Do:    See which verbs there are.",
        "Type:  motiongear jobs --help",
        "Code:  2 (usage)",
    ]


@pytest.mark.usefixtures("_chinese")
def test_a_question_is_asked_in_chinese(tmp_path: Path, device: Shell) -> None:
    make = ("keys", "new", "Olga", "--out", tmp_path / "op.key")
    answers = [("新口令", PASSPHRASE), ("请再次输入以确认", "another")]
    said = device.at_terminal(*make, answers=[*answers, ("错误：两次输入的内容不一致", "\x03")])
    assert "已中止。" in said.out
    discard = device.at_terminal("jobs", "discard", "1", answers=[("确定吗？ [y/N]", "n")])
    assert "已中止。" in discard.out


@pytest.mark.parametrize("cells", [4, 7, 20, 78])
def test_folded_text_loses_nothing_and_no_line_is_wider(cells: int) -> None:
    text = "来源以只读（且独占）的方式打开；「已挂载」的磁盘会被拒绝：motiongear a --b 见 x。"
    lines = folded(text, cells)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for one in lines:
        assert width(one) <= cells or not re.search(r"\s", one.strip())
        assert one[0] not in "，。；：、）」 "
        assert one[-1] not in "（「 "
    assert folded("", cells) == folded("  ", cells) == []
