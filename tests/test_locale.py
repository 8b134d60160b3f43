"""The catalogues: all that is said is translated, and what is compiled is what is written."""

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import appliance
from appliance.cli import show
from appliance.errors import NotAStoreError, StoppedError, all_errors
from appliance.language import Language, chosen, marked, translator
from tools import errors_page, locale

PLACES = re.compile(r"\{[^{}]*\}")
CODE = re.compile(r"`[^`]+`|--[a-z-]+|MOTIONGEAR_[A-Z]+")
APPLIANCE = Path(appliance.__file__).parent
EVERY = list(product(locale.ROOMS, locale.TRANSLATED))


@pytest.mark.parametrize(("room", "language"), EVERY)
def test_every_sentence_is_translated_and_none_that_is_not_said_any_more(
    room: str, language: Language
) -> None:
    known = locale.known(locale.place(room, language), language)
    found = {one.id: one for one in known if one.id}
    assert list(found) == locale.sentences(room)
    assert not [one.id for one in found.values() if not any(one.string or ()) or one.fuzzy]


@pytest.mark.parametrize(("room", "language"), EVERY)
def test_a_translation_has_the_same_places_for_figures_and_the_same_commands(
    room: str, language: Language
) -> None:
    for one in locale.known(locale.place(room, language), language):
        # What is said of one thing or of several, as by click: Chinese knows the latter only.
        before, after = (
            each if isinstance(each, str) else (each or [""])[-1] for each in (one.id, one.string)
        )
        for kind in (PLACES, CODE):
            assert sorted(kind.findall(before)) == sorted(kind.findall(after)), one


@pytest.mark.parametrize(("room", "language"), EVERY)
def test_what_is_compiled_is_what_is_written(room: str, language: Language) -> None:
    path = locale.place(room, language)
    found = locale.brought_up(room, language)
    assert path.read_bytes() == locale.written(found, language)
    assert path.with_suffix(".mo").read_bytes() == locale.compiled(found)


def test_what_is_marked_anywhere_is_in_a_catalogue() -> None:
    """Also in a file that no room names, and inside an f-string, where Babel does not look."""
    known = {one for room in locale.ROOMS for one in locale.sentences(room)}
    for path in sorted(APPLIANCE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            match call:
                case ast.Call(ast.Name("marked" | "_"), [ast.Constant(str(sentence)), *_]):
                    assert sentence in known, f"{path}:{call.lineno}"
                case _:
                    pass


@pytest.mark.parametrize("language", locale.TRANSLATED)
def test_a_sentence_of_several_rooms_is_the_same_in_all_of_them(language: Language) -> None:
    """Whoever shows it asks all catalogues, and does not know whose it finds first."""
    found: dict[str, set[str]] = {}
    for room in locale.ROOMS:
        for one in locale.known(locale.place(room, language), language):
            found.setdefault(str(one.id), set()).add(str(one.string))
    assert not {one: said for one, said in found.items() if len(said) > 1}


def test_every_room_is_known() -> None:
    for language in locale.TRANSLATED:
        found = {one.stem for one in locale.place("x", language).parent.iterdir()}
        assert found == set(locale.ROOMS)


def test_a_sentence_that_is_not_in_a_catalogue_is_said_in_english() -> None:
    assert translator(Language.ZH)("Never said.") == "Never said." == marked("Never said.")
    assert translator(Language.EN)(NotAStoreError.happened) == NotAStoreError.happened


@pytest.mark.parametrize("error", all_errors(), ids=lambda one: one.name)
def test_every_error_says_what_happened_of_itself(error: type[NotAStoreError]) -> None:
    assert "happened" in vars(error)


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, Language.EN),
        ({"LANG": "C.UTF-8"}, Language.EN),
        ({"LANG": "zh_CN.UTF-8"}, Language.ZH),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, Language.EN),
        ({"LANG": "C", "MOTIONGEAR_LANG": "zh"}, Language.ZH),
        ({"LANG": "zh_TW", "MOTIONGEAR_LANG": ""}, Language.ZH),
    ],
)
def test_the_language_is_what_the_environment_asks_for(
    environ: dict[str, str], language: Language
) -> None:
    assert chosen(environ) is language


