"""Yardsticks: the least that has to be done, and nothing else.

Use as ``python -m benchmarks.sketches`` with:

hash FILE...            blake3 on all cores over the page cache's view of each file (as b3sum)
hash-direct FILE...     the same, read past the page cache
patch SOURCE REPLICA    whole blocks of 1 MiB that differ, found by digest, copied and synced
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blake3 import blake3

from appliance.block import aligned_buffer, stream_past_cache

_BLOCK = 1 << 20
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


if __name__ == "__main__":
    verb, paths = sys.argv[1], [Path(one) for one in sys.argv[2:]]
    if verb == "hash":
        hash_mapped(paths)
    elif verb == "hash-direct":
        hash_direct(paths)
    else:
        patch(*paths)
