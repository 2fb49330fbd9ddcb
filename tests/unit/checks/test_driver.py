"""The driver's pods, from recorded answers of the API server over real HTTP."""

from __future__ import annotations

import pytest
from dra_fakes.answers import Answers, Object, api_server, listing

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.driver.logs import LogMark
from mock_device.checks.errors import CheckError

PODS = "/api/v1/namespaces/mock-device/pods"
AGENTS = "/apis/apps/v1/namespaces/mock-device/daemonsets/mock-accel-node-agent"


def pod(name: str, node: str, **metadata: str) -> Object:
    return {"metadata": {"name": name, **metadata}, "spec": {"nodeName": node, "containers": []}}


@pytest.mark.parametrize(
    ("pods", "node", "found"),
    [
        ([pod("agent-1", "node1"), pod("agent-2", "node2")], "node2", "agent-2"),
        ([pod("controller", "node2")], None, "controller"),
        ([pod("old", "node1", deletionTimestamp="2026-01-01T00:00:00Z"), pod("new", "node1")], "node1", "new"),
    ],
)
def test_pod_of_a_component_is_found(pods: list[Object], node: str | None, found: str) -> None:
    with api_server({PODS: listing(*pods)}) as api:
        assert driver.pod_of(api, Component.NODE_AGENT, node) == found


@pytest.mark.parametrize(
    ("pods", "node", "message"),
    [
        ([], "node1", "expected one pod of mock-accel-node-agent on node1, found none"),
        (
            [pod("agent-1", "node1"), pod("agent-2", "node2")],
            None,
            "expected one pod of mock-accel-node-agent, found agent-1, agent-2",
        ),
    ],
)
def test_missing_or_ambiguous_pod_is_an_error(pods: list[Object], node: str | None, message: str) -> None:
    with api_server({PODS: listing(*pods)}) as api, pytest.raises(CheckError) as caught:
        driver.pod_of(api, Component.NODE_AGENT, node)
    assert str(caught.value) == f"{message}; look at: kubectl -n mock-device get pods"


def test_mark_is_the_end_of_the_log() -> None:
    answers: Answers = {f"{PODS}/agent/log": (200, {"one": "line"})}
    with api_server(answers) as api:
        assert driver.mark(api, "agent") == LogMark("agent", 1)
        assert driver.log_of(api, "agent") == '{"one": "line"}'


def test_variables_of_the_node_agents_are_read() -> None:
    container = {"name": "node-agent", "env": [{"name": "V", "value": "4"}, {"name": "RESCAN_INTERVAL", "value": "2s"}]}
    spec = {"selector": {}, "template": {"spec": {"containers": [container]}}}
    with api_server({AGENTS: (200, {"spec": spec})}) as api:
        assert driver.agent_environment(api) == {"V", "RESCAN_INTERVAL"}
