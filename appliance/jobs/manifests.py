"""The manifests this home has proved: what is kept of a shipment where it arrived."""

from pathlib import Path

from appliance.errors import BadInputError
from appliance.model import DiskId, VolumeInfo
from appliance.seal.manifest import Manifest
from appliance.seal.pointmap import PointMap


def path_of(home: Path, root: str, disk: DiskId, point: int) -> Path:
    return home / "manifests" / root / f"{disk}-{point}.manifest"


def save(home: Path, root: str, found: PointMap) -> None:
    """Keep a manifest that was proved by reading every pack it was made of."""
    found.manifest.save(path_of(home, root, found.spec.disk, found.spec.point))


def known(home: Path, info: VolumeInfo) -> Manifest:
    path = path_of(home, info.spec.origin, info.spec.disk, info.spec.point)
    if not path.exists():
        raise BadInputError(
            f"The manifest of disk {info.spec.disk} is not known here",
            todo="Give --key: it is then derived from the store.",
        )
    return Manifest.load(path)
