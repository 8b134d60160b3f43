"""The sender's side of one disk: what differs from the replica goes over the line, read once, held
until it is acknowledged.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import zstandard

from appliance.catchup import wire
from appliance.catchup.link import Channel
from appliance.catchup.replica import pieces_of
from appliance.catchup.wire import MOST_ASKED, MOST_RANGES, Piece
from appliance.errors import ReplicaDiffersError, WireViolationError
from appliance.events import Emit, Progress, Step
from appliance.ingest.loop import How, Wanted, cuts, wanted_blocks
from appliance.model import Codec, Cut, Digest, Extent, SourceDisk, Stop
from appliance.rate import Throttle
from appliance.seal.cut import digest, zero_digest
from appliance.seal.manifest import PAGE_ENTRIES, Manifest, State

_HELD_BYTES = 64 << 20
_ASK_AT = 16
_LEVEL = 3  # the line is thin: 3 costs twice the time of 1 and is still faster than most lines
_PAYS = 15 / 16
_DIGEST_ONLY = How(level=0)
_TRIES = 3  # a fuzzy disk cannot differ after its blocks were acknowledged; a faulty one may


@dataclass(slots=True)
class Sent:
    """What a disk's part of a round has cost. ``changed`` counts the bytes of the pieces that
    differed, before compression; ``read`` those of the disk.
    """

    blocks: int = 0
    changed: int = 0
    read: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A block as it was read, until the gate has it."""

    block: bytes
    digest: Digest
    bad: tuple[Extent, ...]


