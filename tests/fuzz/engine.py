"""One target under atheris, in a process of its own.

    python -m tests.fuzz.engine REGISTRY TARGET [options of libFuzzer] [corpus ...]

An error that is no refusal by name ends it, as does an input that takes longer than -timeout, or
for which more than 512 MiB of memory are asked.
"""

import resource
import sys
from importlib import import_module
from pathlib import Path
from random import Random

import atheris  # type: ignore[import-untyped]

_ROOM = 512 << 20


def main() -> None:
    registry, name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["appliance"]):
        found = import_module(registry)
    target = found.TARGETS[name]
    attempt = import_module("tests.fuzz.target").attempt

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        made: bytes = target.mutate(data, most, Random(seed), havoc)
        return made[:most]

    def havoc(data: bytes, most: int) -> bytes:
        return bytes(atheris.Mutate(data[:most], max(most, 1)))

    with target.scene() as run:
        custom = {} if target.mutate is None else {"custom_mutator": mutate}
        # The peak that the kernel counts from is that of whoever started this process.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        limits = [f"-max_len={target.longest}", f"-rss_limit_mb={peak + 1024}"]
        arguments = [sys.argv[0], *limits, "-print_final_stats=1", "-verbosity=0", *options]
        atheris.Setup(arguments, lambda data: attempt(run, data) and None, **custom)
        _bound_memory()
        atheris.Fuzz()


def _bound_memory() -> None:
    """What asks for more than this from now on is told that there is none, and that is found."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
