"""Statement coverage of a target's parsers by a corpus, and what of the corpus is worth keeping.

python -m tests.fuzz.cover TARGET DIRECTORY ...         prints the percent of each module
python -m tests.fuzz.cover --keep TARGET DIRECTORY ...  reduces them into the kept corpus
"""

import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from coverage import Coverage

_ROOT = Path(__file__).parents[2]
_MOST_KEPT = 16 << 10  # bytes of a kept corpus: small enough to read through
FIXED = "fixed-"  # such an input once broke the target: it is kept whatever it reaches


def _inputs(directories: list[str]) -> Iterator[bytes]:
    for one in directories:
        for path in sorted(Path(one).iterdir()):
            yield path.read_bytes()


def main(options: list[str]) -> None:
    keep = options[0] == "--keep"
    name, *directories = options[keep:]
    (_keep if keep else _cover)(name, directories)


def _cover(name: str, directories: list[str]) -> None:
    cover = Coverage(data_file=None, config_file=False, source=[str(_ROOT / "appliance")])
    cover.start()
    from tests.fuzz.registry import TARGETS  # noqa: PLC0415 - what importing runs counts
    from tests.fuzz.target import attempt  # noqa: PLC0415 - the same

    target = TARGETS[name]
    with target.scene() as run:
        for data in _inputs(directories):
            attempt(run, data)
    cover.stop()
    json.dump({one: _percent(cover, one) for one in target.modules}, sys.stdout)


def _percent(cover: Coverage, module: str) -> float:
    _, statements, _, missing, _ = cover.analysis2(str(_ROOT / module))
    return round(100 * (1 - len(missing) / len(statements)), 1)


def _keep(name: str, directories: list[str]) -> None:
    from tests.fuzz.registry import TARGETS  # noqa: PLC0415 - only here is it not to be measured
    from tests.fuzz.tracing import distilled  # noqa: PLC0415 - the same

    target = TARGETS[name]
    target.corpus.mkdir(parents=True, exist_ok=True)
    there = list(_inputs([str(target.corpus), *directories]))
    fixed = [one.read_bytes() for one in target.corpus.glob(f"{FIXED}*")]
    with target.scene() as run:
        kept = distilled(run, there, _MOST_KEPT)
    for path in target.corpus.iterdir():
        if not path.name.startswith(FIXED):
            path.unlink()
    for data in kept:
        if data not in fixed:
            (target.corpus / sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1:])
