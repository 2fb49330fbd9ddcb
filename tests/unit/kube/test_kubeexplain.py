"""Reasons why nodes and pods are not ready."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from mock_device.lab.kube import kubeexplain

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Any:
    return client.V1PodCondition(type=kind, status=status, reason=reason, message=message)


def container(name: str, *, now: Any = None, before: Any = None) -> Any:
    state = client.V1ContainerState
    return client.V1ContainerStatus(
        name=name,
        image="i",
        image_id="",
        ready=False,
        restart_count=0,
        state=now or state(running=client.V1ContainerStateRunning()),
        last_state=before or state(),
    )


def ended(code: int, reason: str, message: str = "") -> Any:
    terminated = client.V1ContainerStateTerminated(exit_code=code, reason=reason, message=message)
    return client.V1ContainerState(terminated=terminated)


def waiting(reason: str, message: str | None = None) -> Any:
    return client.V1ContainerState(waiting=client.V1ContainerStateWaiting(reason=reason, message=message))


def pod(*conditions: Any, containers: list[Any] | None = None, node: str | None = "node1") -> Any:
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name="web", namespace="default", uid="u1"),
        spec=client.V1PodSpec(containers=[], node_name=node),
        status=client.V1PodStatus(phase="Pending", conditions=list(conditions), container_statuses=containers),
    )


class Core:
    """A fake API with one namespace."""

    def __init__(self, pods: list[Any], events: list[Any] | None = None, log: str | None = None) -> None:
        self.pods, self.events, self.log = pods, events or [], log

    def __call__(self, _: object) -> Core:
        return self

    def list_namespaced_pod(self, *_: object, **__: object) -> Any:
        return client.V1PodList(items=self.pods)

    def list_namespaced_event(self, *_: object, field_selector: str, **__: object) -> Any:
        assert field_selector == "involvedObject.uid=u1"
        return client.CoreV1EventList(items=self.events)

    def read_namespaced_pod_log(self, *_: object, container: str, previous: bool, **__: object) -> str:
        if self.log is None:
            raise ApiException(status=400)
        return f"{container} {'before' if previous else 'now'}\n{self.log}"


def explain(monkeypatch: pytest.MonkeyPatch, core: Core) -> str:
    monkeypatch.setattr(client, "CoreV1Api", core)
    return kubeexplain.explain_pods(client.ApiClient(), "default", {"app": "web", "tier": "front"})


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (None, "node1 has not reported its condition yet"),
        (
            [("Ready", "False", "KubeletNotReady", "cni plugin not initialized")],
            "node1 has Ready=False, KubeletNotReady: cni plugin not initialized",
        ),
    ],
)
def test_unready_node_is_explained(conditions: list[tuple[str, str, str, str]] | None, message: str) -> None:
    found = [
        client.V1NodeCondition(type=kind, status=status, reason=reason, message=text)
        for kind, status, reason, text in conditions or []
    ]
    node = client.V1Node(status=client.V1NodeStatus(conditions=found or None))
    assert kubeexplain.explain_node("node1", node) == message


def test_missing_node_is_explained() -> None:
    assert kubeexplain.explain_node("node9", None).startswith("node9 has not registered")


@pytest.mark.parametrize(
    ("broken", "reasons"),
    [
        (pod(condition("Ready", "True")), []),
        (
            pod(condition("PodScheduled", "False", "Unschedulable", "0/2 nodes are available")),
            ["PodScheduled=False Unschedulable (0/2 nodes are available)"],
        ),
        (
            pod(containers=[container("c", now=waiting("ImagePullBackOff"))]),
            ["container c waits: ImagePullBackOff"],
        ),
        (
            pod(containers=[container("c", now=waiting("CrashLoopBackOff", "5 s"), before=ended(2, "Error", " x "))]),
            ["container c waits: CrashLoopBackOff 5 s", "container c ended with 2 (Error): x"],
        ),
        (pod(containers=[container("c", now=ended(0, "Completed"))]), []),
    ],
)
def test_reasons_of_a_pod_are_listed(broken: Any, reasons: list[str]) -> None:
    assert list(kubeexplain.pod_reasons(broken)) == reasons


def test_pod_is_explained_with_its_last_events_and_log(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        client.CoreV1Event(
            metadata=client.V1ObjectMeta(creation_timestamp=NOW + timedelta(seconds=age)),
            involved_object=client.V1ObjectReference(),
            reason=f"R{age}",
            message="m",
        )
        for age in (3, 1, 4, 2)
    ]
    broken = pod(condition("Ready", "False"), containers=[container("c", now=ended(1, "Error"))])
    assert explain(monkeypatch, Core([broken], events, "Traceback")) == (
        "pod web on node1 is Pending: Ready=False , container c ended with 1 (Error)"
        "; event R2: m; event R3: m; event R4: m; log of c:\n    c now\n    Traceback"
    )


def test_log_of_a_restarted_container_is_the_previous_one(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = pod(containers=[container("c", now=waiting("CrashLoopBackOff"), before=ended(1, "Error"))], node=None)
    said = explain(monkeypatch, Core([broken], log="Traceback"))
    assert "pod web on no node is Pending" in said
    assert "log of c:\n    c before\n    Traceback" in said
    assert "log of" not in explain(monkeypatch, Core([broken]))


def test_missing_and_ready_pods_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert explain(monkeypatch, Core([])).startswith("no pod has labels app=web,tier=front")
    assert explain(monkeypatch, Core([pod(condition("Ready", "True"))])) == "all its pods are ready now"
