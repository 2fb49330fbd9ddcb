"""What optional features add to the devices of slices; no I/O.

API: resource.k8s.io/v1 of Kubernetes 1.37, ``types.go``. An API server that knows a field, but has its feature gate
off, drops the field; the device is then published without it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from mock_accel_dra import DRIVER_NAME, shares
from mock_accel_dra.discovery import Device
from mock_accel_dra.features import Feature
from mock_accel_dra.quantities import quantity
from mock_accel_dra.window_shares import MOST_JOBS

Object = dict[str, Any]
ATTACHED, ATTACH_FAILED = f"{DRIVER_NAME}/Attached", f"{DRIVER_NAME}/AttachFailed"
"""Conditions of a claim's device: it may be used, or the pod needs another one."""
NOT_ATTACHED = f"{DRIVER_NAME}/attach-failed"
"""Key of the taint on a device that could not be attached; the taint's value is the problem."""
PARTITION_TYPE = "partitionType"
"""Attribute of devices that consume counters."""
_STANDARD_NUMA_NODE = "resource.kubernetes.io/numaNode"
_JOBS_MEMORY = 64 << 20
"""Bytes that the kernel module pins for the jobs of a device at most: MOCK_MAX_PINNED in ``kernel-driver/jobs.h``."""
_JOBS = [MOST_JOBS // shares.UNITS * factor for factor in (1, 2, 4, 8)] + [MOST_JOBS]
"""Numbers of jobs that a claim can have."""
_FRACTION = "50m"
"""The smallest part of a device's ``compute``, and the step between parts."""


def extend(spec: Object, device: Device, features: AbstractSet[Feature], *, has_vfs: bool) -> None:
    """Add to ``spec``, an entry of a slice's devices, what ``features`` say of ``device``."""
    if Feature.CONSUMABLE_CAPACITY in features and not has_vfs and shares.can_share(device):
        _share(spec, device, with_fractions=Feature.FRACTIONAL_CAPACITY_RANGE in features)
    if Feature.LIST_TYPE_ATTRIBUTES in features:
        _list(spec, device)
    if Feature.NODE_ALLOCATABLE_RESOURCES in features:
        spec["nodeAllocatableResources"] = {"memory": {"overhead": {"perPod": quantity(_JOBS_MEMORY)}}}
    if has_vfs:
        _partition(spec, device, features)
    if Feature.BINDING_CONDITIONS in features:
        spec |= {"bindsToNode": True, "bindingConditions": [ATTACHED], "bindingFailureConditions": [ATTACH_FAILED]}
        if device.detached:
            taint = {"key": NOT_ATTACHED, "value": device.detached, "effect": "NoSchedule"}
            spec["taints"] = [*spec.get("taints", ()), taint]


def counters(pf: Device, features: AbstractSet[Feature]) -> Object:
    """What ``features`` add to the counters that ``pf`` and its VFs share."""
    if Feature.PARTITIONABLE_DEVICES_TYPE not in features:
        return {}
    return {shares.MEMORY: {"value": quantity(pf.memory)}}


def of_slice(has_vfs: bool, features: AbstractSet[Feature]) -> Object:
    """What ``features`` add to the slice of a device."""
    if not has_vfs or Feature.PARTITIONABLE_DEVICES_TYPE not in features:
        return {}
    return {"partitionTypeAttribute": f"{DRIVER_NAME}/{PARTITION_TYPE}"}


def group(device: Device) -> str:
    """Compatibility group of a VF: the VFs of a PF that are in use at the same time are of one group."""
    return "p2p-dma" if "p2p-dma" in device.capabilities else "isolated"


def _partition(spec: Object, device: Device, features: AbstractSet[Feature]) -> None:
    """Complete what a PF with VFs, or one of its VFs, consumes of their counters."""
    (consumed,) = spec["consumesCounters"]
    if Feature.PARTITIONABLE_DEVICES_TYPE in features:
        consumed["counters"][shares.MEMORY] = {"value": quantity(device.memory)}
        kind = f"vf-{quantity(device.memory)}" if device.is_vf else "full"
        spec["attributes"][PARTITION_TYPE] = {"string": kind}
    if Feature.DEVICE_COMPATIBILITY_GROUPS in features and device.is_vf:
        consumed["compatibilityGroups"] = [group(device)]


def _list(spec: Object, device: Device) -> None:
    if device.near_nodes:
        spec["attributes"][_STANDARD_NUMA_NODE] = {"ints": list(device.near_nodes)}
    if device.capabilities:
        spec["attributes"]["capabilityNames"] = {"strings": list(device.capabilities)}


def _share(spec: Object, device: Device, *, with_fractions: bool) -> None:
    """Let claims share the device.

    A claim that requests no capacity gets all of the memory, which is the whole device, as without the feature. The
    other capacities have small defaults, so that claims that request memory only do not exclude each other.
    """
    spec["allowMultipleAllocations"] = True
    part = quantity(device.memory // shares.UNITS)
    whole = quantity(device.memory)
    policy: Object = {"default": whole, "validRange": {"min": part, "max": whole, "step": part}}
    spec["capacity"][shares.MEMORY]["requestPolicy"] = policy
    values = list(map(str, _JOBS))
    spec["capacity"][shares.JOBS] = {
        "value": str(MOST_JOBS),
        "requestPolicy": {"default": values[0], "validValues": values},
    }
    if with_fractions:
        policy = {"default": _FRACTION, "validRange": {"min": _FRACTION, "max": "1", "step": _FRACTION}}
        spec["capacity"][shares.COMPUTE] = {"value": "1", "requestPolicy": policy}
