"""Manifests that were proved here by reading every pack they speak of, and what is known of their
disks: the base of every check and every replica.

``<home>/manifests/<seal root>/<disk>-<point>.manifest``, and beside it the disk head. What is
known of a volume that lacks blocks is true of no other: it has a directory of its own.
"""

from pathlib import Path

from appliance.block import make_directory
from appliance.model import PointSpec
from appliance.seal.kept import kept, load, save
from appliance.seal.manifest import Manifest
from appliance.seal.papers import parse_disk_head, write_disk_head


class Proved:
    """The manifests of one sealed store; ``root`` is its seal's, in hex. With ``volume``, the id
    of one that lacks blocks: what that one holds.
    """

    def __init__(self, home: Path, root: str, volume: str = "") -> None:
        self._place = home / "manifests" / root / volume

    def keep(self, spec: PointSpec, manifest: Manifest) -> None:
        """The manifest comes last: where it is, all is."""
        path = self._path(manifest.disk, manifest.point)
        with kept(path):
            make_directory(path.parent, 0o700)
        save(path.with_suffix(".json"), write_disk_head(spec))
        manifest.save(path)

    def has(self, disk: str, point: int) -> bool:
        return self._path(disk, point).exists()

    def manifest(self, disk: str, point: int) -> Manifest:
        return Manifest.load(self._path(disk, point))

    def spec(self, disk: str, point: int) -> PointSpec:
        path = self._path(disk, point).with_suffix(".json")
        return load(path, parse_disk_head, write_disk_head)

    def _path(self, disk: str, point: int) -> Path:
        return self._place / f"{disk}-{point}.manifest"
