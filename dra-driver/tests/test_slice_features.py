"""Slices with optional features, and API servers that drop or refuse what these add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import features
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
