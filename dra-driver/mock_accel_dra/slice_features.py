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
_JOBS = [MOST_JOBS // shares.UNITS * factor for factor in (1, 2, 4, 8)] + [MOST_JOBS]
"""Numbers of jobs that a claim can have."""
_FRACTION = "50m"
"""The smallest part of a device's ``compute``, and the step between parts."""


def extend(spec: Object, device: Device, features: AbstractSet[Feature], *, has_vfs: bool) -> None:
    """Add to ``spec``, an entry of a slice's devices, what ``features`` say of ``device``."""
    if Feature.CONSUMABLE_CAPACITY in features and not has_vfs and shares.can_share(device):
        _share(spec, device, with_fractions=Feature.FRACTIONAL_CAPACITY_RANGE in features)
    if Feature.BINDING_CONDITIONS in features:
        spec |= {"bindsToNode": True, "bindingConditions": [ATTACHED], "bindingFailureConditions": [ATTACH_FAILED]}
        if device.detached:
            taint = {"key": NOT_ATTACHED, "value": device.detached, "effect": "NoSchedule"}
            spec["taints"] = [*spec.get("taints", ()), taint]


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
