"""Cutting: digest, zeros, compression where it pays; and back, within the length announced."""

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import Codec, Extent
from appliance.seal.cut import Cutter, Expander, digest, zero_digest, zero_run
from tests.forge import windowed
from tests.support import BLOCK

SIZE = 1 << 18
WORDS = (b"the quick brown fox " * SIZE)[:SIZE]


@given(st.binary(min_size=1, max_size=300), st.integers(0, 300), st.integers(0, 3))
def test_a_block_comes_back_from_its_cut(data: bytes, times: int, level: int) -> None:
    block = data * (times + 1)
    cut = Cutter(level).cut(5, memoryview(block))
    assert (cut.index, cut.count, cut.length, cut.digest) == (5, 1, len(block), digest(block))
    if cut.payload is None:
        assert block.count(0) == len(block)
        assert cut.digest == zero_digest(len(block))
    else:
        found = Expander().expand(cut.codec, memoryview(cut.payload), len(block))
        assert bytes(found) == block
        assert len(cut.payload) <= len(block)


def test_text_is_compressed_and_noise_is_not() -> None:
    noise = os.urandom(SIZE)
    cutter = Cutter()
    assert cutter.cut(0, memoryview(WORDS)).codec is Codec.ZSTD
    assert cutter.cut(0, memoryview(noise)).codec is Codec.RAW
    assert Cutter(0).cut(0, memoryview(WORDS)).codec is Codec.RAW
    assert Cutter(0).cut(0, memoryview(WORDS[:100])).codec is Codec.RAW
    small = cutter.cut(0, memoryview(noise[:1000]))
    assert small.codec is Codec.RAW


def test_a_block_whose_sample_shrinks_but_not_the_whole_is_stored_as_it_is() -> None:
    data = bytearray(os.urandom(SIZE))
    for at in range(0, SIZE, SIZE // 8):
        data[at : at + 400] = bytes(400)
    assert Cutter().cut(0, memoryview(data)).codec is Codec.RAW


def mixed(size: int, noise: int, pieces: int = 8) -> memoryview:
    """Words, but for so many random bytes at the front of each piece of the block."""
    data = bytearray(WORDS[:size])
    step = size // pieces
    for at in range(0, pieces * step, step):
        data[at : at + noise] = os.urandom(noise)
    return memoryview(data)


def test_a_block_is_judged_by_eight_pages_spread_over_it() -> None:
    """A whole block takes thirty times as long to try."""
    cutter = Cutter()
    assert cutter.cut(0, mixed(SIZE, 4096)).codec is Codec.RAW
    assert cutter.cut(0, mixed(SIZE, 4096, pieces=1)).codec is Codec.ZSTD
    assert cutter.cut(0, mixed(SIZE, 2048)).codec is Codec.ZSTD


def test_a_small_block_is_tried_as_a_whole() -> None:
    cutter = Cutter()
    assert cutter.cut(0, mixed(1 << 17, 4096)).codec is Codec.ZSTD
    assert cutter.cut(0, mixed((1 << 17) + 8, 4096)).codec is Codec.RAW


def test_compressed_is_what_shrinks_by_a_sixteenth() -> None:
    size = 1 << 17
    enough = Cutter().cut(0, mixed(size, size // 8 - size // 96))  # a twelfth is words
    assert enough.codec is Codec.ZSTD
    assert enough.payload is not None
    assert size * 14 // 16 < len(enough.payload) < size * 15 // 16
    too_little = Cutter().cut(0, mixed(size, size // 8 - size // 200))  # a twenty-fifth
    assert too_little.codec is Codec.RAW


def test_a_frame_carries_no_checksum_of_its_own() -> None:
    payload = Cutter().cut(0, memoryview(WORDS)).payload
    assert payload is not None
    assert not zstandard.get_frame_parameters(payload).has_checksum


def test_unreadable_bytes_travel_with_a_block_of_zeros() -> None:
    bad = (Extent(512, 512),)
    cut = Cutter().cut(3, memoryview(bytes(4096)), bad)
    assert (cut.payload, cut.bad) == (None, bad)
    run = zero_run(7, 9)
    assert (run.index, run.count, run.payload, run.bad) == (7, 9, None, ())
    assert (run.length, run.digest, run.codec) == (0, bytes(32), Codec.RAW)


@pytest.mark.parametrize(
    "stored",
    [
        zstandard.ZstdCompressor().compress(WORDS[:999]),
        zstandard.ZstdCompressor(write_content_size=False).compress(WORDS[:1000]),
        zstandard.ZstdCompressor().compress(WORDS[:1000])[:-1],
        zstandard.ZstdCompressor().compress(WORDS[:1000]) + b"more",
        zstandard.ZstdCompressor().compress(bytes(1 << 30)),
        b"\x50\x2a\x4d\x18" + (1000).to_bytes(4, "little") + bytes(1000),
        WORDS[:1000],
        b"\x28",
    ],
    ids=["shorter", "no size", "cut", "trailing", "bomb", "skippable", "no frame", "a byte"],
)
def test_a_frame_that_is_not_the_length_announced_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match=r"length|decompress|one frame"):
        Expander().expand(Codec.ZSTD, memoryview(stored), 1000)


SKIPPED = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (SKIPPED + zstandard.compress(b"12345"), 5),
        (SKIPPED[:4] + bytes(4), 0),
        (b"\x28\xb5\x2f\xfd\x21\x07\x05" + b"\x29\0\0" + b"12345", 5),
    ],
    ids=["skippable before a frame", "nothing but skippable", "names a dictionary"],
)
def test_anything_but_one_frame_without_a_dictionary_is_refused(stored: bytes, plain: int) -> None:
    with pytest.raises(ValueError, match="one frame without a dictionary"):
        Expander().expand(Codec.ZSTD, memoryview(stored), plain)


def test_a_window_of_16_mib_is_read_and_a_larger_one_refused() -> None:
    assert Expander().expand(Codec.ZSTD, memoryview(windowed(24 - 10 << 3)), BLOCK) == b"x" * BLOCK
    for above in (24 - 10 << 3 | 1, 25 - 10 << 3, 31 - 10 << 3):
        with pytest.raises(ValueError, match="window"):
            Expander().expand(Codec.ZSTD, memoryview(windowed(above)), BLOCK)


def test_a_checksum_is_checked() -> None:
    stored = zstandard.ZstdCompressor(write_checksum=True).compress(WORDS[:1000])
    assert Expander().expand(Codec.ZSTD, memoryview(stored), 1000) == WORDS[:1000]
    wrong = stored[:-1] + bytes([stored[-1] ^ 1])
    with pytest.raises(ValueError, match="decompress"):
        Expander().expand(Codec.ZSTD, memoryview(wrong), 1000)
