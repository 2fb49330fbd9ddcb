"""What ``lab status`` makes of what it was told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lab.status import ClusterStatus, NodeStatus, PodStatus, as_text, parse_probe

NODE = NodeStatus("node1", "running", 1 << 30, "True", True, {"mock0": "1", "mock1": "0"}, 2)
POD = PodStatus("agent-1", "node1", "Running", True)
HEALTHY = ClusterStatus("default", "small", "running", ["robot"], [NODE], [POD], 2)


def test_probe() -> None:
    output = "module\ndevice mock0 1\ndevice mock1\n"
    assert parse_probe(output) == (True, {"mock0": "1", "mock1": "?"})
    assert parse_probe("") == (False, {})


def test_healthy_cluster() -> None:
    assert HEALTHY.healthy
    lines = as_text(HEALTHY).splitlines()
    assert lines[0] == "cluster\tdefault\tsmall\trunning\tslices 2"
    assert lines[2] == "node1\trunning\t1024 MiB\tTrue\tloaded\t2 of 2\tmock0"
    assert lines[4] == "agent-1\tnode1\tRunning\tyes"


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (replace(HEALTHY, state="failed"), "the cluster is failed"),
        (replace(HEALTHY, pods=[]), "no pods in namespace mock-device"),
        (replace(HEALTHY, pods=[replace(POD, ready=False)]), "pod agent-1 on node1 is not ready (Running)"),
        (replace(HEALTHY, slices=1), "expected 2 ResourceSlices, found 1"),
        (replace(HEALTHY, nodes=[replace(NODE, guest="paused")]), "node1: its guest is paused"),
        (replace(HEALTHY, nodes=[replace(NODE, ready="Unknown")]), "node1: expected Ready True, found Unknown"),
        (replace(HEALTHY, nodes=[replace(NODE, module=False)]), "node1: kernel module mock_accel is not loaded"),
        (replace(HEALTHY, nodes=[replace(NODE, devices={"mock0": "0"})]), "node1: expected 2 devices, found 1"),
        (replace(HEALTHY, nodes=[replace(NODE, error="no answer over SSH")]), "node1: no answer over SSH"),
    ],
)
def test_whatever_is_missing_makes_it_unhealthy(broken: ClusterStatus, complaint: str) -> None:
    assert not broken.healthy
    assert broken.complaints() == [complaint]


def test_node_that_does_not_answer_is_shown_with_the_reason() -> None:
    node = replace(NODE, module=False, devices={}, error="no answer over SSH")
    line = as_text(replace(HEALTHY, nodes=[node])).splitlines()[2]
    assert line == "node1\trunning\t1024 MiB\tTrue\tabsent\t0 of 2\t-\tno answer over SSH"
