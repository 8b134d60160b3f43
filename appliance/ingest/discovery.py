"""Which disks are attached: the only room that asks udev.

Works where no udevd runs, as in an installer: then serial and model come from sysfs alone.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyudev

from appliance.block import SECTOR
from appliance.errors import NotADiskError
from appliance.ingest.foreign import decoded

_UDEVD = Path("/run/udev/control")
_BLANK = "\0 \n\t"
_NOT_DISKS = ("ram", "zram", "sr", "fd")


@dataclass(frozen=True, slots=True)
class Attached:
    """A whole disk as the kernel shows it. Texts are foreign; ``size`` 0: no medium."""

    path: Path
    number: int
    serial: str
    model: str
    bus: str
    size: int


def _attribute(device: pyudev.Device, *names: str) -> str:
    for name in names:
        found = bytes(device.attributes.get(name) or b"").decode(errors="replace")
        if found.strip(_BLANK):
            return found.strip(_BLANK)
    return ""


def _bus(device: pyudev.Device) -> str:
    for word in ("usb", "nvme", "ata", "virtio", "xen", "scsi"):
        if f"/{word}" in device.device_path:
            return word
    return "loop" if device.sys_name.startswith("loop") else ""


def _attached(device: pyudev.Device) -> Attached:
    facts = device.properties
    model = decoded(facts.get("ID_MODEL_ENC") or "").strip() or _attribute(device, "device/model")
    is_loop = device.sys_name.startswith("loop")
    return Attached(
        path=Path(device.device_node),
        number=device.device_number,
        serial=facts.get("ID_SERIAL_SHORT")
        or _attribute(device, "serial", "device/serial", "device/wwid"),
        model=model or ("loop device" if is_loop else ""),
        bus=facts.get("ID_BUS") or _bus(device),
        size=int(_attribute(device, "size") or 0) * SECTOR,
    )


def disks() -> Iterator[Attached]:
    """All whole disks with a medium, by name."""
    found = pyudev.Context().list_devices(subsystem="block", DEVTYPE="disk")
    for device in sorted(found, key=lambda one: str(one.sys_name)):
        if device.sys_name.startswith(_NOT_DISKS) or device.device_node is None:
            continue
        one = _attached(device)
        if one.size:
            yield one


@contextmanager
def watched(changed: Callable[[], None]) -> Iterator[None]:
    """Call ``changed``, in a thread of its own, whenever a disk comes, goes or changes its size:
    as udev tells where a udevd runs, else as the kernel does.
    """
    source = "udev" if _UDEVD.exists() else "kernel"
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source)
    monitor.filter_by("block", "disk")
    observer = pyudev.MonitorObserver(monitor, callback=lambda _: changed(), daemon=True)
    observer.start()
    try:
        yield
    finally:
        observer.stop()


def is_write_blocked(number: int) -> bool | None:
    """Whether the kernel refuses writes to the disk; None: it does not say."""
    name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/ro")
    try:
        return name.read_text().strip() == "1"
    except OSError:
        return None


def disk_at(path: Path) -> Attached:
    """The whole disk behind a device node; refuses partitions and whatever is no block device."""
    try:
        device = pyudev.Devices.from_device_file(pyudev.Context(), str(path))
    except (pyudev.DeviceNotFoundError, OSError, ValueError) as exc:
        raise NotADiskError(f"{path} is not a disk that the kernel knows") from exc
    if device.subsystem != "block":
        raise NotADiskError(f"{path} is not a disk")
    if device.device_type != "disk":
        whole = device.find_parent("block", "disk")
        hint = f"; the whole disk is {whole.device_node}" if whole is not None else ""
        raise NotADiskError(f"{path} is a partition{hint}")
    return _attached(device)
