"""Devices of the default topology, as their ResourceSlices publish them."""

from __future__ import annotations

from mock_device.checks.objects.slices import PublishedDevice
from mock_device.topology import Function
from support.topologies import CLUSTER

NODE = CLUSTER.nodes[0].name
DRIVER = "mock-accel.example.com"


def publish(function: Function, node: str = NODE, numa_node: int | None = None) -> PublishedDevice:
    """``function`` of ``node``, published there or on ``numa_node``."""
    attributes = {
        f"{DRIVER}/pciAddress": function.bdf,
        f"{DRIVER}/deviceType": "vf" if function.is_vf else "pf",
        f"{DRIVER}/numaNode": function.numa_node if numa_node is None else numa_node,
    }
    name = function.name.replace("_", "-")
    pool = f"{node}/{function.parent or function.name}"
    return PublishedDevice(node, pool, name, function.name, f"{DRIVER}-{node}-{name}", attributes)
