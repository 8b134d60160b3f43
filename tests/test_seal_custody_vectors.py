"""The vectors of the chain of custody: what any verifier must find, and ours does."""

import json
from typing import TypedDict, cast

import pytest

from appliance.model import ShipmentId
from appliance.seal import chain, deed
from appliance.seal.chain import Expected
from tests import custody_vectors


class Told(TypedDict):
    """A chain of the vectors."""

    about: str
    files: dict[str, str]
    shipment: str
    root: str
    device: str
    against: dict[str, str]
    sound: int
    findings: list[list[object]]


VECTORS = json.loads(custody_vectors.FILE.read_bytes())
CHAINS = cast("list[Told]", VECTORS["chains"])


def test_they_are_what_the_program_makes() -> None:
    assert custody_vectors.document() == VECTORS


def test_every_finding_has_one() -> None:
    found = {one for told in CHAINS for one, _ in told["findings"]}
    assert found == set(chain.Kind)


@pytest.mark.parametrize("told", CHAINS, ids=lambda told: told["about"])
def test_a_verifier_finds_what_is_told(told: Told) -> None:
    shipment = ShipmentId(told["shipment"]) if told["shipment"] else None
    files, other = map(custody_vectors.parsed, (told["files"], told["against"]))
    found = chain.verify(files, Expected(shipment, told["root"], told["device"]), other)
    assert [[one.kind, one.number] for one in found] == told["findings"]
    assert chain.sound(files, custody_vectors.SHIPMENT) == told["sound"]


def test_codes_are_those_of_the_document() -> None:
    for one in VECTORS["codes"]:
        assert deed.code(one["digest"]) == one["code"]
