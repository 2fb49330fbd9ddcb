"""Parsing of ResourceSlices that the driver wrote."""

from __future__ import annotations

from typing import Any

import pytest
from mock_accel_dra.discovery import Device
from mock_accel_dra.slices import desired

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import slices
from mock_device.checks.objects.slices import PublishedDevice

NODE = "mock-cluster-node1"


def device(name: str, address: str, numa_node: int, physfn: str | None = None) -> Device:
    return Device(name, f"UUID-{name}", 1 << 30, numa_node, ("compute",), 0, address, "pci0000:10", physfn, 2)


def published(*devices: Device) -> list[PublishedDevice]:
    return slices.parse(item for pool in desired(NODE, "uid", devices).values() for item in pool)


def test_devices_consume_counters_of_their_pool() -> None:
    """The slice with the counters has no devices."""
    found = published(device("mock0", "0000:11:00.0", 0), device("mock0_vf0", "0000:11:00.1", 0, "0000:11:00.0"))
    pool = f"{NODE}/mock0"
    assert [(item.node, item.pool, item.device, item.name, item.slice_name) for item in found] == [
        (NODE, pool, "mock0", "mock0", "mock-accel.example.com-mock-cluster-node1-mock0"),
        (NODE, pool, "mock0-vf0", "mock0_vf0", "mock-accel.example.com-mock-cluster-node1-mock0-vf0"),
    ]
    assert [item.attribute("deviceType") for item in found] == ["pf", "vf"]


def test_attributes_of_both_domains_are_parsed() -> None:
    (found,) = published(device("mock0", "0000:11:00.0", 0))
    assert found.numa_node == 0
    assert found.attribute("numaNode") == found.attribute("mock-accel.example.com/numaNode") == 0
    assert found.attribute("resource.kubernetes.io/numaNode") == 0
    assert found.attribute("resource.kubernetes.io/pciBusID") == found.attribute("pciAddress") == "0000:11:00.0"
    assert found.attribute("pciBusID") is None


def test_missing_numa_node_is_none() -> None:
    (found,) = published(device("mock0", "0000:11:00.0", -1))
    assert found.numa_node is None


@pytest.mark.parametrize(
    ("driver", "names"), [("mock-accel.example.com", ["mock0_vf0", "mock1"]), ("gpu.example.com", [])]
)
def test_slice_without_labels_and_attributes_is_parsed(driver: str, names: list[str]) -> None:
    """Names in sysfs are then derived from the published ones; slices of other drivers are ignored."""
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": driver, "nodeName": NODE, "pool": pool, "devices": [{"name": "mock0-vf0"}, {"name": "mock1"}]}
    found = slices.parse([{"metadata": {"name": "s"}, "spec": spec}])
    assert [item.name for item in found] == names
    assert all(item.numa_node is None for item in found)


def test_capacity_and_labels_are_parsed() -> None:
    (found,) = published(device("mock0", "0000:11:00.0", 0))
    assert found.capacity == {"mock-accel.example.com/memory": "1Gi"}
    assert found.labels == {"driver": "mock-accel.example.com", "node": NODE, "device": "mock0"}


def _part(pool: str, generation: int, count: int, driver: str = "mock-accel.example.com") -> dict[str, Any]:
    return {
        "spec": {"driver": driver, "pool": {"name": pool, "generation": generation, "resourceSliceCount": count}},
    }


def test_incomplete_pools_are_reported() -> None:
    items = [
        *(_part("whole", 1, 2) for _ in range(2)),
        _part("half", 3, 2),
        _part("mixed", 1, 1),
        _part("mixed", 2, 2),
        _part("foreign", 1, 9, "gpu.example.com"),
    ]
    assert slices.incomplete_pools(items) == [
        "pool half: expected 2 slices of one generation, found 1 of generations 3",
        "pool mixed: expected 2 slices of one generation, found 2 of generations 1, 2",
    ]


def test_slice_of_a_device() -> None:
    (item,) = found = published(device("mock0", "0000:11:00.0", 0))
    assert slices.slice_of(found, item.id) == "mock-accel.example.com-mock-cluster-node1-mock0"
    for wrong, names in (([], "none"), (found * 2, f"{item.slice_name}, {item.slice_name}")):
        with pytest.raises(CheckError) as caught:
            slices.slice_of(wrong, item.id)
        assert str(caught.value) == f"{item.id}: expected one ResourceSlice, found {names}"
