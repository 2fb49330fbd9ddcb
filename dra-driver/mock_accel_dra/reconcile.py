"""What the driver puts right when it starts: claims, CDI files and status registers that do not fit together.

Whatever stopped an earlier driver, it recorded a claim before it touched a
device. So a device that no recorded claim has is nobody's, unless the record
itself was lost; then it is rebuilt from the claims of the API server, of which
those are prepared here whose device has a CDI file or a set status register.
"""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any, Protocol

from mock_accel_dra import cdi, discovery, klog
from mock_accel_dra.api import CLAIMS, ApiError, claim_path
from mock_accel_dra.discovery import ALLOCATED, FREE, Device
from mock_accel_dra.names import is_pool_of
from mock_accel_dra.prepare import PrepareError, Preparer, own_results
from mock_accel_dra.state import PreparedClaim, PreparedDevice, State


class Api(Protocol):
    """What is needed of the Kubernetes API."""

    def get(self, path: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """Read an object or a list; raises ApiError."""


class Reconciler:
    """Compares the record of prepared claims with the API server and the devices, and repairs."""

    def __init__(self, *, api: Api, node: str, sysfs: Path, cdi_folder: Path, state: State, preparer: Preparer) -> None:
        self._api = api
        self._node = node
        self._sysfs = sysfs
        self._cdi = cdi_folder
        self._state = state
        self._preparer = preparer

    def run(self) -> None:
        """Put everything right. Raises ApiError, OSError; what was done until then stays, call it again.

        Without the API server nothing is undone: it alone knows which claims there are.
        """
        if self._state.lost:
            self._rebuild()
        for claim in self._state.claims():
            self._undo_if_gone(claim)
        self.repair()

    def repair(self) -> None:
        """Make CDI files and status registers what the recorded claims say. Raises OSError."""
        with self._state.locked():
            if self._state.lost:
                return
            self._state.remove_half_written()
            cdi.remove_half_written(self._cdi)
            devices = {device.name: device for device in discovery.scan(self._sysfs).devices}
            holders = {
                entry.name: claim for claim in self._state.claims() for entry in claim.devices if not entry.admin
            }
            for name, device in devices.items():
                self._repair_status(device, holders.get(name))
            for name in self._state.prepared() & devices.keys():
                if cdi.write(self._cdi, devices[name]):
                    klog.warning("CDI file was missing or wrong, written anew", device=name)
            for name in cdi.names(self._cdi) - self._state.prepared():
                cdi.delete(self._cdi, name)
                klog.warning("CDI file of a device that no claim has, removed", device=name)

    def _repair_status(self, device: Device, holder: PreparedClaim | None) -> None:
        expected = ALLOCATED if holder else FREE
        if device.status == expected:
            return
        klog.warning(
            "Status register contradicts, repaired",
            device=device.name,
            expected=expected,
            found=device.status,
            claim=holder or "none",
        )
        discovery.set_status(self._sysfs, device.name, expected)

    def _undo_if_gone(self, claim: PreparedClaim) -> None:
        try:
            found = self._api.get(claim_path(claim.namespace, claim.name))["metadata"]["uid"]
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            found = "none"
        if found == claim.uid:
            return
        klog.warning("Claim is gone, its devices are released", claim=claim, found=found)
        try:
            self._preparer.unprepare(claim.namespace, claim.name, claim.uid)
        except PrepareError as error:
            klog.error("Claim that is gone cannot be released", claim=claim, err=error)

    def _rebuild(self) -> None:
        everything = self._api.get(CLAIMS, {})["items"] or []
        devices = {device.name: device for device in discovery.scan(self._sysfs).devices}
        used = cdi.names(self._cdi) | {name for name, device in devices.items() if device.status != FREE}
        names = {discovery.published_name(name): name for name in used}
        with self._state.locked():
            for claim in everything:
                ours = {
                    names[result["device"]]: bool(result.get("adminAccess"))
                    for result in own_results(claim)
                    if is_pool_of(result["pool"], self._node) and result["device"] in names
                }
                if ours:
                    metadata = claim["metadata"]
                    entries = tuple(PreparedDevice(name, admin) for name, admin in ours.items())
                    prepared = PreparedClaim(metadata["uid"], metadata["namespace"], metadata["name"], entries)
                    self._state.put(prepared)
                    klog.warning("Prepared claim found again", claim=prepared, devices=list(ours))
            self._state.rebuilt()
