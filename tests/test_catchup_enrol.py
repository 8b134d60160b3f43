"""Enrolment: a code is good once, for a while, when typed as printed; what the gate keeps of it
gives nobody the token; who is known by which key.
"""

import base64
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from appliance.catchup.enrol import TOKEN, Code, Enrolled, Gates, Known, Registry
from appliance.catchup.identity import certificate_for, key_of
from appliance.errors import (
    BadInputError,
    EnrolmentCodeError,
    MotionGearError,
    NotEnrolledError,
    StateError,
    WireViolationError,
)
from tests.disks.disk import Disk

GATE = bytes(range(20))
HOUR = timedelta(hours=1)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def certificate() -> bytes:
    return certificate_for(Ed25519PrivateKey.generate()).public_bytes(Encoding.DER)


MINE, OTHER = certificate(), certificate()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def invited(registry: Registry, machine: str = "web01", lasts: timedelta = HOUR) -> bytes:
    code, _ = registry.invite(GATE, machine, lasts)
    return code.token


# --- the code --------------------

CODES = st.builds(
    Code, st.binary(min_size=20, max_size=20), st.binary(min_size=TOKEN, max_size=TOKEN)
)


@given(CODES)
def test_a_code_is_read_as_it_is_printed_and_as_people_type_it(code: Code) -> None:
    said = str(code)
    assert len(said.replace("-", "")) == 64
    assert all(len(group) == 4 for group in said.split("-"))
    typed = said.replace("-", " ").lower().replace("o", "0").replace("i", "1")
    assert Code.parse(said) == Code.parse(f" {typed}\n") == code


@given(CODES, st.integers(0, 63), st.sampled_from(LETTERS))
def test_a_code_with_one_character_mistyped_is_noticed(code: Code, at: int, typed: str) -> None:
    said = str(code).replace("-", "")
    wrong = said[:at] + typed + said[at + 1 :]
    if wrong == said:
        assert Code.parse(wrong) == code
    else:
        with pytest.raises(BadInputError, match="mistyped"):
            Code.parse(wrong)


@given(CODES, st.integers(0, 63), st.sampled_from("!9_\u00e9\0"))
def test_a_character_that_no_code_has_is_noticed(code: Code, at: int, typed: str) -> None:
    said = str(code).replace("-", "")
    with pytest.raises(BadInputError):
        Code.parse(said[:at] + typed + said[at + 1 :])


@given(CODES, st.integers(0, 63))
def test_a_code_with_a_character_missing_or_twice_is_noticed(code: Code, at: int) -> None:
    said = str(code).replace("-", "")
    for wrong in (said[:at] + said[at + 1 :], said[:at] + said[at] + said[at:]):
        with pytest.raises(BadInputError):
            Code.parse(wrong)


@given(CODES, st.integers(0, 62))
def test_two_characters_exchanged_are_noticed(code: Code, at: int) -> None:
    said = str(code).replace("-", "")
    wrong = said[:at] + said[at + 1] + said[at] + said[at + 2 :]
    if wrong != said:
        with pytest.raises(BadInputError, match="mistyped"):
            Code.parse(wrong)


# --- used once --------------------


def test_a_code_makes_a_machine_known(registry: Registry) -> None:
    code, made = registry.invite(GATE, "web01", HOUR, new_disks=True)
    assert (made.machine, made.new_disks, code.gate) == ("web01", True, GATE)
    known = registry.enrol(code.token, MINE)
    assert (known.machine, known.certificate, known.new_disks) == ("web01", MINE, True)
    assert list(registry.machines()) == [known]
    assert registry.known(key_of(MINE)) == known
    assert known.key == key_of(MINE)
    assert known.fingerprint == "-".join(
        base64.b32encode(known.key).decode()[at : at + 4] for at in range(0, 32, 4)
    )


