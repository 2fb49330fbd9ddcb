"""Standard attributes against the topology."""

from __future__ import annotations

from typing import Any

import pytest
from support.topologies import CLUSTER

from mock_device.checks.layers import standard_attributes
from mock_device.checks.layers.standard_attributes import BUS_ID, PCIE_ROOT
from mock_device.checks.objects.slices import STANDARD_NUMA_NODE, PublishedDevice

NODE = CLUSTER.nodes[0]
FUNCTION = NODE.functions[0]
RIGHT = {BUS_ID: FUNCTION.bdf, STANDARD_NUMA_NODE: FUNCTION.numa_node, PCIE_ROOT: NODE.pcie_root_of(FUNCTION)}


def device(**changes: Any) -> PublishedDevice:
    attributes = {**RIGHT, **{f"resource.kubernetes.io/{name}": value for name, value in changes.items()}}
    return PublishedDevice(NODE.name, "pool", "a", "a", "slice-1", attributes)


def test_right_and_missing_attributes_have_no_complaints() -> None:
    published = [device(), device(numaNode=None, pcieRoot=None), device(numaNode=(FUNCTION.numa_node,))]
    assert standard_attributes.complaints(CLUSTER, published) == []


def test_device_without_an_address_cannot_be_compared() -> None:
    unknown = device(pciBusID=None, numaNode=7)
    assert standard_attributes.addressed([unknown, device()]) == [device()]
    assert standard_attributes.complaints(CLUSTER, [unknown]) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"numaNode": 7}, f"expected {STANDARD_NUMA_NODE} {FUNCTION.numa_node}, found 7"),
        ({"pcieRoot": "pci0000:99"}, f"expected {PCIE_ROOT} {NODE.pcie_root_of(FUNCTION)}, found pci0000:99"),
        ({"pciBusID": "0000:99:00.0"}, f"expected an address of the topology as {BUS_ID}, found 0000:99:00.0"),
    ],
)
def test_wrong_attributes_are_reported(changes: dict[str, Any], expected: str) -> None:
    (complaint,) = standard_attributes.complaints(CLUSTER, [device(**changes)])
    assert complaint.startswith("pool a") and complaint.endswith(expected)
