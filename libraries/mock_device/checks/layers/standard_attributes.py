"""Standard attributes of published devices, of any driver, against the topology.

Names: ``k8s.io/dynamic-resource-allocation`` v0.37.2, ``deviceattribute/attribute.go``.
"""

from __future__ import annotations

from collections.abc import Iterable

from mock_device.checks.objects.slices import STANDARD_NUMA_NODE, PublishedDevice
from mock_device.topology import Topology

BUS_ID = "resource.kubernetes.io/pciBusID"
PCIE_ROOT = "resource.kubernetes.io/pcieRoot"


def addressed(published: Iterable[PublishedDevice]) -> list[PublishedDevice]:
    """Devices that have a PCI address by the standard attribute, by which they can be found in the topology."""
    return [item for item in published if item.attribute(BUS_ID)]


def complaints(topology: Topology, published: Iterable[PublishedDevice]) -> list[str]:
    """How NUMA node and PCIe root of devices with a PCI address differ from the topology."""
    found = []
    for item in addressed(published):
        node = topology.node(item.node)
        function = next((one for one in node.functions if one.bdf == item.attribute(BUS_ID)), None)
        where = f"{item.published_id}"
        if function is None:
            found.append(f"{where}: expected an address of the topology as {BUS_ID}, found {item.attribute(BUS_ID)}")
            continue
        wanted = {STANDARD_NUMA_NODE: function.numa_node, PCIE_ROOT: node.pcie_root_of(function)}
        found += [
            f"{where} at {function.bdf}: expected {name} {value}, found {item.attribute(name)}"
            for name, value in wanted.items()
            if item.attribute(name) not in (value, (value,), None)
        ]
    return found
