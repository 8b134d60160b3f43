"""Other programs: found, bounded in time, never through a shell."""

import os
from pathlib import Path

import pytest

from appliance import run as run_module
from appliance.errors import ToolFailedError, ToolMissingError
from appliance.run import run
from tests.media import fake_tool


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_what_a_program_prints_comes_back(tools: Path) -> None:
    fake_tool(tools, "tell", "echo said; echo aside >&2")
    assert run("tell") == "said\n"


@pytest.mark.parametrize(
    ("tool", "package"),
    [("sfdisk", "fdisk"), ("losetup", "mount"), ("mkfs.foo", "mkfs.foo")],
)
def test_a_missing_program_names_its_debian_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run_module, "_SBIN", str(tmp_path))
    with pytest.raises(ToolMissingError, match=rf"{tool} is missing; Debian package: {package}$"):
        run(tool)


def test_administrators_programs_are_found_without_their_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PATH")
    assert "sfdisk" in run("sfdisk", "--version")


def test_an_exit_code_is_told_with_what_was_said(tools: Path) -> None:
    fake_tool(tools, "fail", "echo out; echo 'no such disk' >&2; exit 3")
    with pytest.raises(ToolFailedError, match="fail failed with exit code 3: 'no such disk'"):
        run("fail")


def test_a_killed_program_has_failed(tools: Path) -> None:
    fake_tool(tools, "die", "kill -9 $$")
    with pytest.raises(ToolFailedError, match="exit code -9"):
        run("die")


def test_a_program_that_hangs_is_ended(tools: Path) -> None:
    fake_tool(tools, "hang", "echo $$ > $0.pid; trap '' TERM; exec sleep 1000")
    with pytest.raises(ToolFailedError, match=r"hang did not answer within 0\.5 s"):
        run("hang", timeout=0.5)
    assert not Path("/proc", (tools / "hang.pid").read_text().strip()).exists()


def test_bytes_that_are_no_text_become_marks(tools: Path) -> None:
    fake_tool(tools, "odd", "printf 'a\\377\\376b\\000'")
    assert run("odd") == "a\ufffd\ufffdb\0"


def test_what_is_said_in_an_error_is_short_and_quoted(tools: Path) -> None:
    fake_tool(tools, "odd", "printf '\\377\\033[31m' >&2; head -c 9999 /dev/zero >&2; exit 1")
    with pytest.raises(ToolFailedError) as failed:
        run("odd")
    assert "\x1b" not in failed.value.what
    assert len(failed.value.what) < 1500


def test_endless_output_is_cut(tools: Path) -> None:
    fake_tool(tools, "endless", "head -c 9000000 /dev/zero")
    assert len(run("endless")) == 1 << 22


def test_arguments_are_never_read_by_a_shell(tools: Path) -> None:
    fake_tool(tools, "show", 'for one; do printf "<%s>" "$one"; done')
    args = ("a b", "$(id)", "`id`", ";", "*", "-x", "--", "", "a\nb", "'\"", "\u00fc")
    assert run("show", *args) == "".join(f"<{one}>" for one in args)


@pytest.mark.parametrize("name", ["tell; id", "../tell", "tell id", "", "-tell"])
def test_neither_is_the_name(tools: Path, name: str) -> None:
    fake_tool(tools / "sub", "inner", "echo")
    fake_tool(tools, "tell", "echo said")
    with pytest.raises(ToolMissingError):
        run(name)


@pytest.mark.parametrize("argument", ["a\0b", os.fsdecode(b"\xff")])
def test_what_cannot_be_an_argument_is_refused(tools: Path, argument: str) -> None:
    fake_tool(tools, "tell", "echo said")
    with pytest.raises(ToolFailedError, match="tell cannot be started"):
        run("tell", argument)


def test_what_is_no_program_cannot_be_started(tools: Path) -> None:
    (tools / "text").write_text("only text")
    (tools / "text").chmod(0o755)
    with pytest.raises(ToolFailedError, match="text cannot be started"):
        run("text")


def test_a_program_gets_nothing_to_read_and_speaks_english(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    fake_tool(tools, "tell", 'cat; echo "$LC_ALL"')
    assert run("tell") == "C\n"
