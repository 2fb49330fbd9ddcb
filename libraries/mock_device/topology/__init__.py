"""Topologies: which nodes, NUMA nodes, slots and PCI functions a cluster has.

``load`` reads and checks a YAML file; ``docs/topologies.md`` explains the format.
"""

from mock_device.topology.loader import load
from mock_device.topology.model import CAPABILITIES, DeviceId, Function, Node, NumaNode, Slot, Topology
from mock_device.topology.reader import TopologyError
from mock_device.topology.size import MAX_BYTES, WINDOWS, is_window, parse_size

__all__ = [
    "CAPABILITIES",
    "MAX_BYTES",
    "WINDOWS",
    "DeviceId",
    "Function",
    "Node",
    "NumaNode",
    "Slot",
    "Topology",
    "TopologyError",
    "is_window",
    "load",
    "parse_size",
]