def test_a_code_is_used_once(registry: Registry) -> None:
    token = invited(registry)
    registry.enrol(token, MINE)
    with pytest.raises(EnrolmentCodeError, match="used before"):
        registry.enrol(token, OTHER)
    assert [one.certificate for one in registry.machines()] == [MINE]


def test_whose_answer_was_lost_may_ask_again_and_nobody_else(registry: Registry) -> None:
    token = invited(registry)
    known = registry.enrol(token, MINE)
    assert registry.enrol(token, MINE) == known
    with pytest.raises(EnrolmentCodeError, match="used before"):
        registry.enrol(token, OTHER)
    registry.forget("web01")
    with pytest.raises(EnrolmentCodeError, match="used before"):
        registry.enrol(token, MINE)


def test_a_power_cut_at_any_moment_uses_up_no_code_that_nobody_is_known_by(
    tmp_path: Path,
) -> None:
    with Disk(tmp_path / "volatile") as disk:
        Registry(disk.path)
        disk.settle()
        for operations in count():
            token, mine = invited(Registry(disk.path)), certificate()
            disk.cut_after(operations)
            with suppress(StateError):
                Registry(disk.path).enrol(token, mine)
            through = not disk.dead
            disk.cut(operations)
            registry = Registry(disk.path)
            assert registry.enrol(token, mine) == registry.known(key_of(mine))
            with pytest.raises(EnrolmentCodeError, match="used before"):
                registry.enrol(token, OTHER)
            if through:
                return


def test_an_old_code_brings_no_old_key_back(registry: Registry) -> None:
    token = invited(registry)
    for code, shown in ((token, MINE), (invited(registry), OTHER)):
        registry.enrol(code, shown)
    with pytest.raises(EnrolmentCodeError, match="used before"):
        registry.enrol(token, MINE)
    assert [one.certificate for one in registry.machines()] == [OTHER]


def test_a_key_speaks_for_one_machine(registry: Registry) -> None:
    registry.enrol(invited(registry), MINE)
    token = invited(registry, "db01")
    with pytest.raises(EnrolmentCodeError, match="is that of machine 'web01' already"):
        registry.enrol(token, MINE)
    assert [one.machine for one in registry.machines()] == ["web01"]
    assert registry.enrol(token, OTHER).machine == "db01"  # the code was not used up
    assert registry.enrol(invited(registry), MINE).machine == "web01"
    registry.forget("web01")
    assert registry.enrol(invited(registry, "db01"), MINE).machine == "db01"


def test_of_many_who_use_a_code_at_once_exactly_one_is_known(tmp_path: Path) -> None:
    together = Barrier(4)
    certificates = [certificate() for _ in range(4)]

    def use(token: bytes, shown: bytes) -> bytes | None:
        registry = Registry(tmp_path)
        together.wait(30)
        try:
            return registry.enrol(token, shown).certificate
        except EnrolmentCodeError as exc:
            assert "used before" in exc.what  # noqa: PT017 - the others are told
            return None

    with ThreadPoolExecutor(4) as pool:
        for turn in range(10):
            tokens = [invited(Registry(tmp_path), f"web{turn}")] * 4
            won = [one for one in pool.map(use, tokens, certificates) if one is not None]
            known = {one.machine: one.certificate for one in Registry(tmp_path).machines()}
            assert won == [known[f"web{turn}"]]
            Registry(tmp_path).forget(f"web{turn}")


def test_a_code_expires(registry: Registry) -> None:
    token = invited(registry, lasts=timedelta(seconds=-1))
    with pytest.raises(EnrolmentCodeError, match="has expired at 20"):
        registry.enrol(token, MINE)
    assert list(registry.machines()) == []


def test_a_code_that_was_never_given_is_refused(registry: Registry) -> None:
    invited(registry)
    with pytest.raises(EnrolmentCodeError, match="never given out"):
        registry.enrol(bytes(TOKEN), MINE)
    assert list(registry.machines()) == []


