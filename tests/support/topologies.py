"""Topologies of the project, for all tests that need one."""

from __future__ import annotations

from mock_device import topology
from mock_device.lab.base.variables import topology_path

CLUSTER = topology.load(topology_path("numa-cluster"))
"""The default topology: two nodes, each with two NUMA nodes, PFs and VFs."""
DENSE = topology.load(topology_path("dense"))
"""One node with four NUMA nodes and 100 PFs."""
SINGLE_NODE = topology.load(topology_path("single-node"))
"""One node of the default topology."""
