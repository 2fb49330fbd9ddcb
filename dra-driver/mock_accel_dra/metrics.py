"""Metrics of the two programs, for Prometheus."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mock_accel_dra.durations import BOUNDS, Durations
from mock_accel_dra.figures import COUNTERS, Figures

_HELP = {
    "jobs": "Jobs that a device has done",
    "jobs_failed": "Jobs of a device that ended with an error",
    "bytes": "Bytes of the jobs that a device has done",
    "hangs": "Jobs of a device that did not end in time",
    "temperature": "Temperature of a device",
    "temperature_limit": "Temperature above which a device is hot",
}


class Agent(Protocol):
    """The source of the node agent's metrics."""

    @property
    def claim_durations(self) -> Durations: ...
    @property
    def scan_durations(self) -> Durations: ...
    @property
    def start_seconds(self) -> float | None: ...
    @property
    def api_errors(self) -> int: ...
    @property
    def state_file(self) -> Path: ...
    def device_figures(self) -> Mapping[str, Figures]: ...
    def device_problems(self) -> Mapping[str, str]: ...
    def device_resets(self) -> Mapping[tuple[str, str], int]: ...
    def devices_by_state(self) -> Mapping[str, int]: ...
    def devices_left_out(self) -> Mapping[str, str]: ...
    def fields_changed(self) -> Sequence[tuple[str, str]]: ...


class AgentMetrics(Collector):
    """The node agent's metrics, read at each scrape."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """All metrics with their current values."""
        agent = self._agent
        yield _histogram(
            "mock_accel_claim_duration_seconds", "Time to prepare or unprepare one claim", agent.claim_durations
        )
        yield _histogram(
            "mock_accel_scan_duration_seconds", "Time to read all devices from sysfs", agent.scan_durations
        )
        start = GaugeMetricFamily(
            "mock_accel_start_seconds", "Time from the start of the process until it served the kubelet"
        )
        if agent.start_seconds is not None:
            start.add_metric([], agent.start_seconds)
        yield start
        devices = GaugeMetricFamily("mock_accel_devices", "Devices of this node", labels=("state",))
        for state, count in agent.devices_by_state().items():
            devices.add_metric([state], count)
        yield devices
        yield from _device_metrics(agent)
        left_out = GaugeMetricFamily(
            "mock_accel_devices_left_out", "Devices of this node that cannot be published", labels=("device", "reason")
        )
        for name, reason in agent.devices_left_out().items():
            left_out.add_metric([name, reason], 1)
        yield left_out
        fields = GaugeMetricFamily(
            "mock_accel_slice_fields_changed",
            "Fields of slices that the API server changed on write",
            labels=("slice", "field"),
        )
        for name, field in agent.fields_changed():
            fields.add_metric([name, field], 1)
        yield fields
        yield CounterMetricFamily(
            "mock_accel_api_errors", "Requests to the API server that failed", value=agent.api_errors
        )
        age = GaugeMetricFamily("mock_accel_checkpoint_age_seconds", "Time since the last write of the checkpoint")
        with contextlib.suppress(FileNotFoundError):  # no claim was prepared yet
            age.add_metric([], max(0.0, time.time() - agent.state_file.stat().st_mtime))
        yield age

    def text(self) -> bytes:
        """Prometheus' text exposition format."""
        return generate_latest(self._registry)


def _device_metrics(agent: Agent) -> Iterator[Metric]:
    """Metrics with the label ``device``; devices whose kernel module has no such figure are missing."""
    figures = agent.device_figures()
    for name in COUNTERS:
        counter = CounterMetricFamily(f"mock_accel_device_{name}", _HELP[name], labels=("device",))
        for device, found in figures.items():
            if name in found.counters:
                counter.add_metric([device], found.counters[name])
        yield counter
    for name in ("temperature", "temperature_limit"):
        gauge = GaugeMetricFamily(f"mock_accel_device_{name}_celsius", _HELP[name], labels=("device",))
        for device, found in figures.items():
            if name in found.celsius:
                gauge.add_metric([device], found.celsius[name])
        yield gauge
    unhealthy = GaugeMetricFamily("mock_accel_device_unhealthy", "Devices with a problem", labels=("device", "problem"))
    for device, problem in agent.device_problems().items():
        unhealthy.add_metric([device, problem], 1)
    yield unhealthy
    resets = CounterMetricFamily(
        "mock_accel_device_resets", "Resets of devices by the driver", labels=("device", "result")
    )
    for labels, count in agent.device_resets().items():
        resets.add_metric(labels, count)
    yield resets


def _histogram(name: str, help_text: str, durations: Durations) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_text, labels=durations.labels)
    for labels, histogram in durations.snapshot().items():
        bounds = [*map(str, BOUNDS), "+Inf"]
        buckets = list(zip(bounds, itertools.accumulate(histogram.counts), strict=True))
        family.add_metric(labels, buckets, histogram.seconds)
    return family


class ControllerMetrics:
    """Metrics in a separate registry, so that one process may have several controllers."""

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
        """Set the number of devices by node and type; remove all other label values."""
        self._devices.clear()
        for labels, count in counts.items():
            self._devices.labels(*labels).set(count)

    def stale_slice_deleted(self) -> None:
        """Count a deleted slice of a node that is gone."""
        self._stale.inc()

    def api_error(self) -> None:
        """Count a failed request."""
        self._errors.inc()

    def text(self) -> bytes:
        """Prometheus' text exposition format."""
        return generate_latest(self._registry)
