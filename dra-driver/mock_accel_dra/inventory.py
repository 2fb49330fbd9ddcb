"""Devices of this node with their health, tracked from scan to scan."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

from mock_accel_dra import klog
from mock_accel_dra.discovery import Device, Scan

NO_ANSWER = "NoAnswer"
"""The device exists but cannot be read: its server died or hangs."""
UNPLUGGED = "Unplugged"
"""The device is gone while a claim still has it."""


class Inventory:
    """Remembers devices that stop responding, or are unplugged while a claim has them."""

    def __init__(self) -> None:
        self._known: dict[str, Device] = {}
        self.unreadable: dict[str, str] = {}
        """Devices that exist but were never read, with the reason; nothing is known that could be published."""

    def update(self, scan: Scan, prepared: AbstractSet[str]) -> list[Device]:
        """All devices; those with a problem as they were last seen.

        ``prepared`` are the names of devices that claims have. A device that was
        never read, or that is gone and unallocated, is left out.
        """
        devices = {device.name: device for device in scan.devices}
        for name, before in self._known.items():
            if name in devices:
                continue
            if name in scan.broken:
                devices[name] = replace(before, problem=NO_ANSWER)
            elif name in prepared:
                devices[name] = replace(before, problem=UNPLUGGED)
        # A VF is published in the pool of its PF.
        by_address = {device.pci_address: device for device in self._known.values() if not device.is_vf}
        for device in list(devices.values()):
            parent = by_address.get(device.physfn or "")
            if device.problem and parent and parent.name not in devices:
                devices[parent.name] = replace(parent, problem=UNPLUGGED)
        self._log(devices, scan)
        self._known = devices
        unreadable = {name: reason for name, reason in scan.broken.items() if name not in devices}
        for name, reason in unreadable.items():
            if self.unreadable.get(name) != reason:
                klog.warning("Device left out", device=name, reason=reason)
        self.unreadable = unreadable
        return list(devices.values())

    def _log(self, devices: dict[str, Device], scan: Scan) -> None:
        for name, device in devices.items():
            before = self._known[name].problem if name in self._known else ""
            if device.problem and device.problem != before:
                reason = scan.broken.get(name, "it is not in sysfs any more")
                klog.warning("Device has a problem", device=name, problem=device.problem, err=reason)
            elif before and not device.problem:
                klog.info(klog.STATE, "Device is healthy again", device=name, problem=before)
