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
from appliance.catchup.rounds import Part
from appliance.catchup.session import Session
from appliance.catchup.wire import Form, Patch
from appliance.cloud.local import LocalTarget
from appliance.errors import LinkCutError, SourceChangedError, WireViolationError
from appliance.model import SnapshotInfo, SnapshotSpec
from tests.line import Machine, TwoEnds, noise, part, two_ends
from tests.support import BLOCK, MemoryDisk
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
