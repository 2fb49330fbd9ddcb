"""Restarts, metrics and permissions of node agents, over real HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from dra_fakes.answers import api_server
from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.driver import driver, metrics, node_agents
from mock_device.checks.errors import CheckError


def test_agent_is_back_after_a_restart_when_ready() -> None:
    before = {"a": (1, False)}
    for now in ({"a": (1, False)}, {"a": (1, True)}, {"a": (2, False)}, {}):
        assert not node_agents.came_back(before, now)
    for now in ({"a": (2, True)}, {"a": (1, False), "b": (0, True)}):
        assert node_agents.came_back(before, now)


class AgentThatComesBack(dict[str, Any]):
    """Answers of an API server that cannot reach the agent at first, then of an agent before its registration."""

    def __init__(self) -> None:
        away = (503, {"message": "error trying to reach service: i/o timeout"})
        self.left = [away, (200, "# no figure yet\n"), (200, f"{metrics.START} 12.5\n")]

    def get(self, path: str, default: Any = None) -> Any:
        assert path.endswith("/agent-1%3A8080/proxy/metrics")
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def test_wait_ends_when_the_agent_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "pod_of", lambda *_: "agent-1")
    answers = AgentThatComesBack()
    with api_server(answers) as api:
        assert node_agents.seconds_until_registered(api, "node1", timedelta(seconds=10)) == 12.5
        answers.left = [(503, {"message": "i/o timeout"})]
        with pytest.raises(CheckError, match="node1 has not reported its registration after 0 s:\n503: i/o timeout"):
            node_agents.seconds_until_registered(api, "node1", timedelta(0))


def test_rights_are_removed_and_restored_within_their_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding itself stays as it is: ``lab attach`` has marked it, and ``lab detach`` looks for the mark."""
    patches: list[tuple[str, Any]] = []

    class Rbac:
        def patch_cluster_role_binding(self, name: str, body: Any) -> None:
            patches.append((name, body))

    monkeypatch.setattr(client, "RbacAuthorizationV1Api", lambda _: Rbac())
    node_agents.remove_rights(ApiClient())
    node_agents.restore_rights(ApiClient())
    account = {"kind": "ServiceAccount", "name": "mock-accel-node-agent", "namespace": "mock-device"}
    assert patches == [("mock-accel-node-agent", {"subjects": []}), ("mock-accel-node-agent", {"subjects": [account]})]
