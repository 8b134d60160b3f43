"""Version 1 of both formats is frozen: the vectors that were kept when it was stay as they are,
and the other tests read them. New ones may be added; to change one of these breaks what
was shipped.
"""

from pathlib import Path

import pytest
from blake3 import blake3

VECTORS = Path(__file__).parent / "vectors"
FROZEN = {
    "good-plain": ("4ab048c39eb66c5980b10284063f0d9431e26b4a83d303fcd7b1b141038f4ab9"),
    "good-spliced": ("e5bbebc7dbf1a2567b85ca945a97a31c1d227d310febd3325e400d25eafdd6b4"),
    "labels.json": ("f18eb580f77ffcef8a5bc273eec395f75a9c239f5bde7b4db6b857a8bdbdd3aa"),
    "wire/frames.json": ("12bae6b79374e3552ca815032ac3fc39c7d0a162c8918164a16c616e16f59f58"),
    "wire/primitives.json": ("cd03528daf51b6fdc8e739988209a28437b3419cd63f9de760c512e45184753e"),
}


def digest_of(place: Path) -> str:
    """Of all files at or below ``place``: names and contents, in order."""
    files = sorted(one for one in [place, *place.rglob("*")] if one.is_file())
    found = blake3()
    for one in files:
        data = one.read_bytes()
        found.update(f"{one.relative_to(VECTORS)} {len(data)}\n".encode() + data)
    return found.hexdigest()


@pytest.mark.parametrize("name", FROZEN)
def test_a_vector_of_version_1_is_what_it_was(name: str) -> None:
    assert digest_of(VECTORS / name) == FROZEN[name]
