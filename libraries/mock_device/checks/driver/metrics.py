"""Metrics of the node agents and the controller, read through the API server's proxy.

Format: Prometheus text exposition format, version 0.0.4. Histograms only grow;
the effect of a test is the difference of two readings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from mock_device.checks.errors import CheckError
from mock_device.driver import current
from mock_device.lab.base.timeouts import Timeout

SCANS = "mock_accel_scan_duration_seconds"
CLAIMS = "mock_accel_claim_duration_seconds"
"""Histogram with labels ``operation`` (``prepare``, ``unprepare``) and ``result`` (``ok``, ``error``)."""
START = "mock_accel_start_seconds"
"""Gauge: seconds from the start of the process until the kubelet had registered it."""
DEVICES = "mock_accel_devices"
"""Gauge: the node agent's by ``state`` (``free``, ``allocated``), the controller's by ``node`` and ``device_type``."""
API_ERRORS = "mock_accel_api_errors_total"
"""Counter: failed requests to the API server."""
PORT = 8080
"""Port of both programs for /healthz, /readyz and /metrics."""


@dataclass(frozen=True)
class Histogram:
    """Durations of operations."""

    count: int = 0
    seconds: float = 0.0
    """Sum of all durations."""
    within: Mapping[float, int] = field(default_factory=dict)
    """Number of operations by upper bound of their duration in seconds."""

    @property
    def mean(self) -> float:
        """Mean duration in seconds. Raises ValueError if the histogram is empty."""
        if not self.count:
            raise ValueError("an empty histogram has no mean")
        return self.seconds / self.count

    def bound(self, share: float) -> float:
        """Smallest bucket bound, in seconds, that holds ``share`` (0 to 1) of all; infinite above the last bucket."""
        return min((bound for bound, count in self.within.items() if count >= share * self.count), default=math.inf)

    def since(self, before: Histogram) -> Histogram:
        """Operations since the reading ``before``. Raises CheckError if the agent has restarted in between."""
        if self.count < before.count:
            raise CheckError(
                f"a node agent counts {self.count} now and {before.count} before: it has restarted in between; "
                f"look at: kubectl -n {current.driver().namespace} get pods"
            )
        within = {bound: count - before.within.get(bound, 0) for bound, count in self.within.items()}
        return Histogram(self.count - before.count, self.seconds - before.seconds, within)


def total(histograms: Iterable[Histogram]) -> Histogram:
    """Sum of histograms, such as those of several nodes."""
    count, seconds = 0, 0.0
    within: Counter[float] = Counter()
    for item in histograms:
        count, seconds = count + item.count, seconds + item.seconds
        within.update(item.within)
    return Histogram(count, seconds, dict(within))


def parse(text: str, name: str, **labels: str) -> Histogram:
    """Histogram ``name`` with ``labels`` in an agent's metrics; empty if nothing was counted yet."""
    found = []
    for family in text_string_to_metric_families(text):
        if family.name != name:
            continue
        matching = [item for item in family.samples if labels.items() <= item.labels.items()]
        count = sum(int(item.value) for item in matching if item.name == f"{name}_count")
        seconds = sum(item.value for item in matching if item.name == f"{name}_sum")
        within: Counter[float] = Counter()
        for item in matching:
            if item.name == f"{name}_bucket":
                within[float(item.labels["le"])] += int(item.value)
        found.append(Histogram(count, seconds, dict(within)))
    return total(found)


def samples(text: str, name: str) -> list[Sample]:
    """All samples ``name`` of an agent's metrics."""
    return [item for family in text_string_to_metric_families(text) for item in family.samples if item.name == name]


def parse_value(text: str, name: str, **labels: str) -> float:
    """Value of the only sample ``name`` with ``labels``. Raises CheckError unless there is exactly one."""
    there = samples(text, name)
    found = [item.value for item in there if labels.items() <= item.labels.items()]
    if len(found) == 1:
        return float(found[0])
    listed = ", ".join(series(item.name, **item.labels) for item in there) or "none of that name"
    raise CheckError(
        f"expected {series(name, **labels)} once among the metrics, found {listed}; look at the pod's log: lab logs"
    )


def series(name: str, **labels: str) -> str:
    """A sample's name and labels in Prometheus' notation."""
    listed = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{listed}}}" if listed else name


def read(api: ApiClient, pod: str) -> str:
    """Read ``/metrics`` of the driver's pod ``pod``."""
    answer: Any = client.CoreV1Api(api).connect_get_namespaced_pod_proxy_with_path(
        f"{pod}:{PORT}",
        current.driver().namespace,
        "metrics",
        _preload_content=False,
        _request_timeout=Timeout.METRICS.seconds,
    )
    return str(answer.data, "utf-8")
