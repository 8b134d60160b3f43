"""What people use today, as well as it can be used: encryption on, output synced."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.images import size_on_disk
from benchmarks.measure import Command, prepare, shell
from benchmarks.pairs import Contender

_SECRET = {"BORG_PASSPHRASE": "a passphrase", "RESTIC_PASSWORD": "a passphrase"}
# fsync of every file, not sync of the file system: others may write to it too.
_SYNCED = 'find "$1" -type f -exec sync {} +'


class Rivals:
    """Rivals that keep what they write below ``place``; who is not installed is not asked."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._out = place / "out"
        place.mkdir(parents=True, exist_ok=True)
        self._env = {
            **_SECRET,
            "BORG_BASE_DIR": str(place / "borg-home"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
            "RESTIC_CACHE_DIR": str(place / "restic-cache"),
        }
        self.age_key = place / "age.key"

    def left(self) -> int:
        return size_on_disk(self._out)

    def age_recipient(self) -> str:
        if not self.age_key.exists():
            prepare(Command(("age-keygen", "-o", str(self.age_key))))
        return prepare(Command(("age-keygen", "-y", str(self.age_key)))).strip()

    def _emptied(self, *, directory: bool) -> None:
        for one in (self._out, self._place / "borg-home", self._place / "restic-cache"):
            if one.is_dir():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)
        if directory:
            self._out.mkdir()

    def _file(self, name: str, script: str, *args: object) -> Contender:
        """A pipeline that writes one file, $1."""

        def ready() -> Sequence[Command]:
            self._emptied(directory=False)
            return [shell(script, self._out, *args)]

        return Contender(name, ready, self.left)

    def _repository(self, name: str, init: str, script: str, image: Path) -> Contender:
        """A program that keeps a repository at $1, which is made untimed."""

        def ready() -> Sequence[Command]:
            self._emptied(directory=True)
            prepare(shell(init, self._out, env=self._env))
            return [shell(f"{script}; {_SYNCED}", self._out, image, env=self._env)]

        return Contender(name, ready, self.left)

    # --- storing ---

    def zstd_age(self, image: Path) -> Contender:
        script = 'zstd -q -1 -T0 -c "$2" | age -r "$3" >"$1"; sync "$1"'
        return self._file("zstd -1 -T0 | age", script, image, self.age_recipient())

    def zstd_file(self, image: Path) -> Contender:
        script = 'zstd -q -1 -T0 -c "$2" >"$1"; sync "$1"'
        return self._file("zstd -1 -T0 > file, no encryption", script, image)

    def zstd_null(self, image: Path) -> Contender:
        def ready() -> Sequence[Command]:
            return [shell('zstd -q -1 -T0 -c "$1" >/dev/null', image)]

        return Contender("zstd -1 -T0 > /dev/null", ready)

    def sketch(self, image: Path) -> Contender:
        """No rival but a bound: what an ingest cannot do without, and nothing else."""

        def ready() -> Sequence[Command]:
            self._emptied(directory=False)
            return [
                Command(
                    (
                        sys.executable,
                        "-m",
                        "benchmarks.sketches",
                        "store",
                        str(image),
                        str(self._out),
                    )
                )
            ]

        return Contender("the bare work, a sketch", ready, self.left)

    def borg(self, image: Path) -> Contender:
        options = (
            "--read-special --chunker-params fixed,1048576 --compression zstd,1 "
            "--files-cache disabled"
        )
        init = 'borg init --encryption repokey-blake2 "$1"'
        return self._repository("borg", init, f'borg create {options} "$1::one" "$2"', image)

    def restic(self, image: Path) -> Contender:
        init = 'restic init --quiet --repo "$1"'
        script = 'restic backup --quiet --repo "$1" --stdin --stdin-filename disk.img <"$2"'
        return self._repository("restic", init, script, image)

    def storing(self, image: Path) -> list[Contender]:
        """All that are installed, and what zstd alone makes of it."""
        wanted: list[tuple[tuple[str, ...], Callable[[Path], Contender]]] = [
            (("zstd", "age"), self.zstd_age),
            (("borg",), self.borg),
            (("restic",), self.restic),
            (("zstd",), self.zstd_file),
        ]
        return [make(image) for needs, make in wanted if have(*needs)]

    # --- restoring ---

    def age_zstd(self, image: Path, *, sparse: bool) -> Contender:
        """``image`` comes back; it is stored untimed, and ``sparse`` leaves holes for zeros."""
        kept = self._place / "kept.zst.age"
        if not kept.exists():
            script = 'zstd -q -1 -T0 -c "$2" | age -r "$3" >"$1"; sync "$1"'
            prepare(shell(script, kept, image, self.age_recipient()))
        into = '-f -o "$1"' if sparse else '-c >"$1"'
        script = f'age -d -i "$2" "$3" | zstd -q -d {into}; sync "$1"'
        name = "age -d | zstd -d -o volume (holes)" if sparse else "age -d | zstd -d > volume"
        return self._file(name, script, self.age_key, kept)


def have(*programs: str) -> bool:
    return all(shutil.which(one, path=os.environ.get("PATH")) for one in programs)
