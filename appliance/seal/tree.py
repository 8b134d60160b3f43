"""The files of a store as an erase may touch them: by descriptors, so that no link is followed and
no mount entered, and only those that are a store's.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance.block import mount_of, punch
from appliance.errors import JobRunningError, NotAStoreError, StoreWriteError
from appliance.seal import canary, custody, files, head, intent, pack
from appliance.seal.store import PACKS, RESERVE, SEAL
from appliance.seal.torn import DAMAGED

PLACE = ""  # the store's directory itself
# What lies below, in the order in which it goes. Beside it the head and the mark are the last.
_CUSTODY = re.compile(rf"{custody.LOCK}|{custody.NAME.pattern}(\.[0-9a-f]{{16}}\.new)?")
BELOW = {
    PACKS: pack.NAME,
    DAMAGED: pack.NAME,
    files.DIRECTORY: files.NAME,
    custody.DIRECTORY: _CUSTODY,
}
LAST = (SEAL, head.FILE, intent.FILE)
_NAMES = "|".join(map(re.escape, (canary.FILE, RESERVE, *LAST)))
_BESIDE = re.compile(rf"{_NAMES}|(head|canary|seal|erasing)\.json\.[0-9a-f]{{16}}\.new")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR})
_NO_HOLES = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_STAYS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class Listed:
    """What lies in a store: ``known`` are files of its layout with their sizes in bytes, by
    directory and name; ``left`` are all other names, made printable.
    """

    known: dict[str, dict[str, int]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def count(self, *directories: str) -> int:
        return sum(len(self.known.get(one, {})) for one in directories)

    @property
    def size(self) -> int:
        """Bytes of all that is known."""
        return sum(sum(found.values()) for found in self.known.values())


def printable(name: str) -> str:
    """A file's name as text that any document can hold."""
    return os.fsencode(name).decode(errors="backslashreplace")


