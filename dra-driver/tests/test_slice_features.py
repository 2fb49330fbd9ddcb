"""Slices with optional features, and API servers that drop or refuse what these add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import features, numa
from mock_accel_dra.api import Client
from mock_accel_dra.discovery import Device, scan
from mock_accel_dra.features import Feature
from mock_accel_dra.publisher import Publisher
from mock_accel_dra.slices import desired

GIB = 1 << 30
SHARED = Device("mock0", "U", 16 * GIB, 0, (), 0, "0000:11:00.0", "", window_size=1 << 20, shares=())
ALL = frozenset(Feature)


def device(item: Device, *on: Feature, vfs: int = 0) -> dict[str, Any]:
    """Entry of ``item`` in its slice."""
    others = [
        replace(item, name=f"{item.name}_vf{number}", pci_address=f"0000:11:00.{number + 1}", physfn=item.pci_address)
        for number in range(vfs)
    ]
    pool = desired("n", "uid", [item, *others], frozenset(on))["n/mock0"]
    found: dict[str, Any]
    (found,) = (entry for part in pool for entry in part["spec"].get("devices", ()) if entry["name"] == "mock0")
    return found


def test_without_features_nothing_changes() -> None:
    found = device(SHARED)
    assert set(found) == {"name", "attributes", "capacity"}
    assert found["capacity"] == {"memory": {"value": "16Gi"}}


def test_consumable_capacity() -> None:
    found = device(SHARED, Feature.CONSUMABLE_CAPACITY)
    assert found["allowMultipleAllocations"] is True
    assert found["capacity"] == {
        "memory": {
            "value": "16Gi",
            "requestPolicy": {"default": "16Gi", "validRange": {"min": "1Gi", "max": "16Gi", "step": "1Gi"}},
        },
        "jobs": {"value": "255", "requestPolicy": {"default": "15", "validValues": ["15", "30", "60", "120", "255"]}},
    }


def test_fractions() -> None:
    found = device(SHARED, Feature.CONSUMABLE_CAPACITY, Feature.FRACTIONAL_CAPACITY_RANGE)
    policy = {"default": "50m", "validRange": {"min": "50m", "max": "1", "step": "50m"}}
    assert found["capacity"]["compute"] == {"value": "1", "requestPolicy": policy}


@pytest.mark.parametrize(
    "item",
    [
        replace(SHARED, shares=None),
        replace(SHARED, window_size=None),
        replace(SHARED, window_size=32 << 10),
        replace(SHARED, memory=16 * GIB + 1),
    ],
)
def test_a_device_whose_shares_cannot_be_enforced_is_not_shared(item: Device) -> None:
    assert "allowMultipleAllocations" not in device(item, Feature.CONSUMABLE_CAPACITY)


def test_a_pf_with_vfs_is_not_shared() -> None:
    assert "allowMultipleAllocations" not in device(SHARED, Feature.CONSUMABLE_CAPACITY, vfs=2)


def test_binding_conditions() -> None:
    found = device(SHARED, Feature.BINDING_CONDITIONS)
    assert found["bindsToNode"] is True
    assert found["bindingConditions"] == ["mock-accel.example.com/Attached"]
    assert found["bindingFailureConditions"] == ["mock-accel.example.com/AttachFailed"]
    sick = replace(SHARED, problem="NoFirmware", detached="NoFirmware")
    keys = [taint["key"] for taint in device(sick, Feature.BINDING_CONDITIONS)["taints"]]
    assert keys == ["mock-accel.example.com/unhealthy", "mock-accel.example.com/attach-failed"]


@pytest.fixture
def shared(sysfs: SysfsTree) -> list[Device]:
    """One device that can be shared."""
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20, shares=True)
    return list(scan(sysfs.root).devices)


@pytest.mark.parametrize("gates_off", [set(), {"DRAConsumableCapacity"}, {"DRADeviceBindingConditions"}])
def test_each_slice_is_written_once_whatever_the_api_server_drops(
    api: FakeApiServer, node: Any, shared: list[Device], gates_off: set[str]
) -> None:
    api.gates_off = gates_off
    publisher = Publisher(Client(api.url), node.name, ALL)
    assert [publisher.publish(shared) for _ in range(3)] == [1, 0, 0]
    assert api.published() == {"mock0"}
    assert bool(publisher.fields_changed) == bool(gates_off)


def test_a_slice_that_is_refused_with_its_features_is_published_without(
    api: FakeApiServer, node: Any, shared: list[Device]
) -> None:
    api.refused_fields = {"requestPolicy"}
    publisher = Publisher(Client(api.url), node.name, ALL)
    assert [publisher.publish(shared) for _ in range(3)] == [1, 0, 0]
    (item,) = api.slices().values()
    assert "allowMultipleAllocations" not in item["spec"]["devices"][0]
    assert not publisher.left_out


def test_features_by_name() -> None:
    assert features.parse("") == frozenset()
    assert features.parse("ConsumableCapacity,BindingConditions") == {
        Feature.CONSUMABLE_CAPACITY,
        Feature.BINDING_CONDITIONS,
    }
    with pytest.raises(ValueError, match="expected features of ConsumableCapacity, "):
        features.parse("consumableCapacity")
    with pytest.raises(ValueError, match="expected ConsumableCapacity with FractionalCapacityRange"):
        features.parse("FractionalCapacityRange")


def with_vfs(*on: Feature) -> list[dict[str, Any]]:
    """Specs of the slices of a PF with VFs of different sizes: the counters, the PF, the VFs."""
    pf = replace(SHARED, total_vfs=2)
    sizes = {0: (12 * GIB, ("compute", "p2p-dma")), 1: (8 * GIB, ("compute",))}
    vfs = [
        replace(
            SHARED,
            name=f"mock0_vf{number}",
            pci_address=f"0000:11:00.{number + 1}",
            physfn=SHARED.pci_address,
            memory=memory,
            capabilities=capabilities,
        )
        for number, (memory, capabilities) in sizes.items()
    ]
    return [item["spec"] for item in desired("n", "uid", [pf, *vfs], frozenset(on))["n/mock0"]]


def test_vfs_are_partitions_by_memory() -> None:
    counters, *devices = with_vfs(Feature.PARTITIONABLE_DEVICES_TYPE)
    (shared,) = counters["sharedCounters"]
    assert shared["counters"] == {"slots": {"value": "2"}, "memory": {"value": "16Gi"}}
    assert "partitionTypeAttribute" not in counters
    assert {spec["partitionTypeAttribute"] for spec in devices} == {"mock-accel.example.com/partitionType"}
    found = [
        (entry["attributes"]["partitionType"]["string"], entry["consumesCounters"][0]["counters"]["memory"]["value"])
        for spec in devices
        for entry in spec["devices"]
    ]
    assert found == [("full", "16Gi"), ("vf-12Gi", "12Gi"), ("vf-8Gi", "8Gi")]


def test_groups_of_vfs() -> None:
    _, *devices = with_vfs(Feature.DEVICE_COMPATIBILITY_GROUPS)
    groups = [spec["devices"][0]["consumesCounters"][0].get("compatibilityGroups") for spec in devices]
    assert groups == [None, ["p2p-dma"], ["isolated"]]


def test_lists() -> None:
    item = replace(SHARED, near_nodes=(1, 0), numa_node=1, capabilities=("compute", "encryption"))
    attributes = device(item, Feature.LIST_TYPE_ATTRIBUTES)["attributes"]
    assert attributes["resource.kubernetes.io/numaNode"] == {"ints": [1, 0]}
    assert attributes["numaNode"] == {"int": 1}
    assert attributes["capabilityNames"] == {"strings": ["compute", "encryption"]}
    assert attributes["capabilities"] == {"string": "compute,encryption"}
    nowhere = replace(SHARED, numa_node=-1)
    assert "resource.kubernetes.io/numaNode" not in device(nowhere, Feature.LIST_TYPE_ATTRIBUTES)["attributes"]


def test_host_memory_of_a_device() -> None:
    found = device(SHARED, Feature.NODE_ALLOCATABLE_RESOURCES)["nodeAllocatableResources"]
    assert found == {"memory": {"overhead": {"perPod": "64Mi"}}}


@pytest.mark.parametrize(
    ("distances", "sockets", "near"),
    [
        ({0: "10 20"}, {0: 0, 1: 0}, (0, 1)),
        ({0: "10 20"}, {0: 0, 1: 1}, (0,)),
        ({0: "10 12 12 32"}, {0: 0, 1: 0, 2: None, 3: 0}, (0, 1, 2)),
        ({0: "10"}, {0: 0}, (0,)),
        ({}, {0: 0, 1: 0}, (0,)),
        ({0: "10 x"}, {0: 0, 1: 0}, (0,)),
    ],
)
def test_near_numa_nodes(
    sysfs: SysfsTree, distances: dict[int, str], sockets: dict[int, int | None], near: tuple[int, ...]
) -> None:
    folder = sysfs.root / "devices/system/node"
    for number, socket in sockets.items():
        (folder / f"node{number}").mkdir(parents=True)
        (folder / f"node{number}/cpulist").write_text("\n" if socket is None else f"{number}-{number}\n")
        if number in distances:
            (folder / f"node{number}/distance").write_text(f"{distances[number]}\n")
        topology = sysfs.root / f"devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{socket}\n")
    (folder / "online").write_text(f"0-{len(sockets) - 1}\n" if len(sockets) > 1 else "0\n")
    assert numa.near(sysfs.root, 0) == near


def test_a_list_that_is_refused_without_its_gate_becomes_a_number(
    api: FakeApiServer, node: Any, shared: list[Device]
) -> None:
    """The API server drops the list, and then refuses the attribute without a value."""
    api.refused_fields = {"ints"}
    publisher = Publisher(Client(api.url), node.name, ALL)
    assert [publisher.publish(shared) for _ in range(3)] == [1, 0, 0]
    (item,) = api.slices().values()
    (found,) = item["spec"]["devices"]
    assert found["attributes"]["resource.kubernetes.io/numaNode"] == {"int": 0}
    assert found["allowMultipleAllocations"], "other features stay"


def test_lists_and_another_field_that_are_refused(api: FakeApiServer, node: Any, shared: list[Device]) -> None:
    api.refused_fields = {"ints", "requestPolicy"}
    publisher = Publisher(Client(api.url), node.name, ALL)
    assert [publisher.publish(shared) for _ in range(3)] == [1, 0, 0]
    refused = api.requests.count(("POST", "/apis/resource.k8s.io/v1/resourceslices"))
    assert refused == 3, "with all, without lists, with none"
