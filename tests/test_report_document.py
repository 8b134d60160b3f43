"""The report's document: what is signed is what is read, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import (
    BadInputError,
    ReportRefusedError,
    SignerMismatchError,
    StoreRefusedError,
    UnknownFormatError,
)
from appliance.report.document import Report, Shipment, parse, sign, verified
from appliance.seal import text
from appliance.seal.identity import Device
from appliance.seal.keys import fingerprint
from appliance.seal.verify import Trust
from tests.reports import filled, full


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Device:
    return Device.of(tmp_path_factory.mktemp("home"))


def small(signer: Device) -> bytes:
    """The shortest report there is."""
    shipment = Shipment("ab" * 16, "", "", "", None, (), None)  # type: ignore[arg-type]
    nothing: dict[str, Any] = dict.fromkeys(
        ("disks", "jobs", "volumes", "repairs", "rounds", "cut_overs", "points"), ()
    )
    nothing |= {"custody": None, "erasures": (), "sources": (), "gaps": ()}
    made = filled(Report, "x", shipment=shipment, gathered_by=signer.fingerprint, **nothing)
    return sign(made, signer).encode()


def test_what_is_written_is_read_back(signer: Device) -> None:
    made = full(signer)
    assert parse(made.encode()) == made
    assert json.loads(made.encode())["report"]["format"] == "motiongear-report"


def test_every_changed_byte_is_refused(signer: Device) -> None:
    data = small(signer)
    parse(data)
    for at in range(len(data)):
        for bit in (1, 4, 32):
            changed = bytearray(data)
            changed[at] ^= bit
            with pytest.raises(StoreRefusedError):
                parse(bytes(changed))


@settings(max_examples=200)
@given(st.data())
def test_every_shorter_and_every_longer_file_is_refused(
    signer: Device, data: st.DataObject
) -> None:
    whole = full(signer).encode()
    with pytest.raises(StoreRefusedError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(StoreRefusedError):
        parse(whole + data.draw(st.binary(min_size=1)))


def test_only_the_device_expected_makes_it_authentic(signer: Device, tmp_path: Path) -> None:
    data = full(signer).encode()
    assert verified(data)[1] is Trust.CONSISTENT
    words = text.words(fingerprint(bytes.fromhex(signer.public)))
    for told in (signer.fingerprint, signer.fingerprint.lower(), words):
        assert verified(data, told)[1] is Trust.AUTHENTIC
    with pytest.raises(SignerMismatchError, match=signer.fingerprint):
        verified(data, Device.of(tmp_path).fingerprint)
    with pytest.raises(BadInputError):
        verified(data, "whoever")


def test_another_device_can_only_sign_in_its_own_name(signer: Device, tmp_path: Path) -> None:
    """Whoever has no key of the device can say all it says, and be seen."""
    other, genuine = Device.of(tmp_path), full(signer)
    with pytest.raises(ReportRefusedError, match="another device gathered it"):
        parse(sign(genuine.report, other).encode())
    with pytest.raises(ReportRefusedError, match="signature is not that"):
        parse(replace(genuine, signer=other.public).encode())
    own = sign(replace(genuine.report, gathered_by=other.fingerprint), other)
    with pytest.raises(SignerMismatchError):
        verified(own.encode(), signer.fingerprint)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("jobs", 0, "seconds"), "7"),
        (("jobs", 0, "seconds"), -1),
        (("jobs", 0, "seconds"), 1.5),
        (("jobs", 0, "runs"), None),
        (("jobs", 0, "failure"), []),
        (("jobs", 0, "more"), 1),
        (("jobs", 0, "began"), "yesterday"),
        (("disks", 0, "disk"), "web01"),
        (("disks", 0, "content", "root"), "ef" * 31),
        (("disks", 0, "facts", "size"), 0),
        (("disks", 0, "facts", "serial"), "x" * 513),
        (("disks", 0, "machine"), "x" * 4097),
        (("points", 0, "complete"), 1),
        (("shipment", "id"), ""),
        (("gaps",), ["x"] * ((1 << 14) + 1)),
        (("more",), 1),
    ],
)
def test_a_field_of_the_wrong_form_is_refused(
    signer: Device, place: tuple[str | int, ...], value: object
) -> None:
    """Also where the signature is right: a signer may be hostile."""
    body = json.loads(full(signer).encode())["report"]
    inside: Any = body
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    written = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    message = b"motiongear/1 report\0" + bytes.fromhex(signer.public) + written
    whole = b'{"report":%b,"signature":"%b","signer":"%b"}' % (
        written,
        signer.sign(message).hex().encode(),
        signer.public.encode(),
    )
    with pytest.raises(ReportRefusedError) as refused:
        parse(whole)
    assert "signature" not in refused.value.what


def test_another_version_is_not_called_damage(signer: Device) -> None:
    data = full(signer).encode()
    with pytest.raises(UnknownFormatError, match="format version 2"):
        parse(data.replace(b'"version":1', b'"version":2'))
    with pytest.raises(UnknownFormatError, match="another program"):
        parse(data.replace(b"motiongear-report", b"motiongear-repart"))
