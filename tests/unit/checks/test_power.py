"""Nodes that reboot or lose power."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import power
from mock_device.lab.kube import kubeclient

TIMEOUT = timedelta(seconds=20)


class Node:
    """A fake session with one node, which returns these boot IDs in order; None stands for no answer."""

    api = "the API"

    def __init__(self, *boots: str | None) -> None:
        self.boots = list(boots)
        self.done: list[str] = []
        self.cluster = self.guests = self

    def on_node(self, node: str, command: str, timeout: float | None = None) -> str:
        if command != "cat /proc/sys/kernel/random/boot_id":
            self.done.append(command.split()[0])
            return ""
        boot = self.boots.pop(0) if len(self.boots) > 1 else self.boots[0]
        if boot is None:
            raise CheckError(f"{node} does not answer")
        return f"{boot}\n"

    def qmp(self, _: str, command: str) -> None:
        self.done.append(command)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nodes whose readiness was awaited; they are Ready at once."""
    waited: list[Any] = []
    monkeypatch.setattr(client, "CoreV1Api", lambda _: SimpleNamespace(list_node=lambda **_: None))
    monkeypatch.setattr(kubeclient, "wait_nodes_ready", lambda *args: waited.append(args[:2]))
    return waited


@pytest.mark.parametrize(
    ("act", "steps"), [(power.reboot, ["systemctl"]), (power.cut_power, ["mkdir", "system_reset", "rm"])]
)
def test_node_is_ready_again_after_another_boot(ready: list[Any], act: Callable[..., None], steps: list[str]) -> None:
    node = Node("one", "one", None, None, "two")
    act(node, "node1", TIMEOUT)
    assert node.done == steps
    assert ready == [("the API", ["node1"])]


@pytest.mark.parametrize(
    ("boots", "reason"),
    [
        (["one"], "node1.*it has not rebooted; look at its console log"),
        (["one", None], "node1.*node1 does not answer"),
    ],
)
def test_node_that_does_not_reboot_is_an_error(ready: list[Any], boots: list[str | None], reason: str) -> None:
    node: Any = Node(*boots)
    with pytest.raises(CheckError, match=rf"(?s){reason}"):
        power.reboot(node, "node1", timedelta(seconds=0.1))
    assert ready == []


def test_api_server_on_the_node_may_take_longer(ready: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers late, and refuses its clients until it knows its own roles."""
    forbidden = ApiException(status=403)
    forbidden.body = '{"message": "nodes is forbidden"}'
    answers: list[Exception | None] = [HTTPError("timed out"), forbidden, None]

    def list_node(**_: object) -> None:
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr(client, "CoreV1Api", lambda _: SimpleNamespace(list_node=list_node))
    node: Any = Node("one", "two")
    power.reboot(node, "node1", TIMEOUT)
    assert (answers, ready) == ([], [("the API", ["node1"])])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ApiException(status=403, reason="Forbidden"), "API server.*it refuses to list nodes: 403: Forbidden"),
        (HTTPError("timed out"), "API server.*it does not answer: timed out"),
    ],
)
def test_api_server_that_stays_away_is_an_error(
    ready: list[Any], monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def list_node(**_: object) -> None:
        raise error

    monkeypatch.setattr(client, "CoreV1Api", lambda _: SimpleNamespace(list_node=list_node))
    node: Any = Node("one", "two")
    with pytest.raises(CheckError, match=rf"(?s){reason}"):
        power.reboot(node, "node1", timedelta(seconds=0.3))
    assert ready == []


def test_message_of_systemctl_is_an_error(ready: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "boot_id", lambda *_: "one")
    node: Any = SimpleNamespace(on_node=lambda *_: "Call to Reboot failed: no login1\n")
    with pytest.raises(CheckError, match="expected no message of systemctl reboot, found Call to Reboot failed"):
        power.reboot(node, "node1", TIMEOUT)
    assert ready == []


def test_silent_node_is_not_rebooted(ready: list[Any]) -> None:
    node: Any = Node(None)
    with pytest.raises(CheckError, match="node1 does not answer"):
        power.reboot(node, "node1", TIMEOUT)
    assert node.done == []
