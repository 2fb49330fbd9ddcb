"""Selection of a topology's devices by their properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support import topologies
from support.topologies import CLUSTER

from mock_device import topology
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import device_selection
from mock_device.checks.nodes.device_selection import NoSuitableDevice
from mock_device.topology import Node

NODE = CLUSTER.nodes[0]
DENSE = topologies.DENSE.nodes[0]
BARE = replace(NODE, numa_nodes=tuple(replace(numa, slots=()) for numa in NODE.numa_nodes))


def names(functions: list[topology.Function]) -> list[str]:
    return [function.name for function in functions]


def test_pfs_are_selected_by_properties() -> None:
    assert names(device_selection.pfs(NODE)) == ["mock0", "mock1", "mock2", "mock3", "mock4", "mock5"]
    assert names(device_selection.pfs(NODE, capability="p2p-dma")) == ["mock3", "mock4"]
    assert names(device_selection.pfs(NODE, memory=32 << 30)) == ["mock1", "mock4"]
    assert names(device_selection.pfs(NODE, bus="0000:12", capability="encryption")) == ["mock1"]


def test_special_devices_are_selected() -> None:
    assert device_selection.pf_with_vfs(NODE).name == "mock0"
    assert device_selection.pf_without_vfs(NODE).name == "mock1"
    assert device_selection.distinguishing_capability(NODE) == "encryption"
    assert device_selection.largest_memory(NODE) == 32 << 30
    assert device_selection.shared_bus(NODE) == "0000:12"
    assert names(device_selection.pfs_under_largest_root(NODE)) == ["mock0", "mock1", "mock2"]
    slot = device_selection.slot_to_unplug(NODE)
    assert (slot.pf_count, str(slot)) == (1, "mock-cluster-node1 rp11 (mock0, mock0_vf0, mock0_vf1)")


@pytest.mark.parametrize(
    ("choose", "node", "reason"),
    [
        (device_selection.pf_with_vfs, DENSE, f"no PF with VFs on {DENSE.name}"),
        (device_selection.pf_with_vfs, BARE, "no PF with VFs on mock-cluster-node1"),
        (device_selection.pf_without_vfs, BARE, "no PF without VFs on mock-cluster-node1"),
        (device_selection.distinguishing_capability, BARE, "all PFs of mock-cluster-node1 have the same capabilities"),
        (device_selection.largest_memory, BARE, "all PFs of mock-cluster-node1 have the same memory"),
        (device_selection.shared_bus, BARE, "no two PFs on one bus on mock-cluster-node1"),
    ],
)
def test_unsuitable_node_is_an_error(choose: Callable[[Node], Any], node: Node, reason: str) -> None:
    with pytest.raises(NoSuitableDevice) as caught:
        choose(node)
    assert str(caught.value) == reason


def test_node_without_devices_is_an_error() -> None:
    assert device_selection.pfs_under_largest_root(BARE) == []
    with pytest.raises(CheckError, match="^mock-cluster-node1 has no devices by the topology$"):
        device_selection.slot_to_unplug(BARE)


def test_moving_name_needs_a_pf_that_gets_it() -> None:
    first, last = (device_selection.SlotOfNode(NODE.name, slot) for slot in (NODE.slots[0], NODE.slots[-1]))
    assert device_selection.pf_whose_name_moves(NODE, first).name == "mock1", "mock2 is called mock1 then"
    with pytest.raises(NoSuitableDevice, match="no PF of mock-cluster-node1 whose name another one has without"):
        device_selection.pf_whose_name_moves(NODE, last)
