"""Checks that ResourceSlices describe every device of sysfs exactly once, with the right names, pool and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kubernetes.utils.quantity import parse_quantity

from mock_device.checks.nodes.sysfs import Accelerator, NodeDevices
from mock_device.checks.objects.slices import PublishedDevice, Value
from mock_device.driver import current
from mock_device.topology import CAPABILITIES, DeviceId, Function, Topology

STANDARD = "resource.kubernetes.io"


def complaints(topology: Topology, found: Iterable[NodeDevices], published: Iterable[PublishedDevice]) -> list[str]:
    """Differences between sysfs and ResourceSlices, a message each.

    Values that sysfs does not show (PCIe root, a VF's parent) come from the
    topology. Devices that are not in the topology are left to the check of sysfs.

    A driver that promises a slice for each device must publish exactly what docs/driver.md says. Of others, the
    attributes and capacities that they describe are compared; without the PCI address, each node must have a device.
    """
    driver = current.driver()
    if "one-slice-a-device" not in driver.promises and "pci-address" not in driver.attributes:
        publishing = {device.node for device in published}
        return [
            f"{node.node}: expected published devices, found none; look at the node agent's log"
            for node in found
            if node.accelerators and node.node not in publishing
        ]
    known = topology.devices
    slices: dict[DeviceId, list[PublishedDevice]] = {}
    for device in published:
        slices.setdefault(device.id, []).append(device)
    result = []
    for node in found:
        for key, accelerator in node.devices.items():
            entries = slices.pop(key, [])
            where = f"{key} ({accelerator.bdf})"
            if len(entries) != 1:
                names = ", ".join(entry.slice_name for entry in entries) or "none"
                result.append(f"{where}: expected one ResourceSlice, found {names}; look at the node agent's log")
            elif key in known:
                expected = _expected(topology, known[key], key, accelerator)
                result += [f"{where}: {difference}" for difference in _differences(expected, entries[0])]
    for key, entries in sorted(slices.items()):
        result += [
            f"{key}: {entry.slice_name} publishes it, but it is not in the node's /sys/class/mock-accel"
            for entry in entries
        ]
    return result


def _expected(topology: Topology, function: Function, key: DeviceId, device: Accelerator) -> PublishedDevice:
    node = topology.node(key.node)
    parent = node.parent_of(function)
    published_name = device.name.replace("_", "-")
    driver = current.driver()
    values: dict[str, Value] = {
        "uuid": device.uuid,
        "memory": device.memory,
        "kind": "vf" if function.is_vf else "pf",
        "pci-address": device.bdf,
        "numa-node": device.numa_node,
        "capabilities": ",".join(name for name, bit in CAPABILITIES.items() if device.capabilities & bit),
        "pci-root": node.pcie_root_of(function),
        **({"parent": parent.bdf} if parent else {}),
    }
    attributes = {name: values[meaning] for meaning, name in driver.attributes.items() if meaning in values}
    if "one-slice-a-device" in driver.promises:
        attributes |= {
            f"{STANDARD}/pciBusID": device.bdf,
            f"{STANDARD}/pcieRoot": node.pcie_root_of(function),
            f"{STANDARD}/numaNode": device.numa_node,
        }
    return PublishedDevice(
        node=key.node,
        pool=f"{key.node}/{(parent or function).name}",
        device=published_name,
        name=device.name,
        slice_name=f"{driver.name}-{key.node}-{published_name}",
        attributes=attributes,
        capacity={name: str(device.memory) for name in driver.capacities.values()},
        labels={"driver": driver.name, "node": key.node, "device": device.name},
    )


def _differences(expected: PublishedDevice, found: PublishedDevice) -> Iterator[str]:
    in_bytes = {name: _bytes(value) for name, value in found.capacity.items()}
    capacity = {name: int(value) for name, value in expected.capacity.items()}
    if "one-slice-a-device" not in current.driver().promises:
        described = {name: found.attributes[name] for name in expected.attributes if name in found.attributes}
        yield from _mapping_differences("attribute", expected.attributes, described)
        described = {name: in_bytes[name] for name in capacity if name in in_bytes}
        yield from _mapping_differences("capacity", capacity, described)
        return
    for what in ("slice_name", "pool", "device"):
        if (wanted := getattr(expected, what)) != (actual := getattr(found, what)):
            yield f"expected {what.replace('_', ' ')} {wanted}, found {actual}"
    yield from _mapping_differences("label", expected.labels, found.labels)
    yield from _mapping_differences("attribute", expected.attributes, found.attributes)
    yield from _mapping_differences("capacity", capacity, in_bytes)


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
