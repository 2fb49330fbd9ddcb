"""Compute the ResourceSlices of this node from its devices, and the changes to publish them; no I/O.

API: resource.k8s.io/v1 of Kubernetes 1.37. A slice holds devices or shared
counters, counters resolve only within a pool, and all slices of a pool carry its
generation and the number of its slices.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from mock_accel_dra import DRIVER_NAME
from mock_accel_dra.differences import view
from mock_accel_dra.discovery import Device
from mock_accel_dra.features import Feature
from mock_accel_dra.names import node_label, pool_name, slice_name
from mock_accel_dra.quantities import quantity
from mock_accel_dra.slice_features import counters as more_counters
from mock_accel_dra.slice_features import extend, of_slice

Object = dict[str, Any]
COUNTER_SET = "vf-slots"
COUNTER = "slots"
UNHEALTHY = f"{DRIVER_NAME}/unhealthy"
"""Key of the taint on a device with a problem; the taint's value is the problem."""
_STANDARD = "resource.kubernetes.io"


@dataclass(frozen=True)
class Settled:
    """A slice that the API server changed on write, and that is therefore not written again."""

    content: Object
    """``content_of`` the written slice."""
    answer: Object
    """View (``differences``) of the API server's answer."""


@dataclass
class Changes:
    """Changes to the slices of one pool, in this order."""

    delete: list[str] = field(default_factory=list)
    """Names."""
    write: list[Object] = field(default_factory=list)
    """A slice with a resource version is updated, one without is created. The slice with counters comes first."""

    def __bool__(self) -> bool:
        return bool(self.delete or self.write)


def owners(devices: Iterable[Device]) -> dict[str, str]:
    """Published name of the PF that owns each device's pool, by the device's name in sysfs."""
    devices = list(devices)
    pfs = {device.pci_address: device.published_name for device in devices if not device.is_vf}
    return {device.name: pfs.get(device.physfn or device.pci_address, device.published_name) for device in devices}


def orphans(devices: Iterable[Device]) -> dict[str, str]:
    """VFs whose PF is not among ``devices``, by name, with the reason not to publish them."""
    devices = list(devices)
    addresses = {device.pci_address for device in devices if not device.is_vf}
    return {
        device.name: f"its PF {device.physfn} is not there"
        for device in devices
        if device.is_vf and device.physfn not in addresses
    }


def desired(
    node: str, node_uid: str, devices: Iterable[Device], features: AbstractSet[Feature] = frozenset()
) -> dict[str, list[Object]]:
    """Slices of each pool, by the pool's name, still without generation and count.

    A pool is a PF with its VFs. If there are VFs, one more slice has the counters
    that make the PF and its VFs exclude each other. ``orphans`` are left out.
    """
    devices = list(devices)
    by_address = {device.pci_address: device for device in devices if not device.is_vf}
    vfs: dict[str, list[Device]] = {address: [] for address in by_address}
    for device in devices:
        if device.physfn in vfs:
            vfs[device.physfn].append(device)
    return {
        pool_name(node, pf.published_name): _pool(node, node_uid, pf, vfs[address], features)
        for address, pf in by_address.items()
    }


def name_of(item: Object) -> str:
    """Name of a slice."""
    return str(item["metadata"]["name"])


def device_of(item: Object) -> str:
    """Name in sysfs of the device of a slice made here; empty for the slice with counters."""
    return str(item["metadata"]["labels"].get("device", ""))


def is_counters(item: Object) -> bool:
    """Whether a slice has the counters of its pool instead of devices."""
    return "sharedCounters" in item["spec"]


def without_counters(items: Sequence[Object], *, pf: bool) -> list[Object]:
    """Slices of a pool for an API server that drops counters: of the PF or of the VFs, not both."""
    left = [copy.deepcopy(item) for item in items if not is_counters(item) and _has_vf(item) != pf]
    for item in left:
        for device in item["spec"]["devices"]:
            device.pop("consumesCounters", None)
    return left


def changes(
    wanted: Mapping[str, Sequence[Object]],
    published: Iterable[Object],
    settled: Mapping[str, Settled] | None = None,
) -> dict[str, Changes]:
    """Changes per pool that turn ``published``, all slices of this driver and node, into ``wanted``.

    A pool with any difference gets a new generation in all its slices. Other pools
    do not change. A slice equal to its entry in ``settled`` counts as no difference.
    """
    pools: dict[str, dict[str, Object]] = {name: {} for name in wanted}
    for item in published:
        pools.setdefault(item["spec"]["pool"]["name"], {})[name_of(item)] = item
    result = {name: _change_pool(wanted.get(name, ()), present, settled or {}) for name, present in pools.items()}
    return {name: change for name, change in result.items() if change}


