"""Measurements of jobs by ``mock-accel bench``, in several pods at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from kubernetes.client import ApiClient

from mock_device.checks.errors import fail_if_any
from mock_device.checks.objects import job_pods, jobs
from mock_device.checks.objects.jobs import Bench, ExitCode
from mock_device.checks.waiting import Deadline

SMALL = ("--size", "4K", "--jobs", "200")
LARGE = ("--size", "1M", "--jobs", "50", "--depth", "4")
_JOB = "bench"


def command(options: Sequence[str], *, by_cpu: bool) -> list[str]:
    """The command of a measurement; the CPU does one job at a time."""
    if by_cpu and "--depth" in options:
        at = options.index("--depth")
        options = [*options[:at], *options[at + 2 :]]
    return [job_pods.PROGRAM, "bench", "--operation", "copy", "--json", *options, *(["--cpu"] if by_cpu else [])]


def measure(
    api: ApiClient, pods: Sequence[str], options: Sequence[str], timeout: timedelta, *, by_cpu: bool
) -> list[Bench]:
    """Figures of each of ``pods``, which work at the same time. Raises CheckError."""
    deadline = Deadline(timeout)
    argv = command(options, by_cpu=by_cpu)
    for pod in pods:
        job_pods.start(api, pod, _JOB, argv, deadline.left())
    found = []
    for pod in pods:
        outcome = job_pods.wait_for(api, pod, _JOB, deadline.left())
        fail_if_any(f"pod {pod}: {item}" for item in jobs.outcome_complaints(outcome, ExitCode.SUCCESS, ""))
        found.append(jobs.parse_bench(outcome.output))
    return found
