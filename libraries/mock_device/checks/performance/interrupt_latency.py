"""How long an interrupt takes: from the doorbell of a job to the module's handler, by events of the node's kernel.

The times are the kernel's: Documentation/trace/ftrace.rst has their format, kprobetrace.rst how the doorbell's event is
made. They include the job itself, which writes eight bytes; the rest is the way to the device server and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise

from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import job_pods, jobs, kube
from mock_device.checks.objects.jobs import ExitCode

JOBS = 200
_JOB = (job_pods.PROGRAM, "bench", "--operation", "fill", "--size", "8", "--jobs", str(JOBS))
_TRACING = "/sys/kernel/tracing"
_INSTANCE = f"{_TRACING}/instances/mock-device"
_DOORBELL, _INTERRUPT = "doorbell", "irq_handler_entry"
# The function that writes the doorbell, kernel-driver/ring.c; the name of the interrupt, setup.c.
_PROBE = f"p:mock_device/{_DOORBELL} mock_accel:mock_ring_add"
_FILTER = 'name ~ "mock_accel-jobs"'
# A clock that all CPUs share.
START = "; ".join(
    (
        "set -e",
        f"mountpoint -q {_TRACING} || mount -t tracefs tracefs {_TRACING}",
        f"echo '{_PROBE}' >>{_TRACING}/kprobe_events",
        f"mkdir {_INSTANCE}",
        f"cd {_INSTANCE}",
        "echo mono >trace_clock",
        f"echo '{_FILTER}' >events/irq/{_INTERRUPT}/filter",
        f"echo 1 >events/irq/{_INTERRUPT}/enable",
        f"echo 1 >events/mock_device/{_DOORBELL}/enable",
    )
)
READ = f"cat {_INSTANCE}/trace"
# Also after a start that failed.
STOP = f"rmdir {_INSTANCE} 2>/dev/null; echo '-:mock_device/{_DOORBELL}' >>{_TRACING}/kprobe_events 2>/dev/null; :"
_PAIR = (_DOORBELL, _INTERRUPT)
_EVENT = re.compile(rf"\[\d+\]\s+\S+\s+(\d+\.\d+): ({_DOORBELL}|{_INTERRUPT}): ")


def latencies(trace: str) -> list[float]:
    """Seconds from each doorbell in ``trace`` to the next interrupt, if that comes before the next doorbell."""
    events = [(float(match[1]), match[2]) for match in map(_EVENT.search, trace.splitlines()) if match]
    return [after - before for (before, first), (after, then) in pairwise(events) if (first, then) == _PAIR]


@contextmanager
def _traced(session: Session, node: str) -> Iterator[None]:
    try:
        session.on_node(node, START)
        yield
    finally:
        session.on_node(node, STOP)


def measure(session: Session, pod: str, timeout: timedelta) -> list[float]:
    """Latencies in seconds of the interrupts of ``JOBS`` jobs, one at a time, by the device of ``pod``.

    No other device of the node may work meanwhile. Raises CheckError.
    """
    node = kube.get_pod(session.api, pod)["spec"]["nodeName"]
    with _traced(session, node):
        outcome = job_pods.run(session.api, pod, _JOB, timeout)
        trace = session.on_node(node, READ)
    fail_if_any(f"pod {pod}: {item}" for item in jobs.outcome_complaints(outcome, ExitCode.SUCCESS, ""))
    found = latencies(trace)
    if len(found) != JOBS:
        raise CheckError(
            f"expected an interrupt after each of {JOBS} doorbells on {node}, found {len(found)}; "
            f"does another device work there? Its kernel's events end with:\n{trace[-2000:]}"
        )
    return found