def content_of(item: Object) -> Object:
    """View of a slice made here, without the generation and count of its pool."""
    content = view(item, item)
    content["spec"]["pool"] = content["spec"]["pool"]["name"]
    return content


def _change_pool(wanted: Sequence[Object], present: Mapping[str, Object], settled: Mapping[str, Settled]) -> Changes:
    names = {name_of(item) for item in wanted}
    result = Changes(delete=sorted(present.keys() - names))
    generations = {item["spec"]["pool"]["generation"] for name, item in present.items() if name in names}
    count = len(wanted)
    if len(generations) == 1:
        (generation,) = generations
        numbered = (_numbered(item, generation, count) for item in wanted)
        if all(_same(item, present.get(name_of(item)), settled) for item in numbered):
            return result
    generation = max((item["spec"]["pool"]["generation"] for item in present.values()), default=0) + 1
    for item in wanted:
        numbered_item = _numbered(item, generation, count)
        before = present.get(name_of(item))
        if before is not None and before["spec"].get("nodeName") != item["spec"]["nodeName"]:  # cannot change
            result.delete.append(name_of(item))
        elif before is not None:
            metadata = numbered_item["metadata"]
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
            metadata["labels"] = {**(before["metadata"].get("labels") or {}), **metadata["labels"]}
        result.write.append(numbered_item)
    return result


def _same(item: Object, present: Object | None, settled: Mapping[str, Settled]) -> bool:
    if present is None:
        return False
    found = view(present, item)
    if found == view(item, item):
        return True
    before = settled.get(name_of(item))
    count = item["spec"]["pool"]["resourceSliceCount"] == present["spec"]["pool"]["resourceSliceCount"]
    return count and before is not None and before.answer == found and before.content == content_of(item)


def _numbered(item: Object, generation: int, count: int) -> Object:
    numbered = copy.deepcopy(item)
    numbered["spec"]["pool"] |= {"generation": generation, "resourceSliceCount": count}
    return numbered


def _has_vf(item: Object) -> bool:
    return any("physfn" in device["attributes"] for device in item["spec"]["devices"])


def _pool(node: str, node_uid: str, pf: Device, vfs: Sequence[Device], features: AbstractSet[Feature]) -> list[Object]:
    slots = max(pf.total_vfs, len(vfs))
    items = []
    if vfs:
        values = {COUNTER: {"value": quantity(slots)}, **more_counters(pf, features)}
        counters = [{"name": COUNTER_SET, "counters": values}]
        name = f"{pf.published_name}-counters"
        items.append(_slice(node, node_uid, pf, name, {}, {"sharedCounters": counters}))
    for device in (pf, *vfs):
        labels = {"driver": DRIVER_NAME, "device": device.name}
        spec = _device(device, consumes=0 if not vfs else 1 if device.is_vf else slots)
        extend(spec, device, features, has_vfs=bool(vfs))
        content = {"devices": [spec], **of_slice(bool(vfs), features)}
        items.append(_slice(node, node_uid, pf, device.published_name, labels, content))
    return items


def _slice(node: str, node_uid: str, pf: Device, name: str, labels: dict[str, str], content: Object) -> Object:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
    pool = {"name": pool_name(node, pf.published_name)}
    labels = {**labels, "node": node_label(node)}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": slice_name(node, name), "labels": labels, "ownerReferences": [owner]},
        "spec": {"driver": DRIVER_NAME, "nodeName": node, "pool": pool, **content},
    }


def attributes(device: Device) -> dict[str, Object]:
    """Attributes of ``device`` by name, without those of optional features."""
    found: dict[str, Object] = {
        "uuid": {"string": device.uuid},
        "memory": {"int": device.memory},
        "deviceType": {"string": "vf" if device.is_vf else "pf"},
        "pciAddress": {"string": device.pci_address},
        "capabilities": {"string": ",".join(device.capabilities)},
        f"{_STANDARD}/pciBusID": {"string": device.pci_address},
    }
    if device.pcie_root:
        found[f"{_STANDARD}/pcieRoot"] = {"string": device.pcie_root}
    if device.numa_node >= 0:
        found["numaNode"] = {"int": device.numa_node}
        found[f"{_STANDARD}/numaNode"] = {"int": device.numa_node}
    if device.physfn is not None:
        found["physfn"] = {"string": device.physfn}
    return found


def _device(device: Device, consumes: int) -> Object:
    spec: Object = {
        "name": device.published_name,
        "attributes": attributes(device),
        "capacity": {"memory": {"value": quantity(device.memory)}},
    }
    if consumes:
        spec["consumesCounters"] = [{"counterSet": COUNTER_SET, "counters": {COUNTER: {"value": quantity(consumes)}}}]
    if device.problem:
        # Not NoExecute: an administrator decides whether its pods must go.
        spec["taints"] = [{"key": UNHEALTHY, "value": device.problem, "effect": "NoSchedule"}]
    return spec
