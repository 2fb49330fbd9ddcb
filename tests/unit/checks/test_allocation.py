"""Allocated devices compared with the topology and with each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.published_devices import NODE, publish
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.checks.layers import allocation
from mock_device.checks.objects.claims import AllocatedDevice, DeviceClass

NAMED = {function.name: publish(function) for function in CLUSTER.node(NODE).functions}


def devices(*names: str, claim: str = "pair", alternative: str = "") -> list[AllocatedDevice]:
    """Devices of the first node that ``claim`` has."""
    return [AllocatedDevice(claim, "r", NAMED[name], alternative) for name in names]


def test_unexpected_and_missing_devices_are_reported() -> None:
    mock0, mock1 = CLUSTER.node(NODE).pfs[:2]
    devices = [AllocatedDevice("pair", "r", publish(mock0)), AllocatedDevice("pair", "r", publish(mock1))]
    assert allocation.other_devices(devices, [mock1, mock0]) == []
    assert allocation.other_devices(devices[:1], [mock1]) == [
        "mock-cluster-node1 mock0 (0000:11:00.0) is unexpected",
        "mock1 (0000:12:00.0) is missing",
    ]
    elsewhere = AllocatedDevice("pair", "r", publish(mock1, "mock-cluster-node2"))
    assert allocation.other_devices([devices[0], elsewhere], [mock0, mock1]) == [
        "they are on several nodes: mock-cluster-node1, mock-cluster-node2"
    ]


def test_wrong_numa_node_is_reported_with_device_request_and_slice() -> None:
    """The topology decides, not the slice."""
    mock3 = CLUSTER.node(NODE).functions[5]
    right = AllocatedDevice("pair", "near", publish(CLUSTER.node(NODE).functions[0], numa_node=1))
    wrong = AllocatedDevice("pair", "far", publish(mock3, numa_node=0))
    assert allocation.wrong_numa_nodes(CLUSTER, [right, wrong], 0) == [
        "mock-cluster-node1 mock3 (0000:21:00.0) of claim 'pair', request 'far': expected NUMA node 0, "
        "found 1 by topology numa-cluster; ResourceSlice says 0"
    ]


def test_function_is_found_on_the_devices_node() -> None:
    function = CLUSTER.node("mock-cluster-node2").functions[0]
    device = AllocatedDevice("pair", "r", publish(function, "mock-cluster-node2"))
    assert allocation.function_of(CLUSTER, device).uuid == "NODE2-NUMA0-PF"


def test_device_outside_the_topology_is_an_error() -> None:
    device = AllocatedDevice("pair", "r", publish(CLUSTER.node(NODE).functions[0], "mock-cluster-node3"))
    with pytest.raises(CheckError) as caught:
        allocation.function_of(CLUSTER, device)
    assert str(caught.value) == (
        "claim 'pair' has mock-cluster-node3 mock0 (0000:11:00.0), which is not in topology numa-cluster"
    )


def test_device_of_two_claims_is_reported() -> None:
    def device(name: str, claim: str) -> AllocatedDevice:
        return AllocatedDevice(claim, "r", NAMED[name])

    assert allocation.allocated_twice([device("mock1", "a"), device("mock2", "b")]) == []
    assert allocation.allocated_twice([device("mock1", "b"), device("mock1", "a")]) == [
        f"{NODE} mock1 belongs to claims a, b"
    ]
    watches = replace(device("mock1", "watches"), is_exclusive=False, admin_access=True)
    assert allocation.allocated_twice([device("mock1", "b"), watches]) == []


MOCK0, MOCK1, MOCK3, VF = (
    f"{NODE} mock0 (0000:11:00.0)",
    f"{NODE} mock1 (0000:12:00.0)",
    f"{NODE} mock3 (0000:21:00.0)",
    f"{NODE} mock0_vf0 (0000:11:00.1)",
)


def test_number_of_devices_is_compared() -> None:
    assert allocation.wrong_count(devices("mock0", "mock1"), 2) == []
    assert allocation.wrong_count(devices("mock0"), 2) == [f"expected 2 devices, found 1: {MOCK0}"]
    assert allocation.wrong_count([], 1) == ["expected 1 devices, found 0: none"]


def test_class_is_that_of_the_topology() -> None:
    assert allocation.wrong_class(CLUSTER, devices("mock0_vf0"), DeviceClass.VF, 1) == []
    assert allocation.wrong_class(CLUSTER, devices("mock0"), DeviceClass.PF, 1) == []
    for found, device_class, count in (("mock0", DeviceClass.VF, 1), ("mock0_vf0", DeviceClass.PF, 1)):
        (complaint,) = allocation.wrong_class(CLUSTER, devices(found), device_class, count)
        assert complaint.startswith(f"expected 1 {device_class.name}s by topology numa-cluster, found {NODE} {found} (")
    (complaint,) = allocation.wrong_class(CLUSTER, devices("mock0"), DeviceClass.PF, 2)
    assert complaint == f"expected 2 PFs by topology numa-cluster, found {MOCK0}"


def test_vf_beside_its_own_pf_is_reported() -> None:
    assert allocation.vfs_with_parent(CLUSTER, devices("mock1", "mock0_vf0")) == []
    assert allocation.vfs_with_parent(CLUSTER, devices("mock0", "mock0_vf0")) == [
        f"expected no VF together with its PF, found {VF} in {MOCK0}, {VF}"
    ]


def test_pf_of_the_same_name_on_another_node_is_no_parent() -> None:
    elsewhere = AllocatedDevice("pair", "r", publish(CLUSTER.nodes[1].pfs[0], CLUSTER.nodes[1].name))
    assert allocation.vfs_with_parent(CLUSTER, [elsewhere, *devices("mock0_vf0")]) == []


def test_alternative_is_the_one_that_was_taken() -> None:
    assert allocation.wrong_alternative(devices("mock0", alternative="small"), "small") == []
    assert allocation.wrong_alternative(devices("mock0", alternative="large"), "small") == [
        "expected alternative small, found large"
    ]
    assert allocation.wrong_alternative([], "small") == ["expected alternative small, found no device"]


def test_attribute_is_published_with_one_value() -> None:
    assert allocation.different_attribute(devices("mock0", "mock1"), "numaNode") == []
    assert allocation.different_attribute(devices("mock0", "mock3"), "numaNode") == [
        f"expected one value of attribute numaNode for all devices, found {MOCK0}: 0, {MOCK3}: 1"
    ]
    assert allocation.different_attribute(devices("mock0"), "color") == [
        f"expected one value of attribute color for all devices, found {MOCK0}: None"
    ]
    assert allocation.different_attribute([], "numaNode") == [
        "expected one value of attribute numaNode for all devices, found no device"
    ]


def test_devices_are_at_one_place() -> None:
    near, far = devices("mock0", "mock1"), devices("mock0", "mock3")
    assert set(allocation.pcie_roots(CLUSTER, near).values()) == {"pci0000:10"}
    assert allocation.not_one("NUMA node", allocation.numa_nodes(CLUSTER, near), CLUSTER) == []
    assert allocation.not_one("NUMA node", allocation.numa_nodes(CLUSTER, far), CLUSTER) == [
        f"expected its devices on one NUMA node, found {MOCK0} on 0, {MOCK3} on 1 by topology numa-cluster"
    ]
    assert allocation.not_one("PCIe root", allocation.pcie_roots(CLUSTER, far), CLUSTER) == [
        f"expected its devices on one PCIe root, found {MOCK0} on pci0000:10, {MOCK3} on pci0000:20 "
        "by topology numa-cluster"
    ]
    assert allocation.not_one("NUMA node", {}, CLUSTER) == [
        "expected its devices on one NUMA node, found no device by topology numa-cluster"
    ]


def test_devices_on_another_bus_are_reported() -> None:
    assert allocation.on_other_bus(CLUSTER, devices("mock1"), "0000:12") == []
    assert allocation.on_other_bus(CLUSTER, devices("mock0", "mock1"), "0000:12") == [
        f"expected all devices on bus 0000:12 by topology numa-cluster, found {MOCK0}"
    ]


def test_device_of_two_pods_is_reported() -> None:
    assert allocation.shared_devices({"a": devices("mock0"), "b": devices("mock1")}) == []
    assert allocation.shared_devices({"a": devices("mock0"), "b": devices("mock0", "mock1")}) == [
        f"expected different devices for all pods, found {NODE} mock0 in a, b"
    ]


def test_pods_that_share_a_claim_have_the_same_devices() -> None:
    assert allocation.different_devices({"a": devices("mock0", "mock1"), "b": devices("mock1", "mock0")}) == []
    assert allocation.different_devices({"a": devices("mock0"), "b": []}) == [
        f"expected the same devices for all pods, found a: {NODE} mock0; b: none"
    ]


def test_devices_are_at_different_places() -> None:
    assert allocation.not_different("NUMA node", {"a": 0, "b": 1}) == []
    assert allocation.not_different("NUMA node", {"a": 0, "b": 0}) == [
        "expected its devices on different NUMA nodes, found a on 0, b on 0"
    ]
    assert allocation.not_different("NUMA node", {}) == [
        "expected its devices on different NUMA nodes, found no device"
    ]
