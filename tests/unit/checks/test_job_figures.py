"""Measurements of jobs in several pods, which are shells of this machine."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import job_pods
from mock_device.checks.objects.job_pods import Outcome
from mock_device.checks.performance import job_figures, performance

API: Any = None
TIMEOUT = timedelta(seconds=5)


def bench(median: float) -> str:
    return json.dumps({"jobs_per_second": 1e6 / median, "bytes_per_second": 4096.0, "latency_us": {"median": median}})


def test_command_for_device_and_cpu() -> None:
    small = ["mock-accel", "bench", "--operation", "copy", "--json", "--size", "4K", "--jobs", "200"]
    assert job_figures.command(job_figures.SMALL, by_cpu=False) == small
    large = ["mock-accel", "bench", "--operation", "copy", "--json", "--size", "1M", "--jobs", "50"]
    assert job_figures.command(job_figures.LARGE, by_cpu=False) == [*large, "--depth", "4"]
    assert job_figures.command(job_figures.LARGE, by_cpu=True) == [*large, "--cpu"]


def test_all_pods_work_before_the_first_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    outcomes = {"one": Outcome(0, bench(500)), "two": Outcome(0, bench(2000))}

    def start(_: object, pod: str, job: str, command: list[str], timeout: timedelta) -> None:
        assert timeout <= TIMEOUT
        calls.append(f"start {pod}")

    def wait_for(_: object, pod: str, job: str, timeout: timedelta) -> Outcome:
        calls.append(f"wait {pod}")
        return outcomes[pod]

    monkeypatch.setattr(job_pods, "start", start)
    monkeypatch.setattr(job_pods, "wait_for", wait_for)
    found = job_figures.measure(API, ["one", "two"], job_figures.SMALL, TIMEOUT, by_cpu=False)
    assert calls == ["start one", "start two", "wait one", "wait two"]
    assert [one.median for one in found] == [0.0005, 0.002]
    outcomes["two"] = Outcome(6, "mock-accel: mock1: the device is lost")
    with pytest.raises(CheckError, match=r"pod two: expected exit code 0 \(SUCCESS\), found exit code 6"):
        job_figures.measure(API, ["one", "two"], job_figures.SMALL, TIMEOUT, by_cpu=False)


def test_figure_of_a_rate_has_its_unit() -> None:
    found = performance.figure("job-rate", 2, [400.0, 500.0], unit=performance.JOBS_PER_SECOND)
    assert (found.unit, found.value, found.limit) == ("jobs/s", 450.0, None)
    assert performance.table([found]).cells[0][:5] == ("job-rate", "2", "jobs/s", "2", "450")
