"""Topologies: which nodes, NUMA nodes, slots and PCI functions a cluster has.

``load`` reads and checks a YAML file; ``docs/topologies.md`` explains the format.
"""

from topology.loader import load
from topology.model import CAPABILITIES, Function, Node, NumaNode, Slot, Topology
from topology.reader import TopologyError
from topology.size import MAX_BYTES, parse_size

__all__ = [
    "CAPABILITIES",
    "MAX_BYTES",
    "Function",
    "Node",
    "NumaNode",
    "Slot",
    "Topology",
    "TopologyError",
    "load",
    "parse_size",
]
