"""The operator's book of accepted seals: its disk is full, read-only or broken."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.seal import statement
from appliance.seal.accepted import FILE, Accepted
from appliance.seal.statement import Seal
from tests.media import Bench
from tests.support import sealed_sample


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    store, _, _ = sealed_sample(tmp_path)
    return statement.read(store.path)


def test_a_full_disk_keeps_the_book_as_it_was(tmp_path: Path, bench: Bench, seal: Seal) -> None:
    home = bench.tmpfs(tmp_path / "book", "64k")
    book = Accepted(home)
    book.accept(seal)
    before = (home / FILE).read_bytes()
    rest = bench.fill(home)
    with pytest.raises(StateError, match=r"accepted\.json cannot be .*No space left"):
        book.accept(replace(seal, sequence=2))
    assert (home / FILE).read_bytes() == before
    rest.unlink()
    book.accept(replace(seal, sequence=2))
    assert (home / FILE).read_bytes() != before


def test_a_read_only_home_is_told(tmp_path: Path, bench: Bench, seal: Seal) -> None:
    book = Accepted(bench.tmpfs(tmp_path / "book", "1m", "ro"))
    book.refuse_older(seal)  # nothing is known of this device
    with pytest.raises(StateError, match="Read-only file system"):
        book.accept(seal)


def test_a_book_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, seal: Seal
) -> None:
    (tmp_path / FILE).mkdir()
    for refused in (Accepted(tmp_path).refuse_older, Accepted(tmp_path).accept):
        with pytest.raises(StateError, match="Is a directory"):
            refused(seal)


def test_only_the_last_seal_of_a_device_is_held_to_be_accepted(tmp_path: Path, seal: Seal) -> None:
    book = Accepted(tmp_path)
    assert not book.has(seal)
    book.accept(seal)
    assert book.has(seal)
    assert not book.has(replace(seal, sequence=2))
