"""Check: every block of a restored volume, read back and compared with its manifest."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from appliance.errors import CheckFailedError, MotionGearError, StoppedError, VolumeMissingError
from appliance.events import Json, Result
from appliance.jobs import manifests
from appliance.jobs.desk import Desk
from appliance.jobs.plugins import target_for
from appliance.jobs.spec import CheckSpec, VerifySpec
from appliance.jobs.verifying import verify_store
from appliance.model import Target, VolumeInfo, VolumeSpec, VolumeState
from appliance.restore.check import Check, byte_ranges, refuse_wrong
from appliance.seal import verify
from appliance.seal.manifest import Manifest


def check(spec: CheckSpec, desk: Desk) -> None:
    """Check every volume that was restored from this store, even when one of them is wrong."""
    sealed = verify.inspect(Path(spec.store), verify.Pins())
    root = sealed.seal.root().hex()
    target = target_for(spec.target, spec.place)
    found = [one for one in target.volumes() if one.spec.origin == root]
    if not found:
        raise VolumeMissingError(f"{spec.place} holds no volume restored from this store")
    if spec.keyed:
        verify_store(VerifySpec(spec.store, "", "", (), keyed=True), desk)
    all_checked(partial(_check_known, desk, target, one) for one in found)


def _check_known(desk: Desk, target: Target, info: VolumeInfo) -> None:
    manifest = manifests.known(desk.home, info)
    if info.state is VolumeState.PARTIAL:
        raise CheckFailedError(f"Volume {info.spec.name} was not restored to its end")
    check_volume(desk, target, manifest, info.spec)


def check_volume(desk: Desk, target: Target, manifest: Manifest, spec: VolumeSpec) -> None:
    with target.attach(spec) as volume:
        checked = Check(volume, manifest, desk.emit, desk.stop).run()
    info = target.tag(spec, VolumeState.BAD if checked.wrong else VolumeState.CHECKED)
    ranges = [list(one) for one in byte_ranges(checked, manifest)]
    figures: Mapping[str, Json] = {
        "volume": spec.name,
        "location": info.location,
        "disk": manifest.disk,
        "size": manifest.size,
        "blocks": checked.blocks,
        "wrong": cast("list[Json]", ranges),
        "root": manifest.root().hex(),
    }
    desk.emit(Result("check", figures))
    refuse_wrong(checked, manifest, spec.name)


def all_checked(checks: Iterable[Callable[[], None]]) -> None:
    """Check every volume, also behind one that is refused, and refuse only then."""
    wrong: list[MotionGearError] = []
    for one in checks:
        try:
            one()
        except StoppedError:
            raise
        except MotionGearError as exc:
            wrong.append(exc)
    verify.Findings(wrong).refuse()
