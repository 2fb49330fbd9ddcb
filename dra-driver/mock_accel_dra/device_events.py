"""Events for users about devices that get a problem, lose it, hang or are reset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mock_accel_dra import events, problems
from mock_accel_dra.discovery import Device
from mock_accel_dra.inventory import Inventory
from mock_accel_dra.reports import Reporter
from mock_accel_dra.state import State


class DeviceEvents:
    """Writes events on the node, and on the claims that have the device; counts resets."""

    def __init__(self, reporter: Reporter, state: State) -> None:
        self._reporter = reporter
        self._state = state
        self._resets: Counter[tuple[str, str]] = Counter()

    @property
    def resets(self) -> Mapping[tuple[str, str], int]:
        """Number of resets by device and result (``ok``, ``error``)."""
        return dict(self._resets)

    def scanned(self, inventory: Inventory) -> None:
        """Report what the last update of ``inventory`` has found."""
        for device in inventory.hung:
            self._write(device, events.DEVICE_HUNG, "a job did not end in time; the kernel module has reset the device")
        for device, before in inventory.turned:
            if device.problem:
                self._write(device, events.DEVICE_UNHEALTHY, f"{device.problem}: {problems.message(device.problem)}")
            else:
                self._write(device, events.DEVICE_HEALTHY, f"healthy again, was {before}")

    def was_reset(self, device: Device, error: str) -> None:
        """Report the result of a reset of ``device``; ``error`` says why it failed, empty if it did not."""
        self._resets[device.name, "error" if error else "ok"] += 1
        if error:
            self._write(device, events.DEVICE_RESET_FAILED, f"a reset did not end {device.problem}: {error}")
        else:
            self._write(device, events.DEVICE_RESET, f"reset by the driver because of {device.problem}")

    def _write(self, device: Device, reason: str, message: str) -> None:
        self._reporter.about_device(device, reason, message, self._state.claims())
