"""Sets up and releases the devices of a claim: status register, configuration, shares and CDI files.

Callers hold the lock of the state and record the claim before they call this.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from mock_accel_dra import cdi, device_configuration, discovery, identity, klog, window_shares
from mock_accel_dra.configuration import Configuration
from mock_accel_dra.discovery import ALLOCATED, FREE, Device, DeviceError
from mock_accel_dra.shares import Share, cdi_name
from mock_accel_dra.state import PreparedClaim, PreparedDevice, State

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class ClaimedDevices:
    """Status registers and CDI files of one node's devices."""

    def __init__(self, *, sysfs: Path, cdi_folder: Path, state: State) -> None:
        self._sysfs = sysfs
        self._cdi = cdi_folder
        self._state = state

    def apply(
        self, claim: PreparedClaim, entry: PreparedDevice, device: Device, undo: list[Callable[[], object]]
    ) -> None:
        """Set the status of ``device``, configure it and write its CDI file. Raises OSError, DeviceError.

        Before each change the step that undoes it is appended to ``undo``.
        """
        if not entry.admin and device.status != ALLOCATED:
            undo.append(lambda: self._set_status(device.name, FREE))
            discovery.set_status(self._sysfs, device.name, ALLOCATED)
            found = discovery.get_status(self._sysfs, device.name)
            if found != ALLOCATED:
                raise DeviceError(f"device {device.name}: expected status {ALLOCATED} after writing it, found {found}")
            klog.info(klog.OPERATION, "Set status", device=device.name, status=ALLOCATED)
        if not entry.admin:
            device_configuration.apply(self._sysfs, device, entry.configuration)
        if entry.shares:
            self._apply_shares(entry, device, undo)
        elif self._state.users(device.name, but=claim.uid):
            others = self._state.configuration(device.name, but=claim.uid)
            undo.append(lambda: cdi.write(self._cdi, device, others))
        elif not cdi.file_of(self._cdi, device.name).exists():
            undo.append(lambda: cdi.delete(self._cdi, device.name))
        if not entry.shares and cdi.write(self._cdi, device, self._state.configuration(device.name)):
            klog.info(klog.OPERATION, "Wrote CDI file", device=device.name)

    def _apply_shares(self, entry: PreparedDevice, device: Device, undo: list[Callable[[], object]]) -> None:
        """Add the shares of ``entry`` to the kernel module, and write their CDI files. Raises OSError, DeviceError."""
        for share in entry.shares:
            self._add_share(device, share, undo)
        device = replace(device, shares=discovery.read_shares(self._sysfs, device.name))
        for share in entry.shares:
            name = cdi_name(device.name, share.id)
            if not cdi.file_of(self._cdi, name).exists():
                undo.append(lambda name=name: cdi.delete(self._cdi, name))  # type: ignore[misc]
            if cdi.write(self._cdi, device, entry.configuration, share):
                klog.info(klog.OPERATION, "Wrote CDI file", device=name)

    def _add_share(self, device: Device, share: Share, undo: list[Callable[[], object]]) -> None:
        if share.is_whole or any(item.id == share.id for item in device.shares or ()):
            return
        undo.append(lambda: self._remove_share(device.name, share.id))
        text = window_shares.adding(share.id, share.offset, share.size, share.jobs)
        discovery.set_attribute(self._sysfs, device.name, window_shares.ATTRIBUTE, text)
        klog.info(klog.OPERATION, "Added share", device=device.name, share=text)

    def _remove_share(self, name: str, share_id: str) -> None:
        """Remove a share from the kernel module, if it has it. Raises OSError."""
        try:
            there = discovery.read_shares(self._sysfs, name) or ()
            if any(item.id == share_id for item in there):
                discovery.set_attribute(self._sysfs, name, window_shares.ATTRIBUTE, window_shares.removing(share_id))
                klog.info(klog.OPERATION, "Removed share", device=name, share=share_id)
        except DeviceError as error:
            raise OSError(errno.EIO, str(error)) from error
        except OSError as error:
            if error.errno not in _GONE:
                raise

    def release(self, claim: PreparedClaim, entries: Iterable[PreparedDevice]) -> None:
        """Release devices of ``claim`` that no other claim has. Raises OSError."""
        for entry in entries:
            others = self._state.users(entry.name, but=claim.uid)
            if entry.shares:
                self._release_shares(entry)
            elif not others and cdi.delete(self._cdi, entry.name):
                klog.info(klog.OPERATION, "Removed CDI file", device=entry.name)
            elif others and entry.configuration:
                self._rewrite_file(entry.name, self._state.configuration(entry.name, but=claim.uid))
            if entry.admin or not all(used.admin for _, used in others):
                continue
            if self._has_name(entry):
                self._set_status(entry.name, FREE)

    def _release_shares(self, entry: PreparedDevice) -> None:
        for name in entry.cdi_names:
            if cdi.delete(self._cdi, name):
                klog.info(klog.OPERATION, "Removed CDI file", device=name)
        if self._has_name(entry):
            for share in entry.shares:
                self._remove_share(entry.name, share.id)

    def _rewrite_file(self, name: str, configuration: Configuration) -> None:
        """Write the CDI file of a device that other claims still have. Raises OSError if it cannot be written."""
        try:
            device = discovery.read_device(self._sysfs, name)
        except (OSError, DeviceError) as error:  # `Reconciler.repair` writes it when the device responds
            klog.info(klog.OPERATION, "Device cannot be read, its CDI file stays", device=name, err=error)
            return
        cdi.write(self._cdi, device, configuration)

    def _has_name(self, entry: PreparedDevice) -> bool:
        """Whether the name of ``entry`` still refers to its device; True unless another device is found there."""
        try:
            found = identity.read(self._sysfs, entry.name)
        except OSError:  # gone or not responding: the write of its register reports that
            return True
        if entry.identity in (None, found):
            return True
        # `Reconciler.repair` frees the recorded device under its current name.
        klog.warning("Register of another device left alone", device=entry.name, recorded=entry.identity, found=found)
        return False

    def _set_status(self, name: str, status: int) -> None:
        try:
            discovery.set_status(self._sysfs, name, status)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            klog.warning("Device is gone, its status is not written", device=name, status=status)
            return
        klog.info(klog.OPERATION, "Set status", device=name, status=status)
