"""Programs and libraries that are needed, each with what needs it and the Debian package that has
it: what `tools/prepare-debian run` installs, and qemu-img.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

from appliance import run
from appliance.diagnose.findings import Finding
from appliance.diagnose.kinds import Kind
from appliance.language import marked


class Form(Enum):
    PROGRAM = auto()
    LIBRARY = auto()
    FILE = auto()
    MODULE = auto()


@dataclass(frozen=True, slots=True)
class Need:
    """``only``: what is done on the way of a shipment does not need it."""

    package: str
    form: Form
    name: str
    use: str
    only: bool = False

    def is_met(self) -> bool:
        match self.form:
            case Form.PROGRAM:
                return run.installed(self.name)
            case Form.LIBRARY:
                return _loads(self.name)
            case Form.FILE:
                return Path(self.name).exists()
            case Form.MODULE:
                return find_spec(self.name) is not None
            case _:
                assert_never(self.form)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


_DISKS = marked("finding disks")
_LOOKING = marked("looking into disks and images")
_ATTACHING = marked("attaching volumes as disks")
_CLONES = marked("clones on file systems that cannot share extents")
_PAPERS = marked("papers as PDF and labels")
_LINES = marked("certificates of other hosts")
_DEMO = marked("the demo")
_INSTALLING = marked("installing MotionGear")
_FONTS = "/usr/share/fonts/truetype"

NEEDS = (
    Need("libudev1", Form.LIBRARY, "libudev.so.1", _DISKS),
    Need("libblkid1", Form.LIBRARY, "libblkid.so.1", _LOOKING),
    Need("libfdisk1", Form.LIBRARY, "libfdisk.so.1", _LOOKING),
    Need("libseccomp2", Form.LIBRARY, "libseccomp.so.2", _LOOKING),
    Need("mount", Form.PROGRAM, "losetup", _ATTACHING),
    Need("qemu-utils", Form.PROGRAM, "qemu-img", _CLONES, only=True),
    Need("libpango-1.0-0", Form.LIBRARY, "libpango-1.0.so.0", _PAPERS, only=True),
    Need("libpangoft2-1.0-0", Form.LIBRARY, "libpangoft2-1.0.so.0", _PAPERS, only=True),
    Need("libharfbuzz-subset0", Form.LIBRARY, "libharfbuzz-subset.so.0", _PAPERS, only=True),
    Need("fonts-dejavu-core", Form.FILE, f"{_FONTS}/dejavu/DejaVuSans.ttf", _PAPERS, only=True),
    Need("fonts-wqy-microhei", Form.FILE, f"{_FONTS}/wqy/wqy-microhei.ttc", _PAPERS, only=True),
    Need("ca-certificates", Form.FILE, "/etc/ssl/certs/ca-certificates.crt", _LINES, only=True),
    Need("util-linux", Form.PROGRAM, "blkid", _DEMO, only=True),
    Need("fdisk", Form.PROGRAM, "sfdisk", _DEMO, only=True),
    Need("e2fsprogs", Form.PROGRAM, "mkfs.ext4", _DEMO, only=True),
    Need("xfsprogs", Form.PROGRAM, "mkfs.xfs", _DEMO, only=True),
    Need("dosfstools", Form.PROGRAM, "mkfs.vfat", _DEMO, only=True),
    Need("mtools", Form.PROGRAM, "mcopy", _DEMO, only=True),
    Need("python3-venv", Form.MODULE, "ensurepip", _INSTALLING, only=True),
)


def findings() -> Iterator[Finding]:
    lacking = [one for one in NEEDS if not one.is_met()]
    for one in lacking:
        kind = Kind.WANTED_MISSING if one.only else Kind.NEEDED_MISSING
        yield Finding(kind, {"name": one.name, "use": one.use, "package": one.package})
    if not lacking:
        yield Finding(Kind.NEEDED, {"count": str(len(NEEDS))})
