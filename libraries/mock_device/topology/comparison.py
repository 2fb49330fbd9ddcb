"""Compares topologies by what the nodes' devices are, whatever the nodes run on."""

from __future__ import annotations

from collections.abc import Iterator

from mock_device.topology.model import Function, Node, Topology

_FIELDS = ("uuid", "bdf", "numa_node", "memory", "capabilities", "is_vf", "total_vfs", "parent")


def differences(expected: Topology, found: Topology) -> list[str]:
    """How the nodes, NUMA nodes and devices of ``found`` differ from ``expected``, a sentence each.

    Names of topologies, addresses, and sizes of memory and CPUs of nodes are not compared.
    """
    nodes = {node.name: node for node in found.nodes}
    result: list[str] = []
    for node in expected.nodes:
        if other := nodes.pop(node.name, None):
            result += _of_node(node, other)
        else:
            result.append(f"{node.name}: expected such a node, found none")
    return result + [f"{name}: unexpected node" for name in nodes]


def _of_node(expected: Node, found: Node) -> Iterator[str]:
    if len(expected.numa_nodes) != len(found.numa_nodes):
        yield f"{expected.name}: expected {len(expected.numa_nodes)} NUMA nodes, found {len(found.numa_nodes)}"
    devices = {function.name: function for function in found.functions}
    for function in expected.functions:
        if (other := devices.pop(function.name, None)) is None:
            yield f"{expected.name} {function.name} ({function.bdf}): expected such a device, found none"
            continue
        for what, wanted, value in _pairs(expected, function, found, other):
            if wanted != value:
                yield f"{expected.name} {function.name} ({function.bdf}): expected {what} {wanted}, found {value}"
    yield from (f"{expected.name} {name}: unexpected device" for name in devices)


def _pairs(node: Node, function: Function, other_node: Node, other: Function) -> Iterator[tuple[str, object, object]]:
    for field in _FIELDS:
        yield field.replace("_", " "), getattr(function, field), getattr(other, field)
    yield "PCIe root", node.pcie_root_of(function), other_node.pcie_root_of(other)
