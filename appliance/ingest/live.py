"""Source: the disks of a machine that goes on living. Read-only and past the page cache; mounted,
written to, and brought to one point by a freeze.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from appliance.ingest import discovery, freezing
from appliance.ingest.attached import DeviceDisk, listed, opened_disk
from appliance.model import DiskFacts, Frozen


class LiveDisks:
    """The disks of this machine, also in use. ``own`` are paths that this program writes to: what
    they lie on is never frozen.
    """

    def __init__(self, own: Sequence[Path]) -> None:
        self._own = own

    def disks(self) -> Sequence[DiskFacts]:
        return listed()

    @contextmanager
    def open(self, name: str) -> Iterator[DeviceDisk]:
        # Whoever uses the disk goes on using it: no O_EXCL. A buffered read may show what the
        # file systems above, which have caches of their own, have long changed: always O_DIRECT.
        with opened_disk(discovery.disk_at(Path(name)), name, 0) as disk:
            yield disk

    def freeze(
        self, names: Sequence[str], at_most_seconds: float
    ) -> AbstractContextManager[Frozen]:
        disks = {name: discovery.disk_at(Path(name)).number for name in names}
        return freezing.frozen(disks, self._own, at_most_seconds)
