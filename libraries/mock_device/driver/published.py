"""Which device of the nodes a device of a ResourceSlice is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mock_device.driver.description import Driver
from mock_device.topology import Topology

Names = Mapping[tuple[str, str], str]
"""Names in sysfs by node and PCI address."""


def names(topology: Topology) -> Names:
    """Names of all devices of a topology."""
    return {(key.node, function.bdf): function.name for key, function in topology.devices.items()}


def name_in_sysfs(driver: Driver, known: Names, item: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    """Name in sysfs of a ``device`` of a ResourceSlice ``item`` of ``driver`` (API's JSON).

    It is the one that ``known`` has for the device's PCI address. For a driver with a slice for each device, or without
    an attribute of the address, it is label ``device`` of the slice, else the name in the slice with ``_`` for ``-``.
    """
    if "one-slice-a-device" not in driver.promises and (address := driver.attributes.get("pci-address")):
        values = {driver.qualified(name): value for name, value in (device.get("attributes") or {}).items()}
        found = values.get(address, {}).get("string", "")
        if name := known.get((item["spec"].get("nodeName", ""), found)):
            return name
    label = (item["metadata"].get("labels") or {}).get("device")
    return label or str(device["name"]).replace("-", "_")
