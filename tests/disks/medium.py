"""What a disk holds, and what a file system has only in memory: the model of a volatile disk.

A *node* is a file, a directory or a link, found by its inode in the live tree, a real directory in
which everything has happened. Beside it stands what the medium is known to hold: of a file a copy
as of its last sync, of a directory the entries as of its last sync. In between lie the *pending*
writes of each file and the pending *changes* of names, in the order in which they were made.

The rules are POSIX's, and no file system promises less:

- A sync of a file makes its bytes, size and mode durable, and nothing else: not its name.
- A sync of a directory makes its names durable, not what stands in the files, nor the directory's
  own name in the directory above.
- A rename happens whole or not at all, across directories too.

So it is stricter than ext4, whose journal takes a new file's name along with its fsync, and keeps
the order of changes of names; a program that relies on that is told so here.
"""

import os
import random
import stat
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

PAGE = 4096
SECTOR = 512
_STRIDE = 1 << 20
HIDDEN = ".fuse_hidden"  # libfuse renames to it what is removed while it is open


class Kind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that were written and not synced; ``at`` counts all that happened on the disk."""

    at: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """A truncation, or an allocation behind the end."""

    at: int
    size: int


@dataclass(frozen=True, slots=True)
class Punch:
    """A range that was made to read as zeros."""

    at: int
    offset: int
    length: int


Pending = Write | Resize | Punch


@dataclass(eq=False, slots=True)
class Node:
    """``live`` is a descriptor of what programs see. ``medium`` is one of what is durable; none
    while that is the same. ``lost`` are pages that a failed sync has dropped: clean in memory,
    never written. ``entries`` are a directory's durable names.
    """

    kind: Kind
    live: int
    mode: int
    target: str = ""
    medium: int | None = None
    pending: list[Pending] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    entries: dict[str, "Node"] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return os.fstat(self.live).st_size


@dataclass(frozen=True, slots=True)
class Change:
    """Names that come and go together. ``hides``: an open file was removed, which libfuse does by
    a rename of its own, perhaps as the first half of a rename over it.
    """

    at: int
    adds: tuple[tuple[Node, str, Node], ...] = ()
    removes: tuple[tuple[Node, str, Node], ...] = ()
    hides: bool = False

    def touches(self, directory: Node) -> bool:
        return any(one[0] is directory for one in (*self.adds, *self.removes))


Names = dict[Node, dict[str, Node]]


def _apply(change: Change, names: Names) -> None:
    for directory, name, node in change.removes:
        found = names.setdefault(directory, {})
        if found.get(name) is node:
            del found[name]
    for directory, name, node in change.adds:
        names.setdefault(directory, {})[name] = node


class Medium:
    """The disk under ``tree``: everything in it is durable when it is opened. ``scratch`` is a
    directory on the same file system for what is kept beside it.
    """

    def __init__(self, tree: Path, scratch: Path) -> None:
        self.tree, self._scratch = tree, scratch
        self.at = 0
        self._nodes: dict[int, Node] = {}
        self._changes: list[Change] = []
        self.root = self._take(tree)

    def _take(self, path: Path) -> Node:
        """A node that is there, with all that is below."""
        node = self._new(path)
        if node.kind is Kind.DIRECTORY:
            node.entries = {one.name: self._take(one) for one in path.iterdir()}
        return node

    def _new(self, path: Path) -> Node:
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            kind, flags = Kind.DIRECTORY, os.O_RDONLY | os.O_DIRECTORY
        elif stat.S_ISLNK(found.st_mode):
            kind, flags = Kind.LINK, os.O_PATH | os.O_NOFOLLOW
        else:
            kind, flags = Kind.FILE, os.O_RDWR
        target = str(path.readlink()) if kind is Kind.LINK else ""
        # The descriptor also keeps the inode from being given to another file.
        node = Node(kind, os.open(path, flags | os.O_CLOEXEC), found.st_mode & 0o7777, target)
        self._nodes[found.st_ino] = node
        return node

    def node(self, path: Path) -> Node:
        return self._nodes[path.lstat().st_ino]

    # --- what programs do ---

    def _tick(self) -> int:
        self.at += 1
        return self.at

    def added(self, path: Path) -> Node:
        """A name was made, for a node that is new or, by a link, already there."""
        node = self._nodes.get(path.lstat().st_ino) or self._new(path)
        self._changes.append(
            Change(self._tick(), adds=((self.node(path.parent), path.name, node),))
        )
        return node

    def removing(self, path: Path) -> None:
        """A name is about to be removed."""
        if path.name.startswith(HIDDEN):  # its name went when it was hidden
            return
        gone = (self.node(path.parent), path.name, self.node(path))
        self._changes.append(Change(self._tick(), removes=(gone,)))

    def renaming(self, old: Path, new: Path) -> None:
        """``old`` is about to be renamed; what has the new name already loses it."""
        node = self.node(old)
        gone = (self.node(old.parent), old.name, node)
        if new.name.startswith(HIDDEN):
            self._changes.append(Change(self._tick(), removes=(gone,), hides=True))
            return
        place = self.node(new.parent)
        last = self._changes[-1] if self._changes else None
        if last is not None and last.hides and last.removes[0][:2] == (place, new.name):
            self._changes.pop()  # one rename, as the program sees it
        self._changes.append(Change(self._tick(), ((place, new.name, node),), (gone,)))

    def wrote(self, node: Node, offset: int, data: bytes) -> None:
        """To be told before the live file changes."""
        self._keep(node)
        if node.lost:
            self._redirty(node, offset, len(data))
        node.pending.append(Write(self._tick(), offset, data))

    def resizing(self, node: Node, size: int) -> None:
        self._keep(node)
        node.pending.append(Resize(self._tick(), size))

    def punching(self, node: Node, offset: int, length: int) -> None:
        self._keep(node)
        node.pending.append(Punch(self._tick(), offset, length))

    def _redirty(self, node: Node, offset: int, length: int) -> None:
        """A page is written whole: what was lost of it comes along."""
        pages = range(offset // PAGE, (offset + length - 1) // PAGE + 1)
        for page in node.lost.intersection(pages):
            data = os.pread(node.live, PAGE, page * PAGE)
            node.pending.append(Write(self._tick(), page * PAGE, data))
        node.lost.difference_update(pages)

    def _keep(self, node: Node) -> None:
        """From now on the medium differs from what programs see."""
        if node.medium is None:
            node.medium = self._copy(node.live)

    def _copy(self, fd: int) -> int:
        made = os.open(self._scratch, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        copy_file(fd, made)
        return made

    # --- syncs ---

    def sync(self, node: Node) -> None:
        """The bytes, size and mode of a file; the names of a directory."""
        if node.kind is Kind.DIRECTORY:
            self._sync_names(node)
            return
        if node.pending:
            assert node.medium is not None
            for one in node.pending:
                _replay(node.medium, one)
            node.pending.clear()
        node.mode = os.fstat(node.live).st_mode & 0o7777

    def _sync_names(self, directory: Node) -> None:
        done = [one for one in self._changes if one.touches(directory)]
        for one in done:
            for place in {place for place, _, _ in (*one.adds, *one.removes)}:
                names = {place: place.entries}
                _apply(_within(one, place), names)
        self._changes = [one for one in self._changes if one not in done]

    def drop(self, node: Node) -> None:
        """A sync has failed, and Linux marks the pages clean: they will not be written again."""
        for one in node.pending:
            if isinstance(one, Write):
                node.lost |= set(
                    range(one.offset // PAGE, -(-(one.offset + len(one.data)) // PAGE))
                )
        node.pending = [one for one in node.pending if not isinstance(one, Write)]

    def settle(self) -> None:
        """Everything is durable now, as after sync(1)."""
        for node in list(self._nodes.values()):
            if node.kind is Kind.FILE:
                self.sync(node)
        for change in self._changes:
            for place in {place for place, _, _ in (*change.adds, *change.removes)}:
                _apply(_within(change, place), {place: place.entries})
        self._changes.clear()

    def read(self, node: Node, size: int, offset: int, *, past_cache: bool) -> bytes:
        """What a program reads; past the cache, what a failed sync has dropped is not there."""
        data = os.pread(node.live, size, offset)
        if not past_cache or not node.lost or node.medium is None:
            return data
        found = bytearray(data)
        for page in node.lost.intersection(
            range(offset // PAGE, (offset + len(data)) // PAGE + 1)
        ):
            start, end = max(page * PAGE, offset), min((page + 1) * PAGE, offset + len(data))
            old = os.pread(node.medium, end - start, start).ljust(end - start, b"\0")
            found[start - offset : end - offset] = old
        return bytes(found)

    def forget(self) -> None:
        """Let nodes go that nothing leads to any more: neither a name, durable or not, nor a
        program that has it open (its hidden name keeps it).
        """
        held = {one for node in self._nodes.values() for one in node.entries.values()}
        held |= {item[2] for one in self._changes for item in (*one.adds, *one.removes)}
        for inode, node in list(self._nodes.items()):
            if node is not self.root and node not in held and not os.fstat(node.live).st_nlink:
                del self._nodes[inode]
                for fd in (node.live, node.medium):
                    if fd is not None:
                        os.close(fd)

    # --- the power cut ---

    def cut(self, seed: int, into: Path) -> "Left":
        """Make ``into`` what the power cut of this seed leaves of the disk."""
        return _Cut(random.Random(seed), self.at).leave(self.root, self._changes, into)


def _within(change: Change, place: Node) -> Change:
    """The part of a change that concerns one directory."""
    return Change(
        change.at,
        tuple(one for one in change.adds if one[0] is place),
        tuple(one for one in change.removes if one[0] is place),
    )


def _replay(fd: int, one: Pending) -> None:
    if isinstance(one, Write):
        os.pwrite(fd, one.data, one.offset)
    elif isinstance(one, Resize):
        os.ftruncate(fd, one.size)
    else:
        os.pwrite(fd, bytes(one.length), one.offset)


def copy_file(source: int, copy: int) -> None:
    """Holes stay holes."""
    size = os.fstat(source).st_size
    os.ftruncate(copy, size)
    for start, end in data_ranges(source, size):
        for at in range(start, end, _STRIDE):
            os.pwrite(copy, os.pread(source, min(_STRIDE, end - at), at), at)


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: no data behind this
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


@dataclass(slots=True)
class Left:
    """What a power cut did: pending changes of names and pending writes, and how many of them had
    reached the medium; of ``pages`` written so many were ``torn`` between their sectors.
    """

    changes: int = 0
    changes_kept: int = 0
    writes: int = 0
    pages: int = 0
    pages_kept: int = 0
    torn: int = 0


class _Cut:
    """One cut. Its *mood* says how much of what was pending had been written back: nothing, all,
    a random part, or, as on a disk that keeps order, all up to one moment.
    """

    _SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)

    def __init__(self, chance: random.Random, end: int) -> None:
        self._chance = chance
        self._until = chance.randint(0, end) if chance.random() < 0.25 else None
        self._names = chance.choice(self._SHARES)
        self.left = Left()

    def leave(self, root: Node, changes: list[Change], into: Path) -> Left:
        names: Names = {}
        _gather(root, names)
        for one in changes:
            for _, _, node in (*one.adds, *one.removes):
                _gather(node, names)
        if changes and changes[-1].hides:  # it may be half a rename: not done is always right
            changes = changes[:-1]
        for one in changes:
            self.left.changes += 1
            if self._reached(one.at, self._names):
                self.left.changes_kept += 1
                _apply(one, names)
        into.mkdir()
        self._directory(root, names, into, {})
        return self.left

    def _reached(self, at: int, share: float) -> bool:
        if self._until is not None:
            return at <= self._until
        return self._chance.random() < share

    def _directory(self, node: Node, names: Names, into: Path, made: dict[Node, Path]) -> None:
        into.chmod(node.mode)
        for name, one in sorted(names.get(node, {}).items()):
            path = into / name
            if one in made:
                path.hardlink_to(made[one])
            elif one.kind is Kind.LINK:
                path.symlink_to(one.target)
            elif one.kind is Kind.DIRECTORY:
                path.mkdir()
                self._directory(one, names, path, made)
            else:
                made[one] = path
                self._file(one, path)

    def _file(self, node: Node, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_file(node.live if node.medium is None else node.medium, fd)
            if node.pending:
                self._unsynced(node.pending, fd)
            os.fchmod(fd, node.mode)
        finally:
            os.close(fd)

    def _unsynced(self, pending: list[Pending], fd: int) -> None:
        """Write what had reached the medium of a file's pending writes: bytes and size each on
        their own, so that there may be bytes without the size, and a size without the bytes.
        """
        share = self._chance.choice(self._SHARES)
        durable = os.fstat(fd).st_size
        size, sizes = durable, [(0, durable)]
        for one in pending:
            if isinstance(one, Resize):
                size = one.size
                if self._reached(one.at, share):
                    os.ftruncate(fd, size)
            elif isinstance(one, Write):
                size = max(size, one.offset + len(one.data))
                self._write(one, fd, share)
            elif self._reached(one.at, share):
                os.pwrite(fd, bytes(one.length), one.offset)
            sizes.append((one.at, size))
        size = self._size(sizes)
        os.ftruncate(fd, size)
        if self._until is None and self._chance.random() < 0.5:
            self._stale(pending, fd, durable, size)

    def _size(self, sizes: list[tuple[int, int]]) -> int:
        if self._until is not None:
            return sizes[bisect_right([at for at, _ in sizes], self._until) - 1][1]
        return self._chance.choice((sizes[0], sizes[-1], self._chance.choice(sizes)))[1]

    def _write(self, one: Write, fd: int, share: float) -> None:
        self.left.writes += 1
        view, end = memoryview(one.data), one.offset + len(one.data)
        for page in range(one.offset // PAGE, -(-end // PAGE)):
            start = max(page * PAGE, one.offset)
            piece = view[start - one.offset : min((page + 1) * PAGE, end) - one.offset]
            self.left.pages += 1
            if not self._reached(one.at, share):
                continue
            self.left.pages_kept += 1
            if share < 1 and self._chance.random() < 0.1:
                self._tear(piece, start, fd)
            else:
                os.pwrite(fd, piece, start)

    def _tear(self, piece: memoryview, start: int, fd: int) -> None:
        self.left.torn += 1
        for at in range(0, len(piece), SECTOR):
            if self._chance.random() < 0.5:
                os.pwrite(fd, piece[at : at + SECTOR], start + at)

    def _stale(self, pending: list[Pending], fd: int, durable: int, size: int) -> None:
        """New blocks that nothing was written to hold what another file has left there."""
        for one in pending:
            if not isinstance(one, Write):
                continue
            for start in range(one.offset // PAGE * PAGE, one.offset + len(one.data), PAGE):
                end = min(start + PAGE, size)
                if start >= durable and end > start and not any(os.pread(fd, end - start, start)):
                    os.pwrite(fd, self._chance.randbytes(end - start), start)


def _gather(node: Node, names: Names) -> None:
    if node.kind is Kind.DIRECTORY and node not in names:
        names[node] = dict(node.entries)
        for one in node.entries.values():
            _gather(one, names)