class Tree:
    """A store's directory, opened. What the system refuses ends in StoreWriteError."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd
        self._mount = mount_of(fd)

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator["Tree"]:
        """Raises NotAStoreError where ``path`` is no directory, or is a link."""
        try:
            fd = os.open(path, _DIRECTORY)
        except OSError as exc:
            raise NotAStoreError(f"{path} cannot be opened ({exc.strerror})") from exc
        try:
            yield cls(path, fd)
        finally:
            os.close(fd)

    @property
    def itself(self) -> Path:
        """The directory that was opened, whatever its path leads to by now."""
        return Path(f"/proc/self/fd/{self.fd}")

    def refuse_exchanged(self) -> None:
        if not os.path.samestat(os.lstat(self.path), os.fstat(self.fd)):
            raise NotAStoreError(f"{self.path} was exchanged for another directory meanwhile")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Neither a job that uses the store nor another erase, nor anybody who makes one there, is
        at work meanwhile.
        """
        with ExitStack() as stack:
            with self.erasing():
                held = [self.fd]
                with_head = os.path.lexists(self.path / head.FILE)
                held += [stack.enter_context(self._file(self.fd, head.FILE))] if with_head else []
                try:
                    for one in held:
                        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as exc:
                    raise JobRunningError(
                        f"Another job is at work in {self.path}",
                        safe="Nothing is erased meanwhile.",
                        todo="Let it end, or stop it; then erase the shipment.",
                    ) from exc
            yield

    def listed(self, is_own: Callable[[str, str], bool] = lambda *_: True) -> Listed:
        """Everything that lies there. ``is_own`` tells, by directory and name, whether a file that
        is named as the store's are is the store's.

        Refuses what must not be touched and cannot be passed over: links in the place of
        directories, other mounts, files that have another name elsewhere, and what this user may
        not write.
        """
        found = Listed()
        with self.erasing():
            self.refuse_exchanged()
            found.known[PLACE] = self._names(self.fd, PLACE, _BESIDE, found.left)
            for directory, form in BELOW.items():
                with self._below(directory) as fd:
                    if fd is not None:
                        found.known[directory] = self._names(fd, directory, form, found.left)
            for directory, names in found.known.items():
                for one in [one for one in names if not is_own(directory, one)]:
                    del names[one]
                    found.left.append(os.path.join(directory, one))  # noqa: PTH118 - as above
            self.refuse_exchanged()
        found.left.sort()
        return found

    def _names(
        self, fd: int, directory: str, form: re.Pattern[str], left: list[str]
    ) -> dict[str, int]:
        known: dict[str, int] = {}
        for name in sorted(os.listdir(fd)):
            at = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if form.fullmatch(name) and stat.S_ISREG(at.st_mode):
                with self._file(fd, name) as file:
                    if directory != custody.DIRECTORY:
                        _refuse_other_names(file, f"{directory}/{name}")
                known[name] = at.st_size
            elif directory or name not in BELOW or not stat.S_ISDIR(at.st_mode):
                left.append(printable(os.path.join(directory, name)))  # noqa: PTH118 - any bytes
        return known

    @contextmanager
    def _file(self, fd: int, name: str) -> Iterator[int]:
        file = os.open(name, _FILE, dir_fd=fd)
        try:
            self._refuse_mount(file, name)
            yield file
        finally:
            os.close(file)

    @contextmanager
    def _below(self, directory: str) -> Iterator[int | None]:
        """The directory's descriptor; None where there is none, or a file has its name."""
        with ExitStack() as stack:
            try:
                fd = os.open(directory, _DIRECTORY, dir_fd=self.fd)
            except FileNotFoundError:
                fd = None
            except OSError as exc:
                if exc.errno not in _LINKS:
                    raise
                if stat.S_ISLNK(os.lstat(directory, dir_fd=self.fd).st_mode):
                    raise NotAStoreError(
                        f"{self.path / directory} is a link",
                        safe="Nothing behind it was touched.",
                        todo="See where it leads; take the link away, then erase the shipment.",
                    ) from exc
                fd = None
            if fd is not None:
                stack.callback(os.close, fd)
                self._refuse_mount(fd, directory)
            yield fd

    def _refuse_mount(self, fd: int, name: str) -> None:
        if mount_of(fd) != self._mount:
            raise NotAStoreError(
                f"In {self.path} something else is mounted: {name}",
                safe="Nothing of it was touched.",
                todo="Unmount it; then erase the shipment.",
            )

    def erase(self, directory: str, name: str) -> bool:
        """Take a file's name, then give back its space: none stands there empty. Whether the file
        system knew how to make it a hole; else it was cut to nothing.
        """
        with self.erasing(), ExitStack() as stack:
            fd = stack.enter_context(self._below(directory)) if directory else self.fd
            if fd is None:
                raise FileNotFoundError(errno.ENOENT, f"{directory} has vanished")
            file = stack.enter_context(self._file(fd, name))
            if directory == custody.DIRECTORY:  # public; who died there may have left two names
                os.unlink(name, dir_fd=fd)
                return True
            _refuse_other_names(file, f"{directory}/{name}")
            os.unlink(name, dir_fd=fd)
            if os.fstat(file).st_nlink:
                raise NotAStoreError(
                    f"{directory}/{name} was given another name elsewhere (a hard link) while it "
                    "was erased: its bytes are still there",
                    safe="They were not touched.",
                    todo="Find that name and remove it; then resume the job.",
                )
            return _empty(file)

    def sync(self) -> None:
        """What was erased is so durably."""
        with self.erasing():
            for directory in BELOW:
                with self._below(directory) as fd:
                    if fd is not None:
                        os.fsync(fd)
            os.fsync(self.fd)

    def remove_directories(self) -> None:
        """Those below, where they are empty."""
        with self.erasing():
            for directory in BELOW:
                remove_empty(directory, self.fd)
            os.fsync(self.fd)

    @contextmanager
    def erasing(self) -> Iterator[None]:
        """What is done here ends in a store's error when the store's disk, or the system, refuses
        it.
        """
        try:
            yield
        except OSError as exc:
            raise StoreWriteError(
                f"{self.path} cannot be erased ({exc.strerror})",
                safe="What was erased is gone; the rest is as it was.",
                todo="See that its disk is attached and that you may write to all of it; then "
                "erase it again.",
            ) from exc


def _refuse_other_names(fd: int, name: str) -> None:
    if os.fstat(fd).st_nlink > 1:
        raise NotAStoreError(
            f"{name} has another name elsewhere (a hard link): what is erased here would be "
            "empty there",
            safe="It was not touched.",
            todo="Remove the other name, or put a copy in the place of the file.",
        )


def _empty(fd: int) -> bool:
    size = os.fstat(fd).st_size
    try:
        if size:
            punch(fd, size)
    except OSError as exc:
        if exc.errno not in _NO_HOLES:
            raise
        os.ftruncate(fd, 0)
        return False
    else:
        return True
    finally:
        os.fsync(fd)


def remove_empty(path: Path | str, fd: int | None = None) -> bool:
    """Whether the directory is gone: one that holds anything stays, one that is a mount, and what
    is none.
    """
    try:
        os.rmdir(path, dir_fd=fd)
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno not in _STAYS:
            raise
        return False
    return True
