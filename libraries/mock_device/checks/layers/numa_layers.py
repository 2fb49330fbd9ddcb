"""Checks that each layer, from the guest's PCI bus to the ResourceSlices, shows every device on its NUMA node.

A device that is wrong on one layer is wrong on all later layers. To point at
the layer at fault, a layer is blamed only for devices that are right on the
layers before it; others are excused, with a reference to the layer at fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mock_device.checks.layers.verdict import Verdict
from mock_device.checks.nodes.sysfs import NodeDevices
from mock_device.checks.objects.slices import STANDARD_NUMA_NODE, PublishedDevice
from mock_device.driver import current
from mock_device.topology import DeviceId, Function, Topology

PCI_BUS = "guest PCI bus"
SYSFS = "sysfs"
SLICES = "ResourceSlice"


@dataclass(frozen=True)
class Sighting:
    """A device as one layer shows it."""

    numa_node: int | None
    """None if the layer shows none."""
    bdf: str
    where: str = ""
    """Which attribute of the layer shows the value, if there are several; for messages."""


@dataclass(frozen=True)
class Layer:
    """All devices of one layer."""

    title: str
    sightings: Mapping[DeviceId, tuple[Sighting, ...]]


def pci_bus(topology: Topology, found: Iterable[NodeDevices]) -> Layer:
    """The guests' PCI buses. Functions are identified by address; one that is not in the topology is named by it."""
    ids = {(key.node, function.bdf): key for key, function in topology.devices.items()}
    return Layer(
        PCI_BUS,
        {
            ids.get((node.node, item.bdf), DeviceId(node.node, item.bdf)): (Sighting(item.numa_node, item.bdf),)
            for node in found
            for item in node.pci
        },
    )


def sysfs(found: Iterable[NodeDevices]) -> Layer:
    """Class mock-accel in the guests' sysfs."""
    return Layer(
        SYSFS,
        {key: (Sighting(item.numa_node, item.bdf),) for node in found for key, item in node.devices.items()},
    )


def slices(published: Iterable[PublishedDevice]) -> Layer:
    """ResourceSlices, with the driver's NUMA attribute, and the standard one if the driver publishes it.

    The driver must describe the attributes of NUMA node and PCI address.
    """
    driver = current.driver()
    names = [driver.attributes["numa-node"]]
    if "one-slice-a-device" in driver.promises:
        names.append(STANDARD_NUMA_NODE)
    sightings: dict[DeviceId, tuple[Sighting, ...]] = {}
    counts: Counter[DeviceId] = Counter()
    for device in published:
        key = device.id
        counts[key] += 1
        if counts[key] > 1:
            key = DeviceId(device.node, f"{device.name} (published again in {device.slice_name})")
        bdf = str(device.meaning("pci-address"))
        values = [(device.attribute(name), name) for name in names]
        sightings[key] = tuple(
            Sighting(value if isinstance(value, int) else None, bdf, where) for value, where in values
        )
    return Layer(SLICES, sightings)


def judge(topology: Topology, layers: Iterable[Layer]) -> Verdict:
    """Compare the last of ``layers`` with the topology; ``layers`` are in the order from the PCI bus to the slices."""
    *before, last = layers
    blamed: list[str] = []
    excused: list[str] = []
    expected = dict(_expected(topology, last, before))
    for key, function in expected.items():
        faults = list(_faults(topology, key, function, last))
        earlier = next((layer for layer in before if any(_faults(topology, key, function, layer))), None)
        if faults and earlier:
            excused.append(next(_faults(topology, key, function, earlier)))
        else:
            blamed += faults
    known = topology.devices
    for key in sorted(last.sightings.keys() - expected.keys()):
        whose = before[-1].title if key in known else f"topology {topology.name}"
        message = f"{key}: {last.title} shows a device that {whose} does not have"
        # An unknown device may come from an earlier layer (from the PCI bus under its address); a known one cannot.
        keys = {key, DeviceId(key.node, last.sightings[key][0].bdf)}
        if key not in known and any(keys & layer.sightings.keys() for layer in before):
            excused.append(message)
        else:
            blamed.append(message)
    return Verdict(tuple(blamed), tuple(excused))


def _expected(topology: Topology, last: Layer, before: list[Layer]) -> Iterator[tuple[DeviceId, Function]]:
    """Devices that ``last`` must show: all PFs, and enabled VFs, which are those in sysfs."""
    enabled = next((layer for layer in before if layer.title == SYSFS), last)
    for key, function in topology.devices.items():
        if not function.is_vf or key in enabled.sightings:
            yield key, function


def _faults(topology: Topology, key: DeviceId, function: Function, layer: Layer) -> Iterator[str]:
    expected = f"{key} ({function.bdf}): expected NUMA node {function.numa_node} by topology {topology.name}"
    sightings = layer.sightings.get(key)
    if not sightings:
        yield f"{expected}, {layer.title} has no such device"
        return
    if (found := sightings[0].bdf) != function.bdf:
        by_topology = f"expected PCI address {function.bdf} by topology {topology.name}"
        yield f"{key}: {by_topology}, {layer.title} says {found}"
    wrong = [sighting for sighting in sightings if sighting.numa_node != function.numa_node]
    for value in dict.fromkeys(sighting.numa_node for sighting in wrong):
        shown = "nothing" if value is None else str(value)
        where = [sighting.where for sighting in wrong if sighting.numa_node == value and sighting.where]
        only_some = f" (attribute {', '.join(where)})" if 0 < len(where) < len(sightings) else ""
        yield f"{expected}, {layer.title} says {shown}{only_some}"
