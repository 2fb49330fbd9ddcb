"""What this node should publish: from devices to ResourceSlices, without any I/O.

API: resource.k8s.io/v1 of Kubernetes 1.37. A slice holds devices or shared
counters, counters resolve within a pool only, and all slices of a pool carry
its generation and their number.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mock_accel_dra import DRIVER_NAME, klog
from mock_accel_dra.discovery import Device

Object = dict[str, Any]
COUNTER_SET = "vf-slots"
COUNTER = "slots"
UNHEALTHY = f"{DRIVER_NAME}/unhealthy"
"""Key of the taint of a device that has a problem, which is its value."""
_STANDARD = "resource.kubernetes.io"
_BINARY = (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))
_DECIMAL = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))


@dataclass
class Changes:
    """What makes the published slices what they should be."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


def pool_name(node: str, pf: str) -> str:
    """Name of the pool of PF ``pf`` and its VFs; unique in the cluster."""
    return f"{node}/{pf}"


def owners(devices: Iterable[Device]) -> dict[str, str]:
    """Published name of the PF whose pool each device is in, by the device's name in sysfs."""
    devices = list(devices)
    pfs = {device.pci_address: device.published_name for device in devices if not device.is_vf}
    return {device.name: pfs.get(device.physfn or device.pci_address, device.published_name) for device in devices}


def slice_name(node: str, device: str) -> str:
    """Name of the slice of the device published as ``device``."""
    return f"{DRIVER_NAME}-{node}-{device}"


def quantity(number: int) -> str:
    """``number`` as a Kubernetes quantity, in the form that the API server would give it."""
    for suffix, unit in _BINARY if number % 1024 == 0 else _DECIMAL:
        if number and number % unit == 0:
            return f"{number // unit}{suffix}"
    return str(number)


def desired(node: str, node_uid: str, devices: Iterable[Device]) -> dict[str, list[Object]]:
    """Slices of each pool, by the pool's name, yet without generation and count.

    A pool is a PF with its VFs. While there are VFs, one more slice has the
    counters that make the PF and its VFs exclude each other; without VFs there is
    nothing to exclude. A VF whose PF is not there is left out.
    """
    devices = list(devices)
    by_address = {device.pci_address: device for device in devices if not device.is_vf}
    vfs: dict[str, list[Device]] = {address: [] for address in by_address}
    for device in devices:
        if device.physfn is None:
            continue
        if device.physfn in vfs:
            vfs[device.physfn].append(device)
        else:
            klog.warning("VF left out: its PF is not there", device=device.name, physfn=device.physfn)
    return {
        pool_name(node, pf.published_name): _pool(node, node_uid, pf, vfs[address])
        for address, pf in by_address.items()
    }


def changes(wanted: Mapping[str, Sequence[Object]], published: Iterable[Object]) -> Changes:
    """What to do so that ``published``, all slices of this driver and node, become ``wanted``.

    A pool in which anything differs gets a new generation in all its slices.
    Nothing else is touched.
    """
    pools: dict[str, dict[str, Object]] = {name: {} for name in wanted}
    for item in published:
        pools.setdefault(item["spec"]["pool"]["name"], {})[item["metadata"]["name"]] = item
    result = Changes()
    for name, present in pools.items():
        _change_pool(wanted.get(name, ()), present, result)
    return result


def _change_pool(wanted: Sequence[Object], present: Mapping[str, Object], result: Changes) -> None:
    generations = [item["spec"]["pool"]["generation"] for item in present.values()]
    result.delete += sorted(present.keys() - {item["metadata"]["name"] for item in wanted})
    count = len(wanted)
    if generations and len(set(generations)) == 1 and len(present) == count:
        same = (_same(item, present.get(item["metadata"]["name"]), generations[0], count) for item in wanted)
        if all(same):
            return
    generation = max(generations, default=0) + 1
    for item in wanted:
        numbered = _numbered(item, generation, count)
        before = present.get(item["metadata"]["name"])
        if before is None:
            result.create.append(numbered)
        elif before["spec"].get("nodeName") != numbered["spec"]["nodeName"]:  # cannot change
            result.delete.append(item["metadata"]["name"])
            result.create.append(numbered)
        else:
            metadata = numbered["metadata"]
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
            metadata["labels"] = {**before["metadata"].get("labels", {}), **metadata["labels"]}
            result.update.append(numbered)