class Blocks:
    """A set of blocks of a disk, a bit each."""

    def __init__(self, blocks: int) -> None:
        self._bits = bytearray(-(-blocks // 8))

    def add(self, index: int) -> None:
        self._bits[index >> 3] |= 1 << (index & 7)

    def discard(self, index: int) -> None:
        self._bits[index >> 3] &= ~(1 << (index & 7))

    def __len__(self) -> int:
        return int.from_bytes(self._bits, "little").bit_count()

    def __iter__(self) -> Iterator[int]:
        """Ascending; what is discarded meanwhile may still come."""
        for place, eight in enumerate(self._bits):
            if eight:
                yield from (8 * place + bit for bit in range(8) if eight >> bit & 1)


def survey(source: SourceDisk, blank: Manifest, emit: Emit, stop: Stop, sent: Sent) -> Manifest:
    """Read all of a disk and note what it holds in ``blank``."""
    for cut in _read(source, blank, None, stop):
        _note(blank, cut)
        sent.read += cut.length
        done = min((cut.index + cut.count) * blank.block_size, blank.size)
        emit(Progress("compare", done, blank.size))
    return blank


def _note(manifest: Manifest, cut: Cut) -> None:
    if cut.payload is None and not cut.bad:
        manifest.set_zero(cut.index, cut.count)
    else:
        manifest.set(cut.index, cut.digest, State.UNREADABLE if cut.bad else State.DATA)


def _read(
    source: SourceDisk, like: Manifest, blocks: Iterable[int] | None, stop: Stop
) -> Iterator[Cut]:
    """All blocks of a disk, or these."""
    wanted = (
        wanted_blocks(source.extents(0), 0, like.blocks, like.block_size)
        if blocks is None
        else (Wanted(one, 1, hole=False) for one in blocks)
    )
    flow = cuts(source, wanted, like.block_size, _DIGEST_ONLY, stop, Throttle())
    with closing(flow):
        yield from flow


class DiskSender:
    """One disk of a round. ``known`` is what an earlier round ended with. From there, or from a
    replica that is empty, blocks are sent as they are read; else all is read first, and compared
    from the root down. A disk that is ``still`` must not have changed while it was read.
    """

    def __init__(
        self,
        source: SourceDisk,
        about: wire.Replica,
        known: Manifest | None,
        emit: Emit,
        stop: Stop,
        *,
        still: bool = False,
    ) -> None:
        self._source, self._about, self._still = source, about, still
        self._emit, self._stop = emit, stop
        # What the gate has, and the blocks that are to be looked at before the disk is like it;
        # None: all of them.
        self._theirs = known if known is not None and _fits(known, about) else None
        self._left: Blocks | None = None
        self.sent = Sent()

    def run(self, channel: Channel, point: int) -> Manifest:
        """Bring the replica to the disk; returns what both ends have agreed on. May be run again
        over another line when one was cut: what differs from the gate is then asked anew, and
        what was compared before is not read again.
        """
        self._channel = channel
        channel.send(wire.Disk(self._about))
        theirs = self._followed(channel.receive(wire.DiskIs))
        for again in range(_TRIES):
            if again:
                self._follow(theirs)
            self._put_left(theirs)
            if self._still:
                self._source.confirm()
            channel.send(wire.EndDisk(theirs.root(point)))
            if channel.receive(wire.DiskDone).same:
                theirs.move_to(point)
                return theirs
        raise ReplicaDiffersError(
            f"The replica of disk {self._about.disk} does not become like it"
        )

    def _followed(self, told: wire.DiskIs) -> Manifest:
        """What the gate has; what is left to send is known then."""
        if self._theirs is None:
            self._theirs = self._first(told)
        if self._theirs.root(told.point) != told.root:
            self._follow(self._theirs)
        return self._theirs

    def _first(self, told: wire.DiskIs) -> Manifest:
        """To begin with: zeros where the replica is empty, else what the disk holds."""
        about = self._about
        found = Manifest(about.disk, told.point, about.block_size, about.size)
        found.set_zero(0, found.blocks)
        if found.root() == told.root:
            return found
        self._emit(Step.said("compare", "disk {disk}", disk=about.disk))
        survey(self._source, found, self._emit, self._stop, self.sent)
        self._left = Blocks(found.blocks)
        return found

    def _follow(self, mine: Manifest) -> None:
        """Ask from the page digests down which blocks the gate has otherwise: ``mine`` says of
        them what the gate has, and they are left to send.
        """
        digests = mine.page_digests()
        for first in range(0, len(digests), PAGE_ENTRIES):
            ours = digests[first : first + PAGE_ENTRIES]
            self._channel.send(wire.Pages(first, len(ours)))
            theirs = self._channel.receive(wire.PagesAre)
            if theirs.first != first or len(theirs.digests) != len(ours):
                raise WireViolationError("The gate told other pages than were asked for")
            for place, (one, other) in enumerate(zip(ours, theirs.digests, strict=True)):
                if one != other:
                    self._follow_on(mine, first + place)

    def _follow_on(self, mine: Manifest, page: int) -> None:
        self._channel.send(wire.Entries(page))
        theirs, blocks = self._channel.receive(wire.EntriesAre), mine.page(page)
        if theirs.page != page or len(theirs.entries) != len(blocks):
            raise WireViolationError("The gate told other blocks than were asked for")
        for index, entry in zip(blocks, theirs.entries, strict=True):
            if mine[index] != entry:
                if self._left is not None:
                    self._left.add(index)
                mine.set(index, *entry)

    def _put_left(self, theirs: Manifest) -> None:
        """Send what differs of the blocks that are left; ``theirs`` follows the gate. None are
        left then.
        """
        self._emit(Step.said("send", "disk {disk}", disk=theirs.disk))
        window = Window(self._channel, theirs, self.sent, self._left)
        size = theirs.block_size
        total = theirs.size if self._left is None else len(self._left) * size
        done = 0
        for cut in _read(self._source, theirs, self._left, self._stop):
            window.put(cut)
            self.sent.read += cut.length
            done += cut.count * size
            self._emit(Progress("send", min(done, total), total, self._channel.sent))
        window.drain()
        self._left = Blocks(theirs.blocks)


def _fits(known: Manifest, about: wire.Replica) -> bool:
    told = (about.disk, about.block_size, about.size)
    return (known.disk, known.block_size, known.size) == told


class Window:
    """Blocks on their way: read, asked for, patched, acknowledged. ``theirs`` is what the gate
    has said, and follows what it acknowledges; ``left`` loses what is acknowledged.
    """

    def __init__(
        self, channel: Channel, theirs: Manifest, sent: Sent, left: Blocks | None
    ) -> None:
        self._channel, self._theirs, self._sent, self._left = channel, theirs, sent, left
        self._held: dict[int, Held] = {}
        self._patched: set[int] = set()
        self._to_ask: list[int] = []
        self._most = max(min(_HELD_BYTES // theirs.block_size, MOST_ASKED), 1)
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)
        channel.accepts = (wire.Have, wire.Ack, wire.Whole)

    def put(self, cut: Cut) -> None:
        """Take one block, or a run of zero blocks; it is copied where it is to be sent."""
        if cut.payload is None and not cut.bad:
            for index in range(cut.index, cut.index + cut.count):
                if self._theirs[index][1] is not State.ZERO:
                    self._hold(index, bytes(self._theirs.length(index)), ())
            return
        state = State.UNREADABLE if cut.bad else State.DATA
        if self._theirs[cut.index] != (cut.digest, state):
            data = bytes(cut.length) if cut.payload is None else bytes(cut.payload)
            self._hold(cut.index, data, _inside(cut, self._theirs.block_size))
        self._answer_what_came()

    def _hold(self, index: int, block: bytes, bad: tuple[Extent, ...]) -> None:
        while len(self._held) >= self._most:
            self._ask()
            self._answer(self._channel.next())
        held = Held(block, digest(block), bad)
        self._held[index] = held
        known = self._theirs[index][1]
        zero = held.digest == zero_digest(len(block))
        if zero and not bad:
            self._patch(index, bytes([Piece.ZERO]) * len(pieces_of(len(block))))
        elif known is State.ZERO:
            self._patch(index, self._marked(held, ()))
        else:  # also an unknown one: what a damaged pack has left there may well be the block
            self._to_ask.append(index)
            if len(self._to_ask) >= _ASK_AT:
                self._ask()

    def _ask(self) -> None:
        for at in range(0, len(self._to_ask), MOST_ASKED):
            self._channel.send(wire.Ask(tuple(self._to_ask[at : at + MOST_ASKED])))
        self._to_ask.clear()

    def _marked(self, held: Held, theirs: tuple[bytes, ...] | None) -> bytes:
        """A code for each piece. ``theirs`` are the gate's digests; none: its block is zero;
        None: it is not known. Of a piece that cannot be read at all the gate keeps what it has.
        """
        codes = bytearray()
        for place, (start, end) in enumerate(pieces_of(len(held.block))):
            piece = memoryview(held.block)[start:end]
            mine, zero = digest(piece), zero_digest(end - start)
            had = zero[:16] if theirs == () else theirs[place] if theirs else b""
            touched, lost = _touched(held.bad, start, end)
            if theirs is not None and (lost or (mine[:16] == had and not touched)):
                codes.append(Piece.SAME)
            elif mine == zero and not held.bad:
                codes.append(Piece.ZERO)
            else:
                codes.append(Piece.SENT)
        return bytes(codes)

    def _patch(self, index: int, codes: bytes) -> None:
        held = self._held[index]
        pieces = zip(pieces_of(len(held.block)), codes, strict=True)
        plain = b"".join(held.block[a:b] for (a, b), code in pieces if code == Piece.SENT)
        codec, data = self._packed(plain)
        found = Digest(bytes(32)) if held.bad else held.digest
        self._patched.add(index)
        self._channel.send(wire.Patch(index, codec, len(plain), found, codes, held.bad, data))
        self._sent.changed += sum(
            b - a for (a, b), code in zip(pieces_of(len(held.block)), codes, strict=True) if code
        )

    def _packed(self, plain: bytes) -> tuple[Codec, bytes]:
        packed = self._zstd.compress(plain) if plain else b""
        return (Codec.ZSTD, packed) if plain and len(packed) < len(plain) * _PAYS else (
            Codec.RAW, plain
        )  # fmt: skip

    # --- what the gate says ---

    def _answer_what_came(self) -> None:
        while (said := self._channel.poll()) is not None:
            self._answer(said)

    def _answer(self, said: wire.Message) -> None:
        if not isinstance(said, wire.Have | wire.Ack | wire.Whole) or said.index not in self._held:
            raise WireViolationError("The gate speaks of a block that was not sent to it")
        held = self._held[said.index]
        if isinstance(said, wire.Have):
            if said.index in self._patched or len(said.pieces) != len(pieces_of(len(held.block))):
                raise WireViolationError(f"The gate told block {said.index} twice, or oddly")
            codes = self._marked(held, said.pieces)
            unreadable = self._theirs[said.index][1] is State.UNREADABLE
            if held.bad and unreadable and not any(codes):  # as it was in the round before
                self._let_go(said.index)
            else:
                self._patch(said.index, codes)
        elif isinstance(said, wire.Whole):
            self._patch(said.index, self._marked(held, None))
        else:
            if not held.bad and said.digest != held.digest:
                raise WireViolationError(f"The gate acknowledges another block {said.index}")
            self._theirs.set(said.index, said.digest, said.state)
            self._sent.blocks += 1
            self._let_go(said.index)

    def _let_go(self, index: int) -> None:
        """The gate has the block."""
        self._patched.discard(index)
        if self._left is not None:
            self._left.discard(index)
        del self._held[index]

    def drain(self) -> None:
        """Return when all is acknowledged."""
        self._ask()
        while self._held:
            self._answer(self._channel.next())


def _inside(cut: Cut, block_size: int) -> tuple[Extent, ...]:
    """The unreadable ranges of a block, by their place in it: neighbours joined, and all as one
    where they are more than a patch can name.
    """
    start = cut.index * block_size
    found: list[Extent] = []
    for one in cut.bad:
        if found and found[-1].end == one.offset - start:
            found[-1] = Extent(found[-1].offset, found[-1].length + one.length)
        else:
            found.append(Extent(one.offset - start, one.length))
    if len(found) > MOST_RANGES:
        found = [Extent(found[0].offset, found[-1].end - found[0].offset)]
    return tuple(found)


def _touched(bad: tuple[Extent, ...], start: int, end: int) -> tuple[bool, bool]:
    """Whether a piece has bytes that could not be read, and has no others."""
    touched = any(one.offset < end and start < one.end for one in bad)
    return touched, any(one.offset <= start and end <= one.end for one in bad)
