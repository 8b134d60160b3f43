"""No chimeras: a keyed digest over samples of what was stored, by which a resumed job knows its
source again.

What the source itself says of its version comes first. Sampled are the first block, the last,
those where partitions begin, and evenly spaced blocks below the cursor: at most 64 of them, at
multiples of a power of two, so that the samples of an earlier cursor can be found again.
"""

from blake3 import blake3

from appliance.block import aligned_buffer
from appliance.model import Cut, Digest, SourceDisk, block_count, block_length
from appliance.seal.cut import digest, zero_digest

_SAMPLES = 64


def stride(cursor: int) -> int:
    """The distance of samples below ``cursor``: the smallest power of two that needs at most 64
    of them.
    """
    found = 1
    while cursor > found * _SAMPLES:
        found *= 2
    return found


class SampleWitness:
    """Witness over one opened source disk. ``key`` (32 bytes) is the job's own salt."""

    def __init__(self, source: SourceDisk, key: bytes, block_size: int) -> None:
        self._source, self._key, self.block_size = source, key, block_size
        self._size = source.facts.size
        self._buffer = aligned_buffer(block_size)
        last = block_count(self._size, block_size) - 1
        starts = {one.start // block_size for one in source.facts.parts}
        fixed = sorted({0, last, *(one for one in starts if one <= last)})
        self._fixed = source.version + b"".join(self._read(one) for one in fixed)
        self._samples: dict[int, Digest] = {}
        self._stride = 1

    def note(self, cut: Cut) -> None:
        """A block or zero run is about to be put."""
        end = cut.index + cut.count
        step = self._stride if cut.count == 1 else max(self._stride, stride(end))
        for index in range(-(-cut.index // step) * step, end, step):
            length = block_length(index, self._size, self.block_size)
            self._samples[index] = zero_digest(length) if cut.payload is None else cut.digest

    def guard(self, cursor: int) -> bytes:
        """Also forgets the samples that no later cursor needs."""
        self._stride = stride(cursor)
        self._samples = {at: one for at, one in self._samples.items() if not at % self._stride}
        found = blake3(self._fixed, key=self._key)
        found.update(cursor.to_bytes(8, "little"))
        for index in range(0, cursor, self._stride):
            found.update(self._samples[index])
        return found.digest()

    def trusts(self, cursor: int, guard: bytes) -> bool:
        """Read all samples below ``cursor`` again; they stay noted, so that later guards
        include them.
        """
        blocks = block_count(self._size, self.block_size)
        if cursor > blocks:
            return False
        self._samples = {index: self._read(index) for index in range(0, cursor, stride(cursor))}
        if self.guard(cursor) == guard:
            return True
        self._samples, self._stride = {}, 1  # the point starts anew, and so do its samples
        return False

    def _read(self, index: int) -> Digest:
        piece = self._buffer[: block_length(index, self._size, self.block_size)]
        self._source.readinto(index * self.block_size, piece)
        return digest(piece)
