"""Checks that ResourceSlices describe every device of sysfs exactly once, with the right names, pool and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kubernetes.utils.quantity import parse_quantity

from mock_device.checks.nodes.sysfs import Accelerator, NodeDevices
from mock_device.checks.objects.slices import PublishedDevice, Value, qualified
from mock_device.names import DRIVER
from mock_device.topology import CAPABILITIES, Topology

STANDARD = "resource.kubernetes.io"


def complaints(topology: Topology, found: Iterable[NodeDevices], published: Iterable[PublishedDevice]) -> list[str]:
    """Differences between sysfs and ResourceSlices, a message each.

    Values that sysfs does not show (PCIe root, a VF's parent) come from the
    topology. Devices that are not in the topology are left to the check of sysfs.
    """
    slices: dict[tuple[str, str], list[PublishedDevice]] = {}
    for device in published:
        slices.setdefault((device.node, device.name), []).append(device)
    result = []
    for node in found:
        known = {function.name for function in topology.node(node.node).functions}
        for accelerator in node.accelerators:
            entries = slices.pop((node.node, accelerator.name), [])
            where = f"{node.node} {accelerator.name} ({accelerator.bdf})"
            if len(entries) != 1:
                names = ", ".join(entry.slice_name for entry in entries) or "none"
                result.append(f"{where}: expected one ResourceSlice, found {names}; look at the node agent's log")
            elif accelerator.name in known:
                expected = _expected(topology, node.node, accelerator)
                result += [f"{where}: {difference}" for difference in _differences(expected, entries[0])]
    for (node_name, name), entries in sorted(slices.items()):
        result += [
            f"{node_name} {name}: {entry.slice_name} publishes it, but it is not in the node's /sys/class/mock-accel"
            for entry in entries
        ]
    return result


def _expected(topology: Topology, node_name: str, device: Accelerator) -> PublishedDevice:
    node = topology.node(node_name)
    function = next(function for function in node.functions if function.name == device.name)
    parent = node.parent_of(function)
    published_name = device.name.replace("_", "-")
    attributes: dict[str, Value] = {
        qualified("uuid"): device.uuid,
        qualified("memory"): device.memory,
        qualified("deviceType"): "vf" if function.is_vf else "pf",
        qualified("pciAddress"): device.bdf,
        qualified("numaNode"): device.numa_node,
        qualified("capabilities"): ",".join(name for name, bit in CAPABILITIES.items() if device.capabilities & bit),
        f"{STANDARD}/pciBusID": device.bdf,
        f"{STANDARD}/pcieRoot": node.pcie_root_of(function),
        f"{STANDARD}/numaNode": device.numa_node,
    }
    if parent:
        attributes[qualified("physfn")] = parent.bdf
    return PublishedDevice(
        node=node_name,
        pool=f"{node_name}/{(parent or function).name}",
        device=published_name,
        name=device.name,
        slice_name=f"{DRIVER}-{node_name}-{published_name}",
        attributes=attributes,
        capacity={qualified("memory"): str(device.memory)},
        labels={"driver": DRIVER, "node": node_name, "device": device.name},
    )


def _differences(expected: PublishedDevice, found: PublishedDevice) -> Iterator[str]:
    for what in ("slice_name", "pool", "device"):
        if (wanted := getattr(expected, what)) != (actual := getattr(found, what)):
            yield f"expected {what.replace('_', ' ')} {wanted}, found {actual}"
    yield from _mapping_differences("label", expected.labels, found.labels)
    yield from _mapping_differences("attribute", expected.attributes, found.attributes)
    in_bytes = {name: _bytes(value) for name, value in found.capacity.items()}
    yield from _mapping_differences(
        "capacity", {name: int(value) for name, value in expected.capacity.items()}, in_bytes
    )


def _bytes(quantity: str) -> int:
    return int(parse_quantity(quantity))  # type: ignore[no-untyped-call]


def _mapping_differences(what: str, expected: Mapping[str, Value], found: Mapping[str, Value]) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"expected {what} {name} {expected[name]!r}, ResourceSlice has none"
        elif name not in expected:
            yield f"unexpected {what} {name} {found[name]!r} in its ResourceSlice"
        elif expected[name] != found[name]:
            yield f"expected {what} {name} {expected[name]!r}, ResourceSlice says {found[name]!r}"