def test_a_certificate_that_is_none_does_not_use_the_code_up(registry: Registry) -> None:
    token = invited(registry)
    with pytest.raises(WireViolationError):
        registry.enrol(token, b"none")
    assert registry.enrol(token, MINE).certificate == MINE


def test_a_machine_that_enrols_anew_is_known_by_its_new_key_alone(registry: Registry) -> None:
    for one in (MINE, OTHER):
        registry.enrol(invited(registry), one)
    assert [one.certificate for one in registry.machines()] == [OTHER]
    with pytest.raises(NotEnrolledError, match="No machine is enrolled with the key"):
        registry.known(key_of(MINE))


def test_a_machine_that_is_forgotten_is_not_known(registry: Registry) -> None:
    registry.enrol(invited(registry), MINE)
    registry.enrol(invited(registry, "db01"), OTHER)
    assert registry.forget("web01")
    assert not registry.forget("web01")
    with pytest.raises(NotEnrolledError):
        registry.known(key_of(MINE))
    assert registry.known(key_of(OTHER)).machine == "db01"


# --- what lies on the disk --------------------


def test_the_token_lies_nowhere_on_the_disk(tmp_path: Path, registry: Registry) -> None:
    code, _ = registry.invite(GATE, "web01", HOUR)
    again, _ = registry.invite(GATE, "web01", HOUR)
    registry.enrol(again.token, MINE)
    content = [one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()]
    names = [str(one).encode() for one in tmp_path.rglob("*")]
    assert len([one for one in content if one]) == 3  # and an empty lock file
    for one in (code, again):
        said = str(one).encode()
        for secret in (
            one.token,
            one.token.hex().encode(),
            base64.b64encode(one.token)[:20],
            base64.b32encode(one.token)[:24],
            said,
            said.replace(b"-", b""),
            said[-30:-5],
        ):
            assert not any(secret.lower() in place.lower() for place in (*content, *names))


def test_all_of_it_is_its_owners_alone(tmp_path: Path, registry: Registry) -> None:
    before = os.umask(0)
    try:
        registry.enrol(invited(registry), MINE)
        Gates(tmp_path).note(Enrolled("gate:1", GATE, "web01"))
    finally:
        os.umask(before)
    for one in (tmp_path / "gate", tmp_path / "line"):
        for path in one.rglob("*"):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


@pytest.mark.parametrize(
    "machine",
    ["../../x", "/etc/passwd", ".", "..", ".hidden", "a/b", "*", "x" * 512, "\u00e9" * 256, "a b",
     "web01.json", "\u202eweb", "-rf", "a\nb", "a\0b"],
)  # fmt: skip
def test_a_hostile_name_stays_inside_its_directory(tmp_path: Path, machine: str) -> None:
    registry = Registry(tmp_path / "home")
    token = invited(registry, machine)
    assert registry.enrol(token, MINE).machine == machine
    assert [one.machine for one in registry.machines()] == [machine]
    (path,) = (tmp_path / "home" / "gate" / "machines").iterdir()
    assert path.name.isascii()
    assert len(path.name) < 100
    assert sorted(one.name for one in tmp_path.iterdir()) == ["home"]
    assert registry.forget(machine)


@pytest.mark.parametrize("one", ["web/01", "web 01", "WEB_01", "web_01."])
def test_names_that_look_alike_as_files_are_different_machines(
    registry: Registry, one: str
) -> None:
    registry.enrol(invited(registry, "web_01"), MINE)
    registry.enrol(invited(registry, one), OTHER)
    assert {found.machine for found in registry.machines()} == {"web_01", one}


@pytest.mark.parametrize("name", ["", "x" * 513, "\u00fc" * 257, "\udc80"])
def test_a_name_that_cannot_be_told_is_refused(
    tmp_path: Path, registry: Registry, name: str
) -> None:
    with pytest.raises(BadInputError, match="is no name of a machine"):
        invited(registry, name)
    assert not list((tmp_path / "gate" / "codes").iterdir())


