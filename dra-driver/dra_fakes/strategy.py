"""How the API server handles objects before it stores them: dropped fields, canonical forms, refusals.

Source, Kubernetes 1.37: ``pkg/registry/resource/resourceslice/strategy.go``,
``pkg/apis/resource/validation`` and apimachinery's ``api/resource/quantity.go``.
Shares no code with the driver, so that each tests the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Object = dict[str, Any]
PARTITIONABLE_DEVICES = "DRAPartitionableDevices"
DEVICE_TAINTS = "DRADeviceTaints"
CONSUMABLE_CAPACITY = "DRAConsumableCapacity"
BINDING_CONDITIONS = "DRADeviceBindingConditions"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_TIME = "2026-01-01T00:00:00Z"
_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def admitted(item: Object, before: Object | None, gates_off: set[str]) -> Object:
    """A slice as it is stored. Fields that the replaced slice ``before`` already uses are not dropped."""
    stored: Object = json.loads(json.dumps(item))
    spec = stored["spec"]
    devices = spec.get("devices") or []
    if DEVICE_TAINTS in gates_off and not _has(before, "taints"):
        for device in devices:
            device.pop("taints", None)
    if PARTITIONABLE_DEVICES in gates_off and not _has(before, "consumesCounters"):
        spec.pop("sharedCounters", None)
        for device in devices:
            device.pop("consumesCounters", None)
    if CONSUMABLE_CAPACITY in gates_off and not _has(before, "allowMultipleAllocations"):
        for device in devices:
            device.pop("allowMultipleAllocations", None)
            for capacity in device["capacity"].values():
                capacity.pop("requestPolicy", None)
    if BINDING_CONDITIONS in gates_off and not _has(before, "bindingConditions"):
        for device in devices:
            for field in ("bindsToNode", "bindingConditions", "bindingFailureConditions"):
                device.pop(field, None)
    for device in devices:
        for taint in device.get("taints") or []:
            taint.setdefault("timeAdded", _TIME)
        _canonical(device.get("capacity"))
        for consumed in device.get("consumesCounters") or []:
            _canonical(consumed["counters"])
    for counters in spec.get("sharedCounters") or []:
        _canonical(counters["counters"])
    return stored


def complaints(item: Object) -> Iterator[str]:
    """Reasons to refuse a slice."""
    spec = item["spec"]
    yield from _metadata(item)
    yield from _subdomain("spec.pool.name", spec["pool"]["name"], parts="/")
    yield from _subdomain("spec.nodeName", spec["nodeName"])
    if spec["pool"]["resourceSliceCount"] <= 0:
        yield "spec.pool.resourceSliceCount: must be greater than zero"
    for device in spec.get("devices") or []:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", device["name"]):
            yield f"spec.devices.name: {device['name']} is not a DNS label"
        for name, attribute in device["attributes"].items():
            if len(attribute.get("string", "").encode()) > 64:
                yield f"spec.devices.attributes[{name}].string: Too long: may not be more than 64 bytes"


def undecodable(item: Object) -> str:
    """Why a slice cannot be decoded; empty if it can."""
    for device in item["spec"].get("devices") or []:
        for attribute in device["attributes"].values():
            if not -(1 << 63) <= attribute.get("int", 0) < 1 << 63:
                return f"cannot unmarshal number {attribute['int']} into Go value of type int64"
    return ""


def named(item: Object) -> Iterator[str]:
    """Reasons to refuse the names of an object of any kind."""
    yield from _metadata(item)


def field_manager(name: str) -> Iterator[str]:
    """Reasons to refuse an apply by field manager ``name``."""
    if len(name) > 128:
        yield "metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"


def _metadata(item: Object) -> Iterator[str]:
    yield from _subdomain("metadata.name", item["metadata"]["name"])
    for name, value in (item["metadata"].get("labels") or {}).items():
        if len(value) > 63 or not _LABEL.fullmatch(value):
            yield f"metadata.labels: Invalid value of {name}: {value}"


def _subdomain(where: str, name: str, parts: str = "") -> Iterator[str]:
    if len(name) > 253:
        yield f"{where}: Too long: may not be more than 253 bytes"
    if not all(_SUBDOMAIN.fullmatch(part) for part in (name.split(parts) if parts else [name])):
        yield f"{where}: Invalid value: {name}: a lowercase RFC 1123 subdomain must consist of ..."


def _has(item: Object | None, field: str) -> bool:
    spec = (item or {}).get("spec", {})
    own = bool(spec.get("sharedCounters")) and field == "consumesCounters"
    return own or any(device.get(field) for device in spec.get("devices") or [])


def _canonical(values: Object | None) -> None:
    for item in (values or {}).values():
        match = re.fullmatch(r"([0-9]+)([KMGTPE]i)", item["value"])
        if match is None:
            continue
        number, power = int(match[1]), _SUFFIXES.index(match[2])
        while number % 1024 == 0 and power + 1 < len(_SUFFIXES):
            number, power = number // 1024, power + 1
        item["value"] = f"{number}{_SUFFIXES[power]}"


def merged(applied: Iterable[list[Object]]) -> list[Object]:
    """``status.devices`` of all field managers: one entry a device, with the conditions of all."""
    found: dict[tuple[str, ...], Object] = {}
    for devices in applied:
        for device in devices:
            key = tuple(device.get(name) or "" for name in ("driver", "pool", "device", "shareID"))
            before = found.get(key, {})
            conditions = {item["type"]: item for item in [*before.get("conditions", ()), *device["conditions"]]}
            found[key] = {**before, **device, "conditions": list(conditions.values())}
    return list(found.values())
