"""The kernel's events of doorbells and interrupts, by which the suite ``performance-jobs`` measures latencies."""

from __future__ import annotations

import pytest
from guest_kernels import DEBUG
from module_guest import ModuleGuest
from test_jobs_in_qemu import job

from mock_device.checks.performance import interrupt_latency

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("known_state"),
    pytest.mark.skipif(DEBUG, reason="the debug kernel has no tracing"),
]

_JOBS = 5


def test_each_job_has_a_doorbell_and_an_interrupt(guest: ModuleGuest) -> None:
    guest.ok(interrupt_latency.START)
    try:
        for _ in range(_JOBS):
            assert job(guest, "mock1", "copy", 8) == "8"
        trace = guest.ok(interrupt_latency.READ)
    finally:
        guest.ok(interrupt_latency.STOP)
    assert len(interrupt_latency.latencies(trace)) == _JOBS, trace
    assert guest.ok("cat /sys/kernel/tracing/kprobe_events; ls /sys/kernel/tracing/instances") == ""
