"""What a gate owes a sender besides its answers: nothing waits for long to become durable, and
of the features offered it chooses those it knows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from appliance.catchup import link, rounds, session, wire
from appliance.catchup.link import Address, Channel, dial
from appliance.catchup.pairing import as_replica
from appliance.catchup.replica import Replica
from appliance.catchup.replicas import Replicas
from appliance.catchup.rounds import Part
from appliance.catchup.session import Session
from appliance.catchup.wire import Form, Patch
from appliance.cloud.local import LocalTarget
from appliance.errors import (
    LinkCutError,
    SourceChangedError,
    StoreRefusedError,
    TargetFullError,
    WireViolationError,
)
from appliance.model import (
    DiskId,
    PointSpec,
    SnapshotInfo,
    SnapshotSpec,
    VolumeInfo,
    VolumeSpec,
    VolumeState,
)
from appliance.seal.proved import Proved
from tests.line import Machine, TwoEnds, manifest_of, noise, part, two_ends
from tests.support import BLOCK, MemoryDisk, facts
from tests.technician import until
from tests.test_catchup_replica import SIZE, begun, block_of, patch


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[TwoEnds]:
    with two_ends(tmp_path) as found:
        yield found


# --- nothing waits for long --------------------


class Sender:
    """A sender that says these things without a pause, and then hangs up. It is also the clock: a
    second goes by with each word, or each block that is looked at.
    """

    def __init__(self, *said: wire.Message) -> None:
        self.accepts: Sequence[type[wire.Message]] = ()
        self.block_size = 0
        self.now = 0.0
        self.heard: list[wire.Message] = []
        self._said = list(said)

    def monotonic(self) -> float:
        return self.now

    def poll(self) -> wire.Message:
        self.now += 1
        if not self._said:
            raise LinkCutError("The sender has hung up")
        return self._said.pop(0)

    def send(self, message: wire.Message) -> None:
        self.now += isinstance(message, wire.Have)
        self.heard.append(message)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        yield


@pytest.fixture
def heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Patch, Sequence[wire.Message]], list[wire.Message]]:
    """What a gate says to somebody who sends a patch and then goes on talking."""

    def found(first: Patch, more: Sequence[wire.Message]) -> list[wire.Message]:
        sender = Sender(first, *more)
        monkeypatch.setattr(session, "time", sender)
        replica = Replica(tmp_path, begun(tmp_path, bytes(SIZE)))
        disk = session._Disk(cast("Channel", sender), replica, 1)  # noqa: SLF001 - alone
        with pytest.raises(LinkCutError):
            disk.run()
        return sender.heard

    return found


@pytest.mark.parametrize(
    "more",
    [[wire.Ask((2,)) for _ in range(20)], [wire.Ask(tuple(range(1, 6)))] * 4],
    ids=["word by word", "many blocks in a word"],
)
def test_a_block_is_durable_within_five_seconds_whatever_else_is_asked(
    heard: Callable[[Patch, Sequence[wire.Message]], list[wire.Message]],
    more: Sequence[wire.Message],
) -> None:
    said = heard(patch(0, block_of(noise(SIZE), 0), b"\1" * 4), more)
    assert [type(one) for one in said[:5]].count(wire.Ack) == 1
    assert len(said) > 6


def test_a_block_is_durable_when_nothing_follows(ends: TwoEnds) -> None:
    data, fresh = noise(3 * BLOCK), noise(BLOCK)
    about, machine = ends.restored(data), ends.invite()
    with machine.channel() as channel:
        channel.wait_at_most(20.0)
        channel.send(wire.Point(b"r" * 16, Form.FUZZY, 0, (about.disk,)))
        channel.receive(wire.PointIs)
        channel.send(wire.Disk(about))
        channel.receive(wire.DiskIs)
        channel.send(patch(1, fresh, b"\1"))
        assert channel.receive(wire.Ack).index == 1
        assert ends.content() == data[:BLOCK] + fresh + data[2 * BLOCK :]


# --- features --------------------


def welcomed(machine: Machine, *offered: str) -> wire.Welcome:
    address, identity = Address("127.0.0.1", machine.ends.port), rounds.identity_of(machine.home)
    with dial(address, machine.gate.key, identity) as channel:
        channel.send(wire.Hello(1, 1, "a test", offered))
        return channel.receive(wire.Welcome)


def test_of_the_features_offered_those_that_are_known_are_chosen(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = ends.invite()
    assert welcomed(machine, "one", "two").features == ()
    monkeypatch.setattr(wire, "FEATURES", frozenset({"two", "three"}))
    assert welcomed(machine, "one", "two", "two").features == ("two",)
    assert welcomed(machine).features == ()


def test_a_sender_offers_what_it_can_and_is_not_told_to_do_else(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(BLOCK)
    about, machine, chosen = ends.restored(data), ends.invite(), list[tuple[str, ...]]()
    welcome = Session._welcome  # noqa: SLF001 - a gate of another mind

    def told(self: Session, said: wire.Welcome) -> None:
        chosen.append(said.features)
        welcome(self, replace(said, features=(*said.features, *more)))

    monkeypatch.setattr(Session, "_welcome", told)
    monkeypatch.setattr(wire, "FEATURES", frozenset({"one", "two"}))
    more: tuple[str, ...] = ()
    assert machine.round(part(MemoryDisk(data), about)).point == 1
    assert set(chosen) == {("one", "two")}
    more = ("three",)
    with pytest.raises(WireViolationError, match="chosen 'three', which was not offered"):
        machine.round(part(MemoryDisk(data), about))


# --- who a disk is --------------------


def test_a_disk_of_an_odd_serial_number_is_itself_at_both_ends(ends: TwoEnds) -> None:
    """What goes over the line lacks its control character, and its end."""
    data, serial = noise(2 * BLOCK), "SN\1" + "\u00fc" * 400
    about, machine, disk = ends.restored(data, serial=serial), ends.invite(), MemoryDisk(data)
    disk.facts = replace(disk.facts, serial=serial, model=about.model)
    assert machine.round(Part(disk, as_replica(disk.facts, about))).point == 1
    disk.facts = replace(disk.facts, serial="SN\1" + "\u00fc" * 200)
    with pytest.raises(SourceChangedError):
        machine.round(Part(disk, as_replica(disk.facts, about)))


# --- at work --------------------


def test_who_copies_volumes_for_a_point_says_that_it_is_at_work(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, heard, taken = noise(2 * BLOCK), list[wire.Busy](), list[SnapshotSpec]()
    about, machine, snapshot = ends.restored(data), ends.invite(), LocalTarget.snapshot

    def slow(self: LocalTarget, spec: SnapshotSpec) -> SnapshotInfo:
        heard.clear()
        until(lambda: bool(heard))
        taken.append(spec)
        return snapshot(self, spec)

    monkeypatch.setattr(LocalTarget, "snapshot", slow)
    monkeypatch.setattr(link, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(rounds, "_told_of", lambda _: heard.append)
    assert machine.round(part(MemoryDisk(data), about), form=Form.QUIESCED).kept
    assert len(taken) == 1


def test_a_gate_whose_volumes_are_listed_slowly_says_so_before_it_welcomes(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, heard = noise(2 * BLOCK), list[wire.Busy]()
    about, machine, volumes = ends.restored(data), ends.invite(), LocalTarget.volumes
    address, identity = Address("127.0.0.1", ends.port), rounds.identity_of(machine.home)

    def slow(self: LocalTarget) -> Sequence[VolumeInfo]:
        until(lambda: bool(heard))
        return volumes(self)

    monkeypatch.setattr(LocalTarget, "volumes", slow)
    monkeypatch.setattr(link, "_BUSY_SECONDS", 0.01)
    with dial(address, machine.gate.key, identity) as channel:
        channel.busy = heard.append
        channel.send(wire.Hello(1, 1, "a test"))
        assert channel.receive(wire.Welcome).replicas == ((0, about),)
    assert heard[0] == wire.Busy(0, 0)


# --- whose replicas a sender is told of --------------------


def test_of_many_machines_a_sender_is_told_of_its_own(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 restored volumes are other machines', 300 nobody's that is known here."""
    about, machine, volumes = ends.restored(noise(2 * BLOCK)), ends.invite(), LocalTarget.volumes
    origin, first = "55" * 32, DiskId(f"{1000:032x}")
    proved = Proved(ends.gate_home, origin)
    proved.keep(PointSpec(first, 0, "db1000", facts(BLOCK)), manifest_of(bytes(BLOCK), first))
    (head,) = (ends.gate_home / "manifests" / origin).glob("*.json")
    others = [volume(number, origin) for number in range(1000, 2000)]
    for number, one in enumerate(others, 1000):
        text = head.read_text().replace(first, one.spec.disk).replace("db1000", f"db{number}")
        head.with_name(f"{one.spec.disk}-0.json").write_text(text)
        head.with_name(f"{one.spec.disk}-0.manifest").touch()
    others += [volume(number, "66" * 32) for number in range(2000, 2300)]
    monkeypatch.setattr(LocalTarget, "volumes", lambda self: [*volumes(self), *others])
    assert welcomed(machine).replicas == ((0, about),)
    replicas = Replicas(ends.gate_home, ends.target)
    assert replicas.of("nobody") == []
    with pytest.raises(StoreRefusedError):  # it is looked at: its manifest is only a name here
        replicas.of("db1999")


def volume(number: int, origin: str) -> VolumeInfo:
    spec = VolumeSpec(f"v{number}", BLOCK, BLOCK, DiskId(f"{number:032x}"), 0, origin)
    return VolumeInfo(spec, VolumeState.CHECKED, "nowhere", f"{number:032x}")


def test_a_machine_with_more_replicas_than_can_be_told_hears_why(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MOST_REPLICAS", 2)
    for disk in ("11", "22", "33"):
        ends.restored(noise(BLOCK), disk * 16)
    machine = ends.invite()
    with pytest.raises(TargetFullError, match="web01 would have 3 replicas here; a machine may"):
        welcomed(machine)
