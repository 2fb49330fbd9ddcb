"""ResourceSlices computed from devices."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.discovery import Device, scan
from mock_accel_dra.slices import Changes, changes, desired, without_counters

from mock_device.topology import Node

Object = dict[str, Any]


def device(name: str, address: str, **values: Any) -> Device:
    defaults: dict[str, Any] = {
        "uuid": "U",
        "memory": 16 << 30,
        "numa_node": 0,
        "capabilities": ("compute",),
        "status": 0,
        "pcie_root": "pci0000:10",
    }
    return Device(name=name, pci_address=address, **(defaults | values))


PF = device("mock0", "0000:11:00.0", total_vfs=2)
VF0 = device("mock0_vf0", "0000:11:00.1", physfn="0000:11:00.0", memory=2 << 30)
VF1 = device("mock0_vf1", "0000:11:00.2", physfn="0000:11:00.0", memory=2 << 30)


def todo(wanted: Mapping[str, Sequence[Object]], published: list[Object]) -> Changes:
    """Changes of all pools together."""
    result = Changes()
    for change in changes(wanted, published).values():
        result.delete += change.delete
        result.write += change.write
    return result


def apply(wanted: Mapping[str, Sequence[Object]], published: list[Object]) -> list[Object]:
    """Published slices after the changes, as the API server would store them."""
    change = todo(wanted, published)
    left = {item["metadata"]["name"]: item for item in published if item["metadata"]["name"] not in change.delete}
    left |= {item["metadata"]["name"]: item for item in change.write}
    for item in left.values():
        item["metadata"].setdefault("resourceVersion", "1")
    return copy.deepcopy(list(left.values()))


def test_default_topology_gives_one_slice_per_device(plug: Callable[..., SysfsTree], node: Node) -> None:
    pools = desired(node.name, "uid", scan(plug().root).devices)
    slices = [item for pool in pools.values() for item in pool]
    pfs = [function for function in node.functions if not function.is_vf]
    assert len(slices) == len(pfs) == 6
    assert list(pools) == [f"{node.name}/{function.name}" for function in pfs]
    for item, function in zip(slices, pfs, strict=True):
        assert item["metadata"]["name"] == f"mock-accel.example.com-{node.name}-{function.name}"
        assert item["metadata"]["labels"] == {
            "driver": "mock-accel.example.com",
            "node": node.name,
            "device": function.name,
        }
        assert item["metadata"]["ownerReferences"][0]["uid"] == "uid"
        assert item["spec"]["driver"] == "mock-accel.example.com"
        assert item["spec"]["nodeName"] == node.name
        (published,) = item["spec"]["devices"]
        assert "consumesCounters" not in published


def test_attributes_and_capacity() -> None:
    (item,) = desired("n", "uid", [device("mock0", "0000:11:00.0", capabilities=("compute", "p2p-dma"))])["n/mock0"]
    assert item["spec"]["devices"] == [
        {
            "name": "mock0",
            "attributes": {
                "uuid": {"string": "U"},
                "memory": {"int": 17179869184},
                "deviceType": {"string": "pf"},
                "pciAddress": {"string": "0000:11:00.0"},
                "numaNode": {"int": 0},
                "capabilities": {"string": "compute,p2p-dma"},
                "resource.kubernetes.io/pciBusID": {"string": "0000:11:00.0"},
                "resource.kubernetes.io/pcieRoot": {"string": "pci0000:10"},
                "resource.kubernetes.io/numaNode": {"int": 0},
            },
            "capacity": {"memory": {"value": "16Gi"}},
        }
    ]


def test_unknown_numa_node_is_left_out() -> None:
    (item,) = desired("n", "uid", [device("mock0", "0000:11:00.0", numa_node=-1)])["n/mock0"]
    assert not [name for name in item["spec"]["devices"][0]["attributes"] if "numaNode" in name]


def test_pf_and_vfs_share_counters() -> None:
    pool = desired("n", "uid", [PF, VF0, VF1])["n/mock0"]
    by_name = {item["metadata"]["name"].removeprefix("mock-accel.example.com-n-"): item for item in pool}
    assert set(by_name) == {"mock0", "mock0-vf0", "mock0-vf1", "mock0-counters"}
    counters = by_name["mock0-counters"]
    assert "driver" not in counters["metadata"]["labels"]
    assert "devices" not in counters["spec"]
    assert counters["spec"]["sharedCounters"] == [{"name": "vf-slots", "counters": {"slots": {"value": "2"}}}]
    for name, consumed in (("mock0", "2"), ("mock0-vf0", "1"), ("mock0-vf1", "1")):
        (published,) = by_name[name]["spec"]["devices"]
        assert published["name"] == name
        assert published["consumesCounters"] == [{"counterSet": "vf-slots", "counters": {"slots": {"value": consumed}}}]
    vf = by_name["mock0-vf0"]
    assert vf["metadata"]["labels"]["device"] == "mock0_vf0"
    assert vf["spec"]["devices"][0]["attributes"]["physfn"] == {"string": "0000:11:00.0"}
    assert vf["spec"]["devices"][0]["attributes"]["deviceType"] == {"string": "vf"}


def test_a_vf_without_its_pf_is_left_out() -> None:
    assert desired("n", "uid", [VF0]) == {}


def test_first_generation_is_created_completely() -> None:
    change = todo(desired("n", "uid", [PF, VF0]), [])
    assert not change.delete
    assert not [item for item in change.write if "resourceVersion" in item["metadata"]]
    assert {item["spec"]["pool"]["resourceSliceCount"] for item in change.write} == {3}
    assert {item["spec"]["pool"]["generation"] for item in change.write} == {1}


def test_no_changes_if_slices_are_right() -> None:
    wanted = desired("n", "uid", [PF, VF0, VF1])
    assert not changes(wanted, apply(wanted, []))


def test_only_the_pool_that_differs_is_touched() -> None:
    other = device("mock1", "0000:12:00.0")
    published = apply(desired("n", "uid", [PF, other]), [])
    change = todo(desired("n", "uid", [PF, VF0, VF1, other]), published)
    names = [item["metadata"]["name"].rpartition("-n-")[2] for item in change.write]
    assert names == ["mock0-counters", "mock0", "mock0-vf0", "mock0-vf1"]
    assert {item["spec"]["pool"]["generation"] for item in change.write} == {2}
    assert {item["spec"]["pool"]["resourceSliceCount"] for item in change.write} == {4}


def test_disabling_vfs_removes_the_counters() -> None:
    published = apply(desired("n", "uid", [PF, VF0, VF1]), [])
    left = apply(desired("n", "uid", [PF]), published)
    assert [item["metadata"]["name"] for item in left] == ["mock-accel.example.com-n-mock0"]
    assert left[0]["spec"]["pool"] == {"name": "n/mock0", "generation": 2, "resourceSliceCount": 1}
    assert "consumesCounters" not in left[0]["spec"]["devices"][0]


def test_a_device_that_is_gone_is_deleted() -> None:
    change = todo({}, apply(desired("n", "uid", [PF]), []))
    assert change.delete == ["mock-accel.example.com-n-mock0"]
    assert not change.write


@pytest.mark.parametrize(
    "meddle",
    [
        lambda item: item["spec"]["devices"][0]["attributes"]["numaNode"].update(int=7),
        lambda item: item["metadata"]["labels"].pop("driver"),
        lambda item: item["metadata"].pop("ownerReferences"),
        lambda item: item["spec"]["pool"].update(resourceSliceCount=2),
    ],
)
def test_edits_of_others_are_reverted(meddle: Callable[[Object], object]) -> None:
    wanted = desired("n", "uid", [PF])
    published = apply(wanted, [])
    meddle(published[0])
    (repaired,) = apply(wanted, published)
    assert repaired["spec"]["pool"]["generation"] == 2
    assert not changes(wanted, [repaired])


def test_labels_of_others_are_kept() -> None:
    published = apply(desired("n", "uid", [PF]), [])
    published[0]["metadata"]["labels"]["team"] = "qa"
    assert not changes(desired("n", "uid", [PF]), published)
    written = todo(desired("n", "uid", [PF, VF0]), published).write
    (updated,) = (item for item in written if "resourceVersion" in item["metadata"])
    assert updated["metadata"]["labels"]["team"] == "qa"


def test_an_extra_slice_is_deleted_and_the_others_are_not_written_again() -> None:
    wanted = desired("n", "uid", [PF, VF0])
    published = apply(wanted, [])
    foreign = copy.deepcopy(published[0])
    foreign["metadata"]["name"] = "foreign"
    foreign["spec"]["pool"]["generation"] = 7
    change = todo(wanted, [*published, foreign])
    assert change.delete == ["foreign"]
    assert not change.write


def test_without_counters_pf_or_vfs_remain() -> None:
    pool = desired("n", "uid", [PF, VF0, VF1])["n/mock0"]
    names = {
        pf: [device["name"] for item in without_counters(pool, pf=pf) for device in item["spec"]["devices"]]
        for pf in (True, False)
    }
    assert names == {True: ["mock0"], False: ["mock0-vf0", "mock0-vf1"]}
    assert "consumesCounters" not in str(without_counters(pool, pf=False))
    assert "consumesCounters" in str(pool)


def test_no_pcie_root_no_attribute() -> None:
    (item,) = desired("n", "uid", [device("mock0", "0000:11:00.0", pcie_root="")])["n/mock0"]
    assert not [name for name in item["spec"]["devices"][0]["attributes"] if "pcieRoot" in name]
