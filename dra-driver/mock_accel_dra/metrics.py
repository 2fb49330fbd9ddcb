"""Figures of the controller, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class ControllerMetrics:
    """A registry of its own, so that several may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._devices = Gauge(
            "mock_accel_devices", "Devices in ResourceSlices", ("node", "device_type"), registry=self._registry
        )
        self._stale = Counter(
            "mock_accel_stale_slices_deleted", "Slices deleted because their node is gone", registry=self._registry
        )
        self._errors = Counter(
            "mock_accel_api_errors", "Requests to the API server that failed", registry=self._registry
        )

    def devices(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set the number of devices by node and type; all others are none."""
        self._devices.clear()
        for labels, count in counts.items():
            self._devices.labels(*labels).set(count)

    def stale_slice_deleted(self) -> None:
        """Count a slice of a node that is gone."""
        self._stale.inc()

    def api_error(self) -> None:
        """Count a failed request."""
        self._errors.inc()

    def text(self) -> bytes:
        """Prometheus' text exposition format."""
        return generate_latest(self._registry)
