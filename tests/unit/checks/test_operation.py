"""Health endpoints and metrics of the cluster's programs, and how to reach them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mock_accel_dra.durations import Durations
from mock_accel_dra.metrics import Agent, AgentMetrics, ControllerMetrics
from support.topologies import CLUSTER

from mock_device.checks.driver import operation
from mock_device.checks.errors import CheckError, SkipCheck
from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.pki import Identity
from mock_device.lab.kube import kubeclient

NODE = CLUSTER.nodes[0]
# Answer of kube-apiserver 1.37 to /readyz?verbose, without some checks.
READY = """\
[+]ping ok
[+]etcd ok
[+]poststarthook/start-apiextensions-controllers ok
[+]shutdown ok
readyz check passed
"""
# The same while etcd is down.
NOT_READY = """\
[+]ping ok
[-]etcd failed: reason withheld
[+]shutdown ok
readyz check failed
"""


def agent(free: int, allocated: int) -> str:
    """A node agent's metrics."""
    served = SimpleNamespace(
        claim_durations=Durations(("operation", "result")),
        scan_durations=Durations(),
        api_errors=0,
        start_seconds=1.0,
        state_file=Path("/nowhere"),
        device_figures=dict,
        device_problems=dict,
        device_resets=dict,
        devices_by_state=lambda: {"free": free, "allocated": allocated},
        devices_left_out=dict,
        fields_changed=tuple,
    )
    return AgentMetrics(cast(Agent, served)).text().decode()


def controller(*counts: int) -> str:
    """Metrics of a controller with these numbers of PFs by node."""
    metrics = ControllerMetrics()
    metrics.devices({(node.name, "pf"): count for node, count in zip(CLUSTER.nodes, counts, strict=False)})
    return metrics.text().decode()


def test_passed_checks_have_no_complaints() -> None:
    assert operation.check_complaints(READY) == []


def test_failed_check_is_reported() -> None:
    assert operation.check_complaints(NOT_READY) == [
        "check etcd: expected ok, found failed: reason withheld",
        "expected 'check passed' at the end, found 'readyz check failed'",
    ]


@pytest.mark.parametrize("answer", ["", "ok", "<html>a proxy says hello</html>"])
def test_answer_without_checks_is_reported(answer: str) -> None:
    found = operation.check_complaints(answer)
    assert found[0].startswith("expected a list of checks, found ")
    assert found[1].startswith("expected 'check passed' at the end, found ")


def test_right_counts_of_a_node_agent_have_no_complaints() -> None:
    assert operation.agent_complaints(agent(6, 0), NODE, allocated=0) == []
    assert operation.agent_complaints(agent(5, 1), NODE, allocated=1) == []


def test_wrong_counts_of_a_node_agent_are_reported() -> None:
    assert operation.agent_complaints(agent(5, 0), NODE, allocated=1) == [
        'mock-cluster-node1: expected mock_accel_devices{state="allocated"} 1 by the topology, found 0'
    ]


def test_right_counts_of_the_controller_have_no_complaints() -> None:
    assert operation.controller_complaints(controller(6, 6), CLUSTER) == []


def test_wrong_counts_of_the_controller_are_reported() -> None:
    assert operation.controller_complaints(controller(6, 5), CLUSTER) == [
        'expected mock_accel_devices{node="mock-cluster-node2",device_type="pf"} 6 by the topology, found 5'
    ]
    with pytest.raises(CheckError, match='expected mock_accel_devices.*node="mock-cluster-node2"'):
        operation.controller_complaints(controller(6), CLUSTER)


def test_access_has_the_files_of_the_kubeconfig(tmp_path: Path) -> None:
    contents = {"ca": b"AUTHORITY", "certificate": b"CERTIFICATE", "key": b"KEY"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    identity = Identity("admin", *(tmp_path / name for name in ("certificate", "key", "ca")))
    path = write_kubeconfig(tmp_path / "kubeconfig", identity, "https://127.0.0.1:6443")
    found = operation.access(kubeclient.connect(path))
    assert found.url == "https://127.0.0.1:6443"
    read = {"ca": found.authority, "certificate": found.certificate, "key": found.key}
    assert {name: Path(file).read_bytes() for name, file in read.items()} == contents


def test_kubeconfig_without_a_certificate_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], "
        "users: [{name: u, user: {token: t}}], contexts: [{name: x, context: {cluster: c, user: u}}], "
        "current-context: x}"
    )
    with pytest.raises(SkipCheck, match="the kubeconfig has no client certificate with an authority"):
        operation.access(kubeclient.connect(path))


def test_pods_are_reached_through_the_api_server() -> None:
    assert operation.proxy_path("agent-1") == "/api/v1/namespaces/mock-device/pods/agent-1:8080/proxy"
