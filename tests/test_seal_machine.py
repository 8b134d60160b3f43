"""Any sequence of blocks, zeros, unreadable bytes, checkpoints, power cuts and resumes, against a
disk in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from appliance.events import Checkpointed, Event
from appliance.model import Extent
from appliance.seal import sealing
from appliance.seal.cut import Cutter, zero_run
from appliance.seal.identity import Device
from appliance.seal.ranges import Ranges
from appliance.seal.recover import recover
from appliance.seal.sealing import Consent
from appliance.seal.store import Store
from appliance.seal.writer import Pace, StoreWriter
from tests.readout import content, maps_of, problems
from tests.support import BLOCK, OPERATOR, FakeWitness, new_store, point

PACE = Pace(pack_size=1, checkpoint_bytes=1 << 30, checkpoint_seconds=1e9)
Read = tuple[bytes, tuple[Extent, ...]]
SHAPES = st.sampled_from(["words", "noise", "repeat", "zeros", "bad", "all bad"])


class Ingest(RuleBasedStateMachine):
    """A disk being read into a store, with everything that can happen on the way.

    ``stored`` is each block as it was read last, with the unreadable ranges met on the way;
    ``durable`` the same as of the last checkpoint, which had come to block ``safe``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory()
        self.cutter = Cutter()
        self.writer: StoreWriter | None = None
        self.stored: dict[int, Read] = {}
        self.durable: dict[int, Read] = {}
        self.safe = 0

    @initialize(blocks=st.integers(1, 9), end=st.integers(1, BLOCK), seed=st.integers(0, 99))
    def begin(self, blocks: int, end: int, seed: int) -> None:
        self.size = (blocks - 1) * BLOCK + end
        self.blocks = blocks
        self.fill = Random(seed)
        self.store: Store
        self.device: Device
        self.store, self.device = new_store(Path(self.place.name))
        self.spec = point(bytes(self.size))
        self.next = 0
        self.resume(trusting=True)

    def hear(self, event: Event) -> None:
        if isinstance(event, Checkpointed):
            self.safe, self.durable = event.cursor, dict(self.stored)

    @precondition(lambda self: self.writer is None)
    @rule(trusting=st.booleans())
    def resume(self, trusting: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        self.writer = StoreWriter(self.store, self.hear, PACE)
        cursor = self.writer.begin(self.spec, FakeWitness(trusting=trusting))
        assert cursor == (self.safe if trusting else 0)
        self.next = cursor

    def length(self, index: int) -> int:
        return min(BLOCK, self.size - index * BLOCK)

    def shaped(self, shape: str, length: int) -> tuple[bytes, tuple[Extent, ...]]:
        start = self.next * BLOCK
        if shape == "words":
            return (b"%d words " % self.fill.randrange(9) * BLOCK)[:length], ()
        if shape == "repeat":
            first = self.stored.get(0, (b"first", ()))[0]
            return (first * BLOCK)[:length], ()
        if shape == "zeros":
            return bytes(length), ()
        if shape == "all bad":
            return bytes(length), (Extent(start, length),)
        data = bytearray(self.fill.randbytes(length))
        if shape == "bad":
            cut = self.fill.randrange(length)
            data[cut:] = bytes(length - cut)
            return bytes(data), (Extent(start + cut, length - cut),)
        return bytes(data), ()

    @precondition(lambda self: self.writer and self.next < self.blocks)
    @rule(shape=SHAPES)
    def put(self, shape: str) -> None:
        assert self.writer is not None
        data, bad = self.shaped(shape, self.length(self.next))
        self.writer.put(self.cutter.cut(self.next, memoryview(data), bad))
        self.stored[self.next] = data, bad
        self.next += 1

    @precondition(lambda self: self.writer and self.next < self.blocks)
    @rule(count=st.integers(1, 4))
    def put_hole(self, count: int) -> None:
        assert self.writer is not None
        last = min(self.blocks, self.next + count)
        self.writer.put(zero_run(self.next, last - self.next))
        for index in range(self.next, last):
            self.stored[index] = bytes(self.length(index)), ()
        self.next = last

    @precondition(lambda self: self.writer)
    @rule()
    def checkpoint(self) -> None:
        assert self.writer is not None
        self.writer.checkpoint()

    @precondition(lambda self: self.writer)
    @rule()
    def power_cut(self) -> None:
        """What lies behind the last checkpoint is forgotten, as the writer forgets it."""
        assert self.writer is not None
        self.writer.__exit__()
        self.writer = None
        self.store.mend()
        self.stored = dict(self.durable)
        self.compare()

    def compare(self) -> None:
        """Every block in the store is what was read last of it."""
        for found in maps_of(self.store):
            told = content(found)
            bad = Ranges()
            for index, (data, ranges) in self.stored.items():
                assert told[index * BLOCK : (index + 1) * BLOCK] == data
                for one in ranges:
                    bad.add(one.offset, one.end)
            assert found.unreadable() == list(bad)

    def teardown(self) -> None:
        """However far it came: it is ended, sealed, verified, recovered."""
        if hasattr(self, "store"):
            self.end()
        self.place.cleanup()

    def end(self) -> None:
        if self.writer is None:
            self.resume(trusting=True)
        assert self.writer is not None
        while self.next < self.blocks:
            self.put("words")
        self.writer.commit()
        self.writer.__exit__()
        self.compare()
        sealing.seal(self.store, self.device, {}, Consent(waiver="a test"))
        assert problems(self.store.path, OPERATOR) == []
        with output(Path(self.place.name)) as out:
            (found,), lost = recover(sorted(self.store.packs.iterdir()), OPERATOR, out)
            assert (lost, found.problems, found.missing, found.ended) == ([], [], 0, True)
            wanted = b"".join(self.stored[index][0] for index in range(self.blocks))
            assert found.path.read_bytes() == wanted
            assert found.unreadable == maps_of(self.store)[0].unreadable()


@contextmanager
def output(place: Path) -> Iterator[Path]:
    out = place / "out"
    out.mkdir()
    yield out


TestIngest = Ingest.TestCase
TestIngest.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
