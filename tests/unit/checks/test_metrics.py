"""Metrics of the node agents: parsing, and differences of two readings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from dra_fakes.answers import api_server
from mock_accel_dra.durations import Durations
from mock_accel_dra.metrics import Agent, AgentMetrics

from mock_device.checks.driver import metrics
from mock_device.checks.driver.metrics import Histogram
from mock_device.checks.errors import CheckError


def served(
    claims: Mapping[tuple[str, str], list[float]], scans: list[float], start_seconds: float | None = None
) -> str:
    """A node agent's metrics after claims (by operation and result) and scans with these durations in seconds."""
    claim_durations, scan_durations = Durations(("operation", "result")), Durations()
    for labels, values in claims.items():
        for seconds in values:
            claim_durations.observe(seconds, *labels)
    for seconds in scans:
        scan_durations.observe(seconds)
    agent = SimpleNamespace(
        claim_durations=claim_durations,
        scan_durations=scan_durations,
        api_errors=0,
        start_seconds=start_seconds,
        state_file=Path("/nowhere"),
        device_figures=lambda: {},
        device_problems=lambda: {},
        device_resets=lambda: {},
        devices_by_state=lambda: {"free": 6, "allocated": 0},
        devices_left_out=lambda: {},
        fields_changed=lambda: [],
    )
    return AgentMetrics(cast(Agent, agent)).text().decode()


BEFORE = served({("prepare", "ok"): [0.5]}, [0.02])
AFTER = served(
    {("prepare", "ok"): [0.5, 0.02, 0.04, 30.0], ("prepare", "error"): [1.0], ("unprepare", "ok"): [0.003]},
    [0.02, 0.08],
)


def prepared(text: str) -> Histogram:
    return metrics.parse(text, metrics.CLAIMS, operation="prepare", result="ok")


def test_histogram_is_the_difference_of_two_readings() -> None:
    found = prepared(AFTER).since(prepared(BEFORE))
    assert found.count == 3
    assert found.mean == pytest.approx((0.02 + 0.04 + 30.0) / 3)
    assert (found.bound(0.3), found.bound(0.6), found.bound(0.95)) == (0.025, 0.05, math.inf)


def test_labels_select_the_series() -> None:
    assert metrics.parse(AFTER, metrics.CLAIMS, operation="prepare").count == 5
    assert metrics.parse(AFTER, metrics.CLAIMS, operation="prepare").seconds == pytest.approx(31.56)
    assert metrics.parse(AFTER, metrics.CLAIMS, operation="unprepare", result="ok").bound(0.95) == 0.005
    assert metrics.parse(AFTER, metrics.SCANS).since(metrics.parse(BEFORE, metrics.SCANS)).mean == pytest.approx(0.08)


def test_histogram_is_empty_before_the_first_operation() -> None:
    empty = metrics.parse(BEFORE, metrics.CLAIMS, operation="unprepare", result="ok")
    assert (empty.count, empty.seconds) == (0, 0.0)
    assert metrics.parse(AFTER, metrics.CLAIMS, operation="unprepare", result="ok").since(empty).count == 1
    with pytest.raises(ValueError, match="an empty histogram has no mean"):
        print(empty.mean)


def test_start_is_missing_until_registration() -> None:
    assert metrics.parse_value(served({}, [], start_seconds=1.25), metrics.START) == 1.25
    complaint = "expected mock_accel_start_seconds once among the metrics, found none of that name"
    with pytest.raises(CheckError, match=complaint):
        metrics.parse_value(BEFORE, metrics.START)


def test_value_is_that_of_the_series_with_the_labels() -> None:
    assert metrics.parse_value(BEFORE, metrics.DEVICES, state="free") == 6
    assert metrics.parse_value(BEFORE, metrics.API_ERRORS) == 0
    complaint = re.escape(
        'expected mock_accel_devices{state="lost"} once among the metrics, '
        'found mock_accel_devices{state="free"}, mock_accel_devices{state="allocated"}; look at'
    )
    with pytest.raises(CheckError, match=complaint):
        metrics.parse_value(BEFORE, metrics.DEVICES, state="lost")
    with pytest.raises(CheckError, match="expected mock_accel_devices once among the metrics, found mock_accel_dev"):
        metrics.parse_value(BEFORE, metrics.DEVICES)


def test_histograms_of_several_nodes_are_summed() -> None:
    both = metrics.total([prepared(BEFORE), prepared(AFTER)])
    assert (both.count, both.bound(0.5)) == (5, 0.5)
    assert both.seconds == pytest.approx(31.06)


def test_restarted_agent_is_an_error() -> None:
    with pytest.raises(CheckError, match="counts 1 now and 4 before: it has restarted in between"):
        prepared(BEFORE).since(prepared(AFTER))


def test_metrics_are_read_through_the_api_server() -> None:
    path = "/api/v1/namespaces/mock-device/pods/agent-1%3A8080/proxy/metrics"
    with api_server({path: (200, AFTER)}) as api:
        assert metrics.read(api, "agent-1") == AFTER