# --- what has become of it --------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(100))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = [cut, empty, zeros, longer, directory]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_invitation_is_told_by_name(
    tmp_path: Path, registry: Registry, damage: Callable[[Path], None]
) -> None:
    token = invited(registry)
    (path,) = (tmp_path / "gate" / "codes").iterdir()
    damage(path)
    with pytest.raises(StateError, match=path.stem):
        registry.enrol(token, MINE)
    assert list(registry.machines()) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_machine_is_told_by_name_and_refuses_nobody_else(
    tmp_path: Path, registry: Registry, damage: Callable[[Path], None]
) -> None:
    registry.enrol(invited(registry), MINE)
    (path,) = (tmp_path / "gate" / "machines").iterdir()
    other = registry.enrol(invited(registry, "zz"), OTHER)
    registry.refuse_damaged()
    damage(path)
    with pytest.raises(StateError, match=path.name):
        registry.known(key_of(MINE))
    with pytest.raises(StateError, match=path.name):
        registry.refuse_damaged()
    assert list(registry.machines()) == [other]
    assert registry.known(key_of(OTHER)) == other
    third = certificate()
    assert registry.enrol(invited(registry, "db01"), third).machine == "db01"


def test_every_byte_of_a_machines_certificate_counts(tmp_path: Path, registry: Registry) -> None:
    registry.enrol(invited(registry), MINE)
    (path,) = (tmp_path / "gate" / "machines").iterdir()
    whole = path.read_bytes()
    start = whole.index(base64.b64encode(MINE))
    for at in range(start, start + len(base64.b64encode(MINE)), 7):
        path.write_bytes(whole[:at] + (b"A" if whole[at] != 65 else b"B") + whole[at + 1 :])
        with pytest.raises(StateError, match=path.name):
            registry.known(key_of(MINE))


@pytest.mark.parametrize("kind", [Registry, Gates])
def test_a_home_that_cannot_be_used_is_told(tmp_path: Path, kind: type[Registry | Gates]) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StateError):
        kind(tmp_path / "home")


def test_files_that_are_none_of_ours_do_not_disturb(tmp_path: Path, registry: Registry) -> None:
    registry.enrol(invited(registry), MINE)
    (tmp_path / "gate" / "machines" / "notes.txt").write_text("by hand")
    assert [one.machine for one in registry.machines()] == ["web01"]


# --- at the sender --------------------


def test_a_sender_knows_its_gates_by_address(tmp_path: Path) -> None:
    gates = Gates(tmp_path)
    assert gates.all() == []
    with pytest.raises(NotEnrolledError, match="not enrolled with a gate at gate:1"):
        gates.at("gate:1")
    one, other = Enrolled("gate:1", GATE, "web01"), Enrolled("[::1]:2", GATE[::-1], "web01")
    for each in (one, other):
        gates.note(each)
    assert Gates(tmp_path).at("gate:1") == one
    assert Gates(tmp_path).at("[::1]:2") == other
    anew = Enrolled("gate:1", GATE[::-1], "db01")
    gates.note(anew)
    assert gates.at("gate:1") == anew
    assert len(gates.all()) == 2


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_gate_is_told_by_name(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    gates = Gates(tmp_path)
    gates.note(Enrolled("gate:1", GATE, "web01"))
    (path,) = (tmp_path / "line" / "gates").iterdir()
    damage(path)
    with pytest.raises(MotionGearError, match=path.name) as caught:
        gates.at("gate:1")
    assert type(caught.value) is StateError


def test_what_is_known_of_a_machine_cannot_be_changed() -> None:
    known = Known("web01", MINE, new_disks=False, enrolled="2026-11-22T20:15:17Z")
    with pytest.raises(AttributeError):
        known.machine = "db01"  # type: ignore[misc]