def _same(item: Object, present: Object | None, generation: int, count: int) -> bool:
    if present is None:
        return False
    metadata = present["metadata"]
    return bool(
        _without_times(present["spec"]) == _numbered(item, generation, count)["spec"]
        and metadata.get("ownerReferences") == item["metadata"]["ownerReferences"]
        and item["metadata"]["labels"].items() <= metadata.get("labels", {}).items()
    )


def _without_times(spec: Object) -> Object:
    """``spec`` without when its taints were added: that is for the API server to say."""
    if not any(device.get("taints") for device in spec.get("devices") or ()):
        return spec
    spec = copy.deepcopy(spec)
    for device in spec["devices"]:
        for taint in device.get("taints") or ():
            taint.pop("timeAdded", None)
    return spec


def _numbered(item: Object, generation: int, count: int) -> Object:
    numbered = copy.deepcopy(item)
    numbered["spec"]["pool"] |= {"generation": generation, "resourceSliceCount": count}
    return numbered


def _pool(node: str, node_uid: str, pf: Device, vfs: Sequence[Device]) -> list[Object]:
    slots = max(pf.total_vfs, len(vfs))
    items = []
    for device in (pf, *vfs):
        labels = {"driver": DRIVER_NAME, "node": node, "device": device.name}
        spec = _device(device, consumes=0 if not vfs else 1 if device.is_vf else slots)
        items.append(_slice(node, node_uid, pf, device.published_name, labels, {"devices": [spec]}))
    if vfs:
        counters = [{"name": COUNTER_SET, "counters": {COUNTER: {"value": quantity(slots)}}}]
        name = f"{pf.published_name}-counters"
        items.append(_slice(node, node_uid, pf, name, {"node": node}, {"sharedCounters": counters}))
    return items


def _slice(node: str, node_uid: str, pf: Device, name: str, labels: dict[str, str], content: Object) -> Object:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
    pool = {"name": pool_name(node, pf.published_name)}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": slice_name(node, name), "labels": labels, "ownerReferences": [owner]},
        "spec": {"driver": DRIVER_NAME, "nodeName": node, "pool": pool, **content},
    }


def _device(device: Device, consumes: int) -> Object:
    attributes: dict[str, Object] = {
        "uuid": {"string": device.uuid},
        "memory": {"int": device.memory},
        "deviceType": {"string": "vf" if device.is_vf else "pf"},
        "pciAddress": {"string": device.pci_address},
        "capabilities": {"string": ",".join(device.capabilities)},
        f"{_STANDARD}/pciBusID": {"string": device.pci_address},
        f"{_STANDARD}/pcieRoot": {"string": device.pcie_root},
    }
    if device.numa_node >= 0:
        attributes["numaNode"] = {"int": device.numa_node}
        attributes[f"{_STANDARD}/numaNode"] = {"int": device.numa_node}
    if device.physfn is not None:
        attributes["physfn"] = {"string": device.physfn}
    spec: Object = {
        "name": device.published_name,
        "attributes": attributes,
        "capacity": {"memory": {"value": quantity(device.memory)}},
    }
    if consumes:
        spec["consumesCounters"] = [{"counterSet": COUNTER_SET, "counters": {COUNTER: {"value": quantity(consumes)}}}]
    if device.problem:
        # Not NoExecute: whether its pods must go is for an administrator to say.
        spec["taints"] = [{"key": UNHEALTHY, "value": device.problem, "effect": "NoSchedule"}]
    return spec
