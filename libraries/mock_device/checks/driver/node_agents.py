"""Crashes, updates, placement and rights of the driver's node agents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.driver import driver, metrics
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.waiting import until_no_complaints
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import deploy
from mock_device.lab.kube import kubeclient

_AGENT = "[m]ock_accel_dra node-agent"
"""Pattern for pgrep(1) that does not match the shell that runs it."""
_NOWHERE = "mock-device.example.com/nowhere"
"""A label that no node has."""
AgentStarts = tuple[int, bool]
"""Restart count of a node agent's container, and whether it is ready."""


def kill_agent(session: Session, node: str, timeout: timedelta) -> None:
    """Kill the node agent's process with SIGKILL, and wait until the kubelet has restarted it and it is ready.

    The kubelet's back-off grows with each crash. Raises CheckError, also when no agent runs.
    """
    before = _agent_starts(session.api, node)
    session.on_node(node, f"pkill -KILL -f '{_AGENT}'")

    def complaints() -> list[str]:
        now = _agent_starts(session.api, node)
        return [] if came_back(before, now) else [f"{now}"]

    until_no_complaints(complaints, timeout, f"starts and readiness of the node agent on {node}")


def came_back(before: Mapping[str, AgentStarts], now: Mapping[str, AgentStarts]) -> bool:
    """Whether an agent is ready whose container started after ``before``. Both are by the UID of the pod."""
    return any(ready and (uid not in before or starts > before[uid][0]) for uid, (starts, ready) in now.items())


def _agent_starts(api: ApiClient, node: str) -> dict[str, AgentStarts]:
    """Starts of the node agent's container on ``node``, by the UID of its pod."""
    found = driver.pods(api, Component.NODE_AGENT, node).values()
    return {
        pod.metadata.uid: (status.restart_count, status.ready)
        for pod in found
        for status in pod.status.container_statuses or []
    }


def wait_agent_died(api: ApiClient, node: str, timeout: timedelta) -> None:
    """Wait until the kubelet has restarted the node agent's container on ``node``. Raises CheckError."""

    def complaints() -> list[str]:
        if any(starts for starts, _ in _agent_starts(api, node).values()):
            return []
        return ["expected a restart, found none; look at FAILPOINT of its DaemonSet, and whether it writes anything"]

    until_no_complaints(complaints, timeout, f"node agent on {node}")


def seconds_until_registered(api: ApiClient, node: str, timeout: timedelta) -> float:
    """Seconds from the start of the node agent's process on ``node`` until the kubelet had registered it.

    Asks until the agent answers. After a power cut the API server shows the pod's old
    state and address until the kubelet has started it again. Raises CheckError.
    """
    found = 0.0

    def complaints() -> list[str]:
        nonlocal found
        try:
            pod = driver.pod_of(api, Component.NODE_AGENT, node)
            found = metrics.parse_value(metrics.read(api, pod), metrics.START)
        except ApiException as error:
            return [kubeclient.refusal(error)]
        except (HTTPError, CheckError) as error:
            return [str(error)]
        return []

    until_no_complaints(complaints, timeout, f"node agent on {node} has not reported its registration")
    return found


def wait_no_agent(api: ApiClient, timeout: timedelta) -> None:
    """Wait until all pods of the node agents are gone. Raises CheckError."""
    lister = client.CoreV1Api(api).list_namespaced_pod
    selection = {"namespace": driver.namespace(), "label_selector": current.driver().node_agent.selector}
    if left := kubeclient.watch_until(lister, lambda found: not found, timeouts.seconds(timeout), **selection):
        raise CheckError(f"expected no node agent, found {', '.join(left)}")


def start_rolling_update(api: ApiClient) -> None:
    """Start replacing the node agents, as ``kubectl rollout restart`` does."""
    stamp = {"mock-device.example.com/restarted-at": str(time.time())}
    body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    workload = current.driver().node_agent.workload
    client.AppsV1Api(api).patch_namespaced_daemon_set(workload, driver.namespace(), body)


def send_agents_away(api: ApiClient) -> None:
    """Let the DaemonSet of the node agents select no node."""
    _select_nodes(api, "true")


def bring_agents_back(api: ApiClient) -> None:
    """Let the DaemonSet of the node agents select the nodes of its manifest again."""
    _select_nodes(api, None)


def remove_rights(api: ApiClient) -> None:
    """Take the node agents' service account out of its ClusterRoleBindings, which stay: others may own them."""
    for item in _bindings():
        _bind(api, item, [])


def rules() -> list[dict[str, Any]]:
    """Rules of the node agents' ClusterRoles in the manifests. Raises StepError if there are none."""
    roles = {item["roleRef"]["name"] for item in _bindings()}
    objects = deploy.objects_of(current.driver())
    return [
        rule
        for item in objects
        if item["kind"] == "ClusterRole" and item["metadata"]["name"] in roles
        for rule in item["rules"]
    ]


def restore_rights(api: ApiClient) -> None:
    """Bind the node agents' service account again, as in the manifests."""
    for item in _bindings():
        _bind(api, item, item["subjects"])


def _bindings() -> list[dict[str, Any]]:
    """ClusterRoleBindings of the node agents' service account in the manifests. Raises StepError if there are none."""
    used = current.driver()
    found = [
        item
        for item in deploy.objects_of(used)
        if item["kind"] == "ClusterRoleBinding"
        and any(subject["name"] == used.node_agent.service_account for subject in item.get("subjects") or ())
    ]
    if not found:
        raise StepError(
            f"{used.path}: expected a ClusterRoleBinding of service account {used.node_agent.service_account} among "
            "its manifests, found none"
        )
    return found


def _bind(api: ApiClient, binding: Mapping[str, Any], subjects: list[dict[str, Any]]) -> None:
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.patch_cluster_role_binding(binding["metadata"]["name"], {"subjects": subjects})


def _select_nodes(api: ApiClient, value: str | None) -> None:
    """Run node agents only on nodes with label _NOWHERE of ``value``; None removes it. Does not wait for their pods."""
    driver.patch_agents(api, {"template": {"spec": {"nodeSelector": {_NOWHERE: value}}}})
