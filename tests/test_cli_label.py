"""What a scanner reads off a label goes to verify and restore."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from appliance.errors import (
    BadInputError,
    MotionGearError,
    RootMismatchError,
    SignerMismatchError,
    UnknownFormatError,
)
from appliance.seal import text
from appliance.seal.label import Label
from tests.support import sample_bytes
from tests.technician import PASSPHRASE, Keys, Sent, Shell, sealed_disks

BY_ANOTHER_PATH = "A label that came with the device proves nothing"


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return sealed_disks(tmp_path, web01=sample_bytes(1))


def scan(shell: Shell, typed: bytes, *args: object) -> "subprocess.CompletedProcess[bytes]":
    """A verb into which a scanner types."""
    command = [sys.executable, "-m", "appliance", *map(str, args)]
    return subprocess.run(
        command, env=shell.environment, input=typed, capture_output=True, check=False
    )


def test_a_scanned_label_proves_a_store_authentic(operator: Shell, sent: Sent) -> None:
    label = str(Label.of(sent.seal))
    said = operator.typed("verify", "-s", sent.path, "--label", label.lower()).fine()
    assert "AUTHENTIC" in said.out
    assert BY_ANOTHER_PATH in said.err


def test_a_scanner_types_it_as_a_keyboard(operator: Shell, sent: Sent) -> None:
    label = str(Label.of(sent.seal))
    piped = scan(operator, f"  {label}\r\n".encode(), "verify", "-s", sent.path, "--label", "-")
    assert (piped.returncode, b"AUTHENTIC" in piped.stdout) == (0, True)
    command = ("verify", "-s", sent.path, "--label", "-")
    typed = operator.at_terminal(*command, answers=[("Scan the label: ", label)]).fine()
    assert "AUTHENTIC" in typed.out


@pytest.mark.parametrize("typed", [b"", b"\xff\xfe", b"M" * 5000, b"\n"])
def test_what_is_no_line_of_text_is_refused(operator: Shell, sent: Sent, typed: bytes) -> None:
    done = scan(operator, typed, "verify", "-s", sent.path, "--label", "-")
    assert done.returncode == BadInputError.code, done


def test_a_label_that_is_compared_says_no_more_than_the_pins(operator: Shell, sent: Sent) -> None:
    """What is stuck to the device is the label of what was announced."""
    label = str(Label.of(sent.seal))
    said = operator.typed("verify", "-s", sent.path, *sent.pins, "--label", label).fine()
    assert "AUTHENTIC" in said.out
    assert BY_ANOTHER_PATH not in said.err


def other(sent: Sent, **fields: bytes | str) -> str:
    mine = Label.of(sent.seal)
    found = {"root": mine.root, "device": mine.device, "shipment": mine.shipment, **fields}
    return str(Label(**found))  # type: ignore[arg-type]


def test_the_label_of_another_shipment_device_or_seal_is_refused(
    operator: Shell, sent: Sent
) -> None:
    noise = Random(1).randbytes(32)
    for label, refusal, what in (
        (other(sent, shipment="00000000"), RootMismatchError, "of shipment 00000000..."),
        (other(sent, device=noise[:20]), SignerMismatchError, "not by the device expected"),
        (other(sent, root=noise), RootMismatchError, "not the one expected"),
    ):
        said = operator.typed("verify", "-s", sent.path, "--label", label).refused(refusal)
        assert what in said.err
        assert "exchanged" in said.err


def test_a_label_that_is_not_of_the_pins_is_refused_before_anything_is_read(
    operator: Shell, sent: Sent
) -> None:
    for label, refusal in (
        (other(sent, device=bytes(20)), SignerMismatchError),
        (other(sent, root=bytes(32)), RootMismatchError),
    ):
        command = ("verify", "-s", sent.path, *sent.pins, "--label", label)
        said = operator.typed(*command).refused(refusal)
        assert "The label names another" in said.err
    with operator.state() as opened:
        assert not opened.jobs()


@pytest.mark.parametrize(
    ("label", "refusal"),
    [
        ("MG1" + "A" * 96, BadInputError),
        ("MG1AAAA", BadInputError),
        ("", BadInputError),
        ("MG2AAAA", UnknownFormatError),
        ("\udcff", BadInputError),
    ],
)
def test_a_label_that_is_none_is_no_exchanged_device(
    operator: Shell, sent: Sent, label: str, refusal: type[MotionGearError]
) -> None:
    said = operator.typed("verify", "-s", sent.path, "--label", label).refused(refusal)
    assert "exchanged" not in said.err


def test_a_mistyped_root_is_told_from_that_of_another_seal(operator: Shell, sent: Sent) -> None:
    device, root = sent.seal.device_fingerprint, text.grouped(sent.seal.root())
    wrong = ("B" if root[7] == "A" else "A").join((root[:7], root[8:]))
    command = ("verify", "-s", sent.path, "--device", device, "--seal", wrong)
    said = operator.typed(*command).refused(RootMismatchError)
    assert "(letters that differ: 1)" in said.err
    mistyped = ("X" if device[1] == "Y" else "Y").join((device[:1], device[2:]))
    command = ("verify", "-s", sent.path, "--device", mistyped, "--seal", root)
    assert "(letters that differ: 1)" in operator.typed(*command).refused(SignerMismatchError).err


def test_restore_takes_a_label(operator: Shell, sent: Sent, keyring: Keys, tmp_path: Path) -> None:
    key = ("--to", tmp_path / "volumes", "--key", keyring.operator)
    command = ("restore", "-s", sent.path, *key, "--label", Label.of(sent.seal))
    said = operator.typed(*command, passphrase=PASSPHRASE).fine()
    assert "signer not confirmed" not in said.out
    assert "Checked: " in said.out
    (volume,) = (tmp_path / "volumes").glob("*.img")
    assert volume.read_bytes() == sent.disks["web01"]
