"""Interrupt latencies of a kernel's trace, and how a node is left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import job_pods, kube
from mock_device.checks.objects.job_pods import Outcome
from mock_device.checks.performance import interrupt_latency

HEADER = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 4/4   #P:2\n"
DOORBELL = "      mock-accel-912     [001] .....  {:.6f}: doorbell: (mock_ring_add+0x0/0x90 [mock_accel])\n"
INTERRUPT = "          <idle>-0       [000] d.h1.  {:.6f}: irq_handler_entry: irq=27 name=mock_accel-jobs\n"
TIMEOUT = timedelta(seconds=5)


class Node:
    """A session that records commands, and answers a read with a trace."""

    api: Any = None

    def __init__(self, trace: str, fails: str = "") -> None:
        self.trace, self.fails = trace, fails
        self.commands: list[str] = []

    def on_node(self, node: str, command: str) -> str:
        assert node == "node1"
        self.commands.append(command)
        if command == self.fails:
            raise CheckError("node1: no such file")
        return self.trace if command == interrupt_latency.READ else ""


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "get_pod", lambda *_: {"spec": {"nodeName": "node1"}})
    monkeypatch.setattr(job_pods, "run", lambda *_: Outcome(0, ""))


def trace(jobs: int) -> str:
    return HEADER + "".join(DOORBELL.format(number) + INTERRUPT.format(number + 0.00025) for number in range(jobs))


def test_latencies_are_from_doorbell_to_interrupt() -> None:
    assert interrupt_latency.latencies(trace(2)) == pytest.approx([0.00025, 0.00025])


def test_events_without_their_other_half_do_not_count() -> None:
    lone = INTERRUPT.format(1) + DOORBELL.format(2) + DOORBELL.format(3) + INTERRUPT.format(3.5) + INTERRUPT.format(4)
    assert interrupt_latency.latencies(HEADER + lone) == [0.5]
    assert interrupt_latency.latencies(HEADER) == []


def test_node_is_left_as_it_was() -> None:
    node: Any = Node(trace(interrupt_latency.JOBS))
    assert len(interrupt_latency.measure(node, "worker", TIMEOUT)) == interrupt_latency.JOBS
    assert node.commands == [interrupt_latency.START, interrupt_latency.READ, interrupt_latency.STOP]


@pytest.mark.parametrize("command", [interrupt_latency.START, interrupt_latency.READ])
def test_node_is_left_as_it_was_after_a_failure(command: str) -> None:
    node: Any = Node("", fails=command)
    with pytest.raises(CheckError, match="no such file"):
        interrupt_latency.measure(node, "worker", TIMEOUT)
    assert node.commands[-1] == interrupt_latency.STOP


def test_missing_interrupts_are_an_error() -> None:
    node: Any = Node(trace(interrupt_latency.JOBS - 1))
    with pytest.raises(CheckError, match="expected an interrupt after each of 200 doorbells on node1, found 199"):
        interrupt_latency.measure(node, "worker", TIMEOUT)


def test_failed_jobs_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_pods, "run", lambda *_: Outcome(6, "mock-accel: mock1: the device is lost"))
    node: Any = Node(trace(interrupt_latency.JOBS))
    with pytest.raises(CheckError, match="pod worker: expected exit code 0"):
        interrupt_latency.measure(node, "worker", TIMEOUT)
