"""The manual page is what the verbs say, and a terminal can show it."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from appliance import cli
from appliance.errors import all_errors
from tests.technician import listed
from tools import man_page

PAGE = Path(__file__).parent.parent / "docs" / "man" / "motiongear.1"


def rendered() -> tuple[str, str]:
    """The page as a very wide terminal shows it, and what groff complained of."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed (Debian package groff).")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-rLL=400n", "-P-cbou", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_the_page_is_what_the_verbs_say_now() -> None:
    assert PAGE.read_text() == man_page.page(), "It is stale: make man."


def test_each_verb_and_option_stands_in_it_as_it_is_typed() -> None:
    shown, complaints = rendered()
    assert complaints == ""
    headings = set(re.findall(r"^ {3}(\S.*)$", shown, re.MULTILINE))
    for words, verb in leaves(cli.motiongear):
        assert (" ".join(words) in headings) is not verb.hidden
        for one in () if verb.hidden else verb.params:
            assert all(name in shown for name in one.opts if name.startswith("-")) or getattr(
                one, "hidden", False
            )
    assert "~/.local/state/motiongear" in shown
    assert "\\" not in shown.replace("ROOT \\\n", "")


def test_each_exit_code_stands_in_it() -> None:
    shown, _ = rendered()
    _, _, ends = shown.partition("EXIT STATUS")
    told = re.findall(r"^ {7}(\d+) \(([a-z-]+)\)", ends, re.MULTILINE)
    assert told == [(str(one.code), one.name) for one in all_errors()]


def leaves(group: click.Group, *above: str) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, one in listed(group):
        below = (*above, name)
        found += leaves(one, *below) if isinstance(one, click.Group) else [(below, one)]
    return found


def test_man_shows_it_without_a_warning() -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed (Debian package man-db).")
    done = subprocess.run(
        ["man", "--warnings", "--local-file", "--encoding=UTF-8", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    assert done.stderr == ""
    assert done.stdout.startswith("MOTIONGEAR(1)")
