"""Discovery reads devices from sysfs."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import discovery
from mock_accel_dra.discovery import Constants, DeviceError, capability_names, read_device, scan

from mock_device.topology import Node


def test_default_topology_is_found(plug: Callable[..., SysfsTree], node: Node) -> None:
    devices = {device.name: device for device in scan(plug(vfs=True).root).devices}
    assert list(devices) == [function.name for function in node.functions]
    for function in node.functions:
        device = devices[function.name]
        assert device.uuid == function.uuid
        assert device.memory == function.memory
        assert device.numa_node == function.numa_node
        assert set(device.capabilities) == set(function.capabilities)
        assert device.pci_address == function.bdf
        assert device.pcie_root == ("pci0000:10" if function.numa_node == 0 else "pci0000:20")
        assert device.is_vf == function.is_vf
        assert device.total_vfs == function.total_vfs
        assert device.status == 0
        parent = devices[function.parent].pci_address if function.parent else None
        assert device.physfn == parent


def test_names_are_in_natural_order(sysfs: SysfsTree) -> None:
    sysfs.add("mock10", "0000:12:00.0")
    sysfs.add("mock2", "0000:11:00.0")
    sysfs.add("mock2_vf0", "0000:11:00.1", physfn="0000:11:00.0")
    assert [device.name for device in scan(sysfs.root).devices] == ["mock2", "mock2_vf0", "mock10"]


def test_module_not_loaded_means_no_devices(sysfs: SysfsTree) -> None:
    sysfs.classes.rmdir()
    assert scan(sysfs.root).devices == ()


def test_a_device_that_vanishes_while_it_is_read_is_left_out(
    sysfs: SysfsTree, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    sysfs.add("mock0", "0000:11:00.0")
    sysfs.add("mock1", "0000:12:00.0")
    read = discovery.read_device

    def unplugged(root: object, name: str, _: object) -> discovery.Device:
        if name == "mock0":
            sysfs.remove("mock0")
        return read(sysfs.root, name)

    monkeypatch.setattr(discovery, "read_device", unplugged)
    assert [device.name for device in scan(sysfs.root).devices] == ["mock1"]
    assert '"Device cannot be read" device="mock0" there=false' in log.getvalue()


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("memory_size", "16G", "memory_size: expected a number of base 10, found '16G'"),
        ("capabilities", "0xzz", "capabilities: expected a number of base 16"),
        ("status", "", "status: expected a number"),
    ],
)
def test_a_broken_attribute_is_named(sysfs: SysfsTree, attribute: str, value: str, message: str) -> None:
    (sysfs.add("mock0", "0000:11:00.0") / attribute).write_text(value)
    with pytest.raises(DeviceError, match=message):
        read_device(sysfs.root, "mock0")
    assert scan(sysfs.root).devices == ()


def test_a_device_that_is_not_pci_is_refused(sysfs: SysfsTree) -> None:
    sysfs.add("mock0", "platform-device")
    with pytest.raises(DeviceError, match="expected a PCI address"):
        read_device(sysfs.root, "mock0")


def test_unknown_capabilities_have_names() -> None:
    assert capability_names(0b100011) == ("compute", "encryption", "bit5")


def test_unknown_numa_node(sysfs: SysfsTree) -> None:
    sysfs.add("mock0", "0000:11:00.0", numa_node=-1)
    assert read_device(sysfs.root, "mock0").numa_node == -1


@pytest.mark.parametrize(
    ("folders", "address", "root"),
    [
        ("pci0000:10/0000:10:00.0", "0000:11:00.0", "pci0000:10"),
        ("platform/soc@0/30000000.pcie/pci0000:00/0000:00:00.0", "0000:01:00.0", "pci0000:00"),
        ("pci10000:e0/10000:e0:06.0", "10000:e1:00.0", "pci10000:e0"),
        # As in upstream's deviceattribute: the root complex of the first bridge counts.
        ("pci0000:64/0000:64:00.5/pci10000:e0/10000:e0:06.0", "10000:e1:00.0", "pci0000:64"),
        ("platform/hypervisor/bus", "0000:01:00.0", ""),
    ],
)
def test_pci_root_is_found_anywhere_in_the_path(sysfs: SysfsTree, folders: str, address: str, root: str) -> None:
    sysfs.add("mock0", address, bridges=folders)
    (device,) = scan(sysfs.root).devices
    assert device.pci_address == address
    assert device.pcie_root == root


def test_an_attribute_that_is_not_ascii_breaks_one_device_only(sysfs: SysfsTree) -> None:
    (sysfs.add("mock0", "0000:11:00.0") / "uuid").write_bytes(b"\xff\xfe\n")
    sysfs.add("mock1", "0000:12:00.0")
    found = scan(sysfs.root)
    assert [device.name for device in found.devices] == ["mock1"]
    assert "expected ASCII" in found.broken["mock0"]


def test_constants_are_read_once_while_a_device_is_plugged_in(sysfs: SysfsTree) -> None:
    folder = sysfs.add("mock0", "0000:11:00.0", uuid="FIRST")
    known: dict[str, Constants] = {}
    (before,) = scan(sysfs.root, known).devices
    for attribute in ("uuid", "memory_size", "capabilities"):
        # Without a change of the folder, as a register would change.
        (folder / attribute).write_text("77\n")
    (folder / "status").write_text("1\n")
    (after,) = scan(sysfs.root, known).devices
    assert (after.uuid, after.memory, after.capabilities) == (before.uuid, before.memory, before.capabilities)
    assert (before.status, after.status) == (0, 1)
    assert scan(sysfs.root).devices[0].uuid == "77"


def test_constants_of_another_device_under_the_same_name_are_read(sysfs: SysfsTree) -> None:
    known: dict[str, Constants] = {}
    for uuid in ("FIRST", "SECOND"):
        sysfs.add("mock0", "0000:11:00.0", uuid=uuid)
        assert [device.uuid for device in scan(sysfs.root, known).devices] == [uuid]
        sysfs.remove("mock0")
    assert scan(sysfs.root, known).devices == ()
    assert known == {}


def test_a_device_that_no_longer_responds_is_broken_although_its_constants_are_known(sysfs: SysfsTree) -> None:
    folder = sysfs.add("mock0", "0000:11:00.0")
    known: dict[str, Constants] = {}
    scan(sysfs.root, known)
    (folder / "status").write_text("")
    found = scan(sysfs.root, known)
    assert found.devices == ()
    assert "status" in found.broken["mock0"]
