"""Whether allocated devices are those that the topology, or a test, expects. Messages name the device and its claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.device_selection import bus_of
from mock_device.checks.objects.claims import AllocatedDevice, DeviceClass
from mock_device.checks.objects.slices import Value
from mock_device.topology import DeviceId, Function, Topology


def function_of(topology: Topology, device: AllocatedDevice) -> Function:
    """The device's function in the topology. Raises CheckError if the topology has no such device."""
    if (function := topology.devices.get(device.id)) is not None:
        return function
    raise CheckError(f"claim {device.claim!r} has {device}, which is not in topology {topology.name}")


def other_devices(devices: Iterable[AllocatedDevice], expected: Iterable[Function]) -> list[str]:
    """How ``devices`` differ from ``expected``, which are all of one node, a message each."""
    names = {function.name: function for function in expected}
    found = {device.name: device for device in devices}
    complaints = [f"{found[name]} is unexpected" for name in sorted(found.keys() - names.keys())]
    complaints += [f"{name} ({names[name].bdf}) is missing" for name in sorted(names.keys() - found.keys())]
    if len(nodes := {device.node for device in found.values()}) > 1:
        complaints.append(f"they are on several nodes: {', '.join(sorted(nodes))}")
    return complaints


def wrong_count(devices: Sequence[AllocatedDevice], count: int) -> list[str]:
    """A message if there are more or fewer than ``count`` devices."""
    return [] if len(devices) == count else [f"expected {count} devices, found {len(devices)}: {_listing(devices)}"]


def wrong_class(
    topology: Topology, devices: Sequence[AllocatedDevice], device_class: DeviceClass, count: int
) -> list[str]:
    """A message unless ``devices`` are exactly ``count`` PFs (or VFs) of the topology."""
    is_vf = device_class is DeviceClass.VF
    if len(devices) == count and all(function_of(topology, device).is_vf == is_vf for device in devices):
        return []
    return [f"expected {count} {device_class.name}s by topology {topology.name}, found {_listing(devices)}"]


def vfs_with_parent(topology: Topology, devices: Sequence[AllocatedDevice]) -> list[str]:
    """VFs among ``devices`` whose PF is there, too, a message each."""
    parents = {device.id for device in devices}
    return [
        f"expected no VF together with its PF, found {device} in {_listing(devices)}"
        for device in devices
        if (parent := function_of(topology, device).parent) and DeviceId(device.node, parent) in parents
    ]


def wrong_alternative(devices: Iterable[AllocatedDevice], expected: str) -> list[str]:
    """A message if the scheduler took another alternative of the request than ``expected``."""
    found = {device.alternative for device in devices}
    if found == {expected}:
        return []
    return [f"expected alternative {expected}, found {', '.join(sorted(found)) or 'no device'}"]


def different_attribute(devices: Iterable[AllocatedDevice], attribute: str) -> list[str]:
    """A message unless ResourceSlices publish the same value of ``attribute`` for all ``devices``."""
    values = {str(device): device.published.attribute(attribute) for device in devices}
    if len(set(values.values())) == 1 and None not in values.values():
        return []
    return [f"expected one value of attribute {attribute} for all devices, found {_pairs(values, ': ')}"]


def pcie_roots(topology: Topology, devices: Iterable[AllocatedDevice]) -> dict[str, str]:
    """The PCIe root (``pci0000:10``) of each device by the topology."""
    return {str(device): topology.node(device.node).pcie_root_of(function_of(topology, device)) for device in devices}


def numa_nodes(topology: Topology, devices: Iterable[AllocatedDevice]) -> dict[str, int]:
    """The NUMA node of each device by the topology."""
    return {str(device): function_of(topology, device).numa_node for device in devices}


def not_one(what: str, places: Mapping[str, Value], topology: Topology) -> list[str]:
    """A message unless all devices have the same place: ``places`` by device, ``what`` names the kind of place."""
    if len(set(places.values())) == 1:
        return []
    return [f"expected its devices on one {what}, found {_pairs(places, ' on ')} by topology {topology.name}"]


def not_different(what: str, places: Mapping[str, Value]) -> list[str]:
    """A message if two devices have the same place: ``places`` by device, ``what`` names the kind of place."""
    if len(set(places.values())) == len(places) > 0:
        return []
    return [f"expected its devices on different {what}s, found {_pairs(places, ' on ')}"]


def on_other_bus(topology: Topology, devices: Iterable[AllocatedDevice], bus: str) -> list[str]:
    """A message if the topology has some ``devices`` on another PCI bus than ``bus`` (``0000:12``)."""
    wrong = [device for device in devices if bus_of(function_of(topology, device)) != bus]
    return [f"expected all devices on bus {bus} by topology {topology.name}, found {_listing(wrong)}"] if wrong else []


def wrong_numa_nodes(topology: Topology, devices: Iterable[AllocatedDevice], expected: int) -> list[str]:
    """Devices that the topology has on another NUMA node than ``expected``, a message each."""
    complaints = []
    for device in devices:
        found = function_of(topology, device).numa_node
        if found != expected:
            complaints.append(
                f"{device} of claim {device.claim!r}, request {device.request!r}: expected NUMA node {expected}, "
                f"found {found} by topology {topology.name}; ResourceSlice says {device.published.numa_node}"
            )
    return complaints


def allocated_twice(devices: Iterable[AllocatedDevice]) -> list[str]:
    """Devices that more than one claim has exclusively, a sentence each."""
    devices = [device for device in devices if device.is_exclusive]
    counts = Counter(device.id for device in devices)
    return [
        f"{key} belongs to claims {', '.join(sorted(item.claim for item in devices if item.id == key))}"
        for key, count in counts.items()
        if count > 1
    ]


def still_allocated(devices: Iterable[AllocatedDevice], others: Collection[DeviceId]) -> list[str]:
    """Devices that claims have, a message each; other users may hold those of ``others``."""
    return [f"claim {item.claim!r} still has {item}" for item in devices if item.id not in others]


def shared_devices(by_pod: Mapping[str, Iterable[AllocatedDevice]]) -> list[str]:
    """Devices that more than one pod has, a message each."""
    owners: dict[DeviceId, list[str]] = {}
    for pod, devices in by_pod.items():
        for device in devices:
            owners.setdefault(device.id, []).append(pod)
    return [
        f"expected different devices for all pods, found {key} in {', '.join(pods)}"
        for key, pods in owners.items()
        if len(pods) > 1
    ]


def different_devices(by_pod: Mapping[str, Iterable[AllocatedDevice]]) -> list[str]:
    """A message unless all pods have the same devices."""
    found = {pod: sorted({device.id for device in devices}) for pod, devices in by_pod.items()}
    if len({tuple(keys) for keys in found.values()}) == 1:
        return []
    listing = "; ".join(f"{pod}: {', '.join(map(str, keys)) or 'none'}" for pod, keys in found.items())
    return [f"expected the same devices for all pods, found {listing}"]


def _listing(devices: Iterable[AllocatedDevice]) -> str:
    return ", ".join(map(str, devices)) or "none"


def _pairs(values: Mapping[str, Value | None], between: str) -> str:
    return ", ".join(f"{name}{between}{value}" for name, value in values.items()) or "no device"
