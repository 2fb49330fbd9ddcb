"""Restarts, metrics and permissions of node agents, over real HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from dra_fakes.answers import api_server
from kubernetes.client import ApiException

from mock_device.checks.driver import driver, metrics, node_agents
from mock_device.checks.errors import CheckError

BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/mock-accel-node-agent"


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


class Requested(dict[str, Any]):
    """Answers of an API server that records the paths of requests."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(**answers)
        self.paths: list[str] = []

    def get(self, path: str, default: Any = None) -> Any:
        self.paths.append(path)
        return super().get(path, default)


@pytest.mark.parametrize("answers", [{BINDING: (200, {"kind": "Status"})}, {}])
def test_removing_rights_is_idempotent(answers: dict[str, Any]) -> None:
    requested = Requested(**answers)
    with api_server(requested) as api:
        node_agents.remove_rights(api)
    assert requested.paths == [BINDING]


def test_refusal_of_the_api_server_is_raised() -> None:
    with api_server({BINDING: (403, {})}) as api, pytest.raises(ApiException):
        node_agents.remove_rights(api)
