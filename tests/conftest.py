"""Fixtures that several rooms use."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.media import Bench
from tests.technician import Keys, Shell


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if os.geteuid():
        pytest.skip("Only root may attach loop devices and mount file systems.")
    with ExitStack() as ends:
        yield Bench(tmp_path, ends)


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "ring")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Shell]:
    """The device's shell: public keys only."""
    shell = Shell(tmp_path / "device-home")
    yield shell
    shell.stop_all()


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Shell]:
    """The shell at the destination, where the private keys are."""
    shell = Shell(tmp_path / "operator-home")
    yield shell
    shell.stop_all()
