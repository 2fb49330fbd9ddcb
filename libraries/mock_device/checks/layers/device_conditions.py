"""State of devices in Kubernetes' objects: taints, health in the status of pods, conditions in claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mock_device.checks.objects.slices import PublishedDevice
from mock_device.driver import current
from mock_device.topology import DeviceId


def taint_complaints(published: Iterable[PublishedDevice], device_id: DeviceId, expected: str) -> list[str]:
    """Whether the taints of the device differ from the single value ``expected``, empty for none."""
    found = [device for device in published if device.id == device_id]
    if not found:
        return [f"{device_id} is not published"]
    values = [taint.value for device in found for taint in device.taints]
    if values == ([expected] if expected else []):
        return []
    return [f"{device_id}: expected {expected or 'no taint'}, found {', '.join(values) or 'no taint'}"]


def device_health(pod: Mapping[str, Any]) -> list[str]:
    """Health of the driver's devices in the status of a pod's containers (API's JSON).

    core/v1, ContainerStatus.allocatedResourcesStatus: ``Healthy``, ``Unhealthy`` or ``Unknown``.
    """
    return [str(resource.get("health")) for resource in _own_resources(pod)]


def device_messages(pod: Mapping[str, Any]) -> list[str]:
    """Messages beside ``device_health``, for people; empty where the driver, or Kubernetes, has none."""
    return [str(resource.get("message") or "") for resource in _own_resources(pod)]


def _own_resources(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    driver = current.driver()
    # The kubelet's resourceID is the CDI id, else driver, pool and device.
    prefixes = (f"{driver.name}/", *([f"{driver.cdi.kind}="] if driver.cdi else []))
    return [
        resource
        for container in (pod.get("status") or {}).get("containerStatuses") or []
        for status in container.get("allocatedResourcesStatus") or []
        if status["name"].startswith("claim:")
        for resource in status.get("resources") or []
        if str(resource.get("resourceID")).startswith(prefixes)
    ]


def condition_complaints(claim: Mapping[str, Any], kind: str, status: str, reason: str) -> list[str]:
    """Devices of the driver in a claim that lack the condition ``kind`` with ``status`` and ``reason``."""
    driver = current.driver().name
    devices = [item for item in (claim.get("status") or {}).get("devices") or [] if item["driver"] == driver]
    if not devices:
        return ["status.devices has no device of the driver"]
    found = []
    for device in devices:
        conditions = {item["type"]: item for item in device.get("conditions") or []}
        item = conditions.get(kind, {})
        if (item.get("status"), item.get("reason")) != (status, reason):
            actual = f"{item.get('status')}, {item.get('reason')}" if item else "no such condition"
            found.append(f"{device['device']}: expected {kind} {status}, {reason}; found {actual}")
    return found
