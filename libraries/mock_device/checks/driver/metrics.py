"""Figures that node agents and controller serve to Prometheus, read through the API server.

Format: Prometheus' text exposition format, version 0.0.4. A histogram only
grows; what a test has done is the difference of two readings.
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

from mock_device.checks.errors import CheckError
from mock_device.lab.cluster import deploy

SCANS = "mock_accel_scan_duration_seconds"
CLAIMS = "mock_accel_claim_duration_seconds"
"""Has the labels ``operation`` (``prepare``, ``unprepare``) and ``result`` (``ok``, ``error``)."""
START = "mock_accel_start_seconds"
"""Gauge: from the start of the process until it served the kubelet."""
DEVICES = "mock_accel_devices"
"""Gauge: of a node agent by ``state`` (``free``, ``allocated``), of the controller by ``node`` and ``device_type``."""
API_ERRORS = "mock_accel_api_errors_total"
"""Counter: requests to the API server that failed."""
PORT = 8080
"""Of both programs, for /healthz, /readyz and /metrics."""
# The first answer of an agent takes long: it imports Prometheus' client for it.
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Histogram:
    """Durations of things that were done."""

    count: int = 0
    seconds: float = 0.0
    """Of all of them together."""
    within: Mapping[float, int] = field(default_factory=dict)
    """How many took at most so many seconds."""

    @property
    def mean(self) -> float:
        """Seconds. Raises ValueError when there is nothing in it."""
        if not self.count:
            raise ValueError("an empty histogram has no mean")
        return self.seconds / self.count

    def bound(self, share: float) -> float:
        """The smallest bound in seconds that ``share`` (0 to 1) of all are within; infinite above the last one."""
        return min((bound for bound, count in self.within.items() if count >= share * self.count), default=math.inf)

    def since(self, before: Histogram) -> Histogram:
        """What came after the reading ``before``. Raises CheckError when the agent has started anew in between."""
        if self.count < before.count:
            raise CheckError(
                f"a node agent counts {self.count} now and {before.count} before: it has started anew in between; "
                f"look at: kubectl -n {deploy.NAMESPACE} get pods"
            )
        within = {bound: count - before.within.get(bound, 0) for bound, count in self.within.items()}
        return Histogram(self.count - before.count, self.seconds - before.seconds, within)


def total(histograms: Iterable[Histogram]) -> Histogram:
    """All of them as one, such as those of several nodes."""
    count, seconds = 0, 0.0
    within: Counter[float] = Counter()
    for item in histograms:
        count, seconds = count + item.count, seconds + item.seconds
        within.update(item.within)
    return Histogram(count, seconds, dict(within))


def parse(text: str, name: str, **labels: str) -> Histogram:
    """Histogram ``name`` of what an agent serves, with these labels; empty while nothing was counted."""
    found = []
    for family in text_string_to_metric_families(text):
        if family.name != name:
            continue
        samples = [item for item in family.samples if labels.items() <= item.labels.items()]
        count = sum(int(item.value) for item in samples if item.name == f"{name}_count")
        seconds = sum(item.value for item in samples if item.name == f"{name}_sum")
        within: Counter[float] = Counter()
        for item in samples:
            if item.name == f"{name}_bucket":
                within[float(item.labels["le"])] += int(item.value)
        found.append(Histogram(count, seconds, dict(within)))
    return total(found)


def parse_value(text: str, name: str, **labels: str) -> float:
    """Value of the one sample ``name`` that has ``labels``. Raises CheckError unless there is exactly one."""
    samples = [item for family in text_string_to_metric_families(text) for item in family.samples if item.name == name]
    found = [item.value for item in samples if labels.items() <= item.labels.items()]
    if len(found) == 1:
        return float(found[0])
    there = ", ".join(series(item.name, **item.labels) for item in samples) or "none of that name"
    raise CheckError(
        f"expected {series(name, **labels)} once among the figures, found {there}; look at the pod's log: lab logs"
    )


def series(name: str, **labels: str) -> str:
    """A sample's name and labels as Prometheus writes them."""
    listed = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{listed}}}" if listed else name


def read(api: ApiClient, pod: str) -> str:
    """What the node agent ``pod`` serves at ``/metrics``."""
    answer: Any = client.CoreV1Api(api).connect_get_namespaced_pod_proxy_with_path(
        f"{pod}:{PORT}", deploy.NAMESPACE, "metrics", _preload_content=False, _request_timeout=_TIMEOUT_SECONDS
    )
    return str(answer.data, "utf-8")
