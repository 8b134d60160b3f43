"""Every kept input of every fuzz target is taken or refused by name, without the fuzzer; and the
fuzzer finds what is planted for it.
"""

import os
from pathlib import Path

import pytest

from appliance.errors import WireViolationError
from tests.fuzz import __main__ as fuzzing
from tests.fuzz import planted
from tests.fuzz.registry import TARGETS
from tests.fuzz.target import CORPUS, attempt


def test_every_kept_corpus_is_some_targets() -> None:
    assert {one.name for one in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_taken_or_refused_by_name(name: str) -> None:
    target = TARGETS[name]
    kept = [one.read_bytes() for one in sorted(target.corpus.iterdir())]
    assert kept
    with target.scene() as run:
        taken = [attempt(run, one) for one in (*target.seeds(), *kept)]
    assert any(taken) or name == "stream"  # a stream always ends with the line being cut


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        ("error", "IndexError: list assignment index out of range"),
        ("memory", "MemoryError"),
        ("hang", "ERROR: libFuzzer: timeout"),
    ],
)
def test_the_fuzzer_finds_a_defect_behind_a_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str, said: str
) -> None:
    monkeypatch.setattr(fuzzing, "WORK", tmp_path)
    target = planted.TARGETS[defect]
    told = fuzzing.fuzz(target, 100_000, 1, planted.__name__, timeout_seconds=2)
    assert said in told.broken
    (found,) = (tmp_path / defect / "broken").iterdir()
    if defect == "error":
        with target.scene() as run, pytest.raises(IndexError):
            attempt(run, found.read_bytes())


def test_what_is_no_refusal_is_not_taken_for_one() -> None:
    def refuses(_: bytes) -> None:
        raise WireViolationError("it is refused")

    def breaks(_: bytes) -> None:
        raise OSError(os.EX_IOERR, "it breaks")

    assert not attempt(refuses, b"")
    with pytest.raises(OSError, match="it breaks"):
        attempt(breaks, b"")
