"""Make CDI files, status registers, configuration and shares of devices consistent with the record of prepared claims.

A driver records a claim before it touches a device, so a device that no recorded
claim has is free. If the record itself was lost, it is rebuilt from the API server:
a claim is prepared here if its device has a CDI file or a set status register.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mock_accel_dra import (
    allocations,
    cdi,
    configuration,
    device_configuration,
    discovery,
    identity,
    klog,
    shares,
    window_shares,
)
from mock_accel_dra.api import CLAIMS
from mock_accel_dra.configuration import DEFAULTS, Configuration, ConfigurationError
from mock_accel_dra.discovery import ALLOCATED, FREE, Device, DeviceError, Scan
from mock_accel_dra.shares import Share
from mock_accel_dra.state import PreparedClaim, PreparedDevice, State

_MOST_REPAIRS, _REPAIR_SECONDS = 5, 60.0
"""Writes of one register per period. A register that does not keep its value sends an event for each write."""


class Api(Protocol):
    """The part of the Kubernetes API that is used here."""

    def get(self, path: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """Read an object or a list; raises ApiError."""


@dataclass(frozen=True)
class _File:
    """A CDI file that must be there."""

    device: Device
    configuration: Configuration
    share: Share | None = None


class Reconciler:
    """Compares the record of prepared claims with the devices and repairs them. Not thread-safe."""

    def __init__(
        self,
        *,
        api: Api,
        node: str,
        sysfs: Path,
        cdi_folder: Path,
        state: State,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._node = node
        self._sysfs = sysfs
        self._cdi = cdi_folder
        self._state = state
        self._clock = clock
        self._repairs: dict[tuple[str, str], deque[float]] = {}
        """Times of the last repairs of each device's register, and of its configuration."""

    def run(self) -> None:
        """Rebuild a lost record, remove temporary files, and repair. Raises ApiError, OSError; then call again.

        While the API server is unreachable, a lost record is not rebuilt and nothing is changed.
        """
        if self._state.lost:
            self._rebuild()
        with self._state.locked():
            if self._state.lost:
                return
            self._state.remove_half_written()
            cdi.remove_half_written(self._cdi)
        self.repair(discovery.scan(self._sysfs))

    def repair(self, scan: Scan) -> None:
        """Make CDI files, status registers and configuration match the recorded claims. Raises OSError.

        Devices are read again, under the lock, only if ``scan`` contradicts the
        record. A device that cannot be repaired does not prevent the repair of others.
        """
        if self._state.lost or not self._contradicts(scan):
            return
        with self._state.locked():
            if self._state.lost:
                return
            devices = {device.name: self._again(device) for device in scan.devices}
            self._identify(devices)
            for device in devices.values():
                self._repair_status(device)
                self._repair_settings(device)
            devices = {name: self._repair_shares(device) for name, device in devices.items()}
            self._repair_files(devices)

    def _contradicts(self, scan: Scan) -> bool:
        """Whether anything may need repair; a first check without the lock."""
        devices = {device.name: device for device in scan.devices}
        if any(device.status != self._expected(device)[0] or self._settings(device) for device in scan.devices):
            return True
        if any(self._share_changes(device) for device in scan.devices):
            return True
        if any(entry.identity is None and entry.name in devices for entry in self._entries()):
            return True
        wanted, kept = self._wanted_files(devices)
        return cdi.names(self._cdi) - kept != wanted.keys() - kept or not all(
            cdi.is_right(self._cdi, file.device, file.configuration, file.share) for file in wanted.values()
        )

    def _again(self, device: Device) -> Device:
        """``device`` with its current status and settings."""
        try:
            return replace(
                device,
                status=discovery.get_status(self._sysfs, device.name),
                settings=discovery.read_settings(self._sysfs, device.name),
                shares=discovery.read_shares(self._sysfs, device.name),
            )
        except (OSError, DeviceError) as error:
            klog.info(klog.OPERATION, "Device cannot be read", device=device.name, err=error)
            return device

    def _entries(self) -> list[PreparedDevice]:
        return [entry for claim in self._state.claims() for entry in claim.devices]

    def _expected(self, device: Device) -> tuple[int, PreparedClaim | None]:
        """Expected status of ``device``, and the claim that has it."""
        for claim in self._state.claims():
            if any(entry.is_device(device) and not entry.admin for entry in claim.devices):
                return ALLOCATED, claim
        return FREE, None

    def _configured(self, device: Device) -> Configuration:
        """What the claim that has ``device`` configures of it."""
        holding = (entry for entry in self._entries() if entry.is_device(device) and not entry.admin)
        return next((entry.configuration for entry in holding), DEFAULTS)

    def _settings(self, device: Device) -> dict[str, str]:
        """Attributes of ``device`` that do not have the value that its claim configures, with that value."""
        return device_configuration.differences(device.settings, self._configured(device))

    def _share_changes(self, device: Device) -> list[str]:
        """What must be written to the kernel module so that it has the shares of claims, and no others."""
        if device.shares is None:
            return []
        ours = {
            share.id: window_shares.adding(share.id, share.offset, share.size, share.jobs)
            for entry in self._entries()
            if entry.is_device(device)
            for share in entry.shares
            if not share.is_whole
        }
        there = {item.id for item in device.shares}
        return [window_shares.removing(key) for key in sorted(there - ours.keys())] + [
            ours[key] for key in sorted(ours.keys() - there)
        ]

    def _wanted_files(self, devices: Mapping[str, Device]) -> tuple[dict[str, _File], set[str]]:
        """CDI files that must be there by their names, and names of files of invisible devices, which may stay.

        Neither includes a file whose name refers to another device now: a container
        that restarts must not get that device.
        """
        wanted: dict[str, _File] = {}
        kept: set[str] = set()
        for entry in self._entries():
            if (device := devices.get(entry.name)) is None:
                kept.update(entry.cdi_names)
            elif not entry.is_device(device):
                continue
            elif entry.shares:
                for name, share in zip(entry.cdi_names, entry.shares, strict=True):
                    wanted[name] = _File(device, entry.configuration, share)
            else:
                wanted[entry.name] = _File(device, self._state.configuration(entry.name))
        return wanted, kept - wanted.keys()

    def _identify(self, devices: Mapping[str, Device]) -> None:
        """Record the device identities of claims that an older driver recorded without them. Raises OSError."""
        for claim in self._state.claims():
            entries = tuple(
                replace(entry, identity=identity.of(devices[entry.name]))
                if entry.identity is None and entry.name in devices
                else entry
                for entry in claim.devices
            )
            if entries != claim.devices:
                self._state.put(replace(claim, devices=entries))

    def _repair_status(self, device: Device) -> None:
        expected, holder = self._expected(device)
        if device.status == expected:
            return
        if not self._may_write("Status register", device.name, expected=expected, found=device.status):
            return
        klog.warning(
            "Repairing status register",
            device=device.name,
            expected=expected,
            found=device.status,
            claim=holder or "none",
        )
        try:
            discovery.set_status(self._sysfs, device.name, expected)
            found = discovery.get_status(self._sysfs, device.name)
        except (OSError, DeviceError) as error:
            klog.error("Status register cannot be repaired", device=device.name, expected=expected, err=error)
            return
        if found != expected:
            klog.warning("Status register does not keep its value", device=device.name, expected=expected, found=found)

    def _repair_settings(self, device: Device) -> None:
        """Configure ``device`` again: a reset by someone else has undone it."""
        expected = self._settings(device)
        if not expected or not self._may_write("Configuration", device.name, expected=str(expected)):
            return
        klog.warning("Repairing configuration", device=device.name, expected=str(expected), found=device.settings)
        try:
            device_configuration.apply(self._sysfs, device, self._configured(device))
        except (OSError, DeviceError) as error:
            klog.error("Configuration cannot be repaired", device=device.name, err=error)

    def _repair_shares(self, device: Device) -> Device:
        """Make the kernel module have the shares of claims, which it loses when it is loaded again; ``device`` then."""
        changes = self._share_changes(device)
        if not changes or not self._may_write("Shares", device.name, expected="; ".join(changes)):
            return device
        klog.warning("Repairing shares", device=device.name, changes="; ".join(changes))
        try:
            for text in changes:
                discovery.set_attribute(self._sysfs, device.name, window_shares.ATTRIBUTE, text)
            return replace(device, shares=discovery.read_shares(self._sysfs, device.name))
        except (OSError, DeviceError) as error:
            klog.error("Shares cannot be repaired", device=device.name, err=error)
            return device

    def _may_write(self, what: str, device: str, **values: object) -> bool:
        """Whether ``what`` of a device may be written again; logs once when the limit is reached, with ``values``."""
        times = self._repairs.setdefault((what, device), deque(maxlen=_MOST_REPAIRS + 1))
        now = self._clock()
        while times and now - times[0] > _REPAIR_SECONDS:
            times.popleft()
        if len(times) < _MOST_REPAIRS:
            times.append(now)
            return True
        if len(times) == _MOST_REPAIRS:
            klog.warning(
                f"{what} keeps changing, not repaired for now; check what else writes it",
                device=device,
                **values,
                repairs=_MOST_REPAIRS,
                seconds=_REPAIR_SECONDS,
            )
            times.append(times[-1])
        return False

    def _repair_files(self, devices: Mapping[str, Device]) -> None:
        wanted, kept = self._wanted_files(devices)
        for name, file in wanted.items():
            if cdi.write(self._cdi, file.device, file.configuration, file.share):
                klog.warning("Rewrote a missing or wrong CDI file", device=name)
        for name in cdi.names(self._cdi) - wanted.keys() - kept:
            cdi.delete(self._cdi, name)
            klog.warning("Removed the CDI file of an unallocated device", device=name)

    def _rebuild(self) -> None:
        everything = self._api.get(CLAIMS, {})["items"] or []
        devices = {device.name: device for device in discovery.scan(self._sysfs).devices}
        found = cdi.names(self._cdi)
        used = set(map(shares.device_of, found)) | {name for name, device in devices.items() if device.status != FREE}
        names = {discovery.published_name(name): name for name in used}
        with self._state.locked():
            for claim in everything:
                parts = self._parts(claim)
                ours: dict[str, PreparedDevice] = {}
                for result in allocations.results_here(claim, self._node):
                    name = names.get(result["device"])
                    if name and (entry := self._entry(name, devices.get(name), result, parts, found)):
                        earlier = ours.get(name, entry)
                        ours[name] = replace(entry, shares=tuple(dict.fromkeys((*earlier.shares, *entry.shares))))
                if ours:
                    metadata = claim["metadata"]
                    prepared = PreparedClaim(
                        uid=metadata["uid"],
                        namespace=metadata["namespace"],
                        name=metadata["name"],
                        devices=tuple(ours.values()),
                        allocated=allocations.allocation_time(claim),
                    )
                    self._state.put(prepared)
                    klog.warning("Recovered a prepared claim", claim=prepared, devices=list(ours))
            self._state.rebuilt()

    @staticmethod
    def _entry(
        name: str, device: Device | None, result: dict[str, Any], parts: list[configuration.Part], files: set[str]
    ) -> PreparedDevice | None:
        """The record of a device in use that a claim has by ``result``; None if this share of it is not prepared."""
        if result.get("adminAccess"):
            return PreparedDevice(name, admin=True)
        found = configuration.of_request(parts, str(result["request"]))
        if device is None or not result.get("shareID"):
            return PreparedDevice(name, configuration=found)
        share = shares.found(result, device, has_file=shares.cdi_name(name, str(result["shareID"])) in files)
        if share is None:
            return None
        return PreparedDevice(name, configuration=found if share.is_whole else shares.CONFIGURATION, shares=(share,))

    @staticmethod
    def _parts(claim: dict[str, Any]) -> list[configuration.Part]:
        try:
            return configuration.of_claim(claim)
        except ConfigurationError:  # no driver has prepared it with that
            return []
