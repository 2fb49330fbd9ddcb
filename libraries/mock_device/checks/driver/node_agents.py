"""Kills, updates and removes node agents, and revokes their permissions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus

from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.driver import driver, metrics
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.waiting import until_no_complaints
from mock_device.lab.cluster import deploy
from mock_device.lab.kube import kubeclient, manifests

_AGENT = "[m]ock_accel_dra node-agent"
"""Pattern for pgrep(1) that does not match the shell that runs it."""
_RBAC_MANIFEST = deploy.DRIVER_MANIFESTS / "10-rbac.yaml"
_NOWHERE = {"mock-device.example.com/nowhere": "true"}
"""Labels that no node has."""
_REQUEST_TIMEOUT_SECONDS = 30.0
AgentStarts = tuple[int, bool]
"""Restart count of a node agent's container, and whether it is ready."""


def kill_agent(session: Session, node: str, timeout: timedelta) -> None:
    """Kill the node agent's process with SIGKILL; returns when the kubelet has restarted it and it is ready.

    The kubelet waits longer before each restart. Raises CheckError, also if there is no node agent.
    """
    before = _agent_starts(session.api, node)
    session.on_node(node, f"pkill -KILL -f '{_AGENT}'")

    def complaints() -> list[str]:
        now = _agent_starts(session.api, node)
        return [] if came_back(before, now) else [f"{now}"]

    until_no_complaints(complaints, timeout, f"starts and readiness of the node agent on {node}")


def came_back(before: Mapping[str, AgentStarts], now: Mapping[str, AgentStarts]) -> bool:
    """Whether a node agent that started after ``before`` is ready; both arguments are by the UID of the pod."""
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
    """Wait until the node agent's container on ``node`` has ended and restarted once. Raises CheckError."""

    def complaints() -> list[str]:
        if any(starts for starts, _ in _agent_starts(api, node).values()):
            return []
        return ["it has not died; is its failpoint set, and has it something to write?"]

    until_no_complaints(complaints, timeout, f"node agent on {node}")


def seconds_until_registered(api: ApiClient, node: str, timeout: timedelta) -> float:
    """Seconds from the start of the node agent's process on ``node`` until the kubelet had registered it.

    Retries until the agent answers. After a power cut the API server shows the pod's old state, with an invalid
    address, until the kubelet has restarted it. Raises CheckError.
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
    selection = {"namespace": deploy.NAMESPACE, "label_selector": f"app={deploy.NODE_AGENT}"}
    if remaining := kubeclient.watch_until(lister, lambda found: not found, timeout.total_seconds(), **selection):
        raise CheckError(f"node agents are still there: {', '.join(remaining)}")


def start_rolling_update(api: ApiClient) -> None:
    """Start to replace the node agents, like ``kubectl rollout restart``."""
    stamp = {"mock-device.example.com/restarted-at": str(time.time())}
    body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    client.AppsV1Api(api).patch_namespaced_daemon_set(
        deploy.NODE_AGENT, deploy.NAMESPACE, body, _request_timeout=_REQUEST_TIMEOUT_SECONDS
    )


def send_agents_away(api: ApiClient) -> None:
    """Remove all node agents: their DaemonSet selects no node."""
    _place_agents(api, _NOWHERE)


def bring_agents_back(api: ApiClient) -> None:
    """Run node agents on all nodes again."""
    _place_agents(api, None)


def remove_rights(api: ApiClient) -> None:
    """Delete the ClusterRoleBinding of the node agents."""
    rbac = client.RbacAuthorizationV1Api(api)
    try:
        rbac.delete_cluster_role_binding(deploy.NODE_AGENT, _request_timeout=_REQUEST_TIMEOUT_SECONDS)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def restore_rights(api: ApiClient) -> None:
    """Apply the driver's RBAC manifest."""
    manifests.apply(api, _RBAC_MANIFEST)


def _place_agents(api: ApiClient, labels: Mapping[str, str] | None) -> None:
    """Run node agents only on nodes with ``labels``, or on all nodes if it is None; does not wait for the pods."""
    driver.patch_agents(api, {"template": {"spec": {"nodeSelector": labels}}})
