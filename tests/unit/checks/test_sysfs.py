"""Devices in a guest's sysfs, compared with the topology and with claims."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.sysfs import SysfsTree
from support.topologies import CLUSTER

from mock_device.checks.nodes import sysfs
from mock_device.checks.nodes.sysfs import Accelerator, NodeDevices, PciFunction
from mock_device.topology import DeviceId

NODE = "mock-cluster-node1"
MOCK0 = Accelerator("mock0", "NODE1-NUMA0-PF", 17179869184, 0, 0b111, 0, "0000:11:00.0")
MOCK3 = Accelerator("mock3", "NODE1-NUMA1-PF", 17179869184, 1, 0b1101, 0, "0000:21:00.0", "no-firmware")
# Output of PROBE for the tree below.
RECORDED = """\
module\tlive
pci\t0000:11:00.0\t0x0001\t0\tmock_accel
pci\t0000:11:00.1\t0x0002\t0\t
pci\t0000:21:00.0\t0x0001\t1\tmock_accel
accel\tmock0\tNODE1-NUMA0-PF\t17179869184\t0\t0x00000007\t0\t0000:11:00.0\t
accel\tmock3\tNODE1-NUMA1-PF\t17179869184\t1\t0x0000000d\t0\t0000:21:00.0\tno-firmware
end
"""
PCI = (
    PciFunction("0000:11:00.0", 1, 0, "mock_accel"),
    PciFunction("0000:11:00.1", 2, 0),
    PciFunction("0000:21:00.0", 1, 1, "mock_accel"),
)
SHOWN = NodeDevices(NODE, PCI, (MOCK0, MOCK3))


def probe(root: Path, script: str = sysfs.PROBE) -> str:
    script = script.replace("/sys/", f"{root}/")
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    """The first devices of NUMA nodes 0 and 1, a VF that is not enabled, and a foreign PCI device."""
    tree = SysfsTree(tmp_path)
    for device, bus in ((MOCK0, 0x10), (MOCK3, 0x20)):
        folder = tree.add(
            device.name,
            device.bdf,
            root_bus=bus,
            uuid=device.uuid,
            memory=device.memory,
            numa_node=device.numa_node,
        )
        (folder / "capabilities").write_text(f"{device.capabilities:#010x}\n")
        if device.health:
            (folder / "health").write_text(f"{device.health}\n")
    for bdf, vendor, device_id, numa_node in (
        ("0000:00:02.0", "0x1af4", "0x1000", -1),
        *((item.bdf, "0x1de5", f"{item.device_id:#06x}", item.numa_node) for item in PCI),
    ):
        folder = tmp_path / "bus/pci/devices" / bdf
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "device").write_text(f"{device_id}\n")
        (folder / "numa_node").write_text(f"{numa_node}\n")
    driver = tmp_path / "bus/pci/drivers/mock_accel"
    driver.mkdir(parents=True)
    for item in PCI:
        if item.driver:
            (tmp_path / "bus/pci/devices" / item.bdf / "driver").symlink_to(driver)
    (tmp_path / "module/mock_accel").mkdir(parents=True)
    (tmp_path / "module/mock_accel/initstate").write_text("live\n")
    return tree


def test_probe_prints_the_recorded_output(tree: SysfsTree) -> None:
    assert probe(tree.root) == RECORDED


def test_recorded_output_is_parsed() -> None:
    assert sysfs.parse(NODE, RECORDED) == SHOWN


def test_probe_of_a_guest_without_devices_is_empty(tmp_path: Path) -> None:
    assert sysfs.parse(NODE, probe(tmp_path)) == NodeDevices(NODE, (), (), "not loaded")


def test_state_of_the_module_alone(tree: SysfsTree) -> None:
    (tree.root / "module/mock_accel/initstate").write_text("going\n")
    assert sysfs.parse_module(probe(tree.root, sysfs.MODULE_PROBE)) == "going"
    with pytest.raises(ValueError, match="expected the state of the kernel module, found 'sh: not found'"):
        sysfs.parse_module("sh: not found")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("class/mock-accel/mock3/numa_node", "accel\\tmock3\\tNODE1-NUMA1-PF\\t17179869184\\t\\t0x0000000d\\t0"),
        ("bus/pci/devices/0000:21:00.0/numa_node", "pci\\t0000:21:00.0\\t0x0001\\t\\tmock_accel'"),
    ],
)
def test_missing_numa_node_is_not_taken_from_the_previous_device(tree: SysfsTree, path: str, line: str) -> None:
    (tree.root / path).unlink()
    with pytest.raises(ValueError) as caught:
        sysfs.parse(NODE, probe(tree.root))
    assert str(caught.value).startswith(f"{NODE}: expected a device, found '{line}")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "node1: the list of devices is incomplete: ''"),
        ("pci\t0000:11:00.0", "node1: the list of devices is incomplete: 'pci\\t0000:11:00.0'"),
        ("accel\tmock0\nend\n", "node1: expected a device, found 'accel\\tmock0' (unknown line)"),
        ("sh: not found\nend\n", "node1: expected a device, found 'sh: not found' (unknown line)"),
        ("pci\t0000:11:00.0\t0x1\nend\n", "node1: expected a device, found 'pci\\t0000:11:00.0\\t0x1' (unknown line)"),
        (
            "pci\t0000:11:00.0\t0x1\tzero\t\nend\n",
            "node1: expected a device, found 'pci\\t0000:11:00.0\\t0x1\\tzero\\t' "
            "(invalid literal for int() with base 10: 'zero')",
        ),
        ("end\n", "node1: the list of devices does not say the state of the kernel module: 'end\\n'"),
    ],
)
def test_invalid_output_is_rejected(output: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        sysfs.parse("node1", output)
    assert str(caught.value) == message


LOOK = "look at /sys/class/mock-accel/{}/status and the node agent's log"


@pytest.mark.parametrize(
    ("status", "allocated", "complaints"),
    [
        (0, [], []),
        (1, [DeviceId(NODE, "mock3")], []),
        (
            0,
            [DeviceId(NODE, "mock3")],
            [
                f"{NODE} mock3 (0000:21:00.0): expected status register 1 (allocated), found 0; {LOOK.format('mock3')}",
            ],
        ),
        (
            1,
            [DeviceId("mock-cluster-node2", "mock3")],
            [
                f"{NODE} mock3 (0000:21:00.0): expected status register 0 (free), found 1; {LOOK.format('mock3')}",
                "mock-cluster-node2 mock3: is allocated, but not in the node's /sys/class/mock-accel",
            ],
        ),
    ],
)
def test_wrong_status_registers_are_reported(status: int, allocated: list[DeviceId], complaints: list[str]) -> None:
    found = replace(SHOWN, accelerators=(MOCK0, replace(MOCK3, status=status)))
    assert sysfs.register_complaints([found], allocated) == complaints


def topology_shown() -> list[NodeDevices]:
    """Nodes whose sysfs agrees with the topology, no VF enabled."""
    return [
        NodeDevices(
            node.name,
            (),
            tuple(
                Accelerator(pf.name, pf.uuid, pf.memory, pf.numa_node, pf.capability_bits, 0, pf.bdf) for pf in node.pfs
            ),
        )
        for node in CLUSTER.nodes
    ]


def test_values_of_the_topology_have_no_complaints() -> None:
    found = topology_shown()
    vf = Accelerator("mock0_vf0", "NODE1-NUMA0-VF0", 2 << 30, 0, 0b11, 0, "0000:11:00.1")
    assert sysfs.value_complaints(CLUSTER, found) == []
    found[0] = replace(found[0], accelerators=(*found[0].accelerators, vf))
    assert sysfs.value_complaints(CLUSTER, found) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bdf": "0000:12:00.0"},
            "expected PCI address 0000:11:00.0 by topology numa-cluster, sysfs says 0000:12:00.0",
        ),
        ({"uuid": "X"}, "expected UUID NODE1-NUMA0-PF by topology numa-cluster, sysfs says X"),
        ({"memory": 1}, "expected memory size 17179869184 by topology numa-cluster, sysfs says 1"),
        ({"numa_node": -1}, "expected NUMA node 0 by topology numa-cluster, sysfs says -1"),
        ({"capabilities": 1}, "expected capabilities 0x7 by topology numa-cluster, sysfs says 0x1"),
    ],
)
def test_wrong_value_is_reported(change: dict[str, Any], message: str) -> None:
    found = topology_shown()
    first, *others = found[0].accelerators
    found[0] = replace(found[0], accelerators=(replace(first, **change), *others))
    assert sysfs.value_complaints(CLUSTER, found) == [f"{NODE} mock0 (0000:11:00.0): {message}"]


def test_missing_and_unexpected_devices_are_reported() -> None:
    found = topology_shown()
    gone, unplugged, *others = found[0].accelerators
    found[0] = replace(found[0], accelerators=(unplugged, *others, replace(gone, name="mock9")))
    assert sysfs.value_complaints(CLUSTER, found, [DeviceId(NODE, "mock1")]) == [
        f"{NODE} mock0 (0000:11:00.0): /sys/class/mock-accel has no such device",
        f"{NODE} mock1 (0000:12:00.0): expected no such device, /sys/class/mock-accel has it",
        f"{NODE} mock9: topology numa-cluster has no such device",
    ]


def test_nodes_without_the_module_are_reported() -> None:
    assert sysfs.module_complaints({"node1": sysfs.MODULE_LIVE}) == []
    assert sysfs.module_complaints({"node1": sysfs.MODULE_LIVE, "node2": "going"}) == [
        "node2: expected kernel module mock_accel live, found going"
    ]
