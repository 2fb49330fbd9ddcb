"""Health of this node's devices, for the kubelet's service DRAResourceHealth."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mock_accel_dra import problems
from mock_accel_dra.discovery import Device
from mock_accel_dra.names import pool_name
from mock_accel_dra.slices import owners

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class DeviceHealth:
    """Health of a published device."""

    pool: str
    device: str
    healthy: bool
    message: str


@dataclass(frozen=True)
class Report:
    """Health of all devices at one point in time."""

    devices: tuple[DeviceHealth, ...]
    time: int
    """Seconds since 1970."""


class HealthFeed:
    """The latest report, for any number of readers that wait for updates."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._changed = threading.Condition()
        self._report: Report | None = None
        self._closed = False

    def update(self, devices: Sequence[Device]) -> None:
        """Set the health of all published devices."""
        pools = owners(devices)
        found = tuple(
            DeviceHealth(
                pool=pool_name(self._node, pools[device.name]),
                device=device.published_name,
                healthy=not device.problem,
                message=problems.message(device.problem),
            )
            for device in devices
        )
        with self._changed:
            self._report = Report(found, int(time.time()))
            self._changed.notify_all()

    def close(self) -> None:
        """End the iterations of all readers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def follow(self, stop: threading.Event) -> Iterator[Report]:
        """The latest report and each update, until ``close`` or until ``stop`` is set (checked every second)."""
        seen: Report | None = None
        while True:
            with self._changed:
                while not self._closed and self._report is seen and not stop.is_set():
                    self._changed.wait(_POLL_SECONDS)
                if self._closed or stop.is_set():
                    return
                seen = self._report
            if seen is not None:
                yield seen
