"""Where pages of a store's packs lie on their disk, and what reads there once they are erased.

The disk is read below the file system and past the page cache. What the disk itself keeps behind
those addresses (a flash disk's spare blocks) nobody can read: nothing is said of it.
"""

import errno
import os
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.block import (
    PAGE,
    aligned_buffer,
    device_node,
    opened,
    opened_past_cache,
    physical_place,
    pread_full,
)
from appliance.events import Json
from appliance.language import marked
from appliance.seal import canon
from appliance.seal.certificate import Seen
from appliance.seal.cut import digest

# Where one page in a hundred has stayed, 256 miss all of those in 8 cases of a hundred.
MOST_PAGES = 256
NO_DEVICE = marked("the file system lies on no disk that can be looked at")
NOT_PERMITTED = marked("reading the disk is not permitted here")
NO_PLACE = marked("the file system does not tell where the pages lie")
ELSEWHERE = marked("the disk did not hold the pages where the file system said")
UNREADABLE = marked("the disk could not be read")
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a pack: ``at`` is its place on the disk in bytes, ``digest`` what it held."""

    at: int
    digest: str


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages that were found on the ``device`` with that node and number (st_rdev) just as the
    packs hold them. ``missed`` others were looked for in vain, and ``why``.
    """

    node: str = ""
    number: int = 0
    pages: tuple[Page, ...] = ()
    missed: int = 0
    why: str = ""


def write_pages(found: Pages) -> Json:
    return {
        "missed": found.missed,
        "node": found.node,
        "number": found.number,
        "pages": [{"at": one.at, "digest": one.digest} for one in found.pages],
        "why": found.why,
    }


def parse_pages(fields: canon.Fields) -> Pages:
    return Pages(
        node=fields.text("node", 256),
        number=fields.number("number"),
        pages=tuple(
            Page(one.number("at"), one.hex("digest", 32))
            for one in fields.objects("pages", MOST_PAGES)
        ),
        missed=fields.number("missed"),
        why=fields.text("why", 256),
    )


class _Lost(Exception):  # noqa: N818 - no error: one page cannot be looked at
    """Why a page cannot be looked at, in words."""


def note(files: Sequence[tuple[Path, int]]) -> Pages:
    """Choose pages of these files (path, size in bytes), each as likely as the others, and find
    them on the disk. Zeros are passed over: they would look erased beforehand.
    """
    if not files:
        return Pages()
    number = files[0][0].stat().st_dev
    node = device_node(number)
    chosen = _chosen(files)
    if node is None:
        return Pages(missed=len(chosen), why=NO_DEVICE)
    try:
        with opened_past_cache(node) as disk:
            return _found(chosen, Pages(str(node), number), disk)
    except OSError as exc:
        return Pages(str(node), number, missed=len(chosen), why=_reason(exc))


def _reason(exc: OSError) -> str:
    return NOT_PERMITTED if exc.errno in {errno.EACCES, errno.EPERM} else UNREADABLE


def _chosen(files: Sequence[tuple[Path, int]]) -> list[tuple[Path, int]]:
    counts = [size // PAGE for _, size in files]
    total = sum(counts)
    left = sorted(_random.sample(range(total), min(total, MOST_PAGES)))
    chosen, before = [], 0
    for (path, _), count in zip(files, counts, strict=True):
        while left and left[0] < before + count:
            chosen.append((path, (left.pop(0) - before) * PAGE))
        before += count
    return chosen


def _found(chosen: Sequence[tuple[Path, int]], pages: Pages, disk: int) -> Pages:
    found: list[Page] = []
    lost: Counter[str] = Counter()
    buffer = aligned_buffer(PAGE)
    for path, offset in chosen:
        try:
            page = _page(path, offset, disk, buffer)
        except _Lost as exc:
            lost[str(exc)] += 1
            continue
        if page is not None:
            found.append(page)
    why = lost.most_common(1)[0][0] if lost else ""
    return replace(pages, pages=tuple(found), missed=lost.total(), why=why)


def _page(path: Path, offset: int, disk: int, buffer: memoryview) -> Page | None:
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
        try:
            held, at = os.pread(fd, PAGE, offset), physical_place(fd, offset)
        except OSError as exc:
            raise _Lost(NO_PLACE) from exc
    if not any(held):
        return None
    if at is None:
        raise _Lost(NO_PLACE)
    if _read(disk, at, buffer) != held:
        raise _Lost(ELSEWHERE)
    return Page(at, digest(held).hex())


def _read(disk: int, at: int, buffer: memoryview) -> bytes:
    with suppress(OSError):
        return bytes(buffer[: pread_full(disk, at, buffer)])
    return b""


def look_again(noted: Pages, number: int | None) -> Seen:
    """What reads by now at the places noted, on the device with that number (st_dev): the one that
    the store lies on. None where it may be another one than before.
    """
    seen = Seen(len(noted.pages), not_seen=noted.missed, device=noted.node, why=noted.why)
    if not noted.pages:
        return seen
    unseen = replace(seen, not_seen=noted.missed + len(noted.pages))
    if number != noted.number or device_node(noted.number) != Path(noted.node):
        # It was taken away since, or goes by another number: what has this one is another disk.
        return replace(unseen, why=NO_DEVICE)
    try:
        with opened_past_cache(noted.node) as disk:
            return _compared(noted, seen, disk)
    except OSError as exc:
        return replace(unseen, why=_reason(exc))


def _compared(noted: Pages, seen: Seen, disk: int) -> Seen:
    buffer = aligned_buffer(PAGE)
    as_before = zeros = other = not_seen = 0
    for one in noted.pages:
        held = _read(disk, one.at, buffer)
        if len(held) < PAGE:
            not_seen += 1
        elif not any(held):
            zeros += 1
        elif digest(held).hex() == one.digest:
            as_before += 1
        else:
            other += 1
    return replace(
        seen,
        as_before=as_before,
        zeros=zeros,
        other=other,
        not_seen=seen.not_seen + not_seen,
        why=seen.why or (UNREADABLE if not_seen else ""),
    )
