"""Figures that the node agents serve to Prometheus, read through the API server.

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
from lab import deploy
from prometheus_client.parser import text_string_to_metric_families

from scenario import CheckError

SCANS = "mock_accel_scan_duration_seconds"
CLAIMS = "mock_accel_claim_duration_seconds"
"""Has the labels ``operation`` (``prepare``, ``unprepare``) and ``result`` (``ok``, ``error``)."""
START = "mock_accel_start_seconds"
"""Gauge: from the start of the process until it served the kubelet."""
_PORT = 8080
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


def parse_gauge(text: str, name: str) -> float:
    """Value of the gauge ``name``, which has no labels. Raises CheckError when the agent does not serve it."""
    for family in text_string_to_metric_families(text):
        if family.name == name and family.samples:
            return float(family.samples[0].value)
    raise CheckError(f"expected {name} among the node agent's figures, found none; look at its log: lab logs")


def read(api: ApiClient, pod: str) -> str:
    """What the node agent ``pod`` serves at ``/metrics``."""
    answer: Any = client.CoreV1Api(api).connect_get_namespaced_pod_proxy_with_path(
        f"{pod}:{_PORT}", deploy.NAMESPACE, "metrics", _preload_content=False, _request_timeout=_TIMEOUT_SECONDS
    )
    return str(answer.data, "utf-8")
