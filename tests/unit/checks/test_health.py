"""``lab status``: health of a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.topologies import CLUSTER

from mock_device.checks import health
from mock_device.checks.health import ClusterStatus, NodeStatus, PodStatus, collect, parse_probe
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.tables import text
from mock_device.lab.cluster.cluster import GuestAnswer, NodeAccess
from mock_device.lab.kube import kubeclient

NODE = NodeStatus("node1", "running", 1 << 30, "True", True, {"mock0": "1", "mock1": "0"}, 2)
POD = PodStatus("agent-1", "node1", "Running", True)
HEALTHY = ClusterStatus("default", "small", "running", ["robot"], [NODE], [POD], 2)


def as_text(status: ClusterStatus) -> str:
    return text(*health.tables(status))


def test_probe() -> None:
    output = "module\ndevice mock0 1\ndevice mock1\n"
    assert parse_probe(output) == (True, {"mock0": "1", "mock1": "?"})
    assert parse_probe("") == (False, {})


def test_healthy_cluster_has_no_complaints() -> None:
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
        (
            replace(HEALTHY, nodes=[replace(NODE, devices={"mock0": "0", "mock0_vf0": "0"}, vfs=("mock0_vf0",))]),
            "node1: expected 2 devices, found 1",
        ),
        (replace(HEALTHY, nodes=[replace(NODE, error="no answer over SSH")]), "node1: no answer over SSH"),
    ],
)
def test_anything_missing_makes_the_cluster_unhealthy(broken: ClusterStatus, complaint: str) -> None:
    assert not broken.healthy
    assert broken.complaints() == [complaint]


def test_silent_node_is_shown_with_the_reason() -> None:
    node = replace(NODE, module=False, devices={}, error="no answer over SSH")
    line = as_text(replace(HEALTHY, nodes=[node])).splitlines()[2]
    assert line == "node1\trunning\t1024 MiB\tTrue\tabsent\t0 of 2\t-\tno answer over SSH"


def test_enabled_vfs_are_counted_beside_the_devices_of_the_topology() -> None:
    devices = {"mock0": "0", "mock0_vf0": "1", "mock0_vf1": "0", "mock1": "0"}
    shown = replace(HEALTHY, nodes=[replace(NODE, devices=devices, vfs=("mock0_vf0", "mock0_vf1"))])
    assert shown.healthy
    assert as_text(shown).splitlines()[2] == "node1\trunning\t1024 MiB\tTrue\tloaded\t2 of 2 and 2 VFs\tmock0_vf0"


NODE1, NODE2 = (node.name for node in CLUSTER.nodes)


class FakeCluster:
    """The second node's guest is stopped: SSH answers only after a long time, QEMU never."""

    name = "some"
    topology = CLUSTER
    kubeconfig = Path("/kubeconfig")

    def __init__(self) -> None:
        self.asked: list[float] = []

    def node(self, name: str) -> NodeAccess:
        return NodeAccess(name, "127.0.0.1", 22, "root", Path("/key"), Path("/hosts"))

    def look(self, command: str, seconds: float) -> dict[str, GuestAnswer]:
        assert command == "query-status"
        self.asked.append(seconds)
        return {NODE1: GuestAnswer({"status": "running"}), NODE2: GuestAnswer(error="QMP: no answer", silent=True)}

    def supervisor_status(self) -> dict[str, Any]:
        return {"state": "running", "holders": [], "processes": [{"name": f"qemu-{NODE1}", "memory": 7}]}


def test_stopped_guest_is_named_and_the_others_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_node(node: NodeAccess, _: object, *, timeout: float) -> str:
        cluster.asked.append(timeout)
        if node.name == NODE2:
            raise StepError(f"ssh did not end within {timeout:.0f} s")
        names = [function.name for function in CLUSTER.nodes[0].functions if not function.is_vf]
        return "module\n" + "".join(f"device {name} 0\n" for name in [*names, "mock0_vf0", "mock0_vf1"])

    monkeypatch.setattr(health, "on_node", on_node)
    monkeypatch.setattr(kubeclient, "connect", lambda _: None)
    monkeypatch.setattr(kubeclient, "nodes_ready", lambda _: {NODE1: "True", NODE2: "Unknown"})
    monkeypatch.setattr(kubeclient, "pods", lambda *_: [("agent", NODE1, "Running", True)])
    monkeypatch.setattr(kubeclient, "count_slices", lambda *_: 12)
    cluster: Any = FakeCluster()
    first, second = collect(cluster, 10).nodes
    assert cluster.asked == [10] * 3
    assert (first.guest, first.module, len(first.pfs), first.vfs) == ("running", True, 6, ("mock0_vf0", "mock0_vf1"))
    assert (second.guest, second.ready) == ("silent", "Unknown")
    assert second.error == "no answer over SSH: ssh did not end within 10 s"
