"""Optional features of the driver: what it publishes and does beyond whole devices.

Each is named like the feature gate of Kubernetes that it needs, without ``DRA``
(``pkg/features/kube_features.go``). All are off by default, so that slices stay the
same. Reasons: docs/decisions/0044-driver-features.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Feature(StrEnum):
    """A feature of the driver."""

    CONSUMABLE_CAPACITY = "ConsumableCapacity"
    """Several claims share a device by memory and jobs."""
    FRACTIONAL_CAPACITY_RANGE = "FractionalCapacityRange"
    """Shares of a device are also requested as a fraction, capacity ``compute``."""
    BINDING_CONDITIONS = "BindingConditions"
    """A pod is bound after the node agent has attached its devices."""
    PARTITIONABLE_DEVICES_TYPE = "PartitionableDevicesType"
    """VFs are partitions of their PF by memory, with a type."""
    DEVICE_COMPATIBILITY_GROUPS = "DeviceCompatibilityGroups"
    """VFs of one PF are used with peer-to-peer DMA or without, not both at the same time."""
    LIST_TYPE_ATTRIBUTES = "ListTypeAttributes"
    """NUMA nodes near a device, and its capabilities, are lists."""
    NODE_ALLOCATABLE_RESOURCES = "NodeAllocatableResources"
    """A device brings the host memory that its jobs need."""
    DEVICE_METADATA = "DeviceMetadata"
    """Containers find a file with the attributes of their devices. It needs no gate."""


_REQUIRES = {Feature.FRACTIONAL_CAPACITY_RANGE: Feature.CONSUMABLE_CAPACITY}


def parse(text: str) -> frozenset[Feature]:
    """Features named in ``text``, separated by commas; empty for none. Raises ValueError."""
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in set(Feature)]
    if unknown:
        raise ValueError(f"expected features of {', '.join(Feature)}, separated by commas")
    found = frozenset(map(Feature, names))
    for feature, needed in _REQUIRES.items():
        if feature in found and needed not in found:
            raise ValueError(f"expected {needed} with {feature}")
    return found


def shown(features: Iterable[Feature]) -> str:
    """``features`` as ``parse`` reads them."""
    return ",".join(sorted(features))
