"""What udev and sysfs say of a disk, however they say it."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import pyudev

from appliance.ingest import discovery


def told(
    node: str = "/dev/sda",
    path: str = "/devices/pci0000:00/ata1/host0/block/sda",
    udev: Mapping[str, str] | None = None,
    sysfs: Mapping[str, bytes] | None = None,
) -> pyudev.Device:
    """A device as pyudev shows it."""
    return cast(
        "pyudev.Device",
        SimpleNamespace(
            device_node=node,
            device_number=2048,
            device_path=path,
            sys_name=Path(path).name,
            properties=udev or {},
            attributes={"size": b"2048", **(sysfs or {})},
        ),
    )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[pyudev.Device]:
    """The devices that this machine has."""
    found: list[pyudev.Device] = []

    class Context:
        def list_devices(self, **wanted: str) -> list[pyudev.Device]:
            assert wanted == {"subsystem": "block", "DEVTYPE": "disk"}
            return found

    monkeypatch.setattr(pyudev, "Context", Context)
    return found


def test_udev_knows_more_than_sysfs(shown: list[pyudev.Device]) -> None:
    shown.append(
        told(
            udev={
                "ID_SERIAL_SHORT": "WD-1",
                "ID_MODEL_ENC": "WDC\\x20Blue  ",
                "ID_BUS": "ata",
            },
            sysfs={"serial": b"other", "device/model": b"other"},
        )
    )
    (found,) = discovery.disks()
    assert (found.serial, found.model, found.bus) == ("WD-1", "WDC Blue", "ata")
    assert (found.path, found.size, found.number) == (Path("/dev/sda"), 1 << 20, 2048)


def test_without_udev_sysfs_is_asked(shown: list[pyudev.Device]) -> None:
    shown.append(told(sysfs={"device/model": b"Disk \n", "device/wwid": b"naa.5\0\n"}))
    (found,) = discovery.disks()
    assert (found.serial, found.model, found.bus) == ("naa.5", "Disk", "ata")


def test_an_empty_attribute_is_none(shown: list[pyudev.Device]) -> None:
    shown.append(told(sysfs={"serial": b"\n", "device/serial": b"second"}))
    (found,) = discovery.disks()
    assert found.serial == "second"


@pytest.mark.parametrize(
    ("path", "bus"),
    [
        ("/devices/pci0/usb1/1-1/host2/block/sdb", "usb"),
        ("/devices/pci0/nvme/nvme0/nvme0n1", "nvme"),
        ("/devices/pci0/virtio1/block/vda", "virtio"),
        ("/devices/virtual/block/loop0", "loop"),
        ("/devices/virtual/block/dm-0", ""),
    ],
)
def test_the_bus_stands_in_the_path(shown: list[pyudev.Device], path: str, bus: str) -> None:
    shown.append(told(path=path))
    (found,) = discovery.disks()
    assert found.bus == bus


def test_hostile_names_are_only_text(shown: list[pyudev.Device]) -> None:
    names = {
        "ID_MODEL_ENC": "\\x1b[2J\\q\\xc3\\xbc\udcff \u00fc\\x",
        "ID_SERIAL_SHORT": "[red]\x00",
    }
    shown.append(told(udev=names))
    (found,) = discovery.disks()
    assert found.model == "\x1b[2J\\q\u00fc? \u00fc\\x"
    assert found.serial == "[red]\x00"


def test_what_holds_no_disk_is_left_out(shown: list[pyudev.Device]) -> None:
    names = ("ram0", "zram0", "sr0", "fd0")
    shown += [told(path=f"/devices/virtual/block/{one}") for one in names]
    nodeless = told()
    nodeless.device_node = None
    shown += [nodeless, told(sysfs={"size": b"0"}), told(sysfs={"size": b""})]
    assert not list(discovery.disks())


def test_disks_come_by_name(shown: list[pyudev.Device]) -> None:
    shown += [told(f"/dev/{one}", f"/devices/ata1/block/{one}") for one in ("sdb", "sda")]
    assert [one.path.name for one in discovery.disks()] == ["sda", "sdb"]
