"""Where benchmarks work, how large their disks are, and how often each pair is run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import images
from benchmarks.images import GIB, MIB
from benchmarks.measure import Command
from benchmarks.motiongear import MotionGear
from benchmarks.rivals import Rivals
from benchmarks.stages import Profile, can_profile, sampled, waited


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. ``linear`` is the smallest of three disks, each four times as large as the one
    before, of which an eighth is data.
    """

    disk: int = 4 * GIB
    template: int = 512 * MIB
    clones: int = 4
    sparse: int = 1024 * GIB
    sparse_data: int = GIB
    several: int = 3 * GIB // 2
    linear: int = GIB


QUICK = Sizes(
    disk=64 * MIB,
    template=32 * MIB,
    clones=3,
    sparse=4 * GIB,
    sparse_data=64 * MIB,
    several=32 * MIB,
    linear=32 * MIB,
)
_STRETCHES = 64  # into which the data of a sparse disk are scattered
_THIRD = 1 / 3


@dataclass(frozen=True, slots=True)
class Room:
    """A directory to work in, and what stands ready there."""

    place: Path
    sizes: Sizes
    rounds: int

    @property
    def fewer(self) -> int:
        """Rounds where what is told needs no fine median."""
        return max(1, self.rounds - 2)

    def motiongear(self) -> MotionGear:
        return MotionGear(self.place / "motiongear")

    def rivals(self) -> Rivals:
        return Rivals(self.place / "rivals")

    # --- disks, made when first asked for ---

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self.place / name
        if not path.exists():
            make(path)
        return path

    def files(self) -> Path:
        """An ext4, a third full of real files."""
        size = self.sizes.disk
        return self._made("files.img", lambda path: images.disk_of_files(path, size, _THIRD))

    def noise(self) -> Path:
        """Half of it does not compress."""
        size = self.sizes.disk
        return self._made("noise.img", lambda path: images.disk_half_noise(path, size))

    def template(self) -> Path:
        size = self.sizes.template
        return self._made("template.img", lambda path: images.disk_of_files(path, size, _THIRD))

    def clones(self) -> Path:
        count = self.sizes.clones
        return self._made(
            "clones.img", lambda path: images.disk_of_clones(path, self.template(), count)
        )

    def sparse(self, name: str, size: int) -> Path:
        data = self.sizes.sparse_data
        return self._made(
            name, lambda path: images.sparse_disk(path, size, data, data // _STRETCHES)
        )

    def linear(self, steps: int) -> Path:
        step = self.sizes.linear
        return self._made(
            f"linear{steps}.img",
            lambda path: images.linear_disk(path, steps, step, step // 8),
        )

    def several(self, number: int) -> Path:
        size = self.sizes.several
        return self._made(
            f"disk{number}.img",
            lambda path: images.disk_of_files(path, size, _THIRD, seed=10 + number),
        )

    # --- where the time goes ---

    def profile(self, ready: Callable[[], Command]) -> Profile | None:
        """Two runs of their own, one under perf, one under perf trace; None without perf."""
        if not can_profile():
            return None
        cpu, top = sampled(ready(), self.place)
        return Profile(cpu, waited(ready()), top)
