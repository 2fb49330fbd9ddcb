"""Published devices, compared with sysfs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from mock_accel_dra.slices import desired
from support.driver_device import device_of
from support.topologies import CLUSTER

from mock_device.checks.layers import publication
from mock_device.checks.nodes.sysfs import Accelerator, NodeDevices
from mock_device.checks.objects import slices
from mock_device.checks.objects.slices import PublishedDevice

NODE = CLUSTER.nodes[0]
FUNCTIONS = [function for function in NODE.functions if function.name in {"mock0", "mock0_vf0", "mock5"}]
SHOWN = [
    NodeDevices(
        NODE.name,
        (),
        tuple(Accelerator(f.name, f.uuid, f.memory, f.numa_node, f.capability_bits, 0, f.bdf) for f in FUNCTIONS),
    )
]
DOMAIN = "mock-accel.example.com"


def as_the_driver_publishes() -> list[PublishedDevice]:
    """The driver's slices of FUNCTIONS."""
    devices = [device_of(NODE, function) for function in FUNCTIONS]
    return slices.parse(item for pool in desired(NODE.name, "uid", devices).values() for item in pool)


def test_slices_of_the_driver_agree_with_sysfs() -> None:
    assert publication.complaints(CLUSTER, SHOWN, as_the_driver_publishes()) == []


def attribute(name: str, value: slices.Value) -> Callable[[PublishedDevice], PublishedDevice]:
    return lambda device: replace(device, attributes={**device.attributes, name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            attribute(f"{DOMAIN}/uuid", "X"),
            f"expected attribute {DOMAIN}/uuid 'NODE1-NUMA0-VF0', ResourceSlice says 'X'",
        ),
        (attribute(f"{DOMAIN}/color", "red"), f"unexpected attribute {DOMAIN}/color 'red' in its ResourceSlice"),
        (
            attribute("resource.kubernetes.io/pcieRoot", "pci0000:20"),
            "expected attribute resource.kubernetes.io/pcieRoot 'pci0000:10', ResourceSlice says 'pci0000:20'",
        ),
        (
            lambda device: replace(
                device, attributes={k: v for k, v in device.attributes.items() if not k.endswith("physfn")}
            ),
            f"expected attribute {DOMAIN}/physfn '0000:11:00.0', ResourceSlice has none",
        ),
        (
            lambda device: replace(device, capacity={f"{DOMAIN}/memory": "2G"}),
            f"expected capacity {DOMAIN}/memory 2147483648, ResourceSlice says 2000000000",
        ),
        (
            lambda device: replace(device, labels={**device.labels, "device": "mock0-vf0"}),
            "expected label device 'mock0_vf0', ResourceSlice says 'mock0-vf0'",
        ),
        (
            lambda device: replace(device, pool="other"),
            "expected pool mock-cluster-node1/mock0, found other",
        ),
        (
            lambda device: replace(device, slice_name="other"),
            f"expected slice name {DOMAIN}-mock-cluster-node1-mock0-vf0, found other",
        ),
    ],
)
def test_difference_is_reported(change: Callable[[PublishedDevice], PublishedDevice], message: str) -> None:
    published = [change(item) if item.name == "mock0_vf0" else item for item in as_the_driver_publishes()]
    assert publication.complaints(CLUSTER, SHOWN, published) == [f"{NODE.name} mock0_vf0 (0000:11:00.1): {message}"]


def test_duplicate_missing_and_unknown_devices_are_reported() -> None:
    mock0, vf, mock5 = as_the_driver_publishes()
    published = [mock0, replace(mock0, slice_name="again"), vf, replace(mock5, name="mock9")]
    assert publication.complaints(CLUSTER, SHOWN, published) == [
        f"{NODE.name} mock0 (0000:11:00.0): expected one ResourceSlice, found {mock0.slice_name}, again; "
        "look at the node agent's log",
        f"{NODE.name} mock5 (0000:22:00.1): expected one ResourceSlice, found none; look at the node agent's log",
        f"{NODE.name} mock9: {mock5.slice_name} publishes it, but it is not in the node's /sys/class/mock-accel",
    ]