def test_the_page_of_errors_is_what_the_program_says() -> None:
    assert (Path(__file__).parents[1] / "docs" / "errors.md").read_text() == errors_page.page()


def test_a_refusal_speaks_chinese_and_keeps_what_is_special_to_the_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOTIONGEAR_LANG", "zh")
    show.refusal(NotAStoreError("/mnt holds no head.json"))
    assert capsys.readouterr().err.splitlines() == [
        "错误: 此处没有存储。 (/mnt holds no head.json.)",
        "安全:  没有从中写出任何内容。",
        "处理:  请给出包含 head.json 和 packs/ 的目录。",
        "代码:  21 (not-a-store)",
    ]


def test_what_an_error_says_instead_of_its_class_is_said_in_chinese(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONGEAR_LANG", "zh")
    show.refusal(StoppedError("The check was stopped", safe="The volume is as it was."))
    assert "卷保持原样。" in capsys.readouterr().err
    assert "The volume is as it was." in locale.sentences("advice")
    assert not set(locale.sentences("advice")) & set(locale.sentences("errors"))


def test_what_is_safe_and_what_to_do_hold_no_figures() -> None:
    """No catalogue could hold them: figures stand in what happened, or in what to type."""
    for path in sorted((Path(locale.__file__).parents[1] / "appliance").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            for given in call.keywords if isinstance(call, ast.Call) else ():
                if given.arg in {"safe", "todo"}:
                    inside = ast.walk(given.value)
                    assert not any(isinstance(one, ast.JoinedStr) for one in inside), path


SHOWS = frozenset({"line", "rows", "table", "echo", "confirm", "prompt", "secret", "step", "told"})
TRANSLATES = frozenset({"_", "marked", "translated"})
TAKES_NAMES = frozenset({"cast", "get", "style", "_sum"})  # of types, fields, colours
SAME = frozenset({"BLAKE3"})
WORD = re.compile(r"[A-Za-z]{2,}")


def test_what_the_command_shows_is_never_a_bare_literal() -> None:
    """Whatever text stands in a call that shows, and is no command to type, goes through a
    translator.
    """
    bare = [
        f"{path.name}:{one.lineno}: {one.value!r}"
        for path in sorted((APPLIANCE / "cli").glob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and _called(call) in SHOWS
        for one in _said_bare(call)
    ]
    assert bare == []


def test_what_a_step_says_is_known_to_whoever_tells_it() -> None:
    """Else its sentence would be shown as it stands, in English."""
    known = set(locale.sentences("words"))
    found = 0
    for path in sorted(APPLIANCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = {
            node.targets[0].id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for call in ast.walk(tree):
            match call:
                case ast.Call(ast.Attribute(ast.Name("Step"), "said"), [_, said]):
                    sentence = said.value if isinstance(said, ast.Constant) else None
                    sentence = named[said.id] if isinstance(said, ast.Name) else sentence
                    assert sentence in known, f"{path}:{call.lineno}"
                    found += 1
                case _:
                    pass
    assert found


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _said_bare(found: ast.AST) -> Iterator[ast.Constant]:
    """Literals below a node that people read: no keys, no formats, nothing that is translated."""
    match found:
        case ast.Constant(str(text)):
            if WORD.search(text) and text not in SAME and not text.startswith("motiongear "):
                yield found
            return
        case ast.Call() if _called(found) in TRANSLATES | TAKES_NAMES:
            return
        case ast.Subscript():
            below: list[ast.AST] = [found.value]
        case ast.FormattedValue():
            below = [found.value]
        case ast.Call():
            below = [found.func, *found.args, *(one.value for one in found.keywords)]
        case ast.Compare():
            below = []
        case _:
            below = list(ast.iter_child_nodes(found))
    for one in below:
        yield from _said_bare(one)
