"""Devices as ResourceSlices publish them (resource.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scenario import DRIVER

NUMA_NODE = f"{DRIVER}/numaNode"
STANDARD_NUMA_NODE = "resource.kubernetes.io/numaNode"

Value = str | int | bool | None


@dataclass(frozen=True)
class PublishedDevice:
    """One device of a slice."""

    node: str
    pool: str
    device: str
    """Name in the slice, a DNS label: ``mock0-vf0``."""
    name: str
    """Name in sysfs: ``mock0_vf0``."""
    slice_name: str
    attributes: Mapping[str, Value]
    """By qualified name (``DOMAIN/NAME``)."""
    capacity: Mapping[str, str] = field(default_factory=dict)
    """Quantities by qualified name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the slice."""
    taints: Mapping[str, str] = field(default_factory=dict)
    """Values by key."""

    def attribute(self, name: str) -> Value:
        """Value of an attribute; a name without domain is of the driver's. None when the device has it not."""
        return self.attributes.get(qualified(name))

    @property
    def numa_node(self) -> int | None:
        """As the driver publishes it; None when it does not say."""
        value = self.attribute(NUMA_NODE)
        return value if isinstance(value, int) else None


def qualified(name: str) -> str:
    """``name`` with a domain; the driver's when it has none."""
    return name if "/" in name else f"{DRIVER}/{name}"


def parse(items: Iterable[Mapping[str, Any]]) -> list[PublishedDevice]:
    """Devices of the driver in ``items``, which are ResourceSlices as in the API's JSON."""
    devices = []
    for item in items:
        spec, metadata = item["spec"], item["metadata"]
        if spec["driver"] != DRIVER:
            continue
        labels = metadata.get("labels") or {}
        for device in spec.get("devices") or []:
            attributes = {
                qualified(name): next(iter(value.values()), None)
                for name, value in (device.get("attributes") or {}).items()
            }
            devices.append(
                PublishedDevice(
                    node=spec.get("nodeName", ""),
                    pool=spec["pool"]["name"],
                    device=device["name"],
                    name=labels.get("device") or device["name"].replace("-", "_"),
                    slice_name=metadata["name"],
                    attributes=attributes,
                    capacity={
                        qualified(name): str(value["value"]) for name, value in (device.get("capacity") or {}).items()
                    },
                    labels=labels,
                    taints={taint["key"]: taint.get("value", "") for taint in device.get("taints") or []},
                )
            )
    return devices


def incomplete_pools(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pools of the driver whose slices are not all there in one generation, which the scheduler does not use."""
    pools: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        if item["spec"]["driver"] == DRIVER:
            pools.setdefault(item["spec"]["pool"]["name"], []).append(item["spec"]["pool"])
    complaints = []
    for name, parts in sorted(pools.items()):
        generations = sorted({part["generation"] for part in parts})
        count = max(part["resourceSliceCount"] for part in parts)
        if len(generations) > 1 or len(parts) != count:
            complaints.append(
                f"pool {name}: expected {count} slices of one generation, found {len(parts)} "
                f"of generations {', '.join(map(str, generations))}"
            )
    return complaints
