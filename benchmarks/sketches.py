"""Yardsticks: the least that has to be done, and nothing else.

Use as ``python -m benchmarks.sketches`` with:

hash FILE...            blake3 on all cores over the page cache's view of each file (as b3sum)
hash-direct FILE...     the same, read past the page cache
patch SOURCE REPLICA    whole blocks of 1 MiB that differ, found by digest, copied and synced
store SOURCE FILE       blocks of 1 MiB digested, compressed and encrypted on all cores, synced;
                        nothing is checked, told, kept for a resume or read back
"""

import os
import sys
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from zstandard import ZstdCompressor

from appliance.block import aligned_buffer, stream_past_cache

_BLOCK = 1 << 20
_ZEROS = bytes(_BLOCK)
_PIECE = 8 << 20


def hash_mapped(paths: list[Path]) -> None:
    for path in paths:
        found = blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
        print(found, path)  # noqa: T201


def hash_direct(paths: list[Path]) -> None:
    buffer = aligned_buffer(_PIECE)
    for path in paths:
        found = blake3(max_threads=blake3.AUTO)
        stream_past_cache(path, buffer, found.update)
        print(found.hexdigest(), path)  # noqa: T201


def _patch_block(source: int, replica: int, at: int) -> int:
    """Copies one block if it differs; returns the bytes copied."""
    ours, theirs = os.pread(source, _BLOCK, at), os.pread(replica, _BLOCK, at)
    if blake3(ours).digest() == blake3(theirs).digest():
        return 0
    return os.pwrite(replica, ours, at)


def patch(source: Path, replica: Path) -> None:
    """Prints the bytes of the blocks that were copied."""
    reading, writing = os.open(source, os.O_RDONLY), os.open(replica, os.O_RDWR)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = range(0, source.stat().st_size, _BLOCK)
        copied = sum(pool.map(lambda at: _patch_block(reading, writing, at), blocks))
    os.fsync(writing)
    print(copied)  # noqa: T201


class _Storing:
    """What a whole ingest cannot do without, and nothing else."""

    def __init__(self, source: int) -> None:
        self._source, self._key = source, AESGCM(AESGCM.generate_key(128))
        self._own = threading.local()

    def block(self, at: int) -> bytes:
        """The record of a block, empty for zeros."""
        if not hasattr(self._own, "buffer"):
            self._own.buffer, self._own.zstd = bytearray(_BLOCK), ZstdCompressor(level=1)
        data = memoryview(self._own.buffer)[: os.preadv(self._source, [self._own.buffer], at)]
        if data == _ZEROS[: len(data)]:
            return b""
        digest = blake3(data).digest()
        packed = self._own.zstd.compress(data)
        return digest + self._key.encrypt(at.to_bytes(12), packed, None)


def store(source: Path, target: Path) -> None:
    """Prints the bytes stored."""
    reading, workers = os.open(source, os.O_RDONLY), os.cpu_count() or 1
    storing, size = _Storing(reading), source.stat().st_size
    flying: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(workers) as pool, target.open("wb", _BLOCK) as out:
        for at in range(0, size, _BLOCK):
            flying.append(pool.submit(storing.block, at))
            if len(flying) > 8 * workers:
                out.write(flying.popleft().result())
        while flying:
            out.write(flying.popleft().result())
        out.flush()
        os.fsync(out.fileno())
        print(out.tell())  # noqa: T201


if __name__ == "__main__":
    verb, paths = sys.argv[1], [Path(one) for one in sys.argv[2:]]
    if verb == "hash":
        hash_mapped(paths)
    elif verb == "hash-direct":
        hash_direct(paths)
    elif verb == "store":
        store(*paths)
    else:
        patch(*paths)
