"""Catch-up after scattered change against rsync and a compare of whole blocks."""

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import images
from benchmarks.line import catch_up, enrolled
from benchmarks.measure import Command, prepare, run, shell
from benchmarks.pairs import Contender, Trial, contest
from benchmarks.report import Bar, Section, contest_table, profile_text, table
from benchmarks.rivals import have
from benchmarks.room import Room

_SHARE = 0.01
_RSH = '#!/bin/sh\n# The other host is this one.\nshift\nexec sh -c "$*"\n'


@dataclass(slots=True)
class Changes:
    """A source that is written to again and again; a replica is one change behind it."""

    source: Path
    turn: int = 0
    pieces: int = 0
    behind: dict[Path, int] = field(default_factory=dict)

    def more(self) -> None:
        self.turn += 1
        self.pieces = images.scatter(self.source, _SHARE, self.turn)

    def copy(self, replica: Path) -> Path:
        """A replica as it is now, with holes for zeros, as ours has them."""
        prepare(Command(("cp", "--sparse=always", str(self.source), str(replica))))
        self.behind[replica] = self.turn
        return replica

    def bring_up(self, replica: Path) -> None:
        """Give it every change but the last."""
        for turn in range(self.behind[replica] + 1, self.turn):
            images.scatter(replica, _SHARE, turn)
        self.behind[replica] = self.turn


def catchup(room: Room) -> Section:
    place = room.place / "line"
    place.mkdir()
    source, product = room.files(), room.motiongear()
    changes = Changes(source)
    with enrolled(product, place / "gate") as relay:
        first = run([catch_up(product, relay, source, new=True)])
        first_bytes = relay.taken()
        lines: list[tuple[int, int]] = []

        def ready() -> Sequence[Command]:
            changes.more()
            relay.taken()
            return [catch_up(product, relay, source)]

        def left() -> int:
            lines.append((relay.taken(), changes.pieces))
            return 0

        ours = Contender("motiongear catch-up", ready, left)
        rivals = _rivals(changes, place)
        found = contest(ours, rivals, room.fewer, lambda: images.read_once(source))
        profile = room.profile(lambda: ready()[0])
    told = Section("Catch-up: after 1 % scattered change")
    size = source.stat().st_size
    told.add(
        f"{changes.pieces >> 16} pieces of 64 KiB, scattered over {size / images.GIB:g} GiB, "
        "written anew with bytes that do not compress. Both ends are on this machine; ours goes "
        "through TLS. The time is that of the sender's command.",
        contest_table(found, size),
        _bytes_table(found.trials, found.names, lines),
        f"The first round, onto an empty volume: {first.seconds:.2f} s, "
        f"{first_bytes / 1e6:.0f} MB over the line.",
    )
    if profile is not None:
        told.add("Where the sender's time goes:", *profile_text(profile))
    sent = median(line / pieces for line, pieces in lines)
    text = "catch-up, bytes over the line against the changed pieces"
    told.bars.append(Bar(text, 1.2, sent, at_least=False))
    shutil.rmtree(place)
    source.unlink()
    return told


def _rivals(changes: Changes, place: Path) -> list[Contender]:
    sketch = (sys.executable, "-m", "benchmarks.sketches", "patch")
    rsh = place / "rsh"
    rsh.write_text(_RSH)
    rsh.chmod(0o755)
    script = 'rsync --inplace --no-whole-file -I --stats -e "$1" "$2" "here:$3"; sync "$3"'

    def rsync(replica: Path) -> Command:
        return shell(script, rsh, changes.source, replica)

    def patch(replica: Path) -> Command:
        return Command((*sketch, str(changes.source), str(replica)))

    wanted: list[tuple[str, str, Callable[[Path], Command]]] = [
        ("rsync", "rsync --inplace --no-whole-file", rsync),
        (sys.executable, "compare of whole blocks, no line", patch),
    ]
    return [
        _rival(name, changes, place / f"{turn}.img", command)
        for turn, (program, name, command) in enumerate(wanted)
        if have(program)
    ]


def _rival(
    name: str, changes: Changes, replica: Path, command: Callable[[Path], Command]
) -> Contender:
    changes.copy(replica)

    def ready() -> Sequence[Command]:
        changes.bring_up(replica)
        return [command(replica)]

    return Contender(name, ready)


def _bytes_table(
    trials: Callable[[str], list[Trial]], names: Sequence[str], lines: list[tuple[int, int]]
) -> str:
    """What went over the line, beside the pieces that had changed."""
    pieces = median(changed for _, changed in lines)
    told = [(names[0], median(line for line, _ in lines))]
    for name in names[1:]:
        found = [_bytes_told(one) for one in trials(name)]
        told.append((name, median(found)))
    body = [(name, f"{sent / 1e6:.1f}", f"{sent / pieces:.2f}") for name, sent in told]
    return table(("", "MB over the line", "times the changed pieces"), body)


def _bytes_told(one: Trial) -> int:
    """What rsync has counted, or the bytes of the blocks that the sketch copied."""
    text = "".join(line for _, line in one.cost.lines)
    found = re.findall(r"Total bytes (?:sent|received): ([\d,]+)", text)
    return sum(int(each.replace(",", "")) for each in found or [text.strip()])
