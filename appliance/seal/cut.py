"""Cut: from a block's bytes to what a sink takes - digested, zero or not, compressed where it
pays. Pure.

One Cutter a thread: a zstd compressor is not shared.
"""

from functools import cache

import zstandard
from blake3 import blake3

from appliance.model import Codec, Cut, Digest, Extent

DEFAULT_LEVEL = 1
# A block is tried on 8 pieces of 4 KiB spread over it: level 1 takes 0.07 ms for them, 2 ms for a
# whole block.
_PIECES, _PIECE = 8, 4096
_PAYS = 15 / 16  # stored as it is unless it shrinks below this share


def digest(data: memoryview | bytes) -> Digest:
    """BLAKE3 of ``data``: the one digest everywhere."""
    return Digest(blake3(data).digest())


@cache
def _zeros(length: int) -> bytes:
    return bytes(length)


@cache
def zero_digest(length: int) -> Digest:
    """The digest of ``length`` zero bytes. A block is zero exactly when its digest is this one."""
    return digest(_zeros(length))


def _is_zero(data: memoryview) -> bool:
    """By comparison: a sixth of what its digest takes, and over at the first other byte."""
    return _zeros(len(data)).startswith(data)


class Cutter:
    """Cuts blocks. ``level`` 0 stores everything as it is; 1 to 19 are zstd's levels."""

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        self._zstd = zstandard.ZstdCompressor(level=level, write_checksum=False) if level else None

    def cut(self, index: int, data: memoryview, bad: tuple[Extent, ...] = ()) -> Cut:
        """One block's bytes as a Cut that borrows ``data``."""
        if _is_zero(data):
            return Cut(index, 1, len(data), zero_digest(len(data)), Codec.RAW, None, bad)
        found = digest(data)
        if self._zstd is not None and _may_pay(self._zstd, data):
            packed = self._zstd.compress(data)
            if len(packed) < len(data) * _PAYS:
                return Cut(index, 1, len(data), found, Codec.ZSTD, packed, bad)
        return Cut(index, 1, len(data), found, Codec.RAW, data, bad)


def _may_pay(zstd: zstandard.ZstdCompressor, data: memoryview) -> bool:
    if len(data) <= 4 * _PIECES * _PIECE:
        return True
    step = len(data) // _PIECES
    sample = b"".join(data[at : at + _PIECE] for at in range(0, _PIECES * step, step))
    return len(zstd.compress(sample)) < len(sample) * _PAYS


def zero_run(index: int, count: int) -> Cut:
    """Blocks known to be zero without being read, as holes in a file are."""
    return Cut(index, count, 0, Digest(bytes(32)), Codec.RAW, None)


class Expander:
    """Back from a stored payload to a block's bytes. One a thread."""

    MAX_WINDOW = 1 << 24  # bytes

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def expand(self, codec: Codec, stored: memoryview, plain: int) -> memoryview | bytes:
        """The ``plain`` bytes behind a payload; raises ValueError when they are not what it
        holds.
        """
        if codec is Codec.RAW:
            return stored
        try:
            params = zstandard.get_frame_parameters(stored)
            if stored[:4] != zstandard.FRAME_HEADER or params.dict_id:
                raise ValueError("it is not one frame without a dictionary")
            if params.window_size > self.MAX_WINDOW:
                raise ValueError("its window is larger than a reader need have")
            if params.content_size != plain:
                raise ValueError("its length is not the one announced")
            return self._zstd.decompress(stored, allow_extra_data=False)
        except zstandard.ZstdError as exc:
            raise ValueError("it does not decompress") from exc
