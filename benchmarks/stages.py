"""Where the time goes: the kernel's own samples of a run (perf), sorted into stages by the library
and the function that was running, and the time spent waiting inside system calls.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Command, prepare, shell
from benchmarks.rivals import have

_HERTZ = 997
_MEMORY = (
    r"clear_page|clear_huge|page_fault|_fault|folio_alloc|alloc_pages|zap_|unmap|get_page_from"
    r"|free_unref|mlock|lru_"
)
_READING = (
    r"copy_to_|copy_page_to|filemap_read|filemap_get|rep_movs|copy_user_generic|readahead"
    r"|ext4_.*read"
)
_WRITING = (
    r"copy_.*from|iov_iter|ext4|jbd2|write|dirty|balance|folio|filemap|blk|bio|virtio|submit|io_"
)
# The first that fits counts: (library, function, stage).
_STAGES = (
    (r"zstandard|libzstd|backend_c", r"", "zstd"),
    (r"blake3", r"", "blake3"),
    (r"_rust\.abi3", r"fill_block|argon", "Argon2 (unlocking the key)"),
    (r"_rust\.abi3|libcrypto", r"", "AES-GCM, key wrapping"),
    (r"libc\.so|libc-|vdso", r"mem(cpy|move|set|cmp)|avx|erms", "copies in user space"),
    (r"kernel", _MEMORY, "kernel: memory (page faults)"),
    (r"kernel", _READING, "kernel: reading files"),
    (r"kernel", _WRITING, "kernel: writing files, block layer"),
    (r"kernel", r"", "kernel: other (switches, wake-ups, calls)"),
    (r"python|sqlite|libc|cffi|ld-linux|\.so", r"", "Python"),
    (r"", r"", "other"),
)
_CALLS = "read,pread64,preadv,write,pwrite64,pwritev,fsync,fdatasync,sync_file_range,fallocate"
_ROW = re.compile(r"^\s*(?P<name>\w+)\s+(?P<calls>\d+)\s+(?P<errors>\d+)\s+(?P<ms>[\d.]+)\s")


@dataclass(frozen=True, slots=True)
class Profile:
    """``cpu`` are shares of all samples by stage, ``waits`` seconds inside system calls, threads
    added up, and ``top`` the functions that most samples were in.
    """

    cpu: dict[str, float]
    waits: dict[str, tuple[int, float]]
    top: list[tuple[float, str]]


def can_profile() -> bool:
    return have("perf")


def stage_of(library: str, function: str) -> str:
    """The stage that a sampled function belongs to."""
    return next(
        name
        for in_library, in_function, name in _STAGES
        if re.search(in_library, library) and re.search(in_function, function)
    )


def sampled(command: Command, place: Path) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """Run the command under perf; shares by stage, and the functions at the top."""
    data = place / "perf.data"
    record = ("perf", "record", "-q", "-F", str(_HERTZ), "-o", str(data), "--")
    prepare(Command((*record, *command.argv), command.env, command.stdin, command.ok))
    script = 'perf report -q -i "$1" --no-children --sort dso,sym -t ";" -F overhead,dso,sym'
    shares: dict[str, float] = {}
    top: list[tuple[float, str]] = []
    for line in prepare(shell(f"{script} 2>/dev/null", data)).splitlines():
        share, _, where = line.partition("%")
        if not where:
            continue
        library, _, function = where.strip(" ;").partition(";")
        stage = stage_of(library, function)
        shares[stage] = shares.get(stage, 0.0) + float(share)
        top.append((float(share), f"{library.strip()}: {function.strip()} ({stage})"))
    data.unlink()
    return dict(sorted(shares.items(), key=lambda one: -one[1])), sorted(top, reverse=True)[:12]


def waited(command: Command) -> dict[str, tuple[int, float]]:
    """Run the command under perf trace; calls and seconds inside each file system call."""
    trace = ("perf", "trace", "-s", "-e", _CALLS, "-o", "/dev/stdout", "--")
    said = prepare(Command((*trace, *command.argv), command.env, command.stdin, command.ok))
    found: dict[str, tuple[int, float]] = {}
    for line in said.splitlines():
        if row := _ROW.match(line):
            calls, seconds = found.get(row["name"], (0, 0.0))
            found[row["name"]] = calls + int(row["calls"]), seconds + float(row["ms"]) / 1000
    return dict(sorted(found.items(), key=lambda one: -one[1][1]))
