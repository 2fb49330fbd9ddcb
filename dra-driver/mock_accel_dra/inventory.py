"""Devices of this node with their health, tracked from scan to scan."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

from mock_accel_dra import klog, problems
from mock_accel_dra.discovery import Device, Scan
from mock_accel_dra.problems import NO_ANSWER, UNPLUGGED


class Inventory:
    """Remembers devices that stop responding, or are unplugged while a claim has them."""

    def __init__(self) -> None:
        self._known: dict[str, Device] = {}
        self.unreadable: dict[str, str] = {}
        """Devices that exist but were never read, with the reason; nothing is known that could be published."""
        self.turned: list[tuple[Device, str]] = []
        """Devices that got another problem, or none, at the last update, with the problem that they had before."""
        self.hung: list[Device] = []
        """Devices in which a job hung between the last two updates."""

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
        turns = [(device, self._before(device)) for device in devices.values()]
        self.turned = [(device, problem) for device, problem in turns if problem is not None]
        self.hung = [
            device
            for device in devices.values()
            if device.name in self._known and device.hangs > self._known[device.name].hangs
        ]
        self._log(scan)
        self._known = devices
        unreadable = {name: reason for name, reason in scan.broken.items() if name not in devices}
        for name, reason in unreadable.items():
            if self.unreadable.get(name) != reason:
                klog.warning("Device left out", device=name, reason=reason)
        self.unreadable = unreadable
        return list(devices.values())

    def _before(self, device: Device) -> str | None:
        """The problem that ``device`` had before, if it has another one now, or none; else None."""
        before = self._known[device.name].problem if device.name in self._known else ""
        return None if device.problem == before else before

    def _log(self, scan: Scan) -> None:
        for device, before in self.turned:
            if device.problem:
                reason = scan.broken.get(device.name, problems.message(device.problem))
                klog.warning("Device has a problem", device=device.name, problem=device.problem, err=reason)
            else:
                klog.info(klog.STATE, "Device is healthy again", device=device.name, problem=before)
        for device in self.hung:
            klog.warning("A job of a device hung", device=device.name, hangs=device.hangs)
