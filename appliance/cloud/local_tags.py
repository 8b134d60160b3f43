"""What stands beside the file of a snapshot or a clone: canonical JSON that says what it is."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from appliance.block import read_small, write_durably
from appliance.errors import StoreRefusedError, VolumeForeignError
from appliance.events import Json
from appliance.model import DiskId, SnapshotSpec, VolumeSpec
from appliance.seal import canon

T = TypeVar("T")
_MOST = 1 << 20
_MOST_DISKS = 256  # wire-format.md, section 5
_MOST_POINT = (1 << 32) - 1
_MOST_FORM = 2  # quiesced; the same section
_ID, _ROOT = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SnapshotTag:
    """``how`` the snapshot was made; ``chosen`` as in SnapshotInfo."""

    spec: SnapshotSpec
    how: str
    chosen: int


@dataclass(frozen=True, slots=True)
class CloneTag:
    """Of which snapshot a clone was made, and how."""

    of: SnapshotSpec
    how: str


def read_snapshot(path: Path) -> SnapshotTag | None:
    """The tag at ``path``; None where there is none, VolumeForeignError for what is no tag."""
    return _read(path, _parse_snapshot, _snapshot)


def write_snapshot(path: Path, tag: SnapshotTag) -> None:
    write_durably(path, canon.dump(_snapshot(tag)), 0o600)


def read_clone(path: Path) -> CloneTag | None:
    """The tag at ``path``; None where there is none, VolumeForeignError for what is no tag."""
    return _read(path, _parse_clone, _clone)


def write_clone(path: Path, tag: CloneTag) -> None:
    write_durably(path, canon.dump(_clone(tag)), 0o600)


def _read(path: Path, parse: Callable[[canon.Fields], T], write: Callable[[T], Json]) -> T | None:
    try:
        return canon.read(read_small(path, _MOST), path.name, parse, write, StoreRefusedError)
    except FileNotFoundError:
        return None
    except StoreRefusedError as exc:
        raise VolumeForeignError(
            f"{path} is not what it should be ({exc.what})",
            safe="It was left as it is.",
            todo="Move it away, with the file beside it.",
        ) from exc


def _snapshot(tag: SnapshotTag) -> Json:
    return {"chosen": tag.chosen, "how": tag.how, "of": _spec(tag.spec)}


def _parse_snapshot(fields: canon.Fields) -> SnapshotTag:
    spec = _parse_spec(fields.object("of"))
    return SnapshotTag(spec, fields.text("how", 32), fields.number("chosen"))


def _clone(tag: CloneTag) -> Json:
    return {"how": tag.how, "of": _spec(tag.of)}


def _parse_clone(fields: canon.Fields) -> CloneTag:
    return CloneTag(_parse_spec(fields.object("of")), fields.text("how", 32))


def _spec(spec: SnapshotSpec) -> Json:
    volume = spec.volume
    return {
        "disks": list(spec.disks),
        "form": spec.form,
        "machine": spec.machine,
        "point": spec.point,
        "roots": list(spec.roots),
        "taken": spec.taken,
        "volume": {
            "content": volume.content,
            "disk": volume.disk,
            "name": volume.name,
            "origin": volume.origin,
            "point": volume.point,
            "size": volume.size,
        },
    }


def _parse_spec(fields: canon.Fields) -> SnapshotSpec:
    volume = fields.object("volume")
    spec = SnapshotSpec(
        volume=VolumeSpec(
            name=volume.text("name", 255),
            size=volume.number("size", 1),
            content=volume.number("content"),
            disk=DiskId(volume.hex("disk", 16)),
            point=volume.number("point", 0, _MOST_POINT),
            origin=volume.hex("origin", 32, empty=True),
        ),
        machine=fields.text("machine", 512),
        point=fields.number("point", 0, _MOST_POINT),
        form=fields.number("form", 0, _MOST_FORM),
        taken=fields.number("taken"),
        disks=tuple(DiskId(one) for one in fields.texts("disks", _MOST_DISKS, _ID)),
        roots=fields.texts("roots", _MOST_DISKS, _ROOT),
    )
    if len(spec.roots) != len(spec.disks):
        raise fields.bad("roots", "are not as many as the disks")
    return spec
