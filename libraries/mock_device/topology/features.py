"""Features of topologies, which suites require."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from mock_device.topology.model import Topology

_MANY_DEVICES = 100


class Feature(Enum):
    """A property of topologies that suites can require."""

    NUMA = "numa"
    """A node with two NUMA nodes that have devices."""
    TWO_NODES = "two-nodes"
    SRIOV = "sriov"
    """A PF with VFs."""
    DENSE = "dense"
    """A node with 100 PFs."""


def offered(topology: Topology) -> set[Feature]:
    """Features of ``topology``."""
    found = set()
    if any(len([numa for numa in node.numa_nodes if numa.slots]) > 1 for node in topology.nodes):
        found.add(Feature.NUMA)
    if len(topology.nodes) > 1:
        found.add(Feature.TWO_NODES)
    if any(function.total_vfs for node in topology.nodes for function in node.functions):
        found.add(Feature.SRIOV)
    if any(sum(not function.is_vf for function in node.functions) >= _MANY_DEVICES for node in topology.nodes):
        found.add(Feature.DENSE)
    return found


def missing(topology: Topology, wanted: Iterable[Feature]) -> list[str]:
    """Names of the features that ``topology`` lacks."""
    return sorted(feature.value for feature in set(wanted) - offered(topology))
