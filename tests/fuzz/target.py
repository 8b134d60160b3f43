"""What is fuzzed: a parser, what it may answer, where its first inputs come from."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from appliance.errors import MotionGearError

Run = Callable[[bytes], object]
# libFuzzer's own mutation of some bytes, to at most so many.
Havoc = Callable[[bytes, int], bytes]
Mutate = Callable[[bytes, int, Random, Havoc], bytes]
CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Target:
    """A parser of foreign bytes. ``scene`` sets up what it needs for as long as it lasts, and
    gives the function that is fuzzed; ``modules`` are the files whose coverage is reported;
    ``longest`` is the most bytes of an input.
    """

    name: str
    modules: tuple[str, ...]
    scene: Callable[[], AbstractContextManager[Run]]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Mutate | None = None
    longest: int = 4096

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name


def attempt(run: Run, data: bytes) -> bool:
    """Whether the input was taken. To be refused by name is the only other thing that may
    happen to it: every other error is a finding.
    """
    try:
        run(data)
    except MotionGearError:
        return False
    return True


def steady(run: Run) -> Callable[[], AbstractContextManager[Run]]:
    """The scene of a function that needs nothing."""

    @contextmanager
    def scene() -> Iterator[Run]:
        yield run

    return scene
